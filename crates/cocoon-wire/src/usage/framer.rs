//! Cuts a stream into units, server-sent events or lines, and feeds their JSON to the scanner.
//!
//! Events follow the WHATWG rules: lines end with CR, LF or CRLF; a blank line ends the event;
//! `data` lines are joined by line feeds; comments and other fields are skipped.

use memchr::{memchr, memchr2, memmem};

use super::scanner::{Edge, Scanner};

/// How far one step came.
pub(super) struct Advance {
    /// At least 1 where there were bytes and no edge.
    pub(super) consumed: usize,
    /// Whether a unit ended exactly there.
    pub(super) unit_ended: bool,
    /// What the scanner found exactly there.
    pub(super) edge: Option<Edge>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    /// That many letters of `data` have come, and nothing else.
    Field(usize),
    /// In the value of a `data` field.
    Data,
    /// In a comment or another field.
    Skipped,
    /// After a CR that ended a line: an LF may follow.
    AfterCr,
    /// After a CR that ended a blank line: an LF may follow.
    AfterBlankCr,
}

const FIELD: &[u8] = b"data";

/// What is left, whether a unit ended there, and which edge lies there.
type Step<'a> = (&'a [u8], bool, Option<Edge>);

/// Cuts server-sent events.
#[derive(Default)]
pub(super) struct SseFramer {
    line: Line,
    /// Whether the current event has sent anything to the scanner.
    has_data: bool,
}

impl SseFramer {
    /// Takes bytes up to an edge or the end of the current event, or all of them.
    pub(super) fn advance(&mut self, bytes: &[u8], scanner: &mut Scanner) -> Advance {
        if self.line == Line::Start
            && !self.has_data
            && let Some(consumed) = dull_event_len(bytes)
        {
            return Advance { consumed, unit_ended: true, edge: None };
        }
        let mut rest = bytes;
        let (mut unit_ended, mut edge) = (false, None);
        while !unit_ended && edge.is_none() && !rest.is_empty() {
            (rest, unit_ended, edge) = self.step(rest, scanner);
        }
        if unit_ended {
            self.has_data = false;
        }
        Advance { consumed: bytes.len().saturating_sub(rest.len()), unit_ended, edge }
    }

    /// Whether the event is over but for a line feed that may belong to its last CR.
    pub(super) fn is_after_event(&self) -> bool {
        self.line == Line::AfterBlankCr
    }

    /// Takes a byte or a stretch; `bytes` are not empty.
    fn step<'a>(&mut self, bytes: &'a [u8], scanner: &mut Scanner) -> Step<'a> {
        let Some((&byte, rest)) = bytes.split_first() else {
            return (bytes, false, None);
        };
        match (self.line, byte) {
            (Line::AfterCr, b'\n') => self.goto(Line::Start, rest),
            (Line::AfterCr, _) => self.goto(Line::Start, bytes),
            (Line::AfterBlankCr, b'\n') => {
                self.line = Line::Start;
                (rest, true, None)
            }
            (Line::AfterBlankCr, _) => {
                self.line = Line::Start;
                (bytes, true, None)
            }
            (Line::Start, b'\n') => (rest, true, None),
            (Line::Start, b'\r') => self.goto(Line::AfterBlankCr, rest),
            (Line::Start, _) => self.goto(Line::Field(0), bytes),
            (Line::Field(_), b'\n') => self.goto(Line::Start, rest),
            (Line::Field(_), b'\r') => self.goto(Line::AfterCr, rest),
            (Line::Field(letters), byte) => self.goto(field_line(letters, byte), rest),
            (Line::Data, _) => {
                self.has_data = true;
                self.data(bytes, scanner)
            }
            (Line::Skipped, _) => (self.skip_line(bytes), false, None),
        }
    }

    /// Feeds the value of a data line; at an edge the line goes on.
    fn data<'a>(&mut self, bytes: &'a [u8], scanner: &mut Scanner) -> Step<'a> {
        let text = bytes.get(..line_len(bytes)).unwrap_or_default();
        let fed = scanner.feed(text);
        if scanner.edge().is_some() {
            return (bytes.get(fed..).unwrap_or_default(), false, scanner.edge());
        }
        let end = bytes.get(text.len()..).unwrap_or_default();
        if end.is_empty() {
            return (end, false, None);
        }
        scanner.feed(b"\n");
        if scanner.edge().is_some() {
            // The edge lies before the end of the line, which comes again; to the scanner it is white space then.
            return (end, false, scanner.edge());
        }
        (self.skip_line(end), false, None)
    }

    const fn goto<'a>(&mut self, line: Line, rest: &'a [u8]) -> Step<'a> {
        self.line = line;
        (rest, false, None)
    }

    /// Skips the rest of the line; the line ends if its end is there.
    fn skip_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = line_len(bytes);
        match bytes.get(end) {
            Some(b'\r') => self.line = Line::AfterCr,
            Some(_) => self.line = Line::Start,
            None => {}
        }
        bytes.get(end.saturating_add(1)..).unwrap_or_default()
    }
}

/// The bytes before the end of the line, or all of them.
fn line_len(bytes: &[u8]) -> usize {
    memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len())
}

/// What a line is after one more byte of its field name.
fn field_line(letters: usize, byte: u8) -> Line {
    match FIELD.get(letters) {
        Some(&letter) if letter == byte => Line::Field(letters.saturating_add(1)),
        None if byte == b':' => Line::Data,
        Some(_) | None => Line::Skipped,
    }
}

/// The length of a whole event at the front that cannot hold usage: the fast path of a stream.
fn dull_event_len(bytes: &[u8]) -> Option<usize> {
    let line_len = memchr(b'\n', bytes)?.saturating_add(1);
    let blank_len = match bytes.get(line_len..)? {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => return None,
    };
    let len = line_len.saturating_add(blank_len);
    is_dull(bytes.get(..len)?).then_some(len)
}

/// Whether the letters `usage` are absent. An escaped spelling of the key is not recognised by the
/// scanner either.
fn is_dull(bytes: &[u8]) -> bool {
    memmem::find(bytes, b"usage").is_none()
}

/// Takes bytes up to the end of the current line, or all of them.
pub(super) fn advance_line(bytes: &[u8], starts: bool, scanner: &mut Scanner) -> Advance {
    let (consumed, unit_ended) = match memchr(b'\n', bytes) {
        Some(end) => (end.saturating_add(1), true),
        None => (bytes.len(), false),
    };
    let line = bytes.get(..consumed).unwrap_or_default();
    if starts && unit_ended && is_dull(line) {
        return Advance { consumed, unit_ended, edge: None };
    }
    let fed = scanner.feed(line);
    Advance { consumed: fed, unit_ended: unit_ended && fed == line.len(), edge: scanner.edge() }
}
