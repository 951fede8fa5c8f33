//! Files of an embedding model that are not what they should be: errors, never panics or absurd allocations.

use cocoon_llm::{Embedder, EmbedderLoadError, EmbedderOptions};
use serde_json::{Value, json};

use crate::bert::{Folder, start};

#[track_caller]
fn refused(change: impl Fn(&mut Folder), expected: &str) {
    let mut folder = Folder::tiny();
    change(&mut folder);
    let error = folder.load(&EmbedderOptions::default()).expect_err("accepted").to_string();
    assert!(error.contains(expected), "{error:?} does not mention {expected:?}");
}

/// Loads the tiny model after the bytes of one file were replaced.
fn load_with(file: &str, bytes: &[u8]) -> Result<Embedder, EmbedderLoadError> {
    let folder = tempfile::tempdir().expect("temporary folder");
    Folder::tiny().write(folder.path());
    std::fs::write(folder.path().join(file), bytes).expect("write");
    Embedder::load(folder.path(), &EmbedderOptions::default())
}

#[test]
fn absurd_sizes_are_refused() {
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "vocab_size",
    ] {
        for value in [0, u64::MAX] {
            refused(|folder| folder.config[key] = value.into(), key);
        }
        refused(|folder| folder.config[key] = "many".into(), "config.json");
        refused(|folder| folder.config[key] = 3.into(), "");
    }
    for value in [0.0, -1.0, 1e30] {
        refused(|folder| folder.config["layer_norm_eps"] = value.into(), "layer_norm_eps");
    }
    refused(|folder| folder.sentences = Some(json!({"max_seq_length": 0})), "max_seq_length");
}

#[test]
fn models_that_compute_something_else_are_refused() {
    refused(|folder| folder.config["model_type"] = "roberta".into(), "model_type");
    refused(|folder| folder.config["hidden_act"] = "relu".into(), "hidden_act");
    refused(|folder| folder.config["position_embedding_type"] = "relative_key".into(), "position_embedding_type");
    refused(|folder| folder.pooling = Some(json!({"pooling_mode_mean_tokens": false})), "pooling");
    let both = json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true});
    refused(|folder| folder.pooling = Some(both.clone()), "pooling");
    refused(|folder| folder.tensors[5].0 = "encoder.layer.0.adapter.weight".to_owned(), "");
    refused(
        |folder| {
            let mut extra = folder.tensors[3].clone();
            extra.0 = "lora.weight".to_owned();
            folder.tensors.push(extra);
        },
        "lora.weight",
    );
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    for index in 0..Folder::tiny().tensors.len() {
        refused(|folder| drop(folder.tensors.remove(index)), "no tensor");
        refused(|folder| folder.tensors[index].2.push(1), "model.safetensors");
        refused(|folder| folder.tensors[index].2[0] *= 2, "model.safetensors");
        refused(|folder| folder.tensors[index].2[0] = u64::MAX, "model.safetensors");
        refused(|folder| folder.tensors[index].2 = vec![1 << 32, 1 << 32, 1 << 32], "model.safetensors");
    }
    refused(
        |folder| {
            folder.tensors[0].1 = "F16".to_owned();
            folder.tensors[0].2[0] *= 2;
        },
        "F32",
    );
    refused(|folder| folder.tensors[0].1 = "F4711".to_owned(), "model.safetensors");
}

#[test]
fn weights_that_are_not_finite_are_refused() {
    for weight in [f32::NAN, f32::INFINITY] {
        refused(|folder| folder.tensors[2].3[..4].copy_from_slice(&weight.to_le_bytes()), "not finite");
    }
}

/// Finite weights may still overflow on the way: the request fails, and no `NaN` gets out.
#[test]
fn weights_that_overflow_give_an_error_and_no_vector() {
    let mut folder = Folder::tiny();
    let huge = folder.tensors.iter_mut().filter(|tensor| tensor.0.ends_with("LayerNorm.weight"));
    for tensor in huge {
        tensor.3.chunks_exact_mut(4).for_each(|four| four.copy_from_slice(&f32::MAX.to_le_bytes()));
    }
    let embedder = folder.load(&EmbedderOptions::default()).expect("every weight is finite");
    let (_ticket, outcome) = start(&embedder, vec![vec![2, 4, 3]]);
    assert!(outcome.recv().expect("ends").expect_err("not finite").to_string().contains("not finite"));
}

#[test]
fn overlapping_tensors_cannot_make_a_small_file_a_large_model() {
    let header = json!({
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    })
    .to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 16]].concat();
    assert!(matches!(load_with("model.safetensors", &bytes), Err(EmbedderLoadError::Malformed { .. })));
}

#[test]
fn a_header_longer_than_the_file_or_than_any_real_one_is_refused() {
    for len in [1 << 10, 1 << 21, u64::MAX] {
        let bytes = [&len.to_le_bytes()[..], b"{}"].concat();
        assert!(matches!(load_with("model.safetensors", &bytes), Err(EmbedderLoadError::Malformed { .. })), "{len}");
    }
}

#[test]
fn every_cut_is_refused() {
    let bytes = Folder::tiny().weights();
    for len in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        assert!(load_with("model.safetensors", &bytes[..len]).is_err(), "{len}");
    }
    let tokenizer = Folder::tiny().tokenizer.to_string();
    for len in (0..tokenizer.len()).step_by(53) {
        assert!(load_with("tokenizer.json", &tokenizer.as_bytes()[..len]).is_err(), "{len}");
    }
}

/// Flips bytes all over the header; whatever comes out, it is not a panic.
#[test]
fn no_flipped_byte_panics() {
    let bytes = Folder::tiny().weights();
    for index in (0..3000.min(bytes.len())).step_by(29) {
        for flip in [0x01, 0xFF] {
            let mut bytes = bytes.clone();
            bytes[index] ^= flip;
            drop(load_with("model.safetensors", &bytes));
        }
    }
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    for bytes in [&b""[..], b"{}", b"[]", b"null", b"{\"model\": 1}", &[0xFF; 64], &b"[".repeat(1 << 16)] {
        assert!(matches!(load_with("tokenizer.json", bytes), Err(EmbedderLoadError::Malformed { .. })));
    }
}

#[test]
fn tokenizers_of_another_kind_are_refused() {
    let set = |path: &'static str, value: Value| {
        move |folder: &mut Folder| *folder.tokenizer.pointer_mut(path).expect("there") = value.clone()
    };
    refused(set("/model/type", "BPE".into()), "model");
    // A stranger's regular expression is not run.
    refused(
        set("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""})),
        "normalizer",
    );
    refused(set("/pre_tokenizer", json!({"type": "Split", "pattern": {"Regex": "(a*)*b"}})), "pre-tokenizer");
    refused(set("/pre_tokenizer", Value::Null), "pre-tokenizer");
    refused(set("/post_processor", Value::Null), "post-processor");
    refused(set("/model/unk_token", "[WHAT]".into()), "[WHAT]");
    refused(set("/model/vocab", json!({})), "[CLS]");
    refused(set("/model/vocab/rain", 12.into()), "outside");
    refused(set("/model/vocab/rain", u64::MAX.into()), "tokenizer.json");
    for chars in [0, 1 << 20] {
        refused(set("/model/max_input_chars_per_word", chars.into()), "max_input_chars_per_word");
    }
}

#[test]
fn bad_options_and_missing_files_are_told() {
    for options in [
        EmbedderOptions { threads: 0, ..EmbedderOptions::default() },
        EmbedderOptions { queue_max: 0, ..EmbedderOptions::default() },
    ] {
        assert!(matches!(Folder::tiny().load(&options), Err(EmbedderLoadError::Option(_))));
    }
    let missing = Embedder::load("/nonexistent".as_ref(), &EmbedderOptions::default());
    assert!(matches!(missing, Err(EmbedderLoadError::Io { file: "config.json", .. })));
}
