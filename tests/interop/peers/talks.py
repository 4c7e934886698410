"""Calls that small phones hold among themselves, step by step: one that forks to two phones that both answer, a blind and
an attended transfer (RFC 5589 §6, §7)."""

import re
import socket
import time
from urllib.parse import quote, unquote

from .message import Message
from .phone import PATIENCE_S, Dialog, Refused
from .transport import Stream


def relayed(body, relay):
    """Whether this SDP names the relay, where there is one."""
    if relay and not re.search(rf"^c=IN IP4 {re.escape(relay)}\r?$", body, re.MULTILINE):
        raise Refused(f"SDP does not name the relay: {body!r}")


def connect(caller, callee, uri, relay, lines=()):
    """A call that is answered; both dialogs, and the INVITE as it arrived."""
    sent = caller.call(uri, lines)
    invite = callee.take("INVITE")
    relayed(invite.body, relay)
    callee.answer(invite, "180 Ringing")
    callee.answer(invite, "200 OK", body=callee.sdp())
    answer = caller.expect(sent, 200)
    relayed(answer.body, relay)
    dialog = Dialog.of_caller(answer)
    caller.acknowledge(dialog, answer)
    callee.take("ACK")
    return dialog, Dialog.of_callee(invite, callee.tag), invite


def end(phone, dialog, other):
    """One end hangs up, the other agrees."""
    sent = phone.within(dialog, "BYE")
    bye = other.take("BYE")
    if bye.value("Call-ID") != dialog.call_id:
        raise Refused(f"{other.user} got the BYE of another call")
    other.answer(bye, "200 OK")
    phone.expect(sent, 200)


def notify(phone, dialog, other, line, state):
    """How far the transfer is (RFC 3515 §2.4.5)."""
    lines = ["Event: refer", f"Subscription-State: {state}"]
    sent = phone.within(dialog, "NOTIFY", lines, f"{line}\r\n", "message/sipfrag;version=2.0")
    notified = other.take("NOTIFY")
    if line not in notified.body or "refer" not in notified.value("Event"):
        raise Refused(f"{other.user} was notified of {notified.body!r}")
    other.answer(notified, "200 OK")
    phone.expect(sent, 200)


def refer(phone, dialog, other, target):
    """Asks the other end to call somebody; the URI that arrived there."""
    sent = phone.within(dialog, "REFER", [f"Refer-To: <{target}>", f"Referred-By: <{phone.aor}>"])
    asked = other.take("REFER")
    other.answer(asked, "202 Accepted")
    phone.expect(sent, 202)
    return asked.uri_of("Refer-To")


def blind(relay, ann, bob, carl):
    """ann calls bob, who sends her on to carl."""
    a, b, _ = connect(ann, bob, bob.aor, relay)
    target = refer(bob, b, ann, carl.aor)
    notify(ann, a, bob, "SIP/2.0 100 Trying", "active;expires=60")
    c, _, _ = connect(ann, carl, target, relay, [f"Referred-By: <{bob.aor}>"])
    notify(ann, a, bob, "SIP/2.0 200 OK", "terminated;reason=noresource")
    end(bob, b, ann)
    end(ann, c, carl)


def attended(relay, ann, bob, carl):
    """ann talks to bob, asks carl, and brings the two together: bob's call takes the place of hers with carl."""
    a, b, _ = connect(ann, bob, bob.aor, relay)
    consultation, c, _ = connect(ann, carl, carl.aor, relay)
    wanted = refer(ann, a, bob, f"{consultation.target}?Replaces={quote(consultation.replaces(), safe='')}")
    notify(bob, b, ann, "SIP/2.0 100 Trying", "active;expires=60")
    uri, _, header = wanted.partition("?Replaces=")
    joined, _, invite = connect(bob, carl, uri, relay, ["Supported: replaces", f"Replaces: {unquote(header)}"])
    tags = dict(part.split("=", 1) for part in invite.value("Replaces").split(";")[1:])
    if invite.value("Replaces").split(";")[0] != c.call_id or f"tag={tags.get('to-tag')}" not in c.own:
        raise Refused(f"carl has no dialog that is named {invite.value('Replaces')!r}")
    end(carl, c, ann)
    notify(bob, b, ann, "SIP/2.0 200 OK", "terminated;reason=noresource")
    end(ann, a, bob)
    end(bob, joined, carl)


def lost(_relay, ann, bob, _carl):
    """ann's connection ends before bob answers: the answer comes by a new one, to the port of her Via (RFC 3261 §18.2.2)."""
    sent = ann.start("MESSAGE", bob.aor, body="Wait for me at the gate.", kind="text/plain")
    asked = bob.take("MESSAGE")
    with socket.create_server(ann.line.address) as listener:
        ann.line.hang_up()
        bob.answer(asked, "200 OK")
        listener.settimeout(PATIENCE_S)
        try:
            opened, _ = listener.accept()
        except TimeoutError:
            raise Refused("no connection came for the answer") from None
        stream = Stream(opened)
        answer = Message(stream.receive().decode())
        stream.close()
    if answer.status != 200 or answer.transaction != sent[:2]:
        raise Refused(f"the answer was {answer.start!r}")


class Forked:
    """Calls, acknowledges every 2xx, and waits until every answered phone has hung up."""

    def __init__(self, phone, uri, answers):
        self.phone, self.answers = phone, answers
        self.answered, self.ended = {}, set()
        self.sent = phone.call(uri, ["X-Untouched:  as , it  is"])

    def finish(self, deadline_s):
        until = time.monotonic() + deadline_s
        while len(self.ended) < self.answers:
            try:
                message = self.phone.take(lambda m: (m.status or 200) >= 200, until - time.monotonic())
            except Refused:
                return f"{len(self.answered)} phones answered, {len(self.ended)} hung up, {self.answers} of each expected"
            if message.status == 200 and message.method == "INVITE":
                self.answered[message.value("To")] = message
                self.phone.acknowledge(Dialog.of_caller(message), message)
            elif message.status is None and message.method == "BYE":
                self.phone.answer(message, "200 OK")
                self.ended.add(message.value("From"))
        return None

    def close(self):
        self.phone.close()
