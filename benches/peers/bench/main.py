"""`make bench-peers`: every contender in turn within one run, a table, JSON, plots, and a verdict for each promise."""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from natlab.process import LabError, adopt_orphans

from . import contenders, growth, instructions, load, memory, overload, place, relay, signalling, start, svg, usage, verdicts
from .results import Results, figure

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = ROOT / "target"
# What is measured unless another is named: of these, the one that was made last.
BUILDS = {
    TARGET / "tuned" / "siplatch": "optimised by a profile of itself",
    TARGET / "release" / "siplatch": "the plain release build",
}
# Percent of both cores.
NOISY = 5
NEEDED = ("ip", "nft", "tc", "taskset", "nsenter", "valgrind", "vgdb", "clang", "bpftool", "kamailio", "rtpengine")


class Run:
    """The options of a run, and what it has measured so far."""

    def __init__(self, options, folder):
        self.folder, self.binary = folder, options.binary
        self.wanted = options.contenders
        self.repetitions = options.repetitions or (1 if options.quick else 3)
        self.quick = options.quick
        self.users = 1000
        self.registrations = (1000, 10_000) if options.quick else (1000, 10_000, 100_000)
        self.sessions = (500, 700, 1000) if options.quick else (100, 500, 700, 1000, 1500)
        self.memory_calls = 200 if options.quick else 1000
        self.calls_s = 1 if options.quick else 2
        # (contender, suffix) of which the load, not the contender, was the limit.
        self.ceilings = set()
        self.warm_ms, self.window_ms = (500, 1000) if options.quick else (700, 2000)
        # Sizes at which the whole machine is looked at, too.
        self.whole_at = (500, 1000)
        # Whole-machine nanoseconds per packet without any relay, by sessions.
        self.direct = {}
        self.kernel = False
        # Names of the parts that were measured, and whether one of them broke off.
        self.ran, self.broken = [], False
        self.results = Results()
        self.began = time.monotonic()

    def add(self, measure, contender, value, at=None):
        where = "" if at is None else f" at {at}"
        print(f"  {contender}: {measure}{where}: {figure(value)}", flush=True)
        self.results.add(measure, contender, value, at)

    @contextlib.contextmanager
    def attempt(self, what):
        """What fails here is noted, ends the run's success, and keeps nothing else from being measured."""
        try:
            yield
        except (LabError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.broken = True
            self.results.note(f"{what} broke off: {error}")

    def signalling(self):
        """(how a contender is made, whether it controls media), of those that are wanted."""
        pairs = [
            (lambda *a, **k: contenders.Siplatch(*a, binary=self.binary, media=False, **k), False),
            (contenders.Kamailio, False),
            (lambda *a, **k: contenders.Siplatch(*a, binary=self.binary, **k), True),
            (contenders.KamailioRtpengine, True),
        ]
        names = ["siplatch", "kamailio", "siplatch", "kamailio+rtpengine"]
        return [pair for pair, name in zip(pairs, names) if self.wants(name)]

    def wants(self, name):
        return not self.wanted or name in self.wanted


def parts():
    """By name: what is measured, in order."""
    return {
        "instructions": instructions.measure,
        "signalling": signalling.measure,
        "relay": relay.measure,
        "memory": memory.measure,
        "start": start.measure,
        "overload": overload.measure,
        "growth": growth.measure,
    }


def main():
    options = arguments()
    missing = [program for program in NEEDED if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        print(f"bench-peers needs root, and: {', '.join(missing) or 'nothing more'}; benches/peers/install installs it")
        return 2
    for binary in (options.binary, load.BINARY):
        if not binary.exists():
            print(f"{binary} is not built: cargo build --release --locked -p siplatch-daemon -p siplatch-bench-peers")
            return 2
    # Whoever ends us wants the namespaces removed, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, place.made():
        run = Run(options, pathlib.Path(folder))
        settings = settings_of(options, quiet(run))
        print(", ".join(f"{name} {value}" for name, value in settings.items()), flush=True)
        run.kernel = kernel_relay(run)
        for name, measure in parts().items():
            if options.only and name not in options.only:
                continue
            began = time.monotonic()
            print(f"{name}:", flush=True)
            run.ran.append(name)
            with run.attempt(name):
                measure(run)
            print(f"  {name} took {time.monotonic() - began:.0f} s", flush=True)
    return report(run, options, settings)


def kernel_relay(run):
    """Whether this program can be told to relay in the kernel; else a note says why."""
    if not run.wants("siplatch kernel"):
        return False
    config = run.folder / "kernel.toml"
    config.write_text('[media]\ndatapath = "kernel"\n')
    asked = subprocess.run([run.binary, "check", config], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        run.results.note(f"siplatch kernel is left out: {(asked.stdout + asked.stderr).strip()}")
    return asked.returncode == 0


def quiet(run):
    """How much of both cores is taken before anything is measured; who reads the figures should know."""
    with contextlib.ExitStack() as stack:
        cores = (place.LOAD_CORE, place.CONTENDER_CORE)
        spinners = [stack.enter_context(relay.spinner(core)) for core in cores]
        time.sleep(0.2)
        before, began = usage.cpu_ns(spinners), time.monotonic_ns()
        time.sleep(2)
        idle, took = usage.cpu_ns(spinners) - before, time.monotonic_ns() - began
    busy = 100 * (1 - idle / (len(cores) * took))
    print(f"before the run, {busy:.1f} % of both cores are busy with something else", flush=True)
    if busy > NOISY:
        run.results.note(f"{busy:.0f} % of both cores were busy with something else before the run: times are noise")
    return busy


def report(run, options, settings):
    print()
    print(f"siplatch is {settings['build']}")
    print(run.results.table())
    lines = verdicts.Verdicts(run).all()
    print()
    print(verdicts.table(lines))
    for note in run.results.notes:
        print(f"note: {note}")
    if options.json:
        options.json.write_text(run.results.json(settings, lines))
        print(options.json)
    if options.svg:
        svg.write(run.results, options.svg)
    missed = sum(line["verdict"] == "MISS" for line in lines)
    kept = sum(line["verdict"] == "PASS" for line in lines)
    print(f"{kept} promises kept, {missed} missed; {time.monotonic() - run.began:.0f} s")
    return 1 if missed or run.broken else 0


def last_built():
    """Of `BUILDS`; where there is none yet, the one that is easy to make."""
    there = [path for path in BUILDS if path.exists()]
    return max(there, key=lambda path: path.stat().st_mtime, default=TARGET / "release" / "siplatch")


def build(binary):
    """Which binary it is, in words."""
    return f"{binary}, {BUILDS.get(binary, 'which was named')}"


def settings_of(options, busy):
    """What the figures depend on."""
    version = subprocess.run([options.binary, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    packages = {name: subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True,
                                     check=False).stdout for name in ("kamailio", "rtpengine-daemon", "valgrind")}
    cpu = next(line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
               if line.startswith("model name"))
    return {"siplatch": version, "build": build(options.binary), **packages, "kernel": os.uname().release, "cpu": cpu,
            "cores": os.cpu_count(), "busy before, %": round(busy, 1), "quick": options.quick}


def arguments():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(parts()), help="measure this part alone; may be repeated")
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=[], help="only these, with commas")
    parser.add_argument("--repetitions", type=int, help="of each measurement (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a short look: fewer sizes, shorter, once each")
    parser.add_argument("--binary", type=lambda text: pathlib.Path(text).resolve(), default=last_built(),
                        help="of target/tuned/siplatch and target/release/siplatch the one that was made last")
    parser.add_argument("--json", type=pathlib.Path, help="write everything that was measured into this file")
    parser.add_argument("--svg", type=pathlib.Path, help="write the plots into this folder")
    return parser.parse_args()
