//! Settlements that a journal makes durable: as many as go, and as many as come.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use cocoon_ledger::{Batch, Journal, JournalError, Ledger, Written};

use super::disk::{Counted, create};
use super::memory::{Kind, Requests};
use super::{Durable, Failure, percentile};

/// Settlements that may wait for the disk at once, when they come as fast as they go.
const WAITING_MAX: usize = 8_192;
/// Settlements a second when they come at a pace, and for how long.
const PACE: u32 = 1_000;
const PACED_SECONDS: u32 = 5;

pub(super) fn measure(folder: &Path, settles: u32) -> Result<Vec<Durable>, Failure> {
    Ok(vec![
        run(folder, "as fast as they go", Kind::Plain, settles, None)?,
        run(folder, "with id and receipt", Kind::Receipted, settles, None)?,
        run(folder, "1,000 a second", Kind::Receipted, PACE * PACED_SECONDS, Some(PACE))?,
    ])
}

fn run(
    folder: &Path,
    what: &'static str,
    kind: Kind,
    settles: u32,
    per_second: Option<u32>,
) -> Result<Durable, Failure> {
    let path = folder.join("journal");
    let (backend, counts) = Counted::new(create(&path)?)?;
    let mut salt = [0u8; 32];
    let salts = move || {
        // Different is enough here: the key is nobody's.
        if let Some(low) = salt.iter_mut().find(|byte| **byte < u8::MAX) {
            *low += 1;
        }
        salt
    };
    let (journal, state) = Journal::open(backend, &[7; 32], Box::new(salts))?;
    let requests = Requests::new(Ledger::restore(state), kind)?;
    let syncs = counts.syncs.load(Ordering::Relaxed);
    let sync_nanos = counts.sync_nanos.load(Ordering::Relaxed);
    let written = counts.written_bytes.load(Ordering::Relaxed);
    let (hub, seconds) = with_writer(journal, requests, settles, per_second)?;
    let mut waits = hub.waits;
    waits.sort_by(f64::total_cmp);
    let file_bytes = std::fs::metadata(&path)?.len();
    std::fs::remove_file(path)?;
    Ok(Durable {
        what,
        settles,
        seconds,
        batches: hub.batches,
        syncs: counts.syncs.load(Ordering::Relaxed) - syncs,
        sync_seconds: Duration::from_nanos(counts.sync_nanos.load(Ordering::Relaxed) - sync_nanos).as_secs_f64(),
        written_bytes: counts.written_bytes.load(Ordering::Relaxed) - written,
        file_bytes,
        wait_p50_us: percentile(&waits, 50),
        wait_p99_us: percentile(&waits, 99),
    })
}

/// Settles here, writes on another thread.
fn with_writer(
    mut journal: Journal,
    requests: Requests,
    settles: u32,
    per_second: Option<u32>,
) -> Result<(Hub, f64), Failure> {
    let (to_disk, batches) = sync_channel::<Batch>(1);
    let (on_disk, answers) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for batch in batches {
                if on_disk.send(journal.append(batch)).is_err() {
                    return;
                }
            }
        });
        let mut hub =
            Hub { requests, to_disk, answers, is_busy: false, waiting: VecDeque::new(), waits: Vec::new(), batches: 0 };
        let started = Instant::now();
        hub.settle(started, settles, per_second)?;
        Ok((hub.stop(), started.elapsed().as_secs_f64()))
    })
}

struct Hub {
    requests: Requests,
    to_disk: SyncSender<Batch>,
    answers: Receiver<Result<Written, JournalError>>,
    is_busy: bool,
    /// When each settlement was made, and the number of the entry after it.
    waiting: VecDeque<(u64, Instant)>,
    waits: Vec<f64>,
    batches: u32,
}

impl Hub {
    fn settle(&mut self, started: Instant, settles: u32, per_second: Option<u32>) -> Result<(), Failure> {
        let mut made = 0;
        while made < settles || !self.waiting.is_empty() {
            let due = per_second.map(|rate| started + Duration::from_secs(1) * made / rate);
            if made < settles && self.waiting.len() < WAITING_MAX && due.is_none_or(|due| due <= Instant::now()) {
                self.requests.one()?;
                self.waiting.push_back((self.requests.ledger.seq(), Instant::now()));
                made += 1;
            } else {
                self.wait(due.filter(|_| made < settles))?;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Waits for the disk, or until the next settlement is due.
    fn wait(&mut self, due: Option<Instant>) -> Result<(), Failure> {
        let at_most = due.map_or(Duration::from_secs(60), |due| due.saturating_duration_since(Instant::now()));
        match self.answers.recv_timeout(at_most) {
            Ok(written) => self.written(written?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the journal has stopped".into()),
        }
        Ok(())
    }

    /// Takes the disk's answer if it is there, and gives it what has come together since.
    fn turn(&mut self) -> Result<(), Failure> {
        match self.answers.try_recv() {
            Ok(written) => self.written(written?),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err("the journal has stopped".into()),
        }
        if !self.is_busy
            && let Some(batch) = self.requests.ledger.take_batch()
        {
            self.to_disk.send(batch)?;
            self.is_busy = true;
            self.batches += 1;
        }
        Ok(())
    }

    fn written(&mut self, written: Written) {
        self.requests.ledger.written(written);
        self.is_busy = false;
        let durable = self.requests.ledger.seq() - self.requests.ledger.unwritten();
        let now = Instant::now();
        while let Some((_, settled)) = self.waiting.pop_front_if(|(next, _)| *next <= durable) {
            self.waits.push(now.duration_since(settled).as_secs_f64() * 1e6);
        }
    }

    /// Lets the writer end.
    fn stop(mut self) -> Self {
        self.to_disk = sync_channel(0).0;
        self
    }
}
