//! The ledger against a naive model: a list of what happened, summed anew for every question.

use cocoon_ledger::{Ledger, PayeeId, PayerId, Rejection, Reservation};
use cocoon_units::AdjustedTokens;
use proptest::prelude::*;

const PAYERS: usize = 3;
const STAKES: [u64; PAYERS] = [0, 1_000, 50_000];

#[derive(Clone, Debug)]
enum Step {
    Reserve { payer: usize, tokens: u64 },
    Settle { open: prop::sample::Index, used: u64 },
    Release { open: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let tokens = prop_oneof![0..200u64, 0..60_000u64, Just(u64::MAX)];
    prop_oneof![
        3 => (0..PAYERS, tokens.clone()).prop_map(|(payer, tokens)| Step::Reserve { payer, tokens }),
        2 => (any::<prop::sample::Index>(), tokens).prop_map(|(open, used)| Step::Settle { open, used }),
        1 => any::<prop::sample::Index>().prop_map(|open| Step::Release { open }),
    ]
}

/// What happened, in order: the model never keeps a balance.
#[derive(Debug, Default)]
struct Model {
    open: Vec<(usize, u64)>,
    charges: Vec<(usize, u64)>,
}

impl Model {
    fn sum(entries: &[(usize, u64)], payer: usize) -> u128 {
        entries.iter().filter(|(of, _)| *of == payer).map(|(_, tokens)| u128::from(*tokens)).sum()
    }

    fn fits(&self, payer: usize, tokens: u64) -> bool {
        Self::sum(&self.open, payer) + Self::sum(&self.charges, payer) + u128::from(tokens) <= u128::from(STAKES[payer])
    }
}

struct Pair {
    ledger: Ledger,
    payers: Vec<PayerId>,
    payee: PayeeId,
    reservations: Vec<Reservation>,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        let payers = (0..PAYERS)
            .map(|index| {
                ledger
                    .open_payer(&format!("payer {index}"), AdjustedTokens::new(STAKES[index]))
                    .expect("room for three")
            })
            .collect();
        let payee = ledger.open_payee("payee").expect("room for one");
        Self { ledger, payers, payee, reservations: Vec::new(), model: Model::default() }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Reserve { payer, tokens } => {
                let expected = self.model.fits(payer, tokens);
                let made = self.ledger.reserve(self.payers[payer], AdjustedTokens::new(tokens));
                assert_eq!(made.is_ok(), expected);
                match made {
                    Ok(reservation) => {
                        self.model.open.push((payer, tokens));
                        self.reservations.push(reservation);
                    }
                    Err(rejection) => assert_ne!(rejection, Rejection::AccountsFull),
                }
            }
            Step::Settle { open, used } if !self.reservations.is_empty() => {
                let index = open.index(self.reservations.len());
                let (payer, reserved) = self.model.open.remove(index);
                let reservation = self.reservations.remove(index);
                let settled = self.ledger.settle(reservation, self.payee, AdjustedTokens::new(used));
                assert_eq!(settled.charged.get(), used.min(reserved));
                assert_eq!(settled.clamped.is_some(), used > reserved);
                self.model.charges.push((payer, used.min(reserved)));
            }
            Step::Release { open } if !self.reservations.is_empty() => {
                let index = open.index(self.reservations.len());
                self.model.open.remove(index);
                self.ledger.release(self.reservations.remove(index));
            }
            Step::Settle { .. } | Step::Release { .. } => {}
        }
    }

    fn compare(&self) {
        self.ledger.assert_conserved();
        for (index, payer) in self.payers.iter().enumerate() {
            let balance = self.ledger.balance(*payer);
            assert_eq!(u128::from(balance.used.get()), Model::sum(&self.model.charges, index));
            assert_eq!(u128::from(balance.reserved.get()), Model::sum(&self.model.open, index));
            assert!(balance.used.get() + balance.reserved.get() <= STAKES[index]);
        }
        let charged: u64 = self.model.charges.iter().map(|(_, tokens)| tokens).sum();
        assert_eq!(self.ledger.earned(self.payee).get(), charged);
        assert_eq!(self.ledger.totals().reservations, self.model.open.len() as u64);
    }
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model(steps in prop::collection::vec(step(), 0..200)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.apply(step);
            pair.compare();
        }
    }
}
