"""Instructions of signalling: per call without and with media, per REGISTER, and per call the more phones there are."""

import time

from natlab.process import LabError

from . import load
from .count import COMMAND, Count

# One call at a time: valgrind is slow, and an even rate would be too much or too little. All windows together are over
# before the first call's last timer ends (RFC 3261 timers B, F, H, J: 32 s); what is left to do then is counted apart.
CALLS = 60
AFTERWARDS_S = 40
REGISTERS = 200
TRIES = 20
# One in so many.
MOST_WRONG = 25


def measure(run):
    for make, media in run.signalling():
        with run.attempt("a count of instructions"):
            count_calls(run, make, media)


def count_calls(run, make, media):
    with make(run.folder, under=COMMAND) as contender, load.sip() as sip:
        register(sip, 0, run.users)
        name, measured = contender.name, "instructions per call, media" if media else "instructions per call"
        with Count(contender) as count:
            if not media:
                count.until(lambda: sip.do("register", 0, 0, 20))
                for what, how in (("", "register"), (", anew", "anew")):
                    for _ in range(run.repetitions):
                        programs = served(count, lambda how=how: sip.do(how, 0, 0, REGISTERS))
                        run.add(f"instructions per REGISTER{what}", name, sum(programs.values()), run.users)
            count.until(lambda: sip.do("calls", 0, 20, "sdp"))
            for _ in range(run.repetitions):
                programs = served(count, lambda: sip.do("calls", 0, CALLS, "sdp"))
                if len(programs) > 1:
                    for program, total in programs.items():
                        run.add(measured, f"{program} of {name}", total, run.users)
                run.add(measured, name, sum(programs.values()), run.users)
            left = sum(count.of(lambda: time.sleep(AFTERWARDS_S)).values())
            run.add(f"{measured}, afterwards", name, left / (20 + CALLS * run.repetitions), run.users)


def served(count, step):
    """Instructions by program of each thing that was served; what it costs to refuse is not asked here."""
    for _ in range(TRIES):
        answers = []
        programs = count.of(lambda: answers.append(step()))
        good = answers[0].get("done", answers[0].get("answered"))
        wrong = answers[0]["refused"] + answers[0]["lost"]
        # One that was refused for the slowness of valgrind costs little beside so many others.
        if wrong * MOST_WRONG <= good:
            return {program: total / good for program, total in programs.items()}
        time.sleep(1)
    raise LabError(f"not everything was served under valgrind: {answers[0]}")


def register(sip, known, count, rate=0):
    """Registers users in portions, those that were refused again; `rate` 0 is one by one."""
    while count > 0:
        portion = min(count, 500 if rate == 0 else 2 * rate)
        while sip.do("register", rate, known, portion)["answered"] < portion:
            time.sleep(0.5)
        known, count = known + portion, count - portion
