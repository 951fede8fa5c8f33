//! A sender against a chain that misbehaves by script. Time is tokio's, paused: minutes pass in microseconds.

mod scripted;

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::scripted::{Fate, Scripted, body, ton};
use super::*;
use crate::chain::Proof;
use crate::limits::{WALLET_EXPIRY_MARGIN_S, WALLET_PAGE, WALLET_PAGES_MAX, WALLET_VALID_S};
use crate::wallet::Network;

const KIND: WalletKind = WalletKind::V5R1 { network: Network::TESTNET };

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn sender(chain: &Arc<Scripted>) -> Sender {
    journaled(chain, None)
}

fn journaled(chain: &Arc<Scripted>, journal: Option<PathBuf>) -> Sender {
    let chain: Arc<dyn Chain> = Arc::<Scripted>::clone(chain);
    Sender::new(chain, key(), KIND, journal, ChainPolicy::Proved).unwrap()
}

fn pay(number: u32) -> Outgoing {
    Outgoing { body: Some(body(number)), ..Outgoing::pay(Address::basechain([9; 32]), ton(1)) }
}

#[tokio::test(start_paused = true)]
async fn the_result_names_the_transaction_and_what_left() {
    let chain = Scripted::new(ton(10));
    let sent = sender(&chain).send(vec![pay(1), pay(2)]).await.unwrap();
    assert_eq!(sent.transaction.id, chain.transactions()[0].id);
    let bodies: Vec<_> = sent.messages.iter().map(|message| message.body.clone()).collect();
    assert_eq!(bodies, [body(1), body(2)]);
    assert!(chain.deployed_by_first_external(), "the first external brings the code");
    sender(&chain).send(vec![pay(3)]).await.unwrap();
    assert_eq!(chain.transactions().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_external_is_handed_in_again_byte_by_byte() {
    let chain = Scripted::new(ton(10));
    chain.fates([Fate::Drop, Fate::Unreachable, Fate::Drop]);
    sender(&chain).send(vec![pay(1)]).await.unwrap();
    let handed = chain.handed();
    assert!(handed.len() >= 4 && handed.iter().all(|hash| *hash == handed[0]), "{handed:?}");
    assert_eq!(chain.paid(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_duplicated_external_pays_once() {
    let chain = Scripted::new(ton(10));
    chain.fates([Fate::Twice]);
    let sender = sender(&chain);
    sender.send(vec![pay(1)]).await.unwrap();
    sender.send(vec![pay(2)]).await.unwrap();
    assert_eq!(chain.paid(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_late_landing_is_waited_for_and_not_paid_again() {
    let chain = Scripted::new(ton(10));
    chain.fates([Fate::Land(Duration::from_secs(u64::from(WALLET_VALID_S) - 1))]);
    chain.otherwise(Fate::Drop);
    sender(&chain).send(vec![pay(1)]).await.unwrap();
    assert_eq!(chain.paid(), [1]);
    assert_eq!(chain.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_external_is_made_anew_with_the_same_seqno() {
    let chain = Scripted::new(ton(10));
    chain.drop_for(Duration::from_secs(120));
    sender(&chain).send(vec![pay(1)]).await.unwrap();
    assert_eq!(chain.paid(), [1]);
    assert_eq!(chain.made(), 2);
    // Even one that never was handed to a block cannot be used any more.
    chain.replay_everything();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(chain.paid(), [1]);
}

/// Longer than any flight that nobody took.
const GIVEN_UP: Duration = Duration::from_secs((WALLET_VALID_S + WALLET_EXPIRY_MARGIN_S) as u64 + 15);

#[tokio::test(start_paused = true)]
async fn an_external_that_lands_after_it_was_given_up_is_not_paid_twice() {
    for (fate, made) in [(Fate::LandBehind(GIVEN_UP), 2), (Fate::LandOnceGivenUp, 1)] {
        let chain = Scripted::new(ton(10));
        chain.fates([fate]);
        chain.otherwise(Fate::Drop);
        let sender = sender(&chain);
        let sent = sender.send(vec![pay(1)]).await.unwrap();
        assert_eq!(sent.transaction.id, chain.transactions()[0].id);
        assert_eq!((chain.paid(), chain.made()), (vec![1], made), "{fate:?}");
        chain.otherwise(Fate::Land(Duration::ZERO));
        sender.send(vec![pay(2)]).await.unwrap();
        assert_eq!(chain.paid(), [1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_joined_after_an_external_was_given_up_are_paid_when_that_lands() {
    for fate in [Fate::LandBehind(GIVEN_UP), Fate::LandOnceGivenUp] {
        let chain = Scripted::new(ton(10));
        chain.fates([fate]);
        chain.drop_for(GIVEN_UP);
        let sender = sender(&chain);
        let late = async {
            sleep(Duration::from_secs(10)).await;
            sender.send(vec![pay(3)]).await
        };
        let (first, second, late) = tokio::join!(sender.send(vec![pay(1)]), sender.send(vec![pay(2)]), late);
        let (first, second, late) = (first.unwrap(), second.unwrap(), late.unwrap());
        assert_eq!(chain.paid(), [1, 2, 3], "{fate:?}");
        assert_eq!((first.transaction.id, &first.messages[0].body), (chain.transactions()[0].id, &body(1)));
        assert_eq!((second.transaction.id, &second.messages[0].body), (chain.transactions()[0].id, &body(2)));
        assert_eq!(late.transaction.id, chain.transactions()[1].id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_still_knows_the_external_that_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let chain = Scripted::new(ton(10));
    chain.fates([Fate::LandBehind(GIVEN_UP + Duration::from_secs(30))]);
    chain.otherwise(Fate::Drop);
    let first = journaled(&chain, Some(journal.clone()));
    let late = async {
        sleep(Duration::from_secs(10)).await;
        first.send(vec![pay(2)]).await
    };
    let both = async { tokio::join!(first.send(vec![pay(1)]), late) };
    tokio::time::timeout(GIVEN_UP, both).await.unwrap_err();
    assert_eq!(chain.made(), 2);
    stop(first).await;

    let second = journaled(&chain, Some(journal));
    let past = second.past().await.unwrap();
    assert_eq!(past.outcome, PastOutcome::Landed(chain.transactions()[0].id));
    let to = Address::basechain([9; 32]);
    assert_eq!(past.messages, [(to, body(1).repr_hash().0)], "what only the second one carried did not leave");
    assert_eq!(chain.paid(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_takes_nothing_is_given_up_after_some_attempts() {
    let chain = Scripted::new(ton(10));
    chain.otherwise(Fate::Drop);
    let error = sender(&chain).send(vec![pay(1)]).await.unwrap_err();
    assert!(matches!(error, SendError::Expired { attempts: 5 }), "{error}");
    assert_eq!(chain.made(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_restart_between_handing_in_and_landing_pays_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let chain = Scripted::new(ton(10));
    chain.fates([Fate::Land(Duration::from_secs(30))]);
    chain.otherwise(Fate::Drop);
    let first = journaled(&chain, Some(journal.clone()));
    tokio::time::timeout(Duration::from_secs(7), first.send(vec![pay(1)])).await.unwrap_err();
    stop(first).await;

    let second = journaled(&chain, Some(journal.clone()));
    let past = second.past().await.unwrap();
    assert_eq!(past.outcome, PastOutcome::Landed(chain.transactions()[0].id));
    assert_eq!(past.messages, [(Address::basechain([9; 32]), body(1).repr_hash().0)]);
    chain.otherwise(Fate::Land(Duration::ZERO));
    second.send(vec![pay(2)]).await.unwrap();
    assert_eq!(chain.paid(), [1, 2]);
    assert_eq!(chain.made(), 2);

    // What ended is still told to the process after that.
    stop(second).await;
    let third = journaled(&chain, Some(journal));
    assert_eq!(third.past().await.unwrap().outcome, PastOutcome::Landed(chain.transactions()[1].id));
}

#[tokio::test(start_paused = true)]
async fn a_restart_before_anything_was_handed_in_finishes_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let chain = Scripted::new(ton(10));
    chain.otherwise(Fate::Drop);
    let first = journaled(&chain, Some(journal.clone()));
    tokio::time::timeout(Duration::from_secs(1), first.send(vec![pay(1)])).await.unwrap_err();
    stop(first).await;
    chain.otherwise(Fate::Land(Duration::from_secs(1)));
    let past = journaled(&chain, Some(journal)).past().await.unwrap();
    assert!(matches!(past.outcome, PastOutcome::Landed(_)));
    assert_eq!(chain.paid(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_the_expiry_discards_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let chain = Scripted::new(ton(10));
    chain.otherwise(Fate::Drop);
    let first = journaled(&chain, Some(journal.clone()));
    tokio::time::timeout(Duration::from_secs(1), first.send(vec![pay(1)])).await.unwrap_err();
    stop(first).await;
    sleep(Duration::from_secs(u64::from(WALLET_VALID_S + WALLET_EXPIRY_MARGIN_S) + 1)).await;
    let second = journaled(&chain, Some(journal));
    assert_eq!(second.past().await.unwrap().outcome, PastOutcome::Never);
    chain.otherwise(Fate::Land(Duration::ZERO));
    second.send(vec![pay(2)]).await.unwrap();
    assert_eq!(chain.paid(), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_together() {
    let chain = Scripted::new(ton(100));
    chain.otherwise(Fate::Land(Duration::from_secs(3)));
    let sender = sender(&chain);
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let sender = sender.clone();
        calls.spawn(async move { (number, sender.send(vec![pay(number)]).await.unwrap()) });
    }
    while let Some(call) = calls.join_next().await {
        let (number, sent) = call.unwrap();
        assert_eq!(sent.messages[0].body, body(number), "everybody hears of their own message");
    }
    assert!(chain.transactions().len() <= 2);
    assert_eq!(chain.paid().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn too_little_money_says_how_much_is_missing() {
    let chain = Scripted::new(ton(1));
    let error = sender(&chain).send(vec![pay(1)]).await.unwrap_err();
    assert!(error.to_string().contains("has 1 TON and needs 1.02 TON: send it 0.02 TON more"), "{error}");
    assert_eq!(chain.handed().len(), 0);

    let cocoon = WalletKind::Cocoon { owner: Address::basechain([1; 32]) };
    let chain: Arc<dyn Chain> = chain;
    let cocoon = Sender::new(chain, key(), cocoon, None, ChainPolicy::Proved).unwrap();
    let error = cocoon.send(vec![]).await.unwrap_err();
    let words = "needs 2 TON: send it 1 TON more (this kind of wallet sends nothing while it has less than 2 TON)";
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test(start_paused = true)]
async fn one_call_beyond_the_money_does_not_stop_the_others() {
    let chain = Scripted::new(ton(10));
    let sender = sender(&chain);
    let large = Outgoing { value: ton(50), ..pay(1) };
    let (first, second, third) =
        tokio::join!(sender.send(vec![pay(0)]), sender.send(vec![large]), sender.send(vec![pay(2)]));
    assert!(first.is_ok() && third.is_ok());
    assert!(matches!(second, Err(SendError::TooLittleMoney { .. })));
    assert_eq!(chain.paid(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_wallet_sends_nothing() {
    let chain = Scripted::new(ton(10));
    let sender = sender(&chain);
    sender.send(vec![pay(1)]).await.unwrap();
    chain.block();
    assert!(matches!(sender.send(vec![pay(2)]).await, Err(SendError::Blocked { .. })));
    assert_eq!(chain.paid(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_this_process_is_final() {
    let chain = Scripted::new(ton(10));
    chain.otherwise(Fate::Refuse(133));
    let began = Instant::now();
    let error = sender(&chain).send(vec![pay(1)]).await.unwrap_err();
    assert!(matches!(error, SendError::Refused { exit_code: Some(133), .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_no_and_passes_it_on_does_not_make_us_pay_twice() {
    let chain = Scripted::new(ton(10));
    chain.proof(Proof::Verified { seqno: 1 });
    chain.fates([Fate::RefuseAndLand(Duration::from_secs(60))]);
    chain.otherwise(Fate::Refuse(133));
    sender(&chain).send(vec![pay(1)]).await.unwrap();
    assert_eq!(chain.paid(), [1]);

    // And one that only says no is believed once nothing can land any more.
    let began = Instant::now();
    let error = sender(&chain).send(vec![pay(2)]).await.unwrap_err();
    assert!(matches!(error, SendError::Refused { exit_code: Some(133), .. }), "{error}");
    assert!(began.elapsed() > Duration::from_secs(u64::from(WALLET_VALID_S)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hides_our_landing_does_not_make_us_pay_twice() {
    let chain = Scripted::new(ton(10));
    chain.hide_transactions_for(Duration::from_secs(100));
    let sent = sender(&chain).send(vec![pay(1)]).await.unwrap();
    assert_eq!(sent.transaction.id, chain.transactions()[0].id);
    assert_eq!(chain.paid(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_seqno_that_somebody_else_took_is_noticed() {
    let chain = Scripted::new(ton(10));
    let sender = sender(&chain);
    sender.send(vec![pay(1)]).await.unwrap();
    chain.fates([Fate::Stolen]);
    sender.send(vec![pay(2)]).await.unwrap();
    assert_eq!(chain.paid(), [1, 2]);
    assert_eq!(chain.seqno(), 3);
}

#[tokio::test(start_paused = true)]
async fn transactions_pressed_on_a_wallet_after_the_expiry_do_not_stop_it() {
    let chain = Scripted::new(ton(10));
    let sender = sender(&chain);
    sender.send(vec![pay(1)]).await.unwrap();
    chain.fates([Fate::Drop]);
    let strangers = async {
        sleep(Duration::from_secs(1)).await;
        chain.steal();
        chain.down_for(GIVEN_UP + Duration::from_secs(60));
        sleep(GIVEN_UP).await;
        chain.press(WALLET_PAGE * WALLET_PAGES_MAX + 1);
    };
    let (sent, ()) = tokio::join!(sender.send(vec![pay(2)]), strangers);
    sent.unwrap();
    assert_eq!((chain.paid(), chain.made()), (vec![1, 2], 3));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_did_not_leave_is_an_error_of_its_own_call_only() {
    let chain = Scripted::new(ton(10));
    chain.leave_out(2);
    let sender = sender(&chain);
    let (first, second) = tokio::join!(sender.send(vec![pay(1)]), sender.send(vec![pay(2), pay(3)]));
    assert!(first.is_ok());
    let Err(SendError::NotAllLeft { transaction, left }) = second else { panic!("{second:?}") };
    assert_eq!(left, [false, true]);
    assert_eq!(transaction.id, chain.transactions()[0].id);
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_is_down_is_told_apart_by_whether_anything_is_under_way() {
    let chain = Scripted::new(ton(10));
    chain.down_for(Duration::from_secs(600));
    let sender = sender(&chain);
    let error = sender.send(vec![pay(1)]).await.unwrap_err();
    assert!(matches!(error, SendError::ChainDown { in_flight: false, .. }), "{error}");
    assert_eq!(chain.made(), 0);
    sleep(Duration::from_secs(700)).await;

    chain.fates([Fate::LandAndCut(Duration::from_secs(1_000))]);
    let error = sender.send(vec![pay(2)]).await.unwrap_err();
    assert!(matches!(error, SendError::ChainDown { in_flight: true, .. }), "{error}");
    let error = sender.send(vec![pay(3)]).await.unwrap_err();
    assert!(matches!(error, SendError::ChainDown { in_flight: false, .. }), "nothing else is sent before: {error}");
    sleep(Duration::from_secs(1_000)).await;
    sender.send(vec![pay(4)]).await.unwrap();
    assert_eq!(chain.paid(), [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn reported_answers_do_not_decide_about_money() {
    let chain = Scripted::new(ton(10));
    chain.proof(Proof::Reported);
    assert!(matches!(sender(&chain).send(vec![pay(1)]).await, Err(SendError::Unproved(_))));
    let reported: Arc<dyn Chain> = Arc::<Scripted>::clone(&chain);
    let insecure = Sender::new(reported, key(), KIND, None, ChainPolicy::InsecureReported).unwrap();
    insecure.send(vec![pay(1)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_before_its_turn_is_not_made() {
    let chain = Scripted::new(ton(10));
    chain.otherwise(Fate::Land(Duration::from_secs(10)));
    let sender = sender(&chain);
    let first = sender.send(vec![pay(1)]);
    let second = async {
        sleep(Duration::from_secs(1)).await;
        tokio::time::timeout(Duration::from_secs(1), sender.send(vec![pay(2)])).await.unwrap_err()
    };
    let (first, _) = tokio::join!(first, second);
    first.unwrap();
    sender.send(vec![pay(3)]).await.unwrap();
    assert_eq!(chain.paid(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn too_many_messages_are_refused_at_once() {
    let chain = Scripted::new(ton(10));
    let error = sender(&chain).send(vec![pay(1); 256]).await.unwrap_err();
    assert!(error.to_string().contains("at most 255"), "{error}");
}

/// Drops a sender and waits until its task let go of the journal.
async fn stop(sender: Sender) {
    drop(sender);
    sleep(Duration::from_millis(1)).await;
}
