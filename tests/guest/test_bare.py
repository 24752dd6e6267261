#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest without a system: each boot protocol, and each way in which a run ends."""

import re
import resource
import subprocess
import unittest

import harness

# Kernel, and the protocol by which it is to be entered; None where the program finds it itself.
ENTRIES = [("bare64", None, "linux64"), ("bare64", "linux64", "linux64"),
           ("bare32", None, "multiboot"), ("bare32", "pvh", "pvh"),
           ("bare32", "multiboot", "multiboot")]


# How the counters call them.
PROTOCOLS = {"Linux 64-bit": "linux64", "PVH": "pvh", "multiboot": "multiboot"}


class Bare(unittest.TestCase):
    """The payload does what the first letter of its command line says."""

    def run_bare(self, command, kernel="bare64", options=(), mode=harness.MODES[0]):
        """Run the payload, see that it was entered. Return the run without that line."""
        run = harness.mezz_run(
            [*harness.mode_options(mode), "--kernel", harness.PAYLOADS / kernel, "--memory", "64M",
             "--timeout", str(round(10 * harness.PATIENCE)), "--bare", "--append", command,
             *options], timeout_s=20)
        head, _, run.out = run.out.partition("\n")
        self.assertRegex(head, "^mezz-bare: entered by ", run.said())
        run.protocol = head.rsplit(" ", 1)[1]
        if run.protocol == "multiboot":
            size, _, run.out = run.out.partition("\n")
            self.assertEqual("mezz-bare: 64 MiB", size)
        return run

    def test_protocols(self):
        """By each protocol, in both kinds of memory virtualization."""
        for mode in harness.MODES:
            for kernel, asked, given in ENTRIES:
                with self.subTest(kernel=kernel, asked=asked, mode=mode):
                    options = ["--protocol", asked] if asked else []
                    run = self.run_bare("p", kernel, options, mode)
                    self.assertEqual((0, ""), (run.status, run.err), run.said())
                    self.assertEqual(given, run.protocol)
                    self.assertEqual(given, PROTOCOLS[run.stats["vm"]["protocol"]])
                    self.assertEqual("", run.out)

    def test_wrong_protocol(self):
        """A kernel that does not know the protocol asked for."""
        for kernel, asked in [("bare64", "pvh"), ("bare64", "multiboot"), ("bare32", "linux64")]:
            name = {"pvh": "PVH", "linux64": "Linux 64-bit"}.get(asked, asked)
            with self.subTest(kernel=kernel, asked=asked):
                run = harness.mezz_run(["--kernel", harness.PAYLOADS / kernel,
                                        "--protocol", asked], timeout_s=20)
                self.assertEqual(harness.STATUS_USAGE, run.status, run.said())
                self.assertEqual(1, len(run.err.splitlines()), run.said())
                self.assertIn(f"the {name} protocol", run.err)

    def ends(self, command, status, words, options=()):
        """In each mode the run ends with a status and one line of these words."""
        for kernel in ("bare32", "bare64"):
            for mode in harness.MODES:
                with self.subTest(command=command, kernel=kernel, mode=mode):
                    run = self.run_bare(command, kernel, options, mode)
                    self.assertEqual(status, run.status, run.said())
                    self.assertEqual("", run.out)
                    lines = run.err.splitlines()
                    self.assertEqual(1 if words else 0, len(lines), run.said())
                    for word in words:
                        self.assertIn(word, lines[0])

    def test_exit_port(self):
        """The byte v ends the run with status (v << 1) | 1."""
        for letter in "\x01*~":
            self.ends("e" + letter, ord(letter) << 1 & 0xff | 1, [], ["--exit-port"])

    def test_no_exit_port(self):
        """Without the option there is nothing at that port."""
        run = self.run_bare("e*")
        self.assertEqual((0, "mezz-bare: there is no exit port\n"), (run.status, run.out))

    def test_reset(self):
        """The reset register."""
        self.ends("r", harness.STATUS_RESET, ["reset"])

    def test_triple_fault(self):
        """An exception without an IDT."""
        words = ["triple fault"]
        # AMD's processors do not tell where.
        if all(engine == "soft" for engine, _ in harness.MODES):
            words.append("RIP 0x10")
        self.ends("t", harness.STATUS_CRASH, words)

    def test_jump(self):
        """Code where there is a device, or nothing."""
        for command, address in [("l", "0xfee00000"), ("i", "0xfec00000"), ("n", "0xf0000000")]:
            self.ends(command, harness.STATUS_CRASH, ["jumped to " + address, "no memory"])

    def test_host_memory(self):
        """More memory than the host has for it."""
        self.ends("m", harness.STATUS_CRASH, ["no memory"], ["--memory-limit", "16M"])
        run = self.run_bare("m")
        self.assertEqual((0, "mezz-bare: touched\n"), (run.status, run.out), run.said())

    def test_no_start(self):
        """A host that has not even the memory to start."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
        done = subprocess.run(
            [harness.MEZZ, "run", "--kernel", harness.PAYLOADS / "bare64", "--memory", "1G"],
            check=False, capture_output=True, timeout=20, stdin=subprocess.DEVNULL,
            preexec_fn=limit)
        self.assertEqual(harness.STATUS_USAGE, done.returncode, done.stderr)
        self.assertRegex(done.stderr.decode(), re.compile(r"\Amezz: .*(memory|address space).*\n\Z"))

    @harness.needs_soft
    def test_not_implemented(self):
        """What the processor lacks raises #UD and is counted by its name."""
        run = self.run_bare("u", options=["-v"])
        self.assertEqual(harness.STATUS_CRASH, run.status, run.said())
        self.assertEqual({"vzeroupper": 1}, run.stats["unimplemented"])
        self.assertIn("not implemented: vzeroupper, 1 times", run.err)


if __name__ == "__main__":
    harness.main(needs_image=False)
