#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What guests of one sharing group read from one read-only image is shared at once; what they
read from images of their own is left to the scan; nobody reads a wrong byte."""

import hashlib
import os
import time
import unittest

import harness
import lab
from harness import MIB, PAGE

IMAGE_MIB = 32
# A disk that nobody has open loses its cache, so the script keeps it open.
SCRIPT = """
exec 3</dev/vda
echo ready
read -r _
dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null
echo done
read -r _
md5sum /dev/vda
sleep 1000
"""


class OnRead(unittest.TestCase):
    """Two guests."""

    def run_two(self, same):
        """Let both read. Return: MiB that were shared as they were read, and by all means."""
        image = os.urandom(IMAGE_MIB * MIB)
        with lab.Lab(1024) as host:
            paths = {}
            for name in ("one", "two"):
                paths[name] = host.path / ("image" if same else f"{name}.image")
                if not paths[name].exists():
                    paths[name].write_bytes(image)
                host.create(name, ["memory=128M", "group=trusted"], SCRIPT,
                            ["--disk", f"{paths[name]},ro"])
                host.must("start", name)
            for name in paths:
                host.wait_said(name, "ready")
            for name in paths:
                host.tell(name)
                host.wait_said(name, "done")
            start = time.monotonic()
            while (time.monotonic() - start < (20 * harness.PATIENCE if same else 1) and
                   host.host()["shared"] < 2 * 0.9 * IMAGE_MIB * MIB):
                time.sleep(0.1)
            shared = host.host()["shared"] / MIB
            filled = sum(host.stats(name)["sharedFilled"] for name in paths)
            for name in paths:
                host.tell(name)
            for name in paths:
                digest = hashlib.md5(image).hexdigest()
                self.assertTrue(host.wait_said(name, digest).endswith("/dev/vda"))
            # Reading leaves them shared.
            copied = sum(host.stats(name)["unshared"] for name in paths)
            print(f"copied back as they were read once more: {copied}", flush=True)
            if same:
                self.assertLess(copied, 2 * IMAGE_MIB * MIB // PAGE // 10)
            for name in paths:
                host.must("stop", name, "--kill")
            audit = host.audit()
            self.assertEqual(audit["books"], audit["kernel"])
            self.assertEqual(0, host.wrong())
        return filled * PAGE / MIB, shared

    def test_one_image(self):
        """Nearly all of what both have read is shared."""
        filled, shared = self.run_two(True)
        print(f"one image of {IMAGE_MIB} MiB: {shared:.1f} MiB shared, {filled:.1f} MiB as it "
              "was read", flush=True)
        self.assertGreaterEqual(filled, 2 * 0.8 * IMAGE_MIB)

    def test_two_images(self):
        """Two images are two, whatever they hold."""
        filled, _ = self.run_two(False)
        self.assertEqual(0, filled)


if __name__ == "__main__":
    harness.main()
