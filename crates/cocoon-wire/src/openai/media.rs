//! What audio and images count for: rules that are the same at the client, the proxy and the worker.
//!
//! There are four kinds of tokens and one price, so media are counted in tokens, too:
//!
//! - A second of audio is [`AUDIO_TOKENS_PER_SECOND`] prompt tokens: Whisper's encoder has 1,500 positions for 30 seconds.
//!   A transcript's tokens are completion tokens.
//! - An image that is made is a completion token for each square of 16 by 16 pixels of the size that was asked for.
//! - An image that is sent is prompt tokens, as its engine says.
//!
//! What an engine says it used is what counts, up to what the request could use at most. The bounds are made of what all
//! three can see: bytes and fields of the body. See `docs/decisions/0017-media-count-in-tokens.md`.

use cocoon_units::Usage;

use super::BodyError;
use super::read::bad_field;
use crate::usage::Told;

/// Prompt tokens of one second of audio.
pub const AUDIO_TOKENS_PER_SECOND: u64 = 50;

/// Fewest bytes of audio for one prompt token. Twice the 50 tokens a second, since some engines count frames of 10 ms, from
/// 800 bytes a second: 6.4 kbit/s, where speech codecs begin (Opus: RFC 6716, section 2).
const AUDIO_BYTES_PER_TOKEN_MIN: u64 = 8;

/// Fewest bytes of audio for one token of its transcript. Whisper writes at most 448 tokens for 30 seconds, 15 a second, so
/// this has room for three times as many.
const AUDIO_BYTES_PER_WORD_TOKEN_MIN: u64 = 16;

/// Most bytes of audio for one prompt token: two channels of 16 bits at 48 kHz. What an engine counts that does not say.
const AUDIO_BYTES_PER_TOKEN_MAX: u64 = 192_000 / AUDIO_TOKENS_PER_SECOND;

/// Most prompt tokens of one image that is sent: 2,048 pixels square.
const IMAGE_FILE_TOKENS_MAX: u64 = 16_384;

/// Pixels of one side of a square that counts as a token.
const IMAGE_TOKEN_SIDE: u32 = 16;

/// Longest side of an image that is asked for: above what engines make.
const IMAGE_SIDE_MAX: u32 = 8_192;

/// Width and height of images that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaSize {
    width: u32,
    height: u32,
}

impl MediaSize {
    /// OpenAI's default.
    const DEFAULT: Self = Self { width: 1_024, height: 1_024 };
    /// The largest that OpenAI's `auto` chooses.
    const AUTO: Self = Self { width: 1_536, height: 1_024 };

    /// Reads `size`; absent, it is 1024x1024.
    ///
    /// # Errors
    ///
    /// When it is neither `auto` nor two sides within range.
    pub(super) fn read(size: Option<&str>) -> Result<Self, BodyError> {
        let refused = bad_field("size", "`auto`, or a width and a height of at most 8192 pixels, such as `1024x1024`");
        match size {
            None => Ok(Self::DEFAULT),
            Some("auto") => Ok(Self::AUTO),
            Some(size) => {
                let (width, height) = size.split_once('x').ok_or(refused)?;
                let (width, height) = (side(width).ok_or(refused)?, side(height).ok_or(refused)?);
                Ok(Self { width, height })
            }
        }
    }

    /// Completion tokens of one such image.
    #[must_use]
    pub fn tokens(self) -> u32 {
        // Each factor is at most 512.
        self.width.div_ceil(IMAGE_TOKEN_SIDE).saturating_mul(self.height.div_ceil(IMAGE_TOKEN_SIDE))
    }
}

/// A side in plain digits: `+5` and `05` are numbers to some readers only.
fn side(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|side| is_plain && (1..=IMAGE_SIDE_MAX).contains(side))
}

/// What a request may use, and how its usage is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metering {
    /// Text in, text out, as engines count it; the token limit bounds what comes out.
    Text,
    /// Text in, numbers out.
    Prompt {
        /// Prompt tokens beyond a token for each byte.
        extra: u64,
    },
    /// Audio in, text out.
    Audio {
        /// Bytes of audio.
        bytes: u64,
    },
    /// Images out.
    Image {
        /// Completion tokens of all of them.
        made: u32,
        /// Bytes of images that are sent.
        sent_bytes: u64,
        /// Prompt tokens of them, at most.
        sent: u64,
    },
}

impl Metering {
    pub(super) fn audio(files: &[u64]) -> Self {
        Self::Audio { bytes: sum(files) }
    }

    pub(super) fn image(n: u32, size: MediaSize, files: &[u64]) -> Result<Self, BodyError> {
        let made = size.tokens().checked_mul(n).filter(|made| *made <= i32::MAX.unsigned_abs());
        let made = made.ok_or_else(|| bad_field("n", "smaller"))?;
        let sent = files.iter().map(|&bytes| bytes.min(IMAGE_FILE_TOKENS_MAX)).fold(0u64, u64::saturating_add);
        Ok(Self::Image { made, sent_bytes: sum(files), sent })
    }

    /// Prompt tokens at most, of a body with that many bytes.
    pub(super) fn prompt_max(&self, body_len: u64) -> u64 {
        match *self {
            // No text has more tokens than bytes.
            Self::Text => body_len,
            Self::Prompt { extra } => body_len.saturating_add(extra),
            Self::Audio { bytes } => {
                body_len.saturating_sub(bytes).saturating_add(bytes.div_ceil(AUDIO_BYTES_PER_TOKEN_MIN))
            }
            Self::Image { sent_bytes, sent, .. } => body_len.saturating_sub(sent_bytes).saturating_add(sent),
        }
    }

    /// Completion tokens at most; none where the body's token limit says.
    pub(super) fn completion_max(&self) -> Option<u32> {
        match *self {
            Self::Text => None,
            Self::Prompt { .. } => Some(0),
            Self::Audio { bytes } => {
                Some(u32::try_from(bytes.div_ceil(AUDIO_BYTES_PER_WORD_TOKEN_MIN)).unwrap_or(u32::MAX))
            }
            Self::Image { made, .. } => Some(made),
        }
    }

    /// What counts where the engine says nothing: of audio the fewest tokens that so many bytes can be, of images the
    /// tokens of their size. `text` is what the text of the body counts for then.
    pub(super) fn untold(&self, text: u64) -> Usage {
        let of = |prompt, completion| Usage { prompt, completion, ..Usage::default() };
        match *self {
            Self::Text | Self::Prompt { .. } => of(text, 0),
            Self::Audio { bytes } => of(bytes / AUDIO_BYTES_PER_TOKEN_MAX, 0),
            Self::Image { made, .. } => of(text, u64::from(made)),
        }
    }

    /// What the engine says, as it counts here.
    pub(super) fn told(&self, told: &Told) -> Option<Usage> {
        let prompt_only = |prompt| Usage { prompt, ..Usage::default() };
        match self {
            Self::Text => told.usage,
            // Rerankers say one sum.
            Self::Prompt { .. } => match (told.usage, told.total) {
                (Some(usage), _) if usage.prompt > 0 => {
                    Some(Usage { cached: usage.cached, ..prompt_only(usage.prompt) })
                }
                (_, Some(total)) => Some(prompt_only(total)),
                (usage, None) => usage.map(|_| Usage::default()),
            },
            Self::Audio { .. } => {
                let seconds = told.seconds.map(|seconds| seconds.saturating_mul(AUDIO_TOKENS_PER_SECOND));
                told.usage.or_else(|| seconds.map(prompt_only))
            }
            Self::Image { .. } => told.usage,
        }
    }
}

/// No more than was reserved for: what is beyond is the engine's loss.
pub(super) fn cut(usage: Usage, prompt_max: u64, completion_max: u64) -> Usage {
    let prompt = usage.prompt.min(prompt_max);
    let completion = usage.completion.min(completion_max);
    // A part that exceeds its whole is refused later, as it is; one that does so by the cut only is cut, too.
    let part = |part: u64, of: u64, cut: u64| if part <= of { part.min(cut) } else { part };
    Usage {
        prompt,
        cached: part(usage.cached, usage.prompt, prompt),
        completion,
        reasoning: part(usage.reasoning, usage.completion, completion),
    }
}

/// Engines that read it make other images than `size` pays for.
pub(super) const fn refused_side(field: &'static str) -> BodyError {
    BodyError::Unsupported { field, reason: "images are counted by `size`; give that instead" }
}

fn sum(bytes: &[u64]) -> u64 {
    bytes.iter().fold(0u64, |sum, &more| sum.saturating_add(more))
}
