//! What each target starts from: the torture messages, the transcripts and
//! the SDP cases that other tests hold, cut to the target's form. Nothing of
//! them lies in the corpus a second time.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use wire::sip::{Limits, Name, Stored};
use wire::stun;

use crate::targets::inputs::{Given, inputs, message};
use crate::targets::transactions::{deed, party};
use crate::targets::websocket::{HANDSHAKE, how};

/// Names and octets.
type Seeds = Vec<(String, Vec<u8>)>;

/// The seeds of a target.
pub(crate) fn of(target: &str) -> Seeds {
    match target {
        "message" => messages(),
        "uri" => uris(),
        "sdp" => bodies(),
        "stun" => packets(),
        "latch" => calls(),
        "stream" => streams(),
        "websocket" => websockets(),
        "transactions" => plays(),
        "world" => tapes(),
        other => panic!("no target is called {other}"),
    }
}

fn tests() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|folder| folder.ends_with("tests")).expect("this lies below tests/")
}

/// Files of that extension in these folders, in order.
fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let read = |folder: &&str| fs::read_dir(tests().join(folder)).expect("a folder of test data");
    let paths = folders.iter().flat_map(read).map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    format!("{}-{}", part(file.parent().and_then(Path::file_name)), part(file.file_stem()))
}

fn transcripts() -> Vec<(String, String)> {
    let files = files(&["golden/sip/border", "golden/sip/office", "golden/sip/standalone"], "sip");
    files.iter().map(|file| (name(file), fs::read_to_string(file).expect("readable"))).collect()
}

fn torture() -> Seeds {
    let files = files(&["torture/rfc4475", "torture/rfc5118"], "dat");
    files.iter().map(|file| (name(file), fs::read(file).expect("readable"))).collect()
}

fn messages() -> Seeds {
    let mut seeds = torture();
    for (name, text) in transcripts() {
        // The first two inputs of each are not like those of another.
        for (number, given) in inputs(&text).iter().filter(|given| !given.body.trim().is_empty()).take(2).enumerate() {
            seeds.push((format!("{name}-{number}"), message(&given.body)));
        }
    }
    seeds
}

fn uris() -> Seeds {
    let mut seeds = Vec::new();
    for (name, bytes) in torture() {
        let Ok(stored) = Stored::parse(bytes, &Limits::default()) else { continue };
        let message = stored.message();
        let mut lines = vec![message.request_uri()];
        for field in [Name::To, Name::From, Name::Contact, Name::Via, Name::Route, Name::CSeq] {
            lines.extend(message.value(field));
        }
        // A folded value would be two lines.
        let lines = lines.iter().filter(|line| !line.contains(&b'\n')).copied();
        seeds.push((name, lines.collect::<Vec<_>>().join(&b'\n')));
    }
    for (number, pair) in [
        "sip:%61lice@atlanta.com;transport=TCP\nsip:alice@AtLanTa.CoM;Transport=tcp",
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com\nsip:biloxi.com;method=REGISTER",
        "sip:a@[2001:db8::1]?subject=x&priority=urgent\nsip:a@[2001:0DB8:0::1]?priority=urgent&subject=x",
        "tel:+1-201-555-0123;phone-context=a\ntel:+1(201)5550123",
        "urn:service:sos\nURN:service:sos",
        "\"A, \\\"B\\\"\" <sip:a:pw@h:5060;lr;maddr=1.2.3.4;ttl=1?x=y>;tag=1;q=0.5, *",
    ]
    .iter()
    .enumerate()
    {
        seeds.push((format!("pair-{number}"), pair.as_bytes().to_vec()));
    }
    seeds
}

/// An offer, and the next case's body as its answer.
fn bodies() -> Seeds {
    let cases: Seeds = files(&["golden/sdp/cases"], "diff")
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).expect("readable");
            let (head, body) = text.split_once("\n\n").expect("a head and a body");
            let eol = if head.contains("\nline ends: LF") { "\n" } else { "\r\n" };
            // Context and what is taken away: the body as it comes in.
            let before = body.lines().filter_map(|line| line.strip_prefix("  ").or_else(|| line.strip_prefix("- ")));
            (name(file), before.map(|line| format!("{line}{eol}")).collect::<String>().into_bytes())
        })
        .collect();
    let next = cases.iter().cycle().skip(1);
    let seed =
        |number: usize, offer: &[u8], answer: &[u8]| [&[number as u8], &behind_length(offer)[..], answer].concat();
    let seeds = cases.iter().zip(next).enumerate();
    seeds.map(|(number, ((name, offer), (_, answer)))| (name.clone(), seed(number, offer, answer))).collect()
}

fn packets() -> Seeds {
    let id = *b"transaction!";
    let from: SocketAddr = "192.0.2.1:40000".parse().expect("an address");
    let mut indication = [0; 20];
    stun::indication(id, &mut indication);
    let request = stun::request(id);
    let answer = stun::answer(&request, from).expect("it answers itself");
    let plain = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], &id[..]].concat();
    // CHANGE-REQUEST (RFC 5780 §7.2), which is not known.
    let change = [&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42], &id[..], &[0, 3, 0, 4, 0, 0, 0, 6]].concat();
    let refusal = stun::answer(&change, from).expect("a 420");
    let packets = [indication.to_vec(), request, answer, plain, change, refusal];
    let named = packets.into_iter().enumerate();
    named
        .map(|(n, packet)| (format!("packet-{n}"), [&[n as u8, 192, 0, 2, 1, 0, 0, 0, 9], &packet[..]].concat()))
        .collect()
}

/// Plans, friends and strangers in turn.
fn calls() -> Seeds {
    let talk = [3, 24, 5, 24, 0, 20].repeat(8);
    let strangers =
        [8, 0x50, 0, 1, 2, 3, 4, 8, 0x40, 1, 9, 9, 9, 9, 8, 0x01, 2, 5, 5, 5, 5, 0, 3, 0x80, 0, 1].repeat(4);
    let moves = [1, 10, 3, 0x98, 3, 0x98, 3, 0x98, 3, 0x98, 3, 0x98, 3, 0x98];
    let checks = [7, 2, 7, 6, 0, 30, 7, 4, 3, 24, 2, 0x28, 7, 3];
    let settled = [2, 0x23, 1, 10, 3, 26, 2, 0x20];
    let spoofs = [0, 250, 3, 0x58, 3, 0xd8, 12, 0, 0, 12, 1, 1, 3, 0x5a].repeat(3);
    let (keyed, rekeyed) = ([2, 0xa3, 3, 24, 0, 20], [2, 0xe3, 3, 0x58, 3, 24]);
    let rows: [&[&[u8]]; 8] = [
        &[&[0], &talk, &strangers, &settled, &talk],
        &[&[0], &talk, &moves, &strangers, &talk],
        &[&[1], &checks, &talk, &strangers, &checks, &talk],
        &[&[3], &talk, &checks, &settled, &strangers],
        &[&[2], &strangers, &talk, &settled, &moves, &strangers],
        &[&[4], &spoofs, &talk, &spoofs, &moves, &spoofs, &talk],
        &[&[6], &talk, &rekeyed, &spoofs, &talk, &settled, &spoofs, &keyed, &spoofs],
        &[&[5], &talk, &checks, &spoofs, &keyed, &spoofs, &moves],
    ];
    rows.iter().enumerate().map(|(n, row)| (format!("call-{n}"), row.concat())).collect()
}

/// Three messages in a row, cut at odd places, with keep-alives between them.
fn streams() -> Seeds {
    let messages: Seeds = torture().into_iter().filter(|(_, bytes)| bytes.len() < 1200).collect();
    let rows = messages.chunks(3).enumerate().map(|(number, row)| {
        let lengths: Vec<u8> = (0..40).map(|n| ((n * 37 + number * 11) % 200) as u8).collect();
        let stream: Vec<Vec<u8>> = row.iter().map(|(_, bytes)| bytes.clone()).collect();
        (format!("row-{number}"), [behind_length(&lengths), stream.join(&b"\r\n\r\n"[..])].concat())
    });
    rows.collect()
}

/// Messages as frames: one each, in fragments with a ping between them, and what is no frame.
fn websockets() -> Seeds {
    let frame = |first: u8, payload: &[u8]| match payload.len() {
        short @ 0..=125 => [&[first, short as u8], payload].concat(),
        long => [&[first, 126], &(long as u16).to_be_bytes()[..], payload].concat(),
    };
    let (text, binary, more, ping, pong, close) = (0x81, 0x82, 0x80, 0x89, 0x8a, 0x88);
    let seed = |how: u8, frames: &[u8]| [&[how], &behind_length(&[7, 1, 60, 3, 200])[..], frames].concat();
    let messages = torture().into_iter().filter(|(_, bytes)| bytes.len() < 1400);
    let mut seeds: Seeds = messages
        .enumerate()
        .map(|(number, (name, bytes))| {
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            let frames = match number % 3 {
                0 => frame(text, &bytes),
                1 => [frame(binary, &bytes), frame(ping, b"x"), frame(text, b"\r\n\r\n"), frame(close, b"")].concat(),
                _ => [frame(text & 0x7f, head), frame(pong, b""), frame(more, tail), frame(text, b"\r\n")].concat(),
            };
            (name, seed(how::UNMASKED, &frames))
        })
        .collect();
    let raw = |text: &str| seed(how::RAW, text.as_bytes());
    seeds.push(("handshake".to_owned(), raw(HANDSHAKE)));
    seeds.push(("without-subprotocol".to_owned(), raw(&HANDSHAKE.replace("Sec-WebSocket-Protocol: sip\r\n", ""))));
    seeds.push(("plain-sip".to_owned(), raw("OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n")));
    seeds.push((
        "too-long".to_owned(),
        seed(how::UNMASKED, &[text, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ));
    seeds.push(("no-utf8".to_owned(), seed(how::UNMASKED, &frame(text, b"\xff\xfe"))));
    seeds
}

fn behind_length(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

/// Transcripts as rows of deeds.
fn plays() -> Seeds {
    let plays = transcripts().into_iter().enumerate().map(|(number, (name, text))| {
        let role = ["border", "office", "standalone"].iter().position(|role| name.starts_with(role)).expect("a role");
        // Few are played to the end, which takes long.
        let mut first = role as u8 | u8::from(number % 8 == 0) << 6;
        for (line, bit) in
            [("\n# user ", 2), ("\n# upstream is ", 3), ("\n# phone pings", 5), ("\n# upstream pings", 5)]
        {
            first |= u8::from(format!("\n{text}").contains(line)) << bit;
        }
        let mut octets = vec![first];
        for given in inputs(&text) {
            octets.extend(deeds(role, &given));
        }
        (name, octets)
    });
    plays.collect()
}

fn deeds(role: usize, given: &Given) -> Vec<u8> {
    match given.line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "wait", time] => waits(time.trim_end_matches('s').parse().expect("seconds")),
        [_, "silence"] => vec![deed::SILENCE],
        [_, "stop"] => vec![deed::STOP],
        [_, "mapped", _] => vec![deed::MAPPED, 1, 99],
        [_, "unsent", ..] => vec![deed::UNSENT, 0],
        [_, side @ ("inner" | "outer"), remote] => {
            let listener = u16::from(side == "outer");
            let address = remote.parse().expect("an address");
            [vec![deed::SAY], party(role, listener, address), behind_length(given.body.as_bytes())].concat()
        }
        // Streams and what else is not among the deeds.
        _ => Vec::new(),
    }
}

/// In units that there are.
fn waits(seconds: f64) -> Vec<u8> {
    let mut left = (seconds * 1000.0) as u64;
    let mut octets = Vec::new();
    for (unit, at) in [(64_000, 5), (5_000, 3), (1_000, 2), (500, 1), (10, 0)] {
        let times = (left / unit).min(15);
        left -= times * unit;
        if times > 0 {
            octets.extend([deed::WAIT, at, times as u8]);
        }
    }
    octets
}

/// Worlds of no particular kind (SplitMix64).
fn tapes() -> Seeds {
    let mut state = 1u64;
    let mut octet = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).to_be_bytes()[0]
    };
    (0..12).map(|number| (format!("tape-{number}"), (0..200).map(|_| octet()).collect())).collect()
}
