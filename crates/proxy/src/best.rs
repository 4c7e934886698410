//! The best of several failures: RFC 3261 §16.7(6), and the challenges that it
//! takes along from the others (§16.7(7)).

use wire::sip::{self, Message, Name, Status};
use wire::{Edit, Rule};

use crate::transaction::Context;

/// The branch whose response goes back; `None` when that is none of theirs,
/// because silence is worth more than what they say: 408 to an INVITE, and to
/// anything else no answer at all (RFC 4320 §4.2).
///
/// Any 6xx comes first, then the lowest class, within it what helps the caller
/// most. A 503 would make our peer avoid us, so it is the last of all; whether
/// it goes back as one is decided in [`upstream`](crate::upstream).
pub(crate) fn of(context: &Context) -> Option<usize> {
    let rank = |status: Status| match (status.class(), status.0) {
        (6, _) => (0, 0),
        (class, 401 | 407 | 415 | 420 | 484) => (class, 0),
        (5, 503) => (5, 2),
        (class, _) => (class, 1),
    };
    let branches = context.branches.iter().enumerate();
    let ranked = branches.filter_map(|(i, b)| b.result.map(|s| (rank(s), b.response.is_none(), i)));
    ranked.min().filter(|(_, silent, _)| !silent).map(|(.., i)| i)
}

/// §16.7(7): the challenges of all branches go back together.
pub(crate) fn gather_challenges(message: Message<'_>, other: Message<'_>, edit: &mut Edit) {
    for field in other.fields() {
        if matches!(field.name, Name::WwwAuthenticate | Name::ProxyAuthenticate) {
            sip::edit::append(message, edit, Rule::Challenge, field.name, &[other.slice(field.value)]);
        }
    }
}

#[cfg(test)]
mod tests;
