//! A chain of one wallet of version 5, whose network does what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cocoon_units::Nano;
use tokio::sync::watch as channel;
use tokio::time::Instant;
use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::models::{BlockchainConfig, IntAddr, Message as Model, RelaxedMessage, RelaxedMsgInfo};

use crate::address::Address;
use crate::chain::{
    Account, Chain, ChainError, Head, Message, MessageKind, Outcome, Proof, Proved, Status, Transaction, TxId,
};

use crate::limits::{WALLET_EXPIRY_MARGIN_S, WALLET_VALID_S};

const BEGIN_UNIX_S: u32 = 1_700_000_000;

/// What happens to an external that is handed in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It lands after this time, if it is still valid then.
    Land(Duration),
    /// It lands after this time in a block of the time at which it was handed in: the wallet's shard is behind.
    LandBehind(Duration),
    /// The same, right after somebody was told a time at which it cannot land any more.
    LandOnceGivenUp,
    /// Two copies of it land.
    Twice,
    /// It is taken, and never heard of.
    Drop,
    /// The server does not answer, and dropped it.
    Unreachable,
    /// It is refused.
    Refuse(i32),
    /// It is refused, and passed on all the same.
    RefuseAndLand(Duration),
    /// Another holder of the key is quicker.
    Stolen,
    /// It lands at once, and the chain is silent from then on for this time.
    LandAndCut(Duration),
}

#[derive(Debug)]
pub(super) struct Scripted {
    began: Instant,
    state: Mutex<State>,
    /// Held, so that subscribers do not see it close.
    changes: channel::Sender<Option<TxId>>,
}

#[derive(Debug)]
struct State {
    proof: Proof,
    fates: VecDeque<Fate>,
    otherwise: Fate,
    drop_until: Option<Instant>,
    down_until: Option<Instant>,
    hidden_until: Option<Instant>,
    left_out: Option<u32>,
    blocked: bool,
    balance: Nano,
    seqno: u32,
    deployed: bool,
    brought_code: bool,
    pending: Vec<(Instant, Cell)>,
    /// The same, with the time of the block; `None` lands once it was given up.
    behind: Vec<(Option<Instant>, Cell, u32)>,
    handed: Vec<Cell>,
    transactions: Vec<Transaction>,
    paid: Vec<u32>,
}

/// A body that is told apart by its number.
pub(super) fn body(number: u32) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(number).unwrap();
    builder.build().unwrap()
}

pub(super) const fn ton(whole: u64) -> Nano {
    Nano::new(whole * 1_000_000_000)
}

impl Scripted {
    pub(super) fn new(balance: Nano) -> Arc<Self> {
        let state = State {
            proof: Proof::Local,
            fates: VecDeque::new(),
            otherwise: Fate::Land(Duration::ZERO),
            drop_until: None,
            down_until: None,
            hidden_until: None,
            left_out: None,
            blocked: false,
            balance,
            seqno: 0,
            deployed: false,
            brought_code: false,
            pending: Vec::new(),
            behind: Vec::new(),
            handed: Vec::new(),
            transactions: Vec::new(),
            paid: Vec::new(),
        };
        let (changes, _) = channel::channel(None);
        Arc::new(Self { began: Instant::now(), state: Mutex::new(state), changes })
    }

    pub(super) fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().unwrap().fates = fates.into_iter().collect();
    }

    pub(super) fn otherwise(&self, fate: Fate) {
        self.state.lock().unwrap().otherwise = fate;
    }

    pub(super) fn drop_for(&self, time: Duration) {
        self.state.lock().unwrap().drop_until = Some(Instant::now() + time);
    }

    pub(super) fn down_for(&self, time: Duration) {
        self.state.lock().unwrap().down_until = Some(Instant::now() + time);
    }

    pub(super) fn hide_transactions_for(&self, time: Duration) {
        self.state.lock().unwrap().hidden_until = Some(Instant::now() + time);
    }

    pub(super) fn proof(&self, proof: Proof) {
        self.state.lock().unwrap().proof = proof;
    }

    pub(super) fn leave_out(&self, number: u32) {
        self.state.lock().unwrap().left_out = Some(number);
    }

    pub(super) fn block(&self) {
        self.state.lock().unwrap().blocked = true;
    }

    /// Somebody else takes the wallet's seqno.
    pub(super) fn steal(&self) {
        let unix_s = self.unix_s();
        self.now().steal(unix_s);
    }

    /// Strangers press transactions on the wallet.
    pub(super) fn press(&self, count: usize) {
        let unix_s = self.unix_s();
        let mut state = self.now();
        (0..count).for_each(|_| state.list(None, Vec::new(), unix_s));
    }

    pub(super) fn replay_everything(&self) {
        let mut state = self.now();
        let all: Vec<_> = state.handed.iter().map(|cell| (Instant::now(), cell.clone())).collect();
        state.pending.extend(all);
    }

    pub(super) fn handed(&self) -> Vec<[u8; 32]> {
        self.now().handed.iter().map(|cell| cell.repr_hash().0).collect()
    }

    /// How many different externals were handed in.
    pub(super) fn made(&self) -> usize {
        let mut handed = self.handed();
        handed.sort_unstable();
        handed.dedup();
        handed.len()
    }

    pub(super) fn transactions(&self) -> Vec<Transaction> {
        self.now().transactions.clone()
    }

    /// Numbers of the bodies that left, in order.
    pub(super) fn paid(&self) -> Vec<u32> {
        self.now().paid.clone()
    }

    pub(super) fn seqno(&self) -> u32 {
        self.now().seqno
    }

    pub(super) fn deployed_by_first_external(&self) -> bool {
        self.now().brought_code
    }

    fn unix_s(&self) -> u32 {
        BEGIN_UNIX_S + u32::try_from(self.began.elapsed().as_secs()).unwrap()
    }

    /// The state after everything that was due.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut state.pending).into_iter().partition(|(at, _)| *at <= now);
        state.pending = later;
        let due: Vec<(Instant, Cell)> = due;
        for (at, external) in due {
            let landed_at = BEGIN_UNIX_S + u32::try_from((at - self.began).as_secs()).unwrap();
            state.land(&external, landed_at);
        }
        state.land_behind(|at, _| at.is_some_and(|at| at <= now));
        state
    }

    fn silent(state: &State) -> Result<(), ChainError> {
        match state.down_until {
            Some(until) if Instant::now() < until => Err(down()),
            Some(_) | None => Ok(()),
        }
    }
}

fn down() -> ChainError {
    ChainError::Unreachable { endpoint: "the script".to_owned(), reason: "it says so".to_owned() }
}

impl State {
    fn last(&self) -> Option<TxId> {
        self.transactions.last().map(|transaction| transaction.id)
    }

    fn land_behind(&mut self, is_due: impl Fn(Option<Instant>, u32) -> bool) {
        let all = std::mem::take(&mut self.behind);
        let (due, later) = all.into_iter().partition(|(at, _, unix_s)| is_due(*at, *unix_s));
        self.behind = later;
        let due: Vec<(Option<Instant>, Cell, u32)> = due;
        due.iter().for_each(|(_, external, unix_s)| self.land(external, *unix_s));
    }

    /// What the contract does: seqno and time are checked, then each message leaves.
    fn land(&mut self, external: &Cell, unix_s: u32) {
        let model = external.parse::<Model<'_>>().unwrap();
        let order = CellBuilder::build_from(model.body).unwrap();
        let mut slice = order.as_slice().unwrap();
        slice.skip_first(64, 0).unwrap();
        let (valid_until, seqno) = (slice.load_u32().unwrap(), slice.load_u32().unwrap());
        let codeless = !self.deployed && model.init.is_none();
        if valid_until <= unix_s || seqno != self.seqno || self.blocked || codeless {
            return;
        }
        self.brought_code |= !self.deployed;
        self.deployed = true;
        let list = slice.load_bit().unwrap().then(|| slice.load_reference_cloned().unwrap());
        let mut messages = Vec::new();
        actions(list, &mut messages);
        for message in &messages {
            self.paid.push(message.body.as_slice().unwrap().load_u32().unwrap());
        }
        if let Some(left_out) = self.left_out {
            messages.retain(|message| message.body != body(left_out));
        }
        self.step(
            Message {
                hash: external.repr_hash().0,
                kind: MessageKind::ExternalIn { to: Address::basechain([0; 32]) },
                body: order,
                has_state_init: false,
                forward_fee: Nano::ZERO,
            },
            messages,
            unix_s,
        );
    }

    fn step(&mut self, in_message: Message, out_messages: Vec<Message>, unix_s: u32) {
        self.seqno += 1;
        self.list(Some(in_message), out_messages, unix_s);
    }

    fn list(&mut self, in_message: Option<Message>, out_messages: Vec<Message>, unix_s: u32) {
        let lt = self.last().map_or(0, |id| id.lt) + 1_000;
        self.transactions.push(Transaction {
            id: TxId { lt, hash: [u8::try_from(self.seqno).unwrap(); 32] },
            previous: self.last(),
            account: Address::basechain([0; 32]),
            unix_s,
            in_message,
            out_messages,
            fees: Nano::new(1),
            outcome: Outcome { exit_code: Some(0), action_code: Some(0), ..Outcome::default() },
            cell: Cell::default(),
        });
    }

    fn steal(&mut self, unix_s: u32) {
        let body = body(u32::MAX);
        let kind = MessageKind::ExternalIn { to: Address::basechain([0; 32]) };
        self.step(
            Message { hash: [0; 32], kind, body, has_state_init: false, forward_fee: Nano::ZERO },
            Vec::new(),
            unix_s,
        );
    }

    fn data(&self) -> Cell {
        let mut builder = CellBuilder::new();
        builder.store_bit(!self.blocked).unwrap();
        builder.store_u32(self.seqno).unwrap();
        builder.store_zeros(32 + 256 + 1).unwrap();
        builder.build().unwrap()
    }
}

/// The list of actions, the first of them innermost.
fn actions(list: Option<Cell>, messages: &mut Vec<Message>) {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return };
    let mut slice: CellSlice<'_> = list.as_slice().unwrap();
    actions(Some(slice.load_reference_cloned().unwrap()), messages);
    slice.skip_first(32, 0).unwrap();
    assert_eq!(slice.load_u8().unwrap() & 2, 2, "errors of one message are ignored");
    let cell = slice.load_reference_cloned().unwrap();
    let model = cell.parse::<RelaxedMessage<'_>>().unwrap();
    let RelaxedMsgInfo::Int(info) = model.info else { panic!("not internal") };
    let IntAddr::Std(to) = &info.dst else { panic!("not standard") };
    messages.push(Message {
        hash: cell.repr_hash().0,
        kind: MessageKind::Internal {
            from: Address::basechain([0; 32]),
            to: Address::from(to),
            value: Nano::new(u64::try_from(info.value.tokens.into_inner()).unwrap()),
            bounce: info.bounce,
            bounced: false,
            created_lt: 0,
        },
        body: CellBuilder::build_from(model.body).unwrap(),
        has_state_init: false,
        forward_fee: Nano::ZERO,
    });
}

#[async_trait]
impl Chain for Scripted {
    async fn head(&self) -> Result<Proved<Head>, ChainError> {
        self.account(&Address::basechain([0; 32])).await.map(|account| account.map(|account| account.at))
    }

    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError> {
        let mut state = self.now();
        Self::silent(&state)?;
        let (code, data) = if state.deployed { (Some(Cell::default()), Some(state.data())) } else { (None, None) };
        let account = Account {
            address: *address,
            status: if state.deployed { Status::Active } else { Status::Uninit },
            balance: state.balance,
            code,
            data,
            last: state.last(),
            at: Head { seqno: 1, unix_s: self.unix_s(), lt: 1 },
        };
        let told = account.at.unix_s;
        state.land_behind(|at, unix_s| at.is_none() && told > unix_s + WALLET_VALID_S + WALLET_EXPIRY_MARGIN_S);
        Ok(Proved::new(account, state.proof))
    }

    async fn transactions(
        &self,
        _: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError> {
        let state = self.now();
        Self::silent(&state)?;
        let hidden = state.hidden_until.is_some_and(|until| Instant::now() < until);
        let found = state.transactions.iter().filter(|transaction| !hidden && Some(transaction.id) > after);
        Ok(Proved::new(found.take(limit).cloned().collect(), state.proof))
    }

    async fn send(&self, message: &Cell) -> Result<[u8; 32], ChainError> {
        let mut state = self.now();
        Self::silent(&state)?;
        state.handed.push(message.clone());
        let now = Instant::now();
        let dropped = state.drop_until.is_some_and(|until| now < until);
        let otherwise = if dropped { Fate::Drop } else { state.otherwise };
        let refused = |code| ChainError::Refused { address: Address::basechain([0; 32]), exit_code: Some(code) };
        match state.fates.pop_front().unwrap_or(otherwise) {
            Fate::Land(after) => state.pending.push((now + after, message.clone())),
            Fate::LandBehind(after) => {
                let unix_s = self.unix_s();
                state.behind.push((Some(now + after), message.clone(), unix_s));
            }
            Fate::LandOnceGivenUp => {
                let unix_s = self.unix_s();
                state.behind.push((None, message.clone(), unix_s));
            }
            Fate::Twice => state.pending.extend([(now, message.clone()), (now, message.clone())]),
            Fate::Drop => {}
            Fate::Unreachable => return Err(down()),
            Fate::Refuse(code) => return Err(refused(code)),
            Fate::RefuseAndLand(after) => {
                state.pending.push((now + after, message.clone()));
                return Err(refused(133));
            }
            Fate::Stolen => state.steal(self.unix_s()),
            Fate::LandAndCut(time) => {
                state.pending.push((now, message.clone()));
                state.down_until = Some(now + time);
            }
        }
        Ok(message.repr_hash().0)
    }

    async fn subscribe(&self, _: &Address) -> Result<channel::Receiver<Option<TxId>>, ChainError> {
        Ok(self.changes.subscribe())
    }

    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError> {
        Err(down())
    }
}
