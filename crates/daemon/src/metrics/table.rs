//! Every series: name, type, unit, labels and help, declared here and nowhere
//! else. `docs/metrics.md` is this table.

use media::Component;
use nat::Side;
use nat::relayed::Why as RelayedWhy;
use proxy::config::Role;
use proxy::question::Kind as Question;
use proxy::{Cause, DropReason, FailoverCause, MethodLabel};
use registry::CallState;
use registry::snapshot::Lost;

use net::transport::Why;
use net::turn::Failure as TurnFailure;

use super::label::{
    Backend, BindingEvent, Class, Collision, Connected, Datagram, Direction, FailoverTo, Finding, FoundBy, Kept, Label,
    Latch, Light, Lookup, Mapping, REFUSALS, Recorded, Reloaded, RouterFinding, STREAMS, StreamInput, Truth,
};

/// Names a series in code; its place in [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    BuildInfo,
    Registrations,
    RegistrationsTotal,
    Collisions,
    Calls,
    Subscriptions,
    CallsStarted,
    CallsAnswered,
    CallsTotal,
    Requests,
    Responses,
    Refused,
    Overloaded,
    Lag,
    AuthenticationFailures,
    Dropped,
    Transactions,
    TransactionOctets,
    TransactionsForgotten,
    Oversize,
    Retransmissions,
    Timeouts,
    Refreshes,
    Renewals,
    CallsTold,
    KeepAliveInterval,
    ContactsWithoutToken,
    Datagrams,
    StreamInputs,
    Connections,
    ConnectionsStrangers,
    ConnectionsOpened,
    ConnectionsClosed,
    AcceptFailures,
    ConnectionsDenied,
    SendFailures,
    Lookups,
    ListenersBound,
    ListenersWaiting,
    UpstreamUp,
    UpstreamTransport,
    Failovers,
    StunUp,
    StunFindings,
    TurnUsed,
    TurnAllocations,
    TurnFailures,
    TurnDenied,
    TurnDropped,
    MappingChanges,
    RouterMappings,
    RouterForwards,
    RouterFindings,
    MediaPackets,
    MediaBytes,
    MediaDrops,
    MediaNeighbours,
    MediaDatapath,
    MediaKernel,
    MediaTcpBytes,
    MediaTcpConnections,
    Latches,
    MediaSilences,
    MediaUnheard,
    MediaHeard,
    MediaFailures,
    MediaLoss,
    MediaJitter,
    MediaRoundTrip,
    MediaScore,
    WorkersAlive,
    PortsFree,
    PortsIdle,
    PortsLive,
    PortsResting,
    PortsTotal,
    PortsUsed,
    PortsOrphaned,
    PortsExhausted,
    Restored,
    RestoreLost,
    SnapshotWrites,
    SnapshotFailures,
    SnapshotWritten,
    SnapshotEntries,
    SnapshotBytes,
    CallRecords,
    LogSuppressed,
    Reloads,
    ReloadRefused,
    ProcessMemory,
    ProcessFds,
    ProcessMaxFds,
    ProcessCpu,
    ProcessStart,
}

/// Prometheus types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which values came; the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// The values that a label can have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values {
    /// These; every combination is there from the start, at zero.
    Of(&'static [&'static str]),
    /// Given by the configuration or the build; what they are.
    Given(&'static str),
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    /// Its name in code.
    pub(crate) name: Name,
    /// Its name in Prometheus.
    pub(crate) id: &'static str,
    /// Its type.
    pub(crate) kind: Kind,
    /// What is counted.
    pub(crate) unit: &'static str,
    /// Its labels.
    pub(crate) labels: &'static [(&'static str, Values)],
    /// What it says, and what to make of it.
    pub(crate) help: &'static str,
}

const SIDE: (&str, Values) = ("side", Values::Of(<Side as Label>::VALUES));
const DIRECTION: (&str, Values) = ("direction", Values::Of(<Direction as Label>::VALUES));
const STREAM: (&str, Values) = ("transport", Values::Of(STREAMS));
const METHOD: (&str, Values) = ("method", Values::Of(<MethodLabel as Label>::VALUES));
const RANGE: (&str, Values) = ("range", Values::Given("the range of ports as configured, `first-last`"));

const fn series(
    name: Name,
    id: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [(&'static str, Values)],
    help: &'static str,
) -> Series {
    Series { name, id, kind, unit, labels, help }
}

/// All series, in the order of [`Name`].
pub(crate) const TABLE: &[Series] = &[
    series(
        Name::BuildInfo,
        "siplatch_build_info",
        Kind::Gauge,
        "",
        &[("version", Values::Given("the version of the program")), ("role", Values::Of(<Role as Label>::VALUES))],
        "1 for the version and role that run.",
    ),
    series(
        Name::Registrations,
        "siplatch_registrations",
        Kind::Gauge,
        "bindings",
        &[],
        "Phones that are bound now; a phone with two contacts counts twice.",
    ),
    series(
        Name::RegistrationsTotal,
        "siplatch_registrations_total",
        Kind::Counter,
        "events",
        &[("event", Values::Of(<BindingEvent as Label>::VALUES))],
        "What became of bindings. Many `moved`: the NATs in front of phones forget fast.",
    ),
    series(
        Name::Collisions,
        "siplatch_phone_collisions",
        Kind::Gauge,
        "groups",
        &[("kind", Values::Of(<Collision as Label>::VALUES))],
        "Registered phones that stand in each other's way: one `+sip.instance` at several addresses, or one account twice from one source.",
    ),
    series(
        Name::Calls,
        "siplatch_calls",
        Kind::Gauge,
        "calls",
        &[("state", Values::Of(<CallState as Label>::VALUES))],
        "Calls that are up now. A call between two phones behind the same core passes twice and counts twice.",
    ),
    series(
        Name::Subscriptions,
        "siplatch_subscriptions",
        Kind::Gauge,
        "dialogs",
        &[],
        "Subscriptions that are up now (busy lamps, message waiting).",
    ),
    series(Name::CallsStarted, "siplatch_calls_started_total", Kind::Counter, "calls", &[], "Calls that began."),
    series(
        Name::CallsAnswered,
        "siplatch_calls_answered_total",
        Kind::Counter,
        "calls",
        &[],
        "Calls that were answered.",
    ),
    series(
        Name::CallsTotal,
        "siplatch_calls_total",
        Kind::Counter,
        "calls",
        &[("cause", Values::Of(<Cause as Label>::VALUES)), ("answered", Values::Of(<Truth as Label>::VALUES))],
        "Calls that ended, by cause. `media_timeout` while people talk: media does not arrive, look at the drops.",
    ),
    series(
        Name::Requests,
        "siplatch_requests_total",
        Kind::Counter,
        "messages",
        &[DIRECTION, SIDE, METHOD],
        "Requests, without retransmissions of our own.",
    ),
    series(
        Name::Responses,
        "siplatch_responses_total",
        Kind::Counter,
        "messages",
        &[DIRECTION, SIDE, ("class", Values::Of(<Class as Label>::VALUES))],
        "Responses by class.",
    ),
    series(
        Name::Refused,
        "siplatch_refused_total",
        Kind::Counter,
        "requests",
        &[SIDE, ("status", Values::Of(REFUSALS))],
        "Requests that siplatch itself refused, by the status code that it answered.",
    ),
    series(
        Name::Overloaded,
        "siplatch_overload_refused_total",
        Kind::Counter,
        "requests",
        &[("urgency", Values::Of(<proxy::Urgency as Label>::VALUES))],
        "Requests refused with 503 for want of room or time: new ones first, emergency calls and what ends a call last.",
    ),
    series(
        Name::Lag,
        "siplatch_signalling_lag_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "How long a message may have waited before it was read, as long as such waits go on. From 0.1 on new requests are refused.",
    ),
    series(
        Name::AuthenticationFailures,
        "siplatch_authentication_failures_total",
        Kind::Counter,
        "requests",
        &[SIDE],
        "Wrong passwords, here or at the upstream, from sources that had been asked for one. Fast: somebody guesses; \
         deploy/fail2ban shuts it out.",
    ),
    series(
        Name::Dropped,
        "siplatch_dropped_total",
        Kind::Counter,
        "messages",
        &[SIDE, ("reason", Values::Of(<DropReason as Label>::VALUES))],
        "Messages that were dropped without an answer.",
    ),
    series(
        Name::Transactions,
        "siplatch_transactions",
        Kind::Gauge,
        "requests",
        &[],
        "Requests that wait for an answer, or whose answer is kept for copies of them: 32 s each.",
    ),
    series(
        Name::TransactionOctets,
        "siplatch_transactions_bytes",
        Kind::Gauge,
        "octets",
        &[],
        "What these hold of the memory.",
    ),
    series(
        Name::TransactionsForgotten,
        "siplatch_transactions_forgotten_total",
        Kind::Counter,
        "requests",
        &[SIDE],
        "Answers that were not kept for copies of their request, because its sender had spent its budget, or all room was short. Many: a flood.",
    ),
    series(
        Name::Oversize,
        "siplatch_oversize_requests_total",
        Kind::Counter,
        "requests",
        &[("outcome", Values::Of(<proxy::Oversize as Label>::VALUES))],
        "Requests to the upstream of more than 1300 octets: sent over TCP, sent by UDP because TCP was never answered, or \
         sent by UDP after a connection failed. The last two may be lost as fragments.",
    ),
    series(
        Name::Retransmissions,
        "siplatch_retransmissions_total",
        Kind::Counter,
        "messages",
        &[SIDE],
        "Messages that were sent again. Many: that side loses packets or is overloaded.",
    ),
    series(
        Name::Timeouts,
        "siplatch_timeouts_total",
        Kind::Counter,
        "transactions",
        &[SIDE, METHOD],
        "Requests of ours to which nobody answered.",
    ),
    series(
        Name::Refreshes,
        "siplatch_refreshes_total",
        Kind::Counter,
        "requests",
        &[("absorbed", Values::Of(<Truth as Label>::VALUES))],
        "REGISTER requests for the upstream; `absorbed`: it changed nothing and was answered here, in the upstream's place.",
    ),
    series(
        Name::Renewals,
        "siplatch_renewals_total",
        Kind::Counter,
        "requests",
        &[("outcome", Values::Of(<proxy::Renewed as Label>::VALUES))],
        "Phones that were registered again in their place because our public address had changed. Refused: is their \
         password right?",
    ),
    series(
        Name::CallsTold,
        "siplatch_calls_told_total",
        Kind::Counter,
        "calls",
        &[("outcome", Values::Of(<proxy::Renewed as Label>::VALUES))],
        "Calls whose far end was told, by a re-INVITE of ours, that our public address had changed. Refused: media may \
         be lost on the way to the phone.",
    ),
    series(
        Name::KeepAliveInterval,
        "siplatch_keepalive_interval_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "How rarely the provider may be pinged, as learnt from how long the router remembers silent mappings; 0 until \
         that is known. Below 25 s the router forgets early.",
    ),
    series(
        Name::ContactsWithoutToken,
        "siplatch_contacts_without_token_total",
        Kind::Counter,
        "requests",
        &[("found", Values::Of(<Truth as Label>::VALUES))],
        "Requests for our Contact that came back without its token; `found`: the user part alone named one phone.",
    ),
    series(
        Name::Datagrams,
        "siplatch_datagrams_total",
        Kind::Counter,
        "datagrams",
        &[SIDE, ("kind", Values::Of(<Datagram as Label>::VALUES))],
        "Datagrams that came in on signalling sockets, by what they were taken for.",
    ),
    series(
        Name::StreamInputs,
        "siplatch_stream_inputs_total",
        Kind::Counter,
        "messages",
        &[SIDE, STREAM, ("kind", Values::Of(<StreamInput as Label>::VALUES))],
        "What came in on connections; keep-alives that came at once count as one.",
    ),
    series(
        Name::Connections,
        "siplatch_connections",
        Kind::Gauge,
        "connections",
        &[SIDE, STREAM],
        "Connections that are open, their handshakes done.",
    ),
    series(
        Name::ConnectionsStrangers,
        "siplatch_connections_strangers",
        Kind::Gauge,
        "connections",
        &[],
        "Connections of peers that have proven nothing, those in their handshake included.",
    ),
    series(
        Name::ConnectionsOpened,
        "siplatch_connections_opened_total",
        Kind::Counter,
        "connections",
        &[SIDE, STREAM, DIRECTION],
        "Connections that came about; `out` are those that siplatch opened.",
    ),
    series(
        Name::ConnectionsClosed,
        "siplatch_connections_closed_total",
        Kind::Counter,
        "connections",
        &[SIDE, STREAM, ("reason", Values::Of(<Why as Label>::VALUES))],
        "Connections that ended or did not come about. `evicted`: strangers that made room, an attack or a limit of \
         open files that is too low; `slow`, `silent`: half-open or dripping ones; `overflow`: the peer did not take \
         what was sent; `unreachable`: siplatch could not connect.",
    ),
    series(
        Name::AcceptFailures,
        "siplatch_accept_failures_total",
        Kind::Counter,
        "failures",
        &[],
        "Times that the system had no descriptor for a connection that came in. Should be 0: raise the limit of open files.",
    ),
    series(
        Name::ConnectionsDenied,
        "siplatch_connections_denied_total",
        Kind::Counter,
        "connections",
        &[SIDE],
        "Connections of those who may not speak to us (allow, [[network]] access), closed before anything was read.",
    ),
    series(
        Name::SendFailures,
        "siplatch_send_failures_total",
        Kind::Counter,
        "messages",
        &[SIDE],
        "Messages that the system would not send: no route, a local firewall, too long.",
    ),
    series(
        Name::Lookups,
        "siplatch_lookups_total",
        Kind::Counter,
        "questions",
        &[("records", Values::Of(<Question as Label>::VALUES)), ("outcome", Values::Of(<Lookup as Label>::VALUES))],
        "Questions about next hops. `nothing` is usual for NAPTR and SRV; `failed`: no name server could say.",
    ),
    series(
        Name::ListenersBound,
        "siplatch_listeners_bound",
        Kind::Gauge,
        "sockets",
        &[],
        "Signalling sockets that are open.",
    ),
    series(
        Name::ListenersWaiting,
        "siplatch_listeners_waiting",
        Kind::Gauge,
        "sockets",
        &[],
        "Configured signalling sockets that cannot be opened and are tried again every 5 s. Should be 0.",
    ),
    series(
        Name::UpstreamUp,
        "siplatch_upstream_up",
        Kind::Gauge,
        "",
        &[("upstream", Values::Given("the number of the `[[upstream]]` in the configuration, from 0"))],
        "1 while new requests may go to the upstream and it answers probes (up, returning); 0 while it is down, asked for \
         a pause, or has never answered a probe.",
    ),
    series(
        Name::UpstreamTransport,
        "siplatch_upstream_transport",
        Kind::Gauge,
        "",
        &[
            ("upstream", Values::Given("the number of the `[[upstream]]` in the configuration, from 0")),
            ("transport", Values::Of(&["udp", "tcp", "tls"])),
        ],
        "1 for the transport by which new requests go to the upstream, where it has several (`fallback`); it is UDP while \
         that works.",
    ),
    series(
        Name::Failovers,
        "siplatch_failovers_total",
        Kind::Counter,
        "requests",
        &[("to", Values::Of(<FailoverTo as Label>::VALUES)), ("cause", Values::Of(<FailoverCause as Label>::VALUES))],
        "Requests that went on to the next address of the same upstream, or to the next upstream.",
    ),
    series(
        Name::StunUp,
        "siplatch_stun_up",
        Kind::Gauge,
        "",
        &[SIDE],
        "1 while the mapped address of every listener of the side is known; 0 also where STUN is not used.",
    ),
    series(
        Name::StunFindings,
        "siplatch_stun_findings_total",
        Kind::Counter,
        "findings",
        &[("finding", Values::Of(<Finding as Label>::VALUES))],
        "What STUN found amiss. `ports_differ`: the NAT is symmetric, so calls need a provider that latches, or TURN.",
    ),
    series(
        Name::TurnUsed,
        "siplatch_turn_used",
        Kind::Gauge,
        "",
        &[("reason", Values::Of(<RelayedWhy as Label>::VALUES))],
        "1 while media of new calls goes through the TURN server, for this reason. `symmetric`: nobody can send to what \
         STUN finds; `udp_blocked`: no STUN server answers.",
    ),
    series(
        Name::TurnAllocations,
        "siplatch_turn_allocations",
        Kind::Gauge,
        "pairs",
        &[],
        "Port pairs that have allocations (of RTP and of RTCP) on the TURN server, in calls and ahead of them.",
    ),
    series(
        Name::TurnFailures,
        "siplatch_turn_failures_total",
        Kind::Counter,
        "failures",
        &[("reason", Values::Of(<TurnFailure as Label>::VALUES))],
        "Allocations that the TURN server did not give, or that were lost. They are tried again after 2 s at first, \
         later each time, at most after a minute.",
    ),
    series(
        Name::TurnDenied,
        "siplatch_turn_denied_total",
        Kind::Counter,
        "peers",
        &[],
        "Peers that the TURN server relays nothing for: their addresses are forbidden there.",
    ),
    series(
        Name::TurnDropped,
        "siplatch_turn_dropped_packets_total",
        Kind::Counter,
        "packets",
        &[],
        "Media packets that had no room on the way to or from the TURN server, or came before a peer had permission.",
    ),
    series(
        Name::MappingChanges,
        "siplatch_mapping_changes_total",
        Kind::Counter,
        "changes",
        &[("by", Values::Of(<FoundBy as Label>::VALUES))],
        "Changes of an address that we advertise for a listener, the first one included.",
    ),
    series(
        Name::RouterMappings,
        "siplatch_router_mappings",
        Kind::Gauge,
        "mappings",
        &[("state", Values::Of(<Mapping as Label>::VALUES))],
        "Port mappings that the router is asked for, by what became of them. None where [outer] router is off.",
    ),
    series(
        Name::RouterForwards,
        "siplatch_router_forwards",
        Kind::Gauge,
        "forwards",
        &[("outside", Values::Of(<Light as Label>::VALUES))],
        "Installed mappings by what a STUN server with two addresses saw: `red` lets no stranger in, `unknown` could not be asked.",
    ),
    series(
        Name::RouterFindings,
        "siplatch_router_findings_total",
        Kind::Counter,
        "findings",
        &[("finding", Values::Of(<RouterFinding as Label>::VALUES))],
        "What is amiss with the router. `nonsense`: an answer that was refused. `private`, `foreign`: another NAT stands beyond it.",
    ),
    series(
        Name::MediaPackets,
        "siplatch_media_packets_total",
        Kind::Counter,
        "packets",
        &[DIRECTION, SIDE],
        "Media packets that were relayed.",
    ),
    series(
        Name::MediaBytes,
        "siplatch_media_bytes_total",
        Kind::Counter,
        "octets",
        &[DIRECTION, SIDE],
        "Their UDP payload.",
    ),
    series(
        Name::MediaDrops,
        "siplatch_media_drops_total",
        Kind::Counter,
        "packets",
        &[("reason", Values::Of(<media::Drop as Label>::VALUES))],
        "Packets on media ports that were dropped. `refused_source`: from where the call's media may not come; an \
         attack, or a carrier whose media has another address (a `[[network]]` with `latch = true` mends that). \
         `srtp_unauthenticated`: from where it may come, and without the SRTP key that SDP shows.",
    ),
    series(
        Name::MediaNeighbours,
        "siplatch_media_neighbours_refused_total",
        Kind::Counter,
        "packets",
        &[],
        "Of the refused sources, those next door to an allowed address: almost certainly such a carrier.",
    ),
    series(
        Name::MediaDatapath,
        "siplatch_media_datapath",
        Kind::Gauge,
        "",
        &[("backend", Values::Of(Backend::VALUES))],
        "1 for what media goes through. `kernel`: streams that go on as they did are forwarded by a program in the \
         kernel, the rest by the workers; `userspace`: all by the workers. The log of the start says why not in the kernel.",
    ),
    series(
        Name::MediaKernel,
        "siplatch_media_kernel_packets_total",
        Kind::Counter,
        "packets",
        &[],
        "Of `siplatch_media_packets_total` in, those that the kernel forwarded by itself; counted every five seconds.",
    ),
    series(
        Name::MediaTcpBytes,
        "siplatch_media_tcp_bytes_total",
        Kind::Counter,
        "octets",
        &[DIRECTION, SIDE],
        "What came and went on the connections of TCP media (BFCP, T.38 over TCP); not among the packets above.",
    ),
    series(
        Name::MediaTcpConnections,
        "siplatch_media_tcp_connections_total",
        Kind::Counter,
        "connections",
        &[SIDE, ("outcome", Values::Of(<Connected as Label>::VALUES))],
        "Connections of TCP media. `refused`: from where none may come, closed at once; `busy`: beside one that lives, \
         closed at once; `failed`: siplatch was to connect and could not, or the system had no descriptor; `unbound`: the \
         port could not be listened on, or there are too many such streams for the limit of open files. The last two \
         should be 0.",
    ),
    series(
        Name::Latches,
        "siplatch_latches_total",
        Kind::Counter,
        "latches",
        &[
            SIDE,
            ("component", Values::Of(<Component as Label>::VALUES)),
            ("kind", Values::Of(<Latch as Label>::VALUES)),
        ],
        "Media sources that were learned, and held ones that moved.",
    ),
    series(
        Name::MediaSilences,
        "siplatch_media_silences_total",
        Kind::Counter,
        "streams",
        &[],
        "Streams in which neither end sent anything for `media.timeout_s`.",
    ),
    series(
        Name::MediaUnheard,
        "siplatch_media_unheard_total",
        Kind::Counter,
        "legs",
        &[SIDE, ("reason", Values::Of(<media::silence::Reason as Label>::VALUES))],
        "Legs of answered calls, not on hold, from which no audio came for 2 s, once per silence. `private`: nothing ever \
         came, and SDP names a private address; `refused`: it comes from where it may not; `family`: SDP names an IPv4 \
         address to an IPv6 socket or the reverse; `stopped`: it had come before, which phones that send nothing while \
         nobody speaks do as well.",
    ),
    series(
        Name::MediaHeard,
        "siplatch_media_heard_again_total",
        Kind::Counter,
        "legs",
        &[SIDE],
        "Of these, those from which audio came in the end.",
    ),
    series(
        Name::MediaFailures,
        "siplatch_media_failures_total",
        Kind::Counter,
        "streams",
        &[],
        "Streams that a worker could not take or keep. Should be 0.",
    ),
    series(
        Name::MediaLoss,
        "siplatch_media_loss_ratio",
        Kind::Histogram(&[0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0]),
        "share of packets",
        &[SIDE],
        "RTP packets that were sent to us and did not arrive, one value per leg of a stream that has ended. From 0.03 on \
         people notice.",
    ),
    series(
        Name::MediaJitter,
        "siplatch_media_jitter_seconds",
        Kind::Histogram(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5]),
        "seconds",
        &[SIDE],
        "Interarrival jitter of RTP (RFC 3550) at the end of a stream, one value per leg. What exceeds a phone's jitter \
         buffer, often 0.06, is lost to its ear.",
    ),
    series(
        Name::MediaRoundTrip,
        "siplatch_media_round_trip_seconds",
        Kind::Histogram(&[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0]),
        "seconds",
        &[SIDE],
        "The way from here to the peer and back, by the last RTCP report of a stream, one value per leg that sent one.",
    ),
    series(
        Name::MediaScore,
        "siplatch_media_mos",
        Kind::Histogram(&[1.5, 2.0, 2.5, 2.6, 3.1, 3.6, 4.0, 4.3, 4.5]),
        "score",
        &[SIDE],
        "Estimated mean opinion score (E-model of ITU-T G.107) of what came from a leg, 1 to 4.5, at the end of a stream; \
         only for codecs that G.113 has figures for. Below 3.6 many users are dissatisfied.",
    ),
    series(Name::WorkersAlive, "siplatch_workers_alive", Kind::Gauge, "threads", &[], "Media workers that run."),
    series(
        Name::PortsFree,
        "siplatch_ports_free",
        Kind::Gauge,
        "pairs",
        &[RANGE],
        "Port pairs that are neither in a call nor resting. At 0, calls are refused with 503.",
    ),
    series(
        Name::PortsIdle,
        "siplatch_ports_idle",
        Kind::Gauge,
        "pairs",
        &[RANGE],
        "Of these, bound ahead (and, with STUN, mapped) and ready at once.",
    ),
    series(Name::PortsLive, "siplatch_ports_live", Kind::Gauge, "pairs", &[RANGE], "Port pairs in calls."),
    series(
        Name::PortsResting,
        "siplatch_ports_resting",
        Kind::Gauge,
        "pairs",
        &[RANGE],
        "Port pairs that wait until no late packet comes any more.",
    ),
    series(
        Name::PortsTotal,
        "siplatch_ports_total",
        Kind::Gauge,
        "pairs",
        &[RANGE],
        "Port pairs of the range, per local address in use.",
    ),
    series(
        Name::PortsUsed,
        "siplatch_ports_used_ratio",
        Kind::Gauge,
        "share of pairs",
        &[RANGE],
        "Port pairs in calls or resting. From 0.8 on the log warns; at 1, calls are refused with 503.",
    ),
    series(
        Name::PortsOrphaned,
        "siplatch_ports_orphaned",
        Kind::Gauge,
        "pairs",
        &[],
        "Port pairs that are in use and belong to no call, looked for every 5 s. Should be 0: anything else is a fault of \
         siplatch.",
    ),
    series(
        Name::PortsExhausted,
        "siplatch_ports_exhausted_total",
        Kind::Counter,
        "calls",
        &[SIDE],
        "Calls that found no free port pair.",
    ),
    series(
        Name::Restored,
        "siplatch_restored_total",
        Kind::Counter,
        "records",
        &[("record", Values::Of(<Kept as Label>::VALUES))],
        "Registrations and calls that were taken over from an earlier process at start.",
    ),
    series(
        Name::RestoreLost,
        "siplatch_restore_lost_total",
        Kind::Counter,
        "records",
        &[("reason", Values::Of(<Lost as Label>::VALUES))],
        "Of what an earlier process left, what could not be taken over. `listener`: that listener is not configured any \
         more; `damaged`: lines that were torn or altered, one after a kill is normal.",
    ),
    series(
        Name::SnapshotWrites,
        "siplatch_snapshot_writes_total",
        Kind::Counter,
        "writes",
        &[],
        "Writes to the file in `[state] dir` that registrations and calls outlive a restart by.",
    ),
    series(
        Name::SnapshotFailures,
        "siplatch_snapshot_failures_total",
        Kind::Counter,
        "writes",
        &[],
        "Writes to it that failed and are tried again. Growing: disk full or read-only; calls go on, a restart would lose them.",
    ),
    series(
        Name::SnapshotWritten,
        "siplatch_snapshot_written_bytes_total",
        Kind::Counter,
        "octets",
        &[],
        "What they wrote.",
    ),
    series(
        Name::SnapshotEntries,
        "siplatch_snapshot_entries",
        Kind::Gauge,
        "records",
        &[],
        "Registrations, answered calls and subscriptions that a restart would find again.",
    ),
    series(Name::SnapshotBytes, "siplatch_snapshot_bytes", Kind::Gauge, "octets", &[], "Size of that file."),
    series(
        Name::CallRecords,
        "siplatch_call_records_total",
        Kind::Counter,
        "lines",
        &[("result", Values::Of(<Recorded as Label>::VALUES))],
        "Records of calls for `calls.jsonl` in `[state] dir`. `failed`: the disk refused; `dropped`: the disk was so slow \
         that too many waited.",
    ),
    series(
        Name::LogSuppressed,
        "siplatch_log_suppressed_total",
        Kind::Counter,
        "lines",
        &[],
        "Log lines that were held back because too many of their kind came at once.",
    ),
    series(
        Name::Reloads,
        "siplatch_reloads_total",
        Kind::Counter,
        "reloads",
        &[("result", Values::Of(<Reloaded as Label>::VALUES))],
        "Reloads of the configuration. A refused one has changed nothing.",
    ),
    series(
        Name::ReloadRefused,
        "siplatch_reload_refused",
        Kind::Gauge,
        "",
        &[],
        "1 while the last reload was refused: what runs is not what is written. siplatch status says why.",
    ),
    series(Name::ProcessMemory, "process_resident_memory_bytes", Kind::Gauge, "octets", &[], "Memory in use."),
    series(Name::ProcessFds, "process_open_fds", Kind::Gauge, "descriptors", &[], "Open file descriptors."),
    series(Name::ProcessMaxFds, "process_max_fds", Kind::Gauge, "descriptors", &[], "Most that may be open."),
    series(Name::ProcessCpu, "process_cpu_seconds_total", Kind::Counter, "seconds", &[], "Processor time used."),
    series(
        Name::ProcessStart,
        "process_start_time_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "When the program started, seconds since 1970.",
    ),
];

/// `docs/metrics.md`.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed at `/metrics` on `[metrics] listen`. Generated from the code by `siplatch metrics-doc`; do \
         not edit.\nLabels come from fixed lists or from the configuration, never from messages.\n",
    );
    for series in TABLE {
        let kind = match series.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let unit = if series.unit.is_empty() { String::new() } else { format!(", in {}", series.unit) };
        page.push_str(&format!("\n## `{}`\n\n{kind}{unit}. {}\n", series.id, series.help));
        if !series.labels.is_empty() {
            page.push('\n');
        }
        for (label, values) in series.labels {
            let values = match values {
                Values::Of(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", "),
                Values::Given(what) => (*what).to_owned(),
            };
            page.push_str(&format!("- `{label}`: {values}\n"));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_its_names() {
        for (index, series) in TABLE.iter().enumerate() {
            assert_eq!(series.name as usize, index, "{}", series.id);
        }
    }

    #[test]
    fn written_page_is_the_generated_one() {
        let written = include_str!("../../../../docs/metrics.md");
        assert_eq!(written, page(), "run `siplatch metrics-doc > docs/metrics.md`");
    }
}
