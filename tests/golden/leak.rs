//! Whatever else a transcript shows: no address of ours on the hidden side
//! stands in a field that we write toward the other (RFC 5853 §3.1).

use std::fs;

use crate::transcripts;

/// What a role's outer side must not see.
const HIDDEN: [(&str, &str); 2] = [("border", "10.0.0."), ("office", "192.168.1.")];

#[test]
fn no_inner_address_in_a_field_that_we_write_toward_outer() {
    let mut seen = 0;
    for file in transcripts() {
        let Some((_, hidden)) = HIDDEN.iter().find(|(role, _)| file.parent().is_some_and(|f| f.ends_with(role))) else {
            continue;
        };
        let text = fs::read_to_string(&file).expect("readable");
        if text.contains("\n# unmapped\n") {
            // Nothing better is known yet: the OPTIONS that asks the provider names the socket.
            continue;
        }
        for message in sent_outer(&text) {
            for line in written_by_us(message) {
                assert!(!line.contains(hidden), "{}: {line}\n{message}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "only {seen} fields were looked at");
}

/// The messages behind `>>> outer` lines.
fn sent_outer(text: &str) -> impl Iterator<Item = &str> {
    text.split(">>> ").skip(1).filter_map(|part| part.strip_prefix("outer ")).map(|part| {
        let end = ["\n<<< ", "\n*** ", "\n# "].iter().filter_map(|mark| part.find(mark)).min();
        &part[..end.unwrap_or(part.len())]
    })
}

/// Our Via (a request's first), Record-Route and Path entries with a token as
/// user part, Contacts, and the addresses of SDP.
fn written_by_us(message: &str) -> Vec<&str> {
    let mut lines = message.lines().skip(1);
    let start = lines.next().unwrap_or_default();
    let request = !start.starts_with("SIP/2.0");
    // The registrar lists Contacts of phones that are not ours, and a redirection's are the peer's.
    let theirs = start.starts_with("SIP/2.0 3") || message.contains("\nCSeq: ") && message.contains(" REGISTER\n");
    let via = lines.clone().find(|line| line.starts_with("Via:") || line.starts_with("v:")).filter(|_| request);
    let ours = lines.filter(|line| match line.split_once([':', '=']) {
        Some(("Contact" | "m", value)) => !theirs || value.contains(";sl="),
        Some(("Record-Route" | "Path", value)) => value.contains("<sip:{token-"),
        Some(("o" | "c", _)) => true,
        Some(("a", value)) => value.starts_with("rtcp:") || value.starts_with("candidate:"),
        Some(_) | None => false,
    });
    via.into_iter().chain(ours).collect()
}
