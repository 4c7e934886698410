//! bpf(2) and mmap(2) on maps, and bind(2) of netlink sockets. Decides nothing.
#![expect(unsafe_code, reason = "bpf, mmap, and bind with a netlink address, have no safe wrapper")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

const UPDATE: libc::c_int = 2;

/// `union bpf_attr` of the commands on map elements.
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map of one element of so many octets.
#[derive(Debug)]
pub(super) struct Single<const OCTETS: usize>(pub(super) OwnedFd);

impl<const OCTETS: usize> Single<OCTETS> {
    /// Sets it.
    pub(super) fn set(&self, value: [u8; OCTETS]) -> io::Result<()> {
        let (key, value) = (0_u32, value);
        let attributes = Element {
            map: self.0.as_fd().as_raw_fd().cast_unsigned(),
            unused: 0,
            key: (&raw const key) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        // SAFETY: the map has keys of u32 and values of so many octets, by its declaration; both outlive the call.
        let failed = unsafe { libc::syscall(libc::SYS_bpf, UPDATE, &raw const attributes, size_of::<Element>()) } < 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// An array map, as memory that we share with the kernel's program: words of 64 bits, zeroes at first.
#[derive(Debug)]
pub(super) struct Shared {
    first: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the memory is valid until this is dropped, and touched by atomic operations alone.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// `map` is an array of so many words in all.
    pub(super) fn new(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let (access, length) = (libc::PROT_READ | libc::PROT_WRITE, words * size_of::<AtomicU64>());
        // SAFETY: a new mapping, anywhere, of a descriptor that is open.
        let first = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(first.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { first, words })
    }

    /// These words, if they are all there.
    pub(super) fn words(&self, first: usize, count: usize) -> Option<&[AtomicU64]> {
        if first.checked_add(count)? > self.words {
            return None;
        }
        // SAFETY: within the mapping, which is aligned to a page.
        Some(unsafe { std::slice::from_raw_parts(self.first.add(first).as_ptr(), count) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: as it was mapped, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}

/// Has a netlink socket hear of groups, by their numbers below 32.
pub(super) fn listen(socket: BorrowedFd<'_>, groups: &[u32]) -> io::Result<()> {
    // SAFETY: all zeroes are a valid address: the kernel chooses the port.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`.
    let failed = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
