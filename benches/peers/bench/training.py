"""What a program does that counts its own steps, so that it is built again by these counts (`benches/peers/tune`).

    python3 -m bench.training BINARY

Standalone, without media and with: phones register, register the same again and anew, and call each other at rates at
which nobody is refused; then audio through the relay in user space, and an office with its core. That is no measured run:
rates, numbers and order are others. The program ends by SIGTERM each time, and writes its counts then.
"""

import pathlib
import sys
import tempfile

from natlab.process import LabError, adopt_orphans

from . import contenders, instructions, load, place, relay

USERS = 800
# A second.
REGISTERS, CALLS = 400, (150, 400)
CALLS_S = 3
SESSIONS, AUDIO_MS = 120, 4000
# One in so many.
MOST_WRONG = 50


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="training-") as folder, place.made():
        folder = pathlib.Path(folder)
        for media in (False, True):
            with load.sip() as phones, contenders.Siplatch(folder, binary, media=media):
                speak(phones)
        with contenders.Siplatch(folder, binary), relay.rtp("sip", None) as phones:
            phones.do("sessions", SESSIONS)
            phones.do("stream", AUDIO_MS)
        with load.core() as phones, contenders.SiplatchOffice(folder, binary, folder):
            speak(phones)


def speak(phones):
    instructions.register(phones, 0, USERS, REGISTERS)
    for how in ("register", "anew"):
        served(phones.do(how, REGISTERS, 0, USERS))
    for rate in CALLS:
        served(phones.do("calls", rate, rate * CALLS_S, "sdp"))


def served(answer):
    """A program that refuses would learn to refuse."""
    wrong = answer["refused"] + answer["lost"]
    if wrong * MOST_WRONG > answer.get("done", answer.get("answered")):
        raise LabError(f"the training is too much for this machine: {answer}")


if __name__ == "__main__":
    main()
