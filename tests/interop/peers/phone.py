"""A small phone, for what SIPp 3.6 cannot do: digest with SHA-256 (RFC 8760), a route set for each of several dialogs
(RFC 3261 §13.2.2.4). A case drives it step by step."""

import re
import secrets
import time

from . import digest
from .message import Message

SDP = "\r\n".join([
    "v=0", "o=ann 7001 1 IN IP4 {host}", "s=-", "c=IN IP4 {host}", "t=0 0",
    "m=audio 20000 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000", "a=sendrecv", "",
])
ALLOW = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, MESSAGE, INFO, UPDATE"
PATIENCE_S = 8


class Refused(Exception):
    """Something else came than what was expected, or nothing."""


class Dialog:
    """RFC 3261 §12: who the ends are, and the way between them."""

    def __init__(self, call_id, own, peer, target, routes, cseq=1):
        self.call_id, self.own, self.peer, self.target, self.routes = call_id, own, peer, target, routes
        self.cseq = cseq

    @staticmethod
    def of_caller(answer):
        routes = list(reversed(answer.all("Record-Route")))
        cseq = int(answer.value("CSeq").split()[0])
        return Dialog(answer.value("Call-ID"), answer.value("From"), answer.value("To"), answer.uri_of("Contact"), routes, cseq)

    @staticmethod
    def of_callee(invite, tag):
        own = f"{invite.value('To')};tag={tag}"
        return Dialog(invite.value("Call-ID"), own, invite.value("From"), invite.uri_of("Contact"), invite.all("Record-Route"))

    def replaces(self):
        """The value of Replaces that names this dialog to its other end (RFC 3891 §6.1)."""
        tag = {end: re.search(r"tag=([^;\s]+)", value).group(1) for end, value in (("own", self.own), ("peer", self.peer))}
        return f"{self.call_id};to-tag={tag['peer']};from-tag={tag['own']}"


class Phone:
    """`line` is its way to siplatch."""

    def __init__(self, line, user, domain, password=""):
        self.line, self.user, self.domain, self.password = line, user, domain, password
        self.box = line.mailbox()
        self.aor = f"sip:{user}@{domain}"
        self.tag = secrets.token_hex(4)
        self.call_id = secrets.token_hex(8)
        self.cseq = 0
        self.inbox, self.seen, self.answers = [], set(), {}

    def close(self):
        self.box.close()

    def sdp(self):
        return SDP.format(host=self.line.address[0])

    # Requests.

    def send(self, method, uri, head, lines=(), body="", kind="application/sdp"):
        """Sends a request with these From, To, Call-ID, CSeq and Route lines; returns its transaction."""
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        content = [f"Content-Type: {kind}"] if body else []
        message = "\r\n".join([
            f"{method} {uri} SIP/2.0", f"Via: {self.line.via};branch={branch};rport", "Max-Forwards: 70", *head,
            f"Contact: <{self.line.own(self.user)}>",
            # As long as what real phones send: an unproven source gets no more octets than it sent.
            "User-Agent: interop phone", ALLOW, *lines, *content, f"Content-Length: {len(body)}", "", body,
        ]).encode()
        self.box.send(message)
        return branch, method, message

    def start(self, method, uri, lines=(), body="", to=None, call_id=None, kind="application/sdp"):
        """A request outside a dialog, or one that begins it."""
        self.cseq += 1
        return self.send(method, uri, [
            f"From: <{self.aor}>;tag={self.tag}", f"To: <{to or uri}>", f"Call-ID: {call_id or self.call_id}",
            f"CSeq: {self.cseq} {method}",
        ], lines, body, kind)

    def within(self, dialog, method, lines=(), body="", kind="application/sdp", cseq=None):
        """A request inside a dialog."""
        dialog.cseq += cseq is None
        return self.send(method, dialog.target, [
            f"From: {dialog.own}", f"To: {dialog.peer}", f"Call-ID: {dialog.call_id}",
            f"CSeq: {cseq or dialog.cseq} {method}", *(f"Route: {route}" for route in dialog.routes),
        ], lines, body, kind)

    def final(self, sent, patience_s=PATIENCE_S):
        """The final response; sends again as RFC 3261 §17.1 says, on UDP."""
        branch, method, message = sent
        end, wait = time.monotonic() + patience_s, 0.5
        while time.monotonic() < end:
            try:
                return self.take(lambda m: (m.status or 0) >= 200 and m.transaction == (branch, method), wait)
            except Refused:
                if not self.line.transport.stream:
                    self.box.send(message)
                    wait = min(wait * 2, 4)
        raise Refused(f"{method} of {self.user}: no answer")

    def expect(self, sent, status):
        answer = self.final(sent)
        if answer.status != status:
            raise Refused(f"{sent[1]} of {self.user}: {answer.start}")
        return answer

    def register(self, algorithm="SHA-256", expires=600):
        """Registers with this digest algorithm where it is asked for; returns the 200, or raises `Refused`."""
        uri = f"sip:{self.domain}"
        answer = self.final(self.start("REGISTER", uri, [f"Expires: {expires}"], to=self.aor))
        if answer.status == 401:
            value = digest.credentials(answer, algorithm, self.user, self.password, "REGISTER", uri)
            lines = [f"Expires: {expires}", f"Authorization: {value}"]
            answer = self.final(self.start("REGISTER", uri, lines, to=self.aor))
        if answer.status != 200:
            raise Refused(answer.start)
        return answer

    def call(self, uri, lines=(), body=None):
        """An INVITE in a call of its own."""
        return self.start("INVITE", uri, lines, self.sdp() if body is None else body, call_id=secrets.token_hex(8))

    def acknowledge(self, dialog, answer):
        self.within(dialog, "ACK", cseq=answer.value("CSeq").split()[0])

    # What comes.

    def take(self, wanted, patience_s=PATIENCE_S):
        """The next message that is wanted: a method, or a condition. Others stay for later."""
        test = (lambda m: m.status is None and m.method == wanted) if isinstance(wanted, str) else wanted
        end = time.monotonic() + patience_s
        while True:
            for message in self.inbox:
                if test(message):
                    self.inbox.remove(message)
                    return message
            try:
                message = Message(self.box.receive(end - time.monotonic()))
            except TimeoutError:
                seen = [message.start for message in self.inbox]
                raise Refused(f"{self.user} waits for {wanted if isinstance(wanted, str) else 'an answer'}, has {seen}") from None
            self._note(message)

    def _note(self, message):
        if message.status is None and message.transaction in self.seen:
            if message.transaction in self.answers:
                self.box.send(self.answers[message.transaction])
            return
        if message.status is None:
            self.seen.add(message.transaction)
        if message.start.startswith("OPTIONS "):
            self.answer(message, "200 OK")
        else:
            self.inbox.append(message)

    def answer(self, request, status, lines=(), body="", tag=None):
        tagged = f";tag={tag or self.tag}" if ";tag=" not in request.value("To") else ""
        kept = [f"Via: {value}" for value in request.all("Via")]
        kept += [f"Record-Route: {value}" for value in request.all("Record-Route")]
        kept += [f"From: {request.value('From')}", f"To: {request.value('To')}{tagged}"]
        kept += [f"{name}: {request.value(name)}" for name in ("Call-ID", "CSeq")]
        content = ["Content-Type: application/sdp"] if body else []
        message = "\r\n".join([
            f"SIP/2.0 {status}", *kept, f"Contact: <{self.line.own(self.user)}>", *lines, *content,
            f"Content-Length: {len(body)}", "", body,
        ]).encode()
        if not status.startswith("1"):
            self.answers[request.transaction] = message
        self.box.send(message)
