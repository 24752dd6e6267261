#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Guests on a host that has less and less: sharing in clear, a balloon driver that lies in
soft, all shared pages broken at once in hard, a disk that takes nothing, and everybody
blocked in low. Nobody is killed, nothing is lost, and they get on when there is memory."""

import contextlib
import hashlib
import os
import resource
import time
import unittest

import harness
import lab
from harness import MIB
from lab import until
from states import enter

BLOCK = "".join(f"{n}\n" for n in range(1, 20001)).encode()[:64 << 10]
COPIES = 640
DIGITS = "0123456789"
WAIT_S = 90

# Both fill the same pages, and change each of them when they are told to.
TEXT = f"""
mkdir /m; mount -t tmpfs -o size=90m t /m
seq 1 20000 | head -c 65536 >/m/block
n=0; while [ $n -lt {COPIES} ]; do cat /m/block; n=$((n + 1)); done >/m/x
echo filled
for round in 1 2 3; do
	read -r digits
	tr {DIGITS} $digits </m/x | dd of=/m/x bs=64k conv=notrunc 2>/dev/null
	echo "round $round $(sha256sum </m/x)"
done
sleep 300
"""

# The driver is taken away from the kernel, and its place taken by a program.
LIAR = """
for device in /sys/bus/virtio/drivers/virtio_balloon/virtio*; do
	echo ${device##*/} >/sys/bus/virtio/drivers/virtio_balloon/unbind
done
hold 7 30 70:2:600 & liar lie 600
"""


class Scarce(unittest.TestCase):
    """One scenario, for booting is what takes time."""

    def shared_within(self, host, seconds):
        """Pages that were shared in a time."""
        def now():
            return sum(host.stats(name)["sharedEver"] for name in ("one", "two"))
        before = now()
        time.sleep(seconds)
        return now() - before

    def check(self, host, shot=None):
        """Nothing exceeded, and all still there."""
        shot = shot or host.snapshot()
        self.assertEqual(0, shot["host"]["over"])
        for vm in shot["vms"]:
            self.assertNotIn(vm["runtime"]["powerState"], ("stopping", "poweredOff"),
                             host.log()[-2000:])
        return shot

    def rewrite(self, host, number, digits):
        """All pages of the two guests change at once. Return: what is to be seen of it."""
        self.text = {name: self.text[name].translate(
            bytes.maketrans(DIGITS.encode(), to.encode())) for name, to in digits.items()}
        for name, to in digits.items():
            host.tell(name, to)
        return {name: f"round {number} {hashlib.sha256(text * COPIES).hexdigest()}"
                for name, text in self.text.items()}

    def finish(self, host, expected):
        """Until both have done it, and did it right."""
        def done():
            self.check(host)
            return all(line in host.said(name) for name, line in expected.items())
        until(done, lambda: f"{expected}: " + "".join(host.said(name)[-500:] for name in expected),
              WAIT_S)
        self.assertEqual(0, host.wrong())

    def start(self, host):
        """Three guests."""
        for option in ("Mem.ShareScanGHz=32", "Mem.ShareRateMax=8192", "Mem.SamplePeriod=5"):
            host.must("host", "--set", option)
        self.text = {"one": BLOCK, "two": BLOCK}
        for name in ("one", "two"):
            host.create(name, ["memory=128M", "group=text"], TEXT)
        host.must("create", "liar", "memory=128M", "sharing=off", "--append",
                  "iomem=relaxed " + harness.command_parameter(LIAR))
        for name in ("one", "two", "liar"):
            host.must("start", name)
        for name in ("one", "two"):
            until(lambda name=name: "filled" in host.said(name), name, WAIT_S)
        until(lambda: "liar ready" in host.said("liar") and
              host.stats("liar")["private"] > 70 * MIB, "the liar", WAIT_S)

    def sharing_is_eager_in_clear(self, host):
        """At rest 10 pages a second of each, once in an hour; then as fast as is allowed."""
        slow = self.shared_within(host, 2)
        # A window of 64 pages is scanned at once.
        self.assertLess(slow, 2 * (2 * 10 + 64) * 1.5)
        enter(host, "clear")
        self.assertGreater(self.shared_within(host, 2), 3 * slow)
        until(lambda: host.snapshot()["host"]["saving"] > 10 * MIB, "sharing", WAIT_S)

    def a_balloon_that_lies_hurts_nobody(self, host):
        """It is asked and gives what it does not have: no memory comes or goes by that."""
        enter(host, "soft")
        # A limit below what it has, or others might have more to spare than it.
        host.must("set", "liar", "limit=80M")
        end = time.monotonic() + 15
        while "liar asked" not in host.said("liar") and time.monotonic() < end:
            self.check(host)
        host.must("set", "liar", "limit=unlimited")
        self.assertLess(host.stats("liar")["ballooned"], MIB)
        self.check(host)
        self.assertNotIn("is killed", host.log())
        self.assertEqual(0, host.wrong())

    def shared_pages_break_at_once(self, host):
        """Machine memory is full, and each shared page is needed as one of its own."""
        enter(host, "hard")
        before = sum(host.stats(name)["unshared"] for name in ("one", "two"))
        self.finish(host, self.rewrite(host, 1, {"one": "1234567890", "two": "2345678901"}))
        after = sum(host.stats(name)["unshared"] for name in ("one", "two"))
        self.assertGreater(after - before, 2000)

    def a_disk_that_fails_stops_nobody(self, host):
        """The kernel refuses to write the swap files, as a failing disk would."""
        host.must("host", "--set", "Mem.MemZipEnable=0")
        enter(host, "hard")
        old = resource.prlimit(host.proc.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        expected = self.rewrite(host, 2, {"one": "9876543210", "two": "8765432109"})
        until(lambda: "cannot be written: File too large; its pages stay in memory" in
              host.log(), "the event", WAIT_S)
        time.sleep(2)
        self.check(host)
        resource.prlimit(host.proc.pid, resource.RLIMIT_FSIZE, old)
        until(lambda: "can be written again" in host.log(), "the other event", WAIT_S)
        self.finish(host, expected)

    def who_is_blocked_gets_on(self, host):
        """In low a VM above its target waits, and goes on when there is memory."""
        def stalled():
            return sum(host.stats(name)["stallHostNs"] for name in ("one", "two"))
        enter(host, "low")
        before = stalled()
        expected = self.rewrite(host, 3, {"one": "0246813579", "two": "1357902468"})
        until(lambda: stalled() > before and self.check(host), "a VM that waits", WAIT_S)
        host.kill()
        host.start(900)
        self.finish(host, expected)
        self.assertFalse(any(vm["quickStats"]["blocked"] for vm in host.snapshot()["vms"]))

    def test_less_and_less(self):
        """In this order, with the same guests."""
        with lab.Lab(900) as host:
            self.start(host)
            for step in (self.sharing_is_eager_in_clear, self.a_balloon_that_lies_hurts_nobody,
                         self.shared_pages_break_at_once, self.a_disk_that_fails_stops_nobody,
                         self.who_is_blocked_gets_on):
                start = time.monotonic()
                with self.subTest(step.__name__):
                    step(host)
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
            self.assertNotIn("instead of", host.said("liar"))


class Stuck(unittest.TestCase):
    """A balloon driver that says what it could give, and gives nothing until it is told to."""

    SCRIPT = LIAR.split("hold")[0] + """
liar mute 600 & liar=$!
mkfifo /p; hold 7 30 120:2:line </p & hold=$!
exec 4>/p
read -r word; kill -USR1 $liar; echo mended
read -r word; echo >&4; wait $hold
"""

    def find_stuck(self, host):
        """In soft the balloon is what is asked. But the host may get to hard, and then what is taken
        otherwise is enough before the verdict: then once more."""
        for _ in range(5):
            enter(host, "soft")
            with contextlib.suppress(lab.LabError):
                until(lambda: host.stats("mute")["balloonDriver"] == "stuck" or
                      host.host()["state"] == "high", "the verdict", 15)
            if host.stats("mute")["balloonDriver"] == "stuck":
                return
        self.fail(f"no verdict: {host.log()[-500:]}")

    def test_is_paged_instead(self):
        """It is asked in vain, then compression and swap take all, and the guest's data is right.
        Once the driver works it is trusted again."""
        with lab.Lab(600) as host:
            host.must("create", "mute", "memory=256M", "sharing=off", "--append",
                      "iomem=relaxed " + harness.command_parameter(self.SCRIPT))
            host.must("start", "mute")
            until(lambda: "liar ready" in host.said("mute") and
                  host.stats("mute")["private"] > 120 * MIB, "a full guest", WAIT_S)
            self.find_stuck(host)
            self.assertEqual(0, host.stats("mute")["ballooned"])
            host.must("set", "mute", "limit=90M")
            until(lambda: host.stats("mute")["consumed"] <= 90 * MIB, "the limit", WAIT_S)
            self.assertGreater(host.stats("mute")["compressed"] +
                               host.stats("mute")["swapped"], 30 * MIB)
            host.tell("mute", "mend")
            host.wait_said("mute", "mended")
            host.must("set", "mute", "limit=60M")
            until(lambda: host.stats("mute")["balloonDriver"] == "ready" and
                  host.stats("mute")["ballooned"] > 0,
                  lambda: f"trust: {host.log()[-500:]}", WAIT_S)
            host.must("set", "mute", "limit=unlimited")
            host.tell("mute", "end")
            until(lambda: "hold ok 120 " in host.said("mute"),
                  lambda: f"its data: {host.said('mute')[-300:]}", WAIT_S)
            self.assertEqual(0, host.wrong())


@unittest.skipIf(os.geteuid(), "only root can mount")
class Disk(unittest.TestCase):
    """A disk that is full when guests are to be swapped, on a file system that had not kept space
    for their swap files."""

    FILLED_MIB = 110
    LIMIT_MIB = 70

    def test_fills_up_under_guests(self):
        """They go on, beyond their limits; with room again they are swapped, and all is right."""
        names = {"one": 1, "two": 2}
        host = lab.Lab(600)
        if not host.mount_state(256):
            host.close()
            self.skipTest("mounting is not permitted here")
        with host:
            host.must("host", "--set", "Mem.MemZipEnable=0")
            for name, seed in names.items():
                host.create(name, ["memory=192M", "sharing=off"],
                            f"echo filling; hold {seed} 100 {self.FILLED_MIB}:40:line")
                host.must("start", name)
            for name in names:
                until(lambda name=name: host.stats(name)["private"] > self.FILLED_MIB * MIB, name,
                      WAIT_S)
            filler = host.fill_disk()
            os.truncate(filler, filler.stat().st_size - 8 * MIB)
            for name in names:
                # The balloon would have enough.
                host.must("set", name, "floor=192M", f"limit={self.LIMIT_MIB}M")
            for name in names:
                until(lambda name=name: f"the swap file of VM {name} cannot be written: No space "
                      "left on device" in host.log(), lambda: host.log()[-500:], WAIT_S)
            host.fill_disk("rest")
            time.sleep(3)
            for name in names:
                self.assertEqual("poweredOn", host.vms()[name]["runtime"]["powerState"])
                self.assertLess(host.stats(name)["swapped"], 9 * MIB)
            self.assertEqual(0, host.wrong())
            filler.unlink()
            for name in names:
                until(lambda name=name: host.stats(name)["consumed"] <= self.LIMIT_MIB * MIB,
                      lambda: f"the limits: {host.log()[-500:]}", WAIT_S)
                self.assertGreater(host.stats(name)["swapped"], 30 * MIB)
                host.must("set", name, "limit=unlimited")
                host.tell(name)
            for name, seed in names.items():
                until(lambda name=name: host.status(name) is not None,
                      lambda name=name: f"its end: {host.said(name)[-300:]}", WAIT_S)
                there = f"hold ok {self.FILLED_MIB} "
                self.assertIn(lab.on_host("hold", seed, 100, f"{self.FILLED_MIB}:0:0").split(
                    there)[1].strip(), host.said(name).split(there)[1])
            self.assertEqual(0, host.wrong())


if __name__ == "__main__":
    harness.main()
