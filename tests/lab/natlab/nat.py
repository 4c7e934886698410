"""The rules of a NAT box, in plain nftables. Words as in RFC 4787.

full-cone           endpoint-independent mapping, endpoint-independent filtering
address-restricted  endpoint-independent mapping, address-dependent filtering
port-restricted     endpoint-independent mapping, address- and port-dependent filtering
symmetric           address- and port-dependent mapping and filtering

What stands between an office and the Internet, boxes in a row included, is in `networks.py`.
"""

import subprocess

from . import netns

FULL_CONE = "full-cone"
ADDRESS_RESTRICTED = "address-restricted"
PORT_RESTRICTED = "port-restricted"
SYMMETRIC = "symmetric"
TYPES = (FULL_CONE, PORT_RESTRICTED, SYMMETRIC)

# Unsolicited packets from outside are dropped. If they were let in, connection tracking would hold
# an entry for the box's own port, and the next phone that asks for that port would get another one.
FILTER = """
table ip guard {
    chain input {
        type filter hook input priority filter; policy accept;
        iifname "wan" ct state != { established, related } drop
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        iifname "lan" accept
        ct state { established, related } accept
        ct status dnat accept
    }
}
"""

MASQUERADE = """
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" %s
    }
}
"""

# Linux has no full cone of its own. `learn` runs after source NAT, reads the port that was given,
# and keeps it in both directions: `out` gives a source the same port toward everybody, `back` lets
# everybody in. Only packets from inside refresh the two (RFC 4787 REQ-6). `heard` holds who was sent to by each
# port; an address-restricted box lets in nobody else.
CONE = """
table ip nat {
    map out { type ipv4_addr . inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout %(timeout)ds; }
    map back { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout %(timeout)ds; }
    set taken { type inet_service; flags dynamic,timeout; timeout %(timeout)ds; }
    set heard { type inet_service . ipv4_addr; flags dynamic,timeout; timeout %(timeout)ds; }
    chain pre {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan" meta l4proto udp %(from)s dnat ip to udp dport map @back
    }
    chain post {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" meta l4proto udp snat ip to ip saddr . udp sport map @out
        oifname "wan" udp sport @taken masquerade to :20000-59999 random
        oifname "wan" masquerade
    }
    chain learn {
        type filter hook postrouting priority 150; policy accept;
        oifname != "wan" accept
        meta l4proto udp ct direction original update @out { ct original ip saddr . ct original proto-src : ct reply ip daddr . ct reply proto-dst }
        meta l4proto udp ct direction original update @back { ct reply proto-dst : ct original ip saddr . ct original proto-src }
        meta l4proto udp ct direction original update @taken { ct reply proto-dst }
        meta l4proto udp ct direction original update @heard { ct reply proto-dst . ip daddr }
        meta l4proto udp ct direction reply update @heard { ct original proto-dst . ip daddr }
        meta l4proto udp ct direction reply update @out { ct reply ip saddr . ct reply proto-src : ct original ip daddr . ct original proto-dst }
        meta l4proto udp ct direction reply update @back { ct original proto-dst : ct reply ip saddr . ct reply proto-src }
        meta l4proto udp ct direction reply update @taken { ct original proto-dst }
    }
}
"""


def rules(kind, timeout_s, ports=None):
    """`ports`: the range that an endpoint-independent mapping is taken from, instead of the phone's own port."""
    if ports and kind == PORT_RESTRICTED:
        return FILTER + MASQUERADE % f"meta l4proto udp masquerade to :{ports}"
    if kind == FULL_CONE:
        return FILTER + CONE % {"timeout": timeout_s, "from": ""}
    if kind == ADDRESS_RESTRICTED:
        return FILTER + CONE % {"timeout": timeout_s, "from": "udp dport . ip saddr @heard"}
    if kind == PORT_RESTRICTED:
        return FILTER + MASQUERADE % "masquerade"
    if kind == SYMMETRIC:
        return FILTER + MASQUERADE % "masquerade random,fully-random"
    raise ValueError(f"no such NAT type: {kind}")


def load(namespace, ruleset):
    with netns.inside(namespace):
        done = subprocess.run(["nft", "-f", "-"], input=ruleset, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"nft refused the rules in {namespace}: {done.stderr.strip()}")


def install(namespace, ruleset, timeout_s):
    """Makes `namespace` a box that forwards by these rules and forgets silent UDP after `timeout_s`."""
    netns.sysctl(namespace, {
        "net.ipv4.ip_forward": 1,
        "net.ipv4.conf.all.send_redirects": 0,
        "net.netfilter.nf_conntrack_udp_timeout": timeout_s,
        "net.netfilter.nf_conntrack_udp_timeout_stream": timeout_s,
    })
    load(namespace, ruleset)


def forget(namespace):
    """Every mapping is gone, as after a restart of the box."""
    with netns.inside(namespace):
        subprocess.run(["conntrack", "-F"], check=True, capture_output=True)
