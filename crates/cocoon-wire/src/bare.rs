//! What every generated constructor can do.

use bytes::Bytes;

use crate::Encoded;
use crate::reader::{DecodeError, Reader};
use crate::writer::Writer;

/// A constructor of the scheme.
pub(crate) trait Bare: Sized {
    /// Its id, which precedes it where it is boxed.
    const ID: u32;
    /// The fewest bytes its fields can take.
    const SIZE_MIN: usize;

    /// Reads the fields.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// Writes the fields.
    fn write(&self, writer: &mut Writer);

    /// Writes the id and the fields.
    fn write_boxed(&self, writer: &mut Writer) {
        writer.u32(Self::ID);
        self.write(writer);
    }

    /// A whole message.
    fn encode(&self) -> Encoded {
        let mut writer = Writer::default();
        self.write_boxed(&mut writer);
        writer.finish()
    }

    /// The rest of a message whose id was read.
    fn read_last(mut reader: Reader) -> Result<Self, DecodeError> {
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    /// A whole message that can be nothing else.
    fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            id if id == Self::ID => Self::read_last(reader),
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }
}
