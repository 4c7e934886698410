"""Runs the cases in each setting and prints a table."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from . import cases, digest, subject
from .forked import ForkedCaller
from .mute import Mute
from .process import Trouble
from .sipp import Sipp

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
SETTINGS = ("open", "users", "border", "office")
CONTROLS = ("direct", "kamailio")
PASSWORD = "lattice-64"

ADDRESSES = ("192.168.1.2/24", "10.0.0.2/24", "203.0.113.30/24", "198.51.100.1/24")


class Phones:
    """Addresses and names for the phones of one case. Port 5060 is taken on every address by a siplatch that
    listens on all of them."""

    def __init__(self, setting, number):
        prefix = "192.168.1" if setting in ("open", "users", "office") else "198.51.100"
        self.hosts = [(f"{prefix}.{10 + 4 * number + k}", 5070) for k in range(3)]
        self.caller, self.callee = f"ann{number}", f"bob{number}"


def names(count):
    return {f"{name}{number}": PASSWORD for number in range(count) for name in ("ann", "bob")}


class Setting:
    """One subject and the cases that run against it."""

    def __init__(self, name, folder, binary):
        self.name, self.folder = name, folder
        self.cases = [case for case in cases.CALLS if case.settings is None or name in case.settings]
        start = {
            "direct": lambda: subject.Direct(folder),
            "kamailio": lambda: subject.Kamailio(folder),
            "open": lambda: subject.standalone_open(folder, binary),
            "users": lambda: subject.standalone_users(folder, binary, names(len(self.cases) + 8)),
            "border": lambda: subject.border(folder, binary),
            "office": lambda: subject.office(folder, binary),
        }[name]
        self.subject = start()

    def run(self, report, jobs):
        for name, outcome, seconds in self.registrations():
            report(self.name, name, outcome, seconds)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            # The slowest first, so that the others pass in its shadow.
            order = sorted(enumerate(self.cases), key=lambda pair: -pair[1].deadline_s)
            running = {pool.submit(timed, self.play, case, number): case for number, case in order}
            for future in concurrent.futures.as_completed(running):
                outcome, seconds = future.result()
                report(self.name, running[future].name, outcome, seconds)
        if isinstance(self.subject, subject.Siplatch):
            outcome, seconds = timed(self.subject.wait_for_no_calls)
            report(self.name, "no call and no stream is left", outcome, seconds)
        began = time.monotonic()
        codes = self.subject.stop()
        if isinstance(self.subject, subject.Siplatch):
            code = codes[0]
            report(self.name, "SIGTERM ends it", None if code == 0 else f"exit code {code}", time.monotonic() - began)

    def values(self, phones, case, me, peer):
        near = self.subject.near
        domain = self.subject.domain
        values = {
            "me": me, "peer": peer, "domain": domain, "talk_ms": 500, "password": PASSWORD, "expires": 600,
            "media": self.subject.checks(), "target": f"sip:{peer}@{domain}", "near": near[0] if near else "",
        }
        values.update(case.values)
        values.update(case.by_setting.get(self.name, {}))
        return values

    def play(self, case, number):
        phones = Phones(self.name, number)
        folder = self.folder / f"{number:02}-{case.caller}"
        folder.mkdir(parents=True)
        hosts = phones.hosts
        callees, caller = [], None
        try:
            if self.subject.registers:
                if case.caller_registers:
                    self.register(folder, "caller-registers", hosts[0], phones.caller)
                for k in range(len(case.callees) if case.callees_register else 0):
                    self.register(folder, f"callee{k}-registers", hosts[k + 1], phones.callee)
            for k, script in enumerate(case.callees):
                if script == "mute":
                    callees.append(Mute(hosts[k + 1]))
                else:
                    values = self.values(phones, case, phones.callee, phones.caller)
                    callees.append(Sipp(folder, f"callee{k}", script, hosts[k + 1], None, values, listens=True, deadline_s=case.deadline_s))
            remote = self.subject.near or hosts[1]
            values = self.values(phones, case, phones.caller, phones.callee)
            if case.caller == "forked":
                caller = ForkedCaller(hosts[0], remote, phones.caller, phones.callee, self.subject.domain, len(callees))
            else:
                caller = Sipp(folder, "caller", case.caller, hosts[0], remote, values, deadline_s=case.deadline_s)
            faults = [caller.finish(case.deadline_s)]
            faults += [callee.finish() for callee in callees]
            if not any(faults) and self.subject.near:
                faults += [check(caller, callees) for check in case.checks]
            return "; ".join(fault for fault in faults if fault) or None
        finally:
            for end in [caller, *callees]:
                if end:
                    end.stop()

    def register(self, folder, name, address, user, expires=600):
        """Registers by SIPp, or by the small phone where digest is asked for; raises `Trouble`."""
        if self.name == "users":
            phone = digest.Phone(address, self.subject.near, user, PASSWORD, self.subject.domain)
            try:
                phone.register("SHA-256", expires)
            except digest.Refused as refusal:
                raise Trouble(f"{user} cannot register: {refusal}") from refusal
            finally:
                phone.close()
            return
        own = f"sip:{user}@{address[0]}:{address[1]};phone=own"
        # Anywhere: the 200 lists every phone of the name.
        wanted = own if expires else "CSeq: [0-9]+ REGISTER"
        values = {
            "me": user, "domain": self.subject.domain, "expires": expires, "password": PASSWORD,
            "own_contact": f'<ereg regexp="{wanted}" search_in="msg" check_it="true" assign_to="ignored"/>',
        }
        sipp = Sipp(folder, name, "register", address, self.subject.near, values)
        fault = sipp.finish()
        sipp.stop()
        if fault:
            raise Trouble(fault)

    def registrations(self):
        """The cases of REGISTER alone."""
        if not self.subject.registers:
            return
        phones = Phones(self.name, len(self.cases))
        folder = self.folder / "registrations"
        folder.mkdir(parents=True)
        address, user = phones.hosts[0], phones.caller
        yield ("register", *timed(self.register, folder, "register", address, user))
        yield ("refresh", *timed(self.register, folder, "refresh", address, user))
        yield ("unregister", *timed(self.register, folder, "unregister", address, user, 0))
        if self.name == "users":
            for algorithm in ("MD5", "SHA-256"):
                yield (f"digest {algorithm}", *timed(self.challenge, phones.hosts[1], user, PASSWORD, algorithm, None))
            yield ("wrong password", *timed(self.challenge, phones.hosts[1], user, "guess", "MD5", "40"))
            yield ("unknown user", *timed(self.challenge, phones.hosts[1], "nobody", "guess", "MD5", "40"))
        if self.name in ("border", "office"):
            yield ("REGISTER to siplatch itself is explained", *timed(self.misdirected, phones.hosts[2], user))

    def challenge(self, address, user, password, algorithm, refusal):
        phone = digest.Phone(address, self.subject.near, user, password, self.subject.domain)
        try:
            phone.register(algorithm, 60)
            return None if refusal is None else "it was accepted"
        except digest.Refused as refused:
            said = str(refused)
            return None if refusal and said.startswith(f"SIP/2.0 {refusal}") else f"refused: {said}"
        finally:
            phone.close()

    def misdirected(self, address, user):
        """Registrar set to siplatch instead of outbound proxy: a 403 that says so."""
        phone = digest.Phone(address, self.subject.near, user, PASSWORD, self.subject.near[0])
        try:
            first = phone.ask("REGISTER", f"sip:{self.subject.near[0]}", ["Expires: 60"]).splitlines()[0]
        finally:
            phone.close()
        good = first.startswith("SIP/2.0 403") and "outbound proxy" in first.lower()
        return None if good else f"the answer was {first!r}"


def timed(function, *arguments):
    """(fault or None, seconds); an exception is a fault."""
    began = time.monotonic()
    try:
        fault = function(*arguments)
    except Trouble as trouble:
        fault = str(trouble)
    except Exception:  # noqa: BLE001 (a fault of the runner itself must show in the table)
        fault = traceback.format_exc(limit=3)
    return fault, time.monotonic() - began


def options_of(arguments):
    parser = argparse.ArgumentParser(prog="tests/interop/run", description=__doc__)
    parser.add_argument("settings", nargs="*", help=f"any of {', '.join(SETTINGS + CONTROLS)}; default: the first four")
    parser.add_argument("--binary", default=str(ROOT / "target/release/siplatch"))
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time, in each setting")
    parser.add_argument("--keep", action="store_true", help="keep the folder with messages and logs also when all is well")
    parser.add_argument("--inside", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.settings = options.settings or list(SETTINGS)
    unknown = set(options.settings) - set(SETTINGS) - set(CONTROLS)
    if unknown:
        parser.error(f"unknown setting: {', '.join(sorted(unknown))}")
    return options


def what_is_missing(settings):
    """Why the peers cannot run here, or None."""
    tools = ["sipp", "ip", "unshare"] + (["kamailio"] if {"border", "office", "kamailio"} & set(settings) else [])
    for tool in tools:
        if not shutil.which(tool):
            return f"{tool} is not installed (tests/lab/install installs it)"
    if subprocess.run([*unshare(), "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return "a network namespace cannot be made here"
    return None


def unshare():
    """A network namespace of its own, so that no port of the machine is taken."""
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--user", "--map-root-user"]


def one(options):
    """One setting, inside its namespace; rows are printed as they come, the outcome goes to a file."""
    for command in (["link", "set", "lo", "up"], *(["addr", "add", a, "dev", "lo"] for a in ADDRESSES)):
        subprocess.run(["ip", *command], check=True)
    cases.CALLS[:] = [case for case in cases.CALLS if options.only in case.name]
    (name,) = options.settings
    folder = pathlib.Path(options.inside)
    rows = []

    def report(setting, case, fault, seconds):
        rows.append((setting, case, fault))
        print(f"{setting:<9} {case:<42} {'ok' if fault is None else 'FAILED':<7} {seconds:5.1f} s", flush=True)

    try:
        setting = Setting(name, folder / name, options.binary)
        try:
            setting.run(report, options.jobs)
        finally:
            setting.subject.stop()
    except Trouble as trouble:
        report(name, "start", str(trouble), 0.0)
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
    if set(options.settings) & set(SETTINGS) and not pathlib.Path(options.binary).exists():
        print(f"interop: FAILED: {options.binary} is not there: cargo build --release")
        return 1
    folder = pathlib.Path(tempfile.mkdtemp(prefix="siplatch-interop-"))
    began = time.monotonic()
    children = [
        subprocess.Popen([
            *unshare(), sys.executable, sys.argv[0], name, "--binary", options.binary, "--only", options.only,
            "--jobs", str(options.jobs), "--inside", str(folder),
        ])
        for name in options.settings
    ]
    for child in children:
        child.wait()
    count, failed = 0, []
    for name in options.settings:
        outcome = folder / f"{name}.json"
        rows = json.loads(outcome.read_text()) if outcome.exists() else [(name, "run", "the runner ended early")]
        count += len(rows)
        failed += [f"{setting}: {case}: {fault}" for setting, case, fault in rows if fault is not None]
    print(f"\ninterop: {count - len(failed)} of {count} ok in {time.monotonic() - began:.0f} s")
    for line in failed:
        print(f"  {line}")
    if failed or options.keep:
        print(f"  messages and logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0
