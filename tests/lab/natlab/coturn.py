"""The public STUN server: coturn, which answers Binding requests and nothing else, on two addresses."""

from . import settings
from .process import Process

PORT = 3478


def start(namespace, addresses, folder):
    command = ["turnserver", "-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp",
               "--listening-port", str(PORT), "--relay-threads", "1", "--log-file", "stdout",
               "--pidfile", folder / "turnserver.pid", "--userdb", folder / "turndb"]
    for address in addresses:
        command += ["--listening-ip", address]
    process = Process(namespace, command, folder / "coturn.log", cwd=folder)
    for address in addresses:
        process.wait_for_udp(address, PORT, settings.START_DEADLINE_S)
    return process
