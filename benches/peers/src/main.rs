//! Load for `make bench-peers`, the same for every contender, and the two bare forwarders.
//!
//! `sip` and `rtp` read commands from standard input, one a line, and answer each with one line of JSON.

mod clock;
mod forward;
mod options;
mod phones;
mod reply;
mod rtp;
mod sip;
mod spin;

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use options::Options;

/// Between two looks at what the contender asks while no command is at work.
const REST: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    phones::many_descriptors();
    let outcome = Options::read(arguments).and_then(|options| match what.as_str() {
        "sip" => serve(sip::Load::new(&options)?),
        "rtp" => serve(rtp::Load::new(&options)?),
        "forward" => forward::run(&options),
        "spin" => spin::run(),
        _ => Err(io::Error::other("usage: peers-load sip|rtp|forward|spin --NAME VALUE…")),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "peers-load {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A load that is told what to do, step by step.
trait Told {
    /// Does what the words say; the answer is one JSON object.
    fn obey(&mut self, words: &[&str]) -> io::Result<String>;
    /// Nothing is asked for at the moment: answers what the contender asks of its own accord.
    fn rest(&mut self) -> io::Result<()>;
}

fn serve(mut load: impl Told) -> io::Result<()> {
    let (say, said) = mpsc::channel();
    thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut out = io::stdout();
    writeln!(out, "{{}}")?;
    out.flush()?;
    loop {
        match said.recv_timeout(REST) {
            Ok(line) => {
                let words: Vec<&str> = line.split_whitespace().collect();
                writeln!(out, "{}", load.obey(&words)?)?;
                out.flush()?;
            }
            Err(RecvTimeoutError::Timeout) => load.rest()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
