//! Receipts, their ids, accounts of contracts, and earnings that are not signed yet.

use bytes::Bytes;
use cocoon_ledger::{Credit, Run, Spent};
use cocoon_wire::message::Proof;

use super::*;
use crate::core::{Admits, ExposureRules, Lost, LostOutcome};

const AGE: Duration = Duration::from_secs(180);

fn proved(total: u64) -> Word {
    let proof = Proof { receipt: Bytes::from_static(b"receipt"), evidence: None };
    Word::Proved { tokens: tokens(total), proof }
}

/// A request that asks for the receipt of an id.
fn asking(key: u64, id: u8) -> RunQuery {
    RunQuery { receipt: Some([id; 32]), ..query(key) }
}

fn of_client(client: u64, query: RunQuery) -> RunQuery {
    RunQuery { client: ClientId(client), ..query }
}

impl Bench {
    /// Accounts are opened in handshakes, and may earn a thousand tokens unsigned.
    fn with_money(secured: u64) -> Self {
        let exposure = Some(ExposureRules { tokens_max: AdjustedTokens::new(1_000), age_max: AGE });
        let mut bench = Self { core: Core::new(CoreConfig { exposure, ..config() }), now: Instant::now() };
        let (charged, secured) = (AdjustedTokens::ZERO, AdjustedTokens::new(secured));
        bench.core.open_payer("payer", Credit { charged, secured }).unwrap();
        for client in [1, 2] {
            bench.feed(Event::ClientJoined { client: ClientId(client), account: "payer".into() });
        }
        bench
    }

    fn say(&mut self, key: u64, worker: u64, word: Word) -> String {
        self.words(Event::Ended { key: RequestKey(key), worker: WorkerId(worker), word })
    }
}

#[test]
fn a_receipt_is_what_is_charged_and_its_id_is_spent() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    let Some(Action::Dispatch(dispatch)) = bench.feed(Event::Run(asking(1, 7))).pop() else { panic!("not sent") };
    let agreed = dispatch.receipt.unwrap();
    assert_eq!((agreed.id, agreed.model.as_str(), agreed.coefficient), ([7; 32], "m", Coefficient::ONE));
    check(bench.say(1, 1, proved(39)), "settled(1:39) forget(1)");
    let spent = bench.core.ledger().spent(&[7; 32]).unwrap();
    assert_eq!((spent.tokens.get(), &spent.receipt[..]), (39, &b"receipt"[..]));
}

#[test]
fn reused_receipt_id() {
    let mut bench = Bench::new();
    bench.feed(Event::ClientJoined { client: ClientId(2), account: "other".into() });
    bench.worker(1, 1_000, 4);
    check(bench.words(Event::Run(asking(1, 7))), "dispatch(1→1)");
    // In flight, settled, and given up: by the same client or another.
    check(bench.words(Event::Run(asking(2, 7))), "fail(2:Client:BadRequest:0) forget(2)");
    check(bench.words(Event::Run(of_client(2, asking(3, 7)))), "fail(3:Client:BadRequest:0) forget(3)");
    check(bench.say(1, 1, proved(39)), "settled(1:39) forget(1)");
    check(bench.words(Event::Run(asking(4, 7))), "fail(4:Client:BadRequest:0) forget(4)");
    check(bench.words(Event::Run(asking(5, 8))), "dispatch(5→1)");
    check(bench.say(5, 1, Word::Unproved), "forget(5)");
    check(bench.words(Event::Run(asking(6, 8))), "fail(6:Client:BadRequest:0) forget(6)");
    // One that no worker had may be asked for again.
    bench.words(Event::WorkerChanged { worker: WorkerId(1), change: WorkerChange::Disabled });
    check(bench.words(Event::Run(asking(7, 9))), "fail(7:Proxy:NoWorker:0) forget(7)");
    bench.words(Event::WorkerChanged { worker: WorkerId(1), change: WorkerChange::Enabled });
    check(bench.words(Event::Run(asking(8, 9))), "dispatch(8→1)");
}

#[test]
fn an_answer_without_a_valid_receipt_costs_nothing_and_its_worker_is_to_blame() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    bench.worker(2, 1_900, 4);
    check(bench.words(Event::Run(asking(1, 7))), "dispatch(1→1)");
    check(bench.say(1, 1, Word::Unproved), "forget(1)");
    assert_eq!((bench.used(), bench.core.tally().unproved), (0, 1));
    check(bench.run(2), "dispatch(2→2)");
}

#[test]
fn a_request_for_a_receipt_never_goes_to_a_worker_that_signs_none() {
    let mut bench = Bench::with_money(1_000_000);
    let refused = "fail(1:Proxy:NoWorker:0) forget(1)";
    bench.words(joined(1, 1_000, 4, CancelSupport::No));
    check(bench.words(Event::Run(asking(1, 1))), refused);
    // One that signs is waited for, and another is no retry.
    bench.worker(2, 1_900, 1);
    check(bench.words(Event::Run(asking(2, 2))), "dispatch(2→2)");
    check(bench.words(Event::Run(asking(3, 3))), "");
    check(
        bench.failed(2, 2, Blame::Engine, FailureCode::EngineFailed),
        "fail(2:Engine:EngineFailed:0) forget(2) dispatch(3→2)",
    );
    check(bench.leave(2), "fail(3:Worker:WorkerLost:0) forget(3)");
    // One above the cap is the better reason.
    bench.worker(3, 5_000, 1);
    check(bench.words(Event::Run(asking(4, 4))), "fail(4:Client:NoWorkerUnderPrice:0) forget(4)");
}

#[test]
fn a_request_without_an_ask_goes_to_any_worker_and_so_does_every_one_without_money() {
    let mut bench = Bench::with_money(1_000_000);
    bench.words(joined(1, 1_000, 4, CancelSupport::No));
    check(bench.run(1), "dispatch(1→1)");
    check(bench.say(1, 1, claimed(39)), "settled(1:39) forget(1)");
    let mut bench = Bench::new();
    bench.words(joined(1, 1_000, 4, CancelSupport::No));
    check(bench.words(Event::Run(asking(1, 1))), "dispatch(1→1)");
}

#[test]
fn deadline_around_the_end_to_get_the_answer_free() {
    let mut bench = Bench::with_money(1_000_000);
    bench.worker(1, 1_000, 4);
    let mut expired = |key: u64, id: u8| {
        let timeout = Duration::from_millis(100);
        check(bench.words(Event::Run(RunQuery { timeout, ..asking(key, id) })), &format!("dispatch({key}→1)"));
        check(bench.after(timeout), &format!("cancel({key}→1)"));
    };
    // The end was under way when the time was over.
    expired(1, 1);
    expired(2, 2);
    expired(3, 3);
    check(bench.say(1, 1, proved(39)), "fail(1:Worker:Timeout:39) settled(1:39) forget(1)");
    // What broke off, or proves nothing, stays free.
    let (key, worker, failure) = (RequestKey(2), WorkerId(1), failure(Blame::Worker, FailureCode::Timeout));
    check(bench.words(Event::Failed { key, worker, failure, word: proved(9) }), "fail(2:Worker:Timeout:0) forget(2)");
    check(bench.say(3, 1, claimed(9)), "fail(3:Worker:Timeout:0) forget(3)");
    assert_eq!((bench.used(), bench.earned(1)), (39, 39));
}

#[test]
fn a_deadline_in_the_middle_of_an_answer_is_told_with_its_receipt() {
    let mut bench = Bench::with_money(1_000_000);
    bench.worker(1, 1_000, 4);
    let timeout = Duration::from_secs(1);
    for key in [1, 2] {
        bench.words(Event::Run(RunQuery { timeout, ..asking(key, u8::try_from(key).unwrap()) }));
        bench.started(key, 1);
    }
    check(bench.after(timeout), "cancel(1→1) cancel(2→1)");
    let failure = failure(Blame::Client, FailureCode::Cancelled);
    let failed = Event::Failed { key: RequestKey(1), worker: WorkerId(1), failure, word: proved(9) };
    let actions = bench.feed(failed);
    let told = ["fail(1:Worker:Timeout:9)", "settled(1:9)", "forget(1)"];
    assert_eq!(actions.iter().map(word).collect::<Vec<_>>(), told);
    assert!(matches!(&actions[0], Action::Fail { proof: Some(_), .. }));
    // One whose worker says nothing is free, and a receipt of it void.
    check(bench.after(CANCEL_GRACE), "abandon(2→1) fail(2:Worker:Timeout:0) forget(2)");
    check(bench.say(2, 1, proved(9)), "");
    let spent = Spent { id: [2; 32], run: Run::default(), opened_at: 1, receipt: Bytes::from_static(b"receipt") };
    let lost = Lost { payer: "payer".into(), credit: None, used: AdjustedTokens::new(9), spent };
    assert!(matches!(bench.core.settle_lost(bench.now, "payee 1", lost), LostOutcome::Refused(_)));
    assert_eq!(bench.used(), 9);
}

#[test]
fn an_answer_that_broke_off_is_paid_by_receipt_only() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    let midway = |bench: &mut Bench, key, word| {
        bench.started(key, 1);
        let failure = failure(Blame::Engine, FailureCode::EngineFailed);
        bench.words(Event::Failed { key: RequestKey(key), worker: WorkerId(1), failure, word })
    };
    bench.words(Event::Run(asking(1, 7)));
    check(midway(&mut bench, 1, proved(9)), "fail(1:Engine:EngineFailed:9) settled(1:9) forget(1)");
    bench.words(Event::Run(asking(2, 8)));
    check(midway(&mut bench, 2, Word::Unproved), "fail(2:Engine:EngineFailed:0) forget(2)");
    bench.run(3);
    check(midway(&mut bench, 3, claimed(9)), "fail(3:Engine:EngineFailed:0) forget(3)");
    assert_eq!(bench.used(), 9);
}

#[test]
fn client_hanging_up_before_the_end_to_avoid_paying() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    bench.words(Event::Run(asking(1, 7)));
    bench.started(1, 1);
    check(bench.words(Event::ClientLeft { client: ClientId(1) }), "cancel(1→1)");
    check(bench.say(1, 1, proved(30)), "settled(1:30) forget(1)");
    assert_eq!((bench.earned(1), bench.core.ledger().totals().charged), (30, 30));
    // The honest twin hears the end.
    bench.feed(Event::ClientJoined { client: ClientId(2), account: "payer".into() });
    bench.words(Event::Run(of_client(2, asking(2, 8))));
    check(bench.say(2, 1, proved(39)), "settled(2:39) forget(2)");
    assert_eq!(bench.earned(1), 69);
}

#[test]
fn two_clients_racing_one_balance() {
    // One request reserves 1324 tokens: enough for one at a time.
    let mut bench = Bench::with_money(2_000);
    bench.worker(1, 1_000, 4);
    check(bench.words(Event::Run(of_client(1, query(1)))), "dispatch(1→1)");
    check(bench.words(Event::Run(of_client(2, query(2)))), "fail(2:Client:LimitExceeded:0) forget(2)");
    check(bench.say(1, 1, claimed(1_300)), "settled(1:1300) forget(1)");
    check(bench.words(Event::Run(of_client(2, query(3)))), "fail(3:Client:LimitExceeded:0) forget(3)");
    // What the contract was charged, and what it holds anew, is free again.
    let credit =
        |charged, secured| Credit { charged: AdjustedTokens::new(charged), secured: AdjustedTokens::new(secured) };
    bench.core.credit_changed("payer", credit(1_300, 2_000), Admits::New);
    bench.core.ledger().assert_conserved();
    bench.now += AGE;
    bench.worker(2, 1_000, 4);
    check(bench.words(Event::Run(of_client(2, query(4)))), "dispatch(4→2)");
}

#[test]
fn a_closing_contract_gets_nothing_new() {
    let mut bench = Bench::with_money(10_000);
    bench.worker(1, 1_000, 4);
    bench.run(1);
    let credit = Credit { charged: AdjustedTokens::ZERO, secured: AdjustedTokens::new(10_000) };
    bench.core.credit_changed("payer", credit, Admits::Nothing);
    check(bench.run(2), "fail(2:Client:LimitExceeded:0) forget(2)");
    check(bench.say(1, 1, claimed(5)), "settled(1:5) forget(1)");
    bench.core.credit_changed("payer", credit, Admits::New);
    check(bench.run(3), "dispatch(3→1)");
    bench.say(3, 1, claimed(5));
    bench.core.close_account("payer");
    check(bench.run(4), "fail(4:Client:LimitExceeded:0) forget(4)");
}

#[test]
fn a_worker_with_too_much_unsigned_gets_nothing_new_until_a_commit() {
    let mut bench = Bench::with_money(100_000);
    bench.worker(1, 1_000, 4);
    bench.run(1);
    bench.run(2);
    check(bench.say(1, 1, claimed(1_000)), "settled(1:1000) forget(1)");
    check(bench.run(3), "dispatch(3→1)");
    check(bench.say(2, 1, claimed(1)), "settled(2:1) forget(2)");
    assert_eq!(bench.core.tally().held_back, 1);
    // It keeps what it has, and the next one waits.
    check(bench.run(4), "");
    let money = bench.core.money_tally(bench.now).unwrap();
    assert_eq!((money.unsigned, money.unsigned_most, money.unsigned_max), (1_001, 1_001, 1_000));
    bench.core.set_exposure(AdjustedTokens::new(2_000));
    check(bench.words(Event::Settling), "dispatch(4→1)");
}

#[test]
fn a_worker_whose_earnings_stay_unsigned_for_too_long_gets_nothing_new() {
    let mut bench = Bench::with_money(100_000);
    bench.worker(1, 1_000, 4);
    bench.run(1);
    bench.say(1, 1, claimed(1));
    assert_eq!(bench.core.next_timeout(), Some(bench.now + AGE));
    check(bench.after(AGE), "");
    check(bench.run(2), "");
    assert_eq!(bench.core.tally().held_back, 1);
    assert!(bench.core.next_timeout().is_some_and(|at| at > bench.now), "it does not wake up for nothing");
}

#[test]
fn clients_of_an_old_contract_finish_what_runs_and_begin_nothing() {
    let mut bench = Bench::with_money(100_000);
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    check(bench.words(Event::ClientOutdated { client: ClientId(1) }), "fail(2:Proxy:Draining:0) forget(2)");
    check(bench.run(3), "fail(3:Proxy:Draining:0) forget(3)");
    // A retry would go to a worker of the new contract.
    bench.worker(2, 1_000, 1);
    check(bench.leave(1), "fail(1:Worker:WorkerLost:0) forget(1)");
}

#[test]
fn replayed_handover() {
    let mut bench = Bench::with_money(10_000);
    bench.worker(1, 1_000, 4);
    let lost = |id: u8, used| Lost {
        payer: "payer".into(),
        credit: None,
        used: AdjustedTokens::new(used),
        spent: Spent { id: [id; 32], run: Run::default(), opened_at: 1, receipt: Bytes::from_static(b"receipt") },
    };
    let settle = |bench: &mut Bench, lost| bench.core.settle_lost(bench.now, "payee 1", lost);
    assert_eq!(settle(&mut bench, lost(1, 50)), LostOutcome::Settled(AdjustedTokens::new(50)));
    assert!(matches!(settle(&mut bench, lost(1, 50)), LostOutcome::Refused(_)));
    // Nor can a request that ended here be handed over, whatever it came to.
    bench.words(Event::Run(asking(1, 2)));
    bench.say(1, 1, proved(9));
    bench.words(Event::Run(asking(2, 3)));
    bench.say(2, 1, Word::Unproved);
    for id in [2, 3] {
        assert!(matches!(settle(&mut bench, lost(id, 50)), LostOutcome::Refused(_)), "{id}");
    }
    let strange = Lost { payer: "nobody".into(), ..lost(4, 50) };
    assert_eq!(settle(&mut bench, strange.clone()), LostOutcome::UnknownPayer);
    let credit = Some(Credit { charged: AdjustedTokens::ZERO, secured: AdjustedTokens::new(20) });
    let outcome = settle(&mut bench, Lost { credit, ..strange });
    assert_eq!(outcome, LostOutcome::Settled(AdjustedTokens::new(20)), "no more than its contract pays for");
    assert_eq!((bench.used(), bench.earned(1), bench.core.tally().recovered), (59, 79, 2));
    bench.core.ledger().assert_conserved();
}
