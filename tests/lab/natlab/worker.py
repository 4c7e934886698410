"""Runs one cell in a process of its own and leaves its record in a file."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback

from . import alg_counts, attacks, calls, cells, found, lifetimes, phones, recoveries, verdicts
from .process import LabError, adopt_orphans, die_with_parent, reap
from .scene import Scene

PLAYS = {
    cells.ATTACK: attacks.play, cells.REMAP: recoveries.play, cells.READDRESS: recoveries.play,
    cells.FOUND: found.play, cells.FOUND_BY_PASSWORD: found.play,
    cells.VERDICT: verdicts.play, cells.LIFETIME: lifetimes.play, cells.PHONES: phones.play,
    cells.ALG: alg_counts.play,
}


def run(cell, label, options, result_file, logs):
    """Always writes a record, and always cleans up; the exit code is for the runner."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    die_with_parent(signal.SIGTERM)
    adopt_orphans()
    # Short paths: baresip and control sockets allow about a hundred characters.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="siplab-"))
    record = {"cell": cell.name, "calls": [], "problems": [], "ports_back": None}
    begin = time.monotonic()
    scene = Scene(cell, label, folder, options.binary, options.pcap)
    try:
        _judge(scene, record)
    except LabError as error:
        record["problems"].append(str(error))
    except Exception:
        record["problems"].append("the lab itself failed:\n" + traceback.format_exc())
    finally:
        record["seconds"] = round(time.monotonic() - begin, 1)
        record["ok"] = not record["problems"] and bool(record["calls"])
        try:
            if options.keep:
                _wait_for_reader(scene)
        finally:
            scene.close()
            reap()
            with contextlib.suppress(OSError):
                _keep_logs(folder, logs / cell.name, record, cell, options)
            shutil.rmtree(folder, ignore_errors=True)
            pathlib.Path(result_file).write_text(json.dumps(record))
    return 0 if record["ok"] else 1


def _judge(scene, record):
    scene.open()
    before = scene.siplatch.ports_taken() if scene.siplatch else None
    record["calls"] = PLAYS.get(scene.cell.kind, calls.play)(scene)
    for call in record["calls"]:
        record["problems"] += call["problems"]
    if scene.siplatch:
        _judge_ports(scene, record, before)


def _judge_ports(scene, record, before):
    record["ports_back"] = False
    if before is None:
        record["problems"].append("siplatch does not say how many ports are free")
        return
    during = [call["ports_taken"] for call in record["calls"] if "ports_taken" in call]
    if any(taken is None or taken <= before for taken in during):
        record["problems"].append(f"port pairs taken were {before} before, but {during} during the calls")
    back, last, seconds = calls.ports_back(scene, before)
    record["ports_back"] = back
    record["ports"] = {"before": before, "during": during, "after": last, "seconds": round(seconds, 1)}
    if not back:
        record["problems"].append(f"ports are not back: {before} pairs were taken before the calls, now {last}")


def _keep_logs(folder, target, record, cell, options):
    # A control is meant to fail; its logs are only worth keeping when it was asked for by name.
    expected = record["ok"] or (cell.role == "direct" and cell.nat and not options.cell)
    shutil.rmtree(target, ignore_errors=True)
    if not expected or options.pcap or options.keep:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("tone.wav", "*-enc.wav", "state", "turndb"))
        (target / "record.json").write_text(json.dumps(record, indent=2) + "\n")
        record["logs"] = str(target)


def _wait_for_reader(scene):
    print("kept for you to look at; a shell in a host: nsenter --net=/run/netns/NAME, where NAME is one of")
    for name in scene.world.made:
        print("   ", name)
    print("logs:", scene.folder)
    if os.isatty(0):
        input("Enter ends it. ")
    else:
        print(f"end it with: kill {os.getpid()}", flush=True)
        signal.pause()
