//! The set of every contract test: one proxy, client and worker on an engine, people as puppets, and what came of each
//! message. After every message all money is counted, and what contracts owe is compared with what they hold.

use cocoon_ton::chain::{Message, MessageKind, Transaction};
use cocoon_ton::contract::message::{client, proxy, worker};
use cocoon_ton::contract::signed::{Payment, SignedPayment};
use cocoon_ton::contract::{
    ClientState, Lifecycle, Params, ProxyState, StateInit, WorkerState, client_state_init, codes, op, proxy_state_init,
    worker_state_init,
};
use cocoon_ton::devnet::{Engine, Genesis, Order, puppet};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use ed25519_dalek::SigningKey;
use tycho_types::cell::CellBuilder;
use tycho_types::models::StdAddr;

pub(crate) const TON: u64 = 1_000_000_000;
/// 0.1 TON, what v3 asks for fees.
pub(crate) const FEES: u64 = TON / 10;
/// 0.01 TON, the floor of a proxy and of everything closed.
pub(crate) const FLOOR: u64 = TON / 100;
/// 0.11 TON, the floor of a client and a worker that work.
pub(crate) const WORKING_FLOOR: u64 = FEES + FLOOR;
pub(crate) const DEPOSIT: u64 = 5 * TON;
pub(crate) const CLIENT_STAKE: u64 = TON;
pub(crate) const PRICE: u64 = 20;
pub(crate) const FEE: u64 = 15;
pub(crate) const CLIENT_DELAY_S: u32 = 100;
pub(crate) const PROXY_DELAY_S: u32 = 200;
pub(crate) const QUERY: u64 = 77;

const NOW: u32 = 1_800_000_000;
const ROOT: Address = Address::basechain([0x77; 32]);
/// Where change goes: an account without code, which takes what it gets without a fee.
pub(crate) const PURSE: Address = Address::basechain([0xbb; 32]);

/// Exit codes, as `contracts/common/errors.tolk`.
pub(crate) mod exit {
    pub(crate) const OK: i32 = 0;
    pub(crate) const MALFORMED: i32 = 9;
    pub(crate) const OLD: i32 = 1000;
    pub(crate) const LOW_CONTRACT: i32 = 1001;
    pub(crate) const LOW_BALANCE: i32 = 1002;
    pub(crate) const LOW_VALUE: i32 = 1003;
    pub(crate) const FORMAT: i32 = 1004;
    pub(crate) const SIGNED_FORMAT: i32 = 1005;
    pub(crate) const CLOSED: i32 = 1006;
    pub(crate) const SIGNATURE: i32 = 1007;
    pub(crate) const OWNER: i32 = 1009;
    pub(crate) const FROM_OWNER: i32 = 1010;
    pub(crate) const LOCKED: i32 = 1011;
    pub(crate) const UNKNOWN_OP: i32 = 1012;
    pub(crate) const UNKNOWN_TEXT: i32 = 1013;
    pub(crate) const DERIVED: i32 = 1014;
    pub(crate) const MY_ADDRESS: i32 = 1015;
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    ProxyOwner,
    ClientOwner,
    WorkerOwner,
    Stranger,
}

impl Who {
    pub(crate) const ALL: [Self; 4] = [Self::ProxyOwner, Self::ClientOwner, Self::WorkerOwner, Self::Stranger];

    pub(crate) fn address(self) -> Address {
        puppet::address(match self {
            Self::ProxyOwner => 1,
            Self::ClientOwner => 2,
            Self::WorkerOwner => 3,
            Self::Stranger => 4,
        })
    }
}

/// The set.
pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) now: u32,
    pub(crate) key: SigningKey,
    pub(crate) proxy: Address,
    pub(crate) client: Address,
    pub(crate) worker: Address,
    inits: [StateInit; 3],
}

impl Stage {
    /// Proxy, client with [`DEPOSIT`], and worker, all deployed.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same with the network's parameters changed.
    pub(crate) fn with(change: impl FnOnce(&mut Params)) -> Self {
        let mut stage = Self::without_proxy_and_with(change);
        stage.deploy_proxy();
        stage
    }

    /// The proxy's contract does not exist (yet).
    pub(crate) fn without_proxy() -> Self {
        Self::without_proxy_and_with(|_| ())
    }

    pub(crate) fn without_proxy_and_with(change: impl FnOnce(&mut Params)) -> Self {
        let mut stage = Self::build(change);
        stage.deploy_clients();
        stage
    }

    fn build(change: impl FnOnce(&mut Params)) -> Self {
        let mut params = Params {
            params_version: 1,
            unique_id: 17,
            is_test: true,
            price_per_token: Nano::new(PRICE),
            worker_fee_per_token: Nano::new(FEE),
            proxy_delay_s: PROXY_DELAY_S,
            client_delay_s: CLIENT_DELAY_S,
            min_proxy_stake: Nano::new(TON),
            min_client_stake: Nano::new(CLIENT_STAKE),
            codes: Some(codes().published()),
            ..Params::default()
        };
        change(&mut params);
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let proxy = proxy_state_init(Who::ProxyOwner.address(), &public, ROOT, &params).unwrap();
        let at = proxy.address();
        let client = client_state_init(Who::ClientOwner.address(), at, &public, &params).unwrap();
        let worker = worker_state_init(Who::WorkerOwner.address(), at, &public, &params).unwrap();
        Self {
            engine: Engine::new(&Genesis { unix_s: NOW, puppets: 4, ..Genesis::default() }),
            now: NOW,
            key,
            proxy: at,
            client: client.address(),
            worker: worker.address(),
            inits: [proxy, client, worker],
        }
    }

    /// Every contract begins with its floor exactly, so that a test sees every nano that moves.
    pub(crate) fn deploy_proxy(&mut self) {
        let nothing = proxy::IncreaseStake { query_id: QUERY, amount: Nano::ZERO, excesses_to: PURSE };
        self.deploy(Who::Stranger, self.proxy, 0, 3 * FEES, nothing.to_cell());
    }

    fn deploy_clients(&mut self) {
        let top_up = client::TopUp { query_id: QUERY, amount: Nano::new(DEPOSIT), excesses_to: PURSE };
        self.deploy(Who::Stranger, self.client, 1, DEPOSIT + 5 * FEES, top_up.to_cell());
        let register = worker::Register { query_id: QUERY, excesses_to: PURSE };
        self.deploy(Who::WorkerOwner, self.worker, 2, 3 * FEES, register.to_cell());
    }

    fn deploy(&mut self, from: Who, to: Address, init: usize, value: u64, body: Cell) {
        let order = Order::call(to, Nano::new(value), body).deploying(self.inits[init].clone().into());
        let trace = self.order(from, &order);
        assert_eq!(trace.exit(to), exit::OK);
    }

    /// Sends, and makes blocks until nothing is on its way.
    pub(crate) fn send(&mut self, from: Who, to: Address, value: u64, body: Cell) -> Trace {
        self.order(from, &Order::call(to, Nano::new(value), body))
    }

    /// Presents a payment that the proxy signed, from a stranger.
    pub(crate) fn present(&mut self, payment: Payment, value: u64) -> Trace {
        let signed = self.sign(payment);
        self.send(Who::Stranger, payment.contract(), value, signed.envelope(PURSE))
    }

    pub(crate) fn sign(&self, payment: Payment) -> SignedPayment {
        payment.sign(&self.key)
    }

    fn order(&mut self, from: Who, order: &Order) -> Trace {
        self.engine.order(from.address(), order).unwrap();
        self.settle()
    }

    /// Sends each, and checks that it fails as it should, comes back, and changes nothing.
    pub(crate) fn check_refused(&mut self, to: Address, refusals: Vec<Refusal>) {
        for Refusal { what, from, value, body, exit } in refusals {
            let (data, coins) = (self.data(to), self.coins(to));
            let trace = self.send(from, to, value, body);
            assert_eq!(trace.exit(to), exit, "{what}");
            assert!(trace.of(to).next().unwrap().outcome.bounced, "{what}: the value comes back");
            assert_eq!(self.data(to), data, "{what}: nothing changes");
            let storage_fee = coins.checked_sub(self.coins(to)).expect("a refused message leaves nothing");
            assert!(storage_fee < TON / 1000, "{what}: {storage_fee} nano are gone");
        }
    }

    /// Makes blocks until nothing is on its way.
    pub(crate) fn settle(&mut self) -> Trace {
        let blocks = self.engine.settle(self.now);
        let executed = blocks.iter().flat_map(|block| &block.transactions);
        let trace = Trace(executed.map(|one| Transaction::parse(one.account, one.cell.clone()).unwrap()).collect());
        self.check(&trace);
        trace
    }

    pub(crate) fn wait(&mut self, seconds: u32) {
        self.now += seconds;
    }

    pub(crate) fn coins(&self, of: Address) -> u64 {
        self.engine.balance(&of).get()
    }

    pub(crate) fn client(&self) -> ClientState {
        ClientState::parse(&self.data(self.client)).unwrap()
    }

    pub(crate) fn worker(&self) -> WorkerState {
        WorkerState::parse(&self.data(self.worker)).unwrap()
    }

    pub(crate) fn proxy(&self) -> ProxyState {
        ProxyState::parse(&self.data(self.proxy)).unwrap()
    }

    pub(crate) fn data(&self, of: Address) -> Cell {
        self.engine.account(&of).data.unwrap()
    }

    /// What must hold after any message.
    fn check(&self, trace: &Trace) {
        self.engine.check_conservation().unwrap();
        for transaction in &trace.0 {
            let outcome = transaction.outcome;
            let failed = outcome.action_code.filter(|code| *code != 0);
            assert!(failed.is_none(), "an action failed, {:?}: {outcome:?}", transaction.account);
        }
        for account in [self.client, self.proxy, self.worker] {
            if trace.last_exit(account) == Some(exit::OK) {
                assert!(self.coins(account) >= self.owed(account), "{account} holds less than it owes");
            }
        }
    }

    /// What a contract must hold.
    fn owed(&self, account: Address) -> u64 {
        if account == self.proxy {
            return self.proxy().funds.get() + FLOOR;
        }
        if account == self.worker {
            return self.floor_of(self.worker().state);
        }
        let state = self.client();
        state.balance.get() + state.due.get() + self.floor_of(state.state)
    }

    fn floor_of(&self, state: Lifecycle) -> u64 {
        if state == Lifecycle::Closed { FLOOR } else { WORKING_FLOOR }
    }
}

/// The transactions that a message caused, in order.
pub(crate) struct Trace(pub(crate) Vec<Transaction>);

/// A message between accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) op: u32,
    pub(crate) value: u64,
}

impl Trace {
    /// How the first message to `account` ended.
    pub(crate) fn exit(&self, account: Address) -> i32 {
        let first = self.of(account).next().unwrap_or_else(|| panic!("nothing reached {account}"));
        first.outcome.exit_code.unwrap_or_else(|| panic!("{account} did not run: {:?}", first.outcome))
    }

    fn last_exit(&self, account: Address) -> Option<i32> {
        self.of(account).filter_map(|transaction| transaction.outcome.exit_code).last()
    }

    fn of(&self, account: Address) -> impl Iterator<Item = &Transaction> {
        self.0.iter().filter(move |transaction| transaction.account == account)
    }

    /// Messages from one account to another, bounces left out.
    pub(crate) fn sent(&self, from: Address, to: Address) -> Vec<Sent> {
        let messages = self.of(from).flat_map(|transaction| &transaction.out_messages);
        messages.filter_map(|message| sent(message, to)).collect()
    }

    /// What `from` paid `to`, exactly.
    pub(crate) fn paid(&self, from: Address, to: Address) -> u64 {
        self.sum(from, to, op::PAYOUT)
    }

    /// What `from` returned to `to`.
    pub(crate) fn change(&self, from: Address, to: Address) -> u64 {
        self.sum(from, to, op::EXCESSES)
    }

    fn sum(&self, from: Address, to: Address, op: u32) -> u64 {
        self.sent(from, to).iter().filter(|sent| sent.op == op).map(|sent| sent.value).sum()
    }

    /// The bodies of what `from` sent `to`.
    pub(crate) fn bodies(&self, from: Address, to: Address) -> Vec<Cell> {
        let messages = self.of(from).flat_map(|transaction| &transaction.out_messages);
        messages.filter(|message| sent(message, to).is_some()).map(|message| message.body.clone()).collect()
    }
}

fn sent(message: &Message, wanted: Address) -> Option<Sent> {
    match &message.kind {
        MessageKind::Internal { to, value, bounced: false, .. } if *to == wanted => {
            Some(Sent { op: message.body.as_slice().ok()?.load_u32().ok()?, value: value.get() })
        }
        MessageKind::Internal { .. }
        | MessageKind::ExternalIn { .. }
        | MessageKind::ExternalOut { .. }
        | MessageKind::Unreadable => None,
    }
}

/// A body and what a contract must say to it.
pub(crate) struct Refusal {
    pub(crate) what: &'static str,
    pub(crate) from: Who,
    pub(crate) value: u64,
    pub(crate) body: Cell,
    pub(crate) exit: i32,
}

/// The body with one bit more.
pub(crate) fn longer(body: &Cell) -> Cell {
    let mut builder = copy(body);
    builder.store_bit_one().unwrap();
    builder.build().unwrap()
}

/// The body with one bit less.
pub(crate) fn shorter(body: &Cell) -> Cell {
    let mut slice = body.as_slice().unwrap();
    let head = slice.load_prefix(slice.size_bits() - 1, slice.size_refs()).unwrap();
    let mut builder = CellBuilder::new();
    builder.store_slice(head).unwrap();
    builder.build().unwrap()
}

/// The body with one reference more.
pub(crate) fn with_reference(body: &Cell) -> Cell {
    let mut builder = copy(body);
    builder.store_reference(Cell::default()).unwrap();
    builder.build().unwrap()
}

fn copy(body: &Cell) -> CellBuilder {
    let mut builder = CellBuilder::new();
    builder.store_slice(body.as_slice().unwrap()).unwrap();
    builder
}

/// An envelope whose parts need not agree.
pub(crate) fn envelope(op: u32, query_id: u64, back: Address, signature: &[u8; 64], payload: Cell) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(op).unwrap();
    builder.store_u64(query_id).unwrap();
    let back = StdAddr::from(back);
    builder.store_slice(CellBuilder::build_from(&back).unwrap().as_slice().unwrap()).unwrap();
    builder.store_raw(signature, 512).unwrap();
    builder.store_reference(payload).unwrap();
    builder.build().unwrap()
}

/// What every signed message must survive, whatever it does: the payment is good in every other way.
pub(crate) fn forgeries(stage: &Stage, payment: Payment, elsewhere: Payment, value: u64) -> Vec<Refusal> {
    let kind = payment.kind().op();
    let signed = stage.sign(payment);
    let body = signed.envelope(PURSE);
    let stolen = SigningKey::from_bytes(&[8; 32]);
    let long_payload = longer(&payment.payload());
    let long_signature = {
        use ed25519_dalek::Signer as _;
        stage.key.sign(&long_payload.repr_hash().0).to_bytes()
    };
    let masterchain = Address { workchain: -1, account: PURSE.account };
    let refusal = |what, value, body, exit| Refusal { what, from: Who::Stranger, value, body, exit };
    vec![
        refusal("too little value", FEES - 1, body.clone(), exit::LOW_VALUE),
        refusal("another key", value, payment.sign(&stolen).envelope(PURSE), exit::SIGNATURE),
        refusal(
            "a signature of another payload",
            value,
            payment.with_signature(stage.sign(elsewhere).signature).envelope(PURSE),
            exit::SIGNATURE,
        ),
        refusal(
            "an envelope of another operation",
            value,
            envelope(kind, QUERY, PURSE, &signed.signature, foreign(payment, kind ^ 1, QUERY)),
            exit::SIGNED_FORMAT,
        ),
        refusal(
            "an envelope of another query",
            value,
            envelope(kind, QUERY + 1, PURSE, &signed.signature, payment.payload()),
            exit::SIGNED_FORMAT,
        ),
        refusal("for another contract", value, stage.sign(elsewhere).envelope(PURSE), exit::MY_ADDRESS),
        refusal(
            "a longer payload",
            value,
            envelope(kind, QUERY, PURSE, &long_signature, long_payload),
            exit::MALFORMED,
        ),
        refusal("a longer envelope", value, longer(&body), exit::MALFORMED),
        refusal("a shorter envelope", value, shorter(&body), exit::MALFORMED),
        refusal("a second reference", value, with_reference(&body), exit::MALFORMED),
        refusal("change to the masterchain", value, signed.envelope(masterchain), exit::FORMAT),
    ]
}

/// The payload with another operation and query.
fn foreign(payment: Payment, op: u32, query_id: u64) -> Cell {
    let payload = payment.payload();
    let mut slice = payload.as_slice().unwrap();
    slice.skip_first(96, 0).unwrap();
    let mut builder = CellBuilder::new();
    builder.store_u32(op).unwrap();
    builder.store_u64(query_id).unwrap();
    builder.store_slice(slice).unwrap();
    builder.build().unwrap()
}
