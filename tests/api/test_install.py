#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an installation holds, and that its texts speak of the same commands and options."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import daemon

MAN = daemon.ROOT / "man"
FILES = ("bin/mezz", "bin/mezzd", "libexec/mezzanine/mezz-vm", "libexec/mezzanine/mezz-net",
         "share/mezzanine/index.html",
         "share/man/man1/mezz.1", "share/man/man8/mezzd.8", "lib/systemd/system/mezzd.service",
         "lib/systemd/system/mezz-guests.service",
         "share/bash-completion/completions/mezz")


def output(*words, **kwargs):
    """What a program prints."""
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, **kwargs).stdout


def commands():
    """The commands that the help names."""
    return re.findall(r"^  ([a-z]+) ", output(daemon.MEZZ, "--help"), re.MULTILINE)


def plain(page):
    """A manual page as text, by the program that shows it."""
    text = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(page)], check=True,
                          capture_output=True, text=True, timeout=60,
                          env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"})
    return re.sub(r".\x08", "", text.stdout), text.stderr


class Install(unittest.TestCase):
    """meson install into an empty folder."""

    def test_files(self):
        """Everything is there, and the programs find each other and the page."""
        with tempfile.TemporaryDirectory(prefix="mezz-install-") as folder:
            output("meson", "install", "-C", daemon.BUILD, "--no-rebuild", "--destdir", folder)
            prefix = pathlib.Path(folder, "usr/local")
            there = {str(f.relative_to(prefix)) for f in prefix.rglob("*") if f.is_file()}
            for name in FILES:
                self.assertTrue(any(f.endswith(name) or f.endswith(name + ".gz") for f in there),
                                (name, there))
            unit = (prefix / "lib/systemd/system/mezzd.service").read_text()
            self.assertIn("ExecStart=/usr/local/bin/mezzd ", unit)
            self.assertIn("mezz run", output(prefix / "bin/mezz", "run", "--help"))
            image = prefix / "share/mezzanine/guest"
            self.assertEqual((daemon.BUILD / "guest/vmlinuz").exists(),
                             (image / "vmlinuz").exists())
            image.mkdir(exist_ok=True)
            # An image whose second half is missing: the message names the place it was found at.
            (image / "vmlinuz").write_bytes(b"")
            (image / "initramfs.cpio").unlink(missing_ok=True)
            done = subprocess.run([prefix / "bin/mezz", "run", "--no-host"], check=False,
                                  capture_output=True, text=True, timeout=60)
            self.assertIn(f"{image}/initramfs.cpio is not there", done.stderr)
            mezzd = daemon.Daemon()
            self.addCleanup(mezzd.close)
            mezzd.command[0] = str(prefix / "bin/mezzd")
            at = mezzd.command.index("--vm-program")
            del mezzd.command[at:at + 2]
            mezzd.start()
            page = mezzd.get("/")
            self.assertEqual((200, "text/html"), (page.status, page.type))
            mezzd.end()

    def test_completion(self):
        """The completion is bash, knows the commands, and completes names and options."""
        script = daemon.ROOT / "dist" / "mezz.bash"
        output("bash", "-n", script)
        mezzd = daemon.Daemon()
        self.addCleanup(mezzd.close)
        mezzd.start()
        mezzd.create("web1", autostart=False)
        env = {**os.environ, "MEZZ_SOCKET": str(mezzd.socket),
               "PATH": f"{daemon.MEZZ.parent}:{os.environ['PATH']}"}

        def complete(*words):
            line = " ".join(f"'{w}'" for w in words)
            return output("bash", "-c", f"source {script}; COMP_WORDS=({line}); COMP_CWORD="
                          f"{len(words) - 1}; _mezz; echo ${{COMPREPLY[@]}}", env=env).split()

        self.assertEqual(commands(), complete("mezz", ""))
        self.assertEqual({"web1"}, set(complete("mezz", "start", "w")))
        self.assertEqual(set(), set(complete("mezz", "console", "w")))
        self.assertEqual({"--force"}, set(complete("mezz", "stop", "--fo")))
        self.assertIn("--machine-memory", complete("mezz", "run", "--m"))
        self.assertEqual(["--limit"], complete("mezz", "create", "x", "--lim"))
        self.assertEqual(["--kernel"], complete("mezz", "set", "x", "--ker"))
        self.assertEqual({"high"}, set(complete("mezz", "create", "x", "--shares", "h")))

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_unit(self):
        """systemd understands every line of the units."""
        with tempfile.TemporaryDirectory(prefix="mezz-unit-") as folder:
            for name, program in (("mezz-guests", daemon.MEZZ), ("mezzd", daemon.MEZZD)):
                unit = pathlib.Path(folder, name + ".service")
                text = (daemon.BUILD / "dist" / unit.name).read_text()
                text = re.sub(r"(?m)^Documentation=.*\n", "", text)
                unit.write_text(re.sub(r"(Exec\w+)=\S+", rf"\1={program}", text))
            done = subprocess.run(["systemd-analyze", "verify", unit.with_name("mezz-guests.service")],
                                  check=False, timeout=60, capture_output=True, text=True)
            self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))
            done = subprocess.run(["systemd-analyze", "verify", unit], check=False, timeout=60,
                                  capture_output=True, text=True)
            self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))
            unit.write_text(unit.read_text() + "KillMod=process\n")
            done = subprocess.run(["systemd-analyze", "verify", unit], check=False, timeout=60,
                                  capture_output=True, text=True)
            self.assertIn("KillMod", done.stderr)

    def test_ready(self):
        """The service manager is told when mezzd can be talked to, and VMs know nothing of it."""
        for address in ("path", "abstract"):
            with self.subTest(address), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                mezzd = daemon.Daemon()
                self.addCleanup(mezzd.close)
                at = f"{mezzd.path}/notify"
                sock.bind(at if address == "path" else "\0" + at)
                sock.settimeout(20)
                told = at if address == "path" else "@" + at
                mezzd.command[:0] = ["env", f"NOTIFY_SOCKET={told}"]
                mezzd.start()
                self.assertEqual(["READY=1", f"STATUS=listening on {mezzd.socket}"],
                                 sock.recv(4096).decode().splitlines())
                pid = mezzd.create("quiet", start=True).json["runtime"]["pid"]
                self.assertNotIn(b"NOTIFY_SOCKET", pathlib.Path(f"/proc/{pid}/environ").read_bytes())
                mezzd.ask("POST", "/v1/vms/quiet/stop", {"how": "kill", "waitMs": 9000})

    @unittest.skipUnless(shutil.which("man"), "there is no man here")
    def test_manual(self):
        """The pages have no mistakes, and name every command and every option."""
        for page, program in (("mezz.1", daemon.MEZZ), ("mezzd.8", daemon.MEZZD)):
            text, warnings = plain(MAN / page)
            self.assertEqual("", warnings)
            helps = [output(program, "--help")]
            if page == "mezz.1":
                helps += [output(program, command, "--help") for command in commands()
                          if command not in ("run", "mmu")]
                for command in commands():
                    self.assertRegex(text, rf"(?m)^ +mezz {command}\b")
            for option in set(re.findall(r"(?m)^ {2,6}(?:-., )?(--[a-z-]+)", "\n".join(helps))):
                self.assertIn(option, text, page)

    def test_helps(self):
        """Each command has a help that fits a terminal and begins with its usage."""
        for command in commands():
            text = output(daemon.MEZZ, command, "--help")
            self.assertTrue(text.startswith(f"usage: mezz {command}"), text)
            for line in text.splitlines():
                self.assertLessEqual(len(line), 100, line)


if __name__ == "__main__":
    unittest.main()
