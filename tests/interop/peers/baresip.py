"""baresip as a phone: registers, calls, holds, sends its caller on; driven by its ctrl_tcp module."""

import json
import re
import socket
import subprocess
import threading
import time
import wave

from .octets import Watch
from .process import Process, Trouble

CONFIG = """
poll_method epoll
sip_listen {host}:{port}
{authority}
call_max_calls 4
audio_source aufile,{tone}
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports {media_port}-{media_end}
rtcp_mux {mux}
jitter_buffer_delay 1-20
net_interface {interface}
module_path /usr/lib/baresip/modules
module g711.so
{module}module aufile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
"""

ACCOUNT = (
    '<sip:{user}@{domain}>;auth_user={user};auth_pass={password};outbound="sip:{near}{parameter}";'
    "regint=600;answermode=auto;audio_codecs=PCMU/8000/1;ptime=20{media}\n"
)

# Only what the account's media asks for is loaded: dtls_srtp makes an RSA key when it is, in each phone.
MODULES = {"": "", "mediaenc=srtp-mand": "module srtp.so\n", "mediaenc=dtls_srtp": "module dtls_srtp.so\n", "medianat=ice": "module ice.so\n"}

PATIENCE_S = 10
# Many phones start at once on few processors.
START_PATIENCE_S = 60
# Media packets that are compared, one second of them.
ENOUGH = 50


def interface(name, host):
    """A network interface of its own, whose address baresip takes for its own; all stays inside the namespace."""
    other = f"{name}x"
    for words in (
        ["link", "add", name, "type", "veth", "peer", "name", other], ["addr", "add", f"{host}/32", "dev", name],
        ["link", "set", name, "up"], ["link", "set", other, "up"],
    ):
        subprocess.run(["ip", *words], check=True)


def sound(path):
    """A minute of a quiet tone; baresip hangs up when it is over."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(b"".join((375 * (k - 8)).to_bytes(2, "little", signed=True) for k in range(16)) * 500 * 60)


class Baresip:
    """One phone; `number` tells its ports from those of the others."""

    def __init__(self, folder, number, host, user, password, domain, near, transport, authority, media=""):
        self.user, self.uri = user, f"sip:{user}@{domain}"
        self.ports = range(10000 + 1000 * number, 11000 + 1000 * number)
        self.folder = folder / user
        self.folder.mkdir(parents=True)
        interface(f"phone{number}", host)
        sound(self.folder / "tone.wav")
        control = 4440 + number
        (self.folder / "config").write_text(CONFIG.format(
            host=host, port=5060, mux="yes" if media else "no", authority=f"sip_cafile {authority}" if transport.secure else "",
            tone=self.folder / "tone.wav", interface=f"phone{number}", module=MODULES[media], media_port=self.ports[0], media_end=self.ports[-2], control=control,
        ))
        (self.folder / "accounts").write_text(ACCOUNT.format(
            user=user, domain=domain, password=password, near=f"{near[0]}:{near[1]}", parameter=transport.parameter(),
            media=f";{media}" if media else "",
        ))
        self.events, self.news, self.answers = [], threading.Condition(), 0
        self.process = Process(["baresip", "-4", "-s", "-f", self.folder], folder / f"{user}.log")
        self.control = self._connect(("127.0.0.1", control))
        threading.Thread(target=self._read, daemon=True).start()

    def _connect(self, address):
        end = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                return socket.create_connection(address, timeout=1)
            except OSError as error:
                if not self.process.running():
                    raise Trouble(f"baresip of {self.user} ended with code {self.process.child.returncode}:\n{self.process.tail()}") from error
                if time.monotonic() > end:
                    raise Trouble(f"baresip of {self.user} takes no commands: {error}\n{self.process.tail()}") from error
                time.sleep(0.02)

    def _read(self):
        self.control.settimeout(None)
        buffer = b""
        while True:
            try:
                data = self.control.recv(65536)
            except OSError:
                data = b""
            if not data:
                return
            buffer += data
            while b":" in buffer:
                size, rest = buffer.split(b":", 1)
                if len(rest) <= int(size):
                    break
                self._note(json.loads(rest[:int(size)], strict=False))
                buffer = rest[int(size) + 1:]

    def _note(self, message):
        with self.news:
            self.events.append(message.get("type", "answer"))
            self.news.notify_all()

    def command(self, word, parameters=None):
        message = {"command": word, "token": "0"}
        if parameters is not None:
            message["params"] = parameters
        data = json.dumps(message).encode()
        self.control.sendall(b"%d:%s," % (len(data), data))

    def wait(self, event, count=1):
        """Waits until this has happened so many times since the start."""
        with self.news:
            if not self.news.wait_for(lambda: self.events.count(event) >= count, PATIENCE_S):
                happened = [event for event in self.events if event != "answer"]
                raise Trouble(f"baresip of {self.user} waits for {event} ({count}), had {happened[-8:]}")

    def wait_registered(self):
        """Its event comes before anybody can listen for it."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(r"200 OK .*\[\d+ binding", self.process.log.read_text(errors="replace")):
            if time.monotonic() > end:
                raise Trouble(f"baresip of {self.user} did not register: {self.process.tail(3)}")
            time.sleep(0.02)

    def wait_offered(self, direction, count):
        """Waits until so many INVITEs of this direction came, by baresip's own trace of messages."""
        invite = r"-> [^\n]*\nINVITE (?:(?!\033).)*?a=" + direction + r"\r?\n"
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            offers = re.findall(invite, self.process.log.read_text(errors="replace"), re.DOTALL)
            if len(offers) >= count:
                return
            time.sleep(0.05)
        raise Trouble(f"{self.user} was offered {direction} {len(offers)} times, not {count}")

    def close(self):
        self.control.close()
        self.process.stop()


class Talk:
    """The three phones, and how many calls each has had."""

    def __init__(self, *phones):
        self.phones = phones
        self.calls = dict.fromkeys(phones, 0)

    def up(self, caller, callee):
        """A call that is answered; the callee does so by himself."""
        caller.command("dial", callee.uri)
        self.joined(caller, callee)

    def joined(self, *phones):
        for phone in phones:
            self.calls[phone] += 1
            phone.wait("CALL_ESTABLISHED", self.calls[phone])

    def registers(self):
        for phone in self.phones:
            phone.wait_registered()

    def call(self):
        ann, bob, _ = self.phones
        self.up(ann, bob)
        ann.command("hangup")
        for phone in (ann, bob):
            phone.wait("CALL_CLOSED")

    def octets(self):
        """A call, and whether each media packet comes out as it went in."""
        ann, bob, _ = self.phones
        watch = Watch(ann.ports, bob.ports)
        try:
            self.up(ann, bob)
            for near, far in ((ann, bob), (bob, ann)):
                sent, arrived = watch.wait(near.ports, far.ports, ENOUGH, PATIENCE_S)
                if arrived < ENOUGH:
                    raise Trouble(f"of {sent} packets from {near.user} {arrived} came to {far.user} as they were sent")
                strange = watch.strange(near.ports, far.ports)
                if strange:
                    raise Trouble(f"{far.user} got {len(strange)} packets that {near.user} did not send, as {strange[0][:4].hex()}")
            ann.command("hangup")
            bob.wait("CALL_CLOSED")
        finally:
            watch.close()

    def hold(self):
        """ann holds and resumes; the offers that reach bob say so."""
        ann, bob, _ = self.phones
        self.up(ann, bob)
        ann.command("hold")
        bob.wait_offered("sendonly", 1)
        ann.command("resume")
        bob.wait_offered("sendrecv", 3)
        bob.command("hangup")
        for phone in (ann, bob):
            phone.wait("CALL_CLOSED", 2)

    def blind(self):
        """bob sends ann on to carl (RFC 5589 §6)."""
        ann, bob, carl = self.phones
        self.up(ann, bob)
        bob.command("transfer", carl.uri)
        self.joined(ann, carl)
        bob.wait("CALL_CLOSED", 3)
        carl.command("hangup")
        ann.wait("CALL_CLOSED", 4)


# With encrypted media or ICE.
MEDIA_CASES = (
    ("baresip registers", None, Talk.registers),
    ("media passes octet for octet", None, Talk.octets),
)
# What baresip does: case, row of the matrix, method of `Talk`.
CASES = (
    ("baresip registers", "register with authentication", Talk.registers),
    ("baresip calls baresip", "call", Talk.call),
    ("baresip holds and resumes", "hold and resume", Talk.hold),
    ("baresip transfers", "blind transfer", Talk.blind),
)
