//! Bytes of entries and snapshots: fixed little-endian numbers, and lengths before what has one.
//!
//! What is read has been unsealed, so it is what this program wrote. It is checked all the same.

use bytes::Bytes;
use cocoon_units::AdjustedTokens;

use crate::account::Credit;
use crate::reservation::{Run, Spent};

/// Appends to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.array(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.array(&value.to_le_bytes())
    }

    pub(crate) fn u128(&mut self, value: u128) -> &mut Self {
        self.array(&value.to_le_bytes())
    }

    /// A number of things that are in memory.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u64(u64::try_from(count).expect("what is in memory is counted in 64 bits"))
    }

    pub(crate) fn array<const N: usize>(&mut self, bytes: &[u8; N]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn tokens(&mut self, tokens: AdjustedTokens) -> &mut Self {
        self.u64(tokens.get())
    }

    pub(crate) fn credit(&mut self, credit: Credit) -> &mut Self {
        self.tokens(credit.charged).tokens(credit.secured)
    }

    pub(crate) fn spent(&mut self, spent: &Spent) -> &mut Self {
        self.array(&spent.id).u64(spent.run.0).u64(spent.opened_at).bytes(&spent.receipt)
    }
}

/// Takes from the front of a buffer; `None` when there is too little, or something else.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        self.slice().map(Bytes::copy_from_slice)
    }

    pub(crate) fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.slice()?).ok().map(Box::from)
    }

    pub(crate) fn tokens(&mut self) -> Option<AdjustedTokens> {
        self.u64().map(AdjustedTokens::new)
    }

    pub(crate) fn credit(&mut self) -> Option<Credit> {
        Some(Credit { charged: self.tokens()?, secured: self.tokens()? })
    }

    pub(crate) fn spent(&mut self) -> Option<Spent> {
        Some(Spent { id: self.array()?, run: Run(self.u64()?), opened_at: self.u64()?, receipt: self.bytes()? })
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
