//! What contracts send: notes and claims to the proxy, payments and what is left to people, events to everybody, and
//! what comes back when nobody took it.
//!
//! Notes carry 1 nano, which pays for no gas: the proxy's contract never runs for them, and its process reads them in
//! the list of transactions. Spec: `ton.md` 1.6 to 1.8.

mod bounced;
mod event;

use cocoon_units::Nano;
use tycho_types::cell::Cell;

pub use bounced::{Bounced, BouncedBy};
pub use event::{Event, EventDetails};

use super::codec::{Field as _, Reader, StateError, Writer, op_of};
use super::lifecycle::Lifecycle;
use super::message::Line;
use super::op;
use crate::address::Address;

const WHAT: &str = "note";

/// A message that one of our contracts sends to another, or to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// What is left of the value of a message.
    Excesses {
        /// Of the message that caused it.
        query_id: u64,
    },
    /// A payment of an exact amount.
    Payout {
        /// Of the message that caused it.
        query_id: u64,
    },
    /// An entry in a log that no contract acts on.
    DoNotProcess(LogEntry),
    /// A client contract tells its proxy what it is now.
    Client(ClientNote),
    /// A worker contract tells its proxy what it is now, and may claim money.
    Worker(WorkerNote),
}

/// What a client contract is after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientNote {
    /// Of the message that caused it.
    pub query_id: u64,
    /// The client's owner, from which its address derives.
    pub owner: Address,
    /// Whether it works.
    pub state: Lifecycle,
    /// Its deposit.
    pub balance: Nano,
    /// What a withdrawal must leave.
    pub stake: Nano,
    /// Tokens charged.
    pub tokens_used: u64,
    /// The hash of its secret.
    pub secret_hash: [u8; 32],
    /// What happened, where more than a charge.
    pub payload: Option<ClientPayload>,
}

/// What happened to a client contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPayload {
    /// It was topped up by `amount`.
    TopUp {
        /// What was added.
        amount: Nano,
        /// Who got what was left.
        excesses_to: Address,
    },
    /// Its owner says that this is the client of a connection.
    Register {
        /// The proxy's, by which it finds the connection.
        nonce: u64,
    },
    /// Its owner got `amount`: by a withdrawal, by asking for a refund, or by the proxy's consent.
    RefundGranted {
        /// What was paid.
        amount: Nano,
        /// Who got what was left.
        excesses_to: Address,
    },
    /// Its owner got `amount` after the delay.
    RefundForced {
        /// What was paid.
        amount: Nano,
        /// Who got what was left.
        excesses_to: Address,
    },
}

/// What a worker contract is after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerNote {
    /// Of the message that caused it.
    pub query_id: u64,
    /// The worker's owner, from which its address derives.
    pub owner: Address,
    /// Whether it works.
    pub state: Lifecycle,
    /// Tokens that payouts were presented for.
    pub tokens: u64,
    /// What it claims.
    pub claim: Option<WorkerClaim>,
}

/// Money that a worker contract claims of its proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerClaim {
    /// For the worker's owner.
    pub worker_part: Nano,
    /// For the proxy's owner.
    pub proxy_part: Nano,
    /// Who gets what is left.
    pub excesses_to: Address,
}

/// An entry in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// A proxy says which state of its database it has made durable.
    ProxyState {
        /// Chosen by the sender.
        query_id: u64,
        /// Counts its commits.
        seqno: u32,
        /// Of its database.
        unique_hash: [u8; 32],
    },
    /// Anything else.
    Other,
}

impl Note {
    /// Reads a body that one of our contracts sent.
    ///
    /// # Errors
    ///
    /// When it is none of them, or is not its layout to the bit.
    pub fn parse(body: &Cell) -> Result<Self, StateError> {
        let (op, mut reader) = op_of(WHAT, body)?;
        if op == op::DO_NOT_PROCESS {
            return Ok(Self::DoNotProcess(LogEntry::read(reader)));
        }
        let query_id = reader.get("query id")?;
        let note = match op {
            op::EXCESSES => Self::Excesses { query_id },
            op::PAYOUT => Self::Payout { query_id },
            op::CLIENT_NOTE => Self::Client(ClientNote::read(query_id, &mut reader)?),
            op::WORKER_NOTE => Self::Worker(WorkerNote::read(query_id, &mut reader)?),
            _ => return Err(StateError::Operation { what: WHAT, op }),
        };
        reader.end()?;
        Ok(note)
    }

    /// The body.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        match self {
            Self::Excesses { query_id } => Writer::message(op::EXCESSES, *query_id).cell(),
            Self::Payout { query_id } => Writer::message(op::PAYOUT, *query_id).cell(),
            Self::DoNotProcess(entry) => entry.to_cell(),
            Self::Client(note) => note.to_cell(),
            Self::Worker(note) => note.to_cell(),
        }
    }

    /// Its fields in words.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        match self {
            Self::Excesses { .. } | Self::Payout { .. } | Self::DoNotProcess(LogEntry::Other) => Vec::new(),
            Self::DoNotProcess(LogEntry::ProxyState { seqno, unique_hash, .. }) => {
                vec![("committed_state", seqno.to_string()), ("unique_hash", hex::encode(unique_hash))]
            }
            Self::Client(note) => note.lines(),
            Self::Worker(note) => note.lines(),
        }
    }
}

impl ClientNote {
    fn read(query_id: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        let owner = reader.get("owner")?;
        let mut client = reader.nested("client in a note", "client")?;
        let payload = reader.get::<Option<Cell>>("payload")?;
        let note = Self {
            query_id,
            owner,
            state: client.get("state")?,
            balance: client.get("balance")?,
            stake: client.get("stake")?,
            tokens_used: client.get("tokens")?,
            secret_hash: client.get("secret hash")?,
            payload: payload.as_ref().map(ClientPayload::parse).transpose()?,
        };
        client.end()?;
        Ok(note)
    }

    fn to_cell(&self) -> Cell {
        let client = Writer::new()
            .put(&self.state)
            .put(&self.balance)
            .put(&self.stake)
            .put(&self.tokens_used)
            .put(&self.secret_hash)
            .cell();
        Writer::message(op::CLIENT_NOTE, self.query_id)
            .put(&self.owner)
            .put(&client)
            .put(&self.payload.map(ClientPayload::to_cell))
            .cell()
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![
            ("owner", self.owner.show()),
            ("state", self.state.show()),
            ("balance", self.balance.show()),
            ("stake", self.stake.show()),
            ("tokens_used", self.tokens_used.show()),
        ];
        lines.extend(self.payload.map(|payload| ("event", payload.words())));
        lines
    }
}

impl ClientPayload {
    fn parse(cell: &Cell) -> Result<Self, StateError> {
        let (op, mut reader) = op_of("payload of a client's note", cell)?;
        let payload = match op {
            op::PAYLOAD_REGISTER => Self::Register { nonce: reader.get("nonce")? },
            op::PAYLOAD_TOP_UP | op::PAYLOAD_REFUND_GRANTED | op::PAYLOAD_REFUND_FORCE => {
                let (amount, excesses_to) = (reader.get("amount")?, reader.get("address of the excess")?);
                match op {
                    op::PAYLOAD_TOP_UP => Self::TopUp { amount, excesses_to },
                    op::PAYLOAD_REFUND_GRANTED => Self::RefundGranted { amount, excesses_to },
                    _ => Self::RefundForced { amount, excesses_to },
                }
            }
            _ => return Err(StateError::Operation { what: reader.what(), op }),
        };
        reader.end()?;
        Ok(payload)
    }

    fn to_cell(self) -> Cell {
        let paid = |op: u32, amount: Nano, to: Address| Writer::new().put(&op).put(&amount).put(&to).cell();
        match self {
            Self::Register { nonce } => Writer::new().put(&op::PAYLOAD_REGISTER).put(&nonce).cell(),
            Self::TopUp { amount, excesses_to } => paid(op::PAYLOAD_TOP_UP, amount, excesses_to),
            Self::RefundGranted { amount, excesses_to } => paid(op::PAYLOAD_REFUND_GRANTED, amount, excesses_to),
            Self::RefundForced { amount, excesses_to } => paid(op::PAYLOAD_REFUND_FORCE, amount, excesses_to),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Register { nonce } => format!("registered with nonce {nonce}"),
            Self::TopUp { amount, .. } => format!("topped up by {}", amount.show()),
            Self::RefundGranted { amount, .. } => format!("{} paid back to the owner", amount.show()),
            Self::RefundForced { amount, .. } => format!("{} refunded after the delay", amount.show()),
        }
    }
}

impl WorkerNote {
    fn read(query_id: u64, reader: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            query_id,
            owner: reader.get("owner")?,
            state: reader.get("state")?,
            tokens: reader.get("tokens")?,
            claim: reader.get::<Option<Cell>>("payload")?.as_ref().map(WorkerClaim::parse).transpose()?,
        })
    }

    fn to_cell(&self) -> Cell {
        Writer::message(op::WORKER_NOTE, self.query_id)
            .put(&self.owner)
            .put(&self.state)
            .put(&self.tokens)
            .put(&self.claim.map(WorkerClaim::to_cell))
            .cell()
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines =
            vec![("owner", self.owner.show()), ("state", self.state.show()), ("tokens", self.tokens.show())];
        if let Some(claim) = &self.claim {
            lines.push(("claims_for_worker", claim.worker_part.show()));
            lines.push(("claims_for_proxy", claim.proxy_part.show()));
        }
        lines
    }
}

impl WorkerClaim {
    fn parse(cell: &Cell) -> Result<Self, StateError> {
        let (op, mut reader) = op_of("claim of a worker", cell)?;
        if op != op::PAYLOAD_WORKER_PAYOUT {
            return Err(StateError::Operation { what: reader.what(), op });
        }
        let claim = Self {
            worker_part: reader.get("worker's part")?,
            proxy_part: reader.get("proxy's part")?,
            excesses_to: reader.get("address of the excess")?,
        };
        reader.end()?;
        Ok(claim)
    }

    fn to_cell(self) -> Cell {
        Writer::new()
            .put(&op::PAYLOAD_WORKER_PAYOUT)
            .put(&self.worker_part)
            .put(&self.proxy_part)
            .put(&self.excesses_to)
            .cell()
    }
}

impl LogEntry {
    fn read(reader: Reader<'_>) -> Self {
        Self::proxy_state(reader).unwrap_or(Self::Other)
    }

    fn proxy_state(mut reader: Reader<'_>) -> Result<Self, StateError> {
        let query_id = reader.get("query id")?;
        let op = reader.get("operation")?;
        if op != op::PROXY_SAVE_STATE {
            return Err(StateError::Operation { what: WHAT, op });
        }
        let entry = Self::ProxyState { query_id, seqno: reader.get("seqno")?, unique_hash: reader.get("unique hash")? };
        reader.end()?;
        Ok(entry)
    }

    fn to_cell(&self) -> Cell {
        match self {
            Self::Other => Writer::new().put(&op::DO_NOT_PROCESS).cell(),
            Self::ProxyState { query_id, seqno, unique_hash } => Writer::message(op::DO_NOT_PROCESS, *query_id)
                .put(&op::PROXY_SAVE_STATE)
                .put(seqno)
                .put(unique_hash)
                .cell(),
        }
    }
}
