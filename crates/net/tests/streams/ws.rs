//! WebSocket, in the clear and inside TLS.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use net::transport::{Event, Patience, Why};
use rustls::ALL_VERSIONS;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use wire::Transport;

use super::authority::{Authority, phone, secure, serve, settings as secured};
use super::world::*;

/// As browsers send them: without Content-Length.
const SHORT: &str = "OPTIONS sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\nbody";

fn request(subprotocol: Option<&str>) -> ClientRequestBuilder {
    let request = ClientRequestBuilder::new("ws://edge.example/".parse().unwrap());
    match subprotocol {
        Some(protocol) => request.with_sub_protocol(protocol),
        None => request,
    }
}

async fn browser<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    client_async(request(Some("sip")), stream).await.unwrap().0
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Message {
    tokio::time::timeout(LONG, socket.next()).await.expect("in time").expect("not the end").unwrap()
}

#[tokio::test]
async fn one_message_in_each_of_either_kind_both_ways() {
    let mut ours = Ours::new(settings(), &[Transport::Ws]);
    let mut browser = browser(peer(ours.listeners[0]).await).await;
    let (flow, _) = ours.opened().await;
    assert_eq!(flow.transport, Transport::Ws);
    browser.send(Message::text(SHORT)).await.unwrap();
    browser.send(Message::binary(SHORT)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ours.message().await, (flow, SHORT.as_bytes().to_vec()));
    }
    ours.send(flow, MESSAGE);
    ours.send(flow, b"A\xff");
    assert_eq!(next(&mut browser).await, Message::text(String::from_utf8(MESSAGE.to_vec()).unwrap()));
    assert_eq!(next(&mut browser).await, Message::binary(b"A\xff".to_vec()));
    ours.streams.close(flow);
    assert!(next(&mut browser).await.is_close());
    drop(browser);
    assert_eq!(ours.closed().await.1, Why::Asked);
}

#[tokio::test]
async fn keep_alives_of_both_kinds_are_answered() {
    let mut ours = Ours::new(settings(), &[Transport::Ws]);
    let mut browser = browser(peer(ours.listeners[0]).await).await;
    let (flow, _) = ours.opened().await;
    browser.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(next(&mut browser).await, Message::text("\r\n"));
    assert_eq!(ours.event().await, Event::KeepAlive { flow });
    browser.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(next(&mut browser).await, Message::Pong(Bytes::from_static(b"x")));
    assert_eq!(ours.event().await, Event::KeepAlive { flow });
    ours.send(flow, b"\r\n\r\n");
    assert!(next(&mut browser).await.is_ping());
    // Its answer leaves with the next thing that is read or written.
    browser.flush().await.unwrap();
    assert_eq!(ours.event().await, Event::Pong { flow });
    browser.send(Message::text("\r\n")).await.unwrap();
    assert_eq!(ours.event().await, Event::Pong { flow });
}

#[tokio::test]
async fn without_the_subprotocol_nobody_is_served() {
    let mut ours = Ours::new(settings(), &[Transport::Ws]);
    for subprotocol in [None, Some("xmpp")] {
        let refused = client_async(request(subprotocol), peer(ours.listeners[0]).await).await;
        match refused {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 400),
            other => panic!("{other:?}"),
        }
        assert_eq!(ours.closed().await.1, Why::Handshake);
    }
    let mut plain = peer(ours.listeners[0]).await;
    say(&mut plain, MESSAGE).await;
    assert_eq!(ours.closed().await.1, Why::Handshake);
}

#[tokio::test]
async fn fragments_make_one_message_within_the_limit() {
    let mut ours = Ours::new(settings(), &[Transport::Ws]);
    let mut first = browser(peer(ours.listeners[0]).await).await;
    let (flow, _) = ours.opened().await;
    let fragment = |bytes: &[u8], code, last| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last));
    let (head, tail) = SHORT.as_bytes().split_at(20);
    first.send(fragment(head, Data::Text, false)).await.unwrap();
    first.send(fragment(tail, Data::Continue, true)).await.unwrap();
    assert_eq!(ours.message().await, (flow, SHORT.as_bytes().to_vec()));
    first.send(fragment(&[b'x'; 3000], Data::Text, false)).await.unwrap();
    let _ = first.send(fragment(&[b'x'; 3000], Data::Continue, true)).await;
    let (closed, why, _) = ours.closed().await;
    assert_eq!((closed, why), (flow, Why::Unframed));
    let mut second = browser(peer(ours.listeners[0]).await).await;
    ours.opened().await;
    let _ = second.send(Message::binary(vec![b'x'; 5000])).await;
    assert_eq!(ours.closed().await.1, Why::Unframed);
}

#[tokio::test]
async fn a_stranger_that_only_pings_is_closed() {
    let patience = Patience { first: Duration::from_millis(400), ..Patience::default() };
    let mut ours = Ours::new(net::transport::streams::Settings { patience, ..settings() }, &[Transport::Ws]);
    let mut browser = browser(peer(ours.listeners[0]).await).await;
    let (flow, _) = ours.opened().await;
    let pinging = tokio::spawn(async move { while browser.send(Message::Ping(Bytes::new())).await.is_ok() {} });
    let why = loop {
        match ours.event().await {
            Event::KeepAlive { .. } => {}
            Event::Closed { flow: closed, why, .. } => {
                assert_eq!(closed, flow);
                break why;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(why, Why::Silent);
    pinging.await.unwrap();
}

#[tokio::test]
async fn inside_tls_in_both_directions() {
    let authority = Authority::new();
    let mut ours = Ours::new(settings(), &[Transport::Wss]);
    let identity = authority.sign(&["edge.example"]);
    ours.streams.set_tls(Arc::new(secured(Some(&identity), Some(&authority), None)));
    let config = phone(&authority, None, ALL_VERSIONS);
    let stream = secure(peer(ours.listeners[0]).await, "edge.example", &config).await.unwrap();
    let mut browser = browser(stream).await;
    let (flow, _) = ours.opened().await;
    browser.send(Message::text(SHORT)).await.unwrap();
    assert_eq!(ours.message().await, (flow, SHORT.as_bytes().to_vec()));

    let (listener, address) = server().await;
    let flow = ours.connect(Transport::Wss, 3, address, "edge.example");
    ours.send(flow, MESSAGE);
    let (stream, _) = listener.accept().await.unwrap();
    let stream = serve(stream, &identity).await.unwrap();
    #[expect(clippy::result_large_err, reason = "the type of an answer is not ours")]
    let agree = |request: &tokio_tungstenite::tungstenite::handshake::server::Request,
                 mut response: tokio_tungstenite::tungstenite::handshake::server::Response| {
        assert_eq!(request.headers()["sec-websocket-protocol"], "sip");
        assert_eq!(request.headers()["host"], format!("edge.example:{}", address.port()));
        response.headers_mut().insert("sec-websocket-protocol", "sip".parse().unwrap());
        Ok(response)
    };
    let mut core = accept_hdr_async(stream, agree).await.unwrap();
    assert_eq!(ours.opened().await.0, flow);
    assert_eq!(next(&mut core).await.into_data(), MESSAGE);
    core.send(Message::text(SHORT)).await.unwrap();
    assert_eq!(ours.message().await.0, flow);
}
