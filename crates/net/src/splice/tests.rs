//! Real connections on loopback.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use media::{Part, Sources, SpliceLeg};
use nat::Side;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::sockopt;

const STREAM: StreamId = StreamId { worker: 0, slot: 3, generation: 1 };
const A: &str = "127.0.0.11";
const B: &str = "127.0.0.12";
const STRANGER: &str = "127.0.0.13";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A port that nobody listens on just now.
fn free() -> SocketAddr {
    sockopt::listen_tcp("127.0.0.1:0".parse().unwrap(), crate::dscp::Dscp::EF).unwrap().local_addr().unwrap()
}

fn leg(at: SocketAddr, part: Part, from: &str) -> SpliceLeg {
    let sources = Sources { ips: [Some(ip(from)), None], ..Sources::default() };
    SpliceLeg { at, side: Side::Outer, sources, part }
}

struct Bench {
    splices: Splices,
    reports: UnboundedReceiver<Report>,
    at: [SocketAddr; 2],
    splice: Splice,
}

impl Bench {
    fn new(asked: Option<End>) -> Self {
        let (sender, reports) = unbounded_channel();
        let at = [free(), free()];
        let legs = [leg(at[0], Part::Listen, A), leg(at[1], Part::Listen, B)];
        let splice = Splice { legs, round: 0, turn: 0, asked };
        let mut bench = Self { splices: Splices::new(4, crate::dscp::Dscp::EF, sender), reports, at, splice };
        bench.tell();
        bench
    }

    fn tell(&mut self) {
        let splice = Some(Box::new(self.splice.clone()));
        self.splices.handle(&Command::Splice { stream: STREAM, splice });
    }

    /// Another exchange, of a connection that exists or of a new one.
    fn agree(&mut self, anew: bool) {
        self.splice.turn += 1;
        self.splice.round += u32::from(anew);
        self.splice.asked = None;
        self.tell();
    }

    async fn connect(&self, from: &str, end: End) -> TcpStream {
        connect(from, self.at[end.index()]).await
    }

    /// Ends the splice; the sums of what it told.
    async fn close(mut self) -> [SpliceCounts; 2] {
        self.splices.handle(&Command::Close { stream: STREAM, told: [true; 2] });
        let mut sums = [SpliceCounts::default(); 2];
        self.splices.streams.clear();
        // The task has told its last when it is gone, and with it the way to us.
        let runtime = self.splices.runtime.take().unwrap();
        drop(std::mem::replace(&mut self.splices.reports, unbounded_channel().0));
        while let Some(report) = within(self.reports.recv()).await {
            let Report::Fact { fact: Fact::Spliced { stream, legs }, .. } = report else { panic!("{report:?}") };
            assert_eq!(stream, STREAM);
            for (sum, (_, counts)) in sums.iter_mut().zip(*legs) {
                sum.bytes_in += counts.bytes_in;
                sum.bytes_out += counts.bytes_out;
                sum.accepted += counts.accepted;
                sum.dialled += counts.dialled;
                sum.refused += counts.refused;
                sum.busy += counts.busy;
                sum.failed += counts.failed;
                sum.unbound += counts.unbound;
            }
        }
        runtime.shutdown_background();
        sums
    }
}

/// As often as it takes until somebody listens.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    within(async {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(ip(from), 0)).unwrap();
            match socket.connect(to).await {
                Ok(stream) => return stream,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

async fn hears(stream: &mut TcpStream, what: &[u8]) {
    let mut room = vec![0; what.len()];
    within(stream.read_exact(&mut room)).await.unwrap();
    assert_eq!(room, what);
}

/// It is closed, by whichever way.
async fn is_ended(stream: &mut TcpStream) {
    let read = within(stream.read(&mut [0; 64])).await;
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

fn pattern(seed: u8, octets: usize) -> Vec<u8> {
    (0..octets).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

/// Sends all while the other end is heard to its end.
async fn exchange(mut a: TcpStream, mut b: TcpStream, octets: usize) {
    let send = [pattern(1, octets), pattern(2, octets)];
    let (mut heard_a, mut heard_b) = (Vec::new(), Vec::new());
    let (mut a_in, mut a_out) = a.split();
    let (mut b_in, mut b_out) = b.split();
    within(async {
        let talk = async {
            a_out.write_all(&send[0]).await?;
            a_out.shutdown().await
        };
        let back = async {
            b_out.write_all(&send[1]).await?;
            b_out.shutdown().await
        };
        tokio::try_join!(talk, back, a_in.read_to_end(&mut heard_a), b_in.read_to_end(&mut heard_b)).unwrap();
    })
    .await;
    assert!(heard_b == send[0] && heard_a == send[1], "octets differ");
}

#[tokio::test]
async fn two_active_ends_are_spliced_octet_by_octet() {
    let bench = Bench::new(None);
    let (a, b) = (bench.connect(A, End::A).await, bench.connect(B, End::B).await);
    const MEBI: usize = 1 << 20;
    exchange(a, b, MEBI).await;
    let [a, b] = bench.close().await;
    let wanted = SpliceCounts { bytes_in: MEBI as u64, bytes_out: MEBI as u64, accepted: 1, ..SpliceCounts::default() };
    assert_eq!((a, b), (wanted, wanted));
}

#[tokio::test]
async fn what_comes_before_the_other_end_is_there_waits_and_holds_the_sender_back() {
    let bench = Bench::new(None);
    let mut a = bench.connect(A, End::A).await;
    let all = pattern(7, 16 << 20);
    // The kernel takes some, we take 64 KiB, and then nothing moves.
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), a.write(&all[sent..])).await {
        sent += written.unwrap();
    }
    assert!(sent < all.len());
    let mut b = bench.connect(B, End::B).await;
    let rest = async {
        a.write_all(&all[sent..]).await.unwrap();
        a.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = within(async { tokio::join!(rest, b.read_to_end(&mut heard)) }).await;
    read.unwrap();
    assert!(heard == all);
    // Half-closed: the other direction is open still.
    b.write_all(b"answer").await.unwrap();
    hears(&mut a, b"answer").await;
    b.shutdown().await.unwrap();
    is_ended(&mut a).await;
    bench.close().await;
}

#[tokio::test]
async fn strangers_and_seconds_are_closed_at_once_and_change_nothing() {
    let bench = Bench::new(None);
    let mut a = bench.connect(A, End::A).await;
    let mut b = bench.connect(B, End::B).await;
    a.write_all(b"before").await.unwrap();
    hears(&mut b, b"before").await;
    for (from, end) in [(STRANGER, End::A), (STRANGER, End::B), (B, End::A), (A, End::A), (B, End::B)] {
        is_ended(&mut bench.connect(from, end).await).await;
    }
    b.write_all(b"after").await.unwrap();
    hears(&mut a, b"after").await;
    let [a, b] = bench.close().await;
    assert_eq!((a.accepted, a.refused, a.busy), (1, 2, 1));
    assert_eq!((b.accepted, b.refused, b.busy), (1, 1, 1));
}

#[tokio::test]
async fn one_end_ends_the_other_and_another_exchange_lets_them_come_again() {
    let mut bench = Bench::new(None);
    let mut a = bench.connect(A, End::A).await;
    let mut b = bench.connect(B, End::B).await;
    b.write_all(b"x").await.unwrap();
    hears(&mut a, b"x").await;
    // Gone without a farewell.
    #[expect(deprecated, reason = "on loopback nobody waits for what lingers")]
    b.set_linger(Some(Duration::ZERO)).unwrap();
    drop(b);
    is_ended(&mut a).await;
    is_ended(&mut bench.connect(A, End::A).await).await;
    bench.agree(false);
    let (mut a, mut b) = (bench.connect(A, End::A).await, bench.connect(B, End::B).await);
    a.write_all(b"again").await.unwrap();
    hears(&mut b, b"again").await;
    bench.close().await;
    is_ended(&mut a).await;
    is_ended(&mut b).await;
}

#[tokio::test]
async fn one_that_says_nothing_and_goes_leaves_its_place() {
    let bench = Bench::new(None);
    drop(bench.connect(A, End::A).await);
    let mut b = bench.connect(B, End::B).await;
    b.write_all(b"x").await.unwrap();
    // The first is gone when it was noticed to be.
    let mut a = within(async {
        loop {
            let mut a = bench.connect(A, End::A).await;
            let mut room = [0];
            if matches!(a.read(&mut room).await, Ok(1)) {
                return a;
            }
        }
    })
    .await;
    a.write_all(b"y").await.unwrap();
    hears(&mut b, b"y").await;
    bench.close().await;
}

#[tokio::test]
async fn whoever_connects_before_his_answer_has_come_is_kept_for_it() {
    let mut bench = Bench::new(Some(End::B));
    // Nobody knows yet where the answerer is.
    bench.splice.legs[1].sources = Sources::default();
    bench.tell();
    let mut stranger = bench.connect(STRANGER, End::B).await;
    let mut b = bench.connect(B, End::B).await;
    b.write_all(b"early").await.unwrap();
    let mut a = bench.connect(A, End::A).await;
    bench.splice.legs[1] = leg(bench.at[1], Part::Listen, B);
    bench.agree(true);
    hears(&mut a, b"early").await;
    is_ended(&mut stranger).await;
    // A new connection is asked for, and made, before the old one ends.
    bench.splice.asked = Some(End::B);
    bench.tell();
    let mut next = bench.connect(B, End::B).await;
    next.write_all(b"next").await.unwrap();
    a.write_all(b"still").await.unwrap();
    hears(&mut b, b"still").await;
    bench.agree(true);
    is_ended(&mut a).await;
    is_ended(&mut b).await;
    let mut a = bench.connect(A, End::A).await;
    hears(&mut a, b"next").await;
    // One that is asked for and refused leaves what there is.
    bench.splice.asked = Some(End::B);
    bench.tell();
    let mut vain = bench.connect(B, End::B).await;
    bench.splice.asked = None;
    bench.tell();
    is_ended(&mut vain).await;
    next.write_all(b"on").await.unwrap();
    hears(&mut a, b"on").await;
    let [_, b] = bench.close().await;
    assert_eq!((b.refused, b.busy), (1, 1));
}

#[tokio::test]
async fn nobody_keeps_more_than_a_few_waiting() {
    let mut bench = Bench::new(Some(End::B));
    bench.splice.legs[1].sources = Sources::default();
    bench.tell();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(bench.connect(STRANGER, End::B).await);
    }
    for stranger in &mut strangers[..16] {
        is_ended(stranger).await;
    }
    let [_, b] = bench.close().await;
    assert_eq!((b.refused, b.accepted), (16, 0));
}

#[tokio::test]
async fn on_hold_nobody_connects_and_nobody_is_ended() {
    let mut bench = Bench::new(None);
    let mut a = bench.connect(A, End::A).await;
    let mut b = bench.connect(B, End::B).await;
    a.write_all(b"x").await.unwrap();
    hears(&mut b, b"x").await;
    bench.splice.legs.iter_mut().for_each(|leg| leg.part = Part::Rest);
    bench.agree(false);
    a.write_all(b"held").await.unwrap();
    hears(&mut b, b"held").await;
    // The port is closed as soon as the order has come.
    within(async {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(ip(A), 0)).unwrap();
            match socket.connect(bench.at[0]).await {
                Ok(_busy) => {}
                Err(error) => break assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            }
        }
    })
    .await;
    b.write_all(b"y").await.unwrap();
    hears(&mut a, b"y").await;
    bench.close().await;
}

#[tokio::test]
async fn we_connect_where_we_are_to_and_once_in_a_turn() {
    let mut bench = Bench::new(None);
    let peer = TcpListener::bind("127.0.0.11:0").await.unwrap();
    bench.splice.legs[0].part = Part::Dial(peer.local_addr().unwrap());
    bench.agree(true);
    let (mut a, from) = within(peer.accept()).await.unwrap();
    assert_eq!(from.ip(), bench.at[0].ip(), "from the address of the leg");
    let mut b = bench.connect(B, End::B).await;
    a.write_all(b"x").await.unwrap();
    hears(&mut b, b"x").await;
    drop(a);
    is_ended(&mut b).await;
    // Nobody is there next time.
    drop(peer);
    bench.agree(true);
    let told = within(async {
        loop {
            match bench.reports.recv().await {
                Some(Report::Fact { fact: Fact::Spliced { legs, .. }, .. }) if legs[0].1.failed > 0 => {
                    return legs[0].1;
                }
                other => assert!(other.is_some()),
            }
        }
    });
    assert_eq!(told.await.failed, 1);
    bench.close().await;
}

#[tokio::test]
async fn legs_of_a_spiral_are_tied_inside() {
    let mut bench = Bench::new(None);
    let other = StreamId { slot: 4, ..STREAM };
    let far = free();
    let legs = [leg(free(), Part::Face(STREAM, End::B), STRANGER), leg(far, Part::Listen, B)];
    let splice = Some(Box::new(Splice { legs, round: 1, turn: 1, asked: None }));
    bench.splices.handle(&Command::Splice { stream: other, splice });
    let (a, b) = (bench.connect(A, End::A).await, connect(B, far).await);
    exchange(a, b, 300_000).await;
    // And when one of them is over, so is the other.
    bench.agree(true);
    let legs = [leg(free(), Part::Face(STREAM, End::B), STRANGER), leg(far, Part::Listen, B)];
    let splice = Some(Box::new(Splice { legs, round: 2, turn: 2, asked: None }));
    bench.splices.handle(&Command::Splice { stream: other, splice });
    let (mut a, mut b) = (bench.connect(A, End::A).await, connect(B, far).await);
    a.write_all(b"x").await.unwrap();
    hears(&mut b, b"x").await;
    bench.splices.handle(&Command::Close { stream: STREAM, told: [true; 2] });
    is_ended(&mut b).await;
    is_ended(&mut a).await;
}

#[tokio::test]
async fn a_port_that_is_held_elsewhere_is_asked_for_again() {
    let held = sockopt::listen_tcp("127.0.0.1:0".parse().unwrap(), crate::dscp::Dscp::EF).unwrap();
    let mut bench = Bench::new(None);
    bench.at[0] = held.local_addr().unwrap();
    bench.splice.legs[0].at = bench.at[0];
    bench.splices.handle(&Command::Splice { stream: STREAM, splice: None });
    bench.tell();
    let told = within(bench.reports.recv()).await;
    let Some(Report::Fact { fact: Fact::Spliced { legs, .. }, .. }) = told else { panic!("{told:?}") };
    assert!(legs[0].1.unbound >= 1);
    drop(held);
    let (a, b) = (bench.connect(A, End::A).await, bench.connect(B, End::B).await);
    exchange(a, b, 1000).await;
    bench.close().await;
}

#[tokio::test]
async fn there_are_no_more_of_them_than_descriptors() {
    let mut bench = Bench::new(None);
    for slot in 10..14 {
        let splice = Some(Box::new(bench.splice.clone()));
        bench.splices.handle(&Command::Splice { stream: StreamId { slot, ..STREAM }, splice });
    }
    assert_eq!(bench.splices.len(), 4);
    let told = within(bench.reports.recv()).await;
    let Some(Report::Fact { fact: Fact::Spliced { stream, legs }, .. }) = told else { panic!("{told:?}") };
    assert_eq!((stream.slot, legs[1].1.unbound), (13, 1));
}
