#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The balloon: what a guest frees is back with the host soon, measured by the blocks of its
memory file, without anybody asking for it; what it gives up comes back when it needs it."""

import contextlib
import os
import pathlib
import re
import subprocess
import threading
import time
import unittest

import harness
import lab
from harness import MIB, PATIENCE
from lab import until

TOUCHED = 200 * MIB
BACK_WITHIN_S = 15
BACK_SHARE = 0.9
# Linux reports every 2 s what is free.
STILL_S = 6


def home_bytes(session):
    """Memory behind the guest RAM of the VM that runs in a session, or None."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) != session:
                continue
            fds = list((process / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for fd in fds:
            # Others may be closed meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(fd).startswith("/memfd:mezz-home"):
                    return os.stat(fd).st_blocks * 512
    return None


class Guest:
    """A guest that runs a script, with its output line by line."""

    def __init__(self, script, mode, options=()):
        line = harness.command_parameter(script)
        self.proc = harness.spawn([*harness.mode_options(mode), "--timeout",
                                   round(100 * PATIENCE), "--append", line, *options],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
        self.timer = threading.Timer(105 * PATIENCE, harness.end_session, [self.proc])
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

    def settled_home(self):
        """The same, once the guest has reported what its start has freed."""
        least, since = self.home(), time.monotonic()
        while time.monotonic() - since < STILL_S:
            time.sleep(0.1)
            now = self.home()
            if now < least:
                least, since = now, time.monotonic()
        return self.home()

    def tell(self):
        """Let the script go on."""
        self.proc.stdin.write(b"\n")
        self.proc.stdin.flush()

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
echo quiet; read -r _
dd if=/dev/zero of=/m/x bs=1M count=200 2>/dev/null; echo full
rm /m/x; echo freed
sleep 1000
"""

    def test_comes_back(self):
        """90 % of 200 MiB within 15 s, in each mode; nothing without a balloon."""
        for mode in harness.MODES:
            for balloon in ("on", "off"):
                with self.subTest(mode=mode, balloon=balloon):
                    self.one(mode, balloon)

    # The process ends when its input does.
    PROCESS = """
echo quiet; read -r _
sleep 6 | faults 200 raw; echo freed
sleep 1000
"""

    def test_process(self):
        """So does the memory of a process that ends."""
        self.one(harness.MODES[0], "on", self.PROCESS, "filled")

    def one(self, mode, balloon, script=SCRIPT, full_word="full"):
        """One guest."""
        guest = Guest(script, mode, ["--memory", "512M", "--balloon", balloon])
        try:
            guest.wait_for("quiet")
            quiet = guest.settled_home()
            guest.tell()
            guest.wait_for(full_word)
            full = guest.home()
            self.assertGreaterEqual(full - quiet, TOUCHED * 0.95)
            guest.wait_for("freed")
            start = time.monotonic()
            # Without one nothing comes back later, either, than what Linux reports with one.
            limit_s = BACK_WITHIN_S * PATIENCE if balloon == "on" else STILL_S
            while (full - guest.home() < TOUCHED * BACK_SHARE and
                   time.monotonic() - start < limit_s):
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


class Pieces(unittest.TestCase):
    """Sweeps, for what Linux does not report since it is free in too small pieces."""

    # The page cache is there to be seen again; each line of the console is one for the program.
    SCRIPT = """
exec 3</dev/vda; cat /dev/vda >/dev/null
mkfifo /p; scatter 160 %d </p & exec 4>/p
while read -r word && [ $word = turn ]; do echo >&4; done
exec 4>&-; wait; sleep 0.5
set -- $(grep ^Buffers: /proc/meminfo); echo cache $2
grep -E '^(pgscan_|pgsteal_|oom_kill )' /proc/vmstat
"""

    # A program begins as soon as there is a balloon, and takes all that is free by then, but for
    # the sixteenth that balloons leave.
    IN_THE_WAY = """
exec 3</dev/vda; cat /dev/vda >/dev/null
(echo; sleep 100) | scatter 160 4 &
while set -- $(grep ^balloon_inflate /proc/vmstat); [ $2 -lt 2000 ]; do sleep 0.01; done
set -- $(grep ^MemFree: /proc/meminfo); n=$(($2 / 1024 - 24)); hold 1 50 $n:$n:3
set -- $(grep ^Buffers: /proc/meminfo); echo cache $2
grep -E '^(pgscan_|pgsteal_|oom_kill |balloon_inflate)' /proc/vmstat
"""

    # Guests that have large pages are not swept.
    OPTIONS = {"Mem.AllocGuestLargePage": 0}
    FREED = 80 * MIB
    CACHE = 32 * MIB

    def create(self, host, name, script):
        """A VM whose large blocks Linux reports, as it does everywhere."""
        disk = host.path / "disk"
        disk.write_bytes(b"mezz" * (self.CACHE // 4))
        host.create(name, ["memory=384M", "sharing=off"], script, ["--disk", f"{disk},ro"])
        host.must("start", name)

    def turn(self, host, name, said):
        """Have the program free or fill, and wait until it has."""
        before = host.said(name).count(said)
        host.tell(name, "turn")
        until(lambda: host.said(name).count(said) > before, said)

    def back(self, host, full):
        """How much of what was freed is back."""
        return full - home_bytes(host.proc.pid)

    def guest_unharmed(self, said):
        """No page of its cache was dropped for the balloon's sake, and nothing was killed."""
        self.assertGreaterEqual(int(re.search(r"cache (\d+)", said)[1]), self.CACHE // 1024)
        counts = dict(re.findall(r"^((?:pgscan|pgsteal|oom)_\w+) (\d+)", said, re.MULTILINE))
        self.assertGreater(len(counts), 4, said)
        self.assertEqual({"0"}, set(counts.values()), said)

    def full(self, host):
        """Start a guest that is full, and has said what it has. Return: bytes behind its RAM."""
        until(lambda: "scatter filled" in host.said("a") and
              host.stats("a")["guestStatsAgeMs"] < 3000, "a full guest")
        return home_bytes(host.proc.pid)

    def comes_back(self, host, full):
        """Nearly all within the time that there is."""
        start = time.monotonic()
        until(lambda: self.back(host, full) >= self.FREED * BACK_SHARE,
              lambda: f"{self.back(host, full) / MIB:.1f} MiB are back: {host.stats('a')}",
              BACK_WITHIN_S)
        print(f"in pieces: {self.back(host, full) / MIB:.1f} MiB of {self.FREED / MIB:.0f} back "
              f"after {time.monotonic() - start:.1f} s", flush=True)
        until(lambda: not host.stats("a")["ballooned"], "the end of the sweep", 5)

    def finish(self, host):
        """Nothing is wrong, inside or outside."""
        host.tell("a", "end")
        until(lambda: host.status("a") is not None, "the end of the guest")
        self.assertIn("scatter ok 81920", host.said("a"))
        self.guest_unharmed(host.said("a"))
        self.assertNotIn("distress", host.log())
        self.assertEqual(0, host.wrong())

    def test_as_of_files(self):
        """90 % within 15 s, of pieces of 64 KiB."""
        with lab.Lab(700, self.OPTIONS) as host:
            self.create(host, "a", self.SCRIPT % 64)
            full = self.full(host)
            self.turn(host, "a", "scatter freed 81920")
            # By sweeping or by reports: neighbours that were freed may have grown together.
            self.comes_back(host, full)
            self.finish(host)

    def test_single_pages(self):
        """The same of single pages; nothing as long as it is switched off."""
        with lab.Lab(700, {"Mem.SweepEnable": 0, **self.OPTIONS}) as host:
            self.create(host, "a", self.SCRIPT % 4)
            full = self.full(host)
            self.turn(host, "a", "scatter freed 81920")
            time.sleep(6)
            self.assertLess(self.back(host, full), self.FREED * 0.1)
            self.assertEqual(0, host.stats("a")["swept"])
            host.must("host", "--set", "Mem.SweepEnable=1")
            self.comes_back(host, full)
            self.finish(host)

    def test_guest_comes_first(self):
        """A sweep is broken off when the guest needs its memory, without harm."""
        with lab.Lab(700, self.OPTIONS) as host:
            self.create(host, "a", self.IN_THE_WAY)
            until(lambda: host.status("a") is not None, "the end of the guest", 90)
            said = host.said("a")
            self.assertRegex(said, r"hold ok \d{3} ")
            self.assertGreater(int(re.search(r"balloon_inflate (\d+)", said)[1]), 1999)
            self.guest_unharmed(said)
            self.assertNotIn("distress", host.log())


class Target(unittest.TestCase):
    """A balloon that somebody wants."""

    SCRIPT = """
while set -- $(grep ^balloon_inflate /proc/vmstat); [ $2 -lt 51200 ]; do sleep 0.1; done
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
