use wire::sip::{Limits, Stored};

use super::*;
use crate::locate::Hop;
use crate::request::Target;
use crate::rig::{Rig, flow};
use crate::transaction::{Branch, Purpose};

fn stored(start: &str, fields: &str) -> Stored {
    let text = format!("{start}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 1 INVITE\r\n{fields}\r\n");
    Stored::parse(text.into_bytes(), &Limits::default()).unwrap()
}

/// A context with a branch for each final status; a negative one came without a response.
fn context(results: &[i32]) -> Context {
    let rig = Rig::standalone();
    let here = flow(&rig.proxy, 0, "192.168.1.20:5060");
    let branches = results.iter().map(|result| {
        let target = Target { uri: None, hop: Hop::Flow(here), binding: None, phone: None, flows: Vec::new() };
        let mut branch = Branch::new(target, here, 1);
        let status = Status(result.unsigned_abs() as u16);
        branch.result = (status.0 > 0).then_some(status);
        branch.response = (*result > 0).then(|| Box::new(stored(&format!("SIP/2.0 {result} X"), "")));
        branch
    });
    Context::new(here, stored("INVITE sip:a@b SIP/2.0", ""), Purpose::Pass, branches.collect())
}

#[test]
fn the_best_of_several_failures() {
    for (results, best) in [
        (&[][..], None),
        (&[0, 0], None),
        (&[0, 500], Some(1)),
        (&[486, 404], Some(0)),
        // Any 6xx, then the lowest class.
        (&[302, 600, 404], Some(1)),
        (&[603, 600], Some(0)),
        (&[500, 404, 302], Some(2)),
        (&[500, 404], Some(1)),
        // Within it what helps the caller most.
        (&[404, 401], Some(1)),
        (&[404, 407], Some(1)),
        (&[404, 415], Some(1)),
        (&[404, 420], Some(1)),
        (&[404, 484], Some(1)),
        (&[486, 404, 500], Some(0)),
        // 503 last.
        (&[503, 500], Some(1)),
        (&[503, 504], Some(1)),
        (&[503], Some(0)),
        // What was said before what was not, unless silence weighs more.
        (&[-408, 408], Some(1)),
        (&[-408, 404], Some(1)),
        (&[-408, 500], None),
        (&[-503, 503], Some(1)),
        (&[-503, 404], Some(1)),
        (&[-408], None),
    ] {
        assert_eq!(of(&context(results)), best, "{results:?}");
    }
}

#[test]
fn challenges_of_the_others_are_added() {
    let one = stored("SIP/2.0 401 No", "WWW-Authenticate: Digest realm=\"a\"\r\n");
    let other = stored(
        "SIP/2.0 407 No",
        "Proxy-Authenticate: Digest realm=\"b\"\r\nWWW-Authenticate: Digest realm=\"c\"\r\nServer: x\r\n",
    );
    let mut edit = Edit::new();
    gather_challenges(one.message(), other.message(), &mut edit);
    let text = String::from_utf8(one.message().edited(&edit)).unwrap();
    let mut realms: Vec<_> = text.lines().filter(|line| line.contains("Digest")).collect();
    realms.sort_unstable();
    assert_eq!(
        realms,
        [
            "Proxy-Authenticate: Digest realm=\"b\"",
            "WWW-Authenticate: Digest realm=\"a\"",
            "WWW-Authenticate: Digest realm=\"c\""
        ]
    );
    assert!(!text.contains("Server"));
}
