"""The provider: Kamailio as registrar and proxy, as the SIP documents describe them, with no NAT help.

Three parts can be switched on: RELAY leads media through rtpengine; NAT_HELP takes phones to be where they send from;
STREAMS is TCP and TLS, and answers and calls who came by a connection through that connection.
"""

from . import rtpengine, settings
from .process import Process

CONFIG = """
debug=2
log_stderror=yes
fork=yes
children=2
#!ifdef STREAMS
enable_tls=yes
tcp_accept_aliases=yes
#!else
disable_tcp=yes
#!endif
auto_aliases=no
dns=no
rev_dns=no
use_dns_cache=no
server_signature=no
alias="{domain}"
listen=udp:{address}:5060
listen=udp:{address}:5080
#!ifdef STREAMS
listen=tcp:{address}:5060
listen=tls:{address}:5061
listen=tls:{address}:443
#!endif

loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"

#!ifdef RELAY
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:{rtpengine}")
#!endif
#!ifdef NAT_HELP
loadmodule "nathelper.so"
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
#!endif
#!ifdef STREAMS
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{certificate}")
modparam("tls", "private_key", "{key}")
loadmodule "nathelper.so"
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
#!endif

modparam("rr", "append_fromtag", 1)
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 1)
modparam("registrar", "max_expires", 3600)
modparam("registrar", "append_branches", 1)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    xlog("L_NOTICE", "$rm $ru from $si:$sp contact $ct\\n");
#!ifdef STREAMS
    if (proto != UDP) {{
        force_rport();
        force_tcp_alias();
        if (is_method("REGISTER")) fix_nated_register();
        else if (is_method("INVITE|SUBSCRIBE")) add_contact_alias();
    }}
#!endif
#!ifdef NAT_HELP
    force_rport();
    if (is_method("REGISTER")) {{
        fix_nated_register();
    }} else {{
        fix_nated_contact();
    }}
#!endif
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{
#!ifdef STREAMS
            if ($du == $null) handle_ruri_alias();
#!endif
#!ifdef RELAY
            if (is_method("INVITE|ACK|BYE")) rtpengine_manage("{flags}");
#!endif
            t_relay();
            exit;
        }}
        if (is_method("ACK")) {{
            if (t_check_trans()) t_relay();
            exit;
        }}
        if (uri == myself) {{
            sl_send_reply("404", "Not Here");
            exit;
        }}
        t_relay();
        exit;
    }}
    if (is_method("REGISTER")) {{
        if (!save("location")) sl_reply_error();
        exit;
    }}
    if (is_method("INVITE|SUBSCRIBE|REFER")) record_route();
    if ($rU == "announcer") {{
        $du = "sip:{announcer}:5060";
        t_relay();
        exit;
    }}
    if (is_method("OPTIONS") && uri == myself && $rU == $null) {{
        sl_send_reply("200", "Keepalive");
        exit;
    }}
    if (uri == myself) {{
        if (!lookup("location")) {{
            t_newtran();
            t_reply("404", "Not Found");
            exit;
        }}
    }}
#!ifdef RELAY
    if (is_method("INVITE")) rtpengine_manage("{flags}");
#!endif
    t_relay();
}}

onreply_route {{
    xlog("L_NOTICE", "reply $rs to $rm from $si:$sp contact $ct\\n");
#!ifdef NAT_HELP
    fix_nated_contact();
#!endif
#!ifdef STREAMS
    if (proto != UDP && is_method("INVITE|SUBSCRIBE")) add_contact_alias();
#!endif
#!ifdef RELAY
    if (is_method("INVITE") && has_body("application/sdp")) rtpengine_manage("{flags}");
#!endif
}}
"""


def start(namespace, address, folder, announcer, parts=(), flags="", proof=(None, None)):
    """`parts`: what is switched on; `flags`: what rtpengine is told of every call; `proof`: certificate and key."""
    config = folder / "kamailio.cfg"
    config.write_text(CONFIG.format(
        domain=settings.DOMAIN, address=address, announcer=announcer, rtpengine="%s:%d" % rtpengine.CONTROL, flags=flags,
        certificate=proof[0], key=proof[1],
    ))
    process = Process(
        namespace,
        ["kamailio", "-DD", "-f", config, "-m", "16", "-M", "4", "-Y", folder, "-w", folder,
         "-P", folder / "kamailio.pid", *(word for part in parts for word in ("-A", part))],
        folder / "kamailio.log",
    )
    process.wait_for_udp(address, 5060, settings.START_DEADLINE_S)
    return process
