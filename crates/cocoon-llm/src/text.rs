//! From token bytes to text that may be shown: whole code points, never part of a stop string.
//!
//! A token may end in the middle of a code point, and a stop string may span several tokens, so
//! text is held back while it is incomplete in either sense:
//!
//! ```text
//! bytes ──▶ undecoded (an incomplete code point) ──▶ held (may begin a stop string) ──▶ out
//! ```

/// Turns the bytes of successive tokens into text.
pub(crate) struct TextStream {
    undecoded: Vec<u8>,
    held: String,
    stops: Vec<String>,
}

/// What one token added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) text: String,
    /// A stop string was found; neither it nor anything after it is in `text`.
    pub(crate) stopped: bool,
}

impl TextStream {
    /// Empty stop strings are ignored: they would match before the first token.
    pub(crate) fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self { undecoded: Vec::new(), held: String::new(), stops }
    }

    /// Takes the bytes of one token and returns what can be shown now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Released {
        self.undecoded.extend_from_slice(bytes);
        self.decode();
        if let Some(start) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(start);
            self.undecoded.clear();
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - keep);
        Released { text: std::mem::replace(&mut self.held, held), stopped: false }
    }

    /// Returns what is left at the end; an incomplete code point becomes U+FFFD.
    pub(crate) fn finish(mut self) -> String {
        self.held.push_str(&String::from_utf8_lossy(&self.undecoded));
        self.held
    }

    /// Moves every complete code point to `held`; bytes that cannot be UTF-8 become U+FFFD.
    fn decode(&mut self) {
        let mut rest = self.undecoded.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.held.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        rest = after;
                        break;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(bad..).unwrap_or_default();
                }
            }
        }
        self.undecoded = rest.to_vec();
    }
}

/// Length of the longest end of `text` that is a proper beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(index, _)| index)
        .rev()
        .find(|len| text.as_bytes().ends_with(&stop.as_bytes()[..*len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stops: &[&str], tokens: &[&[u8]], shown: &[&str], stopped: bool) {
        let mut stream = TextStream::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut texts = Vec::new();
        let mut ended = false;
        for token in tokens {
            let released = stream.push(token);
            texts.push(released.text);
            ended = released.stopped;
            if ended {
                break;
            }
        }
        if !ended {
            texts.push(stream.finish());
        }
        assert_eq!((texts, ended), (shown.iter().map(|s| (*s).to_owned()).collect(), stopped));
    }

    #[test]
    fn plain_text_passes_at_once() {
        check(&[], &[b"Hel", b"lo"], &["Hel", "lo", ""], false);
    }

    #[test]
    fn code_points_are_held_until_complete() {
        let crab = "🦀".as_bytes();
        check(&[], &[&crab[..1], &crab[1..3], &crab[3..]], &["", "", "🦀", ""], false);
        check(&[], &[&crab[..3]], &["", "\u{FFFD}"], false);
        check(&[], &[&crab[..2], b"x"], &["", "\u{FFFD}x", ""], false);
        check(&[], &[b"\xff\xffok"], &["\u{FFFD}\u{FFFD}ok", ""], false);
    }

    #[test]
    fn stop_strings_span_tokens() {
        check(&["END"], &[b"a E", b"N", b"D b"], &["a ", "", ""], true);
        check(&["END"], &[b"a E", b"N", b"X"], &["a ", "", "ENX", ""], false);
        check(&["END"], &[b"a EN"], &["a ", "EN"], false);
    }

    #[test]
    fn the_earliest_stop_wins() {
        check(&["cd", "b"], &[b"abcd"], &["a"], true);
        check(&["bc", "c"], &[b"ab", b"c"], &["a", ""], true);
    }

    #[test]
    fn self_overlapping_stop_is_found() {
        check(&["aab"], &[b"aa", b"ab"], &["", "a"], true);
    }

    #[test]
    fn stop_inside_a_split_code_point() {
        let text = "x→y".as_bytes();
        check(&["→"], &[&text[..2], &text[2..]], &["x", ""], true);
    }

    #[test]
    fn empty_stop_is_ignored() {
        check(&[""], &[b"a"], &["a", ""], false);
    }
}
