//! What came out of the checks: rows for people, one object for programs.

use std::fmt;

use cocoon_receipt::{Hash, How, Outcome, Receipt};
use cocoon_units::{Nano, NanoPerToken};
use serde_json::{Map, Value, json};

use crate::terminal;
use crate::words::{Sheet, moment, safe};

/// A receipt that was accepted, and on what grounds.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) receipt: Receipt,
    pub(super) key: [u8; 32],
    pub(super) price: Option<(NanoPerToken, Nano)>,
    /// What was checked, by the name of the check, and what it rests on.
    pub(super) passed: Vec<(&'static str, String)>,
    /// What the reader has to know about what was not checked.
    pub(super) unpinned: Vec<String>,
}

/// Why a receipt is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) check: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) remedy: String,
}

impl Refused {
    pub(super) fn new(
        check: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, expected: expected.into(), found: found.into(), remedy: remedy.into() }
    }
}

/// As `cocoon attest` refuses.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, expected, found, remedy } = self;
        write!(
            f,
            "refused by the {check} check\n  expected    {}\n  found       {}\n  what to do  {}",
            safe(expected),
            safe(found),
            safe(remedy)
        )
    }
}

impl std::error::Error for Refused {}

impl Report {
    /// For people.
    pub(super) fn tell(&self) {
        terminal::line("accepted");
        terminal::line(&self.facts().text());
        terminal::line("checked");
        let mut checks = Sheet::default();
        for (check, detail) in &self.passed {
            checks.row(check, detail);
        }
        terminal::line(&checks.text());
        for warning in &self.unpinned {
            terminal::line(&format!("unpinned: {}", safe(warning)));
        }
    }

    pub(super) fn facts(&self) -> Sheet {
        let Receipt { id, proxy, model, status, usage, adjusted, coefficient, .. } = &self.receipt;
        let mut sheet = Sheet::default();
        sheet.bytes("request", id).bytes("signed by", &self.key).row("proxy", proxy).row("model", model);
        for (name, hash) in hashes(&self.receipt) {
            sheet.row(name, hash.map_or_else(|| "not told".to_owned(), |hash| told(&hash)));
        }
        sheet
            .row("answer", format!("{}, HTTP {status}", outcome(self.receipt.outcome)))
            .row("from", moment(self.receipt.started_unix_ms / 1_000))
            .row("to", moment(self.receipt.ended_unix_ms / 1_000))
            .row(
                "tokens",
                format!(
                    "{} of prompt ({} cached), {} of completion ({} reasoning)",
                    usage.prompt, usage.cached, usage.completion, usage.reasoning
                ),
            )
            .row(
                "to pay",
                format!("{}, at a coefficient of {} thousandths", adjusted.total(), coefficient.thousandths()),
            );
        if let Some((price, cost)) = self.price {
            sheet.row("cost", format!("{} TON: {} nanoTON a token", cost.ton(), price.get()));
        }
        sheet
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Receipt { id, proxy, model, status, usage, adjusted, coefficient, multipliers, .. } = &self.receipt;
        let checks: Vec<Value> =
            self.passed.iter().map(|(check, detail)| json!({"check": check, "detail": detail})).collect();
        let hashes: Map<String, Value> = hashes(&self.receipt)
            .into_iter()
            .filter_map(|(name, hash)| {
                let Hash { sha256, how } = hash?;
                Some((name.replace(' ', "_"), json!({"sha256": hex::encode(sha256), "how": word(how)})))
            })
            .collect();
        json!({
            "accepted": true,
            "id": hex::encode(id),
            "key": hex::encode(self.key),
            "proxy": proxy,
            "model": model,
            "hashes": hashes,
            "status": status,
            "outcome": outcome(self.receipt.outcome),
            "usage": usage,
            "adjusted_tokens": {
                "prompt": adjusted.prompt, "cached": adjusted.cached,
                "completion": adjusted.completion, "reasoning": adjusted.reasoning, "total": adjusted.total(),
            },
            "coefficient": coefficient,
            "multipliers": multipliers,
            "started_unix_ms": self.receipt.started_unix_ms,
            "ended_unix_ms": self.receipt.ended_unix_ms,
            "price_nano_per_token": self.price.map(|(price, _)| price),
            "cost_nano": self.price.map(|(_, cost)| cost),
            "checks": checks,
            "unpinned": self.unpinned,
        })
    }
}

impl Refused {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { check, expected, found, remedy } = self;
        let refused = json!({"check": check, "expected": expected, "found": found, "what_to_do": remedy});
        json!({"accepted": false, "refused": refused})
    }
}

fn hashes(receipt: &Receipt) -> [(&'static str, Option<Hash>); 4] {
    let hashes = &receipt.hashes;
    [
        ("weights", hashes.weights),
        ("engine", hashes.engine),
        ("tokenizer", hashes.tokenizer),
        ("chat template", hashes.chat_template),
    ]
}

fn told(hash: &Hash) -> String {
    format!("{} ({})", hex::encode(hash.sha256), word(hash.how))
}

const fn word(how: How) -> &'static str {
    match how {
        How::Measured => "measured",
        How::Declared => "declared",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Stopped => "stopped",
    }
}
