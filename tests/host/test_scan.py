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


def scan(contents, *options):
    """Scan VMs with these contents. Return: a list of what each pass says."""
    with tempfile.TemporaryDirectory(prefix="mezz-test-") as folder:
        files = []
        for i, data in enumerate(contents):
            files.append(pathlib.Path(folder, str(i)))
            files[-1].write_bytes(data)
        done = subprocess.run([PROGRAM, *options, str(PASSES), *files], check=True, capture_output=True,
                              text=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Scan(unittest.TestCase):
    """share-scan, the scanner without a daemon."""

    def test_quiet_windows(self):
        """All pages are looked at twice, then an eighth of them in each pass."""
        looked = [p["scanned_pages"] for p in scan([os.urandom(PAGES * PAGE)])]
        self.assertEqual([PAGES, PAGES] + [PAGES // 8] * (PASSES - 2), looked)

    def test_small_skips(self):
        """Each page is passed over as often as the option says at most."""
        for skip, part in ((0, 1), (1, 2), (3, 4), (4, 5), (7, 8), (8, 8)):
            looked = [p["scanned_pages"] for p in scan([os.urandom(PAGES * PAGE)], "-s", str(skip))]
            self.assertEqual([PAGES, PAGES], looked[:2])
            # One round over all pieces, and none of it is longer than it may be.
            self.assertEqual(PAGES, sum(looked[2:2 + part]), skip)
            self.assertLessEqual(part, skip + 1)

    def test_gaps(self):
        """Pages that are only read because they lie between others change nothing."""
        data = bytearray(os.urandom(PAGES * PAGE))
        for page in range(0, PAGES, 3):
            data[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)
        both = [scan([bytes(data), bytes(data)], "-g", gap)[-1] for gap in ("0", "1", "64")]
        self.assertEqual(PAGES + (PAGES + 2) // 3, both[0]["saved_pages"])
        self.assertEqual([both[0]["saved_pages"]] * 3, [b["saved_pages"] for b in both])

    def test_equal_pages(self):
        """All is shared in the first pass, whoever is scanned first."""
        data = os.urandom(PAGES * PAGE)
        passes = scan([data, data[PAGES * PAGE // 2:] * 2])
        self.assertEqual(PAGES, passes[0]["saved_pages"])
        self.assertEqual(passes[0]["saved_pages"], passes[-1]["saved_pages"])


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
