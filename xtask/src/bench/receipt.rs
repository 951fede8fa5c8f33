//! `cargo xtask bench receipt`: what a receipt costs, beside the bare signature operations, all in one run of an example of
//! `cocoon-receipt` (its source says what is measured and how).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::shell::{cargo, output, print, root};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// A receipt and its verification are at most this times the bare signature operations.
const AIM: f64 = 2.0;
/// Bytes that a receipt adds to an answer.
const BYTES_AIM: u32 = 2_048;

#[derive(Debug, Deserialize, Serialize)]
struct Report {
    sign_us: f64,
    verify_us: f64,
    bare_sign_us: f64,
    bare_verify_us: f64,
    digest_us_per_mib: f64,
    bytes: u32,
}

/// Builds, measures, prints and writes `target/bench/receipt.json`.
pub(crate) fn run(_: &Args) -> Result<()> {
    let example = ["run", "--locked", "--release", "-p", "cocoon-receipt", "--example", "receipt_cost", "--", "--json"];
    let report: Report = serde_json::from_str(&output(&mut cargo(&example))?)?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("receipt.json"), serde_json::to_string_pretty(&report)?)?;
    show(&report)
}

fn show(report: &Report) -> Result<()> {
    let Report { sign_us, verify_us, bare_sign_us, bare_verify_us, digest_us_per_mib, bytes } = report;
    print("\nCPU µs                 receipt   Ed25519 alone");
    print(&format!("make and sign        {sign_us:9.1} {bare_sign_us:15.1}"));
    print(&format!("read and verify      {verify_us:9.1} {bare_verify_us:15.1}"));
    print(&format!("\ndigest of a body: {digest_us_per_mib:.0} µs a MiB; a receipt travels in {bytes} bytes"));
    let ratio = (sign_us + verify_us) / (bare_sign_us + bare_verify_us);
    print(&format!("both together: {ratio:.2} times the bare operations; aim at most {AIM}"));
    ensure!(ratio <= AIM, "a receipt costs more than {AIM} times its signature");
    ensure!(*bytes <= BYTES_AIM, "a receipt of more than {BYTES_AIM} bytes");
    Ok(())
}
