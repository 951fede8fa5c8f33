//! Attacks on the choice between our own collateral and what the peer stapled.

use std::future::pending;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cocoon_attest::policy::Mode;
use cocoon_attest::{Check, Collateral, CollateralError, CollateralNeed, CollateralSource, Refusal, Role};
use cocoon_net::{DialError, HandshakeError, Link, Verifier};
use cocoon_simtee::SimCollateral;
use cocoon_units::Clock;

use crate::attested::{connect, connected};
use crate::rig::Rig;

/// How our own source is today.
#[derive(Debug, Clone)]
enum Today {
    Up,
    Fails(CollateralError),
    Hangs,
}

/// A source of our own that tests switch.
#[derive(Debug)]
struct Switched {
    platform: SimCollateral,
    today: Mutex<Today>,
}

impl Switched {
    fn set(&self, today: Today) {
        *self.today.lock().unwrap() = today;
    }
}

#[async_trait]
impl CollateralSource for Switched {
    async fn collateral(&self, need: &CollateralNeed, now: u64) -> Result<Arc<Collateral>, CollateralError> {
        let today = self.today.lock().unwrap().clone();
        match today {
            Today::Up => self.platform.collateral(need, now).await,
            Today::Fails(error) => Err(error),
            Today::Hangs => pending().await,
        }
    }
}

/// A client with a source of its own, and a proxy that staples.
struct Pair {
    rig: Rig,
    source: Arc<Switched>,
    client: Arc<Link>,
    proxy: Arc<Link>,
}

impl Pair {
    fn new(today: Today) -> Self {
        let rig = Rig::new();
        let source = Arc::new(Switched { platform: rig.platform.collateral_source(), today: Mutex::new(today) });
        let clock: Arc<dyn Clock> = Arc::clone(&rig.clock) as _;
        let policy = rig.policy(Role::Proxy, Mode::Strict);
        let verifier = Arc::new(Verifier::new(policy, Arc::<Switched>::clone(&source), clock));
        let client = rig.node(3, Role::Client).link(Role::Proxy, Some(&verifier));
        let proxy = rig.node(2, Role::Proxy).link(Role::Client, None);
        Self { rig, source, client, proxy }
    }

    async fn connected(&self) {
        connected(&self.client, &self.proxy).await;
    }

    /// Our refusal, and what the peer is told.
    async fn refused(&self) -> (Refusal, String) {
        match connect(&self.client, &self.proxy).await {
            (Err(DialError::PeerAttestation(refusal)), Err(HandshakeError::PeerRefusedUs { text, .. })) => {
                (refusal, text)
            }
            other => panic!("{other:?}"),
        }
    }

    fn set_evaluation_number(&self, change: i32) {
        let faults = self.rig.platform.faults();
        faults.set(|faults| faults.tcb_evaluation_number = faults.tcb_evaluation_number.saturating_add_signed(change));
    }
}

fn down() -> CollateralError {
    CollateralError::Service { service: "https://pccs.inside.example".to_owned(), why: "it is down".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn strangers_that_overload_our_source_do_not_make_us_take_what_the_peer_stapled() {
    // The honest twins: without a source, or with one that is down, the staple serves.
    Pair::new(Today::Fails(CollateralError::NoSource)).connected().await;
    Pair::new(Today::Fails(down())).connected().await;
    let busy = Pair::new(Today::Fails(CollateralError::Busy));
    let (refusal, told) = busy.refused().await;
    assert_eq!(refusal.check, Check::Collateral, "{refusal}");
    assert_eq!(told, "there is no collateral for the platform that holds now");
    busy.source.set(Today::Up);
    busy.connected().await;
}

#[tokio::test(start_paused = true)]
async fn strangers_that_keep_our_source_from_answering_in_time_do_not_make_us_take_what_the_peer_stapled() {
    let late = Pair::new(Today::Hangs);
    let (refusal, told) = late.refused().await;
    assert_eq!(refusal.check, Check::Collateral, "{refusal}");
    assert_eq!(told, "there is no collateral for the platform that holds now");
}

#[tokio::test(start_paused = true)]
async fn an_early_staple_does_not_make_us_refuse_what_our_own_source_has() {
    let pair = Pair::new(Today::Fails(down()));
    pair.set_evaluation_number(1);
    pair.connected().await;
    pair.set_evaluation_number(-1);
    let (refusal, _) = pair.refused().await;
    assert_eq!(refusal.check, Check::Tcb, "among staples it does count: {refusal}");
    pair.source.set(Today::Up);
    pair.connected().await;
}

#[tokio::test(start_paused = true)]
async fn a_staple_that_is_behind_our_own_source_is_refused() {
    let pair = Pair::new(Today::Up);
    pair.connected().await;
    pair.source.set(Today::Fails(down()));
    let (refusal, _) = pair.refused().await;
    assert_eq!(refusal.check, Check::Collateral, "nobody was asked to staple yet: {refusal}");
    pair.connected().await;
    pair.set_evaluation_number(-1);
    let (refusal, _) = pair.refused().await;
    assert_eq!(refusal.check, Check::Tcb, "{refusal}");
}
