//! The torture messages of RFC 4475 and RFC 5118, octet for octet as the
//! RFCs' archives hold them, with three oracles beside our own reading.
//!
//! `table.rs` lists every message with the RFC's verdict and the layer that
//! gives it; `verdict.rs` reads a message the way a proxy must before it
//! forwards; the other files compare.

mod bodies;
mod hostile;
mod oracles;
mod proxy;
mod rfc4475;
mod rfc5118;
mod stream;
mod table;
mod verdict;

use std::io::Write;

/// Prints a line past the capture of test output, so that it shows in every run.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("standard output is open");
}
