"""Debian's rtpengine beside the provider, in its default mode unless told otherwise."""

from . import settings
from .process import Process

CONTROL = ("127.0.0.1", 2223)


def start(namespace, address, folder, ports=settings.ATTACKED_PORTS, learning=None):
    """`learning`: how it finds where a phone's media comes from; its own default is `delayed`."""
    command = ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=5", "--table=-1",
               f"--interface={address}", "--listen-ng=%s:%d" % CONTROL,
               f"--port-min={ports[0]}", f"--port-max={ports[1]}"]
    if learning:
        command.append(f"--endpoint-learning={learning}")
    process = Process(namespace, command, folder / "rtpengine.log", cwd=folder)
    process.wait_for_udp(*CONTROL, settings.START_DEADLINE_S)
    return process
