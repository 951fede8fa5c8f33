//! The thread that owns an embedding model: admits requests, runs their texts in batches.
//!
//! A step is one batch of one request: texts up to a bound of tokens. Requests take turns, so a short one waits for one
//! batch of each other and not for a book. Two requests never share a batch: what one gets cannot depend, not even by
//! rounding, on what another sent. With nothing to do the thread sleeps in `recv`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use super::error::EmbedFailure;
use super::forward::{Bert, Stopped};
use super::tokenizer::Tokenizer;
use crate::limits::{EMBED_BATCH_TOKENS_MAX, EMBED_TURNS_MAX};

/// What the engine and its handles share.
pub(super) struct Shared {
    pub(super) bert: Bert,
    pub(super) tokenizer: Tokenizer,
    pub(super) counters: Counters,
    /// Set when the last handle goes: running requests end as cancelled.
    pub(super) stopping: AtomicBool,
}

/// Counters for load reports.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) queued: AtomicUsize,
    pub(super) active: AtomicUsize,
    pub(super) tokens: AtomicU64,
}

/// What is called with the vectors.
pub(super) type OnEnd = Box<dyn FnOnce(Result<Vec<Vec<f32>>, EmbedFailure>) + Send>;

/// One request.
pub(super) struct Job {
    texts: Vec<Vec<u32>>,
    /// Those of the first texts.
    vectors: Vec<Vec<f32>>,
    on_end: OnEnd,
    cancelled: Arc<AtomicBool>,
}

impl Job {
    pub(super) fn new(texts: Vec<Vec<u32>>, on_end: OnEnd, cancelled: Arc<AtomicBool>) -> Self {
        Self { texts, vectors: Vec::new(), on_end, cancelled }
    }

    /// The next texts, one at least, up to the bound of a batch.
    fn batch(&self) -> Vec<&[u32]> {
        let mut left = EMBED_BATCH_TOKENS_MAX;
        let mut batch = Vec::new();
        for text in self.texts.iter().skip(self.vectors.len()) {
            if !batch.is_empty() && text.len() > left {
                break;
            }
            left = left.saturating_sub(text.len());
            batch.push(text.as_slice());
        }
        batch
    }

    fn end(self, result: Result<(), EmbedFailure>) {
        (self.on_end)(result.map(|()| self.vectors));
    }
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    requests: Receiver<Job>,
    active: VecDeque<Job>,
    pool: rayon::ThreadPool,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, requests: Receiver<Job>, pool: rayon::ThreadPool) -> Self {
        Self { shared, requests, active: VecDeque::new(), pool }
    }

    /// Runs until every handle is gone.
    pub(super) fn run(mut self) {
        while self.admit() {
            self.turn();
        }
        for job in std::mem::take(&mut self.active) {
            self.end(job, Err(EmbedFailure::Cancelled));
        }
        while let Ok(job) = self.requests.try_recv() {
            self.shared.counters.queued.fetch_sub(1, Ordering::Relaxed);
            job.end(Err(EmbedFailure::Cancelled));
        }
    }

    /// Takes what waits, sleeping if there is nothing to do at all. Says whether to go on.
    fn admit(&mut self) -> bool {
        while self.active.len() < EMBED_TURNS_MAX {
            let received = match self.active.is_empty() {
                true => self.requests.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.requests.try_recv(),
            };
            match received {
                Ok(job) => {
                    self.shared.counters.queued.fetch_sub(1, Ordering::Relaxed);
                    self.shared.counters.active.fetch_add(1, Ordering::Relaxed);
                    self.active.push_back(job);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        !self.shared.stopping.load(Ordering::Relaxed)
    }

    /// One batch of the request whose turn it is.
    fn turn(&mut self) {
        let Some(mut job) = self.active.pop_front() else { return };
        match self.step(&job) {
            Ok(mut vectors) => {
                job.vectors.append(&mut vectors);
                match job.vectors.len() < job.texts.len() {
                    true => self.active.push_back(job),
                    false => self.end(job, Ok(())),
                }
            }
            Err(failure) => self.end(job, Err(failure)),
        }
    }

    /// Runs a batch on the pool. A panic in it is a bug, and one that ends this request only.
    fn step(&self, job: &Job) -> Result<Vec<Vec<f32>>, EmbedFailure> {
        let shared = &*self.shared;
        let given_up = &*job.cancelled;
        let cancelled = || given_up.load(Ordering::Relaxed) || shared.stopping.load(Ordering::Relaxed);
        let batch = job.batch();
        let forward = || self.pool.install(|| shared.bert.forward(&batch, &cancelled));
        match catch_unwind(AssertUnwindSafe(forward)) {
            Ok(Ok(vectors)) => {
                let tokens: usize = batch.iter().map(|text| text.len()).sum();
                shared.counters.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
                Ok(vectors)
            }
            Ok(Err(Stopped::Cancelled)) => Err(EmbedFailure::Cancelled),
            Ok(Err(Stopped::Failed(error))) => Err(EmbedFailure::Failed(format!("tensor library: {error}"))),
            Ok(Err(Stopped::NotFinite)) => Err(EmbedFailure::Failed("a result is not finite".to_owned())),
            Err(_) => Err(EmbedFailure::Failed("the model's code panicked".to_owned())),
        }
    }

    fn end(&self, job: Job, result: Result<(), EmbedFailure>) {
        self.shared.counters.active.fetch_sub(1, Ordering::Relaxed);
        job.end(result);
    }
}
