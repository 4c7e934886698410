"""The small Internet of one cell: segments, hosts and the namespaces that they are.

    public 203.0.113.0/24 ─┬─ provider .5          ─┬─ border .30 ── inner 10.0.0.0/24 ── core .5
                           ├─ stun .10 .11, turn .12 ├─ announcer .60
                           ├─ public .50, public2 .51, public3 .52, attacker .66
                           ├─ office-nat .20 ── office 192.168.1.0/24: siplatch .2, office .11, office2 .12, office3 .13
                           └─ branch-nat .21 ── branch 192.168.2.0/24: branch .11

In some networks carrier-nat has the .20, and office-nat an address of the segment behind it, `access`; in some the
office has public addresses, 198.51.100.0/24. Nothing else is routed between the segments but by the NAT boxes. What is
sent into the public segment for a private address vanishes in silence, as on the real Internet.
"""

import contextlib

from . import nat, netns, networks, settings

# host: segment, addresses
HOSTS = {
    "provider": ("public", ["203.0.113.5"]),
    "stun": ("public", ["203.0.113.10", "203.0.113.11"]),
    "turn": ("public", ["203.0.113.12"]),
    "public": ("public", ["203.0.113.50"]),
    "public2": ("public", ["203.0.113.51"]),
    "public3": ("public", ["203.0.113.52"]),
    "announcer": ("public", ["203.0.113.60"]),
    "attacker": ("public", ["203.0.113.66"]),
    "border": ("public", ["203.0.113.30"]),
    "core": ("inner", ["10.0.0.5"]),
    "siplatch": ("office", ["192.168.1.2"]),
    "office": ("office", ["192.168.1.11"]),
    "office2": ("office", ["192.168.1.12"]),
    "office3": ("office", ["192.168.1.13"]),
    "branch": ("branch", ["192.168.2.11"]),
}
BORDER_INNER = "10.0.0.2"

# segment: the host that is its switch, the gateway address there (None: no way out), the switch's name there
SEGMENTS = {
    "public": ("internet", "203.0.113.1", "lan"),
    "inner": ("inner", None, "lan"),
    "office": ("office-nat", "192.168.1.1", "lan"),
    "branch": ("branch-nat", "192.168.2.1", "lan"),
}
WAN = {"office-nat": "203.0.113.20", "branch-nat": "203.0.113.21"}

# A name server is asked in vain at once, not after a time-out; everything else vanishes.
INTERNET_RULES = """
table ip internet {
    chain forward {
        type filter hook forward priority filter; policy drop;
        meta l4proto { tcp, udp } th dport 53 reject
        %s
    }
}
"""
ROUTED = "ip daddr {0} accept; ip saddr {0} accept"


def address(host):
    """Where it is, in all networks but those where the office has public addresses."""
    return HOSTS[host][1][0]


class World:
    """Namespaces are made on demand: a host brings its segment, a segment its switch or NAT box."""

    def __init__(self, label, office_nat=None, branch_nat=nat.PORT_RESTRICTED,
                 udp_timeout_s=settings.UDP_TIMEOUT_S, flat_office=False):
        self.label = label
        self.network = networks.named(office_nat)
        self.nat_types = {"office-nat": office_nat, "branch-nat": branch_nat}
        self.udp_timeout_s = udp_timeout_s
        self.flat_office = flat_office
        self.made = []
        self.ports = {}

    def addresses(self, host):
        """The host's addresses in this world."""
        return [self._in_this_world(each) for each in HOSTS[host][1]]

    def address(self, host):
        return self.addresses(host)[0]

    def _in_this_world(self, each):
        if self.network and self.network.public:
            return each.replace(networks.OFFICE_PREFIX, networks.PUBLIC_OFFICE_PREFIX)
        return each

    def namespace(self, host):
        return f"{self.label}-{host}"

    def _make(self, host):
        name = self.namespace(host)
        netns.add(name)
        self.made.append(name)
        netns.sysctl(name, {
            "net.ipv6.conf.all.disable_ipv6": 1,
            "net.ipv6.conf.default.disable_ipv6": 1,
            "net.bridge.bridge-nf-call-iptables": 0,
        })
        netns.ip_batch(name, ["link set lo up"])
        return name

    def _switch(self, segment):
        host, gateway, bridge = self._segment(segment)
        name = self.namespace(host)
        if name in self.made:
            return name
        self._make(host)
        lines = [f"link add {bridge} type bridge", f"link set {bridge} up"]
        if gateway:
            lines.append(f"addr add {gateway}/24 dev {bridge}")
        netns.ip_batch(name, lines)
        if host == "internet":
            self._route_the_internet(name)
        elif not self.flat_office and host == "office-nat" and self.network:
            self._office_box(name)
        elif not self.flat_office and host == "carrier-nat":
            self._plug(name, "wan", "public", [WAN["office-nat"]], gateway="203.0.113.1")
            nat.install(name, self.network.access.rules, self.udp_timeout_s)
        elif not self.flat_office and host == "branch-nat":
            self._plug(name, "wan", "public", [WAN[host]], gateway="203.0.113.1")
            nat.install(name, nat.rules(self.nat_types[host], self.udp_timeout_s), self.udp_timeout_s)
        return name

    def _segment(self, segment):
        if segment == "access":
            return "carrier-nat", self.network.access.gateway, "lan"
        host, gateway, bridge = SEGMENTS[segment]
        return host, gateway and self._in_this_world(gateway), bridge

    def _route_the_internet(self, name):
        """What the office has of public addresses elsewhere is routed to it."""
        routed = ""
        if self.network and self.network.public:
            netns.ip_batch(name, [f"route add 198.51.100.0/24 via {WAN['office-nat']}"])
            routed = ROUTED.format("198.51.100.0/24")
        elif self.network and self.network.address:
            netns.ip_batch(name, [f"route add {self.network.address} dev lan"])
            routed = ROUTED.format(self.network.address)
        netns.sysctl(name, {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.send_redirects": 0,
                            "net.ipv4.conf.lan.send_redirects": 0})
        nat.load(name, INTERNET_RULES % routed)

    def _office_box(self, name):
        network = self.network
        if network.access:
            self._plug(name, "wan", "access", [network.access.office], gateway=network.access.gateway)
        elif network.address:
            self._plug(name, "wan", "public", [])
            netns.ip_batch(name, [f"addr add {network.address}/32 dev wan", "route add 203.0.113.1 dev wan",
                                  "route add default via 203.0.113.1"])
        else:
            self._plug(name, "wan", "public", [WAN["office-nat"], *network.outside], gateway="203.0.113.1")
        nat.install(name, network.rules(self.udp_timeout_s), self.udp_timeout_s)

    def _plug(self, name, interface, segment, addresses, gateway=None):
        """A cable from `name` to the segment's switch."""
        switch = self._switch(segment)
        port = self.ports[name, interface] = f"port{len(self.ports) + 1}"
        netns.ip_batch(switch, [
            f"link add {port} type veth peer name {interface} netns {name}",
            f"link set {port} master {self._segment(segment)[2]}",
            f"link set {port} up",
        ])
        lines = [f"addr add {each}/24 dev {interface}" for each in addresses]
        lines.append(f"link set {interface} up")
        if gateway:
            lines.append(f"route add default via {gateway}")
        netns.ip_batch(name, lines)

    @contextlib.contextmanager
    def unplugged(self, host):
        """The host's cable is out for the length of the block."""
        segment = HOSTS[host][0]
        switch, port = self.namespace(SEGMENTS[segment][0]), self.ports[self.namespace(host), "eth0"]
        netns.ip_batch(switch, [f"link set {port} nomaster"])
        try:
            yield
        finally:
            netns.ip_batch(switch, [f"link set {port} master {SEGMENTS[segment][2]}"])

    def readdress(self, host, old, new):
        """A NAT box gets another public address, and has forgotten every mapping of the old one."""
        name = self.namespace(host)
        # The new one is there before the old one goes, and takes its place: the box is never without a route.
        netns.sysctl(name, {"net.ipv4.conf.wan.promote_secondaries": 1})
        netns.ip_batch(name, [f"addr add {new}/24 dev wan", f"addr del {old}/24 dev wan"])
        nat.forget(name)

    def add(self, host):
        """Makes the host, if it is not there yet, and returns its namespace."""
        name = self.namespace(host)
        if name in self.made:
            return name
        segment = HOSTS[host][0]
        self._switch(segment)
        self._make(host)
        self._plug(name, "eth0", segment, self.addresses(host), self._segment(segment)[1])
        if host == "border":
            self._plug(name, "inner", "inner", [BORDER_INNER])
        return name

    def also(self, host, addresses):
        """The host has these addresses of its segment besides its own."""
        more = sorted(set(addresses) - set(self.addresses(host)))
        netns.ip_batch(self.namespace(host), [f"addr add {each}/24 dev eth0" for each in more])

    def close(self):
        netns.remove(self.made)
        self.made = []
