//! The choice by tables, and against a look at every worker in random histories.

use cocoon_ledger::Ledger;
use proptest::prelude::*;

use super::*;

const MODEL: ModelId = ModelId(0);

/// A worker as one row: coefficient, active of slots, measured milliseconds.
struct Row(u32, u32, u32, Option<u64>);

fn workers(rows: &[Row]) -> Workers {
    let payee = Ledger::new().open_payee("payee").unwrap();
    let mut workers = Workers::default();
    for (index, Row(coefficient, active, slots, service_ms)) in rows.iter().enumerate() {
        let price = Coefficient::from_thousandths(*coefficient);
        let mut worker = Worker::new(payee, MODEL, price, *slots, true, CancelSupport::Yes);
        worker.active = *active;
        worker.service = service_ms.map(Duration::from_millis);
        workers.insert(WorkerId(index as u64), worker);
    }
    workers
}

fn wanted(cap: u32, excluded: &[WorkerId]) -> Wanted<'_> {
    Wanted { cap: Coefficient::from_thousandths(cap), receipt: false, excluded }
}

fn check(rows: &[Row], cap: u32, expected: Choice) {
    assert_eq!(workers(rows).choose(MODEL, wanted(cap, &[])), expected);
}

#[test]
fn the_shortest_expected_wait_wins_then_price_then_load_then_order() {
    let now = |id| Choice::Now(WorkerId(id));
    check(&[Row(1_000, 0, 4, Some(900)), Row(2_000, 0, 4, Some(100))], 4_000, now(1));
    check(&[Row(2_000, 0, 4, Some(100)), Row(1_000, 3, 4, Some(105))], 4_000, now(1));
    check(&[Row(1_000, 2, 4, Some(100)), Row(1_000, 1, 4, Some(105))], 4_000, now(1));
    check(&[Row(1_000, 1, 4, Some(100)), Row(1_000, 1, 4, Some(100))], 4_000, now(0));
}

#[test]
fn full_dear_and_absent_are_told_apart() {
    check(&[Row(1_000, 4, 4, None)], 4_000, Choice::Later);
    check(&[Row(5_000, 0, 4, None)], 4_000, Choice::AbovePrice);
    check(&[Row(5_000, 0, 4, None), Row(1_000, 4, 4, None)], 4_000, Choice::Later);
    check(&[Row(1_000, 4, 4, None), Row(5_000, 0, 4, None)], 4_000, Choice::Later);
    check(&[], 4_000, Choice::Nobody);
}

#[test]
fn a_receipt_is_had_from_those_that_sign_only() {
    let mut workers = workers(&[Row(1_000, 0, 4, None), Row(5_000, 0, 4, None), Row(1_500, 0, 4, None)]);
    let original = Worker { cancel: CancelSupport::No, ..workers.remove(WorkerId(0)).unwrap() };
    workers.insert(WorkerId(0), original);
    let asking = |excluded| Wanted { receipt: true, ..wanted(4_000, excluded) };
    let choose = |wanted| workers.choose(MODEL, wanted);
    assert_eq!(choose(wanted(4_000, &[])), Choice::Now(WorkerId(0)));
    assert_eq!(choose(asking(&[])), Choice::Now(WorkerId(2)));
    assert_eq!(choose(asking(&[WorkerId(2)])), Choice::AbovePrice);
    assert_eq!(choose(asking(&[WorkerId(1), WorkerId(2)])), Choice::Unsigned);
}

#[test]
fn a_new_worker_is_taken_to_be_as_fast_as_the_best() {
    check(&[Row(1_000, 1, 4, Some(100)), Row(1_000, 0, 4, None)], 4_000, Choice::Now(WorkerId(1)));
}

#[test]
fn a_worker_that_failed_is_the_last_resort_for_a_while() {
    let mut workers = workers(&[Row(1_000, 0, 4, Some(1)), Row(3_000, 3, 4, Some(500))]);
    let now = Instant::now();
    workers.update(WorkerId(0), |worker| worker.misbehaved(now));
    assert_eq!(workers.choose(MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(1)));
    assert_eq!(workers.choose(MODEL, wanted(4_000, &[WorkerId(1)])), Choice::Now(WorkerId(0)));
    workers.thaw(now + COOLDOWN_FIRST);
    assert_eq!(workers.choose(MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(0)));
}

#[test]
fn load_of_other_proxies_counts() {
    let mut workers = workers(&[Row(1_000, 0, 4, Some(100)), Row(2_000, 0, 4, Some(100))]);
    let load = LoadReport { active: 4, queued: 8, slots: 4, tokens_per_s: 0 };
    workers.update(WorkerId(0), |worker| worker.report(load));
    assert_eq!(workers.choose(MODEL, wanted(4_000, &[])), Choice::Now(WorkerId(1)));
}

/// The rule without tables: every worker of the model is looked at.
fn choose_slowly(workers: &Workers, wanted: Wanted<'_>) -> Choice {
    let default = workers.of_model(MODEL).filter_map(|(_, worker)| worker.service).min();
    // Known to a step only.
    let default = default.map_or(SERVICE_TIME_DEFAULT, |service| {
        let step = step_of(micros(service));
        Duration::from_micros((0..=micros(service)).rev().take_while(|us| step_of(*us) == step).last().unwrap())
    });
    let mut best = None;
    let mut none = Choice::Nobody;
    for (id, worker) in workers.of_model(MODEL) {
        if !worker.enabled || worker.slots == 0 || wanted.excluded.contains(&id) {
            continue;
        }
        if wanted.receipt && !worker.signs_receipts() {
            none = if none == Choice::Nobody { Choice::Unsigned } else { none };
        } else if worker.coefficient > wanted.cap {
            none = if none == Choice::Later { none } else { Choice::AbovePrice };
        } else if worker.has_room() {
            let rank = worker.rank(id, default);
            best = Some(best.map_or((rank, id), |best: (Rank, WorkerId)| best.min((rank, id))));
        } else {
            none = Choice::Later;
        }
    }
    best.map_or(none, |(_, id)| Choice::Now(id))
}

/// Something that happens to one of a few workers.
#[derive(Clone, Debug)]
enum Step {
    Join { coefficient: u32, slots: u32, signs: bool, payee: u8 },
    Leave,
    Dispatch,
    Free,
    Succeed(u64),
    Misbehave,
    Report(u32),
    Enable(bool),
    Price(u32),
    Hold(bool, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u32, 0..4_u32, any::<bool>(), 0..2_u8).prop_map(|(coefficient, slots, signs, payee)| Step::Join {
            coefficient,
            slots,
            signs,
            payee
        }),
        1 => Just(Step::Leave),
        6 => Just(Step::Dispatch),
        3 => Just(Step::Free),
        3 => (1..2_000_000_u64).prop_map(Step::Succeed),
        1 => Just(Step::Misbehave),
        1 => (0..9_u32).prop_map(Step::Report),
        1 => any::<bool>().prop_map(Step::Enable),
        1 => (0..3_u32).prop_map(Step::Price),
        1 => (any::<bool>(), 0..2_u8).prop_map(|(may_earn, payee)| Step::Hold(may_earn, payee)),
        1 => (0..40_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn tables_choose_as_a_look_at_every_worker_does(
        steps in prop::collection::vec((0..6_u64, step()), 1..60),
        cap in 0..3_u32,
        receipt in any::<bool>(),
        excluded in prop::collection::vec((0..6_u64).prop_map(WorkerId), 0..3),
    ) {
        let mut ledger = Ledger::new();
        let payees = [ledger.open_payee("one").unwrap(), ledger.open_payee("other").unwrap()];
        let mut workers = Workers::default();
        let mut now = Instant::now();
        for (id, step) in steps {
            let id = WorkerId(id);
            match step {
                Step::Join { coefficient, slots, signs, payee } if workers.get(id).is_none() => {
                    let cancel = if signs { CancelSupport::Yes } else { CancelSupport::No };
                    let price = Coefficient::from_thousandths(coefficient);
                    workers.insert(id, Worker::new(payees[usize::from(payee)], MODEL, price, slots, true, cancel));
                }
                Step::Join { .. } => {}
                Step::Leave => drop(workers.remove(id)),
                Step::Dispatch => drop(workers.update(id, |worker| worker.active += 1)),
                Step::Free => drop(workers.update(id, |worker| worker.active = worker.active.saturating_sub(1))),
                Step::Succeed(us) => drop(workers.update(id, |worker| worker.succeeded(Duration::from_micros(us)))),
                Step::Misbehave => drop(workers.update(id, |worker| worker.misbehaved(now))),
                Step::Report(active) => {
                    let load = LoadReport { active, queued: 0, slots: 4, tokens_per_s: 0 };
                    workers.update(id, |worker| worker.report(load));
                }
                Step::Enable(enabled) => drop(workers.update(id, |worker| worker.enabled = enabled)),
                Step::Price(price) => {
                    let change = WorkerChange::Coefficient(Coefficient::from_thousandths(price));
                    workers.update(id, |worker| worker.change(change));
                }
                Step::Hold(may_earn, payee) => workers.hold(payees[usize::from(payee)], may_earn),
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    workers.thaw(now);
                }
            }
            let wanted = Wanted { cap: Coefficient::from_thousandths(cap), receipt, excluded: &excluded };
            prop_assert_eq!(workers.choose(MODEL, wanted), choose_slowly(&workers, wanted));
            let open = workers.of_model(MODEL).filter(|(_, worker)| worker.enabled && worker.has_room());
            prop_assert_eq!(workers.cheapest_room(MODEL), open.map(|(_, worker)| worker.coefficient).min());
            let held = workers.of_model(MODEL).filter(|(_, worker)| !worker.may_earn).count();
            prop_assert_eq!(workers.held_back(), held);
        }
    }
}
