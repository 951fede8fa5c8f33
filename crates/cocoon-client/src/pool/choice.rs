//! Which of several proxies a request goes to.
//!
//! Each proxy has a cost for the request: the price of a token at its cheapest worker within the request's cap, by the
//! contract that this client has with it; times 1 and the seconds that heads of answers take there, so that a second of
//! waiting is worth the price once; times 1 and the part of its slots that are taken, so that a full proxy costs twice as
//! much as an idle one; times 1 and ten times the part of requests that fail there, so that one failure in ten is worth the
//! price once. Those within a tenth of the least cost count as equal, and of two of them, drawn at random, the request goes
//! to the one with fewer of our requests in flight: what proxies tell of their load is seconds old, and many clients that
//! all took the least would all take the same one. Before cost comes fitness: a proxy that is paused, silent or said a
//! moment ago that it is busy is taken only if there is no other, and one that is too dear only if there is none but such.
//!
//! Pure: it follows from the candidates and from the random numbers.

use cocoon_units::{Coefficient, NanoPerToken};

use super::quality::Seen;

/// Whether a proxy should be asked at all, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// Nothing speaks against it.
    Fit,
    /// It failed, or was silent, or busy, a moment ago.
    Doubtful,
    /// All its workers are above the request's cap; it may know of a new one.
    TooDear,
}

/// One proxy, as one request sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) fitness: Fitness,
    pub(super) price: NanoPerToken,
    /// Of its cheapest worker.
    pub(super) coefficient: Coefficient,
    pub(super) seen: Seen,
    /// Our requests there.
    pub(super) in_flight: usize,
    /// Everybody's requests there, as it told some time ago.
    pub(super) active: u64,
    /// How many its workers take at once; 0 where it does not tell.
    pub(super) slots: u64,
}

/// Costs that differ by less are equal.
const NEAR: f64 = 1.1;
/// How many requests a proxy that tells no slots is taken to run at once.
const SLOTS_UNTOLD: u64 = 64;

/// The place of the best one.
pub(super) fn choose(candidates: &[Candidate], random: u64) -> Option<usize> {
    let fitness = candidates.iter().map(|candidate| candidate.fitness).min()?;
    let fit = || candidates.iter().enumerate().filter(move |(_, candidate)| candidate.fitness == fitness);
    let least = fit().map(|(_, candidate)| candidate.cost()).fold(f64::INFINITY, f64::min);
    let near: Vec<_> = fit().filter(|(_, candidate)| candidate.cost() <= least * NEAR).collect();
    let (first, second) = two_of(near.len(), random);
    let pair = near.get(first).into_iter().chain(near.get(second));
    pair.min_by_key(|(_, candidate)| candidate.in_flight).map(|(place, _)| *place)
}

/// Two different places out of so many, or the same one twice where there is only one.
fn two_of(count: usize, random: u64) -> (usize, usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    let first = (random >> 32) % count;
    let second = if count > 1 { (first + 1 + (random & 0xffff_ffff) % (count - 1)) % count } else { first };
    // Both are below a length.
    (usize::try_from(first).unwrap_or(0), usize::try_from(second).unwrap_or(0))
}

impl Candidate {
    pub(super) fn is_fit(&self) -> bool {
        self.fitness == Fitness::Fit
    }

    fn cost(&self) -> f64 {
        let slots = if self.slots == 0 { SLOTS_UNTOLD } else { self.slots };
        let taken = self.active.max(u64::try_from(self.in_flight).unwrap_or(u64::MAX));
        // Where a token costs nothing, the rest still tells proxies apart.
        let price = self.price.get().max(1) as f64 * f64::from(self.coefficient.thousandths().max(1));
        let load = taken as f64 / slots as f64;
        price * (1.0 + self.seen.first_byte_s) * (1.0 + load) * (1.0 + 10.0 * self.seen.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        Candidate {
            fitness: Fitness::Fit,
            price: NanoPerToken::new(20),
            coefficient: Coefficient::ONE,
            seen: Seen::default(),
            in_flight: 0,
            active: 0,
            slots: 32,
        }
    }

    /// How often each is chosen, over many numbers.
    fn shares(candidates: &[Candidate]) -> Vec<u32> {
        let mut shares = vec![0; candidates.len()];
        let mut random = 7_u64;
        for _ in 0..1_000 {
            random = super::super::dice::mix(random);
            shares[choose(candidates, random).unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn the_cheapest_is_taken_and_equals_share() {
        let dear = Candidate { coefficient: Coefficient::from_thousandths(1200), ..candidate() };
        assert_eq!(shares(&[dear, candidate(), dear]), [0, 1_000, 0]);
        let contract = Candidate { price: NanoPerToken::new(30), ..candidate() };
        assert_eq!(shares(&[candidate(), contract]), [1_000, 0], "an old contract keeps its price");
        let shares = shares(&[candidate(); 4]);
        assert!(shares.iter().all(|share| *share > 200), "{shares:?}");
    }

    #[test]
    fn of_equals_the_one_with_fewer_of_ours_is_taken() {
        let busy = Candidate { in_flight: 1, ..candidate() };
        assert_eq!(shares(&[busy, candidate()]), [0, 1_000]);
    }

    #[test]
    fn a_cheap_proxy_that_is_slow_full_or_failing_is_not_worth_it() {
        let cheap = Candidate { coefficient: Coefficient::from_thousandths(800), ..candidate() };
        assert_eq!(shares(&[cheap, candidate()]), [1_000, 0]);
        let slow = Candidate { seen: Seen { first_byte_s: 1.0, ..Seen::default() }, ..cheap };
        let full = Candidate { active: 32, ..cheap };
        let failing = Candidate { seen: Seen { failures: 0.1, ..Seen::default() }, ..cheap };
        for worse in [slow, full, failing] {
            assert_eq!(shares(&[worse, candidate()]), [0, 1_000], "{worse:?}");
        }
    }

    #[test]
    fn a_doubtful_one_is_taken_when_there_is_no_other() {
        let doubtful = Candidate { fitness: Fitness::Doubtful, ..candidate() };
        let dear = Candidate { coefficient: Coefficient::from_thousandths(9_000), ..candidate() };
        assert_eq!(shares(&[doubtful, dear]), [0, 1_000]);
        let too_dear = Candidate { fitness: Fitness::TooDear, ..candidate() };
        assert_eq!(shares(&[doubtful, too_dear]), [1_000, 0]);
        assert_eq!(choose(&[], 1), None);
    }

    #[test]
    fn nothing_overflows() {
        let extreme = Candidate {
            price: NanoPerToken::new(u64::MAX),
            coefficient: Coefficient::from_thousandths(u32::MAX),
            active: u64::MAX,
            slots: 1,
            in_flight: usize::MAX,
            ..candidate()
        };
        assert_eq!(choose(&[extreme], u64::MAX), Some(0));
        for count in 1..20 {
            for random in [0, 1, u64::MAX, 0xdead_beef_1234_5678] {
                let (first, second) = two_of(count, random);
                assert!(first < count && second < count && (count == 1 || first != second));
            }
        }
    }
}
