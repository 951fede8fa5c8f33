//! Apps: some ask for whole answers, some stream, some hang up in the middle, some ask for what the engine refuses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use super::http;

/// The model that everybody asks for.
pub(super) const MODEL: &str = "storm";

/// How requests ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Answered as they should be.
    pub answered: u64,
    /// Refused or failed with an answer that says so.
    pub refused: u64,
    /// Ended by the app in the middle.
    pub hung_up: u64,
    /// Cut off: the client was killed, or was not there.
    pub cut_off: u64,
    /// Broken off after it had begun, and said so.
    pub broken: u64,
    /// What the answered ones cost, as the client said, in nanoTON.
    pub cost_nano: u64,
}

/// What apps ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    /// Anything: whole, streamed, refused, in a hurry, hanging up.
    Storm,
    /// Streams that run for a while, and answers whose first byte takes a while: nothing that ends badly by itself, so
    /// that whatever does was somebody's death.
    Steady,
}

/// A request that ended as it should not have, where nothing but a death explains it.
#[derive(Debug, Clone)]
pub(super) struct Harm {
    pub(super) at: Instant,
    /// Whether the app had its head.
    pub(super) had_begun: bool,
    pub(super) words: String,
}

/// Apps that ask until they are told to stop.
#[derive(Debug)]
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
    harms: Arc<Mutex<Vec<Harm>>>,
    apps: Vec<JoinHandle<()>>,
}

/// A pause after a failure, so that apps do not spin while a process is away.
const PAUSE: Duration = Duration::from_millis(50);

impl Traffic {
    /// Starts so many apps, each with a client of its own choice.
    pub(super) fn start(apis: &[SocketAddr], apps: usize, seed: u64, mix: Mix) -> Self {
        let harms = Arc::new(Mutex::new(Vec::new()));
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Counts::default())));
        let app = |(number, &api): (usize, &SocketAddr)| {
            let (stop, counts, harms) = (Arc::clone(&stop), Arc::clone(&counts), Arc::clone(&harms));
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64).wrapping_add(1));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let ended = match mix {
                        Mix::Storm => one(api, &mut random),
                        Mix::Steady => steady(api, &mut random),
                    };
                    let pause = matches!(ended, Ended::CutOff | Ended::Refused | Ended::Harmed(_));
                    if let Ended::Harmed(harm) = &ended {
                        harms.lock().unwrap_or_else(PoisonError::into_inner).push(harm.clone());
                    }
                    counts.lock().unwrap_or_else(PoisonError::into_inner).add(ended);
                    if pause {
                        std::thread::sleep(PAUSE);
                    }
                }
            })
        };
        let apps = apis.iter().cycle().take(apps).enumerate().map(app).collect();
        Self { stop, counts, harms, apps }
    }

    /// What ended as it should not have, so far.
    pub(super) fn harms(&self) -> Vec<Harm> {
        self.harms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).answered
    }

    /// Waits for what runs, and counts.
    pub(super) fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        for app in self.apps {
            let _ = app.join();
        }
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How one request ended.
enum Ended {
    Answered { cost_nano: u64 },
    Refused,
    HungUp,
    CutOff,
    Harmed(Harm),
}

impl Counts {
    fn add(&mut self, ended: Ended) {
        match ended {
            Ended::Answered { cost_nano } => {
                self.answered += 1;
                self.cost_nano += cost_nano;
            }
            Ended::Refused => self.refused += 1,
            Ended::HungUp => self.hung_up += 1,
            Ended::CutOff => self.cut_off += 1,
            Ended::Harmed(harm) if harm.had_begun => self.broken += 1,
            Ended::Harmed(_) => self.refused += 1,
        }
    }
}

/// One request of an app; a tenth of them the engine refuses, a quarter hang up.
fn one(api: SocketAddr, random: &mut StdRng) -> Ended {
    let tokens = random.random_range(1..40_u32);
    let stream = random.random_bool(0.6);
    let what = match random.random_range(0..10_u8) {
        0 => r#"sim:{\"kind\":\"json\",\"status\":400,\"body\":{\"error\":{\"message\":\"no\"}}}"#.to_owned(),
        1 => r#"sim:{\"kind\":\"json\",\"status\":500,\"body\":{\"error\":{\"message\":\"broken\"}}}"#.to_owned(),
        2..=4 if !stream => with_all_kinds(random),
        _ => format!(r#"sim:{{\"kind\":\"tokens\",\"count\":{tokens},\"delay_ms\":{}}}"#, random.random_range(0..20)),
    };
    // Some are in a hurry: they name a deadline, which may end in the middle of an answer.
    let timeout = if random.random_bool(0.2) { random.random_range(0.05..0.5) } else { 60.0 };
    let words = "word ".repeat(random.random_range(1..60));
    let body = format!(
        r#"{{"model":"{MODEL}","user":"{what}","max_tokens":64,"timeout":{timeout:.3},"stream":{stream},"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"{words}"}}]}}"#
    );
    let body = if stream { body } else { body.replace(r#","stream_options":{"include_usage":true}"#, "") };
    if random.random_bool(0.25) {
        return match http::ask_and_hang_up(api, "POST /v1/chat/completions", &body, random.random_range(1..2_000)) {
            Ok(()) => Ended::HungUp,
            Err(_) => Ended::CutOff,
        };
    }
    match http::ask(api, "POST /v1/chat/completions", &body) {
        Ok(reply) if reply.status == 200 => {
            Ended::Answered { cost_nano: cost(&reply.body).or_else(|| header_cost(&reply)).unwrap_or(0) }
        }
        Ok(_) => Ended::Refused,
        Err(_) => Ended::CutOff,
    }
}

/// One request that ends well unless somebody dies. All are streams to the client, so that an app has its head as soon as
/// the client has.
fn steady(api: SocketAddr, random: &mut StdRng) -> Ended {
    let (is_slow, tokens, delay) = (random.random_bool(0.5), random.random_range(20..60), random.random_range(5..25));
    let what = if is_slow {
        let usage = r#"{\"prompt_tokens\":30,\"completion_tokens\":9}"#;
        let body = format!(r#"{{\"id\":\"x\",\"choices\":[],\"usage\":{usage}}}"#);
        format!(r#"sim:{{\"kind\":\"json\",\"delay_ms\":{},\"body\":{body}}}"#, delay * 30)
    } else {
        format!(r#"sim:{{\"kind\":\"tokens\",\"count\":{tokens},\"delay_ms\":{delay}}}"#)
    };
    let body = format!(
        r#"{{"model":"{MODEL}","user":"{what}","max_tokens":64,"stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"hello"}}]}}"#
    );
    let reply = http::ask(api, "POST /v1/chat/completions", &body);
    let harm = |had_begun, words: &str| Ended::Harmed(Harm { at: Instant::now(), had_begun, words: words.to_owned() });
    match reply {
        Ok(reply) if reply.status != 200 => harm(false, &format!("{}: {}", reply.status, reply.body)),
        Ok(reply) if reply.body.contains(r#""error":"#) || !reply.body.contains(r#""usage""#) => {
            harm(true, &reply.body)
        }
        Ok(reply) => Ended::Answered { cost_nano: cost(&reply.body).unwrap_or(0) },
        Err(error) => harm(false, &error.to_string()),
    }
}

/// A whole answer whose tokens are of every kind.
fn with_all_kinds(random: &mut StdRng) -> String {
    let (prompt, completion) = (random.random_range(1..300_u32), random.random_range(1..60_u32));
    let (cached, reasoning) = (random.random_range(0..=prompt), random.random_range(0..=completion));
    let usage = format!(
        r#"{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}},\"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}}}"#
    );
    format!(r#"sim:{{\"kind\":\"json\",\"body\":{{\"id\":\"x\",\"choices\":[],\"usage\":{usage}}}}}"#)
}

/// `total_cost` of the answer's usage.
fn cost(body: &str) -> Option<u64> {
    let after = body.rsplit_once("\"total_cost\":")?.1;
    let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn header_cost(reply: &http::Reply) -> Option<u64> {
    reply.header("x-cocoon-cost-nano")?.trim().parse().ok()
}
