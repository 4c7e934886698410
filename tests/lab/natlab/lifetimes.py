"""How long a mapping lives: the doctor's figure against the box's, beside a live flow that must not notice.

The flow is RTP's in size and pace: 50 datagrams a second from a host behind the same box to an echo outside and back.
"""

import selectors
import socket
import threading
import time

from . import netns, verdicts

PACE_S = 0.02
PAYLOAD_OCTETS = 172
ECHO_PORT = 7007
LAST_ECHO_S = 1.0
TOLERANCE = 0.15
DEADLINE_S = 1500


class Flow:
    """Runs from the start of the block to its end; then `sent`, `lost` and `sources` are final."""

    def __init__(self, scene):
        self.sent, self.returned, self.sources = 0, set(), set()
        self.echo = self._socket(scene.world.add("public"), scene.world.address("public"), ECHO_PORT)
        self.phone = self._socket(scene.world.add("office"), scene.world.address("office"), 16384)
        self.to = scene.world.address("public"), ECHO_PORT
        self.over = threading.Event()

    @staticmethod
    def _socket(namespace, address, port):
        with netns.inside(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, port))
        made.setblocking(False)
        return made

    @property
    def lost(self):
        return self.sent - len(self.returned)

    def __enter__(self):
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.echo.close()
        self.phone.close()

    def _run(self):
        ready = selectors.DefaultSelector()
        ready.register(self.echo, selectors.EVENT_READ)
        ready.register(self.phone, selectors.EVENT_READ)
        due = time.monotonic()
        end = None
        while end is None or time.monotonic() < end and self.lost:
            for key, _ in ready.select(max(0.0, min(due - time.monotonic(), PACE_S))):
                self._receive(key.fileobj)
            if self.over.is_set():
                end = end or time.monotonic() + LAST_ECHO_S
            elif time.monotonic() >= due:
                self.phone.sendto(self.sent.to_bytes(4, "big").ljust(PAYLOAD_OCTETS, b"."), self.to)
                self.sent += 1
                due += PACE_S

    def _receive(self, sock):
        try:
            data, source = sock.recvfrom(2048)
        except BlockingIOError:
            return
        if sock is self.echo:
            self.sources.add(source)
            sock.sendto(data, source)
        else:
            self.returned.add(int.from_bytes(data[:4], "big"))


def within(found, wanted):
    return found is not None and abs(found - wanted) <= TOLERANCE * wanted


def play(scene):
    """One record: the lifetime as found, and what became of the flow."""
    wanted, begin = scene.cell.udp_timeout_s, time.monotonic()
    with Flow(scene) as flow:
        report = verdicts.ask(scene, "--long", deadline_s=DEADLINE_S)
    found = report["nat"]["lifetime_s"]
    problems = []
    if not within(found, wanted):
        problems.append(f"a lifetime of {wanted} s was found to be {found}")
    if flow.lost:
        problems.append(f"the live flow lost {flow.lost} of {flow.sent} datagrams")
    if len(flow.sources) != 1:
        problems.append(f"the live flow was mapped to {len(flow.sources)} ports")
    return [{"established": True, "wanted_s": wanted, "found_s": found, "took_s": round(time.monotonic() - begin),
             "sent": flow.sent, "lost": flow.lost, "mappings": len(flow.sources), "problems": problems}]
