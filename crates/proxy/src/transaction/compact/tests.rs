use wire::Flow;
use wire::sip::Status;

use super::*;
use crate::late::Abandoned;
use crate::locate::{Hop, Way};
use crate::request::Target;
use crate::rig::{Rig, flow};
use crate::transaction::context::Answering;
use crate::transaction::{Key, Patch, Server};

const LONG: usize = 900;

fn stored(method: &str) -> Stored {
    let text = format!(
        "{method} sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: \
         <sip:c@d>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nSubject: {}\r\nContent-Length: 4\r\n\r\nbody",
        "x".repeat(LONG)
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// A context with one branch that was sent; both ends got this final status, none if it is 0.
fn context(method: &str, status: u16) -> (Rig, Flow, Context) {
    let rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let request = stored(method);
    let target = Target {
        uri: Some(b"sip:c@e".to_vec()),
        hop: Hop::Flow(here),
        binding: None,
        phone: None,
        flows: vec![registry::BindingId(1)],
    };
    let mut branch = Branch::new(target, here, 1);
    let invite = method == "INVITE";
    let mut client = Client::new(rig.now, invite, false);
    branch.sent = request.message().bytes.to_vec();
    branch.others = vec![Way { flow: here, name: String::new(), upstream: None, sized: false }];
    branch.abandoned = vec![Abandoned { number: 2, flow: here, sent: vec![0; LONG] }];
    let mut machine = Server::new(invite, false);
    if status > 0 {
        client.response(rig.now, Status(status));
        machine.respond(rig.now, Status(status));
        branch.result = Some(Status(status));
        branch.response = Some(Box::new(stored(method)));
    }
    branch.client = Some(client);
    let key = Key::of(&rig.proxy.hashes, request.message(), &request.message().top_via().unwrap());
    let answering = Answering { machine, key, reply: here, last: Vec::with_capacity(LONG) };
    let mut context = Context::new(here, request, Purpose::Pass, vec![branch]);
    context.answering = Some(answering);
    context.routed.next = Some(b"sip:x".to_vec());
    (rig, here, context)
}

#[test]
fn nothing_is_let_go_of_while_something_is_to_come() {
    let (rig, here, _) = context("INVITE", 0);
    let with = |change: &dyn Fn(&mut Context)| {
        let (_, _, mut context) = context("INVITE", 486);
        change(&mut context);
        (context.compact(), context.compact)
    };
    let (done, not_yet) = ((true, true), (false, false));
    assert_eq!(with(&|_| {}), done);
    assert_eq!(with(&|c| c.parked = Some(rig.now)), not_yet);
    assert_eq!(with(&|c| c.branches[0].client = Some(Client::new(rig.now, true, false))), not_yet);
    assert_eq!(
        with(&|c| c.branches[0].cancel = Some(Box::new((Client::new(rig.now, false, false), Vec::new())))),
        not_yet
    );
    let wanted = |c: &mut Context, result| {
        (c.branches[0].cancel_wanted, c.branches[0].result) = (Some(Vec::new()), result);
    };
    assert_eq!(with(&|c| wanted(c, None)), not_yet);
    assert_eq!(with(&|c| wanted(c, Some(Status(486)))), done, "what has ended is cancelled no more");
    assert_eq!(with(&|c| c.branches[0].held = Some(Box::new((here, stored("INVITE"))))), not_yet);
    assert_eq!(with(&|c| c.answering = None), not_yet);
    let (_, _, mut open) = context("INVITE", 0);
    open.branches.clear();
    assert!(!open.compact() && !open.compact, "no final answer has left");
}

#[test]
fn it_comes_about_once_and_branches_go_when_nothing_of_them_is_left() {
    let (_, _, mut context) = context("INVITE", 200);
    assert!(context.compact());
    assert!(!context.compact());
    assert_eq!(context.branches.len(), 1, "its transaction absorbs copies");
    context.branches[0].client = None;
    assert!(!context.compact());
    assert_eq!(context.branches.len(), 1, "a given-up server may answer yet");
    context.branches[0].abandoned.clear();
    assert!(!context.compact());
    assert_eq!(context.branches.len(), 0);
}

#[test]
fn what_stays_of_a_request() {
    for (method, status, subject, sent, abandoned) in [
        // What a late 2xx is read by.
        ("INVITE", 200, true, None, 1),
        // What an ACK is made of.
        ("INVITE", 486, false, Some("INVITE sip:c@d SIP/2.0\r\n"), 1),
        ("MESSAGE", 200, false, None, 0),
        ("MESSAGE", 486, false, None, 0),
    ] {
        let (_, _, mut context) = context(method, status);
        let before = context.octets();
        assert!(context.compact());
        assert!(context.octets() + LONG < before, "{method} {status}");
        assert_eq!(context.routed.next.is_some(), subject, "{method} {status}");
        assert_eq!(context.rests(), method == "MESSAGE");
        // What rests needs it for its sender alone, and lets go of it then.
        if !context.rests() {
            let request = context.request.message();
            assert!(request.body().is_empty(), "{method} {status}");
            assert_eq!(has_subject(request.bytes), subject);
        }
        assert_eq!(context.branches.len(), usize::from(method == "INVITE"), "{method} {status}");
        for branch in &context.branches {
            let text = String::from_utf8(branch.sent.clone()).unwrap();
            match sent {
                Some(start) => {
                    let ends = text.starts_with(start) && text.ends_with("\r\n\r\n");
                    assert!(ends && !has_subject(&branch.sent), "{text}");
                    Stored::parse(branch.sent.clone(), &Limits::default()).unwrap();
                }
                None => assert_eq!(text, ""),
            }
            assert_eq!(branch.abandoned.len(), abandoned, "{method} {status}");
            assert!(branch.others.is_empty() && branch.response.is_none() && branch.target.flows.is_empty());
            assert_eq!(branch.target.uri, None);
        }
        assert_eq!(context.answering.as_ref().unwrap().last.capacity(), 0);
        assert_eq!(context.belongs_to_call(), method == "INVITE" && status == 200);
    }
}

fn has_subject(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|part| part == b"Subject:")
}

#[test]
fn every_octet_that_is_held_is_counted() {
    let (_, here, whole) = context("INVITE", 486);
    let all = whole.octets();
    assert!(all > 3 * LONG);
    let without = |change: &dyn Fn(&mut Context)| {
        let (_, _, mut context) = context("INVITE", 486);
        change(&mut context);
        all - context.octets()
    };
    assert_eq!(without(&|c| c.answering.as_mut().unwrap().last = Vec::new()), LONG);
    let key = whole.answering.as_ref().unwrap().key.len();
    assert_eq!(without(&|c| c.answering = None), LONG + 2 * key);
    assert_eq!(without(&|c| c.request = Stored::default()), whole.request.octets() - Stored::default().octets());
    assert_eq!(
        without(&|c| c.branches[0].response = None),
        size_of::<Stored>() + whole.branches[0].response.as_ref().unwrap().octets()
    );
    assert_eq!(without(&|c| c.branches[0].sent = Vec::new()), whole.branches[0].sent.capacity());
    assert_eq!(without(&|c| c.branches[0].abandoned = Vec::new()), LONG);
    assert_eq!(without(&|c| c.branches[0].target.uri = None), 7);
    let more = |change: &dyn Fn(&mut Context)| {
        let (_, _, mut context) = context("INVITE", 486);
        change(&mut context);
        context.octets() - all
    };
    let held = stored("INVITE");
    assert_eq!(
        more(&|c| c.branches[0].held = Some(Box::new((here, stored("INVITE"))))),
        size_of::<(Flow, Stored)>() + held.octets()
    );
    let mut edit = Edit::new();
    edit.insert(0, wire::Rule::Via, &[&[b'x'; 47]]);
    assert_eq!(more(&|c| c.branches[0].accepted = Some((1, Patch::of(&edit)))), 50);
    let client = || Client::new(std::time::Instant::now(), false, false);
    assert_eq!(
        more(&|c| c.branches[0].cancel = Some(Box::new((client(), vec![0; 60])))),
        size_of::<(Client, Vec<u8>)>() + 60
    );
    let two = more(&|c| {
        let target = c.branches[0].target.clone();
        c.branches.push(Branch::new(Target { uri: None, ..target }, here, 3));
    });
    assert_eq!(two, size_of::<Branch>());
    assert_eq!(all - size_of::<Context>() - size_of::<Branch>() - 200, {
        let branch = &whole.branches[0];
        let response = size_of::<Stored>() + branch.response.as_ref().unwrap().octets();
        whole.request.octets() + 2 * key + LONG + branch.sent.capacity() + response + LONG + 7
    });
}
