//! The rights of the seven rooms, held by a test.
//!
//! `table.rs` says who may do what; `edges.rs` compares the crate graph with it, `sources.rs` the
//! sources. The last tests break a right in a scratch copy and expect to be told.

mod edges;
mod scratch;
mod sources;
mod table;
mod tokens;

use std::path::Path;

use scratch::Scratch;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests package lies in the workspace")
}

#[test]
fn every_crate_edge_is_granted() {
    let faults = edges::faults(workspace());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_source_takes_a_right_of_another_room() {
    let faults = sources::faults(workspace());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn an_unbroken_copy_has_no_faults() {
    let scratch = Scratch::new("unbroken");
    assert_eq!(edges::faults(scratch.root()), edges::faults(workspace()));
    assert_eq!(sources::faults(scratch.root()), sources::faults(workspace()));
}

#[test]
fn a_machine_that_takes_tokio_is_found() {
    let scratch = Scratch::new("wire-tokio");
    scratch.depend("wire", "tokio");
    let faults = edges::faults(scratch.root());
    assert!(faults.contains(&"room `wire` may not depend on `tokio`".to_owned()), "{faults:?}");
}

#[test]
fn an_edge_against_the_flow_is_found() {
    let scratch = Scratch::new("media-proxy");
    scratch.depend("media", "proxy");
    let faults = edges::faults(scratch.root());
    assert!(faults.contains(&"room `media` may not depend on `siplatch-proxy`".to_owned()), "{faults:?}");
}

#[test]
fn a_guest_outside_its_room_is_found() {
    let scratch = Scratch::new("proxy-rsip");
    scratch.depend("proxy", "rsip");
    let faults = edges::faults(scratch.root());
    assert!(faults.contains(&"room `proxy` may not depend on `rsip`".to_owned()), "{faults:?}");
}

#[test]
fn an_eighth_room_is_found() {
    let scratch = Scratch::new("eighth");
    scratch.add_room("common");
    let faults = edges::faults(scratch.root());
    assert!(faults.contains(&"package `siplatch-common` is no room of the table".to_owned()), "{faults:?}");
}

#[test]
fn a_machine_that_reads_the_clock_is_found() {
    let scratch = Scratch::new("registry-clock");
    scratch.write("registry", "peek.rs", "pub fn peek() -> std::time::Instant {\n    std::time::Instant :: now()\n}\n");
    let faults = sources::faults(scratch.root());
    let wanted = "crates/registry/src/peek.rs:2: `Instant::now` takes a right of another room (clock)";
    assert!(faults.contains(&wanted.to_owned()), "{faults:?}");
}

#[test]
fn a_machine_with_a_socket_or_a_lock_is_found() {
    let scratch = Scratch::new("proxy-socket");
    scratch.write("proxy", "peek.rs", "use std::{net::UdpSocket, sync::Mutex};\n");
    let faults = sources::faults(scratch.root());
    for wanted in
        ["`UdpSocket` takes a right of another room (sockets)", "`Mutex` takes a right of another room (locks)"]
    {
        assert!(faults.iter().any(|fault| fault.ends_with(wanted)), "{faults:?}");
    }
}

#[test]
fn a_root_that_does_not_forbid_unsafe_is_found() {
    let scratch = Scratch::new("nat-unsafe");
    scratch.write("nat", "lib.rs", "//! `#![forbid(unsafe_code)]` in a comment does not count.\n");
    let faults = sources::faults(scratch.root());
    assert!(faults.contains(&"the root of room `nat` lacks #![forbid(unsafe_code)]".to_owned()), "{faults:?}");
}

#[test]
fn unsafe_code_without_a_reason_is_found() {
    let scratch = Scratch::new("net-unsafe");
    scratch.write("net", "peek.rs", "#![allow(unsafe_code)]\n");
    let faults = sources::faults(scratch.root());
    let wanted = "crates/net/src/peek.rs:1: unsafe code is allowed without a reason";
    assert!(faults.contains(&wanted.to_owned()), "{faults:?}");
    scratch.write("net", "peek.rs", "#![expect(unsafe_code, reason = \"a system call\")]\n");
    assert!(!sources::faults(scratch.root()).contains(&wanted.to_owned()));
}

#[test]
fn comments_literals_and_test_code_are_free() {
    let scratch = Scratch::new("free");
    let before = sources::faults(scratch.root());
    let source = r##"
        // Instant::now()
        /* SystemTime /* nested */ Mutex */
        pub const A: &str = "Instant::now \" Mutex";
        pub const B: &[u8] = br#"UdpSocket " RwLock"#;
        pub const C: char = '"';
        pub const D: (u8, char) = (b'\'', '\u{22}');
        pub fn longer<'a>(my_mutex: &'a str) -> &'a str { my_mutex }
        #[cfg(test)]
        mod far;
        #[cfg(test)]
        #[allow(dead_code)]
        mod near { pub fn now() -> std::time::Instant { std::time::Instant::now() } }
    "##;
    scratch.write("media", "free.rs", source);
    scratch.write("media", "free/far.rs", "fn wait() { std::thread::yield_now() }\n");
    assert_eq!(sources::faults(scratch.root()), before);
    scratch.write("media", "free.rs", &format!("{source}\nuse std::time::SystemTime;\n"));
    assert_eq!(sources::faults(scratch.root()).len(), before.len() + 1);
}
