//! Reading and writing cells field by field, with errors that name the contract and the field.
//!
//! 1. A [`Reader`] takes fields off a cell. It is total: any cell gives values or a [`StateError`], in bounded work.
//! 2. [`Reader::end`] is part of every layout: what is left over is an error, as in the contracts (`end_parse`).
//! 3. A [`Writer`] puts fields into a cell. It cannot fail: layouts are made so that their largest values fit.
//!
//! What it is not: a TL-B compiler. Layouts are written by hand beside the types that they fill.

use cocoon_units::Nano;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, CellSlice, DynCell, HashBytes, Load, Store};
use tycho_types::dict::{Dict, LoadDictKey, StoreDictKey};
use tycho_types::error::Error as CellError;
use tycho_types::models::StdAddr;
use tycho_types::num::Tokens;

use crate::address::Address;

/// Why a cell is not what it should be. `what` names the layout, `field` the part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It ends before the field, or a reference is missing.
    #[error("{what}: the cell ends before {field}")]
    Short {
        /// Which layout.
        what: &'static str,
        /// Which part of it.
        field: &'static str,
    },
    /// The field is there, and no value of its type.
    #[error("{what}: {field} cannot be read: {reason}")]
    Malformed {
        /// Which layout.
        what: &'static str,
        /// Which part of it.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something follows the last field.
    #[error("{what}: {bits} bits and {refs} references are left over")]
    LeftOver {
        /// Which layout.
        what: &'static str,
        /// Bits after the last field.
        bits: u16,
        /// References after the last field.
        refs: u8,
    },
    /// An amount beyond 2^64 nanoTON, of which there are none.
    #[error("{what}: {field} is more money than there is")]
    Amount {
        /// Which layout.
        what: &'static str,
        /// Which part of it.
        field: &'static str,
    },
    /// More entries than we read.
    #[error("{what}: {field} has more than {max} entries")]
    TooMany {
        /// Which layout.
        what: &'static str,
        /// Which part of it.
        field: &'static str,
        /// How many are read.
        max: usize,
    },
    /// Parameters of a generation that we do not know.
    #[error("parameters of version {0}; this program knows version 3 only: update it")]
    Version(u8),
    /// Another message than the one that was asked for, or one that no contract knows.
    #[error("{what}: operation {op:08x} is not one of its messages")]
    Operation {
        /// Whose messages.
        what: &'static str,
        /// What was found.
        op: u32,
    },
}

/// Takes fields off a cell.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    slice: CellSlice<'a>,
}

impl<'a> Reader<'a> {
    /// At the beginning of an ordinary cell.
    pub(crate) fn new(what: &'static str, cell: &'a DynCell) -> Result<Self, StateError> {
        let slice = CellSlice::new(cell).map_err(|error| failure(what, "the cell", &error))?;
        Ok(Self { what, slice })
    }

    /// At the beginning of a slice.
    pub(crate) const fn of(what: &'static str, slice: CellSlice<'a>) -> Self {
        Self { what, slice }
    }

    /// The next field.
    pub(crate) fn get<T: Field>(&mut self, field: &'static str) -> Result<T, StateError> {
        T::read(self, field)
    }

    /// The next `bits` bits as a number.
    pub(crate) fn uint(&mut self, bits: u16, field: &'static str) -> Result<u64, StateError> {
        self.take(field, |slice| slice.load_uint(bits))
    }

    /// The next `len` bytes.
    pub(crate) fn bytes(&mut self, len: u16, field: &'static str) -> Result<Vec<u8>, StateError> {
        let mut bytes = vec![0; usize::from(len)];
        self.take(field, |slice| slice.load_raw(&mut bytes, len.saturating_mul(8)).map(|_| ()))?;
        Ok(bytes)
    }

    /// A reader of the next reference.
    pub(crate) fn nested(&mut self, what: &'static str, field: &'static str) -> Result<Self, StateError> {
        Self::new(what, self.take(field, |slice| slice.load_reference())?)
    }

    /// A dictionary of at most `max` entries; `value` reads a leaf, which must end with it.
    pub(crate) fn dict<K: LoadDictKey + StoreDictKey, V>(
        &mut self,
        field: &'static str,
        max: usize,
        mut value: impl FnMut(&mut Reader<'_>) -> Result<V, StateError>,
    ) -> Result<Vec<(K, V)>, StateError> {
        let dict: Dict<K, ()> = self.take(field, Dict::load_from)?;
        let mut entries = Vec::new();
        for entry in dict.raw_iter() {
            let (key, leaf) = entry.map_err(|error| failure(self.what, field, &error))?;
            if entries.len() == max {
                return Err(StateError::TooMany { what: self.what, field, max });
            }
            let key = K::load_from_data(&key).ok_or_else(|| self.malformed(field, "a key of the dictionary"))?;
            let mut reader = Reader::of(self.what, leaf);
            let value = value(&mut reader)?;
            reader.end()?;
            entries.push((key, value));
        }
        Ok(entries)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.slice.is_data_empty() && self.slice.is_refs_empty()
    }

    /// How many bits are left.
    pub(crate) fn bits_left(&self) -> u16 {
        self.slice.size_bits()
    }

    /// How many references are left.
    pub(crate) fn refs_left(&self) -> u8 {
        self.slice.size_refs()
    }

    /// Whether the next `bits` bits are there and zero; they stay.
    pub(crate) fn starts_with_zero_bits(&self, bits: u16) -> bool {
        self.slice.get_uint(0, bits) == Ok(0)
    }

    /// What is left, as a cell.
    pub(crate) fn rest(self) -> Cell {
        rest(self.slice)
    }

    /// Nothing is left.
    pub(crate) fn end(self) -> Result<(), StateError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(StateError::LeftOver { what: self.what, bits: self.slice.size_bits(), refs: self.slice.size_refs() })
    }

    /// An error of this layout.
    pub(crate) const fn malformed(&self, field: &'static str, reason: &'static str) -> StateError {
        StateError::Malformed { what: self.what, field, reason }
    }

    /// The layout that is read.
    pub(crate) const fn what(&self) -> &'static str {
        self.what
    }

    /// The next field, by a loader of `tycho_types`.
    pub(crate) fn take<T>(
        &mut self,
        field: &'static str,
        load: impl FnOnce(&mut CellSlice<'a>) -> Result<T, CellError>,
    ) -> Result<T, StateError> {
        load(&mut self.slice).map_err(|error| failure(self.what, field, &error))
    }
}

fn failure(what: &'static str, field: &'static str, error: &CellError) -> StateError {
    let reason = match error {
        CellError::CellUnderflow => return StateError::Short { what, field },
        CellError::UnexpectedExoticCell | CellError::UnexpectedOrdinaryCell => "a pruned or special cell",
        CellError::InvalidTag => "an unknown kind",
        CellError::CellOverflow
        | CellError::InvalidCell
        | CellError::InvalidData
        | CellError::EmptyProof
        | CellError::DepthOverflow
        | CellError::InvalidSignature
        | CellError::InvalidPublicKey
        | CellError::IntOverflow
        | CellError::Cancelled
        | CellError::Unbalanced => "not a valid value",
    };
    StateError::Malformed { what, field, reason }
}

/// What is left of a slice, as a cell of its own.
pub(crate) fn rest(slice: CellSlice<'_>) -> Cell {
    CellBuilder::build_from(slice).expect("what came from one cell fits one cell")
}

/// Puts fields into a cell.
#[derive(Debug, Default)]
pub(crate) struct Writer(CellBuilder);

/// The invariant of [`Writer`].
const FITS: &str = "every layout fits a cell with its largest values";

impl Writer {
    /// An empty cell.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A message body: its operation and its query.
    pub(crate) fn message(op: u32, query_id: u64) -> Self {
        Self::new().put(&op).put(&query_id)
    }

    /// One more field.
    #[must_use]
    pub(crate) fn put(mut self, field: &impl Field) -> Self {
        field.write(&mut self);
        self
    }

    /// The lowest `bits` bits of a number.
    #[must_use]
    pub(crate) fn uint(mut self, bits: u16, value: u64) -> Self {
        self.0.store_uint(value, bits).expect(FITS);
        self
    }

    /// Bytes as they are.
    #[must_use]
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let bits = u16::try_from(bytes.len().saturating_mul(8)).expect(FITS);
        self.0.store_raw(bytes, bits).expect(FITS);
        self
    }

    /// A dictionary of entries in ascending order of their keys; `value` writes a leaf.
    #[must_use]
    pub(crate) fn dict<K, V>(self, entries: impl IntoIterator<Item = (K, V)>, value: impl Fn(&V) -> Cell) -> Self
    where
        K: StoreDictKey + Ord,
    {
        let leaves: Vec<(K, Cell)> = entries.into_iter().map(|(key, entry)| (key, value(&entry))).collect();
        let slices = leaves.iter().map(|(key, leaf)| (key, leaf.as_slice().expect("a leaf is an ordinary cell")));
        let slices: Vec<(&K, CellSlice<'_>)> = slices.collect();
        self.store(&Dict::<K, CellSlice<'_>>::try_from_sorted_slice(&slices).expect(FITS))
    }

    /// Anything that `tycho_types` can write.
    #[must_use]
    pub(crate) fn store(mut self, value: &impl Store) -> Self {
        value.store_into(&mut self.0, Cell::empty_context()).expect(FITS);
        self
    }

    /// The cell.
    pub(crate) fn cell(self) -> Cell {
        self.0.build().expect("no reference is as deep as 65535 cells")
    }
}

/// A value of one type of TL-B: how it is read, written and shown.
pub(crate) trait Field: Sized {
    /// Takes it off a cell.
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError>;
    /// Puts it into a cell.
    fn write(&self, writer: &mut Writer);
    /// For people.
    fn show(&self) -> String;
}

macro_rules! number {
    ($($ty:ty, $load:ident, $store:ident;)*) => {$(
        impl Field for $ty {
            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
                reader.take(field, |slice| slice.$load())
            }

            fn write(&self, writer: &mut Writer) {
                writer.0.$store(*self).expect(FITS);
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

number! {
    bool, load_bit, store_bit;
    u8, load_u8, store_u8;
    u32, load_u32, store_u32;
    u64, load_u64, store_u64;
}

/// `Coins`, in its only form without leading zeroes.
impl Field for Nano {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        let before = reader.bits_left();
        let tokens = reader.take(field, Tokens::load_from)?;
        let used = before.saturating_sub(reader.bits_left());
        if tokens.bit_len() != Some(used) {
            return Err(reader.malformed(field, "an amount with leading zeroes"));
        }
        let nano = u64::try_from(tokens.into_inner());
        nano.map(Self::new).map_err(|_| StateError::Amount { what: reader.what, field })
    }

    fn write(&self, writer: &mut Writer) {
        Tokens::new(self.get().into()).store_into(&mut writer.0, Cell::empty_context()).expect(FITS);
    }

    fn show(&self) -> String {
        format!("{} TON", self.ton())
    }
}

impl Field for Address {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        let addr = reader.take(field, StdAddr::load_from)?;
        // The chain has none since version 10, and two forms of one address would be two addresses here.
        if addr.anycast.is_some() {
            return Err(reader.malformed(field, "an address with anycast"));
        }
        Ok(Self::from(&addr))
    }

    fn write(&self, writer: &mut Writer) {
        StdAddr::from(*self).store_into(&mut writer.0, Cell::empty_context()).expect(FITS);
    }

    fn show(&self) -> String {
        self.raw()
    }
}

/// `uint256` as big-endian bytes: a hash or a public key.
impl Field for [u8; 32] {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        reader.take(field, |slice| slice.load_u256()).map(|hash| hash.0)
    }

    fn write(&self, writer: &mut Writer) {
        writer.0.store_u256(&HashBytes(*self)).expect(FITS);
    }

    fn show(&self) -> String {
        hex::encode(self)
    }
}

/// `^Cell`.
impl Field for Cell {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        reader.take(field, |slice| slice.load_reference_cloned())
    }

    fn write(&self, writer: &mut Writer) {
        writer.0.store_reference(self.clone()).expect(FITS);
    }

    fn show(&self) -> String {
        format!("cell {}", self.repr_hash())
    }
}

/// `Maybe T`.
impl<T: Field> Field for Option<T> {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        if bool::read(reader, field)? { T::read(reader, field).map(Some) } else { Ok(None) }
    }

    fn write(&self, writer: &mut Writer) {
        self.is_some().write(writer);
        if let Some(value) = self {
            value.write(writer);
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Field::show)
    }
}

/// The extension that our contracts append to v3's storage: absent, or one bit and a reference.
pub(crate) fn read_ext<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<Option<Reader<'a>>, StateError> {
    if reader.is_empty() || !reader.get::<bool>("extension")? {
        return Ok(None);
    }
    reader.nested(what, "extension").map(Some)
}

/// The operation of a body, and the reader after it.
pub(crate) fn op_of<'a>(what: &'static str, body: &'a Cell) -> Result<(u32, Reader<'a>), StateError> {
    let mut reader = Reader::new(what, body.as_ref())?;
    Ok((reader.get("operation")?, reader))
}
