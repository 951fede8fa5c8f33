//! The tokenizer described by a GGUF header: byte-level BPE, by the `tokenizers` crate.
//!
//! Ids are those of llama.cpp on the same file (compared by `tests/llama_cpp/compare.py`). As
//! there, text is first cut at the special tokens, then every piece between them is split by the
//! model's pre-tokenizer and merged on its own; the library never sees a special token.
//!
//! A conversation keeps its special tokens apart from what users wrote: see [`crate::chat`].

use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Library};

use crate::error::{LoadError, TokenizeError};
use crate::gguf::Gguf;
use crate::limits::{TEXT_BYTES_MAX, VOCABULARY_MAX};

/// Whether `<|im_end|>` and the like in a text are the model's control tokens or plain characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseSpecial {
    /// Control tokens are recognised: only for text written by this program or its operator.
    Yes,
    /// Control tokens are spelled out as ordinary text: for anything a user wrote.
    No,
}

/// Text to ids and back.
pub(crate) struct Tokenizer {
    library: Library,
    /// The bytes each id stands for; empty for control tokens.
    bytes: Vec<Box<[u8]>>,
    /// Length of the longest token's text.
    longest: usize,
    specials: Vec<Special>,
    bos: Option<u32>,
    bos_added: bool,
    eos: Vec<u32>,
}

/// A token that is found in text before anything else happens to it.
struct Special {
    text: String,
    id: u32,
    /// Control tokens are found only under [`ParseSpecial::Yes`], user-defined ones always.
    control: bool,
}

const TYPE_CONTROL: i64 = 3;
const TYPE_USER_DEFINED: i64 = 4;
/// Texts that end a turn in one family or another; llama.cpp stops at each of them too.
const END_TEXTS: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "<|eom_id|>", "<end_of_turn>", "<EOT>"];

impl Tokenizer {
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, LoadError> {
        match gguf.text("tokenizer.ggml.model") {
            Some("gpt2") => {}
            Some(other) => return Err(unsupported(format!("tokenizer model {other:?}"))),
            None => return Err(malformed("no tokenizer")),
        }
        let tokens = gguf.texts("tokenizer.ggml.tokens").ok_or_else(|| malformed("no tokens"))?;
        let types = gguf.ints("tokenizer.ggml.token_type").unwrap_or_default();
        if tokens.is_empty() || tokens.len() as u64 > VOCABULARY_MAX {
            return Err(malformed("absurd vocabulary size"));
        }
        if !types.is_empty() && types.len() != tokens.len() {
            return Err(malformed("token types and tokens differ in number"));
        }
        let (bytes, specials) = classify(tokens, types)?;
        let spelled = bytes.iter().map(|bytes| bytes.len());
        let longest = spelled.chain(specials.iter().map(|special| special.text.len())).max().unwrap_or(0);
        Ok(Self {
            library: library(gguf, tokens)?,
            eos: eos_ids(gguf, &specials, tokens.len())?,
            bos: id_of(gguf, "tokenizer.ggml.bos_token_id", tokens.len())?,
            bos_added: gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false),
            bytes,
            longest,
            specials,
        })
    }

    pub(crate) fn vocabulary_len(&self) -> usize {
        self.bytes.len()
    }

    /// Text that is longer has more than so many tokens, whatever it is.
    pub(crate) fn text_bytes_max(&self, tokens: u32) -> usize {
        self.longest.saturating_mul(tokens as usize).min(TEXT_BYTES_MAX)
    }

    /// Ids at which generation stops.
    pub(crate) fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The text of the beginning-of-sequence token, for templates.
    pub(crate) fn bos_text(&self) -> Option<&str> {
        self.special_text(self.bos?)
    }

    /// The text of the first end-of-sequence token, for templates.
    pub(crate) fn eos_text(&self) -> Option<&str> {
        self.special_text(*self.eos.first()?)
    }

    /// Texts of the control tokens, which user text must not be able to produce.
    pub(crate) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.specials.iter().filter(|special| special.control).map(|s| s.text.as_str())
    }

    /// Tokenises `text`; a beginning-of-sequence token is put in front if the model wants one.
    pub(crate) fn encode(&self, text: &str, special: ParseSpecial) -> Result<Vec<u32>, TokenizeError> {
        self.encode_guarded(text, special, None)
    }

    /// As [`Self::encode`], but `guard` separates characters that must not form a special token
    /// and is left out of the result.
    pub(crate) fn encode_guarded(
        &self,
        text: &str,
        special: ParseSpecial,
        guard: Option<char>,
    ) -> Result<Vec<u32>, TokenizeError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenizeError::TooLong { bytes: text.len(), bytes_max: TEXT_BYTES_MAX });
        }
        let mut ids = Vec::new();
        let mut done = 0;
        for (start, found) in self.find_specials(text, special) {
            self.encode_plain(text.get(done..start).unwrap_or_default(), guard, &mut ids)?;
            ids.push(found.id);
            done = start + found.text.len();
        }
        self.encode_plain(text.get(done..).unwrap_or_default(), guard, &mut ids)?;
        if let (true, Some(bos)) = (self.bos_added, self.bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The bytes that `id` adds to the text; none for control tokens and unknown ids.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        usize::try_from(id).ok().and_then(|id| self.bytes.get(id)).map_or(&[], |bytes| bytes)
    }

    /// The text of `ids`; invalid UTF-8 becomes U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn special_text(&self, id: u32) -> Option<&str> {
        self.specials.iter().find(|special| special.id == id).map(|s| s.text.as_str())
    }

    /// Where special tokens stand, from left to right: the one that starts first, and the longest of those that
    /// start together. The text is searched once for each token, however many are found: a prompt may hold a
    /// hundred thousand of them.
    fn find_specials<'a>(
        &'a self,
        text: &'a str,
        special: ParseSpecial,
    ) -> impl Iterator<Item = (usize, &'a Special)> + use<'a> {
        let find = move |from: usize, token: &Special| {
            text.get(from..).and_then(|rest| rest.find(&token.text)).map(|at| from.saturating_add(at))
        };
        let wanted = self.specials.iter().filter(move |token| !token.control || special == ParseSpecial::Yes);
        // Each token that is still to come, with its next place.
        let mut ahead: Vec<(usize, &Special)> = wanted.filter_map(|token| Some((find(0, token)?, token))).collect();
        let mut done = 0;
        std::iter::from_fn(move || {
            ahead.retain_mut(|(at, token)| {
                if *at >= done {
                    return true;
                }
                find(done, token).map(|next| *at = next).is_some()
            });
            let first = ahead.iter().min_by_key(|(at, token)| (*at, usize::MAX - token.text.len()));
            let (at, token) = first.copied()?;
            done = at.saturating_add(token.text.len());
            Some((at, token))
        })
    }

    fn encode_plain(&self, text: &str, guard: Option<char>, ids: &mut Vec<u32>) -> Result<(), TokenizeError> {
        if text.is_empty() {
            return Ok(());
        }
        let unguarded = guard.map(|guard| text.replace(guard, ""));
        let text = unguarded.as_deref().unwrap_or(text);
        let encoding = self.library.encode_fast(text, false).map_err(|_| TokenizeError::Internal)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

fn malformed(what: &str) -> LoadError {
    LoadError::Malformed(what.to_owned())
}

fn unsupported(what: String) -> LoadError {
    LoadError::Unsupported(what)
}

fn library(gguf: &Gguf, tokens: &[String]) -> Result<Library, LoadError> {
    let mut vocabulary = tokenizers::models::bpe::Vocab::default();
    for (id, token) in (0u32..).zip(tokens) {
        vocabulary.insert(token.clone(), id);
    }
    let merges = gguf
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| malformed("no merges"))?
        .iter()
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| malformed("a merge is not a pair"))?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .build()
        .map_err(|error| LoadError::Malformed(format!("merges: {error}")))?;
    let mut library = Library::new(model);
    library.with_pre_tokenizer(Some(pre_tokenizer(gguf.text("tokenizer.ggml.pre"))?));
    Ok(library)
}

/// The pre-tokenizers by the name in the header; llama.cpp's `llama-vocab.cpp` holds the same list.
fn pre_tokenizer(name: Option<&str>) -> Result<PreTokenizerWrapper, LoadError> {
    const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let steps = match name {
        Some("smollm") => vec![Digits::new(true).into(), byte_level(true)],
        Some("gpt-2") => vec![byte_level(true)],
        Some("llama-bpe") => vec![split(LLAMA_3)?, byte_level(false)],
        Some("qwen2") => vec![split(QWEN_2)?, byte_level(false)],
        Some(other) => return Err(unsupported(format!("pre-tokenizer {other:?}"))),
        None => return Err(unsupported("a model without a named pre-tokenizer".to_owned())),
    };
    Ok(Sequence::new(steps).into())
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, true, use_regex).into()
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, LoadError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|error| LoadError::Internal(format!("pre-tokenizer: {error}")))
}

/// Bytes by id, and the special tokens.
type Classified = (Vec<Box<[u8]>>, Vec<Special>);

/// Splits the vocabulary into the bytes of ordinary tokens and the list of special ones.
fn classify(tokens: &[String], types: &[i64]) -> Result<Classified, LoadError> {
    let alphabet = byte_alphabet();
    let mut bytes = Vec::with_capacity(tokens.len());
    let mut specials = Vec::new();
    let kinds = types.iter().copied().chain(std::iter::repeat(1));
    for ((id, token), kind) in (0u32..).zip(tokens).zip(kinds) {
        let control = kind == TYPE_CONTROL;
        if control || kind == TYPE_USER_DEFINED {
            if token.is_empty() {
                return Err(malformed("a special token is empty"));
            }
            specials.push(Special { text: token.clone(), id, control });
        }
        bytes.push(match kind {
            TYPE_CONTROL => Box::default(),
            TYPE_USER_DEFINED => token.as_bytes().into(),
            _ => spelled(token, &alphabet),
        });
    }
    Ok((bytes, specials))
}

/// The bytes a byte-level token stands for; characters outside the alphabet stand for themselves.
fn spelled(token: &str, alphabet: &HashMap<char, u8>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match alphabet.get(&character) {
            Some(byte) => bytes.push(*byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes.into()
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 upwards.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut shifted = '\u{100}'..;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let character = if printable { char::from(byte) } else { shifted.next()? };
            Some((character, byte))
        })
        .collect()
}

fn id_of(gguf: &Gguf, key: &str, vocabulary_len: usize) -> Result<Option<u32>, LoadError> {
    let Some(id) = gguf.int(key) else { return Ok(None) };
    match u32::try_from(id) {
        Ok(id) if (id as usize) < vocabulary_len => Ok(Some(id)),
        _ => Err(LoadError::Malformed(format!("{key} is outside the vocabulary"))),
    }
}

fn eos_ids(gguf: &Gguf, specials: &[Special], len: usize) -> Result<Vec<u32>, LoadError> {
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        ids.extend(id_of(gguf, key, len)?);
    }
    let ends = specials.iter().filter(|s| s.control && END_TEXTS.contains(&s.text.as_str()));
    ids.extend(ends.map(|special| special.id));
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}
