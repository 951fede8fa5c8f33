//! Admission, cancellation and ends.

use cocoon_llm::{Finish, GenerateRequest, Llm, LlmOptions, Sampling, SubmitError};

use crate::fixture::{CONTEXT, Heard, IM_END, finish, run, sink, start, tiny};

fn one() -> Llm {
    tiny(&LlmOptions { sequences_max: 1, queue_max: 2, ..LlmOptions::default() })
}

fn long() -> GenerateRequest {
    GenerateRequest { ignore_eos: true, ..GenerateRequest::new(vec![65; 4], CONTEXT) }
}

fn wait_until(llm: &Llm, what: impl Fn(&Llm) -> bool) {
    while !what(llm) {
        std::thread::yield_now();
    }
}

/// Occupies the only sequence: its sink waits for the test to read.
fn occupy(llm: &Llm) -> (cocoon_llm::Ticket, std::sync::mpsc::Receiver<Heard>) {
    let (sink, heard) = sink(0, usize::MAX);
    let ticket = llm.submit(long(), sink).expect("accepted");
    wait_until(llm, |llm| llm.stats().active == 1 && llm.stats().queued == 0);
    (ticket, heard)
}

#[test]
fn length_ends_an_answer() {
    let llm = one();
    let answer = run(&llm, GenerateRequest { max_tokens: 5, ..long() });
    assert_eq!(answer.end.finish, Finish::Length);
    assert_eq!((answer.end.prompt_tokens, answer.end.completion_tokens), (4, 5));
    assert_eq!(answer.ids.len(), 5);
    let stats = llm.stats();
    assert_eq!((stats.prompt_tokens, stats.generated_tokens), (4, 5));
}

#[test]
fn the_context_ends_an_answer() {
    let answer = run(&one(), long());
    assert_eq!(answer.end.finish, Finish::Length);
    // The last token needs no room: it is never read back.
    assert_eq!(answer.end.completion_tokens, CONTEXT - 4 + 1);
}

#[test]
fn eos_ends_an_answer_unless_ignored() {
    let llm = one();
    let sampling = Sampling { logit_bias: [(IM_END, 100.0)].into(), ..Sampling::greedy() };
    let request = GenerateRequest { sampling, max_tokens: 3, ignore_eos: false, ..long() };
    let answer = run(&llm, request.clone());
    assert_eq!((answer.end.finish, answer.end.completion_tokens), (Finish::Stop, 1));
    assert_eq!((answer.text.as_str(), answer.ids.len()), ("", 0));
    let answer = run(&llm, GenerateRequest { ignore_eos: true, ..request });
    assert_eq!((answer.end.finish, answer.ids), (Finish::Length, vec![IM_END; 3]));
}

#[test]
fn stop_strings_span_tokens_and_are_cut_off() {
    let llm = one();
    // Only 'a' and 'b' are likely, and whichever came more often becomes less so.
    let sampling =
        Sampling { logit_bias: [(97, 90.0), (98, 90.0)].into(), frequency_penalty: 2.0, ..Sampling::greedy() };
    let request = GenerateRequest { sampling, max_tokens: 24, ..long() };
    let free = run(&llm, request.clone());
    assert!(free.text.len() == 24 && free.text.contains("ab"), "{}", free.text);
    let stopped = run(&llm, GenerateRequest { stop: vec!["ab".to_owned()], ..request });
    assert_eq!(stopped.end.finish, Finish::Stop);
    assert_eq!(Some(stopped.text.as_str()), free.text.split("ab").next());
}

#[test]
fn logprobs_are_reported_for_every_token() {
    let llm = one();
    let request = GenerateRequest { logprobs: Some(3), max_tokens: 6, ..long() };
    let (_ticket, heard) = start(&llm, request);
    let tokens: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Text(_, tokens) => Some(tokens),
            Heard::End(_) => None,
        })
        .flatten()
        .collect();
    assert_eq!(tokens.len(), 6);
    for token in tokens {
        let logprobs = token.logprobs.expect("asked for");
        assert_eq!(logprobs.top.len(), 3);
        assert!(logprobs.logprob <= 0.0);
        assert!(logprobs.top.is_sorted_by(|a, b| a.1 >= b.1));
    }
}

#[test]
fn the_queue_is_bounded() {
    let llm = one();
    let (ticket, heard) = occupy(&llm);
    let waiting: Vec<_> = (0..2).map(|_| start(&llm, GenerateRequest { max_tokens: 1, ..long() })).collect();
    assert_eq!(llm.stats().queued, 2);
    let (refused, _heard) = sink(1, 1);
    assert_eq!(llm.submit(long(), refused).map(|_| ()), Err(SubmitError::Busy));
    assert_eq!(llm.stats().queued, 2);
    drop((ticket, heard));
    for started in waiting {
        assert_eq!(finish(started).end.finish, Finish::Length);
    }
    wait_until(&llm, |llm| llm.stats().active == 0);
    assert_eq!(llm.stats().queued, 0);
}

#[test]
fn dropping_the_ticket_frees_the_sequence() {
    let llm = one();
    let (ticket, heard) = occupy(&llm);
    drop(ticket);
    let end = heard.iter().find_map(|heard| match heard {
        Heard::End(end) => Some(end),
        Heard::Text(..) => None,
    });
    let end = end.expect("cancelled requests end too");
    assert_eq!(end.finish, Finish::Cancelled);
    assert!(end.completion_tokens < 10, "{end:?}");
    assert_eq!(run(&llm, GenerateRequest { max_tokens: 1, ..long() }).end.finish, Finish::Length);
}

#[test]
fn a_cancelled_request_in_the_queue_never_starts() {
    let llm = one();
    let (ticket, heard) = occupy(&llm);
    let (queued, queued_heard) = start(&llm, long());
    drop(queued);
    drop((ticket, heard));
    let Heard::End(end) = queued_heard.recv().expect("it ends") else { panic!("it started") };
    assert_eq!((end.finish, end.prompt_tokens, end.completion_tokens), (Finish::Cancelled, 0, 0));
}

#[test]
fn a_sink_can_break_off() {
    let llm = one();
    let (sink, heard) = sink(1024, 3);
    let _ticket = llm.submit(long(), sink).expect("accepted");
    let heard: Vec<_> = heard.iter().collect();
    assert_eq!(heard.len(), 4);
    assert!(matches!(&heard[3], Heard::End(end) if end.finish == Finish::Cancelled));
}

#[test]
fn dropping_the_model_ends_everything() {
    let llm = one();
    let running = start(&llm, long());
    let waiting = start(&llm, long());
    drop(llm);
    for started in [running, waiting] {
        let finish = finish(started).end.finish;
        assert!(matches!(finish, Finish::Cancelled | Finish::Length), "{finish:?}");
    }
}

#[test]
fn bad_requests_are_refused_at_once() {
    let llm = one();
    let too_long = GenerateRequest::new(vec![65; CONTEXT as usize], 1);
    let context_tokens = CONTEXT;
    for (request, expected) in [
        (too_long, SubmitError::PromptTooLong { prompt_tokens: CONTEXT, context_tokens }),
        (GenerateRequest::new(vec![], 1), SubmitError::Invalid("the prompt is empty")),
        (GenerateRequest::new(vec![1], 0), SubmitError::Invalid("max_tokens is 0")),
        (GenerateRequest::new(vec![1_000_000], 1), SubmitError::Invalid("a prompt token is outside the vocabulary")),
        (
            GenerateRequest { stop: vec![String::new(); 17], ..long() },
            SubmitError::Invalid("more than 16 stop strings"),
        ),
        (
            GenerateRequest { stop: vec!["x".repeat(1025)], ..long() },
            SubmitError::Invalid("a stop string is longer than 1024 bytes"),
        ),
        (GenerateRequest { logprobs: Some(21), ..long() }, SubmitError::Invalid("more than 20 logprobs")),
    ] {
        let (sink, _heard) = sink(1, 1);
        assert_eq!(llm.submit(request, sink).map(|_| ()), Err(expected));
    }
}

#[test]
fn debug_output_shows_no_prompt() {
    let request = GenerateRequest::new(vec![4242; 3], 9);
    assert!(!format!("{request:?}").contains("4242"));
}
