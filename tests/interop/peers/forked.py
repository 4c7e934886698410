"""A caller whose call is answered twice: it keeps one route set and one target per dialog
(RFC 3261 §13.2.2.4), which SIPp cannot."""

import re
import secrets
import time

from .process import udp_socket

BODY = "\r\n".join([
    "v=0", "o=ann 7001 1 IN IP4 {host}", "s=-", "c=IN IP4 {host}", "t=0 0",
    "m=audio 20000 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000", "a=sendrecv", "",
])


def values(text, name):
    """All values of a comma-list field of URIs, in order."""
    found = []
    for value in re.findall(rf"^{name}:\s*(.*?)\r?$", text, re.MULTILINE | re.IGNORECASE):
        found += [part.strip() for part in re.split(r",(?=\s*<)", value)]
    return found


class ForkedCaller:
    """Calls, acknowledges every 2xx, and waits until every answered phone has hung up."""

    def __init__(self, address, remote, me, peer, domain, answers):
        self.socket = udp_socket(address)
        self.address, self.remote, self.answers = address, remote, answers
        self.uri, self.own = f"sip:{peer}@{domain}", f"sip:{me}@{domain}"
        self.call_id, self.branch = secrets.token_hex(8), f"z9hG4bK{secrets.token_hex(8)}"
        self.contact = f"<sip:{me}@{address[0]}:{address[1]};phone=own>"
        self.answered, self.ended = {}, set()

    def finish(self, deadline_s):
        body = BODY.format(host=self.address[0])
        self._send("INVITE", self.uri, self.branch, f"<{self.uri}>", [
            f"Contact: {self.contact}", "X-Untouched:  as , it  is", "Content-Type: application/sdp",
        ], body)
        end = time.monotonic() + deadline_s
        while len(self.ended) < self.answers:
            self.socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                text = self.socket.recv(65536).decode(errors="replace")
            except TimeoutError:
                return f"{len(self.answered)} phones answered, {len(self.ended)} hung up, {self.answers} of each expected"
            self._hear(text)
        return None

    def _hear(self, text):
        start = text.split("\r\n", 1)[0]
        if start.startswith("SIP/2.0 2") and "INVITE" in values(text, "CSeq")[0]:
            to = values(text, "To")[0]
            self.answered[to] = text
            target = re.search(r"<([^>]*)>", values(text, "Contact")[0]).group(1)
            routes = [f"Route: {route}" for route in reversed(values(text, "Record-Route"))]
            self._send("ACK", target, f"z9hG4bK{secrets.token_hex(8)}", to, routes)
        elif start.startswith("BYE "):
            kept = re.findall(r"^(?:Via|v|From|f|To|t|Call-ID|i|CSeq|Record-Route):.*?(?=\r)", text, re.MULTILINE | re.IGNORECASE)
            answer = "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""])
            self.socket.sendto(answer.encode(), self.remote)
            self.ended.add(values(text, "From")[0])

    def _send(self, method, target, branch, to, lines, body=""):
        host, port = self.address
        message = "\r\n".join([
            f"{method} {target} SIP/2.0", f"Via: SIP/2.0/UDP {host}:{port};branch={branch};rport", "Max-Forwards: 70",
            f"From: <{self.own}>;tag=fork", f"To: {to}", f"Call-ID: {self.call_id}", f"CSeq: 1 {method}",
            *lines, f"Content-Length: {len(body)}", "", body,
        ])
        self.socket.sendto(message.encode(), self.remote)

    def stop(self):
        self.socket.close()
