//! Every bound of this crate, each with its reason.
//!
//! A model file is downloaded from strangers: a number in it never sizes an allocation or a loop
//! before it has been compared with a bound here or with the length of the file.

/// Longest string in a GGUF header: chat templates reach 20 kB, nothing else comes near.
pub(crate) const GGUF_STRING_BYTES_MAX: u64 = 1 << 20;
/// Longest array in a GGUF header: vocabularies and merge lists reach about 300,000 entries.
pub(crate) const GGUF_ARRAY_LEN_MAX: u64 = 1 << 20;
/// Most metadata entries: real files have fewer than 100.
pub(crate) const GGUF_ENTRIES_MAX: u64 = 1 << 12;
/// Most tensors: a 126-layer model has about 1,140.
pub(crate) const GGUF_TENSORS_MAX: u64 = 1 << 13;
/// Most dimensions of one tensor in the format.
pub(crate) const GGUF_DIMENSIONS_MAX: u32 = 4;

/// Most layers: the largest published llama has 126.
pub(crate) const LAYERS_MAX: u64 = 256;
/// Widest vector inside the model: the largest published llama uses 53,248.
pub(crate) const WIDTH_MAX: u64 = 1 << 17;
/// Largest vocabulary.
pub(crate) const VOCABULARY_MAX: u64 = 1 << 20;
/// Longest context of one sequence, whatever the file claims.
pub(crate) const CONTEXT_TOKENS_MAX: u64 = 1 << 17;
/// Most address space that all KV caches may reserve (pages are touched only as they fill).
pub(crate) const KV_BYTES_MAX: u64 = 64 << 30;
/// Most sequences decoded together.
pub(crate) const SEQUENCES_MAX: usize = 256;
/// Most requests waiting for a sequence.
pub(crate) const QUEUE_MAX: usize = 1 << 16;
/// Most threads of one model.
pub(crate) const THREADS_MAX: usize = 256;
/// Largest prefill chunk: the attention scores of a chunk are chunk × context floats per head.
pub(crate) const PREFILL_CHUNK_TOKENS_MAX: u32 = 1024;

/// From this many prompt tokens on, attention is computed as matrix products, which have a set-up
/// cost per head.
pub(crate) const MATRIX_ATTENTION_ROWS_MIN: usize = 16;
/// Rows of weights one thread takes at a time: enough to hide the hand-over, few enough to share a
/// 576-row matrix among threads.
pub(crate) const DOT_SLAB_ROWS: usize = 96;
/// Rows of input multiplied together: 16 quantised rows of 1,536 stay in a 32 KiB first-level cache.
pub(crate) const INPUT_TILE_ROWS: usize = 16;

/// Most stop strings of a request (the `OpenAI` API allows 4).
pub(crate) const STOP_STRINGS_MAX: usize = 16;
/// Longest stop string: text is held back for as long as it may still become one.
pub(crate) const STOP_STRING_BYTES_MAX: usize = 1024;
/// Most entries of a logit bias (the `OpenAI` API allows 300).
pub(crate) const LOGIT_BIAS_MAX: usize = 1024;
/// Most alternatives reported per token (the `OpenAI` API allows 20).
pub(crate) const TOP_LOGPROBS_MAX: u8 = 20;
/// Tokens whose text is still held back are reported once this many wait.
pub(crate) const TOKENS_HELD_MAX: usize = 32;

/// Most text given to the tokenizer at once: 16 MiB is far above any context.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;
/// Instructions one rendering of a chat template may take: about 100 per message are usual.
pub(crate) const TEMPLATE_FUEL: u64 = 10_000_000;
