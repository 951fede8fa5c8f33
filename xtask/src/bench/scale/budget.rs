//! What a stream or a session may take, as the roles' own `limits.rs` say it: read from the source, so that it stands in one
//! place and this program depends on no role.

use anyhow::{Context as _, Result};

use crate::shell::root;

/// What one open stream may take of a role's memory, in bytes.
pub(super) fn stream_bytes(role: &str) -> Result<u64> {
    constant(&format!("cocoon-{role}"), "STREAM_BYTES")
}

/// `const NAME: usize = N << S;` of a crate's `limits.rs`.
pub(super) fn constant(krate: &str, name: &str) -> Result<u64> {
    let file = root().join("crates").join(krate).join("src/limits.rs");
    let text = std::fs::read_to_string(&file)?;
    value(&text, name).with_context(|| format!("{} has no `const {name}: usize = N << S`", file.display()))
}

fn value(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("const {name}: usize = "))?;
    let (value, _) = rest.split_once(';')?;
    match value.split_once(" << ") {
        Some((number, shift)) => number.parse::<u64>().ok()?.checked_shl(shift.parse().ok()?),
        None => value.replace('_', "").parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_as_they_are_written() {
        let text = "/// Why.\npub const STREAM_BYTES: usize = 12 << 10;\nconst PLAIN: usize = 1_024;\n";
        assert_eq!(value(text, "STREAM_BYTES"), Some(12 << 10));
        assert_eq!(value(text, "PLAIN"), Some(1024));
        assert_eq!(value(text, "OTHER"), None);
    }
}
