#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The balloon: what a guest frees is back with the host soon, measured by the blocks of its
memory file, without anybody asking for it; what it gives up comes back when it needs it."""

import os
import pathlib
import subprocess
import threading
import time
import unittest

import harness
from harness import MIB

TOUCHED = 200 * MIB
BACK_WITHIN_S = 15
BACK_SHARE = 0.9


def home_bytes(session):
    """Memory behind the guest RAM of the VM that runs in a session, or None."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) != session:
                continue
            for fd in (process / "fd").iterdir():
                if os.readlink(fd).startswith("/memfd:mezz-home"):
                    return os.stat(fd).st_blocks * 512
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return None


class Guest:
    """A guest that runs a script, with its output line by line."""

    def __init__(self, script, mode, options=()):
        line = harness.command_parameter(script)
        self.proc = harness.spawn([*harness.mode_options(mode), "--timeout", "100", "--append",
                                   line, *options], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.timer = threading.Timer(105, harness.end_session, [self.proc])
        self.timer.start()
        self.said = []

    def wait_for(self, word):
        """Read on until a line is this word."""
        for line in self.proc.stdout:
            self.said.append(harness.clean(line).strip())
            if self.said[-1] == word:
                return
        raise AssertionError(f"the guest ended before '{word}': {self.said}")

    def home(self):
        """Bytes of memory that its RAM has on the host now."""
        return home_bytes(self.proc.pid)

    def end(self):
        """End it if it has not ended."""
        self.timer.cancel()
        harness.end_session(self.proc)
        self.proc.stdin.close()
        self.proc.stdout.close()


class Freed(unittest.TestCase):
    """Free page reporting, with no target and no pressure."""

    # The file is written from a page of zeros: what is touched counts, not what it holds.
    SCRIPT = """
mkdir /m; mount -t tmpfs -o size=300m t /m
sleep 8; echo quiet
dd if=/dev/zero of=/m/x bs=1M count=200 2>/dev/null; echo full
rm /m/x; echo freed
sleep 20
"""

    def test_comes_back(self):
        """90 % of 200 MiB within 15 s, in each mode; nothing without a balloon."""
        for mode in harness.MODES:
            for balloon in ("on", "off"):
                with self.subTest(mode=mode, balloon=balloon):
                    self.one(mode, balloon)

    # The process ends when its input does.
    PROCESS = """
sleep 8; echo quiet
sleep 6 | faults 200 raw; echo freed
sleep 20
"""

    def test_process(self):
        """So does the memory of a process that ends."""
        self.one(harness.MODES[0], "on", self.PROCESS, "filled")

    # Every other file of 64 KiB goes, so nothing as large as 2 MiB becomes free.
    PIECES = """
mkdir /m; mount -t tmpfs -o size=200m t /m
head -c 65536 /dev/zero > /c
sleep 5; echo quiet
i=0; while [ $i -lt 800 ]; do echo /m/$i; i=$((i+1)); done | while read f; do cat /c > $f; done; echo full
rm /m/*[13579]; echo freed
sleep 60
"""

    def test_pieces(self):
        """More than half of what is freed in pieces comes back too, namely what is free in
        blocks of 16 KiB; by Linux's own choice next to nothing would."""
        freed = 400 * 65536
        guest = Guest(self.PIECES, harness.MODES[0], ["--memory", "256M"])
        try:
            guest.wait_for("quiet")
            guest.wait_for("full")
            full = guest.home()
            guest.wait_for("freed")
            start = time.monotonic()
            while full - guest.home() < freed * 0.55 and time.monotonic() - start < 40:
                time.sleep(0.1)
            took, back = time.monotonic() - start, full - guest.home()
        finally:
            guest.end()
        print(f"in pieces: {back / MIB:.1f} MiB of {freed / MIB:.0f} back after {took:.1f} s",
              flush=True)
        self.assertGreaterEqual(back, freed * 0.55)

    def one(self, mode, balloon, script=SCRIPT, full_word="full"):
        """One guest."""
        guest = Guest(script, mode, ["--memory", "512M", "--balloon", balloon])
        try:
            guest.wait_for("quiet")
            quiet = guest.home()
            guest.wait_for(full_word)
            full = guest.home()
            self.assertGreaterEqual(full - quiet, TOUCHED * 0.95)
            guest.wait_for("freed")
            start = time.monotonic()
            while (full - guest.home() < TOUCHED * BACK_SHARE and
                   time.monotonic() - start < BACK_WITHIN_S):
                time.sleep(0.1)
            took, back = time.monotonic() - start, full - guest.home()
        finally:
            guest.end()
        print(f"{mode[1]}, balloon {balloon}: {back / MIB:.1f} MiB of {TOUCHED / MIB:.0f} "
              f"back after {took:.1f} s", flush=True)
        if balloon == "on":
            self.assertGreaterEqual(back, TOUCHED * BACK_SHARE)
        else:
            self.assertLess(back, MIB)


class Target(unittest.TestCase):
    """A balloon that somebody wants."""

    SCRIPT = """
sleep 4
mkdir /m; mount -t tmpfs -o size=460m t /m
free -m | sed -n 's/^Mem: *[0-9]* *\\([0-9]*\\).*/used \\1/p'
dd if=/dev/zero of=/m/x bs=1M count=360 2>/dev/null && echo "held $(stat -c %s /m/x)"
rm /m/x; modprobe -r virtio_balloon
patterns 64 1
"""

    def test_in_and_out(self):
        """The guest gives 200 MiB, and has them back when it would run out of memory."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                run = harness.boot(self.SCRIPT, mode,
                                   ["--memory", "512M", "--balloon", "200M", "--audit", "200"])
                used = int(run.out.split("used ")[1].split()[0])
                self.assertGreater(used, 190, run.out)
                self.assertIn(f"held {360 * MIB}", run.out)
                self.assertIn("patterns 64 ok", run.out)
                self.assertEqual(200 * MIB // 4096, run.counter("balloon.target"))
                self.assertGreaterEqual(run.counter("balloon.inflated"), 200 * MIB // 4096)
                self.assertGreater(run.counter("balloon.oom_deflations"), 0)
                self.assertEqual(0, run.counter("physmap.balloon"))
                self.assertGreaterEqual(run.counter("balloon.stats_received"), 2)
                self.assertGreater(run.counter("guest.total"), 400 * MIB // 4096)


if __name__ == "__main__":
    harness.main()
