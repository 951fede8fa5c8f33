//! Runs requests from standard input on a GGUF file and reports what each cost.
//!
//! ```text
//! generate MODEL [THREADS [SEQUENCES]] < requests.jsonl > answers.jsonl
//! ```
//!
//! A request is `{"prompt": "…"}` or `{"messages": […]}`, with optional `max_tokens` (16), `seed`,
//! `temperature` (0), `ignore_eos`, `logprobs` and `schema`. Requests run one after the other, those of
//! `{"together": [REQUEST, …]}` at once; CPU seconds are those of the whole process, up to the first
//! token and after it, or of all that ran at once (Linux only).

use std::io::{BufRead, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cocoon_llm::{
    GenerateRequest, Generated, Llm, LlmOptions, ParseSpecial, Piece, PieceToken, Sampling, Ticket, TokenSink,
    UnknownKeywords,
};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize, default| arguments.get(index).map_or(Ok(default), |argument| argument.parse::<usize>());
    let path = arguments.get(1).ok_or("usage: generate MODEL [THREADS [SEQUENCES]]")?;
    let options = LlmOptions { threads: number(2, 1)?, sequences_max: number(3, 1)?, ..LlmOptions::default() };
    let llm = Llm::load(Path::new(path), &options)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({"load_cpu_s": cpu_seconds(), "eos_ids": llm.info().eos_ids}))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match request.get("together").and_then(Value::as_array) {
            Some(requests) => together(&llm, requests)?,
            None => run(&llm, &request)?,
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn run(llm: &Llm, request: &Value) -> Result<Value, Failure> {
    let (generate, start) = (generation(llm, request)?, cpu_seconds());
    let prompt_tokens = generate.prompt_tokens.clone();
    let answer = submit(llm, generate)?.1.recv()?;
    let logprobs =
        answer.tokens.iter().map(|token| token.logprobs.as_ref().map(|l| json!({"logprob": l.logprob, "top": l.top})));
    Ok(json!({
        "prompt_ids": prompt_tokens,
        "ids": answer.tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
        "logprobs": logprobs.collect::<Vec<_>>(),
        "text": answer.text,
        "finish": format!("{:?}", answer.end.finish),
        "completion_tokens": answer.end.completion_tokens,
        "prefill_cpu_s": answer.first - start,
        "decode_cpu_s": answer.last - answer.first,
    }))
}

fn together(llm: &Llm, requests: &[Value]) -> Result<Value, Failure> {
    let generations = requests.iter().map(|request| generation(llm, request)).collect::<Result<Vec<_>, _>>()?;
    let start = cpu_seconds();
    let started = generations.into_iter().map(|one| submit(llm, one)).collect::<Result<Vec<_>, _>>()?;
    let mut tokens = 0;
    for (_ticket, answer) in &started {
        tokens += answer.recv()?.end.completion_tokens;
    }
    Ok(json!({"completion_tokens": tokens, "cpu_s": cpu_seconds() - start}))
}

fn submit(llm: &Llm, generate: GenerateRequest) -> Result<(Ticket, Receiver<Answer>), Failure> {
    let (events, answers) = sync_channel(1);
    let sink = Sink { text: String::new(), tokens: Vec::new(), first: None, events };
    Ok((llm.submit(generate, sink)?, answers))
}

fn generation(llm: &Llm, request: &Value) -> Result<GenerateRequest, Failure> {
    let prompt_tokens = match (request.get("prompt"), request.get("messages")) {
        (Some(Value::String(text)), _) => llm.tokenize(text, ParseSpecial::Yes)?,
        (_, Some(messages)) => llm.tokenize_prompt(&llm.render_chat(messages, None, true)?)?,
        _ => return Err("a request has neither prompt nor messages".into()),
    };
    let integer = |name: &str| request.get(name).and_then(Value::as_u64);
    let max_tokens = u32::try_from(integer("max_tokens").unwrap_or(16))?;
    let temperature = request.get("temperature").and_then(Value::as_f64).unwrap_or(0.0);
    let schema = request.get("schema").cloned();
    let constraint = schema.map(|schema| llm.compile_schema(schema, UnknownKeywords::Ignored)).transpose()?;
    Ok(GenerateRequest {
        constraint,
        sampling: Sampling {
            temperature: temperature.to_string().parse()?,
            seed: integer("seed"),
            ..Sampling::default()
        },
        ignore_eos: request.get("ignore_eos").and_then(Value::as_bool).unwrap_or(false),
        logprobs: integer("logprobs").map(u8::try_from).transpose()?,
        ..GenerateRequest::new(prompt_tokens, max_tokens)
    })
}

struct Sink {
    text: String,
    tokens: Vec<PieceToken>,
    first: Option<f64>,
    events: SyncSender<Answer>,
}

struct Answer {
    text: String,
    tokens: Vec<PieceToken>,
    end: Generated,
    first: f64,
    last: f64,
}

impl TokenSink for Sink {
    fn on_text(&mut self, piece: Piece) -> ControlFlow<()> {
        self.first.get_or_insert_with(cpu_seconds);
        self.text.push_str(&piece.text);
        self.tokens.extend(piece.tokens);
        ControlFlow::Continue(())
    }

    fn on_end(self: Box<Self>, end: Generated) {
        let last = cpu_seconds();
        let first = self.first.unwrap_or(last);
        let Self { text, tokens, events, .. } = *self;
        // The receiver waits for exactly this message; if it has gone, so has the program.
        let _ = events.send(Answer { text, tokens, end, first, last });
    }
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
