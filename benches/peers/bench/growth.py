"""The more phones there are: instructions per call, and memory per registration.

Phones register at full speed; then the program is started anew under valgrind, and knows them from its state.
"""

import math
import time

from . import contenders, load, usage
from .count import COMMAND, Count
from .instructions import CALLS, register, served

# Of siplatch, whose transactions of the last 32 s have a limit, and of Kamailio, which answers registrations itself.
RATE, KAMAILIO_RATE = 1000, 4000
# A transaction lives so long (RFC 3261, timer J); and longer than that.
TRANSACTION_S, SETTLE_S = 32, 35
RESTORED_S, RESTORED_PER_S = 5, 10_000


def measure(run):
    first, last = run.registrations[-2:]
    if run.wants("siplatch"):
        with load.core() as sip, contenders.SiplatchBorder(run.folder, run.binary, fresh(run, "border")) as contender:
            register(sip, 0, first, RATE)
            grown(run, contender, sip, first, last)
        with load.core() as sip:
            state, known = fresh(run, "office"), 0
            for users in run.registrations:
                with contenders.SiplatchOffice(run.folder, run.binary, state):
                    register(sip, known, users - known, RATE)
                known = users
                count(run, state, sip, users)
    if run.wants("kamailio"):
        with contenders.Kamailio(run.folder) as contender, load.sip() as sip:
            register(sip, 0, first, KAMAILIO_RATE)
            grown(run, contender, sip, first, last, KAMAILIO_RATE)


def fresh(run, name):
    state = run.folder / name
    state.mkdir()
    return state


def grown(run, contender, sip, known, users, rate=RATE):
    """Memory with many phones less that with few; what transactions need at this rate was there before, and is free."""
    for _ in range(math.ceil(min(users - known, rate * TRANSACTION_S) / known)):
        register(sip, 0, known, rate)
    time.sleep(SETTLE_S)
    before = usage.private_bytes(contender.pids())
    register(sip, known, users - known, rate)
    if not run.quick:
        time.sleep(SETTLE_S)
    grown_by = usage.private_bytes(contender.pids()) - before
    run.add("memory per registration", contender.name, grown_by / (users - known))


def count(run, state, sip, users):
    with contenders.SiplatchOffice(run.folder, run.binary, state, under=COMMAND) as contender, Count(contender) as counter:
        # What is restored is restored before anything is counted.
        time.sleep(RESTORED_S + users / RESTORED_PER_S)
        counter.until(lambda: sip.do("calls", 0, 20, "sdp"))
        for _ in range(run.repetitions):
            programs = served(counter, lambda: sip.do("calls", 0, CALLS, "sdp"))
            run.add("instructions per call, growth", contender.name, sum(programs.values()), users)
