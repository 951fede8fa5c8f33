//! What a command asks of a worker that runs: a file with one word, in the worker's folder.
//!
//! The worker has its wallet and its accounts to itself, so a command cannot cash beside it. Whoever can write the folder
//! can ask for no more than what the owner's commands do: money goes to the owner only.

use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

const FILE: &str = "earnings.errand";

/// Longest word, and some.
const BYTES_MAX: u64 = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Cash everything, whatever the fees.
    Cash,
    /// The same, then close the contracts, where this node's wallet may.
    Close,
}

impl Errand {
    const fn word(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Close => "close",
        }
    }
}

/// Asks the worker that runs in `folder`; it looks every two seconds.
///
/// # Errors
/// When the folder cannot be written.
pub fn leave_errand(folder: &Path, errand: Errand) -> io::Result<()> {
    std::fs::write(folder.join(FILE), errand.word())
}

/// Takes what was asked, once.
pub(super) async fn take(folder: &Path) -> Option<Errand> {
    let path = folder.join(FILE);
    spawn_blocking(move || read(path)).await.ok()?
}

fn read(path: PathBuf) -> Option<Errand> {
    let length = std::fs::metadata(&path).ok()?.len();
    let word = if length <= BYTES_MAX { std::fs::read_to_string(&path).ok() } else { None };
    // Taken before it is done: an errand that cannot be removed would be done for ever.
    std::fs::remove_file(&path).ok()?;
    let word = word?;
    let errand = [Errand::Cash, Errand::Close].into_iter().find(|errand| errand.word() == word.trim());
    if errand.is_none() {
        tracing::warn!("the file {FILE} asks for nothing that is known");
    }
    errand
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_errand_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(take(folder.path()).await, None);
        leave_errand(folder.path(), Errand::Close).unwrap();
        assert_eq!(take(folder.path()).await, Some(Errand::Close));
        assert_eq!(take(folder.path()).await, None);
        std::fs::write(folder.path().join(FILE), "dance").unwrap();
        assert_eq!(take(folder.path()).await, None);
        assert!(!folder.path().join(FILE).exists());
    }
}
