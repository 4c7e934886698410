"""The settings: which role siplatch has, how its phones reach it, how it reaches the core; and the columns of the matrix."""

from dataclasses import dataclass
from typing import Optional, Tuple

from .transport import TCP, TLS, UDP, WS, WSS, Transport


@dataclass(frozen=True)
class Plan:
    """One setting."""

    name: str
    role: str
    # The heading of its column in the matrix.
    column: Optional[str] = None
    # The transports of the phone that calls and of those that are called, and toward the core.
    caller: Transport = UDP
    callee: Transport = UDP
    core: Transport = UDP
    # The registrar asks for credentials: siplatch with accounts, or a core.
    challenges: bool = False
    # What siplatch challenges its accounts with. baresip and JsSIP give up at a challenge that is not MD5.
    digest: Tuple[str, ...] = ("SHA-256", "SHA-512-256", "MD5")
    # What it runs besides the cases of the matrix.
    extras: bool = False

    # The real user agents that make calls here besides SIPp.
    agents: Optional[str] = None
    # What baresip's accounts say of media: encryption, or ICE.
    media: str = ""

    @property
    def phones(self) -> Tuple[Transport, ...]:
        return tuple(dict.fromkeys((self.caller, self.callee)))

    @property
    def accounts(self) -> bool:
        """siplatch itself knows the passwords."""
        return self.challenges and self.role == "standalone"


def uniform(transport):
    """Both phones on one transport, siplatch between them."""
    name = transport.name
    agents = "JsSIP" if transport.websocket else "baresip"
    more = {"challenges": True, "digest": ("MD5",), "agents": agents}
    return Plan(name, "standalone", name.upper(), caller=transport, callee=transport, **more)


PLANS = {plan.name: plan for plan in [
    Plan("open", "standalone", extras=True),
    Plan("users", "standalone", challenges=True, extras=True),
    Plan("border", "border", extras=True),
    Plan("office", "office", extras=True),
    *(uniform(transport) for transport in (UDP, TCP, TLS, WS, WSS)),
    Plan("tls-phone-udp-core", "border", "TLS phone, UDP core", caller=TLS, callee=TLS, challenges=True, agents="baresip"),
    Plan("wss-phone-udp-core", "border", "WSS phone, UDP core", caller=WSS, callee=WSS, challenges=True, agents="JsSIP"),
    Plan("udp-phone-tcp-core", "border", "UDP phone, TCP core", core=TCP, challenges=True, agents="baresip"),
    Plan("tls-to-udp", "standalone", "TLS to UDP phone", caller=TLS, challenges=True, digest=("MD5",), agents="baresip"),
    *(
        Plan(name, "standalone", challenges=True, digest=("MD5",), agents="baresip", media=media)
        for name, media in (("sdes", "mediaenc=srtp-mand"), ("dtls", "mediaenc=dtls_srtp"), ("ice", "medianat=ice"))
    ),
    # The controls.
    Plan("direct", "absent", extras=True),
    Plan("kamailio", "kamailio", extras=True),
]}

SIPLATCH = tuple(name for name, plan in PLANS.items() if plan.role not in ("absent", "kamailio"))
CONTROLS = tuple(name for name in PLANS if name not in SIPLATCH)
ACCOUNTS = tuple(name for name, plan in PLANS.items() if plan.accounts)
