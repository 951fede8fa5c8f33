//! A proxy that charges and pays, on a devnet, between scripted peers: what is counted is proved, written down, committed,
//! and only then signed; and nobody gets by with less, or more.

use std::time::Duration;

use cocoon_proxy::{ProxyError, SettlementConfig, SettlementError};
use cocoon_receipt::{Receipt, SignedReceipt};
use cocoon_ton::contract::message::client::Register;
use cocoon_ton::contract::signed::{Envelope, Kind};
use cocoon_ton::devnet::Order;
use cocoon_ton::keys::SigningKey;
use cocoon_units::{Multipliers, Nano, Usage, most_tokens};
use cocoon_wire::RequestId;
use cocoon_wire::failure::{Blame, Failure, FailureCode};
use cocoon_wire::http::HttpRequest;
use cocoon_wire::message::{
    Answer, AuthChallenge, ClientAnswer, ClientMessage, ClientQuery, ClientRun, FinalInfo, HandedReceipt,
    ProxyToClient, ProxyToWorker, ReceiptAsk, SettledRequest,
};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::ground::{
    CLIENT_OWNER, Disk, Ground, Joined, OTHER_OWNER, Serving, Signing, TON, often, person, receipt_key, seldom, short,
    signed_tokens,
};
use crate::peers::{Client, SECRET, run};

/// (34 + 5) tokens at twice the price.
pub(crate) const PAID: u64 = 78;

/// A request that asks for a receipt.
pub(crate) fn asking(id: u8) -> ClientRun {
    ClientRun { receipt: Some(ReceiptAsk { id: [id; 32], salt: [0xee; 32] }), ..run(id) }
}

pub(crate) fn ask(client: &Client, id: u8) {
    client.send(ClientMessage::Run(asking(id)));
}

/// The final information of the next answer that ends.
pub(crate) async fn end_of(client: &mut Client) -> FinalInfo {
    loop {
        match client.next().await {
            ProxyToClient::Answer(
                Answer::Head { end: Some(end), .. }
                | Answer::Part { end: Some(end), .. }
                | Answer::Failed { end: Some(end), .. },
            ) => return end,
            ProxyToClient::Answer(_) | ProxyToClient::PaymentStatus(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// A chain, a client with money, a proxy, and a worker that signs.
pub(crate) struct Stage {
    pub(crate) ground: Ground,
    pub(crate) disk: Disk,
    pub(crate) serving: Serving,
    pub(crate) client: Client,
    pub(crate) worker: Signing,
}

pub(crate) async fn stage(settlement: SettlementConfig) -> Stage {
    let mut ground = Ground::new().await;
    let disk = Disk::default();
    let serving = ground.serve(&disk, settlement);
    ground.fund(CLIENT_OWNER).await;
    let worker = serving.worker().await;
    let Joined { client, .. } = serving.join(CLIENT_OWNER).await;
    Stage { ground, disk, serving, client, worker }
}

/// What the client's account came to, as a new connection of it is told.
pub(crate) async fn known_of(serving: &Serving, owner: u32) -> u64 {
    serving.join(owner).await.known
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_proved_written_committed_and_then_signed() {
    let Stage { ground, mut client, mut worker, serving, disk: _disk } = stage(often()).await;
    ask(&client, 1);
    let (run, _) = worker.answer(5).await;
    assert_eq!(run.receipt.unwrap().salt, [0xee; 32], "it passes on what it does not keep");
    let end = end_of(&mut client).await;
    assert_eq!(end.tokens.total.get(), PAID);
    assert!(end.proof.is_some());
    let (signed, durable, known) = worker.payment().await;
    assert_eq!((durable, known), (PAID, PAID));
    assert_eq!(signed_tokens(&signed, Kind::Payout, ground.worker_at()), PAID);
    let ProxyToClient::PaymentStatus(status) = client.next().await else { panic!("no status") };
    assert_eq!(signed_tokens(&status.signed_payment, Kind::Charge, ground.client_at(CLIENT_OWNER)), PAID);
    let Joined { signed, durable, known, .. } = serving.join(CLIENT_OWNER).await;
    assert_eq!((durable, known), (PAID, PAID));
    assert_eq!(signed_tokens(&signed, Kind::Charge, ground.client_at(CLIENT_OWNER)), PAID);
    // The next request carries the latest payment.
    ask(&client, 2);
    let (run, _) = worker.answer(5).await;
    assert_eq!(signed_tokens(&run.signed_payment, Kind::Payout, ground.worker_at()), PAID);
    end_of(&mut client).await;
    sleep(Duration::from_secs(10)).await;
    // A look asks for the sums, and the next one sees them.
    let _ = serving.handle.status();
    serving.join(CLIENT_OWNER).await;
    let status = serving.handle.status();
    let books = status.books.unwrap();
    assert_eq!((books.used, books.used_committed, books.unsigned), (2 * PAID, 2 * PAID, 0));
    assert_eq!(status.settlement.unwrap().problem, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_signed_before_a_commit_is_seen() {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    sleep(Duration::from_secs(30)).await;
    let Joined { signed, durable, known, .. } = serving.join(CLIENT_OWNER).await;
    assert_eq!((signed, durable, known), (Default::default(), PAID, PAID));
    assert!(worker.worker.peer.is_silent().await);
}

/// One hostile end beside one honest one: the first costs nothing, the second what it says.
async fn check_hostile(hostile: impl FnOnce(&Signing, Receipt) -> FinalInfo) {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    ask(&client, 1);
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    let end = hostile(&worker, worker.receipt(&run, 5));
    worker.say_end(&run, end);
    let end = end_of(&mut client).await;
    assert_eq!((end.tokens.total.get(), end.proof), (0, None));
    ask(&client, 2);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(serving.handle.status().tally.unproved, 1);
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
}

#[tokio::test(start_paused = true)]
async fn worker_inflating_usage() {
    // Its own counts, coefficient and weights make less.
    check_hostile(|worker, receipt| {
        let usage = Usage { completion: 500, ..receipt.usage };
        let adjusted = usage.adjust(receipt.coefficient, &receipt.multipliers).unwrap();
        worker.end(&Receipt { adjusted, ..receipt })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn usage_above_the_reservation_is_charged_up_to_it() {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    let asked = asking(1);
    let prompt = HttpRequest::decode(&asked.query).unwrap().payload.len() as u64;
    let completion = u64::from(asked.max_tokens);
    let most = most_tokens(prompt, completion, &Multipliers::default(), asked.max_coefficient).unwrap().get();
    client.send(ClientMessage::Run(asked));
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    let receipt = worker.receipt(&run, 5);
    let usage = Usage { completion: 1 << 30, ..receipt.usage };
    let adjusted = usage.adjust(receipt.coefficient, &receipt.multipliers).unwrap();
    worker.say_end(&run, worker.end(&Receipt { usage, adjusted, ..receipt }));
    let end = end_of(&mut client).await;
    assert_eq!(end.tokens.total.get(), most);
    assert!(end.proof.is_some());
    // An honest one beside it is charged what it says.
    ask(&client, 2);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    sleep(Duration::from_millis(10)).await;
    let tally = serving.handle.status().tally;
    assert_eq!((tally.unproved, tally.overcharges), (0, 1));
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, most + PAID);
}

#[tokio::test(start_paused = true)]
async fn negative_and_overflowing_counts() {
    let hostile = [
        Usage { prompt: 1, cached: 2, completion: 0, reasoning: 0 },
        Usage { prompt: 0, cached: 0, completion: 1, reasoning: 2 },
        Usage { prompt: u64::MAX, cached: 0, completion: u64::MAX, reasoning: 0 },
    ];
    for usage in hostile {
        check_hostile(|worker, receipt| worker.end(&Receipt { usage, ..receipt })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn receipt_of_another_model() {
    check_hostile(|worker, receipt| worker.end(&Receipt { model: "a/cheaper-one@abc:00".into(), ..receipt })).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_of_another_request_proxy_or_price() {
    check_hostile(|worker, receipt| worker.end(&Receipt { id: [9; 32], ..receipt })).await;
    check_hostile(|worker, receipt| worker.end(&Receipt { proxy: person(1).raw(), ..receipt })).await;
    check_hostile(|worker, receipt| {
        let coefficient = cocoon_units::Coefficient::from_thousandths(2_001);
        let adjusted = receipt.usage.adjust(coefficient, &receipt.multipliers).unwrap();
        worker.end(&Receipt { coefficient, adjusted, ..receipt })
    })
    .await;
}

/// Clients would refuse each proxy that this worker serves.
#[tokio::test(start_paused = true)]
async fn workers_host_moves_its_clock() {
    const DAY_MS: u64 = 86_400_000;
    let moved = |ms: fn(u64) -> u64| {
        move |worker: &Signing, receipt: Receipt| {
            let (started, ended) = (receipt.started_unix_ms, receipt.ended_unix_ms);
            worker.end(&Receipt { started_unix_ms: ms(started), ended_unix_ms: ms(ended), ..receipt })
        }
    };
    check_hostile(moved(|ms| ms - DAY_MS)).await;
    check_hostile(moved(|ms| ms + DAY_MS)).await;
    check_hostile(moved(|_| 0)).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_of_another_body() {
    check_hostile(|worker, receipt| worker.end(&Receipt { request_hmac: [1; 32], ..receipt })).await;
    check_hostile(|worker, receipt| worker.end(&Receipt { answer_hmac: [1; 32], ..receipt })).await;
}

#[tokio::test(start_paused = true)]
async fn no_receipt_though_one_was_asked_for() {
    check_hostile(|worker, receipt| FinalInfo { proof: None, ..worker.end(&receipt) }).await;
}

#[tokio::test(start_paused = true)]
async fn receipt_signed_by_another_key() {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    // On a link without evidence the first receipt says whose the connection is.
    ask(&client, 1);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    let honest = std::mem::replace(&mut worker.key, SigningKey::from_bytes(&[66; 32]));
    ask(&client, 2);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), 0);
    worker.key = honest;
    ask(&client, 3);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, 2 * PAID);
}

#[tokio::test(start_paused = true)]
async fn reused_receipt_id() {
    let Stage { mut client, mut worker, ground: _ground, disk: _disk, serving: _serving } = stage(seldom()).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    let again = ClientRun { request_id: RequestId::new([2; 32]), ..asking(1) };
    client.send(ClientMessage::Run(again));
    let failure = client.failure().await;
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::BadRequest));
    ask(&client, 3);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
}

#[tokio::test(start_paused = true)]
async fn client_hanging_up_before_the_end_to_avoid_paying() {
    let Stage { client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    ask(&client, 1);
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    worker.worker.part(run.request_id, "data: most of it\n\n");
    drop(client);
    let ProxyToWorker::Cancel { request_id } = worker.worker.next().await else { panic!("not cancelled") };
    assert_eq!(request_id, run.request_id);
    worker.say_end(&run, worker.end(&worker.receipt(&run, 5)));
    sleep(Duration::from_millis(10)).await;
    let Joined { client, known, .. } = serving.join(CLIENT_OWNER).await;
    assert_eq!(known, PAID);
    // It hears what that came to, with the receipt.
    let requests = settled(&client, vec![[1; 32], [0xaa; 32]]).await;
    let [SettledRequest { id, tokens, receipt: Some(_), .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((*id, tokens.get()), ([1; 32], PAID));
    // Nobody else does.
    drop(client);
}

async fn refund(client: &Client) -> ClientAnswer {
    let answer = client.peer.ask(ClientQuery::RequestRefund.encode()).await.unwrap();
    ClientAnswer::decode(answer).unwrap()
}

/// Asks until the proxy signs.
pub(crate) async fn refunded(client: &Client) -> Vec<u8> {
    for _ in 0..1_000 {
        if let ClientAnswer::Refund { data } = refund(client).await {
            return data.to_vec();
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("no refund is signed");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gets_a_refund_for_all_but_what_is_committed() {
    let Stage { ground: _ground, mut client, mut worker, serving, disk: _disk } = stage(often()).await;
    ask(&client, 1);
    let run = worker.worker.request().await;
    let running = refund(&client).await;
    assert!(matches!(running, ClientAnswer::RefundRejected { active_queries: 1 }), "{running:?}");
    worker.worker.head(run.request_id);
    worker.say_end(&run, worker.end(&worker.receipt(&run, 5)));
    end_of(&mut client).await;
    let settled = refund(&client).await;
    assert!(
        matches!(settled, ClientAnswer::RefundRejected { active_queries: 0 }),
        "signed before a commit: {settled:?}"
    );
    let signed = refunded(&client).await;
    let payment = Envelope::from_boc(&signed).unwrap().signed.payment;
    assert_eq!((payment.kind(), payment.tokens()), (Kind::GrantRefund, Some(PAID)));
    assert_eq!(refunded(&client).await, signed, "the same as often as it is asked for");
    drop(serving);
}

/// Uses on after the refund was signed, also after a restart and a new connection, to pay with the old one.
#[tokio::test(start_paused = true)]
async fn using_after_the_refund_was_signed() {
    let Stage { ground, mut client, mut worker, serving, disk } = stage(often()).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    refunded(&client).await;
    ask(&client, 2);
    assert_eq!(end_of(&mut client).await.tokens.total.get(), 0);
    serving.kill().await;
    let serving = ground.serve(&disk.copy(), often());
    let _worker = serving.worker().await;
    let Joined { mut client, .. } = serving.join(CLIENT_OWNER).await;
    ask(&client, 3);
    assert_eq!(end_of(&mut client).await.tokens.total.get(), 0);
}

/// Asks what became of requests.
pub(crate) async fn settled(client: &Client, ids: Vec<[u8; 32]>) -> Vec<SettledRequest> {
    let answer = client.peer.ask(ClientQuery::GetSettledRequests { ids }.encode()).await.unwrap();
    match ClientAnswer::decode(answer).unwrap() {
        ClientAnswer::SettledRequests(requests) => requests,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn another_payers_requests_are_nobodys_business() {
    let Stage { mut ground, mut client, mut worker, serving, disk: _disk } = stage(seldom()).await;
    ground.fund(OTHER_OWNER).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    let other = serving.join(OTHER_OWNER).await.client;
    assert_eq!(settled(&other, vec![[1; 32]]).await, []);
    assert_eq!(settled(&client, vec![[1; 32]]).await.len(), 1);
    let unknown = client.peer.ask(ClientQuery::GetEvidence { sha256: [1; 32] }.encode()).await;
    assert!(unknown.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_question_about_a_running_request_waits_for_its_end() {
    let Stage { client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    ask(&client, 1);
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    drop(client);
    let client = serving.join(CLIENT_OWNER).await.client;
    let (requests, ()) = tokio::join!(settled(&client, vec![[1; 32]]), async {
        sleep(Duration::from_secs(2)).await;
        worker.say_end(&run, worker.end(&worker.receipt(&run, 5)));
    });
    assert_eq!(requests.len(), 1);
}

/// What was charged for comes in the only message that ends the request: a client that was told of a failure without a cost
/// would count none, and take the proxy for a liar.
#[tokio::test(start_paused = true)]
async fn an_answer_that_ran_out_of_time_ends_with_its_cost() {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    let began = Instant::now();
    client.send(ClientMessage::Run(ClientRun { timeout_ms: 1_000, ..asking(1) }));
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    worker.worker.part(run.request_id, "0123456789");
    let ProxyToWorker::Cancel { .. } = worker.worker.next().await else { panic!("not stopped") };
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    let failure = Failure::new(Blame::Client, FailureCode::Cancelled, "it was stopped");
    let end = Some(worker.end(&worker.receipt(&run, 5)));
    worker.worker.say(Answer::Failed { request_id: run.request_id, failure, end });
    for _ in ["the head", "the part"] {
        assert!(matches!(client.answer().await, Answer::Head { .. } | Answer::Part { end: None, .. }));
    }
    let Answer::Failed { failure, end: Some(end), .. } = client.answer().await else { panic!("no end") };
    assert_eq!((failure.code, end.tokens.total.get()), (FailureCode::Timeout, PAID));
    assert!(end.proof.is_some());
    assert!(client.peer.is_silent().await, "nothing comes after it");
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
}

/// Until then it is not told at all. So a proxy that dies meanwhile has said nothing that its books contradict later.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_dies_before_the_cost_is_known_has_not_said_that_it_was_free() {
    let Stage { ground, disk, serving, mut client, mut worker } = stage(seldom()).await;
    client.send(ClientMessage::Run(ClientRun { timeout_ms: 1_000, ..asking(1) }));
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    let ProxyToWorker::Cancel { .. } = worker.worker.next().await else { panic!("not stopped") };
    let Answer::Head { .. } = client.answer().await else { panic!("no head") };
    assert!(client.peer.is_silent().await);
    let before = disk.copy();
    serving.kill().await;
    let serving = ground.serve(&before, seldom());
    let receipt = worker.receipt(&run, 5).sign(&worker.key).to_bytes().into();
    let handed = HandedReceipt { receipt, account_tag: run.account_tag.clone().unwrap() };
    serving.worker_that_knows([0, 0, PAID], &[handed]).await;
    let Joined { client, known, .. } = serving.join(CLIENT_OWNER).await;
    let requests = settled(&client, vec![[1; 32]]).await;
    let [SettledRequest { tokens, receipt: Some(_), .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((known, tokens.get()), (PAID, PAID));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_broke_off_pays_for_what_was_delivered() {
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } = stage(seldom()).await;
    let break_off = async |client: &mut Client, worker: &mut Signing, id, completion| {
        ask(client, id);
        let run = worker.worker.request().await;
        worker.worker.head(run.request_id);
        worker.worker.part(run.request_id, "0123456789");
        let failure = Failure::new(Blame::Engine, FailureCode::EngineFailed, "the engine broke down");
        let end = Some(worker.end(&worker.receipt(&run, completion)));
        worker.worker.say(Answer::Failed { request_id: run.request_id, failure, end });
        end_of(client).await.tokens.total.get()
    };
    assert_eq!(break_off(&mut client, &mut worker, 1, 5).await, PAID);
    assert_eq!(break_off(&mut client, &mut worker, 2, 11).await, 0, "ten bytes hold no eleven tokens");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
}

#[tokio::test(start_paused = true)]
async fn two_clients_racing_one_balance() {
    let mut ground = Ground::new().await;
    let serving = ground.serve(&Disk::default(), seldom());
    // A thousandth of a TON less than the least stake secures less than two requests at their dearest.
    let most = most_tokens(
        run(1).query.len() as u64,
        50,
        &Multipliers::default(),
        cocoon_units::Coefficient::from_thousandths(4_000),
    );
    let amount = most.unwrap().get() * crate::ground::PRICE;
    ground.deploy_client(CLIENT_OWNER, Sha256::digest(SECRET).into(), amount).await;
    let mut worker = serving.worker().await;
    let mut first = serving.join(CLIENT_OWNER).await.client;
    let mut second = serving.join(CLIENT_OWNER).await.client;
    ask(&first, 1);
    let run = worker.worker.request().await;
    ask(&second, 2);
    let failure = second.failure().await;
    assert_eq!((failure.blame, failure.code), (Blame::Client, FailureCode::LimitExceeded));
    worker.worker.head(run.request_id);
    worker.say_end(&run, worker.end(&worker.receipt(&run, 5)));
    assert_eq!(end_of(&mut first).await.tokens.total.get(), PAID);
}

#[tokio::test(start_paused = true)]
async fn empty_secret() {
    let mut ground = Ground::new().await;
    let serving = ground.serve(&Disk::default(), seldom());
    // A contract that is not there yet has no secret either.
    let (peer, auth, _) = serving.introduce(CLIENT_OWNER).await;
    assert!(matches!(auth, AuthChallenge::Long { .. }));
    assert_eq!(serving.authorize(peer, short(b"")).await.err().unwrap().0, 401);

    ground.deploy_client(CLIENT_OWNER, Sha256::digest(b"").into(), 10 * TON).await;
    sleep(Duration::from_secs(60)).await;
    let (peer, auth, _) = serving.introduce(CLIENT_OWNER).await;
    assert!(matches!(auth, AuthChallenge::Long { .. }), "{auth:?}");
    let (code, error) = serving.authorize(peer, short(b"")).await.err().unwrap();
    assert!(code == 401 && error.contains("everybody knows"), "{error}");

    // The honest twins: a secret of one's own, and a message on the chain.
    ground.fund(OTHER_OWNER).await;
    let (peer, auth, _) = serving.introduce(OTHER_OWNER).await;
    assert!(matches!(auth, AuthChallenge::Short { .. }));
    assert_eq!(serving.authorize(peer, short(b"")).await.err().unwrap().0, 401);
    serving.join(OTHER_OWNER).await;
}

#[tokio::test(start_paused = true)]
async fn long_authorization_by_a_message_on_the_chain() {
    let mut ground = Ground::new().await;
    let serving = ground.serve(&Disk::default(), seldom());
    ground.deploy_client(CLIENT_OWNER, [0; 32], 10 * TON).await;
    let (peer, auth, _) = serving.introduce(CLIENT_OWNER).await;
    let AuthChallenge::Long { nonce } = auth else { panic!("{auth:?}") };
    let contract = ground.client_at(CLIENT_OWNER);
    let register = async |ground: &mut Ground, nonce: i64| {
        let body = Register { query_id: 1, nonce: nonce.cast_unsigned(), excesses_to: person(CLIENT_OWNER) };
        ground.order(CLIENT_OWNER, Order::call(contract, Nano::new(TON), body.to_cell())).await;
    };
    let authorized = serving.authorize(peer, ClientQuery::AuthorizeLong);
    let (joined, ()) = tokio::join!(authorized, register(&mut ground, nonce));
    assert_eq!(joined.ok().unwrap().known, 0);
    // Another number than the one of the challenge says nothing.
    let (peer, auth, _) = serving.introduce(CLIENT_OWNER).await;
    let AuthChallenge::Long { nonce } = auth else { panic!("{auth:?}") };
    let authorized = serving.authorize(peer, ClientQuery::AuthorizeLong);
    let (refused, ()) = tokio::join!(authorized, register(&mut ground, nonce.wrapping_add(1)));
    assert_eq!(refused.err().unwrap().0, 401);
}

#[tokio::test(start_paused = true)]
async fn a_contract_that_cannot_pay_is_told_what_to_do() {
    let mut ground = Ground::new().await;
    let serving = ground.serve(&Disk::default(), seldom());
    ground.deploy_client(CLIENT_OWNER, Sha256::digest(SECRET).into(), 1).await;
    let (peer, _, _) = serving.introduce(CLIENT_OWNER).await;
    let (code, error) = serving.authorize(peer, short(SECRET)).await.err().unwrap();
    assert!(code == 402 && error.contains("top it up"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_too_much_unsigned_waits_for_a_commit() {
    let exposure = Nano::new(10 * crate::ground::FEE).ton();
    let Stage { mut client, mut worker, serving, ground: _ground, disk: _disk } =
        stage(SettlementConfig { exposure, commit_min_s: 20, commit_max_s: 20, ..SettlementConfig::default() }).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    ask(&client, 2);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(serving.handle.status().tally.held_back, 1);
    // The commit comes first, then the request that waited for it.
    worker.payment().await;
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing_that_a_worker_can_prove() {
    let Stage { ground, disk, serving, mut client, mut worker } = stage(seldom()).await;
    ask(&client, 1);
    let (_, first) = worker.answer(5).await;
    end_of(&mut client).await;
    sleep(Duration::from_secs(1)).await;
    // The disk keeps what it has now; what comes after is lost with the machine.
    let before = disk.copy();
    ask(&client, 2);
    let (_, second) = worker.answer(7).await;
    end_of(&mut client).await;
    serving.kill().await;

    let serving = ground.serve(&before, seldom());
    let known = 2 * PAID + 4;
    let handed = [first, second];
    let (mut worker, balance) = serving.worker_that_knows([0, PAID, known], &handed).await;
    assert_eq!((balance.error_code, balance.max_tokens.get()), (1, PAID));
    let Joined { mut client, known: now, .. } = serving.join(CLIENT_OWNER).await;
    assert_eq!(now, known, "the first was there, the second came back");
    assert_eq!(settled(&client, vec![[2; 32]]).await.len(), 1);
    ask(&client, 3);
    worker.answer(5).await;
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
}

#[tokio::test(start_paused = true)]
async fn replayed_handover() {
    let Stage { ground, disk, serving, mut client, mut worker } = stage(seldom()).await;
    let before = disk.copy();
    ask(&client, 1);
    let (_, lost) = worker.answer(5).await;
    end_of(&mut client).await;
    serving.kill().await;

    let serving = ground.serve(&before, seldom());
    let twice = [lost.clone(), lost.clone()];
    serving.worker_that_knows([0, 0, 10 * PAID], &twice).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, PAID);
    let (mut worker, balance) = serving.worker_that_knows([0, 0, 10 * PAID], &twice).await;
    assert_eq!(balance.max_tokens.get(), PAID);
    // What this run sealed it has not forgotten.
    let mut client = serving.join(CLIENT_OWNER).await.client;
    ask(&client, 2);
    let (_, present) = worker.answer(5).await;
    end_of(&mut client).await;
    serving.worker_that_knows([0, 0, 10 * PAID], &[present, lost]).await;
    assert_eq!(known_of(&serving, CLIENT_OWNER).await, 2 * PAID);
}

/// Hands over one receipt that was changed, to a proxy that lost it, beside the honest twin.
async fn check_handover(tag_key: u8, change: impl FnOnce(HandedReceipt) -> HandedReceipt) {
    let Stage { ground, disk, serving, mut client, mut worker } = stage(seldom()).await;
    let before = disk.copy();
    ask(&client, 1);
    let (_, lost) = worker.answer(5).await;
    end_of(&mut client).await;
    serving.kill().await;
    let hostile = ground.serve_with_tags(&before.copy(), seldom(), tag_key);
    hostile.worker_that_knows([0, 0, PAID], &[change(lost.clone())]).await;
    assert_eq!(known_of(&hostile, CLIENT_OWNER).await, 0);
    hostile.kill().await;
    let honest = ground.serve(&before, seldom());
    honest.worker_that_knows([0, 0, PAID], &[lost]).await;
    assert_eq!(known_of(&honest, CLIENT_OWNER).await, PAID);
}

#[tokio::test(start_paused = true)]
async fn forged_account_tag() {
    check_handover(5, |handed| {
        let mut tag = handed.account_tag.to_vec();
        *tag.last_mut().unwrap() ^= 1;
        HandedReceipt { account_tag: tag.into(), ..handed }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tag_of_another_proxy() {
    check_handover(6, |handed| handed).await;
}

#[tokio::test(start_paused = true)]
async fn handed_over_receipt_that_was_changed() {
    check_handover(5, |handed| {
        let mut receipt = handed.receipt.to_vec();
        *receipt.last_mut().unwrap() ^= 1;
        HandedReceipt { receipt: receipt.into(), ..handed }
    })
    .await;
}

/// As the end of a request: clients take no receipt of another time or another body, however late it comes.
#[tokio::test(start_paused = true)]
async fn handed_over_receipt_of_another_time_or_body() {
    let again = |change: fn(Receipt) -> Receipt| {
        move |handed: HandedReceipt| {
            let receipt = SignedReceipt::from_bytes(&handed.receipt).unwrap().verify(None).unwrap();
            let signed = change(receipt).sign(&receipt_key());
            HandedReceipt { receipt: signed.to_bytes().into(), ..handed }
        }
    };
    check_handover(5, again(|receipt| Receipt { started_unix_ms: 1, ..receipt })).await;
    check_handover(5, again(|receipt| Receipt { ended_unix_ms: u64::MAX, ..receipt })).await;
    check_handover(5, again(|receipt| Receipt { request_hmac: [1; 32], ..receipt })).await;
}

#[tokio::test(start_paused = true)]
async fn rolled_back_database() {
    let Stage { ground, disk, serving, .. } = stage(often()).await;
    // A copy of a file that is being written would be torn.
    serving.kill().await;
    let before = disk.copy();
    let serving = ground.serve(&disk, often());
    let mut worker = serving.worker().await;
    let Joined { mut client, .. } = serving.join(CLIENT_OWNER).await;
    ask(&client, 1);
    worker.answer(5).await;
    end_of(&mut client).await;
    worker.payment().await;
    serving.kill().await;
    // The newest database serves on, with what was signed.
    let serving = ground.serve(&disk, often());
    let (_, balance) = serving.worker_that_knows([PAID, PAID, PAID], &[]).await;
    assert_eq!(signed_tokens(&balance.signed_payment, Kind::Payout, ground.worker_at()), PAID);
    serving.kill().await;
    let error = ground.serve(&before, often()).ended().await;
    let ProxyError::Settlement(SettlementError::RolledBack(_)) = &error else { panic!("{error}") };
    assert!(error.to_string().contains("newest database"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_paid_by_more_than_this_proxy_knows_does_not_serve_it() {
    let Stage { serving, ground: _ground, disk: _disk, client: _client, worker: _worker } = stage(seldom()).await;
    let refused = serving.compare([1, 0, 0]).await.unwrap_err();
    assert!(refused.contains("must not serve"), "{refused}");
    assert_eq!(serving.compare([0, 0, 1]).await.unwrap(), 1, "what was only counted may be handed over");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_ends_the_service_and_says_what_to_do() {
    let Stage { disk, mut serving, client, mut worker, ground: _ground } = stage(seldom()).await;
    disk.fail();
    ask(&client, 1);
    worker.answer(5).await;
    let error = serving.ended().await;
    assert!(matches!(error, ProxyError::Journal(_)), "{error}");
    assert!(error.to_string().contains("start the proxy again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn new_parameters_end_the_accounts_of_the_old_contract() {
    let Stage { mut ground, serving, mut client, mut worker, disk: _disk } = stage(seldom()).await;
    ask(&client, 1);
    let run = worker.worker.request().await;
    worker.worker.head(run.request_id);
    ground.change_params(|params| params.price_per_token = Nano::new(2 * crate::ground::PRICE));
    sleep(Duration::from_millis(10)).await;
    ask(&client, 2);
    // Nothing new begins on the old terms, and what runs is finished on them.
    let Answer::Head { .. } = client.answer().await else { panic!("no head") };
    assert_eq!(client.failure().await.code, FailureCode::Draining);
    worker.say_end(&run, worker.end(&worker.receipt(&run, 5)));
    assert_eq!(end_of(&mut client).await.tokens.total.get(), PAID);
    client.peer.ended().await;
    worker.worker.peer.ended().await;
    drop(serving);
}
