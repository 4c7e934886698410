"""From the start of the program to the first REGISTER that it answers; one is sent every millisecond."""

import time

from . import load

PORTS = "10000-19999"


def measure(run):
    for _ in range(run.repetitions):
        for make, _media in run.signalling():
            contender = make(run.folder)
            contender.ports = PORTS
            with load.sip(phones=8) as sip:
                sip.begin("first-answer")
                began = time.time_ns()
                with contender:
                    answer = sip.end()
            name = contender.name if not _media else f"{contender.name}, media"
            run.add("start to first answered REGISTER", name, (answer["at_ns"] - began) / 1e6)
