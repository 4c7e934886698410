//! What rsip and sipx-sip make of the same messages.
//!
//! An oracle's word counts where the RFC is on its side. Each disagreement is
//! listed with its reason, and the lists are exact: one more or one less
//! fails the test.

use sipx_sip::headers::{CSeq, CallId, ContactValue, From, To, Via};

use crate::table::{Case, RFC4475, RFC5118};
use crate::verdict::verdict;

/// An oracle says otherwise of this message: it accepts what we refuse, or the reverse.
struct Fault {
    name: &'static str,
    it_accepts: bool,
    why: &'static str,
}

const fn accepts(name: &'static str, why: &'static str) -> Fault {
    Fault { name, it_accepts: true, why }
}

const fn refuses(name: &'static str, why: &'static str) -> Fault {
    Fault { name, it_accepts: false, why }
}

const SIPX: &[Fault] = &[refuses("escruri", "checks a rule of §19.1.1 that is the proxy's to check here")];

const RSIP: &[Fault] = &[
    refuses("wsinv", "no white space before a colon, no folds"),
    refuses("intmeth", "no unusual characters in a Request-URI"),
    refuses("esc01", "no folds"),
    refuses("esc02", "only the methods that it knows"),
    refuses("longreq", "no white space before a colon"),
    refuses("semiuri", "no parameters in a user part"),
    refuses("escruri", "no headers in a Request-URI"),
    refuses("unkscm", "only the schemes that it knows"),
    refuses("ipv6-good", "no IPv6 in a Request-URI"),
    refuses("port-ambiguous", "no IPv6 in a Request-URI"),
    refuses("port-unambiguous", "no IPv6 in a Request-URI"),
    refuses("via-received-param-with-delim", "no IPv6 in a Request-URI"),
    refuses("via-received-param-no-delim", "no IPv6 in a Request-URI"),
    refuses("mult-ip-in-sdp", "no IPv6 in a Request-URI"),
    refuses("ipv6-bug-abnf-3-colons", "no IPv6 in a Request-URI"),
    refuses("ipv6-correct-abnf-2-colons", "no IPv6 in a Request-URI"),
    accepts("badinv01", "values are not read until asked for"),
    accepts("clerr", "Content-Length is not used"),
    accepts("ncl", "Content-Length is not used"),
    accepts("mcl01", "Content-Length is not used"),
    accepts("scalarlg", "values are not read until asked for"),
    accepts("quotbal", "values are not read until asked for"),
    accepts("ltgtruri", "brackets become part of the Request-URI"),
    accepts("badaspec", "values are not read until asked for"),
    accepts("baddn", "a header without its empty line is whole to it"),
    accepts("mismatch01", "CSeq is not compared"),
    accepts("insuf", "missing fields are not missed"),
    accepts("multi01", "repeated fields are not noticed"),
];

fn sipx(bytes: &[u8]) -> Result<sipx_sip::Message, String> {
    let limits = sipx_sip::Limits::datagram();
    let message = sipx_sip::parse_datagram(bytes.to_vec().into(), &limits).map_err(|e| e.to_string())?;
    let finding = sipx_sip::validate(&message).into_iter().find(|finding| !finding.is_repairable());
    match finding {
        Some(finding) => Err(format!("{finding:?}")),
        None => Ok(message),
    }
}

fn rsip(bytes: &[u8]) -> Result<rsip::SipMessage, String> {
    rsip::SipMessage::try_from(bytes).map_err(|e| e.to_string())
}

fn all() -> impl Iterator<Item = &'static Case> {
    RFC4475.iter().chain(RFC5118)
}

/// Every disagreement is in the list, and every entry of the list is one.
fn compare<T>(oracle: &str, faults: &[Fault], judge: fn(&[u8]) -> Result<T, String>) {
    let mut news = Vec::new();
    let mut agreed = 0;
    for case in all() {
        let (ours, its) = (verdict(case.bytes), judge(case.bytes));
        let known = faults.iter().find(|f| f.name == case.name);
        if known.map(|f| f.it_accepts) == (ours.is_ok() != its.is_ok()).then_some(its.is_ok()) {
            agreed += usize::from(known.is_none());
        } else {
            let its = its.err().map(|text| text.chars().take(80).collect::<String>());
            news.push(format!("{}: we say {:?}, it says {its:?}", case.name, ours.err()));
        }
    }
    assert!(news.is_empty(), "{oracle}, beyond its known faults:\n{}", news.join("\n"));
    assert!(faults.iter().all(|f| all().any(|c| c.name == f.name) && !f.why.is_empty()), "{oracle}");
    crate::announce(&format!("{oracle}: agrees on {agreed} of {}, {} known faults", all().count(), faults.len()));
}

#[test]
fn sipx_on_accept_and_refuse() {
    compare("sipx-sip", SIPX, sipx);
}

#[test]
fn rsip_on_accept_and_refuse() {
    compare("rsip", RSIP, rsip);
}

#[test]
fn sipx_on_values() {
    for case in all() {
        let (Ok(index), Ok(theirs)) = (verdict(case.bytes), sipx(case.bytes)) else { continue };
        let (ours, headers, name) = (index.view(case.bytes), theirs.headers(), case.name);
        assert_eq!(ours.fields().len(), headers.len(), "{name}");
        for (field, header) in ours.fields().iter().zip(headers.iter()) {
            assert_eq!(ours.slice(field.value), header.raw_value().trim_ascii(), "{name}");
        }
        assert_eq!(ours.body(), &theirs.body()[..], "{name}");
        if let Some(request) = theirs.as_request() {
            assert_eq!(ours.method().as_bytes(), request.method.as_bytes(), "{name}");
            assert_eq!(ours.request_uri(), &request.uri.to_bytes()[..], "{name}");
        }
        let cseq = headers.typed::<CSeq>().expect("validated").expect("validated");
        assert_eq!(ours.cseq().map(|c| c.number), Ok(cseq.sequence), "{name}");
        assert_eq!(headers.typed::<CallId>().map(|id| id.map(|id| id.0)), Some(Ok(ours.call_id().to_vec())), "{name}");
        let from = headers.typed::<From>().expect("validated").expect("validated").0;
        let to = headers.typed::<To>().expect("validated").expect("validated").0;
        for (ours, theirs) in [(ours.from(), from), (ours.to(), to)] {
            let ours = ours.expect("accepted");
            assert_eq!(ours.tag(), theirs.tag(), "{name}");
            assert_eq!(ours.uri, &theirs.uri.to_bytes()[..], "{name}");
        }
        let vias = ours.values(wire::sip::Name::Via).map(|v| wire::sip::Via::parse(v).expect("accepted"));
        let vias: Vec<_> = vias.map(|v| (v.transport, v.port, v.branch())).collect();
        let theirs: Vec<_> = headers.typed_all::<Via>().map(|v| v.expect("validated")).collect();
        let theirs: Vec<_> = theirs.iter().map(|v| (&v.transport[..], v.port, v.branch())).collect();
        assert_eq!(vias, theirs, "{name}");
        let contacts = ours.contacts().count();
        assert_eq!(headers.typed_all::<ContactValue>().count(), contacts, "{name}");
    }
}

#[test]
fn rsip_on_header_fields() {
    for case in all() {
        let (Ok(index), Ok(theirs)) = (verdict(case.bytes), rsip(case.bytes)) else { continue };
        let theirs = match &theirs {
            rsip::SipMessage::Request(request) => &request.headers,
            rsip::SipMessage::Response(response) => &response.headers,
        };
        assert_eq!(index.view(case.bytes).fields().len(), theirs.iter().count(), "{}", case.name);
    }
}
