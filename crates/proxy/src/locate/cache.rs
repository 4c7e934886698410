//! What is known of names: answers for as long as they may be believed, the
//! last good ones for as long as nobody answers, and questions under way. The
//! table and the number of questions have limits, because next hops inside a
//! dialog are named by peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::question::{Answer, Kind, Question, Records};

/// An answer is believed so long at least, whatever its TTL.
const SHORTEST: Duration = Duration::from_secs(5);
/// And so long at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// That there is nothing is believed so long at most.
const LONGEST_NOTHING: Duration = Duration::from_secs(300);
/// A question that nobody answered is asked again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Names kept at most.
const MOST: usize = 1024;
/// Questions under way at most.
const MOST_ASKED: usize = 128;

/// Names and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: BTreeMap<Question, Entry>,
    asked: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` until the first answer.
    records: Option<Records>,
    asked: bool,
    /// Looked at since the last answer, so worth asking again.
    used: bool,
    refresh: Instant,
}

/// What asking came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Put this question.
    Now,
    /// It is under way already.
    Before,
    /// There are too many.
    Refused,
}

impl Cache {
    /// What is known; `None` if nothing is.
    pub(super) fn known(&self, question: &Question) -> Option<&Records> {
        self.entries.get(question)?.records.as_ref()
    }

    /// Notes that an answer served.
    pub(super) fn touch(&mut self, question: &Question) {
        if let Some(entry) = self.entries.get_mut(question) {
            entry.used = true;
        }
    }

    /// A question is about to be put.
    pub(super) fn ask(&mut self, now: Instant, question: &Question) -> Asked {
        if self.entries.get(question).is_some_and(|entry| entry.asked) {
            return Asked::Before;
        }
        if self.asked >= MOST_ASKED {
            return Asked::Refused;
        }
        if !self.entries.contains_key(question) && self.entries.len() >= MOST {
            let idle = self.entries.iter().filter(|(_, entry)| !entry.asked);
            let oldest =
                idle.min_by_key(|(_, entry)| (entry.used, entry.refresh)).map(|(question, _)| question.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        let entry = self.entries.entry(question.clone()).or_insert(Entry {
            records: None,
            asked: false,
            used: true,
            refresh: now,
        });
        entry.asked = true;
        self.asked += 1;
        Asked::Now
    }

    /// An answer came; when it is to be asked for again.
    pub(super) fn answered(&mut self, now: Instant, question: &Question, answer: Answer) -> Option<Instant> {
        let entry = self.entries.get_mut(question).filter(|entry| entry.asked)?;
        self.asked = self.asked.saturating_sub(1);
        entry.asked = false;
        entry.used = false;
        entry.refresh = now
            + match &answer {
                Answer::Found { ttl, .. } => (*ttl).clamp(SHORTEST, LONGEST),
                Answer::Nothing { ttl } => (*ttl).clamp(SHORTEST, LONGEST_NOTHING),
                Answer::Failed => RETRY,
            };
        match answer {
            Answer::Found { records, .. } => entry.records = Some(records),
            Answer::Nothing { .. } => entry.records = Some(nothing(question.kind)),
            // The last good answer stays; without one the search goes on as if there were nothing.
            Answer::Failed => {
                entry.records.get_or_insert_with(|| nothing(question.kind));
            }
        }
        Some(entry.refresh)
    }

    /// Questions whose answers are too old and were of use; the others are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Question> {
        self.entries.retain(|_, entry| entry.asked || entry.used || entry.refresh > now);
        let due = self.entries.iter().filter(|(_, entry)| !entry.asked && entry.refresh <= now);
        due.map(|(question, _)| question.clone()).collect()
    }
}

fn nothing(kind: Kind) -> Records {
    match kind {
        Kind::Naptr => Records::Naptr(Vec::new()),
        Kind::Srv => Records::Srv(Vec::new()),
        Kind::Addresses => Records::Addresses(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::Address;
    use super::*;

    fn question(name: &str) -> Question {
        Question { name: name.into(), kind: Kind::Addresses }
    }

    fn found(last: u8, ttl: u64) -> Answer {
        let address = Address { remote: [192, 0, 2, last].into(), local: [192, 0, 2, 254].into() };
        Answer::Found { records: Records::Addresses(vec![address]), ttl: Duration::from_secs(ttl) }
    }

    #[test]
    fn ttls_are_respected_between_5_s_and_1_h() {
        let now = Instant::now();
        for (answer, seconds) in [
            (found(1, 0), 5),
            (found(1, 60), 60),
            (found(1, 100_000), 3600),
            (Answer::Nothing { ttl: Duration::from_secs(100_000) }, 300),
            (Answer::Nothing { ttl: Duration::ZERO }, 5),
            (Answer::Failed, 5),
        ] {
            let mut cache = Cache::default();
            assert_eq!(cache.ask(now, &question("a")), Asked::Now);
            let refresh = cache.answered(now, &question("a"), answer.clone());
            assert_eq!(refresh, Some(now + Duration::from_secs(seconds)), "{answer:?}");
        }
    }

    #[test]
    fn the_last_good_answer_stays_while_nobody_answers() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.ask(now, &question("a"));
        cache.answered(now, &question("a"), found(1, 10));
        let good = cache.known(&question("a")).cloned();
        cache.touch(&question("a"));
        let later = now + Duration::from_secs(10);
        assert_eq!(cache.due(later), [question("a")]);
        assert_eq!(cache.ask(later, &question("a")), Asked::Now);
        assert_eq!(cache.known(&question("a")).cloned(), good);
        cache.answered(later, &question("a"), Answer::Failed);
        assert_eq!(cache.known(&question("a")).cloned(), good);
        cache.ask(later, &question("a"));
        cache.answered(later, &question("a"), Answer::Nothing { ttl: Duration::from_secs(10) });
        assert_eq!(cache.known(&question("a")), Some(&Records::Addresses(Vec::new())));
    }

    #[test]
    fn what_nobody_uses_is_forgotten_and_not_asked_again() {
        let now = Instant::now();
        let mut cache = Cache::default();
        cache.ask(now, &question("a"));
        cache.answered(now, &question("a"), found(1, 10));
        assert_eq!(cache.due(now + Duration::from_secs(10)), []);
        assert_eq!(cache.known(&question("a")), None);
    }

    #[test]
    fn names_and_questions_have_limits() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for n in 0..MOST_ASKED {
            assert_eq!(cache.ask(now, &question(&n.to_string())), Asked::Now);
        }
        assert_eq!(cache.ask(now, &question("0")), Asked::Before);
        assert_eq!(cache.ask(now, &question("more")), Asked::Refused);
        for n in 0..2 * MOST {
            let question = question(&n.to_string());
            cache.ask(now, &question);
            cache.answered(now + Duration::from_millis(n as u64), &question, found(1, 60));
        }
        assert_eq!(cache.entries.len(), MOST);
        assert_eq!(cache.asked, 0);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_not_believed() {
        let mut cache = Cache::default();
        assert_eq!(cache.answered(Instant::now(), &question("a"), found(1, 60)), None);
        assert_eq!(cache.known(&question("a")), None);
    }

    #[test]
    fn of_what_nobody_ever_answered_there_is_nothing_of_its_kind() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for (kind, nothing) in [
            (Kind::Naptr, Records::Naptr(Vec::new())),
            (Kind::Srv, Records::Srv(Vec::new())),
            (Kind::Addresses, Records::Addresses(Vec::new())),
        ] {
            for answer in [Answer::Failed, Answer::Nothing { ttl: RETRY }] {
                let question = Question { name: format!("{answer:?}"), kind };
                cache.ask(now, &question);
                assert_eq!(cache.known(&question), None);
                cache.answered(now, &question, answer);
                assert_eq!(cache.known(&question), Some(&nothing));
            }
        }
    }

    #[test]
    fn only_what_is_old_and_not_under_way_is_due() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for (name, ttl) in [("old", 10), ("again", 10), ("fresh", 60), ("fresh and unused", 60), ("unused", 10)] {
            cache.ask(now, &question(name));
            cache.answered(now, &question(name), found(1, ttl));
        }
        for name in ["old", "fresh", "nobody"] {
            cache.touch(&question(name));
        }
        cache.ask(now, &question("again"));
        cache.ask(now, &question("first"));
        assert_eq!(cache.due(now + Duration::from_secs(9)), []);
        assert_eq!(cache.due(now + Duration::from_secs(10)), [question("old")]);
        let kept: Vec<&str> = cache.entries.keys().map(|question| &question.name[..]).collect();
        assert_eq!(kept, ["again", "first", "fresh", "fresh and unused", "old"]);
    }

    #[test]
    fn a_full_table_gives_up_what_is_of_least_use() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for n in 0..MOST {
            let question = question(&n.to_string());
            cache.ask(now, &question);
            // The older, the higher its number; the first is under way all the time.
            if n > 0 {
                cache.answered(now + Duration::from_secs((MOST - n) as u64), &question, found(1, 60));
            }
        }
        let last = question(&(MOST - 1).to_string());
        let before = question(&(MOST - 2).to_string());
        cache.touch(&last);
        assert_eq!(cache.ask(now, &question("7")), Asked::Now);
        assert_eq!(cache.entries.len(), MOST, "one that is there needs no room");
        cache.ask(now, &question("new"));
        assert_eq!(cache.entries.len(), MOST);
        assert!(!cache.entries.contains_key(&before), "the oldest of those that nobody used");
        assert!(cache.entries.contains_key(&last) && cache.entries.contains_key(&question("0")));
        for n in 1..MOST {
            cache.touch(&question(&n.to_string()));
        }
        cache.ask(now, &question("newer"));
        assert!(!cache.entries.contains_key(&last) && cache.entries.contains_key(&question("1")), "the oldest of all");
    }
}
