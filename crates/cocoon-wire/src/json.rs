//! A small strict JSON reader over a whole body, and a string writer.
//!
//! It gives spans, not values: whoever edits a body splices around them.
//! Nesting is bounded, so recursion is.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::limits::JSON_DEPTH_MAX;

/// Where and why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    Syntax { offset: usize },
    TooDeep { offset: usize },
}

/// The text between a string's quotes, as written.
#[derive(Clone, Copy)]
pub(crate) struct RawText<'a> {
    text: &'a str,
    has_escapes: bool,
}

impl<'a> RawText<'a> {
    /// What the text spells; lone surrogates become replacement characters.
    pub(crate) fn decode(&self) -> Cow<'a, str> {
        if self.has_escapes { Cow::Owned(unescape(self.text)) } else { Cow::Borrowed(self.text) }
    }

    /// How many bytes the text spells at least, without spelling it: each escape counts as one.
    pub(crate) fn least_len(&self) -> usize {
        let (mut len, mut rest) = (self.text.len(), self.text.as_bytes());
        while let Some(at) = memchr(b'\\', rest) {
            let written = if rest.get(at.saturating_add(1)) == Some(&b'u') { 6 } else { 2 };
            len = len.saturating_sub(written - 1);
            rest = rest.get(at.saturating_add(written)..).unwrap_or_default();
        }
        len
    }
}

/// One member of an object.
pub(crate) struct Member<'a> {
    pub(crate) key: RawText<'a>,
    /// The bytes after the preceding brace or comma, up to the following comma or brace.
    pub(crate) whole: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// What the reader tells about strings and members that it walks over.
pub(crate) trait Visitor {
    /// What a value is, for the visitor: derived from its parent and key.
    type Role: Copy;
    /// The role of an item of an array.
    fn item(&mut self, parent: Self::Role) -> Self::Role;
    /// The role of a member of an object.
    fn member(&mut self, parent: Self::Role, key: &RawText<'_>) -> Self::Role;
    /// A string value.
    fn text(&mut self, role: Self::Role, text: &RawText<'_>);
}

/// Reads a body from front to back.
pub(crate) struct Json<'a> {
    body: &'a str,
    position: usize,
}

impl<'a> Json<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(body) {
            Ok(body) => Ok(Self { body, position: 0 }),
            Err(error) => Err(JsonError::Syntax { offset: error.valid_up_to() }),
        }
    }

    /// Starts within a body, at a value.
    pub(crate) const fn at(body: &'a str, position: usize) -> Self {
        Self { body, position }
    }

    pub(crate) const fn body(&self) -> &'a str {
        self.body
    }

    const fn error<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax { offset: self.position })
    }

    fn rest(&self) -> &'a [u8] {
        self.body.as_bytes().get(self.position..).unwrap_or_default()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    const fn advance(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(bytes);
    }

    pub(crate) fn skip_space(&mut self) {
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let space = self.rest().iter().take_while(is_space).count();
        self.advance(space);
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return self.error();
        }
        self.advance(1);
        Ok(())
    }

    /// Nothing but white space may be left.
    pub(crate) fn finish(mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { self.error() }
    }

    /// Walks over an object, member by member.
    pub(crate) fn object<V: Visitor>(
        &mut self,
        depth: usize,
        visitor: &mut V,
        role: V::Role,
        on_member: &mut dyn FnMut(Member<'a>),
    ) -> Result<(), JsonError> {
        self.expect(b'{')?;
        let mut start = self.position;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.advance(1);
            return Ok(());
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let role = visitor.member(role, &key);
            let value = self.value(depth.saturating_add(1), visitor, role)?;
            self.skip_space();
            on_member(Member { key, whole: start..self.position, value });
            match self.peek() {
                Some(b',') => self.advance(1),
                Some(b'}') => {
                    self.advance(1);
                    return Ok(());
                }
                Some(_) | None => return self.error(),
            }
            start = self.position;
        }
    }

    /// Walks over a value and gives its span.
    pub(crate) fn value<V: Visitor>(
        &mut self,
        depth: usize,
        visitor: &mut V,
        role: V::Role,
    ) -> Result<Range<usize>, JsonError> {
        let start = self.position;
        if depth > JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep { offset: start });
        }
        match self.peek() {
            Some(b'{') => self.object(depth, visitor, role, &mut |_| {})?,
            Some(b'[') => self.array(depth, visitor, role, &mut |_| {})?,
            Some(b'"') => {
                let text = self.string()?;
                visitor.text(role, &text);
            }
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) | None => return self.error(),
        }
        Ok(start..self.position)
    }

    /// Walks over an array, item by item.
    pub(crate) fn array<V: Visitor>(
        &mut self,
        depth: usize,
        visitor: &mut V,
        role: V::Role,
        on_item: &mut dyn FnMut(Range<usize>),
    ) -> Result<(), JsonError> {
        self.expect(b'[')?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.advance(1);
            return Ok(());
        }
        loop {
            self.skip_space();
            let role = visitor.item(role);
            let item = self.value(depth.saturating_add(1), visitor, role)?;
            on_item(item);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.advance(1),
                Some(b']') => {
                    self.advance(1);
                    return Ok(());
                }
                Some(_) | None => return self.error(),
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.rest().starts_with(word.as_bytes()) {
            return self.error();
        }
        self.advance(word.len());
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return self.error();
        }
        self.advance(digits);
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.advance(1);
        }
        match self.peek() {
            Some(b'0') => self.advance(1),
            Some(_) | None => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.advance(1);
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance(1);
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance(1);
            }
            self.digits()?;
        }
        Ok(())
    }

    pub(crate) fn string(&mut self) -> Result<RawText<'a>, JsonError> {
        self.expect(b'"')?;
        let start = self.position;
        let mut has_escapes = false;
        loop {
            let rest = self.rest();
            let plain_len = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let plain = rest.get(..plain_len).unwrap_or_default();
            // The check runs over whole vectors; the position only matters when it fails.
            if plain.iter().any(|&byte| byte < b' ') {
                let offset = plain.iter().take_while(|&&byte| byte >= b' ').count();
                self.advance(offset);
                return self.error();
            }
            self.advance(plain_len);
            match self.peek() {
                Some(b'"') => break,
                Some(_) => {
                    has_escapes = true;
                    self.escape()?;
                }
                None => return self.error(),
            }
        }
        let text = self.body.get(start..self.position).unwrap_or_default();
        self.advance(1);
        Ok(RawText { text, has_escapes })
    }

    /// A backslash and what belongs to it.
    fn escape(&mut self) -> Result<(), JsonError> {
        let rest = self.rest();
        match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.advance(2),
            Some(b'u') if rest.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
                self.advance(6);
            }
            Some(_) | None => return self.error(),
        }
        Ok(())
    }
}

/// Decodes a string whose escapes are known to be valid.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut characters = after.chars();
        let mut high = None;
        match characters.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => high = hex4(&mut characters),
            Some(other) => out.push(other),
            None => {}
        }
        rest = characters.as_str();
        if let Some(unit) = high {
            rest = push_unit(&mut out, unit, rest);
        }
    }
    out.push_str(rest);
    out
}

fn hex4(characters: &mut std::str::Chars<'_>) -> Option<u16> {
    let text = characters.as_str();
    let (hex, rest) = text.split_at_checked(4)?;
    *characters = rest.chars();
    u16::from_str_radix(hex, 16).ok()
}

/// Pushes a UTF-16 unit, with the low half that may follow it; gives what is left.
fn push_unit<'a>(out: &mut String, unit: u16, rest: &'a str) -> &'a str {
    if (0xd800..0xdc00).contains(&unit) {
        let mut characters = rest.strip_prefix("\\u").unwrap_or_default().chars();
        if let Some(low) = hex4(&mut characters)
            && let Some(Ok(character)) = char::decode_utf16([unit, low]).next()
        {
            out.push(character);
            return characters.as_str();
        }
    }
    out.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
    rest
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            control if control < ' ' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Blind;

    impl Visitor for Blind {
        type Role = ();
        fn item(&mut self, (): ()) {}
        fn member(&mut self, (): (), _: &RawText<'_>) {}
        fn text(&mut self, (): (), _: &RawText<'_>) {}
    }

    fn accepts(body: &str) -> bool {
        let read = || {
            let mut json = Json::new(body.as_bytes())?;
            json.skip_space();
            json.value(0, &mut Blind, ())?;
            json.finish()
        };
        read().is_ok()
    }

    #[test]
    fn accepts_what_serde_json_accepts() {
        for body in [
            "{}",
            "[]",
            " { \"a\" : [ 1 , -2.5e+3 , true , false , null ] } ",
            "\"\\u00e9\\n\"",
            "0",
            "-0",
            "01",
            "1.",
            ".5",
            "1e",
            "1e5",
            "+1",
            "-",
            "nul",
            "truex",
            "{\"a\"}",
            "{\"a\":}",
            "{,}",
            "[1,]",
            "{\"a\":1,}",
            "\"\\x\"",
            "\"\\u12\"",
            "\"",
            "\"\n\"",
            "",
            " ",
            "{} {}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "'a'",
            "NaN",
            "Infinity",
            "\"\u{7f}\"",
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(body).is_ok();
            assert_eq!(accepts(body), expected, "{body:?}");
        }
    }

    #[test]
    fn escapes_are_decoded() {
        for text in ["plain", "mod\\u0065l", "\\ud83e\\udd80", "a\\n\\t\\\"\\\\\\/b", "\\u00e9x"] {
            let body = format!("\"{text}\"");
            let decoded = Json::new(body.as_bytes()).unwrap().string().unwrap().decode();
            assert_eq!(decoded, serde_json::from_str::<String>(&body).unwrap());
        }
        let lone = Json::new(br#""\ud800\u0041""#).unwrap().string().unwrap().decode();
        assert_eq!(lone, "\u{fffd}A");
    }

    #[test]
    fn nesting_bomb() {
        let bomb = "[".repeat(1_000_000);
        assert!(!accepts(&bomb));
    }
}
