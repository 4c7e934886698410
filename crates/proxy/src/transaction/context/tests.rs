use super::*;
use crate::rig::{Rig, flow};
use wire::sip::Limits;

fn request(method: &str, sent_by: &str, fields: &str) -> Stored {
    let text = format!(
        "{method} sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP {sent_by};branch=z9hG4bK1\r\n{fields}To: <sip:c@d>\r\n\r\n"
    );
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

const FIELDS: &str = "From: <sip:a@b>;tag=1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

fn context(rig: &Rig, request: Stored) -> Context {
    let flow = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let key = Key::of(&rig.proxy.hashes, request.message(), &request.message().top_via().unwrap());
    let mut context = Context::new(flow, request, Purpose::Pass, Vec::new());
    let machine = Server::new(context.invite, false);
    context.answering = Some(Answering { machine, key, reply: flow, last: Vec::new() });
    context
}

#[test]
fn a_slot_that_is_used_again_has_another_id() {
    let rig = Rig::standalone();
    let mut all = Contexts::new(rig.proxy.hashes);
    let one = context(&rig, request("OPTIONS", "192.0.2.1", FIELDS));
    let key = one.answering.as_ref().unwrap().key.clone();
    let first = all.insert(one);
    let second = all.insert(context(&rig, request("OPTIONS", "192.0.2.2", FIELDS)));
    assert_ne!(first, second);
    assert_eq!(
        (all.len(), all.of_server(&key), all.holds(first), all.get(first).is_some()),
        (2, Some(first), true, true)
    );
    assert_eq!(all.iter().map(|c| c.id).collect::<Vec<_>>(), [first, second]);
    let taken = all.take(first).unwrap();
    assert!(all.take(first).is_none() && !all.holds(first));
    all.put_back(taken);
    assert!(all.holds(first));
    let taken = all.take(first).unwrap();
    all.forget(taken.id, Some(&key));
    assert_eq!((all.len(), all.of_server(&key)), (1, None));
    let third = all.insert(context(&rig, request("OPTIONS", "192.0.2.3", FIELDS)));
    assert_eq!((third.slot, third.generation), (first.slot, first.generation + 1));
    assert!(all.take(first).is_none() && all.get(first).is_none() && all.holds(third));
    assert!(all.get(Id { slot: 99, generation: 1 }).is_none());
}

#[test]
fn a_sender_whose_mapping_moved_is_known_by_everything_else() {
    let rig = Rig::standalone();
    let mut all = Contexts::new(rig.proxy.hashes);
    let id = all.insert(context(&rig, request("OPTIONS", "192.0.2.1", FIELDS)));
    let moved = |method: &str, fields: &str| {
        let stored = request(method, "192.0.2.1:9999", fields);
        let via = stored.message().top_via().unwrap();
        all.of_moved(stored.message(), &via, stored.message().method())
    };
    assert_eq!(moved("OPTIONS", FIELDS), Some(id));
    for (method, fields) in [
        ("MESSAGE", FIELDS.to_owned()),
        ("OPTIONS", FIELDS.replace("tag=1", "tag=2")),
        ("OPTIONS", FIELDS.replace("Call-ID: c", "Call-ID: d")),
        ("OPTIONS", FIELDS.replace("CSeq: 1", "CSeq: 2")),
    ] {
        assert_eq!(moved(method, &fields), None, "{method} {fields}");
    }
}

#[test]
fn the_deadline_of_a_context_is_its_earliest() {
    let rig = Rig::standalone();
    let mut context = context(&rig, request("OPTIONS", "192.0.2.1", FIELDS));
    assert!(context.deadline().is_none() && context.open());
    let at = |seconds| rig.now + std::time::Duration::from_secs(seconds);
    context.parked = Some(at(9));
    assert_eq!(context.deadline(), Some(at(9)));
    let target = crate::request::Target {
        uri: None,
        hop: crate::locate::Hop::Flow(context.flow),
        binding: None,
        phone: None,
        flows: Vec::new(),
    };
    let mut branch = Branch::new(target, context.flow, 1);
    assert_eq!(branch.deadline(), None);
    branch.client = Some(Client::new(rig.now, false, false));
    let first = branch.deadline().unwrap();
    assert_eq!(first, rig.now + crate::transaction::T1);
    branch.cancel = Some(Box::new((Client::new(at(1), false, false), Vec::new())));
    assert_eq!(branch.deadline(), Some(first));
    branch.client = Some(Client::new(rig.now, false, true));
    assert_eq!(branch.deadline(), Some(at(1) + crate::transaction::T1));
    context.branches.push(branch);
    assert_eq!(context.deadline(), Some(at(1) + crate::transaction::T1));
    context.answering = None;
    assert!(!context.open());
}

#[test]
fn only_what_is_of_a_call_names_its_pass() {
    let pass = PassId(7);
    for (purpose, named) in [
        (Purpose::Create(pass), Some(pass)),
        (Purpose::Within { pass, from: 0, to: 1 }, Some(pass)),
        (Purpose::Pass, None),
        (Purpose::Ours(Ours::Bye), None),
    ] {
        assert_eq!(purpose.pass(), named);
    }
}
