//! The bare forwarder: what a relay with a connected socket for each leg costs at the least. It judges nothing.
//!
//! Port `first + 2i` belongs to the caller of session i, the next one to who is called; what comes at one leaves from the
//! other.
#![expect(unsafe_code, reason = "libc's epoll")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;

use crate::options::Options;
use crate::sip::media_at;

const READY: usize = 64;

/// `--address ADDRESS --first PORT --sessions N --callers ADDRESS --called ADDRESS`; until it is killed.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let (address, first): (Ipv4Addr, u16) = (options.must("address")?, options.must("first")?);
    let ends: [Ipv4Addr; 2] = [options.must("callers")?, options.must("called")?];
    let sessions: u16 = options.must("sessions")?;
    // SAFETY: takes a flag.
    let poll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if poll < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut legs = Vec::new();
    for leg in 0..sessions * 2 {
        let socket = UdpSocket::bind(SocketAddrV4::new(address, first + leg))?;
        socket.connect(media_at(ends[usize::from(leg % 2)], usize::from(leg / 2)))?;
        socket.set_nonblocking(true)?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: u64::from(leg) };
        // SAFETY: both descriptors are open and `event` lives across the call.
        if unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) } != 0 {
            return Err(io::Error::last_os_error());
        }
        legs.push(socket);
    }
    let mut ready = [libc::epoll_event { events: 0, u64: 0 }; READY];
    let mut packet = [0; 2048];
    loop {
        // SAFETY: `ready` has room for READY events.
        let count = unsafe { libc::epoll_wait(poll, ready.as_mut_ptr(), READY as libc::c_int, -1) };
        for event in &ready[..usize::try_from(count).unwrap_or(0)] {
            let leg = usize::try_from(event.u64).expect("as it was written");
            if let Ok(length) = legs[leg].recv(&mut packet) {
                // A full queue loses the packet, as it would anywhere.
                let _ = legs[leg ^ 1].send(&packet[..length]);
            }
        }
    }
}
