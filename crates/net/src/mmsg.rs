//! Batches of datagrams: recvmmsg(2), sendmmsg(2).
//!
//! Payloads are received into one preallocated block and sent from where they
//! lie; no call allocates. Headers are built on the stack for each call, so no
//! pointer outlives it. Must not judge a packet.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg have no safe wrapper")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use self::header::{Control, Name, set_source, told};
use crate::dscp::Dscp;

mod header;
pub(crate) mod tunnel;

/// Most datagrams per system call.
pub(crate) const CALL: usize = 32;

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Where it came from.
    pub(crate) from: SocketAddr,
    /// Our address that it was sent to, when the socket tells (wildcard).
    pub(crate) to: Option<IpAddr>,
    /// How it was marked, when the socket tells.
    pub(crate) mark: Dscp,
    /// The payload, or as much of it as had room.
    pub(crate) bytes: &'a [u8],
    /// True when the datagram was longer than the room for it.
    pub(crate) truncated: bool,
}

/// Received datagrams, appended by [`receive`](Self::receive) until cleared.
pub(crate) struct Batch {
    block: Box<[u8]>,
    room: usize,
    /// Places in the block, and how many of them are taken: not fewer than
    /// there are datagrams, for one without a readable source is left out.
    places: usize,
    taken: usize,
    metas: Vec<Meta>,
}

#[derive(Debug, Clone, Copy)]
struct Meta {
    from: SocketAddr,
    to: Option<IpAddr>,
    mark: Dscp,
    place: u32,
    len: u32,
    truncated: bool,
}

impl Batch {
    /// Room for `capacity` datagrams of `room` octets each. Pages are touched
    /// only as far as datagrams fill them.
    pub(crate) fn new(capacity: usize, room: usize) -> Self {
        Self {
            block: vec![0; capacity * room].into_boxed_slice(),
            room,
            places: capacity,
            taken: 0,
            metas: Vec::with_capacity(capacity),
        }
    }

    /// Forgets all datagrams.
    pub(crate) fn clear(&mut self) {
        self.metas.clear();
        self.taken = 0;
    }

    /// How many datagrams there are.
    pub(crate) fn len(&self) -> usize {
        self.metas.len()
    }

    /// How many more fit.
    pub(crate) fn free(&self) -> usize {
        self.places - self.taken
    }

    /// The datagram at `index`.
    pub(crate) fn packet(&self, index: usize) -> Option<Packet<'_>> {
        let meta = self.metas.get(index)?;
        let start = meta.place as usize * self.room;
        let bytes = self.block.get(start..start + meta.len as usize)?;
        Some(Packet { from: meta.from, to: meta.to, mark: meta.mark, bytes, truncated: meta.truncated })
    }

    /// Appends what waits in the socket, at most `limit` datagrams and at most
    /// [`CALL`]; returns how many. Fails with `WouldBlock` when nothing waits,
    /// and with an ICMP error that the kernel had kept for this socket.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let count = limit.min(CALL).min(self.free());
        if count == 0 {
            return Ok(0);
        }
        let first = self.taken;
        let mut names = [const { MaybeUninit::<Name>::uninit() }; CALL];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; CALL];
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; CALL];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; CALL];
        let free = &mut self.block[first * self.room..(first + count) * self.room];
        for (at, room) in free.chunks_exact_mut(self.room).enumerate() {
            names[at].write(Name::empty());
            iovecs[at].write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
            // SAFETY: an all-zero mmsghdr is a valid value (null pointers, zero lengths).
            let header = headers[at].write(unsafe { zeroed() });
            header.msg_hdr.msg_name = names[at].as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_hdr.msg_iov = iovecs[at].as_mut_ptr();
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls[at].as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        let got = loop {
            // SAFETY: the first `count` headers are initialised and point to names, controls
            // and pieces of the block that live until the end of this function.
            let got = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    headers.as_mut_ptr().cast(),
                    count as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(got) {
                Ok(got) => break got,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        self.taken += got;
        for at in 0..got {
            // SAFETY: header and name of each received datagram are initialised (names are written whole at first).
            let (header, name) = unsafe { (headers[at].assume_init_ref(), names[at].assume_init_ref()) };
            let Some(from) = name.decode(header.msg_hdr.msg_namelen) else { continue };
            // SAFETY: the kernel has filled this header and the control buffer that it points to.
            let told = unsafe { told(&header.msg_hdr) };
            self.metas.push(Meta {
                from,
                to: told.destination,
                mark: Dscp::of_octet(told.class),
                place: (first + at) as u32,
                len: header.msg_len.min(self.room as u32),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(got)
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("room", &self.room).field("metas", &self.metas).finish_non_exhaustive()
    }
}

/// One datagram to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Our address to send from, for wildcard sockets; same family as `to`.
    pub(crate) source: Option<IpAddr>,
    /// The payload.
    pub(crate) bytes: &'a [u8],
}

/// Sends the first of `datagrams`, at most [`CALL`], in order; returns how many
/// the kernel took, which may be fewer than were given. An error is that of the
/// first datagram; one further back shows up when it is the first.
pub(crate) fn send<'a>(fd: BorrowedFd<'_>, datagrams: impl Iterator<Item = Outgoing<'a>>) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<Name>::uninit() }; CALL];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; CALL];
    let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; CALL];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; CALL];
    let mut count = 0;
    for (at, datagram) in datagrams.take(CALL).enumerate() {
        let (name, len) = Name::encode(datagram.to);
        names[at].write(name);
        // The kernel only reads through this pointer.
        let base = datagram.bytes.as_ptr().cast_mut().cast();
        iovecs[at].write(libc::iovec { iov_base: base, iov_len: datagram.bytes.len() });
        // SAFETY: an all-zero mmsghdr is a valid value (null pointers, zero lengths).
        let header = headers[at].write(unsafe { zeroed() });
        header.msg_hdr.msg_name = names[at].as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = len;
        header.msg_hdr.msg_iov = iovecs[at].as_mut_ptr();
        header.msg_hdr.msg_iovlen = 1;
        if let Some(source) = datagram.source {
            set_source(&mut header.msg_hdr, controls[at].write(Control::empty()), source);
        }
        count = at + 1;
    }
    if count == 0 {
        return Ok(0);
    }
    loop {
        // SAFETY: the first `count` headers are initialised and point to names, controls and
        // payloads that live until the end of this function.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                count as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::dscp::Mark;
    use crate::sockopt::{Class, bind_udp};

    #[test]
    fn a_batch_fills_up_marks_what_is_cut_and_starts_over() {
        let [to, from] =
            [0, 0].map(|_: u8| bind_udp("127.0.0.1:0".parse().unwrap(), Class::Media(Mark::Set(Dscp::EF))).unwrap());
        let address = to.local_addr().unwrap();
        let payload = [7; 20];
        let datagrams = (0..40).map(|len| Outgoing { to: address, source: None, bytes: &payload[..len / 2] });
        assert_eq!(send(from.as_fd(), datagrams.clone()).unwrap(), CALL);
        assert_eq!(send(from.as_fd(), datagrams.skip(CALL)).unwrap(), 8);
        assert_eq!(send(from.as_fd(), std::iter::empty()).unwrap(), 0);

        let mut batch = Batch::new(36, 16);
        assert_eq!(batch.receive(to.as_fd(), 8).unwrap(), 8);
        assert_eq!(batch.receive(to.as_fd(), 1000).unwrap(), 28);
        assert_eq!((batch.len(), batch.free()), (36, 0));
        assert_eq!(batch.receive(to.as_fd(), 1).unwrap(), 0);
        for at in 0..36 {
            let packet = batch.packet(at).unwrap();
            assert_eq!((packet.from, packet.to), (from.local_addr().unwrap(), None));
            assert_eq!(packet.bytes, &payload[..(at / 2).min(16)]);
            assert_eq!(packet.truncated, at / 2 > 16);
        }
        assert!(batch.packet(36).is_none());
        batch.clear();
        assert_eq!(batch.receive(to.as_fd(), CALL).unwrap(), 4);
        assert_eq!(batch.receive(to.as_fd(), CALL).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.len(), 4);
    }
}
