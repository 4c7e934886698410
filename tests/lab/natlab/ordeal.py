"""Runs the cells of the attack table or of the recovery table, prints it, and says by the exit code whether all of it held."""

import sys
import time

from . import table
from .runner import Runner


def run(options, program, every, shape):
    """`shape`: the module that makes rows of a record, and a text of rows."""
    known = {cell.name: cell for cell in every}
    wrong = [name for name in options.cell if name not in known]
    if wrong:
        sys.exit(f"no such cell: {', '.join(wrong)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.cell] or every
    options.binary = options.binary.resolve()
    if not options.binary.exists():
        print(f"{options.binary} is not there; build it first: cargo build --release", file=sys.stderr)
        return 2
    begin = time.monotonic()
    records = Runner(program, options, options.logs.resolve(), lambda text: print(text, flush=True)).run(chosen)
    rows = [row for cell in chosen for row in shape.rows(cell, records[cell.name])]
    seconds = time.monotonic() - begin
    table.write_json(options.json, rows, seconds)
    print("\n" + shape.render(rows) + "\n")
    for row in rows:
        for problem in row["problems"]:
            print(f"{row['cell']}: {problem}")
    for name, record in records.items():
        if record.get("logs"):
            print(f"{name}: logs in {record['logs']}")
    failed = sum(row["verdict"] == "FAIL" for row in rows)
    print(f"{seconds:.0f} s; details in {options.json}; {failed} lines failed")
    return 1 if failed else 0
