"""The command line of the lab."""

import argparse
import os
import pathlib
import signal
import sys
import time

from . import attack_table, cells, nat_matrix, needs, netns, ordeal, recovery_table, selftest, settings, table, worker
from .runner import Runner

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "run"


def _options(arguments):
    parser = argparse.ArgumentParser(prog="tests/lab/run", description="Calls across real NATs, judged by ear.")
    what = parser.add_argument_group("what to run (default: --all)")
    what.add_argument("--all", action="store_true", help="every cell and every control")
    what.add_argument("--quick", action="store_true", help="four cells and their controls, three verdicts of the doctor")
    what.add_argument("--cell", action="append", default=[], metavar="NAME", help="one cell or control; may be repeated")
    what.add_argument("--controls", action="store_true", help="only what needs no siplatch: controls and machinery")
    what.add_argument("--attack", action="store_true", help="calls under attack, and rtpengine under the same sprays")
    what.add_argument("--recover", action="store_true", help="calls whose NAT box forgets or moves, 20 times each")
    what.add_argument("--nat", action="store_true", help="twelve types of network: the doctor, lifetimes, calls")
    what.add_argument("--selftest", action="store_true", help="measure the NAT boxes themselves")
    what.add_argument("--demo", action="store_true", help="one call, told in plain words")
    what.add_argument("--list", action="store_true", help="list the cells")
    how = parser.add_argument_group("how")
    how.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/siplatch", metavar="PATH")
    how.add_argument("--jobs", type=int, metavar="N", help="cells at the same time (default 12; of attacks and recoveries 3)")
    how.add_argument("--no-control", action="store_true", help="leave the controls out")
    how.add_argument("--pcap", action="store_true", help="capture at the NAT boxes and at siplatch")
    how.add_argument("--keep", action="store_true", help="one cell: leave it standing until you end it")
    how.add_argument("--json", type=pathlib.Path, default=ROOT / "target/lab/result.json", metavar="FILE")
    how.add_argument("--logs", type=pathlib.Path, default=ROOT / "target/lab/logs", metavar="FOLDER")
    for hidden in ("--worker", "--label", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.jobs:
        options.jobs = 3 if options.attack or options.recover else 12
    return options


def main(arguments=None):
    options = _options(arguments)
    if options.list:
        return _list()
    if options.worker:
        cell = _by_name(cells.catalogue() + cells.attacked() + cells.recovered() + nat_matrix.with_controls())[options.worker]
        return worker.run(cell, options.label, options, options.result, options.logs)
    reason = needs.missing(["rtpengine", "conntrack"] if options.attack or options.recover or options.nat else ())
    if reason:
        print(f"SKIPPED: {reason}")
        return 1 if os.environ.get("CI") else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    netns.sweep_abandoned()
    try:
        if options.selftest:
            return selftest.run()
        if options.demo:
            from . import demo
            return demo.run(options)
        if options.attack:
            return ordeal.run(options, PROGRAM, cells.attacked(), attack_table)
        if options.nat:
            return nat_matrix.run(options, PROGRAM)
        if options.recover:
            return ordeal.run(options, PROGRAM, cells.recovered(), recovery_table)
        return _cells(options)
    except KeyboardInterrupt:
        print("\ninterrupted; everything is cleaned up", file=sys.stderr)
        return 130


def _by_name(every):
    return {cell.name: cell for cell in [*every, *cells.controls(every)]}


def _list():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    every = cells.catalogue()
    for cell in every:
        note = " (quick)" if cell.quick else ""
        print(f"{cell.name}{note}" + (f"   control: {cell.control.name}" if cell.control else ""))
    for option, more in (("--attack", cells.attacked()), ("--recover", cells.recovered()), ("--nat", nat_matrix.catalogue())):
        for cell in more:
            print(f"{cell.name} ({option})")
    return 0


def _chosen(options):
    """(cells with a line in the table of calls, their controls, cells with tables of their own)."""
    every = cells.catalogue()
    if options.controls:
        return [cell for cell in every if cell.role == "direct"], cells.controls(every), []
    if options.cell:
        known = _by_name(every)
        others = {cell.name: cell for cell in nat_matrix.catalogue() if cell.name not in known}
        wrong = [name for name in options.cell if name not in known and name not in others]
        if wrong:
            sys.exit(f"no such cell: {', '.join(wrong)}; see --list")
        chosen = [known[name] for name in options.cell if name in known]
        examined = [others[name] for name in options.cell if name in others]
    elif options.quick:
        chosen, examined = [cell for cell in every if cell.quick], nat_matrix.quick()
    else:
        chosen, examined = every, []
    bare = options.no_control or options.keep
    return chosen, [] if bare else cells.controls([*chosen, *examined]), examined


def _cells(options):
    chosen, controls, examined = _chosen(options)
    options.binary = options.binary.resolve()
    if any(cell.role != "direct" for cell in [*chosen, *examined]) and not options.binary.exists():
        print(f"{options.binary} is not there; build it first: cargo build --release", file=sys.stderr)
        return 2
    begin = time.monotonic()
    jobs = list({cell.name: cell for cell in [*chosen, *controls, *examined]}.values())
    runner = Runner(PROGRAM, options, options.logs.resolve(), lambda text: print(text, flush=True))
    records = runner.run(jobs)
    rows = [
        table.row(cell, records[cell.name], records.get(cell.control.name) if cell.control else None)
        for cell in chosen
    ]
    if options.controls:
        rows += [table.control_row(cell, records[cell.name]) for cell in controls]
    seconds = time.monotonic() - begin
    if rows:
        print("\n" + table.render(rows) + "\n")
    rows += nat_matrix.print_tables(examined, records)
    table.write_json(options.json, rows, seconds)
    failed = sum(row["verdict"] != "PASS" for row in rows)
    print(f"audio at least {settings.REQUIRED_SHARE} of the call, each way; {seconds:.0f} s; details in {options.json}")
    print(f"lab: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0
