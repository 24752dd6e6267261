#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs under mezzd that together want more memory than there is: they share and are paged, no
guest sees a wrong byte, and killing the daemon or a VM hurts nobody else."""

import os
import re
import signal
import time
import unittest

import harness
import lab

BACK_WITHIN_S = 1
PATIENCE_S = 60 * harness.PATIENCE
PAGED = 500


def guest(seed):
    """Patterns in a part of its memory, checked again and again until it is told to end."""
    return f"patterns 36 line {seed} && echo verified"


class Overcommitted(unittest.TestCase):
    """Three guests of 128 MiB, of which one has no balloon, in much less than that."""

    FIGURES = ("shared", "zero", "ballooned", "compressed", "swapped")

    def watch(self, host, most, until, limit_s):
        """Look at the figures until something holds."""
        end = time.monotonic() + limit_s
        while not until():
            for name, vm in host.vms().items():
                stats = vm["quickStats"]
                for key in (*self.FIGURES, "zipOut", "swapOut", "sharedEver", "zeroed"):
                    most[key] = max(most.get(key, 0), stats[key])
                if vm["runtime"]["powerState"] == "poweredOff" and name in self.running:
                    raise AssertionError(f"{name} ended: {host.said(name)[-2000:]}{host.log()}")
            if time.monotonic() > end:
                raise AssertionError(f"after {limit_s} s still not: {most}\n" + "".join(
                    f"-- {name}\n{host.said(name)[-1000:]}" for name in host.vms()) + host.log())
            time.sleep(0.3)

    def assert_engine(self, host, mode):
        """Each VM says what it was made with."""
        engine, mmu = mode
        expected = (engine, "host" if engine == "kvm" else mmu)
        for name, vm in host.vms().items():
            self.assertEqual(expected, (vm["runtime"]["engine"], vm["runtime"]["mmu"]), name)
            self.assertIn(f"engine {expected[0]}, MMU {expected[1]}\n", host.must("show", name))

    def test_all(self):
        """One scenario, for booting is what takes time."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                with lab.Lab(256, {"Mem.SamplePeriod": 5}) as host:
                    self.scenario(host, mode)

    def scenario(self, host, mode):
        """Fill, reclaim, kill the daemon, kill a VM, verify."""
        most = {}
        self.running = {"a", "b", "c"}
        for name in sorted(self.running):
            host.create(name, ["memory=128M", "group=all"], guest(int(name == "c")),
                        [*harness.mode_options(mode),
                         *(["--balloon", "off"] if name == "c" else [])])
            host.must("start", name)
        pids = host.pids()
        self.assert_engine(host, mode)
        self.watch(host, most, lambda: most.get("shared") and most.get("zero"), PATIENCE_S)

        # A limit binds whatever the state. (Balloons: test_balloon.py and test_pressure.py.)
        host.must("set", "a", "limit=88M")
        host.must("set", "c", "limit=72M")
        self.watch(host, most, lambda: min(most["zipOut"], most["swapOut"]) > PAGED, PATIENCE_S)
        for name in ("a", "c"):
            host.must("set", name, "limit=unlimited")

        host.kill()
        time.sleep(1)
        host.start()
        self.assertEqual(pids, host.pids())
        lab.until(lambda: all(host.stats(name)["private"] for name in pids), "all books")
        self.assert_engine(host, mode)

        before = host.host()
        os.kill(pids["b"], signal.SIGKILL)
        killed = time.monotonic()
        self.running.remove("b")
        while host.vms()["b"]["runtime"]["powerState"] != "poweredOff":
            self.assertLess(time.monotonic() - killed, BACK_WITHIN_S * 3 * harness.PATIENCE)
        after = host.host()
        self.assertLess(after["consumed"], before["consumed"])
        self.running = set()
        for name in ("a", "c"):
            host.tell(name)
        self.watch(host, most, lambda: all(
            vm["runtime"]["powerState"] == "poweredOff" for vm in host.vms().values()),
                   PATIENCE_S)
        print(f"{mode}: at most {most}", flush=True)
        for name in ("a", "c"):
            text = host.said(name)
            self.assertIn("patterns 36 ok\nverified\n", text)
            self.assertNotIn("WRONG", text)
        self.assertRegex(host.must("host", "--audit"), re.compile(r"wrong: 0 .* 0 .* 0"))


if __name__ == "__main__":
    harness.main()
