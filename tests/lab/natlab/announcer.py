"""A called party that never answers: it sends 183 with SDP, plays a tone, and waits for CANCEL."""

import random
import re
import socket
import struct
import threading
import time

from . import netns, tone

MEDIA_PORT = 20000
PACKET_SAMPLES = 160


def mu_law(sample):
    """One sample in G.711 mu-law."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(magnitude.bit_length() - 8, 0)
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


def field(message, name, short):
    """All values of a header field, in order."""
    return re.findall(rf"^(?:{name}|{short})[ \t]*:[ \t]*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)


class Announcer:
    def __init__(self, namespace, address):
        self.address = address
        with netns.inside(namespace):
            self.sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sip.bind((address, 5060))
        self.media.bind((address, MEDIA_PORT))
        self.tag = f"{random.getrandbits(32):08x}"
        self.announcing = threading.Event()
        self.cancelled = threading.Event()
        self.closing = threading.Event()
        self.invite = None
        self.log = []
        threading.Thread(target=self._serve, daemon=True, name="announcer").start()

    def _serve(self):
        while not self.closing.is_set():
            try:
                data, source = self.sip.recvfrom(65536)
            except OSError:
                return
            message = data.decode(errors="replace")
            method = message.split(" ", 1)[0]
            self.log.append(f"{time.monotonic():.3f} {source} {message.splitlines()[0] if message else ''}")
            if method == "INVITE":
                self._invited(message, source)
            elif method == "CANCEL":
                self._reply(message, source, "200 OK")
                if self.invite:
                    self._reply(*self.invite, "487 Request Terminated")
                self.cancelled.set()
            elif method == "BYE":
                self._reply(message, source, "200 OK")

    def _invited(self, message, source):
        if self.invite:
            return
        self.invite = (message, source)
        self._reply(message, source, "100 Trying")
        host = re.search(r"^c=IN IP4 (\S+)", message, re.MULTILINE)
        port = re.search(r"^m=audio (\d+)", message, re.MULTILINE)
        body = "\r\n".join([
            "v=0", f"o=announcer 1 1 IN IP4 {self.address}", "s=-", f"c=IN IP4 {self.address}", "t=0 0",
            f"m=audio {MEDIA_PORT} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=ptime:20", "a=sendrecv", "",
        ])
        self._reply(message, source, "183 Session Progress", body)
        if host and port:
            target = (host.group(1), int(port.group(1)))
            threading.Thread(target=self._announce, args=(target,), daemon=True, name="announcement").start()

    def _reply(self, request, source, status, body=""):
        lines = [f"SIP/2.0 {status}"]
        lines += [f"Via: {value}" for value in field(request, "Via", "v")]
        lines += [f"Record-Route: {value}" for value in field(request, "Record-Route", "Record-Route")]
        lines.append(f"From: {field(request, 'From', 'f')[0]}")
        to = field(request, "To", "t")[0]
        lines.append(f"To: {to}" if ";tag=" in to or status.startswith("100") else f"To: {to};tag={self.tag}")
        lines.append(f"Call-ID: {field(request, 'Call-ID', 'i')[0]}")
        lines.append(f"CSeq: {field(request, 'CSeq', 'CSeq')[0]}")
        lines.append(f"Contact: <sip:announcer@{self.address}:5060>")
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [f"Content-Length: {len(body)}", "", body]
        self.sip.sendto("\r\n".join(lines).encode(), source)

    def _announce(self, target):
        audio = bytes(mu_law(sample) for sample in tone.samples(tone.FREQUENCY["announcer"], 0.1))
        sequence, stamp, source = random.getrandbits(15), random.getrandbits(31), random.getrandbits(32)
        due = time.monotonic()
        self.announcing.set()
        while not (self.cancelled.is_set() or self.closing.is_set()):
            start = stamp % len(audio)
            payload = (audio + audio)[start:start + PACKET_SAMPLES]
            header = struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, stamp & 0xFFFFFFFF, source)
            try:
                self.media.sendto(header + payload, target)
            except OSError as error:
                self.log.append(f"media to {target}: {error}")
            sequence += 1
            stamp += PACKET_SAMPLES
            due += 0.02
            self.closing.wait(max(0.0, due - time.monotonic()))

    def close(self):
        self.closing.set()
        self.sip.close()
        self.media.close()
