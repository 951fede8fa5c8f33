//! The body of a message that came back: what it was, and for the newer form also why.
//!
//! Old form: `ffffffff` and the first 256 bits of the body. New form, which a sender asks for:
//! `fffffffe ^body ^info phase:uint8 exit_code:int32 …`, with all of the body or its root cell.

use tycho_types::cell::Cell;

use crate::contract::codec::{StateError, op_of};

const WHAT: &str = "message that came back";
const OLD: u32 = 0xffff_ffff;
const NEW: u32 = 0xffff_fffe;

/// A message that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounced {
    /// Its body, or the beginning of it.
    pub body: Cell,
    /// Why; `None` in the old form, which does not say.
    pub by: Option<BouncedBy>,
}

/// What refused a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BouncedBy {
    /// There was no code to take it, or no gas.
    Nobody,
    /// The code, with this exit code.
    Code(i32),
    /// What the code wanted to send, with this result code.
    Actions(i32),
}

impl Bounced {
    /// Reads the body of a message that has its bounced flag set.
    ///
    /// # Errors
    ///
    /// When it is neither form.
    pub fn parse(body: &Cell) -> Result<Self, StateError> {
        let (op, mut reader) = op_of(WHAT, body)?;
        match op {
            OLD => Ok(Self { body: reader.rest(), by: None }),
            NEW => {
                let body = reader.get("body")?;
                let _info: Cell = reader.get("original message")?;
                let phase: u8 = reader.get("phase")?;
                let code = reader.get::<u32>("exit code")?.cast_signed();
                let by = match phase {
                    0 => BouncedBy::Nobody,
                    1 => BouncedBy::Code(code),
                    2 => BouncedBy::Actions(code),
                    _ => return Err(reader.malformed("phase", "an unknown one")),
                };
                Ok(Self { body, by: Some(by) })
            }
            _ => Err(StateError::Operation { what: WHAT, op }),
        }
    }
}
