//! The portable form of records, written: fields and their order are those of
//! [`Portable`](super::Portable), which reads them; what is not there is left out.

use std::time::{Duration, Instant};

use wire::{Flow, Transport};

use super::Place;
use super::json::Json;
use crate::{Binding, Call, CallKind, CallState, Confirmed, Party, Renewal, Said};

/// `None` if a listener has no place; something may have been written then.
pub(super) fn binding(binding: &Binding, now: Instant, places: &[Place], out: &mut Vec<u8>) -> Option<()> {
    let Binding {
        id,
        texts,
        instance,
        reg_id,
        cseq,
        flow: way,
        flow_id,
        upstream,
        natted,
        phone: _,
        q,
        expires,
        until,
        confirmed: said,
        answered,
        missed: _,
    } = binding;
    let Said { aor, contact, call_id, user_agent, lines } = texts.get();
    let mut json = Json(out);
    json.raw("{\"binding\":{\"id\":").number(id.0);
    json.raw(",\"aor\":").octets(aor).raw(",\"contact\":").octets(contact);
    if let Some(instance) = instance {
        json.raw(",\"instance\":").octets(instance);
    }
    if let Some(reg_id) = reg_id {
        json.raw(",\"reg_id\":").number(*reg_id);
    }
    json.raw(",\"call_id\":").octets(call_id).raw(",\"cseq\":").number(*cseq);
    flow(json.raw(",\"flow\":"), way.get(), places)?;
    json.raw(",\"flow_id\":").number(flow_id.0);
    if let Some(upstream) = upstream {
        flow(json.raw(",\"upstream\":"), **upstream, places)?;
    }
    json.raw(",\"natted\":").truth(*natted).raw(",\"q\":").number(*q);
    json.raw(",\"user_agent\":").octets(user_agent);
    json.raw(",\"lasts_ms\":").number(millis(expires.saturating_duration_since(now)));
    json.raw(",\"granted_ms\":").number(millis(until.saturating_duration_since(now)));
    confirmed(json.raw(",\"confirmed\":"), said, lines);
    json.raw(",\"answered\":").truth(*answered).raw("}}");
    Some(())
}

pub(super) fn refresh(binding: &Binding, now: Instant, out: &mut Vec<u8>) {
    let mut json = Json(out);
    json.raw("{\"id\":").number(binding.id.0).raw(",\"call_id\":").octets(binding.call_id());
    json.raw(",\"cseq\":").number(binding.cseq);
    json.raw(",\"lasts_ms\":").number(millis(binding.expires.saturating_duration_since(now)));
    json.raw(",\"granted_ms\":").number(millis(binding.until.saturating_duration_since(now))).raw("}");
}

fn confirmed(json: &mut Json<'_>, confirmed: &Confirmed, lines: &[u8]) {
    let Confirmed { seconds, told, asked, again: _, credentials, gruus, renewal } = confirmed;
    json.raw("{\"seconds\":").number(*seconds).raw(",\"told\":").number(*told).raw(",\"asked\":").number(*asked);
    if let Some(digest) = credentials {
        json.raw(",\"credentials\":").number(*digest);
    }
    json.raw(",\"lines\":").octets(lines);
    json.raw(",\"gruus\":").all(gruus, |json, gruu| json.octets(gruu));
    if let Some(Renewal { request, realm, username, shift }) = renewal.as_deref() {
        json.raw(",\"renewal\":{\"request\":").octets(request).raw(",\"realm\":").octets(realm);
        json.raw(",\"username\":").octets(username).raw(",\"shift\":").number(*shift).raw("}");
    }
    json.raw("}");
}

/// `None` if a listener has no place; something may have been written then.
pub(super) fn call(call: &Call, now: Instant, places: &[Place], out: &mut Vec<u8>) -> Option<()> {
    let Call { id, kind, state: _, call_id, caller, callees, onward, streams: _, since, answered, expires, phone: _ } =
        call;
    let ago = |at: Instant| millis(now.saturating_duration_since(at));
    let kind = match kind {
        CallKind::Invite => "invite",
        CallKind::Subscription => "subscription",
    };
    let mut json = Json(out);
    json.raw("{\"call\":{\"id\":").number(id.0).raw(",\"kind\":\"").raw(kind);
    json.raw("\",\"call_id\":").octets(call_id);
    party(json.raw(",\"caller\":"), caller, places)?;
    json.raw(",\"callees\":[");
    for (at, callee) in callees.iter().enumerate() {
        party(json.raw(if at == 0 { "" } else { "," }), callee, places)?;
    }
    flow(json.raw("],\"onward\":"), onward.get(), places)?;
    json.raw(",\"began_ms_ago\":").number(ago(*since));
    if let Some(at) = answered {
        json.raw(",\"answered_ms_ago\":").number(ago(*at));
    }
    if let Some(at) = expires {
        json.raw(",\"lasts_ms\":").number(millis(at.saturating_duration_since(now)));
    }
    json.raw("}}");
    Some(())
}

fn party(json: &mut Json<'_>, party: &Party, places: &[Place]) -> Option<()> {
    let Party { tag, identity, contact, route, flow: way, binding, cseq, state, branch, raised, session } = party;
    let state = match state {
        CallState::Early => "early",
        CallState::Confirmed => "confirmed",
        CallState::Ending => "ending",
    };
    json.raw("{\"tag\":").octets(tag).raw(",\"identity\":").octets(identity).raw(",\"contact\":").octets(contact);
    json.raw(",\"route\":").all(route, |json, route| json.octets(route));
    flow(json.raw(",\"flow\":"), way.get(), places)?;
    if let Some(binding) = binding {
        json.raw(",\"binding\":").number(binding.0);
    }
    json.raw(",\"cseq\":").number(*cseq).raw(",\"state\":\"").raw(state).raw("\",\"branch\":").number(*branch);
    json.raw(",\"raised\":").all(raised, |json, raised| json.number(*raised));
    json.raw(",\"session\":").octets(session).raw("}");
    Some(())
}

fn flow(json: &mut Json<'_>, flow: Flow, places: &[Place]) -> Option<()> {
    let Flow { transport: _, listener, connection: _, local, remote } = flow;
    let Place { side, transport, bind } = *places.get(usize::from(listener.0))?;
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    };
    json.raw("{\"at\":{\"side\":\"").raw(side.as_str()).raw("\",\"transport\":\"").raw(transport);
    json.raw("\",\"bind\":").address(bind);
    json.raw("},\"local\":").address(local).raw(",\"remote\":").address(remote).raw("}");
    Some(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
