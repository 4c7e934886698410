"""Calls of phones with a full ICE agent that is not ours (aioice): to a phone without ICE, to each other, with a restart, and
with a default address that something on the way has changed (RFC 8445, RFC 8839, RFC 7584 §4)."""

import json
import pathlib
import re
import secrets
import select
import socket
import subprocess

from .phone import Dialog, Refused
from .process import die_with_parent
from .talks import end, relayed

AGENT = pathlib.Path(__file__).resolve().parent.parent / "ice" / "agent.py"
PYTHON = "/usr/bin/python3"
PACKETS, PATIENCE_S, LISTENING_S = 40, 8, 3
# Of these, so many must arrive: a first one may be on the way before the other side's path is nominated.
ENOUGH = 38


def missing():
    """Why there is no such agent, or None."""
    asked = subprocess.run([PYTHON, "-c", "import aioice"], capture_output=True, check=False)
    return None if asked.returncode == 0 else "python3-aioice is not installed"


def rtp(ssrc):
    """Packets whose payload nobody else has."""
    return [
        b"\x80\x00" + number.to_bytes(2, "big") + (160 * number).to_bytes(4, "big") + ssrc.to_bytes(4, "big") + secrets.token_bytes(160)
        for number in range(1, PACKETS + 1)
    ]


class Ice:
    """A media socket with ICE."""

    def __init__(self, address, controls):
        self.child = subprocess.Popen(
            [PYTHON, "-I", str(AGENT), address, "controls" if controls else "controlled"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=die_with_parent,
        )
        self.address = address
        self.local = self.order("gather")

    def order(self, what, **rest):
        self.begin(what, **rest)
        return self.outcome()

    def begin(self, what, **rest):
        self.child.stdin.write(json.dumps({"do": what, **rest}) + "\n")
        self.child.stdin.flush()

    def outcome(self):
        line = self.child.stdout.readline()
        if not line:
            raise Refused("the ICE agent has ended")
        return json.loads(line)

    def sdp(self, default=None):
        local, host = self.local, default or self.local["host"]
        return "\r\n".join([
            "v=0", f"o=ice 7001 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", f"m=audio {local['port']} RTP/AVP 0",
            "a=rtcp-mux", f"a=ice-ufrag:{local['ufrag']}", f"a=ice-pwd:{local['pwd']}",
            *(f"a=candidate:{candidate}" for candidate in local["candidates"]), "",
        ])

    def start(self, body):
        """Checks what the other end's SDP offers; `outcome` says whether it worked."""
        found = {name: re.findall(rf"^a={name}:(.*?)\r?$", body, re.MULTILINE) for name in ("ice-ufrag", "ice-pwd", "candidate")}
        if not all(found.values()) or "a=ice-lite" not in body:
            raise Refused(f"no ICE in {body!r}")
        first = [candidate for candidate in found["candidate"] if candidate.split()[1] == "1"]
        self.begin("connect", ufrag=found["ice-ufrag"][0], pwd=found["ice-pwd"][0], candidates=first, lite=True, patience_s=PATIENCE_S)

    def connected(self):
        outcome = self.outcome()
        if not outcome["connected"]:
            raise Refused(f"ICE of {self.address} failed: {outcome['why']}")

    def send(self, packets):
        self.order("send", packets=[packet.hex() for packet in packets])

    def expect(self, count):
        self.begin("receive", count=count, patience_s=LISTENING_S)

    def received(self):
        return [bytes.fromhex(packet) for packet in self.outcome()["packets"]]

    def close(self):
        self.child.kill()
        self.child.wait()


class Plain:
    """A media socket without ICE."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.address, self.port = self.socket.getsockname()
        self.to, self.wanted = None, 0

    def sdp(self, default=None):
        return "\r\n".join([
            "v=0", f"o=plain 7001 1 IN IP4 {self.address}", "s=-", f"c=IN IP4 {default or self.address}", "t=0 0",
            f"m=audio {self.port} RTP/AVP 0", "",
        ])

    def start(self, body):
        host, port = (re.search(pattern, body, re.MULTILINE).group(1) for pattern in (r"^c=IN IP4 (\S+)", r"^m=audio (\d+)"))
        self.to = host, int(port)

    def connected(self):
        pass

    def send(self, packets):
        for packet in packets:
            self.socket.sendto(packet, self.to)
            select.select([], [], [], 0.005)

    def expect(self, count):
        self.wanted = count

    def received(self):
        got = []
        self.socket.settimeout(LISTENING_S)
        try:
            while len(got) < self.wanted:
                packet = self.socket.recv(2048)
                if packet[0] >= 128:
                    got.append(packet)
        except TimeoutError:
            pass
        return got

    def close(self):
        self.socket.close()


def heard(one, other):
    """Packets both ways, octet for octet."""
    for near, far in ((one, other), (other, one)):
        sent = rtp(secrets.randbits(32))
        far.expect(PACKETS)
        near.send(sent)
        got = far.received()
        if len(got) < ENOUGH or not set(got) <= set(sent):
            raise Refused(f"{far.address} had {len(got)} of {PACKETS} packets, {len(set(got) - set(sent))} of them changed")


def foreign(body, other):
    """Nothing of the other end's ICE may be in what this end gets."""
    for secret in (other.local["ufrag"], other.local["pwd"], other.local["host"]) if isinstance(other, Ice) else ():
        if secret in body:
            raise Refused(f"{secret} has crossed: {body!r}")


def talk(relay, ann, bob, one, other, default=None):
    """ann, whose media is `one`, calls bob; both dialogs, and what each end was answered."""
    sent = ann.call(bob.aor, body=one.sdp(default))
    invite = bob.take("INVITE")
    relayed(invite.body, relay)
    foreign(invite.body, one)
    bob.answer(invite, "200 OK", body=other.sdp())
    answer = ann.expect(sent, 200)
    relayed(answer.body, relay)
    foreign(answer.body, other)
    dialog = Dialog.of_caller(answer)
    ann.acknowledge(dialog, answer)
    bob.take("ACK")
    return dialog, Dialog.of_callee(invite, bob.tag), invite.body, answer.body


def both(relay, ann, bob, one, other):
    """A call in which each end speaks ICE to siplatch, or does not."""
    try:
        dialog, _, offer, answer = talk(relay, ann, bob, one, other)
        one.start(answer)
        other.start(offer)
        one.connected()
        other.connected()
        heard(one, other)
        end(ann, dialog, bob)
    finally:
        one.close()
        other.close()


def to_latching(relay, ann, bob, _carl):
    both(relay, ann, bob, Ice(ann.line.address[0], True), Plain(bob.line.address[0]))


def to_ice(relay, ann, bob, _carl):
    both(relay, ann, bob, Ice(ann.line.address[0], True), Ice(bob.line.address[0], True))


def mismatched(relay, ann, bob, _carl):
    """The default address is none of the candidates: the answer says so, and audio latches (RFC 8839 §4.2.5)."""
    one, other = Ice(ann.line.address[0], True), Plain(bob.line.address[0])
    bare = Plain(ann.line.address[0])
    try:
        dialog, _, offer, answer = talk(relay, ann, bob, one, other, default=bob.line.address[0])
        if "a=ice-mismatch" not in answer or "a=ice-ufrag" in answer:
            raise Refused(f"no mismatch in {answer!r}")
        bare.start(answer)
        other.start(offer)
        heard(bare, other)
        end(ann, dialog, bob)
    finally:
        for media in (one, other, bare):
            media.close()


def restarts(relay, ann, bob, _carl):
    """A re-INVITE with new credentials: the old path carries until the new one is there (RFC 8839 §5.4)."""
    one, other = Ice(ann.line.address[0], True), Plain(bob.line.address[0])
    again = Ice(ann.line.address[0], True)
    try:
        dialog, _, offer, answer = talk(relay, ann, bob, one, other)
        one.start(answer)
        other.start(offer)
        one.connected()
        heard(one, other)
        sent = ann.within(dialog, "INVITE", body=again.sdp())
        invite = bob.take("INVITE")
        bob.answer(invite, "200 OK", body=other.sdp())
        restarted = ann.expect(sent, 200)
        ann.acknowledge(dialog, restarted)
        bob.take("ACK")
        if set(re.findall("a=ice-pwd:.*", restarted.body)) & set(re.findall("a=ice-pwd:.*", answer)):
            raise Refused("the restart was answered with the credentials from before")
        heard(one, other)
        again.start(restarted.body)
        again.connected()
        heard(again, other)
        end(ann, dialog, bob)
    finally:
        for media in (one, other, again):
            media.close()
