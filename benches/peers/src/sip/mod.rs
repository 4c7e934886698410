//! SIP load: phones that register, and phones that call them, at a given rate whatever is answered (open loop).
//!
//! Nothing is sent twice: what is lost on the way is a failed call.

mod calls;
mod register;
mod text;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use calls::Calls;
pub(crate) use calls::{Ends, MEDIA, media_at};
pub(crate) use text::{media_of, sdp};

use crate::options::{Options, parsed};
use crate::phones::{Phones, addresses};
use crate::{Told, clock};

/// Where SIP of callers, and of those called, comes from.
const PORTS: [u16; 2] = [6000, 16000];

/// How often calls are made up for, and what lies between.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_secs(1);

/// All phones, and the proxy that they speak to.
pub(crate) struct Load {
    proxy: SocketAddrV4,
    /// Where callers reach the proxy: the same, or its listener for the core.
    inner: SocketAddrV4,
    /// The only caller is a core: it is the registrar, and calls phones by what they registered.
    core: bool,
    /// Contact of each user, as the core was told it.
    contacts: Vec<String>,
    callers: Phones,
    called: Phones,
    /// Names Call-IDs, so that answers to an earlier command are told apart.
    run: u32,
    /// Users `u0` to the last that registered.
    users: usize,
    /// Of the latest registrations, those that were answered by 200.
    answered: usize,
    /// Calls with media that were established by earlier commands and still are.
    held: usize,
    calls: Calls,
}

impl Load {
    /// `--proxy ADDRESS:PORT --callers ADDRESS --called ADDRESS --phones N`: N sockets each side, on eight addresses
    /// each. N and the number of users are multiples of 8, so that a phone signals from the address of its media.
    /// `--core ADDRESS:PORT --inner ADDRESS:PORT`: instead of callers there is a core, which speaks to that listener.
    /// `--shift P`: P ports further up, beside another load.
    pub(crate) fn new(options: &Options) -> io::Result<Self> {
        let phones: usize = options.or("phones", 512)?;
        let shift: u16 = options.or("shift", 0)?;
        let [caller, called]: [Ipv4Addr; 2] = [options.must("callers")?, options.must("called")?];
        if !phones.is_multiple_of(8) {
            return Err(io::Error::other("--phones wants a multiple of 8"));
        }
        clock::exact();
        let proxy = options.must("proxy")?;
        let core = options.or("core", SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        let callers = match core.port() {
            0 => Phones::open(addresses(caller, PORTS[0] + shift, 1, phones))?,
            _ => Phones::open(std::iter::once(core))?,
        };
        Ok(Self {
            proxy,
            inner: options.or("inner", proxy)?,
            core: core.port() != 0,
            contacts: Vec::new(),
            callers,
            called: Phones::open(addresses(called, PORTS[1] + shift, 1, phones))?,
            run: std::process::id() % 10_000 * 100_000,
            users: 0,
            answered: 0,
            held: 0,
            calls: Calls::default(),
        })
    }

    /// Where those who are called speak to the proxy.
    fn to(&self) -> SocketAddr {
        self.proxy.into()
    }

    /// Where callers do.
    fn to_inner(&self) -> SocketAddr {
        self.inner.into()
    }

    /// Registers the first `count` users, again until all have been answered.
    pub(crate) fn enrol(&mut self, rate: u64, count: usize) -> io::Result<()> {
        for _ in 0..TRIES {
            self.register(false, rate, 0, count)?;
            if self.answered == count {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("{} of {count} users registered", self.answered)))
    }

    /// `count` more calls that stay; where each end's media goes. Those that fail are made up for by others.
    pub(crate) fn establish(&mut self, rate: u64, count: usize) -> io::Result<Vec<Ends>> {
        let firsts = [*self.callers.address(0).ip(), *self.called.address(0).ip()];
        let mut up = Vec::new();
        for _ in 0..TRIES {
            let missing = count - up.len();
            if missing == 0 {
                return Ok(up);
            }
            self.call(rate, missing, true, true)?;
            up.append(&mut self.calls.ends(firsts));
            self.held += missing;
            if up.len() < count {
                thread::sleep(PAUSE);
            }
        }
        Err(io::Error::other(format!("{} of {count} calls are up", up.len())))
    }
}

impl Told for Load {
    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["register", rate, from, count] => self.register(false, parsed(rate)?, parsed(from)?, parsed(count)?),
            ["anew", rate, from, count] => self.register(true, parsed(rate)?, parsed(from)?, parsed(count)?),
            ["first-answer"] => self.first_answer(),
            ["calls", rate, count, sdp @ ("sdp" | "bare")] => {
                self.call(parsed(rate)?, parsed(count)?, sdp == "sdp", false)
            }
            ["hold", rate, count] => self.call(parsed(rate)?, parsed(count)?, true, true),
            ["hang-up"] => self.hang_up(),
            _ => Err(io::Error::other(format!("no such command: {words:?}"))),
        }
    }

    fn rest(&mut self) -> io::Result<()> {
        let (to, inner) = (self.to(), self.to_inner());
        self.called.receive(0, |phones, came| calls::courtesy(phones, &came, to))?;
        self.callers.receive(0, |phones, came| calls::courtesy(phones, &came, inner))?;
        Ok(())
    }
}

/// When each of many things at an even rate is due; at rate 0 one is due when those before it are through.
struct Pace {
    began: u64,
    rate: u64,
}

impl Pace {
    fn from_now(rate: u64) -> Self {
        Self { began: clock::now() + 1_000_000, rate }
    }

    /// How many are due by `now`, when `through` are.
    fn due(&self, now: u64, through: usize) -> usize {
        if self.rate == 0 {
            return through + 1;
        }
        let passed = u128::from(now.saturating_sub(self.began));
        usize::try_from(passed * u128::from(self.rate) / 1_000_000_000).unwrap_or(usize::MAX)
    }

    /// Milliseconds until the next one, rounded down: 0 asks not to wait.
    fn patience_ms(&self, now: u64, sent: usize) -> i32 {
        let Some(interval) = 1_000_000_000_u64.checked_div(self.rate) else { return 10 };
        let next = self.began + (sent as u64 + 1) * interval;
        i32::try_from(next.saturating_sub(now) / 1_000_000).unwrap_or(0).min(10)
    }

    /// Nanoseconds after which what is not through is lost. Who works step by step is slow for a reason.
    fn patience(&self) -> u64 {
        if self.rate == 0 { 20_000_000_000 } else { 2_000_000_000 }
    }
}
