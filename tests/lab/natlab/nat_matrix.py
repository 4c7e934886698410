"""`make lab-nat`: every type of network, the doctor's verdict in it, the lifetimes, and calls through it in each role."""

import fnmatch
import sys
import time

from . import cells, nat, networks, phones, settings, table
from .cells import Cell
from .runner import Runner

LIFETIMES_S = (20, 60, 180)
QUICK = {"verdict-" + kind for kind in (nat.FULL_CONE, nat.SYMMETRIC, networks.UDP_BLOCKED)}


# Where the address that STUN sees is of no use to others, or STUN does not answer. The provider is plain everywhere.
WITH_TURN = {
    nat.SYMMETRIC: {"turn": "udp"},
    networks.UDP_BLOCKED: {"upstream": "tls", "turn": "tcp"},
    networks.TCP_443: {"upstream": "443", "turn": "tls"},
}


# What the ALG cannot read, and where it does not look.
ESCAPES = ("tls", "5080")


def _examined(kind, name=None, what=cells.VERDICT, timeout_s=settings.UDP_TIMEOUT_S):
    name = name or f"verdict-{kind}"
    return Cell(name, "doctor", kind, "siplatch", "stun", what, quick=name in QUICK, udp_timeout_s=timeout_s, **WITH_TURN.get(kind, {}))


def verdicts():
    return [_examined(kind) for kind in networks.EVERY]


def lifetimes():
    of_all = [_examined(nat.PORT_RESTRICTED, f"lifetime-{seconds}", cells.LIFETIME, seconds) for seconds in LIFETIMES_S]
    others = (nat.FULL_CONE, nat.SYMMETRIC, networks.CGNAT)
    return of_all + [_examined(kind, f"lifetime-{LIFETIMES_S[0]}-{kind}", cells.LIFETIME, LIFETIMES_S[0]) for kind in others]


def calls_of(role):
    """A cell for each direction in each network, the firewall too; the border needs UDP, the office does without."""
    made = []
    for kind in (each.name for each in networks.EVERY.values() if role == "office" or each.udp):
        for caller, callee in cells.DIRECTIONS[:3] if role == "office" else cells.DIRECTIONS:
            more = WITH_TURN.get(kind, {}) if role == "office" else {}
            made.append(Cell(f"{role}-{kind}-{caller}-{callee}", role, kind, caller, callee, **more))
    return made


def latching():
    """Without TURN, calls through a symmetric NAT need a provider that sends media back to where it comes from."""
    kind = nat.SYMMETRIC
    return [Cell(f"office-{kind}-{caller}-{callee}-comedia", "office", kind, caller, callee, provider=cells.LATCHING)
            for caller, callee in cells.DIRECTIONS[:2]]


def asked():
    """The router forwards because siplatch asks it to."""
    kind = networks.IGD
    return [Cell(f"office-{kind}-{caller}-{callee}", "office", kind, caller, callee) for caller, callee in cells.DIRECTIONS[:3]]


def fallbacks():
    """Nothing is said of a transport, and UDP does not pass: signalling must find its way by TCP."""
    kind = networks.UDP_BLOCKED
    return [Cell(f"office-{kind}-{caller}-{callee}-fallback", "office", kind, caller, callee, turn="tcp")
            for caller, callee in cells.DIRECTIONS[:2]]


def streams():
    """The office reaches its provider by a connection, and media goes as ever; or it escapes from the ALG."""
    ways = [*((nat.PORT_RESTRICTED, way) for way in ("tcp", "tls", "443")), *((networks.ALG, way) for way in ESCAPES)]
    return [
        Cell(f"office-{kind}-{caller}-{callee}-{way}", "office", kind, caller, callee, upstream=way)
        for kind, way in ways for caller, callee in cells.DIRECTIONS[:2]
    ]


def three_phones():
    return [Cell(f"phones-{kind}", "office", kind, "office", "public", cells.PHONES)
            for kind in (nat.PORT_RESTRICTED, networks.ONE_TO_ONE)]


def algs():
    """Where there is an ALG, and where UDP passes and there is none."""
    return [_examined(kind, f"alg-{kind}", cells.ALG) for kind, network in networks.EVERY.items() if network.udp]


def catalogue():
    return [*verdicts(), *lifetimes(), *calls_of("border"), *calls_of("office"), *latching(), *asked(), *fallbacks(), *streams(), *three_phones(), *algs()]


def quick():
    """What fits into every run of the tests."""
    return [cell for cell in catalogue() if cell.quick]


def with_controls():
    every = catalogue()
    return [*every, *cells.controls(every)]


VERDICT_COLUMNS = [
    ("nat", "network"), ("mapped", "seen as"), ("mapping", "mapping"), ("filtering", "filtering"), ("kind", "kind"),
    ("behaviour", "RFC 5780"), ("udp", "UDP"), ("tcp", "TCP"), ("tls", "TLS"), ("turn", "TURN"), ("double_nat", "double"),
    ("cgnat", "CGNAT"), ("one_to_one", "1:1"), ("alg", "ALG"), ("forwards", "forwards"), ("calls", "calls"),
    ("alone", "without TURN"), ("rest", "the rest"), ("verdict", "verdict"),
]
LIFETIME_COLUMNS = [
    ("nat", "network"), ("wanted", "lifetime"), ("found", "found"), ("off", "off by"), ("took", "measured in"),
    ("sent", "live flow: sent"), ("lost", "lost"), ("mappings", "mappings"), ("verdict", "verdict"),
]


def _text(value):
    words = {None: "?", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _verdict_row(cell, record, _):
    call = (record["calls"] or [{}])[0]
    facts = call.get("facts", {})
    shown = {key: _text(facts.get(key)).replace("-dependent", "").replace("-and-", "+") for key, _ in VERDICT_COLUMNS}
    return {**shown, "behaviour": _text(call.get("behaviour")), "rest": _text(call.get("rest")), **_row(cell, record)}


def _lifetime_row(cell, record, _):
    call = (record["calls"] or [{}])[0]
    wanted, found = cell.udp_timeout_s, call.get("found_s")
    return {**_row(cell, record), "wanted": f"{wanted} s", "found": "?" if found is None else f"{found:.1f} s",
            "off": "?" if found is None else f"{100 * (found - wanted) / wanted:+.1f} %",
            "took": f"{_text(call.get('took_s'))} s", "sent": _text(call.get("sent")), "lost": _text(call.get("lost")),
            "mappings": _text(call.get("mappings"))}


ALG_COLUMNS = [("nat", "network"), ("runs", "runs"), ("found", "ALG found"), ("none", "none"), ("unknown", "not known"),
               ("verdict", "verdict")]


def _alg_row(cell, record, _):
    call = (record["calls"] or [{}])[0]
    return {**_row(cell, record), **{key: _text(call.get(key)) for key in ("runs", "found", "none", "unknown")}}


def _alg_sum(rows):
    """What all runs came to."""
    def total(key, there):
        return sum(int(row[key]) for row in rows if (row["nat"] == networks.ALG) == there and row[key].isdigit())
    return (f"Found in {total('found', True)} of {total('runs', True)} runs where there is one, "
            f"in {total('found', False)} of {total('runs', False)} where there is none.\n")


PHONES_COLUMNS = [
    ("nat", "network"), ("user", "phone"), ("own", "its address"), ("a_to_b", "A→B"), ("b_to_a", "B→A"), ("port", "SIP port"),
    ("signalling", "SIP packets"), ("range", "media ports"), ("media", "media packets"), ("strays", "astray"),
    ("bye", "BYE by"), ("verdict", "verdict"),
]


def _phone_rows(cell, record, _):
    """A line for each phone; what is wrong with the whole cell is told once."""
    made = []
    for (user, _), call in zip(phones.PAIRS, record["calls"] or [{}] * 3):
        keys = ("port", "signalling", "range", "media", "strays")
        made.append({
            **_row(cell, record), **{key: _text(call.get(key)) for key in keys}, "user": user, "own": _text(call.get("address")),
            "a_to_b": table.share([call], "a_to_b"), "b_to_a": table.share([call], "b_to_a"), "bye": table.byes([call]),
            "problems": record["problems"] if user == "office" else [],
            "verdict": "FAIL" if call.get("problems", True) or user == "office" and not record["ok"] else "PASS",
        })
    return made


def _row(cell, record):
    return {"cell": cell.name, "nat": cell.nat, "verdict": "PASS" if record["ok"] else "FAIL",
            "problems": record["problems"], "seconds": record.get("seconds"), "record": record}


# What stands below a table.
SUMS = {"algs": _alg_sum}
# title, columns, what makes a row or rows of a cell, its record and its control's
TABLES = {
    "verdicts": ("What the doctor finds", VERDICT_COLUMNS, _verdict_row),
    "algs": ("How often the doctor finds a SIP ALG", ALG_COLUMNS, _alg_row),
    "lifetimes": ("How long a silent mapping lives, beside a live flow", LIFETIME_COLUMNS, _lifetime_row),
    "border": ("Calls through a border", table.COLUMNS, table.row),
    "office": ("Calls through an office", table.COLUMNS, table.row),
    "phones": ("Three phones, three calls at once", PHONES_COLUMNS, _phone_rows),
}


def _table_of(cell):
    return {cells.VERDICT: "verdicts", cells.LIFETIME: "lifetimes", cells.PHONES: "phones", cells.ALG: "algs"}.get(cell.kind, cell.role)


def run(options, program):
    chosen = _chosen(options.cell)
    controls = [] if options.no_control else cells.controls(chosen)
    options.binary = options.binary.resolve()
    if not options.binary.exists():
        print(f"{options.binary} is not there; build it first: cargo build --release", file=sys.stderr)
        return 2
    begin = time.monotonic()
    records = Runner(program, options, options.logs.resolve(), lambda text: print(text, flush=True)).run([*chosen, *controls])
    rows = print_tables(chosen, records)
    seconds = time.monotonic() - begin
    table.write_json(options.json, rows, seconds)
    failed = sum(row["verdict"] == "FAIL" for row in rows)
    print(f"{seconds:.0f} s; details in {options.json}\nlab: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _chosen(names):
    """The cells of these names; a name may also be a table's, or a pattern with stars."""
    every = catalogue()
    chosen = [cell for cell in every if not names or _table_of(cell) in names
              or any(fnmatch.fnmatchcase(cell.name, name) for name in names)]
    if not chosen:
        sys.exit(f"no such cell; there are {', '.join(cell.name for cell in every)}, and of whole tables {', '.join(TABLES)}")
    return chosen


def print_tables(chosen, records):
    """Prints a table for each kind of cell that was run; all their rows."""
    every = []
    for name, (title, columns, shape) in TABLES.items():
        rows = []
        for cell in chosen:
            if _table_of(cell) == name:
                control = records.get(cell.control.name) if cell.control else None
                made = shape(cell, records[cell.name], control)
                rows += made if isinstance(made, list) else [made]
        if rows:
            print(f"\n{title}\n\n{table.lines(columns, rows)}")
            print(SUMS.get(name, lambda _: "")(rows) + table.complaints(rows), end="")
        every += rows
    print()
    return every
