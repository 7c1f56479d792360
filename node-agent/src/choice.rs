//! Which of several nodes is asked: one that passes its checks and then a near one before others, and of two of these that are drawn at random the one of which
//! less is asked. That keeps the load even without anybody knowing all of it (Mitzenmacher, "The power of two choices in
//! randomized load balancing", 2001).

/// One that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate<T> {
    /// Who it is.
    pub(crate) who: T,
    /// Whether it is asked only where all others fail as well.
    pub(crate) is_failing: bool,
    /// Whether it is asked before those that are not.
    pub(crate) is_near: bool,
    /// How much it is asked now, as far as this node knows.
    pub(crate) asking: usize,
}

/// The one to ask; none of none.
pub(crate) fn choose<T>(candidates: impl Iterator<Item = Candidate<T>>) -> Option<T> {
    choose_by(candidates, || getrandom::u64().unwrap_or_default())
}

fn choose_by<T>(candidates: impl Iterator<Item = Candidate<T>>, draw: impl FnOnce() -> u64) -> Option<T> {
    let mut all: Vec<Candidate<T>> = candidates.collect();
    if all.iter().any(|candidate| !candidate.is_failing) {
        all.retain(|candidate| !candidate.is_failing);
    }
    if all.iter().any(|candidate| candidate.is_near) {
        all.retain(|candidate| candidate.is_near);
    }
    if all.len() < 2 {
        return all.pop().map(|only| only.who);
    }
    let drawn = draw();
    let (high, low) = (drawn >> 32, drawn & u64::from(u32::MAX));
    let one = all.swap_remove(below(high, all.len()));
    let other = all.swap_remove(below(low, all.len()));
    Some(if other.asking < one.asking { other.who } else { one.who })
}

/// A place below `count`, by 32 random bits.
fn below(bits: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).min(1 << 32);
    usize::try_from((bits * count) >> 32).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::collection;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn load_stays_even_where_one_is_slow() {
        // Each step one request begins; the third node ends one in ten steps, the others as many as they have.
        let mut asking = [0_usize; 3];
        let mut given = [0_usize; 3];
        for step in 0..3_000_u64 {
            let candidates =
                (0..3).map(|who| Candidate { who, is_failing: false, is_near: false, asking: asking[who] });
            // A fixed sequence that is spread over all values (Knuth's multiplicative hash).
            let chosen = choose_by(candidates, || step.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap();
            asking[chosen] += 1;
            given[chosen] += 1;
            (asking[0], asking[1]) = (0, 0);
            if step % 10 == 0 {
                asking[2] = asking[2].saturating_sub(1);
            }
        }
        assert!(asking[2] < 5, "{asking:?}");
        assert!(given[2] < 400, "{given:?}");
        assert!(given[0].abs_diff(given[1]) < 450, "{given:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn one_that_passes_goes_first_then_a_near_one_and_never_the_one_that_is_asked_most(
            all in collection::vec((any::<bool>(), any::<bool>(), 0..50_usize), 0..6),
            drawn in any::<u64>(),
        ) {
            let candidate = |(who, &(is_failing, is_near, asking)): (usize, &(bool, bool, usize))| {
                Candidate { who, is_failing, is_near, asking }
            };
            let chosen = choose_by(all.iter().enumerate().map(candidate), || drawn);
            prop_assert_eq!(chosen.is_none(), all.is_empty());
            let Some(chosen) = chosen else { return Ok(()) };
            let do_all_fail = all.iter().all(|(is_failing, ..)| *is_failing);
            prop_assert_eq!(all[chosen].0, do_all_fail);
            let well = || all.iter().filter(|(is_failing, ..)| *is_failing == do_all_fail);
            let is_any_near = well().any(|(_, is_near, _)| *is_near);
            let asked: Vec<usize> =
                well().filter(|(_, is_near, _)| *is_near == is_any_near).map(|(.., asking)| *asking).collect();
            prop_assert_eq!(all[chosen].1, is_any_near);
            let most = asked.iter().max().copied().unwrap_or_default();
            let is_the_most = all[chosen].2 == most && asked.iter().filter(|asking| **asking == most).count() == 1;
            prop_assert!(asked.len() < 2 || !is_the_most);
        }
    }
}
