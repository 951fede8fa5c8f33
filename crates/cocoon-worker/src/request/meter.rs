//! Counts what an answer used, from its bytes as they pass.

use cocoon_units::Usage;
use cocoon_wire::usage::UsageReader;

use crate::error::EngineError;
use crate::limits::EVENTS_SLACK;

/// The usage of one answer.
pub(super) struct Meter {
    reader: UsageReader,
    events: EventCounter,
    tokens_max: Option<u64>,
    choices: u64,
    fewest_prompt_tokens: u64,
}

impl Meter {
    /// `tokens_max` is the limit of one choice; `fewest_prompt_tokens` is what counts as long as the engine says nothing.
    pub(super) fn new(tokens_max: Option<u32>, choices: u32, fewest_prompt_tokens: u64) -> Self {
        let choices = u64::from(choices.max(1));
        let tokens_max = tokens_max.map(|limit| u64::from(limit).saturating_mul(choices));
        Self { reader: UsageReader::new(), events: EventCounter::default(), tokens_max, choices, fewest_prompt_tokens }
    }

    /// Looks at the next bytes of a stream.
    ///
    /// # Errors
    /// When there are more events than the token limit allows: the engine ignores it. (An engine may put
    /// several tokens into one event; then its reported usage tells, and the proxy clamps it.)
    pub(super) fn handle_stream(&mut self, chunk: &[u8]) -> Result<(), EngineError> {
        self.reader.push(chunk);
        self.events.push(chunk);
        let allowed = |max: u64| max.saturating_add(EVENTS_SLACK.saturating_mul(self.choices));
        if self.tokens_max.is_some_and(|max| self.events.count > allowed(max)) {
            return Err(EngineError::EngineIgnoresLimit);
        }
        Ok(())
    }

    /// Looks at the next bytes of an answer that is not a stream, or of which nothing is delivered any more.
    pub(super) fn handle_rest(&mut self, chunk: &[u8]) {
        self.reader.push(chunk);
    }

    /// Whether the engine reported usage.
    pub(super) fn is_reported(&self) -> bool {
        self.reader.usage().is_some()
    }

    /// Usage as the engine reported it, or else as few tokens as the prompt and the events can mean.
    pub(super) fn usage(&self) -> Usage {
        let fewest =
            || Usage { prompt: self.fewest_prompt_tokens, completion: self.fewest_tokens(), ..Usage::default() };
        self.reader.usage().unwrap_or_else(fewest)
    }

    /// Events less the two that hold no token: the first (the role) and the last (the finish reason).
    fn fewest_tokens(&self) -> u64 {
        let tokens = self.events.count.saturating_sub(2);
        self.tokens_max.map_or(tokens, |max| tokens.min(max))
    }
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
    use super::*;

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
        let mut meter = Meter::new(Some(2), 1, 0);
        for _ in 0..2 + EVENTS_SLACK {
            meter.handle_stream(b"data: {}\n\n").unwrap();
        }
        assert!(matches!(meter.handle_stream(b"data: {}\n\n"), Err(EngineError::EngineIgnoresLimit)));
        assert_eq!(meter.usage().completion, 2);
    }
}
