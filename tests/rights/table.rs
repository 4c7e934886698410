//! Who may do what: the table of ARCHITECTURE.md as data.
//!
//! To grant a right, change this file and ARCHITECTURE.md together and say why in the commit.

/// Rights of one room.
pub(crate) struct Room {
    /// Folder under `crates/`, and the word that `use` lines say.
    pub(crate) name: &'static str,
    /// Rooms that it may depend on.
    pub(crate) rooms: &'static [&'static str],
    /// Outside crates that it may depend on, besides [`EVERYWHERE`].
    pub(crate) outside: &'static [&'static str],
    /// What its sources may not say, outside test code.
    pub(crate) forbidden: &'static [&'static Ban],
    /// Whether it forbids `unsafe`, or may allow it with a reason.
    pub(crate) unsafe_code: UnsafeCode,
}

/// How a room speaks about `unsafe`.
#[derive(PartialEq, Eq)]
pub(crate) enum UnsafeCode {
    /// `#![forbid(unsafe_code)]` at its root.
    Forbidden,
    /// The workspace denies it; each file that needs it says `allow` or `expect` with a reason.
    AllowedWithReason,
}

/// Names that a room has no right to.
pub(crate) struct Ban {
    /// What it protects, as the column of the table says.
    pub(crate) right: &'static str,
    /// Token sequences: `"Instant::now"` matches however it is spaced, never inside a longer word.
    pub(crate) tokens: &'static [&'static str],
    /// Files (relative to the room's `src`) where they may stand all the same.
    pub(crate) except: &'static [&'static str],
}

/// Outside crates that every room may use.
pub(crate) const EVERYWHERE: &[&str] = &["tracing", "serde"];

/// Packages of the workspace that are no rooms: they may use whatever they need.
pub(crate) const EXEMPT: &[&str] = &["siplatch-tests", "siplatch-peer", "siplatch-benches", "siplatch-bench-peers"];

#[rustfmt::skip]
pub(crate) const ROOMS: &[Room] = &[
    Room {
        name: "wire",
        rooms: &[],
        outside: &["memchr", "wide", "stun-types", "rtp-types", "rtcp-types", "rsip", "sdp-rs"],
        forbidden: MACHINE,
        unsafe_code: UnsafeCode::Forbidden,
    },
    Room {
        name: "nat",
        rooms: &["wire"],
        outside: &["stun-types", "stun-proto", "rand_chacha", "rand_core"],
        forbidden: MACHINE,
        unsafe_code: UnsafeCode::Forbidden,
    },
    Room {
        name: "media",
        rooms: &["wire", "nat"],
        outside: &["rand_chacha", "rand_core", "aes", "aes-gcm", "ctr", "hmac", "sha1", "zeroize"],
        forbidden: MACHINE,
        unsafe_code: UnsafeCode::Forbidden,
    },
    Room {
        name: "registry",
        rooms: &["wire", "nat", "media"],
        outside: &[],
        forbidden: REGISTRY,
        unsafe_code: UnsafeCode::Forbidden,
    },
    Room {
        name: "proxy",
        rooms: &["wire", "nat", "media", "registry"],
        outside: &["hmac", "sha2", "siphasher", "md-5", "rand_chacha", "rand_core"],
        forbidden: MACHINE,
        unsafe_code: UnsafeCode::Forbidden,
    },
    Room {
        name: "net",
        rooms: &["wire", "nat", "media"],
        outside: &[
            "tokio", "socket2", "libc", "rustls", "tokio-rustls", "rustls-webpki", "tokio-tungstenite", "futures-util",
            "hickory-resolver", "aya",
        ],
        forbidden: NET,
        unsafe_code: UnsafeCode::AllowedWithReason,
    },
    Room {
        name: "daemon",
        rooms: &["wire", "nat", "media", "registry", "proxy", "net"],
        outside: &[
            "tokio", "axum", "prometheus", "config", "toml", "clap", "dashmap", "redis", "serde_json",
            "tracing-subscriber",
        ],
        forbidden: DAEMON,
        unsafe_code: UnsafeCode::Forbidden,
    },
];

/// The five sans-IO rooms.
const MACHINE: &[&Ban] = &[&SOCKETS, &CLOCK, &RANDOMNESS, &ASYNC, &THREADS, &LOCKS, &CHANNELS, &SURROUNDINGS];

/// A machine that knows the media room by its types only.
const REGISTRY: &[&Ban] =
    &[&SOCKETS, &CLOCK, &RANDOMNESS, &ASYNC, &THREADS, &LOCKS, &CHANNELS, &SURROUNDINGS, &MEDIA_MACHINES];

/// The room that touches the machine, each thing in its own file.
const NET: &[&Ban] = &[&CLOCK_IN_ONE_FILE, &ENTROPY_IN_ONE_FILE];

/// The room that assembles.
const DAEMON: &[&Ban] = &[&DAEMON_SOCKETS, &MONOTONIC_CLOCK, &RANDOMNESS, &SHARED_MAP];

const SOCKETS: Ban = Ban {
    right: "sockets",
    tokens: &["UdpSocket", "TcpStream", "TcpListener", "UnixStream", "UnixListener", "UnixDatagram", "ToSocketAddrs"],
    except: &[],
};
const CLOCK: Ban = Ban { right: "clock", tokens: &["Instant::now", "SystemTime", ".elapsed("], except: &[] };
const RANDOMNESS: Ban = Ban {
    right: "randomness",
    tokens: &["getrandom", "thread_rng", "rand::rng", "OsRng", "SysRng", "from_os_rng", "RandomState"],
    except: &[],
};
const ASYNC: Ban = Ban { right: "async", tokens: &["async", ".await"], except: &[] };
const THREADS: Ban = Ban { right: "threads", tokens: &["std::thread", "thread::spawn", "thread_local"], except: &[] };
const LOCKS: Ban = Ban {
    right: "locks",
    tokens: &["Mutex", "RwLock", "Condvar", "Barrier", "OnceLock", "LazyLock", "OnceCell", "atomic", "static mut"],
    except: &[],
};
const CHANNELS: Ban = Ban { right: "channels", tokens: &["mpsc", "oneshot"], except: &[] };
const SURROUNDINGS: Ban = Ban {
    right: "files, environment and processes",
    tokens: &["std::fs", "std::env", "std::process", "io::Error", "stdin", "stdout", "stderr"],
    except: &[],
};
const MEDIA_MACHINES: Ban = Ban {
    right: "media, types only",
    tokens: &["media::Relay", "media::relay", "media::Offers", "media::offer", "media::Ports", "media::latch"],
    except: &[],
};
const CLOCK_IN_ONE_FILE: Ban =
    Ban { right: "the only read of the clock", tokens: &["Instant::now", "SystemTime"], except: &["clock.rs"] };
const ENTROPY_IN_ONE_FILE: Ban =
    Ban { right: "the only source of randomness", tokens: &["getrandom", "OsRng", "SysRng"], except: &["entropy.rs"] };
const DAEMON_SOCKETS: Ban = Ban {
    right: "sockets through net",
    tokens: &["UdpSocket", "std::net::TcpListener", "std::net::TcpStream"],
    except: &[],
};
const MONOTONIC_CLOCK: Ban = Ban { right: "the clock through net", tokens: &["Instant::now"], except: &[] };
const SHARED_MAP: Ban = Ban {
    right: "the shared map in view.rs",
    tokens: &["DashMap", "dashmap", "Mutex", "RwLock"],
    except: &["view.rs"],
};
