//! Many UDP sockets, each a phone's own address and port, read by one thread.
#![expect(unsafe_code, reason = "libc's epoll and recvmsg, for kernel receive stamps")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::clock;

/// Largest datagram that is read.
const MOST: usize = 4096;
/// Ready sockets that are looked at before other work is done.
const READY: usize = 64;
/// Octets that may wait in each socket, so that a slow moment of ours is no loss of the contender's.
const BUFFER: libc::c_int = 4 << 20;
const RECEIVED_AT: libc::c_int = libc::SO_TIMESTAMPNS;

/// The phones, by number.
pub(crate) struct Phones {
    sockets: Vec<(UdpSocket, SocketAddrV4)>,
    poll: OwnedFd,
    buffer: Vec<u8>,
}

/// One datagram that came.
pub(crate) struct Came<'a> {
    /// At which phone.
    pub(crate) phone: usize,
    /// When the kernel had it.
    pub(crate) at: u64,
    /// What it says.
    pub(crate) bytes: &'a [u8],
}

/// The addresses of `count` phones: `first`, its next seven neighbours, then the first again with the next port.
pub(crate) fn addresses(first: Ipv4Addr, port: u16, step: u16, count: usize) -> impl Iterator<Item = SocketAddrV4> {
    (0..count).map(move |number| {
        let ip = Ipv4Addr::from_bits(first.to_bits() + u32::try_from(number % 8).unwrap_or(0));
        SocketAddrV4::new(ip, port + step * u16::try_from(number / 8).expect("ports are counted in u16"))
    })
}

impl Phones {
    /// Opens a socket for each address.
    pub(crate) fn open(addresses: impl Iterator<Item = SocketAddrV4>) -> io::Result<Self> {
        // SAFETY: takes a flag; the descriptor is ours when it is none of the errors.
        let poll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if poll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let poll = unsafe { OwnedFd::from_raw_fd(poll) };
        let mut phones = Self { sockets: Vec::new(), poll, buffer: vec![0; MOST] };
        for address in addresses {
            phones.add(address)?;
        }
        Ok(phones)
    }

    fn add(&mut self, address: SocketAddrV4) -> io::Result<()> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        set(&socket, libc::SO_RCVBUFFORCE, BUFFER)?;
        set(&socket, RECEIVED_AT, 1)?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: self.sockets.len() as u64 };
        // SAFETY: both descriptors are open and `event` lives across the call.
        let done =
            unsafe { libc::epoll_ctl(self.poll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        self.sockets.push((socket, address));
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// The address of a phone.
    pub(crate) fn address(&self, phone: usize) -> SocketAddrV4 {
        self.sockets[phone].1
    }

    /// Sends from a phone. A full socket is ours, not the contender's, and fails.
    pub(crate) fn send(&self, phone: usize, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        match self.sockets[phone].0.send_to(bytes, to) {
            // What a closed port answered earlier is told at the next call.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Hands over what has come, waiting at most `patience_ms` for the first; true if anything has.
    pub(crate) fn receive(
        &mut self,
        patience_ms: i32,
        mut take: impl FnMut(&Phones, Came<'_>) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; READY];
        // SAFETY: `ready` has room for READY events.
        let count =
            unsafe { libc::epoll_wait(self.poll.as_raw_fd(), ready.as_mut_ptr(), READY as libc::c_int, patience_ms) };
        let count = usize::try_from(count).unwrap_or(0);
        let mut buffer = std::mem::take(&mut self.buffer);
        for event in &ready[..count] {
            let phone = usize::try_from(event.u64).expect("as it was written");
            while let Some((length, at)) = read(&self.sockets[phone].0, &mut buffer) {
                take(self, Came { phone, at, bytes: &buffer[..length] })?;
            }
        }
        self.buffer = buffer;
        Ok(count > 0)
    }
}

/// Raises the limit of open descriptors to what the system allows.
pub(crate) fn many_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives across both calls. Where it fails, opening too many sockets fails later and says so.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Sets an integer option of the socket level.
pub(crate) fn set(socket: &impl std::os::fd::AsRawFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is an int and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One datagram and when the kernel had it; `None` when there is none.
fn read(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, u64)> {
    let mut control = [0_u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` points to buffers that live across the call, with their true sizes.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).ok()?;
    Some((length, received_at(&header).unwrap_or_else(clock::now)))
}

/// The kernel's receive stamp of a message.
pub(crate) fn received_at(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel filled the control buffer of `header`, which is still there.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (!first.is_null() && (*first).cmsg_type == RECEIVED_AT)
            .then(|| clock::stamp(std::ptr::read_unaligned(libc::CMSG_DATA(first).cast())))
    }
}
