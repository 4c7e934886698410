"""Measures the NAT boxes with real packets, so that a cell's name for its NAT is a fact.

Mapping: one socket inside sends to several places outside; do they all see the same address?
Filtering: after one packet out, which outside addresses can send back in?
Lifetime: how long after the last packet does the way back stay open?
"""

import array
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import random
import socket
import tempfile
import time

from . import cells, coturn, lifetimes, nat, nat_matrix, netns, networks, phones, settings, sniff, stun, tone, verdicts, world

OTHERS = [kind for kind, network in networks.EVERY.items() if network.udp and kind not in nat.TYPES]
ARRIVES_S = 0.25
REGISTER = "\r\n".join((
    "REGISTER sip:provider.example SIP/2.0", "Via: SIP/2.0/UDP {own};branch=z9hG4bKlab;rport", "Max-Forwards: 70",
    "From: <sip:lab@provider.example>;tag=1", "To: <sip:lab@provider.example>", "Call-ID: lab", "CSeq: 1 REGISTER",
    "Contact: <sip:lab@{own}>", "Content-Length: 0", "", "",
))
PROBE_AGES_S = [20, 27, 29, 31, 33]


def udp(namespace, address, port=0):
    with netns.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def receive(sock, deadline_s=ARRIVES_S):
    """(data, source), or (None, None) when nothing comes."""
    sock.settimeout(deadline_s)
    try:
        return sock.recvfrom(2048)
    except (TimeoutError, ConnectionError):
        return None, None


class Probe:
    """Two hosts inside one NAT box, and two addresses with two ports each outside."""

    def __init__(self, kind, label, stack):
        self.kind = kind
        self.world = world.World(label, office_nat=kind)
        stack.callback(self.world.close)
        hosts = ("office", "office2") if kind in nat.TYPES else ("siplatch",)
        self.inside = [(self.world.add(host), self.world.address(host)) for host in hosts]
        outside = self.world.add("stun")
        self.outside_namespace = outside
        self.outside = {
            (address, port): udp(outside, address, port)
            for address in world.HOSTS["stun"][1] for port in (7001, 7002)
        }
        self.ends = list(self.outside)
        self.stack = stack

    def close(self):
        for sock in self.outside.values():
            sock.close()

    def seen_from(self, sock, end):
        """Sends to `end` and returns the source that it sees."""
        sock.sendto(b"out", end)
        return receive(self.outside[end])[1]

    def mapping(self, port=5060):
        sock = udp(*self.inside[0], port)
        seen = [self.seen_from(sock, end) for end in self.ends]
        sock.close()
        if None in seen:
            return "broken: a packet did not get out"
        if len(set(seen)) == 1:
            return verdicts.ENDPOINT
        return verdicts.PORT if len(set(seen)) == len(seen) else "mixed"

    def filtering(self, port=5070):
        sock = udp(*self.inside[0], port)
        mapped = self.seen_from(sock, self.ends[0])
        let_in = []
        for end in self.ends:
            self.outside[end].sendto(b"in", mapped)
            let_in.append(receive(sock)[0] is not None)
        sock.close()
        if not let_in[0]:
            return "broken: not even the answer got in"
        if all(let_in):
            return verdicts.ENDPOINT
        if any(let_in[1:]):
            return verdicts.ADDRESS if let_in[1] else "mixed"
        return verdicts.PORT

    def same_port_twice(self, port=5080):
        """Two hosts inside use the same port: both must be answered."""
        socks = [udp(*host, port) for host in self.inside]
        if self.kind == nat.FULL_CONE:
            return self._both_cones(socks)
        seen = [self.seen_from(sock, self.ends[0]) for sock in socks]
        answered = []
        for sock, mapped in zip(socks, seen):
            self.outside[self.ends[0]].sendto(mapped[1].to_bytes(2, "big"), mapped)
            answered.append(receive(sock)[0] == mapped[1].to_bytes(2, "big"))
            sock.close()
        return seen[0] != seen[1] and all(answered)

    def _both_cones(self, socks):
        """Here each of them has one mapping toward everybody, and everybody gets in by it."""
        seen = [{self.seen_from(sock, end) for end in self.ends} for sock in socks]
        if seen[0] == seen[1] or [len(each) for each in seen] != [1, 1]:
            return False
        for sock, (mapped,) in zip(socks, seen):
            self.outside[self.ends[-1]].sendto(b"in", mapped)
            if receive(sock)[0] is None:
                return False
        return True

    def unsolicited(self, port=5090):
        """A stranger knocks first; does the port that the phone gets afterwards shift?"""
        stranger = self.outside[self.ends[0]]
        stranger.sendto(b"knock", (world.WAN["office-nat"], port))
        sock = udp(*self.inside[0], port)
        mapped = self.seen_from(sock, self.ends[0])
        sock.close()
        return mapped == (world.WAN["office-nat"], port)

    def rewrites_sip(self):
        """Does a REGISTER to port 5060 arrive otherwise than it was sent?"""
        end = self.ends[0][0], 5060
        there, sock = udp(self.outside_namespace, *end), udp(*self.inside[0], 5095)
        own = f"{self.inside[0][1]}:5095"
        sent = REGISTER.format(own=own).encode()
        sock.sendto(sent, end)
        came = receive(there)[0]
        there.close()
        sock.close()
        return "broken: it did not arrive" if came is None else came != sent

    def lifetimes(self):
        """The ages at which a probe from outside still got in: after one packet out, after packets both ways.

        Each age has a socket of its own, since a probe that gets in keeps the way open.
        """
        waiting = []
        for age in PROBE_AGES_S:
            for two_way in (False, True):
                waiting.append((time.monotonic() + age, age, two_way, *self._open_way(two_way)))
        alive = {False: [], True: []}
        for due, age, two_way, sock, mapped in waiting:
            time.sleep(max(0.0, due - time.monotonic()))
            self.outside[self.ends[0]].sendto(b"late", mapped)
            if receive(sock)[0] is not None:
                alive[two_way].append(age)
            sock.close()
        return alive[False], alive[True]

    def _open_way(self, two_way):
        sock = udp(*self.inside[0])
        mapped = self.seen_from(sock, self.ends[0])
        for _ in range(3 if two_way else 0):
            self.outside[self.ends[0]].sendto(b"in", mapped)
            receive(sock)
            mapped = self.seen_from(sock, self.ends[0])
        return sock, mapped

    def stun_agrees(self, folder):
        """coturn tells what the outside sees."""
        process = coturn.start(self.outside_namespace, world.HOSTS["stun"][1], folder)
        sock = udp(*self.inside[0], 6000)
        answers = [stun.mapped_address(sock, (each, coturn.PORT)) for each in world.HOSTS["stun"][1]]
        seen = self.seen_from(sock, self.ends[0])
        sock.close()
        process.stop()
        if None in answers:
            return False
        if self.kind == nat.SYMMETRIC:
            return {each[0] for each in answers} == {world.WAN["office-nat"]} and answers[0] != answers[1]
        return set(answers) == {seen}


def examine(kind, label):
    """Everything about one type; a list of (what, found, as expected)."""
    mapping, filtering = (verdicts.BEHAVIOUR[kind][key] for key in ("mapping", "filtering"))
    lives = [age for age in PROBE_AGES_S if age < settings.UDP_TIMEOUT_S]
    with contextlib.ExitStack() as stack:
        probe = Probe(kind, label, stack)
        stack.callback(probe.close)
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="siplab-")))
        rows = []

        def note(what, found, wanted):
            rows.append((what, str(found), found == wanted))
        note("mapping", probe.mapping(), mapping)
        note("filtering", probe.filtering(), filtering)
        note("SIP arrives rewritten", probe.rewrites_sip(), kind == networks.ALG)
        if kind in OTHERS:
            return rows
        note("two hosts, one port: both answered", probe.same_port_twice(), True)
        if kind != nat.SYMMETRIC:
            note("a stranger's knock does not shift the port", probe.unsolicited(), True)
        note("STUN server tells the truth", probe.stun_agrees(folder), True)
        one_way, both_ways = probe.lifetimes()
        note("one packet out: alive at ages (s)", one_way, lives)
        note("packets both ways: alive at ages (s)", both_ways, lives)
        return rows


def examine_silence(kind, label):
    """Of a network that lets no UDP out: that it does not."""
    with contextlib.ExitStack() as stack:
        probe = Probe(kind, label, stack)
        stack.callback(probe.close)
        sock = udp(*probe.inside[0])
        seen = [probe.seen_from(sock, end) for end in probe.ends]
        sock.close()
        return [("no datagram gets out", str(seen), not any(seen))]


def examine_tables():
    """The judges of the other tables on made-up findings."""
    wanted = {"udp": True, "mapping": verdicts.ENDPOINT, "mapped": "203.0.113.20"}
    cases = [
        ("right", {**wanted, "mapped": "203.0.113.20:4711", "more": 1}, "right"),
        ("unknown", {**wanted, "mapped": "203.0.113.20:4711", "mapping": None}, "unknown"),
        ("wrong", {**wanted, "mapped": "203.0.113.20:4711", "mapping": verdicts.PORT}, "wrong"),
        ("wrong beside unknown", {"udp": False, "mapping": None, "mapped": None}, "wrong"),
    ]
    rows = [(f"judges a finding to be {what}", verdicts.judge(wanted, found)[0], verdicts.judge(wanted, found)[0] == verdict)
            for what, found, verdict in cases]
    for found, right in ((17.0, True), (23.0, True), (16.9, False), (23.1, False), (None, False)):
        rows.append((f"judges a lifetime of 20 s found as {found}", str(lifetimes.within(found, 20)),
                     lifetimes.within(found, 20) == right))
    return rows


def examine_catalogue():
    """Two cells of one name must be the same cell: a worker knows its cell by name alone."""
    every = [*cells.catalogue(), *cells.attacked(), *cells.recovered(), *nat_matrix.catalogue()]
    every += cells.controls(cells.catalogue()) + [cell.control for cell in nat_matrix.catalogue() if cell.control]
    asked = {}
    for cell in every:
        asked.setdefault(cell.name, set()).add(dataclasses.replace(cell, quick=False))
    differ = sorted(name for name, them in asked.items() if len(them) > 1)
    return [("a name means one cell", str(differ or True), not differ)]


def examine_accounts():
    """Whose packet is it, and is it where it belongs? On made-up packets of the phone `office2`."""
    line = phones.lines(nat.PORT_RESTRICTED)[1]
    callers, servers = {"203.0.113.51": line.user}, {"203.0.113.10"}
    provider = "203.0.113.5", 5060
    invite = b"INVITE sip:public2@provider.example SIP/2.0\r\nFrom: <sip:office2@provider.example>;tag=1\r\n\r\n"
    rows = []
    for what, far, port, data, counted, astray in (
        ("its media", ("203.0.113.51", 10000), line.first, b"\x80", "media", 0),
        ("its media at another port", ("203.0.113.51", 10000), line.last + 1, b"\x80", "media", 1),
        ("its INVITE", provider, line.port, invite, "signalling", 0),
        ("its INVITE at another's port", provider, line.port + 1, invite, "signalling", 1),
        ("a question to the STUN server", ("203.0.113.10", 3478), line.first, b"\0\1\0\0" + phones.COOKIE, None, 0),
        ("one from a sibling socket", ("203.0.113.10", 3478), 2000, b"\0\1\0\0" + phones.COOKIE, None, 0),
        ("something else for that server", ("203.0.113.10", 3478), 2000, b"\x80", None, 1),
        ("a packet for a stranger", ("203.0.113.99", 9), line.first, b"\x80", None, 1),
    ):
        packet = sniff.Packet(0.0, (line.address, port), far, data)
        counts, strays, _ = phones.account([packet], phones.lines(nat.PORT_RESTRICTED), callers, servers)
        found = [key for key, number in counts[line.user].items() if number], sum(map(len, strays.values()))
        rows.append((f"accounts for {what}", str(found), found == ([counted] if counted else [], astray)))
    return rows


def examine_ear():
    """The ear on made-up recordings of 10 s: (what, found, as expected)."""
    own, foreign = tone.samples(440, 10), tone.samples(1000, 10)
    silence, quiet = array.array("h", bytes(2 * len(own))), tone.samples(440, 10, amplitude=100)
    noise = array.array("h", (random.Random(1).randint(-8000, 8000) for _ in range(len(own))))
    half = own[:len(own) // 2] + silence[:len(own) // 2]
    under_noise = array.array("h", (a + b // 4 for a, b in zip(own, noise)))
    cases = [
        ("its tone", own, 1.0), ("its tone for half the time", half, 0.5), ("its tone under some noise", under_noise, 1.0),
        ("another tone", foreign, 0.0), ("silence", silence, 0.0), ("a whisper", quiet, 0.0), ("noise", noise, 0.0),
    ]
    rows = []
    for what, recording, wanted in cases:
        found = tone.share(recording, 440, 10, 0)
        rows.append((f"hears {what}", f"{found:.2f}", found == wanted))
    return rows


def run():
    print(f"Probing each NAT type with real packets; UDP time-out {settings.UDP_TIMEOUT_S} s, "
          f"probed at ages {PROBE_AGES_S} s.", flush=True)
    kinds = [*nat.TYPES, *OTHERS, *(kind for kind, network in networks.EVERY.items() if not network.udp)]
    labels = {kind: f"{settings.NAMESPACE_PREFIX}{os.getpid()}-{n}" for n, kind in enumerate(kinds)}
    failed = passed = 0
    try:
        with concurrent.futures.ThreadPoolExecutor(len(labels)) as pool:
            results = {
                kind: pool.submit(examine if networks.EVERY[kind].udp else examine_silence, kind, label)
                for kind, label in labels.items()
            }
            findings = [("ear", examine_ear()), ("judge", examine_tables()), ("capture", examine_accounts()), ("catalogue", examine_catalogue())]
            findings += [(kind, result.result()) for kind, result in results.items()]
        for subject, rows in findings:
            for what, found, right in rows:
                print(f"{subject:18} {what:44} {found:30} {'ok' if right else 'WRONG'}", flush=True)
                passed, failed = passed + right, failed + (not right)
    finally:
        netns.remove(netns.owned_by(os.getpid()))
    print(f"selftest: {passed} passed, {failed} failed")
    return 1 if failed else 0
