//! The contracts of this client, in a file: which there are, and what was last sent to each.
//!
//! Not how they stand: that is the chain's to say. The file is small and rarely changes, so it is written whole, to the
//! disk, before what it says is done. One process writes it: the one that holds the wallet's journal.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cocoon_ton::Address;
use cocoon_ton::chain::TxId;
use serde::{Deserialize, Serialize};

use super::DeskError;
use crate::limits::{DESK_BOOK_BYTES_MAX, DESK_CONTRACTS_MAX};
use crate::terms::Parties;

/// The file in the folder of money.
const FILE: &str = "contracts.json";

/// The list.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    kept: Mutex<BTreeMap<Address, Kept>>,
}

/// One contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The client contract.
    pub(super) contract: Address,
    /// The proxy contract that is paid.
    pub(super) proxy: Address,
    /// The key that signs charges, in hexadecimal.
    payment_key: String,
    /// The proxy's number in the root, or in the configuration.
    pub(super) number: Option<u32>,
    /// Whether it shall end. Kept, so that a crash before the first message forgets nothing.
    #[serde(default)]
    pub(super) is_leaving: bool,
    /// What was sent and not seen to arrive yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<Mark>,
    /// Upkeep of a day.
    #[serde(default)]
    pub(super) upkeep: Upkeep,
}

/// Messages on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The hash of the body of each, in hexadecimal; each carries a random number.
    bodies: Vec<String>,
    /// The contract's last transaction before: logical time and hash.
    after: Option<(u64, String)>,
    /// Chain time before.
    pub(super) at_unix_s: u32,
}

/// How many messages were sent on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upkeep {
    day: u32,
    messages: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    contracts: Vec<Kept>,
}

impl Book {
    /// Reads the list, or begins one.
    pub(super) fn open(folder: &Path) -> Result<Self, DeskError> {
        let path = folder.join(FILE);
        let kept = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(DeskError::File { path, error }),
            Ok(metadata) => read(&path, metadata.len())?,
        };
        Ok(Self { path, kept: Mutex::new(kept) })
    }

    /// All contracts.
    pub(super) fn all(&self) -> Vec<Kept> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, contract: &Address) -> Option<Kept> {
        self.lock().get(contract).cloned()
    }

    /// Notes a contract, where it is new.
    pub(super) fn note(&self, parties: &Parties, number: Option<u32>) -> Result<(), DeskError> {
        if self.lock().contains_key(&parties.contract) {
            return self.change(&parties.contract, |kept| kept.number = number.or(kept.number));
        }
        let new = Kept {
            contract: parties.contract,
            proxy: parties.proxy,
            payment_key: hex::encode(parties.payment_key),
            number,
            is_leaving: false,
            sent: None,
            upkeep: Upkeep::default(),
        };
        let known = self.lock().len();
        if known >= DESK_CONTRACTS_MAX {
            return Err(DeskError::TooManyContracts(known));
        }
        self.update(|all| drop(all.insert(new.contract, new)))
    }

    /// Changes what is kept of one, if it is there.
    pub(super) fn change(&self, contract: &Address, change: impl FnOnce(&mut Kept)) -> Result<(), DeskError> {
        self.update(|all| {
            if let Some(kept) = all.get_mut(contract) {
                change(kept);
            }
        })
    }

    /// Forgets one that is over.
    pub(super) fn forget(&self, contract: &Address) -> Result<(), DeskError> {
        self.update(|all| drop(all.remove(contract)))
    }

    /// Changes the list in the file first, then here. The lock is held while the file is written: whoever waits for it
    /// wants to write, too.
    fn update(&self, change: impl FnOnce(&mut BTreeMap<Address, Kept>)) -> Result<(), DeskError> {
        let mut all = self.lock();
        let mut next = all.clone();
        change(&mut next);
        if next != *all {
            write(&self.path, &next).map_err(|error| DeskError::File { path: self.path.clone(), error })?;
            *all = next;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Kept>> {
        // Replaced in one assignment, so it is whole even after a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The parties again; `None` where the file was changed by hand.
    pub(super) fn parties(&self) -> Option<Parties> {
        let mut payment_key = [0; 32];
        hex::decode_to_slice(&self.payment_key, &mut payment_key).ok()?;
        Some(Parties { contract: self.contract, proxy: self.proxy, payment_key })
    }
}

impl Mark {
    pub(super) fn new(bodies: &[[u8; 32]], after: Option<TxId>, at_unix_s: u32) -> Self {
        let after = after.map(|id| (id.lt, hex::encode(id.hash)));
        Self { bodies: bodies.iter().map(hex::encode).collect(), after, at_unix_s }
    }

    /// The contract's last transaction before; its first when it cannot be read, which only costs time.
    pub(super) fn after(&self) -> Option<TxId> {
        let (lt, text) = self.after.as_ref()?;
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(TxId { lt: *lt, hash })
    }

    pub(super) fn is_of(&self, body: &[u8; 32]) -> bool {
        self.bodies.contains(&hex::encode(body))
    }

    /// How many messages it names.
    pub(super) fn len(&self) -> usize {
        self.bodies.len()
    }
}

impl Upkeep {
    /// How many were sent on the day of this moment.
    pub(super) const fn sent(self, at_unix_s: u32) -> u32 {
        if self.day == at_unix_s / 86_400 { self.messages } else { 0 }
    }

    pub(super) const fn and(self, messages: u32, at_unix_s: u32) -> Self {
        Self { day: at_unix_s / 86_400, messages: self.sent(at_unix_s).saturating_add(messages) }
    }
}

fn read(path: &Path, bytes: u64) -> Result<BTreeMap<Address, Kept>, DeskError> {
    let unreadable = |error: String| DeskError::Unreadable { path: path.to_owned(), error };
    if bytes > DESK_BOOK_BYTES_MAX {
        return Err(unreadable(format!("it has {bytes} bytes")));
    }
    let text = fs::read(path).map_err(|error| DeskError::File { path: path.to_owned(), error })?;
    let written: Written = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    Ok(written.contracts.into_iter().map(|kept| (kept.contract, kept)).collect())
}

/// Whole or not at all, and on the disk when it returns.
fn write(path: &Path, kept: &BTreeMap<Address, Kept>) -> io::Result<()> {
    let half = path.with_extension("json.new");
    let written = Written { contracts: kept.values().cloned().collect() };
    let mut file = File::create(&half)?;
    file.write_all(&serde_json::to_vec_pretty(&written)?)?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parties(byte: u8) -> Parties {
        let one = Address::basechain;
        Parties { contract: one([byte; 32]), proxy: one([0xaa; 32]), payment_key: [7; 32] }
    }

    #[test]
    fn what_is_noted_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(folder.path()).unwrap();
        book.note(&parties(1), Some(3)).unwrap();
        book.note(&parties(1), None).unwrap();
        book.note(&parties(2), None).unwrap();
        let last = TxId { lt: 9, hash: [4; 32] };
        book.change(&parties(1).contract, |kept| kept.sent = Some(Mark::new(&[[1; 32]], Some(last), 100))).unwrap();
        book.forget(&parties(2).contract).unwrap();
        let again = Book::open(folder.path()).unwrap().all();
        assert_eq!(again, book.all());
        let [kept] = again.try_into().unwrap();
        let mark = kept.sent.clone().unwrap();
        assert_eq!((kept.parties(), kept.number), (Some(parties(1)), Some(3)));
        assert_eq!(
            (mark.after(), mark.len(), mark.is_of(&[1; 32]), mark.is_of(&[2; 32])),
            (Some(last), 1, true, false)
        );
    }

    #[test]
    fn a_file_of_somebody_else_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{}").unwrap();
        let error = Book::open(folder.path()).unwrap_err();
        assert!(matches!(error, DeskError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn messages_are_counted_by_the_day() {
        let upkeep = Upkeep::default().and(2, 86_400).and(3, 86_401);
        assert_eq!((upkeep.sent(2 * 86_400 - 1), upkeep.sent(2 * 86_400)), (5, 0));
        assert_eq!(upkeep.and(1, 3 * 86_400).sent(3 * 86_400), 1);
    }
}
