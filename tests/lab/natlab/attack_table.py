"""The table of `--attack`: a line for each call. The lines of rtpengine are there to compare with, and judged by nobody."""

from . import table

COLUMNS = [
    ("nat", "NAT"), ("role", "role"), ("attack", "attack"), ("sent", "sent"), ("rate", "per second"), ("refused", "refused"),
    ("leaked", "leaked"), ("injected", "injected"), ("a_to_b", "A→B"), ("b_to_a", "B→A"), ("verdict", "verdict"),
]
FOOT = """NAT: of phone A; B is on the Internet. sent: by the attacker, at the rate reached. refused: by siplatch, the rest met a closed
port or a NAT box that let nothing in. leaked, injected: packets. A→B, B→A: the share of the call in which that tone was heard.
Before the call: until a latch is held, no more is claimed than that nothing leaks."""


def rows(cell, record):
    compared = cell.role == "direct"
    role = "rtpengine (control)" if compared else cell.role
    made = [_row(cell, role, call, compared) for call in record["calls"]]
    told = [problem for call in record["calls"] for problem in call["problems"]]
    rest = [problem for problem in record["problems"] if problem not in told]
    if rest or not made:
        made.append(_row(cell, role, {"attack": "(the cell)", "problems": rest or ["nothing was measured"]}, False))
    return made


def _row(cell, role, call, compared):
    def figure(key, form="{:,}"):
        return form.format(call[key]) if call.get(key) is not None else "-"
    return {
        "cell": cell.name, "nat": cell.nat, "role": role, "attack": call["attack"],
        "sent": figure("sent"), "rate": figure("rate"), "refused": figure("refused"),
        "leaked": figure("leaked"), "injected": figure("injected"),
        "a_to_b": figure("a_to_b", "{:.3f}"), "b_to_a": figure("b_to_a", "{:.3f}"),
        "verdict": "control" if compared else "FAIL" if call["problems"] else "PASS",
        "problems": [] if compared else call["problems"], "call": call,
    }


def render(made):
    return table.lines(COLUMNS, made) + "\n" + FOOT
