#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mezzd as a service with real guests: what a VM may do, its console, its power button."""

import contextlib
import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
import unittest

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "api"))
import daemon  # noqa: E402  (the folder is not a package)
from built import MEZZ_VM, MIB  # noqa: E402

PROMPT = b"mezz:~# "
ENGINE = harness.MODES[0][0]
# What a VM has open besides its own files: by path, of /proc/PID, and without a path.
DEVICES = {"soft": {"/dev/null"}, "kvm": {"/dev/null", "/dev/kvm"}}[ENGINE]
ABOUT_ITSELF = {"soft": {"status"}, "kvm": {"status", "smaps"}}[ENGINE]
NAMELESS = r"^(socket:|anon_inode:\[(event|signal|timer)fd\]" + {
    "soft": "", "kvm": r"|anon_inode:kvm-(vm|vcpu:\d+)$|anon_inode:\[userfaultfd\]"}[ENGINE] + ")"


def status_lines(pid):
    """/proc/PID/task/*/status of all threads, as dictionaries."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines()
                   if ":\t" in line)


class Service(unittest.TestCase):
    """A mezzd with VMs."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemon.Daemon(memory="600MiB", vm_program=MEZZ_VM)
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def start(self, name, *args, size=128 * MIB, **config):
        """A VM that runs, and is removed after the test."""
        answer = self.daemon.create(name, size, start=True, args=["--engine", ENGINE, *args],
                                    **config)
        self.assertEqual(200, answer.status, answer.body)
        self.addCleanup(self.daemon.ask, "DELETE", f"/v1/vms/{name}")
        self.addCleanup(self.daemon.ask, "POST", f"/v1/vms/{name}/stop",
                        {"how": "kill", "waitMs": 9000})
        return answer.json["runtime"]

    def attach(self, runtime):
        """A connection to a VM's console."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.connect(runtime["console"])
        return sock

    def read_until(self, sock, wanted, timeout_s=60):
        """What a console says, up to some bytes."""
        seen, end = b"", time.monotonic() + timeout_s * harness.PATIENCE
        while wanted not in seen:
            left = end - time.monotonic()
            ready = left > 0 and select.select([sock], [], [], left)[0]
            part = sock.recv(65536) if ready else b""
            self.assertTrue(part, f"no {wanted!r} in {seen[-1500:]!r}")
            seen += part
        return seen

    def ended(self, name):
        """What the event says about the last end of a VM; waits for it."""
        con = self.daemon.connection()
        self.addCleanup(con.close)
        con.request("GET", "/v1/events?since=0")
        lines = con.getresponse()
        while True:
            key, _, value = lines.readline().decode().partition(": ")
            event = json.loads(value) if key == "data" else {}
            if event.get("kind") == "vmEnded" and event.get("vm") == name:
                return event["text"]

    def test_end(self):
        """The event of a VM's end says how it came about."""
        for name, does, how in (
                ("off", "true", ": the guest switched itself off"),
                ("crash", "echo c >/proc/sysrq-trigger",
                 " with status 4: mezz: the guest panicked"),
                ("forced", "sleep 1000", ": it was stopped from outside")):
            with self.subTest(name):
                self.start(name, "--append", harness.command_parameter(does))
                if name == "forced":
                    self.daemon.mezz("stop", name, "--wait", "0ms", "--force")
                self.assertEqual(f"VM {name} ended{how}", self.ended(name))

    def test_reboot(self):
        """A guest that reboots runs again, on what is defined by then."""
        runtime = self.start("again", "--append", harness.command_parameter(
            "sleep 3; reboot -f"))
        status, _, err = self.daemon.mezz("set", "again", "--", "--engine", ENGINE, "--append",
                                          harness.command_parameter("echo second; sleep 1000"))
        self.assertEqual(0, status, err)
        self.assertEqual("VM again ended: the guest asked for a reset", self.ended("again"))
        self.wait_for_log(runtime, "second")
        self.assertIn("reboot: Restarting system", pathlib.Path(runtime["log"] + ".1").read_text())
        again = self.daemon.get("/v1/vms/again").json["runtime"]
        self.assertNotEqual(runtime["pid"], again["pid"])

    def wait_for_log(self, runtime, word):
        """Until a VM's log has a line."""
        end = time.monotonic() + 60 * harness.PATIENCE
        while f"\n{word}\n" not in pathlib.Path(runtime["log"]).read_text(errors="replace"):
            self.assertLess(time.monotonic(), end, f"no {word}")
            time.sleep(0.1)

    def test_sandbox(self):
        """No capability, no new privileges, system calls filtered, and only its own files open."""
        runtime = self.start("cage")
        other = self.start("other")
        # A guest runs in the sandbox only; what is before it may take a second.
        for vm in (runtime, other):
            self.read_until(self.attach(vm), PROMPT)
        for line in status_lines(runtime["pid"]):
            self.assertEqual(0, int(line["CapEff"], 16))
            self.assertEqual(0, int(line["CapPrm"], 16))
            self.assertEqual("1", line["NoNewPrivs"])
            self.assertEqual("2", line["Seccomp"])
        memory, folder = {}, pathlib.Path(runtime["log"]).parent
        for fd in pathlib.Path(f"/proc/{runtime['pid']}/fd").iterdir():
            target = os.readlink(fd)
            if target.startswith("/memfd:"):
                flags = (fd.parent.parent / "fdinfo" / fd.name).read_text().split()[3]
                memory.setdefault(target.split()[0], set()).add(int(flags, 8) & os.O_ACCMODE)
                self.assertNotIn(os.stat(fd).st_ino, [os.stat(o).st_ino for o in pathlib.Path(
                    f"/proc/{other['pid']}/fd").iterdir()
                    if os.readlink(o).startswith("/memfd:")])
            elif target.startswith(f"/proc/{runtime['pid']}/"):
                # What it tells about its own memory.
                self.assertIn(pathlib.Path(target).name, ABOUT_ITSELF)
                flags = (fd.parent.parent / "fdinfo" / fd.name).read_text().split()[3]
                self.assertEqual(os.O_RDONLY, int(flags, 8) & os.O_ACCMODE)
            elif target.startswith("/") and target not in DEVICES:
                self.assertEqual(str(folder), str(pathlib.Path(target).parent))
            elif target not in DEVICES:
                self.assertRegex(target, NAMELESS)
        self.assertEqual({os.O_RDONLY}, memory["/memfd:mezz-group"])
        self.assertEqual({os.O_RDONLY}, memory["/memfd:mezz-zip"])

    def test_console(self):
        """History, typing, two who see the same, one who does not read, and a dead mezzd."""
        runtime = self.start("con")
        first = self.attach(runtime)
        self.read_until(first, PROMPT)
        deaf = self.attach(runtime)
        second = self.attach(runtime)
        self.assertIn(b"mezz-init: up", self.read_until(second, PROMPT))
        second.sendall(b"echo $((6 * 7))\r")
        for sock in (first, second):
            self.read_until(sock, b"\n42\r")
        first.sendall(b"seq 1 30000; echo done-$((1 + 1))\r")
        self.assertIn(b"were missed", self.read_all_of_slow(deaf, second))
        self.daemon.end(signal.SIGKILL)
        second.sendall(b"echo without-$((2 + 2))\r")
        self.read_until(second, b"\nwithout-4\r")
        self.daemon.start()
        third = self.attach(runtime)
        self.assertIn(b"without-4", self.read_until(third, PROMPT))
        extra = [self.attach(runtime) for _ in range(8)]
        self.assertIn(b"too many consoles", b"".join(self.drain(sock) for sock in extra))
        os.kill(runtime["pid"], signal.SIGKILL)
        self.assertEqual(b"", self.drain(second, until_end=True)[-1:0])

    def read_all_of_slow(self, deaf, other):
        """Read one console to the end of a long output, and only then the other."""
        self.read_until(other, b"\ndone-2\r", 100)
        return self.drain(deaf)

    def drain(self, sock, until_end=False):
        """What is there to read."""
        seen = b""
        while select.select([sock], [], [], 10 if until_end else 0.5)[0]:
            with contextlib.suppress(ConnectionResetError):
                part = sock.recv(65536)
                seen += part
                if part:
                    continue
            return seen
        self.assertFalse(until_end, "the console outlives its VM")
        return seen

    def test_log_is_bounded(self):
        """A guest that prints without end does not fill the disk; the log ends with the latest."""
        runtime = self.start("talker", "--append", harness.command_parameter(
            "seq 1 160000; echo the-end; sleep 100"))
        log = pathlib.Path(runtime["log"])
        end, size = time.monotonic() + 100 * harness.PATIENCE, 0
        while b"the-end" not in log.read_bytes()[-4000:] and time.monotonic() < end:
            size = max(size, log.stat().st_size)
            time.sleep(0.05)
        text = log.read_bytes()
        self.assertIn(b"the-end", text)
        self.assertGreater(size, 512 << 10)
        self.assertLessEqual(max(size, len(text)), 1 << 20)
        self.assertGreater(len(text), 60 << 10)

    def test_command(self):
        """mezz console on a terminal: Ctrl-A x leaves it, and the terminal is as it was."""
        self.start("tty")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        before = termios.tcgetattr(slave)
        for key, said in ((b"\1x", b"goes on"), (b"poweroff -f\r", b"has ended")):
            proc = subprocess.Popen([str(daemon.MEZZ), "console", "tty"], stdin=slave, stdout=slave,
                                    stderr=slave, env={**os.environ,
                                                       "MEZZ_SOCKET": str(self.daemon.socket)})
            seen = b""
            while PROMPT not in seen:
                self.assertTrue(select.select([master], [], [], 60 * harness.PATIENCE)[0], seen)
                seen += os.read(master, 4096)
            os.write(master, key)
            self.assertEqual(0, proc.wait(30 * harness.PATIENCE))
            while select.select([master], [], [], 0.3)[0]:
                seen += os.read(master, 4096)
            self.assertIn(said, seen)
            self.assertEqual(before, termios.tcgetattr(slave))
        status, _, err = self.daemon.mezz("console", "tty")
        self.assertEqual(1, status)
        self.assertIn("does not run", err)

    def test_power_button(self):
        """mezz stop: a guest with a driver switches off, one without goes on and can be forced."""
        runtime = self.start("polite")
        self.read_until(self.attach(runtime), PROMPT)
        self.assertEqual((0, "polite is off\n", ""), self.daemon.mezz("stop", "polite"))
        self.assertIn("reboot: Power down", pathlib.Path(runtime["log"]).read_text(errors="replace"))
        runtime = self.start("rude", "--append", harness.command_parameter(
            "killall acpid; echo ready; sleep 1000"))
        self.read_until(self.attach(runtime), b"ready")
        status, _, err = self.daemon.mezz("stop", "rude", "--wait", "500ms")
        self.assertEqual(1, status)
        self.assertIn("500 ms", err)
        self.assertEqual((0, "rude is off\n", ""),
                         self.daemon.mezz("stop", "rude", "--wait", "500ms", "--force"))

    def test_host_goes_down(self):
        """All guests are shut down by their buttons: by the command, and by mezzd at its end."""
        mezzd = daemon.Daemon("600MiB", ["--stop-vms", "60s"], vm_program=MEZZ_VM)
        self.addCleanup(mezzd.close)
        mezzd.start()
        for how in ("command", "signal"):
            runtimes = []
            for name in ("one", "two"):
                if how == "command":
                    mezzd.create(name, 128 * MIB, args=["--engine", harness.MODES[0][0]])
                runtimes.append(mezzd.ask("POST", f"/v1/vms/{name}/start").json["runtime"])
            for runtime in runtimes:
                self.read_until(self.attach(runtime), PROMPT)
            if how == "command":
                status, out, err = mezzd.mezz("stop", "--all", "--force", "--wait", "60s")
                self.assertEqual((0, {"one is off", "two is off"}, ""),
                                 (status, set(out.splitlines()), err))
            else:
                mezzd.proc.terminate()
                self.assertEqual(0, mezzd.proc.wait(90))
            self.assertEqual([], mezzd.vm_pids())
            for runtime in runtimes:
                self.assertIn("reboot: Power down",
                              pathlib.Path(runtime["log"]).read_text(errors="replace"))
        self.assertNotIn("is ended", mezzd.log())

    def test_map(self):
        """Guest virtual to physical by the guest's own tables, and on to the host's frames."""
        runtime = self.start("map")
        self.read_until(self.attach(runtime), PROMPT)
        # Linux maps all physical memory there, in order, when nothing is randomized.
        direct = 0xffff888000000000
        for physical in (0x100000, 0x1234000, 120 * MIB):
            found = self.daemon.get("/v1/vms/map/map", virtual=direct + physical, count=3).json
            self.assertEqual([4, 3, 2], [step["level"] for step in found["walk"]][:3])
            self.assertEqual(physical >> 12, found["runs"][0]["first"])
            self.assertEqual(f"{direct + physical:#018x}", found["runs"][0]["virtual"])
            self.assertEqual(3, sum(run["count"] for run in found["runs"]))
        found = self.daemon.get("/v1/vms/map/map", virtual=0xffff080000000000, count=1).json
        self.assertEqual([], found["runs"])
        self.assertIn("not present", found["walkEnd"])
        # The kernel's text: under KVM what was never touched is HOME, too, and has no frame.
        found = self.daemon.get("/v1/vms/map/map", first=4096, count=256, frames=1).json
        own = [run for run in found["runs"] if run["state"] == "home" and run["frame"]]
        with open("/proc/self/pagemap", "rb") as pagemap:
            permitted = any(int.from_bytes(pagemap.read(8), "little") & ((1 << 55) - 1)
                            for _ in range(1) if pagemap.seek(id(own) >> 12 << 3) >= 0)
        self.assertEqual(permitted, bool(own))
        frames = [run["frame"] + i for run in own for i in range(run["count"])]
        self.assertEqual(len(frames), len(set(frames)))
        status, text, err = self.daemon.mezz("map", "map", "--virtual", hex(direct), "--frames")
        self.assertEqual((0, ""), (status, err))
        self.assertIn("PML4", text)

    def test_bad_start(self):
        """A VM that cannot be made: its own words reach whoever started it."""
        answer = self.daemon.create("bad", 64 * MIB, start=True, args=["--kernel", "/nonexistent"])
        self.addCleanup(self.daemon.ask, "DELETE", "/v1/vms/bad")
        self.assertEqual(500, answer.status)
        self.assertIn("/nonexistent", answer.json["message"])


if __name__ == "__main__":
    harness.main()
