#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests under a memory manager whose memory gets short: what acts in which state, and a guest
that needs what its balloon has."""

import pathlib
import sys
import time
import unittest

import harness

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools"))
import lab  # pylint: disable=wrong-import-position

MIB = 1 << 20


def wait_for(condition, what, timeout_s=60):
    """Poll until it holds."""
    timeout_s *= harness.PATIENCE
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)


def stats(host, name):
    """Figures of a VM."""
    return host.get(f"/v1/vms/{name}")["quickStats"]


# Linux drops the pages of a disk that nobody has open, hence "exec 3<" in scripts.

MIN_FREE_PCT = 20
# Free memory in each state, of the base of the thresholds.
FREE = {"clear": 0.85, "soft": 0.5, "hard": 0.24, "low": 0.08}
# What the ledger has beyond what is used now.
HEADROOM = 1 * MIB


def enter(host, state):
    """Start mezzd again with so little memory that it is in that state. What guests use moves
    meanwhile, so it may miss; then once more with what they use by then."""
    for _ in range(5):
        if enter_once(host, state):
            return
    raise AssertionError(f"state {state}: {host.log()[-500:]}")


def enter_once(host, state):
    """Start mezzd again with less memory. Return: whether it was in the state within 12 s."""
    figures = host.snapshot()["host"]
    used = figures["managed"] - figures["free"] + HEADROOM
    before = host.log().count(f"memory state is {state} now")
    host.kill_host()
    host.start_host(used / (1 - MIN_FREE_PCT / 100 * FREE[state]) / MIB)
    host.mezz("host", "--set", f"Mem.MemMinFreePct={MIN_FREE_PCT}")
    end = time.monotonic() + 12
    while host.log().count(f"memory state is {state} now") == before:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def lab_audit(host):
    """How much is wrong in the books."""
    audit = host.get("/v1/audit")
    return audit["wrongCounts"] + audit["wrongRefs"] + audit["wrongSlots"]


class Ballooned(unittest.TestCase):
    """A guest that lends its page cache, and then needs more than what it has left."""

    SCRIPT = "exec 3</dev/vda; cat /dev/vda >/dev/null; echo filled; sleep 25; hold 1 50 178:178:4"

    def test_memory_comes_back_before_anything_is_killed(self):
        """The balloon deflates when the guest's kernel would have to kill a program."""
        with lab.Lab(600) as host:
            disk = host.path / "disk"
            disk.write_bytes(b"mezz" * (32 * MIB))
            host.create("a", ["memory=256M", "sharing=off"], self.SCRIPT,
                        ["--disk", f"{disk},ro"])
            host.mezz("start", "a")
            wait_for(lambda: "filled" in host.said("a"), "the page cache")
            wait_for(lambda: stats(host, "a")["guestStatsAgeMs"] < 3000, "statistics")
            enter(host, "soft")
            wait_for(lambda: stats(host, "a")["ballooned"] >= 16 * MIB, "a balloon", 20)
            lent = stats(host, "a")["ballooned"]
            wait_for(lambda: host.status("a") is not None or
                     stats(host, "a")["ballooned"] < lent - 4 * MIB, "deflation", 80)
            wait_for(lambda: host.status("a") is not None, "the end of the guest", 100)
            said = host.said("a")
            self.assertEqual(0, host.status("a"), said)
            self.assertRegex(said, r"hold ok 178 ")
            self.assertEqual(0, lab_audit(host))


class Lent(unittest.TestCase):
    """What one VM deserves and does not use is there for another."""

    def test_nobody_waits_beside_free_memory(self):
        """A VM grows beyond its target into another's reservation that is not used."""
        with lab.Lab(480) as host:
            host.create("idle", ["memory=256M", "reservation=256M", "sharing=off"],
                        "echo idle; sleep 300")
            host.create("busy", ["memory=320M", "sharing=off"], "hold 1 50 190:190:2")
            host.mezz("start", "idle")
            wait_for(lambda: "idle" in host.said("idle"), "the idle guest")
            host.mezz("start", "busy")
            wait_for(lambda: host.status("busy") is not None,
                     f"its end: {host.snapshot()['host']}", 90)
            self.assertRegex(host.said("busy"), r"hold ok 190 ")
            self.assertEqual(0, stats(host, "idle")["swapped"])


class States(unittest.TestCase):
    """Each technique in its state. A mezzd that is started again with less memory finds itself
    in the state that it should, with guests that are the same."""

    def start(self, host):
        """One guest whose memory is page cache, two that hold what they wrote."""
        disk = host.path / "disk"
        disk.write_bytes(b"mezz" * (32 * MIB))
        host.create("cache", ["memory=192M", "sharing=off"],
                    "exec 3</dev/vda; cat /dev/vda >/dev/null; echo filled; sleep 300",
                    ["--disk", f"{disk},ro"])
        for seed, name in enumerate(("one", "two")):
            host.create(name, ["memory=192M", "sharing=off"],
                        f"hold {seed} 30 130:30:300")
        for name in ("cache", "one", "two"):
            host.mezz("start", name)
        wait_for(lambda: "filled" in host.said("cache"), "the page cache")
        for name in ("one", "two"):
            # What the kernel uses comes on top.
            wait_for(lambda name=name: stats(host, name)["private"] > 130 * MIB, name)
        time.sleep(3)

    def moved(self, host):
        """What each technique has done so far."""
        shot = host.snapshot()
        self.assertEqual(0, shot["host"]["over"])
        return {"balloon": shot["host"]["ballooned"],
                "paged": sum(vm["quickStats"]["zipOut"] + vm["quickStats"]["swapOut"]
                             for vm in shot["vms"]),
                "blocked": sum(vm["quickStats"]["blocked"] for vm in shot["vms"])}

    def test_each_technique_in_its_state(self):
        """Clear takes nothing; soft balloons; hard pages; low blocks."""
        with lab.Lab(900) as host:
            self.start(host)
            enter(host, "clear")
            time.sleep(2)
            self.assertEqual({"balloon": 0, "paged": 0, "blocked": 0}, self.moved(host))
            enter(host, "soft")
            wait_for(lambda: self.moved(host)["balloon"] > 4 * MIB, "a balloon in soft")
            self.assertEqual(0, self.moved(host)["blocked"])
            enter(host, "hard")
            wait_for(lambda: self.moved(host)["paged"] > 1024, "paging in hard")
            enter(host, "low")
            self.assertGreater(host.log().count("memory state is low now"), 0)
            self.assertEqual(0, lab_audit(host))
            for name in ("cache", "one", "two"):
                self.assertNotIn("instead of", host.said(name))


if __name__ == "__main__":
    harness.main()
