"""The matrix: a row for each kind of call, a column for each way of phones and core, and who did it."""

from . import plan

ROWS = (
    "register with authentication", "call", "cancel", "busy", "no answer", "hold and resume", "PRACK", "UPDATE",
    "session refresh", "delayed offer", "blind transfer", "attended transfer", "SUBSCRIBE/NOTIFY", "MESSAGE",
    "200 retransmitted", "two contacts ringing",
)
LEGEND = "S: SIPp at both ends; P: small phones of our own; B: baresip; J: JsSIP"
LETTERS = {"SIPp": "S", "own": "P", "baresip": "B", "JsSIP": "J"}


def text(results, settings):
    """The whole of it. A cell without a result is empty, one with a fault says so."""
    columns = [plan.PLANS[name] for name in settings if plan.PLANS[name].column]
    if not columns:
        return ""
    width = max(len(row) for row in ROWS)
    widths = [max(len(column.column), 6) for column in columns]
    lines = [" ".join([" " * width, *(f"{column.column:<{size}}" for column, size in zip(columns, widths))]).rstrip()]
    for row in ROWS:
        cells = [cell([r for r in results if r["row"] == row and r["setting"] == column.name]) for column in columns]
        lines.append(" ".join([f"{row:<{width}}", *(f"{text:<{size}}" for text, size in zip(cells, widths))]).rstrip())
    return "\n".join([*lines, LEGEND])


def gaps(results, settings):
    """Cells that nobody filled, as results that failed."""
    filled = {(result["setting"], result["row"]) for result in results}
    return [
        {"setting": name, "case": row, "fault": "nobody did this", "row": row, "who": "SIPp"}
        for name in settings if plan.PLANS[name].column for row in ROWS if (name, row) not in filled
    ]


def cell(results):
    if any(result["fault"] is not None for result in results):
        return "FAILED"
    done = {LETTERS[result["who"]] for result in results}
    return f"ok {''.join(letter for letter in LETTERS.values() if letter in done)}" if done else "-"
