#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Both kinds of memory virtualization under a storm of processes, their counters, and the report."""

import json
import os
import pathlib
import tempfile
import unittest

import harness

HARDWARE, SOFTWARE = ("soft", "hardware"), ("soft", "software")
AUDIT = ["--audit", "500"]
# The default for 512 MiB of guest RAM, and a quarter of it.
BOUND, QUARTER = 8 << 20, 2 << 20


@harness.needs_soft
class ForkStorm(unittest.TestCase):
    """500 processes at once, each of which forks again, every translation recomputed at times."""

    SCRIPT = "forkstorm 500 1"

    @classmethod
    def setUpClass(cls):
        cls.runs = {
            "hardware": harness.boot(cls.SCRIPT, HARDWARE, AUDIT),
            "software": harness.boot(cls.SCRIPT, SOFTWARE, AUDIT),
            "quarter": harness.boot(cls.SCRIPT, SOFTWARE, ["--shadow-memory", "2M", *AUDIT]),
        }

    def test_same(self):
        """All print the same: nothing but speed depends on the mode and on the bound."""
        self.assertIn(", 0 wrong", self.runs["hardware"].out)
        for name, run in self.runs.items():
            with self.subTest(run=name):
                self.assertEqual(self.runs["hardware"].out, run.out)
                self.assertGreater(run.counter("vm.audited_entries"), 10000)
                # What a VM in its sandbox knows of itself.
                self.assertTrue(100_000 < run.counter("process.user_us") < 1e9)
                self.assertGreater(run.counter("process.peak_rss_bytes"), 50 << 20)

    def test_bound(self):
        """Shadow memory reaches its bound, stays under it, and tables are recycled."""
        for name, bound in (("software", BOUND), ("quarter", QUARTER)):
            with self.subTest(run=name):
                run = self.runs[name]
                self.assertEqual(bound, run.counter("mmu.table_bytes_bound"))
                peak = run.counter("mmu.table_bytes_peak")
                self.assertLessEqual(peak, bound)
                self.assertGreater(peak, bound * 0.9)
                self.assertGreater(run.counter("mmu.recycled"), 500)

    def test_references(self):
        """A walk of shadow tables makes at most 4 references, a nested one at most 24."""
        for name, most in (("hardware", 24), ("software", 4)):
            with self.subTest(run=name):
                run = self.runs[name]
                by_refs = {int(k): v for k, v in run.stats["walks_by_references"].items()}
                self.assertLessEqual(max(by_refs), most)
                self.assertEqual(run.counter("mmu.walks_found"), sum(by_refs.values()))
        self.assertGreater(max(map(int, self.runs["hardware"].stats["walks_by_references"])), 4)

    def test_report(self):
        """mezz mmu report prints the runs side by side."""
        with tempfile.TemporaryDirectory(prefix="mezz-test-") as folder:
            files = []
            for name, run in self.runs.items():
                files.append(pathlib.Path(folder, name + ".json"))
                files[-1].write_text(json.dumps(run.stats))
            report = harness.program(("mmu", "report", *map(str, files)))
            self.assertEqual(0, report.status, report.said())
            lines = {line[:32].strip(): tuple(line[32:].split())
                     for line in report.out.splitlines() if line}
            self.assertEqual(tuple(f.name for f in files), lines[""])
            self.assertEqual(("hardware", "software", "software"), lines["memory virtualization"])
            for title, counter in (("walks", "walks"), ("true faults", "true_faults"),
                                   ("tables at most", "tables_peak")):
                want = tuple(str(run.counter("mmu." + counter)) for run in self.runs.values())
                self.assertEqual(want, lines[title])
            self.assertEqual("-", lines["hidden faults"][0])
            self.assertEqual("-", lines["nested violations"][1])
            self.assertEqual(("-", "8192", "2048"), lines["bound of it, KiB"])

            missing = harness.program(("mmu", "report", str(files[0]), folder + "/none"))
            self.assertEqual((2, ""), (missing.status, missing.out))
            self.assertIn("none", missing.err)
            pathlib.Path(folder, "other.json").write_text("{}")
            other = harness.program(("mmu", "report", folder + "/other.json"))
            self.assertEqual((2, ""), (other.status, other.out))
            self.assertIn("no counters of a run", other.err)


@harness.needs_soft
class Tables(unittest.TestCase):
    """A guest that breaks its own page tables, and knows what must come of it.

    MEZZ_TABLE_SEEDS=N runs N programs (4 by default)."""

    SEEDS = int(os.environ.get("MEZZ_TABLE_SEEDS", "4"))

    def program(self, mode, seed, options=()):
        """What it prints."""
        run = harness.mezz_run([*harness.mode_options(mode), "--no-host", "--memory", "64M",
                                "--kernel", harness.PAYLOADS / "tables", "--timeout", "30",
                                "--bare", "--append", f"{seed} 3000", *options])
        self.assertEqual(0, run.status, run.said())
        self.assertRegex(run.out, r"\Amezz-tables: \d+ loads, .*, 0 wrong\n\Z", run.said())
        return run.out

    def test_programs(self):
        """The same comes of each program in both modes, with optimizations and without."""
        everything = ["--without", "caches,large,prefetch,unsync,translate"]
        stress = ["--revoke-stress", "20000", "--audit", "20"]
        for seed in range(1, self.SEEDS + 1):
            want = self.program(HARDWARE, seed)
            for mode, options in ((SOFTWARE, []), (SOFTWARE, everything), (HARDWARE, everything),
                                  (SOFTWARE, ["--shadow-memory", "128K", *stress]),
                                  (HARDWARE, stress)):
                with self.subTest(seed=seed, mode=mode, options=options):
                    self.assertEqual(want, self.program(mode, seed, options))


@harness.needs_soft
class Switches(unittest.TestCase):
    """Many address spaces in turn."""

    def test_roots_stay(self):
        """Once each of 64 processes has run, going on among them builds no shadow tables."""
        short, long = (harness.boot(f"bench ring {hops} 64 >/dev/null", SOFTWARE)
                       for hops in (1000, 9000))
        self.assertGreater(long.counter("mmu.root_hits") - short.counter("mmu.root_hits"), 7000)
        self.assertLess(abs(long.counter("mmu.roots_built") - short.counter("mmu.roots_built")), 5)
        # 8000 hops more, each of which would be a fault and more if tables were built anew. What
        # boots and ticks of the guest's clock differ by is among them.
        self.assertLess(long.counter("mmu.hidden_faults") - short.counter("mmu.hidden_faults"), 4000)


@harness.needs_soft
class Choice(unittest.TestCase):
    """--mmu auto says what it took, and why."""

    def test_choice(self):
        """Nested tables unless shadow tables are asked for."""
        for words, mode, why in (([], "hardware", "auto: "), (["--mmu", "auto"], "hardware", "auto: "),
                                 (["--mmu", "hardware"], "hardware", "as asked for"),
                                 (["--mmu", "software"], "software", "as asked for")):
            with self.subTest(options=words):
                run = harness.mezz_run(["--engine", "soft", *words, "--timeout", "1", "-v"])
                self.assertEqual(mode, run.stats["vm"]["mmu"])
                self.assertTrue(run.stats["vm"]["mmu_choice"].startswith(why), run.stats["vm"])
                self.assertIn(f"{mode} memory virtualization", run.err)
                self.assertIn("memory virtualization: " + run.stats["vm"]["mmu_choice"], run.err)

    def test_help(self):
        """The rule is in the help text."""
        helped = harness.program(("run", "--help"))
        self.assertRegex(helped.out, r"--mmu auto\|hardware\|software\s+.*auto: .*hardware")


if __name__ == "__main__":
    harness.main()
