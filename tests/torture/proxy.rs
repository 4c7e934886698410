//! The same messages in front of the whole signalling core, as standalone: what
//! it says to each, beside what `wire` alone says of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media::PortRange;
use nat::{Advertise, Side};
use proxy::config::{DigestAlgorithm, Listener, Media, MediaKeepAlive, Role};
use proxy::{Config, Input, Observed, Output, Proxy};
use wire::sip::{Framing, Index, Limits};
use wire::{Flow, ListenerId, Transport};

use crate::announce;
use crate::table::{Case, Layer, RFC4475, RFC5118};

fn standalone() -> Config {
    let listener = Listener {
        side: Side::Inner,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: "192.168.1.2:5060".parse().expect("an address"),
        advertise: Advertise::Listen,
        advertise_port: None,
        phone: None,
        retired: false,
    };
    Config {
        role: Role::Standalone,
        listeners: vec![listener],
        upstreams: vec![],
        networks: vec![],
        phones: vec![],
        users: vec![],
        digest: DigestAlgorithm::PREFERRED.to_vec(),
        media: Media {
            ranges: vec![PortRange { first: 30000, last: 30099 }],
            keepalive: MediaKeepAlive::Stun,
            timeout: Duration::from_secs(60),
            workers: 1,
            reserve: 4,
        },
        names: vec![],
        limits: Limits::default(),
    }
}

/// The statuses that these octets are refused with, sent or not: to one who
/// has proven nothing no answer is longer than what it answers.
fn refusals(bytes: &[u8]) -> Vec<u16> {
    let now = Instant::now();
    let mut proxy = Proxy::new(now, Arc::new(standalone()), [1; 32], [2; 32]);
    let flow = Flow {
        transport: Transport::Udp,
        listener: ListenerId(0),
        connection: 0,
        local: "192.168.1.2:5060".parse().expect("an address"),
        remote: "192.168.1.10:5060".parse().expect("an address"),
    };
    proxy.handle_input(now, Input::Received { flow, bytes });
    let (mut refused, mut sent) = (Vec::new(), Vec::new());
    while let Some(output) = proxy.poll_output() {
        match output {
            Output::Transmit(transmit) => sent.push(status(&transmit.bytes)),
            Output::Observed(Observed::Refused { status, .. }) => refused.push(status.0),
            Output::KeepAlive(_)
            | Output::Doubt { .. }
            | Output::Connect { .. }
            | Output::Close { .. }
            | Output::Proven { .. }
            | Output::Media(_)
            | Output::Ports(_)
            | Output::Resolve(_)
            | Output::Changed(_)
            | Output::Observed(_)
            | Output::Traced(_) => {}
        }
    }
    assert!(refused.is_empty() || sent.is_empty() || refused == sent, "{refused:?} {sent:?}");
    refused
}

fn status(answer: &[u8]) -> u16 {
    let mut index = Index::new();
    index.parse(answer, Framing::Datagram, &Limits::default()).expect("what we send is well formed");
    index.view(answer).status().expect("nothing is bound, so nothing is passed on").0
}

#[test]
fn every_message_gets_the_status_that_the_table_says() {
    let mut refused = 0;
    for Case { name, verdict, layer, bytes, .. } in RFC4475.iter().chain(RFC5118) {
        let said = refusals(bytes);
        match layer {
            Layer::Wire(_, status) | Layer::Proxy(status) => {
                let expected: Vec<u16> = status.iter().copied().collect();
                assert_eq!(said, expected, "{name} ({verdict})");
                refused += 1;
            }
            // A registrar, which standalone is, answers what a proxy would pass on.
            Layer::Passes if *name == "unksm2" => assert_eq!(said, [400], "{name} ({verdict})"),
            Layer::Passes => {
                let fine = said.iter().all(|status| !matches!(status, 400 | 416 | 420 | 482 | 483 | 505));
                assert!(fine, "{name} ({verdict}): {said:?}");
            }
        }
    }
    announce(&format!("RFC 4475 and RFC 5118 in front of the proxy: {refused} refused as the table says"));
}
