//! One worker connection: the handshake, then requests out and answers back.
//!
//! The table of this worker's requests belongs to this task alone, so a part finds its stream
//! without a lock. Order within an answer is checked here, and a worker that breaks it loses its
//! connection: its other requests are retried or failed by the core, as after any loss.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::{Connection, Event as NetEvent, IncomingQuery, Outbox, SendError};
use cocoon_units::AdjustedTokens;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::limits::{MESSAGE_MAX, OPAQUE_MAX};
use cocoon_wire::message::{
    Answer, FinalInfo, ProxyToWorker, SignedPayment, TokensUsed, WorkerMessage, WorkerQuery, WorkerRun,
};
use cocoon_wire::{RequestId, Version};
use tokio::sync::{mpsc, oneshot};

use super::standing::Standing;
use super::worker::{AwaitComplete, AwaitWorkerConnect, Compared, ReadyWorker};
use super::{Refusal, SessionEnd, Violation};
use crate::core::{Dispatch, Event, RequestKey, WorkerChange, WorkerId};
use crate::driver::Shared;
use crate::hub::{Body, Command, Input, WorkerLink};
use crate::limits::{
    ABANDONED_MAX, COMMANDS_EXTRA, HANDSHAKE_MESSAGE_MAX, SESSION_HANDSHAKE_TIMEOUT, WORKER_SLOTS_MAX,
};
use crate::stream::{Cancelled, Delivery, Leg, Passage, Stream};

/// Serves one worker until its connection ends, and says why it did.
pub(crate) async fn serve(connection: &mut Connection, shared: &Shared) -> SessionEnd {
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX);
    let handshake = tokio::time::timeout(SESSION_HANDSHAKE_TIMEOUT, shake_hands(connection, shared));
    let ready = match handshake.await {
        Ok(Ok(ready)) => ready,
        Ok(Err(end)) => return end,
        Err(_) => return SessionEnd::PeerTooSlow,
    };
    connection.set_message_max(MESSAGE_MAX);
    if ready.version == Version::Extended {
        connection.outbox().enable_extended();
    }
    let slots = usize::try_from(ready.profile.slots.min(WORKER_SLOTS_MAX)).unwrap_or(usize::MAX);
    let (commands_in, mut commands) = mpsc::channel(slots.saturating_mul(3).saturating_add(COMMANDS_EXTRA));
    let worker = WorkerId(shared.next_id());
    let link = WorkerLink { commands: commands_in, outbox: connection.outbox() };
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
        requests: HashMap::new(),
        abandoned: Abandoned::default(),
        ids: shared.request_ids(),
    };
    let end = session.serve(connection, &mut commands).await;
    // A hub that is gone has forgotten the worker with everyone else.
    let _ = shared.tell(Input::Event(Event::WorkerLeft { worker })).await;
    end
}

async fn shake_hands(connection: &mut Connection, shared: &Shared) -> Result<ReadyWorker, SessionEnd> {
    let outbox = connection.outbox();
    let standing = Standing::of(connection.peer());
    let (id, query) = next_query(connection).await?;
    let WorkerQuery::Connect(params) = query else { return Err(refuse(&outbox, id, Refusal::WrongOrder)) };
    let owner = params.owner_address.clone();
    let (state, answer) = AwaitWorkerConnect
        .connect(&shared.terms(), &standing, params)
        .map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    let (id, query) = next_query(connection).await?;
    let WorkerQuery::CompareBalance { tokens_committed_to_blockchain, tokens_committed_to_db, max_tokens } = query
    else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let known = earned(shared, owner).await?;
    let (compared, answer) = state
        .compare_balance(tokens_committed_to_blockchain, tokens_committed_to_db, max_tokens, known)
        .map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    let state = hand_over(connection, compared).await?;
    let (id, query) = next_query(connection).await?;
    let WorkerQuery::HandshakeComplete { is_disabled } = query else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let (ready, answer) = state.complete(is_disabled);
    let _ = outbox.answer(id, answer.encode());
    Ok(ready)
}

async fn hand_over(connection: &mut Connection, compared: Compared) -> Result<AwaitComplete, SessionEnd> {
    let state = match compared {
        Compared::Equal(state) => return Ok(state),
        Compared::Behind(state) => state,
    };
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX.saturating_add(OPAQUE_MAX));
    let (id, query) = next_query(connection).await?;
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX);
    let outbox = connection.outbox();
    let WorkerQuery::ExtendedCompareBalance { other, .. } = query else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let (state, answer) = state.hand_over(&other);
    let _ = outbox.answer(id, answer.encode());
    Ok(state)
}

async fn earned(shared: &Shared, owner: String) -> Result<AdjustedTokens, SessionEnd> {
    let (reply, answer) = oneshot::channel();
    shared.tell(Input::Earned { owner, reply }).await.map_err(|_| SessionEnd::Shutdown)?;
    answer.await.map_err(|_| SessionEnd::Shutdown)
}

async fn next_query(connection: &mut Connection) -> Result<(i64, WorkerQuery), SessionEnd> {
    match connection.next().await? {
        NetEvent::Query(IncomingQuery { id, data }) => {
            Ok((id, WorkerQuery::decode(data).map_err(Violation::Undecodable)?))
        }
        NetEvent::Message(_) => Err(Violation::MessageInHandshake.into()),
        _ => Err(Violation::Unknown.into()),
    }
}

fn refuse(outbox: &Outbox, query_id: i64, refusal: Refusal) -> SessionEnd {
    // The connection ends right after, so a refusal that cannot be queued changes nothing.
    let _ = outbox.refuse(query_id, 400, &refusal.to_string());
    refusal.into()
}

/// A worker that is ready.
struct WorkerSession<'a> {
    id: WorkerId,
    version: Version,
    outbox: Outbox,
    shared: &'a Shared,
    requests: HashMap<RequestId, Sent>,
    abandoned: Abandoned,
    ids: RequestIds,
}

/// A request that this worker has.
struct Sent {
    key: RequestKey,
    stream: Arc<Stream>,
    reserved: AdjustedTokens,
    begun: bool,
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
                event = connection.next() => match event {
                    Ok(NetEvent::Message(data)) => self.message(data).await,
                    Ok(NetEvent::Query(query)) => self.query(query).await,
                    Ok(_) => Err(Violation::Unknown.into()),
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    /// Takes all commands that wait, so that their requests leave in one write.
    async fn commands(&mut self, first: Command, more: &mut mpsc::Receiver<Command>) -> Result<(), SessionEnd> {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Run { dispatch, stream, body } => self.send(dispatch, stream, body).await?,
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

    async fn send(&mut self, dispatch: Dispatch, stream: Arc<Stream>, body: Body) -> Result<(), SessionEnd> {
        let request_id = self.ids.next();
        let leg = Leg { outbox: self.outbox.clone(), version: self.version, request_id };
        let Some(answer_credit) = stream.attach(leg) else {
            // Cancelled while the command waited: the worker never had it.
            return self.failed(dispatch.key, never_sent(), TokensUsed::default()).await;
        };
        let run = WorkerRun {
            request_id,
            query: body.query,
            signed_payment: SignedPayment::Empty,
            coefficient: dispatch.coefficient,
            timeout_ms: self.budget_ms(dispatch.budget),
            enable_debug: body.enable_debug,
            token_limit: Some(dispatch.token_limit),
            answer_credit,
            receipt: None,
            account_tag: None,
        };
        let ticket = match self.outbox.send_tracked(ProxyToWorker::Run(run).encode(self.version)) {
            Ok(ticket) => ticket,
            Err(error) => return self.failed(dispatch.key, unsendable(&error), TokensUsed::default()).await,
        };
        if stream.queued(ticket) == Err(Cancelled::Withdrawn) {
            return self.failed(dispatch.key, never_sent(), TokensUsed::default()).await;
        }
        let sent = Sent { key: dispatch.key, stream, reserved: dispatch.reserved, begun: false };
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
        if let Answer::Failed { failure, end, .. } = answer {
            let key = sent.key;
            self.requests.remove(&request_id);
            return self.failed(key, failure, end.unwrap_or_default().tokens).await;
        }
        self.pass(request_id, answer).await
    }

    /// Passes a head or part on. The core hears of the first and the last only.
    async fn pass(&mut self, request_id: RequestId, answer: Answer) -> Result<(), SessionEnd> {
        let worker = self.id;
        let Some(sent) = self.requests.get_mut(&request_id) else { return Ok(()) };
        let key = sent.key;
        let end = answer.end().map(|FinalInfo { tokens, .. }| *tokens);
        let first = !std::mem::replace(&mut sent.begun, true);
        // Room in the queue comes first, so that the event follows the bytes without a pause.
        let room = match first || end.is_some() {
            true => Some(self.shared.room().await.map_err(|_| SessionEnd::Shutdown)?),
            false => None,
        };
        let unix_now = || self.shared.unix_now();
        let delivery = sent.stream.deliver(Passage { answer, reserved: sent.reserved, unix_now: &unix_now })?;
        let event = match end {
            Some(tokens) => Some(Event::Ended { key, worker, tokens }),
            None => first.then_some(Event::AnswerStarted { key, worker }),
        };
        if end.is_some() {
            self.requests.remove(&request_id);
        }
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

    async fn failed(&self, key: RequestKey, failure: Failure, tokens: TokensUsed) -> Result<(), SessionEnd> {
        self.tell(Input::Event(Event::Failed { key, worker: self.id, failure, tokens })).await
    }

    async fn tell(&self, input: Input) -> Result<(), SessionEnd> {
        self.shared.tell(input).await.map_err(|_| SessionEnd::Shutdown)
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
