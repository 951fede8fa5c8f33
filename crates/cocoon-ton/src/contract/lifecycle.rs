//! Where a contract stands: open, closing, closed.

use std::fmt;

use super::codec::{Field, Reader, StateError, Writer};

/// The state that proxies, clients and workers share. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Lifecycle {
    /// It works.
    #[default]
    Normal,
    /// Its owner leaves, and others may still present what they hold until the delay is over. Workers never close
    /// slowly.
    Closing,
    /// It ended; only what it owes is still paid.
    Closed,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

/// `uint2`.
impl Field for Lifecycle {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        match reader.uint(2, field)? {
            0 => Ok(Self::Normal),
            1 => Ok(Self::Closing),
            2 => Ok(Self::Closed),
            _ => Err(reader.malformed(field, "an unknown state")),
        }
    }

    fn write(&self, writer: &mut Writer) {
        let state = match self {
            Self::Normal => 0,
            Self::Closing => 1,
            Self::Closed => 2,
        };
        *writer = std::mem::take(writer).uint(2, state);
    }

    fn show(&self) -> String {
        self.to_string()
    }
}
