//! Cuts server-sent events, or lines of JSON, out of bytes that may be cut anywhere.
//!
//! The WHATWG rules: lines end with CR, LF or CRLF; a blank line ends the event; `data` lines are joined by line feeds;
//! comments and other fields are skipped. A line that begins with `{` is an event of its own: some engines stream plain
//! lines, and one whole document in a line is a stream of one event.

use memchr::memchr2;

use super::chat::Violation;
use crate::limits::CHAT_EVENT_BYTES;

/// The cutter of one stream. Holds one event at most.
#[derive(Debug, Default)]
pub(super) struct Sse {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The data lines of an event whose end has not come.
    data: Vec<u8>,
    has_data: bool,
    /// Whether a line feed would belong to the carriage return before it.
    is_after_cr: bool,
}

impl Sse {
    /// Takes bytes, and gives the data of each event that they complete.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.is_after_cr) && first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr2(b'\r', b'\n', rest) else {
                return self.hold(rest);
            };
            let (head, tail) = rest.split_at(end);
            self.is_after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.take_line(head, &mut each)?;
            } else {
                self.hold(head)?;
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut each)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    /// Gives a last line of JSON that nothing ended. An event that lacks its blank line is none.
    pub(super) fn finish(&mut self, each: impl FnOnce(&[u8]) -> Result<(), Violation>) -> Result<(), Violation> {
        let line = std::mem::take(&mut self.line);
        if line.starts_with(b"{") { each(&line) } else { Ok(()) }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.check_room(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(
        &mut self,
        line: &[u8],
        each: &mut impl FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let given = each(&self.data);
                self.data.clear();
                return given;
            }
            return Ok(());
        }
        if line.starts_with(b"{") {
            return each(line);
        }
        let Some(value) = line.strip_prefix(b"data:") else { return Ok(()) };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        self.check_room(value.len())?;
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn check_room(&self, more: usize) -> Result<(), Violation> {
        let held = self.line.len().saturating_add(self.data.len()).saturating_add(more);
        if held <= CHAT_EVENT_BYTES { Ok(()) } else { Err(Violation::TooLong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&str], expected: &[&str]) {
        let (mut sse, mut events) = (Sse::default(), Vec::new());
        let mut keep = |data: &[u8]| {
            events.push(String::from_utf8(data.to_vec()).unwrap());
            Ok(())
        };
        for part in parts {
            sse.push(part.as_bytes(), &mut keep).unwrap();
        }
        sse.finish(&mut keep).unwrap();
        assert_eq!(events, expected, "{parts:?}");
    }

    #[test]
    fn events_lines_and_comments() {
        check(&["data: a\n\ndata:b\r\n\r\n"], &["a", "b"]);
        check(&["data: a\rdata: b\r\r"], &["a\nb"]);
        check(&[": hello\nevent: x\nid: 7\ndata: a\n\n", "\n\n\ndatax: b\n\ndata\n\n"], &["a"]);
        check(&["{\"a\":1}\n{\"b\"", ":2}"], &["{\"a\":1}", "{\"b\":2}"]);
        check(&["data: never ended\n"], &[]);
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let whole = "data: one\r\n\r\n: c\rdata: two\ndata: lines\n\ndata: \r\r{}\n";
        for at in 0..=whole.len() {
            let (a, b) = whole.split_at(at);
            check(&[a, b], &["one", "two\nlines", "", "{}"]);
        }
    }

    #[test]
    fn an_event_that_never_ends_is_not_held() {
        for opening in ["data: ", "data: a\ndata: ", "x"] {
            let mut sse = Sse::default();
            sse.push(opening.as_bytes(), |_| Ok(())).unwrap();
            let mut taken = 0_usize;
            while sse.push(&[b'x'; 1000], |_| Ok(())).is_ok() {
                taken += 1000;
            }
            assert!(taken <= CHAT_EVENT_BYTES);
        }
    }
}
