//! A progress bar on standard error: bytes, speed, time left. Silent when nobody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// What is shown of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A bar and notes.
    Shown,
    /// Nothing: it runs beside something that is shown.
    Hidden,
}

impl Progress {
    /// Prints a line, if anything is shown.
    pub(crate) fn note(self, text: &str) {
        match self {
            Self::Shown => terminal::note(text),
            Self::Hidden => {}
        }
    }

    /// A bar that starts at `done` of `total` bytes.
    pub(crate) fn bar(self, label: &'static str, done: u64, total: u64) -> ProgressBar {
        match self {
            Self::Shown => bar(label, done, total),
            Self::Hidden => ProgressBar::hidden(),
        }
    }
}

fn bar(label: &'static str, done: u64, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(label);
    let style = ProgressStyle::with_template("  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_position(done);
    bar.reset_eta();
    bar
}
