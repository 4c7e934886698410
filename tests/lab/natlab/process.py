"""One program in one namespace, with its output in a file, and waits for what it says or opens."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time

from . import netns

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """Something of the lab itself, or of a peer, did not come about."""


def wait_until(condition, deadline_s, what, step_s=0.03):
    """Waits until `condition()` is true and returns its value; `what` names it in the error."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {deadline_s:g} s in vain for {what}")
        time.sleep(step_s)


def die_with_parent(how=signal.SIGKILL):
    """This process gets the signal `how` when the one that started it ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, how)


def adopt_orphans():
    """Children of our children become ours when their parent ends, so that they can be reaped."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap():
    """Takes note of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Process:
    """A child that dies with the lab, even if the lab is killed."""

    def __init__(self, namespace, command, log, cwd=None, env=None):
        self.namespace = namespace
        self.name = pathlib.Path(command[0]).name
        self.log = pathlib.Path(log)
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                ["nsenter", f"--net={netns.RUN_DIR / namespace}", "--", *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=cwd, env={**os.environ, **(env or {})},
                start_new_session=True, preexec_fn=die_with_parent,
            )

    def running(self):
        return self.child.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=15):
        return "\n".join(self.text().splitlines()[-lines:])

    def _condition(self, condition):
        value = condition()
        if value:
            return value
        if not self.running():
            raise LabError(f"{self.name} ended with code {self.child.returncode}:\n{self.tail()}")
        return None

    def wait_for(self, condition, deadline_s, what):
        """Like `wait_until`, but gives up at once when the program has ended."""
        return wait_until(lambda: self._condition(condition), deadline_s, what)

    def wait_for_line(self, pattern, deadline_s):
        compiled = re.compile(pattern)
        return self.wait_for(
            lambda: compiled.search(self.text()), deadline_s, f"{self.name} to say /{pattern}/",
        )

    def wait_for_udp(self, address, port, deadline_s):
        self.wait_for(
            lambda: udp_bound(self.namespace, address, port), deadline_s,
            f"{self.name} to open udp {address}:{port}",
        )

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


def udp_bound(namespace, address, port):
    """Is a UDP socket bound to this address (or to all of them) and port?"""
    octets = [int(part) for part in address.split(".")]
    wanted = "{3:02X}{2:02X}{1:02X}{0:02X}".format(*octets)
    ends = {f"{wanted}:{port:04X}", f"00000000:{port:04X}"}
    with netns.inside(namespace):
        rows = pathlib.Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]
    return any(row.split()[1] in ends for row in rows)
