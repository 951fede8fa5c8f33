//! Embedding on a tiny model: admission, turns, cancellation, and what does not change a vector.

use std::sync::mpsc::sync_channel;

use cocoon_llm::{EmbedError, EmbedFailure, Embedder, EmbedderOptions};

use crate::bert::{Folder, TOKENS_MAX, WIDTH, cosine, embed, start, tiny};

/// Occupies the model's thread until the receiver is dropped.
fn occupy(embedder: &Embedder) -> (cocoon_llm::Ticket, std::sync::mpsc::Receiver<()>) {
    let (sender, held) = sync_channel(0);
    let ticket = embedder.submit(vec![vec![4]], move |_| sender.send(()).unwrap_or_default()).expect("accepted");
    while embedder.stats().queued > 0 {
        std::thread::yield_now();
    }
    (ticket, held)
}

#[test]
fn vectors_have_length_one_and_come_in_order() {
    let embedder = tiny();
    let texts = ["rain falls.", "snow", "RAINS fall [SEP]"];
    let together = embed(&embedder, &texts);
    assert_eq!(together.len(), 3);
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(vector.len(), WIDTH);
        assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
        let alone = embed(&embedder, &[text]).remove(0);
        assert!(cosine(&alone, vector) > 0.999_999, "{text}: the other texts of a request change nothing");
    }
    assert!(cosine(&together[0], &together[1]) < 0.999, "different texts have different vectors");
    assert_eq!(embedder.stats().tokens, 2 * (5 + 3 + 8));
}

#[test]
fn another_request_does_not_change_a_bit() {
    let embedder = tiny();
    let texts = |n: u32| (0..n).map(|i| vec![2, 4 + i % 6, 7, 3]).collect::<Vec<_>>();
    let alone = start(&embedder, texts(200)).1.recv().expect("ends").expect("embedded");
    let (held, gate) = occupy(&embedder);
    // These wait for the same moment, and then take turns.
    let company = start(&embedder, texts(300));
    let again = start(&embedder, texts(200));
    drop((held, gate));
    assert_eq!(again.1.recv().expect("ends").expect("embedded"), alone);
    assert_eq!(company.1.recv().expect("ends").expect("embedded").len(), 300);
}

#[test]
fn a_short_request_does_not_wait_for_a_long_one() {
    let embedder = tiny();
    let (held, gate) = occupy(&embedder);
    let (order, ended) = sync_channel(2);
    let submit = |texts: usize| {
        let order = order.clone();
        embedder.submit(vec![vec![4; TOKENS_MAX]; texts], move |_| order.send(texts).expect("heard")).expect("accepted")
    };
    let tickets = [submit(2000), submit(1)];
    drop((held, gate));
    assert_eq!([ended.recv(), ended.recv()], [Ok(1), Ok(2000)]);
    drop(tickets);
}

#[test]
fn control_tokens_in_a_text_are_plain_text() {
    let embedder = tiny();
    // The letters of SEP are no words of this model.
    assert_eq!(embedder.tokenize("[SEP] rains").expect("short"), [2, 10, 1, 11, 4, 5, 3]);
    assert_eq!(embedder.tokenize("").expect("short"), [2, 3]);
}

#[test]
fn a_text_is_never_cut_off() {
    let embedder = tiny();
    let tokens = embedder.tokenize(&"rain ".repeat(23)).expect("short");
    assert_eq!(tokens.len(), 25, "the file's own truncation is not followed");
    let refused = embedder.submit(vec![vec![4], tokens], |_| ()).map(|_| ());
    assert_eq!(refused, Err(EmbedError::TooLong { input: 1, tokens: 25, tokens_max: TOKENS_MAX }));
    assert!(embedder.tokenize(&" ".repeat(1 << 17)).is_err(), "nor tokenised for long before it is refused");
}

#[test]
fn the_files_may_lower_the_limit_and_not_raise_it() {
    for (said, expected) in [(8, 8), (1_000, TOKENS_MAX)] {
        let mut folder = Folder::tiny();
        folder.sentences = Some(serde_json::json!({"max_seq_length": said, "do_lower_case": false}));
        assert_eq!(folder.load(&EmbedderOptions::default()).expect("valid").info().tokens_max, expected);
    }
}

#[test]
fn bad_requests_are_refused_at_once() {
    let embedder = tiny();
    for (texts, expected) in [
        (vec![], EmbedError::NoInput),
        (vec![vec![1]; 2049], EmbedError::TooManyInputs { inputs: 2049, inputs_max: 2048 }),
        (vec![vec![1], vec![]], EmbedError::Empty { input: 1 }),
        (vec![vec![1], vec![12]], EmbedError::UnknownToken { input: 1 }),
        (vec![vec![u32::MAX]], EmbedError::UnknownToken { input: 0 }),
    ] {
        assert_eq!(embedder.submit(texts, |_| ()).map(|_| ()), Err(expected));
    }
}

#[test]
fn the_queue_is_bounded() {
    let embedder = Folder::tiny().load(&EmbedderOptions { queue_max: 2, ..EmbedderOptions::default() }).expect("valid");
    let (held, gate) = occupy(&embedder);
    let waiting = [start(&embedder, vec![vec![4]]), start(&embedder, vec![vec![4]])];
    assert_eq!(embedder.submit(vec![vec![4]], |_| ()).map(|_| ()), Err(EmbedError::Busy));
    assert_eq!(embedder.stats().queued, 2);
    drop((held, gate));
    for (_ticket, outcome) in waiting {
        assert!(outcome.recv().expect("ends").is_ok());
    }
}

#[test]
fn dropping_the_ticket_or_the_model_cancels() {
    let embedder = tiny();
    let (held, gate) = occupy(&embedder);
    let (ticket, dropped) = start(&embedder, vec![vec![4; TOKENS_MAX]; 2048]);
    let (_kept, waiting) = start(&embedder, vec![vec![4; TOKENS_MAX]; 2048]);
    drop(ticket);
    drop((held, gate));
    assert_eq!(dropped.recv().expect("ends"), Err(EmbedFailure::Cancelled));
    drop(embedder);
    let ended = waiting.recv().expect("cancelled requests end too");
    assert!(matches!(ended, Err(EmbedFailure::Cancelled) | Ok(_)));
}

#[test]
fn debug_output_shows_no_text() {
    let shown = format!("{:?}", tiny());
    assert!(shown.contains("tokens_max") && !shown.contains("rain"), "{shown}");
}
