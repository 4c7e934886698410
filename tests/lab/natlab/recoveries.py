"""What takes the mappings of a live call away, again and again, and how long each phone then heard nothing.

The gap is the longest time without an RTP packet of the call at either phone, on its own cable, from the event on.
A provider that does not send back to where media comes from goes on toward the office's old address until the re-INVITE
of siplatch tells it the new one. There the far end hangs up every other time: its BYE must find the new address, too.
"""

import re
import time

from . import baresip, calls, cells, nat, settings, world
from .process import LabError, wait_until
from .sniff import Sniffer

PORT_RANGES = ("20000-29999", "40000-49999")


def play(scene):
    """One record per repetition: a call, the event, the gap, a BYE from the phone behind the NAT."""
    ears = {user: Sniffer(scene.world.namespace(user), "eth0", scene.folder, user) for user in scene.cell.hosts}
    records = [_once(scene, turn) for turn in range(settings.REPETITIONS)]
    lost = sum(ear.stop() for ear in ears.values())
    if lost:
        raise LabError(f"tcpdump lost {lost} packets, so nothing is proven")
    heard = {user: _heard(ear, user) for user, ear in ears.items()}
    for turn, record in enumerate(records, 1):
        if record["established"]:
            _judge(record, heard, scene.cell)
        record["problems"] = [f"call {turn}: {each}" for each in record["problems"]]
    return records


def _is_told(cell):
    """The far end must be told by signalling where media goes now."""
    return cell.kind == cells.READDRESS and cell.provider == cells.PLAIN


def gap_limit_s(cell):
    return settings.TOLD_GAP_LIMIT_S if _is_told(cell) else settings.GAP_LIMIT_S


def _once(scene, turn):
    phone = scene.phones[scene.cell.caller]
    if scene.cell.kind == cells.REMAP and turn:
        _registers_again(phone)
    placed = calls.establish(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, _ = placed
    record = {"established": True, "problems": []}
    scene.let_pass(settings.TALK_BEFORE_EVENT_S)
    calls.note_ports(scene, record)
    record["begin"] = time.time()
    EVENTS[scene.cell.kind](scene, turn)
    told = _is_told(scene.cell)
    if not scene.let_pass(settings.WATCH_WHILE_TOLD_S if told else settings.WATCH_AFTER_EVENT_S):
        record["problems"].append("the call broke off")
    record["end"] = time.time()
    record["bye_s"] = _bye(callee, caller) if told and turn % 2 else _bye(caller, callee)
    if told:
        record["known_after_s"] = _address_known(scene, turn, record["begin"])
    return record


def _judge(record, heard, cell):
    begin, end, problems = record["begin"], record["end"], record["problems"]
    record["gaps_s"] = {user: round(_gap(times, begin, end), 3) for user, times in heard.items()}
    gap = max(record["gaps_s"].values())
    record["heard_before"] = {user: any(begin - 1 < at < begin for at in times) for user, times in heard.items()}
    if not all(record["heard_before"].values()):
        problems.append("there was no audio before the event")
    if gap > gap_limit_s(cell):
        problems.append(f"a gap of {gap:.2f} s")
    if record["bye_s"] is None or record["bye_s"] > settings.BYE_AFTER_EVENT_S:
        problems.append("BYE did not end the call at the other end in time")


def _registers_again(phone):
    """The next call starts right after a REGISTER, so that nothing of the phone's helps before its BYE."""
    since = phone.control.position()
    if not phone.control.wait(("REGISTER_OK",), since, settings.REGISTER_DEADLINE_S):
        raise LabError(f"{phone.user} did not register again")


def _remap(scene, turn):
    """The NAT box forgets everything, and gives other ports from then on."""
    box = scene.world.namespace("office-nat")
    if scene.cell.nat == nat.PORT_RESTRICTED:
        ports = PORT_RANGES[turn % len(PORT_RANGES)]
        nat.load(box, "flush ruleset\n" + nat.rules(scene.cell.nat, scene.world.udp_timeout_s, ports))
    nat.forget(box)


def _readdress(scene, turn):
    scene.world.readdress("office-nat", *_addresses(turn))


def _addresses(turn):
    """The office's public address before and after this event: none is used twice."""
    return [f"203.0.113.{100 + each}" if each else world.WAN["office-nat"] for each in (turn, turn + 1)]


def _address_known(scene, turn, begin):
    """Waits until siplatch writes the new address, for the next call; how long after the event that was."""
    wanted = _addresses(turn)[1]

    def known():
        told = re.findall(r"public address listener=\d+ address=([\d.]+):", scene.siplatch.process.text())
        return told and told[-1] == wanted
    wait_until(known, settings.ADDRESS_KNOWN_DEADLINE_S, "siplatch to know its new address", step_s=0.2)
    return round(time.time() - begin, 1)


EVENTS = {cells.REMAP: _remap, cells.READDRESS: _readdress}


def _heard(ear, user):
    """When RTP came to the phone."""
    return [packet.at for packet in ear.packets() if packet.ssrc is not None and packet.target[0] == world.address(user)]


def _gap(times, begin, end):
    within = [begin, *(at for at in times if begin < at < end), end]
    return max(after - before for before, after in zip(within, within[1:]))


def _bye(by, other):
    """Seconds from the hang-up to the end of the other's call; None when it did not end."""
    since = other.control.position()
    begin = time.monotonic()
    by.hang_up()
    heard = other.control.wait(baresip.CLOSED, since, settings.BYE_DEADLINE_S)
    if not heard:
        other.hang_up()
        return None
    return round(heard[0] - begin, 3)
