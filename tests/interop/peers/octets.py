"""What media packets look like before and behind siplatch, seen on the loopback interface of the namespace."""

import socket
import threading
import time

ETH_P_IP, ETH_P_ALL = 0x0800, 0x0003


def is_media(payload):
    """DTLS, RTP or RTCP (RFC 7983)."""
    return bool(payload) and (20 <= payload[0] < 64 or 128 <= payload[0] < 192)


class Watch:
    """Collects the media of phones, who are told apart by their ports, from now until it is closed."""

    def __init__(self, *phones):
        self.phones = phones
        self.sent, self.got = ({ports: [] for ports in phones} for _ in range(2))
        # All packets as they leave, on the loopback each of them once: what the kernel's relay takes arrives nowhere.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.bind(("lo", ETH_P_ALL))
        self.socket.settimeout(0.1)
        self.open = True
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while self.open:
            try:
                packet, (_, protocol, way, *_) = self.socket.recvfrom(65536)
            except TimeoutError:
                continue
            if protocol != ETH_P_IP or way != socket.PACKET_OUTGOING:
                continue
            start = 4 * (packet[0] & 15)
            payload = packet[start + 8:]
            if packet[9] != socket.IPPROTO_UDP or not is_media(payload):
                continue
            source, target = (int.from_bytes(packet[start + k:start + k + 2], "big") for k in (0, 2))
            for ports in self.phones:
                if source in ports:
                    self.sent[ports].append(payload)
                if target in ports:
                    self.got[ports].append(payload)

    def wait(self, near, far, count, patience_s):
        """Until so many packets of one phone came to the other as they were: how many it sent, how many came."""
        end = time.monotonic() + patience_s
        while True:
            got = set(self.got[far])
            sent = list(self.sent[near])
            arrived = sum(payload in got for payload in sent)
            if arrived >= count or time.monotonic() > end:
                return len(sent), arrived
            time.sleep(0.05)

    def strange(self, near, far):
        """What came to one phone and was not sent by the other."""
        got, sent = list(self.got[far]), set(self.sent[near])
        return [payload for payload in got if payload not in sent]

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()
