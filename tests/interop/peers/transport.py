"""The transports of SIP: their names in messages and settings, and how octets go through them."""

import base64
import hashlib
import os
import select
import socket
import ssl
import struct
import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Transport:
    """`name` as in `listen` and in URIs; `port` is where siplatch listens for it in these tests."""

    name: str
    port: int
    stream: bool = True
    secure: bool = False
    websocket: bool = False

    @property
    def via(self):
        return f"SIP/2.0/{self.name.upper()}"

    def parameter(self):
        """What a Contact says of it. Over WebSocket it says `ws`, secure or not (RFC 7118 §5.3)."""
        return {"udp": "", "wss": ";transport=ws"}.get(self.name, f";transport={self.name}")

    def listen(self, address):
        return f'"{self.name}:{address}:{self.port}"'


UDP = Transport("udp", 5060, stream=False)
TCP = Transport("tcp", 5060)
TLS = Transport("tls", 5061, secure=True)
WS = Transport("ws", 5080, websocket=True)
WSS = Transport("wss", 5443, secure=True, websocket=True)

PING, PONG = b"\r\n\r\n", b"\r\n"


class Ended(Exception):
    """The other end closed the connection."""


class Octets:
    """A connection, plain or TLS, that one thread may read while others write."""

    def __init__(self, opened):
        self.socket = opened
        self.socket.setblocking(False)
        self.lock = threading.Lock()

    def read(self):
        while True:
            try:
                with self.lock:
                    data = self.socket.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                select.select([self.socket], [], [], 1.0)
                continue
            except (OSError, ValueError) as error:
                raise Ended(str(error)) from error
            if not data:
                raise Ended("closed")
            return data

    def write(self, data):
        rest = memoryview(data)
        while rest:
            try:
                with self.lock:
                    count = self.socket.send(rest)
                rest = rest[count:]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                select.select([], [self.socket], [], 1.0)
            except (OSError, ValueError) as error:
                raise Ended(str(error)) from error

    def finish(self):
        """Writes no more; what the other end still writes is read."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Stream:
    """Messages told apart by Content-Length (RFC 3261 §18.3)."""

    def __init__(self, opened):
        self.octets = Octets(opened)
        self.buffer = b""

    def send(self, message):
        self.octets.write(message)

    def receive(self):
        """The next message, or a keep-alive."""
        while True:
            piece = self._cut()
            if piece is not None:
                return piece
            self.buffer += self.octets.read()

    def _cut(self):
        if self.buffer.startswith(PONG):
            size = 4 if self.buffer.startswith(PING) else 2
        else:
            head, end, _ = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            fields = dict(line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
            lengths = [value for name, value in fields.items() if name.strip().lower() in (b"content-length", b"l")]
            size = len(head) + 4 + int(lengths[0])
            if len(self.buffer) < size:
                return None
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def close(self):
        self.octets.close()


class WebSocket:
    """The client of RFC 6455, as far as RFC 7118 needs it: one message is one SIP message."""

    GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

    def __init__(self, opened, host):
        self.octets = Octets(opened)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.octets.write("\r\n".join([
            "GET / HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip", "", "",
        ]).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.octets.read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        accept = base64.b64encode(hashlib.sha1((key + self.GUID).encode()).digest()).decode()
        if " 101 " not in status or fields.get("sec-websocket-accept") != accept:
            raise Ended(f"no WebSocket: {status}")
        if fields.get("sec-websocket-protocol") != "sip":
            raise Ended(f"subprotocol {fields.get('sec-websocket-protocol')!r}")

    def send(self, message):
        self._send(self.TEXT, message)

    def receive(self):
        message = b""
        while True:
            last, kind, payload = self._frame()
            if kind == self.PING:
                self._send(self.PONG, payload)
            elif kind == self.CLOSE:
                raise Ended(f"WebSocket closed {payload!r}")
            elif kind != self.PONG:
                message += payload
                if last:
                    return message

    def _frame(self):
        head = self._take(2)
        size = head[1] & 0x7F
        if head[1] & 0x80:
            raise Ended("a server masks nothing (RFC 6455 §5.1)")
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
        return bool(head[0] & 0x80), head[0] & 0x0F, self._take(size)

    def _take(self, count):
        while len(self.buffer) < count:
            self.buffer += self.octets.read()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _send(self, kind, payload):
        size, mask = len(payload), os.urandom(4)
        head = bytes([0x80 | kind])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += struct.pack(">BH", 0x80 | 126, size)
        else:
            head += struct.pack(">BQ", 0x80 | 127, size)
        self.octets.write(head + mask + bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload)))

    def close(self):
        self.octets.close()


def connect(transport, host, near, authority):
    """A connection from this host's address to siplatch, with its handshakes done."""
    opened = socket.create_connection(near, timeout=5, source_address=(host, 0))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if transport.secure:
        context = ssl.create_default_context(cafile=authority)
        opened = context.wrap_socket(opened, server_hostname=near[0])
    return WebSocket(opened, f"{near[0]}:{near[1]}") if transport.websocket else Stream(opened)
