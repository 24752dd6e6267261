# SPDX-License-Identifier: Apache-2.0
"""A mezzd of one's own in a temporary folder: started, asked, and ended with all that it started.

Mezzd is the daemon and its API, answers as they come. Lab is one whose VMs are live guests: what
they say, what they are told, and their figures; whatever goes wrong is an exception. Both are
used as a user would use them, through the API and the command `mezz`, and leave no process and
no file, also when they are interrupted. MEZZ_TEST_KEEP=1 keeps the folder."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import built

STATS = ("private", "shared", "zero", "ballooned", "compressed", "swapped")


class LabError(Exception):
    """What went wrong, for the person at the terminal."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path, timeout_s):
        super().__init__("mezzd", timeout=timeout_s)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Answer:
    """What came back: status, headers, bytes, and JSON if it is that."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.type = response.headers.get_content_type()
        self.json = json.loads(self.body) if self.type == "application/json" else None


def until(condition, what, timeout_s=60):
    """Poll until something is so. `what` is said if it is not; a function is asked then."""
    timeout_s *= built.PATIENCE
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"not within {timeout_s:.0f} s: {what() if callable(what) else what}")
        time.sleep(0.05)


class Mezzd:
    """One mezzd and its folder. A context manager that starts it."""

    def __init__(self, memory, options=()):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="mezz-lab-"))
        self.state = self.path / "state"
        self.socket = self.path / "mezzd.sock"
        self.command = [str(built.MEZZD), "--state-dir", str(self.state), "--socket",
                        str(self.socket), "--memory", memory, *options]
        self.proc = None
        self.has_disk = False

    def mount_state(self, size_mib):
        """Put the state directory on a disk of its own, with a file system that does not keep
        space for files that have a length. Return: whether that is permitted here."""
        image = self.path / "disk"
        with image.open("wb") as out:
            out.truncate(size_mib * built.MIB)
        self.state.mkdir()
        self.has_disk = all(
            shutil.which(words[0]) and
            not subprocess.run(words, check=False, capture_output=True).returncode
            for words in (["mkfs.ext2", "-q", "-m", "0", image],
                          ["mount", "-o", "loop", image, self.state]))
        return self.has_disk

    def fill_disk(self, name="filler"):
        """Write to a file on the disk of the state directory until nothing fits any more.
        Return: its path."""
        path = self.state / name
        with path.open("wb", buffering=0) as out:
            for size in (1 << 20, 4096, 1024):
                with contextlib.suppress(OSError):
                    while out.write(bytes(size)):
                        pass
        return path

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, failure, *_):
        if failure:
            print(self.what_vms_do(), flush=True)
        self.close()

    def what_vms_do(self):
        """Where each thread of each VM is in the kernel, and the last that its guest has said."""
        lines = []
        for pid in self.vm_pids():
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
                with contextlib.suppress(OSError):
                    stack = [line.split()[-1] for line in
                             (task / "stack").read_text().splitlines()[:6]]
                    state = re.search(r"^State:\s+(\S)", (task / "status").read_text(), re.M)[1]
                    lines.append(f"  {pid}/{task.name} {state} {' < '.join(stack)}")
        for log in sorted(self.state.glob("vms/*/vm.log")):
            lines.append(f"  {log.parent.name} said: {log.read_bytes()[-300:]!r}")
        return "\n".join(["what the VMs do:", *lines])

    def start(self):
        """Start it and wait until it answers. Return: itself."""
        with (self.path / "mezzd.log").open("ab") as log:
            self.proc = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, "MEZZ_IMAGE": str(built.IMAGE)})
        end = time.monotonic() + 30 * built.PATIENCE
        while self.proc.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.ask("GET", "/v1/host")
                return self
            time.sleep(0.01)
        raise LabError(f"mezzd does not answer: {self.log()[-2000:]}")

    def end(self, how=signal.SIGTERM):
        """End it alone; its VMs go on. Return: its status."""
        self.proc.send_signal(how)
        return self.proc.wait(20 * built.PATIENCE)

    def close(self):
        """End everything that belongs to it."""
        # The daemon first, or it would see its VMs end.
        if self.proc:
            self.proc.kill()
            self.proc.wait()
        for pid in self.vm_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.vm_pids():
            time.sleep(0.02)
        if self.has_disk:
            # Those that end may have something open there yet.
            until(lambda: not subprocess.run(["umount", self.state], check=False,
                                             capture_output=True).returncode,
                  f"{self.state} is in use", 20)
            self.has_disk = False
        if os.environ.get("MEZZ_TEST_KEEP"):
            print(f"kept {self.path}")
        else:
            shutil.rmtree(self.path)

    def vm_pids(self):
        """Processes of VMs, found by their command line, whoever their parent is by then."""
        mark = f"{self.state}/vms/".encode()
        pids = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--link" in words and any(word.startswith(mark) for word in words):
                    pids.append(int(entry.name))
        return pids

    def log(self):
        """What it has said."""
        return (self.path / "mezzd.log").read_text(errors="replace")

    def connection(self, timeout_s=30):
        """A new connection to it."""
        return UnixConnection(self.socket, timeout_s * built.PATIENCE)

    def ask(self, method, path, body=None, headers=None, connection=None):
        """One request; the body is JSON unless it is bytes. Return: the answer."""
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

    def mezz(self, *words, stdin=subprocess.DEVNULL, timeout=60):
        """The command line program on it. Return: its status, output and errors."""
        done = subprocess.run([str(built.MEZZ), *map(str, words)], check=False,
                              capture_output=True, stdin=stdin, text=True,
                              timeout=timeout * built.PATIENCE,
                              env={**os.environ, "MEZZ_SOCKET": str(self.socket)})
        return done.returncode, done.stdout, done.stderr


def raise_interrupt(number, _):
    """Being told to end is an exception, so that what was started is ended."""
    raise KeyboardInterrupt(signal.strsignal(number))


class Lab(Mezzd):
    """A mezzd with live guests, which /init of the image lets run a script each."""

    def __init__(self, memory_mib, options=None):
        super().__init__("")
        self.memory_mib = memory_mib
        self.options = options or {}
        signal.signal(signal.SIGTERM, raise_interrupt)
        signal.signal(signal.SIGHUP, raise_interrupt)

    def __enter__(self):
        for path in (built.MEZZ, built.MEZZD, built.IMAGE / "initramfs.cpio"):
            if not path.exists():
                self.close()
                raise LabError(f"{path} is not there: run make guest first")
        super().__enter__()
        for name, value in self.options.items():
            self.must("host", "--set", f"{name}={value}")
        return self

    def start(self, memory_mib=None):
        """Start mezzd, perhaps with other memory than before."""
        self.memory_mib = memory_mib or self.memory_mib
        size = self.command.index("--memory") + 1
        self.command[size] = f"{round(self.memory_mib * 1024)}K"
        return super().start()

    def kill(self):
        """SIGKILL to mezzd."""
        self.end(signal.SIGKILL)

    def must(self, *words):
        """Run `mezz`, which must succeed. Return: what it printed."""
        status, out, err = self.mezz(*words)
        if status:
            raise LabError(f"mezz {' '.join(map(str, words))}: {(out + err).strip()}")
        return out

    def call(self, method, path, body=None):
        """A request of the API, which must succeed. Return: the decoded answer."""
        answer = self.ask(method, path, body)
        if answer.status >= 300:
            raise LabError(f"{method} {path}: {answer.status} "
                           f"{answer.body.decode(errors='replace')}")
        return answer.json

    def get(self, path):
        """GET of the API."""
        return self.call("GET", path)

    def snapshot(self):
        """Host, VMs and pools at one moment."""
        return self.get("/v1/snapshot")

    def host(self):
        """Figures of the host."""
        return self.get("/v1/host")

    def vms(self):
        """All VMs, by name."""
        return {vm["config"]["name"]: vm for vm in self.get("/v1/vms")["vms"]}

    def stats(self, name):
        """Figures of one VM."""
        return self.get(f"/v1/vms/{name}")["quickStats"]

    def pids(self):
        """Processes of the VMs, by name, as mezzd knows them."""
        return {name: vm["runtime"]["pid"] for name, vm in self.vms().items()}

    def audit(self):
        """The books beside the page tables of all VMs and the kernel's figures."""
        return self.get("/v1/audit")

    def wrong(self):
        """How many entries of the books are wrong."""
        audit = self.audit()
        return audit["wrongCounts"] + audit["wrongRefs"] + audit["wrongSlots"]

    def create(self, name, settings, script, args=()):
        """Define a VM that runs a shell script and then switches itself off."""
        self.must("create", name, *settings, "--", "--append", built.command_parameter(script),
                  *args)

    def limit(self, name, limit_mib):
        """Set the limit of a VM; None: no limit."""
        size = -1 if limit_mib is None else limit_mib * built.MIB
        self.call("PATCH", f"/v1/vms/{name}", {"memoryAllocation": {"limit": size}})

    def tell(self, name, line=""):
        """Type a line on a guest's console, where its script may read it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10 * built.PATIENCE)
            sock.connect(str(self.state / "vms" / name / "console.sock"))
            # What the guest has said comes first: then the VM knows of us, and reads what is
            # typed although we leave.
            sock.recv(1)
            sock.sendall(line.encode() + b"\r")

    def said(self, name):
        """What a guest has printed on its console."""
        with contextlib.suppress(FileNotFoundError):
            return built.clean((self.state / "vms" / name / "vm.log").read_bytes())
        return ""

    def wait_said(self, name, word, timeout_s=60):
        """Until a guest has printed a line that begins so, to its end. Return: the line."""
        found = []

        def look():
            whole = self.said(name).split("\n")[:-1]
            found[:] = [line for line in whole if line.startswith(word)]
            return found
        until(look, lambda: f"{name} says {word!r}: {self.said(name)[-2000:]}", timeout_s)
        return found[0]

    def status(self, name):
        """Exit status of a guest's script, or None if it has not ended."""
        end = built.END.search(self.said(name))
        return int(end.group(1)) if end else None


def on_host(program, *words):
    """What a program of the guest image prints here, on the real processor."""
    done = subprocess.run([built.IMAGE / "bin" / program, *map(str, words)], check=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          timeout=120 * built.PATIENCE)
    return done.stdout.decode()


def mib(count_bytes):
    """Bytes in MiB."""
    return count_bytes / built.MIB


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
