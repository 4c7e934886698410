//! Sessions through rtpengine's control protocol: offer and answer, in bencoding over UDP.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use crate::sip::{Ends, media_of, sdp};

/// Sets up a session for these two ends.
pub(super) fn set_up(control: &UdpSocket, number: usize, own: [SocketAddrV4; 2]) -> io::Result<Ends> {
    let (mut offer, mut answer) = (String::new(), String::new());
    sdp(&mut offer, number, own[0]);
    sdp(&mut answer, number, own[1]);
    let call_id = format!("{number}-{}", std::process::id());
    // The offer that the called end is given names where it sends to, and the answer where the caller does.
    let called =
        ask(control, number * 2, &[("call-id", &call_id), ("command", "offer"), ("from-tag", "a"), ("sdp", &offer)])?;
    let caller = ask(
        control,
        number * 2 + 1,
        &[("call-id", &call_id), ("command", "answer"), ("from-tag", "a"), ("sdp", &answer), ("to-tag", "b")],
    )?;
    Ok(Ends { own, to: [caller, called] })
}

/// Below the ports of media, which are dropped unread.
const PORT: u16 = 7000;

/// A socket that asks rtpengine there.
pub(super) fn control(at: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, PORT))?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(socket)
}

fn ask(control: &UdpSocket, cookie: usize, fields: &[(&str, &str)]) -> io::Result<SocketAddrV4> {
    let mut text = format!("{cookie} d");
    for (name, value) in fields {
        text += &format!("{}:{name}{}:{value}", name.len(), value.len());
    }
    // Sorted as bencoding wants it: "replace" lies between "from-tag" and "sdp".
    let list = "7:replacel6:origin18:session-connectione";
    let at = text.find("3:sdp").unwrap_or(text.len());
    text.insert_str(at, list);
    text.push('e');
    control.send(text.as_bytes())?;
    let mut buffer = [0; 4096];
    let length = control.recv(&mut buffer)?;
    let heard = String::from_utf8_lossy(&buffer[..length]);
    heard
        .split_once("3:sdp")
        .and_then(|(_, rest)| media_of(rest.split_once(':')?.1))
        .ok_or_else(|| io::Error::other(format!("rtpengine: {heard}")))
}
