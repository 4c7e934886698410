"""One setting: what stands in the middle, the cases that run against it, the user agents that call through it."""

import concurrent.futures
import shutil
import time
import traceback

from . import baresip, cases, digest, jssip, subject
from .certificates import Certificates
from .line import open_line
from .mute import Mute
from .phone import Phone, Refused
from .process import Trouble
from .sipp import Sipp
from .talks import Forked
from .transport import TCP, TLS, WS, WSS

PASSWORD = "lattice-64"

ADDRESSES = ("192.168.1.2/24", "10.0.0.2/24", "203.0.113.30/24", "198.51.100.1/24")


class Phones:
    """Addresses and names for the phones of one case. Port 5060 is taken on every address by a siplatch that
    listens on all of them."""

    def __init__(self, role, number):
        prefix = "198.51.100" if role == "border" else "192.168.1"
        self.hosts = [(f"{prefix}.{10 + 4 * number + k}", 5070) for k in range(3)]
        self.caller, self.callee, self.third = f"ann{number}", f"bob{number}", f"carl{number}"


def names(count):
    return {f"{name}{number}": PASSWORD for number in range(count) for name in ("ann", "bob", "carl")}


class Setting:
    """One subject and the cases that run against it."""

    def __init__(self, present, folder, binary, only, installed):
        self.installed = installed
        self.plan, self.name, self.folder, self.only = present, present.name, folder, only
        self.cases = [
            case for case in cases.CALLS
            if (case.settings is None or self.name in case.settings) and only in case.name
            and (case.row or case.everywhere or present.extras) and not present.media
        ]
        self.certificates = Certificates(folder / "certificates")
        if any(transport.secure for transport in present.phones):
            self.certificates.make([address.split("/")[0] for address in ADDRESSES], [subject.DOMAIN])
        users = names(len(self.cases) + 8)
        self.subject = subject.start(present, folder, binary, self.certificates, users, PASSWORD)

    def run(self, report, jobs):
        for row, name, who, outcome, seconds in self.registrations():
            report(name, outcome, seconds, row, who)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            # The slowest first, so that the others pass in its shadow.
            order = sorted(enumerate(self.cases), key=lambda pair: -pair[1].deadline_s)
            running = {pool.submit(timed, self.play, case, number): case for number, case in order}
            for name, row, who, outcome, seconds in self.agents():
                report(name, outcome, seconds, row, who)
            for future in concurrent.futures.as_completed(running):
                outcome, seconds = future.result()
                case = running[future]
                report(case.name, outcome, seconds, case.row, "own" if case.talk else "SIPp")
        if isinstance(self.subject, subject.Siplatch):
            report("everybody keeps to his transport", *timed(self.transports))
            report("no call and no stream is left", *timed(self.subject.wait_for_no_calls))
        began = time.monotonic()
        codes = self.subject.stop()
        if isinstance(self.subject, subject.Siplatch):
            code = codes[0]
            report("SIGTERM ends it", None if code == 0 else f"exit code {code}", time.monotonic() - began)

    def transports(self):
        """By siplatch's own figures: connections of the kinds that the setting says, and datagrams only where it says so."""
        figures = self.subject.metrics()
        phones, core = ("outer", "inner") if self.plan.role == "border" else ("inner", "outer")
        for side, used in ((phones, self.plan.phones), *([] if self.plan.role == "standalone" else [(core, (self.plan.core,))])):
            datagrams = figures.get(f'siplatch_datagrams_total{{kind="sip",side="{side}"}}', 0)
            if bool(datagrams) != any(not transport.stream for transport in used):
                return f"{datagrams:.0f} datagrams on the {side} side"
            opened = {
                transport.name for transport in (TCP, TLS, WS, WSS) for direction in ("in", "out")
                if figures.get(f'siplatch_connections_opened_total{{direction="{direction}",side="{side}",transport="{transport.name}"}}')
            }
            # Toward a core on UDP, TCP is tried as well, for what is too long.
            wanted = {transport.name for transport in used if transport.stream}
            if not wanted <= opened or opened - wanted - ({"tcp"} if side == core else set()):
                return f"connections by {sorted(opened)} on the {side} side, not {sorted(wanted)}"
        return None

    def values(self, case, me, peer):
        near, domain = self.subject.near(self.plan.caller), self.subject.domain
        values = {
            "me": me, "peer": peer, "domain": domain, "talk_ms": 500, "password": PASSWORD, "expires": 600,
            "media": self.subject.checks(), "target": f"sip:{peer}@{domain}", "near": near[0] if near else "",
            "body": "Wait for me at the gate.",
        }
        values.update(case.values)
        values.update(case.by_setting.get(self.name, {}))
        return values

    def line(self, transport, address, other=None):
        """A phone's way to the subject; `other` is where it sends to when there is none."""
        return open_line(transport, address, self.subject.near(transport) or other, self.certificates.authority)

    def play(self, case, number):
        phones = Phones(self.plan.role, number)
        folder = self.folder / f"{number:02}-{case.caller or case.talk.__name__}"
        folder.mkdir(parents=True)
        hosts, count = phones.hosts, 3 if case.talk else 1 + len(case.callees)
        lines, ends = [], []
        try:
            for k in range(count):
                lines.append(self.line(self.plan.callee if k else self.plan.caller, hosts[k], hosts[1]))
            users = [phones.caller, phones.callee, phones.third if case.talk else phones.callee]
            if self.subject.registers:
                for k in range(count):
                    if case.callees_register if k else case.caller_registers:
                        self.register(folder, f"phone{k}-registers", lines[k], users[k])
            if case.talk:
                ends += [Phone(line, user, self.subject.domain) for line, user in zip(lines, users)]
                faults = [self.hold(case.talk, ends)]
            else:
                faults = self.sipp(case, folder, phones, lines, ends)
            faults += [line.fault() for line in lines]
            return "; ".join(fault for fault in faults if fault) or None
        finally:
            for end in [*ends, *lines]:
                end.close()

    def agents(self):
        """Real user agents, one case after the other on the same three phones."""
        who = self.plan.agents
        here = {None: False, "JsSIP": self.installed.joinpath("installed").exists(), "baresip": bool(shutil.which("baresip"))}
        if not here[who]:
            return
        phones, folder = Phones(self.plan.role, len(self.cases) + 1), self.folder / who.lower()
        running = []

        def start():
            for k, user in enumerate((phones.caller, phones.callee, phones.third)):
                transport, host = self.plan.callee if k else self.plan.caller, phones.hosts[k][0]
                rest = user, PASSWORD, self.subject.domain, self.subject.near(transport), transport, self.certificates.authority
                if who == "JsSIP":
                    running.append(jssip.JsSip(folder, self.installed, host, *rest))
                else:
                    running.append(baresip.Baresip(folder, k, host, *rest, media=self.plan.media))

        try:
            fault, seconds = timed(start)
            if fault:
                yield (f"{who} starts", "register with authentication", who, fault, seconds)
                return
            talk = jssip.Talk(*running) if who == "JsSIP" else baresip.Talk(*running)
            steps = jssip.CASES if who == "JsSIP" else baresip.MEDIA_CASES if self.plan.media else baresip.CASES
            for name, row, step in steps:
                if self.only in name or self.only == who:
                    yield (name, row, who, *timed(step, talk))
        finally:
            for phone in running:
                phone.close()

    def hold(self, talk, phones):
        try:
            return talk(self.subject.relay, *phones)
        except Refused as refused:
            return str(refused)

    def sipp(self, case, folder, phones, lines, ends):
        """Starts the called phones, then the caller; what went wrong, one entry each."""
        callees = []
        for k, script in enumerate(case.callees):
            if script == "mute":
                callees.append(Mute(lines[k + 1]))
            else:
                values = self.values(case, phones.callee, phones.caller)
                rest = {"listens": True, "deadline_s": case.deadline_s, "options": case.options}
                callees.append(Sipp(folder, f"callee{k}", script, lines[k + 1], values, **rest))
            ends.append(callees[-1])
        if case.caller == "forked":
            phone = Phone(lines[0], phones.caller, self.subject.domain)
            caller = Forked(phone, f"sip:{phones.callee}@{self.subject.domain}", len(callees))
        else:
            values = self.values(case, phones.caller, phones.callee)
            caller = Sipp(folder, "caller", case.caller, lines[0], values, deadline_s=case.deadline_s, options=case.options)
        ends.append(caller)
        faults = [caller.finish(case.deadline_s)]
        faults += [callee.finish() for callee in callees]
        if not any(faults) and self.subject.host:
            faults += [check(caller, callees) for check in case.checks]
        return faults

    def register(self, folder, name, line, user, expires=600, by_sipp=False):
        """Registers by SIPp, or more quickly by the small phone where siplatch knows the passwords; raises `Trouble`."""
        if self.plan.accounts and not by_sipp:
            phone = Phone(line, user, self.subject.domain, PASSWORD)
            try:
                phone.register(self.plan.digest[0], expires)
            except (Refused, digest.Unoffered) as refusal:
                raise Trouble(f"{user} cannot register: {refusal}") from refusal
            finally:
                phone.close()
            return
        # Anywhere: the 200 lists every phone of the name.
        wanted = line.own(user) if expires else "CSeq: [0-9]+ REGISTER"
        values = {
            "me": user, "domain": self.subject.domain, "expires": expires, "password": PASSWORD,
            "own_contact": f'<ereg regexp="{wanted}" search_in="msg" check_it="true" assign_to="ignored"/>',
        }
        sipp = Sipp(folder, name, "register", line, values)
        fault = sipp.finish()
        if not fault and self.plan.challenges and not sipp.received("SIP/2.0 401"):
            fault = f"{user} was not asked for credentials"
        sipp.close()
        if fault:
            raise Trouble(fault)

    def registrations(self):
        """The cases of REGISTER alone."""
        if not self.subject.registers:
            return
        phones = Phones(self.plan.role, len(self.cases))
        folder = self.folder / "registrations"
        folder.mkdir(parents=True)
        user = phones.caller
        lines = []
        try:
            lines.append(self.line(self.plan.caller, phones.hosts[0]))
            row = "register with authentication" if self.plan.challenges else None
            by_sipp = not self.plan.accounts or self.plan.digest[0] == "MD5"
            who = "SIPp" if by_sipp else "own"
            for name, expires in (("register", 600), ("refresh", 600), ("unregister", 0)):
                yield (row, name, who, *timed(self.register, folder, name, lines[0], user, expires, by_sipp))
            if self.plan.caller.stream:
                yield (None, "keep-alives are answered", "own", *timed(lines[0].ping))
            lines.append(self.line(self.plan.caller, phones.hosts[1]))
            if self.plan.accounts:
                for algorithm in (name for name in self.plan.digest if name in digest.HASHES):
                    yield (row, f"digest {algorithm}", "own", *timed(self.challenge, lines[1], user, PASSWORD, algorithm, None))
                yield (row, "wrong password", "own", *timed(self.challenge, lines[1], user, "guess", "MD5", "40"))
                yield (row, "unknown user", "own", *timed(self.challenge, lines[1], "nobody", "guess", "MD5", "40"))
            if self.name in ("border", "office"):
                lines.append(self.line(self.plan.caller, phones.hosts[2]))
                yield (None, "REGISTER to siplatch itself is explained", "own", *timed(self.misdirected, lines[2], user))
        finally:
            for line in lines:
                line.close()

    def challenge(self, line, user, password, algorithm, refusal):
        phone = Phone(line, user, self.subject.domain, password)
        try:
            phone.register(algorithm, 60)
            return None if refusal is None else "it was accepted"
        except (Refused, digest.Unoffered) as refused:
            said = str(refused)
            return None if refusal and said.startswith(f"SIP/2.0 {refusal}") else f"refused: {said}"
        finally:
            phone.close()

    def misdirected(self, line, user):
        """Registrar set to siplatch instead of outbound proxy: a 403 that says so."""
        phone = Phone(line, user, self.subject.host, PASSWORD)
        try:
            first = phone.final(phone.start("REGISTER", f"sip:{self.subject.host}", ["Expires: 60"], to=phone.aor)).start
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
