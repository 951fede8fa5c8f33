//! A state as bytes and back. The same state gives the same bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::State;
use crate::account::{Account, Accounts, HasAccount, Payer, PayerId};
use crate::codec::{Reader, Writer};
use crate::commit::{Commit, Commits};
use crate::reservation::{Run, SpentRequest};
use crate::spent::SpentIds;

impl State {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u64(self.seq).u128(self.settled);
        write_accounts(&mut to, &self.payers, |to, payer| {
            // Commits are counted from 1.
            to.credit(payer.credit).u32(payer.shut_by.unwrap_or(0));
        });
        write_accounts(&mut to, &self.payees, |_, _| ());
        write_spent(&mut to, &self.spent);
        to.count(self.notes.len());
        for (key, value) in &self.notes {
            to.text(key).bytes(value);
        }
        write_commits(&mut to, &self.commits);
        to.into_bytes()
    }

    /// `None` if the bytes are not those of a state that can be.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let (seq, settled) = (from.u64()?, from.u128()?);
        let payers = read_accounts(&mut from, |from, account| {
            let (credit, shut_by) = (from.credit()?, Some(from.u32()?).filter(|by| *by > 0));
            Some(Payer { account, shut_by, ..Payer::new("", credit) })
        })?;
        let payees = read_accounts(&mut from, |_, account| Some(account))?;
        let spent = read_spent(&mut from)?;
        let notes = (0..from.u64()?).map(|_| Some((from.text()?, from.bytes()?))).collect::<Option<_>>()?;
        let commits = read_commits(&mut from)?;
        let state = Self { seq, payers, payees, settled, spent, notes, commits, run: Run::default() };
        let is_conserved = state.payers.known() == settled && state.payees.known() == settled;
        (from.is_empty() && is_conserved).then_some(state)
    }
}

fn write_accounts<A: HasAccount>(to: &mut Writer, accounts: &Accounts<A>, more: impl Fn(&mut Writer, &A)) {
    to.u64(accounts.next()).u128(accounts.closed()).count(accounts.len());
    for (number, item) in accounts.iter() {
        let Account { name, known, committing, committed, durable: _ } = item.account();
        to.u64(number).text(name).tokens(*known).tokens(*committing).tokens(*committed);
        more(to, item);
    }
}

fn read_accounts<A: HasAccount>(
    from: &mut Reader<'_>,
    more: impl Fn(&mut Reader<'_>, Account) -> Option<A>,
) -> Option<Accounts<A>> {
    let (next, closed) = (from.u64()?, from.u128()?);
    let mut accounts = Accounts::default();
    for _ in 0..from.u64()? {
        let number = from.u64()?;
        let new = Account::new(&from.text()?);
        let (known, committing, committed) = (from.tokens()?, from.tokens()?, from.tokens()?);
        let is_ordered = committed <= committing && committing <= known;
        let item = more(from, Account { known, committing, committed, ..new })?;
        if !is_ordered || !accounts.insert(number, item) {
            return None;
        }
    }
    accounts.restore(next, closed).then_some(accounts)
}

fn write_spent(to: &mut Writer, ids: &SpentIds) {
    match ids.forgotten() {
        Some(opened_at) => to.u8(1).u64(opened_at),
        None => to.u8(0).u64(0),
    };
    to.count(ids.len());
    for (spent, request) in ids.iter() {
        to.spent(&spent).u64(request.payer.0).tokens(request.tokens);
    }
}

fn read_spent(from: &mut Reader<'_>) -> Option<SpentIds> {
    let (is_any, opened_at) = (from.bool()?, from.u64()?);
    let mut ids = SpentIds::default();
    for _ in 0..from.u64()? {
        let spent = from.spent()?;
        let (payer, tokens) = (PayerId(from.u64()?), from.tokens()?);
        if !ids.insert(spent, SpentRequest { payer, tokens, receipt: Bytes::new() }) {
            return None;
        }
    }
    ids.restore(is_any.then_some(opened_at));
    Some(ids)
}

fn write_commits(to: &mut Writer, commits: &Commits) {
    let (kept, begun, seen, has_news) = commits.parts();
    to.u32(begun).u32(seen).u8(u8::from(has_news)).count(kept.len());
    for Commit { number, digest } in kept {
        to.u32(*number).array(digest);
    }
}

fn read_commits(from: &mut Reader<'_>) -> Option<Commits> {
    let (begun, seen, has_news) = (from.u32()?, from.u32()?, from.bool()?);
    let mut kept = VecDeque::new();
    for _ in 0..from.u64()? {
        kept.push_back(Commit { number: from.u32()?, digest: from.array()? });
    }
    Commits::from_parts(kept, begun, seen, has_news)
}

#[cfg(test)]
mod tests {
    use cocoon_units::AdjustedTokens;

    use super::*;
    use crate::account::{Credit, PayeeId};
    use crate::entry::Entry;
    use crate::reservation::Spent;

    fn credit() -> Credit {
        Credit { charged: AdjustedTokens::new(1), secured: AdjustedTokens::new(2) }
    }

    /// A state in which everything is something.
    fn state() -> State {
        let (payer, payee, tokens) = (PayerId(0), PayeeId(0), AdjustedTokens::new(5));
        let spent =
            |id| Some(Spent { id: [id; 32], run: Run(6), opened_at: 3, receipt: Bytes::from_static(b"receipt") });
        let mut state = State::default();
        for entry in [
            Entry::PayerOpened { payer, name: "a".into(), credit: credit() },
            Entry::PayerOpened { payer: PayerId(1), name: "b".into(), credit: credit() },
            Entry::PayeeOpened { payee, name: "c".into() },
            Entry::PayeeOpened { payee: PayeeId(1), name: "d".into() },
            Entry::Settled { payer, payee, tokens, spent: spent(1) },
            Entry::Settled { payer: PayerId(1), payee: PayeeId(1), tokens, spent: None },
            Entry::Voided { payer, id: [2; 32], run: Run(7), opened_at: 4 },
            Entry::Voided { payer, id: [2; 32], run: Run(8), opened_at: 4 },
            Entry::PayerShut { payer },
            Entry::NoteSet { key: "key".into(), value: Some(Bytes::from_static(b"value")) },
            Entry::CommitBegun { number: 1 },
        ] {
            state.apply(&entry).unwrap();
        }
        state.commits.seal(&[8; 32]);
        for entry in [
            Entry::CommitSeen { number: 1 },
            Entry::Settled { payer, payee, tokens, spent: spent(3) },
            Entry::PayerClosed { payer: PayerId(1) },
            Entry::PayeeClosed { payee: PayeeId(1) },
        ] {
            state.apply(&entry).unwrap();
        }
        state.spent.restore(Some(2));
        state
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        let (state, bytes) = (state(), state().to_bytes());
        let again = State::from_bytes(&bytes).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        again.assert_conserved();
        assert_eq!(again.spent.forgotten(), Some(2));
        assert_eq!(again.commits.parts(), state.commits.parts());
        assert_eq!((again.payers.next(), again.payers.closed()), (2, 5));
        assert_eq!(again.payers.get(0).map(|payer| (payer.credit, payer.shut_by)), Some((credit(), Some(1))));
        assert_eq!(State::from_bytes(&State::default().to_bytes()).map(|state| state.seq), Some(0));
    }

    #[test]
    fn bytes_that_are_no_state_are_refused() {
        let bytes = state().to_bytes();
        for length in 0..bytes.len() {
            assert!(State::from_bytes(&bytes[..length]).is_none(), "{length}");
        }
        assert!(State::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_none());
        // Another sum than the accounts have.
        let mut other = bytes;
        other[8] ^= 1;
        assert!(State::from_bytes(&other).is_none());
    }
}
