//! The thread that owns the model: admits requests, prefills, decodes.
//!
//! A step is: take waiting requests while a cache is free; prefill one chunk of one of the sequences
//! that still have prompt left, which take turns; decode one token of every other sequence, together;
//! begin choices that wait for a cache. So a long prompt delays tokens by one chunk at a time, and
//! another prompt by every second one. With nothing to do the thread sleeps in `recv`.
//!
//! Choices of one request share its prefill: when the prompt is done, each further choice gets a copy
//! of its cache and samples its first token from the same logits. Choices that find no free cache wait
//! beside one that runs, whose cache still begins with the prompt.
//!
//! It holds no prompt after a request ends: the cache is overwritten, the rest is dropped.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::constraint::{Constraints, HasConstraints};
use crate::model::{KvCache, Model, Run, Stopped};
use crate::request::Finish;
use crate::sequence::{Next, Sequence};
use crate::tokenizer::Tokenizer;

/// What the engine and its handles share.
pub(crate) struct Shared {
    pub(crate) model: Model,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) counters: Counters,
    /// Set when the last handle goes: running sequences end as cancelled.
    pub(crate) stopping: AtomicBool,
    pub(crate) constraints: Constraints,
}

impl HasConstraints for Shared {
    fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// Counters for load reports.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) queued: AtomicUsize,
    pub(crate) active: AtomicUsize,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
}

pub(crate) struct Engine {
    shared: Arc<Shared>,
    requests: Receiver<Sequence>,
    /// Blank caches.
    free: Vec<KvCache>,
    active: VecDeque<Active>,
    prefill_chunk: usize,
    pool: rayon::ThreadPool,
}

struct Active {
    sequence: Sequence,
    cache: KvCache,
    /// Further choices of the same prompt, once that is done and until they begin.
    waiting: Option<Waiting>,
}

/// Choices without a cache.
struct Waiting {
    choices: VecDeque<Sequence>,
    prompt_len: usize,
    /// After the last token of the prompt.
    logits: Vec<f32>,
}

impl Engine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        requests: Receiver<Sequence>,
        free: Vec<KvCache>,
        prefill_chunk: usize,
        pool: rayon::ThreadPool,
    ) -> Self {
        Self { shared, requests, free, active: VecDeque::new(), prefill_chunk, pool }
    }

    /// Runs until every handle is gone.
    pub(crate) fn run(mut self) {
        while self.admit() {
            self.end_cancelled();
            self.prefill();
            self.decode();
            self.fork();
        }
        // Nobody is left to read these answers, but every sink hears its end.
        for active in std::mem::take(&mut self.active) {
            self.end(active, Finish::Cancelled);
        }
        while let Ok(sequence) = self.requests.try_recv() {
            self.shared.counters.queued.fetch_sub(1, Ordering::Relaxed);
            sequence.end(Finish::Cancelled);
        }
    }

    /// Fills free caches with waiting requests, sleeping if there is nothing to do at all.
    /// Says whether to go on.
    fn admit(&mut self) -> bool {
        while let Some(cache) = self.free.pop() {
            let received = match self.active.is_empty() {
                true => self.requests.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.requests.try_recv(),
            };
            match received {
                Ok(sequence) => self.start(sequence, cache),
                Err(TryRecvError::Empty) => {
                    self.free.push(cache);
                    break;
                }
                Err(TryRecvError::Disconnected) => {
                    self.free.push(cache);
                    return false;
                }
            }
        }
        !self.shared.stopping.load(Ordering::Relaxed)
    }

    fn start(&mut self, sequence: Sequence, cache: KvCache) {
        let counters = &self.shared.counters;
        counters.queued.fetch_sub(1, Ordering::Relaxed);
        counters.active.fetch_add(1, Ordering::Relaxed);
        self.active.push_back(Active { sequence, cache, waiting: None });
    }

    fn end_cancelled(&mut self) {
        let (gone, stay) = std::mem::take(&mut self.active)
            .into_iter()
            .partition::<VecDeque<_>, _>(|active| active.sequence.is_cancelled());
        self.active = stay;
        for active in gone {
            self.end(active, Finish::Cancelled);
        }
    }

    /// One chunk of the unfinished prompt whose turn it is.
    fn prefill(&mut self) {
        let Some(index) = self.active.iter().position(|active| active.sequence.in_prefill()) else {
            return;
        };
        let Some(mut active) = self.active.remove(index) else { return };
        let shared = &*self.shared;
        let chunk = active.sequence.chunk(self.prefill_chunk);
        let chunk_len = chunk.len();
        let cancelled = active.sequence.cancelled();
        let cancelled = || cancelled.load(Ordering::Relaxed) || shared.stopping.load(Ordering::Relaxed);
        let mut runs = [Run { tokens: chunk, cache: &mut active.cache }];
        let logits = step(&self.pool, &shared.model, &mut runs, &cancelled);
        match logits {
            Ok(logits) => {
                active.sequence.prefilled(chunk_len);
                shared.counters.prompt_tokens.fetch_add(chunk_len as u64, Ordering::Relaxed);
                if active.sequence.in_prefill() {
                    // Behind the others: a short prompt does not wait for the end of a long one.
                    self.active.push_back(active);
                    return;
                }
                let prompt_len = active.cache.len();
                let choices = VecDeque::from(active.sequence.take_choices());
                if !choices.is_empty() {
                    active.waiting = Some(Waiting { choices, prompt_len, logits: logits.clone() });
                }
                let ended = self.accept(&mut active, logits);
                self.settle(index, active, ended);
            }
            Err(finish) => self.end(active, finish),
        }
    }

    /// One token of every sequence whose prompt is done.
    fn decode(&mut self) {
        let mut decoding: Vec<Active> = Vec::new();
        let mut waiting = VecDeque::new();
        for active in std::mem::take(&mut self.active) {
            match active.sequence.in_prefill() {
                true => waiting.push_back(active),
                false => decoding.push(active),
            }
        }
        self.active = waiting;
        if decoding.is_empty() {
            return;
        }
        let mut runs: Vec<Run<'_>> = decoding
            .iter_mut()
            .map(|active| Run { tokens: active.sequence.last(), cache: &mut active.cache })
            .collect();
        // Decode steps take milliseconds; a cancelled sequence leaves at the next one.
        let logits = step(&self.pool, &self.shared.model, &mut runs, &|| false);
        drop(runs);
        match logits {
            Ok(mut logits) => {
                let vocabulary = self.shared.model.config.vocabulary;
                let rows = logits.chunks_exact_mut(vocabulary).map(|row| row.to_vec());
                for (mut active, logits) in decoding.into_iter().zip(rows) {
                    let ended = self.accept(&mut active, logits);
                    self.settle(self.active.len(), active, ended);
                }
            }
            Err(finish) => {
                for active in decoding {
                    self.end(active, finish.clone());
                }
            }
        }
    }

    /// Samples the next token of a sequence; says how it ended, if it did.
    fn accept(&self, active: &mut Active, mut logits: Vec<f32>) -> Option<Finish> {
        self.shared.counters.generated_tokens.fetch_add(1, Ordering::Relaxed);
        let full = active.cache.len() >= active.cache.capacity();
        match active.sequence.accept(&mut logits, &self.shared.tokenizer) {
            Next::End(finish) => Some(finish),
            Next::Continue => full.then_some(Finish::Length),
        }
    }

    /// Puts a sequence back in its place, or ends it.
    fn settle(&mut self, index: usize, active: Active, ended: Option<Finish>) {
        match ended {
            None => self.active.insert(index.min(self.active.len()), active),
            Some(finish) => self.end(active, finish),
        }
    }

    /// Begins choices that wait, while a cache is free.
    fn fork(&mut self) {
        for index in 0..self.active.len() {
            while let Some((sequence, prompt_len, logits)) = self.next_choice(index) {
                let Some(mut cache) = self.free.pop() else { return };
                let Some(first) = self.active.get(index) else { return };
                cache.copy_from(&first.cache, prompt_len);
                self.shared.counters.active.fetch_add(1, Ordering::Relaxed);
                let mut active = Active { sequence, cache, waiting: None };
                let ended = self.accept(&mut active, logits);
                self.settle(self.active.len(), active, ended);
            }
        }
    }

    /// Takes a choice that waits beside the sequence at `index`, if there is a cache for it.
    fn next_choice(&mut self, index: usize) -> Option<(Sequence, usize, Vec<f32>)> {
        if self.free.is_empty() {
            return None;
        }
        let waiting = self.active.get_mut(index)?.waiting.as_mut()?;
        let mut sequence = waiting.choices.pop_front()?;
        sequence.prefilled(waiting.prompt_len);
        Some((sequence, waiting.prompt_len, waiting.logits.clone()))
    }

    /// Ends a sequence. A choice that waited beside it takes over its cache, cut back to the prompt.
    fn end(&mut self, active: Active, finish: Finish) {
        let (mut active, mut finish) = (active, finish);
        loop {
            let Active { sequence, mut cache, waiting } = active;
            let given_up = self.shared.stopping.load(Ordering::Relaxed)
                || sequence.is_cancelled()
                || matches!(finish, Finish::Failed(_));
            let heir = waiting.and_then(|waiting| if given_up { give_up(waiting, &finish) } else { waiting.first() });
            sequence.end(finish);
            // A chunk that was given up half way wrote at most a chunk beyond what counts.
            let written = cache.len() + self.prefill_chunk;
            let Some((next, waiting)) = heir else {
                cache.clear(written);
                self.free.push(cache);
                self.shared.counters.active.fetch_sub(1, Ordering::Relaxed);
                return;
            };
            cache.cut(waiting.prompt_len, written);
            let logits = waiting.logits.clone();
            active = Active { sequence: next, cache, waiting: Some(waiting) };
            match self.accept(&mut active, logits) {
                Some(ended) => finish = ended,
                None => return self.active.push_back(active),
            }
        }
    }
}

impl Waiting {
    /// The next choice, ready to begin, and what still waits.
    fn first(mut self) -> Option<(Sequence, Self)> {
        let mut next = self.choices.pop_front()?;
        next.prefilled(self.prompt_len);
        Some((next, self))
    }
}

/// Ends choices that never began.
fn give_up(waiting: Waiting, finish: &Finish) -> Option<(Sequence, Waiting)> {
    for choice in waiting.choices {
        choice.end(finish.clone());
    }
    None
}

/// Runs a step on the pool. A panic in it is a bug, and one that ends these sequences only.
fn step(
    pool: &rayon::ThreadPool,
    model: &Model,
    runs: &mut [Run<'_>],
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f32>, Finish> {
    let result = catch_unwind(AssertUnwindSafe(|| pool.install(|| model.forward(runs, cancelled))));
    match result {
        Ok(Ok(logits)) => Ok(logits),
        Ok(Err(Stopped::Cancelled)) => Err(Finish::Cancelled),
        Ok(Err(Stopped::Failed(error))) => Err(Finish::Failed(format!("tensor library: {error}"))),
        Err(_) => Err(Finish::Failed("the model's code panicked".to_owned())),
    }
}
