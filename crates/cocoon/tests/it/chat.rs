//! `cocoon chat`: what it says when things are not as hoped.

use std::io::Write as _;
use std::process::Stdio;

use cocoon_sim::Behaviour;

use crate::cocoon::{Engine, cocoon, run, told, up};

#[test]
fn without_a_network_it_says_how_to_start_one() {
    let (_, error, is_ok) = told(&run(&["chat", "--url", "http://127.0.0.1:9/v1", "hello"]));
    assert!(!is_ok);
    assert_eq!(error, "error: nothing listens at http://127.0.0.1:9/v1: start it with: cocoon up --port 9\n");
}

#[test]
fn nothing_to_say_is_an_error() {
    let (_, error, is_ok) = told(&run(&["chat", "--url", "http://127.0.0.1:9/v1"]));
    assert!(!is_ok && error.contains("nothing to say"), "{error}");
}

#[test]
fn an_engine_that_refuses_is_quoted() {
    let engine = Engine::start();
    engine.script.set_default(Behaviour::error(400, "the prompt is too odd"));
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let (_, error, is_ok) = told(&run(&["chat", "--url", &network.url(), "hello"]));
    assert!(!is_ok && error.contains("HTTP 400: the prompt is too odd"), "{error}");
}

#[test]
fn an_unknown_model_is_an_error() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let (_, error, is_ok) = told(&run(&["chat", "--url", &network.url(), "--model", "no-such", "hello"]));
    assert!(!is_ok && error.contains("HTTP 404"), "{error}");
}

#[test]
fn an_address_without_a_scheme_is_completed_in_the_advice() {
    let (_, error, is_ok) = told(&run(&["chat", "--url", "127.0.0.1:18500", "hello"]));
    assert!(!is_ok && error.contains("write http://127.0.0.1:18500"), "{error}");
}

#[test]
fn what_is_piped_in_goes_below_the_prompt() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    // Without its /v1, as people write it.
    let url = network.url();
    let mut chat = cocoon(&["chat", "--url", url.trim_end_matches("/v1"), "Summarise", "this:", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"a long letter").unwrap();
    assert!(chat.wait().unwrap().success());
    let requests = engine.script.requests();
    let asked = requests.iter().find(|request| request.path == "/v1/chat/completions").unwrap();
    let body = String::from_utf8_lossy(&asked.body);
    assert!(body.contains(r"Summarise this:\n\na long letter"), "{body}");
}

#[test]
fn an_open_pipe_does_not_keep_a_prompt_waiting() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let network = up(folder.path(), &["--engine", &engine.url()]);
    let mut chat = cocoon(&["chat", "--url", &network.url(), "hello"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let open = chat.stdin.take();
    assert!(chat.wait().unwrap().success());
    drop(open);
}
