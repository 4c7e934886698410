//! Transactions of the simulated peers (RFC 3261 §17, RFC 6026).
//!
//! Over UDP it retransmits; it absorbs retransmissions, and sends the ACK of a refused
//! INVITE. 2xx answers to INVITE and their ACKs belong to the user above.

use std::net::SocketAddr;
use std::time::Duration;

use wire::Transport;

use crate::clock::{Time, earlier};
use crate::net::Packet;
use crate::sip::Msg;

pub(crate) const T1: Duration = Duration::from_millis(500);
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Timers B, F, H, J, L, M.
pub(crate) const LONG: Duration = Duration::from_secs(32);
const T4: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerId(u64);

/// What the user of the transactions gets to see.
#[derive(Debug)]
pub(crate) enum Event {
    Request {
        server: ServerId,
        msg: Msg,
    },
    /// Of a 2xx, or of nothing.
    Ack(Msg),
    Response {
        client: ClientId,
        msg: Msg,
    },
    Timeout {
        client: ClientId,
    },
    /// A response of no transaction.
    Stray(Msg),
}

/// How a request goes: over what, from where and to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) transport: Transport,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Way {
    pub(crate) fn packet(self, bytes: Vec<u8>) -> Packet {
        Packet::message(self.transport, (self.from, self.to), None, bytes)
    }
}

/// How a client transaction came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    /// Not yet.
    Open,
    /// By its first final response.
    Final(u16),
    TimedOut,
    /// Its connection ended.
    Cut,
}

/// What is remembered of a client transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) call_id: String,
    /// Inside a dialog.
    pub(crate) inside: bool,
    pub(crate) transport: Transport,
    pub(crate) started: Time,
    pub(crate) ended: Time,
    pub(crate) result: Result,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    /// Final answer seen or given.
    Completed,
    /// 2xx of an INVITE.
    Accepted,
}

#[derive(Debug)]
struct Client {
    id: ClientId,
    /// Its place among the records.
    record: usize,
    request: Msg,
    packet: Packet,
    state: State,
    ack: Option<Vec<u8>>,
    resend: Option<Time>,
    interval: Duration,
    ends: Option<Time>,
}

#[derive(Debug)]
struct Server {
    id: ServerId,
    branch: String,
    sent_by: String,
    method: String,
    state: State,
    last: Option<Packet>,
    local: SocketAddr,
    resend: Option<Time>,
    interval: Duration,
    ends: Option<Time>,
}

/// All transactions of one peer.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    clients: Vec<Client>,
    servers: Vec<Server>,
    next: u64,
    pub(crate) records: Vec<Record>,
    /// Messages that were sent again.
    pub(crate) retransmitted: u64,
}

fn sent_by(msg: &Msg) -> String {
    let via = msg.all("via").next().unwrap_or_default();
    via.split([' ', ';']).filter(|p| !p.is_empty()).nth(1).unwrap_or_default().to_owned()
}

impl Transactions {
    /// Sends a request that carries our Via on top.
    pub(crate) fn request(&mut self, now: Time, msg: Msg, way: Way, out: &mut Vec<Packet>) -> ClientId {
        let id = ClientId(self.next);
        self.next += 1;
        let packet = way.packet(msg.bytes());
        out.push(packet.clone());
        self.records.push(Record {
            method: msg.method().to_owned(),
            uri: msg.uri().to_owned(),
            call_id: msg.call_id().to_owned(),
            inside: !msg.tag("to").is_empty(),
            transport: way.transport,
            started: now,
            ended: now,
            result: Result::Open,
        });
        self.clients.push(Client {
            id,
            record: self.records.len() - 1,
            request: msg,
            packet,
            state: State::Trying,
            ack: None,
            resend: (!way.transport.reliable()).then_some(now + T1),
            interval: T1,
            ends: Some(now + LONG),
        });
        id
    }

    /// The request of a client transaction that still lives, and its way.
    pub(crate) fn sent(&self, id: ClientId) -> Option<(&Msg, Way)> {
        let way = |p: &Packet| Way { transport: p.transport(), from: p.from, to: p.to };
        self.clients.iter().find(|c| c.id == id).map(|c| (&c.request, way(&c.packet)))
    }

    /// The last answer that was given.
    pub(crate) fn answer(&self, id: ServerId) -> Option<Packet> {
        self.servers.iter().find(|s| s.id == id)?.last.clone()
    }

    /// The connection to one of these addresses has ended. What waits for an answer over it fails, or goes again
    /// over another one.
    pub(crate) fn cut(&mut self, now: Time, to: &[SocketAddr], repeats: bool, out: &mut Vec<Packet>) -> Vec<Event> {
        let pending = |c: &Client| matches!(c.state, State::Trying | State::Proceeding);
        let hit = |c: &Client| c.packet.transport().reliable() && pending(c) && to.contains(&c.packet.to);
        // RFC 3261 §17.2.3: later than that, the other end has forgotten the first copy.
        let young = |c: &Client| self.records.get(c.record).is_some_and(|r| r.started + LONG > now);
        let kept = |c: &Client| repeats && c.request.method() != "REGISTER" && young(c);
        out.extend(self.clients.iter().filter(|c| hit(c) && kept(c)).map(|c| c.packet.clone()));
        let failed: Vec<(ClientId, usize)> =
            self.clients.iter().filter(|c| hit(c) && !kept(c)).map(|c| (c.id, c.record)).collect();
        self.clients.retain(|c| !hit(c) || kept(c));
        for (_, record) in &failed {
            self.end(now, *record, Result::Cut);
        }
        failed.into_iter().map(|(client, _)| Event::Timeout { client }).collect()
    }

    fn end(&mut self, now: Time, record: usize, result: Result) {
        if let Some(record) = self.records.get_mut(record).filter(|r| r.result == Result::Open) {
            (record.ended, record.result) = (now, result);
        }
    }

    /// True while a request has no final answer.
    pub(crate) fn pending(&self, id: ClientId) -> bool {
        self.clients.iter().any(|c| c.id == id && matches!(c.state, State::Trying | State::Proceeding))
    }

    /// Answers a request.
    pub(crate) fn respond(&mut self, now: Time, id: ServerId, msg: &Msg, out: &mut Vec<Packet>) {
        let Some(server) = self.servers.iter_mut().find(|s| s.id == id) else { return };
        let Some(to) = msg.response_target() else { return };
        let (transport, instead) = msg.response_way();
        let packet = Packet::message(transport, (server.local, to), instead, msg.bytes());
        out.push(packet.clone());
        server.last = Some(packet);
        let status = msg.status();
        if status < 200 {
            return;
        }
        server.ends = Some(now + LONG);
        server.state = State::Completed;
        if server.method == "INVITE" && status < 300 {
            server.state = State::Accepted;
        } else if server.method == "INVITE" {
            server.resend = (!transport.reliable()).then_some(now + T1);
            server.interval = T1;
        }
    }

    /// A message came in.
    pub(crate) fn receive(&mut self, now: Time, packet: &Packet, mut msg: Msg, out: &mut Vec<Packet>) -> Option<Event> {
        if !msg.is_request() {
            return self.response(now, msg, out);
        }
        msg.stamp(packet.from);
        let (branch, sent_by) = (msg.branch().to_owned(), sent_by(&msg));
        let method = if msg.method() == "ACK" { "INVITE" } else { msg.method() }.to_owned();
        let known = |s: &&mut Server| s.branch == branch && s.sent_by == sent_by && s.method == method;
        if let Some(server) = self.servers.iter_mut().find(known) {
            if msg.method() != "ACK" {
                // RFC 6026 §7.1: in Accepted a retransmission is absorbed; the user repeats its 2xx.
                let replay = server.last.clone().filter(|_| server.state != State::Accepted);
                self.retransmitted += u64::from(replay.is_some());
                out.extend(replay);
                return None;
            }
            if server.state == State::Completed {
                server.resend = None;
                return None;
            }
        }
        if msg.method() == "ACK" {
            return Some(Event::Ack(msg));
        }
        let id = ServerId(self.next);
        self.next += 1;
        let local = packet.to;
        let (state, interval) = (State::Proceeding, T1);
        self.servers.push(Server {
            id,
            branch,
            sent_by,
            method,
            state,
            last: None,
            local,
            resend: None,
            interval,
            ends: None,
        });
        Some(Event::Request { server: id, msg })
    }

    fn response(&mut self, now: Time, msg: Msg, out: &mut Vec<Packet>) -> Option<Event> {
        let (branch, method, status) = (msg.branch(), msg.method(), msg.status());
        let ours = |c: &&mut Client| c.request.branch() == branch && c.request.method() == method;
        let Some(client) = self.clients.iter_mut().find(ours) else { return Some(Event::Stray(msg)) };
        let (id, record) = (client.id, client.record);
        let reliable = client.packet.transport().reliable();
        let invite = method == "INVITE";
        match client.state {
            State::Completed => {
                if let Some(ack) = client.ack.clone().filter(|_| status >= 300) {
                    out.push(Packet { bytes: ack, ..client.packet.clone() });
                }
                return None;
            }
            State::Accepted if !(200..300).contains(&status) => return None,
            State::Trying | State::Proceeding | State::Accepted => {}
        }
        if status < 200 {
            client.state = State::Proceeding;
            if invite {
                (client.resend, client.ends) = (None, None);
            } else {
                client.interval = T2;
            }
        } else if invite && status < 300 {
            client.state = State::Accepted;
            (client.resend, client.ends) = (None, Some(now + LONG));
        } else {
            client.state = State::Completed;
            client.resend = None;
            let lingers = if invite { LONG } else { T4 };
            client.ends = Some(if reliable { now } else { now + lingers });
            if invite {
                let ack = refused_ack(&client.request, &msg).bytes();
                out.push(Packet { bytes: ack.clone(), ..client.packet.clone() });
                client.ack = Some(ack);
            }
        }
        if status >= 200 {
            self.end(now, record, Result::Final(status));
        }
        Some(Event::Response { client: id, msg })
    }

    pub(crate) fn timeout(&mut self, now: Time, out: &mut Vec<Packet>) -> Vec<Event> {
        for client in &mut self.clients {
            if client.resend.is_some_and(|at| at <= now) && client.ends.is_none_or(|end| end > now) {
                out.push(client.packet.clone());
                self.retransmitted += 1;
                client.interval *= 2;
                if client.request.method() != "INVITE" {
                    client.interval = client.interval.min(T2);
                }
                client.resend = Some(now + client.interval);
            }
        }
        for server in &mut self.servers {
            if server.resend.is_some_and(|at| at <= now) {
                out.extend(server.last.clone());
                self.retransmitted += 1;
                server.interval = (server.interval * 2).min(T2);
                server.resend = Some(now + server.interval).filter(|at| server.ends.is_none_or(|end| *at < end));
            }
        }
        let over = |ends: Option<Time>| ends.is_some_and(|end| end <= now);
        self.servers.retain(|s| !over(s.ends));
        let dead = |c: &&Client| over(c.ends) && matches!(c.state, State::Trying | State::Proceeding);
        let dead: Vec<(ClientId, usize)> = self.clients.iter().filter(dead).map(|c| (c.id, c.record)).collect();
        self.clients.retain(|c| !over(c.ends));
        for (_, record) in &dead {
            self.end(now, *record, Result::TimedOut);
        }
        dead.into_iter().map(|(client, _)| Event::Timeout { client }).collect()
    }

    pub(crate) fn next(&self) -> Option<Time> {
        let clients = self.clients.iter().flat_map(|c| [c.resend, c.ends]);
        let servers = self.servers.iter().flat_map(|s| [s.resend, s.ends]);
        clients.chain(servers).fold(None, earlier)
    }

    /// INVITE servers without a final answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.servers.iter().filter(|s| s.state == State::Proceeding && s.method == "INVITE").count()
    }
}

/// The ACK of a non-2xx (§17.1.1.3).
fn refused_ack(invite: &Msg, response: &Msg) -> Msg {
    let mut ack = Msg::request("ACK", invite.uri());
    ack.push("Via", invite.all("via").next().unwrap_or_default());
    for route in invite.all("route") {
        ack.push("Route", route);
    }
    ack.push("From", invite.get("from").unwrap_or_default());
    ack.push("To", response.get("to").unwrap_or_default());
    ack.push("Call-ID", invite.call_id());
    ack.push("CSeq", format!("{} ACK", invite.cseq()));
    ack.with("Max-Forwards", "70")
}

/// The CANCEL of an INVITE (§9.1).
pub(crate) fn cancel(invite: &Msg) -> Msg {
    let mut cancel = Msg::request("CANCEL", invite.uri());
    cancel.push("Via", invite.all("via").next().unwrap_or_default());
    for route in invite.all("route") {
        cancel.push("Route", route);
    }
    for name in ["From", "To", "Call-ID"] {
        cancel.push(name, invite.get(name).unwrap_or_default());
    }
    cancel.push("CSeq", format!("{} CANCEL", invite.cseq()));
    cancel.with("Max-Forwards", "70")
}
