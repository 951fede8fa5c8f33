//! What a body asks the engine to read: how many prompts, how much text, and whether any of it lies elsewhere.

use std::ops::Range;

use super::BodyError;
use crate::json::{Json, RawText, Visitor};

/// Walks over a body with the reader, and takes note of its strings.
#[derive(Default)]
pub(super) struct Survey {
    /// Whether there are media that an engine would fetch.
    pub(super) has_remote_image: bool,
    /// Bytes of text that an engine certainly reads.
    pub(super) text_bytes: u64,
    /// Members of objects and items of lists, at all levels.
    pub(super) values: usize,
}

/// What a value is to the survey.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing that is known to be read.
    Plain,
    /// The body itself.
    Body,
    Messages,
    /// A prompt, or the content of a message: a text, or parts with one each.
    Content,
    /// Everything within is text for the engine: tools and their calls.
    Text,
    /// The value of a key such as `image_url`: a URL, or an object with one.
    Media,
}

impl Visitor for Survey {
    type Role = Role;

    fn item(&mut self, parent: Role) -> Role {
        self.values = self.values.saturating_add(1);
        parent
    }

    fn member(&mut self, parent: Role, key: &RawText<'_>) -> Role {
        self.values = self.values.saturating_add(1);
        match (parent, key.decode().as_ref()) {
            (_, "image_url" | "video_url" | "audio_url" | "file_url") | (Role::Media, "url") => Role::Media,
            (Role::Text, _) | (Role::Body, "tools" | "functions") | (Role::Messages, "tool_calls") => Role::Text,
            (Role::Body, "messages") => Role::Messages,
            (Role::Body, "prompt" | "suffix" | "input" | "query" | "documents")
            | (Role::Messages, "content")
            | (Role::Content, "text") => Role::Content,
            (Role::Plain | Role::Body | Role::Messages | Role::Content | Role::Media, _) => Role::Plain,
        }
    }

    fn text(&mut self, role: Role, text: &RawText<'_>) {
        match role {
            // Whatever is not a `data:` URL is taken for remote: engines read more schemes than one knows.
            Role::Media => {
                let url = text.decode();
                let scheme = url.trim_start().get(..5);
                self.has_remote_image |= !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
            }
            Role::Content | Role::Text => {
                let bytes = u64::try_from(text.least_len()).unwrap_or(u64::MAX);
                self.text_bytes = self.text_bytes.saturating_add(bytes);
            }
            Role::Plain | Role::Body | Role::Messages => {}
        }
    }
}

/// How many prompts a value is, and of how many token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prompts {
    pub(super) count: u32,
    pub(super) token_ids: u64,
}

impl Prompts {
    /// Reads the value of `prompt`, which is known to be JSON.
    ///
    /// A list of numbers is one prompt, any other list one for each item. A list of both, which hardly any engine takes
    /// and some take for one, is counted by its items: rather too many than too few.
    pub(super) fn read(raw: &str) -> Result<Self, BodyError> {
        if !raw.starts_with('[') {
            return Ok(Self { count: 1, token_ids: 0 });
        }
        let (mut items, mut numbers, mut nested) = (0u32, 0u64, Ok(0u64));
        each_item(raw, &mut |item| {
            items = items.saturating_add(1);
            numbers = numbers.saturating_add(u64::from(is_number(item)));
            if item.starts_with('[')
                && let Ok(ids) = &mut nested
            {
                match count_numbers(item) {
                    Ok(more) => *ids = ids.saturating_add(more),
                    Err(error) => nested = Err(error),
                }
            }
        })?;
        let count = if u64::from(items) == numbers { 1 } else { items };
        Ok(Self { count, token_ids: numbers.saturating_add(nested?) })
    }
}

fn count_numbers(raw: &str) -> Result<u64, BodyError> {
    let mut numbers = 0u64;
    each_item(raw, &mut |item| numbers = numbers.saturating_add(u64::from(is_number(item))))?;
    Ok(numbers)
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first.is_ascii_digit())
}

/// How many items a JSON array has; `None` for anything else.
pub(super) fn count_items(raw: &str) -> Result<Option<u64>, BodyError> {
    if !raw.starts_with('[') {
        return Ok(None);
    }
    let mut items = 0u64;
    each_item(raw, &mut |_| items = items.saturating_add(1))?;
    Ok(Some(items))
}

fn each_item(raw: &str, on_item: &mut dyn FnMut(&str)) -> Result<(), BodyError> {
    let mut on_span = |span: Range<usize>| on_item(raw.get(span).unwrap_or_default());
    Ok(Json::at(raw, 0).array(0, &mut Survey::default(), Role::Plain, &mut on_span)?)
}
