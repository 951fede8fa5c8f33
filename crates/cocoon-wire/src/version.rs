//! Which dialect two nodes speak.

/// A message dialect; everything above this crate is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// The original's first: `runQuery`, `queryAnswer…`, tokens in every part.
    V0,
    /// The original's `…Ex` forms: final information only in the last part.
    V1,
    /// As [`Version::V1`], with times in the final information.
    V2,
    /// This project's extended profile: credit, cancellation, fragments, typed failures, deadlines.
    Extended,
}

impl Version {
    /// The number on the wire of the extended profile.
    const EXTENDED: i32 = 100;

    /// The number that is offered and chosen on the wire.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
            Self::Extended => Self::EXTENDED,
        }
    }

    /// The version that a chosen number names, if this crate speaks it.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            Self::EXTENDED => Some(Self::Extended),
            _ => None,
        }
    }

    /// The best version within both ranges: extended where both reach 100, else the highest of 0
    /// to 2 that both allow, else none (the connection must be refused).
    #[must_use]
    pub fn negotiate(peer: VersionRange, ours: VersionRange) -> Option<Self> {
        let min = peer.min.max(ours.min);
        let max = peer.max.min(ours.max);
        if max >= Self::EXTENDED && min <= Self::EXTENDED {
            return Some(Self::Extended);
        }
        let best = max.min(Self::V2.number());
        if best < min {
            return None;
        }
        Self::from_number(best)
    }
}

/// The versions that a node offers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest.
    pub min: i32,
    /// The highest.
    pub max: i32,
}

impl VersionRange {
    /// Everything this crate speaks.
    pub const ALL: Self = Self { min: 0, max: Version::EXTENDED };
    /// What the recorded original nodes offer.
    pub const ORIGINAL: Self = Self { min: 1, max: 2 };
    /// What a peer that offers nothing speaks.
    pub const UNSAID: Self = Self { min: 0, max: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_takes_the_best_of_both() {
        let ours = VersionRange::ALL;
        let check = |min, max, expected| {
            assert_eq!(Version::negotiate(VersionRange { min, max }, ours), expected);
        };
        check(1, 2, Some(Version::V2));
        check(0, 0, Some(Version::V0));
        check(0, 100, Some(Version::Extended));
        check(0, 250, Some(Version::Extended));
        check(0, 50, Some(Version::V2));
        check(3, 50, None);
        check(101, 200, None);
        check(2, 1, None);
    }
}
