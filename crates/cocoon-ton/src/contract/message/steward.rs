//! What a steward is told.
//!
//! `Batch` is a list of bodies, the first to act first: `batch#_ body:^Cell next:(Maybe ^Batch)`.

use tycho_types::cell::Cell;

use crate::address::Address;
use crate::contract::codec::{Field, Reader, StateError, Writer};
use crate::limits::STEWARD_BATCH_MAX;

super::messages! {
    /// A message to a steward.
    pub enum Message of "messages to a steward";

    /// Lists or unlists at once; every other change waits for the delay. By the owner.
    Act = STEWARD_ACT {
        /// What to do.
        changes: Batch,
    }
    /// Does what waited for long enough. By the owner.
    Execute = STEWARD_EXECUTE {
        /// The number under which it waits.
        id: u32,
    }
    /// Drops what waits. By the owner.
    Cancel = STEWARD_CANCEL {
        /// The number under which it waits.
        id: u32,
    }
    /// Names who may become the owner. By the owner.
    ProposeOwner = STEWARD_PROPOSE_OWNER {
        /// Who must accept.
        owner: Address,
    }
    /// Makes the proposed owner the owner. By the proposed owner.
    AcceptOwner = STEWARD_ACCEPT_OWNER {}
    /// Changes the delay; only as a change that itself waits.
    SetDelay = STEWARD_SET_DELAY {
        /// In seconds, a year at most.
        delay_s: u32,
    }
}

/// One to [`STEWARD_BATCH_MAX`] bodies for the root or the steward itself, the first to act first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch(Vec<Cell>);

impl Batch {
    /// A batch of these bodies.
    ///
    /// # Errors
    ///
    /// When there are none or too many.
    pub fn new(bodies: Vec<Cell>) -> Result<Self, StateError> {
        if bodies.is_empty() || bodies.len() > STEWARD_BATCH_MAX {
            let reason = "not between 1 and 32 changes: split it";
            return Err(StateError::Malformed { what: "batch", field: "changes", reason });
        }
        Ok(Self(bodies))
    }

    /// The bodies.
    #[must_use]
    pub fn bodies(&self) -> &[Cell] {
        &self.0
    }
}

impl Field for Batch {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        let mut bodies = Vec::new();
        let mut next = Some(reader.nested("batch", field)?);
        while let Some(mut batch) = next {
            if bodies.len() == STEWARD_BATCH_MAX {
                return Err(StateError::TooMany { what: "batch", field, max: STEWARD_BATCH_MAX });
            }
            bodies.push(batch.get("change")?);
            next = if batch.get("next change")? { Some(batch.nested("batch", "next change")?) } else { None };
            batch.end()?;
        }
        Self::new(bodies)
    }

    fn write(&self, writer: &mut Writer) {
        let list =
            self.0.iter().rev().fold(None, |next: Option<Cell>, body| Some(Writer::new().put(body).put(&next).cell()));
        list.expect("a batch has a body").write(writer);
    }

    fn show(&self) -> String {
        self.0.iter().map(describe).collect::<Vec<_>>().join("; ")
    }
}

/// A body in a batch or a pending change, in one line.
#[must_use]
pub fn describe(body: &Cell) -> String {
    let (op, lines) = match (super::root::Message::parse(body), SetDelay::parse(body)) {
        (Ok(message), _) => (message.op(), message.lines()),
        (_, Ok(set)) => (SetDelay::OP, vec![("delay_s", set.delay_s.to_string())]),
        _ => return format!("unknown change, {}", body.show()),
    };
    let words = crate::contract::op::words(op).unwrap_or_default();
    let fields: Vec<_> = lines.iter().map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
    if fields.is_empty() { words.to_owned() } else { format!("{words}: {}", fields.join(", ")) }
}
