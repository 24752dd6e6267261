# SPDX-License-Identifier: Apache-2.0
"""A host for trying things: a mezzd of its own in a temporary folder, VMs in it, their words.

Used by the demo, the soak test and the benchmarks of the policy on live guests. Everything is
done through the command `mezz` and the API, as a user would; when the lab ends, or is interrupted,
no process and no file of it is left."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / (os.environ.get("MEZZ_TEST_BUILD") or os.environ.get("MEZZ_BUILD") or "build")
IMAGE = pathlib.Path(os.environ.get("MEZZ_IMAGE") or BUILD / "guest")
MEZZ = BUILD / "src" / "cli" / "mezz"
MEZZD = BUILD / "src" / "host" / "mezzd"
PAGE = 4096
MIB = 1 << 20
STATS = ("private", "shared", "zero", "ballooned", "compressed", "swapped")
END = re.compile(r"^mezz-init: exit (\d+)$", re.MULTILINE)


class LabError(Exception):
    """What went wrong, for the person at the terminal."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path, timeout_s):
        super().__init__("localhost", timeout=timeout_s)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def raise_interrupt(number, _):
    """Being told to end is an exception, so that what was started is ended."""
    raise KeyboardInterrupt(signal.strsignal(number))


class Lab:
    """A mezzd with its VMs. A context manager."""

    def __init__(self, memory_mib):
        self.memory_mib = memory_mib
        self.folder = None
        self.host = None
        signal.signal(signal.SIGTERM, raise_interrupt)
        signal.signal(signal.SIGHUP, raise_interrupt)

    def __enter__(self):
        for path in (MEZZ, MEZZD, IMAGE / "initramfs.cpio"):
            if not path.exists():
                raise LabError(f"{path} is not there: run make guest first")
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-lab-")
        try:
            self.start_host()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        # The host first, or it would see its VMs end.
        self.kill_host()
        for pid in self.vm_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.vm_pids():
            time.sleep(0.02)
        self.folder.cleanup()

    @property
    def path(self):
        """The lab's folder."""
        return pathlib.Path(self.folder.name)

    @property
    def socket(self):
        """Where mezzd listens."""
        return self.path / "mezzd.sock"

    def vm_pids(self):
        """Processes of VMs, found by their command line, whoever their parent is now."""
        mark = f"{self.path}/state/vms/".encode()
        pids = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--link" in words and any(word.startswith(mark) for word in words):
                    pids.append(int(entry.name))
        return pids

    def start_host(self, memory_mib=None):
        """Start mezzd and wait until it answers."""
        self.memory_mib = memory_mib or self.memory_mib
        with (self.path / "mezzd.log").open("ab") as log:
            self.host = subprocess.Popen(
                [MEZZD, "--state-dir", self.path / "state", "--socket", self.socket,
                 "--memory", f"{round(self.memory_mib * 1024)}K"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MEZZ_IMAGE": str(IMAGE)})
        end = time.monotonic() + 30
        while True:
            try:
                return self.get("/v1/host")
            except OSError:
                if self.host.poll() is not None or time.monotonic() > end:
                    raise LabError(f"mezzd does not answer: {self.log()[-2000:]}") from None
                time.sleep(0.01)

    def kill_host(self):
        """SIGKILL to mezzd."""
        if self.host:
            self.host.kill()
            self.host.wait()
            self.host = None

    def log(self):
        """What mezzd said."""
        return (self.path / "mezzd.log").read_text(errors="replace")

    def get(self, path, timeout_s=30):
        """GET of the API."""
        return self.call("GET", path, None, timeout_s)

    def call(self, method, path, body=None, timeout_s=30):
        """A request of the API. Return the decoded answer."""
        with contextlib.closing(UnixConnection(self.socket, timeout_s)) as connection:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            reply = connection.getresponse()
            text = reply.read()
        if reply.status >= 300:
            raise LabError(f"{method} {path}: {reply.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def mezz(self, *words, check=True):
        """Run `mezz`. Return what it printed."""
        done = subprocess.run([MEZZ, *map(str, words)], check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              env={**os.environ, "MEZZ_SOCKET": str(self.socket)})
        text = done.stdout.decode(errors="replace")
        if check and done.returncode:
            raise LabError(f"mezz {' '.join(map(str, words))}: {text.strip()}")
        return text

    def create(self, name, settings, script, args=()):
        """Define a VM that runs a shell script and then switches itself off."""
        encoded = base64.b64encode(script.encode()).decode()
        self.mezz("create", name, *settings, "--", "--append", f"mezz.run64={encoded}", *args)

    def said(self, name):
        """What a guest has printed on its console."""
        texts = []
        for file in ("vm.log", "console.log"):
            with contextlib.suppress(FileNotFoundError):
                data = (self.path / "state" / "vms" / name / file).read_bytes()
                texts.append(data.decode(errors="replace").replace("\r\n", "\n"))
        return "".join(texts)

    def status(self, name):
        """Exit status of a guest's script, or None if it has not ended."""
        end = END.search(self.said(name))
        return int(end.group(1)) if end else None

    def snapshot(self):
        """Host, VMs and pools at one moment."""
        return self.get("/v1/snapshot")


def on_host(program, *words):
    """What a program of the guest image prints here, on the real processor."""
    done = subprocess.run([IMAGE / "bin" / program, *map(str, words)], check=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120)
    return done.stdout.decode()


def mib(count_bytes):
    """Bytes in MiB."""
    return count_bytes / MIB


def end_with(function):
    """Run a program's main function; failures are a line, not a trace."""
    try:
        sys.exit(function())
    except LabError as error:
        print(f"{pathlib.Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{pathlib.Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        sys.exit(130)
