//! The latest receipts, in memory and, where there is a folder, in a file beside it.
//!
//! 1. A request that asks for a receipt is noted when it is sent, with the API key that may read the receipt later.
//! 2. At its end the receipt takes the note's place, whatever the verdict; one that came to nothing is forgotten.
//! 3. The oldest make room: [`RECEIPTS_KEPT`] is all there is. Documents of evidence are files named by their hash, and
//!    go with the last receipt that needs them.
//!
//! Nothing here is needed to pay or to refuse: a receipt that cannot be written is kept in memory and the log says so.
//! The salts make the file as private as the answers' lengths and times; only its owner may read it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cocoon_receipt::SignedReceipt;
use cocoon_units::NanoPerToken;
use cocoon_wal::{Wal, WalError};
use serde::{Deserialize, Serialize};

use super::check::{Asked, Heard};
use crate::keys::Access;
use crate::limits::{EVIDENCE_FILES_BYTES, EVIDENCE_KEPT_BYTES, RECEIPTS_FILE_BYTES, RECEIPTS_KEPT};

const FILE: &str = "receipts.wal";
const EVIDENCE: &str = "evidence";

/// One receipt and what this client knows of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    #[serde(with = "cocoon_units::hex_text")]
    pub(crate) id: [u8; 32],
    #[serde(with = "cocoon_units::hex_text")]
    pub(crate) salt: [u8; 32],
    /// The name of the API key that may read it; none where there were no keys.
    pub(crate) key: Option<String>,
    /// As it came. In the file it follows the rest, as it is.
    #[serde(skip)]
    pub(crate) receipt: Vec<u8>,
    /// SHA-256 of the worker's document, in hex.
    pub(crate) evidence: Option<String>,
    pub(crate) price: Option<NanoPerToken>,
    #[serde(with = "cocoon_units::hex_text")]
    pub(crate) request_hmac: [u8; 32],
    /// Of the answer as it came, in hex; none when a part of it did not come.
    pub(crate) answer_hmac: Option<String>,
    /// `accepted` with whose word the key rests on, or `refused` and why.
    pub(crate) verdict: String,
}

impl Kept {
    pub(crate) fn new(
        asked: &Asked,
        key: Option<Arc<str>>,
        heard: &Heard,
        signed: &SignedReceipt,
        evidence: Option<[u8; 32]>,
        price: Option<NanoPerToken>,
        verdict: String,
    ) -> Self {
        Self {
            id: asked.ask.id,
            salt: asked.ask.salt,
            key: key.as_deref().map(str::to_owned),
            receipt: signed.to_bytes(),
            evidence: evidence.map(hex::encode),
            price,
            request_hmac: asked.request_hmac,
            answer_hmac: heard.answer_hmac.map(hex::encode),
            verdict,
        }
    }
}

/// What is known of one id.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// The end of the request was not heard, or its receipt is being checked.
    Pending { asked: Arc<Asked>, key: Option<Arc<str>> },
    /// There is one.
    Kept(Arc<Kept>),
}

impl Entry {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Pending { key, .. } => key.as_deref(),
            Self::Kept(kept) => kept.key.as_deref(),
        }
    }
}

/// The receipts, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: HashMap<[u8; 32], Entry>,
    /// Ids in order of arrival; some may be forgotten.
    order: VecDeque<[u8; 32]>,
    disk: Option<Disk>,
}

#[derive(Debug)]
struct Disk {
    wal: Wal,
    evidence: PathBuf,
    /// Of all documents together.
    evidence_bytes: u64,
    /// The documents that are there.
    documents: HashSet<String>,
}

impl Store {
    /// Keeps receipts in this folder from now on, and knows those that are there.
    pub(crate) fn open(&mut self, folder: &Path) -> Result<(), WalError> {
        let evidence = folder.join(EVIDENCE);
        fs::create_dir_all(&evidence).map_err(|error| WalError::Io { path: evidence.clone(), error })?;
        let (wal, records) = Wal::open(&folder.join(FILE))?;
        for record in records {
            match read(&record) {
                Some(kept) => self.insert(kept.id, Entry::Kept(Arc::new(kept))),
                None => tracing::warn!("a receipt in the file is not readable, and is left out"),
            }
        }
        self.disk = Some(Disk { wal, evidence, evidence_bytes: 0, documents: HashSet::new() });
        self.drop_unused_evidence();
        Ok(())
    }

    pub(crate) fn note(&mut self, asked: Arc<Asked>, key: Option<Arc<str>>) {
        self.insert(asked.ask.id, Entry::Pending { asked, key });
    }

    pub(crate) fn forget(&mut self, id: &[u8; 32]) {
        self.entries.remove(id);
    }

    /// Puts a receipt in the place of its note, and on the disk if there is one, with the document that it refers to.
    pub(crate) fn keep(&mut self, kept: Kept, document: Option<&[u8]>) {
        let kept = Arc::new(kept);
        if let (Some(name), Some(text)) = (&kept.evidence, document) {
            self.keep_document(name, text);
        }
        if let Err(error) = self.write(&kept) {
            tracing::warn!(%error, "a receipt is kept in memory only");
        }
        self.insert(kept.id, Entry::Kept(kept));
    }

    /// The entry of an id, for the key that made the request or the owner.
    pub(crate) fn find(&self, id: &[u8; 32], access: &Access) -> Option<Entry> {
        let may_read = |entry: &&Entry| access.is_owner || entry.key() == access.key.as_deref();
        self.entries.get(id).filter(may_read).cloned()
    }

    /// What was noted of a request whose end was not heard.
    pub(crate) fn pending(&self, id: &[u8; 32]) -> Option<(Arc<Asked>, Option<Arc<str>>)> {
        match self.entries.get(id)? {
            Entry::Pending { asked, key } => Some((Arc::clone(asked), key.clone())),
            Entry::Kept(_) => None,
        }
    }

    /// Where a document is, if it was ever written.
    pub(crate) fn document_path(&self, sha256: &[u8; 32]) -> Option<PathBuf> {
        self.disk.as_ref().map(|disk| disk.document_path(&hex::encode(sha256)))
    }

    /// Writes what was kept since the last write: receipts come in numbers, and a proxy tells a lost one again.
    pub(crate) fn flush(&mut self) {
        if let Some(Err(error)) = self.disk.as_mut().map(|disk| disk.wal.flush()) {
            tracing::warn!(%error, "receipts are kept in memory only");
        }
    }

    fn keep_document(&mut self, name: &str, text: &[u8]) {
        let Some(disk) = &mut self.disk else { return };
        if let Err(error) = disk.write_document(name, text) {
            tracing::warn!(%error, "a worker's evidence is kept in memory only");
        }
    }

    fn insert(&mut self, id: [u8; 32], entry: Entry) {
        if self.entries.insert(id, entry).is_none() {
            self.order.push_back(id);
        }
        while self.entries.len() > RECEIPTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        if self.order.len() > RECEIPTS_KEPT.saturating_mul(2) {
            self.order.retain(|id| self.entries.contains_key(id));
        }
    }

    fn write(&mut self, kept: &Kept) -> Result<(), WalError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.wal.push(&record(kept))?;
        if disk.wal.bytes() <= RECEIPTS_FILE_BYTES {
            return Ok(());
        }
        let records: Vec<_> = self.order.iter().filter_map(|id| self.entries.get(id)).filter_map(written).collect();
        disk.wal.rewrite(records.iter().map(Vec::as_slice))?;
        self.drop_unused_evidence();
        Ok(())
    }

    /// Removes documents that no receipt refers to.
    fn drop_unused_evidence(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let used: HashSet<_> = self.entries.values().filter_map(evidence_of).collect();
        if let Err(error) = disk.retain_documents(|name| used.contains(name)) {
            tracing::warn!(%error, "old evidence cannot be removed");
        }
    }
}

fn evidence_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Pending { .. } => None,
        Entry::Kept(kept) => kept.evidence.as_deref(),
    }
}

fn written(entry: &Entry) -> Option<Vec<u8>> {
    match entry {
        Entry::Pending { .. } => None,
        Entry::Kept(kept) => Some(record(kept)),
    }
}

/// A line of JSON, and the receipt's bytes.
fn record(kept: &Kept) -> Vec<u8> {
    let mut record = serde_json::to_vec(kept).expect("a row has string keys and no floats, so it always serialises");
    record.push(b'\n');
    record.extend_from_slice(&kept.receipt);
    record
}

fn read(record: &[u8]) -> Option<Kept> {
    let end = record.iter().position(|byte| *byte == b'\n')?;
    let (line, receipt) = record.split_at_checked(end)?;
    let kept: Kept = serde_json::from_slice(line).ok()?;
    Some(Kept { receipt: receipt.get(1..)?.to_vec(), ..kept })
}

impl Disk {
    fn document_path(&self, name: &str) -> PathBuf {
        self.evidence.join(format!("{name}.json"))
    }

    /// Once, and whole: a crash leaves all of it or nothing.
    fn write_document(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        if self.documents.contains(name) {
            return Ok(());
        }
        let path = self.document_path(name);
        let bytes = self.evidence_bytes.saturating_add(text.len() as u64);
        if bytes > EVIDENCE_FILES_BYTES {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "there is too much of it"));
        }
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, path)?;
        self.evidence_bytes = bytes;
        self.documents.insert(name.to_owned());
        Ok(())
    }

    fn retain_documents(&mut self, is_used: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut bytes: u64 = 0;
        self.documents.clear();
        for file in fs::read_dir(&self.evidence)? {
            let file = file?;
            let path = file.path();
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let is_document = path.extension().is_some_and(|kind| kind == "json");
            match name.filter(|name| is_document && is_used(name)) {
                Some(name) => {
                    bytes = bytes.saturating_add(file.metadata()?.len());
                    self.documents.insert(name.to_owned());
                }
                None => fs::remove_file(&path)?,
            }
        }
        self.evidence_bytes = bytes;
        Ok(())
    }
}

/// Reads a document again; `None` when it is not there, or has grown into something else.
pub(crate) fn read_evidence(path: &Path) -> Option<Bytes> {
    let len = fs::metadata(path).ok()?.len();
    if len > EVIDENCE_KEPT_BYTES as u64 {
        return None;
    }
    fs::read(path).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use cocoon_units::{Coefficient, Pricing};
    use cocoon_wire::message::ReceiptAsk;

    use super::*;

    fn kept(id: [u8; 32], evidence: Option<[u8; 32]>) -> Kept {
        Kept {
            id,
            salt: [2; 32],
            key: Some("a".to_owned()),
            receipt: vec![3; 100],
            evidence: evidence.map(hex::encode),
            price: None,
            request_hmac: [4; 32],
            answer_hmac: Some(hex::encode([5; 32])),
            verdict: "accepted; key by self".to_owned(),
        }
    }

    fn asked(id: [u8; 32]) -> Arc<Asked> {
        Arc::new(Asked {
            ask: ReceiptAsk { id, salt: [2; 32] },
            proxy: String::new(),
            model: "m".into(),
            max_coefficient: Coefficient::ONE,
            pricing: Pricing::default(),
            most: cocoon_units::AdjustedTokens::new(1_000),
            request_hmac: [4; 32],
            at_unix_ms: 0,
        })
    }

    fn id(number: usize) -> [u8; 32] {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn receipts_survive_a_restart_and_their_evidence_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::default();
        store.open(folder.path()).unwrap();
        store.note(asked(id(2)), None);
        store.keep(kept(id(1), Some([7; 32])), Some(b"used"));
        store.keep_document(&hex::encode([8; 32]), b"unused");
        drop(store);

        let mut store = Store::default();
        store.open(folder.path()).unwrap();
        let reader = Access { key: Some("a".into()), is_owner: false };
        let Some(Entry::Kept(found)) = store.find(&id(1), &reader) else { panic!("it is kept") };
        assert_eq!(*found, kept(id(1), Some([7; 32])));
        let path = store.document_path(&[7; 32]).unwrap();
        assert_eq!(read_evidence(&path).unwrap(), "used");
        assert_eq!(read_evidence(&store.document_path(&[8; 32]).unwrap()), None);
        // A request whose end was not heard before the restart is asked for by the budget, not by this.
        assert!(store.find(&id(2), &Access::OWNER).is_none());
    }

    #[test]
    fn flood_of_receipts_is_bounded() {
        let mut store = Store::default();
        for number in 0..RECEIPTS_KEPT * 3 {
            store.note(asked(id(number)), None);
            if number % 2 == 0 {
                store.forget(&id(number));
            }
        }
        assert!(store.entries.len() <= RECEIPTS_KEPT && store.order.len() <= RECEIPTS_KEPT * 2);
        assert!(store.find(&id(RECEIPTS_KEPT * 3 - 1), &Access::OWNER).is_some());
        assert!(store.find(&id(1), &Access::OWNER).is_none());
    }

    #[test]
    fn only_the_key_that_asked_and_the_owner_read() {
        let mut store = Store::default();
        store.keep(kept(id(1), None), None);
        let reads = |key: Option<&str>, is_owner| store.find(&id(1), &Access { key: key.map(Into::into), is_owner });
        assert!(reads(Some("a"), false).is_some() && reads(Some("b"), true).is_some());
        assert!(reads(Some("b"), false).is_none() && reads(None, false).is_none());
    }
}
