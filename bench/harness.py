# SPDX-License-Identifier: Apache-2.0
"""Run a guest under some virtual machine monitor and measure it from outside.

A guest tells the harness on its serial console when its init runs ("mezz-init: up"), what
each workload took by its own clock ("bench NAME OPS NANOSECONDS"), what that clock said before
and after ("clock SECONDS"), and how its command ended ("mezz-init: exit STATUS"). The harness
stamps every line with the host's clock, compares the two clocks, samples the memory of the
process that holds guest RAM, and bounds everything in time.
"""

import contextlib
import ctypes
import dataclasses
import json
import mmap
import os
import pathlib
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
from built import BUILD, MEZZ, ROOT, command_parameter, end_session  # noqa: E402

INIT_LINE = "mezz-init: up"
EXIT_LINE = "mezz-init: exit 0"
BENCH_LINE = re.compile(r"^bench ([\w.:-]+) (\d+) (\d+)$")
CLOCK_LINE = re.compile(r"^clock (\d+\.\d+)$")
CMDLINE_HEADER = ROOT / "src" / "boot" / "cmdline.h"
MEMORY_MIB = 512
SAMPLE_PERIOD_S = 0.2
# Clocks that differ by more than this over a run that is long enough to tell are broken.
CLOCK_TOLERANCE = 0.05
CLOCK_MIN_S = 1.0


class BenchError(Exception):
    """What went wrong, for the person at the terminal."""


@dataclasses.dataclass
class Image:
    """What is booted."""

    kernel: pathlib.Path
    initrd: pathlib.Path

    @classmethod
    def find(cls, folder):
        """The kernel and initramfs of `make guest`."""
        def one(*patterns):
            for pattern in patterns:
                for path in sorted(folder.glob(pattern)):
                    if path.is_file():
                        return path
            raise BenchError(f"no {' or '.join(patterns)} in {folder}: run make guest first")
        return cls(one("vmlinuz*", "kernel*", "bzImage"), one("initr*"))


@dataclasses.dataclass
class Result:
    """One run of one guest."""

    boot_s: float = 0.0
    wall_s: float = 0.0
    extra_kib: int = 0
    peak_kib: int = 0
    guest_ram_kib: int = 0
    ops: dict = dataclasses.field(default_factory=dict)
    ns_per_op: dict = dataclasses.field(default_factory=dict)
    stats: dict = dataclasses.field(default_factory=dict)


def tsc_khz():
    """Frequency of the host's time-stamp counter, for guests that have no timer to find it by."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # rdtsc; shl rdx, 32; or rax, rdx; ret
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))
    anchor = ctypes.c_char.from_buffer(code)
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))
    samples = []
    for _ in range(5):
        start_ns, start = time.monotonic_ns(), rdtsc()
        time.sleep(0.05)
        end_ns, end = time.monotonic_ns(), rdtsc()
        samples.append((end - start) * 1_000_000 / (end_ns - start_ns))
    return round(statistics.median(samples))


class Qemu:
    """The peer: QEMU's own translator, with the machine type that boots this kernel fastest."""

    name = "qemu-tcg"

    # The processor that ours presents too: what it lacks, Linux and libc do not use in either.
    CPU = "qemu64,+nx,+cx16,+pdpe1gb,+rdtscp,+smep,+smap"

    def __init__(self, cpu=CPU, tweak=""):
        self.khz = tsc_khz()
        self.cpu = cpu
        self.tweak = tweak

    def command(self, image, append, _stats):
        """Command line of one run.

        The machine has no PIT: reading it for calibration goes wrong whenever the host is busy.
        Linux is told the frequency of the time-stamp counter instead, which in TCG is the host's.
        (That it must not doubt the counter when ticks are late is in the common command line:
        it would count time by those ticks then.)
        """
        machine = "microvm,acpi=on,pit=off,pic=off,rtc=on,isa-serial=on,auto-kernel-cmdline=off"
        return ["qemu-system-x86_64", "-accel", "tcg", "-machine", machine + self.tweak,
                "-cpu", self.cpu, "-smp", "1", "-m", str(MEMORY_MIB), "-no-user-config",
                "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                "-kernel", str(image.kernel), "-initrd", str(image.initrd),
                "-append", f"{append} tsc_early_khz={self.khz}"]


class Mezz:
    """Ours."""

    def __init__(self, mmu="auto", extra=()):
        self.name = "mezz" if mmu == "auto" else f"mezz-{mmu}"
        self.mmu = mmu
        self.extra = list(extra)
        if not MEZZ.exists():
            raise BenchError(f"{MEZZ} is not there: run make first")

    def command(self, image, append, stats):
        """Command line of one run. Without a memory manager, for the peer has none beside it."""
        return [str(MEZZ), "run", "--no-host", "--engine", "soft", "--mmu", self.mmu,
                "--memory", f"{MEMORY_MIB}M", "--kernel", str(image.kernel),
                "--initrd", str(image.initrd), "--bare", "--append", append, "--stats", stats, *self.extra]


def descendants(pid):
    """A process and everything that it started."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):  # it may end meanwhile
            for task in os.listdir(f"/proc/{pid}/task"):
                todo += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


HOME_FILE = "/memfd:mezz-home"
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s*(.*)$")


def memory_of(pid, ram_bytes):
    """(resident KiB without guest RAM, resident KiB of guest RAM) of a process.

    Guest RAM is what is mapped of our home file, or the mapping that is exactly as long as it.
    """
    extra = 0
    ram = []
    inside = False
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as smaps:
        for line in smaps:
            if line.startswith("Rss:"):
                kib = int(line.split()[1])
                if inside:
                    ram.append(kib)
                else:
                    extra += kib
                continue
            match = MAPPING.match(line)
            if match:
                size = int(match.group(2), 16) - int(match.group(1), 16)
                inside = HOME_FILE in match.group(3) or size == ram_bytes
    return extra, sum(ram)


class MemorySampler(threading.Thread):
    """Memory beyond guest RAM of the process that holds guest RAM: at the end, when caches are
    warm, and the most at any time (loading the kernel included)."""

    def __init__(self, pid, ram_bytes):
        super().__init__(daemon=True)
        self.pid = pid
        self.ram_bytes = ram_bytes
        self.extra_kib = self.peak_kib = self.ram_kib = 0
        self.done = threading.Event()

    def run(self):
        self.look()
        while not self.done.wait(SAMPLE_PERIOD_S):
            self.look()

    def look(self):
        """Take one sample."""
        for pid in descendants(self.pid):
            try:
                extra, ram = memory_of(pid, self.ram_bytes)
            except (OSError, ValueError):
                continue
            if ram:
                self.extra_kib = extra
                self.peak_kib = max(self.peak_kib, extra)
                self.ram_kib = max(self.ram_kib, ram)

    def stop(self):
        """End sampling and wait for the last sample."""
        self.done.set()
        if self.ident:
            self.join()


def read_lines(stream, deadline):
    """Yield (host time in ns, line) until the stream ends; raise when time is up."""
    selector = selectors.DefaultSelector()
    selector.register(stream, selectors.EVENT_READ)
    rest = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not selector.select(left):
            raise TimeoutError
        data = os.read(stream.fileno(), 65536)
        stamp = time.monotonic_ns()
        if not data:
            if rest:
                yield stamp, rest.decode(errors="replace").strip("\r")
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield stamp, line.decode(errors="replace").strip("\r")


def tail(lines, count=15):
    """The end of what a guest printed, for a message."""
    return "".join(f"\n    {line}" for _, line in lines[-count:])


def default_command_line():
    """What `mezz run` gives a guest by default; the peer's guest gets the same."""
    found = re.search(r"#define BOOT_CMDLINE_DEFAULT((?:\s|\\\n|\"[^\"\n]*\")+)",
                      CMDLINE_HEADER.read_text())
    words = "".join(re.findall(r'"([^"\n]*)"', found.group(1))) if found else ""
    if "console=ttyS0" not in words:
        raise BenchError(f"no default kernel command line in {CMDLINE_HEADER}")
    return words


def command_line(workloads):
    """Kernel command line of a guest that runs workloads ("NAME [OPS [PARAMETER]]") and ends."""
    clock = "read -r up idle </proc/uptime && echo clock $up"
    command = " && ".join([clock, *(f"bench {w}" for w in workloads), clock])
    return f"{default_command_line()} {command_parameter(command)}"


def run_once(vmm, image, workloads, timeout_s, sample_start=True):
    """Boot a guest, run workloads in it, measure. Raises BenchError if anything is missing.

    Without SAMPLE_START memory is looked at when the guest's init runs, and not before: where
    processors are slow, looking delays the start."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="mezz-bench-") as folder, \
            open(os.path.join(folder, "stderr"), "w+b") as errors:
        stats = os.path.join(folder, "stats.json")
        append = command_line(workloads)
        start = time.monotonic()
        start_ns = time.monotonic_ns()
        try:
            proc = subprocess.Popen(vmm.command(image, append, stats), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        except OSError as error:
            raise BenchError(f"{vmm.name}: {error}") from error
        sampler = MemorySampler(proc.pid, MEMORY_MIB << 20)
        if sample_start:
            sampler.start()
        try:
            for stamp, line in read_lines(proc.stdout, start + timeout_s):
                lines.append((stamp, line))
                if INIT_LINE in line and not sampler.ident:
                    sampler.start()
            code = proc.wait(max(1.0, start + timeout_s - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise BenchError(f"{vmm.name}: not finished after {timeout_s} s; "
                             f"it printed last:{tail(lines)}") from None
        finally:
            end_session(proc)
            sampler.stop()
            proc.stdout.close()
        wall_s = time.monotonic() - start
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
        if code != 0:
            raise BenchError(f"{vmm.name}: ended with status {code}: {said[-500:]}{tail(lines)}")
        result = read_result(vmm.name, lines, start_ns, len(workloads))
        result.wall_s = wall_s
        result.extra_kib, result.peak_kib = sampler.extra_kib, sampler.peak_kib
        result.guest_ram_kib = sampler.ram_kib
        if os.path.exists(stats):
            with open(stats, encoding="utf-8") as file:
                result.stats = json.load(file)
    return result


def read_result(name, lines, start_ns, n_workloads):
    """Make a result of the stamped lines of a run."""
    result = Result()
    clocks = []
    ended = False
    for stamp, line in lines:
        if not result.boot_s and INIT_LINE in line:
            result.boot_s = (stamp - start_ns) / 1e9
        ended = ended or line == EXIT_LINE
        clock = CLOCK_LINE.match(line)
        if clock:
            clocks.append((stamp / 1e9, float(clock.group(1))))
        match = BENCH_LINE.match(line)
        if not match:
            continue
        what, ops, spent_ns = match.group(1), int(match.group(2)), int(match.group(3))
        if not ops or not spent_ns or what in result.ops:
            raise BenchError(f"{name}: the guest printed {line!r}")
        result.ops[what] = ops
        result.ns_per_op[what] = spent_ns / ops
    if not result.boot_s:
        raise BenchError(f"{name}: the guest never said {INIT_LINE!r}:{tail(lines)}")
    if not ended or len(result.ops) != n_workloads or len(clocks) != 2:
        raise BenchError(f"{name}: the workloads did not run to their end:{tail(lines)}")
    check_clock(name, *clocks)
    return result


def check_clock(name, start, end):
    """A guest whose clock runs fast or slow cannot time anything."""
    host, guest = end[0] - start[0], end[1] - start[1]
    if host >= CLOCK_MIN_S and abs(guest / host - 1) > CLOCK_TOLERANCE:
        raise BenchError(f"{name}: {host:.2f} s of the host were {guest:.2f} s by the guest's clock, "
                         "so its figures mean nothing")


def run_in_turn(vmms, image, workloads, runs, timeout_s, report=print, before=lambda: None,
                sample_start=True):
    """Run each monitor once, then all again, so that a slow spell of the host hits all of them.
    Before each run, call BEFORE. SAMPLE_START is as for run_once().

    Returns name to results. A monitor that fails twice in a row ends it."""
    results = {vmm.name: [] for vmm in vmms}
    for turn in range(runs):
        for vmm in vmms:
            try:
                before()
                result = run_once(vmm, image, workloads, timeout_s, sample_start)
            except BenchError as error:
                report(f"{error}\n  … once more")
                before()
                result = run_once(vmm, image, workloads, timeout_s, sample_start)
            results[vmm.name].append(result)
            report(f"  {turn + 1}/{runs} {vmm.name:14} boot {result.boot_s:6.2f} s, "
                   f"all {result.wall_s:6.2f} s, {result.extra_kib / 1024:6.1f} MiB beyond guest RAM")
    return results


def median(values):
    """Median of a list."""
    return statistics.median(values)


def spread_pct(values):
    """Half the range of the values, in percent of their median."""
    middle = median(values)
    return 100 * (max(values) - min(values)) / 2 / middle if middle else 0.0


def lookup(stats, path):
    """The number at a dotted path of a stats document, or None."""
    at = stats
    for key in path.split("."):
        at = at.get(key) if isinstance(at, dict) else None
    return at if isinstance(at, (int, float)) and not isinstance(at, bool) else None


def number(value):
    """A figure with three or four digits that matter."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}"


def table(head, rows):
    """Text of a table: first column left, the others right."""
    cells = [head] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        lines.append("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write_json(path, document):
    """Write a document whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    temporary.replace(path)
