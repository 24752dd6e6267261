#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scan passes over pages that do not change, more and more often, and misses nothing by it."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PAGE = 4096
PAGES = 256
PASSES = 22


def scan(contents):
    """Scan VMs with these contents. Return: a list of what each pass says."""
    with tempfile.TemporaryDirectory(prefix="mezz-test-") as folder:
        files = []
        for i, data in enumerate(contents):
            files.append(pathlib.Path(folder, str(i)))
            files[-1].write_bytes(data)
        done = subprocess.run([PROGRAM, str(PASSES), *files], check=True, capture_output=True,
                              text=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Scan(unittest.TestCase):
    """share-scan, the scanner without a daemon."""

    def test_quiet_windows(self):
        """Looked at twice, then passed over 1, 2, 4 and 8 times."""
        passes = scan([os.urandom(PAGES * PAGE)])
        looked = [i for i, p in enumerate(passes) if p["scanned_pages"]]
        self.assertEqual([0, 1, 3, 6, 11, 20], looked)
        self.assertEqual({PAGES}, {passes[i]["scanned_pages"] for i in looked})
        self.assertEqual(0, passes[-1]["saved_pages"])

    def test_equal_pages(self):
        """All is shared in the first pass, whoever is scanned first."""
        data = os.urandom(PAGES * PAGE)
        passes = scan([data, data[PAGES * PAGE // 2:] * 2])
        self.assertEqual(PAGES, passes[0]["saved_pages"])
        self.assertEqual(passes[0]["saved_pages"], passes[-1]["saved_pages"])


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
