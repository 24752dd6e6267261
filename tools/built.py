# SPDX-License-Identifier: Apache-2.0
"""What the build made and where it is, for whatever runs it: tests, benchmarks, demo, soak.

MEZZ_BUILD is the build folder, build/ if it is not set; MEZZ_IMAGE the folder that `make guest`
filled, guest/ of the build folder if it is not set."""

import base64
import os
import pathlib
import re
import signal

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / (os.environ.get("MEZZ_BUILD") or "build")
IMAGE = pathlib.Path(os.environ.get("MEZZ_IMAGE") or BUILD / "guest")
MEZZ = BUILD / "src" / "cli" / "mezz"
MEZZD = BUILD / "src" / "host" / "mezzd"
MEZZ_VM = BUILD / "src" / "vm" / "mezz-vm"
PAGE = 4096
MIB = 1 << 20

# Limits of time are stretched by this: a processor that is itself emulated takes longer for all.
PATIENCE = float(os.environ.get("MEZZ_TEST_PATIENCE") or 1)

# What /init of the image says before and after the command that it is told.
START = re.compile(r"^mezz-init: up [0-9.]+$", re.MULTILINE)
END = re.compile(r"^mezz-init: exit (\d+)$", re.MULTILINE)


def clean(data):
    """Text of what a serial console said."""
    return data.decode(errors="replace").replace("\r\n", "\n")


def command_parameter(script):
    """The kernel parameter that makes /init run a short script."""
    return "mezz.run64=" + base64.b64encode(script.encode()).decode()


def end_session(proc):
    """Kill a process that we started as the leader of its session, and all in that session."""
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended, and so has everything that it started
    proc.wait()
