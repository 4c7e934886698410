"""One program, with its output in a file, and waits for what it opens."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Trouble(Exception):
    """A peer, or siplatch, did not come up."""


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child that dies with the runner, even if the runner is killed."""

    def __init__(self, command, log, env=None):
        self.name = pathlib.Path(str(command[0])).name
        self.log = pathlib.Path(log)
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=die_with_parent,
            )

    def running(self):
        return self.child.poll() is None

    def tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for(self, protocol, address, deadline_s=10.0):
        """Waits until it listens there, by `udp` or `tcp`."""
        end = time.monotonic() + deadline_s
        while not bound(protocol, *address):
            if not self.running():
                raise Trouble(f"{self.name} ended with code {self.child.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise Trouble(f"{self.name} did not open {protocol} {address[0]}:{address[1]}:\n{self.tail()}")
            time.sleep(0.02)

    def stop(self, deadline_s=5.0):
        """Asks it to end (SIGTERM), waits, and ends it; returns its exit code."""
        if self.running():
            self.child.terminate()
            try:
                self.child.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode


LISTENING = "0A"


def bound(protocol, address, port):
    """Is a socket bound to this address (or to all of them) and port? One of TCP must listen."""
    wanted = "{3:02X}{2:02X}{1:02X}{0:02X}".format(*(int(part) for part in address.split(".")))
    ends = {f"{wanted}:{port:04X}", f"00000000:{port:04X}", f"{'0' * 32}:{port:04X}"}
    tables = [pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in (protocol, f"{protocol}6")]
    rows = [row.split() for table in tables for row in table]
    return any(row[1] in ends and (protocol == "udp" or row[3] == LISTENING) for row in rows)


def wait_until_free(address, deadline_s=2.0):
    """A child between fork and exec holds a copy of every socket of ours, closed ones included, for a moment."""
    end = time.monotonic() + deadline_s
    while (bound("udp", *address) or bound("tcp", *address)) and time.monotonic() < end:
        time.sleep(0.01)


def udp_socket(address):
    """A UDP socket of our own on this address."""
    wait_until_free(address)
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(address)
    return opened
