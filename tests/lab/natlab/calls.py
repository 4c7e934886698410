"""The calls of a cell, and the verdict on each. Figures are measured on what the phones recorded."""

import contextlib
import time

from . import baresip, cells, settings, tone
from .process import LabError, wait_until


def play(scene):
    """Places the cell's calls; returns one record per call."""
    kind = scene.cell.kind
    if kind == cells.EARLY:
        return [_announcement(scene)]
    if kind == cells.HOLD:
        return [_hold(scene)]
    if kind == cells.GAP:
        return [_gap(scene)]
    if kind == cells.IDLE:
        silent = _idle(scene)
        return [{**call_once(scene, hang_up_by=scene.cell.callee), "phone_silent_s": silent}]
    first = call_once(scene, hang_up_by=scene.cell.caller)
    if scene.cell.role == "direct" and scene.cell.nat:
        return [first]
    return [first, call_once(scene, hang_up_by=scene.cell.callee)]


def ports_back(scene, before):
    """Waits until no more port pairs are taken than before the calls; (are they back, last figure, seconds)."""
    begin = time.monotonic()
    last = None

    def back():
        nonlocal last
        last = scene.siplatch.ports_taken()
        return last == before
    try:
        wait_until(back, settings.PORTS_BACK_DEADLINE_S, "the ports", step_s=0.5)
    except LabError:
        return False, last, time.monotonic() - begin
    return True, last, time.monotonic() - begin


def note_ports(scene, record):
    """While the call lasts, its ports must be seen to be taken: else their coming back would say nothing."""
    if scene.siplatch:
        record["ports_taken"] = scene.siplatch.ports_taken()


def _idle(scene):
    """Idles, and then until the phone's own last REGISTER is older than any mapping; that age in seconds.

    A phone that has just renewed its registration has thereby opened its NAT box by itself, and would prove nothing.
    """
    scene.let_pass(settings.IDLE_S)
    control = scene.phones[scene.cell.callee].control

    def silent():
        return time.monotonic() - control.last(("REGISTERING", "REGISTER_OK"))
    wait_until(
        lambda: silent() > settings.UDP_TIMEOUT_S + settings.SILENCE_MARGIN_S, settings.SILENCE_DEADLINE_S,
        "the phone to be silent for longer than the NAT box remembers it", step_s=0.2,
    )
    return round(silent(), 1)


def establish(scene, caller=None, callee=None):
    """Dials; returns (caller, callee, time of answer) or a record of the failure. Without phones: those of the cell."""
    caller, callee = caller or scene.phones[scene.cell.caller], callee or scene.phones[scene.cell.callee]
    since = caller.control.position(), callee.control.position()
    for phone in (caller, callee):
        phone.recorder.ears_only()
    caller.dial(callee.uri)
    both = baresip.ESTABLISHED + baresip.CLOSED
    answered = caller.control.wait(both, since[0], settings.ANSWER_DEADLINE_S)
    if answered and answered[1]["type"] in baresip.ESTABLISHED:
        confirmed = callee.control.wait(both, since[1], settings.ANSWER_DEADLINE_S)
        if confirmed and confirmed[1]["type"] in baresip.ESTABLISHED:
            return caller, callee, answered[0]
        reason = "the callee saw no ACK"
    elif answered:
        reason = "refused: " + str(answered[1].get("param", "no reason"))
    else:
        reason = f"no answer in {settings.ANSWER_DEADLINE_S:g} s"
    caller.hang_up()
    return {"established": False, "problems": [f"call not established: {reason}"], "a_to_b": 0.0, "b_to_a": 0.0}


def first_sound(phones, begin, marks):
    """How long after `begin` each phone's recording began; at most the allowance is waited for."""
    late = {}

    def all_began():
        for phone in phones:
            if phone not in late and phone.recorder.grown(marks[phone]):
                late[phone] = time.monotonic() - begin
        return len(late) == len(phones)
    with contextlib.suppress(LabError):
        wait_until(all_began, settings.START_ALLOWANCE_S, "the first sound", step_s=0.01)
    return {phone: late.get(phone, settings.START_ALLOWANCE_S) for phone in phones}


def listen(scene, caller, callee, begin, marks, seconds, meanwhile=None):
    """Lets both talk, then measures what each has heard since `begin`."""
    late = first_sound((caller, callee), begin, marks)
    if meanwhile:
        meanwhile()
    lasted = scene.let_pass(seconds - (time.monotonic() - begin))
    end = time.monotonic()
    problems = [] if lasted else [f"the call broke off after {end - begin:.1f} s"]
    record = {"established": True, "problems": problems, "seconds": round(end - begin, 2)}

    def measure():
        judge_ears(record, caller, callee, marks, seconds if not lasted else end - begin, late)
    return record, measure


def judge_ears(record, caller, callee, marks, talked, late):
    """Adds to the record what each of the two has heard of the other since its mark, and what is wrong with that."""
    for key, ear, mouth in (("b_to_a", caller, callee), ("a_to_b", callee, caller)):
        heard = ear.recorder.since(marks[ear])
        record[key] = round(tone.share(heard, mouth.frequency, talked, late[ear]), 4)
        record[f"{key}_start_s"] = round(late[ear], 3)
        echo = tone.share(heard, ear.frequency, talked, 0)
        if record[key] < settings.REQUIRED_SHARE:
            record["problems"].append(f"{ear.user} heard {mouth.user} for {record[key]:.3f} of the call")
        if echo > settings.MAX_ECHO_SHARE:
            record["problems"].append(f"{ear.user} heard itself for {echo:.3f} of the call")


def bye(record, by, other):
    """One side hangs up; the other's call must end too."""
    since = by.control.position(), other.control.position()
    record["bye_by"] = by.user
    by.hang_up()
    gone = by.control.wait(baresip.CLOSED, since[0], settings.BYE_DEADLINE_S)
    heard = other.control.wait(baresip.CLOSED, since[1], settings.BYE_DEADLINE_S)
    record["bye_ok"] = bool(gone and heard)
    if not record["bye_ok"]:
        record["problems"].append(f"BYE by {by.user} did not end the call of {(other if gone else by).user}")
        other.hang_up()


def call_once(scene, hang_up_by, during=None):
    """One call of the usual length; `during` is done while both talk."""
    marks = {phone: phone.recorder.mark() for phone in scene.phones.values()}
    placed = establish(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, begin = placed
    return _talk_and_hang_up(scene, caller, callee, begin, marks, hang_up_by, during)


def _talk_and_hang_up(scene, caller, callee, begin, marks, hang_up_by, during=None):
    record, measure = listen(scene, caller, callee, begin, marks, settings.CALL_S, during)
    by, other = (caller, callee) if hang_up_by == caller.user else (callee, caller)
    note_ports(scene, record)
    if record["problems"]:
        record.update(bye_by=by.user, bye_ok=False)
    else:
        bye(record, by, other)
    measure()
    return record


def _gap(scene):
    """Pulls the caller's cable for a moment. A verdict that does not notice is worth nothing."""
    marks = {phone: phone.recorder.mark() for phone in scene.phones.values()}
    placed = establish(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, begin = placed

    def cut():
        scene.let_pass(settings.TALK_BEFORE_HOLD_S)
        with scene.world.unplugged(caller.user):
            time.sleep(settings.GAP_S)
    record, measure = listen(scene, caller, callee, begin, marks, settings.CALL_S, meanwhile=cut)
    bye(record, caller, callee)
    measure()
    wanted = 1 - settings.GAP_S / settings.CALL_S
    off = max(abs(record[key] - wanted) for key in ("a_to_b", "b_to_a"))
    record["problems"] = [] if off <= 0.04 else [f"a gap of {settings.GAP_S:g} s was not measured as one"]
    return record


def _hold(scene):
    """Talk, hold for longer than any mapping lives, resume: only what follows the resume is judged."""
    marks = {phone: phone.recorder.mark() for phone in scene.phones.values()}
    placed = establish(scene)
    if isinstance(placed, dict):
        return placed
    caller, callee, begin = placed
    record, measure = listen(scene, caller, callee, begin, marks, settings.TALK_BEFORE_HOLD_S)
    measure()
    if record["problems"]:
        record["problems"].insert(0, "before the hold")
        caller.hang_up()
        return record
    holder = scene.phones[scene.cell.holder]
    for phone in (caller, callee):
        phone.recorder.ears_only()
    reinvite(holder, holder.hold)
    marks = {phone: phone.recorder.mark() for phone in scene.phones.values()}
    if not scene.let_pass(settings.HOLD_S):
        return {**record, "problems": ["the call ended during the hold"]}
    music = sum(len(phone.recorder.since(marks[phone])) for phone in scene.phones.values())
    marks = {phone: phone.recorder.mark() for phone in scene.phones.values()}
    begin = reinvite(holder, holder.resume)
    record = _talk_and_hang_up(scene, caller, callee, begin, marks, scene.cell.callee)
    if music > settings.SAMPLE_RATE:
        record["problems"].append(f"{music / settings.SAMPLE_RATE:.1f} s of audio came during the hold")
    return record


def reinvite(phone, command):
    """Runs a command that sends a re-INVITE; the time at which its answer came."""
    since = phone.control.position()
    command()
    answered = phone.control.wait(("CALL_REMOTE_SDP",), since, settings.ANSWER_DEADLINE_S, param="answer")
    if not answered:
        raise LabError(f"a re-INVITE of {phone.user} was not answered")
    return answered[0]


def _announcement(scene):
    """A call that is never answered: the announcement must be heard all the same."""
    caller = scene.phones[scene.cell.caller]
    mark, since = caller.recorder.mark(), caller.control.position()
    caller.dial(scene.uri("announcer"))
    record = {"established": False, "problems": [], "b_to_a": 0.0}
    progress = caller.control.wait(("CALL_PROGRESS",), since, settings.ANSWER_DEADLINE_S)
    if not progress:
        record["problems"].append("no 183 came")
        caller.hang_up()
        return record
    late = first_sound([caller], progress[0], {caller: mark})[caller]
    scene.let_pass(settings.CALL_S)
    end = time.monotonic()
    note_ports(scene, record)
    caller.hang_up()
    heard = caller.recorder.since(mark)
    record["b_to_a"] = round(tone.share(heard, tone.FREQUENCY["announcer"], end - progress[0], late), 4)
    record["b_to_a_start_s"] = round(late, 3)
    if record["b_to_a"] < settings.REQUIRED_SHARE:
        record["problems"].append(f"the announcement was heard for {record['b_to_a']:.3f} of its time")
    record.update(bye_by=f"{caller.user} (CANCEL)", bye_ok=scene.announcer.cancelled.wait(settings.BYE_DEADLINE_S))
    if not record["bye_ok"]:
        record["problems"].append("the CANCEL did not arrive")
    return record
