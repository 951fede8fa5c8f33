//! The tokenizer of a BERT model: WordPiece, by the `tokenizers` crate, from the vocabulary in `tokenizer.json`.
//!
//! Of that file only what a BERT tokenizer can differ in is taken, and the rest must be what BERT has: a file may
//! describe any chain of regular expressions and replacements, and none of a stranger's is run. Its `truncation` and
//! `padding` are not followed: text that is too long is refused, and nothing is padded.
//!
//! Control tokens spelled out in a text (`[SEP]`) stay plain text, as everywhere in this crate.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer as Library;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use super::error::EmbedderLoadError;
use super::files::read;
use crate::error::TokenizeError;
use crate::limits::{EMBED_TEXT_BYTES_MAX, EMBED_TOKENIZER_BYTES_MAX, EMBED_WORD_CHARS_MAX};

const FILE: &str = "tokenizer.json";
const START: &str = "[CLS]";
const END: &str = "[SEP]";

/// Text to ids.
pub(super) struct Tokenizer {
    library: Library,
    start: u32,
    end: u32,
}

#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<Kind>,
    post_processor: Option<Kind>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    clean_text: bool,
    #[serde(default)]
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    #[serde(default)]
    lowercase: bool,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

impl Tokenizer {
    /// Reads the tokenizer of a model with `vocabulary` tokens.
    pub(super) fn read(folder: &Path, vocabulary: usize) -> Result<Self, EmbedderLoadError> {
        let bytes = read(folder, FILE, EMBED_TOKENIZER_BYTES_MAX)?;
        let file: TokenizerFile = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        file.build(vocabulary)
    }

    /// The ids of a text between those that mark its ends.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        if text.len() > EMBED_TEXT_BYTES_MAX {
            return Err(TokenizeError::TooLong { bytes: text.len(), bytes_max: EMBED_TEXT_BYTES_MAX });
        }
        let encoding = self.library.encode_fast(text, false).map_err(|_| TokenizeError::Internal)?;
        let ids = encoding.get_ids().iter().copied();
        Ok(std::iter::once(self.start).chain(ids).chain([self.end]).collect())
    }
}

impl TokenizerFile {
    fn build(self, model_vocabulary: usize) -> Result<Tokenizer, EmbedderLoadError> {
        self.refuse_variants()?;
        let Model { unk_token, continuing_subword_prefix, max_input_chars_per_word, vocab, .. } = self.model;
        let id = |token: &str| vocab.get(token).copied().ok_or_else(|| malformed(format!("no token {token:?}")));
        let (start, end) = (id(START)?, id(END)?);
        id(&unk_token)?;
        if vocab.values().any(|id| *id as usize >= model_vocabulary) {
            return Err(malformed("an id is outside the model's vocabulary"));
        }
        if !(1..=EMBED_WORD_CHARS_MAX).contains(&max_input_chars_per_word) {
            return Err(malformed("absurd `max_input_chars_per_word`"));
        }
        let mut vocabulary = Vocab::default();
        vocabulary.extend(vocab);
        let model = WordPiece::builder()
            .vocab(vocabulary)
            .unk_token(unk_token)
            .continuing_subword_prefix(continuing_subword_prefix)
            .max_input_chars_per_word(max_input_chars_per_word)
            .build()
            .map_err(EmbedderLoadError::internal)?;
        let mut library = Library::new(model);
        library
            .with_normalizer(self.normalizer.map(Normalizer::build))
            .map_err(EmbedderLoadError::internal)?
            .with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Tokenizer { library, start, end })
    }

    fn refuse_variants(&self) -> Result<(), EmbedderLoadError> {
        let unsupported =
            |part: &str| Err(EmbedderLoadError::Unsupported(format!("its tokenizer's {part} is not BERT's")));
        if self.model.kind.as_deref().is_some_and(|kind| kind != "WordPiece") {
            return unsupported("model");
        }
        if self.normalizer.as_ref().is_some_and(|step| step.kind != "BertNormalizer") {
            return unsupported("normalizer");
        }
        if self.pre_tokenizer.as_ref().is_none_or(|step| step.kind != "BertPreTokenizer") {
            return unsupported("pre-tokenizer");
        }
        let ends = ["TemplateProcessing", "BertProcessing"];
        if self.post_processor.as_ref().is_none_or(|step| !ends.contains(&step.kind.as_str())) {
            return unsupported("post-processor");
        }
        Ok(())
    }
}

impl Normalizer {
    fn build(self) -> BertNormalizer {
        BertNormalizer::new(self.clean_text, self.handle_chinese_chars, self.strip_accents, self.lowercase)
    }
}

fn malformed(problem: impl Into<String>) -> EmbedderLoadError {
    EmbedderLoadError::malformed(FILE, problem)
}
