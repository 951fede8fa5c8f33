//! What a crash lost comes back, and nobody gains by coming first, coming again, or leaving.

use std::time::Duration;

use cocoon_proxy::{ProxyError, SettlementConfig, SettlementError};
use cocoon_ton::contract::signed::{Envelope, Kind};
use cocoon_units::{Multipliers, most_tokens};
use cocoon_wire::RequestId;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::HttpRequest;
use cocoon_wire::message::{Answer, ClientMessage, ClientRun, HandedReceipt, ProxyToWorker, SettledRequest};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::ground::{CLIENT_OWNER, Disk, Ground, Joined, OTHER_OWNER, PRICE, Serving, often, seldom};
use crate::money::{PAID, Stage, ask, asking, end_of, known_of, refunded, settled, stage};
use crate::peers::{Client, SECRET};

/// A proxy that crashed after it served request 1, of which its disk knows nothing.
struct Crashed {
    ground: Ground,
    disk: Disk,
    lost: HandedReceipt,
}

async fn crashed(settlement: SettlementConfig) -> Crashed {
    crash(stage(settlement).await).await
}

async fn crash(stage: Stage) -> Crashed {
    let Stage { ground, disk, serving, mut client, mut worker } = stage;
    sleep(Duration::from_millis(10)).await;
    let before = disk.copy();
    ask(&client, 1);
    let (_, lost) = worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    serving.kill().await;
    Crashed { ground, disk: before, lost }
}

/// For as long as by default.
fn careful() -> SettlementConfig {
    SettlementConfig { recovery_s: SettlementConfig::default().recovery_s, ..seldom() }
}

async fn hand_over(serving: &Serving, lost: &HandedReceipt) {
    serving.worker_that_knows([0, 0, 1_000 * PAID], std::slice::from_ref(lost)).await;
}

/// Another request under the id of the first.
fn ask_again(client: &Client) {
    client.send(ClientMessage::Run(ClientRun { request_id: RequestId::new([7; 32]), ..asking(1) }));
}

#[tokio::test(start_paused = true)]
async fn a_lost_id_buys_a_large_answer_for_nothing() {
    let Crashed { ground, disk, lost } = crashed(seldom()).await;
    let serving = ground.serve(&disk, seldom());
    let mut worker = serving.worker().await;
    let mut client = serving.join(CLIENT_OWNER).await.client;
    ask_again(&client);
    let run = worker.worker.request().await;
    hand_over(&serving, &lost).await;
    worker.worker.head(run.request_id);
    worker.say_end(&run, worker.end(&worker.receipt(&run, 40)));
    let large = end_of(&mut client).await.tokens.total.get();
    assert_eq!(large, 2 * (34 + 40));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID + large);
    hand_over(&serving, &lost).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID + large);
}

#[tokio::test(start_paused = true)]
async fn a_lost_id_is_cancelled_before_its_receipt_comes_back() {
    let Crashed { ground, disk, lost } = crashed(seldom()).await;
    let serving = ground.serve(&disk, seldom());
    let mut worker = serving.worker().await;
    let client = serving.join(CLIENT_OWNER).await.client;
    ask_again(&client);
    let run = worker.worker.request().await;
    drop(client);
    let ProxyToWorker::Cancel { request_id } = worker.worker.next().await else { panic!("not cancelled") };
    let failure = Failure::new(Blame::Client, FailureCode::Cancelled, "it was stopped");
    worker.worker.say(Answer::Failed { request_id, failure, end: None });
    assert_eq!(request_id, run.request_id);
    sleep(Duration::from_secs(10)).await;
    hand_over(&serving, &lost).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
}

/// A client that can pay for one request comes back before its worker, and begins another.
async fn fill_credit(recovery_s: u64) -> u64 {
    let mut ground = Ground::new().await;
    let disk = Disk::default();
    let serving = ground.serve(&disk, seldom());
    let asked = asking(1);
    let prompt = HttpRequest::decode(&asked.query).unwrap().payload.len() as u64;
    let completion = u64::from(asked.max_tokens);
    let most = most_tokens(prompt, completion, &Multipliers::default(), asked.max_coefficient).unwrap().get();
    ground.deploy_client(CLIENT_OWNER, Sha256::digest(SECRET).into(), most * PRICE).await;
    let Crashed { ground, disk, lost } = crash(Stage {
        worker: serving.worker().await,
        client: serving.join(CLIENT_OWNER).await.client,
        ground,
        disk,
        serving,
    })
    .await;
    let serving = ground.serve(&disk, SettlementConfig { recovery_s, ..seldom() });
    let _worker = serving.worker().await;
    let client = serving.join(CLIENT_OWNER).await.client;
    ask(&client, 2);
    sleep(Duration::from_millis(10)).await;
    hand_over(&serving, &lost).await;
    known_of(&serving, CLIENT_OWNER).await
}

#[tokio::test(start_paused = true)]
async fn a_client_fills_its_credit_before_lost_receipts_come_back() {
    assert_eq!(fill_credit(5).await, PAID);
    assert_eq!(fill_credit(0).await, 0, "an operator may choose not to wait");
}

#[tokio::test(start_paused = true)]
async fn new_requests_wait_for_what_a_crash_lost() {
    let Crashed { ground, disk, lost } = crashed(seldom()).await;
    let serving = ground.serve(&disk, careful());
    let mut worker = serving.worker().await;
    let mut client = serving.join(CLIENT_OWNER).await.client;
    ask(&client, 2);
    let failure = client.failure().await;
    assert_eq!((failure.blame, failure.code, failure.code.http_status()), (Blame::Proxy, FailureCode::NoWorker, 503));
    assert_eq!(failure.retry_after_ms, Some(1_000));
    assert!(failure.message.contains("restarted a moment ago"), "{}", failure.message);
    sleep(Duration::from_secs(5)).await;
    ask(&client, 3);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    // A worker that comes later is paid too.
    hand_over(&serving, &lost).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, 2 * PAID);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_drained_serves_again_at_once() {
    let Stage { ground, disk, mut serving, mut client, mut worker } = stage(careful()).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    serving.handle.drain();
    serving.proxy.join_next().await.unwrap().unwrap().unwrap();
    sleep(Duration::from_millis(10)).await;
    let serving = ground.serve(&disk, careful());
    let mut worker = serving.worker().await;
    let mut client = serving.join(CLIENT_OWNER).await.client;
    ask(&client, 2);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    // What the drain left behind says so of that run only.
    let crashed = disk.copy();
    serving.kill().await;
    let serving = ground.serve(&crashed, careful());
    let _worker = serving.worker().await;
    let mut client = serving.join(CLIENT_OWNER).await.client;
    ask(&client, 3);
    assert_eq!(client.failure().await.code, FailureCode::NoWorker);
}

/// It was told in good faith that the request cost nothing so far. Its demand grows, and it asks again.
#[tokio::test(start_paused = true)]
async fn a_receipt_comes_back_after_its_client_was_told_that_it_cost_nothing() {
    let Crashed { ground, disk, lost } = crashed(seldom()).await;
    let serving = ground.serve(&disk, seldom());
    let client = serving.join(CLIENT_OWNER).await.client;
    assert_eq!(settled(&client, vec![[1; 32]]).await, []);
    hand_over(&serving, &lost).await;
    let Joined { client, known, .. } = serving.join(CLIENT_OWNER).await;
    let requests = settled(&client, vec![[1; 32]]).await;
    let [SettledRequest { tokens, receipt: Some(_), .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((known, tokens.get()), (PAID, PAID));
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_for_workers_that_come_back() {
    let Crashed { ground, disk, lost } = crashed(seldom()).await;
    let serving = ground.serve(&disk, careful());
    let client = serving.join(CLIENT_OWNER).await.client;
    let (requests, ()) = tokio::join!(settled(&client, vec![[1; 32]]), async {
        sleep(Duration::from_secs(3)).await;
        hand_over(&serving, &lost).await;
    });
    assert_eq!(requests.len(), 1);
}

/// By then its client may have forgotten what it was told to be free.
#[tokio::test(start_paused = true)]
async fn a_receipt_is_hoarded_for_longer_than_clients_remember() {
    let Crashed { mut ground, disk, lost } = crashed(seldom()).await;
    ground.unix_s += 3_602.0;
    let serving = ground.serve(&disk.copy(), seldom());
    hand_over(&serving, &lost).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, 0);
    serving.kill().await;
    ground.unix_s -= 4.0;
    let serving = ground.serve(&disk, seldom());
    hand_over(&serving, &lost).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
}

/// Asks for its refund before the worker is back.
#[tokio::test(start_paused = true)]
async fn a_client_leaves_before_its_lost_receipts_come_back() {
    let Crashed { ground, disk, lost } = crashed(often()).await;
    let serving = ground.serve(&disk, SettlementConfig { recovery_s: 5, ..often() });
    let client = serving.join(CLIENT_OWNER).await.client;
    let (signed, ()) = tokio::join!(refunded(&client), async {
        // The grace is over, and the refund not signed yet.
        sleep(Duration::from_millis(5_500)).await;
        hand_over(&serving, &lost).await;
    });
    let payment = Envelope::from_boc(&signed).unwrap().signed.payment;
    assert_eq!((payment.kind(), payment.tokens()), (Kind::GrantRefund, Some(PAID)));
    // What comes later than that nobody pays.
    let Joined { known, .. } = serving.join(CLIENT_OWNER).await;
    assert_eq!(known, PAID);
}

/// The host sets the disk back to where the account was open, to use what the refund will pay out again.
#[tokio::test(start_paused = true)]
async fn a_refund_survives_a_rollback() {
    let Stage { ground, disk, serving, mut client, mut worker } = stage(often()).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    worker.payment().await;
    serving.kill().await;
    let before = disk.copy();
    let serving = ground.serve(&disk, often());
    let client = serving.join(CLIENT_OWNER).await.client;
    refunded(&client).await;
    serving.kill().await;
    let error = ground.serve(&before, often()).ended().await;
    assert!(matches!(error, ProxyError::Settlement(SettlementError::RolledBack(_))), "{error}");
}

/// Others' requests never cease, so there is always something that is not on disk yet.
#[tokio::test(start_paused = true)]
async fn a_busy_proxy_signs_a_refund() {
    let Stage { mut ground, disk: _disk, serving, client, mut worker } = stage(often()).await;
    ground.fund(OTHER_OWNER).await;
    let mut busy = serving.join(OTHER_OWNER).await.client;
    let traffic = async {
        for id in 100.. {
            ask(&busy, id);
            worker.answer(5).await;
            end_of(&mut busy).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        signed = refunded(&client) => assert!(!signed.is_empty()),
        () = traffic => panic!("the refund came too late"),
    }
}
