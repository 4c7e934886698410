//! TLS: versions, certificates of both ends, half-open handshakes, a change of certificate.

use std::sync::Arc;
use std::time::Duration;

use net::transport::streams::Settings;
use net::transport::tls::{self, File};
use net::transport::{Caps, Event, Patience, Why};
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use wire::Transport;

use super::authority::{Authority, Dir, phone, secure, serve, settings as secured};
use super::world::*;

const TLS: &[Transport] = &[Transport::Tls];

fn with(tls: tls::Settings) -> Ours {
    let ours = Ours::new(settings(), TLS);
    ours.streams.set_tls(Arc::new(tls));
    ours
}

#[tokio::test]
async fn both_versions_carry_messages_both_ways() {
    let authority = Authority::new();
    let mut ours = with(secured(Some(&authority.sign(&["edge.example"])), None, None));
    for version in [&TLS12, &TLS13] {
        let config = phone(&authority, None, &[version]);
        let stream = peer(ours.listeners[0]).await;
        let mut phone = secure(stream, "edge.example", &config).await.unwrap();
        let (flow, names) = ours.opened().await;
        assert_eq!((flow.transport, names), (Transport::Tls, Vec::new()));
        say(&mut phone, &MESSAGE.repeat(3)).await;
        for _ in 0..3 {
            assert_eq!(ours.message().await, (flow, MESSAGE.to_vec()));
        }
        ours.send(flow, MESSAGE);
        expect(&mut phone, MESSAGE).await;
        ours.streams.close(flow);
        expect_end(&mut phone).await;
        assert_eq!(ours.closed().await.1, Why::Asked);
    }
}

#[tokio::test]
async fn a_clients_certificate_names_it_and_a_wrong_one_is_refused() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let mut ours = with(secured(Some(&authority.sign(&["edge.example"])), None, Some(&clients)));
    let names = ["Core.example", "sip:pbx.example", "sip:alice@pbx.example", "*.wild.example"];
    let config = phone(&authority, Some(&clients.sign(&names)), ALL_VERSIONS);
    let _core = secure(peer(ours.listeners[0]).await, "edge.example", &config).await.unwrap();
    assert_eq!(ours.opened().await.1, ["core.example", "pbx.example"]);
    let config = phone(&authority, None, ALL_VERSIONS);
    let _phone = secure(peer(ours.listeners[0]).await, "edge.example", &config).await.unwrap();
    assert!(ours.opened().await.1.is_empty(), "a certificate is asked for, not demanded");
    let config = phone(&authority, Some(&others.sign(&["core.example"])), ALL_VERSIONS);
    let _stranger = secure(peer(ours.listeners[0]).await, "edge.example", &config).await;
    let (_, why, what) = ours.closed().await;
    assert_eq!(why, Why::Handshake);
    assert!(what.contains("UnknownIssuer"), "{what}");
}

#[tokio::test]
async fn a_server_must_be_signed_by_whom_we_trust_and_name_the_domain() {
    let (authority, others) = (Authority::new(), Authority::new());
    let mut ours = with(secured(None, Some(&authority), None));
    for (identity, name, expected) in [
        (authority.sign(&["core.example"]), "core.example", None),
        (authority.sign(&["core.example"]), "CORE.example.", None),
        (authority.sign(&["sip:core.example"]), "core.example", None),
        (authority.sign(&["127.0.0.1"]), "127.0.0.1", None),
        (authority.sign(&["other.example"]), "core.example", Some("not valid for name")),
        (authority.sign(&["sip:alice@core.example"]), "core.example", Some("not valid for")),
        (others.sign(&["core.example"]), "core.example", Some("UnknownIssuer")),
    ] {
        let (listener, address) = server().await;
        let flow = ours.connect(Transport::Tls, 1, address, name);
        ours.send(flow, MESSAGE);
        let (stream, _) = listener.accept().await.unwrap();
        let core = serve(stream, &identity).await;
        match expected {
            None => {
                let (opened, names) = ours.opened().await;
                assert_eq!((opened, names.len()), (flow, usize::from(name != "127.0.0.1")));
                let mut core = core.unwrap();
                expect(&mut core, MESSAGE).await;
                say(&mut core, MESSAGE).await;
                assert_eq!(ours.message().await.0, flow);
                drop(core);
                assert_eq!(ours.closed().await.1, Why::Ended);
            }
            Some(expected) => {
                let (closed, why, what) = ours.closed().await;
                assert_eq!((closed, why), (flow, Why::Handshake));
                assert!(what.contains(expected), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn half_open_handshakes_are_closed() {
    let patience = Patience { handshake: Duration::from_millis(300), ..Patience::default() };
    let authority = Authority::new();
    let mut ours = Ours::new(Settings { patience, ..settings() }, TLS);
    ours.streams.set_tls(Arc::new(secured(Some(&authority.sign(&["edge.example"])), None, None)));
    let mut silent = peer(ours.listeners[0]).await;
    let (_, why, what) = ours.closed().await;
    assert_eq!((why, what.as_str()), (Why::Handshake, "took too long"));
    expect_end(&mut silent).await;
    let mut wrong = peer(ours.listeners[0]).await;
    say(&mut wrong, MESSAGE).await;
    assert_eq!(ours.closed().await.1, Why::Handshake);
    assert_eq!(ours.streams.census().total, 0);
}

#[tokio::test]
async fn an_office_comes_back_at_once_from_where_handshakes_do_not_end() {
    let authority = Authority::new();
    let mut ours = Ours::new(Settings { caps: Caps::of(1 << 20), ..settings() }, TLS);
    ours.streams.set_tls(Arc::new(secured(Some(&authority.sign(&["edge.example"])), None, None)));
    let (to, config) = (ours.listeners[0], phone(&authority, None, ALL_VERSIONS));
    let mut half_open = Vec::new();
    for _ in 0..200 {
        half_open.push(peer(to).await);
    }
    let office: Vec<_> = (0..100)
        .map(|_| {
            let config = Arc::clone(&config);
            tokio::spawn(async move { secure(peer(to).await, "edge.example", &config).await })
        })
        .collect();
    let (mut opened, mut evicted) = (0, 0);
    while opened < 100 {
        match ours.event().await {
            Event::Opened { .. } => opened += 1,
            Event::Closed { why: Why::Evicted, opened: false, .. } => evicted += 1,
            other => panic!("{other:?}"),
        }
    }
    for phone in office {
        phone.await.unwrap().unwrap();
    }
    assert!(evicted >= 72, "{evicted}");
    drop(half_open);
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_drops_none() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut ours = with(secured(Some(&old.sign(&["edge.example"])), None, None));
    let config = phone(&old, None, ALL_VERSIONS);
    let mut first = secure(peer(ours.listeners[0]).await, "edge.example", &config).await.unwrap();
    let (flow, _) = ours.opened().await;
    ours.streams.set_tls(Arc::new(secured(Some(&new.sign(&["edge.example"])), None, None)));
    assert!(secure(peer(ours.listeners[0]).await, "edge.example", &phone(&old, None, ALL_VERSIONS)).await.is_err());
    assert_eq!(ours.closed().await.1, Why::Handshake);
    let _second =
        secure(peer(ours.listeners[0]).await, "edge.example", &phone(&new, None, ALL_VERSIONS)).await.unwrap();
    ours.opened().await;
    say(&mut first, MESSAGE).await;
    assert_eq!(ours.message().await.0, flow);
    ours.send(flow, MESSAGE);
    expect(&mut first, MESSAGE).await;
}

#[test]
fn faulty_files_are_named_with_what_is_wrong() {
    let (authority, dir) = (Authority::new(), Dir::new());
    let (one, two) = (authority.sign(&["a.example"]), authority.sign(&["b.example"]));
    let good = dir.files(Some(&one), Some(&authority), Some(&authority));
    assert!(tls::Settings::load(&good).is_ok());
    let (certificate, key) = good.own.clone().unwrap();
    let other = dir.write("other.key", &two.key);
    let empty = dir.write("empty.pem", "nothing here\n");
    let broken = dir.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let missing = dir.write("x", "").with_file_name("missing.pem");
    let own = |certificate: &std::path::PathBuf, key: &std::path::PathBuf| tls::Files {
        own: Some((certificate.clone(), key.clone())),
        ..good.clone()
    };
    for (files, file, what) in [
        (own(&certificate, &other), File::Key, "is not the key of the certificate"),
        (own(&empty, &key), File::Certificate, "holds no certificate"),
        (own(&broken, &key), File::Certificate, "is no certificate"),
        (own(&missing, &key), File::Certificate, "cannot be read"),
        (own(&certificate, &empty), File::Key, "holds no private key"),
        (own(&certificate, &missing), File::Key, "cannot be read"),
        (tls::Files { ca: Some(empty.clone()), ..good.clone() }, File::Ca, "holds no certificate"),
        (tls::Files { client_ca: Some(missing.clone()), ..good.clone() }, File::ClientCa, "cannot be read"),
    ] {
        let fault = tls::Settings::load(&files).unwrap_err();
        assert!(fault.file == file && fault.what.contains(what), "{fault:?}");
    }
}
