#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots Debian's kernel and compares what its programs print with the same on the host."""

import time
import unittest

import harness

# Each prints the same on every machine. One boot runs them all: the boot is what takes time.
COMMANDS = {
    "sha256sum": "seq 1 60000 | sha256sum",
    "sort": "seq 1 4000 | awk '{ print ($1 * 7919) % 10007, $1 }' | sort -n | md5sum",
    "awk": "awk 'BEGIN { for (i = 1; i < 3000; i++) { s += i / 7.25 - s / 3; t = t \"\" (i % 7) }"
           " printf \"%.9f %s %d %e\\n\", s, substr(t, 100, 20), 1e9 / 3, s * s / 1e40 }'",
    "gzip": "seq 1 30000 > plain; gzip -c plain > packed; gunzip -c packed | cmp - plain;"
            " gunzip -t packed; wc -c < packed; md5sum < packed",
    "bzip2": "seq 1 9000 > b; bzip2 -k b; bunzip2 -c b.bz2 | cmp - b; md5sum < b.bz2",
    "bc": "echo '2^900 % 1000000007; 12345678901234567890 * 98765432109876543210' | bc",
    "od": "seq 1 300 | od -A x -t x1 | tail -n 2",
    "sed": "seq 1 500 | sed -n 's/\\([0-9]\\)\\([0-9]\\)$/\\2\\1/p' | md5sum",
    "tar": "mkdir t; for i in 1 2 3; do seq $i 100 > t/$i; done; tar cf t.tar t; mkdir u;"
           " tar xf t.tar -C u; cat u/t/* | md5sum",
    "pipes": "for i in 1 2 3 4 5 6 7 8; do echo $i | cat | cat | tr 1-8 a-h; done",
    "shell": "cat > s <<'END'\ntrap 'echo caught' USR1; kill -USR1 $$\n"
             "f() { [ $1 -gt 1 ] && f $(($1 - 1)); echo $(($1 * 3 % 7)); }; f 12\n"
             "sh -c 'kill -SEGV $$; echo not here'; echo $?\nEND\nsh s",
    "signals": "signals 300",
    "step": "step",
    "forkstorm": "forkstorm 24 2",
    "i386": "test32",
    "patterns": "patterns 24 1",
}


def script(names):
    """One script of several commands, each under its name; a wrong status is printed, too."""
    parts = ["cd /tmp"]
    for name in names:
        parts.append(f"echo '== {name}'; ( {COMMANDS[name]} ) 2>&1; echo \"-- $?\"")
    return "; ".join(parts)


def sections(text):
    """What each command printed, by name."""
    found = {}
    name = None
    for line in text.splitlines():
        if line.startswith("== "):
            name = line[3:]
            found[name] = []
        elif name:
            found[name].append(line)
    return found


class Boot(unittest.TestCase):
    """The same script in every mode and on the host."""

    @classmethod
    def setUpClass(cls):
        host = harness.HostRoot()
        try:
            cls.want = sections(host.run(script(COMMANDS).replace("cd /tmp; ", "", 1)))
        finally:
            host.close()

    def check(self, mode):
        """Boot, run everything, compare command by command; recompute translations at times."""
        audit = ["--audit", "500"] if mode[0] == "soft" else []
        began = int(time.time())
        run = harness.boot(script(COMMANDS) + "; echo '== time'; "
                           "cat /sys/class/rtc/rtc0/since_epoch; date +%s", mode, audit)
        got = sections(run.out)
        # The CMOS clock and the time of day, which Linux has from the paravirtual clock.
        cmos, day = map(int, got.pop("time")[:2])
        self.assertLessEqual(began, cmos)
        self.assertLessEqual(cmos - 1, day)
        self.assertLessEqual(day, time.time() + 1)
        for name in COMMANDS:
            with self.subTest(command=name):
                self.assertEqual(self.want[name], got.get(name), name)
        self.assertEqual({}, run.stats.get("unimplemented", {}))
        self.assertEqual(mode[0], run.stats["vm"]["engine"])
        if mode[1] != "auto":
            self.assertEqual(mode[1], run.stats["vm"]["mmu"])
        if mode[0] == "soft":
            self.assertGreater(run.counter("vm.audited_entries"), 10000)

    def test_modes(self):
        """Each engine and kind of memory virtualization."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                self.check(mode)

    def test_least_memory(self):
        """As little as the documentation promises to be enough."""
        for mode in harness.MODES:
            with self.subTest(mode=mode):
                run = harness.boot("patterns 4 1", mode, ["--memory", "76M"])
                self.assertIn("patterns 4 ok", run.out)

    def test_host_is_right(self):
        """The commands do succeed on the host, so that equal does not mean equally broken."""
        for name, lines in self.want.items():
            if name == "signals" and harness.PATIENCE > 1:
                continue  # QEMU's processor raises no exceptions of SSE
            with self.subTest(command=name):
                self.assertEqual("-- 0", lines[-1])
                self.assertGreater(len(lines), 1)
                self.assertNotIn("WRONG", "".join(lines))


if __name__ == "__main__":
    harness.main()
