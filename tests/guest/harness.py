# SPDX-License-Identifier: Apache-2.0
"""What the guest tests share: run a guest, read what it printed, run the same on the host.

Each test file is one program with unittest inside. Its environment says what is tested:
MEZZ_TEST_MODES, the modes ENGINE:MMU, and what tools/built.py reads. Without an image a test that
boots Linux is skipped as a whole (status 77, which meson knows)."""

import dataclasses
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tools"))
from built import (BUILD, END, IMAGE, MEZZ, MIB, PAGE, PATIENCE, ROOT,  # noqa: E402, F401
                   START, clean, command_parameter, end_session)

PAYLOADS = BUILD / "tests" / "guest"
SKIP = 77

# Everything that must behave alike: (engine, kind of memory virtualization). The host box, in
# which KVM works, names its own.
MODES = [tuple(mode.split(":")) for mode in
         os.environ.get("MEZZ_TEST_MODES", "soft:hardware soft:software").split()]

# For tests of what only our own processor has.
needs_soft = unittest.skipIf(any(engine != "soft" for engine, _ in MODES),
                             "only our own processor has this")

# Exit statuses of mezz run.
STATUS_USAGE, STATUS_RESET, STATUS_CRASH, STATUS_TIMEOUT, STATUS_STOPPED = 2, 3, 4, 124, 130


class Hung(AssertionError):
    """A program that had to be killed."""


@dataclasses.dataclass
class Run:
    """What one run of the program did."""

    status: int
    out: str
    err: str
    stats: dict = dataclasses.field(default_factory=dict)

    def said(self):
        """Both streams, for the message of a failed assertion."""
        return f"status {self.status}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-3000:]}"

    def counter(self, path):
        """The number at a dotted path of the counters."""
        at = self.stats
        for key in path.split("."):
            at = at[key]
        return at


def mode_options(mode):
    """Options that choose an engine and its memory virtualization."""
    engine, mmu = mode
    return ["--engine", engine, "--mmu", mmu]


def children(pid):
    """The processes that a process has started and that are not gone."""
    return [int(word) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()]


def spawn(options, image=IMAGE, **kwargs):
    """Start `mezz run` as the leader of a session of its own."""
    return subprocess.Popen([str(MEZZ), "run", *map(str, options)], start_new_session=True,
                            env={**os.environ, "MEZZ_IMAGE": str(image)}, **kwargs)


def program(words):
    """Run `mezz` with any arguments."""
    done = subprocess.run([str(MEZZ), *words], check=False, capture_output=True,
                          timeout=20 * PATIENCE, stdin=subprocess.DEVNULL)
    return Run(done.returncode, clean(done.stdout), clean(done.stderr))


def mezz_run(options, stdin=b"", timeout_s=60, image=IMAGE):
    """Run `mezz run` to its end with counters. Raises Hung if it does not end."""
    timeout_s *= PATIENCE
    with tempfile.TemporaryDirectory(prefix="mezz-test-") as folder:
        stats = pathlib.Path(folder, "stats.json")
        proc = spawn(["--stats", stats, *options], image, stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = proc.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired:
            end_session(proc)
            out, err = proc.communicate()
            run = Run(-1, clean(out), clean(err))
            raise Hung(f"still running after {timeout_s} s: {options}\n{run.said()}") from None
        finally:
            end_session(proc)
        counters = json.loads(stats.read_text()) if stats.exists() else {}
    return Run(proc.returncode, clean(out), clean(err), counters)


def newc_file(name, data, mode=0o100755):
    """One file of a cpio archive in the format that Linux takes."""
    name = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def initrd_with(script):
    """The image's initramfs with a script as /test.sh: a kernel command line is short."""
    image = (IMAGE / "initramfs.cpio").read_bytes()
    return (image + bytes(-len(image) % 4) + newc_file("test.sh", script.encode()) +
            newc_file("TRAILER!!!", b"", 0))


def boot(script, mode, options=(), append="", timeout_s=110):
    """Boot the image, run a shell script in it. Return the run, with only its output in .out."""
    with tempfile.NamedTemporaryFile(prefix="mezz-test-", suffix=".cpio") as initrd:
        initrd.write(initrd_with(script))
        initrd.flush()
        line = f'{append} mezz.run="sh /test.sh"'.strip()
        run = mezz_run([*mode_options(mode), "--timeout", str(int((timeout_s - 10) * PATIENCE)),
                        "--initrd", initrd.name, "--append", line, *options], timeout_s=timeout_s)
    start, end = START.search(run.out), END.search(run.out)
    if run.status or not start or not end:
        raise AssertionError(f"{mode} {options}: the guest did not run to its end: {run.said()}")
    if int(end.group(1)):
        raise AssertionError(f"{mode} {options}: the script failed: {run.said()}")
    run.out = run.out[start.end() + 1:end.start()]
    return run


class HostRoot:
    """Programs of the guest image for use on the host: /bin of the initramfs in a folder."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-host-")
        for name, mode, data in read_newc((IMAGE / "initramfs.cpio").read_bytes()):
            if os.path.dirname(name) not in ("bin", "./bin"):
                continue
            path = pathlib.Path(self.folder.name, os.path.basename(name))
            if stat.S_ISLNK(mode):
                path.symlink_to(data.decode())
            elif stat.S_ISREG(mode):
                path.write_bytes(data)
                path.chmod(0o755)

    def run(self, script):
        """Output of a shell script under the image's own shell and tools, on the host."""
        with tempfile.TemporaryDirectory(prefix="mezz-host-") as cwd:
            done = subprocess.run(
                [os.path.join(self.folder.name, "sh"), "-c", script], cwd=cwd, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=120 * PATIENCE,
                env={"PATH": self.folder.name, "HOME": cwd, "TERM": "vt102"})
        if done.returncode:
            raise AssertionError(f"on the host: status {done.returncode}: {clean(done.stdout)}")
        return clean(done.stdout)

    def close(self):
        """Remove the folder."""
        self.folder.cleanup()


def read_newc(data):
    """Yield (name, mode, contents) of a cpio archive in the format that Linux takes."""
    at = 0
    while data[at:at + 6] == b"070701":
        field = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = field[1], field[6], field[11]
        name = data[at + 110:at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return
        yield name, mode, data[start:start + size]
        at = (start + size + 3) & ~3
    raise AssertionError(f"not a cpio archive in newc format at byte {at}")


def main(needs_image=True):
    """Run the tests of the calling file."""
    if not MEZZ.exists():
        print(f"{MEZZ} is not there: run make first")
        sys.exit(1)
    if needs_image and not (IMAGE / "initramfs.cpio").exists():
        print(f"skipped: no guest image in {IMAGE}: run 'make guest' first")
        sys.exit(SKIP)
    unittest.main(verbosity=2)
