"""What stands between the peers: siplatch in one of its roles, Kamailio in its place, or nothing."""

import json
import os
import pathlib
import time
import urllib.request

from .process import Process
from .transport import UDP

FOLDER = pathlib.Path(__file__).resolve().parent.parent
CORE = "10.0.0.5"
DOMAIN = "example.test"


# One password for all.
CHALLENGE = """if (!pv_www_authenticate("@domain@", "{password}", "0")) {{
            auth_challenge("@domain@", "1");
            exit;
        }}"""


def start_kamailio(folder, address, transport=UDP, password=""):
    """Registrar and record-routing proxy, with no NAT help; asks for credentials where there is a password."""
    folder.mkdir(parents=True)
    config = folder / "kamailio.cfg"
    text = (FOLDER / "kamailio.cfg").read_text()
    for name, value in {
        "challenge": CHALLENGE.format(password=password) if password else "", "domain": DOMAIN,
        # Beside UDP there is TCP, for what is too long.
        "listen": "\n".join(f"listen={name}:{address}:5060" for name in dict.fromkeys((transport.name, "tcp"))),
    }.items():
        text = text.replace(f"@{name}@", value)
    config.write_text(text)
    process = Process(
        ["kamailio", "-DD", "-f", config, "-m", 16, "-M", 4, "-Y", folder, "-w", folder, "-P", folder / "pid"],
        folder / "kamailio.log",
    )
    process.wait_for(transport.name, (address, transport.port))
    return process


class Subject:
    """Where phones send to, and what they must find in messages of others."""

    def __init__(self, host, domain, relay=None):
        self.host, self.domain, self.relay = host, domain, relay
        self.processes = []

    def near(self, transport):
        """Where it listens for phones on this transport."""
        return self.host and (self.host, transport.port)

    def stop(self):
        codes = [process.stop(deadline_s=8) for process in self.processes]
        return codes

    def checks(self):
        """SIPp actions on an SDP body: the address of the relay, a port of its range."""
        address = self.relay.replace(".", "[.]") if self.relay else "[0-9.]+"
        port = "3[0-9][0-9][0-9][0-9]" if self.relay else "[0-9]+"
        return (
            f'<ereg regexp="c=IN IP4 {address}[[:cntrl:]]" search_in="body" check_it="true" assign_to="ignored"/>\n      '
            f'<ereg regexp="m=audio {port} RTP/AVP 0 8 101" search_in="body" check_it="true" assign_to="ignored"/>'
        )


class Direct(Subject):
    """Nothing in between: the scenarios against each other."""

    registers = False

    def __init__(self):
        super().__init__(None, DOMAIN)


class Kamailio(Subject):
    """A proxy of another make in siplatch's place: shows that the scenarios are right."""

    registers = True

    def __init__(self, folder):
        super().__init__(CORE, DOMAIN)
        self.processes.append(start_kamailio(folder / "kamailio", CORE))


class Siplatch(Subject):
    """The binary, with a configuration or none."""

    registers = True

    def __init__(self, folder, binary, host, domain, listens, config=None, core=None):
        super().__init__(host, domain, relay=host)
        folder.mkdir(parents=True, exist_ok=True)
        if core:
            self.processes.append(core)
        state = folder / "state"
        command = [binary, "run"]
        if config:
            path = folder / "siplatch.toml"
            path.write_text(config)
            command += ["--config", path]
        env = {key: value for key, value in os.environ.items() if not key.startswith("SIPLATCH__")}
        env["SIPLATCH__STATE__DIR"] = str(state)
        process = Process(command, folder / "siplatch.log", env=env)
        self.processes.insert(0, process)
        for transport in listens:
            process.wait_for("tcp" if transport.stream else "udp", self.near(transport))
        self.metrics_url = "http://127.0.0.1:9090/metrics"

    def metrics(self):
        """All samples as {name{labels}: value}."""
        with urllib.request.urlopen(self.metrics_url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def wait_for_no_calls(self, deadline_s=10.0):
        """True when every call and every stream has gone."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            try:
                running = {k: v for k, v in self.metrics().items() if k.split("{")[0] in ("siplatch_calls", "siplatch_ports_live")}
            except OSError as error:
                return f"no metrics: {error}"
            if running and not any(running.values()):
                return None
            time.sleep(0.2)
        return f"still there: {json.dumps(running)}"


STANDALONE = "192.168.1.2"
INNER = "10.0.0.2"
OUTER = "203.0.113.30"

REST = """
[media]
ports = "30000-30999"
[metrics]
listen = "127.0.0.1:9090"
"""


def side(name, address, transports, more=""):
    return f"[{name}]\nlisten = [{', '.join(transport.listen(address) for transport in transports)}]\n{more}"


def configuration(plan, certificates, users):
    """What siplatch is told in this setting."""
    core = f"{CORE}:5060" + (plan.core.parameter() if plan.core.stream else "")
    upstream = f'[[upstream]]\nuri = "sip:{core}"\n'
    tls = certificates.section() if any(transport.secure for transport in plan.phones) else ""
    lines = {
        "standalone": lambda: side("inner", STANDALONE, plan.phones) + "".join(
            f'[[user]]\nname = "{name}"\npassword = "{password}"\n' for name, password in users.items()
        ),
        "border": lambda: side("inner", INNER, [UDP]) + side("outer", OUTER, plan.phones) + upstream,
        "office": lambda: side("inner", STANDALONE, plan.phones) + side("outer", INNER, [UDP], 'advertise = "listen"\n') + upstream,
    }[plan.role]()
    default = type(plan).digest
    digest = "" if plan.digest == default else f"digest = {list(plan.digest)}\n"
    # baresip leaves the choice of an address to the kernel, which takes the host's for media: a phone behind a NAT of several.
    pool = '[[network]]\nprefix = "192.168.1.0/24"\nlatch = true\n' if plan.media else ""
    return f'role = "{plan.role}"\n{digest}{lines}{tls}{pool}{REST}'


def start(plan, folder, binary, certificates, users, password):
    """Whatever stands in the middle of this setting."""
    if plan.role == "absent":
        return Direct()
    if plan.role == "kamailio":
        return Kamailio(folder)
    if plan.role == "standalone":
        config = configuration(plan, certificates, users) if plan.challenges else None
        return Siplatch(folder, binary, STANDALONE, STANDALONE, plan.phones, config)
    core = start_kamailio(folder / "core", CORE, plan.core, password if plan.challenges else "")
    host = OUTER if plan.role == "border" else STANDALONE
    return Siplatch(folder, binary, host, DOMAIN, plan.phones, configuration(plan, certificates, users), core)
