//! Model files made to break the reader: each is refused with an error, none panics.

use cocoon_llm::{LlmOptions, LoadError};

use crate::fixture::{File, float, load, text, texts, uint};

#[track_caller]
fn refused(change: impl Fn(&mut File), expected: &str) {
    let mut file = File::tiny();
    change(&mut file);
    let error = load(&file, &LlmOptions::default()).expect_err("accepted").to_string();
    assert!(error.contains(expected), "{error:?} does not mention {expected:?}");
}

#[test]
fn other_architectures_are_refused() {
    refused(|file| file.set("general.architecture", text("gemma3")), "gemma3");
    refused(|file| file.set("llama.expert_count", uint(8)), "experts");
    refused(|file| file.set("llama.rope.scaling.type", text("yarn")), "rope scaling");
    refused(|file| file.set("tokenizer.ggml.pre", text("unheard-of")), "unheard-of");
    refused(|file| file.set("tokenizer.ggml.model", text("llama")), "tokenizer model");
}

#[test]
fn absurd_sizes_are_refused() {
    for key in [
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.rope.dimension_count",
        "llama.attention.key_length",
    ] {
        for value in [0, u32::MAX] {
            refused(|file| file.set(key, uint(value)), key);
        }
        refused(|file| file.set(key, text("many")), key);
    }
    refused(|file| file.set("llama.attention.head_count_kv", uint(3)), "multiple");
    refused(|file| file.set("llama.attention.head_count", uint(100)), "");
    refused(|file| file.set("llama.embedding_length", uint(72)), "");
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(|file| file.set("llama.attention.layer_norm_rms_epsilon", float(value)), "epsilon");
        refused(|file| file.set("llama.rope.freq_base", float(value)), "rope base");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    for index in 0..File::tiny().tensors.len() {
        refused(|file| drop(file.tensors.remove(index)), "tensor");
        refused(|file| file.tensors[index].1.push(1), "");
        refused(|file| file.tensors[index].1[0] *= 2, "");
        refused(|file| file.tensors[index].1[0] = u64::MAX, "");
    }
    refused(|file| file.tensors[3].2 = 8, "");
    refused(|file| file.tensors[3].2 = 77, "tensor type 77");
    refused(|file| file.tensors[3].0 = "blk.0.attn_q.bias".to_owned(), "attn_q.bias");
    refused(|file| file.tensors[3].0 = "blk.9.attn_q.weight".to_owned(), "blk.9");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for index in [0, 1, 5] {
        refused(|file| file.tensors[index].3[..4].copy_from_slice(&f32::NAN.to_le_bytes()), "not finite");
    }
}

#[test]
fn broken_tokenizers_are_refused() {
    let words = |n: usize| texts(&(0..n).map(|i| format!("t{i}")).collect::<Vec<_>>());
    refused(|file| file.set("tokenizer.ggml.tokens", words(0)), "vocabulary");
    refused(|file| file.set("tokenizer.ggml.tokens", words(100)), "differ");
    refused(|file| file.set("tokenizer.ggml.merges", texts(&["x".into()])), "merge");
    refused(|file| file.set("tokenizer.ggml.merges", texts(&["no such".into()])), "merges");
    refused(|file| file.set("tokenizer.ggml.eos_token_id", uint(9999)), "outside");
    refused(|file| file.set("tokenizer.chat_template", text("{% if %}")), "chat template");
}

#[test]
fn every_cut_is_refused() {
    let bytes = File::tiny().bytes();
    let folder = tempfile::tempdir().expect("temporary folder");
    for len in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        let path = folder.path().join("cut");
        std::fs::write(&path, &bytes[..len]).expect("write");
        assert!(cocoon_llm::Llm::load(&path, &LlmOptions::default()).is_err(), "{len}");
    }
}

/// Flips bytes all over the header; whatever comes out, it is not a panic.
#[test]
fn no_flipped_byte_panics() {
    let mut file = File::tiny();
    file.set("tokenizer.ggml.tokens", texts(&[]));
    let bytes = file.bytes();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("flipped");
    for index in (0..3000.min(bytes.len())).step_by(3) {
        for flip in [0x01, 0xFF] {
            let mut bytes = bytes.clone();
            bytes[index] ^= flip;
            std::fs::write(&path, &bytes).expect("write");
            let _ = cocoon_llm::Llm::load(&path, &LlmOptions::default());
        }
    }
}

#[test]
fn bad_options_are_refused() {
    let base = LlmOptions::default();
    for options in [
        LlmOptions { sequences_max: 0, ..base.clone() },
        LlmOptions { threads: 0, ..base.clone() },
        LlmOptions { queue_max: 0, ..base.clone() },
        LlmOptions { prefill_chunk_tokens: 0, ..base.clone() },
        LlmOptions { prefill_chunk_tokens: 1 << 20, ..base.clone() },
        LlmOptions { context_tokens_max: Some(1), ..base },
    ] {
        assert!(matches!(load(&File::tiny(), &options), Err(LoadError::Option(_))));
    }
}

#[test]
fn a_missing_file_is_an_io_error() {
    let missing = cocoon_llm::Llm::load("/nonexistent/model.gguf".as_ref(), &LlmOptions::default());
    assert!(matches!(missing, Err(LoadError::Io(_))));
}
