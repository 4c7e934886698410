//! One INVITE of a phone behind NAT, from datagram to datagram.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wire::sdp::{self, Body};
use wire::sip::{Contact, Framing, Index, Limits, Message, Name, edit};
use wire::{Edit, Rule};

use crate::{Bench, measured};

pub(crate) const BENCHES: &[Bench] = &[
    Bench { name: "sip_index", make: index },
    Bench { name: "sip_index_views", make: index_views },
    Bench { name: "sip_index_rewrite", make: index_rewrite },
    Bench { name: "sdp_parse", make: sdp_parse },
    Bench { name: "invite_whole", make: invite_whole },
];

/// About 800 octets, with SDP, as a desk phone sends it.
const INVITE: &[u8] = b"INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.20:5060;rport;branch=z9hG4bK-524287-1---8f1b2c3d4e5f\r\n\
    Max-Forwards: 70\r\n\
    Route: <sip:edge.example.com;lr>\r\n\
    From: \"Alice\" <sip:alice@example.com>;tag=a73kszlfl\r\n\
    To: <sip:bob@example.com>\r\n\
    Call-ID: 1j9FpLxk3uxtm8tn@192.168.1.20\r\n\
    CSeq: 1 INVITE\r\n\
    Contact: <sip:alice@192.168.1.20:5060;ob>\r\n\
    Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK\r\n\
    Supported: replaces, 100rel, timer\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    Min-SE: 90\r\n\
    User-Agent: Deskphone/4.2.1\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 226\r\n\
    \r\n\
    v=0\r\n\
    o=- 3899123456 3899123456 IN IP4 192.168.1.20\r\n\
    s=call\r\n\
    c=IN IP4 192.168.1.20\r\n\
    t=0 0\r\n\
    m=audio 40000 RTP/AVP 0 8 101\r\n\
    a=rtcp:40001\r\n\
    a=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=sendrecv\r\n";

/// Where the INVITE came from.
const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 40_000);
/// Octets that leave.
const WRITTEN: usize = 914;
/// What takes the phone's place.
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// Framing, start line, header fields, body.
fn index() -> Box<dyn FnMut()> {
    let mut index = Index::new();
    Box::new(move || measured(|| read(&mut index)))
}

/// The index, then every view that routing asks for.
fn index_views() -> Box<dyn FnMut()> {
    let mut index = Index::new();
    Box::new(move || {
        measured(|| {
            read(&mut index);
            let message = index.view(INVITE);
            let via = message.top_via().map(|v| (v.host.ip(), v.branch(), v.params.find("rport")));
            let ends = (message.from().map(|f| f.tag()), message.to().map(|t| t.tag()));
            let route = message.values(Name::Route).next();
            let contact = message.contacts().next().map(|c| match c {
                Ok(Contact::Addr(addr)) => addr.uri().map(|u| u.host),
                Ok(Contact::Star) | Err(_) => Ok(None),
            });
            let target = wire::sip::Uri::parse(message.request_uri());
            black_box((&via, &ends, route, &contact, &target, &message.cseq(), message.number(Name::MaxForwards)));
        });
    })
}

/// The index, the header edits of one hop, and the message written out.
fn index_rewrite() -> Box<dyn FnMut()> {
    let (mut index, mut edit, mut out) = (Index::new(), Edit::new(), Vec::new());
    Box::new(move || {
        measured(|| {
            read(&mut index);
            let message = index.view(INVITE);
            edit.clear();
            rewrite(message, &mut edit);
            out.clear();
            message.write(&edit, &mut out);
            black_box(&out);
        });
    })
}

/// The body's lines.
fn sdp_parse() -> Box<dyn FnMut()> {
    let mut index = Index::new();
    read(&mut index);
    Box::new(move || {
        let body = black_box(index.view(INVITE).body());
        let read = measured(|| Body::parse(body));
        assert!(read.is_ok_and(|sdp| sdp.media.len() == 1), "the body is well formed");
    })
}

/// The whole way: index, header edits, SDP read and edited, length, and the message written out.
fn invite_whole() -> Box<dyn FnMut()> {
    let (mut index, mut edit, mut out) = (Index::new(), Edit::new(), Vec::new());
    Box::new(move || {
        measured(|| {
            read(&mut index);
            let message = index.view(INVITE);
            edit.clear();
            rewrite(message, &mut edit);
            relay(message, &mut edit);
            edit::content_length(message, &mut edit);
            out.clear();
            message.write(&edit, &mut out);
        });
        assert_eq!(out.len(), WRITTEN, "every edit was made");
        black_box(&out);
    })
}

fn read(index: &mut Index) {
    let read = index.parse(black_box(INVITE), Framing::Datagram, &Limits::default());
    assert!(read.is_ok(), "the message is well formed");
}

/// What one hop changes in the header.
fn rewrite(message: Message<'_>, edit: &mut Edit) {
    edit::received(message, edit, SOURCE);
    let via: &[&[u8]] = &[b"SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK", b"k2h4mzq7"];
    edit::push(message, edit, Rule::Via, Name::Via, via);
    edit::pop(message, edit, Rule::Route, Name::Route, 1);
    edit::set(message, edit, Rule::MaxForwards, Name::MaxForwards, &[b"69"]);
    edit::push(message, edit, Rule::RecordRoute, Name::RecordRoute, &[b"<sip:k2h4mzq7@203.0.113.7;lr>"]);
    edit.replace(message.span(message.request_uri()), Rule::RequestUri, &[b"sip:bob@10.0.0.9:5062"]);
    if let Some(Ok(Contact::Addr(contact))) = message.contacts().next()
        && let Ok(uri) = contact.uri()
    {
        edit.replace(message.span(uri.host_port), Rule::Contact, &[b"203.0.113.7:5060"]);
    }
}

/// What takes media through us.
fn relay(message: Message<'_>, edit: &mut Edit) {
    let whole = message.bytes;
    let Ok(body) = Body::parse(message.body()) else { return };
    if let Some(origin) = &body.origin {
        sdp::edit::origin(whole, edit, origin, OURS);
    }
    if let Some(connection) = &body.connection {
        sdp::edit::connection(whole, edit, connection, OURS);
    }
    for media in &body.media {
        sdp::edit::port(whole, edit, media, 30_100);
        sdp::edit::rtcp(whole, edit, media, SocketAddr::new(OURS, 30_101));
    }
}
