//! `cocoon chat`: what it says when things are not as hoped.

use cocoon_sim::Behaviour;

use crate::cocoon::{Engine, run, told, up};

#[test]
fn without_a_network_it_says_how_to_start_one() {
    let (_, error, is_ok) = told(&run(&["chat", "--url", "http://127.0.0.1:9/v1", "hello"]));
    assert!(!is_ok);
    assert_eq!(error, "error: nothing listens at http://127.0.0.1:9/v1: start it with: cocoon up\n");
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
