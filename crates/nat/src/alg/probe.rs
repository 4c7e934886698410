//! The messages by which rewriting is provoked: what a phone behind a NAT
//! writes, with its own address wherever phones write it.

use wire::sip::compose::{Request, ack};
use wire::sip::{Limits, Message, Method, Stored};

use super::Way;
use super::echo::USER;

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) bytes: Vec<u8>,
    tag: String,
    method: Method<'static>,
}

impl Probe {
    pub(super) fn register(way: Way, random: [u64; 2]) -> Self {
        Self::write(way, random, Method::Register, "Expires: 300\r\n", None)
    }

    pub(super) fn invite(way: Way, random: [u64; 2]) -> Self {
        let ip = way.local.ip();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let sdp = format!(
            "v=0\r\no=- {session} {session} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=rtcp:40001 IN {family} {ip}\r\na=sendrecv\r\n",
            session = random[0] >> 33,
        );
        Self::write(way, random, Method::Invite, "", Some(&sdp))
    }

    fn write(way: Way, random: [u64; 2], method: Method<'static>, more: &str, sdp: Option<&str>) -> Self {
        let (local, server) = (way.local, way.server);
        let transport = if way.reliable { "TCP" } else { "UDP" };
        let parameter = if way.reliable { ";transport=tcp" } else { "" };
        let host = if server.is_ipv4() { server.ip().to_string() } else { format!("[{}]", server.ip()) };
        let tag = format!("{:016x}", random[1]);
        let extra = format!(
            "Contact: <sip:{USER}@{local}{parameter}>\r\n{more}User-Agent: siplatch\r\nSupported: path, outbound\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY, SUBSCRIBE, MESSAGE, PUBLISH, \
             REGISTER\r\nAccept: application/sdp, application/dtmf-relay, application/simple-message-summary\r\n"
        );
        let mut bytes = Vec::with_capacity(1024);
        Request {
            method,
            uri: format!("sip:{USER}@{server}{parameter}").as_bytes(),
            via: format!("SIP/2.0/{transport} {local};rport;branch=z9hG4bK{:016x}", random[0]).as_bytes(),
            route: &[],
            from: format!("<sip:{USER}@{local}>;tag={tag}").as_bytes(),
            to: format!("<sip:{USER}@{host}>").as_bytes(),
            call_id: format!("{:08x}@{}", random[0] as u32, local.ip()).as_bytes(),
            cseq: 1,
            extra: extra.as_bytes(),
            body: sdp.map(|sdp| ("application/sdp", sdp.as_bytes())),
        }
        .write(&mut bytes);
        Self { bytes, tag, method }
    }

    /// A final response to it. By its tag alone: whatever else may have been rewritten.
    pub(super) fn is_answered_by(&self, message: Message<'_>) -> bool {
        let tagged = message.from().is_ok_and(|from| from.tag() == Some(self.tag.as_bytes()));
        tagged && message.method() == self.method && message.status().is_some_and(|status| !status.is_provisional())
    }

    /// The acknowledgement of a failed INVITE.
    pub(super) fn ack(&self, answer: Message<'_>) -> Option<Vec<u8>> {
        let failed = answer.status().is_some_and(|status| status.0 >= 300);
        let invite = Stored::parse(self.bytes.clone(), &Limits::default()).ok()?;
        (self.method == Method::Invite && failed).then(|| ack(invite.message(), answer))
    }

    pub(super) fn is_last(&self) -> bool {
        self.method == Method::Invite
    }
}
