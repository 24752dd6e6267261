#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line: what a VM is defined by, whichever way it is written, and what is told of it."""

import json
import pathlib
import shlex
import subprocess
import unittest

import daemon

MIB = daemon.MIB


class Command(unittest.TestCase):
    """mezz against a mezzd of its own."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = daemon.Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def mezz(self, *words):
        """Run it; it must succeed, and say nothing about errors."""
        status, out, err = self.daemon.mezz(*words)
        self.assertEqual((0, ""), (status, err), words)
        return out

    def refused(self, *words):
        """What it says when words make no sense."""
        status, _, err = self.daemon.mezz(*words)
        self.assertNotEqual(0, status, words)
        return err

    def config(self, name):
        """How a VM is defined."""
        return self.daemon.get(f"/v1/vms/{name}").json["config"]

    def define(self, name, *words):
        """Define a VM, look, and forget it."""
        self.mezz("create", name, *words)
        config = self.config(name)
        self.mezz("rm", name)
        return {key: config[key] for key in config if key != "name"}

    def test_three_ways(self):
        """--limit 96M, --limit=96M and limit=96M are the same; -m is --memory."""
        pairs = {"memory": "128M", "reservation": "32M", "limit": "96M", "shares": "high",
                 "group": "g", "sharing": "off", "floor": "16M", "autostart": "on"}
        self.mezz("pool", "set", "p", "--limit", "100M", "--expandable", "off")
        pairs["pool"] = "p"
        words = [f"{key}={value}" for key, value in pairs.items()]
        expected = self.define("a", *words)
        self.assertEqual((128 * MIB, 96 * MIB, "high", "g", "p", False, 16 * MIB, True), (
            expected["memorySize"], expected["memoryAllocation"]["limit"],
            expected["memoryAllocation"]["shares"]["level"], expected["shareGroup"],
            expected["resourcePool"], expected["pageSharing"], expected["memoryFloor"],
            expected["autostart"]))
        self.assertEqual(expected, self.define("a", *[f"--{word}" for word in words]))
        apart = [part for key, value in pairs.items() for part in (f"--{key}", value)]
        self.assertEqual(expected, self.define("a", *apart))
        self.assertEqual(expected, self.define("a", "-m", *apart[1:]))
        pool = self.daemon.get("/v1/pools").json["pools"]
        self.assertEqual([(100 * MIB, False)], [
            (p["config"]["memoryAllocation"]["limit"],
             p["config"]["memoryAllocation"]["expandableReservation"])
            for p in pool if p["name"] == "p"])
        self.mezz("pool", "rm", "p")

    def test_options_of_the_vm(self):
        """Options of mezz run are understood, before and after --; files are named from here."""
        here = self.daemon.path / "here"
        here.mkdir(exist_ok=True)
        words = ["-d", "disk.img,ro", "--mmu", "software", "--kernel=/boot/k", "-v", "--",
                 "--initrd=ram", "--disk", "other"]
        done = subprocess.run(
            [daemon.MEZZ, "create", "b", "--socket", self.daemon.socket, *words], cwd=here,
            check=False, capture_output=True, text=True, timeout=30)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        here = str(pathlib.Path(here).resolve())
        self.assertEqual(["-d", f"{here}/disk.img,ro", "--mmu", "software", "--kernel=/boot/k",
                          "-v", f"--initrd={here}/ram", "--disk", f"{here}/other"],
                         self.config("b")["args"])
        self.mezz("set", "b", "--limit", "256M")
        self.assertEqual(9, len(self.config("b")["args"]))
        self.mezz("set", "b", "--mmu", "hardware")
        self.assertEqual(["--mmu", "hardware"], self.config("b")["args"])
        self.mezz("rm", "b")

    def test_words_are_quoted(self):
        """What show prints of a VM's options, a shell reads as the words that they were."""
        words = ["--append", "root=/dev/vda rw it's \"q\"", "--disk", "/a b", "--stats=/x"]
        self.mezz("create", "q", *words)
        line = next(line for line in self.mezz("show", "q").splitlines() if "args:" in line)
        self.assertEqual(words, shlex.split(line.split("args:", 1)[1]))
        self.mezz("rm", "q")

    def test_times(self):
        """A time without a unit is in seconds, as everywhere."""
        self.mezz("create", "w", "--memory", "32M", "--start")
        self.mezz("stop", "w", "--kill", "-w", "9")
        self.mezz("rm", "w")
        self.mezz("top", "-b", "-n", "1", "-d", "2")
        self.assertIn('unknown unit "x" (ms, s, min, h)', self.refused("top", "-b", "-d", "2x"))

    def test_refusals(self):
        """What is wrong is named."""
        for words, wanted in (
                (["create", "c", "--limit"], "a value is missing after --limit"),
                (["create", "c", "--limits", "5M"], "there is no option --limits"),
                (["create", "c", "--limit", "lots"], 'limit: "lots"'),
                (["create", "c", "--sharing", "maybe"], "sharing: 'maybe' is neither on nor off"),
                (["create", "c", "--link", "/tmp"], "--link"),
                (["create", "c", "colour=red"], "there is no setting 'colour'"),
                (["pool", "set", "c", "--memory", "5M"], "there is no option --memory"),
                (["ls", "--memory", "5M"], "there is no option --memory")):
            self.assertIn(wanted, self.refused(*words))
        self.assertEqual(404, self.daemon.get("/v1/vms/c").status)

    def events(self):
        """What has happened so far."""
        con = self.daemon.connection(5)
        try:
            con.request("GET", "/v1/events?since=0&snapshots=100")
            reply, texts, kind = con.getresponse(), [], ""
            for line in reply:
                line = line.decode().strip()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind == "snapshot":
                    return texts
                elif line.startswith("data: "):
                    texts.append(json.loads(line[6:])["text"])
        finally:
            con.close()
        return texts

    def test_what_is_told(self):
        """A start changes no settings, nor does setting what is set; a change says to what."""
        self.mezz("create", "t", "--memory", "32M", "--start")
        self.addCleanup(self.daemon.mezz, "rm", "t")
        self.addCleanup(self.daemon.mezz, "stop", "t", "--kill")
        self.mezz("set", "t", "--shares", "normal")
        self.assertEqual([], [text for text in self.events() if "settings" in text])
        self.mezz("set", "t", "--shares", "300", "--limit", "24M")
        self.mezz("set", "t", "--limit", "unlimited", "--sharing", "off")
        self.assertEqual(["settings of VM t changed: limit 24MiB, shares 300",
                          "settings of VM t changed: limit unlimited, sharing off"],
                         [text for text in self.events() if "settings" in text])


if __name__ == "__main__":
    unittest.main()
