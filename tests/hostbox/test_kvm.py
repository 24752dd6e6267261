#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is the KVM engine's own: nothing is paid while nothing is taken, several processors,
pages that come and go under them, and words for what a host lacks."""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "guest"))
import harness  # noqa: E402

KVM = ("kvm", "auto")
MIB = 1 << 20

# Writes a file of random bytes, and reads copies of it again and again.
CHURN = """
dd if=/dev/urandom of=/tmp/a$1 bs=64k count=16 2>/dev/null
want=$(md5sum </tmp/a$1)
for n in 1 2; do
    cp /tmp/a$1 /tmp/b$1
    [ "$(md5sum </tmp/b$1)" = "$want" ] || echo WRONG
done
echo churned
"""


class Plain(unittest.TestCase):
    """A VM on a host with nothing reclaimed."""

    def test_costs_nothing(self):
        """No userfaultfd registration, nothing unmapped, little memory beyond guest RAM."""
        run = harness.boot("uname -r; grep -c ^processor /proc/cpuinfo; patterns 24 1", KVM,
                           ["--engine", "auto", "--memory", "128M", "--no-host"])
        self.assertEqual("kvm", run.stats["vm"]["engine"])
        self.assertIn("runs kernel code at", run.stats["vm"]["engine_choice"])
        self.assertIn("\n1\npatterns 24 ok\n", run.out)
        self.assertEqual(0, run.counter("window.registrations"))
        self.assertEqual(0, run.counter("window.unmaps"))
        self.assertLessEqual(run.counter("process.beyond_guest_ram_bytes"), 5 * MIB)
        large, small = run.counter("window.large_bytes"), run.counter("window.small_bytes")
        print(f"beyond guest RAM {run.counter('process.beyond_guest_ram_bytes') / MIB:.2f} MiB, "
              f"by 2 MiB pages {large / MIB:.0f} of {(large + small) / MIB:.0f} MiB", flush=True)
        self.assertGreaterEqual(large, 0.9 * (large + small))

    def test_costs_nothing_managed(self):
        """The same with a manager that has nothing to reclaim."""
        run = harness.boot("uname -r", KVM, ["--memory", "128M"])
        self.assertEqual(0, run.counter("window.registrations"))
        self.assertEqual(0, run.counter("window.unmaps"))
        self.assertLessEqual(run.counter("process.beyond_guest_ram_bytes"), 5 * MIB)
        # Its process may open nothing, and says all the same how RAM is backed.
        large, small = run.counter("window.large_bytes"), run.counter("window.small_bytes")
        self.assertGreaterEqual(large, 0.9 * (large + small), run.stats)
        self.assertGreater(large, 32 * MIB)

    def test_reports_cost_little(self):
        """A guest reports its free memory. What it never touched is nothing to give back."""
        run = harness.boot("sleep 5", KVM, ["--memory", "256M", "--no-host"])
        self.assertGreater(run.counter("balloon.reported"), 100 * MIB // 4096)
        # Its kernel frees what it has unpacked, of some large pages.
        self.assertLessEqual(run.counter("window.registrations"), 4)
        self.assertLessEqual(run.counter("window.unmaps"), 4 * 512)

    def test_console_by_lines(self):
        """A line is written at once, the beginning of one soon, and neither byte by byte."""
        run = harness.boot("i=0; while [ $i -lt 200 ]; do echo line $i of many; i=$((i + 1)); done; "
                           "echo -n begun; sleep 1; echo , ended", KVM,
                           ["--memory", "128M", "--no-host"])
        self.assertIn("line 0 of many\n", run.out)
        self.assertIn("line 199 of many\nbegun, ended\n", run.out)
        self.assertGreater(run.counter("console.bytes_out"), 200 * 15)
        self.assertLess(run.counter("console.writes_out"), run.counter("console.bytes_out") / 4)

    def test_facilities(self):
        """The host says what it has, and who walks the tables."""
        run = harness.program("host --engine".split())
        self.assertEqual(0, run.status, run.said())
        self.assertRegex(run.out, r"engine +kvm\n +/dev/kvm runs kernel code")
        nested = pathlib.Path("/sys/module/kvm_amd/parameters/npt").read_text().strip() in "Y1"
        self.assertIn("NPT" if nested else "npt=0", run.out)
        self.assertRegex(run.out, r"large pages of memory files +advise")

    def test_clock_instructions(self):
        """What only our own processor has is refused in words."""
        run = harness.mezz_run(["--engine", "kvm", "--clock", "instructions"])
        self.assertEqual(harness.STATUS_USAGE, run.status)
        self.assertIn("--engine soft", run.err)

    def test_limit(self):
        """Less memory than RAM, and then none."""
        run = harness.mezz_run(["--engine", "kvm", "--memory", "192M", "--memory-limit", "100M",
                                "--append", harness.command_parameter(
                                    "echo fits; dd if=/dev/zero of=/tmp/x bs=1M count=150")])
        self.assertEqual(harness.STATUS_CRASH, run.status, run.said())
        self.assertIn("fits", run.out)
        self.assertIn("no memory", run.err)
        self.assertLessEqual(run.counter("physmap.home"), 100 * MIB // 4096)


class Window(unittest.TestCase):
    """The guest RAM window's own tests."""

    def test_window(self):
        """They pass with large pages, and under a KVM that runs guests in kernel mode."""
        done = subprocess.run([harness.BUILD / "tests/unit/test_kvm_window"], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertNotIn("skipped", done.stdout.lower())
        self.assertNotIn("not seen", done.stdout)
        self.assertIn("test_locked", done.stdout)


class Several(unittest.TestCase):
    """More than one processor."""

    def test_processors(self):
        """All are found, and all work."""
        run = harness.boot("grep -c ^processor /proc/cpuinfo; "
                           "for i in 1 2 3 4; do (seq 1 3000 | md5sum) & done; wait", KVM,
                           ["--cpus", "4", "--memory", "128M"])
        lines = run.out.split()
        self.assertEqual("4", lines[0])
        self.assertEqual(4, lines.count(lines[1]), run.out)

    def test_sixteen(self):
        """As many as a VM may have."""
        run = harness.boot("grep -c ^processor /proc/cpuinfo; nproc", KVM,
                           ["--cpus", "16", "--memory", "192M"])
        self.assertEqual(["16", "16"], run.out.split())

    def test_revoke_stress(self):
        """Pages are taken from two processors that use them; the books are right."""
        run = harness.boot(f"f() {{ {CHURN}\n}}; f 1 & f 2 & wait", KVM,
                           ["--cpus", "2", "--memory", "128M", "--revoke-stress", "500",
                            "--audit", "1"])
        print(f"taken {run.counter('revocation.stress_taken')}, faults: "
              f"{run.counter('window.missing_faults')} missing, "
              f"{run.counter('window.minor_faults')} minor; rebuilt "
              f"{run.counter('window.chunks_rebuilt')}; emulated in the midst of it "
              f"{run.counter('cpu.mmio_ram')}", flush=True)
        self.assertEqual(2, run.out.count("churned"))
        self.assertNotIn("WRONG", run.out)
        self.assertGreater(run.counter("revocation.stress_taken"), 300)
        self.assertEqual(0, run.counter("physmap.busy"))


if __name__ == "__main__":
    harness.main()
