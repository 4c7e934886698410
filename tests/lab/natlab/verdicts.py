"""What the doctor must find in each type of network, and the run that asks it.

A line is right when every fact is as in the table, wrong when one differs, unknown when some are null instead. The
words are those of docs/doctor.md; `nat.` is left out.
"""

import json
import subprocess

from . import coturn, nat, netns, networks, siplatch, world
from .process import LabError

ENDPOINT = "endpoint-independent"
ADDRESS = "address-dependent"
PORT = "address-and-port-dependent"
MAPPED = world.WAN["office-nat"]


def _behind(mapping, filtering, kind, address=MAPPED):
    return {"translated": True, "mapped": address, "mapping": mapping, "filtering": filtering,
            "kind": kind, "hairpin": False, "fragments": True}


_PORT_RESTRICTED = _behind(ENDPOINT, PORT, "port-restricted-cone")
_SYMMETRIC = _behind(PORT, PORT, "symmetric")
_SILENCE = {"translated": None, "mapped": None, "mapping": None, "filtering": None, "kind": None}
_OPEN = {"translated": False, "mapped": networks.PUBLIC_OFFICE_PREFIX + "2", "mapping": ENDPOINT,
         "fragments": True}

# RFC 5780's verdict. What cannot be known without UDP is null, and anything else would be wrong.
BEHAVIOUR = {
    nat.FULL_CONE: _behind(ENDPOINT, ENDPOINT, "full-cone"),
    nat.ADDRESS_RESTRICTED: _behind(ENDPOINT, ADDRESS, "address-restricted-cone"),
    nat.PORT_RESTRICTED: _PORT_RESTRICTED,
    nat.SYMMETRIC: _SYMMETRIC,
    networks.ONE_TO_ONE: _behind(ENDPOINT, ENDPOINT, "full-cone", networks.ONE_TO_ONE_ADDRESSES["192.168.1.2"]),
    networks.DOUBLE: _PORT_RESTRICTED,
    networks.CGNAT: _PORT_RESTRICTED,
    networks.ALG: _PORT_RESTRICTED,
    networks.FORWARDED: _SYMMETRIC,
    networks.UDP_BLOCKED: _SILENCE,
    networks.TCP_443: _SILENCE,
    networks.NONE: {**_OPEN, "filtering": ENDPOINT, "kind": "open"},
    networks.FIREWALL: {**_OPEN, "filtering": PORT, "kind": "firewall"},
}

# The rest, of which each may also be unknown. `alone`: what becomes of calls without a TURN server; with one they work in all of these networks.
_COMMON = {
    "udp": "open", "stun": "answers", "tcp": "open", "tls": "open", "turn": "works", "alg": "none", "one_to_one": False,
    "double_nat": False, "cgnat": False, "forwards": "closed", "calls": "work", "alone": "work",
}
_NO_UDP = {"udp": "blocked", "stun": "silent", "one_to_one": None, "double_nat": None, "cgnat": None, "forwards": None, "alone": "fail"}
REST = {
    kind: {**_COMMON, **{
        nat.SYMMETRIC: {"tls": None, "alone": "fail"},
        networks.ONE_TO_ONE: {"one_to_one": True, "forwards": "open", "turn": "answers"},
        networks.DOUBLE: {"double_nat": True},
        networks.CGNAT: {"double_nat": True, "cgnat": True},
        networks.ALG: {"alg": "found", "calls": "unknown", "alone": "unknown"},
        networks.FORWARDED: {"forwards": "open", "turn": "answers"},
        networks.UDP_BLOCKED: _NO_UDP,
        networks.TCP_443: {**_NO_UDP, "alg": None},
        networks.NONE: {"forwards": "open"},
    }.get(kind, {})} for kind in networks.EVERY
}


def judge(wanted, found):
    """("right" | "unknown" | "wrong", what differs); `found` has at least the keys of `wanted`."""
    differs = {key: found.get(key) for key in wanted if _plain(key, found.get(key)) != wanted[key]}
    if not differs:
        return "right", []
    verdict = "unknown" if all(value in (None, "unknown") for value in differs.values()) else "wrong"
    return verdict, [f"{key} is {value}, not {wanted[key]}" for key, value in differs.items()]


def _plain(key, value):
    """An address without its port, which is the NAT's choice."""
    return value.rsplit(":", 1)[0] if key == "mapped" and value else value


def ask(scene, *more, turn=None, deadline_s=90, name="doctor"):
    """Runs the doctor in siplatch's place, with the configuration that an office has there; its report.

    `turn`: how a TURN server is reached, if one is configured.
    """
    config = scene.folder / f"{name}.toml"
    config.write_text(siplatch.configuration(scene, scene.folder, turn))
    far = scene.world.address("stun")
    command = ["nsenter", f"--net={netns.RUN_DIR / scene.world.namespace('siplatch')}", "--", str(scene.binary), "doctor", "--json",
               "--config", str(config), "--stun", far, "--reflector", far, *more]
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


def facts(report):
    return {**report, **report["nat"]}


def play(scene):
    """One record: what the doctor found, and what of it differs from the tables."""
    kind, over = scene.cell.nat, scene.cell.turn or "tls"
    if siplatch.advertised(kind) == "stun":
        report = ask(scene, turn=over)
    else:
        # With ports that are forwarded no TURN server can be configured.
        report = ask(scene, "--turn", coturn.uri(scene.world.address("turn"), over))
    alone = ask(scene, "--quick", name="doctor-alone")
    found = {**facts(report), "alone": alone["calls"]}
    (behaviour, problems), (rest, others) = (judge(table[kind], found) for table in (BEHAVIOUR, REST))
    if rest == "wrong":
        problems += others
    return [{"established": True, "behaviour": behaviour, "rest": rest, "differs": others, "facts": found, "problems": problems}]
