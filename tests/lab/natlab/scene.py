"""One cell brought to life: its world, its servers, siplatch and its phones, until closed."""

import time

from . import baresip, cells, coturn, igd, kamailio, networks, phones, reflector, rtpengine, settings, world
from .announcer import Announcer
from .authority import Authority
from .baresip import Phone
from .process import LabError, Process
from .siplatch import Siplatch
from .sniff import Sniffer

SIPLATCH_HOST = {"border": "border", "office": "siplatch", "standalone": "siplatch"}
# A router is asked for few ports only.
PORTS = {cells.ATTACK: settings.ATTACKED_PORTS, networks.IGD: settings.ASKED_PORTS}


class Scene:
    def __init__(self, cell, label, folder, binary=None, pcap=False):
        self.cell = cell
        self.folder = folder
        self.binary = binary
        self.pcap = pcap
        self.world = world.World(label, office_nat=cell.nat, udp_timeout_s=cell.udp_timeout_s,
                                 flat_office=cell.role == "standalone")
        self.processes = []
        self.phones = {}
        self.ports = PORTS.get(cell.nat if cell.kind != cells.ATTACK else cells.ATTACK, settings.MEDIA_PORTS)
        self.authority = Authority(folder / "authority") if cell.needs_authority else None
        self.siplatch = None
        self.announcer = None
        self.wire = None

    def open(self):
        """Starts everything but the calls; every phone is registered afterwards."""
        self._hosts()
        if self.pcap:
            self._captures()
        if self.cell.kind == cells.PHONES:
            self.wire = Sniffer(self.world.namespace("office-nat"), "wan", self.folder, "wan")
        self._servers()
        if self.cell.role in SIPLATCH_HOST:
            self.siplatch = Siplatch(self, SIPLATCH_HOST[self.cell.role])
            self.processes.append(self.siplatch.process)
        for user in self.cell.users:
            self._phone(user)
        for phone in self.phones.values():
            if not phone.wait_registered():
                raise LabError(f"{phone.user} could not register")

    def _hosts(self):
        for host in self.cell.hosts:
            self.world.add(host)
        if self.cell.role in SIPLATCH_HOST:
            self.world.add(SIPLATCH_HOST[self.cell.role])
        if self.cell.kind == cells.PHONES:
            self.world.also("siplatch", {line.local for line in phones.lines(self.cell.nat)})
        if self.cell.role == "border":
            self.world.add("core")
        elif self.cell.role != "standalone":
            self.world.add("provider")
        if self.cell.role == "office":
            self.world.add("stun")
        if self.cell.turn or self.cell.role == "doctor":
            self.world.add("turn")
        if self.cell.kind == cells.ATTACK:
            self.world.add("attacker")

    def _servers(self):
        if self.cell.role == "standalone":
            return
        if self.cell.role == "doctor":
            stun = self.world.namespace("stun")
            self.processes.append(reflector.start(stun, self.world.addresses("stun"), self.binary, self.folder))
        if self.cell.nat == networks.IGD:
            self.processes.append(igd.start(self.world.namespace("office-nat"), self.folder))
        host = "core" if self.cell.role == "border" else "provider"
        self._provider(self.world.namespace(host), self.world.address(host))
        if self.cell.role == "office":
            self.processes.append(coturn.start(self.world.namespace("stun"), self.world.addresses("stun"), self.folder))
        if "turn" in (host.rsplit("-", 1)[1] for host in self.world.made):
            address = self.world.address("turn")
            proof = self.authority.vouch("turn", address)
            self.processes.append(coturn.start_turn(self.world.namespace("turn"), address, self.folder, proof))
        if "announcer" in self.cell.hosts:
            self.announcer = Announcer(self.world.namespace("announcer"), self.world.address("announcer"))

    def _provider(self, namespace, address):
        parts, flags, proof = [], "", (None, None)
        if self.authority:
            parts, proof = ["STREAMS"], self.authority.vouch("provider", address)
        if self.cell.provider == cells.LATCHING:
            parts, flags = [*parts, "RELAY"], "media-handover"
            self.processes.append(rtpengine.start(namespace, address, self.folder, self.ports, "immediate"))
        elif self.cell.provider == cells.RTPENGINE:
            parts = [*parts, "RELAY", "NAT_HELP"]
            self.processes.append(rtpengine.start(namespace, address, self.folder, self.ports))
        self.processes.append(kamailio.start(
            namespace, address, self.folder, self.world.address("announcer"), parts, flags, proof,
        ))

    def _phone(self, user):
        domain, proxy = settings.DOMAIN, self.world.address("provider")
        if self.cell.role == "border":
            proxy = self.world.address("border")
        elif self.cell.role == "office" and user.startswith("office"):
            proxy = self.world.address("siplatch")
        elif self.cell.role == "standalone":
            domain, proxy = self.world.address("siplatch"), None
        phone = Phone(
            self.world.namespace(user), user, self.folder, domain, proxy,
            transport=self.cell.transport, outbound=self.cell.outbound,
            refresh=settings.QUICK_REFRESH_S if self._hurries(user) else settings.REFRESH_S,
        )
        self.phones[user] = phone
        self.processes.append(phone.process)

    def _hurries(self, user):
        """Only a REGISTER makes a phone whose mapping is gone known again; so that the next call need not wait for long."""
        return self.cell.kind == cells.REMAP and user == self.cell.caller

    def _captures(self):
        for host in ("office-nat", "branch-nat", "border", "siplatch"):
            name = self.world.namespace(host)
            if name not in self.world.made:
                continue
            dump = Process(
                name, ["tcpdump", "-i", "any", "-U", "-n", "-w", self.folder / f"{host}.pcap", "udp"],
                self.folder / f"tcpdump-{host}.log",
            )
            dump.wait_for_line("listening on", settings.START_DEADLINE_S)
            self.processes.append(dump)

    def uri(self, user):
        phone = self.phones.get(user)
        return phone.uri if phone else f"sip:{user}@{settings.DOMAIN}"

    def let_pass(self, seconds):
        """Lets time pass. False as soon as a call has ended; an error if a program has."""
        end = time.monotonic() + seconds
        since = {phone: phone.control.position() for phone in self.phones.values()}
        while (left := end - time.monotonic()) > 0:
            for process in self.processes:
                if not process.running():
                    raise LabError(f"{process.name} ended with code {process.child.returncode}:\n{process.tail()}")
            turn = min(left, 1.0) / len(since)
            for phone, position in since.items():
                if phone.control.wait(baresip.CLOSED, position, turn):
                    return False
        return True

    def close(self):
        if self.announcer:
            (self.folder / "announcer.log").write_text("\n".join(self.announcer.log) + "\n")
            self.announcer.close()
        for phone in self.phones.values():
            phone.control.close()
        for process in self.processes:
            process.child.poll() is None and process.child.kill()
        for process in self.processes:
            process.child.wait()
        self.world.close()
