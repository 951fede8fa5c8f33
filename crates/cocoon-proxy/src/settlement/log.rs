//! Logs: transactions of an account, read in order and without a gap.
//!
//! Of the proxy's contract most are notes with 1 nano, which no contract acts on. A note is a hint: what it says is not
//! believed, only that something may have changed at the address it came from, which the chain vouches for.
//! The log of the node's wallet is read for commits ([`super::history`]).

use cocoon_ton::Address;
use cocoon_ton::chain::{Chain, ChainError, ChainPolicy, MessageKind, Transaction, TxId};
use cocoon_ton::contract::note::{ClientPayload, Note};

use super::limits::{LOG_PAGE, LOG_PAGES_ROUND};

/// How far the log of an account was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogReader {
    pub(super) account: Address,
    pub(super) after: Option<TxId>,
}

/// What an entry in the log of the proxy's contract says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something about the account at this address may be new.
    Account { from: Address },
    /// The owner of this client contract registered.
    Registered { contract: Address, nonce: u64 },
    /// The proxy's contract ran: its own state may be new.
    Proxy,
}

impl LogReader {
    /// Reads on; `true` when the end was reached. After an error, what was heard before it counts.
    pub(super) async fn read(
        &mut self,
        chain: &dyn Chain,
        policy: ChainPolicy,
        mut hear: impl FnMut(&Transaction) + Send,
    ) -> Result<bool, ChainError> {
        for _ in 0..LOG_PAGES_ROUND {
            let page = chain.transactions(&self.account, self.after, LOG_PAGE).await?.for_money(policy)?;
            for transaction in &page {
                hear(transaction);
                self.after = Some(transaction.id);
            }
            if page.len() < LOG_PAGE {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a transaction of the proxy's contract says to us, whose wallet is `wallet`.
pub(super) fn hear(transaction: &Transaction, wallet: Address, heard: &mut Vec<Heard>) {
    if transaction.outcome.exit_code.is_some() {
        heard.push(Heard::Proxy);
    }
    let Some(message) = &transaction.in_message else { return };
    let from = match message.kind {
        MessageKind::Internal { from, bounced: false, .. } => from,
        MessageKind::Internal { .. }
        | MessageKind::ExternalIn { .. }
        | MessageKind::ExternalOut { .. }
        | MessageKind::Unreadable => return,
    };
    if from == wallet {
        return;
    }
    if let Ok(Note::Client(note)) = Note::parse(&message.body)
        && let Some(ClientPayload::Register { nonce }) = note.payload
    {
        heard.push(Heard::Registered { contract: from, nonce });
    }
    // Whatever else it says, and charged money, which is no note: the account may be new.
    heard.push(Heard::Account { from });
}
