#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs under mezzd that together want more memory than there is: every technique acts, no
guest sees a wrong byte, and killing the daemon or a VM hurts nobody else."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

import harness

MEZZD = harness.BUILD / "src" / "host" / "mezzd"
MIB = 1 << 20
BACK_WITHIN_S = 1
PATIENCE_S = 60 * harness.PATIENCE


class Host:
    """mezzd with a folder of its own."""

    def __init__(self, memory, options=()):
        self.folder = tempfile.TemporaryDirectory(prefix="mezz-host-")
        self.path = pathlib.Path(self.folder.name)
        self.command = [str(MEZZD), "--memory", memory, "--state-dir", str(self.path / "state"),
                        "--socket", str(self.path / "socket")]
        self.log = open(self.path / "log", "wb")
        self.options = options
        self.proc = None
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        self.proc = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log,
                                     stderr=self.log, start_new_session=True)
        end = time.monotonic() + 20
        while self.mezz("host", check=False).returncode:
            if self.proc.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"mezzd does not answer: {self.said()}")
            time.sleep(0.05)
        for option in self.options:
            self.mezz("host", "--set", option)

    def said(self):
        """Its log."""
        return (self.path / "log").read_text(errors="replace")[-3000:]

    def mezz(self, *words, check=True):
        """Run `mezz` against it."""
        done = subprocess.run([str(harness.MEZZ), *map(str, words), "--socket",
                               str(self.path / "socket")], check=False, capture_output=True,
                              text=True, timeout=60, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            raise AssertionError(f"mezz {words}: {done.stderr}{self.said()}")
        return done

    def json(self, *words):
        """The answer to a command, parsed."""
        return json.loads(self.mezz(*words, "--json").stdout)

    def vms(self):
        """State of all VMs, by name."""
        return {vm["config"]["name"]: vm for vm in self.json("ls")["vms"]}

    def create(self, name, memory, script, settings=(), options=()):
        """Define a VM that runs a script, and start it."""
        initrd = self.path / f"{name}.cpio"
        initrd.write_bytes(harness.initrd_with(script))
        # What follows -- goes to the VM, hence our own options before it.
        command = [harness.MEZZ, "create", "--socket", self.path / "socket", name,
                   f"memory={memory}", *settings, "--start", "--", "--kernel",
                   harness.IMAGE / "vmlinuz", "--initrd", initrd, "--append",
                   'mezz.run="sh /test.sh"', *options]
        done = subprocess.run([str(word) for word in command], check=False, capture_output=True,
                              text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{done.stderr}{self.output(name)}{self.said()}")

    def output(self, name):
        """What a VM printed so far."""
        path = self.path / "state" / "vms" / name / "vm.log"
        return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""

    def close(self):
        """End the VMs and the daemon."""
        if self.proc.poll() is None:
            for name, vm in self.vms().items():
                if vm["runtime"]["powerState"] != "poweredOff":
                    self.mezz("stop", name, "--kill", check=False)
        harness.end_session(self.proc)
        for log in self.path.glob("state/vms/*/vm.log"):
            if os.environ.get("MEZZ_TEST_VERBOSE"):
                print(log, log.read_text(errors="replace")[-1500:])
        self.log.close()
        self.folder.cleanup()


def guest(seconds, seed):
    """Half of its memory with patterns that are checked again and again."""
    return f"patterns 36 {seconds} {seed} && echo verified"


class Overcommitted(unittest.TestCase):
    """Three guests of 128 MiB, of which one has no balloon, in much less than that."""

    FIGURES = ("shared", "zero", "ballooned", "compressed", "swapped")

    def watch(self, host, most, until, limit_s):
        """Look at the figures until something holds."""
        end = time.monotonic() + limit_s
        while not until():
            for name, vm in host.vms().items():
                stats = vm["quickStats"]
                for key in (*self.FIGURES, "zipOut", "swapOut", "sharedEver", "zeroed"):
                    most[key] = max(most.get(key, 0), stats[key])
                if vm["runtime"]["powerState"] == "poweredOff" and name in self.running:
                    raise AssertionError(f"{name} ended: {host.output(name)[-2000:]}{host.said()}")
            if time.monotonic() > end:
                raise AssertionError(f"after {limit_s} s still not: {most}\n" + "".join(
                    f"-- {name}\n{host.output(name)[-1000:]}" for name in host.vms()) +
                                     host.said())
            time.sleep(0.3)

    def test_all(self):
        """One scenario, for booting is what takes time."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                self.scenario(mode)

    def scenario(self, mode):
        """Fill, reclaim, kill the daemon, kill a VM, verify."""
        seconds = 20 if harness.PATIENCE == 1 else 40
        host = Host("256M", ["Mem.SamplePeriod=5"])
        self.addCleanup(host.close)
        most = {}
        self.running = {"a", "b", "c"}
        for name in sorted(self.running):
            host.create(name, "128M", guest(seconds, name == "c"), ["group=all"],
                        [*harness.mode_options(mode),
                         *(["--balloon", "off"] if name == "c" else [])])
        pids = {name: vm["runtime"]["pid"] for name, vm in host.vms().items()}
        self.watch(host, most, lambda: most.get("shared") and most.get("zero"), PATIENCE_S)

        # A limit binds whatever the state; a guest with a balloon is asked first.
        host.mezz("set", "a", "limit=88M")
        host.mezz("set", "c", "limit=72M")
        self.watch(host, most, lambda: all(most.get(key) for key in
                                           ("ballooned", "zipOut", "swapOut")), PATIENCE_S)
        for name in ("a", "c"):
            host.mezz("set", name, "limit=unlimited")

        os.kill(host.proc.pid, signal.SIGKILL)
        host.proc.wait()
        time.sleep(1)
        host.start()
        found = {name: vm["runtime"]["pid"] for name, vm in host.vms().items()}
        self.assertEqual(pids, found)

        before = host.json("host")
        os.kill(pids["b"], signal.SIGKILL)
        killed = time.monotonic()
        self.running.remove("b")
        while host.vms()["b"]["runtime"]["powerState"] != "poweredOff":
            self.assertLess(time.monotonic() - killed, BACK_WITHIN_S * 3 * harness.PATIENCE)
        after = host.json("host")
        self.assertLess(after["consumed"], before["consumed"])
        self.running = set()
        self.watch(host, most, lambda: all(
            vm["runtime"]["powerState"] == "poweredOff" for vm in host.vms().values()),
                   PATIENCE_S + seconds)
        print(f"{mode}: at most {most}", flush=True)
        for name in ("a", "c"):
            text = host.output(name)
            self.assertIn("patterns 36 ok\nverified\n", text)
            self.assertNotIn("WRONG", text)
        self.assertRegex(host.mezz("host", "--audit").stdout, re.compile(r"wrong: 0 .* 0 .* 0"))


if __name__ == "__main__":
    harness.main()
