//! The answer as it flows: from the engine's body to the proxy, as fast as its credit allows.
//!
//! A stream leaves piece by piece as the engine sent it; the one piece that is looked ahead for is the
//! end, and only if it is there already. An answer that is not streamed is gathered while it fits one
//! message. While there is no credit the engine's body is not read, so the pressure reaches the engine.
//!
//! Engines say what an answer used at its end. Of one that is given up, the rest is therefore read for a moment and thrown
//! away: nobody saves by leaving between the last word and the count.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use cocoon_units::Usage;
use cocoon_wire::limits::ANSWER_PART_MAX;
use tokio::time::timeout;

use super::control::Watch;
use super::meter::Meter;
use super::prepare::Prepared;
use super::reply::{Head, Reply};
use super::{Stop, finish_early};
use crate::engine::{EngineAnswer, EngineBody, EngineRequest};
use crate::error::EngineError;
use crate::limits::{LAG_BYTES_MAX, USAGE_BYTES_MAX, USAGE_GRACE, WHOLE_ANSWER_MAX};
use crate::worker::Shared;

type Piece = Option<Result<Bytes, EngineError>>;

/// One answer on its way.
pub(super) struct Relay<'a> {
    shared: &'a Shared,
    watch: Watch<'a>,
    reply: Option<Reply<'a>>,
    meter: Meter,
    streamed: bool,
    /// Whether the proxy has the head of an answer that is no error: then what follows is billed.
    began: bool,
    /// Bytes of the body that the proxy got.
    delivered: u64,
}

impl<'a> Relay<'a> {
    pub(super) fn new(shared: &'a Shared, watch: Watch<'a>, reply: Reply<'a>, prepared: &Prepared) -> Self {
        let (meter, streamed) = (Meter::new(prepared), prepared.streamed);
        Self { shared, watch, reply: Some(reply), meter, streamed, began: false, delivered: 0 }
    }

    /// Runs the request until the last message is queued.
    pub(super) async fn run(&mut self, request: EngineRequest) -> Result<(), Stop> {
        let answer = self.watch.wait(self.shared.engine.run(request)).await??;
        let EngineAnswer { status, content_type, mut body } = answer;
        self.meter.handle_head(content_type.as_deref());
        self.streamed &= is_success(status);
        let head = Head { status, content_type, streamed: self.streamed };
        // What is boxed here and below is not needed while a stream waits, of which there are thousands.
        let outcome = if self.streamed {
            self.stream(head, &mut body).await
        } else {
            Box::pin(self.whole(head, &mut body)).await
        };
        if let Err(Stop::Cancelled | Stop::TimedOut | Stop::SlowReader) = outcome
            && self.began
        {
            Box::pin(self.await_usage(&mut body)).await;
        }
        self.shared.metrics.count_answer(status, outcome?);
        Ok(())
    }

    /// Reads on for what the engine counted, as long as that may be near.
    async fn await_usage(&mut self, body: &mut EngineBody) {
        let meter = &mut self.meter;
        let reading = async {
            let mut left = USAGE_BYTES_MAX;
            while !meter.is_reported() && left > 0 {
                let Some(Ok(chunk)) = next(body).await else { return };
                meter.handle_rest(&chunk);
                left = left.saturating_sub(chunk.len());
            }
        };
        // Without the count, as little is billed as the prompt and what was delivered can mean.
        let _ = timeout(USAGE_GRACE, reading).await;
    }

    /// Tells of an early end.
    pub(super) async fn fail(&mut self, stop: &Stop) {
        let used = self.owed(stop);
        if let Some(reply) = self.reply.take() {
            self.shared.metrics.count_usage(used);
            Box::pin(finish_early(self.shared, reply, stop, used)).await;
        }
    }

    /// What an answer that ended early is billed at.
    ///
    /// Who gave it up owes what was made. Else it is no more than was delivered, of which every token is a byte at least:
    /// the proxy refuses a receipt for more.
    fn owed(&self, stop: &Stop) -> Usage {
        if !self.began || !stop.bills_delivered() {
            return Usage::default();
        }
        let made = self.meter.usage();
        if matches!(stop, Stop::Cancelled) {
            return made;
        }
        if self.delivered == 0 {
            return Usage::default();
        }
        let completion = made.completion.min(self.delivered);
        Usage { completion, reasoning: made.reasoning.min(completion), ..made }
    }

    async fn stream(&mut self, head: Head, body: &mut EngineBody) -> Result<Usage, Stop> {
        self.send_head(&head)?;
        let mut held: Option<Bytes> = None;
        loop {
            let piece = match &held {
                None => Some(self.watch.wait(next(body)).await?),
                Some(_) => next_if_there(body).await,
            };
            match piece {
                Some(Some(chunk)) => {
                    // What came before a failure still arrives.
                    if let Some(previous) = held.take() {
                        self.send(previous).await?;
                    }
                    let chunk = chunk?;
                    self.meter.handle_stream(&chunk)?;
                    held = Some(chunk);
                }
                Some(None) => return Box::pin(self.finish(held.unwrap_or_default(), self.meter.usage())).await,
                None => self.send(held.take().unwrap_or_default()).await?,
            }
        }
    }

    async fn whole(&mut self, head: Head, body: &mut EngineBody) -> Result<Usage, Stop> {
        let mut gathered = Gathered::default();
        while let Some(chunk) = self.watch.wait(next(body)).await? {
            let chunk = chunk?;
            self.meter.handle_rest(&chunk);
            if gathered.len().saturating_add(chunk.len()) > WHOLE_ANSWER_MAX {
                return self.large(head, gathered, chunk, body).await;
            }
            gathered.push(chunk);
        }
        let usage = self.whole_usage(&head);
        let payload = gathered.take();
        let reply = self.reply()?;
        if reply.takes_whole_answers() {
            let envelope = reply.head(&head, payload.clone())?;
            if self.watch.has_room(envelope.len()) {
                self.watch.spend(envelope.len());
                self.take_reply()?.finish_with_head(envelope, &payload, usage).await?;
                return Ok(usage);
            }
        }
        self.send_head(&head)?;
        self.finish(payload, usage).await
    }

    /// The rest of an answer that does not fit one message.
    async fn large(
        &mut self,
        head: Head,
        gathered: Gathered,
        chunk: Bytes,
        body: &mut EngineBody,
    ) -> Result<Usage, Stop> {
        self.send_head(&head)?;
        self.send(gathered.take()).await?;
        self.send(chunk).await?;
        while let Some(chunk) = self.watch.wait(next(body)).await? {
            let chunk = chunk?;
            self.meter.handle_rest(&chunk);
            self.send(chunk).await?;
        }
        self.finish(Bytes::new(), self.whole_usage(&head)).await
    }

    fn whole_usage(&self, head: &Head) -> Usage {
        if is_success(head.status) { self.meter.usage() } else { Usage::default() }
    }

    /// Sends the head by itself. It may run into debt, since nothing can flow before it.
    fn send_head(&mut self, head: &Head) -> Result<(), Stop> {
        let envelope = self.reply()?.head(head, Bytes::new())?;
        self.watch.spend(envelope.len());
        self.reply()?.send_head(envelope)?;
        self.began = is_success(head.status);
        Ok(())
    }

    fn send_part(&mut self, piece: Bytes) -> Result<(), Stop> {
        self.watch.spend(piece.len());
        self.delivered = self.delivered.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        self.reply()?.part(piece)
    }

    /// Sends bytes of the body, cut to parts and to credit.
    async fn send(&mut self, mut body: Bytes) -> Result<(), Stop> {
        while !body.is_empty() {
            let room = self.room().await?;
            let piece = body.split_to(room.min(body.len()));
            self.send_part(piece)?;
        }
        Ok(())
    }

    /// Sends the last bytes, and with them the final information.
    async fn finish(&mut self, mut body: Bytes, usage: Usage) -> Result<Usage, Stop> {
        while !body.is_empty() {
            let room = self.room().await?;
            if body.len() <= room {
                break;
            }
            let piece = body.split_to(room);
            self.send_part(piece)?;
        }
        self.watch.spend(body.len());
        self.take_reply()?.finish_with_part(body, usage).await?;
        Ok(usage)
    }

    /// How large the next part may be; waits for credit.
    async fn room(&mut self) -> Result<usize, Stop> {
        if !self.watch.is_limited() && self.reply()?.queued_bytes() > LAG_BYTES_MAX {
            return Err(Stop::SlowReader);
        }
        Ok(self.watch.room().await?.min(ANSWER_PART_MAX))
    }

    fn reply(&mut self) -> Result<&mut Reply<'a>, Stop> {
        self.reply.as_mut().ok_or(Stop::PeerGone)
    }

    fn take_reply(&mut self) -> Result<Reply<'a>, Stop> {
        self.reply.take().ok_or(Stop::PeerGone)
    }
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..300)
}

async fn next(body: &mut EngineBody) -> Piece {
    poll_fn(|cx| body.as_mut().poll_next(cx)).await
}

/// The next piece if it is there without waiting.
async fn next_if_there(body: &mut EngineBody) -> Option<Piece> {
    poll_fn(|cx| {
        Poll::Ready(match body.as_mut().poll_next(cx) {
            Poll::Ready(piece) => Some(piece),
            Poll::Pending => None,
        })
    })
    .await
}

/// Pieces of a small answer; copied only when there is more than one.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    joined: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&chunk);
    }

    fn take(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}
