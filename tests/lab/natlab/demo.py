"""One border call through siplatch, told in plain words."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from . import calls, cells, nat, netns, settings, world
from .process import LabError
from .scene import Scene

CELL = cells.Cell("demo", "border", nat.SYMMETRIC, "office", "public")


def run(options):
    binary = options.binary.resolve()
    if not binary.exists():
        print(f"{binary} is not there; build it first: cargo build --release")
        return 2
    folder = pathlib.Path(tempfile.mkdtemp(prefix="siplab-"))
    scene = Scene(CELL, f"{settings.NAMESPACE_PREFIX}{os.getpid()}-demo", folder, binary, options.pcap)
    try:
        return _tell(scene)
    except LabError as error:
        print(f"\nIt did not work: {error}")
        return 1
    finally:
        scene.close()
        shutil.rmtree(folder, ignore_errors=True)


def _tell(scene):
    say("A small world of network namespaces:",
        f"the phone `office` is {world.address('office')}, behind a symmetric NAT box "
        f"whose public address is {world.WAN['office-nat']};",
        f"the phone `public` is {world.address('public')}, on the public Internet;",
        f"siplatch is the border: {world.address('border')} outside, {world.BORDER_INNER} inside;",
        f"the provider (Kamailio, no NAT help) is {world.address('core')}, reachable only from siplatch.")
    scene.open()
    say("siplatch said at its start:", *scene.siplatch.process.text().strip().splitlines()[:20])
    say("Both phones are registered. This is where they really are:",
        *(f"`{user}` wrote {world.address(user)}:5060 into its Contact, and its packets came from {_signalling(scene, user)};"
          for user in CELL.hosts),
        *(f"the provider stored for `{user}`: {_stored(scene, user)}" for user in CELL.hosts))
    before = scene.siplatch.ports_taken()
    call = calls.call_once(scene, hang_up_by=CELL.callee, during=lambda: _tell_media(scene))
    if not call["established"]:
        print("\nThe call did not come about:", "; ".join(call["problems"]))
        return 1
    say(f"A call of {call['seconds']:g} s. Each phone played its own tone and recorded what it heard:",
        f"`public` heard `office` for {call['a_to_b']:.1%} of the call,",
        f"`office` heard `public` for {call['b_to_a']:.1%} of it"
        f" (without siplatch it would be 0 %: nobody can send to {world.address('office')}).",
        f"Then `{call.get('bye_by')}` hung up, and the other phone's call "
        + ("ended too." if call.get("bye_ok") else "did NOT end."))
    back, last, seconds = calls.ports_back(scene, before)
    held = (call["ports_taken"] or 0) - (before or 0)
    say(f"The call held {held} port pairs: one toward each side, each time that it passed siplatch"
        " (from the caller to the provider, and from there to the callee); " + (
        f"all were free again after {seconds:.0f} s (a used pair rests until it has been quiet for 30 s)."
        if back else f"NOT all came back: {last} are still taken."))
    if call["problems"] or not back:
        print("\nThis did not go as it should:", "; ".join(call["problems"]) or "ports are missing")
        return 1
    return 0


def _tell_media(scene):
    scene.let_pass(settings.TALK_BEFORE_HOLD_S)
    offer, seen = _media(scene, "office", "sent"), _media(scene, "public", "received")
    answer, told = _media(scene, "public", "sent"), _media(scene, "office", "received")
    say("What SDP said:",
        f"`office` offered to hear at {offer}, which nobody outside its LAN can reach;",
        f"`public` was told {seen} instead: a port of siplatch;",
        f"`public` answered {answer}, and `office` was told {told}.")
    real = _conntrack(scene, "office", *told.split(":")) if ":" in told else None
    say("Where media goes:",
        f"the NAT box gave the audio of `office` the address {real or '(not seen)'};",
        "siplatch latched to that, and not to what SDP said: that is why audio comes back through the NAT box.")
    say("`siplatch status` meanwhile:", *scene.siplatch.status().strip().splitlines())


def say(title, *lines):
    print(f"\n{title}")
    for line in lines:
        print(f"  {line}")
    print(end="", flush=True)


def _signalling(scene, user):
    if user == "public":
        return f"{world.address(user)}:5060"
    return _conntrack(scene, user, world.address("border"), "5060") or "(not seen)"


def _conntrack(scene, user, server, port):
    """The public address and port that the NAT box uses from `user` to this place."""
    listing = subprocess.run(
        ["nsenter", f"--net={netns.RUN_DIR / scene.world.namespace('office-nat')}", "--",
         "conntrack", "-L", "-p", "udp", "-s", world.address(user), "-d", server, "--dport", port],
        capture_output=True, text=True, check=False,
    ).stdout
    found = re.search(r"src=\S+ dst=\S+ sport=\d+ dport=\d+ .*?src=\S+ dst=(\S+) sport=\d+ dport=(\d+)", listing)
    return f"{found.group(1)}:{found.group(2)}" if found else None


def _stored(scene, user):
    found = re.findall(rf"REGISTER .* contact (<[^>]*{user}[^>]*>)", (scene.folder / "kamailio.log").read_text())
    return found[-1] if found else "(not seen)"


def _media(scene, user, way):
    """Address and port of the last SDP that the phone sent or received, from its own trace of messages."""
    mine = f"{world.address(user)}:"
    last = "(not seen)"
    for line in scene.phones[user].process.text().splitlines():
        if found := re.search(r"^UDP (\S+) -> (\S+)", line):
            ours = found.group(1 if way == "sent" else 2).startswith(mine)
        elif found := re.match(r"c=IN IP4 (\S+)", line):
            host = found.group(1)
        elif (found := re.match(r"m=audio (\d+)", line)) and ours:
            last = f"{host}:{found.group(1)}"
    return last
