//! One client connection: the handshake, then requests, cancellations, credit and polls.
//!
//! The session decides nothing about requests: it reads them and tells the hub. Credit goes past
//! the hub, to the stream that it belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_net::{Connection, Event as NetEvent, IncomingQuery, Outbox};
use cocoon_ton::Address;
use cocoon_ton::contract::ClientState;
use cocoon_wire::limits::MESSAGE_MAX;
use cocoon_wire::message::{ClientAnswer, ClientMessage, ClientQuery, ClientRun, FinalInfo};
use cocoon_wire::{RequestId, Sealed, Version};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::client::{AwaitAuth, AwaitConnect, Proven, ReadyClient, failed};
use super::standing::Standing;
use super::{Refusal, SessionEnd, Violation};
use crate::core::{ClientId, Event, RequestKey};
use crate::driver::Shared;
use crate::hub::{Input, Question};
use crate::limits::{HANDSHAKE_MESSAGE_MAX, LONG_AUTHORIZATION_TIMEOUT, SESSION_HANDSHAKE_TIMEOUT};
use crate::request;
use crate::settlement::{Desk, DeskError};
use crate::stream::{ClientLink, Stream};

/// Serves one client until its connection ends, and says why it did.
pub(crate) async fn serve(connection: &mut Connection, shared: &Shared) -> SessionEnd {
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX);
    let ready = match shake_hands(connection, shared).await {
        Ok(ready) => ready,
        Err(end) => return end,
    };
    connection.set_message_max(MESSAGE_MAX);
    if ready.version == Version::Extended {
        connection.outbox().enable_extended();
    }
    let client = ClientId(shared.next_id());
    let link = Arc::new(ClientLink::new(connection.outbox(), ready.version, shared.held_answers()));
    let ReadyClient { account, contract, .. } = ready;
    let joined = Input::ClientJoined { client, account, contract, link: Arc::clone(&link) };
    if shared.tell(joined).await.is_err() {
        return SessionEnd::Shutdown;
    }
    let mut session = ClientSession { id: client, link, shared, streams: HashMap::new(), prune_at: PRUNE_FIRST };
    let end = session.serve(connection).await;
    // A hub that is gone has forgotten the client with everyone else.
    let _ = shared.tell(Input::Event(Event::ClientLeft { client })).await;
    end
}

/// Streams are pruned when there are this many, then whenever their number has doubled.
const PRUNE_FIRST: usize = 64;

/// The handshake, each part within its time: a message on the chain takes longer than one on the line.
async fn shake_hands(connection: &mut Connection, shared: &Shared) -> Result<ReadyClient, SessionEnd> {
    let state = timeout(SESSION_HANDSHAKE_TIMEOUT, introduce(connection, shared)).await??;
    // A client without a secret may have to deploy its contract first.
    let patience = if state.has_secret() { SESSION_HANDSHAKE_TIMEOUT } else { LONG_AUTHORIZATION_TIMEOUT };
    let (id, proof) = timeout(patience, offered_proof(connection)).await??;
    let outbox = connection.outbox();
    let proven = match proof {
        ProofOffered::Secret(secret) => state.prove_short(&secret),
        ProofOffered::Registration => match state.registration() {
            Ok(awaited) => registered(connection, shared, state, awaited).await?,
            Err(answer) => Err(answer),
        },
    };
    let admitted = match proven {
        Ok(proven) => timeout(SESSION_HANDSHAKE_TIMEOUT, admit(shared, proven)).await??,
        Err(answer) => Err(answer),
    };
    match admitted {
        Ok((ready, answer)) => {
            let _ = outbox.answer(id, answer.encode());
            Ok(ready)
        }
        Err(answer) => {
            let _ = outbox.answer(id, answer.encode());
            Err(SessionEnd::PeerNotAuthorized)
        }
    }
}

/// How a client wants to prove who it is.
enum ProofOffered {
    Secret(Sealed),
    Registration,
}

/// From the first message to the challenge.
async fn introduce(connection: &mut Connection, shared: &Shared) -> Result<AwaitAuth, SessionEnd> {
    let outbox = connection.outbox();
    let standing = Standing::of(connection.peer());
    let (id, query) = next_query(connection).await?;
    let ClientQuery::Connect { params, min_config_version } = query else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let challenged = async {
        let terms = shared.terms();
        let introduced = AwaitConnect.connect(&terms, &standing, params, min_config_version)?;
        match (introduced.account(), shared.desk()) {
            (Some(account), Some(desk)) => {
                let state = contract_of(desk, account).await.map_err(|_| Refusal::NotNow)?;
                let nonce = shared.nonce().ok_or(Refusal::NotNow)?;
                Ok(introduced.challenge_by_contract(state.as_ref(), nonce))
            }
            (None, _) | (_, None) => introduced.challenge_configured(&terms),
        }
    };
    let (state, answer) = challenged.await.map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    Ok(state)
}

/// The message that asks to be let in.
async fn offered_proof(connection: &mut Connection) -> Result<(i64, ProofOffered), SessionEnd> {
    let (id, query) = next_query(connection).await?;
    match query {
        ClientQuery::AuthorizeShort { secret } => Ok((id, ProofOffered::Secret(secret))),
        ClientQuery::AuthorizeLong => Ok((id, ProofOffered::Registration)),
        ClientQuery::Connect { .. }
        | ClientQuery::RequestRefund
        | ClientQuery::UpdatePaymentStatus
        | ClientQuery::GetWorkerTypes
        | ClientQuery::GetWorkerTypesV2
        | ClientQuery::GetSettledRequests { .. }
        | ClientQuery::GetEvidence { .. } => Err(refuse(&connection.outbox(), id, Refusal::WrongOrder)),
    }
}

/// A client's contract; none where it is not there yet, or is none that could pay.
async fn contract_of(desk: &Desk, account: Address) -> Result<Option<ClientState>, DeskError> {
    match desk.client(account).await {
        Ok(state) => Ok(Some(state)),
        Err(DeskError::PeerMissing(_) | DeskError::PeerNotOurs(..)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for the client's message on the chain, and keeps the connection alive meanwhile.
async fn registered(
    connection: &mut Connection,
    shared: &Shared,
    state: AwaitAuth,
    (account, nonce): (Address, u64),
) -> Result<Result<Proven, Box<ClientAnswer>>, SessionEnd> {
    let Some(desk) = shared.desk() else { return Err(SessionEnd::PeerNotAuthorized) };
    let seen = tokio::select! {
        seen = timeout(LONG_AUTHORIZATION_TIMEOUT, desk.registered(account, nonce)) => seen?,
        event = connection.next() => return Err(match event {
            Ok(_) => Violation::MessageInHandshake.into(),
            Err(error) => error.into(),
        }),
    };
    Ok(match seen {
        Ok(()) => Ok(state.registered()),
        Err(error) => Err(Box::new(not_now(&error))),
    })
}

/// Looks at what the client's contract holds, opens its account, and lets it in.
async fn admit(
    shared: &Shared,
    proven: Proven,
) -> Result<Result<(ReadyClient, ClientAnswer), Box<ClientAnswer>>, SessionEnd> {
    let (Some(account), Some(desk)) = (proven.account(), shared.desk()) else { return Ok(Ok(proven.admit(None))) };
    let state = match contract_of(desk, account).await {
        Ok(state) => state,
        Err(error) => return Ok(Err(Box::new(not_now(&error)))),
    };
    let credit = match proven.credit(state.as_ref()) {
        Ok(credit) => credit,
        Err(answer) => return Ok(Err(answer)),
    };
    let (reply, opened) = oneshot::channel();
    let owner = proven.owner().to_owned();
    let open = Input::OpenClient { account: account.raw(), owner, credit, reply };
    shared.tell(open).await.map_err(|_| SessionEnd::Shutdown)?;
    Ok(match opened.await.map_err(|_| SessionEnd::Shutdown)? {
        Ok(opened) => Ok(proven.admit(Some(opened))),
        Err(rejection) => Err(Box::new(failed(503, &rejection.to_string()))),
    })
}

/// The chain gives no answer that says anything of this client.
fn not_now(error: &DeskError) -> ClientAnswer {
    let code = if matches!(error, DeskError::PeerDidNotRegister(_)) { 401 } else { 503 };
    failed(code, &error.to_string())
}

async fn next_query(connection: &mut Connection) -> Result<(i64, ClientQuery), SessionEnd> {
    match connection.next().await? {
        NetEvent::Query(IncomingQuery { id, data }) => {
            Ok((id, ClientQuery::decode(data).map_err(Violation::Undecodable)?))
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

/// A client that is ready.
struct ClientSession<'a> {
    id: ClientId,
    link: Arc<ClientLink>,
    shared: &'a Shared,
    /// Streams by the client's names, for its credit. Those that are over are dropped now and then.
    streams: HashMap<RequestId, Arc<Stream>>,
    prune_at: usize,
}

impl ClientSession<'_> {
    async fn serve(&mut self, connection: &mut Connection) -> SessionEnd {
        loop {
            let handled = match connection.next().await {
                Ok(NetEvent::Message(data)) => self.message(data).await,
                Ok(NetEvent::Query(query)) => self.query(query).await,
                Ok(_) => Err(Violation::Unknown.into()),
                Err(error) => Err(error.into()),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn message(&mut self, data: Bytes) -> Result<(), SessionEnd> {
        match ClientMessage::decode(self.link.version, data).map_err(Violation::Undecodable)? {
            ClientMessage::Run(run) => self.run(run).await,
            ClientMessage::Cancel { request_id } => {
                // What was held for its credit is not wanted any more.
                self.streams.remove(&request_id);
                self.tell(Input::Event(Event::Cancelled { client: self.id, request_id })).await
            }
            ClientMessage::Credit { request_id, bytes } => {
                // Credit for an answer that just ended is late, not wrong.
                if let Some(stream) = self.streams.get(&request_id) {
                    stream.add_credit(bytes);
                }
                Ok(())
            }
        }
    }

    async fn run(&mut self, run: ClientRun) -> Result<(), SessionEnd> {
        let key = RequestKey(self.shared.next_id());
        let now = self.shared.unix_now();
        let request_id = run.request_id;
        let stream = Arc::new(Stream::new(Arc::clone(&self.link), request_id, run.answer_credit, now));
        let config_version = self.shared.terms().network.config_version;
        match request::read(key, self.id, config_version, run) {
            Ok((query, body)) => {
                self.remember(request_id, &stream);
                self.tell(Input::Run { query, stream, body }).await
            }
            Err(failure) => {
                stream.fail(failure, FinalInfo::default(), self.shared.unix_now());
                Ok(())
            }
        }
    }

    /// Keeps the stream for its credit. A duplicate id keeps the first: the core refuses the second.
    fn remember(&mut self, request_id: RequestId, stream: &Arc<Stream>) {
        if self.streams.len() >= self.prune_at {
            self.streams.retain(|_, stream| !stream.is_over());
            self.prune_at = (self.streams.len() * 2).max(PRUNE_FIRST);
        }
        let kept = self.streams.entry(request_id).or_insert_with(|| Arc::clone(stream));
        if kept.is_over() {
            *kept = Arc::clone(stream);
        }
    }

    async fn query(&mut self, query: IncomingQuery) -> Result<(), SessionEnd> {
        let question = match ClientQuery::decode(query.data).map_err(Violation::Undecodable)? {
            ClientQuery::GetWorkerTypes => Question::WorkerTypes,
            ClientQuery::GetWorkerTypesV2 => Question::WorkerTypesV2,
            ClientQuery::UpdatePaymentStatus => Question::PaymentStatus,
            ClientQuery::RequestRefund => Question::Refund,
            ClientQuery::GetSettledRequests { ids } => Question::Settled(ids, self.shared.evidence().clone()),
            ClientQuery::GetEvidence { sha256 } => return self.answer_evidence(query.id, &sha256),
            ClientQuery::Connect { .. } | ClientQuery::AuthorizeShort { .. } | ClientQuery::AuthorizeLong => {
                return Err(Violation::HandshakeRepeated.into());
            }
        };
        self.tell(Input::ClientAsks { client: self.id, query_id: query.id, question }).await
    }

    /// Documents are kept beside the hub: nothing is decided about them.
    fn answer_evidence(&self, query_id: i64, sha256: &[u8; 32]) -> Result<(), SessionEnd> {
        let answered = match self.shared.evidence().find(sha256) {
            Some(document) => self.link.outbox.answer(query_id, ClientAnswer::Evidence(document).encode()),
            None => self.link.outbox.refuse(query_id, 404, "no such evidence is known here"),
        };
        if answered.is_err() {
            // It asks and does not read, or it is gone already.
            self.link.outbox.close();
        }
        Ok(())
    }

    async fn tell(&self, input: Input) -> Result<(), SessionEnd> {
        self.shared.tell(input).await.map_err(|_| SessionEnd::Shutdown)
    }
}
