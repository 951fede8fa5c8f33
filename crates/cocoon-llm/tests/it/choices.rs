//! Several answers to one prompt: it is processed once, and each answer is what it would be alone.

use std::sync::mpsc::Receiver;

use cocoon_llm::{Finish, GenerateRequest, Llm, LlmOptions, Sampling, SubmitError, Ticket, TokenSink};

use crate::fixture::{CONTEXT, Heard, finish, read, run, sink, tiny};

const PROMPT: usize = 40;

fn options(sequences_max: usize) -> LlmOptions {
    LlmOptions { sequences_max, prefill_chunk_tokens: 16, ..LlmOptions::default() }
}

fn request(max_tokens: u32) -> GenerateRequest {
    let prompt = (0..PROMPT).map(|i| u32::try_from(i * 31 % 256).expect("small")).collect();
    let sampling = Sampling { seed: Some(u64::MAX), top_p: 0.9, ..Sampling::default() };
    GenerateRequest { sampling, ignore_eos: true, ..GenerateRequest::new(prompt, max_tokens) }
}

fn start_choices(llm: &Llm, request: GenerateRequest, n: usize) -> (Ticket, Vec<Receiver<Heard>>) {
    let (sinks, heard): (Vec<_>, Vec<_>) = (0..n).map(|_| sink(1024, usize::MAX)).unzip();
    let sinks = sinks.into_iter().map(|sink| Box::new(sink) as Box<dyn TokenSink>).collect();
    (llm.submit_choices(request, sinks).expect("accepted"), heard)
}

/// The ids of every choice.
fn choices(llm: &Llm, max_tokens: u32, n: usize) -> Vec<Vec<u32>> {
    let (_ticket, heard) = start_choices(llm, request(max_tokens), n);
    let ids = |heard| {
        let answer = read(heard);
        assert_eq!((answer.end.finish, answer.end.prompt_tokens as usize), (Finish::Length, PROMPT));
        answer.ids
    };
    heard.into_iter().map(ids).collect()
}

/// The same, each as a request of its own.
fn alone(llm: &Llm, max_tokens: u32, n: u64) -> Vec<Vec<u32>> {
    (0..n)
        .map(|index| {
            let mut one = request(max_tokens);
            one.sampling.seed = Some(u64::MAX.wrapping_add(index));
            run(llm, one).ids
        })
        .collect()
}

#[test]
fn choices_are_what_they_would_be_alone_with_any_number_of_sequences() {
    let expected = alone(&tiny(&options(1)), 24, 5);
    assert!(expected.windows(2).any(|pair| pair[0] != pair[1]));
    for sequences in [1, 2, 5, 8] {
        assert_eq!(choices(&tiny(&options(sequences)), 24, 5), expected, "{sequences} sequences");
    }
    // Each ends with its first token, before the next begins.
    assert_eq!(choices(&tiny(&options(2)), 1, 5), alone(&tiny(&options(1)), 1, 5));
}

#[test]
fn the_prompt_is_processed_once() {
    for sequences in [1, 4] {
        let llm = tiny(&options(sequences));
        let (_ticket, heard) = start_choices(&llm, request(3), 4);
        for heard in heard {
            assert!(heard.iter().any(|heard| matches!(heard, Heard::End(end) if end.completion_tokens == 3)));
        }
        let stats = llm.stats();
        assert_eq!((stats.prompt_tokens, stats.generated_tokens), (PROMPT as u64, 12));
    }
}

/// Whatever the choices left in the caches, the next request sees nothing of it.
#[test]
fn nothing_of_the_choices_reaches_the_next_client() {
    let llm = tiny(&options(2));
    let other = || GenerateRequest { ignore_eos: true, ..GenerateRequest::new(vec![7; 9], 12) };
    let fresh = run(&llm, GenerateRequest { sampling: Sampling::greedy(), ..other() }).ids;
    choices(&llm, 20, 5);
    for _ in 0..2 {
        assert_eq!(run(&llm, GenerateRequest { sampling: Sampling::greedy(), ..other() }).ids, fresh);
    }
}

#[test]
fn choices_begun_or_not_end_with_their_ticket() {
    let llm = tiny(&options(1));
    let endless = GenerateRequest { max_tokens: CONTEXT, ..request(1) };
    let (blocked, first) = sink(0, usize::MAX);
    let (sinks, others): (Vec<_>, Vec<_>) = (0..3).map(|_| sink(1024, usize::MAX)).unzip();
    let mut all: Vec<Box<dyn TokenSink>> = vec![Box::new(blocked)];
    all.extend(sinks.into_iter().map(|sink| Box::new(sink) as Box<dyn TokenSink>));
    let ticket = llm.submit_choices(endless, all).expect("accepted");
    assert!(matches!(first.recv(), Ok(Heard::Text(..))));
    drop((ticket, first));
    for heard in others {
        let Some(Heard::End(end)) = heard.iter().last() else { panic!("it does not end") };
        assert_eq!((end.finish, end.completion_tokens), (Finish::Cancelled, 0));
    }
    assert_eq!(run(&llm, request(1)).end.finish, Finish::Length);
}

#[test]
fn a_choice_whose_reader_leaves_does_not_end_the_others() {
    let llm = tiny(&options(1));
    let (leaves, gone) = sink(1024, 1);
    let (stays, heard) = sink(1024, usize::MAX);
    let ticket = llm.submit_choices(request(9), vec![Box::new(leaves), Box::new(stays)]).expect("accepted");
    assert_eq!(finish((ticket, heard)).end.finish, Finish::Length);
    assert!(gone.iter().any(|heard| matches!(heard, Heard::End(end) if end.finish == Finish::Cancelled)));
}

#[test]
fn absurd_numbers_of_choices_are_refused() {
    let llm = tiny(&options(1));
    let sinks = |n: usize| (0..n).map(|_| Box::new(sink(1, 1).0) as Box<dyn TokenSink>).collect::<Vec<_>>();
    for n in [0, 129, 5000] {
        assert!(matches!(llm.submit_choices(request(1), sinks(n)), Err(SubmitError::Invalid(_))), "{n}");
    }
}
