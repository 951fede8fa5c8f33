//! Attacks on attested links, each named after what the attacker does, beside the honest twin that goes through.
//!
//! The attacker's own words are in `raw.rs`: TLS with any key that it stole, and frames written by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cocoon_attest::policy::Mode;
use cocoon_attest::{
    Attester, ChannelBinding, Check, Evidence, EvidenceError, Expected, Format, GpuEvidence, Refusal, Role,
};
use cocoon_net::limits::REATTEST_TIMEOUT;
use cocoon_net::memory::{LinkOptions, MemoryNetwork, MemoryStream};
use cocoon_net::{
    Acceptor, Connection, ConnectionError, DialConfig, DialError, Fault, HandshakeError, Link, LinkFrameError,
    ListenConfig, Listener, Verifier, dial,
};
use cocoon_simtee::{SimImage, SimTd};
use cocoon_wire::attestation::{AttestHello, AttestMessage, AttestRefusal};
use cocoon_wire::limits::{ATTEST_EVIDENCE_MAX, ATTEST_HELLO_MAX};
use cocoon_wire::pow::{Answer, Challenge};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attested::{attested, client_and_proxy, connect, connected};
use crate::raw::{ALPN, Raw, anonymous_config, client_config, connect_packet, quiet_hello, server_config};
use crate::rig::{Node, Rig, session_seed};
use crate::support::{drive, echo, encoded, next_message};

// Peers by hand.

/// A listener of these links, and streams to it that are past the proof of work.
pub(crate) struct Door {
    pub(crate) network: MemoryNetwork,
    pub(crate) acceptor: Arc<dyn Acceptor>,
}

impl Door {
    pub(crate) fn new(link: &Arc<Link>) -> Self {
        let network = MemoryNetwork::new();
        let acceptor = Arc::new(network.listen_attested("door", LinkOptions::default(), Arc::clone(link)));
        Self { network, acceptor }
    }

    /// What the listener makes of a peer that does `attack`.
    pub(crate) async fn attacked<T>(
        &self,
        attack: impl AsyncFnOnce(MemoryStream) -> T,
    ) -> (Result<Connection, HandshakeError>, T) {
        let accept = async { self.acceptor.accept().await.unwrap().handshake().await };
        tokio::join!(accept, async { attack(self.network.open_raw("door").await.unwrap()).await })
    }
}

/// What a dialer makes of a listener that does `attack`, past the proof of work.
pub(crate) async fn dialled<T>(
    link: &Arc<Link>,
    attack: impl AsyncFnOnce(TcpStream) -> T,
) -> (Result<Connection, DialError>, T) {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        stream.write_all(&Challenge { difficulty_bits: 0, salt: [0; 16] }.encode()).await.unwrap();
        stream.read_exact(&mut [0; Answer::LEN]).await.unwrap();
        attack(stream).await
    };
    tokio::join!(dial(DialConfig::attested(addr, Arc::clone(link))), serve)
}

/// Asks a listener for evidence over a nonce, as a client with this key.
async fn ask_for_evidence(door: &Door, asker: &Node, nonce: [u8; 32]) -> AttestMessage {
    let attack = async |stream| {
        let mut raw = Raw::client(stream, asker).await;
        let mut hello = quiet_hello(asker.role.name());
        (hello.nonce, hello.asks) = (nonce, true);
        raw.send(&AttestMessage::Hello(hello)).await;
        raw.receive_hello().await;
        raw.send(&AttestMessage::None).await;
        raw.receive().await
    };
    door.attacked(attack).await.1
}

/// A proxy by hand: says hello, answers the dialer's nonce with what `show` gives, hears the verdict.
async fn shows(
    stream: TcpStream,
    stolen: &Node,
    show: impl AsyncFnOnce(&mut Raw<TcpStream>, [u8; 32]) -> AttestMessage,
) -> AttestMessage {
    let mut raw = Raw::server(stream, stolen).await;
    raw.send(&AttestMessage::Hello(quiet_hello("proxy"))).await;
    let nonce = raw.receive_hello().await.nonce;
    let shown = show(&mut raw, nonce).await;
    raw.send(&shown).await;
    assert_eq!(raw.receive().await, AttestMessage::None);
    raw.receive().await
}

#[track_caller]
fn refusal(result: Result<Connection, DialError>) -> Refusal {
    match result {
        Err(DialError::PeerAttestation(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

// Evidence of another connection.

#[tokio::test]
async fn relay_with_a_stolen_tls_key_is_refused() {
    let rig = Rig::new();
    let (victim, genuine) = client_and_proxy(&rig, Mode::Strict);
    let (door, stolen, attacker) = (Door::new(&genuine), rig.node(2, Role::Proxy), rig.node(66, Role::Client));
    let relay =
        async |stream| shows(stream, &stolen, async |_, nonce| ask_for_evidence(&door, &attacker, nonce).await).await;
    let (dialled, verdict) = dialled(&victim, relay).await;
    assert_eq!(refusal(dialled).check, Check::ReportData);
    assert!(matches!(verdict, AttestMessage::Refused(_)), "{verdict:?}");
    // The honest twin: the genuine proxy itself.
    connected(&victim, &genuine).await;
}

#[tokio::test]
async fn relay_by_a_man_in_the_middle_with_its_own_key_is_refused() {
    let rig = Rig::new();
    let (victim, genuine) = client_and_proxy(&rig, Mode::Strict);
    let (door, own) = (Door::new(&genuine), rig.node(66, Role::Client));
    let relay = async |stream| shows(stream, &own, async |_, nonce| ask_for_evidence(&door, &own, nonce).await).await;
    assert_eq!(refusal(dialled(&victim, relay).await.0).check, Check::ReportData);
}

#[tokio::test]
async fn replayed_evidence_is_refused() {
    let rig = Rig::new();
    let (victim, genuine) = client_and_proxy(&rig, Mode::Strict);
    let recorded = ask_for_evidence(&Door::new(&genuine), &rig.node(3, Role::Client), [1; 32]).await;
    assert!(matches!(recorded, AttestMessage::Evidence(_)));
    let stolen = rig.node(2, Role::Proxy);
    let replay = async |stream| shows(stream, &stolen, async |_, _| recorded).await;
    assert_eq!(refusal(dialled(&victim, replay).await.0).check, Check::ReportData);
}

#[tokio::test]
async fn replayed_handshake_is_refused() {
    let rig = Rig::new();
    let (client, proxy) = client_and_proxy(&rig, Mode::Strict);
    let listener = Listener::bind(ListenConfig::attested(([127, 0, 0, 1], 0).into(), proxy)).await.unwrap();
    let addr = listener.local_addr();
    let tap = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let tapped = tap.local_addr().unwrap();
    let record = async {
        let (stream, _) = tap.accept().await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let (mut back, mut forth) = TcpStream::connect(addr).await.unwrap().into_split();
        let mut recorded = Vec::new();
        let forward = async {
            let mut buffer = vec![0; 4096];
            loop {
                match from.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(len) => {
                        recorded.extend_from_slice(&buffer[..len]);
                        forth.write_all(&buffer[..len]).await.unwrap();
                    }
                }
            }
        };
        tokio::join!(forward, tokio::io::copy(&mut back, &mut to)).1.ok();
        recorded
    };
    let honest = async { drop(dial(DialConfig::attested(tapped, client)).await.unwrap()) };
    let accept = async { drive(listener.accept().await.unwrap().handshake().await.unwrap()).await };
    let (recorded, (), end) = tokio::join!(record, honest, accept);
    assert!(matches!(end, ConnectionError::PeerClosed) && recorded.len() > 500, "the recorded one went through: {end}");

    let replay = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&recorded).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let accept = async { listener.accept().await.unwrap().handshake().await };
    let ((), refused) = tokio::join!(replay, accept);
    assert!(matches!(refused, Err(HandshakeError::PeerTls(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn diversion_to_another_genuine_tee_is_refused() {
    let rig = Rig::new();
    let verifier = rig.verifier(Role::Proxy, Mode::Strict);
    let (client, meant, other) = (rig.node(3, Role::Client), rig.node(2, Role::Proxy), rig.node(4, Role::Proxy));
    let expected = Expected { role: Some(Role::Proxy), payment_key: Some(meant.payment), ..Expected::default() };
    let dialer = client.link_expecting(expected, Some(&verifier));
    let (dialled, heard) = connect(&dialer, &other.link(Role::Client, None)).await;
    assert_eq!(refusal(dialled).check, Check::Identity);
    assert!(matches!(heard, Err(HandshakeError::PeerRefusedUs { check, .. }) if check == "identity"));
    connected(&dialer, &meant.link(Role::Client, None)).await;
}

#[tokio::test(start_paused = true)]
async fn session_key_memory_does_not_answer_for_another_expectation() {
    let rig = Rig::new();
    let verifier = rig.verifier(Role::Proxy, Mode::SessionKey);
    let (client, proxy) = (rig.node(3, Role::Client), rig.node(2, Role::Proxy));
    let listener = proxy.link(Role::Client, None);
    connected(&client.link(Role::Proxy, Some(&verifier)), &listener).await;
    // Another part of the same node means somebody else, and shares the verifier.
    let expected = Expected { role: Some(Role::Proxy), payment_key: Some([1; 32]), ..Expected::default() };
    let (dialled, _) = connect(&client.link_expecting(expected, Some(&verifier)), &listener).await;
    assert_eq!(refusal(dialled).check, Check::Identity);
}

// Session keys.

/// A proxy by hand that has only keys, and answers every hello with a signature of its session key.
async fn signs(stream: TcpStream, stolen: &Node, verifier: &Node) -> AttestMessage {
    shows(stream, stolen, async |raw, nonce| {
        let channel = ChannelBinding {
            role: Role::Proxy,
            attester_spki: stolen.identity.spki().to_vec(),
            verifier_certificate_sha256: Sha256::digest(verifier.identity.certificate_der()).into(),
            nonce,
            exporter: raw.exported(&nonce),
        };
        let signature = SigningKey::from_bytes(&session_seed(2)).sign(&channel.session_message()).to_bytes();
        AttestMessage::Session { signature }
    })
    .await
}

fn session_client(rig: &Rig, verifier: &Arc<Verifier>) -> (Node, Arc<Link>) {
    let client = rig.node(3, Role::Client);
    let link = client.link(Role::Proxy, Some(verifier));
    (client, link)
}

/// Between proxy and worker it is fresh evidence each time, even where somebody's policy would have session keys.
#[tokio::test]
async fn session_keys_are_not_used_between_proxy_and_worker() {
    let rig = Rig::new();
    let (proxy, worker) = (rig.node(1, Role::Proxy), rig.node(2, Role::Worker));
    let listener = proxy.link(Role::Worker, Some(&rig.verifier(Role::Worker, Mode::SessionKey)));
    let dialer = worker.link(Role::Proxy, Some(&rig.verifier(Role::Proxy, Mode::SessionKey)));
    for _ in 0..2 {
        let (dialled, accepted) = connected(&dialer, &listener).await;
        assert_eq!([attested(&dialled).mode(), attested(&accepted).mode()], [Mode::Strict; 2]);
    }
}

#[tokio::test]
async fn session_key_shown_to_a_second_verifier_is_refused() {
    let rig = Rig::new();
    let stolen = rig.node(2, Role::Proxy);
    let (first, second) = (rig.verifier(Role::Proxy, Mode::SessionKey), rig.verifier(Role::Proxy, Mode::SessionKey));
    let (_, link) = session_client(&rig, &first);
    connected(&link, &stolen.link(Role::Client, None)).await;

    let (client, link) = session_client(&rig, &second);
    let sign = async |stream: TcpStream| {
        let mut raw = Raw::server(stream, &stolen).await;
        raw.send(&AttestMessage::Hello(quiet_hello("proxy"))).await;
        let hello = raw.receive_hello().await;
        assert_eq!(hello.session_key, None, "it remembers nothing");
        let channel = ChannelBinding {
            role: Role::Proxy,
            attester_spki: stolen.identity.spki().to_vec(),
            verifier_certificate_sha256: Sha256::digest(client.identity.certificate_der()).into(),
            nonce: hello.nonce,
            exporter: raw.exported(&hello.nonce),
        };
        let signature = SigningKey::from_bytes(&session_seed(2)).sign(&channel.session_message()).to_bytes();
        raw.send(&AttestMessage::Session { signature }).await;
        assert_eq!(raw.receive().await, AttestMessage::None);
    };
    let (dialled, ()) = dialled(&link, sign).await;
    assert!(
        matches!(dialled, Err(DialError::PeerLinkFrame(LinkFrameError::Unexpected { frame: "attest.session", .. }))),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn stolen_session_key_works_for_its_verifier_only_and_only_for_five_minutes() {
    let rig = Rig::new();
    let stolen = rig.node(2, Role::Proxy);
    let verifier = rig.verifier(Role::Proxy, Mode::SessionKey);
    let (client, link) = session_client(&rig, &verifier);
    connected(&link, &stolen.link(Role::Client, None)).await;
    // What the mode does not withstand, and why a policy has to ask for it: both keys stolen, within five minutes.
    let accepted = async |stream| signs(stream, &stolen, &client).await;
    let (_, verdict) = dialled(&link, accepted).await;
    assert_eq!(verdict, AttestMessage::Accepted);

    rig.clock.advance(301);
    let late = async |stream: TcpStream| {
        let mut raw = Raw::server(stream, &stolen).await;
        raw.send(&AttestMessage::Hello(quiet_hello("proxy"))).await;
        assert_eq!(raw.receive_hello().await.session_key, None, "session key after 5 minutes");
        raw.send(&AttestMessage::Session { signature: [0; 64] }).await;
        assert_eq!(raw.receive().await, AttestMessage::None);
    };
    let (dialled, ()) = dialled(&link, late).await;
    assert!(matches!(dialled, Err(DialError::PeerLinkFrame(_))), "{dialled:?}");
}

#[tokio::test(start_paused = true)]
async fn session_key_does_not_live_on_under_a_clock_that_stands_still_or_went_back() {
    let rig = Rig::new();
    let verifier = rig.verifier(Role::Proxy, Mode::SessionKey);
    let (client, proxy) = (rig.node(3, Role::Client), rig.node(2, Role::Proxy));
    let (dialer, listener) = (client.link(Role::Proxy, Some(&verifier)), proxy.link(Role::Client, None));
    let mode = async || attested(&connected(&dialer, &listener).await.0).mode();
    assert_eq!((mode().await, mode().await), (Mode::Strict, Mode::SessionKey));
    // The host stops its clock; time goes by all the same.
    tokio::time::advance(Duration::from_secs(301)).await;
    assert_eq!(mode().await, Mode::Strict);
}

#[tokio::test]
async fn wrong_session_signature_is_refused_and_forgotten() {
    let rig = Rig::new();
    let stolen = rig.node(2, Role::Proxy);
    let verifier = rig.verifier(Role::Proxy, Mode::SessionKey);
    let (_, link) = session_client(&rig, &verifier);
    connected(&link, &stolen.link(Role::Client, None)).await;
    let forge = async |stream| shows(stream, &stolen, async |_, _| AttestMessage::Session { signature: [7; 64] }).await;
    assert_eq!(refusal(dialled(&link, forge).await.0).check, Check::Signature);
    let (near, _far) = connected(&link, &stolen.link(Role::Client, None)).await;
    assert_eq!(attested(&near).mode(), Mode::Strict);
}

// Platforms and roles.

#[tokio::test(start_paused = true)]
async fn debug_td_is_refused_and_hears_why() {
    let rig = Rig::new();
    let (client, proxy) = client_and_proxy(&rig, Mode::Strict);
    rig.platform.faults().set(|faults| faults.debug_guest = true);
    let (dialled, heard) = connect(&client, &proxy).await;
    assert_eq!(refusal(dialled).check, Check::Attributes);
    let Err(HandshakeError::PeerRefusedUs { check, text }) = heard else { panic!("{heard:?}") };
    assert!(check == "attributes" && text.contains("expected"), "{check} {text}");
    rig.platform.faults().clear();
    connected(&client, &proxy).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_role_is_refused() {
    let rig = Rig::new();
    let (client, _) = client_and_proxy(&rig, Mode::Strict);
    let worker = rig.node(1, Role::Worker).link(Role::Client, None);
    let (dialled, heard) = connect(&client, &worker).await;
    assert_eq!(refusal(dialled).check, Check::Role);
    assert!(matches!(heard, Err(HandshakeError::PeerRefusedUs { check, .. }) if check == "role"));
}

#[tokio::test(start_paused = true)]
async fn peer_without_evidence_is_refused() {
    let rig = Rig::new();
    let (client, _) = client_and_proxy(&rig, Mode::Strict);
    let mut naked = rig.node(2, Role::Proxy);
    naked.prover = None;
    naked.role = Role::Proxy;
    // It still needs a clock: that of a verifier it has for others.
    let link = naked.link(Role::Worker, Some(&rig.verifier(Role::Worker, Mode::Strict)));
    let (dialled, _) = connect(&client, &link).await;
    assert!(dialled.is_err());

    let show_nothing = async |stream| {
        let node = rig.node(2, Role::Proxy);
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("worker"))).await;
        raw.receive_hello().await;
        raw.send(&AttestMessage::None).await;
        raw.receive().await;
        raw.receive().await
    };
    let proxy = rig.node(5, Role::Proxy).link(Role::Worker, Some(&rig.verifier(Role::Worker, Mode::Strict)));
    let (refused, told) = Door::new(&proxy).attacked(show_nothing).await;
    assert!(matches!(refused, Err(HandshakeError::PeerAttestation(Refusal { check: Check::Profile, .. }))));
    assert!(matches!(told, AttestMessage::Refused(_)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn revoked_platform_does_not_keep_its_connection() {
    let rig = Rig::new();
    let (client, proxy) = client_and_proxy(&rig, Mode::Strict);
    let (near, far) = connected(&client, &proxy).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    rig.platform.faults().set(|faults| faults.pck_revoked = true);
    let began = Instant::now();
    let ConnectionError::PeerAttestation(refusal) = drive(near).await else { panic!("it ends by the refusal") };
    assert_eq!(refusal.check, Check::Revocation, "{refusal}");
    assert!(began.elapsed() < Duration::from_secs(3700), "{:?}", began.elapsed());
}

/// A TD whose quoting enclave stops to answer.
#[derive(Debug)]
struct Hangs {
    td: SimTd,
    hung: AtomicBool,
}

#[async_trait]
impl Attester for Hangs {
    fn format(&self) -> Format {
        self.td.format()
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        self.td.gpu_evidence(nonce).await
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        if self.hung.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        self.td.evidence(report_data).await
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_does_not_answer_a_challenge_loses_its_connection() {
    let rig = Rig::new();
    let attester =
        Arc::new(Hangs { td: rig.platform.td(SimImage::for_role(Role::Proxy)), hung: AtomicBool::new(false) });
    let proxy = rig.node_in(2, Role::Proxy, Arc::clone(&attester) as _).link(Role::Client, None);
    let (client, _) = client_and_proxy(&rig, Mode::Strict);
    let (mut near, far) = connected(&client, &proxy).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    attester.hung.store(true, Ordering::SeqCst);
    client.verifier.as_ref().unwrap().set_policy(rig.policy(Role::Proxy, Mode::Strict));
    near.outbox().send(encoded("meanwhile")).unwrap();
    assert_eq!(next_message(&mut near).await, "meanwhile");
    let began = Instant::now();
    let ConnectionError::PeerAttestation(refusal) = drive(near).await else { panic!("it ends by the refusal") };
    assert!(refusal.check == Check::Freshness && began.elapsed() <= REATTEST_TIMEOUT, "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn rolled_back_collateral_is_refused() {
    let rig = Rig::new();
    let (client, proxy) = client_and_proxy(&rig, Mode::Strict);
    connected(&client, &proxy).await;
    rig.platform.faults().set(|faults| faults.tcb_evaluation_number -= 1);
    let refusal = refusal(connect(&client, &proxy).await.0);
    assert!(matches!(refusal.check, Check::Tcb | Check::Collateral), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn rolled_back_collateral_that_the_peer_stapled_is_refused() {
    let rig = Rig::new();
    let proxy = rig.node(2, Role::Proxy).link(Role::Client, None);
    let client = rig.node(3, Role::Client).link(Role::Proxy, Some(&rig.verifier_without_source(Role::Proxy)));
    // The honest twin: stapled collateral of today serves while our own source is down.
    connected(&client, &proxy).await;
    rig.platform.faults().set(|faults| faults.tcb_evaluation_number -= 1);
    let refusal = refusal(connect(&client, &proxy).await.0);
    assert!(matches!(refusal.check, Check::Tcb | Check::Collateral), "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn collateral_of_the_peers_choice_is_not_used_where_we_have_our_own() {
    let rig = Rig::new();
    let (victim, genuine) = client_and_proxy(&rig, Mode::Strict);
    let recorded = ask_for_staple(&Door::new(&genuine), &rig.node(66, Role::Client)).await;
    assert!(recorded.is_some(), "a proxy staples");
    // The platform is revoked since; whatever the peer staples, our own source knows.
    rig.platform.faults().set(|faults| faults.pck_revoked = true);
    assert_eq!(refusal(connect(&victim, &genuine).await.0).check, Check::Revocation);
}

async fn ask_for_staple(door: &Door, asker: &Node) -> Option<bytes::Bytes> {
    let attack = async |stream| {
        let mut raw = Raw::client(stream, asker).await;
        let hello = AttestHello { asks: true, staple: true, ..quiet_hello("client") };
        raw.send(&AttestMessage::Hello(hello)).await;
        raw.receive_hello().await;
        raw.send(&AttestMessage::None).await;
        raw.receive().await
    };
    match door.attacked(attack).await.1 {
        AttestMessage::Evidence(evidence) => evidence.collateral,
        AttestMessage::Hello(_)
        | AttestMessage::None
        | AttestMessage::Session { .. }
        | AttestMessage::Accepted
        | AttestMessage::Refused(_) => None,
    }
}

// Downgrades.

#[tokio::test(start_paused = true)]
async fn alpn_stripped_by_the_dialer_is_refused() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let door = Door::new(&proxy);
    for alpn in [None, Some(b"cocoon/1".as_slice())] {
        let strip = async |stream| Raw::client_with(stream, client_config(&node, alpn)).await.is_ok();
        let (refused, _) = door.attacked(strip).await;
        assert!(matches!(refused, Err(HandshakeError::PeerNoProfile | HandshakeError::PeerTls(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn downgrade_to_cocoon_v1_by_the_listener_is_refused() {
    let rig = Rig::new();
    let (client, _) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(2, Role::Proxy);
    let strip = async |stream| Raw::server_with(stream, server_config(&node, None)).await;
    let (refused, _raw) = dialled(&client, strip).await;
    assert!(matches!(refused, Err(DialError::PeerNoProfile)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn tls_1_2_client_is_refused() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    // ClientHello of version 1.2: one suite, signature algorithms, no supported_versions.
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[0x55; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let extensions = [0, 13, 0, 4, 0, 2, 8, 7, 0, 10, 0, 4, 0, 2, 0, 29];
    hello.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend_from_slice(&extensions);
    let len = u8::try_from(hello.len()).unwrap();
    let record = [vec![0x16, 3, 1, 0, len + 4, 1, 0, 0, len], hello].concat();
    let speak = async |mut stream: MemoryStream| {
        stream.write_all(&record).await.unwrap();
        let mut alert = [0; 7];
        stream.read_exact(&mut alert).await.unwrap();
        alert
    };
    let (refused, alert) = Door::new(&proxy).attacked(speak).await;
    assert!(matches!(refused, Err(HandshakeError::PeerTls(_))), "{refused:?}");
    assert_eq!((alert[0], alert[6]), (21, 70), "an alert: protocol_version");
}

#[tokio::test(start_paused = true)]
async fn client_without_a_certificate_is_refused() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let (refused, _) =
        Door::new(&proxy).attacked(async |stream| Raw::client_with(stream, anonymous_config()).await).await;
    assert!(matches!(refused, Err(HandshakeError::PeerTls(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn resumption_and_early_data_get_nothing_to_work_with() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let (door, node) = (Door::new(&proxy), rig.node(3, Role::Client));
    // One configuration for both, with a session store and early data on: as eager as a client can be.
    let mut config = client_config(&node, Some(ALPN));
    config.enable_early_data = true;
    for _ in 0..2 {
        let config = config.clone();
        let eager = async |stream| {
            let mut raw = Raw::client_with(stream, config).await.unwrap();
            raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
            raw.receive_hello().await;
            let tokio_rustls::TlsStream::Client(tls) = &raw.tls else { panic!("a client") };
            let session = tls.get_ref().1;
            (session.handshake_kind(), session.tls13_tickets_received(), session.is_early_data_accepted())
        };
        let (_, seen) = door.attacked(eager).await;
        assert_eq!(seen, (Some(rustls::HandshakeKind::Full), 0, false));
    }
}

// Frames.

/// What a proxy's listener makes of a client that sends these bytes after its hello, where `attest.none` was due.
async fn after_hello(bytes: Vec<u8>) -> HandshakeError {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let attack = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.receive_hello().await;
        raw.send_bytes(&bytes).await;
        raw
    };
    Door::new(&proxy).attacked(attack).await.0.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn sixteen_mebibytes_of_evidence_are_refused_at_the_length() {
    let rig = Rig::new();
    let verifier = rig.verifier(Role::Worker, Mode::Strict);
    let proxy = rig.node(2, Role::Proxy).link(Role::Worker, Some(&verifier));
    let node = rig.node(1, Role::Worker);
    let attack = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("worker"))).await;
        raw.receive_hello().await;
        raw.send_bytes(&(16_u32 << 20).to_le_bytes()).await;
        raw
    };
    let (refused, _raw) = Door::new(&proxy).attacked(attack).await;
    let expected = LinkFrameError::TooLong { len: 16 << 20, max: ATTEST_EVIDENCE_MAX };
    assert!(matches!(&refused, Err(HandshakeError::PeerLinkFrame(found)) if *found == expected), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn length_bombs_are_refused() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let (door, node) = (Door::new(&proxy), rig.node(3, Role::Client));
    for len in [u32::try_from(ATTEST_HELLO_MAX).unwrap() + 1, u32::MAX] {
        let attack = async |stream| {
            let mut raw = Raw::client(stream, &node).await;
            raw.send_bytes(&len.to_le_bytes()).await;
            raw
        };
        let (refused, _raw) = door.attacked(attack).await;
        assert!(matches!(refused, Err(HandshakeError::PeerLinkFrame(LinkFrameError::TooLong { .. }))), "{refused:?}");
    }
    for len in [0_u32, 3] {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 3]);
        let error = after_hello(bytes).await;
        assert!(matches!(error, HandshakeError::PeerLinkFrame(LinkFrameError::Unreadable(_))), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn application_bytes_before_acceptance_are_refused() {
    let packet = connect_packet();
    let error = after_hello(packet.clone()).await;
    assert!(matches!(error, HandshakeError::PeerLinkFrame(LinkFrameError::Unreadable(_))), "{error}");

    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let instead_of_a_verdict = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.send(&AttestMessage::None).await;
        raw.send_bytes(&packet).await;
        raw
    };
    let (refused, _raw) = Door::new(&proxy).attacked(instead_of_a_verdict).await;
    assert!(matches!(refused, Err(HandshakeError::PeerLinkFrame(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn frames_out_of_their_step_are_refused() {
    let error = after_hello({
        let body = AttestMessage::Accepted.encode();
        [&u32::try_from(body.len()).unwrap().to_le_bytes(), body.as_ref()].concat()
    })
    .await;
    assert!(matches!(error, HandshakeError::PeerLinkFrame(LinkFrameError::Unexpected { .. })), "{error}");
    assert_eq!(error.fault(), Fault::Peer);
}

#[tokio::test(start_paused = true)]
async fn reason_of_a_refusing_peer_is_shown_quoted_and_cut() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let refuse = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.receive_hello().await;
        let text = format!("\u{1b}[2J\nforged log line {}", "x".repeat(5000));
        raw.send(&AttestMessage::Refused(AttestRefusal { check: "tcb".to_owned(), text })).await;
    };
    let error = Door::new(&proxy).attacked(refuse).await.0.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("check \"tcb\"") && shown.contains("forged log line"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\n') && shown.len() < 1200, "{shown}");
    assert_eq!(error.fault(), Fault::Local);
}

// The line.

#[tokio::test(start_paused = true)]
async fn line_cut_without_a_close_is_told_from_a_close() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let connect_and_cut = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.send(&AttestMessage::None).await;
        raw.send(&AttestMessage::Accepted).await;
        raw.receive_hello().await;
        assert_eq!(raw.receive().await, AttestMessage::None);
        assert_eq!(raw.receive().await, AttestMessage::Accepted);
        // Then the end of the stream, below TLS.
        raw.open_packets().await;
    };
    let (accepted, ()) = Door::new(&proxy).attacked(connect_and_cut).await;
    let end = drive(accepted.unwrap()).await;
    assert!(matches!(end, ConnectionError::PeerTruncated), "{end}");
}
