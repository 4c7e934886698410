"""Memory per relayed call; what the kernel keeps for sockets apart. Memory per registration is measured in `growth`."""

import pathlib
import re

from . import contenders, relay, usage


def measure(run):
    for _ in range(run.repetitions):
        for make, media in run.signalling():
            if media:
                with run.attempt("memory of one contender"):
                    relayed(run, make)
        if run.kernel:
            with run.attempt("memory of siplatch kernel"):
                relayed(run, lambda folder: contenders.SiplatchKernel(folder, run.binary))


def relayed(run, make):
    """From no call to many that all carry audio."""
    with make(run.folder) as contender, relay.rtp("sip", None) as phones:
        phones.do("sessions", 8)
        phones.do("stream", 500)
        before, program = usage.private_bytes(contender.pids()), usage.file_bytes(contender.pids())
        kernel = slab_bytes()
        phones.do("sessions", 8 + run.memory_calls)
        phones.do("stream", 1000)
        grown, program = usage.private_bytes(contender.pids()) - before, usage.file_bytes(contender.pids()) - program
        kernel = slab_bytes() - kernel
        run.add("memory per relayed call", contender.name, grown / run.memory_calls)
        run.add("program's pages per relayed call", contender.name, program / run.memory_calls)
        run.add("kernel memory per relayed call", contender.name, kernel / run.memory_calls)


def slab_bytes():
    """What the kernel's object caches hold, sockets among them."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"^Slab:\s+(\d+) kB", text, re.MULTILINE).group(1)) * 1024
