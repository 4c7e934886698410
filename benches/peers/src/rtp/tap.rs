//! Sends and receives whole frames at one interface, below UDP: one socket speaks for thousands of phones.
#![expect(unsafe_code, reason = "libc's packet sockets, sendmmsg and recvmmsg")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::frame::{Frame, LENGTH};
use crate::clock;
use crate::phones::{received_at, set};

/// Frames of one system call.
pub(super) const BATCH: usize = 64;
const BUFFER: libc::c_int = 64 << 20;
const IGNORE_OUTGOING: libc::c_int = 23;

/// One interface to send at, one to receive at; they may be the same.
pub(super) struct Tap {
    out: OwnedFd,
    into: OwnedFd,
    buffers: Box<[[u8; 2048]; BATCH]>,
}

impl Tap {
    pub(super) fn open(out: &str, into: &str) -> io::Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).expect("a protocol");
        let tap = Self { out: packet(out, 0)?, into: packet(into, all)?, buffers: Box::new([[0; 2048]; BATCH]) };
        set(&tap.into, libc::SO_RCVBUFFORCE, BUFFER)?;
        set(&tap.into, libc::SO_TIMESTAMPNS, 1)?;
        let one: libc::c_int = 1;
        // SAFETY: the value is an int and its size is told.
        let done = unsafe {
            libc::setsockopt(
                tap.into.as_raw_fd(),
                libc::SOL_PACKET,
                IGNORE_OUTGOING,
                (&raw const one).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(tap) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends the frames of some legs, in order.
    pub(super) fn send(&self, frames: &[Frame]) -> io::Result<()> {
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|at| {
            let bytes = frames.get(at).map_or(std::ptr::null(), |frame| frame.bytes.as_ptr());
            libc::iovec { iov_base: bytes.cast_mut().cast(), iov_len: LENGTH }
        });
        // SAFETY: an all-zero mmsghdr is a valid one.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (header, part) in headers.iter_mut().zip(&mut parts) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < frames.len() {
            let left = libc::c_uint::try_from(frames.len() - sent).expect("at most BATCH");
            // SAFETY: the first `frames.len()` headers point to frames that live across the call.
            let more = unsafe { libc::sendmmsg(self.out.as_raw_fd(), headers[sent..].as_mut_ptr(), left, 0) };
            match usize::try_from(more) {
                Ok(more) => sent += more,
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }

    /// Hands over all frames that wait, with the kernel's receive stamps.
    pub(super) fn receive(&mut self, mut take: impl FnMut(&[u8], u64)) {
        loop {
            let mut control = [[0_u64; 8]; BATCH];
            // SAFETY: all-zero headers and vectors are valid ones.
            let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
            for (at, header) in headers.iter_mut().enumerate() {
                parts[at] = libc::iovec { iov_base: self.buffers[at].as_mut_ptr().cast(), iov_len: 2048 };
                header.msg_hdr.msg_iov = &raw mut parts[at];
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control[at].as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = size_of_val(&control[at]) as _;
            }
            // SAFETY: all headers point to buffers that live across the call, with their true sizes.
            let count = unsafe {
                libc::recvmmsg(
                    self.into.as_raw_fd(),
                    headers.as_mut_ptr(),
                    BATCH as libc::c_uint,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let count = usize::try_from(count).unwrap_or(0);
            for (header, buffer) in headers[..count].iter().zip(self.buffers.iter()) {
                let length = usize::try_from(header.msg_len).unwrap_or(0).min(buffer.len());
                take(&buffer[..length], received_at(&header.msg_hdr).unwrap_or_else(clock::now));
            }
            if count < BATCH {
                return;
            }
        }
    }
}

/// A packet socket at an interface; protocol 0 receives nothing.
fn packet(interface: &str, protocol: u16) -> io::Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: `name` ends with a zero; the descriptor is owned at once, and the address is complete.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if index == 0 || socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).expect("a family");
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = libc::c_int::try_from(index).expect("an interface");
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        match libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
