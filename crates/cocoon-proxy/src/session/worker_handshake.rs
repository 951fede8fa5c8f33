//! A worker's handshake on its connection: balances, what a crash lost, and what the worker's receipts are judged by.
//!
//! The order of messages is in [`worker`](super::worker); here they are read, and the chain and the books are asked.

use std::collections::HashMap;

use cocoon_ledger::Credit;
use cocoon_net::{Connection, Event as NetEvent, IncomingQuery, Outbox, Peer};
use cocoon_ton::contract::WorkerState;
use cocoon_wire::Version;
use cocoon_wire::limits::OPAQUE_MAX;
use cocoon_wire::message::{HandedReceipt, WorkerQuery, decode_handover};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::proof::{Judge, Strictness};
use super::standing::Standing;
use super::worker::{AwaitBalance, AwaitComplete, AwaitHandover, AwaitWorkerConnect, Compared, ReadyWorker, Told};
use super::{Refusal, SessionEnd, Violation, handover};
use crate::books::credit;
use crate::core::{Lost, LostOutcome};
use crate::driver::Shared;
use crate::evidence::Pinned;
use crate::hub::{Input, Opened};
use crate::limits::{
    HANDOVER_CHUNKS_MAX, HANDOVER_PAYERS_MAX, HANDOVER_TIMEOUT, HANDOVER_VERIFIED_AT_ONCE, HANDSHAKE_MESSAGE_MAX,
    SESSION_HANDSHAKE_TIMEOUT,
};
use crate::settlement::DeskError;

/// The handshake, each part within its time.
pub(super) async fn shake_hands(
    connection: &mut Connection,
    shared: &Shared,
) -> Result<(ReadyWorker, Judge), SessionEnd> {
    let compared = timeout(SESSION_HANDSHAKE_TIMEOUT, compare(connection, shared));
    let (compared, judge) = compared.await??;
    let state = match compared {
        Compared::Equal(state) => state,
        Compared::Behind(state) => {
            let _handing_over = shared.handovers().begin();
            timeout(HANDOVER_TIMEOUT, hand_over(connection, shared, state, &judge)).await??
        }
    };
    let (id, query) = timeout(SESSION_HANDSHAKE_TIMEOUT, next_query(connection)).await??;
    let outbox = connection.outbox();
    let WorkerQuery::HandshakeComplete { is_disabled } = query else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let (ready, answer) = state.complete(is_disabled);
    let _ = outbox.answer(id, answer.encode());
    Ok((ready, judge))
}

/// From the first message to what the balances come to.
async fn compare(connection: &mut Connection, shared: &Shared) -> Result<(Compared, Judge), SessionEnd> {
    let outbox = connection.outbox();
    let standing = Standing::of(connection.peer());
    let (id, query) = next_query(connection).await?;
    let WorkerQuery::Connect(params) = query else { return Err(refuse(&outbox, id, Refusal::WrongOrder)) };
    let terms = shared.terms();
    let (state, answer) =
        AwaitWorkerConnect.connect(&terms, &standing, params).map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    let (id, query) = next_query(connection).await?;
    let WorkerQuery::CompareBalance { tokens_committed_to_blockchain, tokens_committed_to_db, max_tokens } = query
    else {
        return Err(refuse(&outbox, id, Refusal::WrongOrder));
    };
    let told = Told { on_chain: tokens_committed_to_blockchain, in_db: tokens_committed_to_db, max_tokens };
    let contract = contract_of(shared, &state).await.map_err(|refusal| refuse(&outbox, id, refusal))?;
    let opened = open_account(shared, &state).await?.map_err(|refusal| refuse(&outbox, id, refusal))?;
    let strict = if shared.desk().is_some() { Strictness::Strict } else { Strictness::Lenient };
    // Only now, so that whoever is refused for its contract leaves nothing behind.
    let evidence = evidence_of(connection.peer(), state.version(), shared, strict)
        .map_err(|refusal| refuse(&outbox, id, refusal))?;
    let proxy = terms.names(state.version());
    let judge = Judge::new(connection.peer(), proxy, state.offered().to_owned(), evidence, strict);
    let (compared, answer) = state
        .check_contract(contract.as_ref(), opened.marks)
        .and_then(|()| state.compare_balance(told, opened))
        .map_err(|refusal| refuse(&outbox, id, refusal))?;
    let _ = outbox.answer(id, answer.encode());
    Ok((compared, judge))
}

/// What was verified of a worker that signs receipts, kept for the clients that check them. Where there is money, a worker
/// whose evidence cannot be shown to them does not serve.
pub(super) fn evidence_of(
    peer: &Peer,
    version: Version,
    shared: &Shared,
    strict: Strictness,
) -> Result<Option<Pinned>, Refusal> {
    let Peer::Attested(peer) = peer else { return Ok(None) };
    if version != Version::Extended {
        return Ok(None);
    }
    match (shared.evidence().keep_of(peer), strict) {
        (None, Strictness::Strict) => Err(Refusal::EvidenceTooLong),
        (evidence, Strictness::Strict | Strictness::Lenient) => Ok(evidence),
    }
}

/// The worker's contract, where there is a chain and it is deployed.
async fn contract_of(shared: &Shared, state: &AwaitBalance) -> Result<Option<WorkerState>, Refusal> {
    let (Some(contract), Some(desk)) = (state.own_contract(), shared.desk()) else { return Ok(None) };
    match desk.worker(contract).await {
        Ok(state) => Ok(state),
        Err(error @ (DeskError::PeerMissing(_) | DeskError::PeerNotOurs(..))) => {
            warn!(%error, "a worker's contract cannot be paid into");
            Err(Refusal::ContractUnusable)
        }
        Err(error) => {
            warn!(%error, "a worker's contract could not be looked at");
            Err(Refusal::NotNow)
        }
    }
}

async fn open_account(shared: &Shared, state: &AwaitBalance) -> Result<Result<Opened, Refusal>, SessionEnd> {
    let (account, owner) = state.account();
    let (reply, opened) = oneshot::channel();
    let open = Input::OpenWorker { account: account.to_owned(), owner: owner.to_owned(), reply };
    shared.tell(open).await.map_err(|_| SessionEnd::Shutdown)?;
    Ok(opened.await.map_err(|_| SessionEnd::Shutdown)?.map_err(|_| Refusal::NotNow))
}

/// Takes what the proxy lost, chunk by chunk, until the worker has no more.
async fn hand_over(
    connection: &mut Connection,
    shared: &Shared,
    state: AwaitHandover,
    judge: &Judge,
) -> Result<AwaitComplete, SessionEnd> {
    let outbox = connection.outbox();
    let mut taken = Taken::default();
    connection.set_message_max(HANDSHAKE_MESSAGE_MAX.saturating_add(OPAQUE_MAX));
    for _ in 0..HANDOVER_CHUNKS_MAX {
        let (id, query) = next_query(connection).await?;
        let WorkerQuery::ExtendedCompareBalance { other, .. } = query else {
            return Err(refuse(&outbox, id, Refusal::WrongOrder));
        };
        let receipts = match shared.tag_opener() {
            Some(_) if !other.is_empty() => decode_handover(other).map_err(Violation::Undecodable)?,
            // Without money there is nothing to take over, and the original's body says nothing.
            Some(_) | None => Vec::new(),
        };
        if receipts.is_empty() {
            connection.set_message_max(HANDSHAKE_MESSAGE_MAX);
            taken.log();
            let (state, answer) = state.done();
            let _ = outbox.answer(id, answer.encode());
            return Ok(state);
        }
        take_over(shared, state.account(), judge, &receipts, &mut taken).await?;
        let _ = outbox.answer(id, state.more().encode());
    }
    taken.log();
    let (id, _) = next_query(connection).await?;
    Err(refuse(&outbox, id, Refusal::HandoverTooLong))
}

/// What came of a handover.
#[derive(Debug, Default)]
struct Taken {
    settled: u64,
    tokens: u64,
    left_out: u64,
    /// Accounts that were looked up on the chain.
    looked_up: usize,
}

impl Taken {
    fn log(&self) {
        let Self { settled, tokens, left_out, .. } = self;
        info!(settled, tokens, left_out, "a worker handed over what this proxy had lost");
    }
}

/// Verifies one chunk and settles what is good. Receipts are verified a few at a time, so that others have their turn.
async fn take_over(
    shared: &Shared,
    payee: &str,
    judge: &Judge,
    receipts: &[HandedReceipt],
    taken: &mut Taken,
) -> Result<(), SessionEnd> {
    let Some(opener) = shared.tag_opener() else { return Ok(()) };
    let mut lost = Vec::with_capacity(receipts.len());
    for few in receipts.chunks(HANDOVER_VERIFIED_AT_ONCE) {
        for handed in few {
            match handover::examine(handed, payee, opener, judge, shared.unix_ms()) {
                Ok(found) => lost.push(found),
                Err(reason) => {
                    debug!(%reason, "a receipt that was handed over is left out");
                    taken.left_out += 1;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    let unknown = settle_lost(shared, payee, lost, taken).await?;
    let found = look_up(shared, unknown, taken).await;
    let nobodys = settle_lost(shared, payee, found, taken).await?;
    taken.left_out += nobodys.len() as u64;
    Ok(())
}

/// Settles these, and gives back those whose payer the books do not know.
async fn settle_lost(
    shared: &Shared,
    payee: &str,
    lost: Vec<Lost>,
    taken: &mut Taken,
) -> Result<Vec<Lost>, SessionEnd> {
    if lost.is_empty() {
        return Ok(lost);
    }
    let (reply, outcomes) = oneshot::channel();
    let input = Input::HandedOver { payee: payee.to_owned(), lost: lost.clone(), reply };
    shared.tell(input).await.map_err(|_| SessionEnd::Shutdown)?;
    let outcomes = outcomes.await.map_err(|_| SessionEnd::Shutdown)?;
    let mut unknown = Vec::new();
    for (lost, outcome) in lost.into_iter().zip(outcomes) {
        match outcome {
            LostOutcome::Settled(tokens) => {
                taken.settled += 1;
                taken.tokens = taken.tokens.saturating_add(tokens.get());
            }
            LostOutcome::UnknownPayer => unknown.push(lost),
            LostOutcome::Refused(reason) => {
                debug!(%reason, "a receipt that was handed over is left out");
                taken.left_out += 1;
            }
        }
    }
    Ok(unknown)
}

/// Finds on the chain what the contracts of these payers hold. Those that cannot be found are left out.
async fn look_up(shared: &Shared, unknown: Vec<Lost>, taken: &mut Taken) -> Vec<Lost> {
    let Some(desk) = shared.desk() else { return unknown };
    let mut credits = HashMap::<String, Option<Credit>>::new();
    let mut found = Vec::with_capacity(unknown.len());
    for mut lost in unknown {
        if !credits.contains_key(&lost.payer) && taken.looked_up < HANDOVER_PAYERS_MAX {
            taken.looked_up += 1;
            let state = match lost.payer.parse() {
                Ok(contract) => desk.client(contract).await.ok(),
                Err(_) => None,
            };
            credits.insert(lost.payer.clone(), state.map(|state| credit(&state)));
        }
        lost.credit = credits.get(&lost.payer).copied().flatten();
        found.push(lost);
    }
    found
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
