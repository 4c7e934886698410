//! SDP before and after, as an operator would compare them.
//!
//! Each file in `cases` is one body that some device really sends, written as
//! a difference: lines with a blank in front pass as they are, `-` lines come
//! in, `+` lines go out. A body is rewritten as the office role does it: the
//! relay's address in `o=`, `c=` and `a=rtcp`, ports 30000, 30002, … in the
//! m-lines, no ICE. Lines end with CRLF unless the file says otherwise; where
//! a blank or line end cannot be seen, a sign stands for it: `␠` a blank at
//! the end, `␉` a tab, `␊` LF alone.
//!
//! The second half compares the bodies with what sdp-rs makes of them, where
//! sdp-rs is right; `oracle.rs` lists where it is not.

mod case;
mod oracle;
mod rewrite;

use case::Case;
use wire::Edit;
use wire::sdp::Body;

fn applied(body: &[u8], edit: &Edit) -> String {
    let mut out = Vec::new();
    edit.apply(body, &mut out);
    String::from_utf8(out).expect("cases are text")
}

#[test]
fn there_are_enough_cases() {
    assert!(Case::all().len() >= 20);
}

#[test]
fn bodies_come_out_as_written_down() {
    for case in Case::all() {
        let whole = case.before.as_bytes();
        let body = Body::parse(whole).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut edit = Edit::new();
        rewrite::rewrite(whole, &mut edit, &body, case.relay);
        let after = applied(whole, &edit);
        assert!(after == case.after, "{}\n{}", case.name, case::difference(&case.after, &after));
    }
}

#[test]
fn bodies_that_nobody_edits_pass_unchanged() {
    for case in Case::all() {
        assert_eq!(applied(case.before.as_bytes(), &Edit::new()), case.before, "{}", case.name);
    }
}

#[test]
fn bodies_that_were_rewritten_read_again_and_name_only_the_relay() {
    for case in Case::all() {
        let before = Body::parse(case.before.as_bytes()).expect("reads");
        let after = Body::parse(case.after.as_bytes()).expect("reads");
        assert_eq!(after.media.len(), before.media.len(), "{}", case.name);
        let ours = |ip: Option<std::net::IpAddr>| ip.is_some_and(|ip| ip == case.relay || ip.is_unspecified());
        assert!(after.origin.is_none_or(|origin| ours(origin.ip())), "{}: o=", case.name);
        assert!(after.connection.is_none_or(|connection| ours(connection.ip())), "{}: c=", case.name);
        for (old, new) in before.media.iter().zip(&after.media) {
            assert!(new.connection.is_none_or(|connection| ours(connection.ip())), "{}: c=", case.name);
            assert!(new.rtcp.is_none_or(|rtcp| ours(rtcp.ip)), "{}: a=rtcp", case.name);
            assert!(new.attribute("candidate").is_none(), "{}: a=candidate", case.name);
            assert_eq!((new.kind, new.protocol, new.formats), (old.kind, old.protocol, old.formats), "{}", case.name);
            assert_eq!(new.direction(&after), old.direction(&before), "{}", case.name);
            assert_eq!(new.is_held(&after), old.is_held(&before), "{}", case.name);
            assert_eq!(new.port == 0, old.port == 0, "{}", case.name);
        }
    }
}

#[test]
fn sdp_rs_reads_the_same_or_has_a_known_fault() {
    let mut news = Vec::new();
    for case in Case::all() {
        let found = [oracle::fault(&case.before), oracle::fault(&case.after)];
        if found != oracle::known_faults(&case.name) {
            news.push(format!("{}: {found:?}", case.name));
        }
    }
    assert!(news.is_empty(), "sdp-rs against our reader, before and after:\n{}", news.join("\n"));
}

#[test]
fn every_known_fault_names_a_case() {
    let names: Vec<String> = Case::all().into_iter().map(|case| case.name).collect();
    for (name, ..) in oracle::KNOWN_FAULTS {
        assert!(names.iter().any(|case| case == name), "{name}");
    }
}
