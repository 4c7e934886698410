//! Gathering: whether a worker pauses before it waits, so that packets come
//! together and one waking up serves several.
//!
//! A pause costs a timer, and a timer one microsecond or forty, as machine and
//! hypervisor are. So it is tried: of three windows of packets the middle one
//! is moved the other way, and the processor time of the thread says which is
//! cheaper. Where load changed meanwhile nothing is concluded.
//!
//! Must not sleep, and must not see a packet.

use std::time::Duration;

/// Packets of a window.
const WINDOW: usize = 4096;

/// Windows between two trials.
const REST: u32 = 64;

/// A pause delays packets, so it must save a tenth of their cost to begin with, and a twentieth to stay.
const BEGIN: f64 = 0.9;
const STAY: f64 = 0.95;

/// Two windows whose costs are further apart than this say that something else has changed.
const ALIKE: f64 = 1.2;

/// Whether it pays, as far as is known.
#[derive(Debug)]
pub(super) struct Gathering {
    pays: bool,
    window: Window,
    packets: usize,
    /// Processor time when the window began.
    began: Option<Duration>,
}

/// What the packets that come now are moved for. Costs are nanoseconds per packet.
#[derive(Debug, Clone, Copy)]
enum Window {
    Rest { left: u32 },
    Before,
    Trial { before: f64 },
    After { before: f64, trial: f64 },
}

impl Gathering {
    /// Not until it has shown that it pays.
    pub(super) fn new() -> Self {
        Self { pays: false, window: Window::Before, packets: 0, began: None }
    }

    /// Pauses are wanted now, where packets come thick.
    pub(super) fn is_on(&self) -> bool {
        self.pays ^ matches!(self.window, Window::Trial { .. })
    }

    /// So many packets were moved; `spent` tells the processor time of this thread so far.
    pub(super) fn moved(&mut self, packets: usize, spent: impl FnOnce() -> Duration) {
        self.packets += packets;
        if self.packets >= WINDOW {
            let now = spent();
            if let Some(began) = self.began.replace(now) {
                let cost = now.saturating_sub(began).as_nanos() as f64 / self.packets as f64;
                self.window = self.after(cost);
            }
            self.packets = 0;
        }
    }

    /// The window that follows one which cost that much.
    fn after(&mut self, cost: f64) -> Window {
        match self.window {
            Window::Rest { left: 0 } => Window::Before,
            Window::Rest { left } => Window::Rest { left: left - 1 },
            Window::Before => Window::Trial { before: cost },
            Window::Trial { before } => Window::After { before, trial: cost },
            Window::After { before, trial } => {
                let around = (before + cost) / 2.0;
                if before.max(cost) <= before.min(cost) * ALIKE {
                    self.pays = if self.pays { around < trial * STAY } else { trial < around * BEGIN };
                }
                Window::Rest { left: REST }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves packets at such costs (without and with pauses) until after the next trial.
    fn run(gathering: &mut Gathering, spent: &mut Duration, cost: impl Fn(usize, bool) -> u64) {
        for at in 0..(REST as usize + 5) * WINDOW {
            *spent += Duration::from_nanos(cost(at, gathering.is_on()));
            gathering.moved(1, || *spent);
        }
    }

    fn either(without: u64, with: u64) -> impl Fn(usize, bool) -> u64 {
        move |_, on| if on { with } else { without }
    }

    #[test]
    fn pauses_stay_where_they_pay_and_end_where_they_do_not() {
        let (mut gathering, mut spent) = (Gathering::new(), Duration::ZERO);
        assert!(!gathering.is_on());
        for (without, with, pays) in [
            (10_000, 9_500, false),
            (10_000, 8_000, true),
            (10_000, 9_300, true),
            (10_000, 9_700, false),
            (10_000, 12_000, false),
            (16_000, 12_000, true),
            (8_000, 12_000, false),
        ] {
            run(&mut gathering, &mut spent, either(without, with));
            assert_eq!(gathering.pays, pays, "{without} and {with}");
        }
    }

    #[test]
    fn one_window_in_many_is_a_trial() {
        let (mut gathering, mut spent) = (Gathering::new(), Duration::ZERO);
        let tried = std::cell::Cell::new(0);
        for _ in 0..10 {
            run(&mut gathering, &mut spent, |_, on| {
                tried.set(tried.get() + usize::from(on));
                10_000
            });
        }
        assert!((8..=12).contains(&(tried.get() / WINDOW)), "{} windows", tried.get() / WINDOW);
    }

    #[test]
    fn nothing_is_concluded_while_load_changes() {
        let (mut gathering, mut spent) = (Gathering::new(), Duration::ZERO);
        // Ever more packets a second, each of them cheaper: the trial is, too, and not by its own merit.
        run(&mut gathering, &mut spent, |at, _| 40_000 * WINDOW as u64 / (WINDOW + at) as u64);
        assert!(!gathering.pays);
    }
}
