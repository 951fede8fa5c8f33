//! One change of the books, as it stands in the file.
//!
//! JSON, one value a record: the owner may want to read what was paid for. Reading is strict, since a change that was
//! skipped would be a wrong sum.

use cocoon_ton::Address;
use cocoon_units::{AdjustedTokens, Nano};
use serde::{Deserialize, Serialize};

use super::{
    books::{Ended, Entry, Row, RowKey},
    day::Day,
};

/// A change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    /// A request is about to be sent.
    Hold {
        contract: Option<Address>,
        #[serde(with = "cocoon_units::hex_text")]
        id: [u8; 32],
        entry: Entry,
    },
    /// It is over.
    End { contract: Option<Address>, ended: Ended },
    /// A whole account: what it began with, or what it had come to when the file was rewritten.
    Account { contract: Option<Address>, counted: AdjustedTokens, spent: (Day, Nano) },
    /// What a key used of a model on a day, when the file was rewritten.
    Row { key: RowKey, row: Row },
}

impl Record {
    /// `None` never happens: there is no value in a record that JSON cannot hold.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
