#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks: what the guest writes is on the image after the run, and nowhere else."""

import fcntl
import hashlib
import pathlib
import random
import tempfile
import unittest

import harness
from harness import MIB



def pattern(seed, size):
    """Bytes that do not compress and are the same in every run."""
    return random.Random(seed).randbytes(size)


class Disk(unittest.TestCase):
    """One boot with three disks in each mode."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-test-")
        self.addCleanup(self.folder.cleanup)

    def image(self, name, data):
        """An image file with contents; its path."""
        path = pathlib.Path(self.folder.name, name)
        path.write_bytes(data)
        return path

    def check(self, mode):
        """Read, write, flush, copy from disk to disk, fail to write what is read-only."""
        first, second = pattern(1, 3 * MIB), pattern(2, 3 * MIB + 512)
        one = self.image("one", first)
        two = self.image("two", second)
        three = self.image("three", bytes(8 * MIB))
        run = harness.boot("""
            cat /sys/block/vda/size /sys/block/vdb/size /sys/block/vdc/size
            cat /sys/block/vda/ro /sys/block/vdb/ro
            sha256sum < /dev/vda
            sha256sum < /dev/vdb
            echo spoilt 2>/dev/null > /dev/vdb || echo refused
            dd if=/dev/vdb of=/dev/vdc bs=64k conv=fsync 2>/dev/null
            printf 'written by the guest' | dd of=/dev/vda bs=1 seek=1048570 conv=notrunc,fsync 2>/dev/null
            seq 1 200000 | dd of=/dev/vdc bs=4k seek=1024 conv=notrunc,fsync 2>/dev/null
            sync
            dd if=/dev/vda bs=1 skip=1048570 count=20 2>/dev/null; echo
            """, mode, ["--disk", one, "--disk", f"{two},ro", "--disk", three])
        self.assertEqual([
            str(len(first) // 512), str(len(second) // 512), str(8 * MIB // 512), "0", "1",
            hashlib.sha256(first).hexdigest() + "  -", hashlib.sha256(second).hexdigest() + "  -",
            "refused", "written by the guest"], run.out.splitlines())

        text = b"written by the guest"
        want = first[:1048570] + text + first[1048570 + len(text):]
        self.assertEqual(want, one.read_bytes())
        self.assertEqual(second, two.read_bytes())
        numbers = "".join(f"{i}\n" for i in range(1, 200001)).encode()
        want = bytearray(8 * MIB)
        want[:len(second)] = second
        want[4 * MIB:4 * MIB + len(numbers)] = numbers
        self.assertEqual(bytes(want), three.read_bytes())

        self.assertGreaterEqual(run.counter("disk0.read_bytes"), len(first))
        self.assertGreater(run.counter("disk0.flushes"), 0)
        self.assertEqual(0, run.counter("disk1.write_bytes"))
        self.assertGreater(run.counter("disk2.flushes"), 0)

    def test_modes(self):
        """Each engine and kind of memory virtualization."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                self.check(mode)

    def test_stress(self):
        """The pages that a disk reads into and writes from come and go."""
        data = pattern(3, 8 * MIB)
        disk = self.image("disk", data)
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                run = harness.boot("""
                    for i in 1 2; do
                        echo 3 > /proc/sys/vm/drop_caches
                        sha256sum < /dev/vda
                    done""", mode, ["--disk", f"{disk},ro", "--revoke-stress", "5000",
                                    "--memory", "128M"])
                self.assertEqual([hashlib.sha256(data).hexdigest() + "  -"] * 2,
                                 run.out.splitlines())

    def test_snapshot(self):
        """What the guest writes it reads again, and nobody else does; the image may be in use."""
        data = pattern(4, 4 * MIB)
        disk = self.image("disk", data)
        disk.chmod(0o444)
        with open(disk, "rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            run = harness.boot("""
                cat /sys/block/vda/ro
                seq 1 9999 | dd of=/dev/vda bs=1000 seek=77 conv=notrunc,fsync 2>/dev/null
                sync; echo 3 > /proc/sys/vm/drop_caches
                sha256sum < /dev/vda""", harness.MODES[0], ["--disk", f"{disk},snapshot"])
        numbers = "".join(f"{i}\n" for i in range(1, 10000)).encode()
        want = data[:77000] + numbers + data[77000 + len(numbers):]
        self.assertEqual(["0", hashlib.sha256(want).hexdigest() + "  -"], run.out.splitlines())
        self.assertEqual(data, disk.read_bytes())
        self.assertEqual([disk], list(pathlib.Path(self.folder.name).iterdir()))

    def refused(self, option):
        """A disk that somebody else has."""
        run = harness.mezz_run(["--disk", option, "--timeout", "20"])
        self.assertEqual(harness.STATUS_USAGE, run.status, run.said())
        self.assertEqual(1, len(run.err.splitlines()), run.said())
        self.assertIn(option.removesuffix(",ro"), run.err)

    def test_locked(self):
        """One VM may write an image, or several may read it."""
        disk = str(self.image("disk", bytes(MIB)))
        with open(disk, "rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.refused(disk)
            self.refused(disk + ",ro")
            fcntl.lockf(file, fcntl.LOCK_UN)
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.refused(disk)
            run = harness.boot("wc -c < /dev/vda", harness.MODES[0], ["--disk", disk + ",ro"])
            self.assertEqual(f"{MIB}\n", run.out)


if __name__ == "__main__":
    harness.main()
