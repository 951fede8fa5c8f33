//! Wallets on the embedded devnet: the real contracts decide what was signed, directly and over HTTP.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::chain::toncenter::{Config, Toncenter};
use cocoon_ton::chain::{Chain, ChainError, ChainPolicy, Proof, Status};
use cocoon_ton::devnet::{Devnet, Genesis, Options, http};
use cocoon_ton::keys::SigningKey;
use cocoon_ton::wallet::{Network, Outgoing, PastOutcome, SendError, Sender, Wallet, WalletKind, mode};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tycho_types::cell::CellBuilder;

const TON: u64 = 1_000_000_000;
const SHOP: Address = Address::basechain([0x55; 32]);
const STANDARD: WalletKind = WalletKind::V5R1 { network: Network::TESTNET };

const fn ton(whole: u64) -> Nano {
    Nano::new(whole * TON)
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// The owner's wallet is a standard one.
fn owner() -> Address {
    Wallet::new(key(1), STANDARD).address()
}

fn cocoon() -> WalletKind {
    WalletKind::Cocoon { owner: owner() }
}

fn devnet() -> Devnet {
    Devnet::memory(&Options { genesis: Genesis::default(), ..Options::default() }).unwrap()
}

async fn sender(devnet: &Devnet, number: u8, kind: WalletKind, journal: Option<PathBuf>) -> Sender {
    let sender = Sender::new(Arc::new(devnet.clone()), key(number), kind, journal, ChainPolicy::Proved).unwrap();
    if balance(devnet, sender.address()).await == Nano::ZERO {
        devnet.faucet(sender.address(), ton(10)).await.unwrap();
    }
    sender
}

async fn balance(devnet: &Devnet, address: Address) -> Nano {
    devnet.account(&address).await.unwrap().for_display().balance
}

/// Makes blocks until the future is done.
async fn with_blocks<T>(devnet: &Devnet, work: impl Future<Output = T>) -> T {
    let blocks = async {
        loop {
            sleep(Duration::from_secs(1)).await;
            devnet.tick().await.unwrap();
        }
    };
    tokio::select! {
        done = work => done,
        never = blocks => never,
    }
}

fn text(words: &str) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(0).unwrap();
    builder.store_raw(words.as_bytes(), u16::try_from(words.len() * 8).unwrap()).unwrap();
    builder.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn both_kinds_deploy_themselves_and_pay() {
    for kind in [STANDARD, cocoon()] {
        let devnet = devnet();
        let sender = sender(&devnet, 2, kind, None).await;
        for round in 1..=3 {
            let messages =
                vec![Outgoing::pay(SHOP, ton(1)), Outgoing { body: Some(text("tea")), ..Outgoing::pay(SHOP, ton(1)) }];
            let sent = with_blocks(&devnet, sender.send(messages)).await.unwrap();
            assert_eq!(sent.messages.len(), 2);
            assert_eq!(sent.transaction.out_messages, sent.messages);
            devnet.tick().await.unwrap();
            assert_eq!(balance(&devnet, SHOP).await, ton(2 * round), "{kind:?}");
        }
        devnet.check_conservation().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn externals_that_the_network_loses_arrive_in_the_end() {
    let devnet = devnet();
    let sender = sender(&devnet, 2, cocoon(), None).await;
    let address = sender.address();
    devnet.set_faults(move |faults| faults.drop_externals(address, 3)).await.unwrap();
    with_blocks(&devnet, sender.send(vec![Outgoing::pay(SHOP, ton(1))])).await.unwrap();
    with_blocks(&devnet, sleep(Duration::from_secs(60))).await;
    assert_eq!(balance(&devnet, SHOP).await, ton(1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_the_network_holds_an_external_pays_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let devnet = devnet();
    let first = sender(&devnet, 2, cocoon(), Some(journal.clone())).await;
    let address = first.address();
    devnet.set_faults(move |faults| faults.hold(address)).await.unwrap();
    let call = first.send(vec![Outgoing::pay(SHOP, ton(1))]);
    with_blocks(&devnet, tokio::time::timeout(Duration::from_secs(12), call)).await.unwrap_err();
    drop(first);
    sleep(Duration::from_secs(1)).await;

    devnet.set_faults(move |faults| faults.release(&address)).await.unwrap();
    let second = sender(&devnet, 2, cocoon(), Some(journal)).await;
    let past = with_blocks(&devnet, second.past()).await.unwrap();
    assert!(matches!(past.outcome, PastOutcome::Landed(_)));
    with_blocks(&devnet, second.send(vec![Outgoing::pay(SHOP, ton(2))])).await.unwrap();
    with_blocks(&devnet, sleep(Duration::from_secs(60))).await;
    assert_eq!(balance(&devnet, SHOP).await, ton(3));
}

#[tokio::test(start_paused = true)]
async fn an_external_that_expired_by_the_chains_time_is_made_anew() {
    let devnet = devnet();
    let sender = sender(&devnet, 2, STANDARD, None).await;
    let address = sender.address();
    devnet.set_faults(move |faults| faults.drop_externals(address, 1)).await.unwrap();
    let jump = async {
        sleep(Duration::from_secs(2)).await;
        devnet.advance(Duration::from_secs(3_600)).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        sent = with_blocks(&devnet, sender.send(vec![Outgoing::pay(SHOP, ton(1))])) => drop(sent.unwrap()),
        () = jump => {}
    }
    devnet.tick().await.unwrap();
    assert_eq!(balance(&devnet, SHOP).await, ton(1));
}

#[tokio::test(start_paused = true)]
async fn the_owner_blocks_and_unblocks_a_cocoon_wallet() {
    let devnet = devnet();
    let owner = sender(&devnet, 1, STANDARD, None).await;
    let wallet = sender(&devnet, 2, cocoon(), None).await;
    let pay = || vec![Outgoing::pay(SHOP, ton(1))];
    with_blocks(&devnet, wallet.send(pay())).await.unwrap();
    let say = |words| vec![Outgoing::call(wallet.address(), Nano::new(TON / 10), text(words))];
    with_blocks(&devnet, owner.send(say("b"))).await.unwrap();
    devnet.tick().await.unwrap();
    let error = with_blocks(&devnet, wallet.send(pay())).await.unwrap_err();
    assert!(matches!(error, SendError::Blocked { .. }), "{error}");
    with_blocks(&devnet, owner.send(say("u"))).await.unwrap();
    devnet.tick().await.unwrap();
    with_blocks(&devnet, wallet.send(pay())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_paid_is_told_and_the_seqno_moves_all_the_same() {
    for kind in [STANDARD, cocoon()] {
        let devnet = devnet();
        let sender = sender(&devnet, 2, kind, None).await;
        let everything = Outgoing { mode: mode::ALL_BALANCE, ..Outgoing::pay(SHOP, Nano::ZERO) };
        let nothing_left = Outgoing::pay(SHOP, ton(1));
        let result = with_blocks(&devnet, sender.send(vec![everything, nothing_left])).await;
        let Err(SendError::NotAllLeft { left, transaction }) = result else { panic!("{kind:?}: {result:?}") };
        assert_eq!(left, [true, false], "{kind:?}");
        assert_eq!(transaction.out_messages.len(), 1);
        devnet.faucet(sender.address(), ton(10)).await.unwrap();
        with_blocks(&devnet, sender.send(vec![Outgoing::pay(SHOP, ton(1))])).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_standard_wallet_sends_255_messages_at_once() {
    let devnet = devnet();
    let sender = sender(&devnet, 2, STANDARD, None).await;
    let messages = vec![Outgoing::pay(SHOP, Nano::new(TON / 1_000)); 255];
    let sent = with_blocks(&devnet, sender.send(messages)).await.unwrap();
    assert_eq!(sent.messages.len(), 255);
}

#[tokio::test(start_paused = true)]
async fn over_http_everything_is_the_same_and_only_reported() {
    let devnet = devnet();
    let (listener, stop) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), CancellationToken::new());
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(http::serve(listener, devnet.clone(), stop.clone()));
    let remote = Arc::new(Toncenter::new(Config { url, api_key: None, requests_per_second: 100 }).unwrap());

    let chain: Arc<dyn Chain> = Arc::<Toncenter>::clone(&remote);
    let strict = Sender::new(Arc::clone(&chain), key(2), cocoon(), None, ChainPolicy::Proved).unwrap();
    assert!(matches!(strict.send(vec![]).await, Err(SendError::Unproved(_))));
    let sender = Sender::new(chain, key(2), cocoon(), None, ChainPolicy::InsecureReported).unwrap();
    let missing = remote.account(&sender.address()).await.unwrap();
    assert_eq!((missing.proof(), missing.for_display().status), (Proof::Reported, Status::Missing));

    devnet.faucet(sender.address(), ton(10)).await.unwrap();
    for _ in 0..3 {
        with_blocks(&devnet, sender.send(vec![Outgoing::pay(SHOP, ton(1))])).await.unwrap();
    }
    devnet.tick().await.unwrap();
    for address in [sender.address(), SHOP] {
        let local = devnet.transactions(&address, None, 100).await.unwrap().for_display();
        assert_eq!(remote.transactions(&address, None, 100).await.unwrap().for_display(), local);
        let after = Some(local[1].id);
        assert_eq!(remote.transactions(&address, after, 1).await.unwrap().for_display(), local[2..3]);
        let (ours, theirs) = (devnet.account(&address).await.unwrap(), remote.account(&address).await.unwrap());
        let (ours, mut theirs) = (ours.for_display(), theirs.for_display());
        theirs.at.lt = ours.at.lt;
        assert_eq!(theirs, ours);
    }
    let (ours, theirs) = (devnet.config().await.unwrap().for_display(), remote.config().await.unwrap().for_display());
    assert_eq!((theirs.address, &theirs.params), (ours.address, &ours.params));
    let head = remote.head().await.unwrap().for_display();
    assert_eq!(head.unix_s, devnet.head().await.unwrap().for_display().unix_s);

    // A refusal keeps the contract's exit code on its way.
    let wallet = Wallet::new(key(2), cocoon());
    let (stale, _) = wallet.external(0, u32::MAX, &[], cocoon_ton::wallet::Deploy::No).unwrap();
    let refused = remote.send(&stale).await;
    assert!(matches!(refused, Err(ChainError::Refused { exit_code: Some(1032), .. })), "{refused:?}");
    stop.cancel();
    server.join_next().await.unwrap().unwrap().unwrap();
}
