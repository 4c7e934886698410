//! Descriptors that run out refuse a pair, whole, and cost nothing else. In a
//! file of its own, for the limit is the process's.
#![expect(unsafe_code, reason = "setrlimit(2) has no safe wrapper in std")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

use std::net::Ipv4Addr;

use media::PortPair;
use media::ports::{Command, Event};
use nat::Discovery;
use net::dscp::{Dscp, Mark};
use net::{Ports, clock};

/// Files that this process may have open from here on.
fn limit(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit to write to, then to read from.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = files;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    assert_eq!(failed, 0);
}

#[tokio::test]
async fn a_pair_without_descriptors_is_refused_until_there_are_some() {
    let now = clock::now();
    let discovery = Discovery::new(nat::discovery::Config::default(), [7; 32]);
    let mut ports = Ports::new(discovery, net::ports::QUIET, Mark::Set(Dscp::EF)).unwrap();
    limit(64);
    let (mut bound, mut refused) = (Vec::new(), Vec::new());
    for rtp in (20_000..20_200).step_by(2) {
        let pair = PortPair { ip: Ipv4Addr::new(127, 0, 0, 9).into(), rtp };
        ports.handle_input(now, Command::Bind { pair, discover: false });
        match ports.poll_output().unwrap() {
            Event::Bound { .. } => bound.push(pair),
            Event::Refused { .. } => refused.push(pair),
            other @ (Event::Mapped { .. } | Event::Unmapped { .. } | Event::Rested { .. }) => panic!("{other:?}"),
        }
    }
    assert!((10..32).contains(&bound.len()) && bound.len() + refused.len() == 100, "{}", bound.len());
    assert_eq!((ports.poll_output(), ports.poll_timeout()), (None, None));

    ports.handle_input(now, Command::Unbind { pair: bound[0] });
    ports.handle_input(now, Command::Bind { pair: refused[0], discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair: refused[0] }));

    assert!(net::raise_nofile().unwrap() > 64);
    ports.handle_input(now, Command::Bind { pair: refused[1], discover: false });
    assert_eq!(ports.poll_output(), Some(Event::Bound { pair: refused[1] }));
}
