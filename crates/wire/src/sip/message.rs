//! The index over one SIP message, and views through it.

use super::essentials::Essentials;
use super::{CSeq, Contact, Field, Framing, Method, Name, NameAddr, Status, Uri, Via, field::comma_list, lex};
use crate::{Edit, Malformed, Span};

/// Limits that are checked before work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in octets.
    pub message_bytes: usize,
    /// Most header fields.
    pub header_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 65_536, header_fields: 256 }
    }
}

/// First line of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// `Method SP Request-URI SP SIP/2.0`
    Request {
        /// Method token.
        method: Span,
        /// Request-URI.
        uri: Span,
    },
    /// `SIP/2.0 SP code SP reason`
    Response {
        /// Status code.
        status: Status,
        /// Reason phrase, may be empty.
        reason: Span,
    },
}

impl Start {
    /// As it is in a message that lacks the first `by` octets.
    fn moved(self, by: u32) -> Self {
        let moved = |span: Span| Span { start: span.start - by, end: span.end - by };
        match self {
            Self::Request { method, uri } => Self::Request { method: moved(method), uri: moved(uri) },
            Self::Response { status, reason } => Self::Response { status, reason: moved(reason) },
        }
    }
}

/// Ranges of one message. Holds no lifetime, so it can be kept and reused:
/// parsing into it again allocates nothing once it has grown.
#[derive(Debug, Clone, Default)]
pub struct Index {
    pub(super) start: Option<Start>,
    pub(super) fields: Vec<Field>,
    /// Names that are there, and those that are there more than once: one bit each.
    pub(super) present: u64,
    pub(super) repeated: u64,
    /// Where the first of each name that is there stands among the fields, or a field before it.
    pub(super) places: Places,
    /// Offset of the start line.
    pub(super) first: u32,
    /// Offset of the first header field.
    pub(super) head: u32,
    /// Offset of the empty line that ends the header.
    pub(super) head_end: u32,
    pub(super) body: Span,
    /// Of a request, or of a response's CSeq, where it was read and is none of the others.
    pub(super) method: Option<Method<'static>>,
    /// A line of the header ends with LF alone.
    pub(super) lone_lf: bool,
    /// Of this message only where they are `known`.
    pub(super) essentials: Option<Box<Essentials>>,
    pub(super) known: bool,
}

/// A place for each name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places([u8; Name::Other as usize + 1]);

impl Default for Places {
    fn default() -> Self {
        Self([0; Name::Other as usize + 1])
    }
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn push(&mut self, field: Field) {
        let bit = field.name.bit();
        self.repeated |= self.present & bit;
        if self.present & bit == 0 {
            self.present |= bit;
            self.places.0[field.name as usize] = u8::try_from(self.fields.len()).unwrap_or(u8::MAX);
        }
        self.fields.push(field);
    }

    fn essentials(&self) -> Option<&Essentials> {
        self.essentials.as_deref().filter(|_| self.known)
    }

    /// From the first field of that name to where no more of them can follow.
    fn of(&self, name: Name) -> &[Field] {
        if self.present & name.bit() == 0 {
            return &[];
        }
        let mut rest = self.fields.get(usize::from(self.places.0[name as usize])..).unwrap_or_default();
        while let [other, behind @ ..] = rest
            && other.name != name
        {
            rest = behind;
        }
        if self.repeated & name.bit() == 0 { rest.get(..1).unwrap_or(rest) } else { rest }
    }

    /// A view that joins the index with the bytes that it was made from.
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Message<'a> {
        Message { bytes, index: self }
    }
}

/// A message: its bytes, and the index over them.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// As received.
    pub bytes: &'a [u8],
    /// Over `bytes`.
    pub index: &'a Index,
}

impl<'a> Message<'a> {
    /// First line; `None` only on the remains of a malformed message.
    pub fn start(self) -> Option<Start> {
        self.index.start
    }
    /// The method of a request, or of a response's CSeq.
    pub fn method(self) -> Method<'a> {
        if let Some(known) = self.index.method {
            return known;
        }
        match self.index.start {
            Some(Start::Request { method, .. }) => Method::of(self.slice(method)),
            Some(Start::Response { .. }) | None => self.cseq().map_or(Method::Other(&[]), |cseq| cseq.method),
        }
    }
    /// True for a request.
    pub fn is_request(self) -> bool {
        matches!(self.index.start, Some(Start::Request { .. }))
    }
    /// Status of a response.
    pub fn status(self) -> Option<Status> {
        match self.index.start {
            Some(Start::Response { status, .. }) => Some(status),
            Some(Start::Request { .. }) | None => None,
        }
    }
    /// Request-URI as written; empty for a response.
    pub fn request_uri(self) -> &'a [u8] {
        match self.index.start {
            Some(Start::Request { uri, .. }) => self.slice(uri),
            Some(Start::Response { .. }) | None => &[],
        }
    }
    /// All header fields in order.
    pub fn fields(self) -> &'a [Field] {
        &self.index.fields
    }
    /// The octets of a span.
    pub fn slice(self, span: Span) -> &'a [u8] {
        span.in_(self.bytes)
    }
    /// Where a sub-slice lies.
    pub fn span(self, part: &[u8]) -> Span {
        Span::of(part, self.bytes)
    }
    /// True when there are several fields of that name.
    pub fn repeats(self, name: Name) -> bool {
        self.index.repeated & name.bit() != 0
    }
    /// First field of that name.
    pub fn field(self, name: Name) -> Option<Field> {
        self.index.of(name).first().copied()
    }
    /// All fields of that name, in order.
    pub fn fields_of(self, name: Name) -> impl Iterator<Item = Field> + 'a {
        self.index.of(name).iter().filter(move |f| f.name == name).copied()
    }
    /// Value of the first field of that name.
    pub fn value(self, name: Name) -> Option<&'a [u8]> {
        self.field(name).map(|f| self.slice(f.value))
    }
    /// All comma-separated values over all fields of that name, in order.
    /// Not for fields whose grammar has bare commas (WWW-Authenticate, Date).
    pub fn values(self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        self.fields_of(name).flat_map(move |field| comma_list(self.slice(field.value)))
    }
    /// True if a comma-list field holds this token, any case (Supported, Require).
    pub fn lists(self, name: Name, token: &str) -> bool {
        self.values(name).any(|v| v.eq_ignore_ascii_case(token.as_bytes()))
    }
    /// Topmost Via.
    pub fn top_via(self) -> Result<Via<'a>, Malformed> {
        match self.index.essentials() {
            Some(known) => known.via(self.bytes),
            None => self.read_top_via(),
        }
    }
    /// The branch of the topmost Via, empty where there is none.
    pub fn branch(self) -> &'a [u8] {
        match self.index.essentials() {
            Some(known) => known.branch(self.bytes),
            None => self.read_top_via().ok().and_then(|via| via.branch()).unwrap_or_default(),
        }
    }
    /// True when the topmost Via has an `rport`.
    pub fn has_rport(self) -> bool {
        match self.index.essentials() {
            Some(known) => known.has_rport(),
            None => self.read_top_via().is_ok_and(|via| via.has_rport()),
        }
    }
    /// The first `keep` of the topmost Via, from its semicolon on.
    pub(super) fn keep(self) -> Option<&'a [u8]> {
        match self.index.essentials() {
            Some(known) => known.keep(self.bytes),
            None => self.read_top_via().ok()?.keep(),
        }
    }
    pub(super) fn read_top_via(self) -> Result<Via<'a>, Malformed> {
        let field = self.field(Name::Via).ok_or(Malformed { at: 0, what: "Via missing" })?;
        let value = comma_list(self.slice(field.value)).next().unwrap_or_default();
        Via::parse(value).map_err(|e| self.place(e, value, field))
    }
    /// From.
    pub fn from(self) -> Result<NameAddr<'a>, Malformed> {
        match self.index.essentials() {
            Some(known) => known.from(self.bytes),
            None => self.read_from(),
        }
    }
    pub(super) fn read_from(self) -> Result<NameAddr<'a>, Malformed> {
        self.read(Name::From, "From missing", NameAddr::parse)
    }
    /// The tag in From, if both can be read.
    pub fn tag_in_from(self) -> Option<&'a [u8]> {
        match self.index.essentials() {
            Some(known) => known.tag_in_from(self.bytes),
            None => self.read_from().ok()?.tag(),
        }
    }
    /// To.
    pub fn to(self) -> Result<NameAddr<'a>, Malformed> {
        match self.index.essentials() {
            Some(known) => known.to(self.bytes),
            None => self.read_to(),
        }
    }
    pub(super) fn read_to(self) -> Result<NameAddr<'a>, Malformed> {
        self.read(Name::To, "To missing", NameAddr::parse)
    }
    /// The tag in To, if both can be read.
    pub fn tag_in_to(self) -> Option<&'a [u8]> {
        match self.index.essentials() {
            Some(known) => known.tag_in_to(self.bytes),
            None => self.read_to().ok()?.tag(),
        }
    }
    /// The Request-URI, read; an error on a response, too.
    pub fn uri(self) -> Result<Uri<'a>, Malformed> {
        match self.index.essentials() {
            Some(known) => known.uri(self.bytes),
            None => Uri::parse(self.request_uri()),
        }
    }
    /// Call-ID; empty if missing.
    pub fn call_id(self) -> &'a [u8] {
        self.value(Name::CallId).unwrap_or_default()
    }
    /// CSeq.
    pub fn cseq(self) -> Result<CSeq<'a>, Malformed> {
        match self.index.essentials() {
            Some(known) => known.cseq(self.bytes),
            None => self.read_cseq(),
        }
    }
    pub(super) fn read_cseq(self) -> Result<CSeq<'a>, Malformed> {
        self.read(Name::CSeq, "CSeq missing", CSeq::parse)
    }
    /// The Contact and its URI, of a message that has no other and both can be
    /// read; of any other, and of a REGISTER, look at [all](Self::contacts).
    pub fn contact(self) -> Option<(NameAddr<'a>, Uri<'a>)> {
        match self.index.essentials() {
            Some(known) => known.contact(self.bytes),
            None => self.read_contact(),
        }
    }
    pub(super) fn read_contact(self) -> Option<(NameAddr<'a>, Uri<'a>)> {
        let value = self.value(Name::Contact).filter(|_| !self.repeats(Name::Contact))?;
        if lex::item_end(value) < value.len() {
            return None;
        }
        let addr = NameAddr::parse(value).ok()?;
        Some((addr, addr.uri().ok()?))
    }
    /// Contacts in order; a malformed one ends the iteration with its error.
    pub fn contacts(self) -> impl Iterator<Item = Result<Contact<'a>, Malformed>> {
        let fields = self.fields_of(Name::Contact);
        let values = fields.flat_map(move |f| comma_list(self.slice(f.value)).map(move |value| (f, value)));
        let mut failed = false;
        values.map_while(move |(field, value)| {
            let contact = Contact::parse(value).map_err(|e| self.place(e, value, field));
            (!std::mem::replace(&mut failed, contact.is_err())).then_some(contact)
        })
    }
    /// A decimal field value (Max-Forwards, Expires, Min-Expires, …): `None` if
    /// missing, an error if not a number; saturates at `u32::MAX`.
    pub fn number(self, name: Name) -> Option<Result<u32, Malformed>> {
        self.field(name).map(|field| match lex::decimal(self.slice(field.value)) {
            Some(number) => Ok(number.try_into().unwrap_or(u32::MAX)),
            None => Err(Malformed { at: field.value.start as usize, what: "not a number" }),
        })
    }
    /// The body, as Content-Length cuts it.
    pub fn body(self) -> &'a [u8] {
        self.slice(self.index.body)
    }
    /// Where the body lies.
    pub fn body_span(self) -> Span {
        self.index.body
    }
    /// Offset of the first header field's line: where new fields go on top.
    pub fn head(self) -> u32 {
        self.index.head
    }
    /// Offset of the empty line that ends the header: where new fields go last.
    pub fn head_end(self) -> u32 {
        self.index.head_end
    }
    /// One past the body: what the datagram carried beyond it is not ours to send.
    pub fn end(self) -> u32 {
        self.index.body.end
    }
    /// A copy that outlives the receive buffer, without a second parse.
    pub fn store(self) -> Stored {
        Stored { bytes: self.bytes.to_vec(), index: self.index.clone() }
    }
    /// The message with `edit` applied, cut at [`Message::end`], leading CRLFs dropped.
    pub fn edited(self, edit: &Edit) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(edit, &mut out);
        out
    }
    /// As [`Message::edited`], appended to `out`.
    pub fn write(self, edit: &Edit, out: &mut Vec<u8>) {
        edit.apply_within(self.bytes, Span { start: self.index.first, end: self.end() }, out);
    }

    fn read<T>(
        self,
        name: Name,
        missing: &'static str,
        parse: fn(&'a [u8]) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let field = self.field(name).ok_or(Malformed { at: 0, what: missing })?;
        let value = self.slice(field.value);
        parse(value).map_err(|e| self.place(e, value, field))
    }

    /// Moves an error's place from within `value` to within the message.
    fn place(self, error: Malformed, value: &[u8], field: Field) -> Malformed {
        let start = if value.is_empty() { field.value.start } else { self.span(value).start };
        Malformed { at: start as usize + error.at, what: error.what }
    }
}

/// What [`Stored::keep_essence`] keeps besides the top Via.
const ESSENCE: [Name; 5] = [Name::From, Name::To, Name::CallId, Name::CSeq, Name::Route];
/// What [`Stored::head`] keeps besides the top Via.
const HEAD: [Name; 11] = [
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::Route,
    Name::RecordRoute,
    Name::Supported,
    Name::Require,
    Name::SessionExpires,
    Name::MinSe,
    Name::SessionId,
];

/// A message that is kept: by a transaction, a parked request, a CANCEL.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    bytes: Vec<u8>,
    index: Index,
}

impl Stored {
    /// Indexes bytes that we composed or edited ourselves.
    pub fn parse(bytes: Vec<u8>, limits: &Limits) -> Result<Self, Malformed> {
        let mut index = Index::new();
        index.parse(&bytes, Framing::Datagram, limits)?;
        Ok(Self { bytes, index })
    }
    /// What [`Stored::head`] has left, indexed anew.
    pub fn headed(bytes: Vec<u8>) -> Self {
        let mut index = Index::new();
        let limits = Limits { message_bytes: usize::MAX, header_fields: usize::MAX };
        let _ = index.parse(&bytes, Framing::Datagram, &limits);
        Self { bytes, index }
    }
    /// Of a request what [`Stored::keep_essence`] keeps, and what its answer and the dialog are made
    /// of besides (RFC 3261 §12.1, RFC 4028, RFC 7989); for [`Stored::headed`].
    pub fn head(&self) -> Box<[u8]> {
        let message = self.message();
        let start = self.start_line();
        let lines = self.kept(&HEAD);
        let length: usize = lines.clone().map(|field| field.line.len()).sum();
        let mut head = Vec::with_capacity(start.len() + length + 2);
        head.extend_from_slice(start);
        lines.for_each(|field| head.extend_from_slice(message.slice(field.line)));
        head.extend_from_slice(b"\r\n");
        head.into()
    }
    fn start_line(&self) -> &[u8] {
        Span { start: self.index.first, end: self.index.head }.in_(&self.bytes)
    }
    /// The topmost Via and the fields of these names.
    fn kept(&self, names: &[Name]) -> impl Iterator<Item = &Field> + Clone {
        let names = names.iter().fold(0, |bits, name| bits | name.bit());
        let mut via = Name::Via.bit();
        self.index.fields.iter().filter(move |field| {
            let bit = field.name.bit();
            let kept = bit & (names | via) != 0;
            via &= !bit;
            kept
        })
    }
    /// The message again.
    pub fn message(&self) -> Message<'_> {
        self.index.view(&self.bytes)
    }
    /// How many octets it takes.
    pub fn octets(&self) -> usize {
        let essentials = self.index.essentials.as_ref().map_or(0, |_| size_of::<Essentials>());
        self.bytes.capacity() + self.index.fields.capacity() * size_of::<Field>() + essentials
    }
    /// Leaves the body out.
    pub fn drop_body(&mut self) {
        // All of it lies before the body.
        let end = self.index.body.start.min(self.bytes.len() as u32);
        self.bytes.truncate(end as usize);
        self.bytes.shrink_to_fit();
        self.index.body = Span { start: end, end };
    }
    /// Leaves out what neither tells a transaction from others (RFC 3261
    /// §17.2.3) nor goes into the ACK or the CANCEL of a request (§17.1.1.3,
    /// §9.1): a few hundred octets stay, whatever the message was.
    pub fn keep_essence(&mut self) {
        let lines = self.kept(&ESSENCE);
        let (count, length) =
            lines.clone().fold((0, 0), |(count, length), field| (count + 1, length + field.line.len()));
        let mut bytes = Vec::with_capacity(self.start_line().len() + length);
        bytes.extend_from_slice(self.start_line());
        let mut index = Index { fields: Vec::with_capacity(count), ..Index::new() };
        for field in lines {
            let at = bytes.len() as u32;
            let moved =
                |span: Span| Span { start: span.start - field.line.start + at, end: span.end - field.line.start + at };
            let (written, line, value) = (moved(field.written), moved(field.line), moved(field.value));
            index.push(Field { name: field.name, written, line, value });
            bytes.extend_from_slice(field.line.in_(&self.bytes));
        }
        let end = bytes.len() as u32;
        let start = self.index.start.map(|start| start.moved(self.index.first));
        let head = self.index.head - self.index.first;
        self.index = Index { start, first: 0, head, head_end: end, body: Span { start: end, end }, ..index };
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rule;

    fn stored(text: &str) -> Stored {
        Stored::parse(text.as_bytes().to_vec(), &Limits::default()).expect(text)
    }

    const REQUEST: &str = "REGISTER sip:r SIP/2.0\r\n\
        v: SIP/2.0/UDP a;branch=1 , SIP/2.0/TCP b\r\nVia:SIP/2.0/TLS c\r\n\
        f: \"A\" <sip:a@r>;tag=1\r\nt: sip:a@r\r\ni: id\r\nCSeq: 7 REGISTER\r\n\
        m: <sip:a@1>, *\r\nContact: <broken\r\nContact: <sip:b@2>\r\n\
        Max-Forwards: 0068\r\nExpires: 99999999999\r\nMin-Expires: -1\r\nk: path,\r\n Outbound\r\n\r\n";

    #[test]
    fn views() {
        let stored = stored(REQUEST);
        let message = stored.message();
        assert!(message.is_request());
        assert_eq!((message.method(), message.status()), (Method::Register, None));
        assert_eq!((message.request_uri(), message.call_id()), (&b"sip:r"[..], &b"id"[..]));
        assert_eq!(message.top_via().map(|v| v.branch()), Ok(Some(&b"1"[..])));
        assert_eq!(message.values(Name::Via).count(), 3);
        assert_eq!(message.from().map(|f| f.tag()), Ok(Some(&b"1"[..])));
        assert_eq!(message.to().map(|t| t.tag()), Ok(None));
        assert_eq!(message.cseq().map(|c| (c.number, c.method)), Ok((7, Method::Register)));
        assert_eq!(message.number(Name::MaxForwards), Some(Ok(68)));
        assert_eq!(message.number(Name::Expires), Some(Ok(u32::MAX)));
        assert!(matches!(message.number(Name::MinExpires), Some(Err(_))));
        assert_eq!(message.number(Name::RetryAfter), None);
        assert!(message.lists(Name::Supported, "outbound") && message.lists(Name::Supported, "PATH"));
        assert!(!message.lists(Name::Supported, "gruu"));
    }

    #[test]
    fn contacts_end_at_the_first_error() {
        let stored = stored(REQUEST);
        let contacts: Vec<_> = stored.message().contacts().collect();
        assert!(matches!(contacts[..], [Ok(Contact::Addr(_)), Ok(Contact::Star), Err(_)]));
        let place = contacts[2].expect_err("broken").at;
        assert!(REQUEST[place..].starts_with("<broken"));
    }

    #[test]
    fn missing_and_empty_fields_are_errors() {
        let stored = stored("SIP/2.0 200 OK\r\nVia: ,\r\nFrom:\r\n\r\n");
        let message = stored.message();
        assert_eq!(message.top_via().map_err(|e| e.at), Err(21));
        assert_eq!(message.from().map_err(|e| e.at), Err(29));
        assert_eq!(message.to().map_err(|e| e.what), Err("To missing"));
        assert_eq!((message.method(), message.status()), (Method::Other(b""), Some(Status(200))));
    }

    #[test]
    fn the_essence_reads_as_the_whole_did() {
        let text = format!("\r\n{}", REQUEST.replace("Contact: <broken\r\n", ""))
            .replace("CSeq: 7", "Route: <sip:p1;lr>,\r\n <sip:p2;lr>\r\nl: 4\r\nCSeq: 7")
            + "body";
        let whole = stored(&text);
        let mut essence = whole.clone();
        essence.keep_essence();
        let (a, b) = (whole.message(), essence.message());
        assert_eq!((a.method(), a.request_uri(), a.call_id()), (b.method(), b.request_uri(), b.call_id()));
        assert_eq!(a.top_via().map(|v| v.raw.to_vec()), b.top_via().map(|v| v.raw.to_vec()));
        assert_eq!(a.from().map(|f| f.raw.to_vec()), b.from().map(|f| f.raw.to_vec()));
        assert_eq!(a.to().map(|t| t.raw.to_vec()), b.to().map(|t| t.raw.to_vec()));
        assert_eq!(a.cseq().map(|c| c.number), b.cseq().map(|c| c.number));
        assert_eq!(a.values(Name::Route).collect::<Vec<_>>(), b.values(Name::Route).collect::<Vec<_>>());
        assert_eq!((b.contacts().count(), b.values(Name::Via).count(), b.body()), (0, 2, &b""[..]));
        assert!(essence.octets() < whole.octets());
        // What is written of it reads again.
        let written = b.edited(&Edit::new());
        assert_eq!(
            stored(std::str::from_utf8(&[&written[..], b"\r\n"].concat()).expect("ASCII")).message().call_id(),
            b"id"
        );
        let mut headless = whole.clone();
        headless.drop_body();
        let message = headless.message();
        assert_eq!((message.body(), message.number(Name::Expires)), (&b""[..], Some(Ok(u32::MAX))));
        assert_eq!(whole.message().body(), b"body");
        let head = Stored::headed(whole.head().into());
        let a = head.message();
        assert_eq!((a.method(), a.request_uri(), a.call_id()), (b.method(), b.request_uri(), b.call_id()));
        assert_eq!((a.tag_in_from(), a.cseq().map(|c| c.number)), (b.tag_in_from(), b.cseq().map(|c| c.number)));
        assert_eq!(a.values(Name::Route).collect::<Vec<_>>(), b.values(Name::Route).collect::<Vec<_>>());
        assert_eq!((a.contacts().count(), a.body(), a.field(Name::Expires)), (0, &b""[..], None));
        assert_eq!(head.head()[..], whole.head()[..]);
        let mut empty = Stored::default();
        assert_eq!(empty.head()[..], b"\r\n"[..]);
        empty.keep_essence();
        empty.drop_body();
        assert_eq!(empty.message().request_uri(), b"");
    }

    #[test]
    fn written_from_start_line_to_end_of_body() {
        let text = b"\r\n\r\nA sip:b SIP/2.0\r\nl: 2\r\n\r\nbody";
        let mut index = Index::new();
        assert_eq!(index.parse(text, Framing::Datagram, &Limits::default()), Ok(()));
        let message = index.view(text);
        let mut edit = Edit::new();
        assert_eq!(message.edited(&edit), &text[4..text.len() - 2]);
        edit.insert(message.end(), Rule::Sdp, &[b"!"]);
        edit.insert(0, Rule::Via, &[b"?"]);
        assert_eq!(message.edited(&edit), b"?A sip:b SIP/2.0\r\nl: 2\r\n\r\nbo!");
    }

    proptest::proptest! {
        #[test]
        fn views_of_any_lines(lines in proptest::collection::vec("(v|f|t|m|i|l|CSeq|Expires|x):[ -~\t\u{80}]{0,60}", 0..8)) {
            let text = format!("X sip:y SIP/2.0\r\n{}\r\n\r\n", lines.join("\r\n"));
            let mut index = Index::new();
            let fine = index.parse(text.as_bytes(), Framing::Datagram, &Limits::default()).is_ok();
            let message = index.view(text.as_bytes());
            let _ = (message.top_via().map(|v| v.branch()), message.cseq(), message.number(Name::Expires));
            let _ = (message.from().map(|f| f.uri()), message.to().map(|t| (t.tag(), t.uri())));
            let _ = (message.contacts().count(), message.values(Name::Via).count());
            if fine {
                assert_eq!(message.edited(&Edit::new()), text.as_bytes());
            }
        }

        #[test]
        fn what_is_read_ahead_is_what_is_read_when_asked(
            via in "SIP/2.0/UDP h(;(rport|received|keep|branch)(=[a1\"]{0,2})?){0,4}",
            contacts in proptest::collection::vec("(N ?)?<?(sip:)?[a@;*?=]{0,3}>?(;x|,)?( \r\n )?", 0..3),
            method in "INVITE|REGISTER",
        ) {
            let contacts: String = contacts.iter().map(|contact| format!("m: {contact}\r\n")).collect();
            let text = format!("{method} sip:y SIP/2.0\r\nv: {via}\r\n{contacts}CSeq: 1 {method}\r\n\r\n");
            let [mut ahead, mut asked] = [Index::new(), Index::new()];
            for index in [&mut ahead, &mut asked] {
                let _ = index.parse(text.as_bytes(), Framing::Datagram, &Limits::default());
            }
            ahead.read_essentials(text.as_bytes());
            let (ahead, asked) = (ahead.view(text.as_bytes()), asked.view(text.as_bytes()));
            assert_eq!((ahead.top_via(), ahead.has_rport(), ahead.keep()), (asked.top_via(), asked.has_rport(), asked.keep()));
            assert_eq!(ahead.contact(), asked.contact().filter(|_| method == "INVITE"));
            if let Some((addr, uri)) = asked.contact() {
                assert_eq!(addr.uri(), Ok(uri));
                assert_eq!(asked.contacts().collect::<Vec<_>>(), [Ok(Contact::Addr(addr))]);
            }
        }
    }
}
