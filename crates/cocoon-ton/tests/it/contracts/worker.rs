//! The worker contract: a counter that turns signatures into claims, and keeps the claims that nobody paid.

use cocoon_ton::Cell;
use cocoon_ton::contract::message::worker::{Claim, Close, PayoutRemainder, Register};
use cocoon_ton::contract::note::{LogEntry, Note, WorkerClaim};
use cocoon_ton::contract::{Lifecycle, op, signed};
use cocoon_units::Nano;

use super::stage::{
    FEE, FEES, FLOOR, PRICE, PURSE, QUERY, Refusal, Sent, Stage, TON, Trace, WORKING_FLOOR, Who, exit, forgeries,
    longer, shorter,
};

/// v3 asks a worker for more than 0.1, where it asks a client for as much.
const PAYOUT_VALUE: u64 = FEES + 1;
const COMMISSION: u64 = PRICE - FEE;

fn register() -> Cell {
    Register { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

fn claim() -> Cell {
    Claim { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

fn close() -> Cell {
    Close { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

fn remainder(amount: u64) -> Cell {
    PayoutRemainder { query_id: QUERY, amount: Nano::new(amount), excesses_to: PURSE }.to_cell()
}

fn refusal(what: &'static str, from: Who, value: u64, body: Cell, exit: i32) -> Refusal {
    Refusal { what, from, value, body, exit }
}

impl Stage {
    pub(super) fn pay_out(&mut self, tokens: u64) -> Trace {
        self.present(signed::payout(self.worker, QUERY, tokens), PAYOUT_VALUE)
    }

    fn last_payout(&mut self, tokens: u64) -> Trace {
        self.present(signed::last_payout(self.worker, QUERY, tokens), PAYOUT_VALUE)
    }

    pub(super) fn claim(&mut self) -> Trace {
        self.send(Who::Stranger, self.worker, PAYOUT_VALUE, claim())
    }

    /// What is unpaid: of the worker, of the proxy.
    pub(super) fn unpaid(&self) -> (u64, u64) {
        let unpaid = self.worker().unpaid;
        (unpaid.worker.get(), unpaid.proxy.get())
    }

    pub(super) fn paid_to_worker(&self, trace: &Trace) -> u64 {
        trace.paid(self.proxy, Who::WorkerOwner.address())
    }
}

#[test]
fn a_payout_pays_the_workers_owner_and_adds_the_commission() {
    let mut stage = Stage::new();
    stage.fund(10_000 * PRICE);
    let trace = stage.pay_out(1_000);
    assert_eq!(stage.paid_to_worker(&trace), 1_000 * FEE);
    assert_eq!((stage.worker().tokens, stage.unpaid()), (1_000, (0, 0)));
    assert_eq!(stage.coins(stage.worker), WORKING_FLOOR);
    assert_eq!(stage.till(), (1_000 * COMMISSION, 0, 10_000 * PRICE - 1_000 * FEE));
    assert!(trace.change(stage.proxy, PURSE) > FEES * 4 / 5, "the submitter gets its change");
    let [body] = trace.bodies(stage.worker, stage.proxy).try_into().unwrap();
    let Ok(Note::Worker(note)) = Note::parse(&body) else { panic!("a note of a worker") };
    let parts = WorkerClaim {
        worker_part: Nano::new(1_000 * FEE),
        proxy_part: Nano::new(1_000 * COMMISSION),
        excesses_to: PURSE,
    };
    assert_eq!((note.tokens, note.claim), (1_000, Some(parts)));
}

#[test]
fn a_payout_that_the_proxy_cannot_pay_stays_claimable() {
    let mut stage = Stage::new();
    stage.fund(600 * FEE);
    let first = stage.pay_out(1_000);
    assert_eq!(stage.paid_to_worker(&first), 600 * FEE, "what there is");
    assert_eq!(stage.unpaid(), (400 * FEE, 0), "and the rest is remembered here");
    assert_eq!(stage.till(), (1_000 * COMMISSION, 0, 0), "the commission is a claim in full");
    assert!(first.change(stage.worker, PURSE) > FEES * 3 / 4, "the submitter gets its change");

    let nothing = stage.claim();
    assert_eq!((stage.paid_to_worker(&nothing), stage.unpaid()), (0, (400 * FEE, 0)), "asking loses nothing");

    stage.fund(1_000 * PRICE);
    let rest = stage.claim();
    assert_eq!((stage.paid_to_worker(&rest), stage.unpaid()), (400 * FEE, (0, 0)));
    assert_eq!(stage.till(), (1_000 * COMMISSION, 0, 1_000 * PRICE - 400 * FEE));
    stage.check_refused(
        stage.worker,
        vec![refusal("nothing to claim", Who::Stranger, PAYOUT_VALUE, claim(), exit::OLD)],
    );
}

#[test]
fn a_payout_that_bounces_off_a_dead_proxy_stays_claimable_with_its_commission() {
    let mut stage = Stage::without_proxy();
    let dead = stage.pay_out(1_000);
    assert_eq!(stage.unpaid(), (1_000 * FEE, 1_000 * COMMISSION));
    assert_eq!(stage.coins(stage.worker), WORKING_FLOOR);
    assert!(dead.change(stage.worker, PURSE) > FEES * 4 / 5, "the submitter gets its change");
    stage.deploy_proxy();
    stage.fund(TON);
    let paid = stage.claim();
    assert_eq!((stage.paid_to_worker(&paid), stage.unpaid()), (1_000 * FEE, (0, 0)));
    assert_eq!(stage.till(), (1_000 * COMMISSION, 0, TON - 1_000 * FEE));
}

#[test]
fn the_next_payout_takes_what_is_unpaid_along() {
    let mut stage = Stage::without_proxy();
    stage.pay_out(1_000);
    stage.pay_out(1_000);
    assert_eq!(stage.unpaid(), (1_000 * FEE, 1_000 * COMMISSION), "the same counter asks again, and adds nothing");
    stage.deploy_proxy();
    stage.fund(TON);
    let paid = stage.pay_out(1_500);
    assert_eq!(stage.paid_to_worker(&paid), 1_500 * FEE);
    assert_eq!(stage.till().0, 1_500 * COMMISSION);
}

#[test]
fn two_payouts_on_their_way_at_once_both_stay_claimable() {
    let mut stage = Stage::without_proxy();
    stage.engine.faults_mut().hold(stage.proxy);
    stage.pay_out(1_000);
    stage.pay_out(3_000);
    let proxy = stage.proxy;
    stage.engine.faults_mut().release(&proxy);
    stage.settle();
    assert_eq!(stage.unpaid(), (3_000 * FEE, 3_000 * COMMISSION));
}

#[test]
fn a_stale_payout_claims_nothing() {
    let mut stage = Stage::new();
    stage.fund(TON);
    stage.pay_out(1_000);
    let refusals = [1_000, 999, 0].map(|tokens| {
        let body = stage.sign(signed::payout(stage.worker, QUERY, tokens)).envelope(PURSE);
        refusal("a payout that is behind", Who::Stranger, PAYOUT_VALUE, body, exit::OLD)
    });
    stage.check_refused(stage.worker, refusals.into());
    let last = stage.sign(signed::last_payout(stage.worker, QUERY, 999)).envelope(PURSE);
    let last = refusal("a last payout that is behind", Who::Stranger, PAYOUT_VALUE, last, exit::OLD);
    stage.check_refused(stage.worker, vec![last]);
}

#[test]
fn forged_payouts_claim_nothing() {
    let mut stage = Stage::new();
    for (good, elsewhere) in [
        (signed::payout(stage.worker, QUERY, 1_000), signed::payout(stage.client, QUERY, 1_000)),
        (signed::last_payout(stage.worker, QUERY, 1_000), signed::last_payout(stage.client, QUERY, 1_000)),
    ] {
        let refusals = forgeries(&stage, good, elsewhere, PAYOUT_VALUE);
        stage.check_refused(stage.worker, refusals);
        let exact = stage.sign(good).envelope(PURSE);
        let exact = refusal("0.1 is not more than 0.1", Who::Stranger, FEES, exact, exit::LOW_VALUE);
        stage.check_refused(stage.worker, vec![exact]);
    }
}

#[test]
fn a_last_payout_closes_and_gives_the_floor_to_the_owner() {
    let mut stage = Stage::new();
    stage.fund(TON);
    stage.pay_out(1_000);
    let trace = stage.last_payout(1_000);
    let owner = Who::WorkerOwner.address();
    assert_eq!(trace.change(stage.worker, owner), FEES, "not to the submitter");
    assert_eq!((stage.worker().state, stage.coins(stage.worker)), (Lifecycle::Closed, FLOOR));
    assert_eq!(stage.paid_to_worker(&trace), 0, "nothing new");

    let mut stage = Stage::without_proxy();
    stage.last_payout(1_000);
    assert_eq!(stage.unpaid(), (1_000 * FEE, 1_000 * COMMISSION), "a bounce after the close is kept too");
    stage.deploy_proxy();
    stage.fund(TON);
    let paid = stage.claim();
    assert_eq!(stage.paid_to_worker(&paid), 1_000 * FEE);
    assert_eq!(stage.coins(stage.worker), FLOOR);
}

#[test]
fn the_owner_of_a_worker_exits_alone() {
    let mut stage = Stage::without_proxy();
    stage.pay_out(1_000);
    let trace = stage.send(Who::WorkerOwner, stage.worker, FEES, close());
    assert_eq!((stage.worker().state, stage.coins(stage.worker)), (Lifecycle::Closed, FLOOR));
    assert!(trace.change(stage.worker, PURSE) > FEES + FEES * 9 / 10, "the floor goes with the change");
    assert_eq!(stage.unpaid(), (1_000 * FEE, 1_000 * COMMISSION), "what is unpaid stays claimable");

    stage.send(Who::Stranger, stage.worker, TON, Cell::default());
    let sweep = stage.send(Who::WorkerOwner, stage.worker, FEES, close());
    assert!(sweep.change(stage.worker, PURSE) > TON, "a second one sweeps what arrived since");
    assert_eq!(stage.coins(stage.worker), FLOOR);

    stage.deploy_proxy();
    stage.fund(TON);
    let paid = stage.claim();
    assert_eq!(stage.paid_to_worker(&paid), 1_000 * FEE);
}

#[test]
fn a_closed_worker_takes_no_payout() {
    let mut stage = Stage::new();
    stage.send(Who::WorkerOwner, stage.worker, FEES, close());
    let payout = stage.sign(signed::payout(stage.worker, QUERY, 1_000)).envelope(PURSE);
    let last = stage.sign(signed::last_payout(stage.worker, QUERY, 1_000)).envelope(PURSE);
    let refusals = vec![
        refusal("payout", Who::WorkerOwner, PAYOUT_VALUE, payout, exit::CLOSED),
        refusal("last payout", Who::WorkerOwner, PAYOUT_VALUE, last, exit::CLOSED),
        refusal("register", Who::WorkerOwner, 2 * FEES, register(), exit::CLOSED),
        refusal("claim of nothing", Who::WorkerOwner, PAYOUT_VALUE, claim(), exit::OLD),
    ];
    stage.check_refused(stage.worker, refusals);
}

#[test]
fn only_the_owner_registers_and_closes_and_only_the_proxy_returns_a_remainder() {
    let mut stage = Stage::new();
    for from in [Who::ProxyOwner, Who::ClientOwner, Who::Stranger] {
        let refusals = vec![
            refusal("register", from, FEES, register(), exit::FROM_OWNER),
            refusal("close", from, FEES, close(), exit::FROM_OWNER),
        ];
        stage.check_refused(stage.worker, refusals);
    }
    for from in Who::ALL {
        let refused = refusal("remainder", from, FEES, remainder(1), exit::FROM_OWNER);
        stage.check_refused(stage.worker, vec![refused]);
    }
}

#[test]
fn messages_that_say_too_little_or_carry_too_little_are_refused() {
    let mut stage = Stage::without_proxy();
    stage.pay_out(1_000);
    let mut refusals = vec![refusal("claim", Who::Stranger, FEES, claim(), exit::LOW_VALUE)];
    for (what, body) in [("register", register()), ("close", close())] {
        refusals.push(refusal(what, Who::WorkerOwner, TON / 20 - 1, body, exit::LOW_VALUE));
    }
    for (what, body) in [("register", register()), ("close", close()), ("claim", claim()), ("rest", remainder(1))] {
        refusals.push(refusal(what, Who::WorkerOwner, TON, longer(&body), exit::MALFORMED));
        refusals.push(refusal(what, Who::WorkerOwner, TON, shorter(&body), exit::MALFORMED));
    }
    refusals.push(refusal(
        "a comment",
        Who::WorkerOwner,
        TON,
        cocoon_ton::contract::message::comment("w"),
        exit::UNKNOWN_OP,
    ));
    stage.check_refused(stage.worker, refusals);
}

#[test]
fn what_is_not_for_a_worker_is_ignored() {
    let mut stage = Stage::new();
    for body in [
        Cell::default(),
        Note::Excesses { query_id: QUERY }.to_cell(),
        Note::Payout { query_id: QUERY }.to_cell(),
        Note::DoNotProcess(LogEntry::Other).to_cell(),
    ] {
        let before = stage.worker();
        assert_eq!(stage.send(Who::Stranger, stage.worker, FEES, body).exit(stage.worker), exit::OK);
        assert_eq!(stage.worker(), before);
    }
}

#[test]
fn a_registration_is_a_note_of_one_nano() {
    let mut stage = Stage::new();
    let trace = stage.send(Who::WorkerOwner, stage.worker, FEES, register());
    assert_eq!(trace.sent(stage.worker, stage.proxy), [Sent { op: op::WORKER_NOTE, value: 1 }]);
    assert_eq!(stage.coins(stage.worker), WORKING_FLOOR);
}

#[test]
fn prices_that_make_no_sense_stop_no_payout() {
    // A fee above the price: the worker gets its fee, the proxy nothing, and nobody less than nothing.
    let mut stage = Stage::with(|params| params.worker_fee_per_token = Nano::new(PRICE + 5));
    stage.fund(TON);
    let trace = stage.pay_out(1_000);
    assert_eq!((stage.paid_to_worker(&trace), stage.till().0), (1_000 * (PRICE + 5), 0));

    // Everything free: tokens are counted, and nothing is paid.
    let mut stage = Stage::with(|params| {
        params.price_per_token = Nano::ZERO;
        params.worker_fee_per_token = Nano::ZERO;
    });
    let trace = stage.pay_out(u64::MAX);
    assert_eq!((stage.paid_to_worker(&trace), stage.worker().tokens, stage.unpaid()), (0, u64::MAX, (0, 0)));
}

#[test]
fn a_claim_beyond_all_money_is_kept_to_the_nano() {
    // The largest counter at a price that makes it all there is.
    let mut stage = Stage::with(|params| {
        params.price_per_token = Nano::new(1);
        params.worker_fee_per_token = Nano::new(1);
    });
    stage.fund(TON);
    let trace = stage.pay_out(u64::MAX);
    assert_eq!((stage.paid_to_worker(&trace), stage.unpaid()), (TON, (u64::MAX - TON, 0)));
}
