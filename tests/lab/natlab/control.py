"""The line to one running baresip: commands out, events in, each with the time it came (ctrl_tcp module)."""

import json
import socket
import threading
import time

from . import netns
from .process import LabError, wait_until

PORT = 4444


class Control:
    def __init__(self, namespace, name, deadline_s):
        self.name = name
        self.events = []
        self.responses = {}
        self.news = threading.Condition()
        self.tokens = 0
        self.began = time.monotonic()
        self.socket = wait_until(lambda: self._connect(namespace), deadline_s, f"{name} to listen for commands")
        threading.Thread(target=self._read, daemon=True, name=f"control of {name}").start()

    @staticmethod
    def _connect(namespace):
        with netns.inside(namespace):
            line = socket.socket()
        try:
            line.connect(("127.0.0.1", PORT))
        except ConnectionError:
            line.close()
            return None
        return line

    def _read(self):
        buffer = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                return
            buffer += data
            while b":" in buffer:
                length, rest = buffer.split(b":", 1)
                size = int(length)
                if len(rest) < size + 1:
                    break
                self._note(rest[:size])
                buffer = rest[size + 1:]

    def _note(self, text):
        try:
            message = json.loads(text)
        except ValueError:
            return
        with self.news:
            if "response" in message:
                self.responses[message.get("token")] = message
            else:
                self.events.append((time.monotonic(), message))
            self.news.notify_all()

    def command(self, command, parameters=None, deadline_s=5.0):
        """Gives a command and returns what baresip answers; an error of baresip's is not one here."""
        self.tokens += 1
        token = str(self.tokens)
        message = {"command": command, "token": token}
        if parameters is not None:
            message["params"] = parameters
        data = json.dumps(message).encode()
        self.socket.sendall(b"%d:%s," % (len(data), data))
        with self.news:
            if not self.news.wait_for(lambda: token in self.responses, deadline_s):
                raise LabError(f"{self.name} did not answer the command {command}")
            return self.responses.pop(token)

    def position(self):
        """Now, as a place in the list of events."""
        with self.news:
            return len(self.events)

    def find(self, kinds, since=0, **fields):
        """The first event of one of these kinds: (time, event) or None."""
        with self.news:
            return self._find(kinds, since, fields)

    def _find(self, kinds, since, fields):
        for when, event in self.events[since:]:
            if event.get("type") in kinds and all(event.get(key) == value for key, value in fields.items()):
                return when, event
        return None

    def last(self, kinds):
        """When the last event of one of these kinds came; the start of this line if none has come."""
        with self.news:
            return max([when for when, event in self.events if event.get("type") in kinds], default=self.began)

    def wait(self, kinds, since, deadline_s, **fields):
        """Waits for such an event; (time, event), or None after the deadline."""
        with self.news:
            self.news.wait_for(lambda: self._find(kinds, since, fields), deadline_s)
            return self._find(kinds, since, fields)

    def close(self):
        self.socket.close()
