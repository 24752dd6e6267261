#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Options that must change nothing but speed: the guest prints the same under each.

MEZZ_STRESS_BOOTS=N makes the boots under revocation stress N in each mode (2 by default)."""

import os
import unittest

import harness

STRESS_BOOTS = int(os.environ.get("MEZZ_STRESS_BOOTS", "2"))

SCRIPT = """
cd /tmp
seq 1 20000 | sha256sum
seq 1 3000 | sort -r | md5sum
forkstorm 16 1
patterns 16 1
test32
signals 60
step
sh -c 'kill -SEGV $$'; echo $?
"""


class Options(unittest.TestCase):
    """One plain boot in each mode says what is to be printed."""

    @classmethod
    def setUpClass(cls):
        cls.want = {mode: harness.boot(SCRIPT, mode).out for mode in harness.MODES}

    def same(self, mode, options):
        """Boot with options; it prints what it printed without."""
        run = harness.boot(SCRIPT, mode, options)
        self.assertEqual(self.want[mode], run.out, f"{mode} {options}")
        return run

    def test_modes_agree(self):
        """All modes print the same, and it says that nothing was wrong."""
        first = self.want[harness.MODES[0]]
        self.assertIn("patterns 16 ok", first)
        self.assertIn(", 0 wrong", first)
        self.assertIn("test32: ok", first)
        for mode, text in self.want.items():
            with self.subTest(mode=mode):
                self.assertEqual(first, text)

    def test_revoke_stress(self):
        """Pages come and go while the guest runs; every translation is recomputed at times."""
        for number in range(STRESS_BOOTS):
            for mode in harness.MODES:
                with self.subTest(mode=mode, boot=number):
                    run = self.same(mode, ["--revoke-stress", "2000", "--revoke-seed",
                                           str(number + 1), "--audit", "500"])
                    self.assertGreater(run.counter("revocation.stress_taken"), 500)
                    # On a busy machine one is given up now and then, and the guest keeps its page.
                    self.assertLess(run.counter("revocation.stress_timeouts"), 50)
                    self.assertEqual(0, run.counter("physmap.busy"))
                    self.assertGreater(run.counter("vm.audited_entries"), 1000)

    def test_audit(self):
        """Every translation is recomputed often, over the whole boot."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                run = self.same(mode, ["--audit", "40"])
                self.assertGreater(run.counter("vm.audited_entries"), 10000)

    @harness.needs_soft
    def test_without(self):
        """Optimizations can be left out, one by one and all together."""
        hardware, software = harness.MODES[:2]
        for mode, words in [(hardware, "caches"), (hardware, "large"), (software, "large"),
                            (software, "prefetch"), (software, "unsync"),
                            (hardware, "caches,large,prefetch,unsync"),
                            (software, "caches,large,prefetch,unsync")]:
            with self.subTest(mode=mode, without=words):
                self.same(mode, ["--without", words, "--audit", "500"])

    @harness.needs_soft
    def test_shadow_memory(self):
        """A quarter of the default bound costs time, and nothing else."""
        run = self.same(("soft", "software"), ["--shadow-memory", "2M", "--audit", "500"])
        self.assertLessEqual(run.counter("mmu.tables_peak") * 4096, 2 << 20)

    def test_processor(self):
        """More features than by default, and fewer."""
        for mode in harness.MODES:
            for words in ("pcid,fsgsbase,pku,umip", "nosmap,nosmep"):
                with self.subTest(mode=mode, cpu=words):
                    self.same(mode, ["--cpu", words, "--audit", "500"])


@harness.needs_soft
class Clock(unittest.TestCase):
    """Time by instructions makes runs repeatable."""

    def test_repeatable(self):
        """Two runs retire the same number of instructions and print the same."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                runs = [harness.boot("cat /proc/uptime; date; seq 1 2000 | md5sum; sleep 3;"
                                     "cat /proc/uptime /proc/sys/kernel/random/uuid", mode,
                                     ["--clock", "instructions"]) for _ in range(2)]
                self.assertEqual(runs[0].out, runs[1].out)
                self.assertEqual(runs[0].counter("cpu.instructions"),
                                 runs[1].counter("cpu.instructions"))
                self.assertGreater(runs[0].counter("cpu.instructions"), 100_000_000)


if __name__ == "__main__":
    harness.main()
