//! What every operation costs: `contracts/GAS.md`, measured here on the devnet's engine with mainnet's prices.
//!
//! The test fails when the table is not what is measured; `cargo xtask contracts` writes it (`UPDATE_GAS=1`).

use std::fmt::Write as _;
use std::path::Path;

use cocoon_ton::contract::message::root::{
    AddModel, ChangeFees, ChangeOwner, ChangeParamsFull, DelModel, RegisterProxy, Reset, UnregisterProxy, UpdateProxy,
    UpgradeCode, UpgradeContracts,
};
use cocoon_ton::contract::message::steward::{AcceptOwner, Act, Batch, Cancel, Execute, ProposeOwner, SetDelay};
use cocoon_ton::contract::message::{client, comment, proxy, wallet, worker};
use cocoon_ton::contract::signed::{Payment, charge, close_complete, close_request, grant_refund, last_payout, payout};
use cocoon_ton::contract::{
    Params, Pin, ProxyRecord, StateInit, WalletState, client_state_init, codes, proxy_state_init, worker_state_init,
};
use cocoon_ton::{Address, Cell};
use cocoon_units::{Multiplier, Nano};
use ed25519_dalek::{Signer as _, SigningKey};
use tycho_types::cell::CellBuilder;
use tycho_types::models::{CurrencyCollection, OwnedRelaxedMessage, RelaxedIntMsgInfo, RelaxedMsgInfo, StdAddr};

use crate::contracts::scene::{
    NEXT_OWNER, OWNER, STRANGER, Scene, TON, Trace, params, person, root_init, steward_init,
};

const HEAD: &str = "\
# What the contracts cost

Measured on the embedded devnet with mainnet's configuration; the replay test shows that it charges what the official
executor charges, to the nano.
`cargo xtask contracts` writes this table, and a test fails when it is out of date.

- *gas*: units that the first contract used.
- *fees*: nano that its transaction took: gas, storage, and its part of forwarding.
- *all*: nano that the whole of it took, from the sender's wallet (a minimal one) to the last reply.

Gas grows with the registry of the root, by a few hundred units for each doubling.

| contract | message | gas | fees | all |
|---|---|---:|---:|---:|
";

/// Where change goes: an account without code, which takes what it gets without a fee.
const PURSE: Address = Address::basechain([0xbb; 32]);
const QUERY: u64 = 7;

#[test]
fn gas_table_is_what_is_measured() {
    let mut table = Table { scene: Scene::new(), text: HEAD.to_owned() };
    root(&mut table);
    steward(&mut table);
    key_wallet(&mut table);
    money(&mut table);
    leaving(&mut table);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/GAS.md");
    if std::env::var_os("UPDATE_GAS").is_some() {
        std::fs::write(&path, &table.text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == table.text, "contracts/GAS.md is out of date: run `cargo xtask contracts`");
}

struct Table {
    scene: Scene,
    text: String,
}

impl Table {
    /// Sends and writes a row.
    fn row(&mut self, contract: &str, what: &str, (from, to): (u32, Address), value: u64, body: Cell) {
        let burnt = self.scene.engine.burnt_nano();
        let trace = self.scene.send(from, to, value, body);
        self.write(contract, what, to, &trace, burnt);
    }

    fn write(&mut self, contract: &str, what: &str, to: Address, trace: &Trace, burnt: u128) {
        assert_eq!(trace.exit(to), 0, "{contract}: {what}");
        let first = trace.0.iter().find(|one| one.account == to).unwrap();
        let all = self.scene.engine.burnt_nano() - burnt;
        let (gas, fees) = (first.outcome.gas, first.fees.get());
        writeln!(self.text, "| {contract} | {what} | {gas} | {fees} | {all} |").unwrap();
    }
}

fn root(table: &mut Table) {
    let root = table.scene.deploy(root_init(person(OWNER)), TON);
    let codes = codes();
    let hash = [1; 32];
    let plain = ProxyRecord::new("192.0.2.1:9000", "192.0.2.1:9001", None).unwrap();
    let pin = Pin { contract: PURSE, payment_key: [2; 32] };
    let pinned = ProxyRecord::new("192.0.2.1:9000", "192.0.2.1:9001", Some(pin)).unwrap();
    for (what, body) in [
        ("add an image or a model", AddModel { query_id: QUERY, hash }.to_cell()),
        ("delete an image or a model", DelModel { query_id: QUERY, hash }.to_cell()),
        ("register a proxy", RegisterProxy { query_id: QUERY, proxy: plain }.to_cell()),
        ("register a proxy, pinned", RegisterProxy { query_id: QUERY, proxy: pinned.clone() }.to_cell()),
        ("update a proxy", UpdateProxy { query_id: QUERY, seqno: 1, proxy: pinned }.to_cell()),
        ("unregister a proxy", UnregisterProxy { query_id: QUERY, seqno: 1 }.to_cell()),
        ("change prices", price()),
        ("change all parameters", all_params()),
        (
            "change the contracts' code",
            UpgradeContracts {
                query_id: QUERY,
                proxy: codes.proxy.clone(),
                worker: codes.worker.clone(),
                client: codes.client.clone(),
            }
            .to_cell(),
        ),
        ("change its code", UpgradeCode { query_id: QUERY, code: codes.root.clone() }.to_cell()),
        ("reset", Reset { query_id: QUERY }.to_cell()),
        ("change the owner", ChangeOwner { query_id: QUERY, owner: person(NEXT_OWNER) }.to_cell()),
    ] {
        table.row("root", what, (OWNER, root), TON, body);
    }
}

fn price() -> Cell {
    ChangeFees { query_id: QUERY, price_per_token: Nano::new(21), worker_fee_per_token: Nano::new(16) }.to_cell()
}

fn all_params() -> Cell {
    ChangeParamsFull {
        query_id: QUERY,
        price_per_token: Nano::new(21),
        worker_fee_per_token: Nano::new(16),
        prompt: Multiplier::ONE,
        cached: Multiplier::ONE,
        completion: Multiplier::ONE,
        reasoning: Multiplier::ONE,
        proxy_delay_s: 1,
        client_delay_s: 1,
        min_proxy_stake: Nano::new(TON),
        min_client_stake: Nano::new(TON),
    }
    .to_cell()
}

fn steward(table: &mut Table) {
    let delay_s = 1000;
    let root = table.scene.deploy(root_init(person(STRANGER)), TON);
    let steward = table.scene.deploy(steward_init(root, delay_s), TON / 50);
    let hand_over = ChangeOwner { query_id: QUERY, owner: steward }.to_cell();
    assert_eq!(table.scene.send(STRANGER, root, TON, hand_over).exit(root), 0);
    let act = |bodies: Vec<Cell>| Act { query_id: QUERY, changes: Batch::new(bodies).unwrap() }.to_cell();
    let model = |hash| AddModel { query_id: QUERY, hash: [hash; 32] }.to_cell();
    let owner = (OWNER, steward);
    table.row("steward", "one change at once", owner, TON, act(vec![model(1)]));
    table.row("steward", "32 changes at once", owner, 3 * TON, act((2..34).map(model).collect()));
    table.row("steward", "one change that waits", owner, TON, act(vec![price()]));
    table.row("steward", "two changes that wait", owner, TON, act(vec![price(), all_params()]));
    let delay = SetDelay { query_id: QUERY, delay_s }.to_cell();
    table.row("steward", "a change of the delay that waits", owner, TON, act(vec![delay]));
    table.row("steward", "cancel", owner, TON, Cancel { query_id: QUERY, id: 1 }.to_cell());
    table.scene.wait(delay_s);
    table.row("steward", "execute", owner, TON, Execute { query_id: QUERY, id: 0 }.to_cell());
    table.row("steward", "execute a change of the delay", owner, TON, Execute { query_id: QUERY, id: 3 }.to_cell());
    let propose = ProposeOwner { query_id: QUERY, owner: person(NEXT_OWNER) }.to_cell();
    table.row("steward", "propose an owner", owner, TON, propose);
    table.row("steward", "accept", (NEXT_OWNER, steward), TON, AcceptOwner { query_id: QUERY }.to_cell());
}

fn key_wallet(table: &mut Table) {
    let key = SigningKey::from_bytes(&[5; 32]);
    let state = WalletState::initial(key.verifying_key().to_bytes(), person(OWNER));
    let wallet = table.scene.deploy(state.state_init(codes().wallet.clone()), 10 * TON);
    for (seqno, count) in [(0, 1), (1, 4)] {
        let messages = vec![(3, payment()); count];
        let order = wallet::Order::new(0, table.scene.now + 60, seqno, messages).unwrap();
        let signature = key.sign(&order.signing_hash()).to_bytes();
        let burnt = table.scene.engine.burnt_nano();
        let trace = table.scene.submit(wallet, order.signed(signature).to_cell(), None).unwrap();
        table.write("wallet", &format!("send {count} from outside"), wallet, &trace, burnt);
    }
    let send = wallet::OwnerSend { query_id: QUERY, mode: 1, message: payment() };
    for (what, body) in [
        ("send for the owner", send.to_cell()),
        ("block", comment("b")),
        ("unblock", comment("u")),
        ("withdraw all", comment("w")),
    ] {
        table.row("wallet", what, (OWNER, wallet), TON, body);
    }
}

fn payment() -> Cell {
    CellBuilder::build_from(OwnedRelaxedMessage {
        info: RelaxedMsgInfo::Int(RelaxedIntMsgInfo {
            dst: StdAddr::from(PURSE).into(),
            value: CurrencyCollection::new(u128::from(TON)),
            ..RelaxedIntMsgInfo::default()
        }),
        init: None,
        body: Cell::default().into(),
        layout: None,
    })
    .unwrap()
}

/// A proxy with one client and one worker.
struct Trio {
    key: SigningKey,
    proxy: Address,
    client: Address,
    worker: Address,
}

impl Trio {
    fn deploy(scene: &mut Scene, unique_id: u32) -> Self {
        let params = Params { unique_id, proxy_delay_s: 1000, client_delay_s: 500, ..params() };
        let key = SigningKey::from_bytes(&[6; 32]);
        let public = key.verifying_key().to_bytes();
        let at = |init: &StateInit| init.address();
        let proxy = proxy_state_init(person(OWNER), &public, PURSE, &params).unwrap();
        let client = client_state_init(person(OWNER), at(&proxy), &public, &params).unwrap();
        let worker = worker_state_init(person(OWNER), at(&proxy), &public, &params).unwrap();
        let trio = Self { key, proxy: at(&proxy), client: at(&client), worker: at(&worker) };
        for init in [proxy, client, worker] {
            scene.deploy(init, TON / 5);
        }
        trio
    }

    fn signed(&self, payment: Payment) -> Cell {
        payment.sign(&self.key).envelope(PURSE)
    }

    fn top_up(&self) -> Cell {
        client::TopUp { query_id: QUERY, amount: Nano::new(5 * TON), excesses_to: PURSE }.to_cell()
    }
}

/// What happens while everybody stays.
fn money(table: &mut Table) {
    let trio = Trio::deploy(&mut table.scene, 17);
    let (excesses_to, query_id) = (PURSE, QUERY);
    let (own_client, own_worker, own_proxy) = ((OWNER, trio.client), (OWNER, trio.worker), (OWNER, trio.proxy));
    let register = client::Register { query_id, nonce: 1, excesses_to }.to_cell();
    let secret = client::ChangeSecretHash { query_id, secret_hash: [1; 32], excesses_to }.to_cell();
    let stake = client::IncreaseStake { query_id, stake: Nano::new(2 * TON), excesses_to }.to_cell();
    let withdraw = client::Withdraw { query_id, excesses_to }.to_cell();
    table.row("client", "top up", own_client, 6 * TON, trio.top_up());
    table.row("client", "register", own_client, TON, register);
    table.row("client", "change the secret", own_client, TON, secret);
    table.row("client", "increase the stake", own_client, TON, stake);
    table.row("client", "charge", (STRANGER, trio.client), TON, trio.signed(charge(trio.client, QUERY, 100_000_000)));
    table.row("client", "withdraw", own_client, TON, withdraw);
    table.row("worker", "register", own_worker, TON, worker::Register { query_id, excesses_to }.to_cell());
    let paid = trio.signed(payout(trio.worker, QUERY, 50_000_000));
    table.row("worker", "payout", (STRANGER, trio.worker), TON, paid);
    let too_much = trio.signed(payout(trio.worker, QUERY, 200_000_000));
    table.row("worker", "payout beyond the proxy's funds", (STRANGER, trio.worker), TON, too_much);
    let add = proxy::ChargePaid { query_id, amount: Nano::new(5 * TON), excesses_to }.to_cell();
    table.row("proxy", "charge, by hand", (STRANGER, trio.proxy), 6 * TON, add);
    let claim = worker::Claim { query_id, excesses_to }.to_cell();
    table.row("worker", "claim what was unpaid", (STRANGER, trio.worker), TON, claim);
    let stake = proxy::IncreaseStake { query_id, amount: Nano::new(TON), excesses_to }.to_cell();
    table.row("proxy", "increase the stake", (STRANGER, trio.proxy), 2 * TON, stake);
    let request = proxy::PayoutRequest { query_id, excesses_to }.to_cell();
    table.row("proxy", "pay the commission", (STRANGER, trio.proxy), TON, request);
    table.row("proxy", "withdraw (`w`)", own_proxy, TON, comment("w"));
}

/// What happens when somebody goes.
fn leaving(table: &mut Table) {
    let (excesses_to, query_id) = (PURSE, QUERY);
    let trio = Trio::deploy(&mut table.scene, 18);
    let refund = || client::RequestRefund { query_id, excesses_to }.to_cell();
    table.scene.send(OWNER, trio.client, 6 * TON, trio.top_up());
    table.row("client", "ask for the refund", (OWNER, trio.client), TON, refund());
    table.scene.wait(501);
    table.row("client", "take the refund", (OWNER, trio.client), TON, refund());
    table.scene.send(STRANGER, trio.client, TON, Cell::default());
    table.row("client", "take what came later", (OWNER, trio.client), TON, refund());
    let last = trio.signed(last_payout(trio.worker, QUERY, 1));
    table.row("worker", "last payout", (STRANGER, trio.worker), TON, last);
    table.row("worker", "leave", (OWNER, trio.worker), TON, worker::Close { query_id, excesses_to }.to_cell());
    table.row("proxy", "close", (OWNER, trio.proxy), TON, proxy::Close { query_id, excesses_to }.to_cell());
    table.scene.wait(1000);
    let complete = proxy::CompleteClose { query_id, excesses_to }.to_cell();
    table.row("proxy", "complete the close", (OWNER, trio.proxy), TON, complete);

    let trio = Trio::deploy(&mut table.scene, 19);
    table.scene.send(OWNER, trio.client, 6 * TON, trio.top_up());
    let grant = trio.signed(grant_refund(trio.client, QUERY, 100_000_000));
    table.row("client", "last charge and refund", (STRANGER, trio.client), TON, grant);
    let close = trio.signed(close_request(trio.proxy, QUERY));
    table.row("proxy", "close, signed", (STRANGER, trio.proxy), TON, close);
    table.scene.wait(1000);
    let complete = trio.signed(close_complete(trio.proxy, QUERY));
    table.row("proxy", "complete the close, signed", (STRANGER, trio.proxy), TON, complete);
}
