//! One client connection: the handshake, then requests, cancellations, credit and polls.
//!
//! The session decides nothing about requests: it reads them and tells the hub. Credit goes past
//! the hub, to the stream that it belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_net::{Connection, Event as NetEvent, IncomingQuery, Outbox};
use cocoon_wire::limits::MESSAGE_MAX;
use cocoon_wire::message::{ClientMessage, ClientQuery, ClientRun};
use cocoon_wire::{RequestId, Version};

use super::client::{AwaitConnect, ReadyClient};
use super::standing::Standing;
use super::{Refusal, SessionEnd, Violation};
use crate::core::{ClientId, Event, RequestKey};
use crate::driver::Shared;
use crate::hub::{Input, Question};
use crate::limits::{HANDSHAKE_MESSAGE_MAX, SESSION_HANDSHAKE_TIMEOUT};
use crate::request;
use crate::stream::{ClientLink, Stream};

/// Serves one client until its connection ends, and says why it did.
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
    let client = ClientId(shared.next_id());
    let link = Arc::new(ClientLink::new(connection.outbox(), ready.version, shared.held_answers()));
    let ReadyClient { owner, contract, .. } = ready;
    let joined = Input::ClientJoined { client, owner, contract, link: Arc::clone(&link) };
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

async fn shake_hands(connection: &mut Connection, shared: &Shared) -> Result<ReadyClient, SessionEnd> {
    let outbox = connection.outbox();
    let standing = Standing::of(connection.peer());
    let (id, query) = next_query(connection).await?;
    let ClientQuery::Connect { params, min_config_version } = query else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let (state, answer) = AwaitConnect
        .connect(&shared.terms(), &standing, params, min_config_version)
        .map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    let (id, query) = next_query(connection).await?;
    let authorized = match query {
        ClientQuery::AuthorizeShort { secret } => state.authorize_short(&secret),
        ClientQuery::AuthorizeLong => Err(Box::new(state.authorize_long())),
        ClientQuery::Connect { .. }
        | ClientQuery::RequestRefund
        | ClientQuery::UpdatePaymentStatus
        | ClientQuery::GetWorkerTypes
        | ClientQuery::GetWorkerTypesV2
        | ClientQuery::GetSettledRequests { .. }
        | ClientQuery::GetEvidence { .. } => return Err(refuse(&outbox, id, Refusal::WrongOrder)),
    };
    match authorized {
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
                stream.fail(failure, Default::default(), self.shared.unix_now());
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
            ClientQuery::Connect { .. } | ClientQuery::AuthorizeShort { .. } | ClientQuery::AuthorizeLong => {
                return Err(Violation::HandshakeRepeated.into());
            }
            ClientQuery::GetSettledRequests { .. } | ClientQuery::GetEvidence { .. } => {
                let _ = self.link.outbox.refuse(query.id, 404, "not known here");
                return Ok(());
            }
        };
        self.tell(Input::ClientAsks { client: self.id, query_id: query.id, question }).await
    }

    async fn tell(&self, input: Input) -> Result<(), SessionEnd> {
        self.shared.tell(input).await.map_err(|_| SessionEnd::Shutdown)
    }
}
