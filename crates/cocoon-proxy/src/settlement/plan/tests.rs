//! Plans against a model of the contracts: whatever is planned is done as the contracts would do it, and then nothing
//! was charged that was not committed, no fee was too high for its amount, and all money is where it belongs.

use proptest::prelude::*;

use super::*;

const TON: u64 = 1_000_000_000;
const PROXY: Address = Address::basechain([1; 32]);
const OWNER: Address = Address::basechain([2; 32]);

const fn at(side: u8, number: u8) -> Address {
    let mut account = [side; 32];
    account[0] = number;
    Address::basechain(account)
}

fn proxy(leaving: Option<Leaving>) -> ProxyView {
    ProxyView {
        contract: PROXY,
        leaving,
        lifecycle: Lifecycle::Normal,
        balance: 0,
        stake: TON,
        funds: TON,
        unlock_unix_s: 0,
        price: 1_000_000,
        worker_fee: 900_000,
    }
}

fn client(number: u8, tokens: u64) -> ClientView {
    ClientView {
        contract: at(3, number),
        proxy: PROXY,
        known: tokens,
        committed: tokens,
        in_flight: 0,
        shut: false,
        lifecycle: Lifecycle::Normal,
        balance: 20 * TON,
        stake: 10 * TON,
        charged: 0,
        due: 0,
        unlock_unix_s: 0,
    }
}

fn worker(number: u8, tokens: u64) -> WorkerView {
    WorkerView {
        contract: at(4, number),
        proxy: PROXY,
        known: tokens,
        committed: tokens,
        deployed: true,
        owner: Some(OWNER),
        lifecycle: Lifecycle::Normal,
        paid: 0,
        unpaid_worker: 0,
        unpaid_proxy: 0,
    }
}

/// A plan for one instance.
#[derive(Debug, Clone)]
struct Model {
    rules: SettlementConfig,
    fees: Fees,
    now: u32,
    proxy: ProxyView,
    clients: Vec<ClientView>,
    workers: Vec<WorkerView>,
    incomplete: bool,
    collect: bool,
    /// What owners got.
    paid_out: u64,
}

impl Model {
    fn new(proxy: ProxyView, clients: Vec<ClientView>, workers: Vec<WorkerView>) -> Self {
        let (rules, fees) = (SettlementConfig::default(), Fees::default());
        Self { rules, fees, now: 1_000, proxy, clients, workers, incomplete: false, collect: false, paid_out: 0 }
    }

    fn plan(&self) -> Plan {
        plan(&Scene {
            rules: &self.rules,
            fees: self.fees,
            chain_unix_s: self.now,
            proxies: vec![self.proxy],
            clients: self.clients.clone(),
            workers: self.workers.clone(),
            incomplete: self.incomplete,
            busy: BTreeMap::new(),
            collect: self.collect,
        })
    }

    fn kinds(&self) -> Vec<Kind> {
        self.plan().actions.iter().map(|action| action.kind).collect()
    }

    /// All money that is in these contracts, or came out of them.
    fn money(&self) -> u64 {
        let clients: u64 = self.clients.iter().map(|client| client.balance + client.due).sum();
        clients + self.proxy.funds + self.paid_out
    }

    /// Does what the contracts do.
    fn apply(&mut self, action: &Action) {
        let price = self.proxy.price;
        match action.kind {
            Kind::Charge | Kind::Grant => {
                let client = self.clients.iter_mut().find(|client| client.contract == action.contract).unwrap();
                assert!(action.tokens <= client.committed, "never above what is committed");
                assert!(action.tokens >= client.charged);
                assert!(client.lifecycle != Lifecycle::Closing || self.now <= client.unlock_unix_s, "too late");
                let tokens =
                    (action.tokens - client.charged).min(client.balance.checked_div(price).unwrap_or(u64::MAX));
                let taken = tokens * price + client.due;
                assert_eq!(Nano::new(taken), action.amount, "what was planned is what is taken");
                client.charged += tokens;
                client.balance -= tokens * price;
                client.due = 0;
                self.proxy.funds += taken;
                if action.kind == Kind::Grant {
                    self.paid_out += client.balance;
                    client.balance = 0;
                    client.lifecycle = Lifecycle::Closed;
                }
            }
            Kind::Payout | Kind::LastPayout | Kind::Claim => {
                let worker = self.workers.iter_mut().find(|worker| worker.contract == action.contract).unwrap();
                if action.kind != Kind::Claim {
                    assert!(action.tokens <= worker.committed, "never above what is committed");
                    assert!(action.tokens >= worker.paid && worker.lifecycle != Lifecycle::Closed);
                    let new = action.tokens - worker.paid;
                    worker.paid = action.tokens;
                    worker.unpaid_worker += new * self.proxy.worker_fee;
                    worker.unpaid_proxy += new * price.saturating_sub(self.proxy.worker_fee);
                }
                worker.deployed = true;
                let paid = worker.unpaid_worker.min(self.proxy.funds);
                self.proxy.balance += std::mem::take(&mut worker.unpaid_proxy);
                worker.unpaid_worker -= paid;
                self.proxy.funds -= paid;
                self.paid_out += paid;
                if action.kind == Kind::LastPayout {
                    worker.lifecycle = Lifecycle::Closed;
                }
            }
            Kind::Withdraw => {
                let paid = self.proxy.balance.min(self.proxy.funds.saturating_sub(self.proxy.stake));
                assert_eq!(Nano::new(paid), action.amount, "what was planned is what is paid");
                self.proxy.balance -= paid;
                self.proxy.funds -= paid;
                self.paid_out += paid;
            }
            Kind::CloseRequest => {
                assert_eq!(self.proxy.lifecycle, Lifecycle::Normal);
                self.proxy.lifecycle = Lifecycle::Closing;
                self.proxy.unlock_unix_s = self.now + 100;
            }
            Kind::CloseComplete => {
                assert!(self.proxy.lifecycle == Lifecycle::Closing && self.now >= self.proxy.unlock_unix_s);
                let owed = self.proxy.stake + self.proxy.balance;
                let paid = owed.min(self.proxy.funds);
                self.proxy.lifecycle = Lifecycle::Closed;
                self.proxy.stake = 0;
                self.proxy.balance = owed - paid;
                self.proxy.funds -= paid;
                self.paid_out += paid;
            }
        }
    }

    /// Plans and does until nothing is planned any more; time passes where only that is waited for.
    fn run(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..1_000 {
            let plan = self.plan();
            if plan.actions.is_empty() {
                if self.proxy.lifecycle == Lifecycle::Closing && self.now <= self.proxy.unlock_unix_s {
                    self.now = self.proxy.unlock_unix_s + 1;
                    continue;
                }
                return done;
            }
            // All of a plan may be under way at once.
            for action in plan.actions {
                self.apply(&action);
                done.push(action);
            }
        }
        panic!("it never ends: {done:#?}");
    }
}

#[test]
fn a_client_is_charged_at_its_threshold_and_pays_its_workers() {
    let mut model = Model::new(proxy(None), vec![client(1, 999)], vec![worker(1, 999)]);
    assert_eq!(model.kinds(), []);
    model.clients[0].committed = 1_000;
    assert_eq!(model.kinds(), [Kind::Charge]);
    model.clients[0].committed = 12_000;
    model.workers[0].committed = 12_000;
    model.workers[0].known = 12_000;
    let kinds: Vec<_> = model.run().iter().map(|action| action.kind).collect();
    assert_eq!(kinds, [Kind::Charge, Kind::Payout]);
    assert_eq!(model.workers[0].paid, 12_000);
    assert_eq!((model.proxy.funds, model.proxy.balance), (TON + 1_200 * 1_000_000, 1_200 * 1_000_000));
}

#[test]
fn credit_that_ends_is_charged_before_the_threshold() {
    let mut model = Model::new(proxy(None), vec![client(1, 950)], Vec::new());
    assert_eq!(model.kinds(), []);
    model.clients[0].stake = 1_900 * 1_000_000;
    assert_eq!(model.kinds(), [Kind::Charge], "half of what is secured is used");
}

#[test]
fn a_small_stake_is_not_charged_for_more_than_two_percent() {
    let mut small = client(1, 899);
    small.stake = TON;
    let mut model = Model::new(proxy(None), vec![small], Vec::new());
    let plan = model.plan();
    assert_eq!(plan.actions, [], "the fee would be more than 2 %");
    assert_eq!((plan.sums.uncharged, plan.sums.dust), (899_000_000, 899_000_000), "it is shown");
    (model.clients[0].committed, model.clients[0].known) = (900, 900);
    assert_eq!(model.kinds(), [Kind::Charge], "half of its credit is used, and it is worth the fee");
    // One that secures less can never owe as much, and is charged when it is told so, or when it leaves.
    model.clients[0].stake = 200 * 1_000_000;
    (model.clients[0].committed, model.clients[0].known) = (200, 200);
    assert_eq!(model.kinds(), []);
    model.clients[0].lifecycle = Lifecycle::Closing;
    (model.clients[0].unlock_unix_s, model.clients[0].shut) = (5_000, true);
    assert_eq!(model.kinds(), [Kind::Grant]);
    model.clients[0].lifecycle = Lifecycle::Normal;
    model.collect = true;
    assert_eq!(model.kinds(), [Kind::Charge]);
}

#[test]
fn a_stranger_cannot_make_fees_look_dear() {
    let mut ordinary = client(1, 960);
    ordinary.stake = TON;
    let mut model = Model::new(proxy(None), vec![ordinary, client(2, 3_000)], Vec::new());
    for kind in [Kind::Charge, Kind::Grant, Kind::Payout] {
        model.fees.measured(kind, Nano::new(1_000 * TON));
    }
    assert_eq!(model.kinds(), [Kind::Charge], "a charge goes on, and teaches the true fee again");
    model.clients.truncate(1);
    assert_eq!(model.kinds(), []);
    for _ in 0..12 {
        model.fees.fade();
    }
    assert_eq!(model.kinds(), [Kind::Charge], "where none goes on, time teaches it");
}

#[test]
fn no_payout_takes_the_stake_or_what_another_takes() {
    let mut model = Model::new(proxy(None), Vec::new(), vec![worker(1, 20_000), worker(2, 20_000)]);
    assert_eq!(model.kinds(), []);
    model.proxy.funds = TON + 18_000 * 1_000_000;
    assert_eq!(model.kinds(), [Kind::Payout], "there is enough for one of them");
    model.proxy.stake = 2 * TON;
    assert_eq!(model.kinds(), []);
}

#[test]
fn the_commission_waits_for_workers() {
    let mut model = Model::new(proxy(None), Vec::new(), vec![worker(1, 5_000)]);
    model.proxy.balance = 30 * TON;
    let (stake, workers) = (TON, 4_500_000_000);
    model.proxy.funds = stake + workers + 30 * TON;
    let plan = model.plan();
    assert_eq!((plan.actions[0].kind, plan.actions[0].amount), (Kind::Withdraw, Nano::new(30 * TON)));
    model.incomplete = true;
    assert_eq!(model.kinds(), [], "somebody else may be owed");
}

#[test]
fn a_withdrawal_does_not_take_what_workers_are_owed() {
    let mut model = Model::new(proxy(None), Vec::new(), vec![worker(1, 5_000)]);
    model.proxy.balance = 30 * TON;
    // Nothing asks the contract for a part of it: it pays the smaller of the commission and the funds above the stake.
    for funds in [16 * TON, 35 * TON, 35_500_000_000 - 1] {
        model.proxy.funds = funds;
        assert_eq!(model.kinds(), []);
    }
    model.proxy.funds = 35_500_000_000;
    for action in model.run() {
        assert_eq!((action.kind, action.amount), (Kind::Withdraw, Nano::new(30 * TON)));
    }
    assert_eq!(model.proxy.funds, TON + 4_500_000_000, "the stake, and the worker's");
}

#[test]
fn accounts_that_were_not_read_yet_keep_a_close_open() {
    for why in [Leaving::ByCommand, Leaving::Moved] {
        let mut model = Model::new(proxy(Some(why)), Vec::new(), vec![worker(1, 5_000)]);
        (model.proxy.lifecycle, model.proxy.unlock_unix_s) = (Lifecycle::Closing, 10);
        model.incomplete = true;
        assert_eq!(model.kinds(), [], "a client that was not read may owe what this worker is paid from");
        model.workers.clear();
        assert_eq!(model.kinds(), [], "nor is it over");
        model.proxy.lifecycle = Lifecycle::Closed;
        assert_eq!(model.plan().over, []);
        // What is known of is settled meanwhile.
        model.clients = vec![ClientView { shut: true, ..client(1, 5_000) }];
        assert_eq!(model.kinds(), [Kind::Grant]);
        model.clients.clear();
        model.incomplete = false;
        assert_eq!(model.plan().over, [PROXY]);
    }
}

#[test]
fn unpaid_claims_are_asked_for_when_there_are_funds() {
    let mut model = Model::new(proxy(None), Vec::new(), vec![worker(1, 0)]);
    model.workers[0].unpaid_worker = 2 * TON;
    assert_eq!(model.kinds(), []);
    model.proxy.funds = 3 * TON;
    assert_eq!(model.kinds(), [Kind::Claim]);
    model.workers[0].lifecycle = Lifecycle::Closed;
    assert_eq!(model.kinds(), [Kind::Claim], "a closed worker is owed as well");
}

#[test]
fn a_client_in_its_delay_is_charged_in_time() {
    let mut leaving = client(1, 300);
    leaving.lifecycle = Lifecycle::Closing;
    leaving.unlock_unix_s = 5_000;
    leaving.in_flight = 1;
    let mut model = Model::new(proxy(None), vec![leaving], Vec::new());
    assert_eq!(model.kinds(), [], "an answer runs, and there is time");
    model.now = 5_000 - CLOSE_MARGIN_S + 1;
    assert_eq!(model.kinds(), [Kind::Charge]);
    model.clients[0].in_flight = 0;
    assert_eq!(model.kinds(), [Kind::Charge], "new requests were not ruled out when they were counted");
    model.clients[0].shut = true;
    assert_eq!(model.kinds(), [Kind::Grant]);
    model.now = 5_001;
    let plan = model.plan();
    assert_eq!((plan.actions.len(), plan.sums.lost), (0, 300_000_000), "after the delay it would be refused");
    model.now = 1_000;
    model.clients[0].committed = 10;
    model.clients[0].known = 10;
    let plan = model.plan();
    assert_eq!((plan.actions.len(), plan.sums.dust), (0, 10_000_000), "less than its fee");
}

#[test]
fn by_command_dust_is_collected() {
    let mut model = Model::new(proxy(None), vec![client(1, 1)], vec![worker(1, 1)]);
    (model.proxy.balance, model.proxy.funds) = (5, 2 * TON);
    assert_eq!(model.kinds(), []);
    model.collect = true;
    let kinds: Vec<_> = model.run().iter().map(|action| action.kind).collect();
    assert_eq!(kinds, [Kind::Charge, Kind::Withdraw, Kind::Payout, Kind::Withdraw], "what the payout added, too");
    assert_eq!(model.proxy.balance, 0);
}

#[test]
fn busy_contracts_are_left_alone() {
    let model = Model::new(proxy(None), vec![client(1, 5_000)], Vec::new());
    let busy = BTreeMap::from([(at(3, 1), Nano::ZERO)]);
    let scene = Scene {
        rules: &model.rules,
        fees: model.fees,
        chain_unix_s: model.now,
        proxies: vec![model.proxy],
        clients: model.clients.clone(),
        workers: Vec::new(),
        incomplete: false,
        busy,
        collect: false,
    };
    assert_eq!(plan(&scene).actions, []);
}

fn any_lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![4 => Just(Lifecycle::Normal), 1 => Just(Lifecycle::Closing), 1 => Just(Lifecycle::Closed)]
}

prop_compose! {
    fn any_client()(
        charged in 0..3_000_u64, ahead in 0..15_000_u64, unseen in prop_oneof![2 => Just(0), 1 => 0..500_u64],
        balance in 0..30 * TON, stake in 0..10 * TON, due in prop_oneof![3 => Just(0), 1 => 0..2 * TON],
        in_flight in prop_oneof![3 => Just(0_u64), 1 => Just(1)], shut: bool, lifecycle in any_lifecycle(),
        unlock_unix_s in 500..3_000_u32,
    ) -> ClientView {
        let (committed, unlock_unix_s) = (charged + ahead, if lifecycle == Lifecycle::Normal { 0 } else { unlock_unix_s });
        let balance = if lifecycle == Lifecycle::Closed { 0 } else { balance };
        ClientView {
            contract: PROXY, proxy: PROXY, known: committed + unseen, committed, in_flight, shut, lifecycle, balance, stake,
            charged, due, unlock_unix_s,
        }
    }
}

prop_compose! {
    fn any_worker()(
        paid in 0..3_000_u64, ahead in 0..30_000_u64, unseen in prop_oneof![2 => Just(0), 1 => 0..500_u64],
        deployed: bool, has_owner: bool, unpaid in prop_oneof![3 => Just(0), 1 => 0..5 * TON],
        closed in prop_oneof![5 => Just(false), 1 => Just(true)],
    ) -> WorkerView {
        let committed = paid + ahead;
        let deployed = deployed || paid > 0 || unpaid > 0 || closed;
        WorkerView {
            contract: PROXY, proxy: PROXY, known: committed + unseen, committed, deployed,
            owner: has_owner.then_some(OWNER), lifecycle: if closed { Lifecycle::Closed } else { Lifecycle::Normal }, paid,
            unpaid_worker: unpaid, unpaid_proxy: unpaid / 9,
        }
    }
}

prop_compose! {
    fn any_model()(
        clients in prop::collection::vec(any_client(), 0..6), workers in prop::collection::vec(any_worker(), 0..6),
        balance in 0..20 * TON, funds in 0..60 * TON,
        leaving in prop_oneof![3 => Just(None), 1 => Just(Some(Leaving::Moved)), 1 => Just(Some(Leaving::ByCommand))],
    ) -> Model {
        let name = |side, number: usize| at(side, u8::try_from(number).unwrap());
        let clients = clients.into_iter().enumerate();
        let clients = clients.map(|(number, client)| ClientView { contract: name(3, number), ..client }).collect();
        let workers = workers.into_iter().enumerate();
        let workers = workers.map(|(number, worker)| WorkerView { contract: name(4, number), ..worker }).collect();
        Model::new(ProxyView { balance, funds, ..proxy(leaving) }, clients, workers)
    }
}

proptest! {
    /// The checks of `apply` hold as well: what is planned is what the contracts take, and never too late.
    #[test]
    fn no_plan_overcharges_wastes_fees_or_loses_money(mut model in any_model()) {
        let money = model.money();
        for action in model.run() {
            let fee = model.fees.of(action.kind).get();
            let is_closing = model.proxy.leaving.is_some() || action.kind == Kind::Grant || {
                let client = model.clients.iter().find(|client| client.contract == action.contract);
                client.is_some_and(|client| client.lifecycle != Lifecycle::Normal)
            };
            prop_assert!(is_closing || action.amount.get() > fee, "a fee above what it brings: {:?}", action);
            if !is_closing {
                prop_assert!(fee * 100 <= action.amount.get() * 2, "a fee above 2 %: {:?}", action);
            }
            if action.kind == Kind::Grant && model.proxy.leaving != Some(Leaving::ByCommand) {
                prop_assert!(action.amount.get() > fee, "a close that costs more than it brings: {:?}", action);
            }
        }
        prop_assert_eq!(model.money(), money, "conserved");
    }

    /// By command all that can be settled is, whatever the fees.
    #[test]
    fn a_close_by_command_leaves_nothing(mut model in any_model()) {
        model.proxy.leaving = Some(Leaving::ByCommand);
        for client in &mut model.clients {
            (client.in_flight, client.shut, client.known) = (0, true, client.committed);
        }
        for worker in &mut model.workers {
            (worker.known, worker.owner) = (worker.committed, Some(OWNER));
        }
        model.run();
        let plan = model.plan();
        prop_assert_eq!(plan.actions, []);
        prop_assert_eq!(plan.over, [PROXY]);
        prop_assert_eq!(model.proxy.lifecycle, Lifecycle::Closed);
        for client in &model.clients {
            let left = client.lifecycle == Lifecycle::Closing && model.now > client.unlock_unix_s;
            prop_assert!(client.lifecycle == Lifecycle::Closed || left, "{:?}", client);
        }
    }
}
