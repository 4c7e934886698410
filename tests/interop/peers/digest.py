"""A phone of a few lines that registers with digest authentication (RFC 8760), where SIPp cannot."""

import hashlib
import re
import secrets

from .process import udp_socket

HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Refused(Exception):
    """The registrar said no; carries its status line."""


def response(algorithm, user, realm, password, nonce, method, uri, count, cnonce):
    """The value of `response` with qop=auth (RFC 7616 §3.4.1)."""
    def h(text):
        return HASHES[algorithm](text.encode()).hexdigest()
    a1 = h(f"{user}:{realm}:{password}")
    a2 = h(f"{method}:{uri}")
    return h(f"{a1}:{nonce}:{count}:{cnonce}:auth:{a2}")


def challenges(text):
    """The Digest challenges of a 401 or 407, in order, as dictionaries."""
    found = []
    for value in re.findall(r"^(?:WWW|Proxy)-Authenticate:\s*Digest\s+(.*?)\r?$", text, re.MULTILINE | re.IGNORECASE):
        pairs = re.findall(r'([a-zA-Z]+)\s*=\s*(?:"([^"]*)"|([^,\s]+))', value)
        found.append({name.lower(): quoted or plain for name, quoted, plain in pairs})
    return found


class Phone:
    """Speaks from one address to one registrar or edge."""

    def __init__(self, address, remote, user, password, domain):
        self.socket = udp_socket(address)
        self.address, self.remote = address, remote
        self.user, self.password, self.domain = user, password, domain
        self.call_id = secrets.token_hex(8)
        self.cseq = 0

    def close(self):
        self.socket.close()

    def ask(self, method, uri, lines=()):
        """Sends one request and returns the final response, retransmitting as RFC 3261 §17.1.2 says."""
        self.cseq += 1
        host, port = self.address
        message = "\r\n".join([
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self.user}@{self.domain}>;tag={self.call_id[:6]}",
            f"To: <sip:{self.user}@{self.domain}>",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} {method}",
            f"Contact: <sip:{self.user}@{host}:{port};phone=own>",
            # As long as what real phones send: an unproven source gets no more octets than it sent.
            "User-Agent: interop phone",
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, MESSAGE, INFO, UPDATE",
            *lines,
            "Content-Length: 0", "", "",
        ]).encode()
        wait = 0.5
        for _ in range(6):
            self.socket.sendto(message, self.remote)
            self.socket.settimeout(wait)
            wait = min(wait * 2, 4)
            try:
                while True:
                    text = self.socket.recv(65536).decode(errors="replace")
                    if text.startswith("SIP/2.0 1") or f"CSeq: {self.cseq} {method}".lower() not in text.lower():
                        continue
                    return text
            except TimeoutError:
                continue
        raise Refused("no answer")

    def register(self, algorithm, expires=600):
        """Registers with this algorithm; returns the 200, or raises `Refused`."""
        uri = f"sip:{self.domain}"
        text = self.ask("REGISTER", uri, [f"Expires: {expires}"])
        if status(text) == 401:
            offered = challenges(text)
            if not offered:
                raise Refused("401 without a challenge")
            fitting = [c for c in offered if c.get("algorithm", "MD5").upper() == algorithm]
            if not fitting:
                raise Refused(f"{algorithm} is not among {[c.get('algorithm') for c in offered]}")
            c, cnonce, count = fitting[0], secrets.token_hex(8), "00000001"
            answer = response(algorithm, self.user, c["realm"], self.password, c["nonce"], "REGISTER", uri, count, cnonce)
            value = (
                f'Digest username="{self.user}", realm="{c["realm"]}", nonce="{c["nonce"]}", uri="{uri}", '
                f'response="{answer}", algorithm={algorithm}, qop=auth, nc={count}, cnonce="{cnonce}"'
            )
            if "opaque" in c:
                value += f', opaque="{c["opaque"]}"'
            text = self.ask("REGISTER", uri, [f"Expires: {expires}", f"Authorization: {value}"])
        if status(text) != 200:
            raise Refused(text.splitlines()[0])
        return text


def status(text):
    return int(text.split(" ", 2)[1])
