//! What has to be sent so that the chain is as `up` wants it.
//!
//! - [`genesis`]: a network where there is none.
//! - [`compare`]: what differs from what is wanted. Images, models and the proxy's record go through the steward; the
//!   contracts of these parameters are deployed with their money; those of earlier parameters are closed, as the
//!   protocol says: a proxy and a client begin their close, wait for the delay, and take what is left.

use anyhow::{Context as _, Result};
use cocoon_attest::Role;
use cocoon_attest::policy::from_root::model_sha256;
use cocoon_ton::chain::{Account, Status};
use cocoon_ton::contract::message::client::{RequestRefund, TopUp};
use cocoon_ton::contract::message::proxy::{Close, CompleteClose, IncreaseStake};
use cocoon_ton::contract::message::root::{
    AddModel, AddProxyType, AddWorkerType, ChangeOwner, RegisterProxy, UpdateProxy,
};
use cocoon_ton::contract::message::steward::{Act, Batch};
use cocoon_ton::contract::{
    ClientState, Lifecycle, Params, Pin, ProxyRecord, ProxyState, RootState, StateInit, StewardState,
    client_state_init, codes, proxy_state_init,
};
use cocoon_ton::wallet::{Outgoing, Wallet};
use cocoon_ton::{Address, Cell};
use cocoon_units::{Multipliers, Nano};

use super::kept::{Kept, Kind};
use super::{Ground, IS_TEST, Wanted, When, image};

const TON: u64 = 1_000_000_000;
/// What the client's contract of `up` holds to begin with.
pub(super) const DEPOSIT: Nano = Nano::new(5 * TON);
/// What travels with a call beside the money that it moves; what is not used comes back.
const FOR_GAS: u64 = 200_000_000;
/// What a change of the root takes through the steward at most, and what the steward itself does.
const PER_CHANGE: u64 = 50_000_000;
/// A node's wallet begins a little above the floor below which it sends nothing.
const NODE_WALLET: Nano = Nano::new(2_200_000_000);
/// Tells the networks of `up` from others.
const UNIQUE_ID: u32 = 17;
/// How long changes of terms wait in the steward of `up`: long enough to be seen waiting, short enough to be waited for.
const LOCK_S: u32 = 60;
const DAY_S: u32 = 86_400;

/// The contracts of some parameters.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) proxy: StateInit,
    pub(super) client: StateInit,
}

impl Deployment {
    /// Those of one owner with one proxy.
    pub(super) fn of(owner: Address, root: Address, payment_key: [u8; 32], params: &Params) -> Result<Self> {
        let proxy = proxy_state_init(owner, &payment_key, root, params)?;
        let client = client_state_init(owner, proxy.address(), &payment_key, params)?;
        Ok(Self { proxy, client })
    }
}

/// A network that is to be.
#[derive(Debug)]
pub(super) struct Genesis {
    pub(super) root: Address,
    pub(super) steward: Address,
    pub(super) messages: Vec<Outgoing>,
}

/// The messages that make a network. The root is deployed in the operator's name, filled, and handed to the steward,
/// whose address depends on the root's.
pub(super) fn genesis(operator: Address, wanted: &Wanted, nodes: &[Wallet]) -> Result<Genesis> {
    let params = params();
    let state = RootState::initial(operator, params.clone());
    let init = state.state_init(codes().root.clone());
    let root = init.address();
    let steward = StewardState::initial(operator, root, LOCK_S).state_init(codes().steward.clone());
    let deployment = Deployment::of(operator, root, wanted.payment_key, &params)?;
    let mut messages = vec![Outgoing::pay(root, Nano::new(FOR_GAS)).with_state_init(init)];
    let mut changes = listed(&state, wanted);
    changes.push(RegisterProxy { query_id: 0, proxy: record(&deployment, wanted)? }.to_cell());
    changes.push(ChangeOwner { query_id: 0, owner: steward.address() }.to_cell());
    messages.extend(changes.into_iter().map(|body| Outgoing::call(root, Nano::new(PER_CHANGE), body)));
    messages.push(Outgoing::pay(steward.address(), Nano::new(FOR_GAS)).with_state_init(steward.clone()));
    let node = |wallet: &Wallet| Outgoing::pay(wallet.address(), NODE_WALLET).with_state_init(wallet.state_init());
    messages.extend(nodes.iter().map(node));
    Ok(Genesis { root, steward: steward.address(), messages })
}

/// The terms of a new network of `up`: those of the original's deployment script.
fn params() -> Params {
    Params {
        params_version: 0,
        unique_id: UNIQUE_ID,
        is_test: IS_TEST,
        price_per_token: Nano::new(2),
        worker_fee_per_token: Nano::new(1),
        multipliers: Multipliers::default(),
        proxy_delay_s: DAY_S,
        client_delay_s: DAY_S,
        min_proxy_stake: Nano::new(TON),
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
    }
}

/// What differs, as messages of the operator's wallet and in words.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) messages: Vec<Outgoing>,
    pub(super) words: Vec<String>,
}

/// Compares the chain with what is wanted. Contracts that are to be deployed are remembered in `kept`, and those that
/// are closed and empty are forgotten.
pub(super) async fn compare(
    ground: &Ground,
    kept: &mut Kept,
    root: Address,
    wanted: &Wanted,
    when: When,
) -> Result<Plan> {
    let state = ground.root(root).await?;
    let deployment = Deployment::of(ground.operator(), root, wanted.payment_key, &state.params)?;
    let mut plan = Plan::default();
    plan.stake(ground, kept, &deployment, &state.params).await?;
    plan.deposit(ground, kept, &deployment).await?;
    plan.registry(&state, &deployment, wanted, when)?;
    plan.close_old(ground, kept, &deployment).await?;
    Ok(plan)
}

impl Plan {
    /// The proxy's contract with its stake.
    async fn stake(&mut self, ground: &Ground, kept: &mut Kept, to: &Deployment, params: &Params) -> Result<()> {
        let address = to.proxy.address();
        let held = match active(&ground.account(&address).await?) {
            Some(data) => ProxyState::parse(&data)?.stake,
            None => Nano::ZERO,
        };
        let missing = params.min_proxy_stake.get().saturating_sub(held.get());
        kept.add(Kind::Proxy, address);
        if missing > 0 {
            let body =
                IncreaseStake { query_id: 0, amount: Nano::new(missing), excesses_to: ground.operator() }.to_cell();
            self.call(address, missing, body, Some(to.proxy.clone()));
            self.words.push(format!("the proxy's contract is {address}, with its stake"));
        }
        Ok(())
    }

    /// The client's contract with its deposit, which is made once: what was used of it is used.
    async fn deposit(&mut self, ground: &Ground, kept: &mut Kept, to: &Deployment) -> Result<()> {
        let address = to.client.address();
        let is_there = active(&ground.account(&address).await?).is_some();
        kept.add(Kind::Client, address);
        if !is_there {
            let body = TopUp { query_id: 0, amount: DEPOSIT, excesses_to: ground.operator() }.to_cell();
            self.call(address, DEPOSIT.get(), body, Some(to.client.clone()));
            self.words.push(format!("the client's contract is {address}, with its deposit"));
        }
        Ok(())
    }

    /// Images and models at the start, the proxy's record always.
    fn registry(&mut self, state: &RootState, to: &Deployment, wanted: &Wanted, when: When) -> Result<()> {
        let mut changes = match when {
            When::Start => listed(state, wanted),
            When::Running => models(state, wanted),
        };
        let proxy = record(to, wanted)?;
        let ours = state.registered_proxies.iter().find(|(_, known)| is_ours(known, wanted));
        match ours {
            Some((_, known)) if *known == proxy => {}
            Some((seqno, _)) => changes.push(UpdateProxy { query_id: 0, seqno: *seqno, proxy }.to_cell()),
            None if when == When::Start => changes.push(RegisterProxy { query_id: 0, proxy }.to_cell()),
            None => {}
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.words.push(format!("{} changes of the root contract", changes.len()));
        let value = PER_CHANGE.saturating_mul(u64::try_from(changes.len())?);
        let body = Act { query_id: 0, changes: Batch::new(changes)? }.to_cell();
        self.call(state.owner, value, body, None);
        Ok(())
    }

    /// Contracts of earlier parameters: the next step of their close.
    async fn close_old(&mut self, ground: &Ground, kept: &mut Kept, to: &Deployment) -> Result<()> {
        let current = [to.proxy.address(), to.client.address()];
        let mut gone = Vec::new();
        for instance in kept.instances.iter().filter(|instance| !current.contains(&instance.address)) {
            let account = ground.account(&instance.address).await?;
            let step = match (active(&account), instance.kind) {
                (None, _) => Step::Gone,
                (Some(data), Kind::Proxy) => proxy_step(&ProxyState::parse(&data)?, &account, ground.operator()),
                (Some(data), Kind::Client) => client_step(&ClientState::parse(&data)?, &account, ground.operator()),
            };
            match step {
                Step::Send(body, words) => {
                    self.call(instance.address, 0, body, None);
                    self.words.push(format!("{words} {}", instance.address));
                }
                Step::Wait => {}
                Step::Gone => gone.push(*instance),
            }
        }
        kept.instances.retain(|instance| !gone.contains(instance));
        Ok(())
    }

    fn call(&mut self, to: Address, money: u64, body: Cell, init: Option<StateInit>) {
        let value = Nano::new(money.saturating_add(FOR_GAS));
        let message = Outgoing { state_init: init, ..Outgoing::call(to, value, body) };
        self.messages.push(message);
    }
}

/// What an old contract waits for.
enum Step {
    Send(Cell, &'static str),
    Wait,
    Gone,
}

fn proxy_step(state: &ProxyState, account: &Account, excesses_to: Address) -> Step {
    match state.state {
        Lifecycle::Normal => Step::Send(Close { query_id: 0, excesses_to }.to_cell(), "closing the old proxy contract"),
        Lifecycle::Closing if account.at.unix_s >= state.unlock_unix_s => {
            Step::Send(CompleteClose { query_id: 0, excesses_to }.to_cell(), "taking the stake out of")
        }
        Lifecycle::Closing => Step::Wait,
        Lifecycle::Closed => Step::Gone,
    }
}

fn client_step(state: &ClientState, account: &Account, excesses_to: Address) -> Step {
    let refund = || RequestRefund { query_id: 0, excesses_to }.to_cell();
    match state.state {
        Lifecycle::Normal => Step::Send(refund(), "asking for the deposit of the old client contract"),
        Lifecycle::Closing if account.at.unix_s > state.unlock_unix_s => Step::Send(refund(), "taking the rest out of"),
        Lifecycle::Closing => Step::Wait,
        Lifecycle::Closed => Step::Gone,
    }
}

/// The proxy's record: where it is, and who it must turn out to be.
fn record(to: &Deployment, wanted: &Wanted) -> Result<ProxyRecord> {
    let pin = Pin { contract: to.proxy.address(), payment_key: wanted.payment_key };
    ProxyRecord::new(&wanted.workers.to_string(), &wanted.clients.to_string(), Some(pin)).context("the proxy's record")
}

fn is_ours(record: &ProxyRecord, wanted: &Wanted) -> bool {
    record.pinned().is_some_and(|pin| pin.payment_key == wanted.payment_key)
}

/// Images and models that the root does not list.
fn listed(state: &RootState, wanted: &Wanted) -> Vec<Cell> {
    let mut changes = Vec::new();
    let (proxy, worker) = (image(Role::Proxy), image(Role::Worker));
    if !state.proxy_hashes.contains(&proxy) {
        changes.push(AddProxyType { query_id: 0, hash: proxy }.to_cell());
    }
    if !state.worker_hashes.contains(&worker) {
        changes.push(AddWorkerType { query_id: 0, hash: worker }.to_cell());
    }
    changes.extend(models(state, wanted));
    changes
}

fn models(state: &RootState, wanted: &Wanted) -> Vec<Cell> {
    let hashes = wanted.models.iter().map(|name| model_sha256(name));
    let missing = hashes.filter(|hash| !state.model_hashes.contains(hash));
    missing.map(|hash| AddModel { query_id: 0, hash }.to_cell()).collect()
}

fn active(account: &Account) -> Option<Cell> {
    account.data.clone().filter(|_| account.status == Status::Active)
}
