//! What the core hears and what it wants done. Both are closed enums.
//!
//! No variant holds a byte of a prompt or an answer.

use std::time::{Duration, Instant};

use cocoon_ledger::{Overcharge, PayeeId, PayerId};
use cocoon_units::{AdjustedTokens, Coefficient, Multipliers};
use cocoon_wire::RequestId;
use cocoon_wire::failure::Failure;
use cocoon_wire::message::{LoadReport, Proof, TokensUsed};

/// One client connection. The driver never reuses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// One worker connection. The driver never reuses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// One request on its whole way through the proxy. The driver never reuses a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client finished its handshake.
    ClientJoined {
        /// Its connection.
        client: ClientId,
        /// The account that pays: its contract, or the wallet where there is no chain.
        account: String,
    },
    /// A client's connection ended.
    ClientLeft {
        /// Its connection.
        client: ClientId,
    },
    /// A worker finished its handshake.
    WorkerJoined {
        /// Its connection.
        worker: WorkerId,
        /// What it offers.
        profile: WorkerProfile,
    },
    /// A worker's connection ended.
    WorkerLeft {
        /// Its connection.
        worker: WorkerId,
    },
    /// A worker changed its offer.
    WorkerChanged {
        /// Its connection.
        worker: WorkerId,
        /// How.
        change: WorkerChange,
    },
    /// A worker said how busy it is.
    WorkerLoad {
        /// Its connection.
        worker: WorkerId,
        /// What it said.
        load: LoadReport,
    },
    /// A client asks for an answer.
    Run(RunQuery),
    /// The first bytes of an answer went to the client: no other worker can be tried any more.
    AnswerStarted {
        /// Which request.
        key: RequestKey,
        /// Who answers.
        worker: WorkerId,
    },
    /// An answer is complete.
    Ended {
        /// Which request.
        key: RequestKey,
        /// Who answered.
        worker: WorkerId,
        /// What the worker says it used.
        word: Word,
    },
    /// The worker gave up on a request.
    Failed {
        /// Which request.
        key: RequestKey,
        /// Who gave up.
        worker: WorkerId,
        /// Why.
        failure: Failure,
        /// What the worker says it used until then.
        word: Word,
    },
    /// The client does not take its answer; the worker is at work.
    ClientStalled {
        /// Which request.
        key: RequestKey,
        /// Who answers.
        worker: WorkerId,
    },
    /// A client cancelled a request, perhaps before it arrived.
    Cancelled {
        /// Its connection.
        client: ClientId,
        /// Its name for the request.
        request_id: RequestId,
    },
    /// The network weighs tokens in another way from now on. What was reserved before stays as it was.
    Weighed {
        /// How.
        multipliers: Multipliers,
    },
    /// A client was told of a contract that is no longer the proxy's: what runs may finish, nothing new begins.
    ClientOutdated {
        /// Its connection.
        client: ClientId,
    },
    /// A commit was seen on the chain, or a contract's state: workers may be owed less than they were.
    Settling,
    /// Time passed; see [`Core::next_timeout`](super::Core::next_timeout).
    Tick,
    /// Refuse new requests and finish those that are here.
    Drain {
        /// What is left then is failed.
        until: Instant,
    },
}

/// A worker's last word on a request, as its session judged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It never had the request, or says nothing.
    Nothing,
    /// It claims to have used this, and nobody asked for a receipt. Charged within the reservation.
    Claimed(TokensUsed),
    /// It signed a receipt that fits the request. Charged as it says.
    Proved {
        /// What the receipt comes to.
        tokens: TokensUsed,
        /// The receipt.
        proof: Proof,
    },
    /// A receipt was asked for, and none came that fits the request. Charged nothing, and the worker is to blame.
    Unproved,
}

/// What a worker offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProfile {
    /// The account that is paid: its contract, or the wallet where there is no chain.
    pub account: String,
    /// The model, without what follows `@`.
    pub model: String,
    /// The worker's price.
    pub coefficient: Coefficient,
    /// How many requests this proxy may have it run at once.
    pub slots: u32,
    /// Whether it takes requests.
    pub enabled: bool,
    /// Whether it can be told to stop a request.
    pub cancel: CancelSupport,
}

/// Whether a worker understands cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelSupport {
    /// Extended profile.
    Yes,
    /// Original profile: a request runs to its end.
    No,
}

/// A change of a worker's offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerChange {
    /// It takes requests.
    Enabled,
    /// It takes no more requests; those it has it finishes.
    Disabled,
    /// Its price.
    Coefficient(Coefficient),
}

/// What the core needs to know of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// The driver's name for it.
    pub key: RequestKey,
    /// Who asks.
    pub client: ClientId,
    /// The client's name for it.
    pub request_id: RequestId,
    /// The model, without what follows `@`.
    pub model: String,
    /// The client's price cap.
    pub max_coefficient: Coefficient,
    /// Bytes of the body, which is held until its answer begins.
    pub prompt_bytes: u64,
    /// Prompt tokens at most, less the margin for a template.
    pub prompt_tokens_max: u64,
    /// How many answers are generated: the larger of `n` and `best_of`.
    pub choices: u32,
    /// Most tokens of one answer.
    pub token_limit: u32,
    /// Time left.
    pub timeout: Duration,
    /// The id of the receipt that is asked for.
    pub receipt: Option<[u8; 32]>,
}

/// Something the driver must do. For each key that came with a [`Event::Run`], the last action is
/// one [`Action::Forget`].
#[derive(Clone, Debug)]
pub enum Action {
    /// Send the request to a worker.
    Dispatch(Dispatch),
    /// Tell the worker to stop, where it understands that, and send no more of the answer on.
    CancelAtWorker {
        /// Which request.
        key: RequestKey,
        /// Who answers.
        worker: WorkerId,
    },
    /// Stop waiting for the worker; its late answer is ignored.
    AbandonAtWorker {
        /// Which request.
        key: RequestKey,
        /// Who does not answer.
        worker: WorkerId,
    },
    /// End the answer with a failure.
    Fail {
        /// Which request.
        key: RequestKey,
        /// What to tell the client.
        failure: Failure,
        /// What the client is charged.
        tokens: TokensUsed,
        /// What proves it.
        proof: Option<Proof>,
    },
    /// Tell both ends what the request came to.
    Settled(Settlement),
    /// The request is over.
    Forget {
        /// Which request.
        key: RequestKey,
    },
    /// End a client's connection.
    CloseClient {
        /// Its connection.
        client: ClientId,
        /// Why.
        failure: Failure,
    },
    /// End a worker's connection.
    CloseWorker {
        /// Its connection.
        worker: WorkerId,
        /// Why.
        failure: Failure,
    },
    /// The drain is over: no request is left.
    Drained,
}

/// One attempt at a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Which request.
    pub key: RequestKey,
    /// Who shall answer.
    pub worker: WorkerId,
    /// The most that can be charged; usage above it is clamped in the end frame.
    pub reserved: AdjustedTokens,
    /// The price that was agreed: the worker's.
    pub coefficient: Coefficient,
    /// Most tokens over all choices.
    pub token_limit: u32,
    /// Time left.
    pub budget: Duration,
    /// What a receipt must say, where one is asked for and the worker can give it.
    pub receipt: Option<Agreed>,
}

/// The terms of one attempt, which its receipt must state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The receipt's id.
    pub id: [u8; 32],
    /// The model, without what follows `@`.
    pub model: String,
    /// The worker's price.
    pub coefficient: Coefficient,
    /// The network's weights when the request was admitted.
    pub multipliers: Multipliers,
}

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which request.
    pub key: RequestKey,
    /// Who was charged.
    pub client: ClientId,
    /// Who was credited.
    pub worker: WorkerId,
    /// The amount.
    pub charged: AdjustedTokens,
    /// The amount by kinds.
    pub tokens: TokensUsed,
    /// What proves it.
    pub proof: Option<Proof>,
    /// The account that was charged.
    pub payer: PayerId,
    /// The account that was credited.
    pub payee: PayeeId,
    /// Set when the worker reported more than it was allowed: its fault, its loss.
    pub clamped: Option<Overcharge>,
}
