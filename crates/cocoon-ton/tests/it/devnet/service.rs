//! The devnet as roles see it: a chain that forgets nothing that it acknowledged.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::chain::{Chain, ChainError, Proof, Status};
use cocoon_ton::devnet::{Devnet, Genesis, OpenError, Options, Order, puppet};
use cocoon_ton::{Address, Cell};
use cocoon_units::{FixedClock, Nano, UnixTime};

use super::support::{NOW, THROWS, contract, external, ton};

fn options() -> Options {
    Options { genesis: Genesis { unix_s: NOW, puppets: 3, ..Genesis::default() }, ..Options::default() }
}

fn transfer(from: u32, to: Address, nonce: u64) -> Cell {
    puppet::command(puppet::address(from), &Order::transfer(to, ton(1)), nonce).unwrap()
}

async fn balance(devnet: &Devnet, address: &Address) -> Nano {
    devnet.account(address).await.unwrap().for_display().balance
}

/// The file as a crash at this moment would leave it: what the process wrote, without its shutdown.
fn crashed(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(from.join("devnet.redb"), copy.path().join("devnet.redb")).unwrap();
    copy
}

#[tokio::test]
async fn what_it_says_is_proved_by_being_here() {
    let devnet = Devnet::memory(&options()).unwrap();
    assert_eq!(devnet.head().await.unwrap().proof(), Proof::Local);
    assert_eq!(devnet.config().await.unwrap().proof(), Proof::Local);
    let nobody = contract(&THROWS).0;
    let account = devnet.account(&nobody).await.unwrap();
    assert_eq!(account.proof(), Proof::Local);
    assert_eq!(account.for_display().status, Status::Missing);
}

#[tokio::test]
async fn a_devnet_that_slept_wakes_with_a_block_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let at = |unix_s| Options {
        clock: Some(Arc::new(FixedClock::at(UnixTime::from_secs_f64(f64::from(unix_s))))),
        auto_tick: Some(Duration::from_secs(3_600)),
        ..options()
    };
    let devnet = Devnet::open(folder.path(), &at(NOW)).unwrap();
    devnet.tick().await.unwrap();
    let woken = Devnet::open(crashed(folder.path()).path(), &at(NOW + 600)).unwrap();
    assert!(woken.head().await.unwrap().for_display().unix_s >= NOW + 600);
}

#[tokio::test]
async fn the_faucet_pays_exactly_and_names_the_transaction() {
    let devnet = Devnet::memory(&options()).unwrap();
    let to = contract(&THROWS).0;
    let gift = devnet.faucet(to, ton(3)).await.unwrap();
    assert_eq!(gift.account, to);
    assert_eq!(balance(&devnet, &to).await, ton(3));
    assert_eq!(devnet.account(&to).await.unwrap().for_display().last, Some(gift.id));
    devnet.check_conservation().await.unwrap();
}

#[tokio::test]
async fn the_faucet_says_so_when_a_fault_holds_its_money() {
    let devnet = Devnet::memory(&options()).unwrap();
    let to = puppet::address(1);
    devnet.set_faults(move |faults| faults.hold(to)).await.unwrap();
    assert!(matches!(devnet.faucet(to, ton(3)).await, Err(ChainError::Stopped(_))));
    assert_eq!(devnet.queue_len(), 1);
    devnet.set_faults(move |faults| faults.release(&to)).await.unwrap();
    devnet.tick().await.unwrap();
    assert!(balance(&devnet, &to).await > ton(1_002), "a puppet pays for its own gas");
}

#[tokio::test]
async fn transactions_come_in_pages_without_a_gap() {
    let devnet = Devnet::memory(&options()).unwrap();
    let (from, to) = (puppet::address(1), puppet::address(2));
    for nonce in 0..25 {
        devnet.send(&transfer(1, to, nonce)).await.unwrap();
    }
    devnet.tick().await.unwrap();
    let mut after = None;
    let mut seen = 0;
    loop {
        let page = devnet.transactions(&from, after, 7).await.unwrap().for_display();
        let Some(last) = page.last() else { break };
        assert_eq!(page[0].previous, after);
        assert!(page.windows(2).all(|pair| pair[1].previous == Some(pair[0].id)));
        seen += page.len();
        after = Some(last.id);
    }
    assert_eq!(seen, 25);
    assert_eq!(after, devnet.account(&from).await.unwrap().for_display().last);
    let newest = devnet.history(&from, None, 3).await.unwrap();
    assert_eq!(newest.iter().map(|(id, _)| Some(*id)).next(), Some(after));
    assert!(newest.windows(2).all(|pair| pair[0].0.lt > pair[1].0.lt));
}

#[tokio::test]
async fn a_watermark_of_another_chain_is_a_gap_not_an_answer() {
    let devnet = Devnet::memory(&options()).unwrap();
    let from = puppet::address(1);
    devnet.send(&transfer(1, from, 0)).await.unwrap();
    devnet.tick().await.unwrap();
    let last = devnet.account(&from).await.unwrap().for_display().last.unwrap();
    let forged = cocoon_ton::chain::TxId { lt: last.lt, hash: [7; 32] };
    let unknown = cocoon_ton::chain::TxId { lt: last.lt - 1, hash: [7; 32] };
    let ahead = cocoon_ton::chain::TxId { lt: last.lt + 1_000, hash: [7; 32] };
    for after in [forged, unknown, ahead] {
        let answer = devnet.transactions(&from, Some(after), 10).await;
        assert!(matches!(answer, Err(ChainError::Gap { .. })), "{after:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_refused_external_tells_its_exit_code() {
    let devnet = Devnet::memory(&options()).unwrap();
    let (address, init) = contract(&THROWS);
    let order = Order::transfer(address, ton(1)).deploying(init);
    devnet.send(&puppet::command(puppet::address(1), &order, 0).unwrap()).await.unwrap();
    devnet.tick().await.unwrap();
    let refused = devnet.send(&external(address, Cell::default())).await;
    assert!(matches!(refused, Err(ChainError::Refused { exit_code: Some(777), .. })), "{refused:?}");
    assert_eq!(devnet.queue_len(), 0);
}

#[tokio::test]
async fn subscribers_hear_of_a_block_once_it_can_be_read() {
    let devnet = Devnet::memory(&options()).unwrap();
    let to = puppet::address(2);
    let mut heard = devnet.subscribe(&to).await.unwrap();
    assert_eq!(*heard.borrow_and_update(), None);
    devnet.send(&transfer(1, to, 0)).await.unwrap();
    devnet.tick().await.unwrap();
    heard.changed().await.unwrap();
    let last = *heard.borrow_and_update();
    assert_eq!(last, devnet.account(&to).await.unwrap().for_display().last);
    assert_eq!(devnet.subscribe(&to).await.unwrap().borrow().unwrap(), last.unwrap());
}

#[tokio::test]
async fn time_follows_the_clock_and_what_was_advanced() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        clock: Some(Arc::new(FixedClock::at(UnixTime::from_secs_f64(2_000_000_000.5)))),
        ..Options::default()
    };
    let devnet = Devnet::open(folder.path(), &options).unwrap();
    assert_eq!(devnet.head().await.unwrap().for_display().unix_s, 2_000_000_000);
    let head = devnet.advance(Duration::from_secs(86_400)).await.unwrap();
    assert_eq!(head.unix_s, 2_000_086_400);
    let clock = devnet.clock();
    drop(devnet);
    let devnet = Devnet::open(folder.path(), &options).unwrap();
    assert!((devnet.clock().unix_now().as_secs_f64() - 2_000_086_400.5).abs() < 1e-6);
    assert!((clock.unix_now().as_secs_f64() - 2_000_086_400.5).abs() < 1e-6);
    assert!(devnet.advance(Duration::from_secs(11 * 365 * 86_400)).await.is_err());
}

#[tokio::test]
async fn a_message_acknowledged_before_a_crash_is_executed_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::open(folder.path(), &options()).unwrap();
    let to = puppet::address(2);
    devnet.send(&transfer(1, to, 0)).await.unwrap();
    let copy = crashed(folder.path());
    let revived = Devnet::open(copy.path(), &options()).unwrap();
    assert_eq!(revived.queue_len(), 1);
    revived.tick().await.unwrap();
    assert_eq!(revived.transactions(&to, None, 10).await.unwrap().for_display().len(), 1);
    revived.check_conservation().await.unwrap();
}

#[tokio::test]
async fn a_block_told_before_a_crash_is_there_after_it_with_what_was_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::open(folder.path(), &options()).unwrap();
    let (from, held) = (puppet::address(1), puppet::address(2));
    devnet.set_faults(move |faults| faults.hold(held)).await.unwrap();
    for nonce in 0..5 {
        devnet.send(&transfer(1, held, nonce)).await.unwrap();
    }
    devnet.tick().await.unwrap();
    let told = devnet.transactions(&from, None, 10).await.unwrap().for_display();
    let copy = crashed(folder.path());
    let revived = Devnet::open(copy.path(), &options()).unwrap();
    assert_eq!(revived.head().await.unwrap(), devnet.head().await.unwrap());
    assert_eq!(revived.transactions(&from, None, 10).await.unwrap().for_display(), told);
    assert_eq!(revived.queue_len(), 5);
    revived.check_conservation().await.unwrap();
    revived.tick().await.unwrap();
    assert_eq!(revived.transactions(&held, None, 10).await.unwrap().for_display().len(), 5);
    revived.check_conservation().await.unwrap();
}

#[tokio::test]
async fn a_replayed_external_after_a_restart_waits_once() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::open(folder.path(), &options()).unwrap();
    let message = transfer(1, puppet::address(2), 0);
    let hash = devnet.send(&message).await.unwrap();
    assert_eq!(devnet.send(&message).await.unwrap(), hash);
    drop(devnet);
    let devnet = Devnet::open(folder.path(), &options()).unwrap();
    assert_eq!(devnet.send(&message).await.unwrap(), hash);
    assert_eq!(devnet.queue_len(), 1);
}

#[tokio::test]
async fn a_snapshot_is_the_whole_devnet_at_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::open(&folder.path().join("one"), &options()).unwrap();
    let to = puppet::address(2);
    devnet.faucet(to, ton(5)).await.unwrap();
    let snapshot = folder.path().join("snapshots/before");
    devnet.snapshot(&snapshot).await.unwrap();
    assert!(devnet.snapshot(&snapshot).await.is_err(), "nothing is overwritten");
    let then = devnet.head().await.unwrap();
    devnet.faucet(to, ton(7)).await.unwrap();
    let other = folder.path().join("two");
    Devnet::restore(&snapshot, &other).unwrap();
    let back = Devnet::open(&other, &options()).unwrap();
    assert_eq!(back.head().await.unwrap(), then);
    assert_eq!(back.transactions(&to, None, 10).await.unwrap().for_display().len(), 1);
    back.check_conservation().await.unwrap();
    assert!(matches!(Devnet::restore(&snapshot, &other), Err(OpenError::Exists(_))));
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Devnet::open(folder.path(), &options()).unwrap();
    let second = Devnet::open(folder.path(), &options()).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
}

#[test]
fn a_file_of_something_else_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("devnet.redb");
    fs::write(&path, b"a letter to a friend".repeat(400)).unwrap();
    assert!(Devnet::open(folder.path(), &options()).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"a letter to a friend".repeat(400));
}

#[tokio::test]
async fn sends_that_come_together_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    let devnet = Devnet::open(folder.path(), &options()).unwrap();
    let to = puppet::address(2);
    let mut senders = tokio::task::JoinSet::new();
    for nonce in 0..64 {
        let devnet = devnet.clone();
        senders.spawn(async move { devnet.send(&transfer(1, to, nonce)).await.unwrap() });
    }
    let hashes: std::collections::BTreeSet<_> = senders.join_all().await.into_iter().collect();
    assert_eq!(hashes.len(), 64);
    devnet.tick().await.unwrap();
    assert_eq!(devnet.transactions(&to, None, 100).await.unwrap().for_display().len(), 64);
}

#[tokio::test(start_paused = true)]
async fn an_automatic_devnet_makes_blocks_when_there_is_work() {
    let options = Options { auto_tick: Some(Duration::from_millis(200)), ..options() };
    let devnet = Devnet::memory(&options).unwrap();
    let to = puppet::address(2);
    let mut heard = devnet.subscribe(&to).await.unwrap();
    devnet.send(&transfer(1, to, 0)).await.unwrap();
    heard.changed().await.unwrap();
    let head = devnet.head().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(devnet.head().await.unwrap(), head, "its clock stands still, and there is nothing to do");
}
