//! Ports that nobody has yet.

use media::PortRange;

use crate::config::Settings;

/// Signalling ports are so far apart, for people who read them aloud.
const APART: u16 = 10;
/// A range begins at a multiple of the first of these that it fits in.
const ROUND: [u32; 9] = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// What a phone needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Calls at a time.
    pub(super) calls: u16,
    /// Streams of a call: 1 for sound, 2 with video.
    pub(super) streams: u16,
}

impl Need {
    /// Two ports for each stream, RTP and RTCP; and as many again, because the
    /// ports of a call rest for half a minute after it.
    pub(super) fn ports(self) -> u32 {
        u32::from(self.calls) * u32::from(self.streams) * 2 * 2
    }
}

/// What is taken, and where to look.
#[derive(Debug)]
pub(super) struct Slots {
    listeners: Vec<u16>,
    ranges: Vec<PortRange>,
    within: PortRange,
    from: u16,
}

impl Slots {
    pub(super) fn new(settings: &Settings, within: PortRange, from: u16) -> Self {
        let listeners = settings.proxy.listeners.iter().map(|listener| listener.bind.port()).collect();
        Self { listeners, ranges: settings.proxy.media.ranges.clone(), within, from }
    }

    /// The next signalling port.
    pub(super) fn signalling(&mut self) -> Result<u16, String> {
        let free = |port: &u16| {
            !self.listeners.contains(port) && !self.ranges.iter().any(|range| (range.first..=range.last).contains(port))
        };
        let found = (self.from..=u16::MAX).step_by(usize::from(APART)).find(free);
        let Some(port) = found else {
            let from = self.from;
            return Err(format!(
                "no signalling port is free from {from} on\n  write a smaller --signalling-from, 5060 for example\n"
            ));
        };
        self.listeners.push(port);
        Ok(port)
    }

    /// The next range of media ports.
    pub(super) fn media(&mut self, need: Need) -> Result<PortRange, String> {
        let (ports, within) = (need.ports(), self.within);
        let step = ROUND.into_iter().find(|step| *step >= ports).unwrap_or(u32::from(u16::MAX));
        let begin = u32::from(within.first).next_multiple_of(step);
        let candidates = (begin..=u32::from(within.last)).step_by(step as usize);
        let found = candidates.map(|first| (first, first + ports - 1)).find(|(first, last)| {
            let mut taken = self.ranges.iter().map(|range| (u32::from(range.first), u32::from(range.last)));
            let mut listeners = self.listeners.iter().map(|port| u32::from(*port));
            *last <= u32::from(within.last)
                && !taken.any(|(other, end)| *first <= end && other <= *last)
                && !listeners.any(|port| (*first..=*last).contains(&port))
        });
        let range = found.and_then(|(first, last)| {
            Some(PortRange { first: u16::try_from(first).ok()?, last: u16::try_from(last).ok()? })
        });
        let Some(range) = range else {
            return Err(format!(
                "the ports {}-{} have no room for another phone: {} calls with {} stream{} need {ports} ports each\n  \
                 write a wider --media FIRST-LAST, or fewer --calls\n",
                within.first,
                within.last,
                need.calls,
                need.streams,
                if need.streams == 1 { "" } else { "s" }
            ));
        };
        self.ranges.push(range);
        Ok(range)
    }
}
