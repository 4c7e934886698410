//! What a binding says in words, one text behind the other in one place: apart
//! from each other they would take twice as much, and there are as many as phones.

use std::sync::Arc;

/// The texts of a binding; [`get`](Self::get) gives them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    all: Arc<[u8]>,
    /// Where each but the last ends.
    ends: [u32; 4],
}

/// Each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said<'a> {
    /// Address of record without scheme and parameters: `user@domain`, or `user` in standalone.
    pub aor: &'a [u8],
    /// The phone's own Contact URI, as it wrote it.
    pub contact: &'a [u8],
    /// Call-ID of its REGISTER.
    pub call_id: &'a [u8],
    /// User-Agent, shortened to 64 octets, for the status page.
    pub user_agent: &'a [u8],
    /// Header lines that a repeated 200 carries, each with its CRLF; empty when none may be repeated.
    pub lines: &'a [u8],
}

impl Texts {
    /// They, apart.
    pub fn get(&self) -> Said<'_> {
        let text = |from: usize| {
            let start = from.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
            let end = self.ends.get(from).map_or(self.all.len(), |end| *end as usize);
            self.all.get(start..end).unwrap_or_default()
        };
        Said { aor: text(0), contact: text(1), call_id: text(2), user_agent: text(3), lines: text(4) }
    }
}

impl From<Said<'_>> for Texts {
    /// Of messages, which are shorter than 4 GB.
    fn from(said: Said<'_>) -> Self {
        let Said { aor, contact, call_id, user_agent, lines } = said;
        let mut end = 0;
        let ends = [aor, contact, call_id, user_agent].map(|text| {
            end += text.len() as u32;
            end
        });
        Self { all: [aor, contact, call_id, user_agent, lines].concat().into(), ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_apart() {
        let all = Said { aor: b"a@b", contact: b"sip:a@c", call_id: b"1", user_agent: b"Desk", lines: b"Path: x\r\n" };
        for said in [all, Said { call_id: b"", ..all }, Said { lines: b"", ..all }, Said::default()] {
            assert_eq!(Texts::from(said).get(), said);
        }
        assert_eq!(Texts::from(all), Texts::from(all));
        assert_ne!(Texts::from(all), Texts::from(Said { aor: b"a@", contact: b"bsip:a@c", ..all }));
    }
}
