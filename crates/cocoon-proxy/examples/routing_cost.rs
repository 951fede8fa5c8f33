//! What a routing decision costs among 10 to 5,000 workers: `cargo run --release -p cocoon-proxy --example routing_cost`.
//!
//! The core alone, without sockets. All workers serve one model at one of four prices; every eighth speaks the original
//! protocol, and their service times differ. Requests come and end in blocks of eight, and each block is timed: "decide" is the
//! time from [`Event::Run`] to the action that sends it to a worker (admission, choice, reservation), "whole" is that and
//! the end of the answer, which moves the worker to its next place. Sizes take turns in each round, so that drift of the
//! machine falls on all of them; a figure is the median over all blocks. `--json` prints one object for
//! `cargo xtask bench scale`.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a tool for developers")]

use std::time::{Duration, Instant};

use cocoon_proxy::core::{
    Action, CancelSupport, ClientId, Core, CoreConfig, Event, RequestKey, RunQuery, Word, WorkerId, WorkerProfile,
};
use cocoon_units::{AdjustedTokens, Coefficient, Multipliers};
use cocoon_wire::RequestId;
use cocoon_wire::message::TokensUsed;

const SIZES: [u64; 4] = [10, 100, 1_000, 5_000];
const ROUNDS: usize = 40;
const BLOCKS: usize = 100;
const BLOCK: usize = 8;
const SLOTS: u32 = 8;

fn main() {
    let mut benches = SIZES.map(Bench::new);
    for bench in &mut benches {
        // Every worker is measured some times first.
        for _ in 0..4 * bench.workers {
            bench.block();
        }
        bench.decide.clear();
        bench.whole.clear();
    }
    for _ in 0..ROUNDS {
        for bench in &mut benches {
            for _ in 0..BLOCKS {
                bench.block();
            }
        }
    }
    let rows = benches.map(|mut bench| (bench.workers, median_ns(&mut bench.decide), median_ns(&mut bench.whole)));
    if std::env::args().any(|argument| argument == "--json") {
        let row =
            |(workers, decide, whole)| format!(r#"{{"workers":{workers},"decide_ns":{decide},"whole_ns":{whole}}}"#);
        return println!("[{}]", rows.map(row).join(","));
    }
    println!("workers  decide ns  whole ns");
    for (workers, decide, whole) in rows {
        println!("{workers:>7}  {decide:>9.0}  {whole:>8.0}");
    }
}

/// The median block, by request.
fn median_ns(blocks: &mut [Duration]) -> f64 {
    blocks.sort_unstable();
    blocks[blocks.len() / 2].as_secs_f64() * 1e9 / f64::from(u32::try_from(BLOCK).unwrap())
}

struct Bench {
    core: Core,
    workers: u64,
    now: Instant,
    keys: u64,
    /// Of a linear congruential generator: the same numbers in every run.
    random: u64,
    decide: Vec<Duration>,
    whole: Vec<Duration>,
}

impl Bench {
    fn new(workers: u64) -> Self {
        let core = Core::new(CoreConfig {
            multipliers: Multipliers::default(),
            stake: AdjustedTokens::new(1 << 60),
            exposure: None,
            queue_max: 256,
            queue_timeout: Duration::from_secs(30),
            client_in_flight_max: 1_024,
        });
        let (decide, whole) = (Vec::new(), Vec::new());
        let mut bench = Self { core, workers, now: Instant::now(), keys: 0, random: 1, decide, whole };
        bench.feed(Event::ClientJoined { client: ClientId(1), account: "payer".into() }, &mut Vec::new());
        for worker in 0..workers {
            let thousandths = 1_000 + 100 * u32::try_from(worker % 4).unwrap();
            let profile = WorkerProfile {
                account: format!("payee {worker}"),
                model: "model".into(),
                coefficient: Coefficient::from_thousandths(thousandths),
                slots: SLOTS,
                enabled: true,
                cancel: if worker % 8 == 7 { CancelSupport::No } else { CancelSupport::Yes },
            };
            bench.feed(Event::WorkerJoined { worker: WorkerId(worker), profile }, &mut Vec::new());
        }
        bench
    }

    /// Some requests come, are sent to workers, and end.
    fn block(&mut self) {
        let queries: Vec<_> = (0..BLOCK).map(|_| self.query()).collect();
        let mut actions = Vec::with_capacity(4 * BLOCK);
        let start = Instant::now();
        for query in queries {
            self.feed(Event::Run(query), &mut actions);
        }
        let decided = start.elapsed();
        let dispatched = actions.drain(..).map(|action| {
            let Action::Dispatch(dispatch) = action else { panic!("a request was not sent: {action:?}") };
            (dispatch.key, dispatch.worker)
        });
        let dispatched: Vec<_> = dispatched.collect();
        let took = Duration::from_millis(50 + self.draw() % 750);
        self.now += took;
        let start = Instant::now();
        for (key, worker) in dispatched {
            let used = AdjustedTokens::new(100);
            let word = Word::Claimed(TokensUsed { completion: used, total: used, ..TokensUsed::default() });
            self.feed(Event::Ended { key, worker, word }, &mut actions);
        }
        let ended = start.elapsed();
        self.decide.push(decided);
        self.whole.push(decided + ended);
    }

    fn feed(&mut self, event: Event, actions: &mut Vec<Action>) {
        self.core.handle(self.now, event, actions);
    }

    fn query(&mut self) -> RunQuery {
        self.keys += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.keys.to_le_bytes());
        RunQuery {
            key: RequestKey(self.keys),
            client: ClientId(1),
            request_id: RequestId::new(id),
            model: "model".into(),
            max_coefficient: Coefficient::from_thousandths(if self.keys.is_multiple_of(4) { 1_150 } else { 4_000 }),
            prompt_bytes: 600,
            prompt_tokens_max: 150,
            choices: 1,
            token_limit: 256,
            timeout: Duration::from_secs(60),
            receipt: None,
        }
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }
}
