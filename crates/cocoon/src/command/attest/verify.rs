//! `cocoon attest verify`: an appraisal done again, offline.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cocoon_attest::appraise::appraise_unbound;
use cocoon_attest::document::Verified;
use cocoon_attest::evidence::event_log::EventLog;
use cocoon_attest::{Check, Collateral, Document, Evidence, Expected, PlatformEvidence, Policy, Refusal, Verdict};

use super::artefact::{self, Artefact};
use super::words::{self, moment, refused};
use crate::{attestation, terminal, wiring};

/// Check an appraisal again, offline: a document of /v1/attestation, or a raw quote with its collateral
///
/// Without --policy a document is checked by the policy inside it, at the time that it was recorded: that shows that it
/// is whole, not that it is good. Name your own policy to pin what is accepted, and --at to pin the time.
/// Fails if anything is refused.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A document of /v1/attestation, or a quote or report
    file: PathBuf,

    /// The policy to check by [default: the document's own]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The vendor's collateral in JSON, for a quote or report
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,

    /// The manifest of the image, for a quote or report and a policy that lists images
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// The boot's event log, for a TDX quote with a manifest, which speaks of its events
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,

    /// The time to check at: Unix seconds, RFC 3339, or `now` [default: as recorded; for a quote, now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<At>,
}

/// A time to check at.
#[derive(Debug, Clone, Copy)]
enum At {
    Now,
    UnixSeconds(u64),
}

fn time(text: &str) -> Result<At, String> {
    if text == "now" { Ok(At::Now) } else { words::parse_moment(text).map(At::UnixSeconds) }
}

impl At {
    fn unix_s(self) -> u64 {
        match self {
            Self::Now => wiring::unix_now_s(),
            Self::UnixSeconds(seconds) => seconds,
        }
    }
}

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    let policy = args.policy.as_deref().map(attestation::read_policy).transpose()?;
    match Artefact::read(&args.file)? {
        Artefact::Document(document) => {
            if args.collateral.is_some() || args.manifest.is_some() || args.event_log.is_some() {
                bail!(
                    "a document has its own collateral, manifest and event log: leave out --collateral, --manifest and \
                     --event-log"
                );
            }
            self::document(&document, policy.as_ref(), args.at.map(At::unix_s))
        }
        Artefact::Evidence(evidence) => quote(evidence, policy, args),
        Artefact::Gpu(_)
        | Artefact::EventLog(_)
        | Artefact::Policy(_)
        | Artefact::Collateral(_)
        | Artefact::Manifest(_) => {
            bail!(
                "{} is nothing that can be verified by itself: `cocoon attest show` says what it is",
                args.file.display()
            )
        }
    }
}

fn document(document: &Document, policy: Option<&Policy>, at: Option<u64>) -> Result<()> {
    let Verified { verdict, trust } = document.verify(policy, at).map_err(|refusal| refused(&refusal))?;
    tell(&verdict);
    terminal::line(&format!("recorded {}, id {}", moment(document.recorded_unix_s()), words::safe(document.id())));
    terminal::line(&expectations(document.expected()));
    for warning in trust.warnings() {
        terminal::line(&format!("unpinned: {warning}"));
    }
    Ok(())
}

/// What the recorder says it expected of this very peer. Whoever writes a document may leave that out, so it is told.
fn expectations(expected: &Expected) -> String {
    let Expected { role, model, payment_key, contract, tcb_evaluation_number_min: _ } = expected;
    let said = [
        role.map(|role| format!("the role {}", role.name())),
        model.as_deref().map(|model| format!("the model {}", words::safe(model))),
        payment_key.map(|key| format!("the payment key {}", hex::encode(key))),
        contract.as_deref().map(|contract| format!("the contract {}", words::safe(contract))),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() {
        "expected of the peer: nothing".to_owned()
    } else {
        format!("expected of the peer: {}", said.join(", "))
    }
}

/// A quote by itself: bound to nothing, so that its signature, patch level and image are what can be checked.
fn quote(platform: PlatformEvidence, policy: Option<Policy>, args: &Args) -> Result<()> {
    let collateral = collateral(args)?;
    let policy = match policy {
        Some(policy) => policy,
        None => attestation::any_image_policy()?,
    };
    let manifest = args.manifest.as_deref().map(artefact::read_bounded).transpose()?;
    let event_log = args.event_log.as_deref().map(event_log).transpose()?;
    let evidence = Evidence { platform, event_log, manifest, gpus: Vec::new() };
    let now = args.at.map_or_else(wiring::unix_now_s, At::unix_s);
    let verdict = appraise_unbound(&policy, &evidence, &collateral, now)
        .map_err(|refusal| refused(&with_what_to_name(refusal, &evidence)))?;
    tell(&verdict);
    terminal::line("bound to nothing: it says that such a machine was somewhere at some time");
    if args.policy.is_none() {
        terminal::line("unpinned: any image on a vendor's platform was accepted; name your policy with --policy");
    }
    Ok(())
}

/// A log as a machine's table holds it, without the filling behind its last event.
fn event_log(path: &Path) -> Result<Vec<u8>> {
    let table = artefact::read_bounded(path)?;
    let log = EventLog::used(&table).with_context(|| format!("{} is not an event log", path.display()))?;
    Ok(log.to_vec())
}

/// The remedies of the image check are for a peer, which brings all of it along; here a file was not named.
fn with_what_to_name(refusal: Refusal, evidence: &Evidence) -> Refusal {
    let remedy = match (refusal.check, &evidence.manifest, &evidence.event_log, &evidence.platform) {
        (Check::Image, None, ..) => {
            "the policy lists images, and a quote by itself names none: name the image's manifest with --manifest"
        }
        (Check::Image, Some(_), None, PlatformEvidence::Tdx { .. }) => {
            "if this is the image of the manifest, name the event log of its boot with --event-log as well"
        }
        _ => return refusal,
    };
    Refusal { remedy: remedy.to_owned(), ..refusal }
}

fn collateral(args: &Args) -> Result<Collateral> {
    let Some(path) = &args.collateral else {
        bail!(
            "a quote is checked with its vendor's collateral: name a file with --collateral (the tools of the PCCS write \
             it), or check a document of /v1/attestation, which has it inside"
        );
    };
    let text = String::from_utf8(artefact::read_bounded(path)?).context("collateral is JSON")?;
    artefact::collateral(&text).with_context(|| path.display().to_string())
}

fn tell(verdict: &Verdict) {
    terminal::line("accepted");
    terminal::line(&words::verdict(verdict).text());
}
