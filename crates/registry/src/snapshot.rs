//! Records that outlive the process: their portable form, and back.
//!
//! An `Instant` means nothing to the next process, and the number of a
//! listener only what its configuration says. So a portable record carries
//! what is left of a lifetime, and where a listener is bound. What is known of
//! media, of early dialogs and of connections does not outlive the process.
//!
//! Must not: read a clock (`now` and the time between are arguments) or know
//! how a record is encoded and where it is kept.

mod text;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::Side;
use serde::{Deserialize, Serialize};
use text::Text;
use wire::{Flow, ListenerId, Transport};

use crate::{Binding, BindingId, Call, CallKind, CallState, Confirmed, FlowId, Key, Party, PassId, Record, Renewal};

/// A configured listener, as it is known without its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its side.
    pub side: Side,
    /// What it speaks.
    pub transport: Transport,
    /// Bound address; may be a wildcard.
    pub bind: SocketAddr,
}

/// Why a portable record is not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lost {
    /// Its lifetime ran out in between.
    Expired,
    /// A listener that it names is not configured any more.
    Listener,
    /// It cannot be read, or says what no record can.
    Damaged,
}

/// What of a record outlives the process; `None` if nothing does. Two records
/// whose essence is equal need not be written twice.
///
/// A binding over a connection ends with the connection: the phone must open
/// another one before it can be reached. An early call ends because nobody
/// would be left to answer it. Which `[[phone]]` it belongs to is found again.
pub fn essence(record: Record) -> Option<Record> {
    match record {
        Record::Binding(binding) if binding.flow.transport.reliable() => None,
        Record::Binding(mut binding) => {
            binding.missed = 0;
            binding.phone = None;
            Some(Record::Binding(binding))
        }
        Record::Call(call) if call.state == CallState::Early => None,
        Record::Call(mut call) => {
            // Its BYE comes again, or its time runs out.
            call.state = CallState::Confirmed;
            call.streams = Vec::new();
            call.phone = None;
            Some(Record::Call(call))
        }
    }
}

/// A record in a form that means the same to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Portable {
    /// A binding.
    Binding(Box<PortableBinding>),
    /// A call.
    Call(Box<PortableCall>),
}

/// A binding, portable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableBinding {
    id: BindingId,
    aor: Text,
    contact: Text,
    instance: Option<Text>,
    reg_id: Option<u32>,
    call_id: Text,
    cseq: u32,
    flow: PortableFlow,
    flow_id: FlowId,
    upstream: Option<PortableFlow>,
    natted: bool,
    q: u16,
    user_agent: Text,
    lasts_ms: u64,
    granted_ms: u64,
    confirmed: PortableConfirmed,
    answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PortableConfirmed {
    seconds: u32,
    told: u32,
    asked: u64,
    credentials: Option<u64>,
    lines: Text,
    gruus: Vec<Text>,
    #[serde(default)]
    renewal: Option<PortableRenewal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PortableRenewal {
    request: Text,
    realm: Text,
    username: Text,
    shift: u32,
}

/// A call, portable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortableCall {
    id: PassId,
    kind: CallKind,
    call_id: Text,
    caller: PortableParty,
    callees: Vec<PortableParty>,
    onward: PortableFlow,
    began_ms_ago: u64,
    answered_ms_ago: Option<u64>,
    lasts_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PortableParty {
    tag: Text,
    identity: Text,
    contact: Text,
    route: Vec<Text>,
    flow: PortableFlow,
    binding: Option<BindingId>,
    cseq: u32,
    state: CallState,
    branch: u16,
    #[serde(default)]
    raised: [u32; 2],
    #[serde(default)]
    session: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PortableFlow {
    at: Place,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Portable {
    /// The portable form of a record's [`essence`]; `None` if a listener that
    /// it names has no place. `places`: the listeners, each at its number.
    pub fn of(record: &Record, now: Instant, places: &[Place]) -> Option<Self> {
        Some(match record {
            Record::Binding(binding) => Self::Binding(Box::new(PortableBinding::of(binding, now, places)?)),
            Record::Call(call) => Self::Call(Box::new(PortableCall::of(call, now, places)?)),
        })
    }

    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Binding(binding) => Key::Binding(binding.id),
            Self::Call(call) => Key::Call(call.id),
        }
    }

    /// The record again, `passed` after it was made portable.
    pub fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Record, Lost> {
        Ok(match self {
            Self::Binding(binding) => Record::Binding(Box::new(binding.restore(now, passed, places)?)),
            Self::Call(call) => Record::Call(Box::new(call.restore(now, passed, places)?)),
        })
    }
}

impl PortableBinding {
    fn of(binding: &Binding, now: Instant, places: &[Place]) -> Option<Self> {
        let Binding {
            id,
            aor,
            contact,
            instance,
            reg_id,
            call_id,
            cseq,
            flow,
            flow_id,
            upstream,
            natted,
            phone: _,
            q,
            user_agent,
            expires,
            until,
            confirmed,
            answered,
            missed: _,
        } = binding;
        Some(Self {
            id: *id,
            aor: aor.into(),
            contact: contact.into(),
            instance: instance.as_ref().map(Text::from),
            reg_id: *reg_id,
            call_id: call_id.into(),
            cseq: *cseq,
            flow: PortableFlow::of(*flow, places)?,
            flow_id: *flow_id,
            upstream: upstream.map(|flow| PortableFlow::of(flow, places).ok_or(())).transpose().ok()?,
            natted: *natted,
            q: *q,
            user_agent: user_agent.into(),
            lasts_ms: millis(expires.saturating_duration_since(now)),
            granted_ms: millis(until.saturating_duration_since(now)),
            confirmed: PortableConfirmed::of(confirmed),
            answered: *answered,
        })
    }

    fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Binding, Lost> {
        Ok(Binding {
            id: self.id,
            aor: self.aor.into(),
            contact: self.contact.into(),
            instance: self.instance.map(Vec::from),
            reg_id: self.reg_id,
            call_id: self.call_id.into(),
            cseq: self.cseq,
            flow: self.flow.restore(places)?,
            flow_id: self.flow_id,
            upstream: self.upstream.map(|flow| flow.restore(places)).transpose()?,
            natted: self.natted,
            phone: None,
            q: self.q,
            user_agent: self.user_agent.into(),
            expires: left(now, passed, self.lasts_ms)?,
            until: left(now, passed, self.granted_ms)?,
            confirmed: self.confirmed.restore(),
            answered: self.answered,
            missed: 0,
        })
    }
}

impl PortableConfirmed {
    fn of(confirmed: &Confirmed) -> Self {
        let Confirmed { seconds, told, asked, credentials, lines, gruus, renewal } = confirmed;
        Self {
            seconds: *seconds,
            told: *told,
            asked: *asked,
            credentials: *credentials,
            lines: lines.into(),
            gruus: gruus.iter().map(Text::from).collect(),
            renewal: renewal.as_ref().map(PortableRenewal::of),
        }
    }

    fn restore(self) -> Confirmed {
        Confirmed {
            seconds: self.seconds,
            told: self.told,
            asked: self.asked,
            credentials: self.credentials,
            lines: self.lines.into(),
            gruus: self.gruus.into_iter().map(Vec::from).collect(),
            renewal: self.renewal.map(PortableRenewal::restore),
        }
    }
}

impl PortableRenewal {
    fn of(renewal: &Renewal) -> Self {
        let Renewal { request, realm, username, shift } = renewal;
        Self { request: request.into(), realm: realm.into(), username: username.into(), shift: *shift }
    }

    fn restore(self) -> Renewal {
        let Self { request, realm, username, shift } = self;
        Renewal { request: request.into(), realm: realm.into(), username: username.into(), shift }
    }
}

impl PortableCall {
    fn of(call: &Call, now: Instant, places: &[Place]) -> Option<Self> {
        let Call {
            id,
            kind,
            state: _,
            call_id,
            caller,
            callees,
            onward,
            streams: _,
            since,
            answered,
            expires,
            phone: _,
        } = call;
        let ago = |at: &Instant| millis(now.saturating_duration_since(*at));
        Some(Self {
            id: *id,
            kind: *kind,
            call_id: call_id.into(),
            caller: PortableParty::of(caller, places)?,
            callees: callees.iter().map(|callee| PortableParty::of(callee, places)).collect::<Option<_>>()?,
            onward: PortableFlow::of(*onward, places)?,
            began_ms_ago: ago(since),
            answered_ms_ago: answered.as_ref().map(ago),
            lasts_ms: expires.map(|at| millis(at.saturating_duration_since(now))),
        })
    }

    fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Call, Lost> {
        let at = |ago: u64| now.checked_sub(Duration::from_millis(ago).saturating_add(passed)).unwrap_or(now);
        Ok(Call {
            id: self.id,
            kind: self.kind,
            state: CallState::Confirmed,
            call_id: self.call_id.into(),
            caller: self.caller.restore(places)?,
            callees: self.callees.into_iter().map(|callee| callee.restore(places)).collect::<Result<_, _>>()?,
            onward: self.onward.restore(places)?,
            streams: Vec::new(),
            since: at(self.began_ms_ago),
            answered: self.answered_ms_ago.map(at),
            expires: self.lasts_ms.map(|lasts| left(now, passed, lasts)).transpose()?,
            phone: None,
        })
    }
}

impl PortableParty {
    fn of(party: &Party, places: &[Place]) -> Option<Self> {
        let Party { tag, identity, contact, route, flow, binding, cseq, state, branch, raised, session } = party;
        Some(Self {
            tag: tag.into(),
            identity: identity.into(),
            contact: contact.into(),
            route: route.iter().map(Text::from).collect(),
            flow: PortableFlow::of(*flow, places)?,
            binding: *binding,
            cseq: *cseq,
            state: *state,
            branch: *branch,
            raised: *raised,
            session: session.into(),
        })
    }

    fn restore(self, places: &[Place]) -> Result<Party, Lost> {
        Ok(Party {
            tag: self.tag.into(),
            identity: self.identity.into(),
            contact: self.contact.into(),
            route: self.route.into_iter().map(Vec::from).collect(),
            flow: self.flow.restore(places)?,
            binding: self.binding,
            cseq: self.cseq,
            state: self.state,
            branch: self.branch,
            raised: self.raised,
            session: self.session.into(),
        })
    }
}

impl PortableFlow {
    fn of(flow: Flow, places: &[Place]) -> Option<Self> {
        let Flow { transport: _, listener, connection: _, local, remote } = flow;
        Some(Self { at: *places.get(usize::from(listener.0))?, local, remote })
    }

    /// A connection does not outlive the process: 0 is none.
    fn restore(self, places: &[Place]) -> Result<Flow, Lost> {
        let number = places.iter().position(|place| *place == self.at).ok_or(Lost::Listener)?;
        let listener = u16::try_from(number).map(ListenerId).map_err(|_| Lost::Listener)?;
        let Self { at, local, remote } = self;
        Ok(Flow { transport: at.transport, listener, connection: 0, local, remote })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The end of a lifetime of which so much was left. A clock that was set back
/// in between gives `passed` zero, and nobody lives longer for it.
fn left(now: Instant, passed: Duration, lasts_ms: u64) -> Result<Instant, Lost> {
    let left = Duration::from_millis(lasts_ms).saturating_sub(passed);
    if left.is_zero() {
        return Err(Lost::Expired);
    }
    now.checked_add(left).ok_or(Lost::Damaged)
}

#[cfg(test)]
mod tests;
