"""Where it is measured: two namespaces joined by one veth pair, the load in one and the contender in the other.

Phones have addresses of their own in the namespace of the load. The contender has one address. Media of phones lies on
ports from 32768 up, is sent and read below the namespace's UDP, and is dropped there so that nothing answers it.
"""

import contextlib
import os
import subprocess

from natlab import netns

PREFIX = f"peers-{os.getpid()}-"
LOAD, SERVED = PREFIX + "load", PREFIX + "served"
ADDRESS = "10.77.0.1"
LOAD_ADDRESS = "10.77.0.2"
CALLERS, CALLED = "10.77.1.1", "10.77.2.1"
SIP = (ADDRESS, 5060)
# In front of a core: the listener that it speaks to, and where it is.
INNER, CORE = (ADDRESS, 5070), (LOAD_ADDRESS, 5080)
NEAR, FAR = "load0", "served0"
DIRECT = ("direct0", "direct1")
MACS = {NEAR: "02:00:00:00:77:02", FAR: "02:00:00:00:77:01",
        DIRECT[0]: "02:00:00:00:77:03", DIRECT[1]: "02:00:00:00:77:04"}
# Who is at the other end of the wire.
PEER_MACS = {NEAR: MACS[FAR], DIRECT[0]: MACS[DIRECT[1]]}
LOAD_CORE, CONTENDER_CORE = 0, 1
DROP_MEDIA = f"""table netdev media {{
    chain ingress {{
        type filter hook ingress devices = {{ {NEAR}, {DIRECT[1]} }} priority 0
        udp dport >= 32768 drop
    }}
}}"""


@contextlib.contextmanager
def made():
    """The namespaces, until the block ends."""
    netns.remove(abandoned())
    try:
        for name in (LOAD, SERVED):
            netns.add(name)
            netns.ip_batch(name, ["link set lo up"])
        netns.ip_batch(LOAD, [
            f"link add {NEAR} address {MACS[NEAR]} type veth peer name {FAR} address {MACS[FAR]} netns {SERVED}",
            f"link add {DIRECT[0]} address {MACS[DIRECT[0]]} type veth peer name {DIRECT[1]} address {MACS[DIRECT[1]]}",
            f"address add {LOAD_ADDRESS}/16 dev {NEAR}",
            *(f"address add {neighbour(first, k)}/16 dev {NEAR}" for first in (CALLERS, CALLED) for k in range(8)),
            *(f"link set {link} up" for link in (NEAR, *DIRECT)),
        ])
        netns.ip_batch(SERVED, [f"address add {ADDRESS}/16 dev {FAR}", f"link set {FAR} up"])
        # Nobody asks for addresses in the middle of a measurement.
        netns.ip_batch(LOAD, [f"neigh replace {ADDRESS} lladdr {MACS[FAR]} dev {NEAR} nud permanent"])
        netns.ip_batch(SERVED, [
            f"neigh replace {neighbour(first, k)} lladdr {MACS[NEAR]} dev {FAR} nud permanent"
            for first in (CALLERS, CALLED) for k in range(8)
        ])
        for name in (LOAD, SERVED):
            netns.sysctl(name, {"net.ipv6.conf.all.disable_ipv6": 1})
        nft(LOAD, DROP_MEDIA)
        yield
    finally:
        netns.remove([LOAD, SERVED])


def abandoned():
    """Namespaces of runs that were killed."""
    names = [entry.name for entry in netns.RUN_DIR.glob("peers-*-*")] if netns.RUN_DIR.is_dir() else []
    return [name for name in names if not os.path.exists(f"/proc/{name.split('-')[1]}")]


def neighbour(first, k):
    head, last = first.rsplit(".", 1)
    return f"{head}.{int(last) + k}"


def nft(namespace, rules):
    subprocess.run(["nsenter", f"--net={netns.RUN_DIR / namespace}", "nft", "-f", "-"], input=rules, check=True,
                   capture_output=True, text=True)
