//! How earnings are kept: one record for each fact, in a file that a crash can only shorten (`cocoon-wal`).
//!
//! A record is a kind, the worker contract that it is about, and its fields, numbers little-endian. A record that cannot
//! be read stops the start: the file is ours, so it was damaged or is of a later version, and money is in it.

use bytes::Bytes;
use cocoon_ton::Address;
use cocoon_ton::contract::StateInit;
use cocoon_units::AdjustedTokens;

use super::account::{Kept, Told};

const ACCOUNT: u8 = 1;
const PAYMENT: u8 = 2;
const TOLD: u8 = 3;
const RECEIPT: u8 = 4;
const CASHED: u8 = 5;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// A contract that pays us, with all that is needed to deploy it.
    Account { init: StateInit },
    /// A signed payment, higher than all before.
    Payment { contract: Address, at_unix_s: u64, envelope: Bytes },
    /// What the proxy told of its books.
    Told { contract: Address, told: Told },
    /// A request that no signed payment is known to cover.
    Receipt { contract: Address, kept: Kept },
    /// A payment was seen on the chain.
    Cashed { contract: Address, at_unix_s: u64, tokens: u64 },
}

impl Record {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Account { init } => [&[ACCOUNT], init.to_boc().as_slice()].concat(),
            Self::Payment { contract, at_unix_s, envelope } => {
                [head(PAYMENT, contract).as_slice(), &at_unix_s.to_le_bytes(), envelope].concat()
            }
            Self::Told { contract, told: Told { db, max } } => {
                [head(TOLD, contract).as_slice(), &db.get().to_le_bytes(), &max.get().to_le_bytes()].concat()
            }
            Self::Receipt { contract, kept: Kept { tokens, receipt, tag } } => {
                let length = u32::try_from(receipt.len()).unwrap_or(u32::MAX).to_le_bytes();
                [head(RECEIPT, contract).as_slice(), &tokens.get().to_le_bytes(), &length, receipt, tag].concat()
            }
            Self::Cashed { contract, at_unix_s, tokens } => {
                [head(CASHED, contract).as_slice(), &at_unix_s.to_le_bytes(), &tokens.to_le_bytes()].concat()
            }
        }
    }

    /// `None` for bytes that no record of this version has.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        if *kind == ACCOUNT {
            return Some(Self::Account { init: StateInit::from_boc(rest).ok()? });
        }
        let mut rest = Rest(rest);
        let contract = rest.address()?;
        let record = match *kind {
            PAYMENT => Self::Payment { contract, at_unix_s: rest.u64()?, envelope: rest.all() },
            TOLD => Self::Told { contract, told: Told { db: rest.tokens()?, max: rest.tokens()? } },
            RECEIPT => {
                let tokens = rest.tokens()?;
                let receipt = rest.blob()?;
                Self::Receipt { contract, kept: Kept { tokens, receipt, tag: rest.all() } }
            }
            CASHED => Self::Cashed { contract, at_unix_s: rest.u64()?, tokens: rest.u64()? },
            _ => return None,
        };
        rest.0.is_empty().then_some(record)
    }
}

fn head(kind: u8, contract: &Address) -> Vec<u8> {
    [&[kind], contract.workchain.to_le_bytes().as_slice(), &contract.account].concat()
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn address(&mut self) -> Option<Address> {
        let workchain = i8::from_le_bytes(self.take()?);
        Some(Address { workchain, account: self.take()? })
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn tokens(&mut self) -> Option<AdjustedTokens> {
        self.u64().map(AdjustedTokens::new)
    }

    fn blob(&mut self) -> Option<Bytes> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let (blob, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(blob))
    }

    fn all(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::fixtures::init;
    use super::*;

    #[test]
    fn every_record_survives_its_bytes_and_no_cut_does() {
        let contract = init().address();
        let kept = Kept {
            tokens: AdjustedTokens::new(5),
            receipt: Bytes::from_static(b"receipt"),
            tag: Bytes::from_static(b"tag"),
        };
        let told = Told { db: AdjustedTokens::new(1), max: AdjustedTokens::new(2) };
        for (record, shortest) in [
            (Record::Account { init: init() }, usize::MAX),
            (Record::Payment { contract, at_unix_s: 7, envelope: Bytes::from_static(b"payment") }, 42),
            (Record::Told { contract, told }, usize::MAX),
            (Record::Receipt { contract, kept }, 53),
            (Record::Cashed { contract, at_unix_s: 7, tokens: 9 }, usize::MAX),
        ] {
            let bytes = record.to_bytes();
            assert_eq!(Record::from_bytes(&bytes).as_ref(), Some(&record));
            for cut in 0..bytes.len().min(shortest) {
                assert_eq!(Record::from_bytes(&bytes[..cut]), None, "{record:?} cut at {cut}");
            }
        }
        assert_eq!(Record::from_bytes(&[99; 64]), None);
    }
}
