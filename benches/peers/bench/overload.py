"""Twice the load that can be carried: who loses how much, what is refused how, and how soon all is well again.

Others share the contender's core, so that the load is certain to be able to send twice as much as is carried.
"""

import contextlib
import subprocess
import time

from natlab.process import LabError, die_with_parent

from . import contenders, instructions, load, place, relay, signalling

HOGS = 4
# Percent kept, below which a relay is taken to be overloaded by half.
OVERLOADED = 65
PATIENCE_S = 90
ESTABLISHED = 200
BESIDE = 500
AUDIO_MS = 10_000


def measure(run):
    if not run.wants("siplatch"):
        return
    with run.attempt("audio beside busy processes"):
        relay_goes_first(run)
    with run.attempt("overload of the relay"):
        relay_drops_evenly(run)
    with run.attempt("overload of signalling"):
        signalling_refuses(run)


def relay_goes_first(run):
    """The delay of audio beside others that are busy on its core."""
    with contenders.Siplatch(run.folder, run.binary), relay.rtp("sip", None) as phones, slowed():
        phones.do("sessions", BESIDE)
        phones.do("stream", run.warm_ms)
        answer = phones.do("stream", run.window_ms)
        run.add("beside busy processes: p99 delay", "siplatch", answer["delay_p99_us"], BESIDE)
        run.add("beside busy processes: audio kept", "siplatch", 100 * share(answer), BESIDE)


def relay_drops_evenly(run):
    """More and more others on its core, until about half of the audio is lost.

    At the usual priority: with the other one the core could not be taken away.
    """
    with contenders.Siplatch(run.folder, run.binary, priority="normal"), relay.rtp("sip", None) as phones:
        most = 1600 if not run.quick else 800
        phones.do("sessions", most)
        phones.do("stream", 500)
        for hogs in (1, 2, 3, 4, 6, 8, 11, 15, 20):
            with slowed(hogs):
                # What waits in sockets at the beginning is no sign of what can be carried.
                phones.do("stream", 1000)
                answer = phones.do("stream", run.window_ms)
            kept = 100 * share(answer)
            if kept < OVERLOADED:
                break
        else:
            run.results.note(f"{most} sessions and {hogs} busy processes did not overload the relay")
        run.add("overloaded relay: audio kept", "siplatch", kept)
        run.add("overloaded relay: least kept by a phone", "siplatch", 100 * answer["share_min"])
        run.add("overloaded relay: most kept by a phone", "siplatch", 100 * answer["share_max"])
        began = time.monotonic()
        while share(phones.do("stream", 1000)) < 0.99 and time.monotonic() < began + PATIENCE_S:
            pass
        run.add("overloaded relay: normal after", "siplatch", time.monotonic() - began)


def share(answer):
    return answer["received"] / answer["sent"]


def signalling_refuses(run):
    with contenders.Siplatch(run.folder, run.binary) as contender, relay.rtp("sip", None) as phones, \
            load.sip(phones=64, shift=2000) as sip:
        phones.do("sessions", ESTABLISHED)
        instructions.register(sip, 0, 504, 500)
        signalling.calm(sip, contender)
        with slowed():
            rate = highest(sip)
            signalling.calm(sip, contender)
            phones.begin("stream", AUDIO_MS)
            answer = sip.do("calls", rate * 2, int(rate * 2 * AUDIO_MS / 1250), "sdp")
            audio = phones.end()
            run.add("overloaded signalling: normal after", "siplatch", signalling.calm(sip, contender))
        offered = answer["calls"]
        run.add("overloaded signalling: offered", "siplatch", rate * 2)
        run.add("overloaded signalling: calls served", "siplatch", 100 * answer["done"] / offered)
        run.add("overloaded signalling: calls answered 503", "siplatch", 100 * answer["overloaded"] / offered)
        if answer["overloaded"]:
            run.add("overloaded signalling: 503 with Retry-After", "siplatch",
                    100 * answer["retry_after"] / answer["overloaded"])
        run.add("overloaded signalling: audio kept", "siplatch", 100 * share(audio))


def highest(sip):
    """The highest rate that a slowed contender serves, roughly."""
    rate = 100
    while signalling.served(sip.do("calls", rate, rate, "sdp")):
        rate = int(rate * 1.4)
        if rate > 20_000:
            raise LabError("the contender cannot be overloaded")
    return rate


@contextlib.contextmanager
def slowed(hogs=HOGS):
    """Others take most of the contender's core; each in a session of its own, for the scheduler may share by session."""
    others = [
        subprocess.Popen(["taskset", "-c", str(place.CONTENDER_CORE), "sh", "-c", "while :; do :; done"],
                         start_new_session=True, preexec_fn=die_with_parent)
        for _ in range(hogs)
    ]
    try:
        yield
    finally:
        for hog in others:
            hog.kill()
            hog.wait()
