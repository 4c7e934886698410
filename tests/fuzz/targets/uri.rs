//! Addresses: each line is read as a URI, an address, a Via, a parameter list
//! and a CSeq; the first two lines are compared as URIs.

use wire::Malformed;
use wire::sip::{CSeq, Contact, NameAddr, Params, Uri, Via, field::comma_list};

use super::invariants::lies_within;

pub(super) fn run(bytes: &[u8]) {
    let mut uris = Vec::new();
    for line in bytes.split(|b| *b == b'\n').take(8) {
        uris.extend(fits(line, Uri::parse(line)));
        address(line);
        via(line);
        list(line);
        if let Some(cseq) = fits(line, CSeq::parse(line)) {
            lies_within(cseq.digits, line);
            assert!(cseq.number < 1 << 31);
        }
    }
    for uri in &uris {
        pieces(uri);
        assert!(uri.equals(uri), "not the same as itself: {}", uri.raw.escape_ascii());
    }
    if let [one, other, ..] = &uris[..] {
        assert_eq!(one.equals(other), other.equals(one), "the same one way only");
    }
}

/// A fault lies where there is something to read.
fn fits<T>(line: &[u8], read: Result<T, Malformed>) -> Option<T> {
    read.map_err(|fault| assert!(fault.at <= line.len(), "{fault} of {}", line.len())).ok()
}

fn pieces(uri: &Uri<'_>) {
    assert_eq!(Uri::parse(uri.raw).as_ref(), Ok(uri), "not the same when read again");
    for part in [uri.user.unwrap_or_default(), uri.host_port, uri.params.0, uri.headers] {
        lies_within(part, uri.raw);
    }
    if let Some(host) = uri.host {
        lies_within(host.0, uri.host_port);
        assert!(host.same_as(host));
        assert_eq!(host.ip().map(|ip| ip.to_string().parse()), host.ip().map(Ok));
    }
    params(uri.params);
}

fn address(line: &[u8]) {
    let Some(contact) = fits(line, Contact::parse(line)) else { return };
    let Contact::Addr(addr) = contact else { return };
    for part in [addr.raw, addr.display, addr.uri, addr.addr, addr.params.0] {
        lies_within(part, line);
    }
    assert_eq!(NameAddr::parse(addr.raw), Ok(addr), "not the same when read again");
    if let Ok(uri) = addr.uri() {
        pieces(&uri);
    }
    params(addr.params);
}

fn via(line: &[u8]) {
    let Some(via) = fits(line, Via::parse(line)) else { return };
    for part in [via.raw, via.transport, via.host.0, via.sent_by, via.params.0] {
        lies_within(part, line);
    }
    assert_eq!(Via::parse(via.raw), Ok(via), "not the same when read again");
    params(via.params);
}

fn params(list: Params<'_>) {
    let mut end = list.0.as_ptr();
    for param in list.iter() {
        lies_within(param.raw, list.0);
        lies_within(param.name, param.raw);
        lies_within(param.value.unwrap_or_default(), param.raw);
        assert!(end <= param.raw.as_ptr(), "parameters overlap");
        assert!(param.raw.starts_with(b";"));
        end = param.raw.as_ptr_range().end;
    }
}

fn list(line: &[u8]) {
    let mut end = line.as_ptr();
    for item in comma_list(line) {
        lies_within(item, line);
        assert!(item.is_empty() || end <= item.as_ptr(), "items overlap");
        end = end.max(item.as_ptr_range().end);
    }
}
