//! What the network must know of a request, whatever its endpoint and the form of its body.
//!
//! Client, proxy and worker read it from the same bytes by the same rules, so that what is held, what is reserved and what
//! is billed agree to the token.

use bytes::Bytes;
use cocoon_units::Usage;

use super::form;
use super::media::{self, MediaSize, Metering};
use super::multipart::Form;
use super::prompt::count_items;
use super::read::{RequestBody, bad_field, read_text};
use super::{BodyError, BodyKind, Endpoint, RequestFields};
use crate::limits::UPLOAD_BODY_MAX;
use crate::usage::Told;

/// Tokens that a template may add to each pair of a query and a document: rerankers that are language models ask a question
/// about it, of some sixty tokens.
const RERANK_TEMPLATE_TOKENS_MAX: u64 = 128;

/// What a request says, and what it may use.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFacts {
    /// The fields that have the same meaning everywhere.
    pub fields: RequestFields,
    body_len: u64,
    metering: Metering,
}

impl RequestFacts {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// See [`BodyError`]; the app is to blame.
    pub fn read(endpoint: Endpoint, content_type: Option<&str>, body: &Bytes) -> Result<Self, BodyError> {
        match endpoint.body() {
            BodyKind::None => Ok(Self::of_nothing()),
            BodyKind::Json => Self::read_json(endpoint, body),
            BodyKind::Multipart => Self::read_form(endpoint, content_type, body),
        }
    }

    /// Of a request without a body, which uses nothing.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { fields: RequestFields::default(), body_len: 0, metering: Metering::Prompt { extra: 0 } }
    }

    /// The same for the body as [`edit_body`](super::edit_body) left it: edits change nothing but its length.
    #[must_use]
    pub fn of_edited(self, body: &Bytes) -> Self {
        Self { body_len: len(body), ..self }
    }

    fn read_json(endpoint: Endpoint, body: &Bytes) -> Result<Self, BodyError> {
        let request = RequestBody::read(body)?;
        let metering = match endpoint {
            Endpoint::Embeddings => Metering::Prompt { extra: 0 },
            Endpoint::Rerank => rerank(&request, body)?,
            Endpoint::ImageGenerations => image(&request, body)?,
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Transcriptions
            | Endpoint::Translations
            | Endpoint::ImageEdits
            | Endpoint::Models => Metering::Text,
        };
        Ok(Self { fields: request.fields, body_len: len(body), metering })
    }

    fn read_form(endpoint: Endpoint, content_type: Option<&str>, body: &Bytes) -> Result<Self, BodyError> {
        if body.len() > UPLOAD_BODY_MAX {
            return Err(BodyError::TooLarge);
        }
        let form = Form::read(content_type.ok_or(BodyError::NotMultipart)?, body)?;
        let form::FormFields { mut fields, size, response_format, files, prompt_bytes } = form::read(&form)?;
        if files.is_empty() {
            let field = if endpoint == Endpoint::ImageEdits { "image" } else { "file" };
            return Err(bad_field(field, "there, as a file"));
        }
        fields.prompt_text_bytes = prompt_bytes;
        let metering = if endpoint == Endpoint::ImageEdits {
            check_image_format(response_format)?;
            Metering::image(fields.n, MediaSize::read(size)?, &files)?
        } else {
            check_transcript_format(response_format)?;
            Metering::audio(&files)
        };
        Ok(Self { fields, body_len: len(body), metering })
    }

    /// How many answers are made, each of up to [`Self::token_limit`].
    #[must_use]
    pub fn choices(&self) -> u32 {
        if self.metering == Metering::Text { self.fields.choices() } else { 1 }
    }

    /// Completion tokens of one answer at most: as the body says, or `default` where it may say and does not.
    #[must_use]
    pub fn token_limit(&self, default: u32) -> u32 {
        self.metering.completion_max().unwrap_or_else(|| self.fields.max_tokens.unwrap_or(default))
    }

    /// Prompt tokens at most, less the margin for a template.
    #[must_use]
    pub fn prompt_tokens_max(&self) -> u64 {
        self.metering.prompt_max(self.body_len)
    }

    /// What an answer used: as the engine says, cut to what was reserved for; `None` as long as it has said nothing.
    ///
    /// Of chat and completions nothing is cut: whoever bounds those is their token limit.
    #[must_use]
    pub fn told(&self, told: &Told) -> Option<Usage> {
        let usage = self.metering.told(told)?;
        Some(match self.metering.completion_max() {
            None => usage,
            Some(completion_max) => media::cut(usage, self.template_margin(), completion_max.into()),
        })
    }

    /// What counts where the engine says nothing; `text` is what the text of the prompt counts for then.
    #[must_use]
    pub fn untold(&self, text: u64) -> Usage {
        self.metering.untold(text)
    }

    fn template_margin(&self) -> u64 {
        self.prompt_tokens_max().saturating_add(cocoon_units::TEMPLATE_TOKENS_MARGIN)
    }
}

/// The query is read once more for each document.
fn rerank(request: &RequestBody, body: &Bytes) -> Result<Metering, BodyError> {
    request.check_extras()?;
    let query = request.extra("query").ok_or_else(|| bad_field("query", "there"))?;
    let documents = request.extra("documents").ok_or_else(|| bad_field("documents", "there"))?;
    let documents = count_items(text(body, documents))?.ok_or_else(|| bad_field("documents", "a list"))?;
    let query_len = u64::try_from(query.len()).unwrap_or(u64::MAX);
    Ok(Metering::Prompt { extra: documents.saturating_mul(query_len.saturating_add(RERANK_TEMPLATE_TOKENS_MAX)) })
}

fn image(request: &RequestBody, body: &Bytes) -> Result<Metering, BodyError> {
    const SENT: [&str; 6] = ["image", "images", "image[]", "mask", "input_image", "input_images"];
    request.check_extras()?;
    if let Some(field) = SENT.into_iter().find(|name| request.extra(name).is_some()) {
        return Err(BodyError::Unsupported { field, reason: "send images as files to /v1/images/edits" });
    }
    for field in ["width", "height"] {
        if request.extra(field).is_some() {
            return Err(media::refused_side(field));
        }
    }
    if request.extra("url").is_some() {
        return Err(BodyError::Unsupported { field: "url", reason: "workers fetch nothing from the network" });
    }
    let field = |name: &'static str| match request.extra(name) {
        Some(value) => read_text(name, text(body, value)),
        None => Ok(None),
    };
    check_image_format(field("response_format")?.as_deref())?;
    Metering::image(request.fields.n, MediaSize::read(field("size")?.as_deref())?, &[])
}

/// A link would lead into the worker's machine, which nobody can reach.
fn check_image_format(format: Option<&str>) -> Result<(), BodyError> {
    match format {
        None | Some("b64_json") => Ok(()),
        Some(_) => Err(BodyError::Unsupported {
            field: "response_format",
            reason: "images come as `b64_json`: a link would lead into the worker, which nobody can reach",
        }),
    }
}

/// Otherwise whoever asks would choose by the format not to be counted.
fn check_transcript_format(format: Option<&str>) -> Result<(), BodyError> {
    match format {
        None | Some("json" | "verbose_json" | "diarized_json") => Ok(()),
        Some(_) => Err(BodyError::Unsupported {
            field: "response_format",
            reason: "transcripts come as `json`, `verbose_json` or `diarized_json`: other formats do not say how long the audio was, which is what it costs",
        }),
    }
}

fn text(body: &Bytes, range: std::ops::Range<usize>) -> &str {
    // It was read as UTF-8, and values begin and end with ASCII.
    body.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

fn len(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
