"""Three phones behind one NAT, each with a signalling port, a range of media ports and perhaps a public address of its own.

Each calls somebody outside, all three at once. The proof is a capture on the public side of the NAT box: which phone a
packet belongs to is told by whom it goes to or comes from (media), or by whom it names (SIP), never by its port.
"""

import dataclasses
import re
import time

from . import calls, networks, settings, world
from .process import LabError

PAIRS = (("office", "public"), ("office2", "public2"), ("office3", "public3"))
EVERYBODY = [user for pair in PAIRS for user in pair]
TALK_S = 60.0
COMMON_PORT = 5070
# Of STUN (RFC 8489 §5): what asks for a mapping, or keeps it.
COOKIE = bytes.fromhex("2112a442")
SIP = re.compile(rb"[A-Z]+ sips?:|SIP/2\.0 ")
NAMED = re.compile(rb"^(?:From|To|f|t)\s*:.*?sip:(office\d?)@", re.MULTILINE | re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Line:
    """What one phone has for itself; `address`: its public one."""

    user: str
    local: str
    address: str
    port: int
    first: int
    last: int

    def configuration(self):
        own = f'advertise = "{self.address}"\n' if self.address != world.WAN["office-nat"] else ""
        return (f'[[phone]]\nname = "{self.user}"\nuser = "{self.user}"\nouter_listen = "udp:{self.local}:{self.port}"\n'
                f'media_ports = "{self.first}-{self.last}"\n{own}')


def lines(kind):
    """The three, as the network wants them."""
    made = []
    for number, (user, _) in enumerate(PAIRS, 1):
        local, address = world.address("siplatch"), world.WAN["office-nat"]
        if kind == networks.ONE_TO_ONE:
            local = f"{networks.OFFICE_PREFIX}{2 + number}"
            address = networks.ONE_TO_ONE_ADDRESSES[local]
        first = 31000 + 1000 * number
        made.append(Line(user, local, address, COMMON_PORT + number, first, first + 19))
    return made


def play(scene):
    """One record per call, each with what the capture shows of its phone."""
    placed = [_place(scene, *pair) for pair in PAIRS]
    if any("begin" not in each for each in placed):
        return placed
    lasted = scene.let_pass(TALK_S)
    calls.note_ports(scene, placed[0])
    end = time.monotonic()
    for record in placed:
        caller, callee = record.pop("pair")
        calls.judge_ears(record, caller, callee, record.pop("marks"), end - record.pop("begin"), record.pop("late"))
        if not lasted:
            record["problems"].append("a call broke off")
        calls.bye(record, caller, callee)
    if lost := scene.wire.stop():
        raise LabError(f"tcpdump lost {lost} packets, so nothing is proven")
    _account(placed, scene.wire.packets(), lines(scene.cell.nat), scene.world)
    return placed


def _is_open(ours, three):
    """Is this a port of some phone, or of those without one of their own?"""
    common = ours[1] == COMMON_PORT or settings.MEDIA_PORTS[0] <= ours[1] <= settings.MEDIA_PORTS[1]
    return common or any(ours[0] == line.address and (ours[1] == line.port or line.first <= ours[1] <= line.last) for line in three)


def _place(scene, caller, callee):
    pair = scene.phones[caller], scene.phones[callee]
    marks = {phone: phone.recorder.mark() for phone in pair}
    placed = calls.establish(scene, *pair)
    if isinstance(placed, dict):
        return placed
    return {"established": True, "problems": [], "pair": pair, "marks": marks, "begin": placed[2],
            "late": calls.first_sound(pair, placed[2], marks)}


def _account(records, packets, three, here):
    """Gives each packet to its phone, and complains of each that is not where this phone's packets belong."""
    counts, strays, _ = account(packets, three, {here.address(callee): caller for caller, callee in PAIRS},
                                set(here.addresses("stun")))
    for record, line in zip(records, three):
        record.update(counts[line.user], address=line.address, port=line.port, range=f"{line.first}-{line.last}")
        if not (record["signalling"] and record["media"]):
            record["problems"].append(f"no packets of {line.user} were captured")
        record["problems"] += [f"{line.user}: {text}" for text in strays[line.user][:5]]
        record["strays"] = len(strays[line.user])
    records[0]["problems"] += strays[None][:5]


def account(packets, three, callers, servers):
    """(per user: signalling, media; per user and for None: what is astray; packets of nobody in particular).

    `callers`: address of a far end: user of the phone that calls it.
    """
    own = {line.user: line for line in three}
    inside = {line.address for line in three} | {world.WAN["office-nat"], networks.ONE_TO_ONE_ADDRESSES[world.address("siplatch")]}
    counts = {user: {"signalling": 0, "media": 0} for user in own}
    strays = {**{user: [] for user in own}, None: []}
    others = 0
    for packet in packets:
        ours, far = (packet.source, packet.target) if packet.source[0] in inside else (packet.target, packet.source)
        if far[0] in callers:
            line = own[callers[far[0]]]
            counts[line.user]["media"] += 1
            if ours[0] != line.address or not line.first <= ours[1] <= line.last:
                strays[line.user].append(f"media with {far[0]} at {ours[0]}:{ours[1]}")
        elif SIP.match(packet.data) and (named := set(NAMED.findall(packet.data))):
            for line in (own[user.decode()] for user in named):
                counts[line.user]["signalling"] += 1
                if ours != (line.address, line.port):
                    strays[line.user].append(f"signalling at {ours[0]}:{ours[1]}")
        elif far[0] in servers and packet.data[4:8] == COOKIE:
            # Also from sibling sockets, which learn how long the box remembers and carry nothing else.
            others += 1
        elif _is_open(ours, three) and (far[0] in servers or SIP.match(packet.data) or packet.data[4:8] == COOKIE):
            others += 1
        else:
            strays[None].append(f"a packet of nobody, {ours[0]}:{ours[1]} with {far[0]}:{far[1]}")
    return counts, strays, others
