"""The program under test: its configuration per role, its start, its metrics."""

import http.client
import re
import subprocess

from . import cells, coturn, netns, networks, phones, settings, world
from .process import Process

BORDER = """
role = "border"
[inner]
listen = ["udp:{inner}:5060"]
[outer]
listen = ["udp:{outer}:5060"]
[[upstream]]
uri = "sip:{upstream}:5060"
"""

OFFICE = """
role = "office"
[inner]
listen = ["udp:{host}:5060"]
[outer]
listen = ["udp:{host}:5070"]
advertise = "{advertise}"
stun_servers = [{stun}]
[[upstream]]
uri = "sip:{upstream}"
"""

PASSWORD = """
[[phone]]
name = "{user}"
user = "{user}"
password = "never asked for here"
"""

TLS = """
[tls]
ca = "{authority}"
"""

TURN = """
[turn]
server = "{server}"
username = "{user}"
password = "{password}"
"""

COMMON = """
[media]
ports = "{ports}"
[metrics]
listen = "{metrics}"
[state]
dir = "{state}"
"""


UPSTREAM = {
    "udp": "{}:5060", "5080": "{}:5080", "tcp": "{}:5060;transport=tcp", "tls": "{}:5061;transport=tls", "443": "{}:443;transport=tls",
}
# What the office advertises where the port that STUN sees is not the one to be written.
ADVERTISED = {
    networks.FORWARDED: "stun-address",
    networks.IGD: "stun-address",
    networks.ONE_TO_ONE: networks.ONE_TO_ONE_ADDRESSES[world.address("siplatch")],
}


def advertised(kind):
    return ADVERTISED.get(kind, "stun")


def configuration(scene, state, turn=None):
    """`turn`: how a TURN server is reached, if there is one."""
    here, cell, ports = scene.world.address, scene.cell, scene.ports
    if cell.role == "border":
        text = BORDER.format(inner=world.BORDER_INNER, outer=here("border"), upstream=here("core"))
    else:
        stun = ", ".join(f'"{each}:{coturn.PORT}"' for each in scene.world.addresses("stun"))
        text = OFFICE.format(host=here("siplatch"), stun=stun, upstream=UPSTREAM[cell.upstream].format(here("provider")),
                             advertise=advertised(cell.nat))
        if cell.provider == cells.LATCHING:
            text += "comedia = true\n"
        if turn:
            server = coturn.uri(here("turn"), turn)
            text += TURN.format(server=server, user=coturn.USER, password=coturn.PASSWORD)
        if cell.kind == cells.FOUND_BY_PASSWORD:
            text += PASSWORD.format(user=cell.callee)
        if cell.kind == cells.PHONES:
            text += "".join(line.configuration() for line in phones.lines(cell.nat))
        if scene.authority:
            text += TLS.format(authority=scene.authority.certificate)
    return (text + COMMON.format(metrics="%s:%d" % settings.METRICS_LISTEN, state=state,
                                 ports="%d-%d" % ports)).lstrip()


class Siplatch:
    """Standalone runs without any configuration; only its state goes to a folder of its own."""

    def __init__(self, scene, host):
        namespace = self.namespace = scene.world.namespace(host)
        binary = self.binary = scene.binary
        folder = scene.folder
        self.config = folder / "siplatch.toml"
        state = folder / "state"
        state.mkdir()
        if scene.cell.role == "standalone":
            arguments = settings.RUN_WITHOUT_CONFIG
        else:
            self.config.write_text(configuration(scene, state, scene.cell.turn))
            arguments = self._arguments(settings.RUN_ARGUMENTS)
        self.environment = {settings.STATE_DIR_VARIABLE: str(state), "NO_COLOR": "1"}
        self.process = Process(
            namespace, [binary, *arguments], folder / "siplatch.log", cwd=folder, env=self.environment,
        )
        self.process.wait_for(self.healthy, settings.START_DEADLINE_S, "siplatch to be healthy")
        if scene.cell.role == "office" and self._finds_address(scene.cell):
            # A phone that is told to come back in five seconds comes back in thirty.
            self.process.wait_for_line(r"public address listener=1 ", settings.START_DEADLINE_S)
        if scene.cell.turn:
            # A call that comes within half a second of the start may find no allocation ready.
            self.process.wait_for(
                lambda: self.metrics().get(settings.METRIC_TURN_ALLOCATIONS), settings.START_DEADLINE_S, "allocations on the TURN server",
            )
        if scene.cell.nat == networks.IGD:
            # A router takes its time, and a call that comes before is given ports that are not forwarded yet.
            self.process.wait_for(self.is_forwarded, settings.FORWARDS_DEADLINE_S, "the router to forward all ports")

    def is_forwarded(self):
        """Does the router forward all that it was asked for?"""
        return " installed" in (said := self.status()) and " waiting" not in said

    @staticmethod
    def _finds_address(cell):
        """Will it say what its public address is, by STUN or by TURN?"""
        asks = advertised(cell.nat).startswith("stun")
        return asks and (networks.named(cell.nat).udp or cell.turn is not None)

    def _arguments(self, template):
        return [part.format(config=self.config) for part in template]

    def get(self, path):
        """The body of an HTTP answer, or None when it is not 200."""
        line = http.client.HTTPConnection(*settings.METRICS_LISTEN, timeout=2)
        try:
            with netns.inside(self.namespace):
                line.connect()
            line.request("GET", path)
            answer = line.getresponse()
            body = answer.read().decode(errors="replace")
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()

    def healthy(self):
        return self.get(settings.HEALTH_PATH) is not None

    def metrics(self):
        """The sum of all series of each name."""
        body = self.get(settings.METRICS_PATH) or ""
        sums = {}
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)", body, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def ports_taken(self):
        """Port pairs that are not free; None when siplatch does not say.

        Counted from the total, since a range counts once more for each local address that comes into use.
        """
        sums = self.metrics()
        free, total = sums.get(settings.METRIC_PORTS_FREE), sums.get(settings.METRIC_PORTS_TOTAL)
        return None if free is None or total is None else int(total - free)

    def media_dropped(self):
        """Packets that siplatch has refused on its media ports, for whatever reason."""
        return int(self.metrics().get(settings.METRIC_MEDIA_DROPS, 0))

    def status(self):
        """What `siplatch status` prints."""
        done = subprocess.run(
            ["nsenter", f"--net={netns.RUN_DIR / self.namespace}", "--", str(self.binary),
             *self._arguments(settings.STATUS_ARGUMENTS)],
            capture_output=True, text=True, check=False, timeout=10,
        )
        return done.stdout + done.stderr
