//! Bytes that hold a prompt, an answer or a secret.

use std::fmt;

use bytes::Bytes;

/// Bytes that must not show up in a log, an error or a status page.
///
/// `Debug` prints the length only, and there is no `Display` and no `Serialize`.
/// Cloning is cheap (a reference count), and the bytes are not wiped when dropped: they are slices
/// of network buffers, which are shared.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sealed(Bytes);

impl Sealed {
    /// Seals bytes.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes; the caller now keeps the promise above.
    #[must_use]
    pub const fn expose(&self) -> &Bytes {
        &self.0
    }

    /// Gives the bytes up.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The same bytes in memory of their own: for a small piece that is kept, since a slice keeps the
    /// whole network buffer that it lies in.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Bytes> for Sealed {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Sealed {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        let sealed = Sealed::from(b"my secret".to_vec());
        assert_eq!(format!("{sealed:?}"), "Sealed(9 bytes)");
    }
}
