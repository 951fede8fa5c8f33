//! The log of the proxy's contract: its transactions, read in order and without a gap.
//!
//! Most entries are notes with 1 nano, which no contract acts on. A note is a hint: what it says is not believed, only
//! that something may have changed at the address it came from, which the chain vouches for. Commits are read from here
//! too, and count only when our own wallet sent them.

use bytes::Bytes;
use cocoon_ledger::Commit;
use cocoon_ton::Address;
use cocoon_ton::chain::{Chain, ChainError, ChainPolicy, MessageKind, Transaction, TxId};
use cocoon_ton::contract::note::{ClientPayload, LogEntry, Note};

use super::limits::{LOG_PAGE, LOG_PAGES_ROUND};

/// How far a log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogReader {
    pub(super) contract: Address,
    pub(super) after: Option<TxId>,
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// A commit of our wallet, in this transaction.
    Commit { commit: Commit, at: TxId },
    /// Something about the account at this address may be new.
    Account { from: Address },
    /// The owner of this client contract registered.
    Registered { contract: Address, nonce: u64 },
    /// The proxy's contract ran: its own state may be new.
    Proxy,
}

/// Where reading goes on after a restart, and which commit was seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) contract: Address,
    pub(super) at: TxId,
    pub(super) commit: Commit,
}

impl LogReader {
    /// Reads on; `true` when the end was reached.
    pub(super) async fn read(
        &mut self,
        chain: &dyn Chain,
        policy: ChainPolicy,
        wallet: Address,
        heard: &mut Vec<Heard>,
    ) -> Result<bool, ChainError> {
        for _ in 0..LOG_PAGES_ROUND {
            let page = chain.transactions(&self.contract, self.after, LOG_PAGE).await?.for_money(policy)?;
            for transaction in &page {
                hear(transaction, wallet, heard);
                self.after = Some(transaction.id);
            }
            if page.len() < LOG_PAGE {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a transaction of the proxy's contract says to us.
fn hear(transaction: &Transaction, wallet: Address, heard: &mut Vec<Heard>) {
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
    match Note::parse(&message.body) {
        Ok(Note::DoNotProcess(LogEntry::ProxyState { seqno, unique_hash, .. })) if from == wallet => {
            let commit = Commit { number: seqno, digest: unique_hash };
            heard.push(Heard::Commit { commit, at: transaction.id });
        }
        Ok(Note::Client(note)) => {
            if let Some(ClientPayload::Register { nonce }) = note.payload {
                heard.push(Heard::Registered { contract: from, nonce });
            }
            heard.push(Heard::Account { from });
        }
        Ok(Note::Worker(_)) => heard.push(Heard::Account { from }),
        // Charged money comes from a client's contract, and is no note.
        Ok(_) | Err(_) if from != wallet => heard.push(Heard::Account { from }),
        Ok(_) | Err(_) => {}
    }
}

impl Cursor {
    const BYTES: usize = 32 + 8 + 32 + 4 + 32;

    /// As the ledger keeps it.
    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&self.contract.account);
        bytes.extend_from_slice(&self.at.lt.to_le_bytes());
        bytes.extend_from_slice(&self.at.hash);
        bytes.extend_from_slice(&self.commit.number.to_le_bytes());
        bytes.extend_from_slice(&self.commit.digest);
        bytes.into()
    }

    /// From what [`Self::to_bytes`] made; `None` from anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (contract, rest) = bytes.split_first_chunk::<32>()?;
        let (lt, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (number, digest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            contract: Address::basechain(*contract),
            at: TxId { lt: u64::from_le_bytes(*lt), hash: *hash },
            commit: Commit { number: u32::from_le_bytes(*number), digest: digest.try_into().ok()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_ledger() {
        let cursor = Cursor {
            contract: Address::basechain([7; 32]),
            at: TxId { lt: u64::MAX, hash: [8; 32] },
            commit: Commit { number: 9, digest: [10; 32] },
        };
        let bytes = cursor.to_bytes();
        assert_eq!(Cursor::from_bytes(&bytes), Some(cursor));
        for end in 0..bytes.len() {
            assert_eq!(Cursor::from_bytes(&bytes[..end]), None);
        }
        assert_eq!(Cursor::from_bytes(&[bytes.as_ref(), &[0]].concat()), None);
    }
}
