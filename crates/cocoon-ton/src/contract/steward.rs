//! The steward's state: who governs the root, and which changes wait for their time.
//!
//! ```text
//! steward#_ owner:MsgAddressInt pending_owner:(Maybe MsgAddressInt) root:MsgAddressInt
//!   delay:uint32 next_id:uint32 pending:(HashmapE 32 ^Pending)
//! pending#_ due:uint32 message:^Cell
//! ```

use std::collections::BTreeMap;

use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer};
use super::derive::StateInit;
use crate::address::Address;
use crate::limits::PENDING_CHANGES_MAX;

const WHAT: &str = "state of a steward";

/// The state of a steward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StewardState {
    /// Who may propose changes.
    pub owner: Address,
    /// Who may become the owner by accepting.
    pub pending_owner: Option<Address>,
    /// The root that it governs.
    pub root: Address,
    /// Seconds that a change waits.
    pub delay_s: u32,
    /// The number that the next waiting change gets.
    pub next_id: u32,
    /// Changes that wait, by number.
    pub pending: BTreeMap<u32, Pending>,
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// From when it may be executed.
    pub due_unix_s: u32,
    /// The body of a message to the root, or of the steward to itself.
    pub message: Cell,
}

impl StewardState {
    /// A new steward.
    #[must_use]
    pub const fn initial(owner: Address, root: Address, delay_s: u32) -> Self {
        Self { owner, pending_owner: None, root, delay_s, next_id: 0, pending: BTreeMap::new() }
    }

    /// Reads the data of a steward.
    ///
    /// # Errors
    ///
    /// When it is not the layout to the bit, or more than [`PENDING_CHANGES_MAX`] changes wait.
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let state = Self {
            owner: reader.get("owner")?,
            pending_owner: reader.get("pending owner")?,
            root: reader.get("root")?,
            delay_s: reader.get("delay")?,
            next_id: reader.get("next number")?,
            pending: reader.dict("pending changes", PENDING_CHANGES_MAX, Pending::read)?.into_iter().collect(),
        };
        reader.end()?;
        Ok(state)
    }

    /// The data cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        Writer::new()
            .put(&self.owner)
            .put(&self.pending_owner)
            .put(&self.root)
            .put(&self.delay_s)
            .put(&self.next_id)
            .dict(self.pending.iter().map(|(id, pending)| (*id, pending)), |pending| pending.to_leaf())
            .cell()
    }

    /// Code and data to deploy it with.
    #[must_use]
    pub fn state_init(&self, code: Cell) -> StateInit {
        StateInit { code, data: self.to_cell() }
    }
}

impl Pending {
    fn read(leaf: &mut Reader<'_>) -> Result<Self, StateError> {
        let mut reader = leaf.nested("pending change", "pending change")?;
        let pending = Self { due_unix_s: reader.get("time")?, message: reader.get("message")? };
        reader.end()?;
        Ok(pending)
    }

    fn to_leaf(&self) -> Cell {
        let pending = Writer::new().put(&self.due_unix_s).put(&self.message).cell();
        Writer::new().put(&pending).cell()
    }
}
