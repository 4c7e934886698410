"""A phone that hears everything and says nothing."""


class Mute:
    """Its open socket keeps the kernel from answering for it."""

    name = "mute"

    def __init__(self, line):
        self.box = line.mailbox()

    def finish(self):
        try:
            heard = self.box.receive(0.1)
        except TimeoutError:
            heard = ""
        self.close()
        return None if heard.startswith("INVITE") else "the mute phone was never called"

    def close(self):
        self.box.close()
