//! `cocoon receipt verify`: the checks, each of which names itself when it refuses.
//!
//! 1. `signature`, `form`, `price`: the receipt by itself (`cocoon-receipt`).
//! 2. `key` and what evidence is checked for: the document in the file is appraised again, and has to be that of a
//!    worker with this receipt key and this model.
//! 3. `request`, `answer`: the digests that the client made, and files where they are given.
//! 4. `prompt`, `completion`: counted again, where that is asked for.
//!
//! Without evidence, a policy or a price it says so: what is not checked is told, never passed over.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cocoon_attest::document::Verified;
use cocoon_attest::{Claims, Document, Policy, Provenance, Role};
use cocoon_receipt::limits::FILE_BYTES_MAX;
use cocoon_receipt::{Receipt, ReceiptError, ReceiptFile, public_name};
use cocoon_units::{Nano, NanoPerToken};
use cocoon_wire::limits::REQUEST_BODY_MAX;

use super::report::{Refused, Report};
use super::{bodies, recount};
use crate::limits::RECEIPT_ANSWER_BYTES_MAX;
use crate::words::safe;
use crate::{attestation, config, terminal};

/// Check a receipt again, offline: a file of /v1/receipts
///
/// Without --policy the worker's evidence is checked by the policy inside it: that shows that it is whole, not that it is
/// good. Name your own policy for workers to pin what is accepted. Fails if anything is refused.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A file of /v1/receipts
    file: PathBuf,

    /// The policy for workers to check the evidence by [default: the document's own]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The worker's receipt key in hexadecimal, where you know it
    #[arg(long, value_name = "HEX", value_parser = key)]
    key: Option<[u8; 32]>,

    /// The body of the request, to compare and to count
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// The most tokens that the client asks for where a request names no limit, as in its configuration
    #[arg(long, value_name = "TOKENS", default_value_t = MAX_TOKENS_DEFAULT, requires = "request")]
    max_tokens: u32,

    /// The body of the answer, to compare and to count
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,

    /// Count the tokens again
    #[arg(long, requires = "request", requires = "model")]
    recount: bool,

    /// The model to count with: a GGUF file
    #[arg(long, value_name = "FILE", requires = "recount")]
    model: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// As a client's configuration has it.
const MAX_TOKENS_DEFAULT: u32 = 1_000;

fn key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).map_err(|_| "a key has 64 hexadecimal digits".to_owned())?;
    Ok(key)
}

/// Everything that a check looks at.
struct Given<'a> {
    file: &'a ReceiptFile,
    key: Option<[u8; 32]>,
    policy: Option<Policy>,
    request: Option<Vec<u8>>,
    max_tokens: u32,
    answer: Option<Vec<u8>>,
    /// The model to count with.
    model: Option<&'a Path>,
}

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    let bytes = read_bounded(&args.file, FILE_BYTES_MAX)?;
    let file = ReceiptFile::decode(&bytes).map_err(|error| anyhow::anyhow!("{}", safe(&error.to_string())));
    let file = file.with_context(|| format!("{} is no file of /v1/receipts", args.file.display()))?;
    let body = |path: &Option<PathBuf>, max| path.as_deref().map(|path| read_bounded(path, max)).transpose();
    let given = Given {
        file: &file,
        key: args.key,
        policy: args.policy.as_deref().map(attestation::read_policy).transpose()?,
        request: body(&args.request, REQUEST_BODY_MAX)?,
        max_tokens: args.max_tokens,
        answer: body(&args.answer, RECEIPT_ANSWER_BYTES_MAX)?,
        model: args.model.as_deref().filter(|_| args.recount),
    };
    match verify(&given) {
        Ok(report) if args.json => terminal::line(&report.json().to_string()),
        Ok(report) => report.tell(),
        Err(error) => {
            if let Some(refused) = error.downcast_ref::<Refused>().filter(|_| args.json) {
                terminal::line(&refused.json().to_string());
            }
            return Err(error);
        }
    }
    Ok(())
}

/// All checks. Errors are a [`Refused`], or say which file cannot be used.
fn verify(given: &Given<'_>) -> Result<Report> {
    let file = given.file;
    let receipt = file.receipt.verify(given.key.as_ref()).map_err(|error| by_itself(&error))?;
    let mut report = Report {
        key: file.receipt.key(),
        price: None,
        passed: vec![("signature", "the key signed this very text, and the counts make the price".to_owned())],
        unpinned: Vec::new(),
        receipt,
    };
    check_evidence(given, &mut report)?;
    check_price(file, &mut report)?;
    check_own_digests(file, &report.receipt)?;
    let receipt = report.receipt.clone();
    let request = match &given.request {
        Some(request) => Some(bodies::request(&receipt, &file.salt, request, given.max_tokens)?),
        None => None,
    };
    let answer = match &given.answer {
        Some(answer) => Some(bodies::answer(&receipt, &file.salt, answer, file.price)?),
        None => None,
    };
    tell_bodies(given, &mut report);
    if let (Some(model), Some(request)) = (given.model, request) {
        recount::check(model, &request, answer.as_deref(), &mut report)?;
    }
    Ok(report)
}

/// The receipt by itself.
fn by_itself(error: &ReceiptError) -> Refused {
    let check = error.check();
    if let ReceiptError::Key { expected, found } = error {
        let remedy = "another worker signed: look whether the file belongs to this request";
        return Refused::new(check, expected, found, remedy);
    }
    if let ReceiptError::Adjusted { expected, found } = error {
        let remedy =
            "the worker demands another amount than its own counts make: no honest program does; do not pay it";
        return Refused::new(check, expected, found, remedy);
    }
    Refused::new(
        check,
        "a receipt that is signed, in its one form, with possible counts",
        error.to_string(),
        "get the file again from /v1/receipts; if it is the same, nobody can be held to it",
    )
}

/// Who signed: the evidence, and its claims.
fn check_evidence(given: &Given<'_>, report: &mut Report) -> Result<(), Refused> {
    let Some(text) = &given.file.evidence else {
        if given.policy.is_some() {
            return Err(Refused::new(
                "attestation",
                "evidence to check by the policy",
                "a file without evidence",
                "get the file again once the client has the evidence; over a link without attestation there is none",
            ));
        }
        if given.key.is_none() {
            report.unpinned.push("nothing says whose the key is: the file has no evidence (use --key)".to_owned());
        }
        return Ok(());
    };
    let document = Document::decode(text.as_bytes()).map_err(|error| {
        Refused::new(
            "attestation",
            "a document of an appraisal",
            error.to_string(),
            "get the file again from /v1/receipts",
        )
    })?;
    let Verified { verdict, trust } = document
        .verify(given.policy.as_ref(), None)
        .map_err(|refusal| Refused::new(refusal.check.name(), refusal.expected, refusal.found, refusal.remedy))?;
    if !trust.bound || verdict.role != Some(Role::Worker) {
        let role = verdict.role.map_or("no role", Role::name);
        let bound = if trust.bound { "" } else { ", bound to no connection" };
        return Err(foreign("role", "the evidence of a worker's connection", format!("one with {role}{bound}")));
    }
    let claims = Claims::decode(document.claims().as_bytes())
        .map_err(|error| foreign("attestation", "the claims of a worker", error.to_string()))?;
    check_claims(&claims, report)?;
    let made_s = report.receipt.ended_unix_ms / 1_000;
    if made_s > verdict.valid_until_unix_s {
        report
            .unpinned
            .push("the receipt is younger than the evidence was good for: the worker was appraised before".to_owned());
    }
    report.unpinned.extend(trust.warnings().into_iter().map(str::to_owned));
    if verdict.provenance == Provenance::Simulated {
        report.unpinned.push("the evidence is SIMULATED: it proves nothing about any machine".to_owned());
    }
    report
        .passed
        .push(("attestation", format!("document {}: a worker with this receipt key and model", document.id())));
    Ok(())
}

fn check_claims(claims: &Claims, report: &Report) -> Result<(), Refused> {
    if claims.keys.receipt != report.key {
        return Err(foreign("key", hex::encode(claims.keys.receipt), hex::encode(report.key)));
    }
    let served = &report.receipt.model;
    match &claims.model {
        Some(model) if public_name(model) != public_name(served) => {
            Err(foreign("model", model.clone(), served.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Sound evidence of somebody else.
fn foreign(check: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Refused {
    Refused::new(
        check,
        expected,
        found,
        "the evidence is not that of the worker that signed: get the file again; if it is the same, trust nothing in it",
    )
}

fn check_price(file: &ReceiptFile, report: &mut Report) -> Result<(), Refused> {
    let Some(price) = file.price else {
        report
            .unpinned
            .push("the file names no price of a token: nothing was paid, or the client did not say".to_owned());
        return Ok(());
    };
    let total = report.receipt.adjusted.total();
    let cost = price.cost(total).ok_or_else(|| {
        Refused::new(
            "price",
            "an amount that there can be",
            format!("{total} at {} nanoTON each", price.get()),
            "whoever wrote the file made the price up",
        )
    })?;
    report.passed.push(("price", priced(price, cost)));
    report.price = Some((price, cost));
    Ok(())
}

fn priced(price: NanoPerToken, cost: Nano) -> String {
    format!("{} nanoTON a token, as the client noted it: {cost}", price.get())
}

/// What the client that wrote the file sent and got.
fn check_own_digests(file: &ReceiptFile, receipt: &Receipt) -> Result<(), Refused> {
    let pairs = [
        ("request", file.request_hmac, receipt.request_hmac, "the worker got another request than the client sent"),
        ("answer", file.answer_hmac, receipt.answer_hmac, "the client got another answer than the worker sent"),
    ];
    for (check, own, signed, meaning) in pairs {
        if let Some(own) = own.filter(|own| *own != signed) {
            return Err(Refused::new(
                check,
                hex::encode(own),
                hex::encode(signed),
                format!("{meaning}: do not pay for it"),
            ));
        }
    }
    Ok(())
}

fn tell_bodies(given: &Given<'_>, report: &mut Report) {
    let file = given.file;
    for (check, given, own) in [
        ("request", given.request.is_some(), file.request_hmac.is_some()),
        ("answer", given.answer.is_some(), file.answer_hmac.is_some()),
    ] {
        if given {
            report.passed.push((check, "the file is what the worker signed for".to_owned()));
        } else if own {
            report
                .passed
                .push((check, "the client's own digest, as the file says, is what the worker signed for".to_owned()));
        } else {
            report.unpinned.push(format!("the {check} was not compared (use --{check})"));
        }
    }
}

fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = config::open(path)?;
    let limit = u64::try_from(bytes_max)?.saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() > bytes_max {
        bail!("{} is longer than {bytes_max} bytes", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
