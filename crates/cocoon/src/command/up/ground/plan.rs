//! What has to be sent so that the chain is as `up` wants it.
//!
//! - [`genesis`]: a network where there is none.
//! - [`compare`]: what differs from what is wanted. Images, models and the proxies' records go through the steward; wallets
//!   of roles that run low get money.
//!
//! What it is not: the contracts of proxy, client and workers. The roles deploy, fund, settle and close those.

use anyhow::{Context as _, Result};
use cocoon_attest::Role;
use cocoon_attest::policy::from_root::model_sha256;
use cocoon_ton::contract::message::root::{
    AddModel, AddProxyType, AddWorkerType, ChangeOwner, RegisterProxy, UnregisterProxy, UpdateProxy,
};
use cocoon_ton::contract::message::steward::{Act, Batch};
use cocoon_ton::contract::{Params, Pin, ProxyRecord, RootState, StewardState, codes, proxy_address};
use cocoon_ton::wallet::{Outgoing, WalletKind};
use cocoon_ton::{Address, Cell};
use cocoon_units::{Multipliers, Nano};

use super::{Funded, Ground, IS_TEST, Wanted, WantedProxy, When, image};

const TON: u64 = 1_000_000_000;
/// What travels with a call beside the money that it moves; what is not used comes back.
const FOR_GAS: u64 = 200_000_000;
/// What a change of the root takes through the steward at most, and what the steward itself does.
const PER_CHANGE: u64 = 50_000_000;
/// Tells the networks of `up` from others.
const UNIQUE_ID: u32 = 17;
/// How long changes of terms wait in the steward of `up`: long enough to be seen waiting, short enough to be waited for.
const LOCK_S: u32 = 60;
const DAY_S: u32 = 86_400;

/// A network that is to be.
#[derive(Debug)]
pub(super) struct Genesis {
    pub(super) root: Address,
    pub(super) steward: Address,
    pub(super) messages: Vec<Outgoing>,
}

/// The messages that make a network. The root is deployed in the operator's name, filled, and handed to the steward,
/// whose address depends on the root's.
pub(super) fn genesis(operator: Address, wanted: &Wanted) -> Result<Genesis> {
    let params = params();
    let state = RootState::initial(operator, params.clone());
    let init = state.state_init(codes().root.clone());
    let root = init.address();
    let steward = StewardState::initial(operator, root, LOCK_S).state_init(codes().steward.clone());
    let mut messages = vec![Outgoing::pay(root, Nano::new(FOR_GAS)).with_state_init(init)];
    let mut changes = listed(&state, wanted);
    for wanted in &wanted.proxies {
        let contract = proxy_address(operator, &wanted.payment_key, root, &params)?;
        changes.push(RegisterProxy { query_id: 0, proxy: record(contract, wanted)? }.to_cell());
    }
    changes.push(ChangeOwner { query_id: 0, owner: steward.address() }.to_cell());
    messages.extend(changes.into_iter().map(|body| Outgoing::call(root, Nano::new(PER_CHANGE), body)));
    messages.push(Outgoing::pay(steward.address(), Nano::new(FOR_GAS)).with_state_init(steward.clone()));
    messages.extend(wanted.wallets.iter().map(|funded| funding(funded, funded.amount)));
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

/// Compares the chain with what is wanted.
pub(super) async fn compare(ground: &Ground, root: Address, wanted: &Wanted, when: When) -> Result<Plan> {
    let state = ground.root(root).await?;
    let mut plan = Plan::default();
    plan.wallets(ground, wanted).await?;
    let contract = |proxy: &WantedProxy| {
        proxy_address(ground.operator(), &proxy.payment_key, root, &state.params).context("a proxy's address")
    };
    plan.registry(&state, contract, wanted, when)?;
    Ok(plan)
}

impl Plan {
    /// Wallets that run low.
    async fn wallets(&mut self, ground: &Ground, wanted: &Wanted) -> Result<()> {
        for funded in &wanted.wallets {
            let address = funded.wallet.address();
            let held = ground.account(&address).await?.balance.get();
            if held < funded.amount.get() / 2 {
                let missing = Nano::new(funded.amount.get().saturating_sub(held));
                self.messages.push(funding(funded, missing));
                self.words.push(format!("{} TON for the wallet {address}", missing.ton()));
            }
        }
        Ok(())
    }

    /// Images and models at the start, the proxies' records always.
    fn registry(
        &mut self,
        state: &RootState,
        contract: impl Fn(&WantedProxy) -> Result<Address>,
        wanted: &Wanted,
        when: When,
    ) -> Result<()> {
        let mut changes = match when {
            When::Start => listed(state, wanted),
            When::Running => models(state, wanted),
        };
        for wanted in &wanted.proxies {
            let proxy = record(contract(wanted)?, wanted)?;
            match known(state, &wanted.payment_key) {
                Some((_, known)) if *known == proxy => {}
                Some((seqno, _)) => changes.push(UpdateProxy { query_id: 0, seqno, proxy }.to_cell()),
                None if when == When::Start => changes.push(RegisterProxy { query_id: 0, proxy }.to_cell()),
                None => {}
            }
        }
        // Nobody is behind these any more, and every role would dial them for ever.
        let retired = wanted.retired.iter().filter_map(|key| known(state, key));
        changes.extend(retired.map(|(seqno, _)| UnregisterProxy { query_id: 0, seqno }.to_cell()));
        if changes.is_empty() {
            return Ok(());
        }
        self.words.push(format!("{} changes of the root contract", changes.len()));
        let value = PER_CHANGE.saturating_mul(u64::try_from(changes.len())?);
        let body = Act { query_id: 0, changes: Batch::new(changes)? }.to_cell();
        self.messages.push(Outgoing::call(state.owner, Nano::new(value.saturating_add(FOR_GAS)), body));
        Ok(())
    }
}

/// Money for a role's wallet, with its code where a message from outside cannot bring it.
fn funding(funded: &Funded, amount: Nano) -> Outgoing {
    let message = Outgoing::pay(funded.wallet.address(), amount);
    match funded.wallet.kind() {
        WalletKind::Cocoon { .. } => message.with_state_init(funded.wallet.state_init()),
        WalletKind::V5R1 { .. } => message,
    }
}

/// The proxy's record: where it is, and who it must turn out to be.
fn record(contract: Address, wanted: &WantedProxy) -> Result<ProxyRecord> {
    let pin = Pin { contract, payment_key: wanted.payment_key };
    ProxyRecord::new(&wanted.workers.to_string(), &wanted.clients.to_string(), Some(pin)).context("the proxy's record")
}

/// The record of the proxy with this payment key, and its number.
fn known<'a>(state: &'a RootState, payment_key: &[u8; 32]) -> Option<(u32, &'a ProxyRecord)> {
    let is_its = |record: &ProxyRecord| record.pinned().is_some_and(|pin| pin.payment_key == *payment_key);
    state.registered_proxies.iter().find(|(_, record)| is_its(record)).map(|(seqno, record)| (*seqno, record))
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
