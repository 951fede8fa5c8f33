//! Bodies of the messages that contracts take, typed: one struct a message, one enum a contract.
//!
//! A body is `op:uint32 query_id:uint64` and the fields in order; nothing may follow (exit code 9). A message is
//! written down once, by `messages!`, which makes its writer, its reader and its words. What contracts send is in
//! [`crate::contract::note`]; messages with a signature of the proxy are in [`crate::contract::signed`].

pub mod client;
pub mod proxy;
pub mod root;
pub mod steward;
pub mod wallet;
pub mod worker;

use tycho_types::cell::Cell;

use super::codec::{Reader, StateError, Writer};
use crate::limits::COMMENT_BYTES_MAX;

/// A field of a message for people: its name and its value.
pub type Line = (&'static str, String);

/// Structs of messages and the enum of them all.
macro_rules! messages {
    (
        $(#[$all_doc:meta])* pub enum $all:ident of $what:literal;
        $(
            $(#[$doc:meta])*
            $name:ident = $op:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty),* $(,)? }
        )*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                /// Chosen by the sender; what comes of the message carries it too.
                pub query_id: u64,
                $($(#[$field_doc])* pub $field: $ty,)*
            }

            impl $name {
                /// Its operation.
                pub const OP: u32 = $crate::contract::op::$op;

                /// The body.
                #[must_use]
                pub fn to_cell(&self) -> tycho_types::cell::Cell {
                    $crate::contract::codec::Writer::message(Self::OP, self.query_id)$(.put(&self.$field))*.cell()
                }

                /// Reads a body.
                ///
                /// # Errors
                ///
                /// When it is another message, or is not its layout to the bit.
                pub fn parse(body: &tycho_types::cell::Cell) -> Result<Self, $crate::contract::StateError> {
                    let (op, reader) = $crate::contract::codec::op_of($what, body)?;
                    if op == Self::OP {
                        return Self::read(reader);
                    }
                    Err($crate::contract::StateError::Operation { what: $what, op })
                }

                fn read(
                    mut reader: $crate::contract::codec::Reader<'_>,
                ) -> Result<Self, $crate::contract::StateError> {
                    let message = Self {
                        query_id: reader.get("query id")?,
                        $($field: reader.get(stringify!($field))?,)*
                    };
                    reader.end()?;
                    Ok(message)
                }
            }

            impl From<$name> for $all {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )*

        $(#[$all_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $all {
            $($(#[$doc])* $name($name),)*
        }

        impl $all {
            /// Reads the body of any of them.
            ///
            /// # Errors
            ///
            /// When it is none of them, or is not its layout to the bit.
            pub fn parse(body: &tycho_types::cell::Cell) -> Result<Self, $crate::contract::StateError> {
                let (op, reader) = $crate::contract::codec::op_of($what, body)?;
                match op {
                    $($name::OP => $name::read(reader).map(Self::$name),)*
                    _ => Err($crate::contract::StateError::Operation { what: $what, op }),
                }
            }

            /// The body.
            #[must_use]
            pub fn to_cell(&self) -> tycho_types::cell::Cell {
                match self {
                    $(Self::$name(message) => message.to_cell(),)*
                }
            }

            /// Its operation.
            #[must_use]
            pub const fn op(&self) -> u32 {
                match self {
                    $(Self::$name(_) => $name::OP,)*
                }
            }

            /// Its fields in words, without the query id.
            #[must_use]
            pub fn lines(&self) -> Vec<$crate::contract::message::Line> {
                match self {
                    $(Self::$name(message) => {
                        let $name { query_id: _, $($field),* } = message;
                        vec![$((stringify!($field), $crate::contract::codec::Field::show($field))),*]
                    })*
                }
            }
        }
    };
}
use messages;

/// A comment, as wallets show it: `0:uint32` and text. Contracts take single letters.
///
/// # Panics
///
/// Never: a text that does not fit one cell is cut.
#[must_use]
pub fn comment(text: &str) -> Cell {
    // 1023 bits less the 32 of the operation.
    const FITS: usize = 123;
    let end = text.floor_char_boundary(FITS);
    Writer::new().put(&0_u32).bytes(text.get(..end).unwrap_or_default().as_bytes()).cell()
}

/// The text of a comment, which may go on in a chain of cells. `None` for every other body.
#[must_use]
pub fn parse_comment(body: &Cell) -> Option<String> {
    let mut reader = Reader::new("comment", body.as_ref()).ok()?;
    let op: u32 = reader.get("operation").ok()?;
    if op != 0 {
        return None;
    }
    let mut text = Vec::new();
    loop {
        let bits = reader.bits_left();
        text.extend(reader.bytes(bits / 8, "text").ok()?);
        match reader.refs_left() {
            0 if reader.is_empty() => break,
            1 if reader.bits_left() == 0 && text.len() < COMMENT_BYTES_MAX => {
                reader = reader.nested("comment", "text").ok()?
            }
            _ => return None,
        }
    }
    text.truncate(COMMENT_BYTES_MAX);
    String::from_utf8(text).ok()
}

/// The operation of a body, where it has one.
pub fn op_of(body: &Cell) -> Result<u32, StateError> {
    super::codec::op_of("message", body).map(|(op, _)| op)
}
