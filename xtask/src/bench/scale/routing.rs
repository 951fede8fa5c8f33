//! What it costs the proxy to choose a worker, by how many there are: an example of `cocoon-proxy` (its source says how).

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::shell::{cargo, output, print};

/// How far from their mean the costs may lie.
const SPREAD: f64 = 0.2;

/// The median cost of one request at one number of workers.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Cost {
    workers: u64,
    /// From its arrival in the core to the decision who gets it.
    decide_ns: f64,
    /// That, and what its end costs.
    whole_ns: f64,
}

/// Builds and measures.
pub(super) fn measure() -> Result<Vec<Cost>> {
    let example = ["run", "--locked", "--release", "-p", "cocoon-proxy", "--example", "routing_cost", "--", "--json"];
    Ok(serde_json::from_str(&output(&mut cargo(&example))?)?)
}

/// One line for each number of workers.
pub(super) fn print_table(costs: &[Cost]) {
    print("\nworkers  decision ns  with the end ns");
    for Cost { workers, decide_ns, whole_ns } in costs {
        print(&format!("{workers:>7}  {decide_ns:>11.0}  {whole_ns:>15.0}"));
    }
    print("");
}

/// What was aimed at, and whether it was met.
pub(super) fn aim(costs: &[Cost]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four figures")]
    let mean = costs.iter().map(|cost| cost.decide_ns).sum::<f64>() / costs.len().max(1) as f64;
    let farthest = costs.iter().map(|cost| (cost.decide_ns / mean - 1.0).abs()).fold(0.0, f64::max);
    let verdict = if farthest <= SPREAD { "met" } else { "missed" };
    let [farthest, aim] = [farthest, SPREAD].map(|part| part * 100.0);
    format!(
        "decisions cost within {farthest:.0} % of their mean, whatever the number of workers (aim: {aim:.0} %), {verdict}"
    )
}
