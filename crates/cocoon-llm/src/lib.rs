//! A small CPU runtime for llama-architecture language models: GGUF file in, tokens out.
//!
//! It is the embedded engine of a worker that has no inference server beside it. It is not a
//! general runtime: one architecture, one thread pool, no GPU; whoever has a GPU runs vLLM or
//! SGLang. HTTP and the `OpenAI` JSON are the worker's.
//!
//! ```text
//!  messages ─▶ chat ─▶ tokenizer ─▶ submit ─▶ bounded queue ─▶ engine thread ─▶ TokenSink
//!                                                               │  ▲
//!                                                        model::forward, sampler, text
//! ```
//!
//! - Several sequences are decoded together; prompts are processed in chunks between their steps.
//! - Several answers to one prompt share its processing.
//! - What a sequence generates does not depend on its company (`tests/it`, "batch").
//! - Caches are never shared between requests, and are overwritten when one ends.
//! - Prompts and answers appear in no log, error or `Debug` output.
//!
//! Why `candle` and what it is used for: `docs/decisions/0003-embedded-engine.md`.

mod chat;
mod constraint;
mod embedding;
mod engine;
mod error;
mod gguf;
mod limits;
mod model;
mod request;
mod sampler;
mod sequence;
mod text;
mod tokenizer;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use chat::ChatPrompt;
pub use constraint::{Constraint, UnknownKeywords};
pub use embedding::{
    EmbedError, EmbedFailure, Embedder, EmbedderInfo, EmbedderLoadError, EmbedderOptions, EmbedderStats,
};
pub use error::{ConstraintError, LoadError, Reason, SubmitError, TemplateError, TokenizeError};
pub use request::{Finish, GenerateRequest, Generated, Piece, PieceToken, Ticket, TokenSink};
pub use sampler::{Sampling, TokenLogprobs};
pub use tokenizer::ParseSpecial;

use chat::ChatTemplate;
use constraint::Constraints;
use engine::{Counters, Engine, Shared};
use gguf::Gguf;
use limits::{
    CHOICES_MAX, KV_BYTES_MAX, LOGIT_BIAS_MAX, PREFILL_CHUNK_TOKENS_MAX, QUEUE_MAX, SEQUENCES_MAX,
    STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX, THREADS_MAX, TOP_LOGPROBS_MAX,
};
use model::{KvCache, Model};
use sequence::Sequence;
use tokenizer::Tokenizer;

/// How a model is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmOptions {
    /// Sequences decoded together. Each has a cache of its own: see [`ModelInfo::kv_bytes_per_token`].
    pub sequences_max: usize,
    /// Tokens of one sequence, prompt and completion together; `None` is what the model allows.
    pub context_tokens_max: Option<u32>,
    /// Prompt tokens processed between two decoding steps: more is faster for the prompt, less is
    /// smoother for everybody else.
    pub prefill_chunk_tokens: u32,
    /// Threads that compute.
    pub threads: usize,
    /// Requests that may wait for a sequence; one more is [`SubmitError::Busy`].
    pub queue_max: usize,
}

impl Default for LlmOptions {
    /// One thread, eight sequences: a share of a small machine. Memory for a sequence is touched as it fills.
    fn default() -> Self {
        Self { sequences_max: 8, context_tokens_max: None, prefill_chunk_tokens: 64, threads: 1, queue_max: 64 }
    }
}

impl LlmOptions {
    fn check(&self) -> Result<(), LoadError> {
        let in_range = |value: usize, max: usize| (1..=max).contains(&value);
        if !in_range(self.sequences_max, SEQUENCES_MAX) {
            return Err(LoadError::Option("sequences_max is not in 1..=256"));
        }
        if !in_range(self.threads, THREADS_MAX) {
            return Err(LoadError::Option("threads is not in 1..=256"));
        }
        if !in_range(self.queue_max, QUEUE_MAX) {
            return Err(LoadError::Option("queue_max is not in 1..=65536"));
        }
        if !(1..=PREFILL_CHUNK_TOKENS_MAX).contains(&self.prefill_chunk_tokens) {
            return Err(LoadError::Option("prefill_chunk_tokens is not in 1..=1024"));
        }
        if self.context_tokens_max.is_some_and(|tokens| tokens < 2) {
            return Err(LoadError::Option("context_tokens_max is below 2"));
        }
        Ok(())
    }
}

/// What a model file says about itself, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name`, if there is one. Written by whoever made the file: do not trust it.
    pub name: Option<String>,
    /// `general.architecture`: always `llama`.
    pub architecture: String,
    /// Tokens of one sequence, prompt and completion together, after [`LlmOptions`].
    pub context_tokens: u32,
    /// Tokens the model was trained for.
    pub context_tokens_trained: u32,
    /// Entries of the vocabulary.
    pub vocabulary: u32,
    /// Memory that the weights take.
    pub weight_bytes: u64,
    /// Memory that a token takes in a sequence's cache.
    pub kv_bytes_per_token: u64,
    /// Whether [`Llm::render_chat`] works.
    pub has_chat_template: bool,
    /// Whether the chat template shows the model its tools.
    pub renders_tools: bool,
    /// Whether the chat template shows the model the calls it made before.
    pub renders_tool_calls: bool,
    /// Tokens that end an answer.
    pub eos_ids: Vec<u32>,
}

/// Counters for load reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LlmStats {
    /// Sequences that are running.
    pub active: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Prompt tokens processed since the model was loaded.
    pub prompt_tokens: u64,
    /// Tokens generated since the model was loaded.
    pub generated_tokens: u64,
}

/// A loaded model and the thread that runs it. Clones are handles to the same model.
///
/// Dropping the last handle cancels what is running and waits for the thread to end.
#[derive(Clone)]
pub struct Llm {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    chat: Option<ChatTemplate>,
    info: ModelInfo,
    /// `None` once the model is being dropped.
    requests: Option<SyncSender<Sequence>>,
    /// In a mutex only because a `JoinHandle` is taken out to be joined.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Llm {
    /// Reads a GGUF file and starts its thread. Takes about 0.2 CPU seconds per
    /// 100 million weights in a format that is kept as it is, several times that in others.
    ///
    /// # Errors
    /// The file cannot be read, is malformed or unsupported, or the options do not fit it. A
    /// hostile file gets an error, not a panic and not an allocation that its size does not justify.
    pub fn load(path: &Path, options: &LlmOptions) -> Result<Self, LoadError> {
        options.check()?;
        let gguf = Gguf::read(File::open(path)?)?;
        let pool = thread_pool(options.threads)?;
        let model = pool.install(|| Model::load(path, &gguf))?;
        let tokenizer = Tokenizer::from_gguf(&gguf)?;
        if tokenizer.vocabulary_len() != model.config.vocabulary {
            return Err(LoadError::Malformed("the tokenizer and the embedding differ in size".into()));
        }
        let chat = chat_template(&gguf, &tokenizer)?;
        let context = context_tokens(&model, options);
        let caches = caches(&model, options, context)?;
        let info = info(&gguf, &model, &tokenizer, context, chat.as_ref());

        let shared = Arc::new(Shared {
            model,
            tokenizer,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
            constraints: Constraints::new(),
        });
        let (requests, receiver) = sync_channel(options.queue_max);
        let chunk = options.prefill_chunk_tokens as usize;
        let engine = Engine::new(Arc::clone(&shared), receiver, caches, chunk, pool);
        let thread = std::thread::Builder::new()
            .name("llm".to_owned())
            .spawn(move || engine.run())
            .map_err(LoadError::Thread)?;
        let thread = Mutex::new(Some(thread));
        let inner = Inner { shared, chat, info, requests: Some(requests), thread };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the file says and takes.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// Counters as they are now; each is exact, together they may be a step apart.
    #[must_use]
    pub fn stats(&self) -> LlmStats {
        let counters = &self.inner.shared.counters;
        LlmStats {
            active: counters.active.load(Ordering::Relaxed),
            queued: counters.queued.load(Ordering::Relaxed),
            prompt_tokens: counters.prompt_tokens.load(Ordering::Relaxed),
            generated_tokens: counters.generated_tokens.load(Ordering::Relaxed),
        }
    }

    /// Renders `messages`, an array of `OpenAI` chat messages, with the model's template.
    ///
    /// Control tokens spelled out in the messages stay plain text: see [`ChatPrompt`].
    ///
    /// # Errors
    /// There is no template, the messages are malformed, or the template refuses them.
    pub fn render_chat(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<ChatPrompt, TemplateError> {
        let chat = self.inner.chat.as_ref().ok_or(TemplateError::Missing)?;
        chat.render(messages, tools, add_generation_prompt)
    }

    /// Tokenises a rendered conversation.
    ///
    /// # Errors
    /// The text is too long to fit the context, whatever its tokens are.
    pub fn tokenize_prompt(&self, prompt: &ChatPrompt) -> Result<Vec<u32>, TokenizeError> {
        let guards = prompt.guard.map_or(0, |guard| prompt.guarded.matches(guard).count() * guard.len_utf8());
        self.check_len(prompt.guarded.len().saturating_sub(guards))?;
        let tokenizer = &self.inner.shared.tokenizer;
        tokenizer.encode_guarded(&prompt.guarded, ParseSpecial::Yes, prompt.guard)
    }

    /// Tokenises text.
    ///
    /// # Errors
    /// The text is too long to fit the context, whatever its tokens are.
    pub fn tokenize(&self, text: &str, special: ParseSpecial) -> Result<Vec<u32>, TokenizeError> {
        self.check_len(text.len())?;
        self.inner.shared.tokenizer.encode(text, special)
    }

    /// The text of tokens; control tokens and unknown ids have none, invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn detokenize(&self, tokens: &[u32]) -> String {
        self.inner.shared.tokenizer.decode(tokens)
    }

    /// The bytes of one token, which may be part of a code point.
    #[must_use]
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.inner.shared.tokenizer.bytes(token)
    }

    /// Compiles a JSON schema for [`GenerateRequest::constraint`]. Takes milliseconds of this thread's
    /// time, a bounded number of seconds for schemas made to be slow.
    ///
    /// # Errors
    /// The schema cannot be used, or takes too long; the error says why, to whoever sent it.
    pub fn compile_schema(
        &self,
        schema: serde_json::Value,
        unknown: UnknownKeywords,
    ) -> Result<Constraint, ConstraintError> {
        constraint::compile(&self.inner.shared, schema, unknown)
    }

    /// Queues a request; the answer goes to `sink` on the model's thread.
    ///
    /// # Errors
    /// The queue is full, the prompt does not fit, a parameter is out of range.
    pub fn submit(&self, request: GenerateRequest, sink: impl TokenSink) -> Result<Ticket, SubmitError> {
        self.submit_choices(request, vec![Box::new(sink)])
    }

    /// Queues a request for several answers to one prompt, which is processed once; one answer goes to
    /// each sink. A seed is the first answer's, each further one counts on from it. Each answer takes
    /// a sequence; with fewer free, some begin when others have ended.
    ///
    /// # Errors
    /// As [`Self::submit`], or there are no sinks or too many.
    pub fn submit_choices(
        &self,
        request: GenerateRequest,
        sinks: Vec<Box<dyn TokenSink>>,
    ) -> Result<Ticket, SubmitError> {
        self.check(&request)?;
        if sinks.len() > CHOICES_MAX {
            return Err(SubmitError::Invalid("more than 128 choices"));
        }
        let requests = self.inner.requests.as_ref().ok_or(SubmitError::ShuttingDown)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let sequence = Sequence::new(request, sinks, &cancelled).ok_or(SubmitError::Invalid("no choices"))?;
        // Counted first: the engine counts down as soon as it has received it.
        let queued = &self.inner.shared.counters.queued;
        queued.fetch_add(1, Ordering::Relaxed);
        requests.try_send(sequence).map_err(|error| {
            queued.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => SubmitError::Busy,
                TrySendError::Disconnected(_) => SubmitError::ShuttingDown,
            }
        })?;
        Ok(Ticket { cancelled })
    }

    /// Spares the seconds that megabytes take to tokenise only to be refused.
    fn check_len(&self, bytes: usize) -> Result<(), TokenizeError> {
        let bytes_max = self.inner.shared.tokenizer.text_bytes_max(self.info().context_tokens);
        if bytes > bytes_max { Err(TokenizeError::TooLong { bytes, bytes_max }) } else { Ok(()) }
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        let info = self.info();
        let prompt_tokens = u32::try_from(request.prompt_tokens.len()).unwrap_or(u32::MAX);
        if prompt_tokens >= info.context_tokens {
            let context_tokens = info.context_tokens;
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_tokens });
        }
        let fault = if request.prompt_tokens.is_empty() {
            Some("the prompt is empty")
        } else if request.prompt_tokens.iter().any(|token| *token >= info.vocabulary) {
            Some("a prompt token is outside the vocabulary")
        } else if request.max_tokens == 0 {
            Some("max_tokens is 0")
        } else if request.stop.len() > STOP_STRINGS_MAX {
            Some("more than 16 stop strings")
        } else if request.stop.iter().any(|stop| stop.len() > STOP_STRING_BYTES_MAX) {
            Some("a stop string is longer than 1024 bytes")
        } else if request.logprobs.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
            Some("more than 20 logprobs")
        } else if request.sampling.logit_bias.len() > LOGIT_BIAS_MAX {
            Some("more than 1024 logit biases")
        } else {
            request.sampling.fault()
        };
        fault.map_or(Ok(()), |fault| Err(SubmitError::Invalid(fault)))
    }
}

impl std::fmt::Debug for Llm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Llm").field("info", self.info()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.requests = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A sink may hold the last handle: the thread cannot wait for itself, and ends anyway.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // Its panics are caught step by step; one in a sink has already been printed.
            let _ = thread.join();
        }
    }
}

/// A pool of its own: candle's matrix products run in whatever pool calls them.
fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, LoadError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("llm-{index}"))
        .build()
        .map_err(|error| LoadError::Thread(std::io::Error::other(error)))
}

fn chat_template(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, LoadError> {
    gguf.text("tokenizer.chat_template")
        .map(|source| ChatTemplate::new(source, tokenizer))
        .transpose()
        .map_err(|error| LoadError::Unsupported(format!("chat template: {error}")))
}

fn context_tokens(model: &Model, options: &LlmOptions) -> usize {
    let asked = options.context_tokens_max.map_or(usize::MAX, |tokens| tokens as usize);
    model.config.context_tokens.min(asked)
}

fn caches(model: &Model, options: &LlmOptions, context: usize) -> Result<Vec<KvCache>, LoadError> {
    let tokens = (options.sequences_max as u64).saturating_mul(context as u64);
    if tokens.saturating_mul(KvCache::bytes_per_token(&model.config)) > KV_BYTES_MAX {
        return Err(LoadError::Option("sequences_max × context_tokens_max needs above 64 GiB"));
    }
    Ok((0..options.sequences_max).map(|_| KvCache::new(&model.config, context)).collect())
}

fn info(gguf: &Gguf, model: &Model, tokenizer: &Tokenizer, context: usize, chat: Option<&ChatTemplate>) -> ModelInfo {
    // Each is below a limit that fits 32 bits.
    let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    ModelInfo {
        name: gguf.text("general.name").map(str::to_owned),
        architecture: gguf.text("general.architecture").unwrap_or_default().to_owned(),
        context_tokens: narrow(context),
        context_tokens_trained: narrow(model.config.context_tokens),
        vocabulary: narrow(model.config.vocabulary),
        weight_bytes: model.weight_bytes(),
        kv_bytes_per_token: KvCache::bytes_per_token(&model.config),
        has_chat_template: chat.is_some(),
        renders_tools: chat.is_some_and(ChatTemplate::renders_tools),
        renders_tool_calls: chat.is_some_and(ChatTemplate::renders_tool_calls),
        eos_ids: tokenizer.eos_ids().to_vec(),
    }
}
