//! Where settlement and the hub meet: the hub keeps the books (the ledger), settlement keeps what the chain says.
//!
//! - Settlement tells the hub facts of the chain and asks it to begin commits ([`BooksInput`], over the hub's queue).
//! - The hub shows settlement what is to be sent ([`Report`], over a watch) and answers what accounts stand at
//!   ([`Position`]).
//!
//! Neither side signs for the other: a signature goes up to `committed`, which the hub alone moves, and only on
//! [`BooksInput::CommitSeen`].

use bytes::Bytes;
use cocoon_ledger::{Commit, Credit, Marks};
use cocoon_ton::Address;
use cocoon_ton::contract::ClientState;
use cocoon_units::AdjustedTokens;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::hub::Input;

/// The ledger's note under which the hub keeps the cursor of [`BooksInput::CommitSeen`].
pub(crate) const CURSOR_NOTE: &str = "settlement.seen";

/// What settlement tells the hub.
#[derive(Debug)]
pub(crate) enum BooksInput {
    /// What a client's contract holds. `open: false`: it is closing or closed, or the proxy is: nothing new is begun.
    Client { contract: Address, credit: Credit, open: bool },
    /// What a worker's contract was paid for.
    Worker { contract: Address, paid: AdjustedTokens, closed: bool },
    /// Begin a commit, if anything is new and none is under way.
    BeginCommit,
    /// A commit of our wallet is on the chain. The hub checks it against the ledger (`check_chain`; another proxy with
    /// this key, or an older database, must stop the service), marks it, and keeps the cursor under [`CURSOR_NOTE`].
    CommitSeen { number: u32, digest: [u8; 32], cursor: Bytes },
    /// What all accounts stand at.
    Position { reply: oneshot::Sender<Vec<Position>> },
    /// A durable fact of settlement.
    SetNote { key: String, value: Option<Bytes> },
    /// Its contract is closed and nothing can be claimed any more.
    CloseAccount { contract: Address },
}

/// Which side of a request an account is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Pays.
    Client,
    /// Is paid.
    Worker,
}

/// What an account stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) side: Side,
    pub(crate) contract: Address,
    /// The wallet that a session of it named, where there is one.
    pub(crate) owner: Option<String>,
    pub(crate) marks: Marks,
    pub(crate) reserved: AdjustedTokens,
    /// Requests that are not settled yet.
    pub(crate) in_flight: u64,
}

/// What the hub shows settlement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// The commit that is durable and was not seen on the chain yet (`Ledger::commit_to_send`).
    pub(crate) commit: Option<Commit>,
    /// Sessions that were told of an old contract and have not ended.
    pub(crate) old_sessions: usize,
}

/// Settlement's end of the line to the hub.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) reports: watch::Receiver<Report>,
}

impl Books {
    /// Tells the hub.
    ///
    /// # Errors
    ///
    /// When the hub is gone.
    pub(crate) async fn tell(&self, input: BooksInput) -> Result<(), SendError<()>> {
        self.inputs.send(Input::Books(input)).await.map_err(|_| SendError(()))
    }

    /// What all accounts stand at, after all that was told before.
    ///
    /// # Errors
    ///
    /// When the hub is gone.
    pub(crate) async fn positions(&self) -> Result<Vec<Position>, SendError<()>> {
        let (reply, positions) = oneshot::channel();
        self.tell(BooksInput::Position { reply }).await?;
        positions.await.map_err(|_| SendError(()))
    }
}

/// What a client may use: what was charged, and what its contract still pays for while the owner cannot take it.
pub(crate) fn credit(state: &ClientState) -> Credit {
    // Signed counts travel in fields of 63 bits; nothing real comes near.
    const TOKENS_MAX: u64 = i64::MAX.unsigned_abs();
    let charged = state.tokens_used.min(TOKENS_MAX);
    let held = state.balance.min(state.stake).get();
    let secured = held.checked_div(state.params.price_per_token.get()).unwrap_or(TOKENS_MAX);
    Credit {
        charged: AdjustedTokens::new(charged),
        secured: AdjustedTokens::new(secured.min(TOKENS_MAX.saturating_sub(charged))),
    }
}
