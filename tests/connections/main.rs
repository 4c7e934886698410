//! Thousands of phones, each on a TLS connection of its own, and beside them
//! strangers who are slow or never finish what they begin.
//!
//! The phones register with a password. Then one of them sends a message to
//! each of the others, which must come over the connection that the phone
//! opened itself, while the strangers are there and a call with audio is up.
//! In debug builds there are a tenth as many of both; `SIPLATCH_CONNECTIONS` is
//! another number of phones, of which the strangers are half.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

mod phone;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use peer::{Agent, Authority, Call, Daemon, Loopback, accept, announce};
use phone::{Phone, Secure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The name in the certificate.
const NAME: &str = "edge.example";
/// Registrations and messages under way at a time.
const AT_ONCE: usize = 64;
/// What the memory of one connection may be, in KiB.
const EACH_KIB: u64 = 64;

fn phones() -> usize {
    let usual = if cfg!(debug_assertions) { 200 } else { 2_000 };
    std::env::var("SIPLATCH_CONNECTIONS").map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn thousands_of_tls_phones_and_slow_strangers_beside_them() {
    let phones = phones();
    // Each has a socket here, too.
    let descriptors = net::raise_nofile().unwrap();
    assert!(descriptors > 2 * phones as u64 + 200, "{descriptors} files may be open: too few for {phones} phones");
    let (net, authority) = (Loopback::new(), Authority::new());
    let (sip, tls) = (net.at(1, 5060), net.at(1, 5061));
    let dir = std::env::temp_dir().join(format!("siplatch-connections-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    authority.sign(&[NAME]).write(&dir);
    let files = dir.display();
    let mut config = format!(
        "[inner]\nlisten = [\"udp:{sip}\", \"tls:{tls}\"]\n[tls]\ncertificate = \"{files}/tls.crt\"\nkey = \
         \"{files}/tls.key\"\n"
    );
    for name in ["alice".to_owned(), "bob".to_owned()].into_iter().chain((0..phones).map(phone::name)) {
        config += &format!("[[user]]\nname = \"{name}\"\npassword = \"secret\"\n");
    }
    let daemon = Daemon::start(net, &config, "warn");
    std::fs::remove_dir_all(&dir).unwrap();
    let domain = sip.to_string();
    let [alice, bob] = [("alice", 20), ("bob", 30)].map(|(name, host)| {
        let agent = Agent::new(name, net.at(host, 5060), accept());
        assert_eq!(agent.register(sip, &domain, "secret"), 200);
        agent
    });
    let call = Call::up(&alice, sip, &format!("sip:bob@{domain}"), &bob);
    let before = daemon.resident();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let secure = Secure::new(&authority, NAME, tls, net.ip(50));
    let began = Instant::now();
    let mut all = runtime.block_on(register(phones, &secure, &domain));
    let took = began.elapsed();
    let each = daemon.resident().saturating_sub(before) / phones as u64;
    assert_eq!(daemon.figure("siplatch_connections", "tls"), phones as f64);

    let (strangers, over) = (phones / 2, Arc::new(AtomicBool::new(false)));
    let tally = Arc::new(slow::Tally::default());
    for number in 0..strangers {
        let ip = Loopback::stranger(u32::try_from(number % 8).unwrap());
        runtime.spawn(slow::stranger(number, secure.from(ip), Arc::clone(&tally), Arc::clone(&over)));
    }
    runtime.block_on(tally.there(strangers));
    let caller = all.pop().unwrap();
    let mut waits = runtime.block_on(reach(&caller, &all, &domain));
    // Once more when those have been closed that never finish their handshake.
    runtime.block_on(tally.gone(strangers / 3));
    waits.extend(runtime.block_on(reach(&caller, &all, &domain)));
    over.store(true, Ordering::Relaxed);
    assert_eq!(daemon.figure("siplatch_connections_closed_total", "reason=\"evicted\""), 0.0);
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_millis();
    let audio = call.hang_up();
    assert!(each < EACH_KIB, "{each} KiB a connection");
    announce(&format!(
        "connections            {phones} TLS phones registered in {:.1} s, {each} KiB a connection; {} of {} reached \
         twice beside {strangers} slow or half-open ones, p50 {} ms, p99 {} ms, longest {} ms; {} of these closed; \
         {audio}",
        took.as_secs_f64(),
        waits.len() / 2,
        all.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        tally.closed()
    ));
    assert!(audio.is_unharmed(), "{audio:?}");
    drop(runtime);
}

/// Connects and registers so many phones.
async fn register(count: usize, secure: &Secure, domain: &str) -> Vec<Phone> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (places, secure, domain) = (Arc::clone(&places), secure.clone(), domain.to_owned());
        tasks.spawn(async move {
            let _place = places.acquire().await.unwrap();
            Phone::register(number, &secure, &domain).await
        });
    }
    tasks.join_all().await
}

/// Sends a message to each phone; returns how long each answer took.
async fn reach(caller: &Phone, all: &[Phone], domain: &str) -> Vec<Duration> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for callee in all {
        let (places, caller) = (Arc::clone(&places), caller.clone());
        let (uri, callee) = (format!("sip:{}@{domain}", callee.name), callee.clone());
        tasks.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let (began, before) = (Instant::now(), callee.messages());
            assert_eq!(caller.message(&uri).await, 200, "{uri}");
            assert_eq!(callee.messages(), before + 1, "{uri} is answered by whoever has the connection");
            began.elapsed()
        });
    }
    tasks.join_all().await
}

/// Where a phone or a stranger connects to, and from.
type Ends = (SocketAddr, SocketAddr);
