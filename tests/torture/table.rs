//! Every message: where it stands, what its RFC asks for, and who gives that.

/// Who gives the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Nobody on our path objects: read whole and sent on as it came. What
    /// the RFC asks beyond that is for an endpoint or a registrar.
    Passes,
    /// `wire` refuses it in these words; a request is answered with this
    /// status, a response (`None`) is dropped.
    Wire(&'static str, Option<u16>),
    /// `wire` reads and writes it like any other; the proxy answers with this
    /// status, or drops it (`None`).
    Proxy(Option<u16>),
}

/// One message of the collection.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) section: &'static str,
    /// The RFC's verdict, in short.
    pub(crate) verdict: &'static str,
    pub(crate) layer: Layer,
    pub(crate) bytes: &'static [u8],
}

use Layer::{Passes, Proxy, Wire};

macro_rules! cases {
    ($folder:literal: $($name:literal, $section:literal, $verdict:literal, $layer:expr;)*) => {
        &[$(Case {
            name: $name,
            section: $section,
            verdict: $verdict,
            layer: $layer,
            bytes: include_bytes!(concat!($folder, "/", $name, ".dat")),
        }),*]
    };
}

/// RFC 4475. Where it leaves the choice between a refusal and leniency, the
/// layer says which we took.
pub(crate) const RFC4475: &[Case] = cases! { "rfc4475":
    "wsinv",      "3.1.1.1",  "valid: a short tortuous INVITE", Passes;
    "intmeth",    "3.1.1.2",  "valid: wide range of characters", Passes;
    "esc01",      "3.1.1.3",  "valid: escapes in URIs", Passes;
    "escnull",    "3.1.1.4",  "valid: escaped nulls in URIs", Passes;
    "esc02",      "3.1.1.5",  "valid: % that is no escape", Passes;
    "lwsdisp",    "3.1.1.6",  "valid: no white space before <", Passes;
    "longreq",    "3.1.1.7",  "valid: long values", Passes;
    "dblreq",     "3.1.1.8",  "valid: octets behind the message are ignored", Passes;
    "semiuri",    "3.1.1.9",  "valid: semicolon in a user part", Passes;
    "transports", "3.1.1.10", "valid: unknown transports in Via", Passes;
    "mpart01",    "3.1.1.11", "valid: multipart body with binary octets", Passes;
    "unreason",   "3.1.1.12", "valid: unusual reason phrase", Passes;
    "noreason",   "3.1.1.13", "valid: empty reason phrase", Passes;

    "badinv01",   "3.1.2.1",  "400: separators without values", Wire("Via without protocol, version and transport", Some(400));
    "clerr",      "3.1.2.2",  "400: Content-Length beyond the datagram", Wire("body shorter than Content-Length", Some(400));
    "ncl",        "3.1.2.3",  "an error: negative Content-Length", Wire("Content-Length is not a number", Some(400));
    "scalar02",   "3.1.2.4",  "400: CSeq number beyond 32 bits", Wire("CSeq number too large", Some(400));
    "scalarlg",   "3.1.2.5",  "discard: CSeq number beyond 32 bits", Wire("CSeq number too large", None);
    "quotbal",    "3.1.2.6",  "400: display name without closing quote", Wire("display name without its closing quote", Some(400));
    "ltgtruri",   "3.1.2.7",  "400: Request-URI in angle brackets", Wire("URI with a character that must be escaped", Some(400));
    "lwsruri",    "3.1.2.8",  "400: white space in the Request-URI", Wire("white space in the Request-URI", Some(400));
    "lwsstart",   "3.1.2.9",  "may be refused: spaces in the start line", Wire("more than one space in the request line", Some(400));
    "trws",       "3.1.2.10", "may be refused: spaces behind the version", Wire("white space after the version", Some(400));
    "escruri",    "3.1.2.11", "400, or forward without the headers in the URI", Proxy(Some(400));
    "baddate",    "3.1.2.12", "ignore unless the date is used", Passes;
    "regbadct",   "3.1.2.13", "400, or infer the brackets: Contact with a bare URI that has headers", Proxy(Some(400));
    "badaspec",   "3.1.2.14", "400: spaces in a To URI", Wire("URI with a character that must be escaped", Some(400));
    "baddn",      "3.1.2.15", "400: comma in an unquoted display name; the archive's file also ends before the empty line", Wire("header does not end", Some(400));
    "badvers",    "3.1.2.16", "505: SIP/7.0", Wire("version not supported", Some(505));
    "mismatch01", "3.1.2.17", "400: CSeq names another method", Wire("CSeq names another method", Some(400));
    "mismatch02", "3.1.2.18", "501, 400 acceptable: CSeq names another method", Wire("CSeq names another method", Some(400));
    "bigcode",    "3.1.2.19", "drop: status code beyond 699", Wire("status code is not a number from 100 to 699", None);

    "badbranch",  "3.2.1",    "400, or match as RFC 2543 does: branch is the bare cookie", Proxy(Some(400));

    "insuf",      "3.3.1",    "400: no Call-ID, From, To", Wire("From missing", Some(400));
    "unkscm",     "3.3.2",    "416: unknown scheme in the Request-URI", Proxy(Some(416));
    "novelsc",    "3.3.3",    "416: atypical scheme in the Request-URI", Proxy(Some(416));
    "unksm2",     "3.3.4",    "a proxy passes it, a registrar answers 400", Passes;
    "bext01",     "3.3.5",    "420: Proxy-Require names the unknown", Proxy(Some(420));
    "invut",      "3.3.6",    "a proxy passes it, an endpoint answers 415", Passes;
    "regaut01",   "3.3.7",    "a proxy passes it, with its Authorization", Passes;
    "multi01",    "3.3.8",    "400: single-value fields given twice", Wire("field given twice", Some(400));
    "mcl01",      "3.3.9",    "an error: two different Content-Lengths", Wire("two different Content-Lengths", Some(400));
    "bcast",      "3.3.10",   "drop: the next Via is the broadcast address", Proxy(None);
    "zeromf",     "3.3.11",   "483: Max-Forwards is 0", Proxy(Some(483));
    "cparam01",   "3.3.12",   "succeeds: parameter of the Contact", Passes;
    "cparam02",   "3.3.13",   "succeeds: parameter of the URI", Passes;
    "regescrt",   "3.3.14",   "succeeds: headers in a Contact URI", Passes;
    "sdp01",      "3.3.15",   "an endpoint answers 406 or 400", Passes;

    "inv2543",    "3.4.1",    "accept: RFC 2543 syntax", Passes;
};

/// RFC 5118.
pub(crate) const RFC5118: &[Case] = cases! { "rfc5118":
    "ipv6-good",                     "4.1",  "valid", Passes;
    "ipv6-bad",                      "4.2",  "400: no brackets in the Request-URI", Wire("port is not a number up to 65535", Some(400));
    "port-ambiguous",                "4.3",  "valid: the port is part of the address", Passes;
    "port-unambiguous",              "4.4",  "valid", Passes;
    "via-received-param-with-delim", "4.5",  "must be read all the same", Passes;
    "via-received-param-no-delim",   "4.5",  "valid", Passes;
    "ipv6-in-sdp",                   "4.6",  "valid, but for a Content-Length of 17 octets too many", Wire("body shorter than Content-Length", Some(400));
    "mult-ip-in-header",             "4.7",  "valid", Passes;
    "mult-ip-in-sdp",                "4.8",  "valid; Content-Length counts LF line ends, 8 octets short", Passes;
    "ipv4-mapped-ipv6",              "4.9",  "valid; Content-Length counts LF line ends, 9 octets short", Passes;
    "ipv6-bug-abnf-3-colons",        "4.10", "must be tolerated", Passes;
    "ipv6-correct-abnf-2-colons",    "4.10", "valid", Passes;
};

/// The case of that name.
pub(crate) fn case(cases: &'static [Case], name: &str) -> &'static Case {
    cases.iter().find(|c| c.name == name).expect("a name from the table")
}
