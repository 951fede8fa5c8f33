//! Reservations and settlements without a disk, and the requests that both measurements settle.

use std::time::Instant;

use bytes::Bytes;
use cocoon_ledger::limits::UNWRITTEN_MAX;
use cocoon_ledger::{Credit, Ledger, PayeeId, PayerId, Spent, State};
use cocoon_units::AdjustedTokens;

use super::{Failure, InMemory};

const PAYERS: u64 = 1_000;
const PAYEES: u64 = 50;
/// What a request reserves and what it uses.
const RESERVED: AdjustedTokens = AdjustedTokens::new(5_000);
const USED: AdjustedTokens = AdjustedTokens::new(700);
/// About what a signed receipt takes.
const RECEIPT_BYTES: usize = 1_200;

/// What a request leaves behind beside the tokens.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Of an original client or worker: nothing.
    Plain,
    /// A spent id and a receipt.
    Receipted,
}

/// A ledger and endless requests of many clients to many workers.
pub(super) struct Requests {
    pub(super) ledger: Ledger,
    payers: Vec<PayerId>,
    payees: Vec<PayeeId>,
    kind: Kind,
    receipt: Bytes,
    next: u64,
}

impl Requests {
    pub(super) fn new(mut ledger: Ledger, kind: Kind) -> Result<Self, Failure> {
        let credit = Credit { charged: AdjustedTokens::ZERO, secured: AdjustedTokens::new(u64::MAX / PAYERS) };
        let payers = (0..PAYERS).map(|number| ledger.open_payer(&format!("client {number}"), credit));
        let payers = payers.collect::<Result<_, _>>()?;
        let payees = (0..PAYEES).map(|number| ledger.open_payee(&format!("worker {number}")));
        let payees = payees.collect::<Result<_, _>>()?;
        Ok(Self { ledger, payers, payees, kind, receipt: Bytes::from(vec![0x5A; RECEIPT_BYTES]), next: 0 })
    }

    /// Reserves and settles one.
    pub(super) fn one(&mut self) -> Result<(), Failure> {
        let mixed = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.next += 1;
        let payer = pick(&self.payers, mixed >> 16)?;
        let payee = pick(&self.payees, mixed >> 40)?;
        let spent = match self.kind {
            Kind::Plain => None,
            Kind::Receipted => {
                let mut id = [0; 32];
                for (bytes, word) in id.chunks_mut(8).zip([mixed, self.next, 0, 0]) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
                Some(Spent { id, run: self.ledger.run(), opened_at: self.ledger.seq(), receipt: self.receipt.clone() })
            }
        };
        let reservation = self.ledger.reserve(payer, RESERVED)?;
        let settled = self.ledger.settle(reservation, payee, USED, spent);
        if settled.charged == USED { Ok(()) } else { Err("a settlement was not what was used".into()) }
    }
}

fn pick<T: Copy>(of: &[T], by: u64) -> Result<T, Failure> {
    let index = usize::try_from(by)? % of.len().max(1);
    of.get(index).copied().ok_or_else(|| "no account".into())
}

/// In memory, and as far as the entries that a journal would write.
pub(super) fn measure(pairs: u32) -> Result<Vec<InMemory>, Failure> {
    // More would wait for a disk that is not there.
    let unwritten = pairs.min(u32::try_from(UNWRITTEN_MAX / 2)?);
    Ok(vec![
        run("reserve and settle", Ledger::new(), Kind::Plain, pairs)?,
        run("with id and receipt", Ledger::new(), Kind::Receipted, pairs)?,
        run("and entries for a journal", Ledger::restore(State::default()), Kind::Receipted, unwritten)?,
    ])
}

fn run(what: &'static str, ledger: Ledger, kind: Kind, pairs: u32) -> Result<InMemory, Failure> {
    let mut requests = Requests::new(ledger, kind)?;
    let started = Instant::now();
    for _ in 0..pairs {
        requests.one()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    requests.ledger.assert_conserved();
    Ok(InMemory { what, pairs, seconds })
}
