#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line: what a VM is defined by, whichever way it is written, and what is told of it."""

import json
import pathlib
import shlex
import signal
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
        heads, host, row = (line.split() for line in self.mezz("pool", "ls").splitlines())
        self.assertEqual("POOL PARENT RESERVED USED UNRESERVED LIMIT SHARES ENTITLED CONSUMED".split(),
                         heads)
        # The host has no parent, nor has a pool right below it.
        self.assertEqual((["(host)", "-"], ["p", "100.0"]), ([host[0], host[4]], [row[0], row[4]]))
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
        self.assertIn("\n  reservation=0B limit=unlimited shares=normal\n", self.mezz("show", "q"))
        self.mezz("rm", "q")

    def test_times(self):
        """A time without a unit is in seconds, as everywhere."""
        self.mezz("create", "w", "--memory", "32M", "--start")
        self.mezz("stop", "w", "--kill", "-w", "9")
        self.mezz("rm", "w")
        self.mezz("top", "-b", "-n", "1", "-d", "2")
        self.assertIn('unknown unit "x" (ms, s, min, h)', self.refused("top", "-b", "-d", "2x"))

    def test_size_that_waits(self):
        """A VM that runs has the memory that it was started with, whatever it is to have next."""
        self.mezz("create", "z", "--memory", "32M", "--start")
        self.addCleanup(self.daemon.mezz, "rm", "z")
        self.addCleanup(self.daemon.mezz, "stop", "z", "--kill")
        self.mezz("set", "z", "--memory", "48M", "--limit", "40M")
        self.assertRegex(self.mezz("ls"), r"(?m)^z +poweredOn +32 ")
        self.assertRegex(self.mezz("show", "z"), r"(?m)^  together +32\.0 MiB")
        top = self.mezz("top", "-b", "-n", "1", "--fields", "AI").splitlines()
        heads = next(line for line in top if line.startswith("NAME")).split()
        values = next(line for line in top if line.startswith("z ")).split()
        row = dict(zip(heads, values))
        self.assertEqual(("32", "0", "40"), (row["MEMSZ"], row["AMIN"], row["AMAX"]))

    def test_start_that_fails(self):
        """A VM that cannot be started stays defined, and whoever made it is told."""
        status, _, err = self.daemon.mezz("create", "big", "-m", "64G", "--reservation", "64G",
                                          "--start")
        self.addCleanup(self.daemon.mezz, "rm", "big")
        self.assertEqual(1, status)
        short, defined = err.splitlines()
        self.assertRegex(short, "^mezz: insufficient resources: .* short$")
        self.assertEqual("mezz: 'big' is defined, but does not run: mezz start big tries again, "
                         "mezz rm big forgets it", defined)
        self.assertEqual("big", self.config("big")["name"])
        # There is no log to look into.
        self.assertEqual("mezz: 'big' does not run; it has never run\n",
                         self.refused("console", "big"))
        self.mezz("set", "big", "-m", "16M", "--reservation", "0")
        self.mezz("start", "big")
        self.mezz("stop", "--kill", "-w", "9", "big")
        err = self.refused("console", "big")
        self.assertIn("does not run; what it said is in /", err)
        self.assertTrue(pathlib.Path(err.split(" is in ")[1].strip()).exists())

    def test_columns_of_targets(self):
        """What is to be on disk is no less than what is, and overhead is within what is kept."""
        self.mezz("create", "z", "--memory", "32M", "--start")
        self.addCleanup(self.daemon.mezz, "rm", "z")
        self.addCleanup(self.daemon.mezz, "stop", "z", "--kill")
        top = self.mezz("top", "-b", "-n", "1", "--fields", "DG").splitlines()
        heads = next(line for line in top if line.startswith("NAME")).split()
        values = next(line for line in top if line.startswith("z ")).split()
        row = dict(zip(heads, values))
        self.assertEqual("SWCUR SWTGT SWR/s SWW/s OVHD OVHDMAX".split(), heads[1:])
        self.assertLessEqual(float(row["SWCUR"]), float(row["SWTGT"]))
        self.assertLess(float(row["OVHD"]), float(row["OVHDMAX"]))
        self.assertTrue(any(line.startswith("SWAP  /MB:") and " target:" in line for line in top))
        stats = self.daemon.get("/v1/vms/z").json["quickStats"]
        self.assertLessEqual(stats["overhead"] + stats["pageTables"], stats["overheadMax"])

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
                (["host", "--engine", "--json"], "--engine is no answer of mezzd"),
                (["ls", "--memory", "5M"], "there is no option --memory")):
            self.assertIn(wanted, self.refused(*words))
        self.assertEqual(404, self.daemon.get("/v1/vms/c").status)

    def test_stop_all(self):
        """All have the same time; who does not listen is told, or ended. These do not listen."""
        self.assertIn("either names or --all", self.refused("stop", "--all", "x"))
        self.assertIn("words are missing", self.refused("stop"))
        self.assertEqual("", self.mezz("stop", "--all"))
        for name in ("d1", "d2", "d3"):
            self.mezz("create", name, "-m", "16M")
            self.addCleanup(self.daemon.mezz, "rm", name)
            self.addCleanup(self.daemon.mezz, "stop", name, "--kill")
        self.mezz("start", "d1", "d3")
        status, out, err = self.daemon.mezz("stop", "d1", "d2", "d3", "--wait", "300ms")
        self.assertEqual((1, ""), (status, out))
        self.assertEqual({"mezz: 'd2' does not run", "mezz: 'd1' has not ended within 300 ms",
                          "mezz: 'd3' has not ended within 300 ms"}, set(err.splitlines()))
        self.assertEqual(["d1 has been told to switch off", "d3 has been told to switch off"],
                         sorted(self.mezz("stop", "-a", "--wait", "0").splitlines()))
        self.assertEqual({"d1 is off", "d3 is off"}, set(self.mezz(
            "stop", "--all", "--force", "--wait", "300ms").splitlines()))
        self.assertEqual({"poweredOff"}, {vm["runtime"]["powerState"] for vm in self.daemon.get(
            "/v1/vms").json["vms"]})

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
        self.assertEqual([], [text for text in self.events() if "settings of VM t " in text])
        self.mezz("set", "t", "--shares", "300", "--limit", "24M")
        self.mezz("set", "t", "--limit", "unlimited", "--sharing", "off")
        self.assertEqual(["settings of VM t changed: limit 24MiB, shares 300",
                          "settings of VM t changed: limit unlimited, sharing off"],
                         [text for text in self.events() if "settings of VM t " in text])


class End(unittest.TestCase):
    """mezzd that takes its VMs with it."""

    def daemon(self, *options):
        """A mezzd with a VM whose guest does not listen to its power button."""
        mezzd = daemon.Daemon(options=options)
        self.addCleanup(mezzd.close)
        mezzd.start()
        self.assertEqual(200, mezzd.create("deaf", 16 * MIB, start=True).status)
        return mezzd

    def test_stop_vms(self):
        """After its time it ends what still runs; a second signal ends the waiting."""
        mezzd = self.daemon("--stop-vms", "300ms")
        self.assertEqual(0, mezzd.end())
        self.assertEqual([], mezzd.vm_pids())
        self.assertIn("VMs are shut down first", mezzd.log())
        self.assertIn("VM deaf has not switched itself off: it is ended", mezzd.log())
        self.assertIn("VM deaf ended", mezzd.log())
        mezzd = self.daemon("--stop-vms", "1h")
        mezzd.proc.terminate()
        with self.assertRaises(subprocess.TimeoutExpired):
            mezzd.proc.wait(1)
        self.assertEqual("poweredOn", mezzd.get("/v1/vms/deaf").json["runtime"]["powerState"])
        self.assertEqual(0, mezzd.end(signal.SIGINT))
        self.assertEqual([], mezzd.vm_pids())

    def test_leave_vms(self):
        """Without the option they go on."""
        mezzd = self.daemon()
        pids = mezzd.vm_pids()
        self.assertEqual((0, 1), (mezzd.end(), len(pids)))
        self.assertEqual(pids, mezzd.vm_pids())
        self.assertIn("VMs go on", mezzd.log())

    def test_bad_time(self):
        """A time that is none."""
        done = subprocess.run([daemon.MEZZD, "--stop-vms", "soon"], check=False,
                              capture_output=True, text=True, timeout=30)
        self.assertEqual(2, done.returncode)
        self.assertIn("--stop-vms", done.stderr)
        self.assertIn("soon", done.stderr)


if __name__ == "__main__":
    unittest.main()
