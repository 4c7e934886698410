"""Many datagrams in one system call: Linux's sendmmsg, by ctypes."""

import ctypes
import errno
import os
import socket
import struct

SIZE = 64
ROOM = 512
NAME_BYTES = 16
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Iovec)), ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("message", _Message), ("sent", ctypes.c_uint)]


class Batch:
    """Room for `SIZE` datagrams of at most `ROOM` bytes, each with a destination of its own."""

    def __init__(self, sock):
        self.sock = sock
        self.names = {}
        self.packets = [ctypes.create_string_buffer(ROOM) for _ in range(SIZE)]
        self.addresses = [ctypes.create_string_buffer(NAME_BYTES) for _ in range(SIZE)]
        self.vectors = (_Iovec * SIZE)()
        self.slots = (_Slot * SIZE)()
        for at, slot in enumerate(self.slots):
            self.vectors[at].base = ctypes.addressof(self.packets[at])
            slot.message.name = ctypes.addressof(self.addresses[at])
            slot.message.name_length = NAME_BYTES
            slot.message.vectors = ctypes.pointer(self.vectors[at])
            slot.message.vector_count = 1

    def _name(self, address):
        if address not in self.names:
            host, port = address
            self.names[address] = struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(host))
        return self.names[address]

    def send(self, datagrams):
        """Sends these pairs of (bytes, (host, port)); returns how many the kernel took."""
        count = 0
        for count, (data, address) in enumerate(datagrams, 1):
            ctypes.memmove(self.packets[count - 1], data, len(data))
            ctypes.memmove(self.addresses[count - 1], self._name(address), NAME_BYTES)
            self.vectors[count - 1].length = len(data)
        sent = _libc.sendmmsg(self.sock.fileno(), self.slots, count, 0)
        if sent < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
                return 0
            raise OSError(number, os.strerror(number), "sendmmsg")
        return sent
