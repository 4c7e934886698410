//! One end of a dialog, played by a script (RFC 3261 §12): nothing is answered
//! and nothing is sent unless the script says so.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::{Draft, Line, Message};

/// What must come comes within this time.
const PATIENCE: Duration = Duration::from_secs(8);

/// An end. A request that comes again is heard once.
#[derive(Debug)]
pub struct Dialog {
    line: Arc<Line>,
    /// Where siplatch is.
    to: SocketAddr,
    /// Call-ID.
    pub call_id: String,
    /// From of its requests.
    local: String,
    /// To of its requests.
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    inbox: Receiver<Message>,
    kept: VecDeque<Message>,
    heard: Vec<Vec<u8>>,
}

impl Dialog {
    /// The end that calls `uri` through `to`.
    pub fn caller(line: &Arc<Line>, to: SocketAddr, uri: &str) -> Self {
        let first = line.draft("INVITE", uri);
        let value = |name: &str| first.value(name).unwrap().to_owned();
        let call_id = value("Call-ID");
        let inbox = line.listen(&call_id);
        let remote = value("To");
        Self::new(line, to, call_id, value("From"), remote, uri, inbox)
    }

    /// The end that this call will reach, with this tag.
    pub fn callee(line: &Arc<Line>, to: SocketAddr, call_id: &str, tag: &str) -> Self {
        let inbox = line.listen(call_id);
        Self::new(line, to, call_id.to_owned(), format!(";tag={tag}"), String::new(), "", inbox)
    }

    fn new(
        line: &Arc<Line>,
        to: SocketAddr,
        call_id: String,
        local: String,
        remote: String,
        target: &str,
        inbox: Receiver<Message>,
    ) -> Self {
        Self {
            line: Arc::clone(line),
            to,
            call_id,
            local,
            remote,
            target: target.to_owned(),
            routes: Vec::new(),
            cseq: 0,
            inbox,
            kept: VecDeque::new(),
            heard: Vec::new(),
        }
    }

    /// The next request of this end, with its Contact.
    pub fn draft(&mut self, method: &str) -> Draft {
        self.cseq += 1;
        let mut draft = self.line.draft(method, &self.target).set("Contact", &self.line.contact());
        for route in &self.routes {
            draft = draft.add("Route", route);
        }
        let draft = draft.set("From", &self.local).set("To", &self.remote).set("Call-ID", &self.call_id);
        draft.set("CSeq", &format!("{} {method}", self.cseq))
    }

    /// Sends a request.
    pub fn send(&self, draft: &Draft) {
        self.line.send(self.to, &draft.bytes());
    }

    /// Sends octets.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.line.send(self.to, bytes);
    }

    /// The first message, kept already or heard soon, that is wanted. Others are kept.
    ///
    /// # Errors
    /// What was heard instead.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Result<Message, String> {
        self.wait_for(PATIENCE, what, wanted)
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// What was heard instead.
    pub fn wait_for(
        &mut self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Message, String> {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return Ok(self.kept.remove(at).unwrap());
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = self.inbox.recv_timeout(left) else {
                let kept: Vec<&str> = self.kept.iter().map(Message::start).collect();
                return Err(format!("{}: no {what}, but {kept:?}", self.line.name));
            };
            if message.method().is_some_and(|method| method != "ACK") {
                if self.heard.contains(&message.bytes) {
                    continue;
                }
                self.heard.push(message.bytes.clone());
            }
            if wanted(&message) {
                return Ok(message);
            }
            self.kept.push_back(message);
        }
    }

    /// The next request of that method.
    ///
    /// # Errors
    /// What was heard instead.
    pub fn request(&mut self, method: &str) -> Result<Message, String> {
        self.wait(method, |message| message.method() == Some(method))
    }

    /// The INVITE that calls this end.
    ///
    /// # Errors
    /// What was heard instead.
    pub fn invited(&mut self) -> Result<Message, String> {
        let invite = self.request("INVITE")?;
        self.join(&invite);
        Ok(invite)
    }

    /// What this INVITE says of the caller (§12.1.1); it may have come to a proxy in between.
    pub fn join(&mut self, invite: &Message) {
        if !self.local.contains('<') {
            self.local = format!("{}{}", invite.value("To").unwrap_or_default(), self.local);
        }
        invite.value("From").unwrap_or_default().clone_into(&mut self.remote);
        self.routes = invite.all("Record-Route").map(str::to_owned).collect();
        invite.uri_of("Contact").unwrap_or_default().clone_into(&mut self.target);
    }

    /// A response to this request with this status or above, which is no other than it.
    ///
    /// # Errors
    /// What was heard instead.
    pub fn response(&mut self, draft: &Draft, status: u16) -> Result<Message, String> {
        let message = self.wait(&status.to_string(), |m| answers(m, draft, status))?;
        if message.status() != Some(status) {
            return Err(format!("{}: {} instead of {status}", self.line.name, message.start()));
        }
        Ok(message)
    }

    /// What a response to the caller's INVITE says of the far end (§12.1.2).
    pub fn learn(&mut self, response: &Message) {
        response.value("To").unwrap_or_default().clone_into(&mut self.remote);
        response.uri_of("Contact").unwrap_or_default().clone_into(&mut self.target);
        let mut routes: Vec<String> = response.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        self.routes = routes;
    }

    /// The ACK of a 2xx to this INVITE.
    pub fn ack(&mut self, invite: &Draft) -> Draft {
        let cseq = self.cseq;
        let ack = self.draft("ACK").set("CSeq", &invite.value("CSeq").unwrap().replace("INVITE", "ACK"));
        self.cseq = cseq;
        ack
    }

    /// The CANCEL of an INVITE, or the ACK of its refusal (§9.1, §17.1.1.3).
    pub fn of_same_branch(&self, invite: &Draft, method: &str, to: Option<&Message>) -> Draft {
        let uri = invite.uri();
        let mut draft = self.line.draft(method, uri);
        for name in ["Via", "From", "To", "Call-ID"] {
            draft = draft.set(name, invite.value(name).unwrap());
        }
        for route in invite.all("Route") {
            draft = draft.add("Route", route);
        }
        let to = to.and_then(|message| message.value("To")).unwrap_or_else(|| invite.value("To").unwrap());
        draft.set("To", to).set("CSeq", &invite.value("CSeq").unwrap().replace("INVITE", method))
    }

    /// A response to a request, with this end's tag and Contact.
    pub fn answer(&self, request: &Message, status: &str, more: &str, body: &str) -> Vec<u8> {
        let tag = self.local.split(";tag=").nth(1).unwrap_or_default();
        let more = format!("Contact: {}\r\n{more}", self.line.contact());
        let bytes = request.answer(status, &more, body);
        let text = String::from_utf8(bytes).unwrap();
        text.replacen(";tag=answered\r\n", &format!(";tag={tag}\r\n"), 1).into_bytes()
    }

    /// Sends such a response.
    pub fn reply(&self, request: &Message, status: &str, more: &str, body: &str) {
        self.send_bytes(&self.answer(request, status, more, body));
    }

    /// True when nothing of this method has come, and does not come in this time.
    pub fn hears_no(&mut self, method: &str, time: Duration) -> bool {
        self.wait_for(time, method, |message| message.method() == Some(method)).is_err()
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        self.line.forget(&self.call_id);
    }
}

fn answers(message: &Message, draft: &Draft, least: u16) -> bool {
    let branch = draft.value("Via").unwrap().split("branch=").nth(1).unwrap();
    message.status().is_some_and(|status| status >= least)
        && message.branch() == branch
        && message.value("CSeq") == draft.value("CSeq")
}
