# SPDX-License-Identifier: Apache-2.0
"""Run a mezzd of its own with live guests, for tests and benchmarks.

What a guest says is in its log. It is told something through a disk: `go N` in a guest's
script waits until Host.go(name, N) was called, by looking at the disk past the page cache."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness

MEZZD = harness.BUILD / "src" / "host" / "mezzd"
MEZZ_VM = harness.BUILD / "src" / "vm" / "mezz-vm"
MIB = 1 << 20
PAGE = 4096
SECTOR = 512

# Shell functions that every script may use. The first disk is the one that says go.
PRELUDE = """
go() {
	until dd if=/dev/vda iflag=direct bs=512 count=1 2>/dev/null | grep -q "^go$1\\$"; do
		usleep 50000
	done
}
"""


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("mezzd", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Host:
    """A mezzd with its own directory; ends with everything that it started."""

    def __init__(self, memory_mib, options=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mezz-host-"))
        self.socket = self.folder / "api.sock"
        self.memory_mib = memory_mib
        self.proc = None
        self.names = []
        try:
            self.begin()
            for name, value in (options or {}).items():
                self.option(name, value)
        except BaseException:
            self.close()
            raise

    def begin(self):
        """Start the program and wait until it answers."""
        log = open(self.folder / "mezzd.log", "ab")
        with log:
            self.proc = subprocess.Popen(
                [str(MEZZD), "--state-dir", str(self.folder / "state"), "--socket",
                 str(self.socket), "--memory", f"{self.memory_mib}M", "--vm-program",
                 str(MEZZ_VM)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "MEZZ_IMAGE": str(harness.IMAGE)})
        for _ in range(200):
            if self.proc.poll() is not None:
                break
            try:
                self.call("GET", "/v1/host")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"mezzd does not answer: {self.log()}")

    def log(self):
        """What mezzd has said."""
        return (self.folder / "mezzd.log").read_text(errors="replace")[-3000:]

    def call(self, method, path, body=None):
        """One request. Return: the answer; an error of mezzd is an AssertionError."""
        conn = Connection(self.socket)
        try:
            conn.request(method, path, None if body is None else json.dumps(body),
                         {"Content-Type": "application/json"})
            reply = conn.getresponse()
            text = reply.read().decode()
        finally:
            conn.close()
        if reply.status >= 300:
            raise AssertionError(f"{method} {path}: {reply.status} {text}")
        return json.loads(text) if text else None

    def option(self, name, value):
        """Set an advanced option."""
        self.call("PUT", f"/v1/options/{name}", {"value": str(value)})

    def create(self, name, memory_mib, script, config=None, args=(), disks=()):
        """Define a VM that runs a script, and start it. Disks after the first are given."""
        word = self.folder / f"{name}.word"
        word.write_bytes(bytes(SECTOR))
        initrd = self.folder / f"{name}.cpio"
        initrd.write_bytes(harness.initrd_with(PRELUDE + script))
        words = ["--initrd", str(initrd), "--append", "mezz.run=\"sh /test.sh\"",
                 "--disk", str(word)]
        for disk in disks:
            words += ["--disk", str(disk)]
        self.call("POST", "/v1/vms", {"name": name, "memorySize": memory_mib * MIB,
                                      "args": [*words, *map(str, args)], **(config or {})})
        self.names.append(name)
        self.call("POST", f"/v1/vms/{name}/start")

    def go(self, name, number):
        """Let a guest go past its `go NUMBER`."""
        word = f"go{number}\n".encode()
        with open(self.folder / f"{name}.word", "r+b") as file:
            file.write(word + bytes(SECTOR - len(word)))

    def set(self, name, **config):
        """Change the definition of a VM."""
        return self.call("PATCH", f"/v1/vms/{name}", config)

    def vm(self, name):
        """Everything about one VM."""
        return self.call("GET", f"/v1/vms/{name}")

    def stats(self, name):
        """Quick statistics of one VM."""
        return self.vm(name)["quickStats"]

    def host(self):
        """Figures of the host."""
        return self.call("GET", "/v1/host")

    def audit(self):
        """The host's books beside the kernel's."""
        return self.call("GET", "/v1/audit")

    def stop(self, name):
        """End a VM and wait for it."""
        self.call("POST", f"/v1/vms/{name}/stop", {"how": "kill"})
        self.until(lambda: self.vm(name)["runtime"]["powerState"] == "poweredOff",
                   10, f"the end of {name}")

    def said(self, name):
        """The lines that a guest has printed."""
        try:
            data = (self.folder / "state" / "vms" / name / "vm.log").read_bytes()
        except FileNotFoundError:
            return []
        return [line.strip() for line in harness.clean(data).split("\n")]

    def wait_for(self, name, word, timeout_s=60):
        """Until a guest has printed a line that begins so. Return: the line."""
        found = []

        def look():
            found[:] = [line for line in self.said(name) if line.startswith(word)]
            return found
        self.until(look, timeout_s, f"'{word}' of {name}",
                   lambda: self.said(name)[-30:])
        return found[0]

    def until(self, condition, timeout_s, what, more=lambda: ""):
        """Wait for something. Return: seconds that it took."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > timeout_s * harness.PATIENCE:
                raise AssertionError(f"waited {timeout_s} s for {what}: {more()} {self.log()}")
            time.sleep(0.02)
        return time.monotonic() - start

    def pids(self):
        """Processes of the VMs."""
        return {name: self.vm(name)["runtime"]["pid"] for name in self.names}

    def close(self):
        """End all VMs and mezzd."""
        for name in self.names:
            try:
                self.stop(name)
            except (OSError, AssertionError, KeyError):
                pass
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        if os.environ.get("MEZZ_TEST_KEEP"):
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
