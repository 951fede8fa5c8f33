//! Attacks on what strangers share with everybody else: the platform's quotes, the collateral service, memory.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_attest::policy::Mode;
use cocoon_attest::{
    Attester, Check, Collateral, CollateralError, CollateralNeed, CollateralSource, Evidence, EvidenceError, Format,
    GpuEvidence, Refusal, Role,
};
use cocoon_net::limits::QUOTES_WAITING_MAX;
use cocoon_net::{DialError, HandshakeError, LinkFrameError, Verifier};
use cocoon_simtee::{SimImage, SimTd};
use cocoon_units::Clock;
use cocoon_wire::attestation::{AttestEvidence, AttestHello, AttestMessage, AttestPlatform};
use cocoon_wire::limits::ATTEST_VERDICT_MAX;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::attacks::Door;
use crate::attested::{client_and_proxy, connect, connected};
use crate::raw::{Raw, quiet_hello};
use crate::rig::{Node, Rig};
use crate::support::echo;

/// A TD whose quoting enclave takes a second for each quote, as the slowest that was measured.
#[derive(Debug)]
struct Slow(SimTd);

#[async_trait]
impl Attester for Slow {
    fn format(&self) -> Format {
        self.0.format()
    }

    async fn gpu_evidence(&self, nonce: [u8; 32]) -> Result<Vec<GpuEvidence>, EvidenceError> {
        self.0.gpu_evidence(nonce).await
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.evidence(report_data).await
    }
}

/// A client that asks for evidence and wants nothing else.
async fn wastes_a_quote(door: Rc<Door>, stranger: Rc<Node>) {
    let attack = async |stream| {
        let mut raw = Raw::client(stream, &stranger).await;
        raw.send(&AttestMessage::Hello(AttestHello { asks: true, ..quiet_hello("client") })).await;
        raw.receive_hello().await;
        raw.send(&AttestMessage::None).await;
        raw.receive().await;
    };
    drop(door.attacked(attack).await);
}

#[tokio::test(start_paused = true)]
async fn strangers_that_fill_the_line_of_quotes_do_not_end_open_connections() {
    let rig = Rig::new();
    let attester = Arc::new(Slow(rig.platform.td(SimImage::for_role(Role::Proxy))));
    let proxy = rig.node_in(2, Role::Proxy, attester).link(Role::Client, None);
    let (client, _) = client_and_proxy(&rig, Mode::Strict);
    let (mut near, far) = connected(&client, &proxy).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));

    let strangers = LocalSet::new();
    let (door, stranger) = (Rc::new(Door::new(&proxy)), Rc::new(rig.node(66, Role::Client)));
    for _ in 0..QUOTES_WAITING_MAX + 10 {
        strangers.spawn_local(wastes_a_quote(Rc::clone(&door), Rc::clone(&stranger)));
    }
    let asked_again = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.verifier.as_ref().unwrap().set_policy(rig.policy(Role::Proxy, Mode::Strict));
        timeout(Duration::from_secs(100), near.next()).await
    };
    let rest = strangers.run_until(asked_again).await;
    assert!(rest.is_err(), "it goes on: {rest:?}");
}

/// A source that only counts.
#[derive(Debug, Default)]
struct Counts(AtomicUsize);

#[async_trait]
impl CollateralSource for Counts {
    async fn collateral(&self, _: &CollateralNeed, _: u64) -> Result<Arc<Collateral>, CollateralError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(CollateralError::NoSource)
    }
}

/// An SNP report of no chip: what it takes to be looked up.
fn a_report_of_no_chip() -> Bytes {
    let mut report = vec![0; 1184];
    // Version 3, signed with ECDSA P-384, of a Genoa.
    (report[0], report[52], report[0x188], report[0x189]) = (3, 1, 0x19, 0x11);
    report[416..480].fill(7);
    report.into()
}

#[tokio::test(start_paused = true)]
async fn evidence_that_the_policy_cannot_accept_sets_off_no_lookup() {
    let rig = Rig::new();
    let source = Arc::new(Counts::default());
    let clock: Arc<dyn Clock> = Arc::clone(&rig.clock) as _;
    let policy = rig.policy(Role::Worker, Mode::Strict);
    let verifier = Arc::new(Verifier::new(policy, Arc::<Counts>::clone(&source), clock));
    let proxy = rig.node(2, Role::Proxy).link(Role::Worker, Some(&verifier));
    let stranger = rig.node(66, Role::Worker);
    let attack = async |stream| {
        let mut raw = Raw::client(stream, &stranger).await;
        raw.send(&AttestMessage::Hello(quiet_hello("worker"))).await;
        assert_eq!(raw.receive_hello().await.formats, ["tdx"]);
        let platform = AttestPlatform::SevSnp { report: a_report_of_no_chip(), certificates: Vec::new() };
        let evidence = AttestEvidence {
            platform,
            claims: Bytes::new(),
            gpus: Vec::new(),
            event_log: None,
            manifest: None,
            collateral: None,
        };
        raw.send(&AttestMessage::Evidence(Box::new(evidence))).await;
        assert_eq!(raw.receive().await, AttestMessage::None);
        raw.receive().await
    };
    let (refused, _) = Door::new(&proxy).attacked(attack).await;
    assert_eq!(source.0.load(Ordering::SeqCst), 0, "{refused:?}");
    assert!(
        matches!(refused, Err(HandshakeError::PeerAttestation(Refusal { check: Check::Format, .. }))),
        "{refused:?}"
    );
}

/// A source whose service has an address that is nobody's business.
#[derive(Debug)]
struct Inside;

#[async_trait]
impl CollateralSource for Inside {
    async fn collateral(&self, _: &CollateralNeed, _: u64) -> Result<Arc<Collateral>, CollateralError> {
        let why = "https://pccs.inside.example/tcb: connection refused".to_owned();
        Err(CollateralError::Service { service: "https://pccs.inside.example".to_owned(), why })
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_learn_where_our_collateral_comes_from() {
    let rig = Rig::new();
    let clock: Arc<dyn Clock> = Arc::clone(&rig.clock) as _;
    let verifier = Arc::new(Verifier::new(rig.policy(Role::Proxy, Mode::Strict), Arc::new(Inside), clock));
    let client = rig.node(3, Role::Client).link(Role::Proxy, Some(&verifier));
    let proxy = rig.node_that_staples_nothing(2, Role::Proxy).link(Role::Client, None);
    let (dialled, heard) = connect(&client, &proxy).await;
    let Err(DialError::PeerAttestation(refusal)) = dialled else { panic!("{dialled:?}") };
    assert!(refusal.found.contains("pccs.inside.example"), "our own operator reads it: {refusal}");
    let Err(HandshakeError::PeerRefusedUs { check, text }) = heard else { panic!("{heard:?}") };
    assert!(check == "collateral" && !text.contains("inside"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_of_evidence_that_nobody_asked_for_is_refused_at_the_length() {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let attack = async |stream| {
        let mut raw = Raw::client(stream, &node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.receive_hello().await;
        raw.send_bytes(&(1_u32 << 20).to_le_bytes()).await;
        raw
    };
    let (refused, _raw) = Door::new(&proxy).attacked(attack).await;
    let expected = LinkFrameError::TooLong { len: 1 << 20, max: ATTEST_VERDICT_MAX };
    assert!(matches!(&refused, Err(HandshakeError::PeerLinkFrame(found)) if *found == expected), "{refused:?}");
}
