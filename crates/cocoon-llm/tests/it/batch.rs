//! What a sequence generates does not depend on its company, its slot or its predecessors.

use cocoon_llm::{GenerateRequest, Llm, LlmOptions, Sampling};

use crate::fixture::{Answer, File, finish, load, run, start, tiny};

fn request(seed: u32) -> GenerateRequest {
    let prompt = (0..20 + seed * 7).map(|i| (i * 31 + seed * 17) % 256).collect();
    GenerateRequest {
        sampling: Sampling { seed: Some(seed.into()), top_p: 0.9, ..Sampling::default() },
        ignore_eos: true,
        ..GenerateRequest::new(prompt, 24)
    }
}

fn options(sequences_max: usize) -> LlmOptions {
    LlmOptions { sequences_max, ..LlmOptions::default() }
}

fn alone(llm: &Llm) -> Vec<Vec<u32>> {
    (0..6).map(|seed| run(llm, request(seed)).ids).collect()
}

fn together(llm: &Llm) -> Vec<Vec<u32>> {
    let started: Vec<_> = (0..6).map(|seed| start(llm, request(seed))).collect();
    started.into_iter().map(|started| finish(started).ids).collect()
}

#[test]
fn company_changes_nothing() {
    let expected = alone(&tiny(&options(1)));
    assert_eq!(together(&tiny(&options(6))), expected);
    assert_eq!(together(&tiny(&options(3))), expected);
}

#[test]
fn threads_change_nothing() {
    let two = LlmOptions { threads: 2, ..options(4) };
    assert_eq!(together(&tiny(&two)), alone(&tiny(&options(1))));
}

#[test]
fn same_seed_same_tokens_and_other_seed_others() {
    let llm = tiny(&options(2));
    assert_eq!(run(&llm, request(3)).ids, run(&llm, request(3)).ids);
    let other = Sampling { seed: Some(99), ..request(3).sampling };
    assert_ne!(run(&llm, request(3)).ids, run(&llm, GenerateRequest { sampling: other, ..request(3) }).ids);
}

/// If a cache were shared, or read beyond what its sequence wrote, the answer after another
/// client's would differ from the answer in a fresh model.
#[test]
fn two_clients_never_share_a_cache() {
    let llm = tiny(&options(1));
    let fresh = run(&llm, request(1)).ids;
    for other in [5, 2, 4] {
        run(&llm, request(other));
        assert_eq!(run(&llm, request(1)).ids, fresh);
    }
}

/// Chunks change which tokens are multiplied together, not what they mean.
#[test]
fn chunked_prefill_agrees_with_a_single_chunk() {
    let greedy = |llm: &Llm| -> Answer {
        let sampling = Sampling::greedy();
        run(llm, GenerateRequest { sampling, logprobs: Some(1), max_tokens: 1, ..request(5) })
    };
    let whole = greedy(&tiny(&options(1)));
    for chunk in [1, 7, 16, 32] {
        let llm = tiny(&LlmOptions { prefill_chunk_tokens: chunk, ..options(1) });
        assert_eq!(greedy(&llm).ids, whole.ids, "chunk {chunk}");
    }
}

#[test]
fn an_untied_output_matrix_is_used() {
    let tied = run(&tiny(&options(1)), request(1)).ids;
    let mut file = File::tiny();
    let mut output = file.tensors[0].clone();
    output.0 = "output.weight".to_owned();
    output.3.reverse();
    output.3.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&[0, 0, 0, value[0] & 1]));
    file.tensors.push(output);
    let untied = run(&load(&file, &options(1)).expect("valid"), request(1)).ids;
    assert_ne!(tied, untied);
}
