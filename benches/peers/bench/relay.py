"""The relay: CPU of the process and of the whole machine per packet, added delay and loss, by the number of sessions."""

import contextlib
import pathlib
import subprocess

from natlab.process import die_with_parent

from . import contenders, forwarders, load, place, usage

STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


def measure(run):
    with bpf_stats():
        for _ in range(run.repetitions):
            for name, make, via, to in relays(run):
                with run.attempt(f"relay by {name}"), make() as contender:
                    measure_one(run, contender, via, to)
    for name in run.results.contenders("p99 delay"):
        series = run.results.series("p99 delay", name)
        good = [at for at, median, _, _ in series if median < 1000]
        run.results.add("sessions with p99 < 1 ms", name, max(good, default=0))


def relays(run):
    """(name, how it is made, how sessions come about, where they are asked for)."""
    most = max(run.sessions)
    first_port = (place.ADDRESS, forwarders.FIRST_PORT)
    every = [
        ("direct", lambda: forwarders.Direct(run.folder), "direct", None),
        ("rtpengine", lambda: contenders.Rtpengine(run.folder), "ng", contenders.Rtpengine.ng),
        ("siplatch", lambda: contenders.Siplatch(run.folder, run.binary), "sip", None),
        ("epoll", lambda: forwarders.Epoll(run.folder, most), "ports", first_port),
        ("tc-BPF", lambda: forwarders.Tc(run.folder, most), "ports", first_port),
    ]
    if run.kernel:
        every.append(("siplatch kernel", lambda: contenders.SiplatchKernel(run.folder, run.binary), "sip", None))
    return [row for row in every if run.wants(row[0])]


def rtp(via, to):
    out, into = place.DIRECT if via == "direct" else (place.NEAR, place.NEAR)
    options = {"to": "%s:%d" % to} if to else {}
    return load.Load("rtp", via=via, out=out, callers=place.CALLERS, called=place.CALLED, proxy="%s:%d" % place.SIP,
                     mac=place.MACS[out], **{"in": into, "peer-mac": place.PEER_MACS[out]}, **options)


def measure_one(run, contender, via, to):
    name = contender.name
    with rtp(via, to) as phones:
        for sessions in run.sessions:
            phones.do("sessions", sessions)
            phones.do("stream", run.warm_ms)
            before, ran = usage.cpu_ns(contender.pids()), run_time(contender)
            answer = phones.do("stream", run.window_ms)
            used, ran_since = usage.cpu_ns(contender.pids()) - before, run_time(contender)
            packets = answer["sent"]
            if contender.processes:
                run.add("CPU per packet", name, used / packets / 1000, sessions)
            if ran and ran_since[1] > ran[1]:
                run.add("program's run time", name, (ran_since[0] - ran[0]) / (ran_since[1] - ran[1]), sessions)
            run.add("p50 delay", name, answer["delay_p50_us"], sessions)
            run.add("p99 delay", name, answer["delay_p99_us"], sessions)
            run.add("loss", name, 100 * (1 - answer["received"] / packets), sessions)
            if answer["astray"]:
                run.results.note(f"{name}: {answer['astray']} packets came where they do not belong")
            if answer["late_us"] > 20_000:
                run.results.note(f"the RTP load was late by {answer['late_us'] / 1000:.0f} ms: {name}, {sessions} sessions")
            if sessions not in run.whole_at:
                continue
            whole = whole_machine(phones, run.window_ms)
            if name == "direct":
                run.direct.setdefault(sessions, []).append(whole)
            elif sessions in run.direct:
                run.add("whole-machine CPU per packet", name, (whole - run.direct[sessions][-1]) / 1000, sessions)


def whole_machine(phones, window_ms):
    """Nanoseconds of all cores per packet while all speak: what a process of the lowest priority on each does not get."""
    cores = (place.LOAD_CORE, place.CONTENDER_CORE)
    with contextlib.ExitStack() as stack:
        spinners = [stack.enter_context(spinner(core)) for core in cores]
        phones.do("stream", 200)
        before = usage.cpu_ns(spinners)
        answer = phones.do("stream", window_ms)
        idle = usage.cpu_ns(spinners) - before
    # The load listens on for a while after the last packet, which is in the time that the spinners had.
    took = answer["elapsed_ns"] + answer["drained_ns"]
    return (len(cores) * took - idle) / answer["sent"]


@contextlib.contextmanager
def spinner(core):
    child = subprocess.Popen(["taskset", "-c", str(core), str(load.BINARY), "spin"], preexec_fn=die_with_parent)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def run_time(contender):
    """(nanoseconds, runs) of the contender's program in the kernel; `None` if it has none."""
    programs = contender.programs()
    if not programs:
        return None
    shown = [forwarders.program(number) for number in programs]
    return sum(one.get("run_time_ns", 0) for one in shown), sum(one.get("run_cnt", 0) for one in shown)


@contextlib.contextmanager
def bpf_stats():
    """The kernel keeps the run time of BPF programs; that costs each run some 20 ns, the same for every program."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)
