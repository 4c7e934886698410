"""A SIP message as a small phone reads it."""

import re

NAMES = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type", "r": "refer-to",
}


class Message:
    def __init__(self, text):
        self.text = text
        head, _, self.body = text.partition("\r\n\r\n")
        self.start, *lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
        self.fields = []
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.fields.append((NAMES.get(name, name), value.strip()))

    @property
    def status(self):
        return int(self.start.split(" ", 2)[1]) if self.start.startswith("SIP/2.0 ") else None

    @property
    def method(self):
        """Of a request its own, of a response the one that it answers."""
        return self.value("CSeq").split()[1]

    @property
    def uri(self):
        return self.start.split(" ")[1]

    def all(self, name):
        """The values of a field, in order; one of URIs may hold several."""
        found = [value for field, value in self.fields if field == name.lower()]
        if name.lower() in ("via", "route", "record-route", "contact"):
            found = [part.strip() for value in found for part in re.split(r",(?=\s*[<\"]|\s*SIP/)", value)]
        return found

    def value(self, name):
        return (self.all(name) or [""])[0]

    def uri_of(self, name):
        found = re.search(r"<([^>]*)>", self.value(name))
        return found.group(1) if found else self.value(name).split(";")[0]

    @property
    def transaction(self):
        branch = re.search(r"branch=([^;,\s]+)", self.value("Via"))
        return branch.group(1) if branch else "", self.method
