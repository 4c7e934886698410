"""coturn, as the public STUN server, which answers Binding requests and nothing else, or as a TURN server."""

from . import settings
from .process import Process

PORT = 3478
TLS_PORT = 443
USER, PASSWORD = "siplatch", "lab-secret"
RELAYED_PORTS = (49152, 49999)
URI = {"udp": "turn:{}:3478", "tcp": "turn:{}:3478?transport=tcp", "tls": "turns:{}:443"}


def uri(address, transport):
    """The TURN server at this address, as RFC 7065 writes it."""
    return URI[transport].format(address)


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


def start_turn(namespace, address, folder, proof):
    """Relays for one user, asked over UDP, TCP and, with this certificate and key, TLS."""
    process = Process(namespace, [
        "turnserver", "-n", "--no-cli", "--no-dtls", "--lt-cred-mech", f"--user={USER}:{PASSWORD}", "--realm=" + settings.DOMAIN,
        "--fingerprint", "--relay-threads", "1", "--log-file", "stdout", "--verbose", "--pidfile", folder / "turn.pid",
        "--userdb", folder / "turndb-relay", "--listening-ip", address, "--relay-ip", address,
        "--listening-port", str(PORT), "--tls-listening-port", str(TLS_PORT), "--cert", proof[0], "--pkey", proof[1],
        "--min-port", str(RELAYED_PORTS[0]), "--max-port", str(RELAYED_PORTS[1]),
    ], folder / "turn.log", cwd=folder)
    process.wait_for_udp(address, PORT, settings.START_DEADLINE_S)
    return process
