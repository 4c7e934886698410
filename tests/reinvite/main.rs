//! Every way to change a call's media, on the running program: two scripted
//! ends with real packets, for each role and each transport of the phone, in
//! both directions of the call.
//!
//! After each step the streams are measured both ways from the ports that SDP
//! names, and in every body that comes out m-lines, session id, version and
//! ports are as RFC 3264 and RFC 8866 want them, and nothing of the other side
//! is named. A row shows the least share that arrived after any step.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod call;
mod column;
mod early;
mod sdp;
mod within;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use call::Step;
use column::Column;
use peer::announce;

/// Calls under way at a time.
const AT_ONCE: usize = 24;

type Case = fn(&Column, bool) -> Step<[f64; 2]>;

const CASES: [(&str, Case); 16] = [
    ("hold: a=sendonly", within::hold_sendonly),
    ("hold: a=inactive", within::hold_inactive),
    ("hold: c=0.0.0.0", within::hold_zero),
    ("hold: a=sendonly of the session", within::hold_session),
    ("codec change", within::codec),
    ("video added, removed, added", within::video),
    ("audio, T.38 in its place, audio", within::fax_in_place),
    ("audio, T.38 beside it, audio", within::fax_beside),
    ("UPDATE in the early dialog", early::update),
    ("UPDATE in the confirmed dialog", within::update),
    ("offer in 183, answer in PRACK", early::prack_answers),
    ("offer in PRACK, answer in its 200", early::prack_offers),
    ("offer in 200, answer in ACK", within::delayed),
    ("re-INVITE refused by 488", within::refused),
    ("re-INVITEs of both ends: 491", within::glare),
    ("session refresh", within::refresh),
];

#[test]
fn media_follows_every_change_of_a_call() {
    let columns = [("border", false), ("border", true), ("office", false), ("office", true)]
        .map(|(role, tls)| Column::new(role, tls));
    let jobs: Vec<(usize, usize, bool)> = (0..CASES.len())
        .flat_map(|case| {
            (0..columns.len()).flat_map(move |column| [false, true].map(|incoming| (case, column, incoming)))
        })
        .collect();
    let results = Mutex::new(vec![[const { Vec::new() }; 4]; CASES.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((case, column, incoming)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result: Step<[f64; 2]> = CASES[*case].1(&columns[*column], *incoming);
                    let way = if *incoming { "toward the phone" } else { "from the phone" };
                    results.lock().unwrap()[*case][*column].push(result.map_err(|why| format!("{way}: {why}")));
                }
            });
        }
    });
    let results: Vec<[Vec<Step<[f64; 2]>>; 4]> = results.into_inner().unwrap();
    let heads: String = columns.iter().map(|column| format!(" {:<13}", column.name)).collect();
    announce(&format!("{:<36}{heads}", "re-INVITE"));
    let mut failures = Vec::new();
    for ((name, _), row) in CASES.iter().zip(&results) {
        let mut line = format!("{name:<36}");
        for (results, column) in row.iter().zip(&columns) {
            let mut worst = [1.0_f64; 2];
            let failed = failures.len();
            for result in results {
                match result {
                    Ok(shares) => worst = [worst[0].min(shares[0]), worst[1].min(shares[1])],
                    Err(why) => failures.push(format!("FAIL {name}, {}: {why}", column.name)),
                }
            }
            let cell =
                if failures.len() > failed { "FAIL".to_owned() } else { format!("{:.3}/{:.3}", worst[0], worst[1]) };
            line += &format!(" {cell:<13}");
        }
        announce(&line);
    }
    failures.iter().for_each(|failure| announce(failure));
    assert!(failures.is_empty(), "{} of {} failed", failures.len(), jobs.len());
}
