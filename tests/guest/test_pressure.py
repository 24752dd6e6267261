#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests under a memory manager whose memory gets short: what acts in which state, and a guest
that needs what its balloon has."""

import time
import unittest

import harness
import lab
from harness import MIB
from lab import until
from states import enter

# Linux drops the pages of a disk that nobody has open, hence "exec 3<" in scripts.


class Ballooned(unittest.TestCase):
    """A guest that lends its page cache, and then needs more than what it has left."""

    SCRIPT = "exec 3</dev/vda; cat /dev/vda >/dev/null; echo filled; sleep 25; hold 1 50 178:178:4"

    def test_memory_comes_back_before_anything_is_killed(self):
        """The balloon deflates when the guest's kernel would have to kill a program."""
        with lab.Lab(600) as host:
            disk = host.path / "disk"
            disk.write_bytes(b"mezz" * (32 * MIB))
            host.create("a", ["memory=256M", "sharing=off"], self.SCRIPT,
                        ["--disk", f"{disk},ro"])
            host.must("start", "a")
            until(lambda: "filled" in host.said("a"), "the page cache")
            until(lambda: host.stats("a")["guestStatsAgeMs"] < 3000, "statistics")
            enter(host, "soft")
            until(lambda: host.stats("a")["ballooned"] >= 16 * MIB, "a balloon", 20)
            lent = host.stats("a")["ballooned"]
            until(lambda: host.status("a") is not None or
                  host.stats("a")["ballooned"] < lent - 4 * MIB, "deflation", 80)
            until(lambda: host.status("a") is not None, "the end of the guest", 100)
            said = host.said("a")
            self.assertEqual(0, host.status("a"), said)
            self.assertRegex(said, r"hold ok 178 ")
            self.assertEqual(0, host.wrong())


class Lent(unittest.TestCase):
    """What one VM deserves and does not use is there for another."""

    def test_nobody_waits_beside_free_memory(self):
        """A VM grows beyond its target into another's reservation that is not used."""
        with lab.Lab(480) as host:
            host.create("idle", ["memory=256M", "reservation=256M", "sharing=off"],
                        "echo idle; sleep 300")
            host.create("busy", ["memory=320M", "sharing=off"], "hold 1 50 190:190:2")
            host.must("start", "idle")
            until(lambda: "idle" in host.said("idle"), "the idle guest")
            host.must("start", "busy")
            until(lambda: host.status("busy") is not None,
                  lambda: f"its end: {host.host()}", 90)
            self.assertRegex(host.said("busy"), r"hold ok 190 ")
            self.assertEqual(0, host.stats("idle")["swapped"])


class States(unittest.TestCase):
    """Each technique in its state. A mezzd that is started again with less memory finds itself
    in the state that it should, with guests that are the same."""

    def start(self, host):
        """One guest whose memory is page cache, two that hold what they wrote."""
        disk = host.path / "disk"
        disk.write_bytes(b"mezz" * (32 * MIB))
        host.create("cache", ["memory=192M", "sharing=off"],
                    "exec 3</dev/vda; cat /dev/vda >/dev/null; echo filled; sleep 300",
                    ["--disk", f"{disk},ro"])
        for seed, name in enumerate(("one", "two")):
            host.create(name, ["memory=192M", "sharing=off"],
                        f"hold {seed} 30 110:30:300")
        for name in ("cache", "one", "two"):
            host.must("start", name)
        until(lambda: "filled" in host.said("cache"), "the page cache")
        for name in ("one", "two"):
            # What the kernel uses comes on top.
            until(lambda name=name: host.status(name) is not None or
                  host.stats(name)["private"] > 130 * MIB, name)
            self.assertIsNone(host.status(name), host.said(name))
        time.sleep(3)

    def moved(self, host):
        """What each technique has done so far."""
        shot = host.snapshot()
        self.assertEqual(0, shot["host"]["over"])
        return {"balloon": shot["host"]["ballooned"],
                "paged": sum(vm["quickStats"]["zipOut"] + vm["quickStats"]["swapOut"]
                             for vm in shot["vms"]),
                "blocked": sum(vm["quickStats"]["blocked"] for vm in shot["vms"])}

    def test_each_technique_in_its_state(self):
        """Clear takes nothing; soft balloons; hard pages; low blocks."""
        with lab.Lab(900) as host:
            self.start(host)
            enter(host, "clear")
            time.sleep(2)
            self.assertEqual({"balloon": 0, "paged": 0, "blocked": 0}, self.moved(host))
            enter(host, "soft")
            until(lambda: self.moved(host)["balloon"] > 4 * MIB, "a balloon in soft")
            self.assertEqual(0, self.moved(host)["blocked"])
            enter(host, "hard")
            until(lambda: self.moved(host)["paged"] > 1024, "paging in hard")
            enter(host, "low")
            self.assertGreater(host.log().count("memory state is low now"), 0)
            self.assertEqual(0, host.wrong())
            for name in ("cache", "one", "two"):
                self.assertNotIn("instead of", host.said(name))


if __name__ == "__main__":
    harness.main()
