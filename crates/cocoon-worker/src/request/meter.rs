//! Counts what an answer used, from its bytes as they pass.

use cocoon_units::Usage;
use cocoon_wire::openai::RequestFacts;
use cocoon_wire::usage::UsageReader;

use super::prepare::Prepared;
use crate::error::EngineError;
use crate::limits::EVENTS_SLACK;

/// The usage of one answer.
pub(super) struct Meter {
    reader: UsageReader,
    events: EventCounter,
    /// Of all choices.
    tokens_max: Option<u64>,
    choices: u64,
    facts: RequestFacts,
    fewest_prompt_tokens: u64,
    /// Whether each event of a stream is a token.
    events_are_tokens: bool,
    /// Whether the answer is of a form that can tell.
    is_text: bool,
}

impl Meter {
    pub(super) fn new(prepared: &Prepared) -> Self {
        let choices = u64::from(prepared.facts.choices());
        Self {
            reader: UsageReader::new(),
            events: EventCounter::default(),
            tokens_max: prepared.request.token_limit.map(|limit| u64::from(limit).saturating_mul(choices)),
            choices,
            facts: prepared.facts.clone(),
            fewest_prompt_tokens: prepared.fewest_prompt_tokens,
            events_are_tokens: prepared.request.route.has_token_limit(),
            is_text: true,
        }
    }

    /// Takes note of what the answer is. Sound and pictures say nothing, whatever their bytes look like.
    pub(super) fn handle_head(&mut self, content_type: Option<&str>) {
        self.is_text = content_type.is_none_or(|content_type| !is_binary(content_type));
    }

    /// Looks at the next bytes of a stream.
    ///
    /// # Errors
    /// When there are more events than the token limit allows: the engine ignores it. (An engine may put
    /// several tokens into one event; then its reported usage tells, and the proxy clamps it.)
    pub(super) fn handle_stream(&mut self, chunk: &[u8]) -> Result<(), EngineError> {
        self.handle_rest(chunk);
        if self.is_text {
            self.events.push(chunk);
        }
        let allowed = |max: u64| max.saturating_add(EVENTS_SLACK.saturating_mul(self.choices));
        if self.tokens_max.is_some_and(|max| self.events.count > allowed(max)) {
            return Err(EngineError::EngineIgnoresLimit);
        }
        Ok(())
    }

    /// Looks at the next bytes of an answer that is not a stream, or of which nothing is delivered any more.
    pub(super) fn handle_rest(&mut self, chunk: &[u8]) {
        if self.is_text {
            self.reader.push(chunk);
        }
    }

    /// Whether the engine reported usage.
    pub(super) fn is_reported(&self) -> bool {
        self.reported().is_some()
    }

    /// Usage as the engine reported it, or else as few tokens as the request and the events can mean.
    pub(super) fn usage(&self) -> Usage {
        self.reported().unwrap_or_else(|| {
            let untold = self.facts.untold(self.fewest_prompt_tokens);
            Usage { completion: untold.completion.saturating_add(self.fewest_tokens()), ..untold }
        })
    }

    fn reported(&self) -> Option<Usage> {
        self.facts.told(&self.reader.told())
    }

    /// Events less the two that hold no token: the first (the role) and the last (the finish reason).
    fn fewest_tokens(&self) -> u64 {
        if !self.events_are_tokens {
            return 0;
        }
        let tokens = self.events.count.saturating_sub(2);
        self.tokens_max.map_or(tokens, |max| tokens.min(max))
    }
}

/// Whether a media type is one whose bytes are neither JSON nor events.
fn is_binary(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let kind = essence.split('/').next().unwrap_or_default();
    ["audio", "image", "video"].iter().any(|binary| binary.eq_ignore_ascii_case(kind))
        || essence.eq_ignore_ascii_case("application/octet-stream")
}

/// Counts lines that hold data: `data:` of server-sent events, and objects of newline-delimited JSON.
/// Comments, event names and blank lines are not counted.
#[derive(Default)]
struct EventCounter {
    count: u64,
    in_line: bool,
}

impl EventCounter {
    fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            if !self.in_line && matches!(first, b'd' | b'{') {
                self.count = self.count.saturating_add(1);
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                self.in_line = true;
                return;
            };
            self.in_line = false;
            rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cocoon_wire::Sealed;

    use super::*;
    use crate::engine::{EngineRequest, Route};

    fn meter(route: Route, body: &'static [u8], token_limit: Option<u32>) -> Meter {
        let body = Bytes::from_static(body);
        let facts = RequestFacts::read(route, None, &body).unwrap();
        let request = EngineRequest { route, content_type: None, accept: None, body: Sealed::new(body), token_limit };
        Meter::new(&Prepared { request, streamed: false, facts, fewest_prompt_tokens: 3 })
    }

    /// Of a picture whose bytes look like an answer that cost nothing.
    #[test]
    fn a_picture_says_nothing_of_its_usage() {
        for (content_type, told) in
            [("image/png", false), ("application/octet-stream", false), ("application/json", true)]
        {
            let mut meter = meter(Route::ImageGenerations, br#"{"model":"m","size":"32x32"}"#, None);
            meter.handle_head(Some(content_type));
            meter.handle_rest(br#"{"usage":{"input_tokens":1,"output_tokens":1}}"#);
            assert_eq!(meter.is_reported(), told, "{content_type}");
            let expected = if told { (1, 1) } else { (3, 4) };
            assert_eq!((meter.usage().prompt, meter.usage().completion), expected, "{content_type}");
        }
    }

    #[test]
    fn events_are_counted_wherever_chunks_are_cut() {
        let body = b": ping\n\nevent: x\ndata: {\"a\":1}\n\ndata: [DONE]\n\n{\"b\":2}\n";
        for cut in 0..=body.len() {
            let mut counter = EventCounter::default();
            counter.push(&body[..cut]);
            counter.push(&body[cut..]);
            assert_eq!(counter.count, 3, "cut at {cut}");
        }
    }

    #[test]
    fn an_engine_that_ignores_the_limit_is_stopped() {
        let mut meter = meter(Route::ChatCompletions, br#"{"max_tokens":2}"#, Some(2));
        for _ in 0..2 + EVENTS_SLACK {
            meter.handle_stream(b"data: {}\n\n").unwrap();
        }
        assert!(matches!(meter.handle_stream(b"data: {}\n\n"), Err(EngineError::EngineIgnoresLimit)));
        assert_eq!(meter.usage().completion, 2);
    }
}
