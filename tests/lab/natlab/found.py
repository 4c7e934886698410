"""The office gets another public address while nobody speaks: how long until a call reaches its phone again?

Somebody outside tries every second. What the provider does with calls to the old address is its business: they vanish.
"""

import time

from . import baresip, cells, recoveries, settings
from .process import LabError


def play(scene):
    """One record per repetition."""
    return [_once(scene, turn) for turn in range(settings.REPETITIONS)]


def limit_s(cell):
    return settings.FOUND_LIMIT_S if cell.kind == cells.FOUND else settings.FOUND_BY_PASSWORD_LIMIT_S


def _once(scene, turn):
    caller, phone = scene.phones[scene.cell.caller], scene.phones[scene.cell.callee]
    record = {"established": True, "problems": []}
    scene.let_pass(settings.REST_AFTER_FOUND_S)
    recoveries.EVENTS[cells.READDRESS](scene, turn)
    begin = time.monotonic()
    limit = limit_s(scene.cell)
    record["found_s"] = None
    while record["found_s"] is None and time.monotonic() - begin < 2 * limit:
        since = phone.control.position(), caller.control.position()
        caller.dial(phone.uri)
        reached = phone.control.wait(baresip.ESTABLISHED, since[0], settings.TRY_EVERY_S)
        if reached:
            record["found_s"] = round(reached[0] - begin, 2)
        caller.hang_up()
        if reached and not phone.control.wait(baresip.CLOSED, since[0], settings.BYE_DEADLINE_S):
            raise LabError("the phone did not hear of the end of its call")
    if record["found_s"] is None:
        record["problems"].append(f"call {turn + 1}: no call reached the phone")
    elif record["found_s"] > limit:
        record["problems"].append(f"call {turn + 1}: reached after {record['found_s']:.1f} s")
    return record
