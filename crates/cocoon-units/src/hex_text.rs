//! Bytes as lower-case hex in JSON: `#[serde(with = "cocoon_units::hex_text")]`.
//!
//! The same text as the `hex` crate's own module, which makes it digit by digit; receipts and books are written with every
//! request. It reads with that crate, so it takes capitals as well.

use serde::{Deserializer, Serializer};

/// Up to this many bytes are written without a detour over the heap: hashes, keys and signatures.
const SHORT: usize = 64;

/// Writes the bytes as hex, two digits each.
///
/// # Errors
/// As the serializer says.
pub fn serialize<T: AsRef<[u8]>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = bytes.as_ref();
    let digits = bytes.len().saturating_mul(2);
    let mut short = [0; SHORT * 2];
    let mut long = Vec::new();
    let text = match short.get_mut(..digits) {
        Some(text) => text,
        None => {
            long.resize(digits, 0);
            long.as_mut_slice()
        }
    };
    hex::encode_to_slice(bytes, text).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(std::str::from_utf8(text).map_err(serde::ser::Error::custom)?)
}

/// Reads hex of exactly as many bytes as the type has.
///
/// # Errors
/// When the text is no hex, or of another length.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: hex::FromHex,
    T::Error: std::fmt::Display,
    D: Deserializer<'de>,
{
    hex::serde::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "super")]
        short: [u8; 32],
        #[serde(with = "super")]
        long: Vec<u8>,
    }

    #[test]
    fn the_text_is_that_of_the_hex_crate() {
        for len in [0, 1, 64, 65, 1_300] {
            let long: Vec<u8> = (0..=255).cycle().take(len).collect();
            let both = Both { short: [0xab; 32], long };
            let text = serde_json::to_string(&both).unwrap();
            assert_eq!(text, format!(r#"{{"short":"{}","long":"{}"}}"#, "ab".repeat(32), hex::encode(&both.long)));
            assert_eq!(serde_json::from_str::<Both>(&text).unwrap(), both);
        }
    }
}
