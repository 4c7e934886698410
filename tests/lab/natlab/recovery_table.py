"""The table of `--recover`: a line for each kind of event, over all its repetitions."""

import statistics

from . import cells, settings, table

COLUMNS = [
    ("cell", "cell"), ("event", "what happens in mid-call"), ("good", "within limits"),
    ("near", "gap at the phone behind the NAT"), ("far", "gap at the far end"), ("bye", "BYE, worst"), ("verdict", "verdict"),
]
EVENTS = {
    cells.REMAP: "the NAT box forgets all, other ports", cells.READDRESS: "the office gets another public address",
    cells.FOUND: "the office gets another public address, then is called",
    cells.FOUND_BY_PASSWORD: "the same, siplatch has the phone's password",
    cells.HOLD: f"{settings.HOLD_S:g} s of hold, every mapping times out",
}
FOOT = f"""gap: the longest time without audio after the event, median and worst; at most {settings.GAP_LIMIT_S:g} s, and
{settings.TOLD_GAP_LIMIT_S:g} s where the provider goes on sending to the office's old address until a re-INVITE tells it the new one. BYE: from
the phone behind the NAT, there from the far end every other time; the other's call must end within {settings.BYE_AFTER_EVENT_S:g} s. Of the
hold, the share of the audio after it stands in place of the gaps. Called after: from the event until somebody's call
reaches the phone, at most {settings.FOUND_LIMIT_S:g} s, with its password {settings.FOUND_BY_PASSWORD_LIMIT_S:g} s."""


def rows(cell, record):
    calls = record["calls"]
    wanted = 1 if cell.kind == cells.HOLD else settings.REPETITIONS
    good = sum(not call["problems"] for call in calls)
    problems = list(record["problems"])
    if good < wanted and not problems:
        problems.append("nothing was measured")
    if cell.kind in (cells.FOUND, cells.FOUND_BY_PASSWORD):
        figures = _found(calls)
    else:
        figures = _after_hold(calls) if cell.kind == cells.HOLD else _gaps(cell, calls)
    return [{
        "cell": cell.name, "event": EVENTS[cell.kind], "good": f"{good} of {wanted}", **figures,
        "verdict": "FAIL" if problems else "PASS", "problems": problems, "record": record,
    }]


def _gaps(cell, calls):
    def told(user):
        gaps = [call["gaps_s"][user] for call in calls if "gaps_s" in call]
        return f"{statistics.median(gaps):.2f} / {max(gaps):.2f} s" if gaps else "-"
    byes = [call["bye_s"] for call in calls if call.get("bye_s") is not None]
    return {"near": told(cell.caller), "far": told(cell.callee), "bye": f"{max(byes):.2f} s" if byes else "-"}


def _found(calls):
    waits = [call["found_s"] for call in calls if call.get("found_s") is not None]
    return {"near": f"called after {statistics.median(waits):.1f} / {max(waits):.1f} s" if waits else "-", "far": "-", "bye": "-"}


def _after_hold(calls):
    call = calls[0] if calls else {"a_to_b": 0.0, "b_to_a": 0.0}
    return {"near": f"heard {call['b_to_a']:.3f}", "far": f"heard {call['a_to_b']:.3f}", "bye": "ok" if call.get("bye_ok") else "FAILS"}


def render(made):
    return table.lines(COLUMNS, made) + "\n" + FOOT
