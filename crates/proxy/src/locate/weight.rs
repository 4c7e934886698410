//! The order of SRV records (RFC 2782): by priority, and by chance within one,
//! the greater weight the more often first. The chance comes from a seed, so
//! that the same seed gives the same order (RFC 3263 §4.3 wants that of
//! messages without a transaction).

use super::question::Srv;

/// Numbers drawn from a seed (SplitMix64): spread, not secret.
#[derive(Debug)]
pub(super) struct Draw(pub(super) u64);

impl Draw {
    /// A number up to and including `most`.
    fn up_to(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let high = (mixed ^ (mixed >> 31)) >> 32;
        ((high * (u64::from(most) + 1)) >> 32) as u32
    }
}

/// Records in the order in which they are tried.
pub(super) fn order(records: &[Srv], draw: &mut Draw) -> Vec<Srv> {
    let mut rest = records.to_vec();
    // Those of weight 0 stand first, so that they have a small chance beside others.
    rest.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut ordered = Vec::with_capacity(rest.len());
    while let Some(priority) = rest.first().map(|srv| srv.priority) {
        let group = rest.iter().take_while(|srv| srv.priority == priority);
        let sum = group.fold(0u32, |sum, srv| sum.saturating_add(srv.weight.into()));
        let drawn = draw.up_to(sum);
        let mut running = 0u32;
        let chosen = rest.iter().position(|srv| {
            running = running.saturating_add(srv.weight.into());
            running >= drawn
        });
        ordered.push(rest.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5060, target: target.into() }
    }

    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut draw = Draw(1_234_567);
        let drawn: Vec<u32> = (0..5).map(|_| draw.up_to(u32::MAX)).collect();
        assert_eq!(drawn, [1_503_580_183, 745_795_716, 2_285_812_965, 1_069_479_744, 3_820_500_071]);
        let mut draw = Draw(1_234_567);
        assert_eq!((0..5).map(|_| draw.up_to(1)).collect::<Vec<_>>(), [0, 0, 1, 0, 1]);
        assert_eq!(draw.up_to(0), 0);
    }

    #[test]
    fn priority_goes_before_weight() {
        let records = [srv(20, 65_535, "c"), srv(10, 0, "a"), srv(10, 1, "b")];
        for seed in 0..200 {
            let ordered = order(&records, &mut Draw(seed));
            assert_eq!(ordered.len(), 3);
            assert_eq!(ordered[2].target, "c");
        }
    }

    #[test]
    fn first_places_follow_the_weights() {
        let records = [srv(1, 10, "small"), srv(1, 30, "middle"), srv(1, 60, "great")];
        let mut first = [0u32; 3];
        for seed in 0..10_000 {
            let ordered = order(&records, &mut Draw(seed));
            let place = records.iter().position(|srv| srv.target == ordered[0].target).expect("one of them");
            first[place] += 1;
        }
        for (count, share) in first.into_iter().zip([1_000u32, 3_000, 6_000]) {
            assert!(count.abs_diff(share) < 250, "{first:?}");
        }
    }

    #[test]
    fn weight_0_comes_first_seldom_but_not_never() {
        let records = [srv(1, 0, "zero"), srv(1, 99, "rest")];
        let zero = (0..10_000).filter(|seed| order(&records, &mut Draw(*seed))[0].target == "zero").count();
        assert!((20..=300).contains(&zero), "{zero}");
    }

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let records: Vec<Srv> = (0..8).map(|n| srv(1, 5, &n.to_string())).collect();
        assert_eq!(order(&records, &mut Draw(7)), order(&records, &mut Draw(7)));
        assert!((0..50).any(|seed| order(&records, &mut Draw(seed)) != order(&records, &mut Draw(7))));
    }
}
