//! TCB: how well the platform is patched (attestation.md, section 4.4(7)).
//!
//! Intel judges patch levels itself and signs the judgement; the policy says which words are good enough, for how long
//! after a recovery an unpatched platform is let through, and never goes back to older judgements. AMD only reports
//! versions; the policy names the least ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::file::{Contradiction, List, Word, bounded, named};
use super::platform::PlatformRules;
use super::root::RootRules;
use crate::collateral::Collateral;
use crate::facts::{PlatformFacts, PlatformIdentity, SnpTcb, Tcb, TcbStatus};
use crate::limits::GRACE_DAYS_MAX;
use crate::refusal::{Check, Refusal, shown};
use crate::verify::IntelRules;

const DAY_S: u64 = 86_400;

/// The accepted patch levels, by vendor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcbRules {
    intel: Option<IntelTcbRules>,
    amd: Option<AmdTcbRules>,
}

/// Intel's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntelTcbRules {
    #[serde(deserialize_with = "statuses")]
    statuses: Vec<TcbStatus>,
    #[serde(default, deserialize_with = "bounded::<'_, 1, GRACE_DAYS_MAX, _>")]
    platform_grace_days: u64,
    #[serde(default, deserialize_with = "bounded::<'_, 1, GRACE_DAYS_MAX, _>")]
    qe_grace_days: u64,
    /// Advisories that a platform may have open where its status says that software or configuration can close them.
    #[serde(default)]
    accepted_advisories: Option<List<Word>>,
    /// Advisories that are refused under every status.
    #[serde(default, deserialize_with = "named")]
    rejected_advisories: Vec<Word>,
    /// The least TCB evaluation number; the caller raises it to the highest it has seen.
    #[serde(default)]
    evaluation_number_min: u32,
}

/// AMD's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AmdTcbRules {
    /// Collateral without a revocation list is refused.
    #[serde(default = "yes")]
    require_crl: bool,
    /// The least versions, by product.
    #[serde(deserialize_with = "products")]
    minimum: BTreeMap<String, AmdMinimum>,
}

const fn yes() -> bool {
    true
}

/// The least security versions of one product.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct AmdMinimum {
    /// Turin and later.
    #[serde(default)]
    fmc: u8,
    boot_loader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

const PRODUCTS: [&str; 3] = ["milan", "genoa", "turin"];

fn products<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, AmdMinimum>, D::Error> {
    let map = BTreeMap::<String, AmdMinimum>::deserialize(deserializer)?;
    if map.is_empty() {
        return Err(D::Error::custom("no product: add a section such as [tcb.amd.minimum.milan]"));
    }
    match map.keys().find(|name| !PRODUCTS.contains(&name.as_str())) {
        Some(name) => Err(D::Error::custom(format!("no such product: {}; known are {PRODUCTS:?}", shown(name)))),
        None => Ok(map),
    }
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TcbStatus>, D::Error> {
    let statuses: Vec<TcbStatus> = named(deserializer)?;
    if statuses.contains(&TcbStatus::Revoked) {
        return Err(D::Error::custom("a revoked platform is never accepted: remove \"Revoked\""));
    }
    Ok(statuses)
}

impl TcbRules {
    pub(super) fn consistent(&self, roots: &RootRules) -> Result<(), Contradiction> {
        let intel = !roots.tdx.is_empty() || !roots.sgx.is_empty();
        let vendors = [
            ("tcb.intel", self.intel.is_some(), intel, "statuses"),
            ("tcb.amd", self.amd.is_some(), !roots.sev_snp.is_empty(), "minimum"),
        ];
        for (section, present, needed, field) in vendors {
            if present != needed {
                let (problem, remedy) = if needed {
                    ("missing, while [roots] accepts this vendor's platforms", "add the section")
                } else {
                    ("has no effect, because [roots] accepts no such platform", "remove the section, or add a root")
                };
                return Err(Contradiction::new(section, field, problem, remedy));
            }
        }
        self.intel.as_ref().map_or(Ok(()), IntelTcbRules::consistent)
    }

    /// The rules for verification, which converges statuses and knows which grace is whose. A policy without Intel's
    /// platforms allows no status, so nothing passes.
    pub(crate) fn intel_rules(&self, platform: &PlatformRules, evaluation_number_seen: u32) -> IntelRules {
        let flags = IntelRules {
            allowed_statuses: Vec::new(),
            platform_grace_s: 0,
            qe_grace_s: 0,
            rejected_advisories: Vec::new(),
            evaluation_number_min: evaluation_number_seen,
            allow_dynamic_platform: platform.allow_dynamic_platform,
            allow_smt: platform.allow_smt,
            allow_cached_keys: platform.allow_cached_keys,
        };
        let Some(intel) = &self.intel else {
            return flags;
        };
        IntelRules {
            allowed_statuses: intel.statuses.clone(),
            platform_grace_s: intel.platform_grace_days.saturating_mul(DAY_S),
            qe_grace_s: intel.qe_grace_days.saturating_mul(DAY_S),
            rejected_advisories: intel.rejected_advisories.iter().map(|word| word.0.clone()).collect(),
            evaluation_number_min: intel.evaluation_number_min(evaluation_number_seen),
            ..flags
        }
    }

    /// The patch level is accepted.
    pub(crate) fn check(
        &self,
        facts: &PlatformFacts,
        collateral: &Collateral,
        evaluation_number_seen: u32,
    ) -> Result<(), Refusal> {
        match &facts.tcb {
            Tcb::Intel { status, advisories, evaluation_number, .. } => {
                let rules = self.intel.as_ref().ok_or_else(no_rules)?;
                rules.check_status(*status)?;
                rules.check_advisories(*status, advisories)?;
                rules.check_evaluation_number(*evaluation_number, evaluation_number_seen)
            }
            Tcb::Amd { reported, committed, launch } => {
                let rules = self.amd.as_ref().ok_or_else(no_rules)?;
                rules.check_crl(collateral)?;
                let versions = [("reported", *reported), ("committed", *committed), ("at launch", *launch)];
                rules.check_versions(&facts.identity, versions)
            }
        }
    }

    pub(super) fn explain(&self, say: &mut Vec<String>) {
        if let Some(intel) = &self.intel {
            intel.explain(say);
        }
        if let Some(amd) = &self.amd {
            amd.explain(say);
        }
    }
}

impl IntelTcbRules {
    fn consistent(&self) -> Result<(), Contradiction> {
        let out_of_date = self.statuses.iter().any(|status| is_out_of_date(*status));
        let grace = self.platform_grace_days > 0 || self.qe_grace_days > 0;
        let by_advisory = self.statuses.iter().any(|status| is_by_advisory(*status));
        let wrong = |field, problem, remedy| Err(Contradiction::new("tcb.intel", field, problem, remedy));
        if out_of_date && !grace {
            return wrong(
                "platform_grace_days",
                "missing, while statuses has OutOfDate: nothing out of date would be accepted",
                "write for how many days after a recovery an unpatched platform is accepted",
            );
        }
        if grace && !out_of_date {
            return wrong(
                "platform_grace_days",
                "grace without OutOfDate in statuses has no effect",
                "remove the grace days, or add \"OutOfDate\"",
            );
        }
        match (&self.accepted_advisories, by_advisory) {
            (None, true) => wrong(
                "accepted_advisories",
                "missing, while statuses has one that is accepted only for listed advisories",
                "list the advisories that may be open, or write \"any\"",
            ),
            (Some(_), false) => wrong(
                "accepted_advisories",
                "has no effect under these statuses",
                "remove it, or add \"SWHardeningNeeded\" or \"ConfigurationNeeded\"",
            ),
            (None, false) | (Some(_), true) => Ok(()),
        }
    }

    /// The least evaluation number, with what the caller has seen.
    fn evaluation_number_min(&self, seen: u32) -> u32 {
        self.evaluation_number_min.max(seen)
    }

    fn check_status(&self, status: TcbStatus) -> Result<(), Refusal> {
        if self.statuses.contains(&status) && status != TcbStatus::Revoked {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Tcb,
            format!("one of the statuses that the policy accepts: {}", names(&self.statuses)),
            format!("{status:?}"),
            "the peer's operator has to install the firmware and microcode that Intel's advisories name",
        ))
    }

    fn check_advisories(&self, status: TcbStatus, advisories: &[String]) -> Result<(), Refusal> {
        let is = |word: &Word, advisory: &str| word.0.eq_ignore_ascii_case(advisory);
        if is_by_advisory(status) && advisories.is_empty() && self.accepted_advisories != Some(List::Any) {
            return Err(Refusal::new(
                Check::Tcb,
                format!("under {status:?}, an advisory that the policy accepts"),
                "none named, so that nobody can say what is open",
                "the peer's operator has to bring the platform up to date",
            ));
        }
        for advisory in advisories {
            if self.rejected_advisories.iter().any(|word| is(word, advisory)) {
                return Err(Refusal::new(
                    Check::Tcb,
                    "no advisory that the policy rejects",
                    shown(advisory),
                    "the peer's operator has to close that advisory",
                ));
            }
            let accepted = match &self.accepted_advisories {
                Some(List::Any) => true,
                Some(List::Of(words)) => words.iter().any(|word| is(word, advisory)),
                None => false,
            };
            if is_by_advisory(status) && !accepted {
                return Err(Refusal::new(
                    Check::Tcb,
                    format!("under {status:?}, only advisories that the policy accepts"),
                    shown(advisory),
                    "if the image closes it, add it to accepted_advisories in [tcb.intel]",
                ));
            }
        }
        Ok(())
    }

    fn check_evaluation_number(&self, found: u32, seen: u32) -> Result<(), Refusal> {
        let min = self.evaluation_number_min(seen);
        if found >= min {
            return Ok(());
        }
        Err(Refusal::new(
            Check::Tcb,
            format!("TCB evaluation number {min} or later"),
            format!("{found}: collateral from before a recovery that is already known"),
            "fetch newer collateral; whoever stapled this may be hiding a recovery",
        ))
    }

    fn explain(&self, say: &mut Vec<String>) {
        say.push(format!("Accepts Intel platforms with status {}.", names(&self.statuses)));
        if self.platform_grace_days > 0 || self.qe_grace_days > 0 {
            say.push(format!(
                "Accepts an out-of-date platform for {} days after its last good level, an out-of-date quoting enclave \
                 for {}.",
                self.platform_grace_days, self.qe_grace_days
            ));
        }
        match &self.accepted_advisories {
            Some(List::Any) => say.push("Accepts ANY advisory that software or configuration can close.".to_owned()),
            Some(List::Of(words)) => say.push(format!("Accepts these open advisories: {}.", words_list(words))),
            None => {}
        }
        if !self.rejected_advisories.is_empty() {
            say.push(format!("Refuses platforms with these advisories: {}.", words_list(&self.rejected_advisories)));
        }
        say.push(format!(
            "Refuses collateral with a TCB evaluation number below {}, or below the highest seen.",
            self.evaluation_number_min
        ));
    }
}

impl AmdTcbRules {
    fn check_crl(&self, collateral: &Collateral) -> Result<(), Refusal> {
        let missing = match collateral {
            Collateral::Amd(amd) => amd.crl.is_none(),
            Collateral::Intel(_) => true,
        };
        if self.require_crl && missing {
            return Err(Refusal::new(
                Check::Revocation,
                "AMD's revocation list",
                "collateral without one",
                "fetch it from AMD's key distribution service, or set require_crl = false in [tcb.amd]",
            ));
        }
        Ok(())
    }

    /// The reported versions; the committed ones, which the host cannot go below: what is reported alone could be rolled
    /// back after this check; and those at launch: firmware measured the guest then, and an update heals no measurement.
    fn check_versions(&self, identity: &PlatformIdentity, versions: [(&str, SnpTcb); 3]) -> Result<(), Refusal> {
        let product = match identity {
            PlatformIdentity::Amd { product, .. } => product.to_ascii_lowercase(),
            PlatformIdentity::Intel { .. } => return Err(no_rules()),
        };
        let minimum = self.minimum.get(&product).ok_or_else(|| {
            Refusal::new(
                Check::Tcb,
                "an AMD product that the policy has least versions for",
                shown(&product),
                format!("add a section [tcb.amd.minimum.{}]", shown(&product)),
            )
        })?;
        for (which, found) in versions {
            if !minimum.reached_by(found) {
                return Err(Refusal::new(
                    Check::Tcb,
                    format!("security versions of at least {}", minimum.text()),
                    format!("{which} {}", SnpText(found)),
                    "the peer's operator has to update and commit the firmware, and start the VM again",
                ));
            }
        }
        Ok(())
    }

    fn explain(&self, say: &mut Vec<String>) {
        for (product, minimum) in &self.minimum {
            say.push(format!("Accepts AMD {product} with security versions of at least {}.", minimum.text()));
        }
        if !self.require_crl {
            say.push("Accepts AMD collateral WITHOUT a revocation list: revoked chips pass.".to_owned());
        }
    }
}

impl AmdMinimum {
    fn reached_by(self, found: SnpTcb) -> bool {
        found.fmc.unwrap_or(0) >= self.fmc
            && found.boot_loader >= self.boot_loader
            && found.tee >= self.tee
            && found.snp >= self.snp
            && found.microcode >= self.microcode
    }

    fn text(self) -> String {
        let fmc = Some(self.fmc).filter(|fmc| *fmc > 0);
        let Self { boot_loader, tee, snp, microcode, .. } = self;
        SnpText(SnpTcb { fmc, boot_loader, tee, snp, microcode }).to_string()
    }
}

struct SnpText(SnpTcb);

impl std::fmt::Display for SnpText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(fmc) = self.0.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        let SnpTcb { boot_loader, tee, snp, microcode, .. } = self.0;
        write!(f, "boot loader {boot_loader}, tee {tee}, snp {snp}, microcode {microcode}")
    }
}

const fn is_out_of_date(status: TcbStatus) -> bool {
    matches!(status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded)
}

/// Statuses that say that the image, its configuration or a new start has to close an advisory.
const fn is_by_advisory(status: TcbStatus) -> bool {
    matches!(
        status,
        TcbStatus::SWHardeningNeeded
            | TcbStatus::ConfigurationNeeded
            | TcbStatus::ConfigurationAndSWHardeningNeeded
            | TcbStatus::OutOfDateConfigurationNeeded
            | TcbStatus::TDRelaunchAdvised
            | TcbStatus::TDRelaunchAdvisedConfigurationNeeded
    )
}

fn names(statuses: &[TcbStatus]) -> String {
    let names: Vec<_> = statuses.iter().map(|status| format!("{status:?}")).collect();
    names.join(", ")
}

fn words_list(words: &[Word]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.0.as_str()).collect();
    words.join(", ")
}

fn no_rules() -> Refusal {
    Refusal::new(
        Check::Tcb,
        "a vendor that the policy has TCB rules for",
        "another one",
        "add the vendor to [roots] and [tcb]",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCHED: SnpTcb = SnpTcb { fmc: None, boot_loader: 4, tee: 0, snp: 24, microcode: 219 };

    /// Firmware that could be lied to measured the guest; it was updated and committed under it since.
    #[test]
    fn guest_launched_on_firmware_that_was_updated_since() {
        let rules: AmdTcbRules =
            toml::from_str("[minimum.milan]\nboot_loader = 4\ntee = 0\nsnp = 24\nmicrocode = 219").unwrap();
        let identity = PlatformIdentity::Amd { chip_id: [1; 64], product: "Milan".to_owned(), vlek: false };
        let check = |reported, committed, launch| {
            let versions = [("reported", reported), ("committed", committed), ("at launch", launch)];
            rules.check_versions(&identity, versions)
        };
        check(PATCHED, PATCHED, PATCHED).unwrap();
        let old = SnpTcb { snp: 8, ..PATCHED };
        for versions in [(old, PATCHED, PATCHED), (PATCHED, old, PATCHED), (PATCHED, PATCHED, old)] {
            let refusal = check(versions.0, versions.1, versions.2).expect_err("refused");
            assert_eq!(refusal.check, Check::Tcb, "{refusal}");
        }
    }
}
