"""Runs many cells at once, each in a worker process of its own, the longest first."""

import json
import os
import signal
import subprocess
import sys
import time

from . import netns, settings


class Runner:
    def __init__(self, program, options, logs, say):
        self.program = program
        self.options = options
        self.logs = logs
        self.say = say
        self.active = {}
        self.records = {}
        self.started = 0

    def run(self, cells):
        """Returns the record of every cell, by name."""
        waiting = sorted(cells, key=lambda cell: -cell.least_seconds)
        total = len(waiting)
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            while waiting or self.active:
                while waiting and len(self.active) < self.options.jobs:
                    self._start(waiting.pop(0))
                self._reap(total)
        finally:
            self._end_all()
            netns.remove(netns.owned_by(os.getpid()))
        return self.records

    def _start(self, cell):
        self.started += 1
        label = f"{settings.NAMESPACE_PREFIX}{os.getpid()}-{self.started}"
        result = self.logs / f"{cell.name}.result"
        result.unlink(missing_ok=True)
        command = [sys.executable, str(self.program), "--worker", cell.name, "--label", label,
                   "--result", str(result), "--logs", str(self.logs), "--binary", str(self.options.binary)]
        if self.options.pcap:
            command.append("--pcap")
        if self.options.keep:
            command.append("--keep")
        for name in self.options.cell:
            command += ["--cell", name]
        # A session of its own, so that Ctrl-C reaches the runner alone and workers end in order.
        child = subprocess.Popen(command, start_new_session=not self.options.keep)
        self.active[child.pid] = (child, cell, result, time.monotonic())

    def _reap(self, total):
        """Waits for the next worker to end. An alarm ends those that are past their time."""
        signal.signal(signal.SIGALRM, lambda *_: self._end_overdue())
        signal.setitimer(signal.ITIMER_REAL, 5, 5)
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        signal.setitimer(signal.ITIMER_REAL, 0)
        child, cell, result, begin = self.active.pop(found.si_pid)
        child.wait()
        record = self.records[cell.name] = self._record(cell, result)
        outcome = "control done" if cell.role == "direct" and cell.nat else "ok" if record["ok"] else "NOT OK"
        self.say(f"[{len(self.records)}/{total}] {cell.name}: {outcome}, {time.monotonic() - begin:.0f} s")

    def _end_overdue(self):
        for child, cell, _, begin in self.active.values():
            if time.monotonic() - begin > cell.time_limit_s and not self.options.keep:
                child.send_signal(signal.SIGTERM)

    @staticmethod
    def _record(cell, result):
        try:
            record = json.loads(result.read_text())
            result.unlink()
        except (OSError, ValueError):
            record = {"cell": cell.name, "calls": [], "ok": False, "ports_back": None,
                      "problems": ["the lab itself failed: the worker left no record"]}
        return record

    def _end_all(self):
        for child, *_ in self.active.values():
            child.send_signal(signal.SIGTERM)
        for child, *_ in self.active.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
