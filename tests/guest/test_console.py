#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The terminal as the guest's console: it works, and gets its modes back on every way out."""

import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time
import unittest

import harness
from harness import PATIENCE

PROMPT = b"mezz:~# "
LIMIT = ["--timeout", str(round(60 * PATIENCE))]
LIMIT_S = 60 * PATIENCE


class Terminal:
    """mezz run on a pseudo-terminal of its own."""

    def __init__(self, options=()):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.proc = harness.spawn(["--timeout", round(100 * PATIENCE), *options],
                                  stdin=self.slave, stdout=self.slave, stderr=self.slave)
        self.seen = b""

    def read_until(self, wanted, timeout_s=60):
        """Read until a pattern is there. Return what came before it and it."""
        timeout_s *= PATIENCE
        end = time.monotonic() + timeout_s
        while not (found := re.search(wanted, self.seen)):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"no {wanted!r} within {timeout_s} s: {self.seen[-2000:]!r}")
            self.seen += os.read(self.master, 65536)
        text, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return text

    def type(self, data):
        """What a person types."""
        os.write(self.master, data)

    def host_pid(self):
        """The process of the VM's memory manager."""
        return harness.children(self.proc.pid)[0]

    def vm_pid(self):
        """The process of the VM."""
        return harness.children(self.host_pid())[0]

    def is_raw(self):
        """No echo, no lines, no signals of keys."""
        flags = termios.tcgetattr(self.slave)[3]
        return not flags & (termios.ECHO | termios.ICANON | termios.ISIG)

    def wait(self, timeout_s=20):
        """Until the program has ended. Return its status."""
        end = time.monotonic() + timeout_s * PATIENCE
        while self.proc.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"still running: {self.seen[-2000:]!r}")
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65536)
        return self.proc.returncode

    def close(self):
        """End what is left."""
        harness.end_session(self.proc)
        os.close(self.master)
        os.close(self.slave)


def is_alive(pid):
    """Has a process anything open? Its memory goes before its files do, so /proc/PID/exe tells
    too early, and its first thread before the others; nobody may be there to collect it."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False
    return threads > 1 or stat.rpartition(")")[2].split()[0] not in "ZX"


class Console(unittest.TestCase):
    """Ways out of a VM on a terminal."""

    def start(self, options=()):
        """A terminal that is closed after the test."""
        terminal = Terminal(options)
        self.addCleanup(terminal.close)
        return terminal

    def restored(self, terminal):
        """The modes are those from before."""
        self.assertEqual(terminal.before, termios.tcgetattr(terminal.slave))

    def test_shell(self):
        """A shell with echo, Ctrl-C for the guest, Ctrl-A twice, and a normal end."""
        terminal = self.start()
        terminal.read_until(PROMPT)
        self.assertTrue(terminal.is_raw())
        terminal.type(b"echo $((6 * 7))\r")
        self.assertIn(b"42", terminal.read_until(PROMPT))
        terminal.type(b"sleep 60\r")
        time.sleep(1)
        terminal.type(b"\3")
        terminal.read_until(PROMPT, 20)
        terminal.type(b"echo 12\1\0013\r")  # the line editor goes to the start
        terminal.read_until(b"3echo 12")
        terminal.type(b"\3")
        terminal.read_until(PROMPT)
        terminal.type(b"\1h")
        terminal.read_until(b"Ctrl-A x")
        long = b"x" * 600
        terminal.type(b"echo " + long + b" | wc -c\r")
        terminal.read_until(rb"\n601\r")
        terminal.read_until(PROMPT)
        terminal.type(b"poweroff -f\r")
        self.assertEqual(0, terminal.wait(), terminal.seen)
        self.restored(terminal)

    def test_command_key(self):
        """Ctrl-A x."""
        terminal = self.start()
        terminal.read_until(b"mezz-init: up")
        terminal.type(b"\1x")
        self.assertEqual(harness.STATUS_STOPPED, terminal.wait(), terminal.seen)
        self.restored(terminal)

    def test_terminate(self):
        """SIGTERM to the program that was typed, and to the VM's process."""
        for whom in ("mezz", "vm"):
            with self.subTest(whom=whom):
                terminal = self.start()
                terminal.read_until(b"mezz-init: up")
                self.assertTrue(terminal.is_raw())
                vm = terminal.vm_pid()
                os.kill(terminal.proc.pid if whom == "mezz" else vm, signal.SIGTERM)
                self.assertEqual(harness.STATUS_STOPPED, terminal.wait(), terminal.seen)
                self.restored(terminal)
                self.assertFalse(os.path.exists(f"/proc/{vm}"))

    def test_kill_vm(self):
        """kill -9 of the VM's process."""
        terminal = self.start()
        terminal.read_until(b"mezz-init: up")
        os.kill(terminal.vm_pid(), signal.SIGKILL)
        self.assertEqual(128 + signal.SIGKILL, terminal.wait(), terminal.seen)
        terminal.seen.index(b"signal 9")
        self.restored(terminal)

    def folder_of(self, host):
        """The state directory of a manager, which is there while it runs."""
        words = pathlib.Path(f"/proc/{host}/cmdline").read_bytes().split(b"\0")
        folder = words[words.index(b"--state-dir") + 1].decode()
        self.assertTrue(os.path.isdir(folder))
        return folder

    def gone(self, condition):
        """Until something is no more."""
        end = time.monotonic() + 10 * PATIENCE
        while condition() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertFalse(condition())

    def test_kill_mezz(self):
        """kill -9 of the program that was typed: nothing stays behind, the terminal is restored."""
        terminal = self.start()
        terminal.read_until(b"mezz-init: up")
        host, vm = terminal.host_pid(), terminal.vm_pid()
        folder = self.folder_of(host)
        os.kill(terminal.proc.pid, signal.SIGKILL)
        terminal.wait()
        for pid in (vm, host):
            self.gone(lambda pid=pid: os.path.exists(f"/proc/{pid}/exe"))
        self.gone(lambda: os.path.exists(folder))
        self.restored(terminal)

    def test_kill_host(self):
        """kill -9 of the memory manager: the VM ends, the terminal is restored."""
        terminal = self.start()
        terminal.read_until(b"mezz-init: up")
        host, vm = terminal.host_pid(), terminal.vm_pid()
        folder = self.folder_of(host)
        os.kill(host, signal.SIGKILL)
        self.assertEqual(128 + signal.SIGKILL, terminal.wait(), terminal.seen)
        self.assertFalse(os.path.exists(f"/proc/{vm}/exe"))
        self.assertFalse(os.path.exists(folder))
        self.restored(terminal)

    def test_stale_folder(self):
        """What a run left behind whose processes were all killed at once, the next one removes."""
        with tempfile.TemporaryDirectory(prefix="mezz-test-") as tmp:
            env = {**os.environ, "TMPDIR": tmp, "MEZZ_IMAGE": str(harness.IMAGE)}
            command = [str(harness.MEZZ), "run", *LIMIT]
            proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    start_new_session=True, env=env)
            while b"mezz-init: up" not in proc.stdout.readline():
                pass
            left = list(pathlib.Path(tmp).iterdir())
            os.utime(left[0], (0, 0))
            # In use, however old it looks.
            subprocess.run([*command, "--kernel", "/nonexistent"], check=False, env=env,
                           capture_output=True)
            self.assertEqual(left, list(pathlib.Path(tmp).iterdir()))
            host = harness.children(proc.pid)[0]
            vm = harness.children(host)[0]
            harness.end_session(proc)
            proc.stdout.close()
            # As long as one of them lives, the folder is in use.
            for pid in (host, vm):
                self.gone(lambda pid=pid: is_alive(pid))
            os.utime(left[0], (0, 0))
            subprocess.run([*command, "--kernel", "/nonexistent"], check=False, env=env,
                           capture_output=True)
            self.assertFalse(list(pathlib.Path(tmp).iterdir()))

    def test_alone(self):
        """Without a memory manager the same keys work, and there is no further process."""
        terminal = self.start(["--no-host"])
        terminal.read_until(b"mezz-init: up")
        self.assertTrue(terminal.is_raw())
        self.assertEqual([], harness.children(terminal.host_pid()))
        terminal.type(b"\1x")
        self.assertEqual(harness.STATUS_STOPPED, terminal.wait(), terminal.seen)
        self.restored(terminal)

    def test_power_button(self):
        """Ctrl-A p presses the power button, and this guest obeys it."""
        terminal = self.start()
        terminal.read_until(PROMPT)
        terminal.type(b"\1p")
        terminal.read_until(b"mezz-init: power button")
        self.assertEqual(0, terminal.wait(), terminal.seen)
        self.restored(terminal)

    def test_bad_option(self):
        """An error message before anything runs, in full lines."""
        terminal = self.start(["--memory", "lots"])
        self.assertEqual(harness.STATUS_USAGE, terminal.wait())
        self.assertTrue(terminal.seen.startswith(b"mezz: --memory"), terminal.seen)
        self.assertTrue(terminal.seen.endswith(b"\r\n"), terminal.seen)
        self.restored(terminal)

    def test_time_limit(self):
        """The time limit ends a VM that has not ended by itself."""
        terminal = self.start(["--timeout", "1"])
        self.assertEqual(harness.STATUS_TIMEOUT, terminal.wait(), terminal.seen)
        self.assertIn(b"time limit of 1 s", terminal.seen)
        self.restored(terminal)


class Pipe(unittest.TestCase):
    """Standard input that is no terminal."""

    def test_pipe(self):
        """Commands from a pipe, sent when the guest listens; Ctrl-A is an ordinary byte there."""
        proc = harness.spawn(LIMIT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            seen = b""
            while PROMPT not in seen:
                data = os.read(proc.stdout.fileno(), 4096)
                self.assertTrue(data, seen)
                seen += data
            out, err = proc.communicate(b"stty -echo; od -A n -t x1 -N 3\n\1xy\npoweroff -f\n",
                                        LIMIT_S)
        finally:
            harness.end_session(proc)
        self.assertEqual(0, proc.returncode, err)
        self.assertIn(b"01 78 79", out)

    def test_early(self):
        """Commands that are there before the guest is: none is lost."""
        proc = harness.spawn(LIMIT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            out, err = proc.communicate(b"echo first $((1+1))\n" + b"true\n" * 100 +
                                        b"echo last $((2+2))\nexit\n", LIMIT_S)
        finally:
            harness.end_session(proc)
        self.assertEqual(0, proc.returncode, err)
        self.assertIn(b"first 2", out)
        self.assertIn(b"last 4", out)

    def exec(self, text, stdin):
        """Status and output of a command in a guest."""
        proc = harness.spawn([*LIMIT, "--memory", "128M", "--exec", text],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = proc.communicate(stdin, LIMIT_S)
        finally:
            harness.end_session(proc)
        self.assertEqual(b"", err)
        return proc.returncode, out

    def test_exec(self):
        """A command in a pipeline: bytes as they are, the end of input, and its status."""
        lines = b"".join(b"%d \x01\x03\x7f\r\xff\n" % i for i in range(20000)) + b"no newline"
        self.assertEqual((7, lines + b"\xf0\n"), self.exec(
            "sleep 1; cat; printf '\\360\\n'; exit 7", lines))

    def test_exec_unfinished(self):
        """A guest that is switched off before its command has ended did not succeed."""
        self.assertEqual(1, self.exec("poweroff -f; sleep 60", b"")[0])

    def test_null(self):
        """No input at all does not spin or end the guest."""
        proc = harness.spawn([*LIMIT, "--append", harness.command_parameter(
            "sleep 4; echo waited")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        try:
            out, _ = proc.communicate(timeout=LIMIT_S)
        finally:
            harness.end_session(proc)
        self.assertEqual(0, proc.returncode)
        self.assertIn(b"waited", out)

    def test_closed_output(self):
        """Nobody reads what the guest prints: it runs to its end all the same."""
        read, write = os.pipe()
        os.close(read)
        proc = harness.spawn([*LIMIT, "--append", harness.command_parameter("true")],
                             stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        try:
            _, err = proc.communicate(timeout=LIMIT_S)
        finally:
            harness.end_session(proc)
        self.assertEqual(0, proc.returncode, err)


if __name__ == "__main__":
    harness.main()
