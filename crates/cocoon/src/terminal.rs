//! What people see: standard output for results, standard error for everything about them.
//!
//! A closed pipe (`cocoon model list | head -1`) is not an error: nobody is left to tell.

use std::io::{self, IsTerminal as _, Write as _};

/// Prints one line to standard output.
#[cfg(any(feature = "chain-tools", feature = "client", feature = "proxy", feature = "worker"))]
pub(crate) fn line(text: &str) {
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints text as it comes, without a line end, and shows it at once.
///
/// Fails when standard output is closed, so that a stream can stop being read.
#[cfg(feature = "dev")]
pub(crate) fn stream(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Prints one line to standard error, dimmed when a person is looking.
#[cfg(feature = "dev")]
pub(crate) fn dim(text: &str) {
    if io::stderr().is_terminal() {
        note(&format!("\u{1b}[2m{text}\u{1b}[0m"));
    } else {
        note(text);
    }
}

/// Prints an error and its causes, once.
pub(crate) fn error(error: &anyhow::Error) {
    let mark = if io::stderr().is_terminal() { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
    let mut text = format!("{mark} {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        // Libraries often repeat their source in their own message.
        let cause = cause.to_string();
        if !said.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
            said = cause;
        }
    }
    note(&text);
}

/// Lays rows out in columns, two blanks apart, the last column ragged.
#[cfg(any(feature = "chain-tools", feature = "dev"))]
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A count of bytes as people read it: `98.4 MB`.
#[cfg(feature = "dev")]
pub(crate) fn bytes(count: u64) -> String {
    let megabytes = count / 1_000_000;
    let tenths = count % 1_000_000 / 100_000;
    format!("{megabytes}.{tenths} MB")
}

#[cfg(all(test, feature = "dev"))]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["role".to_owned(), "address".to_owned()], vec!["worker".to_owned(), "-".to_owned()]];
        assert_eq!(table(&rows), "  role    address\n  worker  -");
    }

    #[test]
    fn bytes_are_megabytes() {
        assert_eq!(bytes(98_362_432), "98.3 MB");
    }
}
