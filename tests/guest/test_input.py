#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input: each ends at once, with one clear message and its own exit status."""

import os
import pathlib
import struct
import tempfile
import unittest

import harness


def elf64(machine):
    """The smallest ELF file that names a machine: one segment with one instruction."""
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 120, 0x100000, 0x100000, 4, 4, 4096)
    return head + segment + b"\xf4\xeb\xfd\x90"


def arm64_image():
    """Head of a Linux kernel for arm64."""
    return struct.pack("<IIQQQQQQ", 0x91005A4D, 0x14000000, 0, 0x1000000, 10, 0, 0, 0) + \
        b"ARM\x64" + bytes(4) + bytes(1 << 16)


class Input(unittest.TestCase):
    """None of these starts a guest, so the memory virtualization does not matter."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-test-")
        self.addCleanup(self.folder.cleanup)

    def file(self, name, data):
        """A file with contents; its path."""
        path = pathlib.Path(self.folder.name, name)
        path.write_bytes(data)
        return path

    def refused(self, options, *words, status=harness.STATUS_USAGE):
        """The run ends with a status and one line that holds all words."""
        run = harness.mezz_run(options, timeout_s=20)
        self.assertEqual(status, run.status, run.said())
        self.assertEqual("", run.out)
        lines = run.err.splitlines()
        self.assertEqual(1, len(lines), run.said())
        self.assertTrue(lines[0].startswith("mezz: "), lines[0])
        for word in words:
            self.assertIn(str(word), lines[0])

    def test_options(self):
        """Unknown options and values that they do not take."""
        for options, words in [
                (["--nonsense"], ["unknown option", "--nonsense"]),
                (["-z"], ["unknown option", "-z"]),
                (["kernel"], ["unknown option", "kernel"]),
                (["--memory"], ["--memory", "value"]),
                (["--memory", "lots"], ["--memory", "lots"]),
                (["--memory", "-5M"], ["--memory", "-5M"]),
                (["--memory", "1M"], ["--memory", "1M", "16M"]),
                (["--memory", "999999T"], ["--memory", "999999T"]),
                (["--memory", "99999999999999999999"], ["--memory"]),
                (["--memory", "16777217"], ["--memory", "4K"]),
                (["--engine", "warp"], ["--engine", "warp", "soft"]),
                (["--mmu", "none"], ["--mmu", "none", "software"]),
                (["--protocol", "efi"], ["--protocol", "efi"]),
                (["--clock", "sun"], ["--clock", "sun"]),
                (["--timeout", "soon"], ["--timeout", "soon"]),
                (["--timeout", "-1"], ["--timeout", "-1"]),
                (["--revoke-stress", "x"], ["--revoke-stress", "x"]),
                (["--audit", "1x"], ["--audit", "1x"]),
                (["--without", "caches,speed"], ["--without", "speed"]),
                (["--cpu", "avx512"], ["--cpu", "avx512"]),
                (["--shadow-memory", "big"], ["--shadow-memory", "big"]),
                (["--memory-limit", "?"], ["--memory-limit", "?"]),
                (["--disk", ""], ["--disk"]),
                (["--disk", ",ro"], ["--disk"]),
                (["--disk", ",snapshot"], ["--disk"]),
                (["--disk", "x"] * 9, ["--disk", "8"])]:
            with self.subTest(options=options):
                self.refused(options, *words)

    def test_help(self):
        """Help is an answer, not an error."""
        run = harness.mezz_run(["--help"], timeout_s=20)
        self.assertEqual(0, run.status)
        self.assertEqual("", run.err)
        for option in ["--memory SIZE", "--kernel FILE", "--disk FILE[,ro|,snapshot]", "--mmu",
                       "--timeout TIME", "--exec TEXT"]:
            self.assertIn(option, run.out)

    def test_kernel_files(self):
        """Files that are no kernel for this machine."""
        for name, data, words in [
                ("empty", b"", ["empty"]),
                ("text", b"#!/bin/sh\necho this is not a kernel\n" * 100, ["text"]),
                ("zeros", bytes(1 << 20), ["zeros"]),
                ("arm64", arm64_image(), ["arm64"]),
                ("arm64-elf", elf64(183), ["arm64-elf"]),
                ("ppc64-elf", elf64(21), ["ppc64-elf"]),
                ("elf-head", elf64(62)[:40], ["elf-head"]),
                ("elf-cut", elf64(62)[:122], ["elf-cut"])]:
            with self.subTest(kernel=name):
                self.refused(["--kernel", self.file(name, data)], *words)

    def test_kernel_paths(self):
        """Kernels that cannot be read."""
        self.refused(["--kernel", "/nonexistent/vmlinuz"], "/nonexistent/vmlinuz", "No such file")
        self.refused(["--kernel", self.folder.name], self.folder.name)
        if os.geteuid():
            secret = self.file("secret", elf64(62))
            secret.chmod(0)
            self.refused(["--kernel", secret], secret, "Permission denied")

    def test_no_image(self):
        """Without a kernel and without an image the message says how to get one."""
        run = harness.mezz_run([], timeout_s=20, image="/nonexistent")
        self.assertEqual(harness.STATUS_USAGE, run.status, run.said())
        self.assertIn("make guest", run.err)

    def test_stats_path(self):
        """Counters that cannot be written are an error, before the run."""
        kernel = self.file("halt", elf64(62))
        run = harness.mezz_run(["--kernel", kernel, "--stats", "/nonexistent/x.json",
                                "--timeout", "1"], timeout_s=20)
        self.assertEqual(harness.STATUS_USAGE, run.status, run.said())
        self.assertIn("/nonexistent/x.json", run.err)

    @unittest.skipUnless((harness.IMAGE / "vmlinuz").exists(), "no guest image")
    def test_linux_kernel(self):
        """A real kernel that was cut short, and one with too little room."""
        whole = (harness.IMAGE / "vmlinuz").read_bytes()
        for part in (600, 4096, 100000, len(whole) // 2, len(whole) - 5000):
            with self.subTest(bytes=part):
                self.refused(["--kernel", self.file("cut", whole[:part])], "cut")
        self.refused(["--memory", "16M"], "memory")

    @unittest.skipUnless((harness.IMAGE / "vmlinuz").exists(), "no guest image")
    def test_initrd(self):
        """Initial RAM disks that are not there or do not fit."""
        self.refused(["--initrd", "/nonexistent/initrd"], "/nonexistent/initrd", "No such file")
        self.refused(["--initrd", self.folder.name], self.folder.name)
        large = pathlib.Path(self.folder.name, "large")
        with large.open("wb") as file:
            file.truncate(300 << 20)
        self.refused(["--memory", "256M", "--initrd", large], "memory")
        self.refused(["--append", "x" * 3000], "command line")

    def test_disks(self):
        """Disk images that cannot be used."""
        kernel = self.file("halt", elf64(62))
        disk = self.file("disk", bytes(1 << 20))
        for option, words in [("/nonexistent/disk", ["/nonexistent/disk", "No such file"]),
                              (self.folder.name, [self.folder.name]),
                              ("/nonexistent/disk,ro", ["/nonexistent/disk"])]:
            with self.subTest(disk=option):
                self.refused(["--kernel", kernel, "--disk", option], *words)
        self.refused(["--kernel", kernel, "--disk", disk, "--disk", disk], disk, "use")
        if os.geteuid():
            disk.chmod(0o400)
            self.refused(["--kernel", kernel, "--disk", disk], disk, "Permission denied")

    def test_commands(self):
        """The program itself, without a command or with one that is not there."""
        for words in ([], ["fly"]):
            run = harness.program(words)
            self.assertEqual(2, run.status)
            self.assertEqual("", run.out)
            self.assertIn("usage: mezz", run.err)


if __name__ == "__main__":
    harness.main(needs_image=False)
