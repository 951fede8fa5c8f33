//! Who waits for whom, counted in steps: every sequence is heard while others run.

use std::ops::ControlFlow;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use cocoon_llm::{GenerateRequest, Generated, Llm, LlmOptions, Piece, Sampling, Ticket, TokenSink};

use crate::fixture::{Heard, sink, tiny};

/// Who said something, in order; `false` is an end.
type Log = Arc<Mutex<Vec<(usize, bool)>>>;

struct Teller {
    who: usize,
    log: Log,
    ended: SyncSender<()>,
}

impl TokenSink for Teller {
    fn on_text(&mut self, piece: Piece) -> ControlFlow<()> {
        assert_eq!(piece.tokens.len(), 1, "every token is text of its own");
        self.log.lock().expect("no panics").push((self.who, true));
        ControlFlow::Continue(())
    }

    fn on_end(self: Box<Self>, _: Generated) {
        self.log.lock().expect("no panics").push((self.who, false));
        let _ = self.ended.send(());
    }
}

/// A request whose tokens are all letters, so that each is heard at once.
fn request(prompt: usize, max_tokens: u32) -> GenerateRequest {
    let sampling = Sampling { logit_bias: [(97, 90.0), (98, 90.0)].into(), ..Sampling::greedy() };
    GenerateRequest { sampling, ignore_eos: true, ..GenerateRequest::new(vec![65; prompt], max_tokens) }
}

/// Runs requests that all wait before the first of them begins.
fn together(llm: &Llm, requests: Vec<GenerateRequest>) -> Vec<(usize, bool)> {
    let (blocked, gate) = sink(0, usize::MAX);
    let blocker = llm.submit(request(1, 200), blocked).expect("accepted");
    assert!(matches!(gate.recv(), Ok(Heard::Text(..))));
    let log = Log::default();
    let n = requests.len();
    let (ended, ends) = sync_channel(n);
    let tellers = requests.into_iter().enumerate();
    let tickets: Vec<Ticket> = tellers
        .map(|(who, request)| {
            let teller = Teller { who, log: Arc::clone(&log), ended: ended.clone() };
            llm.submit(request, teller).expect("accepted")
        })
        .collect();
    drop((blocker, gate));
    (0..n).for_each(|_| ends.recv().expect("every request ends"));
    drop(tickets);
    let log = log.lock().expect("no panics");
    log.clone()
}

fn options(chunk: u32) -> LlmOptions {
    LlmOptions { sequences_max: 9, prefill_chunk_tokens: chunk, ..LlmOptions::default() }
}

#[test]
fn eight_chats_interleave_token_by_token() {
    let requests = (0..8).map(|index| request(5 + 9 * index, 40)).collect();
    let log = together(&tiny(&options(16)), requests);
    let end = log.iter().position(|(_, told)| !told).expect("they end");
    let all_run = (0..end).find(|at| (0..8).all(|who| log[..*at].contains(&(who, true)))).expect("all begin");
    assert!(end - all_run > 8 * 4, "they run together for some steps");
    for window in log[all_run..end].windows(8) {
        assert!((0..8).all(|who| window.contains(&(who, true))), "somebody was passed over: {window:?}");
    }
}

/// A prompt as long as the context, sent to make the others wait.
#[test]
fn a_long_prompt_does_not_starve_those_who_are_answered() {
    let (chunk, chunks) = (8, 25);
    let log = together(&tiny(&options(chunk)), vec![request(4, 60), request(8 * chunks, 1)]);
    let first = log.iter().position(|told| *told == (1, true)).expect("it is answered");
    // One token after each of its chunks but the last, and the first, which shared a step with the other prompt.
    assert!(log[..first].iter().filter(|(who, _)| *who == 0).count() >= chunks - 2, "{log:?}");
}

#[test]
fn short_prompts_do_not_wait_for_the_end_of_a_long_one() {
    let mut requests = vec![request(4, 60), request(200, 1)];
    requests.extend((0..3).map(|_| request(4, 1)));
    let log = together(&tiny(&options(8)), requests);
    let answered = |who| log.iter().position(|told| *told == (who, true)).expect("it is answered");
    for who in 2..5 {
        // The others' prompts are five chunks in all before it, at one a step.
        let steps = log[..answered(who)].iter().filter(|(who, _)| *who == 0).count();
        assert!(steps <= 5 && answered(who) < answered(1), "{who} waited for {steps} steps");
    }
}
