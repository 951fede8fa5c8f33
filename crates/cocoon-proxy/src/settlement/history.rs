//! The history of the node's wallet: every commit that it ever sent, whichever contract it went to.
//!
//! Commits go to the proxy's contract of the moment, and new parameters make a new contract. Old books do not know the
//! contracts that came after them, so the log of no contract shows them all that they lack. The wallet's history does:
//!
//! 1. It is the one list of all commits, from the wallet's first transaction on. It is read from the last commit that
//!    the books saw ([`Cursor`]), or from its beginning where they saw none: empty books are compared, too.
//! 2. A message that left the wallet arrives: the chain says so. What counts is that it left.
//! 3. While the proxy runs, a commit counts as seen once all of the history before it was read and judged, so a second
//!    proxy with the same key does not go unnoticed between two of our commits.
//!
//! The wallet's owner can make it send anything, and so can stop its own proxy with a commit that nobody made. It
//! cannot hide one: the one with the highest number counts. Another owner makes another wallet, which is another
//! history: books that have seen a commit belong to the wallet that sent it, and serve with no other.

use bytes::Bytes;
use cocoon_ledger::Commit;
use cocoon_ton::Address;
use cocoon_ton::chain::{Transaction, TxId};
use cocoon_ton::contract::note::{LogEntry, Note};

/// Commits that left the wallet in one of its transactions.
pub(super) fn commits(transaction: &Transaction) -> impl Iterator<Item = Commit> + '_ {
    transaction.out_messages.iter().filter_map(|message| {
        let Ok(Note::DoNotProcess(LogEntry::ProxyState { seqno, unique_hash, .. })) = Note::parse(&message.body) else {
            return None;
        };
        Some(Commit { number: seqno, digest: unique_hash })
    })
}

/// Where reading goes on after a restart, and which commit was seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Whose history it is.
    pub(super) wallet: Address,
    pub(super) at: TxId,
    pub(super) commit: Commit,
}

impl Cursor {
    const BYTES: usize = 32 + 8 + 32 + 4 + 32;

    /// As the ledger keeps it.
    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&self.wallet.account);
        bytes.extend_from_slice(&self.at.lt.to_le_bytes());
        bytes.extend_from_slice(&self.at.hash);
        bytes.extend_from_slice(&self.commit.number.to_le_bytes());
        bytes.extend_from_slice(&self.commit.digest);
        bytes.into()
    }

    /// From what [`Self::to_bytes`] made; `None` from anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (wallet, rest) = bytes.split_first_chunk::<32>()?;
        let (lt, rest) = rest.split_first_chunk::<8>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (number, digest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            wallet: Address::basechain(*wallet),
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
            wallet: Address::basechain([7; 32]),
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
