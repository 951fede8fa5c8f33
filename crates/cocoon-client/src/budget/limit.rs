//! What the owner allows: a request, a day, a price; and a day of one API key.
//!
//! A request is measured by the most it can cost, and a day by what was spent plus what is held, so that no number of
//! concurrent requests gets past a limit. What cannot be counted is over every limit.

use std::collections::BTreeMap;

use cocoon_units::{AdjustedTokens, Coefficient, Nano, NanoPerToken};

use super::{Order, books::Books, day::Day};
use crate::{config::ClientConfig, keys::Quota};

/// The limits of one client.
#[derive(Debug)]
pub(super) struct Limits {
    per_request: Nano,
    per_day: Nano,
    price_max: Option<NanoPerToken>,
    keys: BTreeMap<String, Quota>,
}

/// A request that the owner's limits do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverLimit {
    #[error(
        "this request may cost up to {} TON, above the limit of {} TON for one request: ask for fewer tokens, or let the \
         owner raise `budget.per_request`", .most.ton(), .limit.ton()
    )]
    PerRequest { most: Nano, limit: Nano },
    #[error(
        "a token may cost up to {} nanoTON x {}/1000, above the cap of {}: lower `max_coefficient`, or let the owner raise \
         `budget.price_max`", .price.get(), .coefficient.thousandths(), .limit.get()
    )]
    Price { price: NanoPerToken, coefficient: Coefficient, limit: NanoPerToken },
    #[error(
        "today's limit of {} TON does not allow it: {} TON are spent or held, and this request may cost {} TON. The next day \
         begins at 00:00 UTC; the owner can raise `budget.per_day`", .limit.ton(), .taken.ton(), .most.ton()
    )]
    PerDay { taken: Nano, most: Nano, limit: Nano, left_s: u64 },
    #[error(
        "the API key `{key}` may spend {} TON a day: {} TON are spent or held, and this request may cost {} TON. The next \
         day begins at 00:00 UTC; the owner can raise `ton_per_day` of the key", .limit.ton(), .taken.ton(), .most.ton()
    )]
    KeyMoney { key: String, taken: Nano, most: Nano, limit: Nano, left_s: u64 },
    #[error(
        "the API key `{key}` may use {} a day: {} are used or held, and this request may use {}. The next day begins at \
         00:00 UTC; the owner can raise `tokens_per_day` of the key", .limit, .taken, .most
    )]
    KeyTokens { key: String, taken: AdjustedTokens, most: AdjustedTokens, limit: AdjustedTokens, left_s: u64 },
}

impl OverLimit {
    /// When the same request may pass, if ever.
    pub(crate) const fn again_s(&self) -> Option<u64> {
        match self {
            Self::PerRequest { .. } | Self::Price { .. } => None,
            Self::PerDay { left_s, .. } | Self::KeyMoney { left_s, .. } | Self::KeyTokens { left_s, .. } => {
                Some(*left_s)
            }
        }
    }
}

impl Limits {
    pub(super) fn new(config: &ClientConfig) -> Self {
        let budget = &config.budget;
        let keys = config.api_keys.iter().map(|key| (key.name.clone(), key.quota())).collect();
        Self {
            per_request: budget.per_request.nano(),
            per_day: budget.per_day.nano(),
            price_max: budget.price_max.map(NanoPerToken::new),
            keys,
        }
    }

    pub(super) const fn per_day(&self) -> Nano {
        self.per_day
    }

    pub(super) fn quota(&self, key: &str) -> Quota {
        self.keys.get(key).copied().unwrap_or_default()
    }

    /// Whether a request fits, all limits together.
    pub(super) fn check(&self, order: &Order<'_>, books: &Books, day: Day, now_s: u64) -> Result<(), OverLimit> {
        self.check_price(order)?;
        let most = order.pricing.price.cost(order.most).unwrap_or(Nano::MAX);
        if most > self.per_request {
            return Err(OverLimit::PerRequest { most, limit: self.per_request });
        }
        let left_s = day.left_s(now_s);
        let taken = books.total(day, None).money();
        if exceeds(taken, most, self.per_day) {
            return Err(OverLimit::PerDay { taken, most, limit: self.per_day, left_s });
        }
        order.key.map_or(Ok(()), |key| self.check_key(key, order.most, most, books, day, left_s))
    }

    fn check_price(&self, order: &Order<'_>) -> Result<(), OverLimit> {
        let Some(limit) = self.price_max else { return Ok(()) };
        let (price, coefficient) = (order.pricing.price, order.coefficient);
        let weighed = u128::from(price.get()).saturating_mul(u128::from(coefficient.thousandths()));
        let cap = u128::from(limit.get()).saturating_mul(1_000);
        if weighed > cap { Err(OverLimit::Price { price, coefficient, limit }) } else { Ok(()) }
    }

    fn check_key(
        &self,
        key: &str,
        tokens: AdjustedTokens,
        most: Nano,
        books: &Books,
        day: Day,
        left_s: u64,
    ) -> Result<(), OverLimit> {
        let quota = self.quota(key);
        if quota == Quota::default() {
            return Ok(());
        }
        let total = books.total(day, Some(key));
        let key = || key.to_owned();
        if let Some(limit) = quota.ton_per_day.map(|ton| ton.nano())
            && exceeds(total.money(), most, limit)
        {
            return Err(OverLimit::KeyMoney { key: key(), taken: total.money(), most, limit, left_s });
        }
        if let Some(limit) = quota.tokens_per_day.map(AdjustedTokens::new)
            && total.tokens().checked_add(tokens).is_none_or(|sum| sum > limit)
        {
            return Err(OverLimit::KeyTokens { key: key(), taken: total.tokens(), most: tokens, limit, left_s });
        }
        Ok(())
    }
}

fn exceeds(taken: Nano, most: Nano, limit: Nano) -> bool {
    taken.checked_add(most).is_none_or(|sum| sum > limit)
}
