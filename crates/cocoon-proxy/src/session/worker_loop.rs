//! One worker connection after its handshake: requests out and answers back.
//!
//! The table of this worker's requests belongs to this task alone, so a part finds its stream
//! without a lock. Order within an answer is checked here, and a worker that breaks it loses its
//! connection: its other requests are retried or failed by the core, as after any loss.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::{Connection, Event as NetEvent, IncomingQuery, Outbox, Peer, SendError};
use cocoon_receipt::BodyDigest;
use cocoon_units::AdjustedTokens;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::HttpResponse;
use cocoon_wire::limits::MESSAGE_MAX;
use cocoon_wire::message::{Answer, Proof, ProxyToWorker, TokensUsed, WorkerMessage, WorkerQuery, WorkerRun};
use cocoon_wire::{RequestId, Version};
use tokio::sync::mpsc;
use tracing::warn;

use super::proof::{Attempt, Judge, Seen};
use super::worker::ReadyWorker;
use super::worker_handshake::{evidence_of, shake_hands};
use super::{Refusal, SessionEnd, Violation};
use crate::core::{Dispatch, Event, RequestKey, Word, WorkerChange, WorkerId, clamp};
use crate::driver::Shared;
use crate::hub::{Assignment, Command, Input, WorkerLink};
use crate::limits::{ABANDONED_MAX, COMMANDS_EXTRA, HANDSHAKE_MESSAGE_MAX, WORKER_SLOTS_MAX};
use crate::stream::{Cancelled, Delivery, Leg, Passage, Stream};

/// Serves one worker until its connection ends, and says why it did.
pub(crate) async fn serve(connection: &mut Connection, shared: &Shared) -> SessionEnd {
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX);
    let (ready, judge) = match shake_hands(connection, shared).await {
        Ok(ready) => ready,
        Err(end) => return end,
    };
    connection.set_message_max(MESSAGE_MAX);
    if ready.version == Version::Extended {
        connection.outbox().enable_extended();
    }
    let slots = usize::try_from(ready.profile.slots.min(WORKER_SLOTS_MAX)).unwrap_or(usize::MAX);
    let (commands_in, mut commands) = mpsc::channel(slots.saturating_mul(3).saturating_add(COMMANDS_EXTRA));
    let worker = WorkerId(shared.next_id());
    let link = WorkerLink { commands: commands_in, outbox: connection.outbox(), version: ready.version };
    let ReadyWorker { profile, contract, .. } = ready;
    let joined = Input::WorkerJoined { worker, profile, contract, link };
    if shared.tell(joined).await.is_err() {
        return SessionEnd::Shutdown;
    }
    let mut session = WorkerSession {
        id: worker,
        version: ready.version,
        outbox: connection.outbox(),
        shared,
        judge,
        requests: HashMap::new(),
        abandoned: Abandoned::default(),
        ids: shared.request_ids(),
    };
    let end = session.serve(connection, &mut commands).await;
    // A hub that is gone has forgotten the worker with everyone else.
    let _ = shared.tell(Input::Event(Event::WorkerLeft { worker })).await;
    end
}

/// A worker that is ready.
struct WorkerSession<'a> {
    id: WorkerId,
    version: Version,
    outbox: Outbox,
    shared: &'a Shared,
    judge: Judge,
    requests: HashMap<RequestId, Sent>,
    abandoned: Abandoned,
    ids: RequestIds,
}

/// A request that this worker has.
struct Sent {
    key: RequestKey,
    stream: Arc<Stream>,
    reserved: AdjustedTokens,
    /// What a receipt must say, where one was asked for.
    attempt: Option<Attempt>,
    /// Of the answer's body so far, where a receipt was asked for.
    digest: Option<BodyDigest>,
    begun: bool,
    seen: Seen,
}

impl WorkerSession<'_> {
    async fn serve(&mut self, connection: &mut Connection, commands: &mut mpsc::Receiver<Command>) -> SessionEnd {
        loop {
            let handled = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.commands(command, commands).await,
                    None => Err(SessionEnd::Shutdown),
                },
                event = connection.next() => match (event, self.follow(connection.peer())) {
                    (Err(error), _) => Err(error.into()),
                    (Ok(_), Err(refusal)) => Err(refusal.into()),
                    (Ok(NetEvent::Message(data)), Ok(())) => self.message(data).await,
                    (Ok(NetEvent::Query(query)), Ok(())) => self.query(query).await,
                    (Ok(_), Ok(())) => Err(Violation::Unknown.into()),
                },
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    /// Judges by what the worker showed last. The connection attests its peer again by itself and tells nobody, so it is
    /// looked at before each message.
    fn follow(&mut self, peer: &Peer) -> Result<(), Refusal> {
        if self.judge.knows(peer) {
            return Ok(());
        }
        let evidence = evidence_of(peer, self.version, self.shared, self.judge.strictness())?;
        self.judge.renew(peer, evidence)
    }

    /// Takes all commands that wait, so that their requests leave in one write.
    async fn commands(&mut self, first: Command, more: &mut mpsc::Receiver<Command>) -> Result<(), SessionEnd> {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Run(assignment) => self.send(*assignment).await?,
                Command::Abandon { request_id } => {
                    if self.requests.remove(&request_id).is_some() {
                        self.abandoned.insert(request_id);
                    }
                }
            }
            next = more.try_recv().ok();
        }
        Ok(())
    }

    async fn send(&mut self, assignment: Assignment) -> Result<(), SessionEnd> {
        let Assignment { dispatch, stream, body, signed, tag } = assignment;
        let request_id = self.ids.next();
        let leg = Leg { outbox: self.outbox.clone(), version: self.version, request_id };
        let Some(answer_credit) = stream.attach(leg) else {
            // Cancelled while the command waited: the worker never had it.
            return self.failed(dispatch.key, never_sent(), Word::Nothing).await;
        };
        let asked = body.receipt.filter(|_| dispatch.receipt.is_some());
        let run = WorkerRun {
            request_id,
            query: body.query,
            signed_payment: signed,
            coefficient: dispatch.coefficient,
            timeout_ms: self.budget_ms(dispatch.budget),
            enable_debug: body.enable_debug,
            token_limit: Some(dispatch.token_limit),
            answer_credit,
            receipt: asked.map(|asked| asked.ask),
            account_tag: tag,
        };
        let ticket = match self.outbox.send_tracked(ProxyToWorker::Run(run).encode(self.version)) {
            Ok(ticket) => ticket,
            Err(error) => return self.failed(dispatch.key, unsendable(&error), Word::Nothing).await,
        };
        if stream.queued(ticket) == Err(Cancelled::Withdrawn) {
            return self.failed(dispatch.key, never_sent(), Word::Nothing).await;
        }
        let Dispatch { key, reserved, receipt: agreed, .. } = dispatch;
        let sent_unix_ms = self.shared.unix_ms();
        let attempt = agreed.zip(asked).map(|(agreed, asked)| {
            let request_hmac = asked.request_hmac;
            Attempt { agreed, request_hmac, sent_unix_ms }
        });
        let digest = asked.map(|asked| BodyDigest::answer(&asked.ask.salt));
        let sent = Sent { key, stream, reserved, attempt, digest, begun: false, seen: Seen::default() };
        self.requests.insert(request_id, sent);
        Ok(())
    }

    /// An original leg takes a twentieth off at each hop; an extended one carries what is left.
    fn budget_ms(&self, left: Duration) -> u64 {
        let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if self.version == Version::Extended { ms } else { ms.saturating_sub(ms / 20) }
    }

    async fn message(&mut self, data: Bytes) -> Result<(), SessionEnd> {
        let worker = self.id;
        let change = |change| Input::Event(Event::WorkerChanged { worker, change });
        match WorkerMessage::decode(self.version, data).map_err(Violation::Undecodable)? {
            WorkerMessage::Answer(answer) => self.answer(answer).await,
            WorkerMessage::EnabledDisabled { disabled: true } => self.tell(change(WorkerChange::Disabled)).await,
            WorkerMessage::EnabledDisabled { disabled: false } => self.tell(change(WorkerChange::Enabled)).await,
            WorkerMessage::NewCoefficient(price) => self.tell(change(WorkerChange::Coefficient(price))).await,
            WorkerMessage::Load(load) => self.tell(Input::Event(Event::WorkerLoad { worker, load })).await,
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), SessionEnd> {
        let request_id = answer.request_id();
        let Some(sent) = self.requests.get_mut(&request_id) else {
            return self.abandoned.tolerate(&answer).map_err(SessionEnd::from);
        };
        match &answer {
            Answer::Head { .. } if sent.begun => return Err(Violation::SecondHead.into()),
            Answer::Part { .. } if !sent.begun => return Err(Violation::PartBeforeHead.into()),
            Answer::Head { .. } | Answer::Part { .. } | Answer::Failed { .. } => {}
        }
        let head = match &answer {
            Answer::Head { response, .. } => Some(HttpResponse::decode(response).map_err(Violation::BadHead)?),
            Answer::Part { .. } | Answer::Failed { .. } => None,
        };
        sent.see(&answer, head.as_ref());
        if answer.is_last() {
            return self.last(answer, head).await;
        }
        self.pass(answer, head, None).await
    }

    /// The last message: what it says of usage is judged before anybody hears it.
    async fn last(&mut self, mut answer: Answer, head: Option<HttpResponse>) -> Result<(), SessionEnd> {
        let now = self.shared.unix_ms();
        let Some(sent) = self.requests.get_mut(&answer.request_id()) else { return Ok(()) };
        sent.see_last(&answer, now);
        let word = self.judge.word(sent.attempt.as_ref(), sent.seen, answer.end());
        let word = word.unwrap_or_else(|reason| {
            warn!(%reason, "an answer is not paid; blame: worker");
            Word::Unproved
        });
        match &mut answer {
            Answer::Head { end: Some(end), .. } | Answer::Part { end: Some(end), .. } => {
                (end.tokens, end.proof) = bill(&word, sent.reserved);
            }
            Answer::Head { end: None, .. } | Answer::Part { end: None, .. } | Answer::Failed { .. } => {}
        }
        if let Answer::Failed { request_id, failure, .. } = answer {
            let key = sent.key;
            self.requests.remove(&request_id);
            return self.failed(key, failure, word).await;
        }
        self.pass(answer, head, Some(word)).await
    }

    /// Passes a head or part on; `word` comes with the last one. The core hears of the first and the last only.
    async fn pass(&mut self, answer: Answer, head: Option<HttpResponse>, word: Option<Word>) -> Result<(), SessionEnd> {
        let (worker, request_id) = (self.id, answer.request_id());
        let Some(sent) = self.requests.get_mut(&request_id) else { return Ok(()) };
        let key = sent.key;
        let first = !std::mem::replace(&mut sent.begun, true);
        // Room in the queue comes first, so that the event follows the bytes without a pause.
        let room = match first || word.is_some() {
            true => Some(self.shared.room().await.map_err(|_| SessionEnd::Shutdown)?),
            false => None,
        };
        let unix_now = || self.shared.unix_now();
        let delivery = sent.stream.deliver(Passage { answer, head, unix_now: &unix_now })?;
        if word.is_some() {
            self.requests.remove(&request_id);
        }
        let event = match word {
            Some(word) => Some(Event::Ended { key, worker, word }),
            None => first.then_some(Event::AnswerStarted { key, worker }),
        };
        if delivery == Delivery::Stalled {
            self.tell(Input::Event(Event::ClientStalled { key, worker })).await?;
        }
        if let (Some(room), Some(event)) = (room, event) {
            room.send(Input::Event(event));
        }
        Ok(())
    }

    async fn query(&mut self, query: IncomingQuery) -> Result<(), SessionEnd> {
        match WorkerQuery::decode(query.data).map_err(Violation::Undecodable)? {
            WorkerQuery::UpdatePaymentStatus => {
                self.tell(Input::WorkerAsks { worker: self.id, query_id: query.id }).await
            }
            WorkerQuery::Connect(_)
            | WorkerQuery::CompareBalance { .. }
            | WorkerQuery::ExtendedCompareBalance { .. }
            | WorkerQuery::HandshakeComplete { .. } => Err(Violation::HandshakeRepeated.into()),
        }
    }

    async fn failed(&self, key: RequestKey, failure: Failure, word: Word) -> Result<(), SessionEnd> {
        self.tell(Input::Event(Event::Failed { key, worker: self.id, failure, word })).await
    }

    async fn tell(&self, input: Input) -> Result<(), SessionEnd> {
        self.shared.tell(input).await.map_err(|_| SessionEnd::Shutdown)
    }
}

impl Sent {
    /// Takes note of a message, for the judgement of the receipt that will come.
    fn see(&mut self, answer: &Answer, head: Option<&HttpResponse>) {
        let body: &[u8] = match (answer, head) {
            (_, Some(head)) => &head.payload,
            (Answer::Part { body, .. }, None) => body.expose(),
            (Answer::Head { .. } | Answer::Failed { .. }, None) => &[],
        };
        if let Some(head) = head {
            self.seen.status = Some(head.status);
        }
        self.seen.bytes = self.seen.bytes.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        if let Some(digest) = &mut self.digest {
            digest.update(body);
        }
        // One that the client gave up on is paid for what was produced, be it delivered or not.
        self.seen.broke_off = matches!(answer, Answer::Failed { .. }) && !self.stream.is_cancelled();
    }

    /// Takes note of the end. Of an answer that broke off nobody can say what its worker still meant to send.
    fn see_last(&mut self, answer: &Answer, now_unix_ms: u64) {
        self.seen.at_unix_ms = now_unix_ms;
        let is_whole = !matches!(answer, Answer::Failed { .. });
        self.seen.answer_hmac = self.digest.take().filter(|_| is_whole).map(BodyDigest::finish);
    }
}

/// What a client is told of a word's worth: what the core charges for it, never above the reservation.
fn bill(word: &Word, reserved: AdjustedTokens) -> (TokensUsed, Option<Proof>) {
    match word {
        Word::Nothing | Word::Unproved => (TokensUsed::default(), None),
        Word::Claimed(tokens) => (clamp(tokens, reserved).0, None),
        Word::Proved { tokens, proof } => (clamp(tokens, reserved).0, Some(proof.clone())),
    }
}

/// What the core hears when a request was taken back.
pub(crate) fn never_sent() -> Failure {
    Failure::new(Blame::Client, FailureCode::Cancelled, "the request was cancelled before it was sent")
}

fn unsendable(error: &SendError) -> Failure {
    match error {
        SendError::TooLarge => {
            let message = "the request does not fit one packet of its worker";
            Failure::new(Blame::Client, FailureCode::TooLarge, message)
        }
        SendError::Full => {
            Failure::new(Blame::Worker, FailureCode::Overloaded, "the worker does not take requests fast enough")
        }
        SendError::Closed | SendError::UnknownQuery => {
            let message = "the worker's connection ended before it had the request";
            Failure::new(Blame::Worker, FailureCode::WorkerLost, message)
        }
    }
}

/// Requests that the proxy stopped waiting for: what still comes of them is ignored.
#[derive(Debug, Default)]
struct Abandoned {
    known: HashSet<RequestId>,
    order: VecDeque<RequestId>,
}

impl Abandoned {
    fn insert(&mut self, request_id: RequestId) {
        if self.order.len() == ABANDONED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(request_id);
        self.known.insert(request_id);
    }

    fn tolerate(&mut self, answer: &Answer) -> Result<(), Violation> {
        let request_id = answer.request_id();
        match self.known.contains(&request_id) {
            true if answer.is_last() => {
                self.known.remove(&request_id);
                Ok(())
            }
            true => Ok(()),
            false => Err(Violation::UnknownRequest),
        }
    }
}

/// Fresh request ids for one leg: a random prefix of the connection and a counter.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: [u8; 24],
    next: u64,
}

impl RequestIds {
    pub(crate) const fn new(prefix: [u8; 24]) -> Self {
        Self { prefix, next: 0 }
    }

    fn next(&mut self) -> RequestId {
        let mut id = [0; 32];
        let (counter, prefix) = id.split_at_mut(8);
        counter.copy_from_slice(&self.next.to_le_bytes());
        prefix.copy_from_slice(&self.prefix);
        self.next = self.next.wrapping_add(1);
        RequestId::new(id)
    }
}
