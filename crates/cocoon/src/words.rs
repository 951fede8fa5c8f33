//! Facts in words: rows of a label and a text, moments, and texts of strangers made harmless.
//!
//! Texts that a stranger wrote go through [`safe`] before a terminal sees them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::limits::STRANGER_TEXT_CHARS;

/// Rows of a label and a text.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    rows: Vec<(String, String)>,
}

impl Sheet {
    /// Adds a row.
    pub(crate) fn row(&mut self, label: &str, text: impl AsRef<str>) -> &mut Self {
        self.rows.push((label.to_owned(), safe(text.as_ref())));
        self
    }

    /// Adds bytes in hexadecimal; all zeros say so.
    #[cfg(feature = "attest")]
    pub(crate) fn bytes(&mut self, label: &str, bytes: &[u8]) -> &mut Self {
        let text = if bytes.iter().all(|byte| *byte == 0) { "zero".to_owned() } else { hex::encode(bytes) };
        self.row(label, text)
    }

    /// The rows, labels lined up.
    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let lines = self.rows.iter().map(|(label, text)| format!("  {label:<width$}  {text}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A text that can do nothing to a terminal and does not fill it: control and invisible characters escaped, the rest
/// cut.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == STRANGER_TEXT_CHARS {
            out.push('…');
            break;
        }
        if is_plain(character) {
            out.push(character);
        } else {
            out.extend(character.escape_unicode());
        }
    }
    out
}

/// The same line by line, for texts whose lines are ours or harmless.
#[cfg(feature = "attest")]
pub(crate) fn safe_lines(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

/// Letters, digits, signs and blanks: nothing that moves a cursor, hides or turns what stands beside it.
fn is_plain(character: char) -> bool {
    let turns =
        matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || turns)
}

/// A moment as people and tools read it.
pub(crate) fn moment(unix_s: u64) -> String {
    let at = i64::try_from(unix_s).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = at.and_then(|at| at.format(&Rfc3339).ok());
    text.map_or_else(|| unix_s.to_string(), |text| format!("{text} ({unix_s})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_strangers_do_nothing_to_a_terminal() {
        assert_eq!(safe("plain text, ümläut"), "plain text, ümläut");
        assert_eq!(safe("a\u{1b}[31mb\nc\u{202e}"), "a\\u{1b}[31mb\\u{a}c\\u{202e}");
        let long = safe(&"x".repeat(10 * STRANGER_TEXT_CHARS));
        assert_eq!(long.chars().count(), STRANGER_TEXT_CHARS + 1);
    }

    #[test]
    fn moments_are_read_by_people_and_tools() {
        assert_eq!(moment(1_795_335_274), "2026-11-22T08:14:34Z (1795335274)");
    }
}
