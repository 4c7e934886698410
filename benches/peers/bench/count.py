"""User-space instructions, counted by valgrind: only of what is asked for.

Start and registrations before are left out, and so is what the contender does by the clock all the time: it is counted
once while nothing happens, and subtracted. Under valgrind everything takes longer, so that would else be the greater part
for whoever wakes up often.
"""

import re
import subprocess
import time

from natlab.process import LabError

COMMAND = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=count.%p",
           "--trace-children=yes"]
IDLE_S = 5.0
# Attempts, a second apart.
PATIENCE = 60


class Count:
    """Counts in a contender that was started under `COMMAND`, until the block ends."""

    def __init__(self, contender):
        self.contender, self.pids, self.idle = contender, contender.pids(), {}

    def __enter__(self):
        self._tell("instrumentation", "on")
        return self

    def __exit__(self, *_):
        self._tell("instrumentation", "off")

    def until(self, step):
        """Takes the step, uncounted, until all of it is served; then counts what is done while nothing happens.

        Valgrind is slow where code runs for the first time, and who watches its own lag refuses work then.
        """
        for _ in range(PATIENCE):
            answer = step()
            if not answer["refused"] and not answer["lost"]:
                break
            time.sleep(1)
        else:
            raise LabError(f"{self.contender.name} does not get going under valgrind: {answer}")
        totals, took = self._during(lambda: time.sleep(IDLE_S))
        self.idle = {program: total / took for program, total in totals.items()}

    def of(self, step):
        """Instructions by program (`siplatch`, `kamailio`, …) that the step took."""
        busy, took = self._during(step)
        return {program: total - self.idle.get(program, 0) * took for program, total in busy.items()}

    def _during(self, step):
        self._tell("zero")
        began = time.monotonic()
        step()
        took = time.monotonic() - began
        before = set(self._dumps())
        self._tell("dump")
        totals = {}
        for path in set(self._dumps()) - before:
            text = path.read_text()
            program = re.search(r"^cmd: +(?:\S*/)?(\S+)", text, re.MULTILINE).group(1)
            total = int(re.search(r"^summary: (\d+)", text, re.MULTILINE).group(1))
            totals[program] = totals.get(program, 0) + total
        return totals, took

    def _dumps(self):
        return self.contender.folder.glob("count.*.*")

    def _tell(self, *words):
        for pid in self.pids:
            done = subprocess.run(["vgdb", f"--pid={pid}", "--wait=20", *words], capture_output=True, text=True,
                                  check=False)
            if done.returncode != 0:
                raise LabError(f"vgdb {words}: {done.stderr.strip()}")
