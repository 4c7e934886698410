//! Forwarding (RFC 3261 §16): targets, branches, the best response, CANCEL.

use std::fmt::Write as _;
use std::net::SocketAddr;

use wire::Transport;

use super::Core;
use crate::clock::Time;
use crate::net::Packet;
use crate::sip::{self, Msg};
use crate::transaction::{self, ClientId, ServerId};

#[derive(Debug)]
struct Branch {
    client: ClientId,
    provisional: bool,
    last: Option<Msg>,
}

/// One request on its way through.
#[derive(Debug)]
pub(crate) struct Pass {
    server: ServerId,
    /// Of the request as it came in.
    branch: String,
    request: Msg,
    branches: Vec<Branch>,
    cancelled: bool,
    /// A final response was passed on.
    done: bool,
}

impl Core {
    pub(super) fn forward(&mut self, now: Time, server: ServerId, mut msg: Msg, out: &mut Vec<Packet>) {
        let branch = msg.branch().to_owned();
        let original = msg.clone();
        let came = msg.response_way().0;
        let inside = !msg.tag("to").is_empty();
        let ours = self.pop_ours(&mut msg);
        if !inside && self.is_us(msg.uri()) && !self.admit(now, server, &msg, out) {
            return;
        }
        let targets = self.targets(now, &msg, ours);
        if targets.is_empty() {
            return self.reply(now, server, &original.reply(404, "Not Found", "core"), out);
        }
        if msg.method() == "INVITE" {
            self.reply(now, server, &original.reply(100, "Trying", ""), out);
        }
        let records = matches!(msg.method(), "INVITE" | "SUBSCRIBE") && !inside;
        let mut branches = Vec::new();
        for (uri, hop) in targets {
            let mut copy = msg.clone();
            if records {
                let at = copy.fields.iter().position(|(n, _)| sip::same_name(n, "record-route")).unwrap_or(1);
                copy.fields.insert(at, ("Record-Route".into(), self.record_route(came, hop.0)));
            }
            copy.set_uri(&uri);
            less_forwards(&mut copy);
            let word = self.rng.word();
            copy.top("Via", format!("SIP/2.0/{} {};rport;branch=z9hG4bK{word}", hop.0.via(), self.at(hop.0)));
            let client = self.transactions.request(now, copy, self.way(hop), out);
            branches.push(Branch { client, provisional: false, last: None });
        }
        self.passes.retain(|p| !p.done || p.branches.iter().any(|b| self.transactions.sent(b.client).is_some()));
        self.passes.push(Pass { server, branch, request: original, branches, cancelled: false, done: false });
    }

    /// Takes away what of the route set is ours (§16.4; two entries where transports differ, RFC 5658).
    fn pop_ours(&self, msg: &mut Msg) -> bool {
        let mut ours = false;
        while msg.all("route").next().is_some_and(|route| self.is_us(sip::uri_of(route))) {
            msg.pop("route");
            ours = true;
        }
        ours
    }

    /// Us as the next hop reaches us, and below that as the last one does, where that differs (RFC 5658).
    fn record_route(&self, came: Transport, goes: Transport) -> String {
        let entry = |transport: Transport| {
            let mut entry = format!("<sip:{}", self.at(transport));
            if transport.reliable() {
                let _ = write!(entry, ";transport={}", transport.via().to_ascii_lowercase());
            }
            entry + ";lr>"
        };
        if came == goes { entry(goes) } else { format!("{}, {}", entry(goes), entry(came)) }
    }

    /// §16.5: Request-URIs, each with its next hop.
    fn targets(&self, now: Time, msg: &Msg, routed: bool) -> Vec<(String, (Transport, SocketAddr))> {
        let uri = msg.uri();
        if let Some(route) = msg.all("route").next() {
            return sip::way(sip::uri_of(route)).map(|hop| (uri.to_owned(), hop)).into_iter().collect();
        }
        if self.is_us(uri) {
            let found = self.location.find(now, sip::user(uri)).into_iter();
            return found.filter_map(|uri| sip::way(&uri).map(|hop| (uri, hop))).collect();
        }
        // An address that is not ours: only inside a dialog that we have record-routed.
        sip::way(uri).filter(|_| routed).map(|hop| (uri.to_owned(), hop)).into_iter().collect()
    }

    /// An answer on a branch.
    pub(super) fn answered(&mut self, now: Time, client: ClientId, msg: &Msg, out: &mut Vec<Packet>) {
        let Some(pass) = self.passes.iter_mut().find(|p| p.branches.iter().any(|b| b.client == client)) else { return };
        let Some(branch) = pass.branches.iter_mut().find(|b| b.client == client) else { return };
        let mut onward = msg.clone();
        onward.pop("via");
        let (status, server) = (msg.status(), pass.server);
        if status < 200 {
            let first = !branch.provisional;
            branch.provisional = true;
            let cancelled = pass.cancelled;
            if status > 100 && !pass.done {
                self.reply(now, server, &onward, out);
            }
            if first && cancelled {
                self.cancel_branch(now, client, out);
            }
            return;
        }
        branch.last = Some(onward.clone());
        if !(300..600).contains(&status) && !pass.cancelled {
            // §16.7(5), (10): the others are not wanted any more.
            pass.cancelled = true;
            let others = pass.branches.iter().filter(|b| b.last.is_none() && b.provisional);
            let others: Vec<_> = others.map(|b| b.client).collect();
            for other in others {
                self.cancel_branch(now, other, out);
            }
        }
        if status >= 300 {
            return self.settle(now, server, out);
        }
        if let Some(pass) = self.passes.iter_mut().find(|p| p.server == server) {
            pass.done = true;
        }
        self.reply(now, server, &onward, out);
    }

    /// §16.7(6): when all branches have failed, the best response goes back.
    fn settle(&mut self, now: Time, server: ServerId, out: &mut Vec<Packet>) {
        let Some(pass) = self.passes.iter_mut().find(|p| p.server == server && !p.done) else { return };
        if pass.branches.iter().any(|b| b.last.is_none()) {
            return;
        }
        pass.done = true;
        let rank = |msg: &&Msg| if msg.status() >= 600 { 0 } else { msg.status() };
        let best = pass.branches.iter().filter_map(|b| b.last.as_ref()).min_by_key(rank).cloned();
        if let Some(best) = best {
            self.reply(now, server, &best, out);
        }
    }

    /// No answer on a branch: 408 for an INVITE, silence for the rest (RFC 4320 §4.2).
    pub(super) fn silent(&mut self, now: Time, client: ClientId, out: &mut Vec<Packet>) {
        let Some(pass) = self.passes.iter_mut().find(|p| p.branches.iter().any(|b| b.client == client)) else { return };
        if pass.request.method() != "INVITE" {
            pass.done = true;
            return;
        }
        let timeout = pass.request.reply(408, "Request Timeout", "core");
        if let Some(branch) = pass.branches.iter_mut().find(|b| b.client == client) {
            branch.last.get_or_insert(timeout);
        }
        let server = pass.server;
        self.settle(now, server, out);
    }

    /// The connection of a branch has ended: as if a 503 had come (§16.9).
    pub(super) fn unsent(&mut self, now: Time, client: ClientId, out: &mut Vec<Packet>) {
        let Some(pass) = self.passes.iter_mut().find(|p| p.branches.iter().any(|b| b.client == client)) else { return };
        let failed = pass.request.reply(500, "Server Internal Error", "core");
        if let Some(branch) = pass.branches.iter_mut().find(|b| b.client == client) {
            branch.last.get_or_insert(failed);
        }
        let server = pass.server;
        self.settle(now, server, out);
    }

    /// §16.10.
    pub(super) fn cancel(&mut self, now: Time, server: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let found = self.passes.iter_mut().find(|p| p.branch == msg.branch() && p.request.method() == "INVITE");
        let Some(pass) = found else {
            return self.reply(now, server, &msg.reply(481, "Call/Transaction Does Not Exist", "core"), out);
        };
        pass.cancelled = true;
        let pending = pass.branches.iter().filter(|b| b.last.is_none() && b.provisional);
        let pending: Vec<_> = pending.map(|b| b.client).collect();
        self.reply(now, server, &msg.reply(200, "OK", "core"), out);
        for client in pending {
            self.cancel_branch(now, client, out);
        }
    }

    fn cancel_branch(&mut self, now: Time, client: ClientId, out: &mut Vec<Packet>) {
        let Some((invite, way)) = self.transactions.sent(client) else { return };
        if invite.method() == "INVITE" {
            let cancel = transaction::cancel(invite);
            self.transactions.request(now, cancel, way, out);
        }
    }

    /// ACKs of 2xx pass without state; the same ACK gets the same branch.
    pub(super) fn pass_ack(&mut self, msg: &Msg, out: &mut Vec<Packet>) {
        let mut onward = msg.clone();
        let ours = self.pop_ours(&mut onward);
        let route = onward.all("route").next().map(|route| sip::uri_of(route).to_owned());
        let hop = sip::way(route.as_deref().unwrap_or(onward.uri()));
        let Some(hop) = hop.filter(|(_, to)| ours && to.ip() != self.address.ip()) else { return };
        less_forwards(&mut onward);
        onward.top("Via", format!("SIP/2.0/{} {};rport;branch={}-a", hop.0.via(), self.at(hop.0), msg.branch()));
        out.push(self.way(hop).packet(onward.bytes()));
    }

    /// A response of no transaction passes by its next Via (a late 2xx).
    pub(super) fn pass_stray(&mut self, msg: &Msg, out: &mut Vec<Packet>) {
        let mut onward = msg.clone();
        onward.pop("via");
        let late = msg.method() == "INVITE" && (200..300).contains(&msg.status());
        if let Some(to) = onward.response_target().filter(|_| late) {
            let (transport, instead) = onward.response_way();
            out.push(Packet::message(transport, (self.at(transport), to), instead, onward.bytes()));
        }
    }
}

fn less_forwards(msg: &mut Msg) {
    for (name, value) in &mut msg.fields {
        if sip::same_name(name, "max-forwards") {
            *value = value.parse::<u32>().unwrap_or(70).saturating_sub(1).to_string();
        }
    }
}
