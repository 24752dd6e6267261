#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that misbehave, and places where a mezzd cannot work: who caused it is told, nobody
else suffers."""

import contextlib
import http.client
import os
import pathlib
import resource
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time
import unittest

import daemon
import lab
from daemon import MIB, TOKEN

# For what comes at last, on a slow machine too.
WAIT_S = 90

CLIENTS = 1000
BODY_MAX = 64 << 10


def wait_vm(mezzd, condition):
    """Until what is told of the VM "a" is so."""
    def told():
        return mezzd.get("/v1/vms/a").json
    lab.until(lambda: condition(told()), told, WAIT_S)


def raw(daemon_, data, timeout=30):
    """Send bytes on a new connection; return all that comes back until the other side closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(str(daemon_.socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                answer += part
        return answer


class Clients(unittest.TestCase):
    """One mezzd, and clients of all kinds."""

    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        cls.daemon = daemon.Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def alive(self):
        """It answers, and within a time that a person would not notice."""
        start = time.monotonic()
        self.assertEqual(200, self.daemon.get("/v1/host").status)
        return time.monotonic() - start

    def test_huge_bodies(self):
        """Announced and not announced, just possible and just not."""
        name = b'{"name":"x","memorySize":67108864,"args":["'
        for size, status in ((BODY_MAX, 201), (BODY_MAX + 1, 413), (100 * BODY_MAX, 413)):
            with self.subTest(size=size):
                body = name + b"a" * (size - len(name) - 3) + b'"]}'
                answer = self.daemon.ask("POST", "/v1/vms", body)
                self.assertEqual(status, answer.status, answer.body[:300])
                if status == 413:
                    self.assertIn(str(BODY_MAX), answer.json["message"])
        self.assertEqual(200, self.daemon.ask("DELETE", "/v1/vms/x").status)
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        head = b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        answer = raw(self.daemon, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20 +
                     b"0\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:200])
        # Without end: it is cut off, and nobody keeps the bytes.
        raw(self.daemon, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2000)
        self.alive()

    def test_deep_json(self):
        """Brackets without end, and numbers that nobody can hold."""
        for body in (b'{"args":' + b"[" * 30000, b"{" * 30000, b'{"a":' * 5000,
                     b'{"memorySize":' + b"9" * 5000 + b"}", b'{"memorySize":1e999}',
                     b'{"name":"\\ud800","memorySize":1}', b'{"name":"a\\u0000b","memorySize":1}'):
            with self.subTest(body=body[:20]):
                answer = self.daemon.ask("POST", "/v1/vms", body)
                self.assertEqual(400, answer.status, answer.body)

    def test_no_text(self):
        """Bytes that are no UTF-8, and characters that a message cuts in half: still an answer."""
        cut = '{"' + "a" * 59 + "é" * 9 + '":1}'
        for method, path, body, status in (
                ("GET", "/v1/vms?%ff=1", None, 400), ("GET", "/v1/vms/%ff%c3", None, 404),
                ("PUT", "/v1/pools/%c3", b"{}", 400), ("POST", "/v1/vms", cut.encode(), 400)):
            with self.subTest(path=path):
                answer = self.daemon.ask(method, path, body)
                self.assertEqual(status, answer.status, answer.body)
                self.assertTrue(answer.json["message"])

    def test_no_http(self):
        """Bytes that are no request."""
        for data in (b"\0" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000,
                     b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                     b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                     b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                     b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                     b"GET /v1/host%00/../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            with self.subTest(data=data[:30]), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(30)
                sock.connect(str(self.daemon.socket))
                with contextlib.suppress(OSError):
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    answer = sock.recv(4096)
                    self.assertFalse(answer.startswith(b"HTTP/1.1 2"), answer)
                self.alive()

    @contextlib.contextmanager
    def clients(self, *words):
        """A thousand connections that say these in turn, and nothing more; closed at the end."""
        with contextlib.ExitStack() as held:
            for i in range(CLIENTS):
                sock = held.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(30)
                sock.connect(str(self.daemon.socket))
                sock.sendall(words[i % len(words)])
            yield
        self.alive()

    def test_thousand_clients(self):
        """A thousand half-open connections: others are not slowed."""
        before = statistics.median(self.alive() for _ in range(20))
        # Some say nothing, some half a request, some half a body.
        with self.clients(b"", b"GET /v1/ho", b"POST /v1/vms HTTP/1.1\r\nHost: x\r\n"
                          b"Content-Length: 100\r\n\r\n{"):
            during = statistics.median(self.alive() for _ in range(20))
            self.assertLess(during, max(20 * before, 0.5))
            self.assertEqual(201, self.daemon.create("while").status)
            self.assertEqual(200, self.daemon.ask("DELETE", "/v1/vms/while").status)

    def test_thousand_listeners(self):
        """A thousand who follow events, of whom none reads, and one who does."""
        with self.clients(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"):
            con = self.daemon.connection()
            self.addCleanup(con.close)
            con.request("GET", "/v1/events")
            response = con.getresponse()
            response.readline()
            self.daemon.ask("PUT", "/v1/options/Mem.ShareScanTime", {"value": "70"})
            while b"Mem.ShareScanTime" not in response.readline():
                pass
            self.assertLess(self.alive(), 5)

    def test_socket_is_always_there(self):
        """While one mezzd follows another its socket may refuse, but it does not vanish."""
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        mezzd.start()
        lost, done = [], threading.Event()

        def look():
            while not done.is_set():
                if not mezzd.socket.is_socket():
                    lost.append(time.monotonic())
        watcher = threading.Thread(target=look)
        watcher.start()
        for _ in range(10):
            mezzd.end(signal.SIGKILL)
            mezzd.start()
        done.set()
        watcher.join()
        self.assertEqual([], lost)
        self.assertEqual({mezzd.socket}, {path for path in mezzd.path.iterdir()
                                          if path.is_socket()})
        self.assertEqual(0o660, mezzd.socket.stat().st_mode & 0o777)
        # One that ends leaves the socket of another that has taken its place.
        mezzd.socket.unlink()
        other = daemon.Daemon()
        self.addCleanup(other.close)
        other.command[other.command.index("--socket") + 1] = str(mezzd.socket)
        other.socket = mezzd.socket
        other.start()
        mezzd.end()
        self.assertEqual(200, other.get("/v1/host").status)
        other.end()
        self.assertFalse(mezzd.socket.exists())

    def test_removed_while_started(self):
        """One client starts a VM, another removes it: what runs is defined."""
        for i in range(30):
            self.assertEqual(201, self.daemon.create("race", 16 * MIB).status)
            starter = threading.Thread(target=self.daemon.ask,
                                       args=("POST", "/v1/vms/race/start"))
            starter.start()
            time.sleep(i * 0.0003)
            removed = self.daemon.ask("DELETE", "/v1/vms/race")
            self.assertIn(removed.status, (200, 409), removed.body)
            starter.join()
            # A VM that runs without a definition is told, too.
            there = self.daemon.get("/v1/vms/race").status == 200
            self.assertEqual(removed.status == 409, there, removed.body)
            if there:
                self.daemon.ask("POST", "/v1/vms/race/stop", {"how": "kill", "waitMs": 9000})
                self.assertEqual(200, self.daemon.ask("DELETE", "/v1/vms/race").status)

    def test_vanishing_clients(self):
        """Clients that go before their answer, over and over, cost nothing that stays."""
        fds = pathlib.Path(f"/proc/{self.daemon.proc.pid}/fd")
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(self.daemon.socket))
                sock.sendall(b"GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
        lab.until(lambda: len(list(fds.iterdir())) < 60, "few descriptors", WAIT_S)


class Token(unittest.TestCase):
    """TCP needs a token; the Unix socket does not."""

    def ask(self, port, path, token=None):
        """Status and body of a request over TCP."""
        con = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        con.request("GET", path, headers={"Authorization": token} if token else {})
        answer = lab.Answer(con.getresponse())
        con.close()
        return answer

    def test_token(self):
        """Right, wrong, missing, for what exists and what does not."""
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        port = mezzd.use_tcp()
        mezzd.start()
        self.assertEqual(200, self.ask(port, "/openapi.json").status)
        for wrong in (None, "Bearer", "Bearer " + TOKEN[:-1], "Bearer " + TOKEN + "x",
                      "Basic " + TOKEN):
            for path in ("/v1/host", "/metrics", "/nowhere", "/v1/events"):
                answer = self.ask(port, path, wrong)
                self.assertEqual((401, 401), (answer.status, answer.json["status"]), (path, wrong))
        self.assertEqual(200, self.ask(port, "/v1/host", "Bearer " + TOKEN).status)
        self.assertEqual(404, self.ask(port, "/nowhere", "bearer " + TOKEN).status)
        done = subprocess.run([str(daemon.MEZZ), "ls", "--url", f"http://127.0.0.1:{port}"],
                              check=False, capture_output=True, timeout=20, text=True,
                              env={**os.environ, "MEZZ_TOKEN": TOKEN})
        self.assertEqual(0, done.returncode, done.stderr)

    def test_bad_tokens(self):
        """Without a token, or with a short one, nothing listens on TCP."""
        for text, word in ((None, "token-file"), ("short\n", "16"), ("", "16")):
            with self.subTest(text=text):
                mezzd = daemon.Daemon()
                self.addCleanup(mezzd.close)
                mezzd.command += ["--tcp", "127.0.0.1:1"]
                if text is not None:
                    token = mezzd.path / "token"
                    token.write_text(text)
                    mezzd.command += ["--token-file", str(token)]
                done = subprocess.run(mezzd.command, check=False, capture_output=True, timeout=20,
                                      text=True)
                self.assertEqual(1, done.returncode)
                self.assertIn(word, done.stderr)


class Places(unittest.TestCase):
    """State directories that cannot be used."""

    def refused(self, mezzd, word):
        """It says why, and ends."""
        done = subprocess.run(mezzd.command, check=False, capture_output=True, timeout=20,
                              text=True)
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn(word, done.stderr.strip().splitlines()[-1], done.stderr)

    def daemon(self, **kwargs):
        """A mezzd that is ended after the test."""
        mezzd = daemon.Daemon(**kwargs)
        self.addCleanup(mezzd.close)
        return mezzd

    def test_second(self):
        """A second mezzd on the same directory, and one on the same socket."""
        first = self.daemon().start()
        second = self.daemon()
        second.command[second.command.index("--state-dir") + 1] = str(first.state)
        self.refused(second, str(first.state))
        third = self.daemon()
        third.command[third.command.index("--socket") + 1] = str(first.socket)
        self.refused(third, str(first.socket))
        self.assertEqual(200, first.get("/v1/host").status)

    def daemon_on(self, options):
        """A mezzd whose state directory is a file system of its own."""
        mezzd = self.daemon()
        mezzd.state.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mezzd.state)],
                          check=False, capture_output=True).returncode:
            self.skipTest("mounting is not permitted here")
        self.addCleanup(subprocess.run, ["umount", str(mezzd.state)], check=True)
        return mezzd

    @unittest.skipIf(os.geteuid(), "only root can mount")
    def test_read_only(self):
        """A file system that cannot be written."""
        self.refused(self.daemon_on("ro"), "Read-only file system")

    @unittest.skipIf(os.geteuid(), "only root can mount")
    def test_disk_full(self):
        """A disk without room: for the definitions at start, and for a VM's swap file."""
        mezzd = self.daemon_on("size=2m")
        filler = mezzd.state / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
            while out.write(bytes(4096)):
                pass
        self.refused(mezzd, "no space left on the disk: ")
        self.refused(mezzd, "KiB needed, 0B free, ")
        filler.unlink()
        mezzd.start()
        self.addCleanup(mezzd.end)
        mezzd.create("a")
        answer = mezzd.ask("POST", "/v1/vms/a/start")
        self.assertEqual(507, answer.status, answer.body)
        self.assertRegex(answer.json["message"], r"64.*MiB|MiB.*64")
        self.assertEqual("poweredOff",
                         mezzd.get("/v1/vms/a").json["runtime"]["powerState"])
        # All of it reserved needs no swap file.
        mezzd.ask("PATCH", "/v1/vms/a", {"memoryAllocation": {"reservation": 64 * MIB}})
        self.assertEqual(200, mezzd.ask("POST", "/v1/vms/a/start").status)
        mezzd.ask("POST", "/v1/vms/a/stop", {"how": "kill", "waitMs": 9000})

    def expect(self, mezzd, method, path, body, status, word=""):
        """One request, and what comes of it."""
        answer = mezzd.ask(method, path, body)
        self.assertEqual(status, answer.status, answer.body)
        self.assertIn(word, answer.body.decode())

    def get_on(self, mezzd, *names):
        """These VMs go on, and no page holds what was not written there."""
        def ops(name):
            # As struct fake_progress says.
            words = (mezzd.state / "vms" / name / "progress").read_bytes()[:16]
            done, errors = struct.unpack("=QQ", words)
            self.assertEqual(0, errors)
            return done
        before = {name: ops(name) for name in names}
        lab.until(lambda: all(ops(name) >= before[name] + 2000 for name in names),
                  lambda: f"{before}, and now {mezzd.get('/v1/vms').json}", WAIT_S)

    def wait_log(self, mezzd, word, seen=0):
        """Until it has said that so many times more."""
        lab.until(lambda: mezzd.log().count(word) > seen,
                  lambda: f"{word}: {mezzd.log()[-1000:]}", WAIT_S)

    @unittest.skipIf(os.geteuid(), "only root can mount")
    def test_disk_fills_up(self):
        """The disk fills up while VMs are swapped, and mezzd is killed: they go on, and all does later."""
        mezzd = self.daemon()
        if not mezzd.mount_state(256):
            self.skipTest("mounting is not permitted here")
        mezzd.start()
        mezzd.ask("PUT", "/v1/options/Mem.MemZipEnable", {"value": "0"})
        mezzd.create("calm", 16 * MIB, start=True, memoryAllocation={"reservation": 16 * MIB})
        for name in ("a", "b"):
            self.expect(mezzd, "POST", "/v1/vms", {
                "name": name, "memorySize": 64 * MIB, "pageSharing": False,
                "args": ["--common", "0", "--drop", "0", "--seed", "1"]}, 201)
        self.expect(mezzd, "POST", "/v1/vms/a/start", None, 200)
        wait_vm(mezzd, lambda vm: vm["quickStats"]["private"] == 64 * MIB)
        # The swap file is made, but this disk gives it no room before it is needed.
        filler = mezzd.fill_disk()
        os.truncate(filler, filler.stat().st_size - MIB)
        limit = {"memoryAllocation": {"limit": 24 * MIB}}
        self.expect(mezzd, "PATCH", "/v1/vms/a", limit, 200)
        mezzd.fill_disk("rest")
        full = "the swap file of VM a cannot be written: No space left on device"
        self.wait_log(mezzd, full)
        self.expect(mezzd, "POST", "/v1/vms/b/start", None, 507, "64 MiB needed, 0 MiB available")
        self.expect(mezzd, "PATCH", "/v1/vms/calm", limit, 507,
                    "cannot write the settings of VM calm: no space left on the disk: 8KiB needed, ")
        self.expect(mezzd, "POST", "/v1/vms", {"name": "c", "memorySize": 16 * MIB, "args": [
            "--append", "x" * 20000]}, 507, "no space left on the disk: 64KiB needed, ")
        before = [(vm["config"], vm["runtime"]["pid"]) for vm in mezzd.get("/v1/vms").json["vms"]]
        for times in (1, 2):
            self.get_on(mezzd, "a", "calm")
            mezzd.end(signal.SIGKILL)
            mezzd.start()
            self.assertEqual(before, [(vm["config"], vm["runtime"]["pid"])
                                      for vm in mezzd.get("/v1/vms").json["vms"]])
            self.wait_log(mezzd, full, times)
        filler.unlink()
        self.wait_log(mezzd, "the swap file of VM a can be written again")
        wait_vm(mezzd, lambda vm: vm["quickStats"]["swapped"] >= 36 * MIB)
        self.expect(mezzd, "PATCH", "/v1/vms/calm", limit, 200)
        self.expect(mezzd, "DELETE", "/v1/vms/b", None, 200)
        self.get_on(mezzd, "a", "calm")
        audit = mezzd.get("/v1/audit").json
        self.assertEqual([0, 0, 0], [audit[key] for key in audit if key.startswith("wrong")])

    def test_bad_memory(self):
        """Machine memory that there is not."""
        for memory, word in (("1MiB", "16 MiB"), ("101%", "100"), ("900TiB", "of this host"),
                             ("lots", "lots"), ("64", "64")):
            with self.subTest(memory=memory):
                self.refused(self.daemon(memory=memory), word)

    def test_broken_store(self):
        """Definitions that are no database are not overwritten."""
        mezzd = self.daemon().start()
        mezzd.end()
        stores = [f for f in mezzd.state.iterdir() if f.is_file() and f.stat().st_size > 4096]
        self.assertEqual(1, len(stores), list(mezzd.state.iterdir()))
        stores[0].write_bytes(b"this is no database" * 1000)
        self.refused(mezzd, stores[0].name)
        self.assertTrue(stores[0].read_bytes().startswith(b"this is no"))

    def test_no_program(self):
        """A VM program that is not there, and one that ends at once."""
        for program, word in (("/nonexistent/vm", "/nonexistent/vm"), ("/bin/false", "status 1")):
            with self.subTest(program=program):
                mezzd = self.daemon(vm_program=program).start()
                folder = mezzd.state / "vms" / "a"
                folder.mkdir(parents=True)
                (folder / "vm.log").write_text("words of an earlier run\n")
                answer = mezzd.create("a", start=True)
                self.assertNotIn("earlier", answer.json["message"] + mezzd.log())
                self.assertGreaterEqual(answer.status, 500)
                if program != "/bin/false":
                    self.assertIn(word, answer.json["message"])
                else:
                    self.assertIn(word, mezzd.log())


class Survival(unittest.TestCase):
    """Definitions and VMs outlive a mezzd."""

    def test_restart(self):
        """kill -9, and all is as it was: definitions, pools, options, VMs that run."""
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        mezzd.start()
        mezzd.ask("PUT", "/v1/pools/p", {"memoryAllocation": {"shares": {"level": "low"}}})
        mezzd.ask("PUT", "/v1/options/Mem.IdleTax", {"value": "33"})
        mezzd.create("off", autostart=False)
        mezzd.create("auto", 16 * MIB, autostart=True, resourcePool="p")
        mezzd.create("on", start=True, memoryAllocation={"reservation": 8 * MIB})
        before = mezzd.get("/v1/vms/on").json
        configs = [vm["config"] for vm in mezzd.get("/v1/vms").json["vms"]]
        mezzd.end(signal.SIGKILL)
        os.kill(before["runtime"]["pid"], 0)
        mezzd.start()

        def states():
            return {vm["config"]["name"]: vm["runtime"]["powerState"]
                    for vm in mezzd.get("/v1/vms").json["vms"]}
        lab.until(lambda: states() == {"auto": "poweredOn", "off": "poweredOff", "on": "poweredOn"},
                  states, WAIT_S)
        self.assertEqual(configs, [vm["config"] for vm in mezzd.get("/v1/vms").json["vms"]])
        self.assertEqual(before["runtime"]["pid"], mezzd.get("/v1/vms/on").json["runtime"]["pid"])
        self.assertIn("33", [o["value"] for o in mezzd.get("/v1/options").json["options"]
                             if o["name"] == "Mem.IdleTax"])

    def test_found_at_once(self):
        """Whoever asks a new mezzd sees what runs as running, and can read how it was found."""
        mezzd = self.with_vm()
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            mezzd.end(how)
            mezzd.start()
            vm = mezzd.get("/v1/vms/a").json
            self.assertEqual("poweredOn", vm["runtime"]["powerState"])
            self.assertLess(0, vm["quickStats"]["private"])
            con = mezzd.connection(5)
            con.request("GET", "/v1/events?since=0")
            with contextlib.closing(con):
                self.assertTrue(any(b"VM a was found running" in line
                                    for line in con.getresponse()))

    def with_vm(self, **config):
        """A mezzd with a VM that has touched some of its memory."""
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        mezzd.start()
        self.assertEqual(200, mezzd.create("a", start=True, **config).status)
        return mezzd

    def stand_still(self, pid):
        """Stop a process, all its threads."""
        os.kill(pid, signal.SIGSTOP)
        while any(b"State:\tT" not in (task / "status").read_bytes()
                  for task in pathlib.Path(f"/proc/{pid}/task").iterdir()):
            time.sleep(0.01)

    @contextlib.contextmanager
    def unreachable(self, end):
        """A new mezzd that cannot connect to the VM which an old one has left; then it can."""
        mezzd = self.with_vm()
        pid = mezzd.get("/v1/vms/a").json["runtime"]["pid"]
        mezzd.end(signal.SIGKILL)
        self.addCleanup(end, pid)
        self.stand_still(pid)
        with contextlib.ExitStack() as held:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                    held.enter_context(sock)
                    sock.setblocking(False)
                    sock.connect(str(mezzd.state / "vms" / "a" / "vm.sock"))
            mezzd.start()
            yield mezzd, pid

    def kill(self, pid):
        """End it, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def test_unreachable(self):
        """A VM that runs, but cannot be connected to now: its memory and its name are taken."""
        with self.unreachable(self.kill) as (mezzd, pid):
            self.assertTrue((mezzd.state / "vms" / "a" / "swap").exists())
            self.assertIn("cannot take over VM a: it does not answer", mezzd.log())
            vm = mezzd.get("/v1/vms/a").json
            self.assertEqual(("notResponding", pid),
                             (vm["runtime"]["powerState"], vm["runtime"]["pid"]))
            for method, path, body, status in (
                    ("POST", "/v1/vms/a/start", None, 409), ("DELETE", "/v1/vms/a", None, 409),
                    ("POST", "/v1/vms/a/stop", {"how": "guest"}, 503),
                    ("PATCH", "/v1/vms/a", {"memoryAllocation": {"limit": 32 * MIB}}, 503)):
                answer = mezzd.ask(method, path, body)
                self.assertEqual(status, answer.status, answer.body)
            # After some seconds it is taken to have all, so that others can go on.
            wait_vm(mezzd, lambda vm: vm["quickStats"]["private"] == 64 * MIB)
            self.assertEqual(200, mezzd.create("b", 16 * MIB, start=True).status)
        os.kill(pid, signal.SIGCONT)
        wait_vm(mezzd, lambda vm: vm["runtime"]["powerState"] == "poweredOn")
        self.assertEqual(pid, mezzd.get("/v1/vms/a").json["runtime"]["pid"])
        self.assertEqual(200, mezzd.ask("PATCH", "/v1/vms/a", {
            "memoryAllocation": {"limit": 32 * MIB}}).status)

    def test_unreachable_killed(self):
        """Such a VM can be killed, and then it is gone with all it had."""
        with self.unreachable(self.kill) as (mezzd, _):
            self.assertEqual((0, "a is off\n", ""), mezzd.mezz("stop", "a", "--kill"))
            wait_vm(mezzd, lambda vm: vm["runtime"]["powerState"] == "poweredOff")
            self.assertFalse((mezzd.state / "vms" / "a" / "swap").exists())
        self.assertEqual(200, mezzd.ask("POST", "/v1/vms/a/start").status)

    def test_damaged_settings(self):
        """A VM whose settings file is damaged cannot be taken over, but it counts and can be ended."""
        mezzd = self.with_vm()
        pid = mezzd.get("/v1/vms/a").json["runtime"]["pid"]
        self.addCleanup(self.kill, pid)
        mezzd.end(signal.SIGKILL)
        settings = mezzd.state / "vms" / "a" / "settings"
        whole = settings.read_text()
        settings.write_text("name=a size=many\n")
        mezzd.start()
        self.assertIn("cannot take over VM a: the settings are damaged; its memory counts",
                      mezzd.log())
        wait_vm(mezzd, lambda vm: vm["quickStats"]["private"] == 64 * MIB)
        settings.write_text(whole)
        wait_vm(mezzd, lambda vm: vm["runtime"]["powerState"] == "poweredOn")
        self.assertEqual((0, "a is off\n", ""), mezzd.mezz("stop", "a", "--kill"))


if __name__ == "__main__":
    unittest.main()
