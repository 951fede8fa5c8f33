//! `[attestation]` in the configuration of a role: what shows evidence, and what is accepted of others.
//!
//! Nothing here is weak by default. What is weaker says `insecure` in its key, and must be written out.

use std::path::PathBuf;

use anyhow::{Result, bail};
use cocoon_tee::TeeChoice;
use serde::Deserialize;

/// The section of a client: it shows nothing, and judges proxies.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct VerifierSettings {
    policy: Option<PathBuf>,
    worker_policy: Option<PathBuf>,
    pccs: Option<String>,
    cache_dir: Option<PathBuf>,
    insecure_simulated_tee: Option<PathBuf>,
    insecure_plain_loopback: bool,
}

/// The section of a proxy or worker: it shows evidence, and judges its peers.
#[cfg(any(feature = "proxy", feature = "worker"))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSettings {
    tee: Tee,
    manifest: Option<PathBuf>,
    runtime_event_log: Option<PathBuf>,
    policy: Option<PathBuf>,
    pccs: Option<String>,
    cache_dir: Option<PathBuf>,
    insecure_simulated_tee: Option<PathBuf>,
    insecure_file_keys: Option<PathBuf>,
    insecure_plain_loopback: bool,
}

/// Which TEE this machine is, by its name; "none" looks for nothing.
#[cfg(any(feature = "proxy", feature = "worker"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Tee(Option<TeeChoice>);

#[cfg(any(feature = "proxy", feature = "worker"))]
impl Default for Tee {
    fn default() -> Self {
        Self(Some(TeeChoice::Auto))
    }
}

#[cfg(any(feature = "proxy", feature = "worker"))]
impl TryFrom<String> for Tee {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match TeeChoice::from_name(&name) {
            None if name == "none" => Ok(Self(None)),
            None => Err(format!("{name:?} is not \"auto\", \"tdx\", \"sev-snp\" or \"none\"")),
            choice => Ok(Self(choice)),
        }
    }
}

/// What a section says, once it makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Packets in plain, within this machine.
    InsecurePlainLoopback,
    /// Attested links.
    Attested(Ways),
}

/// How an attested role comes by what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways {
    /// What shows evidence.
    pub(crate) evidence: EvidenceFrom,
    /// What is accepted of others; none only with a simulated platform, which brings its own.
    pub(crate) policy: Option<PathBuf>,
    /// What a client accepts of the workers that sign its receipts; none where that is not judged.
    pub(crate) worker_policy: Option<PathBuf>,
    /// The collateral service.
    pub(crate) pccs: Option<String>,
    /// Where collateral is kept between starts.
    pub(crate) cache_dir: Option<PathBuf>,
    /// Where keys are kept in a file that the host can read.
    pub(crate) insecure_file_keys: Option<PathBuf>,
}

/// Where evidence comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvidenceFrom {
    /// The role shows none.
    #[cfg_attr(
        not(any(feature = "client", feature = "proxy", feature = "worker")),
        expect(dead_code, reason = "only a role shows none")
    )]
    Nothing,
    /// This machine.
    #[cfg_attr(
        not(any(feature = "proxy", feature = "worker", feature = "attest")),
        expect(dead_code, reason = "a client shows none")
    )]
    Machine(OnMachine),
    /// A simulated platform in a folder, which proves nothing about this machine.
    InsecureSimulated(PathBuf),
}

/// What there is on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OnMachine {
    /// Which TEE it is.
    pub(crate) tee: TeeChoice,
    /// The manifest of its image.
    pub(crate) manifest: Option<PathBuf>,
    /// What the image measured after its boot.
    pub(crate) runtime_event_log: Option<PathBuf>,
}

#[cfg(feature = "client")]
impl VerifierSettings {
    /// What to do, or which key is missing.
    pub(crate) fn plan(self) -> Result<Plan> {
        let evidence = match self.insecure_simulated_tee {
            Some(folder) => EvidenceFrom::InsecureSimulated(folder),
            None => EvidenceFrom::Nothing,
        };
        let Self { policy, worker_policy, pccs, cache_dir, .. } = self;
        let ways = Ways { evidence, policy, worker_policy, pccs, cache_dir, insecure_file_keys: None };
        plan(ways, self.insecure_plain_loopback)
    }
}

#[cfg(any(feature = "proxy", feature = "worker"))]
impl NodeSettings {
    /// What to do, or which key is missing.
    pub(crate) fn plan(self) -> Result<Plan> {
        let Self { tee, manifest, runtime_event_log, policy, pccs, cache_dir, insecure_file_keys, .. } = self;
        let evidence = match (self.insecure_simulated_tee, tee) {
            (Some(folder), _) => EvidenceFrom::InsecureSimulated(folder),
            (None, Tee(Some(tee))) => EvidenceFrom::Machine(OnMachine { tee, manifest, runtime_event_log }),
            (None, Tee(None)) => EvidenceFrom::Nothing,
        };
        if evidence == EvidenceFrom::Nothing && !self.insecure_plain_loopback {
            bail!(
                "`tee` under [attestation] is \"none\", so this role has nothing to show its peers: run it on a machine \
                 with a TEE, or, for development, set `insecure_simulated_tee` or `insecure_plain_loopback`"
            );
        }
        plan(
            Ways { evidence, policy, worker_policy: None, pccs, cache_dir, insecure_file_keys },
            self.insecure_plain_loopback,
        )
    }
}

fn plan(ways: Ways, insecure_plain_loopback: bool) -> Result<Plan> {
    let is_simulated = matches!(ways.evidence, EvidenceFrom::InsecureSimulated(_));
    if insecure_plain_loopback {
        if is_simulated || ways.policy.is_some() {
            bail!(
                "`insecure_plain_loopback` under [attestation] asks nobody for evidence: leave out `policy` and \
                 `insecure_simulated_tee`, or leave it out"
            );
        }
        return Ok(Plan::InsecurePlainLoopback);
    }
    if ways.policy.is_none() && !is_simulated {
        bail!(
            "`policy` under [attestation] is missing: name the file that says what this role accepts of its peers; \
             `cocoon attest policy example` prints one to begin with. For development on one machine, set \
             `insecure_simulated_tee` to a folder that all roles share, or `insecure_plain_loopback = true`"
        );
    }
    Ok(Plan::Attested(ways))
}

#[cfg(test)]
#[cfg(feature = "proxy")]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Result<Plan> {
        crate::config::parse::<NodeSettings>(text).unwrap().plan()
    }

    #[track_caller]
    fn refused(text: &str, words: &[&str]) {
        let error = plan_of(text).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    #[test]
    fn nothing_weak_is_the_default() {
        refused("", &["`policy`", "`insecure_simulated_tee`", "insecure_plain_loopback"]);
        refused("tee = \"none\"\npolicy = \"p.toml\"", &["`tee`", "\"none\""]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        refused("insecure_plain_loopback = true\npolicy = \"p.toml\"", &["leave out `policy`"]);
        refused("insecure_plain_loopback = true\ninsecure_simulated_tee = \"sim\"", &["`insecure_simulated_tee`"]);
    }

    #[test]
    fn each_way_is_told_apart() {
        assert_eq!(plan_of("insecure_plain_loopback = true").unwrap(), Plan::InsecurePlainLoopback);
        assert_eq!(plan_of("insecure_plain_loopback = true\ntee = \"none\"").unwrap(), Plan::InsecurePlainLoopback);
        let evidence = |text: &str| match plan_of(text).unwrap() {
            Plan::Attested(ways) => ways.evidence,
            Plan::InsecurePlainLoopback => panic!("attested"),
        };
        assert_eq!(evidence("policy = \"p\""), EvidenceFrom::Machine(OnMachine::default()));
        let snp = OnMachine { tee: TeeChoice::SevSnp, ..OnMachine::default() };
        assert_eq!(evidence("policy = \"p\"\ntee = \"sev-snp\""), EvidenceFrom::Machine(snp));
        let unknown = crate::config::parse::<NodeSettings>("tee = \"sgx\"").unwrap_err().to_string();
        assert!(unknown.contains("sev-snp"), "{unknown}");
        assert_eq!(evidence("insecure_simulated_tee = \"sim\""), EvidenceFrom::InsecureSimulated("sim".into()));
    }
}
