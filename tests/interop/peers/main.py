"""Runs the settings at the same time, each in a network namespace of its own, and prints a row for each case, and the matrix."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from . import ice, jssip, matrix, plan
from .process import Trouble
from .setting import ADDRESSES, Setting

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent


def options_of(arguments):
    parser = argparse.ArgumentParser(prog="tests/interop/run", description=__doc__)
    known, usual = ", ".join(plan.PLANS), f"all but {' and '.join(plan.CONTROLS)}"
    parser.add_argument("settings", nargs="*", help=f"any of {known}; default: {usual}")
    parser.add_argument("--binary", default=str(ROOT / "target/release/siplatch"))
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time, in each setting")
    parser.add_argument("--keep", action="store_true", help="keep the folder with messages and logs also when all is well")
    parser.add_argument("--jssip", metavar="FOLDER", default=str(ROOT / "target/interop/jssip"), help="where JsSIP is installed")
    parser.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.settings = options.settings or list(plan.SIPLATCH)
    unknown = set(options.settings) - set(plan.PLANS)
    if unknown:
        parser.error(f"unknown setting: {', '.join(sorted(unknown))}")
    return options


def what_is_missing(settings):
    """Why the peers cannot run here, or None."""
    plans = [plan.PLANS[name] for name in settings]
    tools = ["sipp", "ip", "unshare"]
    tools += ["kamailio"] if any(present.role in ("border", "office", "kamailio") for present in plans) else []
    tools += ["openssl"] if any(transport.secure for present in plans for transport in present.phones) else []
    for tool in tools:
        if not shutil.which(tool):
            return f"{tool} is not installed (tests/lab/install installs it)"
    if subprocess.run([*unshare(), "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return "a network namespace cannot be made here"
    return None


def missing_agents(options):
    """Installs JsSIP where a setting wants it; says what stays away, if anything."""
    wanted = {plan.PLANS[name].agents for name in options.settings}
    absent = []
    if "JsSIP" in wanted:
        why = jssip.install(pathlib.Path(options.jssip))
        absent += [f"no JsSIP: {why}"] if why else []
    if "baresip" in wanted and not shutil.which("baresip"):
        absent.append("no baresip: it is not installed")
    if ice.missing():
        absent.append(f"no ICE: {ice.missing()}")
    return "; ".join(absent)


def unshare():
    """A network namespace of its own, so that no port of the machine is taken."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--user", "--map-root-user"]


def one(options):
    """One setting, inside its namespace; rows are printed as they come, the outcome goes to a file."""
    for command in (["link", "set", "lo", "up"], *(["addr", "add", a, "dev", "lo"] for a in ADDRESSES)):
        subprocess.run(["ip", *command], check=True)
    (name,) = options.settings
    folder = pathlib.Path(options.inside)
    rows = []

    def report(case, fault, seconds, row=None, who="SIPp"):
        rows.append({"setting": name, "case": case, "fault": fault, "row": row, "who": who})
        print(f"{name:<18} {case:<42} {'ok' if fault is None else 'FAILED':<7} {seconds:5.1f} s", flush=True)

    try:
        setting = Setting(plan.PLANS[name], folder / name, options.binary, options.only, pathlib.Path(options.jssip))
        try:
            setting.run(report, options.jobs)
        finally:
            setting.subject.stop()
    except Trouble as trouble:
        report("start", str(trouble), 0.0)
    (folder / f"{name}.json").write_text(json.dumps(rows))
    return 0


def main():
    # Where Debian puts ip and kamailio, and where not every user looks.
    os.environ["PATH"] = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    options = options_of(sys.argv[1:])
    if options.inside:
        return one(options)
    why = what_is_missing(options.settings)
    if why:
        # Under CI a missing capability fails; elsewhere it is said and passed over.
        print(f"interop: {'FAILED' if os.environ.get('CI') else 'SKIPPED'}: {why}")
        return 1 if os.environ.get("CI") else 0
    if set(options.settings) & set(plan.SIPLATCH) and not pathlib.Path(options.binary).exists():
        print(f"interop: FAILED: {options.binary} is not there: cargo build --release")
        return 1
    absent = missing_agents(options)
    if absent and os.environ.get("CI"):
        print(f"interop: FAILED: {absent}")
        return 1
    folder = pathlib.Path(tempfile.mkdtemp(prefix="siplatch-interop-"))
    began = time.monotonic()
    children = [
        subprocess.Popen([
            *unshare(), sys.executable, sys.argv[0], name, "--binary", options.binary, "--only", options.only,
            "--jobs", str(options.jobs), "--jssip", options.jssip, "--inside", str(folder),
        ])
        for name in options.settings
    ]
    for child in children:
        child.wait()
    rows = []
    for name in options.settings:
        outcome = folder / f"{name}.json"
        early = [{"setting": name, "case": "run", "fault": "the runner ended early", "row": None, "who": ""}]
        rows += json.loads(outcome.read_text()) if outcome.exists() else early
    rows += [] if options.only else matrix.gaps(rows, options.settings)
    failed = [row for row in rows if row["fault"] is not None]
    print(f"\n{matrix.text(rows, options.settings)}")
    if absent:
        print(f"SKIPPED: {absent}; their cells are held by the others")
    print(f"\ninterop: {len(rows) - len(failed)} of {len(rows)} ok in {time.monotonic() - began:.0f} s")
    for row in failed:
        print(f"  {row['setting']}: {row['case']}: {row['fault']}")
    if failed or options.keep:
        print(f"  messages and logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0
