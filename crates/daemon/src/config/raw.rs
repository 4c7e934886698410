//! The configuration as written: every section and key, with the text that
//! documents it.
//!
//! This page *is* the reference. The doc comment of a key, the value beside it
//! and its type make the lines of `config/reference.toml` (a test compares
//! them), the completion of misspelt names and the reading of environment
//! variables. Whether values make sense together is [`super::resolve`]'s
//! question: here, every key is optional and every number is just a number.

use serde::Deserialize;

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A string that is never shown.
    Secret,
    /// A list of strings.
    Texts,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Truth,
}

/// A type that a key may have.
pub(crate) trait Shape {
    /// Its kind.
    const KIND: Kind;
}

impl Shape for String {
    const KIND: Kind = Kind::Text;
}
impl Shape for Secret {
    const KIND: Kind = Kind::Secret;
}
impl Shape for Vec<String> {
    const KIND: Kind = Kind::Texts;
}
impl Shape for i64 {
    const KIND: Kind = Kind::Number;
}
impl Shape for bool {
    const KIND: Kind = Kind::Truth;
}

/// A value that neither `Debug` nor any message shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One key of a section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Its default, or an example if there is none, as TOML.
    pub(crate) example: &'static str,
    /// Its documentation, a line each.
    pub(crate) doc: &'static [&'static str],
}

/// How a section is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Keys before the first header.
    Top,
    /// `[name]`, once.
    One,
    /// `[[name]]`, any number of times.
    Many,
}

/// One section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// Its name, empty for the top.
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) form: Form,
    /// What it is for, a line each.
    pub(crate) doc: &'static [&'static str],
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

/// Declares the struct of a section together with the table of its keys.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident {
            $( $(#[doc = $key_doc:literal])* $key:ident : $kind:ty = $example:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $( $(#[doc = $key_doc])* pub(crate) $key: Option<$kind>, )*
        }

        impl $name {
            const DOC: &'static [&'static str] = &[$($doc),*];
            const KEYS: &'static [Key] = &[$( Key {
                name: stringify!($key),
                kind: <$kind as Shape>::KIND,
                example: $example,
                doc: &[$($key_doc),*],
            } ),*];
        }
    };
}

section! {
    /// Where siplatch stands.
    Top {
        /// office: in front of phones behind one NAT; phones inner, provider outer.
        /// border: in front of a core; core inner, phones outer.
        /// standalone: no provider and no core; phones register here and call each other.
        /// Default: standalone.
        role: String = r#""standalone""#,
        /// How phones prove their password (standalone with [[user]]): what they are challenged
        /// with, the preferred first. Phones should take the first that they know; some know MD5 alone
        /// and give up at any other, JsSIP and baresip 1 among them: they register with ["MD5"].
        /// What is not listed is not accepted. Default: all three, in this order.
        digest: Vec<String> = r#"["SHA-256", "SHA-512-256", "MD5"]"#,
    }
}

section! {
    /// One side: the network that a listener faces decides which side a message is on.
    /// [inner] faces the phones (office, standalone) or the core (border); [outer] the
    /// provider (office) or the phones (border). In standalone, [outer] is optional, for
    /// phones from elsewhere, and wants a [[user]] for each of them.
    Side {
        /// Sockets to listen on, "udp:ADDRESS:PORT", IPv6 in brackets; also "tcp:", "tls:", and "ws:" and
        /// "wss:" for SIP over WebSocket. Ports if none is written: 5060, tls: 5061, ws: 80, wss: 443.
        /// A udp: entry opens TCP too. tls: and wss: need the certificate of [tls].
        /// Required; in standalone the default for [inner] is all local addresses, port 5060.
        listen: Vec<String> = r#"["udp:0.0.0.0:5060"]"#,
        /// The address that we write into messages on this side:
        /// "listen" (the local address and port), "stun" (the address and port that a NAT
        /// gives each socket, found by STUN), "stun-address" (STUN's address, local ports: static
        /// port forwards behind a changing address), or an IP address (with local ports:
        /// one-to-one NAT). Wrong here means calls without sound.
        /// Default: "listen"; for [outer] in office "stun".
        advertise: String = r#""listen""#,
        /// STUN servers, "host" or "host:port" (3478 if none is written), asked from every socket of
        /// this side. Required where advertise is "stun" or "stun-address"; two are better
        /// than one, because a wrong answer then shows. Default: none.
        stun_servers: Vec<String> = r#"[]"#,
        /// Host names by which phones or the core reach us on this side: where a Route names one of them,
        /// it names us. Phones whose outbound proxy is written by name need it. Default: none.
        names: Vec<String> = r#"[]"#,
        /// Who may speak to us on this side: addresses and prefixes. Messages of all others are dropped
        /// unread, and their connections closed; upstreams and STUN servers need not be written. A
        /// [[network]] with an access goes before. Media is not meant: that is the latch's business.
        /// Default: everybody.
        allow: Vec<String> = r#"[]"#,
        /// The router is asked to forward our ports (outer side): "auto" (PCP, NAT-PMP or UPnP, the first that it
        /// knows), "pcp", "nat-pmp", "upnp", or "off". Forwarded are the signalling ports, and ranges of media
        /// ports of at most 64 ports; all are removed at exit. Whoever may speak to a forwarded port is everybody.
        /// Default: "auto" where advertise is "stun-address", "off" else.
        router: String = r#""off""#,
        /// This side's network is trusted: calls to sips: addresses may cross it in the clear. Wrongly
        /// true: who called a sips: address believes in a secrecy that is not there. Default: false.
        secure: bool = "false",
    }
}

section! {
    /// A next hop: the provider (office) or the core (border). At least one there; none in
    /// standalone. With several for one domain, new requests go to the first that serves; one that
    /// failed is first choice again after three answered pings and half a minute.
    Upstream {
        /// Where it is: "sip:HOST", "sip:HOST:PORT", "sips:HOST"; with ";transport=tcp" or "tls" by that
        /// alone. Required. A name without a port is looked up by NAPTR, SRV, A and AAAA (RFC 3263), one
        /// with a port by A and AAAA only. Over TLS its certificate must name HOST. Requests from its
        /// addresses are trusted, so name no shared host.
        uri: String = r#""sip:sip.provider.example""#,
        /// Only for requests of this domain. Default: for all that no other [[upstream]] names.
        domain: String = r#""provider.example""#,
        /// The provider sends media to where ours comes from (RFC 7362), so that the address that we
        /// write into SDP need not be reachable. Wrongly true: no sound from the provider.
        /// Default: false.
        comedia: bool = "false",
        /// Other ways there, in order, for when those before them do not answer, or a router rewrites SIP on
        /// them (asked by [doctor] reflector at start and every 6 h); what works is kept to, and
        /// UDP is asked on, and used again when it has answered for a while. "udp": from the other udp: listeners of
        /// the side, if there are any; "tcp" and "tls", with ":PORT" at another port ("tls:443"). []: none.
        /// Default: these three in office where uri does not say how it is reached, else none.
        fallback: Vec<String> = r#"["udp", "tcp", "tls"]"#,
        /// A trunk without registration: the [[phone]] that calls from this upstream go to when they
        /// fit no registered phone. They go where it registered, or else to its address (port 5060), and
        /// in office it may call from there without a registration. Whoever can send from that address
        /// can call at your cost, so keep it in a network of your own. Default: none.
        default_phone: String = r#""reception""#,
    }
}

section! {
    /// Addresses with rules of their own, by prefix.
    Network {
        /// Which addresses. Required.
        prefix: String = r#""10.20.0.0/16""#,
        /// The side that they are on: inner or outer. Default: that of the listener.
        side: String = r#""outer""#,
        /// What is advertised toward them, as in [inner]. A private address is accepted toward
        /// the prefixes that have a [[network]]. Default: as their side does.
        advertise: String = r#""listen""#,
        /// "deny": whoever is here may not speak to us at all, and nothing of what comes is read; the other
        /// keys do not go with it. "allow": it may, even where a shorter prefix or the side's allow
        /// list says otherwise. Default: as the side's allow list says.
        access: String = r#""allow""#,
        /// "relay"; "ice": the same, and ICE is offered to whoever is here even where the other end does
        /// not speak it (phones that do not either ignore that), so that who takes it up is heard by
        /// password alone; "signalling-only": SDP from and to there passes untouched, for phones and
        /// servers that reach each other without us. Default: "relay".
        media: String = r#""relay""#,
        /// Media may come from any address inside (the NAT pool of a carrier). Whoever sends from
        /// such an address can take over the sound of a call, so keep the prefix narrow. Default: false.
        latch: bool = "false",
        /// Who the caller is (P-Asserted-Identity, RFC 3325) is believed of whoever is here, a PBX
        /// that registers, and is told to it even where privacy was asked for. Upstreams are always
        /// trusted, phones never otherwise. Default: false.
        trusted: bool = "false",
    }
}

section! {
    /// A phone that is treated by a rule of its own. All selectors that are written (user, domain,
    /// address, instance) must match; at least one is needed.
    Phone {
        /// Its name in logs and in the status. Required, each once.
        name: String = r#""reception""#,
        /// Selector: user part of its address of record.
        user: String = r#""alice""#,
        /// Selector: domain of its address of record.
        domain: String = r#""provider.example""#,
        /// Selector: the address or prefix that it sends from.
        address: String = r#""192.168.1.11""#,
        /// Selector: its +sip.instance (RFC 5626).
        instance: String = r#""urn:uuid:00000000-0000-1000-8000-000a95a0e128""#,
        /// Its password at the provider (office). When our public address changes, the phone is registered
        /// again in its place within two seconds; without it, at its next refresh, half a minute later at
        /// most. Shown to the provider only, as a digest. Default: none.
        password: Secret = r#""…""#,
        /// The realm that the password is for; no other is answered. Default: the one that accepted its REGISTER.
        realm: String = r#""provider.example""#,
        /// A signalling socket of its own toward the provider (office). Default: those of [outer].
        outer_listen: String = r#""udp:192.168.1.2:5070""#,
        /// A public address of its own, as in [outer]. Default: as its side does.
        advertise: String = r#""203.0.113.12""#,
        /// The public port of outer_listen, where a static forward changes it; with advertise an
        /// IP address. Default: the port of outer_listen.
        advertise_port: i64 = "5070",
        /// UDP ports for its media: the leg toward the provider in office, toward the phone elsewhere.
        /// "first-last", first even; overlaps no other range. A stream takes two ports.
        /// Default: those of [media].
        media_ports: String = r#""10000-10099""#,
        /// Most calls at a time; one more gets 486. Default: no limit.
        max_calls: i64 = "4",
    }
}

section! {
    /// An account of the embedded registrar (standalone). Without any, phones register without a
    /// password, but only from private addresses.
    User {
        /// User part of the address of record, and digest user name. Required, each once.
        name: String = r#""alice""#,
        /// Digest password. Required, not empty.
        password: Secret = r#""…""#,
    }
}

section! {
    /// The relay of media.
    Media {
        /// UDP ports, "first-last", first even. A call with sound takes two ports on each of its two
        /// legs, so 1000 ports carry 250 calls. Too few: calls are refused with 503. Open them in the
        /// firewall. Default: "30000-30999".
        ports: String = r#""30000-30999""#,
        /// How the NAT's mapping for held or silent media is kept: "stun" (Binding indications,
        /// harmless to the peer), "rtp" (packets of an unused payload type, for peers that dislike
        /// STUN), "off". Default: "stun".
        keepalive: String = r#""stun""#,
        /// Seconds without a packet from either end after which a call that is not on hold is
        /// ended; 5 to 86400. Short: calls with silence suppression are cut. Default: 60.
        timeout_s: i64 = "60",
        /// What forwards media. "auto": a program in the kernel, where the kernel (6.6 or later), our
        /// rights (CAP_BPF, CAP_NET_ADMIN) and the interface allow, else the workers; the log of the
        /// start says which. "userspace": the workers alone. "kernel": without the kernel we do not
        /// start. What the kernel forwards passes no INPUT chain of the firewall. Default: "auto".
        datapath: String = r#""auto""#,
        /// "realtime": media workers go before other programs (SCHED_RR), where the system allows it
        /// (root, CAP_SYS_NICE or LimitRTPRIO) and as long as they leave time to others; the log of
        /// the start says whether. "normal": they wait for their turn. Default: "realtime".
        priority: String = r#""realtime""#,
    }
}

section! {
    /// Certificates for tls: and wss:. The files are read again at each reload; connections that are
    /// open keep what they began with. A file that cannot be used is refused, and what was read
    /// before stays.
    Tls {
        /// File with our certificate and what leads to its authority, PEM. Required for listeners;
        /// also shown to upstreams that ask for one. Default: none.
        certificate: String = r#""/etc/siplatch/tls.crt""#,
        /// File with its private key, PEM. Default: none.
        key: String = r#""/etc/siplatch/tls.key""#,
        /// File with authorities, PEM: who connects is asked for a certificate of theirs, and one of
        /// anybody else's is refused. Phones without any may still connect. Default: none is asked for.
        client_ca: String = r#""/etc/siplatch/clients.crt""#,
        /// File with authorities of the upstreams that we connect to, PEM, beside those of the system.
        /// Default: those of the system alone.
        ca: String = r#""/etc/siplatch/upstreams.crt""#,
    }
}

section! {
    /// A TURN server for the media of a side that advertises by "stun": used only while nothing cheaper
    /// works, that is behind a symmetric NAT (unless the upstream is comedia = true), and where UDP does
    /// not pass. siplatch status says whether it is.
    Turn {
        /// "turn:HOST", "turn:HOST?transport=tcp" or "turns:HOST" (TLS), with or without a port; without
        /// one it is 3478, or 5349 for TLS. [tls] ca may name its authority. Required.
        server: String = r#""turns:turn.example.net:443""#,
        /// User name. Required.
        username: String = r#""siplatch""#,
        /// Password. Required.
        password: Secret = r#""…""#,
    }
}

section! {
    /// What `siplatch doctor` asks beside the servers and upstreams above.
    Doctor {
        /// A far siplatch (`siplatch reflect`, or a border) that says what arrived of what was sent:
        /// so a router that rewrites SIP is found, by `siplatch doctor` and by a running office whose upstream
        /// has a fallback. Port 5060 is tried beside this one (3478).
        reflector: String = r#""reflector.example.net:3478""#,
    }
}

section! {
    /// How our packets are marked for the routers on their way (DSCP, RFC 2474): "ef", "cs3", "af41", …, or
    /// a number up to 63; "default" for none. A router that does not know a mark ignores it.
    Dscp {
        /// SIP. Default: "cs3".
        signalling: String = r#""cs3""#,
        /// Sound, and what is not video; "keep": each packet leaves as it came, so that the phone says
        /// what it is worth. Default: "ef".
        audio: String = r#""ef""#,
        /// Video, likewise. Default: "af41".
        video: String = r#""af41""#,
    }
}

section! {
    /// Limits that are checked before work is done.
    Limits {
        /// Largest SIP message in octets; 1200 to 65536. Small: video offers are refused. Default: 65536.
        message_bytes: i64 = "65536",
        /// Most header fields of a message; 32 to 4096. Default: 256.
        header_fields: i64 = "256",
    }
}

section! {
    /// Figures for Prometheus, and the health check.
    Metrics {
        /// Address of /metrics and /healthz. All addresses (0.0.0.0, [::]) are refused unless the flag
        /// --metrics-open is given: figures tell strangers who calls when. Default: "127.0.0.1:9090".
        listen: String = r#""127.0.0.1:9090""#,
    }
}

section! {
    /// What must outlive a restart.
    State {
        /// Directory for the token key, the snapshot of registrations and calls, and the control
        /// socket. Lost or not writable: registered phones cannot be reached after a restart until
        /// they register again, and running calls cannot be hung up.
        /// Default: "/var/lib/siplatch", or ~/.local/state/siplatch where that is not writable.
        dir: String = r#""/var/lib/siplatch""#,
        /// One line of JSON for each call that has ended, in calls.jsonl of that directory: who, when,
        /// why it ended, how its media was. A file of 64 MiB takes the place of calls.1.jsonl, and may
        /// be moved away at any time before. Default: true.
        call_records: bool = "true",
    }
}

/// The whole of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    /// See [`Top`].
    pub(crate) role: Option<String>,
    /// See [`Top`].
    pub(crate) digest: Option<Vec<String>>,
    /// `[inner]`.
    pub(crate) inner: Option<Side>,
    /// `[outer]`.
    pub(crate) outer: Option<Side>,
    /// `[[upstream]]`.
    pub(crate) upstream: Vec<Upstream>,
    /// `[[network]]`.
    pub(crate) network: Vec<Network>,
    /// `[[phone]]`.
    pub(crate) phone: Vec<Phone>,
    /// `[[user]]`.
    pub(crate) user: Vec<User>,
    /// `[media]`.
    pub(crate) media: Media,
    /// `[tls]`.
    pub(crate) tls: Option<Tls>,
    /// `[turn]`.
    pub(crate) turn: Option<Turn>,
    /// `[doctor]`.
    pub(crate) doctor: Option<Doctor>,
    /// `[dscp]`.
    pub(crate) dscp: Dscp,
    /// `[limits]`.
    pub(crate) limits: Limits,
    /// `[metrics]`.
    pub(crate) metrics: Metrics,
    /// `[state]`.
    pub(crate) state: State,
}

/// All sections, in the order of the reference.
pub(crate) const SECTIONS: &[Section] = &[
    Section { name: "", form: Form::Top, doc: Top::DOC, keys: Top::KEYS },
    Section { name: "inner", form: Form::One, doc: Side::DOC, keys: Side::KEYS },
    Section { name: "outer", form: Form::One, doc: &[" As [inner]."], keys: Side::KEYS },
    Section { name: "upstream", form: Form::Many, doc: Upstream::DOC, keys: Upstream::KEYS },
    Section { name: "network", form: Form::Many, doc: Network::DOC, keys: Network::KEYS },
    Section { name: "phone", form: Form::Many, doc: Phone::DOC, keys: Phone::KEYS },
    Section { name: "user", form: Form::Many, doc: User::DOC, keys: User::KEYS },
    Section { name: "media", form: Form::One, doc: Media::DOC, keys: Media::KEYS },
    Section { name: "dscp", form: Form::One, doc: Dscp::DOC, keys: Dscp::KEYS },
    Section { name: "limits", form: Form::One, doc: Limits::DOC, keys: Limits::KEYS },
    Section { name: "metrics", form: Form::One, doc: Metrics::DOC, keys: Metrics::KEYS },
    Section { name: "state", form: Form::One, doc: State::DOC, keys: State::KEYS },
    Section { name: "tls", form: Form::One, doc: Tls::DOC, keys: Tls::KEYS },
    Section { name: "turn", form: Form::One, doc: Turn::DOC, keys: Turn::KEYS },
    Section { name: "doctor", form: Form::One, doc: Doctor::DOC, keys: Doctor::KEYS },
];

impl Section {
    /// The section of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.name == name)
    }

    /// Its key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Its header as written: `[media]`, `[[phone]]`.
    pub(crate) fn header(&self) -> String {
        match self.form {
            Form::Top => String::new(),
            Form::One => format!("[{}]", self.name),
            Form::Many => format!("[[{}]]", self.name),
        }
    }
}
