"""The catalogue: which cells there are, what each asks for, and which control belongs to it."""

import dataclasses

from . import nat, networks, settings

CALL, EARLY, HOLD, IDLE, GAP = "call", "early", "hold", "idle", "gap"
ATTACK, REMAP, READDRESS = "attack", "remap", "readdress"
# How long nobody can call the phone after the office has moved, with and without the phone's password.
FOUND, FOUND_BY_PASSWORD = "found", "found-by-password"
VERDICT, LIFETIME, PHONES, ALG = "verdict", "lifetime", "phones", "alg"

# What the provider does with media: nothing; send it back to where it comes from; what Debian's rtpengine does.
PLAIN, LATCHING, RTPENGINE = "plain", "latching", "rtpengine"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One world and the call or calls in it.

    role: border, office, standalone, direct (no siplatch: phones talk to the provider themselves), or doctor (no calls:
        the doctor is asked in siplatch's place)
    nat: type of the office's network, or None where nobody is behind one
    transport: of the phones' signalling, toward siplatch
    outbound: phones keep their flow as RFC 5626 says
    provider: plain, latching or rtpengine (the last with NAT help for phones, too)
    upstream: how the office reaches its provider: udp or tcp (port 5060), 5080 (UDP there), tls (5061) or 443 (TLS there)
    turn: how the office reaches a TURN server: udp, tcp or tls (port 443); None: it has none
    """

    name: str
    role: str
    nat: str | None
    caller: str
    callee: str
    kind: str = CALL
    holder: str | None = None
    quick: bool = False
    transport: str = "udp"
    outbound: bool = False
    provider: str = PLAIN
    upstream: str = "udp"
    turn: str | None = None
    udp_timeout_s: int = settings.UDP_TIMEOUT_S

    @property
    def least_seconds(self):
        """About how long it takes; the longest are started first."""
        if self.kind == IDLE:
            return settings.IDLE_S + 60
        if self.kind == HOLD:
            return settings.HOLD_S + 70
        if self.kind == ATTACK:
            return 150
        if self.kind in (FOUND, FOUND_BY_PASSWORD):
            return settings.REPETITIONS * (45 if self.kind == FOUND else 25) + 60
        if self.kind in (REMAP, READDRESS):
            return settings.REPETITIONS * (8 if self.kind == REMAP else 20) + 60
        if self.kind == LIFETIME:
            return 200 + 6 * self.udp_timeout_s
        if self.kind in (VERDICT, ALG):
            return 30 if self.kind == VERDICT else 60
        if self.kind == PHONES:
            return 140
        return 70 if self.role != "direct" else 20

    @property
    def time_limit_s(self):
        return self.least_seconds + 150

    @property
    def hosts(self):
        if self.kind == PHONES:
            return ["office", "office2", "office3", "public", "public2", "public3"]
        return [self.caller, self.callee]

    @property
    def users(self):
        """The hosts that are phones."""
        return [] if self.role == "doctor" else [host for host in self.hosts if host != "announcer"]

    @property
    def needs_authority(self):
        return self.role == "doctor" or self.upstream not in ("udp", "5080") or self.turn is not None

    @property
    def control(self):
        """The same without siplatch, which must fail; None where there is no NAT to fail at."""
        if self.role not in ("border", "office") or self.kind in (ATTACK, REMAP, READDRESS, FOUND, FOUND_BY_PASSWORD, PHONES):
            return None
        # The ALG of Linux makes a phone's own call work, and so does a provider that sends media back.
        if self.nat in (networks.NONE, networks.FIREWALL, networks.ALG) or self.provider != PLAIN:
            return None
        name = f"control-{self.nat}-{self.caller}-{self.callee}"
        if self.kind != CALL:
            name += f"-{self.kind}" + (f"-by-{self.holder}" if self.holder else "")
        # The provider knows UDP only, and nothing of outbound.
        return dataclasses.replace(
            self, name=name, role="direct", quick=False, transport="udp", outbound=False, upstream="udp", turn=None,
        )


DIRECTIONS = [("office", "public"), ("public", "office"), ("office", "office2"), ("office", "branch"), ("branch", "office")]
QUICK = {
    "border-symmetric-office-public", "border-port-restricted-branch-office",
    "office-port-restricted-public-office", "standalone",
}


def _call(role, nat_type, caller, callee):
    name = f"{role}-{nat_type}-{caller}-{callee}"
    return Cell(name, role, nat_type, caller, callee, quick=name in QUICK)


def catalogue():
    """All cells that `--all` runs, in the order of the table."""
    cells = [Cell("machinery-call", "direct", None, "public", "public2")]
    cells.append(Cell("machinery-gap", "direct", None, "public", "public2", GAP))
    cells.append(Cell("machinery-hold", "direct", None, "public", "public2", HOLD, holder="public"))
    cells.append(Cell("machinery-early", "direct", None, "public", "announcer", EARLY))
    cells.append(Cell("standalone", "standalone", None, "office", "office2", quick=True))
    cells += [_call("border", kind, *pair) for kind in nat.TYPES for pair in DIRECTIONS]
    cells += [_call("office", kind, *pair) for kind in (nat.FULL_CONE, nat.PORT_RESTRICTED) for pair in DIRECTIONS[:3]]
    cells.append(Cell("office-port-restricted-early", "office", nat.PORT_RESTRICTED, "office", "announcer", EARLY))
    for holder in ("office", "public"):
        name = f"border-symmetric-hold-by-{holder}"
        cells.append(Cell(name, "border", nat.SYMMETRIC, "office", "public", HOLD, holder=holder))
    for role, kind in (("border", nat.PORT_RESTRICTED), ("border", nat.SYMMETRIC), ("office", nat.PORT_RESTRICTED)):
        cells.append(Cell(f"{role}-{kind}-idle", role, kind, "public", "office", IDLE))
    cells += nat_practices()
    return cells


def nat_practices():
    """What else RFC 6314 §5.1 draws: connections, and outbound."""
    kind = nat.PORT_RESTRICTED
    return [
        Cell(f"border-{kind}-office-public-tcp", "border", kind, "office", "public", transport="tcp"),
        Cell(f"border-{kind}-public-office-tcp", "border", kind, "public", "office", transport="tcp"),
        Cell(f"border-{nat.SYMMETRIC}-public-office-outbound", "border", nat.SYMMETRIC, "public", "office", outbound=True),
        Cell(
            f"border-{nat.SYMMETRIC}-office-branch-tcp-outbound", "border", nat.SYMMETRIC, "office", "branch",
            transport="tcp", outbound=True,
        ),
    ]


def attacked():
    """The cells of `--attack`: a role behind each NAT, and Debian's rtpengine in its place."""
    made = []
    for role in ("border", "office"):
        for kind in nat.TYPES:
            # The address that STUN finds is of no use here, so a provider must send back to where media comes from.
            provider = LATCHING if (role, kind) == ("office", nat.SYMMETRIC) else PLAIN
            made.append(Cell(f"attack-{role}-{kind}", role, kind, "office", "public", ATTACK, provider=provider))
    made += [
        Cell(f"attack-rtpengine-{kind}", "direct", kind, "office", "public", ATTACK, provider=RTPENGINE) for kind in nat.TYPES
    ]
    return made


def recovered():
    """The cells of `--recover`."""
    hold = next(cell for cell in catalogue() if cell.name == f"border-{nat.SYMMETRIC}-hold-by-office")
    return [
        Cell(f"remap-border-{nat.PORT_RESTRICTED}", "border", nat.PORT_RESTRICTED, "office", "public", REMAP),
        Cell(f"remap-border-{nat.SYMMETRIC}", "border", nat.SYMMETRIC, "office", "public", REMAP),
        Cell("readdress-office-latching", "office", nat.PORT_RESTRICTED, "office", "public", READDRESS, provider=LATCHING),
        Cell("readdress-office-plain", "office", nat.PORT_RESTRICTED, "office", "public", READDRESS),
        Cell("found-office-password", "office", nat.PORT_RESTRICTED, "public", "office", FOUND_BY_PASSWORD),
        Cell("found-office", "office", nat.PORT_RESTRICTED, "public", "office", FOUND),
        hold,
    ]


def controls(cells):
    """The controls of these cells, each once: several cells may share one."""
    return list({cell.control.name: cell.control for cell in cells if cell.control}.values())
