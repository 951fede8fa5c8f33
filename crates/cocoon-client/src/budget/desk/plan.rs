//! What to do about one contract: decided from what the chain says and nothing else, without IO.
//!
//! ```text
//! it shall serve:                                    it shall end:
//!   not there          → deploy, with a deposit        open     → ask for the refund (the first of two)
//!   other secret       → set it                        closing  → wait for `unlock`, then ask again
//!   stake below ours   → raise it                      closed   → fetch what came later, or it is over
//!   balance runs low   → top up to the deposit         missing  → it is over
//!   closing, closed, overcharged → unusable
//! ```
//!
//! A top-up never brings the free balance above the deposit that is configured, and none is made whose fees are more
//! than [`TOP_UP_FEE_PERCENT_MAX`] of it. A contract that was charged for more than this client counted gets nothing more.
//! Spec: `ton.md` 1.6, 1.10.

use cocoon_ton::chain::{Account, Status, TxId};
use cocoon_ton::contract::{ClientState, Lifecycle};
use cocoon_units::{AdjustedTokens, Nano, NanoPerToken};

use crate::limits::{DESK_SWEEP_MIN, DESK_TOP_UP_FEE, TOP_UP_FEE_PERCENT_MAX};

/// What this client's contract with a proxy is, as of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// The block's time, by which delays count.
    pub(crate) at_unix_s: u32,
    /// All coins that are there.
    pub(crate) coins: Nano,
    /// Its last transaction.
    pub(crate) last: Option<TxId>,
    pub(crate) found: Found,
}

/// What is at the contract's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No code: it was never deployed.
    Nothing,
    Contract(Box<ClientState>),
    /// Something that is no client contract of this network, or froze.
    Unreadable(String),
}

/// What this client counted of its own use of a contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Tokens of requests that ended.
    pub(crate) counted: AdjustedTokens,
    /// Tokens that open requests can still take at most.
    pub(crate) open: AdjustedTokens,
}

/// What the owner configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The free balance that a contract is filled up to.
    pub(crate) deposit: Nano,
    /// The free balance below which it is.
    pub(crate) low: Nano,
    /// What the contract's own stake is raised to.
    pub(crate) stake: Nano,
    /// SHA-256 of the secret for this proxy.
    pub(crate) secret_hash: [u8; 32],
}

/// What a contract that shall serve needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Ready,
    Deploy {
        deposit: Nano,
    },
    /// The secret is set on the way, if it differs.
    TopUp {
        amount: Nano,
        set_secret: bool,
    },
    SetSecret,
    RaiseStake,
    Unusable(Unusable),
}

/// Why a contract can serve no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Ours, or the proxy's doing. A closed contract never opens again.
    #[error("this client's contract with it is {0}: it can serve again once the network's parameters change")]
    Closed(Lifecycle),
    /// The proxy took more than it was owed.
    #[error("it charged {charged} on chain, and this client used {used} at most")]
    Overcharged {
        /// What the contract says.
        charged: AdjustedTokens,
        /// By our own count, with all that is open.
        used: AdjustedTokens,
    },
    /// There is something else at the address.
    #[error("what stands at this client's contract is no client contract: {0}")]
    Foreign(String),
}

/// What a contract that shall end needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// To ask for the refund: pays what exceeds the stake, and begins the delay.
    Ask,
    /// To wait until chain time is beyond this.
    Wait {
        /// Seconds since the Unix epoch.
        unlock_unix_s: u32,
    },
    /// To ask again: pays everything that is left.
    Collect,
    /// Nothing: it is over.
    Over,
}

impl Look {
    pub(crate) fn of(account: &Account) -> Self {
        let found = match (account.status, account.data.as_ref()) {
            (Status::Missing | Status::Uninit, _) => Found::Nothing,
            (Status::Frozen, _) => Found::Unreadable("it froze".to_owned()),
            (Status::Active, None) => Found::Unreadable("it has no data".to_owned()),
            (Status::Active, Some(data)) => match ClientState::parse(data) {
                Ok(state) => Found::Contract(Box::new(state)),
                Err(error) => Found::Unreadable(error.to_string()),
            },
        };
        Self { at_unix_s: account.at.unix_s, coins: account.balance, last: account.last, found }
    }

    /// Its state, where it is a contract.
    pub(crate) fn state(&self) -> Option<&ClientState> {
        match &self.found {
            Found::Contract(state) => Some(state),
            Found::Nothing | Found::Unreadable(_) => None,
        }
    }

    /// Whether there is money of ours in it.
    pub(crate) fn holds_money(&self) -> bool {
        self.state().is_some_and(|state| state.balance > Nano::ZERO || state.due > Nano::ZERO)
    }
}

/// What it needs to serve.
pub(crate) fn serve(look: &Look, own: Own, rules: &Rules) -> Step {
    let state = match &look.found {
        Found::Nothing => return Step::Deploy { deposit: rules.deposit },
        Found::Unreadable(why) => return Step::Unusable(Unusable::Foreign(why.clone())),
        Found::Contract(state) => state,
    };
    if state.state != Lifecycle::Normal {
        return Step::Unusable(Unusable::Closed(state.state));
    }
    let used = AdjustedTokens::new(own.counted.get().saturating_add(own.open.get()));
    if state.tokens_used > used.get() {
        return Step::Unusable(Unusable::Overcharged { charged: AdjustedTokens::new(state.tokens_used), used });
    }
    // A contract without a secret is left so: whoever cleared it wants to be known by registrations on chain.
    let set_secret = state.secret_hash != rules.secret_hash && state.secret_hash != [0; 32];
    match top_up(state, own, rules) {
        Some(amount) => Step::TopUp { amount, set_secret },
        None if set_secret => Step::SetSecret,
        None if state.stake < rules.stake => Step::RaiseStake,
        None => Step::Ready,
    }
}

/// The balance that no use of ours has a claim on yet.
pub(crate) fn free_balance(state: &ClientState, own: Own) -> Nano {
    let counted = own.counted.get().saturating_sub(state.tokens_used);
    let price = NanoPerToken::new(state.params.price_per_token.get());
    let owed = price.cost(AdjustedTokens::new(counted)).unwrap_or(Nano::MAX);
    state.balance.checked_sub(owed).unwrap_or(Nano::ZERO)
}

/// What is missing to the deposit, once it runs low, and if the fees are in proportion.
fn top_up(state: &ClientState, own: Own, rules: &Rules) -> Option<Nano> {
    let free = free_balance(state, own);
    if free >= rules.low {
        return None;
    }
    let amount = rules.deposit.checked_sub(free)?;
    is_worth_its_fees(amount).then_some(amount)
}

/// Whether a top-up of this much pays little enough for being made.
pub(crate) fn is_worth_its_fees(amount: Nano) -> bool {
    let most = u128::from(amount.get()) * u128::from(TOP_UP_FEE_PERCENT_MAX) / 100;
    u128::from(DESK_TOP_UP_FEE.get()) <= most
}

/// What it needs to end.
pub(crate) fn leave(look: &Look) -> Leave {
    let Some(state) = look.state() else { return Leave::Over };
    // The contract asks for a time after the unlock, and a transaction is never earlier than the block that we saw.
    let is_unlocked = look.at_unix_s > state.unlock_unix_s;
    match state.state {
        Lifecycle::Normal => Leave::Ask,
        Lifecycle::Closing if is_unlocked => Leave::Collect,
        Lifecycle::Closed if state.due > Nano::ZERO && is_unlocked => Leave::Collect,
        Lifecycle::Closed if look.coins > DESK_SWEEP_MIN && is_unlocked => Leave::Collect,
        Lifecycle::Closing => Leave::Wait { unlock_unix_s: state.unlock_unix_s },
        Lifecycle::Closed if state.due > Nano::ZERO => Leave::Wait { unlock_unix_s: state.unlock_unix_s },
        Lifecycle::Closed => Leave::Over,
    }
}

#[cfg(test)]
mod tests {
    use cocoon_ton::Address;
    use cocoon_ton::contract::Params;

    use super::*;

    const TON: u64 = 1_000_000_000;
    const RULES: Rules =
        Rules { deposit: Nano::new(2 * TON), low: Nano::new(TON), stake: Nano::new(TON), secret_hash: [5; 32] };

    fn contract(change: impl FnOnce(&mut ClientState)) -> Look {
        let params = Params { price_per_token: Nano::new(20), min_client_stake: Nano::new(TON), ..Params::default() };
        let one = |byte| Address::basechain([byte; 32]);
        let mut state = ClientState::initial(one(1), one(2), [3; 32], &params);
        state.secret_hash = [5; 32];
        state.balance = Nano::new(2 * TON);
        change(&mut state);
        let coins = Nano::new(state.balance.get() + state.due.get() + 110_000_000);
        Look { at_unix_s: 1_000, coins, last: None, found: Found::Contract(Box::new(state)) }
    }

    fn own(counted: u64) -> Own {
        Own { counted: AdjustedTokens::new(counted), open: AdjustedTokens::ZERO }
    }

    #[track_caller]
    fn check(look: &Look, used: u64, step: &Step) {
        assert_eq!(serve(look, own(used), &RULES), *step);
    }

    #[test]
    fn each_state_has_its_step() {
        let nothing = Look { found: Found::Nothing, ..contract(|_| ()) };
        check(&nothing, 0, &Step::Deploy { deposit: Nano::new(2 * TON) });
        check(&contract(|_| ()), 0, &Step::Ready);
        check(&contract(|state| state.secret_hash = [6; 32]), 0, &Step::SetSecret);
        check(&contract(|state| state.secret_hash = [0; 32]), 0, &Step::Ready);
        check(&contract(|state| state.stake = Nano::new(TON - 1)), 0, &Step::RaiseStake);
        for ended in [Lifecycle::Closing, Lifecycle::Closed] {
            let look = contract(|state| state.state = ended);
            check(&look, 0, &Step::Unusable(Unusable::Closed(ended)));
        }
        let foreign = Look { found: Found::Unreadable("odd".to_owned()), ..contract(|_| ()) };
        check(&foreign, 0, &Step::Unusable(Unusable::Foreign("odd".to_owned())));
    }

    #[test]
    fn a_top_up_fills_the_deposit_and_no_more() {
        // 20 nano a token: 50 million tokens are a TON.
        check(&contract(|_| ()), 50_000_000, &Step::Ready);
        let amount = Nano::new(TON + 20);
        check(&contract(|_| ()), 50_000_001, &Step::TopUp { amount, set_secret: false });
        let charged = contract(|state| {
            state.tokens_used = 50_000_001;
            state.balance = Nano::new(TON - 20);
        });
        check(&charged, 50_000_001, &Step::TopUp { amount, set_secret: false });
        let empty = contract(|state| (state.balance, state.secret_hash) = (Nano::ZERO, [6; 32]));
        check(&empty, 0, &Step::TopUp { amount: RULES.deposit, set_secret: true });
    }

    #[test]
    fn top_up_dust_is_not_sent() {
        // Fees of 0.012 TON are 2 % of 0.6 TON.
        assert!(is_worth_its_fees(Nano::new(600_000_000)));
        assert!(!is_worth_its_fees(Nano::new(599_999_999)));
        let rules = Rules { deposit: Nano::new(500_000_000), low: Nano::new(250_000_000), ..RULES };
        let look = contract(|state| state.balance = Nano::new(1));
        assert_eq!(serve(&look, own(0), &rules), Step::Ready, "nothing is sent, whatever is missing");
    }

    #[test]
    fn a_proxy_that_charged_too_much_gets_nothing_more() {
        let look = contract(|state| (state.tokens_used, state.balance) = (101, Nano::ZERO));
        let unusable = Unusable::Overcharged { charged: AdjustedTokens::new(101), used: AdjustedTokens::new(100) };
        check(&look, 100, &Step::Unusable(unusable));
        let open = Own { counted: AdjustedTokens::new(100), open: AdjustedTokens::new(1) };
        assert!(matches!(serve(&look, open, &RULES), Step::TopUp { .. }), "an open request may have cost it");
    }

    #[test]
    fn what_was_used_beyond_all_money_is_no_overflow() {
        let look = contract(|state| state.params.price_per_token = Nano::MAX);
        assert!(matches!(serve(&look, own(u64::MAX), &RULES), Step::TopUp { amount, .. } if amount == RULES.deposit));
    }

    #[test]
    fn the_way_out_is_read_off_the_chain() {
        let closing = |unlock: u32| {
            contract(|state| {
                (state.state, state.unlock_unix_s, state.balance) = (Lifecycle::Closing, unlock, Nano::ZERO)
            })
        };
        let closed = |due: u64, unlock: u32| {
            contract(|state| {
                (state.state, state.unlock_unix_s, state.balance, state.due) =
                    (Lifecycle::Closed, unlock, Nano::ZERO, Nano::new(due));
            })
        };
        let floor = |look: Look| Look { coins: Nano::new(10_000_000), ..look };
        for (look, expected) in [
            (contract(|_| ()), Leave::Ask),
            (closing(1_000), Leave::Wait { unlock_unix_s: 1_000 }),
            (closing(999), Leave::Collect),
            (floor(closed(0, 999)), Leave::Over),
            (floor(closed(1, 999)), Leave::Collect),
            (floor(closed(1, 2_000)), Leave::Wait { unlock_unix_s: 2_000 }),
            (closed(0, 999), Leave::Collect),
            (Look { found: Found::Nothing, ..contract(|_| ()) }, Leave::Over),
        ] {
            assert_eq!(leave(&look), expected, "{look:?}");
        }
    }
}
