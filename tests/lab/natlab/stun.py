"""As much of STUN (RFC 8489) as asks a server for the address that it sees."""

import os
import socket
import struct

COOKIE = 0x2112A442


def mapped_address(sock, server, deadline_s=2.0):
    """Asks `server` from `sock`; (address, port) or None."""
    transaction = os.urandom(12)
    sock.settimeout(deadline_s)
    sock.sendto(struct.pack("!HHI", 1, 0, COOKIE) + transaction, server)
    try:
        answer, _ = sock.recvfrom(2048)
    except TimeoutError:
        return None
    if answer[:2] != b"\x01\x01" or answer[8:20] != transaction:
        return None
    at = 20
    while at + 4 <= len(answer):
        kind, size = struct.unpack_from("!HH", answer, at)
        if kind == 0x0020:
            port, raw = struct.unpack_from("!HI", answer, at + 6)
            return socket.inet_ntoa(struct.pack("!I", raw ^ COOKIE)), port ^ (COOKIE >> 16)
        at += 4 + (size + 3) // 4 * 4
    return None
