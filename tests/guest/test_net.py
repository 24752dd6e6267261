#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Network cards: the user's own sockets behind one, or a program that speaks frames."""

import hashlib
import os
import pathlib
import random
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import harness
from lab import until

sys.path.insert(0, str(harness.ROOT / "tests" / "api"))
import daemon  # noqa: E402  (the folder is not a package)

MIB = 1 << 20
PHYSMAP_BYTES = 128 * MIB // 4096 * 8
ARP, IPV4, ICMP = 0x0806, 0x0800, 1
GUEST, PEER = bytes([10, 9, 8, 7]), bytes([10, 9, 8, 1])
PEER_MAC = bytes.fromhex("02aabbccddee")


class Files(socketserver.StreamRequestHandler):
    """Gives one file to whoever asks for any."""

    given = random.Random(5).randbytes(5 * MIB + 1)

    def handle(self):
        """One request of HTTP."""
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.given))
        self.wfile.write(self.given)


def serve():
    """A server for the host alone. Return: it; its port is server_address[1]."""
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def sink(taken):
    """A server that appends to a list what each connection sends. Return: its socket."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                taken.append(b"".join(iter(lambda: sock.recv(65536), b"")))
    threading.Thread(target=accept, daemon=True).start()
    return listener


def free_port():
    """A port that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def is_free(port):
    """Can somebody listen there?"""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class User(unittest.TestCase):
    """--net user."""

    def setUp(self):
        self.server = serve()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def test_both_ways(self):
        """Megabytes in and out are right; an address comes by itself, and name service."""
        taken = []
        listener = sink(taken)
        self.addCleanup(listener.close)
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        url = f"http://10.0.2.2:{self.server.server_address[1]}/"
        want = hashlib.sha256(Files.given).hexdigest()
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                run = harness.boot(f"""
                    wget -qO /tmp/got {url} && sha256sum </tmp/got
                    nc 10.0.2.2 {listener.getsockname()[1]} </tmp/got
                    ip -4 addr show eth0 | sed -n 's/.*inet //p' | cut -d' ' -f1
                    ip route | sed -n 's/^default //p'
                    cat /etc/resolv.conf
                    """, mode, ["--net", "user,host", "--memory", "256M"])
                self.assertEqual([f"{want}  -", "10.0.2.15/24", "via 10.0.2.2 dev eth0",
                                  "nameserver 10.0.2.3"],
                                 [line.strip() for line in run.out.splitlines()])
                self.assertTrue(taken.pop() == Files.given, "other bytes arrived")
                self.assertGreater(run.counter("net.received_bytes"), len(Files.given))
                self.assertGreater(run.counter("net.sent_bytes"), len(Files.given))

    def test_host_is_out_of_reach(self):
        """What listens on the host for the host alone is not for guests, unless it is said."""
        run = harness.boot(f"""
            wget -qO /dev/null http://10.0.2.2:{self.server.server_address[1]}/ 2>/dev/null || echo refused
            """, harness.MODES[0], ["--net", "user"])
        self.assertEqual("refused", run.out.strip())

    def test_forward(self):
        """A port of the host leads into the guest; it is free again when the guest has ended."""
        port = free_port()
        proc = harness.spawn(
            [*harness.mode_options(harness.MODES[0]), "--no-host", "--net", f"user,tcp={port}:80",
             "--append", harness.command_parameter(
                 "mkdir /tmp/w; echo from the guest >/tmp/w/index.html; httpd -h /tmp/w; "
                 "echo ready; read x")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(harness.end_session, proc)
        said = b""
        while b"ready" not in said:
            part = os.read(proc.stdout.fileno(), 4096)
            self.assertTrue(part, said)
            said += part
        with socket.create_connection(("127.0.0.1", port), 20 * harness.PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        self.assertTrue(answer.endswith(b"from the guest\n"), answer)
        taken = harness.program(("run", "--no-host", "--net", f"user,tcp={port}:81"))
        self.assertEqual(harness.STATUS_USAGE, taken.status)
        self.assertIn(f"--net user: cannot listen on TCP port {port}: Address already in use",
                      taken.err)
        proc.stdin.write(b"\n")
        proc.stdin.close()
        proc.stdout.read()
        proc.stdout.close()
        self.assertEqual(0, proc.wait(30 * harness.PATIENCE))
        # mezz-net ends with its VM, a moment later.
        until(lambda: is_free(port), "the port is free again", 10)

    def test_refused(self):
        """What cannot be is an error that names it."""
        for value, words in (
                ("users", "--net: 'users' is not 'user' or the path of a socket"),
                ("", "--net: '' is not 'user'"),
                ("user,tcp=1", "--net user: '1' is not [ADDRESS:]PORT:GUEST_PORT"),
                ("user,tcp=70000:1", "--net user: '70000:1' are not two ports from 1 to 65535"),
                ("user,tcp=x:80:80", "--net user: 'x' is not an IPv4 address"),
                ("user,nonsense", "--net user: 'nonsense' is not tcp=…, udp=… or host"),
                ("user,mac=1:2", "--net: 'mac=1:2' is not mac= and the address of one card"),
                ("user,mac=01:02:03:04:05:06", "is not mac= and the address of one card"),
                ("/tmp,tcp=80:80", "--net: 'tcp=80:80' is not mac=…, which a socket may have"),
                ("/does/not/exist",
                 "--net: cannot connect to /does/not/exist: No such file or directory"),
                ("/" + 120 * "x", "is too long for a socket")):
            with self.subTest(value):
                done = harness.program(("run", "--no-host", "--net", value))
                self.assertEqual(harness.STATUS_USAGE, done.status, done.said())
                self.assertIn(words, done.err)
        twice = harness.program(("run", "--no-host", "--net", "user", "--net", "user"))
        self.assertIn("--net: a VM has one network card", twice.err)


class Peer:
    """Another program at the end of the cable: one machine that answers ARP and ping."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.sock = None
        self.pings = 0
        self.guest_mac = b""
        self.failure = None
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        """Answer until five pings were answered; then pull the cable."""
        self.sock, _ = self.listener.accept()
        with self.sock, self.sock.makefile("rb") as stream:
            while self.pings < 5:
                head = stream.read(4)
                if not head:
                    return
                answer = self.answer(stream.read(struct.unpack(">I", head)[0]))
                if answer:
                    # In two pieces: a stream has no boundaries.
                    data = struct.pack(">I", len(answer)) + answer
                    self.sock.sendall(data[:3])
                    self.sock.sendall(data[3:])
            # The last answer is to be read before the end is seen.
            time.sleep(1)

    def answer(self, frame):
        """The frame that answers a frame, or nothing."""
        kind, body = struct.unpack(">H", frame[12:14])[0], frame[14:]
        self.guest_mac = frame[6:12]
        ether = frame[6:12] + PEER_MAC + frame[12:14]
        if kind == ARP and body[24:28] == PEER:
            return ether + body[:6] + b"\0\2" + PEER_MAC + PEER + body[8:18]
        if kind == IPV4 and body[9] == ICMP and body[16:20] == PEER and body[20] == 8:
            self.pings += 1
            # An echo reply: the type is 0 instead of 8, which its checksum must make up for.
            total = struct.unpack(">H", body[22:24])[0] + 0x800
            checksum = struct.pack(">H", (total & 0xffff) + (total >> 16))
            return (ether + body[:12] + PEER + GUEST + b"\0" + body[21:22] + checksum +
                    body[24:])
        return None


class Socket(unittest.TestCase):
    """--net SOCKET."""

    def test_ping_until_unplugged(self):
        """Frames go both ways; when the other end goes, the guest sees it and goes on."""
        with tempfile.TemporaryDirectory(prefix="mezz-test-") as folder:
            path = pathlib.Path(folder, "cable")
            peer = Peer(path)
            run = harness.mezz_run(
                [*harness.mode_options(harness.MODES[0]), "--no-host", "--net",
                 f"{path},mac=02:11:22:33:44:55", "--append", harness.command_parameter(
                     "ip addr add 10.9.8.7/24 dev eth0; ping -q -c 5 10.9.8.1 | grep received;"
                     "while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do usleep 50000; done;"
                     "echo unplugged")], timeout_s=100)
            peer.thread.join(10)
            peer.listener.close()
        self.assertIn("5 packets transmitted, 5 packets received", run.out, run.said())
        self.assertEqual(bytes.fromhex("021122334455"), peer.guest_mac)
        self.assertIn("\nunplugged\n", run.out)
        self.assertIn("the other end of the network is gone", run.err)
        self.assertEqual(0, run.status, run.said())


def own_bytes(pid):
    """What a process uses beside files, as the manager counts it."""
    return 1024 * sum(int(line.split()[1]) for line in
                      pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                      if line.startswith(("RssAnon:", "VmPTE:")))


class Managed(unittest.TestCase):
    """A VM of mezzd's, which lives in a sandbox."""

    def setUp(self):
        os.environ["MEZZ_IMAGE"] = str(harness.IMAGE)
        self.daemon = daemon.Daemon(memory="400MiB",
                                    vm_program=harness.BUILD / "src" / "vm" / "mezz-vm")
        self.addCleanup(self.daemon.close)
        self.daemon.start()

    def create(self, name, *net):
        """Start a VM with a network card that fetches what the host serves."""
        return self.daemon.create(
            name, 128 * MIB, start=True,
            args=["--engine", harness.MODES[0][0], "--net", ",".join(("user", *net)), "--append",
                  harness.command_parameter("wget -qO /dev/null http://10.0.2.2:$PORT/ "
                                            "&& echo fetched; sleep 1000".replace(
                                                "$PORT", str(self.server.server_address[1])))])

    def test_sandboxed(self):
        """mezz-net is in a sandbox, too, counted with its VM, and ends with it however that ends."""
        self.server = serve()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        refused = self.create("bad", "tcp=1:70000")
        self.assertNotEqual(200, refused.status)
        self.assertIn("'1:70000' are not two ports", refused.body.decode())
        answer = self.create("web", "host")
        self.assertEqual(200, answer.status, answer.body)
        pid = answer.json["runtime"]["pid"]
        helper, = harness.children(pid)
        status = pathlib.Path(f"/proc/{helper}/status").read_text()
        self.assertIn("Name:\tmezz-net", status)
        self.assertIn("Seccomp:\t2", status)
        self.assertIn("CapEff:\t0000000000000000", status)
        log = pathlib.Path(answer.json["runtime"]["log"])
        until(lambda: b"fetched" in log.read_bytes(), "the guest fetches")
        alone, helpers = own_bytes(pid), own_bytes(helper)
        # The VM's tables are counted besides. Without mezz-net it would be less than this.
        self.assertGreater(helpers, PHYSMAP_BYTES // 2)
        until(lambda: self.daemon.get("/v1/vms/web").json["quickStats"]["overhead"] >=
              alone + helpers + PHYSMAP_BYTES * 3 // 4, "mezz-net is counted", 10)
        os.kill(pid, 9)
        until(lambda: not pathlib.Path(f"/proc/{helper}").exists(), "the end of mezz-net", 10)


if __name__ == "__main__":
    harness.main()
