//! A BERT model of a few kilobytes with random weights, as the folder that it comes in.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use cocoon_llm::{EmbedFailure, Embedder, EmbedderLoadError, EmbedderOptions, Ticket};
use serde_json::{Value, json};

pub(crate) const WIDTH: usize = 16;
pub(crate) const TOKENS_MAX: usize = 24;
pub(crate) const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rain", "##s", "snow", "falls", ".", "a", "[", "]"];

/// The files of a model under construction; tests change a part of them.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    pub(crate) sentences: Option<Value>,
    pub(crate) pooling: Option<Value>,
    /// Name, type, shape and data of each tensor.
    pub(crate) tensors: Vec<(String, String, Vec<u64>, Vec<u8>)>,
}

impl Folder {
    /// Two layers, two heads.
    pub(crate) fn tiny() -> Self {
        let mut folder =
            Self { config: config(), tokenizer: tokenizer(), sentences: None, pooling: None, tensors: Vec::new() };
        let (width, words) = (WIDTH as u64, WORDS.len() as u64);
        folder.tensor("embeddings.word_embeddings.weight", &[words, width]);
        folder.tensor("embeddings.position_embeddings.weight", &[TOKENS_MAX as u64, width]);
        folder.tensor("embeddings.token_type_embeddings.weight", &[2, width]);
        folder.tensor("embeddings.LayerNorm.weight", &[width]);
        folder.tensor("embeddings.LayerNorm.bias", &[width]);
        for layer in 0..2 {
            for (part, shape) in [
                ("attention.self.query", [width, width]),
                ("attention.self.key", [width, width]),
                ("attention.self.value", [width, width]),
                ("attention.output.dense", [width, width]),
                ("intermediate.dense", [32, width]),
                ("output.dense", [width, 32]),
            ] {
                folder.tensor(&format!("encoder.layer.{layer}.{part}.weight"), &shape);
                folder.tensor(&format!("encoder.layer.{layer}.{part}.bias"), &shape[..1]);
            }
            for part in ["attention.output", "output"] {
                folder.tensor(&format!("encoder.layer.{layer}.{part}.LayerNorm.weight"), &[width]);
                folder.tensor(&format!("encoder.layer.{layer}.{part}.LayerNorm.bias"), &[width]);
            }
        }
        folder
    }

    fn tensor(&mut self, name: &str, shape: &[u64]) {
        let elements: u64 = shape.iter().product();
        let mut state = elements + self.tensors.len() as u64 * 7919;
        let bytes = (0..elements).flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
            let value = if name.ends_with("LayerNorm.weight") { 1.0 } else { (unit - 0.5) * 1.6 };
            value.to_le_bytes()
        });
        let bytes = bytes.collect();
        self.tensors.push((name.to_owned(), "F32".to_owned(), shape.to_vec(), bytes));
    }

    /// `model.safetensors`: the length of a JSON header, the header, the data.
    pub(crate) fn weights(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in &self.tensors {
            let start = data.len();
            data.extend(bytes);
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let header = Value::from(header).to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    pub(crate) fn write(&self, folder: &Path) {
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("write");
        write("config.json", self.config.to_string().as_bytes());
        write("tokenizer.json", self.tokenizer.to_string().as_bytes());
        write("model.safetensors", &self.weights());
        if let Some(sentences) = &self.sentences {
            write("sentence_bert_config.json", sentences.to_string().as_bytes());
        }
        if let Some(pooling) = &self.pooling {
            std::fs::create_dir_all(folder.join("1_Pooling")).expect("make");
            write("1_Pooling/config.json", pooling.to_string().as_bytes());
        }
    }

    pub(crate) fn load(&self, options: &EmbedderOptions) -> Result<Embedder, EmbedderLoadError> {
        let folder = tempfile::tempdir().expect("temporary folder");
        self.write(folder.path());
        Embedder::load(folder.path(), options)
    }
}

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "layer_norm_eps": 1e-12,
        "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": TOKENS_MAX, "type_vocab_size": 2, "vocab_size": WORDS.len(), "architectures": ["BertModel"],
    })
}

fn tokenizer() -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    json!({
        // As the real file: to be ignored, not followed.
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0}, "padding": {"strategy": {"Fixed": 128}},
        "added_tokens": [{"id": 3, "special": true, "content": "[SEP]"}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                       "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

pub(crate) fn tiny() -> Embedder {
    Folder::tiny().load(&EmbedderOptions::default()).expect("the tiny model is valid")
}

pub(crate) type Outcome = Result<Vec<Vec<f32>>, EmbedFailure>;

pub(crate) fn start(embedder: &Embedder, texts: Vec<Vec<u32>>) -> (Ticket, Receiver<Outcome>) {
    let (sender, receiver) = sync_channel(1);
    let ticket = embedder.submit(texts, move |outcome| drop(sender.send(outcome))).expect("accepted");
    (ticket, receiver)
}

pub(crate) fn embed(embedder: &Embedder, texts: &[&str]) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|text| embedder.tokenize(text).expect("short")).collect();
    let (_ticket, outcome) = start(embedder, texts);
    outcome.recv().expect("every request ends").expect("embedded")
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
