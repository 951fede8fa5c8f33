//! A client that leaves: the last charge, signed as a refund, with which its contract pays the rest out at once.
//!
//! 1. Nothing of the account may run, and all that it used must be covered by a commit; until then the client is told to
//!    ask again.
//! 2. The account is shut for good, and that is noted in the books: whoever held a refund for fewer tokens than were used
//!    later could leave without paying for them.
//! 3. Only once the note is on disk is the refund signed. It is the same whenever it is asked for again.
//!
//! The account opens no more until its contract is closed. Spec: `wire.md` 4, `ton.md` 1.5 and 1.6.

use std::collections::HashSet;

use bytes::Bytes;
use cocoon_ledger::{Ledger, Marks, PayerView};
use cocoon_wire::message::ClientAnswer;

use super::Hub;
use crate::core::ClientId;
use crate::limits::REFUNDS_MAX;

/// The ledger's notes of accounts that are shut begin with this.
const NOTE: &str = "refund.";

/// Accounts that were signed a refund, or are about to be.
#[derive(Debug, Default)]
pub(super) struct Refunds {
    accounts: HashSet<String>,
}

impl Refunds {
    /// Those that the books remember.
    pub(super) fn of(ledger: &Ledger) -> Self {
        let accounts = ledger.notes().filter_map(|(key, _)| key.strip_prefix(NOTE)).map(str::to_owned);
        Self { accounts: accounts.collect() }
    }

    /// Whether an account is shut.
    pub(super) fn contains(&self, account: &str) -> bool {
        self.accounts.contains(account)
    }

    /// Forgets one whose contract is closed; its note, to be removed.
    pub(super) fn forget(&mut self, account: &str) -> Option<String> {
        self.accounts.remove(account).then(|| note(account))
    }
}

fn note(account: &str) -> String {
    format!("{NOTE}{account}")
}

impl Hub {
    /// What a client that asks for a refund is told; an error that is told as such, with its code.
    pub(super) fn refund(&mut self, client: ClientId) -> Result<ClientAnswer, (i32, &'static str)> {
        let later = |active: u64| Ok(ClientAnswer::RefundRejected { active_queries: active });
        if self.money.is_none() {
            return match self.core.client_in_flight(client) {
                0 => Err((501, "nothing is refunded on request: your contract pays out what is not charged")),
                active => later(active as u64),
            };
        }
        let Some((payer, PayerView { marks, open, .. })) = self.core.client_account(client) else { return later(0) };
        let Some(account) = self.core.ledger().name_of_payer(payer).map(str::to_owned) else { return later(0) };
        let Marks { known, committed, .. } = marks;
        if open > 0 || known > committed {
            return later(open);
        }
        self.shut(&account)?;
        if self.core.ledger().unwritten() > 0 {
            return later(0);
        }
        let Some(money) = &self.money else { return later(0) };
        let owner = money.owners.get(&account).map(String::as_str);
        let data = money.payments.refund(&account, owner, committed);
        data.map(|data| ClientAnswer::Refund { data }).ok_or((500, "your account is no contract"))
    }

    /// Shuts an account for good.
    fn shut(&mut self, account: &str) -> Result<(), (i32, &'static str)> {
        let Some(money) = &mut self.money else { return Ok(()) };
        if money.refunds.contains(account) {
            return Ok(());
        }
        let full = (503, "too many clients are leaving: close your contract without the proxy, or ask later");
        if money.refunds.accounts.len() >= REFUNDS_MAX {
            return Err(full);
        }
        self.core.ledger_mut().set_note(&note(account), Some(Bytes::new())).map_err(|_| full)?;
        money.refunds.accounts.insert(account.to_owned());
        self.core.shut_payer(account);
        Ok(())
    }
}
