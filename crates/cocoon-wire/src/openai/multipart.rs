//! A strict reader of `multipart/form-data` (RFC 7578), and the two edits that are made in one.
//!
//! It finds where each part lies and copies nothing: what is a file stays opaque.
//! It is not a MIME library. Whatever two readers could take for different things is refused, since the node that bills
//! and the engine that computes are two readers:
//!
//! 1. The boundary stands in the content type, once, and the body begins with it: no preamble, no epilogue.
//! 2. Lines end with CR LF. A line that begins with the boundary is a delimiter or an error, never data; also the first line
//!    of a value, and one that only a lone CR or LF precedes, since some readers end lines there.
//! 3. A part has a `Content-Disposition: form-data` with a plain name, once, and no header that changes what its bytes mean:
//!    it is not encoded, is no form of its own, and is as long as it says.
//! 4. A name is given once, unless it ends with `[]`.
//!
//! Numbers of parts and sizes of heads are bounded; the body itself is bounded by whoever reads it.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

use super::BodyError;
use crate::limits::{MULTIPART_BOUNDARY_MAX, MULTIPART_HEAD_MAX, MULTIPART_NAME_MAX, MULTIPART_PARTS_MAX};

/// A form as it lies in a body.
#[derive(Debug)]
pub(super) struct Form<'a> {
    body: &'a [u8],
    boundary: &'a str,
    pub(super) parts: Vec<Part<'a>>,
    /// Where the closing delimiter starts.
    close: usize,
}

/// One part of a form.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    /// From its delimiter to the next one.
    whole: Range<usize>,
    /// Its content.
    value: Range<usize>,
    /// Whether it is what forms call a file, rather than a plain field.
    pub(super) is_file: bool,
    /// Whether its content type, if any, is that of a plain field in UTF-8.
    is_plain: bool,
}

impl<'a> Form<'a> {
    /// Reads a body whose content type is `content_type`.
    pub(super) fn read(content_type: &'a str, body: &'a [u8]) -> Result<Self, BodyError> {
        let boundary = boundary(content_type)?;
        let mut form = Self { body, boundary, parts: Vec::new(), close: 0 };
        let delimiter = [b"--", boundary.as_bytes()].concat();
        let finder = memmem::Finder::new(&delimiter);
        if !body.starts_with(&delimiter) {
            return Err(fault(0, "it must begin with the boundary of its content type"));
        }
        let mut start = 0_usize;
        let mut names = BTreeSet::new();
        loop {
            let after = start.saturating_add(delimiter.len());
            match form.rest(after) {
                [b'\r', b'\n', ..] => {}
                [b'-', b'-'] | [b'-', b'-', b'\r', b'\n'] => {
                    form.close = start;
                    return Ok(form);
                }
                [b'-', b'-', ..] => return Err(fault(after, "something follows its last boundary")),
                _ => return Err(fault(after, "a line begins with the boundary and goes on")),
            }
            if form.parts.len() >= MULTIPART_PARTS_MAX {
                return Err(BodyError::TooLarge);
            }
            let part = form.part(start, after.saturating_add(2), &finder)?;
            if !names.insert(part.name) && !part.name.ends_with("[]") {
                return Err(BodyError::DuplicateKey { offset: part.whole.start });
            }
            start = part.whole.end;
            form.parts.push(part);
        }
    }

    /// Reads the part whose head is at `head`.
    fn part(&self, start: usize, head: usize, finder: &memmem::Finder<'_>) -> Result<Part<'a>, BodyError> {
        let window = self.rest(head);
        let window = window.get(..MULTIPART_HEAD_MAX).unwrap_or(window);
        let head_len =
            memmem::find(window, b"\r\n\r\n").ok_or_else(|| fault(head, "a part has no head, or a long one"))?;
        let lines = window.get(..head_len).unwrap_or_default();
        let PartHead { name, is_file, is_plain, said_len } = PartHead::read(lines).map_err(|what| fault(head, what))?;
        let value = head.saturating_add(head_len).saturating_add(4);
        let value_len = self.value_len(value, finder)?;
        if said_len.is_some_and(|said| said != value_len.to_string()) {
            return Err(fault(head, "a part is not as long as its `Content-Length` says"));
        }
        let end = value.saturating_add(value_len);
        Ok(Part { name, whole: start..end.saturating_add(2), value: value..end, is_file, is_plain })
    }

    /// How long the value at `value` is: up to the line break before the next line that begins with the boundary.
    fn value_len(&self, value: usize, finder: &memmem::Finder<'_>) -> Result<usize, BodyError> {
        let rest = self.rest(value);
        for found in finder.find_iter(rest) {
            match rest.get(..found).unwrap_or_default() {
                [before @ .., b'\r', b'\n'] => return Ok(before.len()),
                [] | [.., b'\r' | b'\n'] => {
                    return Err(fault(value.saturating_add(found), "a line within a part begins with the boundary"));
                }
                _ => {}
            }
        }
        Err(fault(value, "its last boundary is missing"))
    }

    fn rest(&self, from: usize) -> &'a [u8] {
        self.body.get(from..).unwrap_or_default()
    }

    /// The text of a plain field. `name` is what an error calls it.
    pub(super) fn text(&self, part: &Part<'_>, name: &'static str) -> Result<&'a str, BodyError> {
        let refused = BodyError::BadField { field: name, expected: "a plain form field of UTF-8 text" };
        if part.is_file || !part.is_plain {
            return Err(refused);
        }
        let value = self.body.get(part.value.clone()).unwrap_or_default();
        std::str::from_utf8(value).map_err(|_| refused)
    }

    /// The form without the parts that `strip` names, and with `add` behind the last.
    pub(super) fn edited(&self, body: &Bytes, strip: &[&str], add: Option<(&str, &str)>) -> Bytes {
        let stripped = |part: &&Part<'_>| strip.contains(&part.name);
        if add.is_none() && !self.parts.iter().any(|part| stripped(&part)) {
            return body.clone();
        }
        let added = add.map(|(name, value)| {
            format!("--{}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n", self.boundary)
        });
        let added = added.unwrap_or_default();
        let mut out = BytesMut::with_capacity(body.len().saturating_add(added.len()));
        for part in self.parts.iter().filter(|part| !stripped(part)) {
            out.put_slice(body.get(part.whole.clone()).unwrap_or_default());
        }
        out.put_slice(added.as_bytes());
        out.put_slice(body.get(self.close..).unwrap_or_default());
        out.freeze()
    }
}

impl Part<'_> {
    /// Bytes of its content.
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.value.len()).unwrap_or(u64::MAX)
    }
}

/// The content type of a form, written in the one way that every reader understands.
///
/// # Errors
///
/// When it is not `multipart/form-data` with one boundary and nothing else.
pub fn multipart_type(content_type: &str) -> Result<String, BodyError> {
    let boundary = boundary(content_type)?;
    let is_token = boundary.bytes().all(is_token_byte);
    Ok(match is_token {
        true => format!("multipart/form-data; boundary={boundary}"),
        false => format!("multipart/form-data; boundary=\"{boundary}\""),
    })
}

/// The boundary that a content type names (RFC 2046, section 5.1.1; without the space, which ends a header's value).
fn boundary(content_type: &str) -> Result<&str, BodyError> {
    let (essence, parameters) = content_type.split_once(';').ok_or(BodyError::NotMultipart)?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(BodyError::NotMultipart);
    }
    let (name, value) = parameters.trim().split_once('=').ok_or(BodyError::NotMultipart)?;
    let quoted = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or_default());
    let is_boundary = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    let is_bare = |byte: u8| is_token_byte(byte) || byte == b'=';
    let boundary = quoted.unwrap_or(value);
    let is_good = name.eq_ignore_ascii_case("boundary")
        && (1..=MULTIPART_BOUNDARY_MAX).contains(&boundary.len())
        && boundary.bytes().all(is_boundary)
        && (quoted.is_some() || boundary.bytes().all(is_bare));
    if is_good { Ok(boundary) } else { Err(BodyError::NotMultipart) }
}

/// What may surround words in a header; no other white space, which other readers take for letters.
const BLANKS: [char; 2] = [' ', '\t'];

/// What the head of a part says.
struct PartHead<'a> {
    name: &'a str,
    is_file: bool,
    is_plain: bool,
    /// Its `Content-Length`, which a reader may go by instead of the boundary.
    said_len: Option<&'a str>,
}

impl<'a> PartHead<'a> {
    fn read(lines: &'a [u8]) -> Result<Self, &'static str> {
        let lines = std::str::from_utf8(lines).map_err(|_| "the head of a part is not UTF-8")?;
        let mut disposition = None;
        let (mut is_plain, mut said_len) = (true, None);
        let mut seen = Vec::new();
        for line in lines.split("\r\n") {
            // A line that continues the one before has no name of its own, so it is refused here.
            let (name, value) = line.split_once(':').ok_or("a line in the head of a part is no header")?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim_matches(BLANKS));
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err("a header of a part has control characters");
            }
            if seen.contains(&name) {
                return Err("a header of a part is given twice");
            }
            match name.as_str() {
                "content-disposition" => disposition = Some(Disposition::read(value)?),
                "content-type" if is_composite(value) => return Err("a part is a form or a message of its own"),
                "content-type" => is_plain = is_plain_text(value),
                "content-length" => said_len = Some(value),
                "content-transfer-encoding" if is_identity(value) => {}
                "content-transfer-encoding" => return Err("the bytes of a part must not be encoded"),
                _ => return Err("a part has a header that forms do not have"),
            }
            seen.push(name);
        }
        let Disposition { name, is_file } = disposition.ok_or("a part has no `Content-Disposition`")?;
        Ok(Self { name, is_file, is_plain, said_len })
    }
}

/// `form-data; name="…"; filename="…"`.
struct Disposition<'a> {
    name: &'a str,
    is_file: bool,
}

impl<'a> Disposition<'a> {
    fn read(value: &'a str) -> Result<Self, &'static str> {
        const NO_DISPOSITION: &str = "a `Content-Disposition` is not `form-data` with one name";
        let (kind, mut rest) = value.split_once(';').ok_or(NO_DISPOSITION)?;
        if !kind.trim_end_matches(BLANKS).eq_ignore_ascii_case("form-data") {
            return Err(NO_DISPOSITION);
        }
        let (mut name, mut file_name, mut file_name_extended) = (None, None, None);
        loop {
            let (key, after) = rest.split_once('=').ok_or(NO_DISPOSITION)?;
            let (text, after) = parameter_value(after).ok_or(NO_DISPOSITION)?;
            let place = match key.trim_matches(BLANKS).to_ascii_lowercase().as_str() {
                "name" => &mut name,
                "filename" => &mut file_name,
                "filename*" => &mut file_name_extended,
                _ => return Err(NO_DISPOSITION),
            };
            if place.replace(text).is_some() {
                return Err(NO_DISPOSITION);
            }
            let after = after.trim_start_matches(BLANKS);
            if after.is_empty() {
                break;
            }
            rest = after.strip_prefix(';').ok_or(NO_DISPOSITION)?;
        }
        let name =
            name.filter(|name| is_field_name(name)).ok_or("the name of a part must be letters, digits and `_-.[]`")?;
        Ok(Self { name, is_file: file_name.is_some() || file_name_extended.is_some() })
    }
}

/// A quoted string or a token at the front, and what follows.
fn parameter_value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        // Of `filename*`, too: a charset, two quotes, percent signs.
        let is_good = !token.is_empty() && token.bytes().all(is_token_byte);
        return is_good.then_some((token, rest));
    };
    // What follows a backslash is part of the name of a file, whatever it is.
    let mut is_escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((quoted.get(..end)?, quoted.get(end.checked_add(1)?..)?))
}

fn is_field_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    (1..=MULTIPART_NAME_MAX).contains(&name.len()) && name.bytes().all(is_letter)
}

/// Whether a plain field of that content type means its bytes as UTF-8.
fn is_plain_text(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let charset = match lower.split_once(';') {
        None => return lower == "text/plain",
        Some((essence, charset)) if essence.trim_end() == "text/plain" => charset.trim_start(),
        Some(_) => return false,
    };
    matches!(charset, "charset=utf-8" | "charset=\"utf-8\"" | "charset=us-ascii")
}

/// Whether a content type is one whose bytes are parts with heads again, which some readers take for the form's.
fn is_composite(value: &str) -> bool {
    let kind = value.split('/').next().unwrap_or_default();
    ["multipart", "message"].iter().any(|composite| kind.eq_ignore_ascii_case(composite))
}

fn is_identity(value: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| known.eq_ignore_ascii_case(value))
}

/// A byte of a `token` (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const fn fault(offset: usize, fault: &'static str) -> BodyError {
    BodyError::Multipart { offset, fault }
}

#[cfg(test)]
mod tests;
