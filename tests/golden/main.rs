//! Message in, message out: transcripts of whole exchanges through the
//! signalling core, per role, in files that an operator can read.
//!
//! A transcript under `sip/<role>/` holds what peers send (`<<< side address`),
//! time passing (`<<< wait 20s`), media that stops (`<<< silence`), failures of
//! the machine (`<<< unsent side address`), the end of the process and the start of another one with its
//! snapshot (`<<< restart`), and all that siplatch answers
//! (`>>> side address`) or does (`***`). Random parts are written as
//! `{token-1}`, `{branch-2}`, … by order of appearance, and may be used in later
//! inputs. In the head `# user name password` makes an account, `# phone pings` and
//! `# upstream pings` show our pings and leave their answers to the transcript, and
//! `# unmapped` keeps STUN silent, `# ports are slow` binds none before `<<< ports`, and what is asserted
//! from an address is believed where `# IP is trusted`; `# upstream is NAME at IP IP` gives it a name;
//! `# upstream sip:NAME` (and `domain=`, `default_phone=` behind it) for each of several, `# dns NAME KIND …` for what the
//! resolver knows, `# phone NAME at PREFIX` for a phone that is known by its address, `# password NAME PASSWORD` for its
//! password at the upstream, `# our name is HOST`, `<<< lag 0.3s` (how long messages wait to be read); with `# upstream answers STUN` it sees us where `<<< mapped` or `<<< behind` says. Pings are answered except between
//! `<<< pings unanswered IP` and `<<< pings answered IP`. `side/transport` in
//! place of a side is a connection: it opens with its first message or by `<<< opened side/transport
//! address NAMES` (of the peer's certificate), ends by `<<< closed …`, and `<<< crlf …` is a pong. TCP is
//! there wherever UDP is; `# listener outer tls` adds another transport, `# upstream by tcp` reaches
//! the upstream over it, `# inner is secure` says that the network there is trusted. `Authorization:
//! digest user password METHOD uri SHA-256 {nonce-1}` stands for the computed value.
//! `SIPLATCH_GOLDEN=write cargo test --test golden` writes what came out.

#![allow(clippy::print_stdout, reason = "a test tells what it ran, and a failing one what happened")]

mod digest;
mod inputs;
mod leak;
mod leftovers;
mod names;
mod transcript;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

fn transcripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/sip");
    let mut files = Vec::new();
    for role in ["border", "office", "standalone"] {
        let folder = fs::read_dir(root.join(role)).expect("a folder per role");
        files.extend(
            folder.map(|entry| entry.expect("readable").path()).filter(|p| p.extension().is_some_and(|e| e == "sip")),
        );
    }
    files.sort();
    files
}

#[test]
fn every_transcript_comes_out_as_written() {
    let write = std::env::var("SIPLATCH_GOLDEN").is_ok_and(|v| v == "write");
    let mut different = Vec::new();
    let files = transcripts();
    for file in &files {
        let before = fs::read_to_string(file).expect("readable");
        let role = file.parent().and_then(Path::file_name).and_then(|n| n.to_str()).expect("a role");
        let after = transcript::run(role, &before);
        if before == after {
            // `make rfc` reads this line.
            println!("golden: {role}/{} ok", file.file_stem().unwrap_or_default().display());
        } else {
            if write {
                fs::write(file, after).expect("writable");
            } else {
                different.push(format!("{}\n{}", file.display(), transcript::first_difference(&before, &after)));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    println!("{} transcripts", files.len());
    assert!(files.len() >= 12, "transcripts are missing");
}
