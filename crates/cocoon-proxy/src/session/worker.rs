//! A worker's handshake as typestates: what is legal in a state is a method of that state, and of
//! no other.
//!
//! `AwaitWorkerConnect → connect → AwaitBalance → compare_balance → AwaitComplete → complete →
//! ReadyWorker`, with `AwaitHandover` between when the proxy asks for what it lost; wire.md,
//! section 4. Pure: no connection, no task, no chain; [`serve`](super::worker_loop) drives it.
//!
//! A worker that was told of commitments which this proxy does not have talks to one that was rolled back (or to
//! another one's heir), and must not serve it. One that was told more than this proxy knows has outlived a crash of it,
//! and may hand over what was lost. Without money nothing is ever committed, to a database or to the chain.

use cocoon_ledger::Marks;
use cocoon_receipt::public_name;
use cocoon_ton::Address;
use cocoon_ton::contract::{Lifecycle, WorkerState};
use cocoon_units::AdjustedTokens;
use cocoon_wire::Version;
use cocoon_wire::message::{CompareBalance, WorkerAnswer, WorkerParams};

use super::standing::Standing;
use super::{Refusal, Terms};
use crate::core::{CancelSupport, WorkerProfile};
use crate::hub::Opened;

/// The connection is open; nothing was said.
#[derive(Debug)]
pub(crate) struct AwaitWorkerConnect;

/// The worker said who it is; balances must be compared.
#[derive(Debug)]
pub(crate) struct AwaitBalance {
    profile: WorkerProfile,
    owner: String,
    /// The model with what follows `@`.
    offered: String,
    contract: Option<Address>,
    /// The worker's own contract.
    account: Option<Address>,
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

/// What a worker says that it was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Signed, or seen committed on the chain.
    pub(crate) on_chain: AdjustedTokens,
    /// In the proxy's database.
    pub(crate) in_db: AdjustedTokens,
    /// Counted.
    pub(crate) max_tokens: AdjustedTokens,
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
        let model = public_name(&params.model).to_owned();
        if model.is_empty() {
            return Err(Refusal::NoModel);
        }
        // The original allots its slots to its proxies evenly, rounded up.
        let slots = params.max_active_requests.div_ceil(params.proxy_count.max(1));
        let owner = params.owner_address;
        let account = terms.peer_contract(|contracts| contracts.worker(&owner))?;
        let profile = WorkerProfile {
            account: account.map_or_else(|| owner.clone(), |account| account.raw()),
            model,
            coefficient: params.coefficient,
            slots,
            enabled: false,
            cancel: if version == Version::Extended { CancelSupport::Yes } else { CancelSupport::No },
        };
        let worker_sc_address = account.map(|account| account.raw()).unwrap_or_default();
        let answer = WorkerAnswer::Connected { params: terms.params(version), worker_sc_address };
        let (offered, contract) = (params.model, terms.network.contract());
        Ok((AwaitBalance { profile, owner, offered, contract, account, version }, answer))
    }
}

impl AwaitBalance {
    /// The worker's contract, to be looked up. None without a chain.
    pub(crate) const fn own_contract(&self) -> Option<Address> {
        self.account
    }

    /// The account that is paid, and the wallet that the worker named.
    pub(crate) fn account(&self) -> (&str, &str) {
        (&self.profile.account, &self.owner)
    }

    /// The model with what follows `@`.
    pub(crate) fn offered(&self) -> &str {
        &self.offered
    }

    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Looks at the worker's contract, if it has one yet: one that is closed is never paid, and one that was paid more
    /// than this proxy has committed was paid by a proxy that knew more.
    pub(crate) fn check_contract(&self, state: Option<&WorkerState>, marks: Marks) -> Result<(), Refusal> {
        match state {
            Some(state) if state.state == Lifecycle::Closed => Err(Refusal::ContractClosed),
            Some(state) if state.tokens > marks.committed.get() => Err(Refusal::RolledBack),
            Some(_) | None => Ok(()),
        }
    }

    /// Compares what the worker was told with what this proxy knows.
    pub(crate) fn compare_balance(self, told: Told, opened: Opened) -> Result<(Compared, WorkerAnswer), Refusal> {
        let Opened { signed, marks } = opened;
        if told.on_chain > marks.committed || told.in_db > marks.durable {
            return Err(Refusal::RolledBack);
        }
        let behind = told.max_tokens > marks.known;
        let answer = WorkerAnswer::CompareBalance(CompareBalance {
            signed_payment: signed,
            tokens_committed_to_db: marks.durable,
            max_tokens: marks.known,
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
    /// The account that is paid.
    pub(crate) fn account(&self) -> &str {
        &self.0.profile.account
    }

    /// There may be more.
    pub(crate) fn more(&self) -> WorkerAnswer {
        WorkerAnswer::ExtendedCompareBalance { error_code: 1 }
    }

    /// That was all.
    pub(crate) fn done(self) -> (AwaitComplete, WorkerAnswer) {
        (AwaitComplete(self.0), WorkerAnswer::ExtendedCompareBalance { error_code: 0 })
    }
}

impl AwaitComplete {
    /// The handshake is over.
    pub(crate) fn complete(self, is_disabled: bool) -> (ReadyWorker, WorkerAnswer) {
        let AwaitBalance { mut profile, contract, version, .. } = self.0;
        profile.enabled = !is_disabled;
        (ReadyWorker { profile, contract, version }, WorkerAnswer::HandshakeCompleted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cocoon_ton::contract::Params;
    use cocoon_units::Coefficient;
    use cocoon_wire::VersionRange;
    use cocoon_wire::message::SignedPayment;

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

    fn opened(known: u64, durable: u64, committed: u64) -> Opened {
        let [known, durable, committed] = [known, durable, committed].map(AdjustedTokens::new);
        Opened { signed: SignedPayment::Empty, marks: Marks { known, durable, committed } }
    }

    fn compare(told: [u64; 3], opened: Opened) -> Result<(Compared, WorkerAnswer), Refusal> {
        let (state, _) = AwaitWorkerConnect.connect(&terms(), &here(), params()).unwrap();
        let [on_chain, in_db, max_tokens] = told.map(AdjustedTokens::new);
        state.compare_balance(Told { on_chain, in_db, max_tokens }, opened)
    }

    #[test]
    fn a_worker_that_knows_of_commitments_does_not_serve_a_rolled_back_proxy() {
        let books = || opened(10, 8, 5);
        assert_eq!(compare([6, 0, 0], books()).map(|_| ()).unwrap_err(), Refusal::RolledBack);
        assert_eq!(compare([0, 9, 0], books()).map(|_| ()).unwrap_err(), Refusal::RolledBack);
        assert!(matches!(compare([5, 8, 10], books()), Ok((Compared::Equal(_), _))));
        // Without money nothing is committed.
        assert_eq!(compare([1, 0, 0], opened(10, 0, 0)).map(|_| ()).unwrap_err(), Refusal::RolledBack);
    }

    #[test]
    fn a_worker_that_was_told_more_hands_it_over() {
        let Ok((Compared::Behind(state), WorkerAnswer::CompareBalance(answer))) = compare([0, 0, 11], opened(10, 8, 5))
        else {
            panic!("the proxy is behind");
        };
        assert_eq!((answer.error_code, answer.tokens_committed_to_db.get(), answer.max_tokens.get()), (1, 8, 10));
        assert_eq!(state.more(), WorkerAnswer::ExtendedCompareBalance { error_code: 1 });
        let (state, answer) = state.done();
        assert_eq!(answer, WorkerAnswer::ExtendedCompareBalance { error_code: 0 });
        let (ready, answer) = state.complete(false);
        assert_eq!(answer, WorkerAnswer::HandshakeCompleted);
        assert!(ready.profile.enabled);
    }

    #[test]
    fn a_contract_that_was_paid_more_than_is_committed_shows_a_rollback() {
        let (state, _) = AwaitWorkerConnect.connect(&terms(), &here(), params()).unwrap();
        let (owner, proxy) = (Address::basechain([1; 32]), Address::basechain([2; 32]));
        let initial = WorkerState::initial(owner, proxy, [3; 32], &Params::default());
        let check = |state_of: Option<WorkerState>| state.check_contract(state_of.as_ref(), opened(10, 8, 5).marks);
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(WorkerState { tokens: 5, ..initial.clone() })), Ok(()));
        assert_eq!(check(Some(WorkerState { tokens: 6, ..initial.clone() })), Err(Refusal::RolledBack));
        assert_eq!(check(Some(WorkerState { state: Lifecycle::Closed, ..initial })), Err(Refusal::ContractClosed));
    }
}
