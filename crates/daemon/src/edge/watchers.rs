//! Who watches, and what each is told. A watcher that reads too slowly loses
//! messages and hears how many; nothing here ever waits.

use std::sync::Arc;
use std::time::Duration;

use proxy::trace::WATCHERS;
use proxy::{Filter, Input, Traced};
use tokio::sync::mpsc::Sender;

/// A watcher that wants to be told.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its name, of its own choice.
    pub(crate) id: u64,
    /// What it watches.
    pub(crate) filter: Filter,
    /// Where it is told. Its capacity is what it may lag behind.
    pub(crate) news: Sender<News>,
}

/// What a watcher is told.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// It watches from now on.
    Watching,
    /// There are enough others.
    Full,
    /// Messages that it did not read in time.
    Lost(u64),
    /// A message, so long after 1970.
    Message(Duration, Arc<Traced>),
}

/// All watchers; a place is the watcher's number for the machine.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    places: [Option<Watcher>; WATCHERS],
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    news: Sender<News>,
    lost: u64,
}

impl Watchers {
    /// Takes one in, if there is room; returns what the machine must hear.
    pub(super) fn add(&mut self, watch: Watch) -> Option<Input<'static>> {
        let Watch { id, filter, news } = watch;
        let Some(place) = self.places.iter().position(Option::is_none) else {
            // One that does not even read this has gone.
            let _ = news.try_send(News::Full);
            return None;
        };
        news.try_send(News::Watching).ok()?;
        self.places[place] = Some(Watcher { id, news, lost: 0 });
        Some(Input::Watch { watcher: u8::try_from(place).ok()?, filter: Some(filter) })
    }

    /// One has gone; returns what the machine must hear.
    pub(super) fn remove(&mut self, id: u64) -> Option<Input<'static>> {
        let place = self.places.iter().position(|place| place.as_ref().is_some_and(|watcher| watcher.id == id))?;
        self.places[place] = None;
        Some(Input::Watch { watcher: u8::try_from(place).ok()?, filter: None })
    }

    /// Tells those whose it is.
    pub(super) fn tell(&mut self, at: Duration, traced: Traced) {
        let whose = traced.watchers;
        let traced = Arc::new(traced);
        for (number, place) in self.places.iter_mut().enumerate() {
            if whose & (1 << number) != 0
                && let Some(watcher) = place
            {
                watcher.tell(News::Message(at, Arc::clone(&traced)));
            }
        }
    }
}

impl Watcher {
    fn tell(&mut self, news: News) {
        // What was lost is said first, where it is missing.
        if self.lost > 0 && self.news.capacity() >= 2 && self.news.try_send(News::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        if self.lost > 0 || self.news.try_send(news).is_err() {
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proxy::trace::{Direction, Start};
    use tokio::sync::mpsc::{Receiver, channel};
    use wire::{Flow, ListenerId, Transport};

    use super::*;

    fn watch(id: u64, room: usize) -> (Watch, Receiver<News>) {
        let (news, heard) = channel(room);
        (Watch { id, filter: Filter::new("alice").unwrap(), news }, heard)
    }

    fn message(number: u32, watchers: u8) -> Traced {
        let here = SocketAddr::from(([127, 0, 0, 1], 5060));
        Traced {
            watchers,
            direction: Direction::Sent,
            flow: Flow { transport: Transport::Udp, listener: ListenerId(0), connection: 0, local: here, remote: here },
            side: nat::Side::Inner,
            near: true,
            call_id: b"a".to_vec(),
            start: Start::Request(proxy::MethodLabel::Invite, b"INVITE".to_vec()),
            cseq: Some(number),
            repeated: false,
            forwarded: false,
            bytes: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn heard(receiver: &mut Receiver<News>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|news| match news {
                News::Watching => "watching".to_owned(),
                News::Full => "full".to_owned(),
                News::Lost(lost) => format!("lost {lost}"),
                News::Message(_, traced) => traced.cseq.unwrap().to_string(),
            })
            .collect()
    }

    #[test]
    fn a_slow_reader_loses_messages_and_hears_how_many() {
        let mut watchers = Watchers::default();
        let ((slow, mut at_slow), (quick, mut at_quick)) = (watch(1, 3), watch(2, 16));
        assert!(watchers.add(slow).is_some() && watchers.add(quick).is_some());
        for number in 1..=5 {
            watchers.tell(Duration::ZERO, message(number, 0b11));
        }
        assert_eq!(heard(&mut at_slow), ["watching", "1", "2"]);
        watchers.tell(Duration::ZERO, message(6, 0b11));
        watchers.tell(Duration::ZERO, message(7, 0b10));
        assert_eq!(heard(&mut at_slow), ["lost 3", "6"]);
        assert_eq!(heard(&mut at_quick), ["watching", "1", "2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn there_is_room_for_some_and_again_when_one_has_gone() {
        let mut watchers = Watchers::default();
        let mut all = Vec::new();
        for id in 0..WATCHERS as u64 {
            let (watch, heard) = watch(id, 2);
            assert!(watchers.add(watch).is_some());
            all.push(heard);
        }
        let (more, mut at_more) = watch(99, 2);
        assert!(watchers.add(more).is_none());
        assert_eq!(heard(&mut at_more), ["full"]);
        assert!(matches!(watchers.remove(3), Some(Input::Watch { watcher: 3, filter: None })));
        assert!(watchers.remove(3).is_none());
        let (more, _at_more) = watch(99, 2);
        assert!(matches!(watchers.add(more), Some(Input::Watch { watcher: 3, filter: Some(_) })));
    }
}
