//! Batches of datagrams: recvmmsg(2), sendmmsg(2), and recvfrom(2) where one is expected.
//!
//! Payloads are received into one preallocated block, each right behind the
//! last one, so that a batch of small ones stays in the nearest cache, and sent
//! from where they lie; no call allocates. Headers are built on the stack for
//! each call, so no pointer outlives it. Must not judge a packet.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg have no safe wrapper, and that of recvfrom hides what was cut")]

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

/// Each datagram begins a cache line.
const LINE: usize = 64;

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
    /// How much of the block is in use: never more than a room per datagram.
    filled: usize,
    /// Most datagrams, and how many have come: not fewer than there are in
    /// `metas`, for one without a readable source is left out.
    places: usize,
    taken: usize,
    metas: Vec<Meta>,
}

#[derive(Debug, Clone, Copy)]
struct Meta {
    from: SocketAddr,
    to: Option<IpAddr>,
    mark: Dscp,
    start: u32,
    len: u32,
    truncated: bool,
}

/// A system call that counts, made again for as long as signals end it.
#[inline]
fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl Batch {
    /// Room for `capacity` datagrams of `room` octets each, rounded up to whole
    /// cache lines. Pages are touched only as far as datagrams fill them.
    pub(crate) fn new(capacity: usize, room: usize) -> Self {
        let room = room.next_multiple_of(LINE);
        Self {
            block: vec![0; capacity * room].into_boxed_slice(),
            room,
            filled: 0,
            places: capacity,
            taken: 0,
            metas: Vec::with_capacity(capacity),
        }
    }

    /// Forgets all datagrams.
    pub(crate) fn clear(&mut self) {
        self.metas.clear();
        self.filled = 0;
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
        let start = meta.start as usize;
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
        let first = self.filled;
        let mut names = [const { MaybeUninit::<Name>::uninit() }; CALL];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; CALL];
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; CALL];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; CALL];
        let free = &mut self.block[first..first + count * self.room];
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
        // SAFETY: the first `count` headers are initialised and point to names, controls
        // and pieces of the block that live until the end of this function.
        let got = uninterrupted(|| unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            ) as isize
        })?;
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
                start: (first + at * self.room) as u32,
                len: header.msg_len.min(self.room as u32),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        // SAFETY: the header of the last datagram is initialised.
        let last = got.checked_sub(1).map(|at| (at, unsafe { headers[at].assume_init_ref() }.msg_len as usize));
        if let Some((at, len)) = last {
            self.filled += at * self.room + len.min(self.room).next_multiple_of(LINE);
        }
        Ok(got)
    }

    /// Appends one datagram, without its mark and our address: cheaper than
    /// [`receive`](Self::receive) where seldom more than one waits. Returns and
    /// fails as that does.
    pub(crate) fn receive_one(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        if self.free() == 0 {
            return Ok(0);
        }
        let free = &mut self.block[self.filled..self.filled + self.room];
        let mut name = Name::empty();
        let mut name_len = size_of::<Name>() as libc::socklen_t;
        // SAFETY: room, name and length of the name live until the call returns.
        let len = uninterrupted(|| unsafe {
            libc::recvfrom(
                fd.as_raw_fd(),
                free.as_mut_ptr().cast(),
                free.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                (&raw mut name).cast(),
                &raw mut name_len,
            )
        })?;
        let (start, kept) = (self.filled as u32, len.min(self.room));
        self.taken += 1;
        if let Some(from) = name.decode(name_len) {
            let (to, mark, truncated) = (None, Dscp::DEFAULT, len > self.room);
            self.metas.push(Meta { from, to, mark, start, len: kept as u32, truncated });
            self.filled += kept.next_multiple_of(LINE);
        }
        Ok(1)
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
    // SAFETY: the first `count` headers are initialised and point to names, controls and
    // payloads that live until the end of this function.
    uninterrupted(|| unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        ) as isize
    })
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
        let payload: [u8; 80] = std::array::from_fn(|at| at as u8);
        // From 62 to 66 octets around the room of 64, in turn; in places that were last used for other lengths.
        let len = |at: usize| [64, 3, 65, 0, 66, 62, 64, 65][at % 8];
        let datagrams = (0..40).map(|at| Outgoing { to: address, source: None, bytes: &payload[..len(at)] });
        assert_eq!(send(from.as_fd(), datagrams.clone()).unwrap(), CALL);
        assert_eq!(send(from.as_fd(), datagrams.skip(CALL)).unwrap(), 8);
        assert_eq!(send(from.as_fd(), std::iter::empty()).unwrap(), 0);

        let mut batch = Batch::new(36, 64);
        for _ in 0..4 {
            assert_eq!(batch.receive_one(to.as_fd()).unwrap(), 1);
        }
        assert_eq!(batch.receive(to.as_fd(), 8).unwrap(), 8);
        assert_eq!(batch.receive(to.as_fd(), 1000).unwrap(), 24);
        assert_eq!((batch.len(), batch.free()), (36, 0));
        assert_eq!(batch.receive(to.as_fd(), 1).unwrap(), 0);
        assert_eq!(batch.receive_one(to.as_fd()).unwrap(), 0);
        for at in 0..36 {
            let packet = batch.packet(at).unwrap();
            assert_eq!((packet.from, packet.to), (from.local_addr().unwrap(), None));
            assert_eq!(packet.bytes, &payload[..len(at).min(64)]);
            assert_eq!(packet.truncated, len(at) > 64);
        }
        assert!(batch.packet(36).is_none());
        batch.clear();
        assert_eq!(batch.receive(to.as_fd(), CALL).unwrap(), 4);
        assert_eq!(batch.receive(to.as_fd(), CALL).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.len(), 4);
    }
}
