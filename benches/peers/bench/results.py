"""What was measured: values of each repetition, by measure, contender and the size that it was measured at."""

import json
import statistics

# Measure: its unit, and what `at` counts.
MEASURES = {
    "instructions per call": ("", "registrations"),
    "instructions per call, media": ("", "registrations"),
    "instructions per call, afterwards": ("", "registrations"),
    "instructions per call, media, afterwards": ("", "registrations"),
    "instructions per call, growth": ("", "registrations"),
    "instructions per REGISTER": ("", "registrations"),
    "instructions per REGISTER, anew": ("", "registrations"),
    "CPU per call": ("µs", "calls/s"),
    "CPU per call, media": ("µs", "calls/s"),
    "highest calls/s": ("/s", None),
    "highest calls/s, media": ("/s", None),
    "p99 of the 100": ("µs", "calls/s"),
    "p99 of the 200's way": ("µs", "calls/s"),
    "p99 of the 100, media": ("µs", "calls/s"),
    "p99 of the 200's way, media": ("µs", "calls/s"),
    "CPU per packet": ("µs", "sessions"),
    "whole-machine CPU per packet": ("µs", "sessions"),
    "program's run time": ("ns", "sessions"),
    "p50 delay": ("µs", "sessions"),
    "p99 delay": ("µs", "sessions"),
    "loss": ("%", "sessions"),
    "sessions with p99 < 1 ms": ("", None),
    "memory per registration": ("B", None),
    "memory per relayed call": ("B", None),
    "program's pages per relayed call": ("B", None),
    "kernel memory per relayed call": ("B", None),
    "start to first answered REGISTER": ("ms", None),
    "beside busy processes: p99 delay": ("µs", "sessions"),
    "beside busy processes: audio kept": ("%", "sessions"),
    "overloaded relay: audio kept": ("%", None),
    "overloaded relay: least kept by a phone": ("%", None),
    "overloaded relay: most kept by a phone": ("%", None),
    "overloaded relay: normal after": ("s", None),
    "overloaded signalling: offered": ("/s", None),
    "overloaded signalling: calls served": ("%", None),
    "overloaded signalling: calls answered 503": ("%", None),
    "overloaded signalling: 503 with Retry-After": ("%", None),
    "overloaded signalling: audio kept": ("%", None),
    "overloaded signalling: normal after": ("s", None),
}


class Results:
    """All values of a run."""

    def __init__(self):
        self.values = {}
        self.notes = []

    def add(self, measure, contender, value, at=None):
        assert measure in MEASURES, measure
        self.values.setdefault(measure, {}).setdefault((contender, at), []).append(value)

    def note(self, text):
        """Something that whoever reads the figures must know."""
        if text not in self.notes:
            print(f"  note: {text}", flush=True)
            self.notes.append(text)

    def of(self, measure, contender, at=None):
        """The values of all repetitions, or none."""
        return self.values.get(measure, {}).get((contender, at), [])

    def median(self, measure, contender, at=None):
        values = self.of(measure, contender, at)
        return statistics.median(values) if values else None

    def series(self, measure, contender):
        """(at, median, least, most), by `at`."""
        rows = [(at, statistics.median(v), min(v), max(v))
                for (name, at), v in self.values.get(measure, {}).items() if name == contender and at is not None]
        return sorted(rows)

    def contenders(self, measure):
        return list(dict.fromkeys(name for name, _ in self.values.get(measure, {})))

    def table(self):
        lines = [f"{'measure':44} {'at':>20} {'contender':31} {'median':>12} {'min':>12} {'max':>12}  n"]
        for measure, (unit, of_what) in MEASURES.items():
            rows = self.values.get(measure, {})
            for contender, at in sorted(rows, key=lambda key: (key[1] is not None, key[1] or 0)):
                values = rows[contender, at]
                where = "" if at is None else f"{at} {of_what}"
                figures = " ".join(f"{figure(v):>12}" for v in (statistics.median(values), min(values), max(values)))
                lines.append(f"{measure:44} {where:>20} {contender:31} {figures}  {len(values)} {unit}".rstrip())
        return "\n".join(lines)

    def json(self, settings, verdicts):
        rows = [{"measure": measure, "unit": MEASURES[measure][0], "contender": contender, "at": at,
                 "median": statistics.median(values), "min": min(values), "max": max(values), "values": values}
                for measure, found in self.values.items() for (contender, at), values in found.items()]
        return json.dumps({"settings": settings, "results": rows, "must_show": verdicts, "notes": self.notes}, indent=1)


def figure(value):
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
