//! A worker's handshake as typestates: what is legal in a state is a method of that state, and of
//! no other.
//!
//! `AwaitWorkerConnect → connect → AwaitBalance → compare_balance → AwaitComplete → complete →
//! ReadyWorker`, with `AwaitHandover` between when the proxy asks for what it lost; wire.md,
//! section 4. Pure: no connection, no task; [`serve`](super::worker_loop) drives it.
//!
//! This proxy keeps its ledger in memory, so it has committed nothing, to a database or to the
//! chain, and says so. A worker that was told of commitments talks to a proxy that was rolled back
//! (or to another one's heir), and must not serve it.

use bytes::Bytes;
use cocoon_ton::Address;
use cocoon_units::AdjustedTokens;
use cocoon_wire::Version;
use cocoon_wire::message::{CompareBalance, SignedPayment, WorkerAnswer, WorkerParams};

use super::standing::Standing;
use super::{Refusal, Terms};
use crate::core::{CancelSupport, WorkerProfile};

/// The connection is open; nothing was said.
#[derive(Debug)]
pub(crate) struct AwaitWorkerConnect;

/// The worker said who it is; balances must be compared.
#[derive(Debug)]
pub(crate) struct AwaitBalance {
    profile: WorkerProfile,
    contract: Option<Address>,
    version: Version,
}

/// The worker was told more than this proxy knows; it may hand that over.
#[derive(Debug)]
pub(crate) struct AwaitHandover(AwaitBalance);

/// Balances agree; the worker must say whether it is enabled.
#[derive(Debug)]
pub(crate) struct AwaitComplete(AwaitBalance);

/// The worker serves.
#[derive(Debug)]
pub(crate) struct ReadyWorker {
    pub(crate) profile: WorkerProfile,
    /// Our contract, as the worker was told it.
    pub(crate) contract: Option<Address>,
    pub(crate) version: Version,
}

/// Where a comparison leads.
#[derive(Debug)]
pub(crate) enum Compared {
    /// Balances agree.
    Equal(AwaitComplete),
    /// The worker knows of tokens that this proxy has forgotten.
    Behind(AwaitHandover),
}

impl AwaitWorkerConnect {
    /// Takes the worker's parameters; the answer carries the chosen version.
    pub(crate) fn connect(
        self,
        terms: &Terms,
        standing: &Standing,
        params: WorkerParams,
    ) -> Result<(AwaitBalance, WorkerAnswer), Refusal> {
        let version = terms.agree(standing, params.is_test, params.versions)?;
        standing.admit_model(&params.model)?;
        let model = public_name(&params.model).ok_or(Refusal::NoModel)?.to_owned();
        // The original allots its slots to its proxies evenly, rounded up.
        let slots = params.max_active_requests.div_ceil(params.proxy_count.max(1));
        let profile = WorkerProfile {
            owner: params.owner_address,
            model,
            coefficient: params.coefficient,
            slots,
            enabled: false,
            cancel: if version == Version::Extended { CancelSupport::Yes } else { CancelSupport::No },
        };
        let worker_sc_address = terms.peer_contract(|contracts| contracts.worker(&profile.owner))?;
        let answer = WorkerAnswer::Connected { params: terms.params(version), worker_sc_address };
        Ok((AwaitBalance { profile, contract: terms.network.contract(), version }, answer))
    }
}

impl AwaitBalance {
    /// Compares what the worker was told with what this proxy knows.
    pub(crate) fn compare_balance(
        self,
        on_chain: AdjustedTokens,
        in_db: AdjustedTokens,
        max_tokens: AdjustedTokens,
        known: AdjustedTokens,
    ) -> Result<(Compared, WorkerAnswer), Refusal> {
        if on_chain > AdjustedTokens::ZERO || in_db > AdjustedTokens::ZERO {
            return Err(Refusal::RolledBack);
        }
        let behind = max_tokens > known;
        let answer = WorkerAnswer::CompareBalance(CompareBalance {
            signed_payment: SignedPayment::Empty,
            tokens_committed_to_db: AdjustedTokens::ZERO,
            max_tokens: known,
            error_code: i32::from(behind),
        });
        let next = match behind {
            true => Compared::Behind(AwaitHandover(self)),
            false => Compared::Equal(AwaitComplete(self)),
        };
        Ok((next, answer))
    }
}

impl AwaitHandover {
    /// Takes what the proxy lost. Nothing was ever payable, so there is nothing to take over.
    pub(crate) fn hand_over(self, _other: &Bytes) -> (AwaitComplete, WorkerAnswer) {
        (AwaitComplete(self.0), WorkerAnswer::ExtendedCompareBalance { error_code: 0 })
    }
}

impl AwaitComplete {
    /// The handshake is over.
    pub(crate) fn complete(self, is_disabled: bool) -> (ReadyWorker, WorkerAnswer) {
        let AwaitBalance { mut profile, contract, version } = self.0;
        profile.enabled = !is_disabled;
        (ReadyWorker { profile, contract, version }, WorkerAnswer::HandshakeCompleted)
    }
}

/// What clients ask for: the part of `name@commit:verity_hash` before `@`.
pub(crate) fn public_name(model: &str) -> Option<&str> {
    let name = model.split_once('@').map_or(model, |(name, _)| name);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cocoon_units::Coefficient;
    use cocoon_wire::VersionRange;

    use super::*;
    use crate::config::ProxyConfig;
    use crate::session::standing::Evidence;
    use crate::terms::ProxyTerms;

    fn terms() -> Terms {
        let config = ProxyConfig::default();
        Terms { network: Arc::new(ProxyTerms::by_config(&config)), config: Arc::new(config) }
    }

    fn here() -> Standing {
        Standing { versions: VersionRange::ALL, evidence: Evidence::NotAsked }
    }

    fn params() -> WorkerParams {
        WorkerParams {
            owner_address: "wallet".into(),
            model: "Qwen/Qwen3-8B@abc123:00".into(),
            coefficient: Coefficient::ONE,
            is_test: true,
            proxy_count: 3,
            max_active_requests: 10,
            versions: Some(VersionRange::ORIGINAL),
        }
    }

    fn tokens(count: u64) -> AdjustedTokens {
        AdjustedTokens::new(count)
    }

    #[test]
    fn slots_are_shared_and_the_model_loses_its_hash() {
        let (state, _) = AwaitWorkerConnect.connect(&terms(), &here(), params()).unwrap();
        assert_eq!(state.profile.slots, 4);
        assert_eq!(state.profile.model, "Qwen/Qwen3-8B");
        assert_eq!(state.version, Version::V2);
        let nameless = WorkerParams { model: "@abc".into(), ..params() };
        assert_eq!(AwaitWorkerConnect.connect(&terms(), &here(), nameless).map(|_| ()), Err(Refusal::NoModel));
        let real = WorkerParams { is_test: false, ..params() };
        assert_eq!(AwaitWorkerConnect.connect(&terms(), &here(), real).map(|_| ()), Err(Refusal::TestModeDiffers));
    }

    #[test]
    fn a_model_other_than_the_attested_one_is_refused() {
        let attested = |model: &str| Standing { evidence: Evidence::Claims(Some(model.into())), ..here() };
        let connect = |standing| AwaitWorkerConnect.connect(&terms(), &standing, params()).map(|_| ());
        assert_eq!(connect(attested("Qwen/Qwen3-8B@abc123:00")), Ok(()));
        // The part that clients do not see counts: it is the weights.
        assert_eq!(connect(attested("Qwen/Qwen3-8B@abc123:01")), Err(Refusal::WrongModel));
        assert_eq!(connect(Standing { evidence: Evidence::None, ..here() }), Err(Refusal::NotAttested));
    }

    #[test]
    fn a_worker_that_knows_of_commitments_does_not_serve_a_rolled_back_proxy() {
        let compare = |on_chain, in_db, max| {
            let (state, _) = AwaitWorkerConnect.connect(&terms(), &here(), params()).unwrap();
            state.compare_balance(tokens(on_chain), tokens(in_db), tokens(max), tokens(10))
        };
        assert_eq!(compare(1, 0, 0).map(|_| ()).unwrap_err(), Refusal::RolledBack);
        assert_eq!(compare(0, 1, 0).map(|_| ()).unwrap_err(), Refusal::RolledBack);
        assert!(matches!(compare(0, 0, 10), Ok((Compared::Equal(_), _))));
        let Ok((Compared::Behind(state), WorkerAnswer::CompareBalance(answer))) = compare(0, 0, 11) else {
            panic!("the proxy is behind");
        };
        assert_eq!(answer.error_code, 1);
        let (state, _) = state.hand_over(&Bytes::new());
        let (ready, answer) = state.complete(false);
        assert_eq!(answer, WorkerAnswer::HandshakeCompleted);
        assert!(ready.profile.enabled);
    }
}
