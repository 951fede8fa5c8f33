//! Peers that use the core's own rules against others: each costs the others little.

use super::*;
use crate::limits::MODELS_MAX;

#[test]
fn a_worker_that_takes_requests_and_never_answers_loses_its_rank() {
    let mut bench = Bench::new();
    bench.worker(1, 1, 1_000);
    bench.worker(2, 2_000, 1);
    assert_eq!(bench.run(1), "dispatch(1→1)");
    assert!(bench.after(Duration::from_secs(60)).starts_with("fail(1:Worker:Timeout:0) cancel(1→1)"));
    assert_eq!(bench.run(2), "dispatch(2→2)");
    bench.ended(2, 2, 1);
    bench.now += Duration::from_secs(60);
    assert_eq!(bench.run(3), "dispatch(3→2)", "it stays behind when its cooldown is over");
}

#[test]
fn short_deadlines_say_nothing_about_a_worker() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 4);
    bench.worker(2, 2_000, 4);
    bench.words(Event::Run(RunQuery { timeout: Duration::from_millis(1), ..query(1) }));
    bench.after(Duration::from_millis(1));
    assert_eq!(bench.run(2), "dispatch(2→1)");
}

#[test]
fn a_worker_without_slots_holds_up_nobody() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 0);
    assert_eq!(bench.run(1), "fail(1:Proxy:NoWorker:0) forget(1)");
}

#[test]
fn flood_of_one_payer_leaves_the_queue_to_others() {
    let mut bench = Bench::new();
    bench.feed(Event::ClientJoined { client: ClientId(2), account: "victim".into() });
    bench.worker(1, 1_000, 1);
    for key in 1..=3 {
        bench.run(key);
    }
    assert!(bench.run(4).starts_with("fail(4:Proxy:Overloaded"), "the queue is full");
    let victim = RunQuery { client: ClientId(2), ..query(5) };
    assert_eq!(bench.words(Event::Run(victim)), "fail(3:Proxy:Overloaded:0) forget(3)");
    let again = RunQuery { client: ClientId(2), ..query(6) };
    assert!(bench.words(Event::Run(again)).starts_with("fail(6:Proxy:Overloaded"), "both have their share");
    bench.cancel(2);
    bench.run(7);
    assert_eq!(bench.ended(1, 1, 1), "settled(1:1) forget(1) dispatch(5→1)");
}

#[test]
fn payers_take_turns_in_the_queue() {
    let mut bench = Bench::with(CoreConfig { queue_max: 10, ..config() });
    bench.feed(Event::ClientJoined { client: ClientId(2), account: "victim".into() });
    bench.worker(1, 1_000, 1);
    for key in 1..=4 {
        bench.run(key);
    }
    bench.words(Event::Run(RunQuery { client: ClientId(2), ..query(5) }));
    assert_eq!(bench.ended(1, 1, 1), "settled(1:1) forget(1) dispatch(2→1)");
    assert_eq!(bench.ended(2, 1, 1), "settled(2:1) forget(2) dispatch(5→1)", "before 3 and 4");
}

#[test]
fn worker_with_a_thousand_owners() {
    let mut bench = Bench::new();
    let payees = |bench: &Bench| bench.core.ledger().payees().count();
    for owner in 0..1_000 {
        // A handshake alone opens nothing, whatever becomes of it.
        bench.core.open_payee(&format!("claimed {owner}")).unwrap();
        bench.worker(owner, 1_000, 1);
        bench.leave(owner);
    }
    assert_eq!(payees(&bench), 0);
    // Accounts that earned something stay, and so do those that another session has.
    bench.worker(1_001, 1_000, 1);
    bench.run(1);
    bench.ended(1, 1_001, 39);
    bench.leave(1_001);
    for worker in [1_002, 1_003] {
        let Event::WorkerJoined { worker, mut profile } = joined(worker, 1_000, 1, CancelSupport::Yes) else { return };
        profile.account = "shared".into();
        bench.words(Event::WorkerJoined { worker, profile });
    }
    bench.leave(1_002);
    assert_eq!(payees(&bench), 2);
    bench.run(2);
    assert_eq!(bench.ended(2, 1_003, 5), "settled(2:5) forget(2)");
    bench.leave(1_003);
    assert_eq!(payees(&bench), 2);
    assert_eq!(bench.core.open_payee("shared").unwrap().known.get(), 5);
}

#[test]
fn workers_that_come_and_go_do_not_fill_the_registry() {
    let mut bench = Bench::new();
    bench.worker(1, 1_000, 1);
    bench.run(1);
    bench.run(2);
    bench.leave(1);
    for worker in 2..=u64::try_from(MODELS_MAX).unwrap() + 10 {
        let Event::WorkerJoined { worker, mut profile } = joined(worker, 1_000, 1, CancelSupport::Yes) else { return };
        profile.model = format!("model {}", worker.0);
        assert_eq!(bench.words(Event::WorkerJoined { worker, profile }), "");
        bench.leave(worker.0);
    }
    assert_eq!(bench.worker(1 << 20, 1_000, 1), format!("dispatch(2→{})", 1 << 20), "its queue kept its model");
}
