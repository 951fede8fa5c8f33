//! What the network says to a proxy: its contracts in the handshakes, and what a change does to open sessions.

use std::sync::Arc;

use cocoon_net::QueryError;
use cocoon_proxy::ProxyTerms;
use cocoon_ton::Address;
use cocoon_ton::chain::Head;
use cocoon_ton::chain::watch::RootConfig;
use cocoon_ton::contract::{Params, RootState, client_address, codes, worker_address};
use cocoon_units::Nano;
use cocoon_wire::VersionRange;
use cocoon_wire::message::{Answer, ClientAnswer, ClientParams, ClientQuery, WorkerAnswer, WorkerQuery};
use tokio::sync::watch;

use crate::peers::{CLIENT_WALLET, Client, Peer, SECRET, WORKER_WALLET, World, config, params};

const KEY: [u8; 32] = [7; 32];

/// A root at a version, with a price.
fn root(version: u32, price: u64) -> RootConfig {
    let params = Params {
        params_version: version,
        price_per_token: Nano::new(price),
        is_test: true,
        codes: Some(codes().published()),
        ..Params::default()
    };
    let state = RootState { version, ..RootState::initial(Address::basechain([1; 32]), params) };
    let at = Head { seqno: 1, unix_s: 1_700_000_000, lt: 1 };
    RootConfig { address: Address::basechain([2; 32]), state, at }
}

fn terms(root: &RootConfig) -> Arc<ProxyTerms> {
    Arc::new(ProxyTerms::by_root(root, Address::basechain([3; 32]), KEY).unwrap())
}

fn contract(terms: &ProxyTerms) -> Address {
    terms.contracts.as_ref().unwrap().proxy()
}

async fn introduced(world: &World, owner: &str) -> Result<(String, String), String> {
    let peer = Peer::new(world.connect("clients").await);
    let params = ClientParams { owner_address: owner.into(), is_test: true, versions: Some(VersionRange::ALL) };
    let answer = peer.ask(ClientQuery::Connect { params, min_config_version: 3 }.encode()).await;
    let answer = answer.map_err(|error| match error {
        QueryError::PeerRefused { message, .. } => message,
        other => panic!("{other}"),
    })?;
    match ClientAnswer::decode(answer).unwrap() {
        ClientAnswer::Connected { params, client_sc_address, .. } => Ok((params.sc_address, client_sc_address)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_name_the_contracts_that_the_root_gives() {
    let root = root(3, 2);
    let terms = terms(&root);
    let proxy = contract(&terms);
    let (_sender, receiver) = watch::channel(terms);
    let world = World::with_terms(config(), receiver);
    let (named, ours) = introduced(&world, CLIENT_WALLET).await.unwrap();
    let params_of = &root.state.params;
    assert_eq!(named, proxy.raw());
    assert_eq!(ours, client_address(CLIENT_WALLET.parse().unwrap(), proxy, &KEY, params_of).unwrap().raw());

    let peer = Peer::new(world.connect("workers").await);
    let answer = peer.ask(WorkerQuery::Connect(params(VersionRange::ALL, 1, 1_000)).encode()).await.unwrap();
    let WorkerAnswer::Connected { params: told, worker_sc_address } = WorkerAnswer::decode(answer).unwrap() else {
        panic!("not connected")
    };
    assert_eq!((told.sc_address, told.public_key), (proxy.raw(), KEY));
    let expected = worker_address(WORKER_WALLET.parse().unwrap(), proxy, &KEY, params_of).unwrap();
    assert_eq!(worker_sc_address, expected.raw());
}

#[tokio::test(start_paused = true)]
async fn a_wallet_that_is_no_address_is_refused_on_a_chain() {
    let (_sender, receiver) = watch::channel(terms(&root(3, 2)));
    let world = World::with_terms(config(), receiver);
    let refused = introduced(&world, "wallet").await.unwrap_err();
    assert!(refused.contains("no TON address"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_new_contract_ends_sessions_once_their_requests_have_ended() {
    let (sender, receiver) = watch::channel(terms(&root(3, 2)));
    let world = World::with_terms(config(), receiver);
    let mut worker = world.worker(VersionRange::ALL, 4).await;
    let mut client = world.client(VersionRange::ALL).await;
    let mut idle = world.client(VersionRange::ALL).await;
    client.run(1);
    let request = worker.request().await;
    worker.head(request.request_id);

    // A version that changes no parameters ends nothing.
    let before = (**sender.borrow()).clone();
    sender.send_replace(Arc::new(ProxyTerms { config_version: 4, ..before }));
    assert!(idle.peer.is_silent().await);

    let after = terms(&root(5, 20));
    sender.send_replace(Arc::clone(&after));
    idle.peer.ended().await;
    worker.part(request.request_id, "x");
    worker.end(request.request_id, 9);
    let Answer::Head { .. } = client.answer().await else { panic!("no head") };
    while !matches!(client.answer().await, Answer::Part { end: Some(_), .. }) {}
    client.peer.ended().await;
    worker.peer.ended().await;
    assert_eq!(introduced(&world, CLIENT_WALLET).await.unwrap().0, contract(&after).raw());
    Client::join(Peer::new(world.connect("clients").await), VersionRange::ALL, SECRET).await;
}
