//! A client that leaves: the last charge, signed as a refund, with which its contract pays the rest out at once.
//!
//! 1. Nothing of the account may run, nor may workers still bring back what a crash lost; until then the client is told to
//!    ask again.
//! 2. The account is shut for good, in the books: whoever held a refund for fewer tokens than were used later could leave
//!    without paying for them.
//! 3. Only once a commit that covers this was seen on chain is the refund signed, so that no disk that is set back opens
//!    the account again. It is the same whenever it is asked for again.
//!
//! The account opens no more until its contract is closed. Spec: `wire.md` 4, `ton.md` 1.5 and 1.6.

use cocoon_ledger::{Marks, PayerView, Standing};
use cocoon_wire::message::ClientAnswer;

use super::Hub;
use crate::core::ClientId;

impl Hub {
    /// What a client that asks for a refund is told; an error that is told as such, with its code.
    pub(super) fn refund(&mut self, client: ClientId) -> Result<ClientAnswer, (i32, &'static str)> {
        let later = |active: u64| Ok(ClientAnswer::RefundRejected { active_queries: active });
        let Some(money) = &self.money else {
            return match self.core.client_in_flight(client) {
                0 => Err((501, "nothing is refunded on request: your contract pays out what is not charged")),
                active => later(active as u64),
            };
        };
        let Some((payer, PayerView { marks, open, standing, .. })) = self.core.client_account(client) else {
            return later(0);
        };
        if open > 0 || self.is_recovering() {
            return later(open);
        }
        let Marks { known, committed, .. } = marks;
        match standing {
            Standing::Open => {
                self.core.ledger_mut().shut_payer(payer);
                later(0)
            }
            Standing::Leaving => later(0),
            Standing::Left if known > committed => later(0),
            Standing::Left => {
                let account = self.core.ledger().name_of_payer(payer).unwrap_or_default();
                let owner = money.owners.get(account).map(String::as_str);
                let data = money.payments.refund(account, owner, committed);
                data.map(|data| ClientAnswer::Refund { data }).ok_or((500, "your account is no contract"))
            }
        }
    }
}
