"""One call under each attack, with what the attacker got, what he got in, and what the phones heard."""

import dataclasses

from . import calls, forgery, nat, settings
from .attacker import Barrage
from .evidence import Evidence
from .process import LabError

NOTHING, SPRAY, FORGE, SPOOF = "no attack", "spray", "forged RTCP and STUN", "phone's address spoofed"
BEFORE_CALL, TALKING, HOLD, RESUME = "before the call", "while they talk", "0.1 s before a hold", "0.1 s before a resume"


@dataclasses.dataclass(frozen=True)
class Attack:
    """What is sent, packets per second, and from when on; each lasts until the call ends.

    Before a latch is held nothing is claimed but that nothing leaks.
    """

    what: str
    rate: int
    since: str = TALKING

    @property
    def name(self):
        return f"{self.what}, {self.since}" if self.since != TALKING else self.what

    @property
    def claims_audio(self):
        return self.since != BEFORE_CALL


SPRAYS = [Attack(SPRAY, rate) for rate in settings.SPRAY_RATES]
ATTACKS = [
    *SPRAYS,
    Attack(SPRAY, settings.SPRAY_RATES[0], BEFORE_CALL),
    Attack(SPRAY, settings.SPRAY_RATES[-1], HOLD),
    Attack(SPRAY, settings.SPRAY_RATES[-1], RESUME),
    Attack(FORGE, settings.FORGE_RATE),
    Attack(SPOOF, settings.SPOOF_RATE),
]
# Of rtpengine, too, it must be seen that it works when nobody attacks.
COMPARED = [Attack(NOTHING, 0), *SPRAYS]


def play(scene):
    """A call for each attack; rtpengine, which is only there to compare with, is sprayed and nothing else."""
    chosen = COMPARED if scene.cell.role == "direct" else ATTACKS
    return [_under(scene, attack, f"call{number}") for number, attack in enumerate(chosen, 1)]


def _under(scene, attack, name):
    evidence = Evidence(scene, name)
    siege = Siege(scene, attack, evidence)
    dropped = scene.siplatch.media_dropped() if scene.siplatch else None
    try:
        record = (_with_hold if attack.since in (HOLD, RESUME) else _plain)(scene, attack, siege)
    except LabError as error:
        record = {"established": False, "problems": [str(error)]}
        for phone in scene.phones.values():
            phone.hang_up()
    problems = record["problems"]
    sent, rate = siege.end(problems)
    leaked, injected = evidence.close(problems)
    record.update(attack=attack.name, sent=sent, rate=round(rate), leaked=leaked, injected=injected)
    if scene.siplatch:
        record["refused"] = scene.siplatch.media_dropped() - dropped
        if not record["refused"] and (scene.cell.role == "border" or scene.cell.nat == nat.FULL_CONE):
            problems.append("the attack did not reach siplatch, so nothing is proven")
    if leaked:
        problems.append(f"{leaked} packets leaked")
    if injected and attack.claims_audio:
        problems.append(f"{injected} packets were injected")
    record["problems"] = [f"{attack.name}, {attack.rate}/s: {each}" for each in problems]
    return record


class Siege:
    """The attack on one call: not begun, going on, ended."""

    def __init__(self, scene, attack, evidence):
        self.scene = scene
        self.attack = attack
        self.evidence = evidence
        self.barrage = None

    def begin(self):
        if self.attack.what == NOTHING:
            return
        namespace = self.scene.world.namespace("attacker")
        self.barrage = Barrage(namespace, self._datagrams(), self.attack.rate, raw=self.attack.what == SPOOF)

    def _datagrams(self):
        first, last = self.scene.ports
        block = [(self.evidence.relay, port) for port in range(first, last + 1)]
        if self.attack.since == BEFORE_CALL or self.scene.cell.role == "direct":
            return forgery.rtp(block)
        targets = self.evidence.targets()
        if self.attack.what == FORGE:
            return forgery.control(list(targets), self.evidence.sources())
        if self.attack.what == SPOOF:
            return forgery.spoofed(forgery.rtp(list(targets)), targets, self.evidence.own())
        return forgery.rtp(sorted({*block, *targets}))

    def end(self, problems):
        """(packets sent, packets per second)."""
        if self.attack.what == NOTHING:
            return 0, 0.0
        if not self.barrage:
            problems.append("the attack did not begin")
            return 0, 0.0
        return self.barrage.cease(problems)


def _plain(scene, attack, siege):
    if attack.since == BEFORE_CALL:
        siege.begin()

    def meanwhile():
        if not siege.barrage:
            scene.let_pass(settings.ATTACK_AFTER_S)
            siege.begin()
    placed, marks = _placed(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, begin = placed
    record, measure = calls.listen(scene, caller, callee, begin, marks, settings.CALL_S, meanwhile)
    _end(scene, record, measure, caller, callee)
    if not attack.claims_audio:
        record["problems"] = []
    return record


def _with_hold(scene, attack, siege):
    placed, marks = _placed(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, begin = placed
    before, measure = calls.listen(scene, caller, callee, begin, marks, settings.TALK_BEFORE_HOLD_S)
    measure()
    for phone in (caller, callee):
        phone.recorder.ears_only()
    if attack.since == HOLD:
        siege.begin()
        scene.let_pass(settings.ATTACK_AHEAD_S)
    calls.reinvite(caller, caller.hold)
    scene.let_pass(settings.SHORT_HOLD_S)
    if attack.since == RESUME:
        siege.begin()
        scene.let_pass(settings.ATTACK_AHEAD_S)
    marks = _marks(scene)
    begin = calls.reinvite(caller, caller.resume)
    record, measure = calls.listen(scene, caller, callee, begin, marks, settings.CALL_S / 2)
    _end(scene, record, measure, caller, callee)
    for key in ("a_to_b", "b_to_a"):
        record[key] = min(record[key], before[key])
    record["problems"] = [f"before the hold, {each}" for each in before["problems"]] + record["problems"]
    return record


def _marks(scene):
    return {phone: phone.recorder.mark() for phone in scene.phones.values()}


def _placed(scene):
    marks = _marks(scene)
    return calls.establish(scene), marks


def _end(scene, record, measure, caller, callee):
    calls.note_ports(scene, record)
    calls.bye(record, caller, callee)
    measure()
