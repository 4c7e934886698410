"""Joins the records of cells and controls into rows, prints the table, writes the JSON."""

import json

from . import settings


def share(calls, key):
    values = [call[key] for call in calls if call.get(key) is not None]
    return f"{min(values):.3f}" if values else "-"


def byes(calls):
    parts = [f"{call['bye_by']} {'ok' if call.get('bye_ok') else 'FAILS'}" for call in calls if "bye_by" in call]
    return ", ".join(parts) or "-"


def _ports(record):
    if record["ports_back"] is None:
        return "-"
    if not record["ports_back"]:
        return "NO"
    return f"after {record['ports']['seconds']:.0f} s"


def audio_both_ways(record):
    """Did this record hold a call with audio both ways? This is what a control must not reach."""
    figures = [call.get(key, 1.0) for call in record["calls"] for key in ("a_to_b", "b_to_a")]
    return bool(figures) and min(figures) >= settings.REQUIRED_SHARE


def control_text(record):
    if record is None:
        return "-"
    if audio_both_ways(record):
        return "PASSES"
    call = record["calls"][0] if record["calls"] else None
    if call is None:
        return "fails: no registration" if record["problems"] else "fails"
    if not call["established"] and "a_to_b" in call:
        return "fails: no call"
    return f"fails: {share([call], 'a_to_b')} / {share([call], 'b_to_a')}"


def row(cell, record, control):
    """One line of the table, as a dictionary; `verdict` is PASS or FAIL."""
    problems = list(record["problems"])
    if control and audio_both_ways(control):
        problems.append("the control without siplatch passes too, so this cell proves nothing")
    if control and any("the lab itself failed" in each for each in control["problems"]):
        problems.append("the control could not be run")
    return {
        "cell": cell.name, "nat": cell.nat or "none", "direction": f"{cell.caller} > {cell.callee}",
        "a_to_b": share(record["calls"], "a_to_b"), "b_to_a": share(record["calls"], "b_to_a"),
        "bye": byes(record["calls"]), "ports_back": _ports(record), "control": control_text(control),
        "verdict": "FAIL" if problems else "PASS", "problems": problems,
        "seconds": record.get("seconds"), "record": record, "control_record": control,
    }


def control_row(cell, record):
    """A control on its own line: it passes when the call without siplatch fails."""
    problems = [each for each in record["problems"] if "the lab itself failed" in each]
    if audio_both_ways(record):
        problems.append("there was audio both ways without siplatch")
    return {
        "cell": cell.name, "nat": cell.nat, "direction": f"{cell.caller} > {cell.callee}",
        "a_to_b": share(record["calls"], "a_to_b"), "b_to_a": share(record["calls"], "b_to_a"),
        "bye": byes(record["calls"]), "ports_back": "-", "control": control_text(record),
        "verdict": "FAIL" if problems else "PASS", "problems": problems,
        "seconds": record.get("seconds"), "record": record, "control_record": None,
    }


COLUMNS = [
    ("cell", "cell"), ("nat", "NAT"), ("direction", "A > B"), ("a_to_b", "A→B"), ("b_to_a", "B→A"),
    ("bye", "BYE by"), ("ports_back", "ports back"), ("control", "control"), ("verdict", "verdict"),
]


def lines(columns, rows):
    """The rows under the titles of these columns, which are pairs of key and title."""
    widths = {key: max(len(title), *(len(row[key]) for row in rows)) for key, title in columns}
    text = ["  ".join(title.ljust(widths[key]) for key, title in columns).rstrip()]
    text.append("  ".join("-" * widths[key] for key, _ in columns))
    for each in rows:
        text.append("  ".join(each[key].ljust(widths[key]) for key, _ in columns).rstrip())
    return "\n".join(text)


def complaints(rows):
    """What is wrong with the lines that fail, and where their logs are; each line of it ends with a newline."""
    text = []
    for each in rows:
        for problem in each["problems"]:
            text.append(f"{each['cell']}: {problem}\n")
        if each["problems"] and each["record"].get("logs"):
            text.append(f"{each['cell']}: logs in {each['record']['logs']}\n")
    return "".join(text)


def render(rows):
    return f"{lines(COLUMNS, rows)}\n{complaints(rows)}".rstrip("\n")


def write_json(path, rows, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    passed, failed = (sum(row["verdict"] == verdict for row in rows) for verdict in ("PASS", "FAIL"))
    text = {"seconds": round(seconds, 1), "passed": passed, "failed": failed, "rows": rows}
    path.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n")
