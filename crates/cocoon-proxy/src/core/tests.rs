//! The core on a virtual clock: tables through one `check`, then random histories against its
//! invariants.

mod hostile;
mod money;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_units::{AdjustedTokens, Coefficient, Multipliers};
use cocoon_wire::RequestId;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::message::{Proof, TokensUsed};
use proptest::prelude::*;

use super::*;
use crate::limits::{CANCEL_GRACE, EARLY_CANCELS_MAX, UNCANCELLABLE_GRACE};

fn config() -> CoreConfig {
    CoreConfig {
        multipliers: Multipliers::default(),
        stake: AdjustedTokens::new(1_000_000),
        exposure: None,
        queue_max: 2,
        queue_timeout: Duration::from_secs(5),
        client_in_flight_max: 4,
    }
}

fn tokens(total: u64) -> TokensUsed {
    TokensUsed { completion: AdjustedTokens::new(total), total: AdjustedTokens::new(total), ..TokensUsed::default() }
}

fn claimed(total: u64) -> Word {
    Word::Claimed(tokens(total))
}

/// A word of any kind.
fn any_word(used: u64) -> Word {
    let proof = Proof { receipt: Bytes::from_static(b"receipt"), evidence: None };
    match used % 5 {
        0 => Word::Nothing,
        1 => Word::Unproved,
        2 | 3 => Word::Proved { tokens: tokens(used), proof },
        _ => claimed(used),
    }
}

fn failure(blame: Blame, code: FailureCode) -> Failure {
    Failure::new(blame, code, "as told by a test")
}

/// A core, its clock, and short words for what happens to it.
struct Bench {
    core: Core,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: CoreConfig) -> Self {
        let mut bench = Self { core: Core::new(config), now: Instant::now() };
        bench.feed(Event::ClientJoined { client: ClientId(1), account: "payer".into() });
        bench
    }

    fn feed(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.core.handle(self.now, event, &mut actions);
        self.core.requests.assert_sound();
        self.core.ledger.assert_conserved();
        actions
    }

    fn words(&mut self, event: Event) -> String {
        let actions = self.feed(event);
        actions.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn after(&mut self, wait: Duration) -> String {
        self.now += wait;
        self.words(Event::Tick)
    }

    fn worker(&mut self, worker: u64, coefficient: u32, slots: u32) -> String {
        self.words(joined(worker, coefficient, slots, CancelSupport::Yes))
    }

    fn run(&mut self, key: u64) -> String {
        self.words(Event::Run(query(key)))
    }

    fn started(&mut self, key: u64, worker: u64) -> String {
        self.words(Event::AnswerStarted { key: RequestKey(key), worker: WorkerId(worker) })
    }

    fn ended(&mut self, key: u64, worker: u64, used: u64) -> String {
        self.words(Event::Ended { key: RequestKey(key), worker: WorkerId(worker), word: claimed(used) })
    }

    fn failed(&mut self, key: u64, worker: u64, blame: Blame, code: FailureCode) -> String {
        let failure = failure(blame, code);
        self.words(Event::Failed { key: RequestKey(key), worker: WorkerId(worker), failure, word: claimed(0) })
    }

    fn cancel(&mut self, id: u8) -> String {
        self.words(Event::Cancelled { client: ClientId(1), request_id: RequestId::new([id; 32]) })
    }

    fn leave(&mut self, worker: u64) -> String {
        self.words(Event::WorkerLeft { worker: WorkerId(worker) })
    }

    /// What the first client was charged.
    fn used(&self) -> u64 {
        let (_, account) = self.core.client_account(ClientId(1)).unwrap();
        account.marks.known.get()
    }

    fn earned(&self, worker: u64) -> u64 {
        let payee = self.core.worker_account(WorkerId(worker)).unwrap();
        self.core.ledger().payee(payee).known.get()
    }
}

fn joined(worker: u64, coefficient: u32, slots: u32, cancel: CancelSupport) -> Event {
    let profile = WorkerProfile {
        account: format!("payee {worker}"),
        model: "m".into(),
        coefficient: Coefficient::from_thousandths(coefficient),
        slots,
        enabled: true,
        cancel,
    };
    Event::WorkerJoined { worker: WorkerId(worker), profile }
}

fn query(key: u64) -> RunQuery {
    RunQuery {
        key: RequestKey(key),
        client: ClientId(1),
        request_id: RequestId::new([u8::try_from(key % 256).unwrap(); 32]),
        model: "m".into(),
        max_coefficient: Coefficient::from_thousandths(2_000),
        prompt_bytes: 100,
        prompt_tokens_max: 100,
        choices: 1,
        token_limit: 50,
        timeout: Duration::from_secs(60),
        receipt: None,
    }
}

/// An action in a few letters, so that a table row reads as one line.
fn word(action: &Action) -> String {
    match action {
        Action::Dispatch(dispatch) => format!("dispatch({}→{})", dispatch.key.0, dispatch.worker.0),
        Action::CancelAtWorker { key, worker } => format!("cancel({}→{})", key.0, worker.0),
        Action::AbandonAtWorker { key, worker } => format!("abandon({}→{})", key.0, worker.0),
        Action::Fail { key, failure, tokens, .. } => {
            format!("fail({}:{:?}:{:?}:{})", key.0, failure.blame, failure.code, tokens.total.get())
        }
        Action::Settled(settlement) => {
            let clamped = if settlement.clamped.is_some() { "!" } else { "" };
            format!("settled({}:{}{clamped})", settlement.key.0, settlement.charged.get())
        }
        Action::Forget { key } => format!("forget({})", key.0),
        Action::CloseClient { client, .. } => format!("close-client({})", client.0),
        Action::CloseWorker { worker, .. } => format!("close-worker({})", worker.0),
        Action::Drained => "drained".into(),
    }
}

#[track_caller]
fn check(actual: String, expected: &str) {
    assert_eq!(actual, expected);
}

#[test]
fn a_request_is_dispatched_answered_and_settled() {
    let mut bench = Bench::new();
    check(bench.worker(1, 1_000, 1), "");
    check(bench.run(1), "dispatch(1→1)");
    check(bench.started(1, 1), "");
    check(bench.ended(1, 1, 39), "settled(1:39) forget(1)");
    assert_eq!(bench.used(), 39);
    assert_eq!(bench.earned(1), 39);
}

#[test]
fn usage_above_reservation_is_clamped_and_blamed() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    let Some(Action::Dispatch(dispatch)) = bench.feed(Event::Run(query(1))).pop() else { panic!("not sent") };
    let reserved = dispatch.reserved.get();
    check(bench.ended(1, 1, reserved + 1), &format!("settled(1:{reserved}!) forget(1)"));
    assert_eq!(bench.core.tally().overcharges, 1);
    // It is the last resort now: a dearer worker comes first.
    bench.worker(2, 1_900, 1);
    check(bench.run(2), "dispatch(2→2)");
}

#[test]
fn refusals_say_whose_fault_it_is() {
    let mut bench = Bench::new();
    check(bench.run(1), "fail(1:Proxy:NoWorker:0) forget(1)");
    bench.worker(1, 3_000, 1);
    let unknown = RunQuery { model: "unknown".into(), ..query(7) };
    check(bench.words(Event::Run(unknown)), "fail(7:Client:ModelNotFound:0) forget(7)");
    check(bench.run(2), "fail(2:Client:NoWorkerUnderPrice:0) forget(2)");
    bench.words(Event::WorkerChanged { worker: WorkerId(1), change: WorkerChange::Disabled });
    check(bench.run(3), "fail(3:Proxy:NoWorker:0) forget(3)");
    bench.worker(2, 1_000, 1);
    let dear = RunQuery { token_limit: 500_000, ..query(4) };
    check(bench.words(Event::Run(dear)), "fail(4:Client:LimitExceeded:0) forget(4)");
    let endless = RunQuery { prompt_bytes: u64::MAX, ..query(5) };
    check(bench.words(Event::Run(endless)), "fail(5:Proxy:Overloaded:0) forget(5)");
    let stranger = RunQuery { client: ClientId(9), ..query(6) };
    check(bench.words(Event::Run(stranger)), "forget(6)");
}

#[test]
fn duplicate_request_id_is_refused_and_the_same_id_of_another_client_is_not() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    bench.run(1);
    let again = RunQuery { key: RequestKey(2), ..query(1) };
    check(bench.words(Event::Run(again)), "fail(2:Client:BadRequest:0) forget(2)");
    bench.feed(Event::ClientJoined { client: ClientId(2), account: "other".into() });
    let other = RunQuery { key: RequestKey(3), client: ClientId(2), ..query(1) };
    check(bench.words(Event::Run(other)), "dispatch(3→1)");
    check(bench.ended(1, 1, 1), "settled(1:1) forget(1)");
    let later = RunQuery { key: RequestKey(4), ..query(1) };
    check(bench.words(Event::Run(later)), "dispatch(4→1)");
}

#[test]
fn flood_of_queries_is_bounded_per_client_and_in_the_queue() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    check(bench.run(1), "dispatch(1→1)");
    check(bench.run(2), "");
    check(bench.run(3), "");
    let actions = bench.feed(Event::Run(query(4)));
    let [Action::Fail { failure, .. }, Action::Forget { .. }] = &actions[..] else { panic!("not refused") };
    assert_eq!((failure.blame, failure.code), (Blame::Proxy, FailureCode::Overloaded));
    assert!(failure.retry_after_ms.is_some());
    bench.worker(2, 1_000, 4);
    bench.run(5);
    check(bench.run(6), "fail(6:Client:LimitExceeded:0) forget(6)");
}

#[test]
fn the_queue_moves_in_order_when_a_slot_is_free_and_times_out() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    bench.run(3);
    check(bench.ended(1, 1, 1), "settled(1:1) forget(1) dispatch(2→1)");
    check(bench.after(Duration::from_secs(5)), "fail(3:Proxy:Overloaded:0) forget(3)");
    check(bench.ended(2, 1, 1), "settled(2:1) forget(2)");
}

#[test]
fn a_new_worker_takes_from_the_queue() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    check(bench.worker(2, 1_000, 1), "dispatch(2→2)");
}

#[test]
fn worker_gone_before_answer_is_retried_elsewhere() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.worker(2, 1_500, 1);
    check(bench.run(1), "dispatch(1→1)");
    check(bench.leave(1), "dispatch(1→2)");
    check(bench.ended(1, 2, 5), "settled(1:5) forget(1)");
}

#[test]
fn worker_gone_mid_stream_fails_the_request_and_charges_nothing() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.worker(2, 1_500, 1);
    bench.run(1);
    bench.started(1, 1);
    check(bench.leave(1), "fail(1:Worker:WorkerLost:0) forget(1)");
    assert_eq!(bench.used(), 0);
}

#[test]
fn a_request_that_breaks_every_engine_is_given_up() {
    let mut bench = Bench::new();
    for worker in 1..=4 {
        bench.worker(worker, 1_000, 1);
    }
    bench.run(1);
    let engine = |bench: &mut Bench, worker| bench.failed(1, worker, Blame::Engine, FailureCode::EngineFailed);
    check(engine(&mut bench, 1), "dispatch(1→2)");
    check(engine(&mut bench, 2), "dispatch(1→3)");
    check(engine(&mut bench, 3), "fail(1:Engine:EngineFailed:0) forget(1)");
}

#[test]
fn a_clients_own_fault_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.worker(2, 1_000, 1);
    bench.run(1);
    let code = FailureCode::Unprocessable;
    check(bench.failed(1, 1, Blame::Client, code), "fail(1:Client:Unprocessable:0) forget(1)");
}

#[test]
fn a_retry_waits_at_the_front_when_the_others_are_busy() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.worker(2, 1_500, 1);
    bench.run(1);
    bench.run(2);
    bench.run(3);
    // Worker 1 is free for the next one, but not for the one that it failed.
    let failed = bench.failed(1, 1, Blame::Engine, FailureCode::EngineLoading);
    check(failed, "dispatch(3→1)");
    check(bench.ended(2, 2, 1), "settled(2:1) forget(2) dispatch(1→2)");
}

#[test]
fn a_cancelled_request_is_billed_what_was_produced() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    check(bench.cancel(2), "fail(2:Client:Cancelled:0) forget(2)");
    bench.started(1, 1);
    check(bench.cancel(1), "cancel(1→1)");
    check(bench.ended(1, 1, 7), "fail(1:Client:Cancelled:7) settled(1:7) forget(1)");
}

#[test]
fn a_worker_that_ignores_a_cancellation_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.cancel(1);
    bench.run(2);
    let expected = "abandon(1→1) fail(1:Client:Cancelled:0) forget(1) dispatch(2→1)";
    check(bench.after(CANCEL_GRACE), expected);
    check(bench.ended(1, 1, 7), "");
}

#[test]
fn a_cancellation_may_overtake_its_request_and_is_remembered_within_bounds() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.cancel(1);
    check(bench.run(1), "fail(1:Client:Cancelled:0) forget(1)");
    for id in 0..=255 {
        bench.cancel(id);
    }
    assert_eq!(bench.core.clients[&ClientId(1)].early_cancels.len(), EARLY_CANCELS_MAX);
    check(bench.run(2), "dispatch(2→1)");
}

#[test]
fn a_client_that_leaves_cancels_everything_and_hears_nothing() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    check(bench.words(Event::ClientLeft { client: ClientId(1) }), "cancel(1→1) forget(2)");
    check(bench.ended(1, 1, 3), "settled(1:3) forget(1)");
}

#[test]
fn a_stalled_client_is_told_with_its_bill() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.started(1, 1);
    let stalled = Event::ClientStalled { key: RequestKey(1), worker: WorkerId(1) };
    check(bench.words(stalled), "cancel(1→1)");
    check(bench.ended(1, 1, 3), "fail(1:Client:SlowReader:3) settled(1:3) forget(1)");
}

#[test]
fn deadlines_end_requests_wherever_they_are() {
    let mut bench = Bench::new();
    bench.words(joined(1, 1_000, 1, CancelSupport::No));
    bench.run(1);
    check(bench.after(Duration::from_secs(60)), "fail(1:Worker:Timeout:0) cancel(1→1)");
    // An original worker goes on, and keeps its slot as long as it may.
    check(bench.run(2), "");
    check(bench.ended(1, 1, 9), "forget(1) dispatch(2→1)");
    bench.started(2, 1);
    check(bench.after(Duration::from_secs(60)), "cancel(2→1)");
    // What was delivered is paid, and told with it.
    check(bench.ended(2, 1, 9), "fail(2:Worker:Timeout:9) settled(2:9) forget(2)");
}

#[test]
fn a_client_waits_a_short_while_for_the_cost_of_what_ran_out_of_time() {
    let mut bench = Bench::new();
    bench.words(joined(1, 1_000, 1, CancelSupport::No));
    let expired = |bench: &mut Bench, key| {
        check(bench.run(key), &format!("dispatch({key}→1)"));
        bench.started(key, 1);
        check(bench.after(Duration::from_secs(60)), &format!("cancel({key}→1)"));
    };
    expired(&mut bench, 1);
    check(bench.after(CANCEL_GRACE), "fail(1:Worker:Timeout:0)");
    // It keeps its slot, and what it says now costs nothing: the client was told so.
    check(bench.run(2), "");
    check(bench.cancel(2), "fail(2:Client:Cancelled:0) forget(2)");
    check(bench.ended(1, 1, 9), "forget(1)");
    expired(&mut bench, 3);
    bench.after(CANCEL_GRACE);
    check(bench.after(UNCANCELLABLE_GRACE - CANCEL_GRACE), "abandon(3→1) forget(3)");
    // Nobody waits for what a client left behind, and so its worker may say later what it cost.
    expired(&mut bench, 4);
    bench.words(Event::ClientLeft { client: ClientId(1) });
    check(bench.after(CANCEL_GRACE), "");
    check(bench.ended(4, 1, 9), "settled(4:9) forget(4)");
    assert_eq!(bench.earned(1), 9);
}

#[test]
fn a_drain_refuses_new_requests_and_finishes_those_that_run() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    let until = bench.now + Duration::from_secs(4);
    check(bench.words(Event::Drain { until }), "");
    check(bench.run(3), "fail(3:Proxy:Draining:0) forget(3)");
    check(bench.ended(1, 1, 1), "settled(1:1) forget(1) dispatch(2→1)");
    let expected = "abandon(2→1) fail(2:Proxy:Draining:0) forget(2) drained";
    check(bench.after(Duration::from_secs(4)), expected);
    assert_eq!(bench.core.next_timeout(), None);
}

#[test]
fn an_idle_drain_is_over_at_once() {
    let mut bench = Bench::new();
    let until = bench.now + Duration::from_secs(4);
    check(bench.words(Event::Drain { until }), "drained");
}

/// One step of a random history. Numbers are small, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    ClientJoin(u64),
    ClientLeave(u64),
    WorkerJoin { worker: u64, coefficient: u32, slots: u32, original: bool },
    WorkerLeave(u64),
    Change { worker: u64, change: WorkerChange },
    Run { client: u64, id: u8, cap: u32, limit: u32 },
    Started { key: u64, worker: u64 },
    Ended { key: u64, worker: u64, used: u64 },
    Failed { key: u64, worker: u64, code: FailureCode },
    Stalled { key: u64, worker: u64 },
    Cancel { client: u64, id: u8 },
    Wait(u64),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..3u64;
    let worker = 0..4u64;
    let key = 0..40u64;
    let change = prop_oneof![
        Just(WorkerChange::Enabled),
        Just(WorkerChange::Disabled),
        (500..3_000u32).prop_map(|price| WorkerChange::Coefficient(Coefficient::from_thousandths(price))),
    ];
    let code = prop::sample::select(FailureCode::ALL);
    prop_oneof![
        2 => client.clone().prop_map(Step::ClientJoin),
        1 => client.clone().prop_map(Step::ClientLeave),
        3 => (worker.clone(), 500..3_000u32, 0..4u32, any::<bool>()).prop_map(|(worker, coefficient, slots, original)| {
            Step::WorkerJoin { worker, coefficient, slots, original }
        }),
        1 => worker.clone().prop_map(Step::WorkerLeave),
        1 => (worker.clone(), change).prop_map(|(worker, change)| Step::Change { worker, change }),
        12 => (client.clone(), 0..6u8, 500..3_000u32, 0..100_000u32).prop_map(|(client, id, cap, limit)| {
            Step::Run { client, id, cap, limit }
        }),
        4 => (key.clone(), worker.clone()).prop_map(|(key, worker)| Step::Started { key, worker }),
        8 => (key.clone(), worker.clone(), 0..2_000u64).prop_map(|(key, worker, used)| Step::Ended { key, worker, used }),
        4 => (key.clone(), worker.clone(), code).prop_map(|(key, worker, code)| Step::Failed { key, worker, code }),
        1 => (key, worker).prop_map(|(key, worker)| Step::Stalled { key, worker }),
        2 => (client, 0..6u8).prop_map(|(client, id)| Step::Cancel { client, id }),
        3 => (0..20_000u64).prop_map(Step::Wait),
        1 => prop::bool::weighted(0.05).prop_map(|drain| if drain { Step::Drain } else { Step::Wait(1) }),
    ]
}

/// Plays steps and holds every action against what an outsider knows.
struct Oracle {
    bench: Bench,
    clients: BTreeMap<u64, u64>,
    workers: BTreeMap<u64, u64>,
    /// Keys that came and were not forgotten, with their client.
    open: BTreeMap<u64, u64>,
    /// Keys whose client was told of a failure, with the cost that it was told.
    told: BTreeMap<u64, u64>,
    next: u64,
}

impl Oracle {
    fn new() -> Self {
        Self {
            bench: Bench { core: Core::new(config()), now: Instant::now() },
            clients: BTreeMap::new(),
            workers: BTreeMap::new(),
            open: BTreeMap::new(),
            told: BTreeMap::new(),
            next: 1,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// One of the requests that are here.
    fn key(&self, place: u64) -> RequestKey {
        let place = usize::try_from(place).unwrap_or(0) % self.open.len().max(1);
        RequestKey(self.open.keys().nth(place).copied().unwrap_or(u64::MAX))
    }

    /// The worker that has the request, or sometimes another.
    fn worker_of(&self, key: u64, other: u64) -> WorkerId {
        let request = self.bench.core.requests.get(self.key(key));
        match request.and_then(|request| request.state.worker()) {
            Some(worker) if other > 0 => worker,
            _ => self.worker(other),
        }
    }

    fn worker(&self, name: u64) -> WorkerId {
        WorkerId(self.workers.get(&name).copied().unwrap_or(u64::MAX))
    }

    fn play(&mut self, step: Step) {
        let event = match step {
            Step::ClientJoin(name) => {
                if self.clients.contains_key(&name) {
                    return;
                }
                let client = self.fresh();
                self.clients.insert(name, client);
                Event::ClientJoined { client: ClientId(client), account: format!("payer {}", name % 2) }
            }
            Step::ClientLeave(name) => {
                let Some(client) = self.clients.remove(&name) else { return };
                Event::ClientLeft { client: ClientId(client) }
            }
            Step::WorkerJoin { worker, coefficient, slots, original } => {
                if self.workers.contains_key(&worker) {
                    return;
                }
                let id = self.fresh();
                self.workers.insert(worker, id);
                let cancel = if original { CancelSupport::No } else { CancelSupport::Yes };
                joined(id, coefficient, slots, cancel)
            }
            Step::WorkerLeave(name) => {
                let Some(worker) = self.workers.remove(&name) else { return };
                Event::WorkerLeft { worker: WorkerId(worker) }
            }
            Step::Change { worker, change } => Event::WorkerChanged { worker: self.worker(worker), change },
            Step::Run { client, id, cap, limit } => {
                let Some(client) = self.clients.get(&client).copied() else { return };
                let key = self.fresh();
                self.open.insert(key, client);
                Event::Run(RunQuery {
                    key: RequestKey(key),
                    client: ClientId(client),
                    request_id: RequestId::new([id; 32]),
                    max_coefficient: Coefficient::from_thousandths(cap),
                    token_limit: limit,
                    // Every other one asks for a receipt, now and then of an id that another one has.
                    receipt: (limit % 2 == 0).then_some([u8::try_from(key % 64).unwrap_or(0); 32]),
                    ..query(key)
                })
            }
            Step::Started { key, worker } => {
                Event::AnswerStarted { key: self.key(key), worker: self.worker_of(key, worker) }
            }
            Step::Ended { key, worker, used } => {
                Event::Ended { key: self.key(key), worker: self.worker_of(key, worker), word: any_word(used) }
            }
            Step::Failed { key, worker, code } => Event::Failed {
                key: self.key(key),
                worker: self.worker_of(key, worker),
                failure: failure(Blame::Worker, code),
                word: any_word(key),
            },
            Step::Stalled { key, worker } => {
                Event::ClientStalled { key: self.key(key), worker: self.worker_of(key, worker) }
            }
            Step::Cancel { client, id } => {
                let Some(client) = self.clients.get(&client).copied() else { return };
                Event::Cancelled { client: ClientId(client), request_id: RequestId::new([id; 32]) }
            }
            Step::Wait(ms) => {
                self.bench.now += Duration::from_millis(ms);
                Event::Tick
            }
            Step::Drain => Event::Drain { until: self.bench.now + Duration::from_secs(30) },
        };
        self.judge(event);
    }

    fn judge(&mut self, event: Event) {
        for action in self.bench.feed(event) {
            match action {
                Action::Dispatch(dispatch) => {
                    assert!(self.open.contains_key(&dispatch.key.0), "a forgotten request is sent");
                    assert!(!self.told.contains_key(&dispatch.key.0), "a failed request is sent");
                    assert!(self.workers.values().any(|id| *id == dispatch.worker.0), "sent to nobody");
                }
                Action::CancelAtWorker { key, .. } | Action::AbandonAtWorker { key, .. } => {
                    assert!(self.open.contains_key(&key.0));
                }
                Action::Fail { key, tokens, .. } => {
                    let client = self.open.get(&key.0).expect("a forgotten request fails");
                    assert!(self.clients.values().any(|id| id == client), "told to nobody");
                    assert!(self.told.insert(key.0, tokens.total.get()).is_none(), "told twice");
                }
                Action::Settled(settlement) => {
                    assert!(self.open.contains_key(&settlement.key.0));
                    let told = self.told.get(&settlement.key.0);
                    assert!(told.is_none_or(|told| settlement.charged.get() <= *told), "charged more than was told");
                }
                Action::Forget { key } => assert!(self.open.remove(&key.0).is_some(), "forgotten twice"),
                Action::CloseClient { .. } | Action::CloseWorker { .. } => panic!("nothing is full here"),
                Action::Drained => assert!(self.open.is_empty()),
            }
        }
        self.invariants();
    }

    fn invariants(&self) {
        let core = &self.bench.core;
        assert_eq!(core.requests.len(), self.open.len());
        assert_eq!(core.ledger.totals().reservations, self.open.len() as u64);
        let workers = || core.workers.models().flat_map(|model| core.workers.of_model(model));
        assert_eq!(workers().count(), core.workers.len());
        for (id, worker) in workers() {
            assert_eq!(worker.active as usize, core.requests.at_worker(id).len(), "slots are counted wrongly");
            assert!(worker.active <= worker.slots);
        }
        for key in core.requests.keys() {
            let request = core.requests.get(key).expect("listed");
            if matches!(request.state, State::Queued) {
                let choice = core.workers.choose(request.model, core.wanted(request));
                assert!(!matches!(choice, Choice::Now(_)), "somebody waits while a worker has room");
            }
        }
        if let Some(timeout) = core.next_timeout() {
            assert!(timeout > self.bench.now || core.requests.len() > 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_history_keeps_the_invariants(steps in prop::collection::vec(step(), 0..150)) {
        let mut oracle = Oracle::new();
        for step in steps {
            oracle.play(step);
        }
        // Whatever happened, it ends: a drain and enough time leave nothing behind.
        oracle.play(Step::Drain);
        oracle.play(Step::Wait(400_000));
        oracle.play(Step::Wait(400_000));
        prop_assert!(oracle.open.is_empty());
        prop_assert_eq!(oracle.bench.core.ledger.totals().open, 0);
    }
}
