"""Who is measured. Each is started in its namespace on its core, and stopped again; its settings stand here."""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile

from natlab.process import LabError, Process, wait_until, udp_bound

from . import place, usage

START_S = 180
LEFT_S = 5


class Contender:
    """`name` is what tables say; `under` is put before its commands."""

    name = ""
    # Ports for media, if it has any.
    ports = "10000-59999"

    def __init__(self, folder, under=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.under = tuple(under)
        self.processes = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        raise NotImplementedError

    def run(self, command, **more):
        pinned = ["taskset", "-c", str(place.CONTENDER_CORE), *self.under, *command]
        name = pathlib.Path(command[0]).name
        process = Process(place.SERVED, pinned, self.folder / f"{name}.log", cwd=self.folder, **more)
        self.processes.append(process)
        return process

    def wait(self, process, address, port):
        # Not by waiting for a line: each of them says something else.
        process.wait_for(lambda: udp_bound(place.SERVED, address, port), START_S, f"{process.name} on {address}:{port}")

    def pids(self):
        return [pid for process in self.processes for pid in usage.family(process.child.pid)]

    def programs(self):
        """Numbers of the BPF programs that carry its media."""
        return usage.programs(self.pids()) + ([self.program] if hasattr(self, "program") else [])

    def stop(self):
        for process in self.processes:
            process.stop(30)
        # Whose parent was told to end while it was still starting may be left over.
        try:
            wait_until(lambda: not self._left(), LEFT_S, f"the end of {self.name}")
        except LabError:
            for pid in self._left():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not self._left(), LEFT_S, f"the end of {self.name}")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self):
        return usage.in_namespace(place.SERVED)


SIPLATCH = """role = "standalone"
[inner]
listen = ["udp:{address}:5060"]
[media]
ports = "{ports}"
datapath = "{datapath}"
priority = "{priority}"
[metrics]
listen = "127.0.0.1:9090"
[state]
dir = "{folder}"
{more}
"""
SIGNALLING_ONLY = """[[network]]
prefix = "10.77.0.0/17"
media = "signalling-only"
"""


class Siplatch(Contender):
    """Standalone: it answers REGISTER itself and knows where its phones are."""

    name = "siplatch"

    def __init__(self, folder, binary, media=True, datapath="userspace", priority="realtime", under=()):
        super().__init__(folder, under)
        self.binary, self.media, self.datapath, self.priority = binary, media, datapath, priority

    def start(self):
        config = self.folder / "siplatch.toml"
        config.write_text(SIPLATCH.format(address=place.ADDRESS, folder=self.folder, ports=self.ports,
                                          datapath=self.datapath, priority=self.priority,
                                          more="" if self.media else SIGNALLING_ONLY))
        process = self.run([self.binary, "run", "--config", config], env={"SIPLATCH_LOG": "info"})
        self.wait(process, *place.SIP)


BETWEEN = """role = "{role}"
[inner]
listen = ["udp:{inner}"]
[outer]
listen = ["udp:{outer}"]
advertise = "listen"
[[upstream]]
uri = "sip:{core}"
[media]
ports = "10000-59999"
datapath = "userspace"
[metrics]
listen = "127.0.0.1:9090"
[state]
dir = "{folder}"
"""


class SiplatchBetween(Siplatch):
    """Between phones and a core that is their registrar, for very many phones.

    `state` is a folder that outlives it, so that who is registered is known to the next one.
    """

    role = ""

    def __init__(self, folder, binary, state, under=()):
        super().__init__(folder, binary, under=under)
        self.state = state

    def start(self):
        config = self.folder / "siplatch.toml"
        phones, core = ("%s:%d" % side for side in (place.SIP, place.INNER))
        inner, outer = (core, phones) if self.role == "border" else (phones, core)
        config.write_text(BETWEEN.format(role=self.role, inner=inner, outer=outer, core="%s:%d" % place.CORE, folder=self.state)
                          + SIGNALLING_ONLY)
        process = self.run([self.binary, "run", "--config", config], env={"SIPLATCH_LOG": "info"})
        self.wait(process, *place.SIP)


class SiplatchBorder(SiplatchBetween):
    """The role for very many phones, each of which is pinged all the time."""

    name, role = "siplatch border", "border"


class SiplatchOffice(SiplatchBetween):
    """The role in which phones that show no NAT are not pinged: under valgrind, pings of 100,000 would be all that it does."""

    name, role = "siplatch office", "office"


class SiplatchKernel(Siplatch):
    """The same with held streams in the kernel."""

    name = "siplatch kernel"

    def __init__(self, folder, binary, under=()):
        super().__init__(folder, binary, datapath="kernel", under=under)


KAMAILIO = pathlib.Path(__file__).with_name("kamailio.cfg")


class Kamailio(Contender):
    """Stateful proxy and registrar with NAT help."""

    name = "kamailio"
    media = False

    def start(self):
        config = self.folder / "kamailio.cfg"
        config.write_text(KAMAILIO.read_text().replace("@address@", place.ADDRESS))
        parts = ["-A", "MEDIA"] if self.media else []
        process = self.run(
            ["kamailio", "-DD", "-f", config, "-m", "1024", "-M", "16", "-x", "fm", "-X", "fm", "-Y", self.folder,
             "-w", self.folder, "-P", self.folder / "kamailio.pid", *parts])
        self.wait(process, *place.SIP)


NG = ("127.0.0.1", 2223)


class Rtpengine(Contender):
    """In user space, driven by its ng protocol from the namespace of the load."""

    name = "rtpengine"
    ng = (place.ADDRESS, 2223)

    def start(self):
        start_rtpengine(self, self.ng)


def start_rtpengine(contender, ng):
    process = contender.run(
        ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=3", "--table=-1",
         f"--interface={place.ADDRESS}", "--listen-ng=%s:%d" % ng, *(f"--port-{end}={port}" for end, port in zip(("min", "max"), contender.ports.split("-"))),
         f"--num-threads={os.environ.get('PEERS_RTPENGINE_THREADS', '1')}"])
    contender.wait(process, *ng)


class KamailioRtpengine(Kamailio):
    """Both, the second told of each call by the first: offer, answer, delete."""

    name = "kamailio+rtpengine"
    media = True

    def start(self):
        start_rtpengine(self, NG)
        super().start()
