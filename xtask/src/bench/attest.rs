//! `cargo xtask bench attest`: what attested links cost, beside plain mutual TLS 1.3 and the bare verification library,
//! all in one run of `cocoon-sim attest` (its source says what is measured and how).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::network::binary;
use crate::shell::{cargo, command, output, print, root, run as run_command};

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each measures every kind of link
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Handshakes of each kind in a round
    #[arg(long, default_value_t = 100)]
    handshakes: usize,
    /// Handshakes at once
    #[arg(long, default_value_t = 200)]
    crowd: usize,
}

/// A client's handshake in session-key mode is at most this times plain mutual TLS 1.3.
const HANDSHAKE_AIM: f64 = 2.0;
/// Our appraisal of a TDX quote is at most this times the bare library's verification.
const APPRAISAL_AIM: f64 = 1.5;
const PLAIN: &str = "mutual TLS 1.3";
const SESSION_KEY: &str = "client, session key";

#[derive(Debug, Deserialize, Serialize)]
struct Report {
    handshakes: Vec<Handshake>,
    appraisals: Vec<Appraisal>,
    crowds: Vec<Crowd>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Handshake {
    link: String,
    cpu_us: f64,
    wall_us: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Appraisal {
    evidence: String,
    bare_us: f64,
    ours_us: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Crowd {
    link: String,
    handshakes: usize,
    open: usize,
    seconds: f64,
    peak_kib: u64,
}

/// Builds, measures, prints and writes `target/bench/attest.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon-sim"]))?;
    let [rounds, handshakes, crowd] = [args.rounds, args.handshakes, args.crowd].map(|number| number.to_string());
    let arguments = ["attest", "--rounds", &rounds, "--handshakes", &handshakes, "--crowd", &crowd];
    let report: Report = serde_json::from_str(&output(&mut command(binary("cocoon-sim"), &arguments))?)?;
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("attest.json"), serde_json::to_string_pretty(&report)?)?;
    show(&report)
}

fn show(report: &Report) -> Result<()> {
    let cpu = |name: &str| report.handshakes.iter().find(|row| row.link == name).map_or(f64::NAN, |row| row.cpu_us);
    let plain = cpu(PLAIN);
    print("\nhandshake, both ends               CPU µs    wall µs   CPU / mutual TLS");
    for Handshake { link, cpu_us, wall_us } in &report.handshakes {
        print(&format!("{link:<30} {cpu_us:>10.0} {wall_us:>10.0} {:>18.2}", cpu_us / plain));
    }
    print("\nappraisal                          bare µs    ours µs   ours / bare");
    for Appraisal { evidence, bare_us, ours_us } in &report.appraisals {
        print(&format!("{evidence:<30} {bare_us:>11.0} {ours_us:>10.0} {:>13.2}", ours_us / bare_us));
    }
    print("\nat once                        handshakes       open   seconds   peak KiB");
    for Crowd { link, handshakes, open, seconds, peak_kib } in &report.crowds {
        print(&format!("{link:<30} {handshakes:>10} {open:>10} {seconds:>9.2} {peak_kib:>10}"));
    }
    let ratio = cpu(SESSION_KEY) / plain;
    let appraisal = report.appraisals.first().map_or(f64::NAN, |row| row.ours_us / row.bare_us);
    print(&format!("\n{SESSION_KEY}: {ratio:.2} x {PLAIN} (aim: at most {HANDSHAKE_AIM})"));
    print(&format!("appraisal of a TDX quote: {appraisal:.2} x the bare library (aim: at most {APPRAISAL_AIM})"));
    ensure!(
        report.crowds.iter().all(|crowd| crowd.open == crowd.handshakes),
        "not every handshake of a crowd ended well"
    );
    ensure!(ratio <= HANDSHAKE_AIM && appraisal <= APPRAISAL_AIM, "an aim is missed");
    Ok(())
}
