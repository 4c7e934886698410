"""What is known of one call under attack from outside of every program: captures on the cables.

leaked    datagrams that reached the attacker; and media of the relay for the phone's public address, at a port of
          it from which the phone has sent nothing to the relay
injected  datagrams with the attacker's mark that reached a phone
"""

import re
import subprocess

from . import cells, forgery, netns, world
from .process import LabError, wait_until
from .sniff import Sniffer

FIRST_PACKET_S = 3.0


class Evidence:
    def __init__(self, scene, name):
        self.scene = scene
        self.relay = relay_address(scene.cell)
        space = scene.world.namespace
        self.phones = {
            user: Sniffer(space(user), "eth0", scene.folder, f"{name}-{user}") for user in scene.cell.hosts
        }
        self.attacker = Sniffer(
            space("attacker"), "eth0", scene.folder, f"{name}-attacker", f"udp and dst host {world.address('attacker')}",
        )
        # Where the relay's media for an address outside arrives: at the phone itself, its NAT box, or the provider.
        self.wires = {world.address("public"): self.phones["public"]}
        if scene.cell.role == "border":
            self.wires[world.WAN["office-nat"]] = Sniffer(space("office-nat"), "wan", scene.folder, f"{name}-wan")
        elif scene.cell.provider == cells.LATCHING:
            self.wires[world.address("provider")] = Sniffer(space("provider"), "eth0", scene.folder, f"{name}-provider")

    def sniffers(self):
        return {*self.phones.values(), self.attacker, *self.wires.values()}

    def sources(self):
        """The true SSRCs of the call, one of each phone."""
        return [self._first_rtp(user).ssrc for user in self.phones]

    def _first_rtp(self, user):
        def sent():
            return next((packet for packet in self.phones[user].packets()
                         if packet.source[0] == world.address(user) and packet.ssrc is not None), None)
        return wait_until(sent, FIRST_PACKET_S, f"{user} to send RTP")

    def targets(self):
        """The relay's addresses of this call, RTP and RTCP, each with the public address of who belongs there."""
        if self.scene.cell.role != "border":
            peer = world.address("provider" if self.scene.cell.provider == cells.LATCHING else "public")
            return {(self.relay, port): peer for port in self._mapped()}
        found = {}
        for user, address in (("office", world.WAN["office-nat"]), ("public", world.address("public"))):
            host, port = self._first_rtp(user).target
            found[host, port] = found[host, port + 1] = address
        return found

    def own(self):
        """Where the phones' media comes from as the relay sees it: (address, port), RTP and the port above it."""
        seen = {(address, packet.source[1]) for address, wire in self.wires.items() for packet in wire.packets()
                if packet.source[0] == address and packet.target[0] == self.relay}
        return seen | {(address, port + 1) for address, port in seen}

    def _mapped(self):
        """The ports that the office's NAT box has given to siplatch's media sockets."""
        with netns.inside(self.scene.world.namespace("office-nat")):
            listing = subprocess.run(
                ["conntrack", "-L", "-p", "udp", "-s", world.address("siplatch")], capture_output=True, text=True, check=True,
            ).stdout
        first, last = self.scene.ports
        ports = {int(mapped) for own, mapped in re.findall(r"sport=(\d+) .*? src=\S+ dst=\S+ sport=\d+ dport=(\d+)", listing)
                 if first <= int(own) <= last}
        if not ports:
            raise LabError("the NAT box holds no mapping of siplatch's media")
        return sorted(ports)

    def close(self, problems):
        """Ends the captures, so that all of them is written; (leaked, injected). `problems` gets a line if not all was seen."""
        lost = sum(sniffer.stop() for sniffer in self.sniffers())
        if lost:
            problems.append(f"tcpdump lost {lost} packets, so nothing is proven")
        leaked = len(self.attacker.packets()) + sum(
            self._astray(address, wire.packets()) for address, wire in self.wires.items()
        )
        injected = sum(
            packet.target[0] == world.address(user) and forgery.MARK in packet.data
            for user, sniffer in self.phones.items() for packet in sniffer.packets()
        )
        return leaked, injected

    def _astray(self, address, packets):
        first, last = self.scene.ports
        if self.scene.cell.role == "office":
            first, last = 1024, 65535
        own = {packet.source[1] for packet in packets if packet.source[0] == address and packet.target[0] == self.relay}
        return sum(
            packet.source[0] == self.relay and first <= packet.source[1] <= last
            and packet.target[0] == address and packet.target[1] not in own
            for packet in packets
        )


def relay_address(cell):
    """Where the relay is seen from the Internet."""
    if cell.role == "office":
        return world.WAN["office-nat"]
    return world.address("border" if cell.role == "border" else "provider")
