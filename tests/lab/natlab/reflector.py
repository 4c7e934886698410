"""The public STUN server that knows RFC 5780: siplatch itself, on two addresses."""

from . import settings
from .process import Process


def start(namespace, addresses, binary, folder):
    process = Process(
        namespace, [binary, "reflect", "--address", addresses[0], "--other", addresses[1]], folder / "reflect.log",
        cwd=folder, env={"NO_COLOR": "1"},
    )
    process.wait_for_line(r"answered on", settings.START_DEADLINE_S)
    return process
