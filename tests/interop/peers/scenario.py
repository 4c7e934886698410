"""Makes a SIPp scenario out of a file in `scenarios/`: `@name@` gives way to a fragment or a value."""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "scenarios"

VIA = "Via: @via@;branch=z9hG4bK.[pid].{branch};rport"
CONTACT = "Contact: <@own@>"

CALLER = """Max-Forwards: 70
      From: <sip:@me@@@domain@>;tag=[pid]a
      To: <sip:@peer@@@domain@>{tag}
      Call-ID: [call_id]"""

RESPONSE = """[last_Via:]
      [last_Record-Route:]
      [last_From:]
      [last_To:]{tag}
      [last_Call-ID:]
      [last_CSeq:]"""


def send(lines, retransmit=True):
    start = '<send retrans="500">' if retransmit else "<send>"
    return f"{start}<![CDATA[\n\n      {lines}\n\n  ]]></send>"


def sdp(direction, version):
    return "\n      ".join([
        "v=0",
        f"o=@me@ 7001 {version} IN IP4 [local_ip]",
        "s=-",
        "c=IN IP4 [media_ip]",
        "t=0 0",
        "m=audio [media_port] RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        f"a={direction}",
    ])


def invite(body):
    tail = "Content-Type: application/sdp\n      Content-Length: [len]\n\n      @sdp@" if body else "Content-Length: 0"
    return send(f"""INVITE sip:@peer@@@domain@ SIP/2.0
      {VIA.format(branch="1")}
      {CALLER.format(tag="")}
      CSeq: 1 INVITE
      {CONTACT}
      Allow: INVITE, ACK, CANCEL, BYE, OPTIONS
      Supported: 100rel
      X-Untouched:  as , it  is
      {tail}""")


def invited(checks):
    return f"""<recv request="INVITE" rrs="true">
    <action>
      {checks}
      <ereg regexp="as , it  is" search_in="hdr" header="X-Untouched:" check_it="true" assign_to="ignored"/>
      <ereg regexp="[^ ].*" search_in="hdr" header="From:" check_it="true" assign_to="them"/>
      <ereg regexp="[^ ].*" search_in="hdr" header="To:" check_it="true" assign_to="us"/>
      <ereg regexp="[0-9]+" search_in="hdr" header="CSeq:" check_it="true" assign_to="invite_cseq"/>
      <ereg regexp="Via:[^[:cntrl:]]*([[:cntrl:]]+Via:[^[:cntrl:]]*)*" search_in="msg" check_it="true" assign_to="invite_via,last_via"/>
      <ereg regexp="Record-Route:[^[:cntrl:]]*([[:cntrl:]]+Record-Route:[^[:cntrl:]]*)*" search_in="msg" assign_to="invite_routes,last_route"/>
    </action>
  </recv>"""


FRAGMENTS = {
    # Caller.
    "invite": invite(body=True),
    "invite_without_offer": invite(body=False),
    "ringing": '<recv response="100" optional="true"/>\n  <recv response="180" optional="true"/>',
    "ack": send(f"""ACK [next_url] SIP/2.0
      {VIA.format(branch="2")}
      [routes]
      {CALLER.format(tag="[peer_tag_param]")}
      CSeq: 1 ACK
      Content-Length: 0""", retransmit=False),
    "ack_refusal": send(f"""ACK sip:@peer@@@domain@ SIP/2.0
      {VIA.format(branch="1")}
      {CALLER.format(tag="[peer_tag_param]")}
      CSeq: 1 ACK
      Content-Length: 0""", retransmit=False),
    "bye": send(f"""BYE [next_url] SIP/2.0
      {VIA.format(branch="3")}
      [routes]
      {CALLER.format(tag="[peer_tag_param]")}
      CSeq: 2 BYE
      Content-Length: 0""") + '\n  <recv response="200"/>',
    # Callee.
    "ping": '<recv request="OPTIONS" optional="true" next="pong"/>',
    "pong": '<label id="pong"/>\n  @ok_with_tag@',
    "invited": invited("@media@"),
    "invited_without_offer": invited(""),
    "ring": send(f"""SIP/2.0 180 Ringing
      {RESPONSE.format(tag=";tag=[pid]b")}
      {CONTACT}
      Content-Length: 0""", retransmit=False),
    "answer": send(f"""SIP/2.0 200 OK
      {RESPONSE.format(tag=";tag=[pid]b")}
      {CONTACT}
      Content-Type: application/sdp
      Content-Length: [len]

      @sdp@"""),
    "bye_from_callee": send(f"""BYE [next_url] SIP/2.0
      {VIA.format(branch="9")}
      [routes]
      Max-Forwards: 70
      From: [$us];tag=[pid]b
      To: [$them]
      Call-ID: [call_id]
      CSeq: 1 BYE
      Content-Length: 0""") + '\n  <recv response="200"/>',
    # Both.
    "ok": send(f"""SIP/2.0 200 OK
      {RESPONSE.format(tag="")}
      Content-Length: 0""", retransmit=False),
    "ok_with_tag": send(f"""SIP/2.0 200 OK
      {RESPONSE.format(tag=";tag=[pid]b")}
      Content-Length: 0""", retransmit=False),
    "sdp": sdp("sendrecv", 1),
    "sdp_hold": sdp("sendonly", 2),
    "sdp_held": sdp("recvonly", 2),
    "sdp_resume": sdp("sendrecv", 3),
    "finished": '<nop next="end"><action><log message="finished"/></action></nop>',
    "moved": '<label id="moved"/>\n  <nop><action><exec int_cmd="stop_now"/></action></nop>',
}

# What a fragment stores for those scenarios that need it; SIPp refuses a variable that nobody reads.
STORED = ("ignored", "them", "us", "invite_cseq", "invite_via", "last_via", "invite_routes", "last_route")

END = """  <label id="end"/>
  <timewait milliseconds="200"/>
{reference}</scenario>"""

PLACEHOLDER = re.compile(r"@([a-z_]+)@")


def render(name, values):
    """The text of a scenario. An unknown placeholder is an error, not an empty string."""
    text = (FOLDER / f"{name}.xml").read_text()
    table = {**FRAGMENTS, **values}
    before = None
    while text != before:
        before = text
        text = PLACEHOLDER.sub(lambda match: str(table[match.group(1)]), text)
    stored = [word for word in STORED if re.search(f'assign_to="([a-z_]+,)?{word}[",]', text)]
    reference = f'  <Reference variables="{",".join(stored)}"/>\n' if stored else ""
    return text.replace("</scenario>", END.format(reference=reference))
