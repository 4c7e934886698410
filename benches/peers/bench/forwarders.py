"""The raw limits: a forwarder with a connected socket a leg, one in the kernel, and no relay at all."""

import json
import pathlib
import socket
import struct
import subprocess

from natlab import netns

from . import load, place
from .contenders import Contender

FIRST_PORT = 10_000
SOURCE = pathlib.Path(__file__).resolve().parents[1] / "tc" / "forward.c"
MEDIA_PORT = 32_768


class Epoll(Contender):
    """Our own bare forwarder: epoll, connected sockets."""

    name = "epoll"

    def __init__(self, folder, sessions):
        super().__init__(folder)
        self.sessions = sessions

    def start(self):
        process = self.run([load.BINARY, "forward", "--address", place.ADDRESS, "--first", str(FIRST_PORT),
                            "--sessions", str(self.sessions), "--callers", place.CALLERS, "--called", place.CALLED])
        self.wait(process, place.ADDRESS, FIRST_PORT + 2 * self.sessions - 1)


class Tc(Contender):
    """A tc-BPF program at the interface; no process."""

    name = "tc-BPF"

    def __init__(self, folder, sessions):
        super().__init__(folder)
        self.sessions = sessions

    def start(self):
        compiled = self.folder / "forward.o"
        checked(["clang", "-O2", "-g", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-c", SOURCE, "-o", compiled])
        inside = ["nsenter", f"--net={netns.RUN_DIR / place.SERVED}"]
        checked([*inside, "tc", "qdisc", "add", "dev", place.FAR, "clsact"])
        checked([*inside, "tc", "filter", "add", "dev", place.FAR, "ingress", "bpf", "direct-action", "obj", compiled,
                 "sec", "tc"])
        shown = json.loads(checked([*inside, "tc", "-j", "filter", "show", "dev", place.FAR, "ingress"]))
        self.program = next(row["options"]["prog"]["id"] for row in shown if "prog" in row.get("options", {}))
        maps = program(self.program)["map_ids"]
        batch = self.folder / "legs"
        batch.write_text("".join(f"map update id {maps[0]} key hex {key} value hex {value}\n"
                                 for key, value in self.legs()))
        checked(["bpftool", "batch", "file", batch])

    def stop(self):
        subprocess.run(["tc", "-n", place.SERVED, "qdisc", "del", "dev", place.FAR, "clsact"], check=False,
                       capture_output=True)
        super().stop()

    def legs(self):
        for leg in range(2 * self.sessions):
            (own, own_port), (other, other_port) = media_at(leg), media_at(leg ^ 1)
            key = struct.pack("!HH", FIRST_PORT + leg, 0)
            value = (socket.inet_aton(own) + socket.inet_aton(other)
                     + struct.pack("!HHHH", own_port, other_port, FIRST_PORT + (leg ^ 1), 0))
            yield key.hex(" "), value.hex(" ")


class Direct(Contender):
    """From phone to phone."""

    name = "direct"

    def start(self):
        pass


def media_at(leg):
    """Where the load has the media of a leg."""
    number = leg // 2
    return place.neighbour((place.CALLERS, place.CALLED)[leg % 2], number % 8), MEDIA_PORT + number // 8 * 2


def program(number):
    """What the kernel tells of a BPF program: its maps, `run_time_ns` and `run_cnt` where they are kept."""
    return json.loads(checked(["bpftool", "-j", "prog", "show", "id", str(number)]))


def checked(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout
