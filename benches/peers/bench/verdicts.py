"""The promises of this run: each is a ratio or a value, what it may be at most or must be at least, and the verdict."""

from .results import figure

BARE = "instructions per call"
MEDIA = "instructions per call, media"
CPU, P99, WHOLE = "CPU per packet", "p99 delay", "whole-machine CPU per packet"
KERNEL = "siplatch kernel"
BOTH = "kamailio+rtpengine"
FLAT = 1.2
NONE = "not measured"


class Verdicts:
    """Lines as they are judged."""

    def __init__(self, run):
        self.run, self.results, self.lines = run, run.results, []

    def all(self):
        """Every promise of the parts that ran."""
        parts = {"instructions": self.instructions, "signalling": self.signalling, "relay": self.relay,
                 "memory": self.memory, "growth": self.growth, "start": self.start, "overload": self.overload}
        for part in self.run.ran:
            parts[part]()
        return self.lines

    def instructions(self):
        users = self.run.users
        self.ratio(1, "instructions per call", 0.5, (BARE, "siplatch", users), (BARE, "kamailio", users))
        self.ratio(1, "instructions per call, media", 0.15, (MEDIA, "siplatch", users), (MEDIA, BOTH, users))
        register = "instructions per REGISTER"
        self.ratio(1, register, 0.8, (register, "siplatch", users), (register, "kamailio", users))

    def signalling(self):
        for suffix, peer, least in (("", "kamailio", 1.5), (", media", BOTH, 5)):
            key = f"highest calls/s{suffix}"
            if ("siplatch", suffix) in self.run.ceilings:
                best = self.value((key, "siplatch", None))
                self.say(2, key, True, f"{figure(best)}/s is the load's ceiling", f">= {least} x {peer}")
            else:
                self.ratio(2, key, least, (key, "siplatch", None), (key, peer, None), at_least=True)
        for what in ("p99 of the 100", "p99 of the 200's way"):
            self.ratio(2, what, 1, (what, "siplatch", 500), (what, "kamailio", 500))

    def relay(self):
        for sessions in (500, 700):
            self.ratio(3, f"{CPU}, {sessions} sessions", 0.65, (CPU, "siplatch", sessions), (CPU, "rtpengine", sessions))
        self.ratio(3, f"{CPU}, 1000 sessions", 1.25, (CPU, "siplatch", 1000), (CPU, "epoll", 1000))
        self.most(3, "p99 added delay, 1000 sessions, µs", 500, self.added("siplatch", 1000))
        flat = [value for _, value, _, _ in self.results.series(CPU, "siplatch")]
        self.flatness(6, "CPU per packet by sessions, above the fixed cost of wake-ups", flat, growing=False)
        if not self.run.kernel:
            return self.say(4, "relay in the kernel", False, NONE, "see the notes")
        for sessions in (500, 1000):
            self.ratio(4, f"{WHOLE}, {sessions} sessions", 0.25, (WHOLE, KERNEL, sessions), (WHOLE, "rtpengine", sessions))
        time = "program's run time"
        ours, bare = self.value((time, KERNEL, 1000)), self.value((time, "tc-BPF", 1000))
        self.most(4, f"{time} above the bare one's, ns", 150, None if None in (ours, bare) else ours - bare)
        self.most(4, "p99 added delay, 1000 sessions, µs", 50, self.added(KERNEL, 1000))
        good = "sessions with p99 < 1 ms"
        if self.value((good, KERNEL, None)) == max(self.run.sessions):
            self.say(4, good, True, f"{max(self.run.sessions)}, all that were made", ">= 2 x rtpengine")
        else:
            self.ratio(4, good, 2, (good, KERNEL, None), (good, "rtpengine", None), at_least=True)

    def memory(self):
        self.most(5, "memory per relayed call, B", 8000, self.value(("memory per relayed call", "siplatch", None)))

    def growth(self):
        self.most(5, "memory per registration, B", 1000, self.value(("memory per registration", "siplatch border", None)))
        series = self.results.series("instructions per call, growth", "siplatch office")
        self.flatness(6, "instructions per call by registrations", [value for _, value, _, _ in series], growing=True)

    def start(self):
        key = "start to first answered REGISTER"
        for name in ("siplatch", "siplatch, media"):
            self.most(7, f"{name}: {key}, ms", 150, self.value((key, name, None)))

    def overload(self):
        of = lambda what: self.value((what, "siplatch", None))  # noqa: E731
        kept = of("overloaded relay: audio kept")
        if kept is not None and kept < 75:
            least, most = of("overloaded relay: least kept by a phone"), of("overloaded relay: most kept by a phone")
            self.least("-", "overloaded relay: least / most kept by a phone", 0.5, least / most if most else 0)
        self.most("-", "overloaded relay: normal after, s", 60, of("overloaded relay: normal after"))
        self.least("-", "overloaded signalling: 503 with Retry-After, %", 100,
                   of("overloaded signalling: 503 with Retry-After"))
        self.least("-", "overloaded signalling: audio kept, %", 99, of("overloaded signalling: audio kept"))
        self.most("-", "overloaded signalling: normal after, s", 60, of("overloaded signalling: normal after"))

    def value(self, key):
        return self.results.median(*key)

    def added(self, name, sessions):
        """The p99 with a relay less the p99 without."""
        values = [self.value((P99, who, sessions)) for who in (name, "direct")]
        return None if None in values else values[0] - values[1]

    def ratio(self, number, what, bound, ours, theirs, at_least=False):
        ours, peer, theirs = self.value(ours), theirs[1], self.value(theirs)
        sign = ">=" if at_least else "<="
        if ours is None or not theirs:
            return self.say(number, what, False, NONE, f"{sign} {bound:g} x {peer}")
        ratio = ours / theirs
        passed = ratio >= bound if at_least else ratio <= bound
        self.say(number, what, passed, f"{figure(ours)} / {figure(theirs)} = {ratio:.2f}", f"{sign} {bound:g} x {peer}")

    def most(self, number, what, bound, value):
        passed = value is not None and value <= bound
        self.say(number, what, passed, NONE if value is None else figure(value), f"<= {bound:g}")

    def least(self, number, what, bound, value):
        passed = value is not None and value >= bound
        self.say(number, what, passed, NONE if value is None else figure(value), f">= {bound:g}")

    def flatness(self, number, what, values, growing):
        """Against the first where things may only grow; else from the cheapest on, after which none may be dearer."""
        if len(values) < 2:
            return self.say(number, what, False, NONE, f"flat within {FLAT - 1:.0%}")
        least = values[0] if growing else min(values)
        later = values if growing else values[values.index(least):]
        ratio = max(later) / least
        self.say(number, what, ratio <= FLAT, f"{ratio:.2f}", f"<= {FLAT:g}")

    def say(self, number, what, passed, found, target):
        verdict = "PASS" if passed else "MISS"
        if found == NONE and self.run.wanted:
            # Somebody who was not asked for is missing.
            verdict = "SKIP"
        self.lines.append({"number": number, "what": what, "found": found, "target": target,
                           "verdict": verdict})


def table(lines):
    """The verdicts, a line each."""
    return "\n".join(f"{line['verdict']}  {line['number']}  {line['what']:62} {line['found']:38} {line['target']}"
                     for line in lines)
