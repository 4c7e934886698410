"""Somebody on the Internet who sends what `forgery` makes, at a rate, from a thread of his own."""

import itertools
import socket
import threading
import time

from . import batch, netns, settings

REST_S = 0.002


class Barrage:
    """Sends these datagrams from `namespace`, from one port, or as raw IPv4 packets; begins at once, until `cease`."""

    def __init__(self, namespace, datagrams, rate, raw=False):
        self.datagrams = iter(datagrams)
        self.rate = rate
        self.sent = 0
        self.seconds = 0.0
        self.failure = None
        self.ceased = threading.Event()
        with netns.inside(namespace):
            if raw:
                self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            else:
                self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._fire, daemon=True, name="barrage")
        self.thread.start()

    def _fire(self):
        volley = batch.Batch(self.socket)
        try:
            while not self.ceased.is_set():
                due = int((time.monotonic() - self.began) * self.rate) + 1 - self.sent
                if due <= 0:
                    self.ceased.wait(REST_S)
                    continue
                self.sent += volley.send(itertools.islice(self.datagrams, min(due, batch.SIZE)))
        except OSError as error:
            self.failure = error
        self.seconds = time.monotonic() - self.began

    def cease(self, problems):
        """Ends it; (packets sent, packets per second reached). `problems` gets a line if that was not as wanted."""
        self.ceased.set()
        self.thread.join()
        self.socket.close()
        reached = self.sent / self.seconds if self.seconds else 0.0
        if self.failure:
            problems.append(f"the attacker could not send: {self.failure}")
        elif reached < self.rate * settings.REACHED_SHARE_OF_RATE:
            problems.append(f"the attacker sent {reached:.0f} packets a second, not {self.rate}")
        return self.sent, reached
