//! Requests of our own: each in a transaction of its own, and inside a dialog
//! spoken for one leg to another (RFC 3261 §12.2.1.1). What their answers are
//! for is handed on from here.

use std::time::Instant;

use registry::{Call, Party};
use wire::Flow;
use wire::sip::compose::Request;
use wire::sip::{Message, Method, Status, Stored, session_id};

use crate::cseq;
use crate::locate::{Hop, Way};
use crate::request::Target;
use crate::request::target::party;
use crate::rewrite::via;
use crate::token::short;
use crate::transaction::{Branch, Client, Context, Id, Ours, Purpose};
use crate::{Observed, Proxy, Renewed};

impl Proxy {
    /// A BYE to leg `to`, spoken for leg `from` (§15.1.1). `extra` is whole header lines.
    pub(crate) fn bye(&mut self, now: Instant, call: &Call, from: u8, to: u8, extra: &str) {
        let cseq = party(call, from).map_or(0, |speaker| speaker.cseq);
        let cseq = cseq::above(cseq, cseq::raised(call, from, to).saturating_add(1));
        self.inside(now, call, (from, to), (Method::Bye, cseq), |_, _| (extra.to_owned(), None), Ours::Bye);
    }

    /// A request inside a dialog, with this CSeq; `None` where no way leads to
    /// leg `to`. `say` gives whole header lines and the body (SDP), for the flow
    /// that it leaves on.
    pub(crate) fn inside(
        &mut self,
        now: Instant,
        call: &Call,
        (from, to): (u8, u8),
        (method, cseq): (Method<'_>, u32),
        say: impl FnOnce(&mut Self, Flow) -> (String, Option<Vec<u8>>),
        purpose: Ours,
    ) -> Option<Id> {
        let (speaker, listener) = (party(call, from)?, party(call, to)?);
        let next = listener.route.first().map(Vec::as_slice);
        let target = self.toward(call, to, next)?;
        let crate::locate::Located::At(flow) = self.locate(now, &target.hop) else { return None };
        if !self.connections.is_open(flow) {
            return None;
        }
        let uri = target.uri.clone().unwrap_or_default();
        let (extra, body) = say(self, flow);
        let extra = [session_line(speaker, listener), extra.into_bytes()].concat();
        self.originate(now, flow, target, purpose, |via| {
            let mut bytes = Vec::with_capacity(512);
            Request {
                method,
                uri: &uri,
                via,
                route: &listener.route,
                from: &speaker.identity,
                to: &listener.identity,
                call_id: &call.call_id,
                cseq,
                extra: &extra,
                body: body.as_deref().map(|body| ("application/sdp", body)),
            }
            .write(&mut bytes);
            bytes
        })
    }

    /// Sends a request of our own in a transaction of its own.
    pub(crate) fn originate(
        &mut self,
        now: Instant,
        flow: Flow,
        target: Target,
        purpose: Ours,
        compose: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Option<Id> {
        let number = self.random();
        let branch = Branch::new(target, flow, number);
        let id = self.contexts.insert(Context::new(flow, Stored::default(), Purpose::Ours(purpose), vec![branch]));
        let mut context = self.contexts.take(id)?;
        let top = via::Ours::new(self.own(flow), id, number);
        let bytes = compose(&top.pieces().concat());
        if let Ok(mut stored) = Stored::parse(bytes.clone(), &self.config.limits) {
            let side = self.side(flow);
            self.observe(Observed::RequestOut { side, method: stored.message().method().into() });
            context.invite = stored.message().method() == Method::Invite;
            // As it was sent it is kept by its branch.
            if !context.invite {
                stored.keep_essence();
            }
            context.request = stored;
            context.branches[0].client = Some(Client::new(now, context.invite, flow.transport.reliable()));
            context.branches[0].sent = bytes.clone();
            self.transmit(flow, bytes);
        }
        self.keep(now, context);
        Some(id)
    }

    /// The answer to a request of our own.
    pub(crate) fn own_response(
        &mut self,
        now: Instant,
        context: &mut Context,
        flow: Flow,
        message: Message<'_>,
        status: Status,
    ) {
        if status.is_provisional() {
            return;
        }
        let Purpose::Ours(own) = context.purpose.clone() else { return };
        match own {
            Ours::Ping(id) => {
                // Only the phone itself, at the address that is bound, proves that it is there.
                if self.registry.binding(id).is_some_and(|b| b.flow == context.flow)
                    && context.flow.remote == flow.remote
                {
                    self.registry.pinged(id, true);
                }
            }
            Ours::PingUpstream { listener } => {
                if let Some(way) = probed(context) {
                    self.probed(now, way.flow, Some(message));
                    self.ask_for_tcp(now, &way);
                    self.try_stun(now, way.flow);
                }
                if let Some(seen) = message.top_via().ok().as_ref().and_then(via::observed) {
                    self.seen_by_upstream(now, listener, flow, seen);
                }
            }
            Ours::AskTcp => self.tcp_answered(now, context.flow, true),
            Ours::Renew(renewing) => self.renewed(now, context, &renewing, flow, message, status),
            Ours::Probe { pass, from, to } => self.probed_end(now, pass, (from, to), Some(status)),
            Ours::Move(moving) => self.move_answered(now, context, &moving, flow, message, status),
            Ours::Bye => {}
        }
    }

    /// Nobody answered a request of our own.
    pub(crate) fn own_timeout(&mut self, now: Instant, context: &Context) {
        let Purpose::Ours(own) = &context.purpose else { return };
        match *own {
            Ours::Ping(id) => {
                if self.registry.binding(id).is_some_and(|b| b.flow == context.flow)
                    && let Some(binding) = self.registry.pinged(id, false)
                    && binding.gone()
                    && binding.missed == 3
                {
                    let aor = String::from_utf8_lossy(binding.aor()).into_owned();
                    self.observe(Observed::PhoneGone { aor });
                }
            }
            Ours::PingUpstream { .. } => {
                if let Some(way) = probed(context) {
                    self.probed(now, way.flow, None);
                }
            }
            Ours::AskTcp => self.tcp_answered(now, context.flow, false),
            Ours::Renew(_) => self.observe(Observed::Renewed { outcome: Renewed::Unanswered }),
            Ours::Probe { pass, from, to } => self.probed_end(now, pass, (from, to), None),
            Ours::Move(ref moving) => self.move_unanswered(now, moving),
            Ours::Bye => {}
        }
    }

    /// A Call-ID or tag of our own.
    pub(crate) fn fresh_text(&mut self) -> String {
        let number = self.random();
        String::from_utf8_lossy(&short(number)).into_owned()
    }
}

/// The address that a probe went to.
fn probed(context: &Context) -> Option<Way> {
    match &context.branches.first()?.target.hop {
        Hop::Way { way, .. } => Some(way.clone()),
        Hop::Flow(_) | Hop::Host(_) | Hop::Upstream { .. } => None,
    }
}

/// The Session-ID of a request that we send for one party to another; empty where neither has any.
pub(crate) fn session_line(from: &Party, to: &Party) -> Vec<u8> {
    let known = |party: &'_ Party| (!party.session.is_empty()).then(|| party.session.clone());
    session_id::line(known(from).as_deref(), known(to).as_deref())
}

/// Why a request of ours ends something (RFC 3326).
pub(crate) fn header(reason: &str) -> String {
    format!("Reason: SIP ;cause=200 ;text=\"{reason}\"\r\n")
}
