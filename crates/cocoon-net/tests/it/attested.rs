//! Attested links between nodes that keep to the protocol.

use std::sync::Arc;
use std::time::Duration;

use cocoon_attest::policy::{Mode, RootValues};
use cocoon_attest::{Check, Expected, Provenance, Role};
use cocoon_net::memory::{Chunking, LinkOptions, MemoryNetwork};
use cocoon_net::{
    Acceptor, AttestedPeer, Connection, ConnectionError, DialConfig, DialError, Dialer, Event, Fault, HandshakeError,
    Link, ListenConfig, Listener, Peer, dial,
};
use cocoon_simtee::SimImage;
use tokio::task::JoinSet;

use crate::attacks::{Door, dialled};
use crate::raw::{Raw, original_config};
use crate::rig::Rig;
use crate::support::{drive, echo, encoded, next_message};

type Ends = (Result<Connection, DialError>, Result<Connection, HandshakeError>);

/// Both ends of one dial in memory.
pub(crate) async fn connect(dialer: &Arc<Link>, listener: &Arc<Link>) -> Ends {
    connect_over(LinkOptions::default(), dialer, listener).await
}

async fn connect_over(options: LinkOptions, dialer: &Arc<Link>, listener: &Arc<Link>) -> Ends {
    let network = MemoryNetwork::new();
    let acceptor = network.listen_attested("peer", options, Arc::clone(listener));
    let accept = async { acceptor.accept().await.unwrap().handshake().await };
    tokio::join!(async { network.dialer_attested("peer", Arc::clone(dialer)).dial().await }, accept)
}

/// Both ends, which must both accept.
pub(crate) async fn connected(dialer: &Arc<Link>, listener: &Arc<Link>) -> (Connection, Connection) {
    let (dialled, accepted) = connect(dialer, listener).await;
    (dialled.unwrap(), accepted.unwrap())
}

pub(crate) fn attested(connection: &Connection) -> &AttestedPeer {
    let Peer::Attested(peer) = connection.peer() else { panic!("not attested: {connection:?}") };
    peer
}

/// A worker and a proxy, each of which verifies the other.
fn worker_and_proxy(rig: &Rig, mode: Mode) -> (Arc<Link>, Arc<Link>) {
    let (worker, proxy) = (rig.node(1, Role::Worker), rig.node(2, Role::Proxy));
    let dialer = worker.link(Role::Proxy, Some(&rig.verifier(Role::Proxy, mode)));
    let listener = proxy.link(Role::Worker, Some(&rig.verifier(Role::Worker, mode)));
    (dialer, listener)
}

/// A client and a proxy, of which only the client verifies.
pub(crate) fn client_and_proxy(rig: &Rig, mode: Mode) -> (Arc<Link>, Arc<Link>) {
    let (client, proxy) = (rig.node(3, Role::Client), rig.node(2, Role::Proxy));
    let dialer = client.link(Role::Proxy, Some(&rig.verifier(Role::Proxy, mode)));
    (dialer, proxy.link(Role::Client, None))
}

async fn check_echo(mut near: Connection, far: Connection) {
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    for len in [0, 1, 100, 5_000, 70_000, 3_000_000] {
        near.outbox().send(encoded(vec![5; len])).unwrap();
        assert_eq!(next_message(&mut near).await.len(), len);
    }
    let outbox = near.outbox();
    outbox.close();
    assert!(matches!(drive(near).await, ConnectionError::ClosedLocally));
    let end = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(end, ConnectionError::PeerClosed), "{end}");
}

#[tokio::test(start_paused = true)]
async fn worker_and_proxy_accept_each_other() {
    let rig = Rig::new();
    let (dialer, listener) = worker_and_proxy(&rig, Mode::Strict);
    let (near, far) = connected(&dialer, &listener).await;
    let (proxy, worker) = (attested(&near), attested(&far));
    assert_eq!((proxy.claims().unwrap().role, worker.claims().unwrap().role), (Role::Proxy, Role::Worker));
    assert_eq!((proxy.profile(), proxy.mode()), ("attested-v2", Mode::Strict));
    assert_eq!(proxy.verdict().provenance, Provenance::Simulated);
    assert_eq!(proxy.claims().unwrap().keys.tls, listener.identity.public_key());
    let checked = proxy.document().verify(None, None).unwrap();
    assert_eq!((&checked.verdict, proxy.id()), (proxy.verdict(), proxy.document().id()));
    check_echo(near, far).await;
}

#[tokio::test(start_paused = true)]
async fn odd_chunks_and_a_narrow_link_change_nothing() {
    let rig = Rig::new();
    let (dialer, listener) = worker_and_proxy(&rig, Mode::Strict);
    for seed in 0..3 {
        let chunking = Chunking::Random { seed, max: 700 };
        let options = LinkOptions { capacity: 512, chunking, ..LinkOptions::default() };
        let (near, far) = connect_over(options, &dialer, &listener).await;
        check_echo(near.unwrap(), far.unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_shows_a_key_and_no_evidence() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::Strict);
    let (near, far) = connected(&dialer, &listener).await;
    assert_eq!(attested(&near).claims().unwrap().role, Role::Proxy);
    assert!(matches!(far.peer(), Peer::Unattested { tls_key, .. } if *tls_key == dialer.identity.public_key()));
    check_echo(near, far).await;
}

#[tokio::test]
async fn attested_round_trip_over_tcp() {
    let rig = Rig::new();
    let (dialer, link) = worker_and_proxy(&rig, Mode::Strict);
    let listener = Listener::bind(ListenConfig::attested(([127, 0, 0, 1], 0).into(), link)).await.unwrap();
    let addr = listener.local_addr();
    let accept = async { listener.accept().await.unwrap().handshake().await.unwrap() };
    let (near, far) = tokio::join!(async { dial(DialConfig::attested(addr, dialer)).await.unwrap() }, accept);
    check_echo(near, far).await;
}

#[tokio::test]
async fn attested_links_may_leave_the_host() {
    let rig = Rig::new();
    let (_, link) = client_and_proxy(&rig, Mode::Strict);
    assert!(Listener::bind(ListenConfig::attested(([0, 0, 0, 0], 0).into(), link)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn link_without_a_verifier_is_refused_unless_it_expects_clients() {
    let rig = Rig::new();
    let (_, listener) = worker_and_proxy(&rig, Mode::Strict);
    let blind = rig.node(1, Role::Worker).link(Role::Proxy, None);
    let (dialled, _) = connect(&blind, &listener).await;
    let error = dialled.unwrap_err();
    assert!(matches!(error, DialError::LinkMisuse(_)) && error.fault() == Fault::Local, "{error}");

    let anyone =
        rig.node(1, Role::Worker).link_expecting(Expected::default(), Some(&rig.verifier(Role::Proxy, Mode::Strict)));
    assert!(matches!(connect(&anyone, &listener).await.0, Err(DialError::LinkMisuse(_))));
}

#[tokio::test(start_paused = true)]
async fn session_key_stands_for_evidence_for_five_minutes() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::SessionKey);
    let mode = async || {
        let (near, _far) = connected(&dialer, &listener).await;
        (attested(&near).mode(), attested(&near).id().to_owned())
    };
    let (first, id) = mode().await;
    assert_eq!(first, Mode::Strict);
    rig.clock.advance(299);
    assert_eq!(mode().await, (Mode::SessionKey, id.clone()));
    rig.clock.advance(2);
    let (third, other) = mode().await;
    assert!(third == Mode::Strict && other != id, "session key after 5 minutes");
}

#[tokio::test(start_paused = true)]
async fn strict_policy_never_takes_a_session_key() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::Strict);
    for _ in 0..2 {
        let (near, _far) = connected(&dialer, &listener).await;
        assert_eq!(attested(&near).mode(), Mode::Strict);
    }
}

#[tokio::test(start_paused = true)]
async fn open_connection_is_attested_again_while_data_flows() {
    let rig = Rig::new();
    let (dialer, listener) = worker_and_proxy(&rig, Mode::Strict);
    let (mut near, far) = connected(&dialer, &listener).await;
    let first = attested(&near).id().to_owned();
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    let mut hours = 0;
    while hours < 2 {
        near.outbox().send(encoded("data")).unwrap();
        assert_eq!(next_message(&mut near).await, "data");
        let rest = tokio::time::timeout(Duration::from_secs(3600), near.next()).await;
        assert!(rest.is_err(), "nothing ends it: {rest:?}");
        rig.clock.advance(3600);
        hours += 1;
    }
    let again = tokio::time::timeout(Duration::from_secs(60), near.next()).await;
    assert!(again.is_err(), "{again:?}");
    assert_ne!(attested(&near).id(), first, "a newer appraisal");
}

#[tokio::test(start_paused = true)]
async fn challenges_do_not_reach_the_role_and_its_own_queries_do() {
    let rig = Rig::new();
    let (dialer, listener) = worker_and_proxy(&rig, Mode::Strict);
    let (near, mut far) = connected(&dialer, &listener).await;
    let outbox = near.outbox();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    let mut queries = 0;
    let ask = async {
        tokio::time::sleep(Duration::from_secs(4000)).await;
        outbox.query(encoded("mine"), Duration::from_secs(5)).await.unwrap()
    };
    let answer = async {
        loop {
            let Event::Query(query) = far.next().await.unwrap() else { panic!("only queries") };
            assert_eq!(query.data, "mine");
            queries += 1;
            far.outbox().answer(query.id, encoded("yours")).unwrap();
        }
    };
    tokio::select! {
        answer = ask => assert_eq!(answer, "yours"),
        () = answer => {}
    }
    assert_eq!(queries, 1);
}

#[tokio::test(start_paused = true)]
async fn policy_change_makes_open_connections_prove_themselves_at_once() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::SessionKey);
    let verifier = dialer.verifier.clone().unwrap();
    let (mut near, far) = connected(&dialer, &listener).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(far));

    // The honest twin: another policy that accepts the peer as well.
    verifier.set_policy(rig.policy(Role::Proxy, Mode::Strict));
    let rest = tokio::time::timeout(Duration::from_secs(10), near.next()).await;
    assert!(rest.is_err(), "{rest:?}");

    let other = rig.policy_for(&SimImage::new("another image", b""), Mode::SessionKey);
    verifier.set_policy(other);
    let ended = tokio::time::timeout(Duration::from_secs(10), near.next()).await.unwrap();
    let refusal = match ended {
        Err(ConnectionError::PeerAttestation(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal.check, Check::Image);
}

#[tokio::test(start_paused = true)]
async fn a_removed_image_that_does_not_answer_gains_no_time() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::SessionKey);
    let verifier = dialer.verifier.clone().unwrap();
    let by_root = rig.policy_by_root(Mode::SessionKey);
    let listed = RootValues {
        proxy_manifests: [SimImage::for_role(Role::Proxy).manifest().sha256()].into(),
        ..RootValues::default()
    };
    verifier.set_policy(by_root.with_root(&listed).unwrap());
    // Nobody drives the far side: it neither answers nor hangs up.
    let (mut near, _far) = connected(&dialer, &listener).await;

    verifier.set_policy(by_root.with_root(&RootValues::default()).unwrap());
    let ended = tokio::time::timeout(Duration::from_millis(1), near.next()).await.unwrap();
    let Err(ConnectionError::PeerAttestation(refusal)) = ended else { panic!("{ended:?}") };
    assert_eq!(refusal.check, Check::Image);
}

#[tokio::test(start_paused = true)]
async fn policy_change_forgets_session_keys() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::SessionKey);
    let mode = async || attested(&connected(&dialer, &listener).await.0).mode();
    assert_eq!((mode().await, mode().await), (Mode::Strict, Mode::SessionKey));
    dialer.verifier.as_ref().unwrap().set_policy(rig.policy(Role::Proxy, Mode::SessionKey));
    assert_eq!((mode().await, mode().await), (Mode::Strict, Mode::SessionKey));
}

#[tokio::test(start_paused = true)]
async fn leaving_is_told_from_being_cut_off() {
    let rig = Rig::new();
    let (dialer, listener) = client_and_proxy(&rig, Mode::Strict);
    let (near, far) = connected(&dialer, &listener).await;
    drop(near);
    let end = drive(far).await;
    assert!(matches!(end, ConnectionError::PeerClosed), "{end}");
}

#[tokio::test]
async fn original_peers_are_accepted_only_where_a_policy_says_so() {
    let rig = Rig::new();
    let (worker, proxy) = (rig.node(1, Role::Worker), rig.node(2, Role::Proxy));
    let lenient = rig.verifier_by(rig.insecure_cocoon_v1_policy());
    // An original worker shows what a node of ours shows that has to please original ones.
    let see = async |stream| Raw::server(stream, &proxy).await.peer_certificate();
    let (_, quoted) = dialled(&worker.link(Role::Proxy, Some(&lenient)), see).await;

    let original = async |stream| {
        let mut raw = Raw::client_with(stream, original_config(&worker, quoted.clone())).await.unwrap();
        raw.open_packets().await;
        raw
    };
    let (accepted, _raw) = Door::new(&proxy.link(Role::Worker, Some(&lenient))).attacked(original).await;
    let accepted = accepted.unwrap();
    assert_eq!((attested(&accepted).profile(), attested(&accepted).claims()), ("cocoon-v1", None));

    let strict = proxy.link(Role::Worker, Some(&rig.verifier(Role::Worker, Mode::Strict)));
    let original = async |stream| Raw::client_with(stream, original_config(&worker, quoted.clone())).await;
    let (refused, _) = Door::new(&strict).attacked(original).await;
    assert!(matches!(refused, Err(HandshakeError::PeerNoProfile)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_allow_original_peers_still_speak_the_strong_profile_to_each_other() {
    let rig = Rig::new();
    let lenient = rig.verifier_by(rig.insecure_cocoon_v1_policy());
    let dialer = rig.node(1, Role::Worker).link(Role::Proxy, Some(&lenient));
    let listener = rig.node(2, Role::Proxy).link(Role::Worker, Some(&lenient));
    let (near, far) = connected(&dialer, &listener).await;
    assert_eq!((attested(&near).profile(), attested(&far).profile()), ("attested-v2", "attested-v2"));
}
