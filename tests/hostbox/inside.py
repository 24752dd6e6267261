# SPDX-License-Identifier: Apache-2.0
"""Runs tests inside the host box. Each prints "hostbox: test NAME" before and, if it
succeeded, "hostbox: ok NAME SECONDS" after; without that it failed.

A test is a program of the project with unittest inside, whole or in parts; what it boots,
it boots under KVM, for the box's environment says so."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path("/box")
ENVIRONMENT = {
    "MEZZ_BUILD": "build",
    "MEZZ_TEST_MODES": "kvm:auto",
    "MEZZ_STRESS_BOOTS": "1",
    "MEZZ_TEST_PATIENCE": "3",
}


def run(test):
    """Run FILE[:PART[+PART]...] with its output shown; tell how it went."""
    file, _, parts = test.partition(":")
    command = [sys.executable, "-B", str(ROOT / "tests" / file), *parts.split("+")]
    print(f"hostbox: test {test}", flush=True)
    start = time.monotonic()
    done = subprocess.run([word for word in command if word], check=False,
                          stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                          env={**os.environ, **ENVIRONMENT})
    took = time.monotonic() - start
    word = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    print(f"hostbox: {word} {test} {took:.1f} s", flush=True)


def main():
    """Those that the command line names."""
    for test in sys.argv[1:]:
        run(test)


if __name__ == "__main__":
    main()
