//! Generated text as content and tool calls, while it comes.
//!
//! - A demanded call is an answer of exactly `{"name": "f", "arguments": …}`, since a schema binds it:
//!   what follows the name is passed on as it comes, but for the brace at the end.
//! - A call of the model's own is JSON between `<tool_call>` and `</tool_call>`. It is passed on when it
//!   is whole; if it is no call of a function there is, it stays text.

use serde_json::Value;

/// How an answer's text is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::embedded) enum Reading {
    /// All of it is content.
    Text,
    /// It is one call.
    Call,
    /// It is content with calls of these functions in it.
    Tagged {
        /// Of the functions there are.
        names: Vec<String>,
    },
}

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Content(String),
    /// A new call begins, after the others.
    Call {
        name: String,
    },
    /// Of the last call.
    Arguments(String),
}

/// Reads one choice.
#[derive(Clone)]
pub(super) struct CallReader {
    reading: Reading,
    held: String,
    /// Within a call.
    inside: bool,
    calls: usize,
}

const BEFORE_NAME: &str = "{\"name\": \"";
const BEFORE_ARGUMENTS: &str = "\", \"arguments\": ";
const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

impl CallReader {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, held: String::new(), inside: false, calls: 0 }
    }

    /// Calls that have begun.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Takes the next text.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        match &self.reading {
            Reading::Text => parts.push(Part::Content(text.to_owned())),
            Reading::Call => {
                self.held.push_str(text);
                self.read_call(&mut parts);
            }
            Reading::Tagged { .. } => {
                self.held.push_str(text);
                self.read_tagged(&mut parts);
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// What is left at the end; `is_complete` says that the answer was not cut off.
    pub(super) fn finish(&mut self, is_complete: bool) -> Vec<Part> {
        let mut held = std::mem::take(&mut self.held);
        let mut parts = Vec::new();
        match &self.reading {
            Reading::Text => {}
            Reading::Call => {
                if is_complete {
                    // The brace that closes the call, not its arguments.
                    held.pop();
                }
                if self.inside {
                    parts.push(Part::Arguments(held));
                }
            }
            Reading::Tagged { names } if self.inside => {
                let raw = || vec![Part::Content(format!("{OPEN}{held}"))];
                let call = call(&held, names).filter(|_| is_complete);
                self.calls += usize::from(call.is_some());
                parts = call.unwrap_or_else(raw);
            }
            Reading::Tagged { .. } => parts.push(Part::Content(held)),
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn read_call(&mut self, parts: &mut Vec<Part>) {
        if !self.inside {
            let after = self.held.strip_prefix(BEFORE_NAME);
            let Some((name, rest)) = after.and_then(|after| after.split_once(BEFORE_ARGUMENTS)) else { return };
            parts.push(Part::Call { name: name.to_owned() });
            self.held = rest.to_owned();
            self.inside = true;
            self.calls += 1;
        }
        // The last character may be the brace at the end.
        let last = self.held.char_indices().next_back().map_or(0, |(at, _)| at);
        let held = self.held.split_off(last);
        parts.push(Part::Arguments(std::mem::replace(&mut self.held, held)));
    }

    fn read_tagged(&mut self, parts: &mut Vec<Part>) {
        let Reading::Tagged { names } = &self.reading else { return };
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some((before, after)) = self.held.split_once(tag) else { break };
            match (self.inside, call(before, names)) {
                (false, _) => parts.push(Part::Content(before.to_owned())),
                (true, Some(call)) => {
                    parts.extend(call);
                    self.calls += 1;
                }
                (true, None) => parts.push(Part::Content(format!("{OPEN}{before}{CLOSE}"))),
            }
            self.held = after.to_owned();
            self.inside = !self.inside;
        }
        if !self.inside {
            let keep = (1..OPEN.len()).rev().find(|len| OPEN.get(..*len).is_some_and(|part| self.held.ends_with(part)));
            let held = self.held.split_off(self.held.len().saturating_sub(keep.unwrap_or(0)));
            parts.push(Part::Content(std::mem::replace(&mut self.held, held)));
        }
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        match self {
            Self::Content(text) | Self::Arguments(text) => text.is_empty(),
            Self::Call { .. } => false,
        }
    }
}

/// The call that a text is, if it is one of a function there is.
fn call(text: &str, names: &[String]) -> Option<Vec<Part>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let name = value.get("name")?.as_str()?;
    let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
        None => "{}".to_owned(),
        // Some models write them as the API does: as text.
        Some(Value::String(text)) => text.clone(),
        Some(arguments) => arguments.to_string(),
    };
    let known = names.iter().any(|known| known == name);
    known.then(|| vec![Part::Call { name: name.to_owned() }, Part::Arguments(arguments)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts with neighbours of a kind joined, wherever the text is cut.
    #[track_caller]
    fn check(reading: &Reading, text: &str, is_complete: bool, expected: &[Part]) {
        for cut in (1..=text.len()).filter(|len| text.is_char_boundary(*len)) {
            let mut reader = CallReader::new(reading.clone());
            let mut parts = Vec::new();
            let (first, second) = text.split_at(cut);
            for part in reader.push(first).into_iter().chain(reader.push(second)).chain(reader.finish(is_complete)) {
                match (parts.last_mut(), part) {
                    (Some(Part::Content(before)), Part::Content(more)) => before.push_str(&more),
                    (Some(Part::Arguments(before)), Part::Arguments(more)) => before.push_str(&more),
                    (_, part) => parts.push(part),
                }
            }
            assert_eq!(parts, expected, "cut at {cut}");
            let calls = expected.iter().filter(|part| matches!(part, Part::Call { .. })).count();
            assert_eq!(reader.calls(), calls);
        }
    }

    fn content(text: &str) -> Part {
        Part::Content(text.to_owned())
    }

    fn named(name: &str) -> Part {
        Part::Call { name: name.to_owned() }
    }

    fn arguments(text: &str) -> Part {
        Part::Arguments(text.to_owned())
    }

    #[test]
    fn text_is_text() {
        check(&Reading::Text, "a <tool_call>{}</tool_call>", true, &[content("a <tool_call>{}</tool_call>")]);
    }

    #[test]
    fn a_demanded_call_is_passed_on_without_its_frame() {
        let text = r#"{"name": "add", "arguments": {"a": "}é", "b": {}}}"#;
        check(&Reading::Call, text, true, &[named("add"), arguments(r#"{"a": "}é", "b": {}}"#)]);
        check(&Reading::Call, r#"{"name": "f", "arguments": {}}"#, true, &[named("f"), arguments("{}")]);
    }

    #[test]
    fn a_demanded_call_that_is_cut_off_loses_nothing() {
        check(
            &Reading::Call,
            r#"{"name": "add", "arguments": {"a": 1"#,
            false,
            &[named("add"), arguments(r#"{"a": 1"#)],
        );
        check(&Reading::Call, r#"{"name": "ad"#, false, &[]);
    }

    /// Arguments that contain what stands between a name and its arguments.
    #[test]
    fn arguments_cannot_forge_a_second_name() {
        let text = r#"{"name": "add", "arguments": {"a": "\", \"arguments\": ", "name": "rm"}}"#;
        let forged = r#"{"a": "\", \"arguments\": ", "name": "rm"}"#;
        check(&Reading::Call, text, true, &[named("add"), arguments(forged)]);
    }

    fn tagged() -> Reading {
        Reading::Tagged { names: vec!["add".to_owned(), "sub".to_owned()] }
    }

    #[test]
    fn tagged_calls_are_taken_out_of_the_text() {
        let text = "Well <b>\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\":1}}\n</tool_call>\
                    <tool_call>{\"name\": \"sub\"}</tool_call> done";
        let expected = [
            content("Well <b>\n"),
            named("add"),
            arguments("{\"a\":1}"),
            named("sub"),
            arguments("{}"),
            content(" done"),
        ];
        check(&tagged(), text, true, &expected);
        check(&tagged(), "<tool_call>{\"name\": \"sub\"}", true, &[named("sub"), arguments("{}")]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "<tool_call>{\"name\": \"rm\", \"arguments\": {}}</tool_call>",
            "<tool_call>not JSON</tool_call>!",
            "<tool_call>{\"name\": 7}</tool_call>",
            "a < b <tool",
            "<tool_call>{\"name\": ",
        ] {
            check(&tagged(), text, true, &[content(text)]);
        }
        check(&tagged(), "<tool_call>{\"name\": \"sub\"}", false, &[content("<tool_call>{\"name\": \"sub\"}")]);
    }
}
