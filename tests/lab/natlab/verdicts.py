"""What the doctor must find in each type of network, and the run that asks it.

A line is right when every fact is as in the table, wrong when one differs, unknown when some are null instead. The
words are those of docs/doctor.md.
"""

import json
import subprocess

from . import nat, netns, networks, settings, world
from .process import LabError

ENDPOINT = "endpoint-independent"
ADDRESS = "address-dependent"
PORT = "address-and-port-dependent"
MAPPED = world.WAN["office-nat"]


def _behind(mapping, filtering, formerly, address=MAPPED):
    return {"udp": True, "translated": True, "mapped": address, "mapping": mapping, "filtering": filtering,
            "formerly": formerly, "fragments": True}


_PORT_RESTRICTED = _behind(ENDPOINT, PORT, "port restricted cone")
_SYMMETRIC = _behind(PORT, PORT, "symmetric")
_SILENCE = {"udp": False, "translated": None, "mapped": None, "mapping": None, "filtering": None, "formerly": None}
_OPEN = {"udp": True, "translated": False, "mapped": networks.PUBLIC_OFFICE_PREFIX + "2", "mapping": ENDPOINT,
         "fragments": True}

# RFC 5780's verdict; what cannot be known without UDP is null, and anything else would be wrong.
BEHAVIOUR = {
    nat.FULL_CONE: _behind(ENDPOINT, ENDPOINT, "full cone"),
    nat.ADDRESS_RESTRICTED: _behind(ENDPOINT, ADDRESS, "restricted cone"),
    nat.PORT_RESTRICTED: _PORT_RESTRICTED,
    nat.SYMMETRIC: _SYMMETRIC,
    networks.ONE_TO_ONE: _behind(ENDPOINT, ENDPOINT, "full cone", networks.ONE_TO_ONE_ADDRESSES["192.168.1.2"]),
    networks.DOUBLE: _PORT_RESTRICTED,
    networks.CGNAT: _PORT_RESTRICTED,
    networks.ALG: _PORT_RESTRICTED,
    networks.FORWARDED: _SYMMETRIC,
    networks.UDP_BLOCKED: _SILENCE,
    networks.TCP_443: _SILENCE,
    networks.NONE: {**_OPEN, "filtering": ENDPOINT, "formerly": "open Internet"},
    networks.FIREWALL: {**_OPEN, "filtering": PORT, "formerly": "symmetric UDP firewall"},
}


def judge(wanted, found):
    """("right" | "unknown" | "wrong", what differs); `found` has at least the keys of `wanted`."""
    differs = {key: found.get(key) for key in wanted if _plain(key, found.get(key)) != wanted[key]}
    if not differs:
        return "right", []
    verdict = "unknown" if all(value is None for value in differs.values()) else "wrong"
    return verdict, [f"{key} is {value}, not {wanted[key]}" for key, value in differs.items()]


def _plain(key, value):
    """An address without its port, which is the NAT's choice."""
    return value.rsplit(":", 1)[0] if key == "mapped" and value else value


def ask(scene, *more, deadline_s=60, name="doctor"):
    """Runs the doctor in siplatch's place; its report, of which nothing is known beforehand."""
    servers = [part for each in scene.world.addresses("stun")[:1] for part in ("--stun", each)]
    command = ["nsenter", f"--net={netns.RUN_DIR / scene.world.namespace('siplatch')}", "--",
               str(scene.binary), "doctor", "--json", *servers, *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline_s)
    except subprocess.TimeoutExpired as late:
        raise LabError(f"the doctor was not done after {deadline_s} s") from late
    (scene.folder / f"{name}.json").write_text(done.stdout)
    (scene.folder / f"{name}.log").write_text(done.stderr)
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise LabError(f"the doctor said no JSON: {done.stdout[:200]!r} {done.stderr[:500]!r}") from error


def play(scene):
    """One record: what the doctor found, and what of it differs from the table."""
    report = ask(scene)
    verdict, problems = judge(BEHAVIOUR[scene.cell.nat], report["nat"])
    return [{"established": True, "verdict": verdict, "calls": report["calls"], "nat": report["nat"],
             "findings": report["findings"], "problems": problems}]
