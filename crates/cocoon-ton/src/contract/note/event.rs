//! Events of the steward: external messages that tell everybody what is to change, what changed, and who decides.
//!
//! `event#_ op:uint32 id:uint32 details`, where the details are a reference to the change (forwarded, executed,
//! cancelled), the pending change itself, or the values before and after.

use tycho_types::cell::Cell;

use crate::address::Address;
use crate::contract::codec::{Field as _, StateError, Writer, op_of};
use crate::contract::message::{Line, steward};
use crate::contract::op;
use crate::contract::steward::Pending;

const WHAT: &str = "event of a steward";

/// An event of the steward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The number of the pending change; 0 where there is none.
    pub id: u32,
    /// What happened.
    pub details: EventDetails,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventDetails {
    /// A change went to the root at once.
    Forwarded(Cell),
    /// A change waits from now on.
    Stored(Pending),
    /// A change that waited went to the root.
    Executed(Cell),
    /// A change that waited was dropped.
    Cancelled(Cell),
    /// The root sent a change back.
    Refused {
        /// The change's operation.
        op: u32,
        /// The change's query.
        query_id: u64,
    },
    /// Somebody may become the owner.
    OwnerProposed {
        /// The owner.
        before: Address,
        /// Who must accept.
        after: Address,
    },
    /// Somebody became the owner.
    OwnerChanged {
        /// The owner before.
        before: Address,
        /// The owner now.
        after: Address,
    },
    /// The delay of the lock changed.
    DelayChanged {
        /// In seconds, before.
        before_s: u32,
        /// In seconds, now.
        after_s: u32,
    },
}

impl Event {
    /// Reads the body of an external message of a steward.
    ///
    /// # Errors
    ///
    /// When it is no event, or is not its layout to the bit.
    pub fn parse(body: &Cell) -> Result<Self, StateError> {
        let (op, mut reader) = op_of(WHAT, body)?;
        let id = reader.get("number")?;
        let details = match op {
            op::STEWARD_EVENT_FORWARDED => EventDetails::Forwarded(reader.get("change")?),
            op::STEWARD_EVENT_EXECUTED => EventDetails::Executed(reader.get("change")?),
            op::STEWARD_EVENT_CANCELLED => EventDetails::Cancelled(reader.get("change")?),
            op::STEWARD_EVENT_STORED => {
                EventDetails::Stored(Pending { due_unix_s: reader.get("time")?, message: reader.get("change")? })
            }
            op::STEWARD_EVENT_REFUSED => {
                EventDetails::Refused { op: reader.get("refused operation")?, query_id: reader.get("refused query")? }
            }
            op::STEWARD_EVENT_OWNER_PROPOSED => {
                EventDetails::OwnerProposed { before: reader.get("owner before")?, after: reader.get("owner after")? }
            }
            op::STEWARD_EVENT_OWNER_CHANGED => {
                EventDetails::OwnerChanged { before: reader.get("owner before")?, after: reader.get("owner after")? }
            }
            op::STEWARD_EVENT_DELAY_CHANGED => EventDetails::DelayChanged {
                before_s: reader.get("delay before")?,
                after_s: reader.get("delay after")?,
            },
            _ => return Err(StateError::Operation { what: WHAT, op }),
        };
        reader.end()?;
        Ok(Self { id, details })
    }

    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let head = Writer::new().put(&self.details.op()).put(&self.id);
        match &self.details {
            EventDetails::Forwarded(change) | EventDetails::Executed(change) | EventDetails::Cancelled(change) => {
                head.put(change)
            }
            EventDetails::Stored(pending) => head.put(&pending.due_unix_s).put(&pending.message),
            EventDetails::Refused { op, query_id } => head.put(op).put(query_id),
            EventDetails::OwnerProposed { before, after } | EventDetails::OwnerChanged { before, after } => {
                head.put(before).put(after)
            }
            EventDetails::DelayChanged { before_s, after_s } => head.put(before_s).put(after_s),
        }
        .cell()
    }

    /// Its fields in words.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.id != 0 {
            lines.push(("pending_change", self.id.to_string()));
        }
        match &self.details {
            EventDetails::Forwarded(change) | EventDetails::Executed(change) | EventDetails::Cancelled(change) => {
                lines.push(("change", steward::describe(change)));
            }
            EventDetails::Stored(pending) => {
                lines.push(("change", steward::describe(&pending.message)));
                lines.push(("due_unix_s", pending.due_unix_s.show()));
            }
            EventDetails::Refused { op, query_id } => {
                lines.push(("change", op::words(*op).map_or_else(|| format!("{op:08x}"), ToOwned::to_owned)));
                lines.push(("query_id", query_id.show()));
            }
            EventDetails::OwnerProposed { before, after } | EventDetails::OwnerChanged { before, after } => {
                lines.extend([("before", before.show()), ("after", after.show())]);
            }
            EventDetails::DelayChanged { before_s, after_s } => {
                lines.extend([("before", format!("{before_s} s")), ("after", format!("{after_s} s"))]);
            }
        }
        lines
    }
}

impl EventDetails {
    /// Its operation.
    #[must_use]
    pub const fn op(&self) -> u32 {
        match self {
            Self::Forwarded(_) => op::STEWARD_EVENT_FORWARDED,
            Self::Stored(_) => op::STEWARD_EVENT_STORED,
            Self::Executed(_) => op::STEWARD_EVENT_EXECUTED,
            Self::Cancelled(_) => op::STEWARD_EVENT_CANCELLED,
            Self::Refused { .. } => op::STEWARD_EVENT_REFUSED,
            Self::OwnerProposed { .. } => op::STEWARD_EVENT_OWNER_PROPOSED,
            Self::OwnerChanged { .. } => op::STEWARD_EVENT_OWNER_CHANGED,
            Self::DelayChanged { .. } => op::STEWARD_EVENT_DELAY_CHANGED,
        }
    }
}
