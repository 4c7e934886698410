//! What nearly every step asks of a message, read once: top Via, From, To, CSeq,
//! Request-URI and Contact, as ranges. What cannot be read is kept
//! as the fault that it is, for whoever asks.

use super::via::Named;
use super::{CSeq, Host, Message, Method, NameAddr, Params, Scheme, Uri, Via};
use crate::{Malformed, Span};

/// All of them, of one message.
#[derive(Debug, Clone)]
pub(super) struct Essentials {
    via: Result<ViaAt, Malformed>,
    from: Result<AddrAt, Malformed>,
    to: Result<AddrAt, Malformed>,
    cseq: Result<CSeqAt, Malformed>,
    uri: Result<UriAt, Malformed>,
    /// The only one, where it can be read. A REGISTER is about Contacts; who asks for them there reads them all.
    contact: Option<(AddrAt, UriAt)>,
}

#[derive(Debug, Clone, Copy)]
struct ViaAt {
    raw: Span,
    transport: Span,
    host: Span,
    port: Option<u16>,
    sent_by: Span,
    params: Span,
    /// As of [`Named`].
    branch: Option<Span>,
    received: Option<Span>,
    rport: Option<Span>,
    keep: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct AddrAt {
    raw: Span,
    display: Span,
    uri: Span,
    addr: Span,
    params: Span,
    tag: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct CSeqAt {
    number: u32,
    digits: Span,
    name: Span,
    /// The method of that name, if it is no other.
    known: Option<Method<'static>>,
}

#[derive(Debug, Clone, Copy)]
struct UriAt {
    raw: Span,
    scheme: Scheme,
    user: Option<Span>,
    host: Option<Span>,
    port: Option<u16>,
    host_port: Span,
    params: Span,
    headers: Span,
}

impl Essentials {
    /// Of a message that has just been indexed.
    pub(super) fn read(message: Message<'_>) -> Self {
        let at = |part: &[u8]| message.span(part);
        let addr = |read: NameAddr<'_>, tag| {
            let NameAddr { raw, display, uri, addr, params } = read;
            AddrAt { raw: at(raw), display: at(display), uri: at(uri), addr: at(addr), params: at(params.0), tag }
        };
        let tagged = |read: NameAddr<'_>| addr(read, read.tag().map(at));
        let uri = |uri: Uri<'_>| UriAt {
            raw: at(uri.raw),
            scheme: uri.scheme,
            user: uri.user.map(at),
            host: uri.host.map(|host| at(host.0)),
            port: uri.port,
            host_port: at(uri.host_port),
            params: at(uri.params.0),
            headers: at(uri.headers),
        };
        let cseq = message.read_cseq();
        let registers = cseq.is_ok_and(|cseq| cseq.method == Method::Register);
        Self {
            via: message.read_top_via().map(|via| ViaAt {
                raw: at(via.raw),
                transport: at(via.transport),
                host: at(via.host.0),
                port: via.port,
                sent_by: at(via.sent_by),
                params: at(via.params.0),
                branch: via.named.branch.map(at),
                received: via.named.received.map(at),
                rport: via.named.rport.map(at),
                keep: via.named.keep.map(at),
            }),
            from: message.read_from().map(tagged),
            to: message.read_to().map(tagged),
            cseq: cseq.map(|cseq| CSeqAt {
                number: cseq.number,
                digits: at(cseq.digits),
                name: at(cseq.name),
                known: cseq.method.fixed(),
            }),
            uri: Uri::parse(message.request_uri()).map(uri),
            contact: if registers {
                None
            } else {
                message.read_contact().map(|(read, its)| (addr(read, None), uri(its)))
            },
        }
    }

    pub(super) fn via<'a>(&self, bytes: &'a [u8]) -> Result<Via<'a>, Malformed> {
        let at = self.via?;
        let there = |span: Span| span.in_(bytes);
        Ok(Via {
            raw: at.raw.in_(bytes),
            transport: at.transport.in_(bytes),
            host: Host(at.host.in_(bytes)),
            port: at.port,
            sent_by: at.sent_by.in_(bytes),
            params: Params(at.params.in_(bytes)),
            named: Named {
                branch: at.branch.map(there),
                received: at.received.map(there),
                rport: at.rport.map(there),
                keep: at.keep.map(there),
            },
        })
    }

    pub(super) fn branch<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.via.ok().and_then(|at| at.branch).map(|branch| branch.in_(bytes)).unwrap_or_default()
    }

    pub(super) fn has_rport(&self) -> bool {
        self.via.is_ok_and(|at| at.rport.is_some())
    }

    pub(super) fn keep<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.via.ok()?.keep.map(|keep| keep.in_(bytes))
    }

    pub(super) fn from<'a>(&self, bytes: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        self.from.map(|at| at.in_(bytes))
    }

    pub(super) fn to<'a>(&self, bytes: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        self.to.map(|at| at.in_(bytes))
    }

    pub(super) fn tag_in_from<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.from.ok()?.tag.map(|tag| tag.in_(bytes))
    }

    pub(super) fn tag_in_to<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.to.ok()?.tag.map(|tag| tag.in_(bytes))
    }

    pub(super) fn cseq<'a>(&self, bytes: &'a [u8]) -> Result<CSeq<'a>, Malformed> {
        let CSeqAt { number, digits, name, known } = self.cseq?;
        let name = name.in_(bytes);
        Ok(CSeq { number, digits: digits.in_(bytes), method: known.unwrap_or(Method::Other(name)), name })
    }

    /// The method in CSeq, if it is no other.
    pub(super) fn method(&self) -> Option<Method<'static>> {
        self.cseq.ok()?.known
    }

    pub(super) fn uri<'a>(&self, bytes: &'a [u8]) -> Result<Uri<'a>, Malformed> {
        self.uri.map(|at| at.in_(bytes))
    }

    pub(super) fn contact<'a>(&self, bytes: &'a [u8]) -> Option<(NameAddr<'a>, Uri<'a>)> {
        self.contact.map(|(addr, uri)| (addr.in_(bytes), uri.in_(bytes)))
    }
}

impl UriAt {
    fn in_(self, bytes: &[u8]) -> Uri<'_> {
        Uri {
            raw: self.raw.in_(bytes),
            scheme: self.scheme,
            user: self.user.map(|user| user.in_(bytes)),
            host: self.host.map(|host| Host(host.in_(bytes))),
            port: self.port,
            host_port: self.host_port.in_(bytes),
            params: Params(self.params.in_(bytes)),
            headers: self.headers.in_(bytes),
        }
    }
}

impl AddrAt {
    fn in_(self, bytes: &[u8]) -> NameAddr<'_> {
        NameAddr {
            raw: self.raw.in_(bytes),
            display: self.display.in_(bytes),
            uri: self.uri.in_(bytes),
            addr: self.addr.in_(bytes),
            params: Params(self.params.in_(bytes)),
        }
    }
}
