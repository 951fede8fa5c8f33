//! What get-methods take and leave.

use num_bigint::BigInt;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_vm::{OwnedCellSlice, RcStackValue, Stack};

use super::GetError;
use crate::address::Address;
use crate::contract::{Field as _, Reader, rest};
use crate::limits::{GET_METHOD_DEPTH_MAX, GET_METHOD_VALUES_MAX};

/// A value on the stack of a get-method.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackValue {
    /// Nothing.
    Null,
    /// An integer of 257 bits.
    Int(BigInt),
    /// What came of an overflow.
    NaN,
    /// A cell.
    Cell(Cell),
    /// A part of a cell, here as a cell of its own.
    Slice(Cell),
    /// A cell that is being made.
    Builder(Cell),
    /// Values in one.
    Tuple(Vec<Self>),
}

impl StackValue {
    /// An integer.
    pub fn int(value: impl Into<BigInt>) -> Self {
        Self::Int(value.into())
    }

    /// An unsigned integer of 256 bits, such as a hash or a key.
    #[must_use]
    pub fn hash(bytes: &[u8; 32]) -> Self {
        Self::Int(BigInt::from_bytes_be(num_bigint::Sign::Plus, bytes))
    }

    /// An address, as contracts take them: a slice.
    #[must_use]
    pub fn address(address: Address) -> Self {
        let cell = CellBuilder::build_from(tycho_types::models::StdAddr::from(address));
        Self::Slice(cell.expect("267 bits fit a cell"))
    }

    /// The integer.
    #[must_use]
    pub const fn as_int(&self) -> Option<&BigInt> {
        if let Self::Int(int) = self { Some(int) } else { None }
    }

    /// The integer, where it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        u64::try_from(self.as_int()?).ok()
    }

    /// The integer as a truth value: 0 is false, and contracts write -1 for true.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        self.as_int().map(|int| int != &BigInt::ZERO)
    }

    /// The integer as 32 bytes, where it is not negative and fits.
    #[must_use]
    pub fn as_hash(&self) -> Option<[u8; 32]> {
        let (sign, bytes) = self.as_int()?.to_bytes_be();
        let mut hash = [0; 32];
        let start = hash.len().checked_sub(bytes.len())?;
        hash.get_mut(start..)?.copy_from_slice(&bytes);
        (sign != num_bigint::Sign::Minus).then_some(hash)
    }

    /// The cell, or the slice as a cell.
    #[must_use]
    pub const fn as_cell(&self) -> Option<&Cell> {
        if let Self::Cell(cell) | Self::Slice(cell) = self { Some(cell) } else { None }
    }

    /// The slice as an address, where it is one and nothing more.
    #[must_use]
    pub fn as_address(&self) -> Option<Address> {
        let Self::Slice(slice) = self else { return None };
        let mut reader = Reader::new("address", slice.as_ref()).ok()?;
        let address = Address::read(&mut reader, "address").ok()?;
        reader.end().ok()?;
        Some(address)
    }

    /// The values within.
    #[must_use]
    pub fn as_tuple(&self) -> Option<&[Self]> {
        if let Self::Tuple(values) = self { Some(values) } else { None }
    }

    pub(super) fn into_vm(self) -> RcStackValue {
        match self {
            Self::Null => Stack::make_null(),
            Self::NaN => Stack::make_nan(),
            Self::Int(int) => RcStackValue::new_dyn_value(int),
            Self::Cell(cell) => RcStackValue::new_dyn_value(cell),
            Self::Slice(cell) => RcStackValue::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell)),
            Self::Builder(cell) => RcStackValue::new_dyn_value(builder(&cell)),
            Self::Tuple(values) => {
                RcStackValue::new_dyn_value(values.into_iter().map(Self::into_vm).collect::<Vec<_>>())
            }
        }
    }
}

fn builder(cell: &Cell) -> CellBuilder {
    let mut builder = CellBuilder::new();
    let slice = tycho_types::cell::CellSlice::new_allow_exotic(cell.as_ref());
    builder.store_slice(slice).expect("what is in a cell fits a cell");
    builder
}

/// What a method left. The machine's tuples may share parts, so that a small stack unfolds to a huge one: values are
/// counted as they unfold.
pub(super) fn from_vm(stack: &[RcStackValue]) -> Result<Vec<StackValue>, GetError> {
    let mut left = GET_METHOD_VALUES_MAX;
    stack.iter().map(|value| unfold(value, GET_METHOD_DEPTH_MAX, &mut left)).collect()
}

fn unfold(value: &RcStackValue, depth: usize, left: &mut usize) -> Result<StackValue, GetError> {
    *left = left.checked_sub(1).ok_or(GetError::Result("more values than are read"))?;
    if value.is_null() {
        return Ok(StackValue::Null);
    }
    if let Some(int) = value.as_int() {
        return Ok(StackValue::Int(int.clone()));
    }
    if let Some(cell) = value.as_cell() {
        return Ok(StackValue::Cell(cell.clone()));
    }
    if let Some(slice) = value.as_cell_slice() {
        return Ok(StackValue::Slice(rest(slice.apply())));
    }
    if let Some(builder) = value.as_cell_builder() {
        let cell = builder.clone().build().map_err(|_| GetError::Result("a builder of no cell"))?;
        return Ok(StackValue::Builder(cell));
    }
    if let Some(tuple) = value.as_tuple() {
        let depth = depth.checked_sub(1).ok_or(GetError::Result("tuples that nest too deep"))?;
        return tuple.iter().map(|value| unfold(value, depth, left)).collect::<Result<_, _>>().map(StackValue::Tuple);
    }
    if value.as_cont().is_some() {
        return Err(GetError::Result("a continuation"));
    }
    Ok(StackValue::NaN)
}
