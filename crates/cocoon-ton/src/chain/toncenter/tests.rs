//! The client against a server on this machine that answers by script, mostly to deceive.

mod server;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tycho_types::cell::{CellBuilder, HashBytes, Lazy};
use tycho_types::models::{
    AccountStatus, ComputePhase, ComputePhaseSkipReason, CurrencyCollection, HashUpdate, OrdinaryTxInfo,
    SkippedComputePhase, Transaction as Model, TxInfo,
};

use self::server::{Reply, Request, Server};
use super::*;
use crate::chain::{ChainPolicy, Status};
use crate::limits::TONCENTER_READS_MAX;

const ADDRESS: Address = Address::basechain([5; 32]);

fn client(server: &Server) -> Toncenter {
    let config = Config { url: server.url(), api_key: Some(Secret::new("open-sesame")), requests_per_second: 100 };
    let http = Http::with_timeout(config, Duration::from_millis(300)).unwrap();
    Toncenter { http: Arc::new(http), subscriptions: Mutex::default() }
}

/// A history of transactions of `ADDRESS`, oldest first, each naming the one before.
fn history(length: u64) -> Vec<Cell> {
    let mut previous = TxId { lt: 0, hash: [0; 32] };
    let mut cells = Vec::new();
    for number in 1..=length {
        let cell = transaction(ADDRESS, number * 10, previous);
        previous = TxId { lt: number * 10, hash: cell.repr_hash().0 };
        cells.push(cell);
    }
    cells
}

fn transaction(account: Address, lt: u64, previous: TxId) -> Cell {
    let info = TxInfo::Ordinary(OrdinaryTxInfo {
        credit_first: false,
        storage_phase: None,
        credit_phase: None,
        compute_phase: ComputePhase::Skipped(SkippedComputePhase { reason: ComputePhaseSkipReason::NoGas }),
        action_phase: None,
        aborted: true,
        bounce_phase: None,
        destroyed: false,
    });
    let model = Model {
        account: HashBytes(account.account),
        lt,
        prev_trans_hash: HashBytes(previous.hash),
        prev_trans_lt: previous.lt,
        now: 1_700_000_000,
        out_msg_count: Default::default(),
        orig_status: AccountStatus::Active,
        end_status: AccountStatus::Active,
        in_msg: None,
        out_msgs: Default::default(),
        total_fees: CurrencyCollection::ZERO,
        state_update: Lazy::new(&HashUpdate { old: HashBytes::ZERO, new: HashBytes::ZERO }).unwrap(),
        info: Lazy::new(&info).unwrap(),
    };
    CellBuilder::build_from(model).unwrap()
}

fn id(number: u64, cell: &Cell) -> TxId {
    TxId { lt: number * 10, hash: cell.repr_hash().0 }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn account_json(last: Option<TxId>) -> Value {
    let last = last.unwrap_or(TxId { lt: 0, hash: [0; 32] });
    json!({
        "@type": "raw.fullAccountState", "balance": "1500000000", "state": "active",
        "code": Boc::encode_base64(Cell::default()), "data": Boc::encode_base64(Cell::default()),
        "last_transaction_id": { "lt": last.lt.to_string(), "hash": base64(last.hash) },
        "block_id": { "seqno": 77 }, "sync_utime": 1_700_000_100,
    })
}

/// An honest server of this history, in pages of at most three.
fn honest(cells: Vec<Cell>) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| {
        let last = cells.last().map(|cell| id(u64::try_from(cells.len()).unwrap(), cell));
        match request.method.as_str() {
            "getAddressInformation" => Reply::ok(account_json(last)),
            "getTransactions" => Reply::ok(page(&cells, request)),
            other => Reply::error(404, &format!("no method {other}")),
        }
    }
}

fn page(cells: &[Cell], request: &Request) -> Value {
    let from = usize::try_from(request.number("lt") / 10).unwrap();
    let page = cells[..from].iter().rev().take(3);
    page.map(|cell| json!({ "data": Boc::encode_base64(cell) })).collect()
}

async fn after(client: &Toncenter, known: Option<TxId>, limit: usize) -> Result<Vec<u64>, ChainError> {
    let found = client.transactions(&ADDRESS, known, limit).await?.for_display();
    Ok(found.iter().map(|transaction| transaction.id.lt / 10).collect())
}

#[tokio::test(start_paused = true)]
async fn accounts_are_read_and_only_reported() {
    let server = Server::start(honest(history(3)));
    let answer = client(&server).account(&ADDRESS).await.unwrap();
    assert_eq!(answer.proof(), Proof::Reported);
    assert!(matches!(answer.clone().for_money(ChainPolicy::Proved), Err(ChainError::Unproved)));
    let account = answer.for_money(ChainPolicy::InsecureReported).unwrap();
    assert_eq!((account.status, account.balance.get()), (Status::Active, 1_500_000_000));
    assert_eq!((account.at.seqno, account.at.unix_s), (77, 1_700_000_100));
    assert_eq!(account.last.unwrap().lt, 30);
    let head = client(&server).head().await.unwrap();
    assert_eq!((head.proof(), head.for_display().seqno), (Proof::Reported, 77));
}

#[tokio::test(start_paused = true)]
async fn the_key_goes_into_a_header_and_nowhere_else() {
    let server = Server::start(|_| Reply::error(500, "no"));
    let client = client(&server);
    let error = client.account(&ADDRESS).await.unwrap_err();
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.api_key.as_deref() == Some("open-sesame")));
    let shown = format!("{error} {error:?} {client:?} {}", requests[0].line);
    assert!(!shown.contains("sesame"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn transactions_come_oldest_first_across_pages() {
    let cells = history(10);
    let server = Server::start(honest(cells.clone()));
    let client = client(&server);
    assert_eq!(after(&client, None, 100).await.unwrap(), (1..=10).collect::<Vec<_>>());
    assert_eq!(after(&client, None, 4).await.unwrap(), [1, 2, 3, 4]);
    assert_eq!(after(&client, Some(id(6, &cells[5])), 100).await.unwrap(), [7, 8, 9, 10]);
    assert_eq!(after(&client, Some(id(6, &cells[5])), 2).await.unwrap(), [7, 8]);
    assert!(after(&client, Some(id(10, &cells[9])), 100).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_left_out_is_a_gap() {
    let cells = history(6);
    let mut hidden = cells.clone();
    let mut server = honest(cells);
    let server = Server::start(move |request| match request.method.as_str() {
        "getTransactions" => {
            hidden.retain(|cell| Transaction::parse(ADDRESS, cell.clone()).unwrap().id.lt != 40);
            let from = request.number("lt");
            let page =
                hidden.iter().rev().filter(|cell| Transaction::parse(ADDRESS, (*cell).clone()).unwrap().id.lt <= from);
            Reply::ok(page.map(|cell| json!({ "data": Boc::encode_base64(cell) })).collect())
        }
        _ => server(request),
    });
    let error = after(&client(&server), None, 100).await.unwrap_err();
    assert!(matches!(error, ChainError::Gap { before_lt: 40, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_is_a_gap() {
    let mut server = honest(history(6));
    let server = Server::start(move |request| match request.method.as_str() {
        "getTransactions" => Reply::ok(json!([])),
        _ => server(request),
    });
    assert!(matches!(after(&client(&server), None, 100).await, Err(ChainError::Gap { before_lt: 60, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_made_up_transaction_is_noticed_by_its_hash() {
    let forged = transaction(ADDRESS, 60, TxId { lt: 50, hash: [1; 32] });
    let mut server = honest(history(6));
    let server = Server::start(move |request| match request.method.as_str() {
        "getTransactions" => Reply::ok(json!([{ "data": Boc::encode_base64(&forged) }])),
        _ => server(request),
    });
    let error = after(&client(&server), None, 100).await.unwrap_err();
    assert!(matches!(&error, ChainError::BadAnswer(why) if why.contains("hash")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_another_account_is_noticed() {
    let theirs = transaction(Address::basechain([6; 32]), 10, TxId { lt: 0, hash: [0; 32] });
    let last = id(1, &theirs);
    let server = Server::start(move |request| match request.method.as_str() {
        "getTransactions" => Reply::ok(json!([{ "data": Boc::encode_base64(&theirs) }])),
        _ => Reply::ok(account_json(Some(last))),
    });
    let error = after(&client(&server), None, 100).await.unwrap_err();
    assert!(matches!(&error, ChainError::BadAnswer(why) if why.contains("another account")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn another_history_than_the_known_one_is_noticed() {
    let server = Server::start(honest(history(6)));
    let client = client(&server);
    let forked = TxId { lt: 25, hash: [3; 32] };
    assert!(matches!(after(&client, Some(forked), 100).await, Err(ChainError::Gap { .. })));
    // A server that knows less than we do.
    let ahead = TxId { lt: 70, hash: [3; 32] };
    let error = after(&client, Some(ahead), 100).await.unwrap_err();
    assert!(matches!(&error, ChainError::BadAnswer(why) if why.contains("behind")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_cut_off() {
    let server = Server::start(|_| Reply::Endless);
    let error = client(&server).account(&ADDRESS).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(|_| Reply::Hang);
    let client = Toncenter {
        http: Arc::new(
            Http::with_timeout(
                Config { url: server.url(), api_key: None, requests_per_second: 1 },
                Duration::from_millis(20),
            )
            .unwrap(),
        ),
        subscriptions: Mutex::default(),
    };
    assert!(matches!(client.account(&ADDRESS).await, Err(ChainError::Unreachable { .. })));
    assert_eq!(server.requests().len(), usize::try_from(TONCENTER_READS_MAX).unwrap());
}

#[tokio::test(start_paused = true)]
async fn rubbish_is_an_answer_that_cannot_be_used() {
    for result in [
        json!(null),
        json!({ "balance": "many", "state": "active" }),
        json!({ "balance": "1", "state": "active", "code": "rubbish", "data": "", "sync_utime": 1,
                "last_transaction_id": { "lt": "0", "hash": base64([0; 32]) }, "block_id": { "seqno": 1 } }),
        json!({ "balance": "18446744073709551616", "state": "active", "sync_utime": 1,
                "last_transaction_id": { "lt": "0", "hash": base64([0; 32]) }, "block_id": { "seqno": 1 } }),
        json!({ "balance": "1", "state": "active", "sync_utime": 1,
                "last_transaction_id": { "lt": "1", "hash": base64([0; 31]) }, "block_id": { "seqno": 1 } }),
    ] {
        let words = result.to_string();
        let server = Server::start(move |_| Reply::ok(result.clone()));
        let error = client(&server).account(&ADDRESS).await.unwrap_err();
        assert!(matches!(error, ChainError::BadAnswer(_)), "{words}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_read_again_and_a_redirect_is_not_followed() {
    let mut left = 2;
    let mut honest = honest(history(1));
    let server = Server::start(move |request| match left {
        0 => honest(request),
        _ => {
            left -= 1;
            Reply::error(if left == 0 { 503 } else { 429 }, "busy")
        }
    });
    client(&server).account(&ADDRESS).await.unwrap().for_display();
    assert_eq!(server.requests().len(), 3);

    let target = Server::start(honest_account());
    let url = target.url();
    let server = Server::start(move |_| Reply::Redirect(format!("{url}/getAddressInformation")));
    client(&server).account(&ADDRESS).await.unwrap_err();
    assert_eq!(target.requests().len(), 0, "the key must not go to another server");
}

fn honest_account() -> impl FnMut(&Request) -> Reply + Send + 'static {
    honest(history(1))
}

#[tokio::test(start_paused = true)]
async fn requests_are_rationed() {
    let server = Server::start(honest(history(1)));
    let config = Config { url: server.url(), api_key: None, requests_per_second: 2 };
    let client = Toncenter::new(config).unwrap();
    let began = Instant::now();
    for _ in 0..5 {
        client.account(&ADDRESS).await.unwrap().for_display();
    }
    assert!(began.elapsed() >= Duration::from_secs(2));
}

fn external() -> Cell {
    use tycho_types::models::{ExtInMsgInfo, IntAddr, Message, MsgInfo, StdAddr};
    let dst = IntAddr::Std(StdAddr::from(ADDRESS));
    CellBuilder::build_from(Message {
        info: MsgInfo::ExtIn(ExtInMsgInfo { dst, ..ExtInMsgInfo::default() }),
        init: None,
        body: Cell::default().as_slice().unwrap(),
        layout: None,
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn messages_are_handed_in_once_and_refusals_have_their_code() {
    let words = "LITE_SERVER_UNKNOWN: cannot apply external message to current state : External message was not \
                 accepted\nCannot run message on account: inbound external message rejected by transaction: exitcode=1031, steps=9";
    for (reply, expected) in [
        (Reply::ok(json!({ "@type": "ok" })), "sent"),
        (Reply::error(500, words), "refused 1031"),
        (Reply::error(500, "timeout"), "down"),
        (Reply::error(429, "busy"), "busy"),
    ] {
        let mut reply = Some(reply);
        let server = Server::start(move |_| reply.take().unwrap());
        let said = match client(&server).send(&external()).await {
            Ok(hash) => {
                assert_eq!(hash, external().repr_hash().0);
                "sent".to_owned()
            }
            Err(ChainError::Refused { address, exit_code }) => {
                assert_eq!(address, ADDRESS);
                format!("refused {}", exit_code.unwrap())
            }
            Err(ChainError::Unreachable { .. }) => "down".to_owned(),
            Err(ChainError::RateLimited { .. }) => "busy".to_owned(),
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(said, expected);
        let requests = server.requests();
        assert_eq!(requests.len(), 1, "{expected}");
        let boc = requests[0].body["boc"].as_str().unwrap();
        assert_eq!(Boc::decode_base64(boc).unwrap(), external());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_external_is_not_handed_in() {
    let server = Server::start(|_| Reply::ok(json!({})));
    let sent = client(&server).send(&Cell::default()).await;
    assert!(matches!(sent, Err(ChainError::BadMessage(_))), "{sent:?}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_changes_until_they_go() {
    let cells = history(2);
    let mut served = 0;
    let server = Server::start(move |_| {
        served += 1;
        let seen = if served < 3 { 1 } else { 2 };
        Reply::ok(account_json(Some(id(seen, &cells[usize::try_from(seen).unwrap() - 1]))))
    });
    let client = client(&server);
    let mut first = client.subscribe(&ADDRESS).await.unwrap();
    let mut second = client.subscribe(&ADDRESS).await.unwrap();
    first.changed().await.unwrap();
    assert_eq!(first.borrow_and_update().unwrap().lt, 10);
    first.changed().await.unwrap();
    assert_eq!(first.borrow().unwrap().lt, 20);
    second.changed().await.unwrap();
    drop((first, second));
    sleep(TONCENTER_POLL * 2).await;
    let asked = server.requests().len();
    sleep(TONCENTER_POLL * 10).await;
    assert_eq!(server.requests().len(), asked, "nobody listens any more");
}

#[test]
fn a_key_would_not_be_sent_without_tls() {
    let make = |url: &str| {
        Toncenter::new(Config { url: url.to_owned(), api_key: None, requests_per_second: 1 })
            .map(|client| client.http.endpoint().to_owned())
    };
    let plain = "http://toncenter.com/api/v2";
    assert_eq!(make(plain), Err(UrlError::NotLoopback(plain.to_owned())));
    assert!(matches!(make("http://localhost:80/api/v2"), Err(UrlError::NotLoopback(_))));
    for bad in ["", "toncenter.com", "ftp://h/", "https://key@h/api/v2", "https://h/api/v2?key=1", "https://h/#x"] {
        assert!(matches!(make(bad), Err(UrlError::Form(_))), "{bad}");
    }
    assert_eq!(make("https://toncenter.com/api/v2/jsonRPC").unwrap(), "https://toncenter.com/api/v2");
    assert_eq!(make("http://127.0.0.1:8081/api/v2/").unwrap(), "http://127.0.0.1:8081/api/v2");
}
