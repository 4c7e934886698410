"""What stands between the peers: siplatch in one of its roles, Kamailio in its place, or nothing."""

import json
import os
import pathlib
import time
import urllib.request

from .process import Process, Trouble

FOLDER = pathlib.Path(__file__).resolve().parent.parent
CORE = "10.0.0.5"
DOMAIN = "example.test"


def start_kamailio(folder, address):
    """Registrar and record-routing proxy, with no NAT help."""
    folder.mkdir(parents=True)
    config = folder / "kamailio.cfg"
    text = (FOLDER / "kamailio.cfg").read_text()
    config.write_text(text.replace("@address@", address).replace("@domain@", DOMAIN))
    process = Process(
        ["kamailio", "-DD", "-f", config, "-m", 16, "-M", 4, "-Y", folder, "-w", folder, "-P", folder / "pid"],
        folder / "kamailio.log",
    )
    process.wait_for_udp((address, 5060))
    return process


class Subject:
    """Where phones send to (`near`), and what they must find in messages of others."""

    def __init__(self, near, domain, relay=None):
        self.near, self.domain, self.relay = near, domain, relay
        self.processes = []

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

    def __init__(self, folder):
        super().__init__(None, DOMAIN)


class Kamailio(Subject):
    """A proxy of another make in siplatch's place: shows that the scenarios are right."""

    registers = True

    def __init__(self, folder):
        super().__init__((CORE, 5060), DOMAIN)
        self.processes.append(start_kamailio(folder / "kamailio", CORE))


class Siplatch(Subject):
    """The binary, with a configuration or none."""

    registers = True

    def __init__(self, folder, binary, near, domain, config=None, core=False):
        super().__init__((near, 5060), domain, relay=near)
        folder.mkdir(parents=True)
        if core:
            self.processes.append(start_kamailio(folder / "core", CORE))
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
        process.wait_for_udp(self.near)
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

USERS = """
role = "standalone"
[inner]
listen = ["udp:192.168.1.2:5060"]
[media]
ports = "30000-30999"
[metrics]
listen = "127.0.0.1:9090"
"""

BORDER = """
role = "border"
[inner]
listen = ["udp:10.0.0.2:5060"]
[outer]
listen = ["udp:203.0.113.30:5060"]
[[upstream]]
uri = "sip:10.0.0.5:5060"
[media]
ports = "30000-30999"
[metrics]
listen = "127.0.0.1:9090"
"""

OFFICE = """
role = "office"
[inner]
listen = ["udp:192.168.1.2:5060"]
[outer]
listen = ["udp:10.0.0.2:5060"]
advertise = "listen"
[[upstream]]
uri = "sip:10.0.0.5:5060"
[media]
ports = "30000-30999"
[metrics]
listen = "127.0.0.1:9090"
"""


def standalone_open(folder, binary):
    return Siplatch(folder, binary, STANDALONE, STANDALONE)


def standalone_users(folder, binary, users):
    accounts = "".join(f'[[user]]\nname = "{name}"\npassword = "{password}"\n' for name, password in users.items())
    return Siplatch(folder, binary, STANDALONE, STANDALONE, config=USERS + accounts)


def border(folder, binary):
    return Siplatch(folder, binary, OUTER, DOMAIN, config=BORDER, core=True)


def office(folder, binary):
    return Siplatch(folder, binary, STANDALONE, DOMAIN, config=OFFICE, core=True)


__all__ = ["Direct", "Kamailio", "Siplatch", "Trouble", "border", "office", "standalone_open", "standalone_users"]
