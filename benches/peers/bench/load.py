"""Speaks with `peers-load`: a line in, a line of JSON out."""

import json
import pathlib
import subprocess

from natlab import netns
from natlab.process import LabError, die_with_parent

from . import place

BINARY = pathlib.Path(__file__).resolve().parents[3] / "target" / "release" / "peers-load"


class Load:
    """A load of one kind (`sip`, `rtp`) in the namespace of the load, on its core."""

    def __init__(self, kind, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.child = subprocess.Popen(
            ["nsenter", f"--net={netns.RUN_DIR / place.LOAD}", "--", "nice", "-n", "-20",
             "taskset", "-c", str(place.LOAD_CORE),
             str(BINARY), kind, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
        )
        self._answer("begin")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.terminate()
        self.child.wait()

    @property
    def pid(self):
        return self.child.pid

    def begin(self, *words):
        """Gives a command; `end` waits for what came of it."""
        self.command = " ".join(map(str, words))
        self.child.stdin.write(self.command + "\n")
        self.child.stdin.flush()

    def end(self):
        return self._answer(self.command)

    def do(self, *words):
        self.begin(*words)
        return self.end()

    def _answer(self, command):
        line = self.child.stdout.readline()
        if not line:
            raise LabError(f"peers-load ended at `{command}`")
        return json.loads(line)


def sip(phones=512, shift=0):
    return Load("sip", proxy="%s:%d" % place.SIP, callers=place.CALLERS, called=place.CALLED, phones=phones, shift=shift)


def core():
    """Phones on one side, a core on the other that is their registrar and calls them."""
    return Load("sip", proxy="%s:%d" % place.SIP, callers=place.CALLERS, called=place.CALLED, phones=512,
                core="%s:%d" % place.CORE, inner="%s:%d" % place.INNER)
