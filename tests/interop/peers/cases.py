"""The cases: who registers, who calls whom with which scenario, and what must have been seen."""

from dataclasses import dataclass, field
from typing import Callable, Optional, Tuple

from . import ice, plan, talks


def one_ringing(caller, callees):
    seen = len(caller.received("SIP/2.0 180", "INVITE"))
    return None if seen >= 1 else "the caller saw no 180"


def prompt_100(caller, callees):
    """RFC 3261 §17.2.1: nobody behind us answers, so the 100 is ours."""
    seen = len(caller.received("SIP/2.0 100", "INVITE"))
    return None if seen >= 1 else "the caller saw no 100"


def by_tcp(caller, callees):
    """The core says how it came (RFC 3261 §18.1.1)."""
    seen = [text.splitlines()[0] for text in caller.received("SIP/2.0 200", "MESSAGE")]
    return None if seen == ["SIP/2.0 200 Came by tcp"] else f"the core said {seen}"


def own_uri(caller, callees):
    """What reaches a phone is addressed to the Contact that it registered, parameters included."""
    for callee in callees:
        for text in callee.received("INVITE ", "INVITE"):
            if ";phone=own SIP/2.0" not in text.splitlines()[0]:
                return f"the callee was asked for {text.splitlines()[0]!r}"
    return None


@dataclass
class Case:
    """Somebody registers, somebody calls."""

    name: str
    # The scenario of the caller, and of each of the phones that it calls.
    caller: str = ""
    callees: Tuple[str, ...] = ()
    values: dict = field(default_factory=dict)
    # What differs from `values` in one setting.
    by_setting: dict = field(default_factory=dict)
    checks: Tuple[Callable, ...] = ()
    # In place of scenarios: what small phones hold among themselves.
    talk: Optional[Callable] = None
    # The row of the matrix that it fills.
    row: Optional[str] = None
    # Options of SIPp.
    options: Tuple[str, ...] = ()
    # Whether the caller and the called phones register first.
    caller_registers: bool = True
    callees_register: bool = True
    # In which settings it makes sense; None: in all of them.
    settings: Optional[Tuple[str, ...]] = None
    # Also in settings that only fill the matrix.
    everywhere: bool = False
    deadline_s: int = 25


# As it stands in a scenario, where SIPp takes the indentation off.
LONG = "Wait for me at the gate.\n      " * 60

THROUGH = ("kamailio", *plan.SIPLATCH)

CALLS = [
    Case("call, caller hangs up", "call", ("answer",), row="call", checks=(own_uri, one_ringing)),
    Case("call, callee hangs up", "call-ended", ("answer-and-end",), checks=(own_uri,)),
    Case("cancelled while ringing", "cancel", ("ring",), row="cancel"),
    Case("busy", "refused", ("refuse",), {"status": 486}, row="busy"),
    Case("declined everywhere", "refused", ("refuse",), {"status": 603}),
    Case("early media in a 183", "early-media", ("announce",)),
    Case("offer in the 200, answer in the ACK", "delayed-offer", ("offer-late",), row="delayed offer"),
    Case("hold and resume", "hold", ("answer-hold",), row="hold and resume"),
    Case("200 sent again until the ACK", "late-ack", ("answer-thrice",), row="200 retransmitted", options=("-nr",)),
    Case("reliable 183, PRACK, INFO, UPDATE", "reliable", ("answer-reliable",), row="PRACK", settings=THROUGH),
    Case("UPDATE in both directions", "update", ("answer-update",), row="UPDATE"),
    Case("session refresh", "refresh", ("answer-refresh",), row="session refresh"),
    Case("two contacts ring, one answers", "call-two", ("answer-late", "ring"), row="two contacts ringing", settings=THROUGH),
    Case("forked, both answer", "forked", ("answer-at-once", "answer-at-once"), settings=THROUGH),
    Case("blind transfer", talk=talks.blind, row="blind transfer", settings=THROUGH),
    Case("attended transfer", talk=talks.attended, row="attended transfer", settings=THROUGH),
    Case("the connection is lost before the answer", talk=talks.lost, settings=("tcp",), everywhere=True),
    *(
        Case(name, talk=talk, settings=("users", "border"))
        for name, talk in (
            ("ICE to a phone that latches", ice.to_latching), ("ICE to ICE", ice.to_ice), ("ICE restarts", ice.restarts),
            ("ICE whose default address was changed", ice.mismatched),
        ) if not ice.missing()
    ),
    Case("SUBSCRIBE and NOTIFY", "subscribe", ("notify",), row="SUBSCRIBE/NOTIFY"),
    Case("MESSAGE", "request", ("accept",), {"method": "MESSAGE", "status": 200}, row="MESSAGE"),
    Case("a request too long for UDP takes TCP to the core", "request", (),
         {"method": "MESSAGE", "status": 200, "target": "sip:transport@@domain@", "body": LONG},
         checks=(by_tcp,), settings=("border", "office")),
    Case("unknown method", "request", ("accept",), {"method": "GREETING", "status": 200}),
    Case("OPTIONS to a phone", "request", ("accept-options",), {"method": "OPTIONS", "status": 200}),
    Case("OPTIONS to siplatch", "request", (), {"method": "OPTIONS", "status": 200, "target": "sip:@near@"},
         settings=plan.SIPLATCH),
    # With accounts, the name is known and has no phone.
    Case("nobody there", "refused", (), {"status": 404}, dict.fromkeys(plan.ACCOUNTS, {"status": 480}), settings=THROUGH),
    Case("nobody answers at all", "refused", ("mute",), {"status": 408}, row="no answer", checks=(prompt_100,),
         settings=THROUGH, deadline_s=45),
    Case("a stranger calls through us", "refused", (), {"status": 403, "peer": "victim", "domain": "198.51.100.250"},
         {"users": {"status": 407}}, settings=("users", "border", "office"), caller_registers=False),
]
