"""Signalling by the clock: CPU per call against calls/s, delays at 500 calls/s, and the highest rate without a failed call."""

import time

from natlab.process import LabError

from . import instructions, load, usage

AT = 500
FIRST = (AT, 1000, 2000)
GROWTH = 1.5
# The search ends when the best rate that passed and the lowest that failed are this close.
CLOSE = 1.1


def measure(run):
    for _ in range(run.repetitions):
        for make, media in run.signalling():
            with run.attempt("signalling of one contender"), make(run.folder) as contender, load.sip() as sip:
                instructions.register(sip, 0, run.users, 1000)
                calm(sip, contender)
                climb(run, contender, sip, ", media" if media else "")


def climb(run, contender, sip, suffix):
    """Rate after rate until calls fail, then between the last two."""
    best, failed, ceiling = 0, None, False
    rates = list(FIRST)
    while failed is None or failed > best * CLOSE:
        if rates:
            rate = rates.pop(0)
        else:
            rate = int(best * GROWTH if failed is None else (best + failed) / 2)
        answer, cpu = step(run, contender, sip, rate)
        if rate == AT:
            run.add(f"p99 of the 100{suffix}", contender.name, answer["trying_p99_us"], rate)
            run.add(f"p99 of the 200's way{suffix}", contender.name, answer["accepted_p99_us"], rate)
        if served(answer):
            best = rate
            run.add(f"CPU per call{suffix}", contender.name, cpu, rate)
            continue
        failed, rates, ceiling = rate, [], answer["behind"] and not answer["refused"]
        if answer["overloaded"]:
            run.results.note(f"{contender.name}{suffix}: answers 503 to some at {rate} calls/s")
        if rate <= FIRST[0]:
            break
        calm(sip, contender)
    run.add(f"highest calls/s{suffix}", contender.name, best)
    if ceiling:
        run.results.note(f"{contender.name}{suffix}: {best} calls/s is the load's own ceiling")
        run.ceilings.add((contender.name, suffix))


def step(run, contender, sip, rate):
    """What came of a while of calls at this rate, and µs of CPU per call."""
    count = int(rate * run.calls_s)
    before = usage.cpu_ns(contender.pids())
    answer = sip.do("calls", rate, count, "sdp")
    used = usage.cpu_ns(contender.pids()) - before
    return answer, used / count / 1000


def served(answer):
    return not answer["refused"] and not answer["lost"] and not answer["behind"]


def calm(sip, contender, patience_s=60):
    """Waits until an easy load is served whole; how long that took."""
    began = time.monotonic()
    while not served(sip.do("calls", 100, 50, "sdp")):
        if time.monotonic() - began > patience_s:
            raise LabError(f"{contender.name} is not well {patience_s} s after it was loaded")
        time.sleep(0.5)
    return time.monotonic() - began
