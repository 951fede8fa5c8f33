//! `cargo xtask bench engine`: the embedded engine beside llama.cpp's server code (xllamacpp) on the same model file, in
//! one run: prefill, decoding, and four sequences at once, in tokens per CPU second of one thread each. What is measured
//! and how is in `tests/llama_cpp/compare.py`, which `cargo xtask test` runs too, with its checks of the answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::shell::{cargo, command, print, root, run as run_command, target};
use crate::{test, tools};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model file; by default the small model that `cocoon model pull` gives
    #[arg(long)]
    model: Option<PathBuf>,
    /// Rounds; the two engines take turns, and medians count
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// The embedded engine's speed is at least this share of llama.cpp's.
const AIM: f64 = 0.7;

#[derive(Debug, Deserialize)]
struct Report {
    tokens_per_cpu_second: BTreeMap<String, Phase>,
    load_cpu_s: f64,
}

#[derive(Debug, Deserialize)]
struct Phase {
    ours: Spread,
    #[serde(rename = "llama.cpp")]
    llama_cpp: Spread,
    ratio: f64,
}

#[derive(Debug, Deserialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// Builds, measures, prints and writes `target/bench/engine.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon-llm", "--example", "generate"]))?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => {
            run_command(&mut cargo(&["build", "--locked", "--release", "-p", "cocoon"]))?;
            tools::model(&target().join("release/cocoon"))?
        }
    };
    let folder = root().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let json = folder.join("engine.json");
    let mut compare = command(test::python()?, &["tests/llama_cpp/compare.py", "--speed-only"]);
    compare.arg("--model").arg(model).arg("--generate").arg(target().join("release/examples/generate"));
    // Every number is wanted, also of a run that misses the aim, which is judged below.
    compare.args(["--ratio-min", "0", "--rounds", &args.rounds.to_string(), "--json"]).arg(&json);
    run_command(&mut compare)?;
    show(&serde_json::from_slice(&std::fs::read(json)?)?)
}

fn show(report: &Report) -> Result<()> {
    print("\ntokens per CPU second    embedded (min..max)         llama.cpp (min..max)       ratio");
    for (phase, Phase { ours, llama_cpp, ratio }) in &report.tokens_per_cpu_second {
        let spread = |s: &Spread| format!("{:7.1} ({:.1}..{:.1})", s.median, s.min, s.max);
        print(&format!("{phase:22} {:27} {:27} {ratio:.2}", spread(ours), spread(llama_cpp)));
    }
    print(&format!("\nloading the model: {:.2} CPU s; aim: a ratio of at least {AIM}", report.load_cpu_s));
    let slowest = report.tokens_per_cpu_second.values().map(|phase| phase.ratio).fold(f64::INFINITY, f64::min);
    ensure!(slowest >= AIM, "the embedded engine reaches {slowest:.2} of llama.cpp in one phase");
    Ok(())
}
