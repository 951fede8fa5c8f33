//! An incremental JSON scanner that knows only the way to `usage`.
//!
//! It keeps one bit a level (object or array), the path of the first few levels, and one short key.
//! It stops at the edges of a usage object and of the costs in it, so that whoever edits knows the place.
//! It is lenient: whatever is not JSON is skipped or stops it, and never fails.

use memchr::memchr2;

use crate::limits::ANSWER_DEPTH_MAX;

/// Counts of a usage object; `None` where it was silent.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) prompt: Option<u64>,
    pub(super) cached: Option<u64>,
    pub(super) completion: Option<u64>,
    pub(super) reasoning: Option<u64>,
    pub(super) total: Option<u64>,
    /// Rounded up.
    pub(super) seconds: Option<u64>,
}

impl Counts {
    pub(super) const fn any(&self) -> bool {
        self.prompt.is_some() || self.cached.is_some() || self.completion.is_some() || self.reasoning.is_some()
    }

    /// A later object overrides the counts that it names.
    fn update(&mut self, later: &Self) {
        self.prompt = later.prompt.or(self.prompt);
        self.cached = later.cached.or(self.cached);
        self.completion = later.completion.or(self.completion);
        self.reasoning = later.reasoning.or(self.reasoning);
        self.total = later.total.or(self.total);
        self.seconds = later.seconds.or(self.seconds);
    }
}

/// A place in the bytes that an edit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Just behind the brace that opens a usage object.
    UsageOpened,
    /// Just behind the brace that closes it; and whether it had members.
    UsageClosed { has_members: bool },
    /// Just behind the first byte of a cost's value.
    CostStarted(CostField),
    /// At the first byte behind a cost's value.
    CostEnded,
}

/// A member of a usage object that says what the answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CostField {
    Prompt,
    Completion,
    Total,
}

/// What a container is on the way to `usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Other,
    Top,
    /// `response` or `message` of a typed event.
    Wrapper,
    Usage,
    PromptDetails,
    CompletionDetails,
    /// The top level's `choices` array.
    Choices,
}

/// A key on the way to `usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Usage,
    Wrapper,
    Choices,
    Prompt,
    Completion,
    PromptDetails,
    CompletionDetails,
    Cached,
    Reasoning,
    Total,
    Seconds,
    /// At the top of a transcript.
    Duration,
    Cost(CostField),
}

impl Key {
    fn of(text: &[u8]) -> Self {
        match text {
            b"usage" => Self::Usage,
            b"response" | b"message" => Self::Wrapper,
            b"choices" => Self::Choices,
            b"prompt_tokens" | b"input_tokens" => Self::Prompt,
            b"completion_tokens" | b"output_tokens" => Self::Completion,
            b"prompt_tokens_details" | b"input_tokens_details" => Self::PromptDetails,
            b"completion_tokens_details" | b"output_tokens_details" => Self::CompletionDetails,
            b"cached_tokens" => Self::Cached,
            b"reasoning_tokens" => Self::Reasoning,
            b"total_tokens" => Self::Total,
            b"seconds" => Self::Seconds,
            b"duration" => Self::Duration,
            b"prompt_total_cost" => Self::Cost(CostField::Prompt),
            b"completion_total_cost" => Self::Cost(CostField::Completion),
            b"total_cost" => Self::Cost(CostField::Total),
            _ => Self::Other,
        }
    }
}

/// The longest known key has 25 letters.
const KEY_LEN_MAX: usize = 32;
/// Levels whose place matters: top, wrapper, usage, details.
const PLACES: usize = 4;

/// Whether the document's `choices` are what a usage-only event has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Choices {
    #[default]
    Unseen,
    Empty,
    Filled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between tokens.
    #[default]
    Between,
    /// In a string whose text does not matter.
    Text,
    /// After a backslash in such a string.
    TextEscape,
    /// In a key that may matter.
    KeyText,
    /// In a number that may matter, with its value so far (none: not a count).
    Number(Option<u64>),
    /// In a number of seconds.
    Seconds(Seconds),
    /// In a number or word that does not matter.
    Word,
    /// Nested too deeply, or not JSON: blind until the next document.
    Blind,
}

/// A number of seconds so far; some engines write it as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seconds {
    /// None: not a number of seconds.
    whole: Option<u64>,
    part: Part,
    is_quoted: bool,
}

/// Where in it a byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    Whole,
    /// Behind the point, where only zeros have come.
    Fraction,
    /// Behind the point, and it counts as a second more.
    RoundsUp,
}

impl Seconds {
    const fn new(is_quoted: bool) -> Self {
        Self { whole: None, part: Part::Start, is_quoted }
    }

    fn push(&mut self, byte: u8) {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')));
        match (self.part, digit) {
            (Part::Start, _) => {
                self.whole = digit;
                self.part = Part::Whole;
            }
            (Part::Whole, Some(digit)) => {
                self.whole = self.whole.and_then(|whole| whole.checked_mul(10)?.checked_add(digit));
            }
            (Part::Whole, None) if byte == b'.' => self.part = Part::Fraction,
            (Part::Fraction, Some(0)) | (Part::RoundsUp, Some(_)) => {}
            (Part::Fraction, Some(_)) => self.part = Part::RoundsUp,
            (Part::Whole | Part::Fraction | Part::RoundsUp, None) => self.whole = None,
        }
    }

    fn rounded_up(self) -> Option<u64> {
        let whole = self.whole.filter(|&whole| i64::try_from(whole).is_ok());
        whole.map(|whole| whole.saturating_add(u64::from(self.part == Part::RoundsUp)))
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Scanner {
    state: State,
    depth: usize,
    /// One bit a level, the innermost lowest: whether it is an object.
    objects: u128,
    places: [Place; PLACES],
    /// Whether the next string of the innermost object is a key.
    expects_key: bool,
    key: Key,
    key_text: [u8; KEY_LEN_MAX],
    key_len: usize,
    /// Of the usage object that is open.
    open: Counts,
    open_is_malformed: bool,
    open_has_members: bool,
    /// Whether the value that is being read is a cost.
    in_cost: bool,
    edge: Option<Edge>,
    counts: Counts,
    /// Of a verbose transcript.
    duration: Option<u64>,
    is_malformed: bool,
    // What the filter asks about the current document.
    choices: Choices,
    has_usage: bool,
    documents: u32,
    is_object: bool,
}

impl Scanner {
    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) const fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Seconds of a verbose transcript, rounded up.
    pub(super) const fn duration(&self) -> Option<u64> {
        self.duration
    }

    /// Forgets the current document, whole or not, but not the counts.
    pub(super) fn next_document(&mut self) {
        let Self { counts, duration, is_malformed, .. } = *self;
        *self = Self { counts, duration, is_malformed, ..Self::default() };
    }

    /// Whether what came since the last document is one whole object with `choices: []` and a
    /// usage object.
    pub(super) fn is_usage_only(&self) -> bool {
        self.may_become_usage_only()
            && self.documents == 1
            && self.depth == 0
            && self.choices == Choices::Empty
            && self.has_usage
    }

    /// Whether more bytes could still make it so.
    pub(super) fn may_become_usage_only(&self) -> bool {
        let started = self.documents > 0 || self.depth > 0 || self.state != State::Between;
        self.choices != Choices::Filled
            && self.state != State::Blind
            && self.documents <= 1
            && (!started || self.is_object)
    }

    /// Takes all bytes, whatever edges there are.
    pub(super) fn feed_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let fed = self.feed(bytes);
            bytes = bytes.get(fed..).unwrap_or_default();
        }
    }

    /// The edge that the last [`Self::feed`] stopped at.
    pub(super) const fn edge(&self) -> Option<Edge> {
        self.edge
    }

    /// Takes bytes up to the next edge, or all of them; says how many. An edge that takes none changes the state, so the
    /// next call goes on.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        self.edge = None;
        let mut left = bytes;
        while let Some((&byte, rest)) = left.split_first()
            && self.edge.is_none()
        {
            left = match self.state {
                State::Blind => return bytes.len(),
                State::Text => self.skip_text(left),
                State::TextEscape => {
                    self.state = State::Text;
                    rest
                }
                State::KeyText => {
                    self.key_byte(byte);
                    rest
                }
                State::Number(value) => {
                    if self.number_byte(value, byte) {
                        rest
                    } else {
                        left
                    }
                }
                State::Seconds(seconds) => {
                    if self.seconds_byte(seconds, byte) {
                        rest
                    } else {
                        left
                    }
                }
                State::Word => {
                    if is_end_of_word(byte) {
                        self.state = State::Between;
                        self.value_ends();
                        left
                    } else {
                        rest
                    }
                }
                State::Between => {
                    self.token(byte);
                    rest
                }
            };
        }
        bytes.len().saturating_sub(left.len())
    }

    /// Skips to the end of a string or of the bytes.
    fn skip_text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            return &[];
        };
        self.state = match bytes.get(end) {
            Some(b'\\') => State::TextEscape,
            Some(_) | None => State::Between,
        };
        if self.state == State::Between {
            self.value_ends();
        }
        bytes.get(end.saturating_add(1)..).unwrap_or_default()
    }

    /// One byte between tokens.
    fn token(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'{' => self.open(Container::Object),
            b'[' => self.open(Container::Array),
            b'}' => self.close(Container::Object),
            b']' => self.close(Container::Array),
            b',' => self.expects_key = self.in_object(),
            b':' => self.expects_key = false,
            b'"' if self.expects_key => {
                self.key = Key::Other;
                self.key_len = 0;
                let matters = self.place() != Place::Other;
                self.open_has_members |= self.place() == Place::Usage;
                self.state = if matters { State::KeyText } else { State::Text };
            }
            b'"' => {
                self.value_starts();
                self.scalar_at_top();
                self.state = if self.is_time() { State::Seconds(Seconds::new(true)) } else { State::Text };
            }
            _ => {
                self.value_starts();
                self.scalar(byte);
            }
        }
    }

    fn key_byte(&mut self, byte: u8) {
        match byte {
            b'"' => {
                let text = self.key_text.get(..self.key_len).unwrap_or_default();
                self.key = Key::of(text);
                self.state = State::Between;
            }
            // Our keys need no escapes: whatever this one spells, it is skipped.
            b'\\' => self.state = State::TextEscape,
            _ => match self.key_text.get_mut(self.key_len) {
                Some(slot) => {
                    *slot = byte;
                    self.key_len = self.key_len.saturating_add(1);
                }
                None => self.state = State::Text,
            },
        }
    }

    /// The first byte of a number or a word.
    fn scalar(&mut self, byte: u8) {
        let is_count = self.counter().is_some();
        self.state = match byte {
            b'0'..=b'9' if self.is_time() => {
                let mut seconds = Seconds::new(false);
                seconds.push(byte);
                State::Seconds(seconds)
            }
            b'0'..=b'9' if is_count => State::Number(Some(u64::from(byte.wrapping_sub(b'0')))),
            b'-' if is_count => State::Number(None),
            _ => State::Word,
        };
        self.scalar_at_top();
    }

    /// Takes a byte into the number, or ends the number before it.
    fn number_byte(&mut self, value: Option<u64>, byte: u8) -> bool {
        if is_end_of_word(byte) {
            self.count(value);
            self.state = State::Between;
            return false;
        }
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')));
        let longer = value
            .zip(digit)
            .and_then(|(value, digit)| value.checked_mul(10)?.checked_add(digit))
            .filter(|&value| i64::try_from(value).is_ok());
        self.state = State::Number(longer);
        true
    }

    /// Whether the value of the current key is a time.
    fn is_time(&self) -> bool {
        matches!((self.place(), self.key), (Place::Usage, Key::Seconds) | (Place::Top, Key::Duration))
    }

    /// Takes a byte into the number of seconds, or ends it before a byte that is none of it.
    fn seconds_byte(&mut self, mut seconds: Seconds, byte: u8) -> bool {
        let ends = if seconds.is_quoted { byte == b'"' } else { is_end_of_word(byte) };
        if ends {
            let place = if self.place() == Place::Top { &mut self.duration } else { &mut self.open.seconds };
            *place = seconds.rounded_up().or(*place);
            self.state = State::Between;
            self.value_ends();
            return seconds.is_quoted;
        }
        if seconds.is_quoted && byte == b'\\' {
            self.state = State::TextEscape;
            return true;
        }
        seconds.push(byte);
        self.state = State::Seconds(seconds);
        true
    }

    /// A whole number that stands behind a key of interest.
    fn count(&mut self, value: Option<u64>) {
        let is_sum = self.key == Key::Total;
        match (value, self.counter()) {
            (Some(_), Some(counter)) => *counter = value,
            // The sum says nothing that the others do not.
            (None, _) if is_sum => {}
            (None, _) => self.open_is_malformed = true,
            (Some(_), None) => {}
        }
    }

    /// Where the value of the current key goes, if it is a count.
    fn counter(&mut self) -> Option<&mut Option<u64>> {
        match (self.place(), self.key) {
            (Place::Usage, Key::Prompt) => Some(&mut self.open.prompt),
            (Place::Usage, Key::Completion) => Some(&mut self.open.completion),
            (Place::PromptDetails, Key::Cached) => Some(&mut self.open.cached),
            (Place::CompletionDetails, Key::Reasoning) => Some(&mut self.open.reasoning),
            (Place::Usage, Key::Total) => Some(&mut self.open.total),
            _ => None,
        }
    }

    fn open(&mut self, container: Container) {
        self.value_starts();
        let place = self.place_of_child(container);
        if self.depth >= ANSWER_DEPTH_MAX {
            self.state = State::Blind;
            return;
        }
        if self.depth == 0 {
            self.is_object = container == Container::Object;
        }
        if place == Place::Usage {
            self.open = Counts::default();
            self.open_is_malformed = false;
            self.open_has_members = false;
            self.has_usage = true;
            self.edge = Some(Edge::UsageOpened);
        }
        if let Some(slot) = self.places.get_mut(self.depth) {
            *slot = place;
        }
        self.depth = self.depth.saturating_add(1);
        self.objects = (self.objects << 1) | u128::from(container == Container::Object);
        self.expects_key = container == Container::Object;
        self.key = Key::Other;
    }

    fn place_of_child(&self, container: Container) -> Place {
        match (container, self.place(), self.key) {
            (Container::Object, _, _) if self.depth == 0 => Place::Top,
            (Container::Object, Place::Top, Key::Wrapper) => Place::Wrapper,
            (Container::Object, Place::Top | Place::Wrapper, Key::Usage) => Place::Usage,
            (Container::Object, Place::Usage, Key::PromptDetails) => Place::PromptDetails,
            (Container::Object, Place::Usage, Key::CompletionDetails) => Place::CompletionDetails,
            (Container::Array, Place::Top, Key::Choices) => Place::Choices,
            _ => Place::Other,
        }
    }

    fn close(&mut self, container: Container) {
        if self.depth == 0 || self.in_object() != (container == Container::Object) {
            self.state = State::Blind;
            return;
        }
        match self.place() {
            Place::Usage => {
                self.commit();
                self.in_cost = false;
                self.edge = Some(Edge::UsageClosed { has_members: self.open_has_members });
            }
            Place::Choices if self.choices == Choices::Unseen => self.choices = Choices::Empty,
            Place::Other
            | Place::Top
            | Place::Wrapper
            | Place::PromptDetails
            | Place::CompletionDetails
            | Place::Choices => {}
        }
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        self.expects_key = false;
        self.key = Key::Other;
        self.value_ends();
        if self.depth == 0 {
            self.documents = self.documents.saturating_add(1);
        }
    }

    /// A usage object is complete.
    fn commit(&mut self) {
        if self.open_is_malformed {
            self.is_malformed = true;
        } else {
            self.counts.update(&self.open);
        }
    }

    fn value_starts(&mut self) {
        if self.place() == Place::Choices {
            self.choices = Choices::Filled;
        }
        if let (Place::Usage, Key::Cost(field), false) = (self.place(), self.key, self.in_cost) {
            self.in_cost = true;
            self.edge = Some(Edge::CostStarted(field));
        }
    }

    /// A value may have ended; a key's text ends here too, and parts of a cost that is no number.
    fn value_ends(&mut self) {
        if self.in_cost && self.place() == Place::Usage {
            self.in_cost = false;
            self.key = Key::Other;
            self.edge = Some(Edge::CostEnded);
        }
    }

    /// A bare string, number or word outside any container is a document that is no object.
    fn scalar_at_top(&mut self) {
        if self.depth == 0 {
            self.is_object = false;
            self.documents = self.documents.saturating_add(1);
        }
    }

    const fn in_object(&self) -> bool {
        self.depth > 0 && self.objects & 1 == 1
    }

    /// The place of the innermost container.
    fn place(&self) -> Place {
        let index = self.depth.checked_sub(1);
        index.and_then(|index| self.places.get(index)).copied().unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

const fn is_end_of_word(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b':' | b'"' | b' ' | b'\t' | b'\r' | b'\n')
}
