//! `siplatch init`: a first configuration from at most three answers, mended by
//! what the doctor sees. What is written has no faults; what it cannot know
//! stands in it as a comment.

mod ask;
mod text;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use crate::cli::{self, Examine, Init, Overrides};
use crate::doctor;
use crate::{complain, print};

pub(crate) use text::Wish;

/// Asks, examines, writes.
pub(crate) fn run(asked: &Init) -> ExitCode {
    match make(asked) {
        Ok(said) => print(&said),
        Err(why) => complain(&why),
    }
}

fn make(asked: &Init) -> Result<String, String> {
    let name = asked.file.display().to_string();
    if asked.file.exists() && !asked.force {
        return Err(format!("{name} exists already\n  mend: write another name, or --force to replace it\n"));
    }
    let mut wish = ask::wish(asked)?;
    wish.local = local(&wish)?;
    let mut said = String::new();
    if !asked.no_doctor {
        let report = doctor::examined(&examine(), Some(&checked(&name, &text::write(&wish))?))?;
        said.push_str(&report.text());
        said.push('\n');
        wish.advice = report.advice();
    }
    let text = text::write(&wish);
    // What the advice has made of it must be without fault, too.
    checked(&name, &text)?;
    write(asked, &text).map_err(|error| format!("{name} cannot be written: {error}\n"))?;
    said.push_str(&format!("{name} is written.\n\n{}", text::next_steps(&wish, &name)));
    Ok(said)
}

fn checked(name: &str, text: &str) -> Result<crate::config::Settings, String> {
    cli::load_text((name.to_owned(), text.to_owned()), &Overrides::default())
}

/// The machine's address on the way to the upstream, or to anywhere.
fn local(wish: &Wish) -> Result<IpAddr, String> {
    let toward = |to: SocketAddr| net::addresses::toward(to).ok();
    let upstream = wish.upstream_ip().and_then(|ip| toward(SocketAddr::new(ip, 5060)));
    // An address of documentation (RFC 5737): nothing is sent there.
    let anywhere = || toward(SocketAddr::from(([192, 0, 2, 1], 9)));
    upstream.or_else(anywhere).ok_or_else(|| "this machine has no network\n".to_owned())
}

/// The doctor as it is asked here: what needs waiting is for later.
fn examine() -> Examine {
    Examine {
        config: None,
        stun: Vec::new(),
        reflector: None,
        upstream: Vec::new(),
        turn: None,
        only: Vec::new(),
        quick: true,
        long: false,
        json: false,
    }
}

fn write(asked: &Init, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if asked.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(&asked.file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
