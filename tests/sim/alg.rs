//! A meddling router: an application-level gateway of the usual half-witted
//! kind (RFC 4787 §7). It replaces the phone's own signalling address by the
//! outer one wherever it finds it in a SIP message, and the phone's IP in SDP
//! by the outer IP, without opening a port for it. Toward the inside it turns
//! signalling addresses back.

use std::net::SocketAddr;

use crate::sip::Msg;

/// What becomes of a datagram that passes outward.
pub(crate) fn outward(bytes: &[u8], inner: SocketAddr, outer: SocketAddr) -> Option<Vec<u8>> {
    let mut msg = Msg::parse(bytes)?;
    swap(&mut msg, inner, outer);
    let ip = (inner.ip().to_string(), outer.ip().to_string());
    msg.body = msg.body.replace(&ip.0, &ip.1);
    Some(msg.bytes())
}

/// What becomes of a datagram that passes inward.
pub(crate) fn inward(bytes: &[u8], inner: SocketAddr, outer: SocketAddr) -> Option<Vec<u8>> {
    let mut msg = Msg::parse(bytes)?;
    swap(&mut msg, outer, inner);
    Some(msg.bytes())
}

fn swap(msg: &mut Msg, from: SocketAddr, to: SocketAddr) {
    let (from, to) = (from.to_string(), to.to_string());
    msg.start = msg.start.replace(&from, &to);
    for (name, value) in &mut msg.fields {
        // Call-ID has an address in it by habit only.
        if !crate::sip::same_name(name, "call-id") {
            *value = value.replace(&from, &to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_to_a_contact_it_undoes() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("a literal address");
        let (inner, outer) = (at("192.168.1.10:5060"), at("203.0.113.9:40000"));
        let msg = Msg::request("OPTIONS", "sip:b@provider.example").with("Contact", "<sip:a@192.168.1.10:5060>");
        let out = outward(&msg.bytes(), inner, outer).expect("SIP");
        let seen = Msg::parse(&out).expect("SIP");
        assert_eq!(seen.get("contact"), Some("<sip:a@203.0.113.9:40000>"));
        assert_eq!(inward(&out, inner, outer), Some(msg.bytes()));
        assert_eq!(outward(b"\x80 not SIP", inner, outer), None);
    }
}
