//! The body of `/v1/embeddings` as tokens for the embedding model, or why it is refused.
//!
//! `input` is a text, texts, a text's tokens, or several texts' tokens. Tokens are taken as they are, with no mark of the
//! text's ends put around them: who sends tokens has a tokenizer, which does that.

use cocoon_llm::{EmbedError, Embedder, TokenizeError};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Refusal;
use super::body::field;

/// What to embed and how to put it.
pub(in crate::engine::embedded) struct Wanted {
    pub(in crate::engine::embedded) model: Option<String>,
    pub(in crate::engine::embedded) encoding: Encoding,
    /// The tokens of each text.
    pub(in crate::engine::embedded) texts: Vec<Vec<u32>>,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::engine::embedded) enum Encoding {
    /// Numbers in decimal.
    #[default]
    Float,
    /// The bytes of 32-bit floats, the lowest first.
    Base64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Wanted {
    pub(in crate::engine::embedded) fn read(embedder: &Embedder, body: &[u8]) -> Result<Self, Refusal> {
        let mut fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| Refusal::new("the body is no JSON object", None, "invalid_type"))?;
        let model = field(&mut fields, "model")?;
        check_dimensions(field(&mut fields, "dimensions")?, embedder.info().width)?;
        let encoding = encoding(field(&mut fields, "encoding_format")?)?;
        let input = field(&mut fields, "input")?;
        let input: Input = input.ok_or_else(|| Refusal::new("`input` is missing", Some("input"), "missing"))?;
        let texts = input.tokens(embedder)?;
        Ok(Self { model, encoding, texts })
    }
}

impl Input {
    fn tokens(self, embedder: &Embedder) -> Result<Vec<Vec<u32>>, Refusal> {
        match self {
            Self::Text(text) => Ok(vec![tokens(embedder, &text, "input")?]),
            Self::Tokens(tokens) if tokens.is_empty() => Err(Refusal::of_empty("input")),
            Self::Tokens(tokens) => Ok(vec![tokens]),
            Self::Texts(texts) => {
                // Before the seconds that tokenising a million of them takes.
                Refusal::of_too_many(texts.len(), embedder.info().inputs_max)?;
                let numbered = texts.iter().enumerate();
                numbered.map(|(index, text)| tokens(embedder, text, &format!("input[{index}]"))).collect()
            }
            Self::ManyTokens(texts) => Ok(texts),
        }
    }
}

fn tokens(embedder: &Embedder, text: &str, path: &str) -> Result<Vec<u32>, Refusal> {
    if text.is_empty() {
        return Err(Refusal::of_empty(path));
    }
    let tokens_max = embedder.info().tokens_max;
    match embedder.tokenize(text) {
        // Said at once, and not after the others were tokenised for nothing.
        Ok(tokens) if tokens.len() > tokens_max => {
            Err(Refusal::of_too_long(path, &format!("{} tokens", tokens.len()), tokens_max))
        }
        Ok(tokens) => Ok(tokens),
        Err(TokenizeError::TooLong { bytes, .. }) => {
            Err(Refusal::of_too_long(path, &format!("{bytes} bytes"), tokens_max))
        }
        Err(TokenizeError::Internal | _) => Err(Refusal::at(path.to_owned(), "cannot be tokenised", "invalid_value")),
    }
}

/// The model was not trained to have its vectors shortened.
fn check_dimensions(asked: Option<u64>, width: usize) -> Result<(), Refusal> {
    if asked.is_none_or(|asked| usize::try_from(asked) == Ok(width)) {
        return Ok(());
    }
    let message = format!(
        "this model's embeddings have {width} dimensions and cannot be shortened (it is not a Matryoshka model): leave \
         `dimensions` out"
    );
    Err(Refusal::new(&message, Some("dimensions"), "unsupported_parameter"))
}

fn encoding(asked: Option<Value>) -> Result<Encoding, Refusal> {
    let wrong = |_| {
        let message = "`encoding_format` must be \"float\" or \"base64\"";
        Refusal::new(message, Some("encoding_format"), "invalid_value")
    };
    asked.map_or_else(|| Ok(Encoding::default()), |value| Encoding::deserialize(value).map_err(wrong))
}

impl Refusal {
    fn of_empty(path: &str) -> Self {
        Self::at(path.to_owned(), "is empty", "invalid_value")
    }

    fn of_too_long(path: &str, length: &str, tokens_max: usize) -> Self {
        let problem =
            format!("has {length}, and the model takes at most {tokens_max} tokens: split it, nothing is cut off");
        Self::at(path.to_owned(), &problem, "context_length_exceeded")
    }

    fn of_too_many(inputs: usize, inputs_max: usize) -> Result<(), Self> {
        if inputs <= inputs_max {
            return Ok(());
        }
        let problem = format!("has {inputs} elements, above the limit of {inputs_max}");
        Err(Self::at("input".to_owned(), &problem, "invalid_value"))
    }

    /// Why the model refused what was read from a body.
    pub(in crate::engine::embedded) fn of_embedding(error: EmbedError, texts: usize) -> Self {
        // A request with a single text may not have called it the first.
        let path = |input: usize| if texts == 1 { "input".to_owned() } else { format!("input[{input}]") };
        match error {
            EmbedError::NoInput => Self::of_empty("input"),
            EmbedError::Empty { input } => Self::of_empty(&path(input)),
            EmbedError::TooLong { input, tokens, tokens_max } => {
                Self::of_too_long(&path(input), &format!("{tokens} tokens"), tokens_max)
            }
            EmbedError::UnknownToken { input } => {
                Self::at(path(input), "holds a token that the model does not have", "invalid_value")
            }
            EmbedError::TooManyInputs { .. } | EmbedError::Busy | EmbedError::ShuttingDown | _ => {
                Self::new(&error.to_string(), Some("input"), "invalid_value")
            }
        }
    }
}
