//! Embeddings: a BERT model in this process, from text to vectors.
//!
//! It is what [`crate::Llm`] is for chat: a loaded model, a bounded queue and a thread that runs it. What it runs are
//! models of the kind of all-MiniLM-L6-v2 (sentence-transformers): BERT, the mean over the tokens, length 1. It reads a
//! folder as the hub has it: `config.json`, `tokenizer.json`, `model.safetensors`.
//!
//! ```text
//!  text ─▶ tokenizer ─▶ submit ─▶ bounded queue ─▶ engine thread ─▶ vectors
//!                                                      │
//!                                                 forward, kernel
//! ```
//!
//! - A text above the model's tokens is refused. sentence-transformers cuts it off silently, which loses meaning that
//!   nobody misses until a search finds nothing.
//! - Requests take turns, batch by batch, and never share a batch.
//! - Texts and vectors appear in no log, error or `Debug` output.
//!
//! The results are compared with an independent forward pass in `tests/it/minilm.rs`.

mod config;
mod engine;
mod error;
mod files;
mod forward;
mod kernel;
mod tokenizer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use error::{EmbedError, EmbedFailure, EmbedderLoadError};

use crate::error::TokenizeError;
use crate::limits::{EMBED_INPUTS_MAX, QUEUE_MAX, THREADS_MAX};
use crate::request::Ticket;
use engine::{Counters, Engine, Job, Shared};
use forward::Bert;
use tokenizer::Tokenizer;

/// How an embedding model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderOptions {
    /// Threads that compute.
    pub threads: usize,
    /// Requests that may wait; one more is [`EmbedError::Busy`].
    pub queue_max: usize,
}

impl Default for EmbedderOptions {
    /// One thread: a share of a small machine.
    fn default() -> Self {
        Self { threads: 1, queue_max: 64 }
    }
}

impl EmbedderOptions {
    fn check(&self) -> Result<(), EmbedderLoadError> {
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(EmbedderLoadError::Option("threads is not in 1..=256"));
        }
        if !(1..=QUEUE_MAX).contains(&self.queue_max) {
            return Err(EmbedderLoadError::Option("queue_max is not in 1..=65536"));
        }
        Ok(())
    }
}

/// What an embedding model takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedderInfo {
    /// Numbers of a vector.
    pub width: usize,
    /// Most tokens of one text, those included that mark its ends.
    pub tokens_max: usize,
    /// Most texts of one request.
    pub inputs_max: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Memory that the weights take.
    pub weight_bytes: u64,
}

/// Counters for load reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EmbedderStats {
    /// Requests that are running, in turns.
    pub active: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Tokens processed since the model was loaded.
    pub tokens: u64,
}

/// A loaded embedding model and the thread that runs it. Clones are handles to the same model.
///
/// Dropping the last handle cancels what is running and waits for the thread to end.
#[derive(Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    info: EmbedderInfo,
    /// `None` once the model is being dropped.
    requests: Option<SyncSender<Job>>,
    /// In a mutex only because a `JoinHandle` is taken out to be joined.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedder {
    /// Reads the model in `folder` and starts its thread.
    ///
    /// # Errors
    /// A file is missing, malformed or of another kind of model, or the options are out of range. Hostile files get an
    /// error, not a panic and not an allocation that their size does not justify.
    pub fn load(folder: &Path, options: &EmbedderOptions) -> Result<Self, EmbedderLoadError> {
        options.check()?;
        let bert = Bert::load(folder)?;
        let tokenizer = Tokenizer::read(folder, bert.config.vocabulary)?;
        let info = EmbedderInfo {
            width: bert.config.width,
            tokens_max: bert.config.tokens_max,
            inputs_max: EMBED_INPUTS_MAX,
            vocabulary: bert.config.vocabulary,
            weight_bytes: bert.weight_bytes(),
        };
        let counters = Counters::default();
        let shared = Arc::new(Shared { bert, tokenizer, counters, stopping: AtomicBool::new(false) });
        let (requests, receiver) = sync_channel(options.queue_max);
        let engine = Engine::new(Arc::clone(&shared), receiver, thread_pool(options.threads)?);
        let thread = std::thread::Builder::new()
            .name("embed".to_owned())
            .spawn(move || engine.run())
            .map_err(EmbedderLoadError::Thread)?;
        let inner = Inner { shared, info, requests: Some(requests), thread: Mutex::new(Some(thread)) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the model takes and gives.
    #[must_use]
    pub fn info(&self) -> EmbedderInfo {
        self.inner.info
    }

    /// Counters as they are now; each is exact, together they may be a step apart.
    #[must_use]
    pub fn stats(&self) -> EmbedderStats {
        let counters = &self.inner.shared.counters;
        EmbedderStats {
            active: counters.active.load(Ordering::Relaxed),
            queued: counters.queued.load(Ordering::Relaxed),
            tokens: counters.tokens.load(Ordering::Relaxed),
        }
    }

    /// Tokenises a text and marks its ends. What it returns may be longer than the model takes: [`Self::submit`] says so.
    ///
    /// # Errors
    /// The text is so long that no tokens of it could fit.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        self.inner.shared.tokenizer.encode(text)
    }

    /// Queues texts, as tokens; `on_end` is called once on the model's thread, with a vector of length 1 for each of
    /// them in their order. It hands them on and returns, it never waits.
    ///
    /// # Errors
    /// The queue is full, a text is empty or too long. Then `on_end` is dropped.
    pub fn submit(
        &self,
        texts: Vec<Vec<u32>>,
        on_end: impl FnOnce(Result<Vec<Vec<f32>>, EmbedFailure>) + Send + 'static,
    ) -> Result<Ticket, EmbedError> {
        self.check(&texts)?;
        let requests = self.inner.requests.as_ref().ok_or(EmbedError::ShuttingDown)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job::new(texts, Box::new(on_end), Arc::clone(&cancelled));
        // Counted first: the engine counts down as soon as it has received it.
        let queued = &self.inner.shared.counters.queued;
        queued.fetch_add(1, Ordering::Relaxed);
        requests.try_send(job).map_err(|error| {
            queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => EmbedError::Busy,
                TrySendError::Disconnected(_) => EmbedError::ShuttingDown,
            }
        })?;
        Ok(Ticket { cancelled })
    }

    fn check(&self, texts: &[Vec<u32>]) -> Result<(), EmbedError> {
        let EmbedderInfo { tokens_max, inputs_max, vocabulary, .. } = self.info();
        if texts.is_empty() {
            return Err(EmbedError::NoInput);
        }
        if texts.len() > inputs_max {
            return Err(EmbedError::TooManyInputs { inputs: texts.len(), inputs_max });
        }
        for (input, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return Err(EmbedError::Empty { input });
            }
            if text.len() > tokens_max {
                return Err(EmbedError::TooLong { input, tokens: text.len(), tokens_max });
            }
            if text.iter().any(|token| *token as usize >= vocabulary) {
                return Err(EmbedError::UnknownToken { input });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").field("info", &self.info()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.requests = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // An `on_end` may hold the last handle: the thread cannot wait for itself, and ends anyway.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // Its panics are caught step by step; one in an `on_end` has already been printed.
            let _ = thread.join();
        }
    }
}

/// A pool of its own, beside that of a chat model: the operating system shares the cores between them.
fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, EmbedderLoadError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("embed-{index}"))
        .build()
        .map_err(|error| EmbedderLoadError::Thread(std::io::Error::other(error)))
}
