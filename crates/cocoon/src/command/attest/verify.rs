//! `cocoon attest verify`: an appraisal done again, offline.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::appraise::appraise_unbound;
use cocoon_attest::document::Verified;
use cocoon_attest::{Collateral, Document, Evidence, PlatformEvidence, Policy, Verdict};

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
            if args.collateral.is_some() {
                bail!("a document has its own collateral: leave out --collateral");
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
    for warning in trust.warnings() {
        terminal::line(&format!("unpinned: {warning}"));
    }
    Ok(())
}

/// A quote by itself: bound to nothing, so that its signature, patch level and image are what can be checked.
fn quote(platform: PlatformEvidence, policy: Option<Policy>, args: &Args) -> Result<()> {
    let collateral = collateral(args)?;
    let policy = match policy {
        Some(policy) => policy,
        None => attestation::any_image_policy()?,
    };
    let evidence = Evidence { platform, event_log: None, manifest: None, gpus: Vec::new() };
    let now = args.at.map_or_else(wiring::unix_now_s, At::unix_s);
    let verdict = appraise_unbound(&policy, &evidence, &collateral, now).map_err(|refusal| refused(&refusal))?;
    tell(&verdict);
    terminal::line("bound to nothing: it says that such a machine was somewhere at some time");
    if args.policy.is_none() {
        terminal::line("unpinned: any image on a vendor's platform was accepted; name your policy with --policy");
    }
    Ok(())
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
