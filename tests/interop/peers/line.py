"""How a phone reaches siplatch. On UDP, SIPp and the small phones have the socket themselves. On a stream the
connection must outlive the SIPp that registered on it, and SIPp 3.6 knows neither TLS nor WebSocket: so the line has the
connection, and SIPp speaks plain TCP to the line, message for message. What SIPp writes (Via, Contact) already says
the transport of the line."""

import queue
import socket
import threading

from . import transport as transports
from .process import Trouble, udp_socket

PATIENCE_S = 5


class Line:
    """What both kinds share: who the phone is, and what it writes."""

    def __init__(self, transport, address, near):
        self.transport, self.address, self.near = transport, address, near

    @property
    def sent_by(self):
        """A browser does not know its address (RFC 7118 §5.3, appendix B)."""
        host, port = self.address
        return f"h{host.replace('.', '-')}.invalid" if self.transport.websocket else f"{host}:{port}"

    @property
    def via(self):
        return f"{self.transport.via} {self.sent_by}"

    def own(self, user):
        """The phone's Contact URI."""
        return f"sip:{user}@{self.sent_by}{self.transport.parameter()};phone=own"


class UdpLine(Line):
    """Nothing in between."""

    def mailbox(self):
        return UdpMailbox(udp_socket(self.address), self.near)

    def behind(self):
        """Prepares for a SIPp that waits for calls."""

    def front(self):
        """Where a SIPp that calls is to connect to."""
        return self.near

    def fault(self):
        return None

    def close(self):
        pass


class UdpMailbox:
    """Sends and receives for a phone of our own."""

    def __init__(self, opened, near):
        self.socket, self.near = opened, near

    def send(self, message):
        self.socket.sendto(message, self.near)

    def receive(self, wait_s):
        """The next message; raises `TimeoutError`."""
        self.socket.settimeout(max(wait_s, 0.001))
        return self.socket.recv(65536).decode(errors="replace")

    def close(self):
        self.socket.close()


class StreamLine(Line):
    """A connection of its own for the phone, kept until the case is over."""

    def __init__(self, transport, address, near, authority):
        super().__init__(transport, address, near)
        try:
            self.stream = transports.connect(transport, address[0], near, authority)
        except (OSError, transports.Ended) as error:
            raise Trouble(f"no {transport.name} connection to {near[0]}:{near[1]}: {error}") from error
        self.ended, self.closing, self.over = None, False, threading.Event()
        self.deliver = lambda message: None
        self.sipp = None
        self.ponged = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def ping(self):
        """A double CRLF must come back as a single one (RFC 5626 §4.4.1); what went wrong, or None."""
        self.ponged.clear()
        self.stream.send(transports.PING)
        return None if self.ponged.wait(PATIENCE_S) else "a keep-alive had no answer"

    def mailbox(self):
        box = StreamMailbox(self)
        self.deliver = box.messages.put
        return box

    def behind(self):
        self.sipp = None
        self.deliver = self._call_sipp

    def front(self):
        """A port of its own for each SIPp, so that no closed connection is in the way of the next."""
        self.sipp = None
        self.deliver = self._hand_over
        listener = socket.create_server((self.address[0], 0))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener.getsockname()

    def fault(self):
        return None if self.ended is None else f"siplatch closed the {self.transport.name} connection: {self.ended}"

    def hang_up(self):
        """Ends the connection and waits until the other end has seen it, and has ended it too."""
        self.closing = True
        self.stream.octets.finish()
        if not self.over.wait(PATIENCE_S):
            raise Trouble("the other end keeps a connection that this one has ended")

    def close(self):
        self.closing = True
        self.stream.close()
        if self.sipp:
            self.sipp.close()

    def _read(self):
        while True:
            try:
                message = self.stream.receive()
                if message == transports.PING:
                    self.stream.send(transports.PONG)
                elif message == transports.PONG:
                    self.ponged.set()
                else:
                    self.deliver(message)
            except transports.Ended as ended:
                if not self.closing:
                    self.ended = str(ended)
                self.over.set()
                return

    def _call_sipp(self, message):
        if self.sipp is None:
            try:
                self._take(socket.create_connection(self.address, timeout=PATIENCE_S))
            except OSError:
                return
        self._hand_over(message)

    def _hand_over(self, message):
        sipp = self.sipp
        if sipp:
            try:
                sipp.send(message)
            except transports.Ended:
                pass

    def _accept(self, listener):
        listener.settimeout(PATIENCE_S)
        try:
            self._take(listener.accept()[0])
        except OSError:
            pass
        finally:
            listener.close()

    def _take(self, opened):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sipp = transports.Stream(opened)
        threading.Thread(target=self._forward, args=(self.sipp,), daemon=True).start()

    def _forward(self, sipp):
        try:
            while True:
                self.stream.send(sipp.receive())
        except transports.Ended:
            sipp.close()


class StreamMailbox:
    """The same for a phone of our own."""

    def __init__(self, line):
        self.line = line
        self.messages = queue.Queue()

    def send(self, message):
        try:
            self.line.stream.send(message)
        except transports.Ended as ended:
            raise Trouble(f"the connection is gone: {ended}") from ended

    def receive(self, wait_s):
        try:
            return self.messages.get(timeout=max(wait_s, 0.001)).decode(errors="replace")
        except queue.Empty:
            raise TimeoutError from None

    def close(self):
        self.line.deliver = lambda message: None


def open_line(transport, address, near, authority):
    if transport.stream:
        return StreamLine(transport, address, near, authority)
    return UdpLine(transport, address, near)
