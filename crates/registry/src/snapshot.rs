//! Records that outlive the process: their portable form, and back.
//!
//! An `Instant` means nothing to the next process, and the number of a
//! listener only what its configuration says. So a portable record carries
//! what is left of a lifetime, and where a listener is bound. What is known of
//! media, of early dialogs and of connections does not outlive the process.
//!
//! Each record is an object of JSON: written field by field, because that is
//! done for every call, and read by name. Must not: read a clock (`now` and the
//! time between are arguments) or know where a record is kept.

pub mod json;
mod text;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::Side;
use serde::Deserialize;
use text::Text;
use wire::{Flow, ListenerId, Transport};

use crate::{
    Binding, BindingId, Call, CallKind, CallState, Confirmed, FlowId, Key, Party, PassId, Record, Renewal, Said,
};

/// A configured listener, as it is known without its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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

/// True if something of a record outlives the process.
///
/// A binding over a connection ends with the connection: the phone must open
/// another one before it can be reached. An early call ends because nobody
/// would be left to answer it.
pub fn outlives(record: &Record) -> bool {
    match record {
        Record::Binding(binding) => !binding.flow.get().transport.reliable(),
        Record::Call(call) => call.state != CallState::Early,
    }
}

/// True if two records have the same portable form: it need not be written twice.
///
/// Which `[[phone]]` it belongs to is found again; and of a call that ends the
/// BYE comes again, or its time runs out.
pub fn same(before: &Record, after: &Record) -> bool {
    match (before, after) {
        (Record::Binding(before), Record::Binding(after)) => {
            Arc::ptr_eq(before, after)
                || is_refreshed(before, after)
                    && (before.call_id(), before.cseq) == (after.call_id(), after.cseq)
                    && (before.expires, before.until) == (after.expires, after.until)
        }
        (Record::Call(before), Record::Call(after)) => Arc::ptr_eq(before, after) || is_same_call(before, after),
        (Record::Binding(_), Record::Call(_)) | (Record::Call(_), Record::Binding(_)) => false,
    }
}

fn is_same_call(before: &Call, after: &Call) -> bool {
    let Call { id, kind, state: _, call_id, caller, callees, onward, streams: _, since, answered, expires, phone: _ } =
        before;
    (id, kind, call_id, onward) == (&after.id, &after.kind, &after.call_id, &after.onward)
        && (caller, callees) == (&after.caller, &after.callees)
        && (since, answered, expires) == (&after.since, &after.answered, &after.expires)
}

/// Writes the portable form of a record that [`outlives`] the process; false, and nothing is
/// written, if a listener that it names has no place. `places`: the listeners,
/// each at its number.
pub fn write(record: &Record, now: Instant, places: &[Place], out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let written = match record {
        Record::Binding(binding) => write::binding(binding, now, places, out),
        Record::Call(call) => write::call(call, now, places, out),
    };
    if written.is_none() {
        out.truncate(before);
    }
    written.is_some()
}

/// True if all that has changed between two records is what a refresh of a
/// binding changes: [`write_refresh`] says that in a few octets.
pub fn is_refresh(before: &Record, after: &Record) -> bool {
    match (before, after) {
        (Record::Binding(before), Record::Binding(after)) => is_refreshed(before, after),
        (Record::Binding(_) | Record::Call(_), Record::Binding(_) | Record::Call(_)) => false,
    }
}

fn is_refreshed(before: &Binding, after: &Binding) -> bool {
    let Binding {
        id,
        texts,
        instance,
        reg_id,
        cseq: _,
        flow,
        flow_id,
        upstream,
        natted,
        phone: _,
        q,
        expires: _,
        until: _,
        confirmed,
        answered,
        missed: _,
    } = before;
    (id, reg_id, flow, flow_id, upstream) == (&after.id, &after.reg_id, &after.flow, &after.flow_id, &after.upstream)
        && (natted, q, answered) == (&after.natted, &after.q, &after.answered)
        && (instance, confirmed) == (&after.instance, &after.confirmed)
        && (texts == &after.texts || Said { call_id: b"", ..texts.get() } == Said { call_id: b"", ..after.said() })
}

/// Writes what a refresh has changed of a binding.
pub fn write_refresh(binding: &Binding, now: Instant, out: &mut Vec<u8>) {
    write::refresh(binding, now, out);
}

/// A binding that lasts longer; all else is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refresh {
    /// Which.
    pub id: BindingId,
    call_id: Text,
    cseq: u32,
    lasts_ms: u64,
    granted_ms: u64,
}

/// A record in a form that means the same to another process, as [`write`] has written it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Portable {
    /// A binding.
    Binding(Box<PortableBinding>),
    /// A call.
    Call(Box<PortableCall>),
}

/// A binding, portable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PortableRenewal {
    request: Text,
    realm: Text,
    username: Text,
    shift: u32,
}

/// A call, portable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct PortableFlow {
    at: Place,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Portable {
    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Binding(binding) => Key::Binding(binding.id),
            Self::Call(call) => Key::Call(call.id),
        }
    }

    /// It was refreshed.
    pub fn refresh(&mut self, refresh: Refresh) {
        let Refresh { id, call_id, cseq, lasts_ms, granted_ms } = refresh;
        if let Self::Binding(binding) = self
            && binding.id == id
        {
            (binding.call_id, binding.cseq) = (call_id, cseq);
            (binding.lasts_ms, binding.granted_ms) = (lasts_ms, granted_ms);
        }
    }

    /// The record again, `passed` after it was made portable.
    pub fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Record, Lost> {
        Ok(match self {
            Self::Binding(binding) => Record::Binding(Arc::new(binding.restore(now, passed, places)?)),
            Self::Call(call) => Record::Call(call.restore(now, passed, places)?.into()),
        })
    }
}

impl PortableBinding {
    fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Binding, Lost> {
        Ok(Binding {
            id: self.id,
            texts: Said {
                aor: &self.aor.0,
                contact: &self.contact.0,
                call_id: &self.call_id.0,
                user_agent: &self.user_agent.0,
                lines: &self.confirmed.lines.0,
            }
            .into(),
            instance: self.instance.map(Arc::from),
            reg_id: self.reg_id,
            cseq: self.cseq,
            flow: self.flow.restore(places)?.into(),
            flow_id: self.flow_id,
            upstream: self.upstream.map(|flow| flow.restore(places).map(Arc::new)).transpose()?,
            natted: self.natted,
            phone: None,
            q: self.q,
            expires: left(now, passed, self.lasts_ms)?,
            until: left(now, passed, self.granted_ms)?,
            confirmed: self.confirmed.restore(),
            answered: self.answered,
            missed: 0,
        })
    }
}

impl PortableConfirmed {
    fn restore(self) -> Confirmed {
        Confirmed {
            seconds: self.seconds,
            told: self.told,
            asked: self.asked,
            again: 0,
            credentials: self.credentials,
            gruus: self.gruus.into_iter().map(Vec::from).collect(),
            renewal: self.renewal.map(|renewal| Box::new(renewal.restore())),
        }
    }
}

impl PortableRenewal {
    fn restore(self) -> Renewal {
        let Self { request, realm, username, shift } = self;
        Renewal { request: request.into(), realm: realm.into(), username: username.into(), shift }
    }
}

impl PortableCall {
    fn restore(self, now: Instant, passed: Duration, places: &[Place]) -> Result<Call, Lost> {
        let at = |ago: u64| now.checked_sub(Duration::from_millis(ago).saturating_add(passed)).unwrap_or(now);
        Ok(Call {
            id: self.id,
            kind: self.kind,
            state: CallState::Confirmed,
            call_id: self.call_id.into(),
            caller: self.caller.restore(places)?,
            callees: self.callees.into_iter().map(|callee| callee.restore(places)).collect::<Result<_, _>>()?,
            onward: self.onward.restore(places)?.into(),
            streams: Arc::default(),
            since: at(self.began_ms_ago),
            answered: self.answered_ms_ago.map(at),
            expires: self.lasts_ms.map(|lasts| left(now, passed, lasts)).transpose()?,
            phone: None,
        })
    }
}

impl PortableParty {
    fn restore(self, places: &[Place]) -> Result<Party, Lost> {
        Ok(Party {
            tag: self.tag.into(),
            identity: self.identity.into(),
            contact: self.contact.into(),
            route: self.route.into_iter().map(Vec::from).collect(),
            flow: self.flow.restore(places)?.into(),
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
    /// A connection does not outlive the process: 0 is none.
    fn restore(self, places: &[Place]) -> Result<Flow, Lost> {
        let number = places.iter().position(|place| *place == self.at).ok_or(Lost::Listener)?;
        let listener = u16::try_from(number).map(ListenerId).map_err(|_| Lost::Listener)?;
        let Self { at, local, remote } = self;
        Ok(Flow { transport: at.transport, listener, connection: 0, local, remote })
    }
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
