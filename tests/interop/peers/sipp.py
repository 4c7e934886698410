"""One SIPp process: one phone (or one piece of the core) that plays one scenario."""

import pathlib
import re
import signal
import subprocess
import time

from . import scenario
from .process import Process, wait_until_free


class Sipp:
    """Starts at once, behind or in front of a line. `listens` makes it the end that waits for the first request."""

    def __init__(self, folder, name, script, line, values, listens=False, deadline_s=20, options=()):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(parents=True)
        self.name = name
        self.listens = listens
        path = self.folder / f"{script}.xml"
        path.write_text(scenario.render(script, {**values, "via": line.via, "own": line.own(values["me"])}))
        host, port = line.address
        stream = line.transport.stream
        command = [
            "sipp", *(["-t", "t1"] if stream else []), "-sf", path, "-i", host, "-bind_local", "-p", port,
            "-mi", host, "-mp", values.get("media_port", 20000), "-nostdin", "-nd", "-timeout", deadline_s, "-timeout_error",
            "-trace_err", "-error_file", self.folder / "errors", "-trace_msg", "-message_file", self.folder / "messages",
            "-trace_logs", "-log_file", self.folder / "log", "-cid_str", f"{name}-%u-%p@%s", *options,
        ]
        wait_until_free(line.address)
        if listens:
            line.behind()
        else:
            to = line.front()
            command += ["-m", 1, "-aa", "-oocsn", "ooc_default", f"{to[0]}:{to[1]}"]
        self.process = Process(command, self.folder / "screen")
        if listens:
            self.process.wait_for("tcp" if stream else "udp", line.address)

    def finish(self, deadline_s=40):
        """Waits for a caller; tells a callee to end. Returns what went wrong, or None."""
        if self.listens:
            self._wait(lambda: self.count("finished") > 0, 3)
            self.process.child.send_signal(signal.SIGUSR1)
        try:
            code = self.process.child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.stop()
            return f"{self.name} did not end; {self._last_words()}"
        if code != 0 or self.count("finished") != 1:
            return f"{self.name} ended with {code}; {self._last_words()}"
        return None

    def close(self):
        self.process.stop()

    def count(self, word):
        """How often the scenario logged this word."""
        log = self.folder / "log"
        return log.read_text(errors="replace").count(word) if log.exists() else 0

    def messages(self):
        """All messages it sent and received, in order, as (direction, text)."""
        path = self.folder / "messages"
        text = path.read_text(errors="replace") if path.exists() else ""
        parts = re.split(r"-{20,} .*\n", text)[1:]
        found = []
        for part in parts:
            head, _, message = part.partition("\n\n")
            found.append(("sent" if "sent" in head else "received", message))
        return found

    def received(self, start, cseq=""):
        """Received messages whose first line starts so and whose CSeq ends so."""
        return [
            text for direction, text in self.messages()
            if direction == "received" and text.startswith(start)
            and re.search(rf"^CSeq:.*{re.escape(cseq)}\s*$", text, re.MULTILINE | re.IGNORECASE)
        ]

    def _last_words(self):
        path = self.folder / "errors"
        errors = path.read_text(errors="replace").strip() if path.exists() else ""
        lines = [line for line in errors.splitlines() if line.strip()]
        received = [text.splitlines()[0] for direction, text in self.messages() if direction == "received" and text.strip()]
        return f"received {received[-6:]}; said {' | '.join(lines[:2])[:300]!r}"

    @staticmethod
    def _wait(condition, deadline_s):
        end = time.monotonic() + deadline_s
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
