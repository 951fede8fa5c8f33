//! Every bound of this crate, each with its reason.
//!
//! A model file is downloaded from strangers: a number in it never sizes an allocation or a loop
//! before it has been compared with a bound here or with the length of the file.

use std::time::Duration;

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

/// Most answers to one prompt (the `OpenAI` API allows 128); each keeps its sampling state while it waits.
pub(crate) const CHOICES_MAX: usize = 128;
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

/// Longest of the small JSON files of an embedding model: real ones have less than a kilobyte.
pub(crate) const EMBED_JSON_BYTES_MAX: u64 = 64 << 10;
/// Longest `tokenizer.json`: 30,000 WordPiece tokens take half a megabyte, 250,000 take ten.
pub(crate) const EMBED_TOKENIZER_BYTES_MAX: u64 = 32 << 20;
/// Longest `model.safetensors`: BERT large has 1.3 GB, and it is read as a whole.
pub(crate) const EMBED_WEIGHTS_BYTES_MAX: u64 = 2 << 30;
/// Longest header of that file: about 110 bytes for each of 400 tensors.
pub(crate) const EMBED_HEADER_BYTES_MAX: u64 = 1 << 20;
/// Longest word that a tokenizer may split: the time it takes grows with the square.
pub(crate) const EMBED_WORD_CHARS_MAX: usize = 1000;
/// Longest text to embed: far above what 512 tokens spell, and tokenised within ten milliseconds.
pub(crate) const EMBED_TEXT_BYTES_MAX: usize = 64 << 10;
/// Tokens of a text, where the model's files do not say what it was tuned for: all-MiniLM-L6-v2's own number.
pub(crate) const EMBED_TOKENS_DEFAULT: u64 = 256;
/// Most tokens of a text, whatever the files say: BERT has no more positions.
pub(crate) const EMBED_TOKENS_MAX: usize = 512;
/// Most texts of one request: the `OpenAI` API's number.
pub(crate) const EMBED_INPUTS_MAX: usize = 2048;
/// Tokens in one batch, beyond which another request has its turn: a fifth of a second on one core, and enough rows for
/// the matrix products to run at full speed.
pub(crate) const EMBED_BATCH_TOKENS_MAX: usize = 256;
/// Requests that take turns; others wait in the queue, where a full one is told.
pub(crate) const EMBED_TURNS_MAX: usize = 32;
/// Rows that one thread takes at a time between the matrix products.
pub(crate) const EMBED_SLAB_ROWS: usize = 16;

const _: () =
    assert!(EMBED_TOKENS_DEFAULT <= EMBED_TOKENS_MAX as u64, "the default is one of the numbers that are allowed");

/// Longest schema: the largest published ones that are given to models have a few ten kilobytes.
pub(crate) const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Deepest schema; the library recurses, and what it recurses over grows with the depth.
pub(crate) const SCHEMA_DEPTH_MAX: usize = 64;
/// Stack of the thread that compiles a schema: the library takes about 2.5 KiB a level, several times
/// that without optimisation, and goes through 128 levels of references at most.
pub(crate) const SCHEMA_STACK_BYTES: usize = 16 << 20;
/// Most schemas compiled at once, those included for which nobody waits any more.
pub(crate) const SCHEMAS_COMPILING_MAX: usize = 2;
/// How long a request waits for a slot, and then for its schema: many times what the fuel below lasts.
pub(crate) const SCHEMA_TIME_MAX: Duration = Duration::from_secs(10);
/// Most combinations of the cases of patterns that must hold of one text at once: as many are made in a tenth of a second.
/// Four patterns of fifteen letters are as many, or two of 255.
pub(crate) const PATTERN_CASES_MAX: u64 = 1 << 16;
/// What a `format` counts for: the expressions of those that there are have some ten cases.
pub(crate) const FORMAT_CASES: u64 = 64;
/// Parts of a schema that are looked at to count them, each as often as it is referred to: a millisecond or two.
pub(crate) const PATTERN_VISITS_MAX: usize = 20_000;
/// References that are followed from one to the next; the library follows 128.
pub(crate) const PATTERN_REFERENCES_MAX: usize = 128;
/// What a schema's regular expressions may cost when it is compiled; 50,000 take a millisecond.
pub(crate) const CONSTRAINT_FUEL: u64 = 1_000_000;
/// Symbols of a grammar: the library's own default is for megabytes of schema.
pub(crate) const CONSTRAINT_ITEMS_MAX: usize = 200_000;
/// States of the lexer of one answer, 1 to 2 KiB each.
pub(crate) const CONSTRAINT_LEXER_STATES_MAX: usize = 20_000;
/// Alternatives that one place of a grammar may have.
pub(crate) const CONSTRAINT_ROW_ITEMS_MAX: usize = 2_000;
/// What the lexer may cost in one step; 14,000 take a millisecond.
pub(crate) const CONSTRAINT_STEP_FUEL: u64 = 200_000;
/// What the parser may cost in one step; 20,000 take a millisecond.
pub(crate) const CONSTRAINT_STEP_ITEMS_MAX: usize = 50_000;
/// Longest token that a constrained answer may contain; the library takes at most 1,024 bytes.
pub(crate) const TRIE_TOKEN_BYTES_MAX: usize = 512;
/// Largest vocabulary, in bytes, that can be constrained: the library's tree has room for 2^22 nodes.
pub(crate) const TRIE_BYTES_MAX: usize = 4_000_000;
