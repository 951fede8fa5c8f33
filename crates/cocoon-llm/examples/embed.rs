//! Embeds requests from standard input and reports what each cost.
//!
//! ```text
//! embed FOLDER [THREADS] < requests.jsonl > answers.jsonl
//! ```
//!
//! A request is `{"input": ["…"]}`, or `{"tokens": N, "texts": N}` for so many texts of so many tokens. With `"vectors": true`
//! the answer holds the vectors. CPU seconds are those of the whole process (Linux only).

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use cocoon_llm::{Embedder, EmbedderOptions};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = arguments.get(1).ok_or("usage: embed FOLDER [THREADS]")?;
    let threads = arguments.get(2).map_or(Ok(1), |threads| threads.parse())?;
    let embedder = Embedder::load(Path::new(folder), &EmbedderOptions { threads, ..EmbedderOptions::default() })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({"load_cpu_s": cpu_seconds(), "weight_bytes": embedder.info().weight_bytes}))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        writeln!(out, "{}", run(&embedder, &request)?)?;
        out.flush()?;
    }
    Ok(())
}

fn run(embedder: &Embedder, request: &Value) -> Result<Value, Failure> {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let texts = texts(embedder, request)?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let (sender, outcome) = sync_channel(1);
    // Nobody is left to tell if the receiver is gone.
    let _ticket = embedder.submit(texts, move |outcome| sender.send(outcome).unwrap_or_default())?;
    let vectors = outcome.recv()??;
    let (cpu_s, wall_s) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    let vectors = (request["vectors"] == true).then_some(vectors);
    Ok(
        json!({"tokens": tokens, "cpu_s": cpu_s, "wall_s": wall_s, "tokens_per_cpu_s": tokens as f64 / cpu_s, "vectors": vectors}),
    )
}

fn texts(embedder: &Embedder, request: &Value) -> Result<Vec<Vec<u32>>, Failure> {
    let number = |key: &str| request[key].as_u64().and_then(|number| usize::try_from(number).ok());
    if let (Some(tokens), Some(texts)) = (number("tokens"), number("texts")) {
        // Any tokens cost the same.
        return Ok(vec![vec![2773; tokens]; texts]);
    }
    let input = request["input"].as_array().ok_or("no input")?;
    input.iter().map(|text| Ok(embedder.tokenize(text.as_str().ok_or("an input is no text")?)?)).collect()
}

/// CPU time of every thread so far, from the scheduler's nanosecond counters.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1e9
}
