//! On all-MiniLM-L6-v2, whose folder `COCOON_TEST_EMBEDDING_MODEL` gives. Without it these tests say that they were
//! skipped. The referee is the model written down a second time: `tests/minilm/reference.py`.

use std::path::PathBuf;

use cocoon_llm::{Embedder, EmbedderOptions};
use serde::Deserialize;

use crate::bert::{cosine, embed, start};

const REFERENCE: &str = include_str!("../../../../tests/minilm/reference.json");

#[derive(Deserialize)]
struct Row {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn model() -> Option<Embedder> {
    let Some(folder) = std::env::var_os("COCOON_TEST_EMBEDDING_MODEL").map(PathBuf::from) else {
        println!("skipped: COCOON_TEST_EMBEDDING_MODEL names no folder of all-MiniLM-L6-v2");
        return None;
    };
    Some(Embedder::load(&folder, &EmbedderOptions::default()).expect("valid"))
}

#[test]
fn tokens_and_vectors_are_the_references() {
    let Some(embedder) = model() else { return };
    let info = embedder.info();
    assert_eq!((info.width, info.tokens_max, info.vocabulary), (384, 256, 30_522));
    let rows: Vec<Row> = serde_json::from_str(REFERENCE).expect("well formed");
    for row in &rows {
        assert_eq!(embedder.tokenize(&row.text).expect("short"), row.ids, "{}", row.text);
    }
    let ids = rows.iter().map(|row| row.ids.clone()).collect();
    let vectors = start(&embedder, ids).1.recv().expect("ends").expect("embedded");
    for (row, vector) in rows.iter().zip(&vectors) {
        let cosine = cosine(&row.vector, vector);
        assert!(cosine > 0.999_999, "{}: {cosine}", row.text);
        let worst = row.vector.iter().zip(vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{}: {worst}", row.text);
    }
}

#[test]
fn near_meanings_are_near() {
    let Some(embedder) = model() else { return };
    let vectors = embed(&embedder, &["A man is eating food.", "A man is eating a piece of bread.", "The sky is blue."]);
    assert!(cosine(&vectors[0], &vectors[1]) > 0.7);
    assert!(cosine(&vectors[0], &vectors[2]) < 0.2);
}
