# SPDX-License-Identifier: Apache-2.0
"""A mezzd for the tests of its API: in a folder of its own, with VMs that have no processor.

MEZZ_TEST_BUILD is the build folder. What is left running at the end is killed by its process id."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("MEZZ_TEST_BUILD") or ROOT / "build")
MEZZD = BUILD / "src" / "host" / "mezzd"
MEZZ = BUILD / "src" / "cli" / "mezz"
FAKE_VM = BUILD / "tests" / "host" / "fake_vm"
MIB = 1 << 20
TOKEN = "a-token-for-tests-0123456789"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("mezzd", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    """What came back: status, headers, bytes, and JSON if it is that."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.type = response.headers.get_content_type()
        self.json = json.loads(self.body) if self.type == "application/json" else None


class Daemon:
    """One mezzd and its folder."""

    def __init__(self, memory="128MiB", options=(), vm_program=FAKE_VM):
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-api-")
        self.root = pathlib.Path(self.folder.name)
        self.state = self.root / "state"
        self.socket = self.root / "mezzd.sock"
        self.log = self.root / "mezzd.log"
        self.command = [str(MEZZD), "--state-dir", str(self.state), "--socket", str(self.socket),
                        "--memory", memory, "--vm-program", str(vm_program), *options]
        self.proc = None

    def start(self):
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.proc = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, start_new_session=True)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.proc.poll() is not None:
                break
            with contextlib.suppress(OSError):
                self.get("/v1/host")
                return self
            time.sleep(0.02)
        raise AssertionError("mezzd does not answer: " + self.log.read_text())

    def end(self, how=signal.SIGTERM):
        """End it alone; its VMs go on."""
        self.proc.send_signal(how)
        return self.proc.wait(20)

    def close(self):
        """End everything that belongs to it."""
        if self.proc and self.proc.poll() is None:
            for vm in self.get("/v1/vms").json["vms"]:
                with contextlib.suppress(ProcessLookupError):
                    if vm["runtime"]["pid"]:
                        os.kill(vm["runtime"]["pid"], signal.SIGKILL)
            self.proc.kill()
            self.proc.wait()
        self.folder.cleanup()

    def use_tcp(self):
        """Listen there too from the next start on, for whoever says TOKEN. Return: the port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        token = self.root / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.command += ["--tcp", f"127.0.0.1:{port}", "--token-file", str(token)]
        return port

    def connection(self, timeout=30):
        """A new connection to it."""
        return UnixConnection(self.socket, timeout)

    def ask(self, method, path, body=None, headers=None, connection=None):
        """One request; the body is JSON unless it is bytes."""
        con = connection or self.connection()
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) \
            else body
        try:
            # A body that is too long is refused before it has been sent.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                con.request(method, path, data, headers or {})
            return Answer(con.getresponse())
        finally:
            if not connection:
                con.close()

    def get(self, path, **query):
        """GET."""
        words = "?" + urllib.parse.urlencode(query) if query else ""
        return self.ask("GET", path + words)

    def create(self, name, size=64 * MIB, start=False, **config):
        """Define a VM, perhaps start it."""
        answer = self.ask("POST", "/v1/vms", {"name": name, "memorySize": size, **config})
        if answer.status == 201 and start:
            return self.ask("POST", f"/v1/vms/{name}/start")
        return answer

    def mezz(self, *words, stdin=subprocess.DEVNULL, timeout=30):
        """The command line program on it: (status, output, errors)."""
        done = subprocess.run([str(MEZZ), *map(str, words)], check=False, capture_output=True,
                              stdin=stdin, timeout=timeout, text=True,
                              env={**os.environ, "MEZZ_SOCKET": str(self.socket)})
        return done.returncode, done.stdout, done.stderr
