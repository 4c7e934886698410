"""`make lab-nat`: every type of network, the doctor's verdict in it, the lifetimes, and calls through it in each role."""

import sys
import time

from . import cells, nat, networks, settings, table
from .cells import Cell
from .runner import Runner

LIFETIMES_S = (20, 60, 180)
QUICK = {"verdict-" + kind for kind in (nat.FULL_CONE, nat.SYMMETRIC, networks.UDP_BLOCKED)}


def _examined(kind, name=None, what=cells.VERDICT, timeout_s=settings.UDP_TIMEOUT_S):
    name = name or f"verdict-{kind}"
    return Cell(name, "doctor", kind, "siplatch", "stun", what, quick=name in QUICK, udp_timeout_s=timeout_s)


def verdicts():
    return [_examined(kind) for kind in networks.EVERY]


def lifetimes():
    return [_examined(nat.PORT_RESTRICTED, f"lifetime-{seconds}", cells.LIFETIME, seconds) for seconds in LIFETIMES_S]


def catalogue():
    return [*verdicts(), *lifetimes()]


VERDICT_COLUMNS = [
    ("nat", "network"), ("mapped", "seen as"), ("mapping", "mapping"), ("filtering", "filtering"),
    ("formerly", "in older books"), ("calls", "calls"), ("outcome", "verdict"),
]
LIFETIME_COLUMNS = [
    ("wanted", "lifetime"), ("found", "found"), ("off", "off by"), ("took", "measured in"),
    ("sent", "live flow: sent"), ("lost", "lost"), ("mappings", "mappings"), ("verdict", "verdict"),
]


def _text(value):
    return "?" if value is None else str(value)


def _verdict_row(cell, record):
    call = (record["calls"] or [{}])[0]
    facts = call.get("nat", {})
    return {**_row(cell, record), **{key: _text(facts.get(key)) for key in ("mapped", "mapping", "filtering", "formerly")},
            "calls": _text(call.get("calls")), "outcome": call.get("verdict", "no answer")}


def _lifetime_row(cell, record):
    call = (record["calls"] or [{}])[0]
    wanted, found = cell.udp_timeout_s, call.get("found_s")
    return {**_row(cell, record), "wanted": f"{wanted} s", "found": "?" if found is None else f"{found:.1f} s",
            "off": "?" if found is None else f"{100 * (found - wanted) / wanted:+.1f} %",
            "took": f"{_text(call.get('took_s'))} s", "sent": _text(call.get("sent")), "lost": _text(call.get("lost")),
            "mappings": _text(call.get("mappings"))}


def _row(cell, record):
    return {"cell": cell.name, "nat": cell.nat, "verdict": "PASS" if record["ok"] else "FAIL",
            "problems": record["problems"], "seconds": record.get("seconds"), "record": record}


# kind of cell: title, columns, what makes a row
TABLES = {
    cells.VERDICT: ("What the doctor finds", VERDICT_COLUMNS, _verdict_row),
    cells.LIFETIME: ("How long a silent mapping lives, beside a live flow", LIFETIME_COLUMNS, _lifetime_row),
}


def run(options, program):
    known = {cell.name: cell for cell in catalogue()}
    wrong = [name for name in options.cell if name not in known]
    if wrong:
        sys.exit(f"no such cell: {', '.join(wrong)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.cell] or list(known.values())
    options.binary = options.binary.resolve()
    if not options.binary.exists():
        print(f"{options.binary} is not there; build it first: cargo build --release", file=sys.stderr)
        return 2
    begin = time.monotonic()
    records = Runner(program, options, options.logs.resolve(), lambda text: print(text, flush=True)).run(chosen)
    rows = print_tables(chosen, records)
    seconds = time.monotonic() - begin
    table.write_json(options.json, rows, seconds)
    failed = sum(row["verdict"] == "FAIL" for row in rows)
    print(f"{seconds:.0f} s; details in {options.json}\nlab: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def print_tables(chosen, records):
    """Prints a table for each kind of cell that was run; all their rows."""
    every = []
    for kind, (title, columns, shape) in TABLES.items():
        rows = [shape(cell, records[cell.name]) for cell in chosen if cell.kind == kind]
        if rows:
            print(f"\n{title}\n\n{table.lines(columns, rows)}")
            print(table.complaints(rows), end="")
        every += rows
    print()
    return every
