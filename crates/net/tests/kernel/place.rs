//! Three network namespaces in a row: phone, ourselves, server.
#![expect(unsafe_code, reason = "setns has no safe wrapper in std")]

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Gone when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Ours toward phone and server.
    pub(crate) ours: [IpAddr; 2],
    theirs: [IpAddr; 2],
}

impl Place {
    pub(crate) const PHONE: usize = 0;
    pub(crate) const US: usize = 1;
    pub(crate) const SERVER: usize = 2;

    pub(crate) fn v4() -> Option<Self> {
        Self::new(["10.71.1.2", "10.71.1.1", "10.71.2.1", "10.71.2.2"], "24")
    }

    pub(crate) fn v6() -> Option<Self> {
        Self::new(["fd71:1::2", "fd71:1::1", "fd71:2::1", "fd71:2::2"], "64")
    }

    /// `None`, and why, where namespaces or bpf cannot be had.
    fn new(addresses: [&str; 4], bits: &str) -> Option<Self> {
        let [phone, ours, also_ours, server] = addresses.map(|ip| ip.parse().unwrap());
        let place = Self { ours: [ours, also_ours], theirs: [phone, server] };
        let made = (0..3).all(|at| ip(&["netns", "add", &place.name(at)]));
        if !made {
            assert!(std::env::var_os("CI").is_none(), "network namespaces cannot be made");
            println!("SKIPPED: network namespaces cannot be made");
            return None;
        }
        for (end, link) in [(Self::PHONE, "sl-phone"), (Self::SERVER, "sl-server")] {
            let (near, far) = (place.name(Self::US), place.name(end));
            must(&["link", "add", link, "netns", &near, "type", "veth", "peer", "name", "sl-end", "netns", &far]);
            let ours = addresses[1 + end / 2];
            let theirs = addresses[end / 2 * 3];
            for (namespace, device, address) in [(&near, link, ours), (&far, "sl-end", theirs)] {
                let address = format!("{address}/{bits}");
                let mut add = vec!["-n", namespace, "addr", "add", &address, "dev", device];
                if bits == "64" {
                    add.push("nodad");
                }
                must(&add);
                must(&["-n", namespace, "link", "set", device, "up"]);
                must(&["-n", namespace, "link", "set", "lo", "up"]);
            }
            must(&["-n", &far, "route", "add", "default", "via", ours]);
        }
        Some(place)
    }

    pub(crate) fn name(&self, at: usize) -> String {
        format!("sl-kernel-{}-{at}", std::process::id())
    }

    /// Does something in one of the namespaces, on a thread that is there.
    pub(crate) fn within<T: Send + 'static>(&self, at: usize, does: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name(at))).unwrap();
        let thread = std::thread::spawn(move || {
            // SAFETY: the descriptor is open and no pointer is involved.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            does()
        });
        thread.join().unwrap()
    }

    /// A socket of phone or server.
    pub(crate) fn socket(&self, at: usize) -> UdpSocket {
        self.bound(at, self.theirs[at / 2])
    }

    /// A socket of a phone or server that shares our machine.
    pub(crate) fn own(&self, end: usize) -> UdpSocket {
        self.bound(Self::US, self.ours[end])
    }

    fn bound(&self, at: usize, ip: IpAddr) -> UdpSocket {
        let socket = self.within(at, move || {
            let address = SocketAddr::new(ip, 0);
            let class = net::sockopt::Class::Media(net::dscp::Mark::Set(net::dscp::Dscp::EF));
            net::sockopt::bind_udp(address, class).unwrap()
        });
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    pub(crate) fn ends(&self) -> (UdpSocket, UdpSocket) {
        (self.socket(Self::PHONE), self.socket(Self::SERVER))
    }

    /// Makes hundreds of links in the middle, and removes them at once, as often as asked.
    pub(crate) fn links(&self) -> impl Fn() + Send + 'static {
        let name = self.name(Self::US);
        let link = |n| format!("link add sl-a{n} group 71 type veth peer name sl-b{n} group 71\n");
        let all: String = (0..400).map(link).collect();
        move || {
            let mut made = Command::new("ip").args(["-n", &name, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            made.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
            assert!(made.wait().unwrap().success());
            must(&["-n", &name, "link", "del", "group", "71"]);
        }
    }

    /// ip(8) in the middle.
    pub(crate) fn us(&self, arguments: &[&str]) {
        let name = self.name(Self::US);
        must(&[&["-n", &name], arguments].concat());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for at in 0..3 {
            ip(&["netns", "del", &self.name(at)]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn must(arguments: &[&str]) {
    assert!(ip(arguments), "ip {}", arguments.join(" "));
}
