//! bpf(2) and mmap(2) on maps, and bind(2) of netlink sockets. Decides nothing.
#![expect(unsafe_code, reason = "bpf, mmap, and bind with a netlink address, have no safe wrapper")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::rule::{Key, Rule};

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const LOOKUP_AND_DELETE: libc::c_int = 21;

/// `union bpf_attr` of the commands on map elements.
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn element<K, V>(command: libc::c_int, map: BorrowedFd<'_>, key: &K, value: *mut V) -> io::Result<()> {
    let attributes = Element {
        map: map.as_raw_fd().cast_unsigned(),
        unused: 0,
        key: (&raw const *key) as u64,
        value: value as u64,
        flags: 0,
    };
    // SAFETY: the map has keys of K and values of V, by its declaration; both outlive the call.
    let failed = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of::<Element>()) } < 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The map of rules.
#[derive(Debug)]
pub(super) struct Rules(pub(super) OwnedFd);

impl Rules {
    fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    /// Puts a rule in the place of any that is there. Fails when the map is full.
    pub(super) fn put(&self, key: &Key, rule: &Rule) -> io::Result<()> {
        let mut rule = *rule;
        element(UPDATE, self.fd(), key, &raw mut rule)
    }

    /// The rule as it stands.
    pub(super) fn look(&self, key: &Key) -> Option<Rule> {
        let mut rule = Rule::default();
        element(LOOKUP, self.fd(), key, &raw mut rule).ok().map(|()| rule)
    }

    /// The same, and takes it out.
    pub(super) fn take(&self, key: &Key) -> Option<Rule> {
        let mut rule = Rule::default();
        element(LOOKUP_AND_DELETE, self.fd(), key, &raw mut rule).ok().map(|()| rule)
    }
}

/// The map of one number.
#[derive(Debug)]
pub(super) struct Number(pub(super) OwnedFd);

impl Number {
    /// Sets it.
    pub(super) fn set(&self, number: u32) -> io::Result<()> {
        let mut number = number;
        element(UPDATE, std::os::fd::AsFd::as_fd(&self.0), &0_u32, &raw mut number)
    }
}

/// The map of orders, as memory that we share with the kernel's program.
#[derive(Debug)]
pub(super) struct Orders {
    first: NonNull<AtomicU64>,
    streams: usize,
}

// SAFETY: the memory is valid until this is dropped, and touched by atomic operations alone.
unsafe impl Send for Orders {}
// SAFETY: as above.
unsafe impl Sync for Orders {}

impl Orders {
    /// `map` is an array of so many numbers, each for one stream.
    pub(super) fn new(map: BorrowedFd<'_>, streams: u32) -> io::Result<Self> {
        let streams = streams as usize;
        let (access, length) = (libc::PROT_READ | libc::PROT_WRITE, streams * size_of::<AtomicU64>());
        // SAFETY: a new mapping, anywhere, of a descriptor that is open.
        let first = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(first.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { first, streams })
    }

    /// One more order for this stream, if there is such a one: rules that do not know of it are void from here on.
    pub(super) fn give(&self, stream: u32) {
        if (stream as usize) < self.streams {
            // SAFETY: within the mapping, which is aligned to a page and starts as zeroes.
            unsafe { self.first.add(stream as usize).as_ref() }.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        // SAFETY: as it was mapped, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.first.as_ptr().cast(), self.streams * size_of::<AtomicU64>()) };
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
