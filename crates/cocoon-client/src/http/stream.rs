//! An answer on its way to the app, chunk by chunk, as the proxy's session hands it over.
//!
//! Bytes leave as they came; at most the usage event that the app did not ask for is dropped, and what the answer cost is
//! written into the one that it did ask for. Only that event, and what follows it, waits for the end.
//! An app that speaks another API gets the same answer in that API's events, behind these edits ([`crate::dialect`]).
//! When the answer breaks off, a server-sent stream says so in an event of its own; any other body
//! is cut so that the app sees it is incomplete. It never just ends.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use cocoon_wire::usage::{CostSplicer, SseFilter};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use super::{InFlight, body::Incomplete};
use crate::{
    dialect::{DialectEvents, Translation},
    error::RequestError,
    receipts::Metered,
};

/// The body of a streamed response.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    answer: Metered,
    request: InFlight,
    model: Arc<str>,
    form: Form,
    filter: Option<SseFilter>,
    /// None where no price is known.
    splicer: Option<CostSplicer>,
    /// Puts the answer in the app's own words, behind all other edits.
    words: Option<DialectEvents>,
    /// The room of what that keeps of the request.
    kept: Option<OwnedSemaphorePermit>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    /// The last bytes that left, to know whether an event is open.
    tail: [u8; 2],
    over: bool,
    /// What leaves before the answer.
    preface: Option<Bytes>,
    /// What was taken in of an answer that turned out too long to be held.
    held: VecDeque<Bytes>,
}

/// How a body can say that it broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/event-stream`: by an event.
    Events,
    /// Anything else: by being cut.
    Opaque,
    /// Sound and pictures, of which nothing is edited: by being cut.
    Binary,
}

/// Whether the app asked for the usage event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageEvent {
    /// It passes.
    Wanted,
    /// It was asked for by this client only, and is dropped.
    Unwanted,
}

impl AnswerBody {
    pub(super) fn new(
        answer: Metered,
        request: InFlight,
        model: Arc<str>,
        form: Form,
        usage: UsageEvent,
        deadline: Instant,
    ) -> Self {
        // The original's apps get lines of JSON with the usage in them, asked for or not.
        let filter = (form == Form::Events && usage == UsageEvent::Unwanted).then(SseFilter::new);
        let splicer = (form != Form::Binary && answer.is_priced()).then(CostSplicer::new);
        Self {
            answer,
            request,
            model,
            form,
            filter,
            splicer,
            words: None,
            kept: None,
            deadline,
            timer: None,
            tail: *b"\n\n",
            over: false,
            preface: None,
            held: VecDeque::new(),
        }
    }

    /// Names the receipt at the head of a stream of events, where every client of events skips it.
    pub(super) fn with_receipt_comment(mut self, id: &str) -> Self {
        if self.form == Form::Events {
            let comment = format!(": cocoon-receipt {id}\n\n").into();
            self.preface = Some(join(comment, self.preface.take().unwrap_or_default()));
        }
        self
    }

    /// Tells the answer in another API's events.
    pub(super) fn in_words_of(mut self, translation: Option<Translation>, kept: Option<OwnedSemaphorePermit>) -> Self {
        self.words = translation.map(Translation::into_events);
        self.preface = self.words.as_mut().map(DialectEvents::begin);
        self.kept = kept;
        self
    }

    /// Begins with bytes that were taken in before.
    pub(super) fn with_held(mut self, held: VecDeque<Bytes>) -> Self {
        self.held = held;
        self
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Incomplete>>> {
        if let Some(preface) = self.preface.take() {
            return Poll::Ready(Some(Ok(preface)));
        }
        while let Some(held) = self.held.pop_front() {
            let chunk = self.edit(held);
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(self.leave(chunk))));
            }
        }
        while !self.over {
            // Chunks that never stop coming must not outrun the deadline; those of an answer that has ended may.
            if Instant::now() >= self.deadline && !self.answer.has_ended() {
                return Poll::Ready(Some(self.break_off(&RequestError::Late)));
            }
            match self.answer.poll_chunk(cx) {
                Poll::Ready(Ok(Some(chunk))) => {
                    let chunk = self.edit(chunk);
                    if !chunk.is_empty() {
                        return Poll::Ready(Some(Ok(self.leave(chunk))));
                    }
                }
                Poll::Ready(Ok(None)) => {
                    let rest = self.complete();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(rest)));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Some(self.break_off(&error))),
                Poll::Pending if self.is_late(cx) => return Poll::Ready(Some(self.break_off(&RequestError::Late))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    fn leave(&mut self, chunk: Bytes) -> Bytes {
        if let [.., a, b] = *chunk {
            self.tail = [a, b];
        } else if let [b] = *chunk {
            self.tail = [self.tail[1], b];
        }
        chunk
    }

    /// Drops what the app did not ask for, holds what waits for the cost, and translates. An answer that cannot be
    /// translated breaks off here.
    fn edit(&mut self, chunk: Bytes) -> Bytes {
        let chunk = self.splice(chunk);
        let Some(words) = &mut self.words else { return chunk };
        let mut out = Vec::new();
        let told = words.push(&chunk, &mut out);
        match told {
            Ok(()) => out.into(),
            Err(violation) => {
                // Events never end in a cut here.
                let last = self.break_off(&violation.into()).unwrap_or_default();
                join(out.into(), last)
            }
        }
    }

    fn splice(&mut self, chunk: Bytes) -> Bytes {
        let chunk = match &mut self.filter {
            Some(filter) => filter.push(chunk),
            None => chunk,
        };
        match &mut self.splicer {
            Some(splicer) => splicer.push(chunk),
            None => chunk,
        }
    }

    /// Ends the body; gives what was held back.
    fn complete(&mut self) -> Bytes {
        self.over = true;
        self.request.used_by(&self.answer, &self.model);
        let mut rest = self.filter.as_mut().map(SseFilter::finish).unwrap_or_default();
        if let Some(splicer) = &mut self.splicer {
            rest = join(splicer.push(rest), splicer.finish(self.answer.cost().as_ref()));
        }
        let Some(words) = &mut self.words else {
            self.request.completed();
            return rest;
        };
        let mut out = Vec::new();
        match words.push(&rest, &mut out).and_then(|()| words.finish(&mut out)) {
            Ok(()) => self.request.completed(),
            Err(violation) => {
                let error = violation.into();
                self.request.failed(&error);
                error.tell(words, &mut out);
            }
        }
        out.into()
    }

    /// Ends the body before its time; what the filter held back of an unfinished event stays back.
    fn break_off(&mut self, error: &RequestError) -> Result<Bytes, Incomplete> {
        self.over = true;
        self.answer.give_up();
        self.request.used_by(&self.answer, &self.model);
        self.request.failed(error);
        if self.form != Form::Events {
            return Err(Incomplete);
        }
        let cost = self.answer.cost();
        let held = self.splicer.as_mut().map(|splicer| splicer.finish(cost.as_ref())).unwrap_or_default();
        if let Some(words) = &mut self.words {
            let mut out = Vec::new();
            // What is wrong with the last bytes does not matter any more.
            let _ = words.push(&held, &mut out);
            error.tell(words, &mut out);
            return Ok(out.into());
        }
        let held = self.leave(held);
        let event = error.event();
        // An event that was cut off is ended first, so that ours is not read as part of it.
        let event = if self.tail == *b"\n\n" { event } else { [b"\n\n".as_slice(), &event].concat().into() };
        Ok(join(held, event))
    }

    /// Whether the deadline has passed; if not, the task is woken then.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.deadline;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().poll(cx).is_ready()
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}
