//! Reads a request body into fields and spans.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use cocoon_units::Coefficient;

use super::prompt::{Prompts, Role, Survey};
use super::{BodyError, RequestFields};
use crate::json::{Json, Member};
use crate::limits::{JSON_MEMBERS_MAX, JSON_VALUES_MAX, REQUEST_BODY_MAX, TIMEOUT_MS_MAX};

/// Fields that the original's client takes out before it forwards a body.
pub(super) const COCOON_FIELDS: [&str; 4] = ["max_coefficient", "timeout", "enable_debug", "request_guid"];

/// Fields that decide what an answer costs. An engine that compares keys without regard to case would read them twice.
const SPELLED_FIELDS: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "n",
    "best_of",
    "n_cmpl",
    "prompt",
    "prompt_embeds",
];

/// Fields that decide what some endpoint costs, or where its engine would fetch from. Chat bodies may have them in any
/// letters; whoever reads them asks with [`RequestBody::extra`].
const EXTRA_FIELDS: [&str; 13] = [
    "query",
    "documents",
    "size",
    "response_format",
    "image",
    "images",
    "image[]",
    "mask",
    "url",
    "width",
    "height",
    "input_image",
    "input_images",
];

/// A body's fields, and where what may be edited lies.
pub(super) struct RequestBody {
    pub(super) fields: RequestFields,
    /// Just after the opening brace.
    pub(super) start: usize,
    /// Every member, in order.
    pub(super) members: Vec<Span>,
    /// The limits that are given, all the same.
    pub(super) limits: Vec<GivenLimit>,
    /// A `max_tokens` that is there and null.
    pub(super) null_max_tokens: Option<Range<usize>>,
    pub(super) stream_options: StreamOptions,
    /// Those of [`EXTRA_FIELDS`] that are there and not null, with their values.
    extras: Vec<(&'static str, Range<usize>)>,
    /// One of them, spelled otherwise.
    misspelled: Option<&'static str>,
    /// Whether `fields.prompts` is counted rather than taken for granted.
    has_prompts: bool,
}

/// A token limit, by one of its names.
pub(super) struct GivenLimit {
    name: &'static str,
    pub(super) limit: u32,
    pub(super) value: Range<usize>,
}

/// Where one member lies.
pub(super) struct Span {
    /// From after the preceding brace or comma to the following comma or brace.
    pub(super) whole: Range<usize>,
    pub(super) is_cocoon_field: bool,
}

/// What must change for the usage event to come.
pub(super) enum StreamOptions {
    Absent,
    /// `null`: replace it.
    Null(Range<usize>),
    /// An object without `include_usage`: insert after its brace.
    Silent {
        insert_at: usize,
        is_empty: bool,
    },
    /// An object with `include_usage`: replace the value.
    Said(Range<usize>),
}

impl RequestBody {
    pub(super) fn read(body: &Bytes) -> Result<Self, BodyError> {
        if body.len() > REQUEST_BODY_MAX {
            return Err(BodyError::TooLarge);
        }
        let mut json = Json::new(body)?;
        let text = json.body();
        json.skip_space();
        if json.peek() != Some(b'{') {
            // A body that is no JSON at all is told so, rather than that it is no object.
            json.value(0, &mut Survey::default(), Role::Plain)?;
            json.finish()?;
            return Err(BodyError::NotAnObject);
        }
        let mut survey = Survey::default();
        let members = read_members(&mut json, &mut survey, Role::Body)?;
        json.finish()?;
        if survey.values > JSON_VALUES_MAX {
            return Err(BodyError::TooLarge);
        }
        let mut request = Self {
            fields: RequestFields::default(),
            start: members.first().map_or(0, |member| member.whole.start),
            members: Vec::with_capacity(members.len()),
            limits: Vec::new(),
            null_max_tokens: None,
            stream_options: StreamOptions::Absent,
            extras: Vec::new(),
            misspelled: None,
            has_prompts: false,
        };
        request.fields.has_remote_image = survey.has_remote_image;
        request.fields.prompt_text_bytes = survey.text_bytes;
        if members.is_empty() {
            request.start = text.find('{').unwrap_or(0).saturating_add(1);
        }
        for member in members {
            request.take(text, &member)?;
        }
        Ok(request)
    }

    fn take(&mut self, text: &str, member: &Member<'_>) -> Result<(), BodyError> {
        let key = member.key.decode();
        check_spelling(&key)?;
        let raw = text.get(member.value.clone()).unwrap_or_default();
        let fields = &mut self.fields;
        match key.as_ref() {
            "model" => fields.model = read_text("model", raw)?,
            "stream" => fields.stream = read_bool("stream", raw)?,
            "stream_options" => self.take_stream_options(text, &member.value)?,
            "max_tokens" if raw == "null" => self.null_max_tokens = Some(member.value.clone()),
            "max_tokens" => {
                self.take_limit("max_tokens", raw, &member.value)?;
                self.fields.has_max_tokens = true;
            }
            "max_completion_tokens" => {
                self.take_limit("max_completion_tokens", raw, &member.value)?;
            }
            "max_output_tokens" => self.take_limit("max_output_tokens", raw, &member.value)?,
            "n_predict" => self.take_limit("n_predict", raw, &member.value)?,
            "n" => fields.n = read_choices("n", raw)?,
            "best_of" => fields.best_of = fields.best_of.max(read_choices("best_of", raw)?),
            "n_cmpl" => fields.best_of = fields.best_of.max(read_choices("n_cmpl", raw)?),
            "prompt" | "prompt_embeds" => self.take_prompts(raw)?,
            "max_coefficient" => {
                let coefficient = read_count("max_coefficient", raw)?;
                fields.max_coefficient = coefficient.map(Coefficient::from_thousandths);
            }
            "timeout" => fields.timeout_ms = read_seconds("timeout", raw)?,
            "enable_debug" => fields.enable_debug = read_bool("enable_debug", raw)?,
            "request_guid" => fields.request_guid = read_text("request_guid", raw)?,
            key => self.take_extra(key, raw, &member.value),
        }
        self.members.push(Span { whole: member.whole.clone(), is_cocoon_field: COCOON_FIELDS.contains(&key.as_ref()) });
        Ok(())
    }

    fn take_extra(&mut self, key: &str, raw: &str, value: &Range<usize>) {
        match EXTRA_FIELDS.into_iter().find(|name| *name == key) {
            Some(name) if raw != "null" => self.extras.push((name, value.clone())),
            Some(_) => {}
            None => self.misspelled = self.misspelled.or_else(|| misspelled(key, &EXTRA_FIELDS)),
        }
    }

    /// Where the value of one of [`EXTRA_FIELDS`] lies.
    pub(super) fn extra(&self, name: &str) -> Option<Range<usize>> {
        self.extras.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    /// Refuses an extra field in other letters than lower case.
    pub(super) fn check_extras(&self) -> Result<(), BodyError> {
        self.misspelled.map_or(Ok(()), |field| Err(bad_field(field, SPELLED)))
    }

    fn take_limit(&mut self, name: &'static str, raw: &str, value: &Range<usize>) -> Result<(), BodyError> {
        let Some(limit) = read_count(name, raw)? else { return Ok(()) };
        if limit == 0 {
            // Engines take it for no limit at all.
            return Err(bad_field(name, "a whole number from 1 on"));
        }
        // Whichever was reserved for, some engine would keep to another.
        if let Some(other) = self.limits.iter().find(|other| other.limit != limit) {
            return Err(BodyError::LimitsDiffer { field: name, other: other.name });
        }
        self.limits.push(GivenLimit { name, limit, value: value.clone() });
        self.fields.max_tokens = Some(limit);
        Ok(())
    }

    /// Both may be given, and both are answered.
    fn take_prompts(&mut self, raw: &str) -> Result<(), BodyError> {
        if raw == "null" {
            return Ok(());
        }
        let Prompts { count, token_ids } = Prompts::read(raw)?;
        let counted = std::mem::replace(&mut self.has_prompts, true);
        let fields = &mut self.fields;
        fields.prompts = if counted { fields.prompts.saturating_add(count) } else { count };
        fields.prompt_token_ids = fields.prompt_token_ids.saturating_add(token_ids);
        Ok(())
    }

    fn take_stream_options(&mut self, text: &str, value: &Range<usize>) -> Result<(), BodyError> {
        let mut json = Json::at(text, value.start);
        match json.peek() {
            Some(b'{') => {}
            Some(b'n') => {
                self.stream_options = StreamOptions::Null(value.clone());
                return Ok(());
            }
            Some(_) | None => {
                return Err(bad_field("stream_options", "an object"));
            }
        }
        let members = read_members(&mut json, &mut Survey::default(), Role::Plain)?;
        self.stream_options =
            StreamOptions::Silent { insert_at: value.start.saturating_add(1), is_empty: members.is_empty() };
        for member in members {
            if member.key.decode() == "include_usage" {
                let raw = text.get(member.value.clone()).unwrap_or_default();
                self.fields.include_usage = read_bool("stream_options.include_usage", raw)?;
                self.stream_options = StreamOptions::Said(member.value);
            }
        }
        Ok(())
    }
}

/// Reads an object's members and refuses a key that comes twice.
fn read_members<'a>(json: &mut Json<'a>, survey: &mut Survey, role: Role) -> Result<Vec<Member<'a>>, BodyError> {
    let mut members = Vec::new();
    let mut keys = BTreeSet::new();
    let mut refused = None;
    json.object(0, survey, role, &mut |member| {
        if refused.is_none() && members.len() >= JSON_MEMBERS_MAX {
            refused = Some(BodyError::TooLarge);
        }
        if refused.is_none() && !keys.insert(member.key.decode()) {
            refused = Some(BodyError::DuplicateKey { offset: member.whole.start });
        }
        if refused.is_none() {
            members.push(member);
        }
    })?;
    refused.map_or(Ok(members), Err)
}

/// Refuses `Max_Tokens` and the like.
fn check_spelling(key: &str) -> Result<(), BodyError> {
    match misspelled(key, &SPELLED_FIELDS) {
        Some(field) => Err(bad_field(field, SPELLED)),
        None => Ok(()),
    }
}

const SPELLED: &str = "spelled in lower case";

/// The field that a reader without regard to case takes a key for, which is in other letters than that field's.
fn misspelled(key: &str, fields: &[&'static str]) -> Option<&'static str> {
    if key.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9')) {
        return None;
    }
    // The Kelvin sign becomes a k here; a long s is one letter of its own, and yet another case of s.
    let folded = key.to_lowercase().replace('\u{17f}', "s");
    fields.iter().find(|field| **field == folded && **field != key).copied()
}

pub(super) const fn bad_field(field: &'static str, expected: &'static str) -> BodyError {
    BodyError::BadField { field, expected }
}

pub(super) fn read_bool(field: &'static str, raw: &str) -> Result<bool, BodyError> {
    match raw {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(bad_field(field, "true or false")),
    }
}

pub(super) fn read_count(field: &'static str, raw: &str) -> Result<Option<u32>, BodyError> {
    if raw == "null" {
        return Ok(None);
    }
    raw.parse().map(Some).map_err(|_| bad_field(field, "a whole number from 0 to 4294967295"))
}

pub(super) fn read_choices(field: &'static str, raw: &str) -> Result<u32, BodyError> {
    let choices = read_count(field, raw)?.unwrap_or(1);
    if choices == 0 { Err(bad_field(field, "a whole number from 1 on")) } else { Ok(choices) }
}

pub(super) fn read_seconds(field: &'static str, raw: &str) -> Result<Option<u64>, BodyError> {
    if raw == "null" {
        return Ok(None);
    }
    let seconds: Option<f64> = raw.parse().ok();
    let ms = seconds.map(|seconds| (seconds * 1_000.0).ceil());
    let ms = ms.filter(|ms| ms.is_finite() && *ms > 0.0);
    let ms = ms.ok_or_else(|| bad_field(field, "a positive number of seconds"))?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, then it is cut")]
    #[expect(clippy::cast_sign_loss, reason = "only positive values are left")]
    let ms = ms as u64;
    Ok(Some(ms.min(TIMEOUT_MS_MAX)))
}

pub(super) fn read_text(field: &'static str, raw: &str) -> Result<Option<String>, BodyError> {
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Some(Json::at(raw, 0).string()?.decode().into_owned())),
        Some(b'n') => Ok(None),
        Some(_) | None => Err(bad_field(field, "a string")),
    }
}
