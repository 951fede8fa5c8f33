//! Transactions of an account, checked by the chain of their hashes.
//!
//! The server tells the last one; from there each names the hash of the one before. So we walk back to what the
//! caller knows, and every byte in between is what the last hash commits to. What cannot be seen is a server that
//! keeps the newest ones to itself.

use std::collections::VecDeque;

use super::answer::bad;
use super::http::Http;
use crate::address::Address;
use crate::chain::{ChainError, Transaction, TxId};
use crate::limits::{TONCENTER_PAGE, TONCENTER_WALK_MAX};

/// The oldest `limit` of those after `after`, oldest first.
pub(super) async fn after(
    http: &Http,
    address: &Address,
    after: Option<TxId>,
    limit: usize,
) -> Result<Vec<Transaction>, ChainError> {
    let mut walk =
        Walk { address: *address, after, limit, cursor: http.account(address).await?.last, found: VecDeque::new() };
    let mut pages = 0;
    while let Some(cursor) = walk.open()? {
        if pages >= TONCENTER_WALK_MAX / TONCENTER_PAGE {
            return Err(bad("transactions", format_args!("more than {TONCENTER_WALK_MAX} to the one that is known")));
        }
        pages += 1;
        let page = http.transactions(address, cursor, TONCENTER_PAGE).await?;
        walk.take(page, cursor)?;
    }
    Ok(walk.found.into())
}

struct Walk {
    address: Address,
    after: Option<TxId>,
    limit: usize,
    /// The next to fetch, further back than all found.
    cursor: Option<TxId>,
    /// Oldest first; only the oldest `limit` are kept.
    found: VecDeque<Transaction>,
}

impl Walk {
    /// The transaction to go on with; `None` when the walk has reached what is known.
    fn open(&self) -> Result<Option<TxId>, ChainError> {
        match (self.cursor, self.after) {
            (cursor, after) if cursor == after => Ok(None),
            (Some(cursor), None) => Ok(Some(cursor)),
            (Some(cursor), Some(after)) if cursor.lt > after.lt => Ok(Some(cursor)),
            (None, Some(after)) if !self.found.is_empty() => Err(self.gap(after.lt)),
            // Below it, or beside it: another history than the one that is known.
            (Some(cursor), Some(_)) if !self.found.is_empty() => Err(self.gap(cursor.lt)),
            (Some(_) | None, Some(_)) => Err(bad("transactions", "the server is behind what is known already")),
            (None, None) => Ok(None),
        }
    }

    fn take(&mut self, page: Vec<tycho_types::cell::Cell>, first: TxId) -> Result<(), ChainError> {
        if page.is_empty() {
            return Err(self.gap(first.lt));
        }
        for cell in page {
            let Some(expected) = self.open()? else { break };
            let hash = cell.repr_hash().0;
            let transaction = Transaction::parse(self.address, cell)?;
            if hash != expected.hash {
                // A true one from further back means that one was left out; anything else is made up.
                let is_older = transaction.id.lt < expected.lt;
                return Err(if is_older { self.gap(expected.lt) } else { bad("transaction", "it has another hash") });
            }
            if transaction.id.lt != expected.lt {
                return Err(bad("transaction", "it has another logical time than the chain says"));
            }
            self.cursor = transaction.previous;
            self.found.push_front(transaction);
            self.found.truncate(self.limit);
        }
        Ok(())
    }

    const fn gap(&self, before_lt: u64) -> ChainError {
        ChainError::Gap { address: self.address, before_lt }
    }
}
