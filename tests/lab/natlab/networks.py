"""What stands between the office and the Internet: twelve types of network, and a firewall that translates nothing.

A type is made of the office's own box, perhaps a second box in front of it, and rules that are added to its own.
"""

import dataclasses

from . import nat

ONE_TO_ONE = "one-to-one"
DOUBLE = "double"
CGNAT = "cgnat"
ALG = "alg"
FORWARDED = "forwarded"
UDP_BLOCKED = "udp-blocked"
TCP_443 = "tcp-443"
NONE = "none"
FIREWALL = "firewall"
IGD = "igd"

OFFICE_PREFIX = "192.168.1."
PUBLIC_OFFICE_PREFIX = "198.51.100."

# What a router forwards to siplatch where it is told to.
FORWARDED_SIP_PORT = 5070
FORWARDED_MEDIA_PORTS = (30000, 30999)

# One host inside, one public address; the hosts are those of `world.py`.
ONE_TO_ONE_ADDRESSES = {
    f"192.168.1.{last}": f"203.0.113.{200 + last}" for last in (2, 3, 4, 5, 11, 12, 13)
}

# The carrier's ports: its box never gives the one that the office's box has chosen.
CARRIER_PORTS = "20000-29999"
CARRIER = nat.MASQUERADE % f'meta l4proto udp masquerade to :{CARRIER_PORTS}\n        oifname "wan" masquerade'

STATIC = """
table ip nat {
    chain pre {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan" dnat to ip daddr map { %(inward)s }
    }
    chain post {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" snat to ip saddr map { %(outward)s }
    }
}
"""

FORWARDS = """
table ip forwards {
    chain pre {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan" udp dport { %(sip)d, %(first)d-%(last)d } dnat to %(host)s
    }
}
"""

# The ALG of Linux, as many routers ship it: it writes the public address into SIP and SDP, and opens what they name.
HELPER = """
table ip alg {
    ct helper sip-udp { type "sip" protocol udp; l3proto ip; }
    ct helper sip-tcp { type "sip" protocol tcp; l3proto ip; }
    chain pre {
        type filter hook prerouting priority -150; policy accept;
        udp dport 5060 ct helper set "sip-udp"
        tcp dport 5060 ct helper set "sip-tcp"
    }
}
"""

# What miniupnpd fills. It maps nothing for a box whose own address is reserved, so this one has another.
IGD_ADDRESS = "45.45.45.1"
IGD_RULES = """
table inet igd {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward { type filter hook forward priority -10; policy accept; jump miniupnpd; }
    chain pre { type nat hook prerouting priority dstnat; policy accept; jump prerouting_miniupnpd; }
    chain post { type nat hook postrouting priority 90; policy accept; jump postrouting_miniupnpd; }
}
"""

BLOCK = """
table ip block {
    chain forward {
        type filter hook forward priority -10; policy accept;
        iifname "lan" %s
    }
}
"""


@dataclasses.dataclass(frozen=True)
class Access:
    """The second box: its inner network's gateway, the address that the office's box gets there, its rules."""

    gateway: str
    office: str
    rules: str


@dataclasses.dataclass(frozen=True)
class Network:
    """box: how the office's box maps, None: as `more` says; public: the office's hosts have public addresses;
    address: the office's box is not in the public segment, but has this public address and is routed to
    """

    name: str
    box: str | None = nat.PORT_RESTRICTED
    more: str = ""
    access: Access | None = None
    public: bool = False
    address: str | None = None

    @property
    def udp(self):
        return self.name not in (UDP_BLOCKED, TCP_443)

    def rules(self, timeout_s):
        return (nat.rules(self.box, timeout_s) if self.box else "") + self.more

    @property
    def outside(self):
        """Public addresses that the office's box has besides its own."""
        return list(ONE_TO_ONE_ADDRESSES.values()) if self.name == ONE_TO_ONE else []


def _static():
    def listed(pairs):
        return ", ".join(f"{key} : {value}" for key, value in pairs)
    pairs = ONE_TO_ONE_ADDRESSES.items()
    return nat.FILTER + STATIC % {"outward": listed(pairs), "inward": listed((new, old) for old, new in pairs)}


def _forwards():
    first, last = FORWARDED_MEDIA_PORTS
    return FORWARDS % {"sip": FORWARDED_SIP_PORT, "first": first, "last": last, "host": OFFICE_PREFIX + "2"}


def _second(gateway, office, translation):
    return Access(gateway, office, nat.FILTER + translation)


THE_TWELVE = [
    Network(nat.FULL_CONE, nat.FULL_CONE),
    Network(nat.ADDRESS_RESTRICTED, nat.ADDRESS_RESTRICTED),
    Network(nat.PORT_RESTRICTED),
    Network(nat.SYMMETRIC, nat.SYMMETRIC),
    Network(ONE_TO_ONE, None, _static()),
    Network(DOUBLE, access=_second("192.168.100.1", "192.168.100.2", nat.MASQUERADE % "masquerade")),
    Network(CGNAT, access=_second("100.64.0.1", "100.64.0.2", CARRIER)),
    Network(ALG, more=HELPER),
    Network(FORWARDED, nat.SYMMETRIC, _forwards()),
    Network(UDP_BLOCKED, more=BLOCK % "meta l4proto udp drop"),
    Network(TCP_443, more=BLOCK % "tcp dport != 443 drop\n        iifname \"lan\" meta l4proto != tcp drop"),
    Network(NONE, None, public=True),
]
EVERY = {each.name: each for each in [*THE_TWELVE, Network(FIREWALL, None, nat.FILTER, public=True)]}
# A symmetric NAT whose router forwards what it is asked to; calls only, and only of an office.
ASKED = Network(IGD, nat.SYMMETRIC, IGD_RULES, address=IGD_ADDRESS)


def named(name):
    return ASKED if name == IGD else EVERY.get(name)
