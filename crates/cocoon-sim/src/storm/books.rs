//! What the chain says about everybody's money, read from its transactions alone.
//!
//! - What the client was charged: what it paid in less what came back, by the notes that its contract sent to the proxy's.
//! - What the workers were paid: what their contracts paid out to their owners.
//! - Each account: what came in, less what went out, less fees, is what is there.

use std::collections::BTreeMap;

use cocoon_ton::chain::{Account, MessageKind, Transaction, TxId};
use cocoon_ton::contract::note::{ClientPayload, Note};
use cocoon_ton::contract::{ClientState, Lifecycle, ProxyState, WorkerState};
use cocoon_ton::{Address, Chain};
use serde::Serialize;

use super::Failure;
use super::node::{CLIENTS, WORKERS};

/// Whose money it is, and the price of a token.
#[derive(Debug, Clone)]
pub(super) struct Owners {
    pub(super) operators: Vec<Operator>,
    pub(super) earners: [Address; WORKERS],
    pub(super) payers: [Address; CLIENTS],
    pub(super) worker_wallets: [Address; WORKERS],
    pub(super) price: u64,
    pub(super) fee: u64,
    /// What each owner left with its proxy's contract, and gets back at its end.
    pub(super) stake: u64,
}

/// Who owns a proxy, and the contracts around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator {
    pub(super) owner: Address,
    pub(super) wallet: Address,
    pub(super) contract: Address,
    pub(super) worker_contracts: [Address; WORKERS],
    pub(super) client_contracts: [Address; CLIENTS],
}

const NOBODY: Address = Address::basechain([0; 32]);

impl Default for Operator {
    fn default() -> Self {
        Self {
            owner: NOBODY,
            wallet: NOBODY,
            contract: NOBODY,
            worker_contracts: [NOBODY; WORKERS],
            client_contracts: [NOBODY; CLIENTS],
        }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            operators: Vec::new(),
            earners: [NOBODY; WORKERS],
            payers: [NOBODY; CLIENTS],
            worker_wallets: [NOBODY; WORKERS],
            price: 0,
            fee: 0,
            stake: 0,
        }
    }
}

impl Owners {
    /// Every wallet, with its name.
    pub(super) fn wallets(&self) -> Vec<(String, Address)> {
        let mut wallets = Vec::new();
        for (number, operator) in self.operators.iter().enumerate() {
            wallets.push((format!("the wallet of proxy {number}'s owner"), operator.owner));
            wallets.push((format!("proxy {number}'s wallet"), operator.wallet));
        }
        wallets.extend(numbered("client", "wallet", self.payers));
        wallets.extend(numbered("worker", "owner's wallet", self.earners));
        wallets.extend(numbered("worker", "wallet", self.worker_wallets));
        wallets
    }

    /// Every wallet and every contract, with its name.
    pub(super) fn accounts(&self) -> Vec<(String, Address)> {
        let mut accounts = self.wallets();
        for (number, operator) in self.operators.iter().enumerate() {
            let of = format!(" with proxy {number}");
            let named = |(name, address): (String, Address)| (name + &of, address);
            accounts.push((format!("proxy {number}'s contract"), operator.contract));
            accounts.extend(numbered("client", "contract", operator.client_contracts).map(named));
            accounts.extend(numbered("worker", "contract", operator.worker_contracts).map(named));
        }
        accounts
    }

    fn is_proxy(&self, address: &Address) -> bool {
        self.operators.iter().any(|operator| operator.contract == *address)
    }

    fn is_operator(&self, address: &Address) -> bool {
        self.operators.iter().any(|operator| operator.owner == *address)
    }

    fn is_client(&self, address: &Address) -> bool {
        self.operators.iter().any(|operator| operator.client_contracts.contains(address))
    }
}

fn numbered<const N: usize>(
    who: &'static str,
    what: &'static str,
    all: [Address; N],
) -> impl Iterator<Item = (String, Address)> {
    all.into_iter().enumerate().map(move |(number, address)| (format!("{who} {number}'s {what}"), address))
}

/// What a client counted of its own use, and what it holds for requests whose end it does not know, in adjusted tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) counted: u64,
    pub(super) held: u64,
}

impl Counted {
    fn explains(&self, charged: u64) -> bool {
        (self.counted..=self.counted + self.held).contains(&charged)
    }
}

/// The books of a network.
#[derive(Debug, Clone, Serialize)]
pub struct Books {
    /// Adjusted tokens that the clients' contracts count, together.
    pub tokens_charged: u64,
    /// The same of each client.
    pub tokens_by_client: Vec<u64>,
    /// Adjusted tokens that the workers' contracts count, together.
    pub tokens_paid: u64,
    /// The same of each worker.
    pub tokens_by_worker: Vec<u64>,
    /// What the clients paid in less what came back, in nanoTON.
    pub charged_nano: u64,
    /// What the workers' contracts paid out, in nanoTON.
    pub paid_nano: u64,
    /// What the proxies' contracts paid out to their owners, in nanoTON: the commission and the stakes.
    pub owner_nano: u64,
    /// The stakes.
    pub stake_nano: u64,
    /// Price of a token, and what of it is the worker's, in nanoTON.
    pub price_nano: u64,
    /// What of the price is the worker's.
    pub worker_fee_nano: u64,
    /// All fees of the wallets and contracts, in nanoTON.
    pub fees_nano: u64,
    /// Transactions read.
    pub transactions: usize,
    /// Contracts that are not closed, with their state.
    pub open: Vec<String>,
    /// Accounts whose balance is not what their transactions say.
    pub unexplained: Vec<String>,
}

impl Books {
    pub(super) async fn read(chain: &dyn Chain, owners: &Owners) -> Result<Self, Failure> {
        let (mut tokens_by_client, mut tokens_by_worker) = (vec![0; CLIENTS], vec![0; WORKERS]);
        let mut open = Vec::new();
        for operator in &owners.operators {
            let proxy = state(chain, &operator.contract, ProxyState::parse).await?;
            note_open(&mut open, "proxy", proxy.as_ref().map(|state| state.state));
            for (contract, tokens) in operator.client_contracts.iter().zip(&mut tokens_by_client) {
                let client = state(chain, contract, ClientState::parse).await?;
                note_open(&mut open, "client", client.as_ref().map(|state| state.state));
                *tokens += client.map_or(0, |state| state.tokens_used);
            }
            for (contract, tokens) in operator.worker_contracts.iter().zip(&mut tokens_by_worker) {
                let worker = state(chain, contract, WorkerState::parse).await?;
                note_open(&mut open, "worker", worker.as_ref().map(|state| state.state));
                *tokens += worker.map_or(0, |state| state.tokens);
            }
        }
        let mut books = Self {
            tokens_charged: tokens_by_client.iter().sum(),
            tokens_by_client,
            tokens_paid: tokens_by_worker.iter().sum(),
            tokens_by_worker,
            charged_nano: 0,
            paid_nano: 0,
            owner_nano: 0,
            stake_nano: owners.stake * owners.operators.len() as u64,
            price_nano: owners.price,
            worker_fee_nano: owners.fee,
            fees_nano: 0,
            transactions: 0,
            open,
            unexplained: Vec::new(),
        };
        for (name, address) in owners.accounts() {
            books.account(chain, owners, &name, address).await?;
        }
        Ok(books)
    }

    /// One account: its part of the sums, and whether its balance is what it must be.
    async fn account(
        &mut self,
        chain: &dyn Chain,
        owners: &Owners,
        name: &str,
        address: Address,
    ) -> Result<(), Failure> {
        let account = chain.account(&address).await?.for_display();
        let history = history(chain, &address, &account).await?;
        let (mut came, mut went, mut fees) = (0_u64, 0_u64, 0_u64);
        for transaction in &history {
            came += transaction.in_message.as_ref().map_or(0, value);
            went += transaction.out_messages.iter().map(value).sum::<u64>();
            fees += transaction.cost().get();
        }
        self.fees_nano += fees;
        self.transactions += history.len();
        let left = came.checked_sub(went).and_then(|left| left.checked_sub(fees));
        if left != Some(account.balance.get()) {
            let balance = account.balance.get();
            self.unexplained.push(format!("{name} has {balance}: came {came}, went {went}, fees {fees}"));
        }
        if owners.is_proxy(&address) {
            let (paid_in, returned) = history.iter().fold((0, 0), |sums, transaction| moved(sums, transaction, owners));
            self.charged_nano += paid_in - returned;
        }
        // A proxy's contract pays owners itself, in payments of the exact amount.
        let payouts = history.iter().filter_map(|transaction| transaction.in_message.as_ref()).filter(|message| {
            let is_payout = matches!(Note::parse(&message.body), Ok(Note::Payout { .. }));
            is_payout && from(&message.kind).is_some_and(|from| owners.is_proxy(&from))
        });
        let paid = payouts.map(value).sum::<u64>();
        if owners.earners.contains(&address) {
            self.paid_nano += paid;
        } else if owners.is_operator(&address) {
            self.owner_nano += paid;
        }
        Ok(())
    }

    /// Whether the client is gone and the workers have what it was charged.
    pub(super) fn is_paid(&self) -> bool {
        self.tokens_charged == self.tokens_paid && self.paid_nano == self.tokens_paid * self.worker_fee_nano
    }

    /// Whether nothing is open any more.
    pub(super) fn is_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// The equality, and what else must hold. `counted` is what each client says of itself.
    pub(super) fn check(&self, counted: &[Counted]) -> Result<(), Failure> {
        let holds = [
            (self.tokens_charged > 0, "nothing was charged at all"),
            (
                self.tokens_charged == self.tokens_paid,
                "clients were charged for other tokens than workers were paid for",
            ),
            (
                self.tokens_by_client.iter().zip(counted).all(|(&charged, counted)| counted.explains(charged)),
                "a client was charged for other tokens than it counted",
            ),
            (
                self.charged_nano == self.tokens_charged * self.price_nano,
                "the client was not charged the price of its tokens",
            ),
            (
                self.paid_nano == self.tokens_paid * self.worker_fee_nano,
                "the workers were not paid the price of their tokens",
            ),
            (
                self.charged_nano + self.stake_nano == self.paid_nano + self.owner_nano,
                "charges are not payouts and what the owner received",
            ),
            (self.open.is_empty(), "contracts are open"),
            (self.unexplained.is_empty(), "a balance is not what its transactions say"),
        ];
        match holds.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, what)) => {
                Err(format!("{what}; the clients counted {counted:?}: {}", serde_json::to_string_pretty(self)?).into())
            }
        }
    }
}

fn note_open(open: &mut Vec<String>, name: &str, state: Option<Lifecycle>) {
    match state {
        None | Some(Lifecycle::Closed) => {}
        Some(state) => open.push(format!("{name}: {state:?}")),
    }
}

async fn state<State, Error: std::error::Error + Send + Sync + 'static>(
    chain: &dyn Chain,
    address: &Address,
    parse: impl FnOnce(&cocoon_ton::Cell) -> Result<State, Error>,
) -> Result<Option<State>, Failure> {
    let account = chain.account(address).await?.for_display();
    Ok(account.data.map(|data| parse(&data)).transpose()?)
}

/// Everything that ever happened to an account.
async fn history(chain: &dyn Chain, address: &Address, account: &Account) -> Result<Vec<Transaction>, Failure> {
    let mut known = BTreeMap::new();
    let mut after: Option<TxId> = None;
    while account.last.is_some() && after != account.last {
        let page = chain.transactions(address, after, 50).await?.for_display();
        let Some(newest) = page.iter().map(|transaction| transaction.id).max_by_key(|id| id.lt) else { break };
        after = Some(newest);
        known.extend(page.into_iter().map(|transaction| (transaction.id.lt, transaction)));
    }
    Ok(known.into_values().collect())
}

/// What a client's contract says was paid in, and what came back.
fn moved((paid_in, returned): (u64, u64), transaction: &Transaction, owners: &Owners) -> (u64, u64) {
    let Some(message) = &transaction.in_message else { return (paid_in, returned) };
    if !from(&message.kind).is_some_and(|from| owners.is_client(&from)) {
        return (paid_in, returned);
    }
    let Ok(Note::Client(note)) = Note::parse(&message.body) else { return (paid_in, returned) };
    match note.payload {
        Some(ClientPayload::TopUp { amount, .. }) => (paid_in + amount.get(), returned),
        Some(ClientPayload::RefundGranted { amount, .. } | ClientPayload::RefundForced { amount, .. }) => {
            (paid_in, returned + amount.get())
        }
        Some(ClientPayload::Register { .. }) | None => (paid_in, returned),
    }
}

fn value(message: &cocoon_ton::chain::Message) -> u64 {
    match &message.kind {
        MessageKind::Internal { value, .. } => value.get(),
        MessageKind::ExternalIn { .. } | MessageKind::ExternalOut { .. } | MessageKind::Unreadable => 0,
    }
}

fn from(kind: &MessageKind) -> Option<Address> {
    match kind {
        MessageKind::Internal { from, .. } => Some(*from),
        MessageKind::ExternalIn { .. } | MessageKind::ExternalOut { .. } | MessageKind::Unreadable => None,
    }
}
