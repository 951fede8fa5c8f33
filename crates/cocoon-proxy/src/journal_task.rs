//! The task that writes the books: one batch at a time, on a thread that may wait for the disk.
//!
//! While a batch is written the hub goes on counting, and what it counts meanwhile is the next batch: that is the group
//! commit. Nothing waits for the disk but what must: a number that is told as durable, and a commit. So a batch may wait
//! some milliseconds for the one before it, and one sync is for many requests.
//! An error is the last thing that this task says. The journal is poisoned then, and the proxy stops.

use cocoon_ledger::{Batch, Journal, JournalError, Ledger, Written};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, sleep_until};

use crate::limits::JOURNAL_PAUSE;
use crate::money::ProxyError;

/// The hub's end of the line.
#[derive(Debug)]
pub(crate) struct JournalLine {
    batches: mpsc::Sender<Batch>,
    written: mpsc::Receiver<Result<Written, JournalError>>,
    is_writing: bool,
}

/// The journal and its line; the future is the task.
pub(crate) fn open(journal: Journal) -> (JournalLine, impl Future<Output = ()>) {
    let (batches, received) = mpsc::channel(1);
    let (answers, written) = mpsc::channel(1);
    (JournalLine { batches, written, is_writing: false }, write(journal, received, answers))
}

async fn write(
    mut journal: Journal,
    mut batches: mpsc::Receiver<Batch>,
    answers: mpsc::Sender<Result<Written, JournalError>>,
) {
    while let Some(batch) = batches.recv().await {
        let next_at = Instant::now() + JOURNAL_PAUSE;
        let writing = tokio::task::spawn_blocking(move || {
            let written = journal.append(batch);
            (journal, written)
        });
        // A panic of the journal leaves nothing to write with; the hub sees that nobody answers.
        let Ok((back, written)) = writing.await else { return };
        journal = back;
        let is_poisoned = written.is_err();
        if !is_poisoned {
            sleep_until(next_at).await;
        }
        if answers.send(written).await.is_err() || is_poisoned {
            return;
        }
    }
}

impl JournalLine {
    /// Gives what is new to the disk, unless that is still at work.
    ///
    /// # Errors
    ///
    /// When the task is gone.
    pub(crate) fn feed(&mut self, ledger: &mut Ledger) -> Result<(), ProxyError> {
        if self.is_writing {
            return Ok(());
        }
        let Some(batch) = ledger.take_batch() else { return Ok(()) };
        self.is_writing = true;
        self.batches.try_send(batch).map_err(|_| ProxyError::Core)
    }

    /// What the disk says next; never, while nothing is written. Safe to be cancelled.
    ///
    /// # Errors
    ///
    /// When the books cannot be kept any more.
    pub(crate) async fn written(&mut self) -> Result<Written, ProxyError> {
        if !self.is_writing {
            return std::future::pending().await;
        }
        let written = self.written.recv().await;
        self.is_writing = false;
        Ok(written.ok_or(ProxyError::Core)??)
    }

    /// What the disk has said already, without waiting: a hub that is never idle must hear of it too.
    ///
    /// # Errors
    ///
    /// As [`JournalLine::written`].
    pub(crate) fn try_written(&mut self) -> Result<Option<Written>, ProxyError> {
        match self.written.try_recv() {
            Ok(written) => {
                self.is_writing = false;
                Ok(Some(written?))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ProxyError::Core),
        }
    }

    /// Writes all that is left.
    ///
    /// # Errors
    ///
    /// As [`JournalLine::written`].
    pub(crate) async fn flush(&mut self, ledger: &mut Ledger) -> Result<(), ProxyError> {
        loop {
            self.feed(ledger)?;
            if !self.is_writing {
                return Ok(());
            }
            let written = self.written().await?;
            ledger.written(written);
        }
    }
}
