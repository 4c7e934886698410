//! Max-Breadth (RFC 5393 §5.3.3, RFC 7332 §6): how many branches a request may
//! have at a time, on its whole way. Added where it is missing, limited, and
//! split over the branches of a fork; it never counts hops.

use wire::sip::{Message, Name, edit};
use wire::{Edit, Rule, Text};

use super::Reject;

/// The most that is taken from anybody, and what a request without it gets.
const MOST: u32 = 60;

/// 440 when a request may not have so many branches.
pub(crate) fn check(message: Message<'_>, branches: usize) -> Result<(), Reject> {
    match message.number(Name::MaxBreadth) {
        Some(Err(_)) => Err(Reject::new(400, "Bad Max-Breadth")),
        Some(Ok(breadth)) if (breadth as usize) < branches => Err(Reject::new(440, "Max-Breadth Exceeded")),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The share of one of so many branches.
pub(crate) fn write(message: Message<'_>, edit: &mut Edit, index: usize, branches: usize) {
    let came = message.number(Name::MaxBreadth).and_then(Result::ok);
    let share = share(came.unwrap_or(MOST).min(MOST), index, branches);
    if came != Some(share) {
        edit::set(message, edit, Rule::MaxBreadth, Name::MaxBreadth, &[Text::number(share.into()).get()]);
    }
}

/// Even shares; what is left over goes to the first branches.
fn share(breadth: u32, index: usize, branches: usize) -> u32 {
    let branches = branches.max(1) as u32;
    breadth / branches + u32::from((index as u32) < breadth % branches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_fork_add_up_to_what_came() {
        for breadth in 0..=MOST {
            for branches in 1..=16 {
                let shares: Vec<u32> = (0..branches).map(|index| share(breadth, index, branches)).collect();
                assert_eq!(shares.iter().sum::<u32>(), breadth, "{breadth} over {branches}");
                assert!(breadth < branches as u32 || !shares.contains(&0), "{breadth} over {branches}");
            }
        }
    }
}
