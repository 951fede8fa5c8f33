//! The proxy contract: the till that pays workers and its owner, never more than it holds, and never anybody else's.

use cocoon_ton::Cell;
use cocoon_ton::contract::message::comment;
use cocoon_ton::contract::message::proxy::{ChargePaid, Close, CompleteClose, IncreaseStake, PayoutRequest};
use cocoon_ton::contract::note::{ClientNote, LogEntry, Note, WorkerClaim, WorkerNote};
use cocoon_ton::contract::{Lifecycle, signed};
use cocoon_units::Nano;

use super::stage::{
    CLIENT_STAKE, FEE, FEES, FLOOR, PRICE, PROXY_DELAY_S, PURSE, QUERY, Refusal, Stage, TON, Trace, Who, exit,
    forgeries, longer, shorter,
};

const COMMISSION: u64 = PRICE - FEE;
const STAKE: u64 = 3 * TON;

fn charge_paid(amount: u64) -> Cell {
    ChargePaid { query_id: QUERY, amount: Nano::new(amount), excesses_to: PURSE }.to_cell()
}

fn payout_request() -> Cell {
    PayoutRequest { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

fn increase_stake(amount: u64) -> Cell {
    IncreaseStake { query_id: QUERY, amount: Nano::new(amount), excesses_to: PURSE }.to_cell()
}

fn close() -> Cell {
    Close { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

fn complete() -> Cell {
    CompleteClose { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

/// A claim as only the worker's contract may send it.
fn worker_note(claim: Option<WorkerClaim>) -> Cell {
    let owner = Who::WorkerOwner.address();
    Note::Worker(WorkerNote { query_id: QUERY, owner, state: Lifecycle::Normal, tokens: 1_000, claim }).to_cell()
}

fn client_note() -> Cell {
    let note = ClientNote {
        query_id: QUERY,
        owner: Who::ClientOwner.address(),
        state: Lifecycle::Normal,
        balance: Nano::new(TON),
        stake: Nano::new(CLIENT_STAKE),
        tokens_used: 0,
        secret_hash: [0; 32],
        payload: None,
    };
    Note::Client(note).to_cell()
}

fn claim_of(worker_part: u64, proxy_part: u64) -> Option<WorkerClaim> {
    let (worker_part, proxy_part) = (Nano::new(worker_part), Nano::new(proxy_part));
    Some(WorkerClaim { worker_part, proxy_part, excesses_to: PURSE })
}

fn refusal(what: &'static str, from: Who, value: u64, body: Cell, exit: i32) -> Refusal {
    Refusal { what, from, value, body, exit }
}

impl Stage {
    /// Brings charged money.
    pub(super) fn fund(&mut self, amount: u64) {
        let trace = self.send(Who::Stranger, self.proxy, amount + FEES, charge_paid(amount));
        assert_eq!(trace.exit(self.proxy), exit::OK);
    }

    fn stake(&mut self, amount: u64) {
        let trace = self.send(Who::Stranger, self.proxy, amount + FEES, increase_stake(amount));
        assert_eq!(trace.exit(self.proxy), exit::OK);
    }

    /// Commission, stake and funds.
    pub(super) fn till(&self) -> (u64, u64, u64) {
        let state = self.proxy();
        (state.balance.get(), state.stake.get(), state.funds.get())
    }

    /// Coins that nobody counts.
    fn surplus(&self) -> u64 {
        self.coins(self.proxy) - self.proxy().funds.get() - FLOOR
    }

    fn owner_asks_proxy(&mut self, body: Cell) -> Trace {
        self.send(Who::ProxyOwner, self.proxy, FEES, body)
    }

    fn paid_to_proxy_owner(&self, trace: &Trace) -> u64 {
        trace.paid(self.proxy, Who::ProxyOwner.address())
    }

    /// The owner asked to close, and the delay is over.
    fn unlocked(mut self) -> Self {
        assert_eq!(self.owner_asks_proxy(close()).exit(self.proxy), exit::OK);
        self.wait(PROXY_DELAY_S);
        self
    }
}

/// Stake 3, charges for 100,000 tokens, of which 60,000 were paid out.
fn staked_and_busy() -> Stage {
    let mut stage = Stage::new();
    stage.stake(STAKE);
    stage.fund(100_000 * PRICE);
    stage.pay_out(60_000);
    assert_eq!(stage.till(), (60_000 * COMMISSION, STAKE, STAKE + 100_000 * PRICE - 60_000 * FEE));
    stage
}

#[test]
fn money_in_is_counted_from_anyone_in_every_state() {
    let mut stage = Stage::new();
    for (round, who) in (1..).zip(Who::ALL) {
        let trace = stage.send(who, stage.proxy, TON + FEES, charge_paid(TON));
        assert_eq!(stage.till(), (0, 0, round * TON));
        assert_eq!(stage.coins(stage.proxy), round * TON + FLOOR);
        assert!(trace.change(stage.proxy, PURSE) > FEES * 9 / 10);
    }
    let mut stage = stage.unlocked();
    stage.fund(TON);
    stage.owner_asks_proxy(complete());
    stage.fund(TON);
    assert_eq!((stage.proxy().state, stage.till()), (Lifecycle::Closed, (0, 0, 6 * TON)));
}

#[test]
fn a_stake_is_counted_until_the_close() {
    let mut stage = Stage::new();
    stage.stake(STAKE);
    assert_eq!((stage.till(), stage.coins(stage.proxy)), ((0, STAKE, STAKE), STAKE + FLOOR));
    let mut stage = stage.unlocked();
    stage.stake(TON);
    stage.owner_asks_proxy(complete());
    let late = refusal("a stake after the close", Who::Stranger, 2 * TON, increase_stake(TON), exit::CLOSED);
    stage.check_refused(stage.proxy, vec![late]);
}

#[test]
fn a_worker_is_paid_out_of_the_stake_when_the_charges_are_gone() {
    let mut stage = Stage::new();
    stage.stake(STAKE);
    let trace = stage.pay_out(1_000);
    assert_eq!(stage.paid_to_worker(&trace), 1_000 * FEE);
    assert_eq!(stage.till(), (1_000 * COMMISSION, STAKE, STAKE - 1_000 * FEE));
}

#[test]
fn the_commission_never_draws_on_the_stake() {
    let mut stage = Stage::new();
    stage.stake(STAKE);
    stage.pay_out(1_000);
    for who in Who::ALL {
        let trace = stage.send(who, stage.proxy, FEES, payout_request());
        assert_eq!((trace.exit(stage.proxy), stage.paid_to_proxy_owner(&trace)), (exit::OK, 0));
    }
    // Charges arrive: first they fill the stake, then they are commission.
    stage.fund(1_000 * FEE + 30);
    let trace = stage.send(Who::Stranger, stage.proxy, FEES, payout_request());
    assert_eq!((stage.paid_to_proxy_owner(&trace), stage.till().0), (30, 1_000 * COMMISSION - 30));
    stage.fund(TON);
    let trace = stage.send(Who::Stranger, stage.proxy, FEES, payout_request());
    assert_eq!((stage.paid_to_proxy_owner(&trace), stage.till().0), (1_000 * COMMISSION - 30, 0));
    assert_eq!(stage.coins(stage.proxy), stage.till().2 + FLOOR);
}

#[test]
fn the_owners_comment_withdraws_and_sweeps_what_nobody_counts() {
    let mut stage = staked_and_busy();
    stage.send(Who::Stranger, stage.proxy, TON, Cell::default());
    assert!(stage.surplus() > TON * 9 / 10);
    let trace = stage.owner_asks_proxy(comment("w"));
    let owner = Who::ProxyOwner.address();
    assert_eq!(trace.paid(stage.proxy, owner), 60_000 * COMMISSION);
    assert!(trace.change(stage.proxy, owner) > TON, "the surplus goes with the change");
    assert_eq!((stage.surplus(), stage.till()), (0, (0, STAKE, STAKE + 40_000 * PRICE)));
}

#[test]
fn a_completed_close_pays_exactly_what_is_owed() {
    let owed = STAKE + 60_000 * COMMISSION;
    // By the owner, by a comment, and by a signature: the same, and the money for workers stays.
    for by in ["owner", "comment", "signature"] {
        let mut stage = staked_and_busy().unlocked();
        let trace = match by {
            "owner" => stage.owner_asks_proxy(complete()),
            "comment" => stage.owner_asks_proxy(comment("c")),
            _ => stage.present(signed::close_complete(stage.proxy, QUERY), FEES),
        };
        assert_eq!(stage.paid_to_proxy_owner(&trace), owed, "{by}");
        assert_eq!((stage.proxy().state, stage.till()), (Lifecycle::Closed, (0, 0, 40_000 * PRICE)), "{by}");
        assert_eq!(stage.coins(stage.proxy), 40_000 * PRICE + FLOOR, "{by}");

        let payout = stage.pay_out(100_000);
        assert_eq!(stage.paid_to_worker(&payout), 40_000 * FEE, "a claim is paid after the close, {by}");
        let rest = stage.send(Who::Stranger, stage.proxy, FEES, payout_request());
        assert_eq!(stage.paid_to_proxy_owner(&rest), 40_000 * COMMISSION, "{by}");
        assert_eq!(stage.till(), (0, 0, 0), "{by}: not a nano is left, and none is missing");
        assert_eq!(stage.coins(stage.proxy), FLOOR, "{by}");
    }
}

#[test]
fn a_close_that_cannot_pay_all_leaves_the_rest_claimable() {
    let mut stage = Stage::new();
    stage.stake(STAKE);
    stage.pay_out(1_000_000);
    assert_eq!(stage.till(), (1_000_000 * COMMISSION, STAKE, STAKE - 1_000_000 * FEE));
    let mut stage = stage.unlocked();
    let trace = stage.owner_asks_proxy(complete());
    assert_eq!(stage.paid_to_proxy_owner(&trace), STAKE - 1_000_000 * FEE);
    assert_eq!(stage.till(), (1_000_000 * PRICE, 0, 0));
    stage.fund(1_000_000 * PRICE);
    let rest = stage.owner_asks_proxy(comment("w"));
    assert_eq!((stage.paid_to_proxy_owner(&rest), stage.till()), (1_000_000 * PRICE, (0, 0, 0)));
}

#[test]
fn the_owner_of_a_proxy_exits_alone() {
    let mut stage = staked_and_busy();
    stage.owner_asks_proxy(comment("c"));
    assert_eq!((stage.proxy().state, stage.proxy().unlock_unix_s), (Lifecycle::Closing, stage.now + PROXY_DELAY_S));
    stage.wait(PROXY_DELAY_S - 1);
    let early = vec![
        refusal("complete", Who::ProxyOwner, FEES, complete(), exit::LOCKED),
        refusal("comment", Who::ProxyOwner, FEES, comment("c"), exit::LOCKED),
        refusal("close again", Who::ProxyOwner, FEES, close(), exit::CLOSED),
    ];
    stage.check_refused(stage.proxy, early);
    stage.wait(1);
    let trace = stage.owner_asks_proxy(comment("c"));
    assert_eq!(stage.paid_to_proxy_owner(&trace), STAKE + 60_000 * COMMISSION);
    assert_eq!(stage.proxy().state, Lifecycle::Closed);
}

#[test]
fn a_signed_close_works_and_leaves_the_surplus() {
    let mut stage = staked_and_busy();
    stage.send(Who::Stranger, stage.proxy, TON, Cell::default());
    stage.present(signed::close_request(stage.proxy, QUERY), FEES);
    assert_eq!((stage.proxy().state, stage.proxy().unlock_unix_s), (Lifecycle::Closing, stage.now + PROXY_DELAY_S));
    let complete = stage.sign(signed::close_complete(stage.proxy, QUERY)).envelope(PURSE);
    let early = refusal("too early", Who::Stranger, FEES, complete, exit::LOCKED);
    stage.check_refused(stage.proxy, vec![early]);
    stage.wait(PROXY_DELAY_S);
    stage.present(signed::close_complete(stage.proxy, QUERY), FEES);
    assert!(stage.surplus() > TON * 9 / 10, "whoever submits sweeps nothing");
    stage.owner_asks_proxy(comment("w"));
    assert_eq!(stage.surplus(), 0);
}

#[test]
fn forged_requests_close_nothing() {
    let mut stage = Stage::new();
    let refusals =
        forgeries(&stage, signed::close_request(stage.proxy, QUERY), signed::close_request(stage.client, QUERY), FEES);
    stage.check_refused(stage.proxy, refusals);
    let mut stage = stage.unlocked();
    let refusals = forgeries(
        &stage,
        signed::close_complete(stage.proxy, QUERY),
        signed::close_complete(stage.client, QUERY),
        FEES,
    );
    stage.check_refused(stage.proxy, refusals);
}

#[test]
fn a_close_has_its_order() {
    let mut stage = Stage::new();
    let signed_request = stage.sign(signed::close_request(stage.proxy, QUERY)).envelope(PURSE);
    let signed_complete = stage.sign(signed::close_complete(stage.proxy, QUERY)).envelope(PURSE);
    let never_begun = vec![
        refusal("complete", Who::ProxyOwner, FEES, complete(), exit::LOCKED),
        refusal("signed complete", Who::Stranger, FEES, signed_complete.clone(), exit::LOCKED),
    ];
    stage.check_refused(stage.proxy, never_begun);
    let mut stage = stage.unlocked();
    let closing = vec![
        refusal("close", Who::ProxyOwner, FEES, close(), exit::CLOSED),
        refusal("signed request", Who::Stranger, FEES, signed_request.clone(), exit::CLOSED),
    ];
    stage.check_refused(stage.proxy, closing);
    stage.owner_asks_proxy(complete());
    let closed = vec![
        refusal("close", Who::ProxyOwner, FEES, close(), exit::CLOSED),
        refusal("comment", Who::ProxyOwner, FEES, comment("c"), exit::CLOSED),
        refusal("complete", Who::ProxyOwner, FEES, complete(), exit::CLOSED),
        refusal("signed request", Who::Stranger, FEES, signed_request, exit::CLOSED),
        refusal("signed complete", Who::Stranger, FEES, signed_complete, exit::CLOSED),
    ];
    stage.check_refused(stage.proxy, closed);
}

#[test]
fn only_the_owner_closes_and_comments() {
    for stage in [Stage::new(), Stage::new().unlocked()] {
        let mut stage = stage;
        for from in [Who::ClientOwner, Who::WorkerOwner, Who::Stranger] {
            let refusals = vec![
                refusal("close", from, FEES, close(), exit::FROM_OWNER),
                refusal("complete", from, FEES, complete(), exit::FROM_OWNER),
                refusal("withdraw", from, FEES, comment("w"), exit::FROM_OWNER),
                refusal("close by comment", from, FEES, comment("c"), exit::FROM_OWNER),
            ];
            stage.check_refused(stage.proxy, refusals);
        }
    }
}

#[test]
fn nobody_claims_in_the_name_of_a_worker_or_a_client() {
    let mut stage = Stage::new();
    stage.fund(TON);
    for from in Who::ALL {
        let refusals = vec![
            refusal("claim", from, FEES, worker_note(claim_of(TON, 0)), exit::DERIVED),
            refusal("commission", from, FEES, worker_note(claim_of(0, TON)), exit::DERIVED),
            refusal("note of a worker", from, FEES, worker_note(None), exit::DERIVED),
            refusal("note of a client", from, FEES, client_note(), exit::DERIVED),
        ];
        stage.check_refused(stage.proxy, refusals);
    }
}

#[test]
fn messages_that_say_too_little_or_carry_too_little_are_refused() {
    let mut stage = Stage::new();
    let owner = Who::ProxyOwner;
    let mut refusals = vec![
        refusal("a charge without its money", owner, TON, charge_paid(TON), exit::LOW_VALUE),
        refusal("a charge without fees", owner, TON + 2 * FLOOR - 1, charge_paid(TON), exit::LOW_VALUE),
        refusal("a huge charge", owner, TON, charge_paid(u64::MAX), exit::LOW_VALUE),
        refusal("a stake without its money", owner, TON, increase_stake(TON), exit::LOW_VALUE),
        refusal("a stake without fees", owner, TON + FEES - 1, increase_stake(TON), exit::LOW_VALUE),
        refusal("an unknown comment", owner, TON, comment("x"), exit::UNKNOWN_TEXT),
        refusal("a long comment", owner, TON, comment("ww"), exit::UNKNOWN_TEXT),
        refusal("an empty comment", owner, TON, comment(""), exit::UNKNOWN_TEXT),
        refusal(
            "a comment with a reference",
            owner,
            TON,
            super::stage::with_reference(&comment("w")),
            exit::UNKNOWN_TEXT,
        ),
        refusal("a poor comment", owner, TON / 20 - 1, comment("w"), exit::LOW_VALUE),
        refusal("a remainder, which is for workers", owner, TON, remainder(), exit::UNKNOWN_OP),
    ];
    for (what, body) in [("payout", payout_request()), ("close", close())] {
        refusals.push(refusal(what, owner, TON / 20 - 1, body, exit::LOW_VALUE));
    }
    for (what, body) in [
        ("charge", charge_paid(1)),
        ("stake", increase_stake(1)),
        ("payout", payout_request()),
        ("close", close()),
        ("complete", complete()),
        ("worker", worker_note(claim_of(1, 1))),
        ("client", client_note()),
    ] {
        refusals.push(refusal(what, owner, TON, longer(&body), exit::MALFORMED));
        refusals.push(refusal(what, owner, TON, shorter(&body), exit::MALFORMED));
    }
    stage.check_refused(stage.proxy, refusals);
}

fn remainder() -> Cell {
    use cocoon_ton::contract::message::worker::PayoutRemainder;
    PayoutRemainder { query_id: QUERY, amount: Nano::new(1), excesses_to: PURSE }.to_cell()
}

#[test]
fn what_is_not_for_a_proxy_is_ignored() {
    let mut stage = Stage::new();
    for body in [
        Cell::default(),
        Note::Excesses { query_id: QUERY }.to_cell(),
        Note::Payout { query_id: QUERY }.to_cell(),
        Note::DoNotProcess(LogEntry::ProxyState { query_id: QUERY, seqno: 1, unique_hash: [1; 32] }).to_cell(),
    ] {
        let before = stage.proxy();
        assert_eq!(stage.send(Who::Stranger, stage.proxy, FEES, body).exit(stage.proxy), exit::OK);
        assert_eq!(stage.proxy(), before);
    }
}

#[test]
fn charges_and_payouts_of_the_whole_set_come_out_even() {
    let mut stage = Stage::new();
    for round in 1..=5 {
        stage.present(signed::charge(stage.client, QUERY, round * 10_000), FEES);
        stage.pay_out(round * 10_000);
    }
    assert_eq!(stage.till(), (50_000 * COMMISSION, 0, 50_000 * COMMISSION));
    let trace = stage.owner_asks_proxy(comment("w"));
    assert_eq!(stage.paid_to_proxy_owner(&trace), 50_000 * COMMISSION);
    assert_eq!((stage.till(), stage.coins(stage.proxy)), ((0, 0, 0), FLOOR));
}
