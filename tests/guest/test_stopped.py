#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest that the host holds up does not take that for a lockup of its own."""

import itertools
import os
import signal
import subprocess
import time
import unittest

import harness
import lab
from lab import until

# A lockup is what takes twice the threshold.
SCRIPT = """echo 1 >/proc/sys/kernel/watchdog_thresh
echo ready
{work}
dmesg | grep -ci "soft lockup"
"""
BUSY = "n=0; while [ $n -lt 60000 ]; do n=$((n + 1)); done; sleep 2"
IDLE = "sleep 7"
STOP_S = 5


def start(test, mode, work):
    """Start a guest without a host, until it is about to work. A test ends it. Return: `mezz run`,
    what it says from then on unread."""
    script = harness.command_parameter(SCRIPT.format(work=work))
    proc = harness.spawn(["--no-host", "--timeout", round(100 * harness.PATIENCE),
                          "--append", script, *harness.mode_options(mode)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    test.addCleanup(proc.stdout.close)
    test.addCleanup(harness.end_session, proc)
    for line in proc.stdout:
        if line.startswith(b"ready"):
            break
    return proc


class Stopped(unittest.TestCase):
    """The process of a VM is stopped, as a debugger or a host without memory does."""

    def stop(self, mode, work):
        """Stop and continue a guest at work; return what it says from then on."""
        proc = start(self, mode, work)
        (vm,) = harness.children(proc.pid)
        time.sleep(0.3)
        os.kill(vm, signal.SIGSTOP)
        time.sleep(STOP_S)
        os.kill(vm, signal.SIGCONT)
        rest = harness.clean(proc.stdout.read())
        self.assertEqual(0, proc.wait(), rest)
        return rest

    def test_no_lockup_is_reported(self):
        """By a guest that computes, and by one that sleeps."""
        for mode, work in zip(itertools.cycle(harness.MODES), (BUSY, IDLE)):
            with self.subTest(mode=mode, work=work):
                said = self.stop(mode, work)
                self.assertIn("\n0\n", "\n" + said)
                self.assertNotIn("lockup", said)


class Waiting(unittest.TestCase):
    """A guest at its limit needs memory while nobody is there to take from it."""

    FILL = "dd if=/dev/zero of=/tmp/x bs=1M count=120 2>/dev/null"

    def test_no_lockup_is_reported(self):
        """Its kernel waits in the midst of clearing a page, and has interrupts meanwhile."""
        with lab.Lab(512) as host:
            host.create("a", ["memory=256M", "limit=100M"],
                        f"read -r line; {SCRIPT.format(work=self.FILL)}echo done; read -r line")
            host.must("start", "a")
            host.wait_said("a", "mezz-init: up")
            before = host.stats("a")["stallHostNs"]
            os.kill(host.proc.pid, signal.SIGSTOP)
            host.tell("a", "fill")
            host.wait_said("a", "ready")
            time.sleep(STOP_S * harness.PATIENCE)
            self.assertNotIn("\ndone\n", host.said("a"), "it did not have to wait")
            os.kill(host.proc.pid, signal.SIGCONT)
            host.wait_said("a", "done")
            # A VM that is off has no figures.
            self.assertGreater(host.stats("a")["stallHostNs"] - before, 2e9)
            self.assertIn("\n0\ndone\n", host.said("a"))
            self.assertNotIn("lockup", host.said("a"))


class Unread(unittest.TestCase):
    """A guest says more than anybody reads."""

    def test_no_lockup_is_reported(self):
        """Its processor waits for the reader, the rest of the VM does not."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                proc = start(self, mode, "seq 1 40000")
                time.sleep(STOP_S * harness.PATIENCE)
                rest = harness.clean(proc.stdout.read())
                self.assertEqual(0, proc.wait(), rest)
                self.assertEqual([], [line for line in rest.split("\n") if "lockup" in line])
                self.assertIn("\n40000\n0\n", rest[-200:])


if __name__ == "__main__":
    harness.main()
