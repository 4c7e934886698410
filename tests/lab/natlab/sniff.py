"""What really passes a cable: tcpdump writes it down, and its file is read while it grows or afterwards."""

import dataclasses
import re
import socket
import struct

from . import settings
from .process import Process, wait_until

FILE_HEADER_BYTES = 24
ETHERNET_BYTES = 14
PACKET_BYTES = 2048
BUFFER_KIB = 16384


@dataclasses.dataclass(frozen=True)
class Packet:
    """A UDP datagram; `at` is wall-clock time in seconds, the ends are (host, port)."""

    at: float
    source: tuple
    target: tuple
    data: bytes

    @property
    def ssrc(self):
        """The SSRC when this is RTP, else None. RTCP is told by its packet types (RFC 5761 §4)."""
        if len(self.data) < 12 or self.data[0] >> 6 != 2 or 192 <= self.data[1] <= 223:
            return None
        return int.from_bytes(self.data[8:12], "big")


class Sniffer:
    """UDP on one interface, both ways, from now on; `only`: what of it, as a tcpdump expression."""

    def __init__(self, namespace, interface, folder, name, only="udp"):
        self.file = folder / f"{name}.pcap"
        self.process = Process(
            namespace,
            ["tcpdump", "-i", interface, "-p", "-n", "-U", "--immediate-mode",
             "-s", str(PACKET_BYTES), "-B", str(BUFFER_KIB), "-w", self.file, only],
            folder / f"tcpdump-{name}.log",
        )
        self.process.wait_for_line("listening on", settings.START_DEADLINE_S)
        wait_until(lambda: self.file.exists() and self.file.stat().st_size >= FILE_HEADER_BYTES,
                   settings.START_DEADLINE_S, f"{self.file.name} to be begun")

    def packets(self, since=0.0, until=float("inf")):
        """What passed between two moments, as far as it is written."""
        return [packet for packet in _read(self.file) if since <= packet.at <= until]

    def stop(self):
        """Ends the capture; returns how many packets tcpdump was too slow for."""
        self.process.stop()
        lost = re.search(r"(\d+) packets? dropped by kernel", self.process.text())
        return int(lost.group(1)) if lost else 0


def _read(file):
    data = file.read_bytes()
    at = FILE_HEADER_BYTES
    while at + 16 <= len(data):
        seconds, micros, size, _ = struct.unpack_from("=IIII", data, at)
        frame = data[at + 16:at + 16 + size]
        if len(frame) < size:
            return
        at += 16 + size
        packet = _datagram(seconds + micros / 1e6, frame[ETHERNET_BYTES:])
        if packet:
            yield packet


def _datagram(when, packet):
    start = (packet[0] & 15) * 4
    if packet[9] != socket.IPPROTO_UDP or len(packet) < start + 8:
        return None
    source, target, length = struct.unpack_from("!HHH", packet, start)
    hosts = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return Packet(when, (hosts[0], source), (hosts[1], target), packet[start + 8:start + length])
