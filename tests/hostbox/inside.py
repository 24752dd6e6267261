# SPDX-License-Identifier: Apache-2.0
"""Runs tests inside the host box. Each prints "hostbox: test NAME" before and, if it
succeeded, "hostbox: ok NAME SECONDS" after; without that it failed.

A test is a program of the project with unittest inside, whole or in parts; what it boots,
it boots under KVM, for the box's environment says so."""

import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path("/box")
ENVIRONMENT = {
    "MEZZ_BUILD": "build",
    "MEZZ_TEST_MODES": "kvm:auto",
    "MEZZ_STRESS_BOOTS": "1",
    "MEZZ_TEST_PATIENCE": "6",
}
# Programs that are tests, too, in sizes for here.
PROGRAMS = {
    "soak": ["tools/soak", "--seconds", "25", "--short"],
    "demo": ["tools/demo", "--seconds", "160"],
}
# For each test.
LIMIT_S = 1500


def run(test):
    """Run FILE[:PART[+PART]...], or one of PROGRAMS, with its output shown; tell how it went."""
    file, _, parts = test.partition(":")
    file, *words = PROGRAMS.get(test, [f"tests/{file}", *parts.split("+")])
    command = [sys.executable, "-B", str(ROOT / file), *words]
    print(f"hostbox: test {test}", flush=True)
    start = time.monotonic()
    with subprocess.Popen([word for word in command if word], stdin=subprocess.DEVNULL,
                          stderr=subprocess.STDOUT, start_new_session=True,
                          env={**os.environ, **ENVIRONMENT}) as proc:
        try:
            status = proc.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"hostbox: not done after {LIMIT_S} s", flush=True)
            os.killpg(proc.pid, signal.SIGKILL)
            status = proc.wait()
    took = time.monotonic() - start
    word = "ok" if status == 0 else f"FAILED ({status})"
    print(f"hostbox: {word} {test} {took:.1f} s", flush=True)


def main():
    """Those that the command line names."""
    for test in sys.argv[1:]:
        run(test)


if __name__ == "__main__":
    main()
