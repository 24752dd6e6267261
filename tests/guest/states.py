# SPDX-License-Identifier: Apache-2.0
"""Bring a host with live guests into a memory state."""

import time

from lab import LabError
from harness import MIB, PATIENCE

MIN_FREE_PCT = 20
# Free memory in each state, of the base of the thresholds.
FREE = {"clear": 0.85, "soft": 0.5, "hard": 0.24, "low": 0.03}
# What the ledger has beyond what is used now.
HEADROOM = 1 * MIB
# All guests are known, and what is to be done first is decided, within less.
WAIT_S = 2


def enter(host, state):
    """Start mezzd again with so little memory that it is in that state. What guests use moves
    meanwhile, so it may miss; then once more with what they use by then."""
    for _ in range(5):
        if enter_once(host, state):
            return
    raise LabError(f"state {state}: {host.log()[-500:]}")


def enter_once(host, state):
    """Start mezzd again with less memory. Return: whether it was in the state within a time."""
    figures = host.host()
    used = figures["managed"] - figures["free"] + HEADROOM
    before = host.log().count(f"memory state is {state} now")
    host.kill()
    host.start(used / (1 - MIN_FREE_PCT / 100 * FREE[state]) / MIB)
    host.must("host", "--set", f"Mem.MemMinFreePct={MIN_FREE_PCT}")
    end = time.monotonic() + WAIT_S * PATIENCE
    while host.log().count(f"memory state is {state} now") == before:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
