//! Edits a request body by splicing.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::multipart::Form;
use super::read::{COCOON_FIELDS, RequestBody, StreamOptions};
use super::{BodyError, BodyKind, Endpoint, STREAM_USAGE};

/// What to change in a request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Remove `max_coefficient`, `timeout`, `enable_debug`, `request_guid`.
    pub strip_cocoon_fields: bool,
    /// Add `max_tokens` where it is missing: the limit that is given by another name, or else this.
    pub max_tokens_if_missing: Option<u32>,
    /// Lower given limits to this.
    pub max_tokens_cap: Option<u32>,
    /// Set `stream_options.include_usage` where `stream` is true.
    pub include_usage: bool,
}

/// Changes a request body: every other byte stays, and an unchanged body is returned as it is.
///
/// # Errors
///
/// See [`BodyError`].
pub fn edit_request(body: &Bytes, edits: &Edits) -> Result<Bytes, BodyError> {
    let request = RequestBody::read(body)?;
    let mut splices = Vec::new();
    insert_members(&request, edits, &mut splices);
    if edits.strip_cocoon_fields {
        strip_members(&request, &mut splices);
    }
    if let Some(cap) = edits.max_tokens_cap {
        let above = request.limits.iter().filter(|given| given.limit > cap);
        splices.extend(above.map(|given| Splice::new(given.value.clone(), cap.to_string())));
    }
    if edits.include_usage && request.fields.stream && !request.fields.include_usage {
        include_usage(&request, &mut splices);
    }
    Ok(apply(body, splices))
}

/// Changes the body of a request to an endpoint, as far as that endpoint has what is to be changed.
///
/// Only chat and completions have token limits and stream options. Streams of audio say what they used when a form field
/// asks for it.
///
/// # Errors
///
/// See [`BodyError`].
pub fn edit_body(
    endpoint: Endpoint,
    content_type: Option<&str>,
    body: &Bytes,
    edits: &Edits,
) -> Result<Bytes, BodyError> {
    match endpoint.body() {
        BodyKind::None => Ok(body.clone()),
        BodyKind::Json if endpoint.has_token_limit() => edit_request(body, edits),
        BodyKind::Json => {
            edit_request(body, &Edits { strip_cocoon_fields: edits.strip_cocoon_fields, ..Edits::default() })
        }
        BodyKind::Multipart => edit_form(endpoint, content_type.unwrap_or_default(), body, edits),
    }
}

fn edit_form(endpoint: Endpoint, content_type: &str, body: &Bytes, edits: &Edits) -> Result<Bytes, BodyError> {
    let form = Form::read(content_type, body)?;
    let fields = super::form::read(&form)?.fields;
    let is_audio = matches!(endpoint, Endpoint::Transcriptions | Endpoint::Translations);
    let adds_usage = edits.include_usage && is_audio && fields.stream && !fields.include_usage;
    let mut strip = Vec::new();
    if edits.strip_cocoon_fields {
        strip.extend(COCOON_FIELDS);
    }
    if adds_usage {
        // One that says no makes room for one that says yes.
        strip.push(STREAM_USAGE);
    }
    Ok(form.edited(body, &strip, adds_usage.then_some((STREAM_USAGE, "true"))))
}

/// Bytes to put in the place of others.
struct Splice {
    range: Range<usize>,
    text: String,
}

impl Splice {
    const fn new(range: Range<usize>, text: String) -> Self {
        Self { range, text }
    }
}

/// New members go first, so that nothing after them needs to be looked at.
fn insert_members(request: &RequestBody, edits: &Edits, splices: &mut Vec<Splice>) {
    let mut members = Vec::new();
    if let Some(default) = edits.max_tokens_if_missing.filter(|_| !request.fields.has_max_tokens) {
        let limit = request.fields.max_tokens.unwrap_or(default);
        let limit = edits.max_tokens_cap.map_or(limit, |cap| limit.min(cap));
        match &request.null_max_tokens {
            Some(null) => splices.push(Splice::new(null.clone(), limit.to_string())),
            None => members.push(format!("\"max_tokens\":{limit}")),
        }
    }
    let wants_usage = edits.include_usage && request.fields.stream;
    if wants_usage && matches!(request.stream_options, StreamOptions::Absent) {
        members.push("\"stream_options\":{\"include_usage\":true}".to_owned());
    }
    if members.is_empty() {
        return;
    }
    let mut text = members.join(",");
    let stays = |is_cocoon_field: bool| !(edits.strip_cocoon_fields && is_cocoon_field);
    if request.members.iter().any(|member| stays(member.is_cocoon_field)) {
        text.push(',');
    }
    splices.push(Splice::new(request.start..request.start, text));
}

/// Takes members out, each with one comma.
fn strip_members(request: &RequestBody, splices: &mut Vec<Splice>) {
    let last_kept = request.members.iter().rposition(|member| !member.is_cocoon_field);
    let head_len = last_kept.map_or(0, |last| last.saturating_add(1));
    let (head, tail) = request.members.split_at(head_len);
    // Before the last member that stays, the comma after a member goes with it.
    for member in head.iter().filter(|member| member.is_cocoon_field) {
        let after_comma = member.whole.end.saturating_add(1);
        splices.push(Splice::new(member.whole.start..after_comma, String::new()));
    }
    // After it, everything goes, and with it the comma before.
    if let Some(last) = tail.last() {
        let start = head.last().map_or(request.start, |kept| kept.whole.end);
        splices.push(Splice::new(start..last.whole.end, String::new()));
    }
}

fn include_usage(request: &RequestBody, splices: &mut Vec<Splice>) {
    splices.push(match &request.stream_options {
        // Inserted with the other members.
        StreamOptions::Absent => return,
        StreamOptions::Null(value) => Splice::new(value.clone(), "{\"include_usage\":true}".to_owned()),
        StreamOptions::Silent { insert_at, is_empty } => {
            let comma = if *is_empty { "" } else { "," };
            Splice::new(*insert_at..*insert_at, format!("\"include_usage\":true{comma}"))
        }
        StreamOptions::Said(value) => Splice::new(value.clone(), "true".to_owned()),
    });
}

/// Applies splices that do not overlap.
fn apply(body: &Bytes, mut splices: Vec<Splice>) -> Bytes {
    if splices.is_empty() {
        return body.clone();
    }
    // Stable: an insertion stays before a removal at the same place.
    splices.sort_by_key(|splice| splice.range.start);
    let added = splices.iter().map(|splice| splice.text.len()).sum();
    let mut out = BytesMut::with_capacity(body.len().saturating_add(added));
    let mut position = 0;
    for splice in &splices {
        out.put_slice(body.get(position..splice.range.start).unwrap_or_default());
        out.put_slice(splice.text.as_bytes());
        position = splice.range.end;
    }
    out.put_slice(body.get(position..).unwrap_or_default());
    out.freeze()
}
