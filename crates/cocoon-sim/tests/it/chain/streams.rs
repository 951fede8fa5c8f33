//! Bodies leave the client as the engine sent them, piece by piece and at the same moment.

use std::{collections::BTreeMap, time::Duration};

use cocoon_net::memory::{Chunking, LinkOptions};
use cocoon_sim::{Behaviour, Ending, Event};
use sha2::{Digest, Sha256};

use super::rig::{Chain, Reply, Setup, stream_body};

/// The gap between two events.
const GAP_MS: u64 = 30;
const SSE_USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\r\n\r\n";
const JSON_USAGE: &str =
    "{\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n";

/// Server-sent events with everything that is legal in them.
const SSE: [&str; 9] = [
    ": a comment first\n\n",
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "event: message\r\nid: 7\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Grüße, \"}}]}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"🦀 und 漢字\"}}]}\r\n\r\n: ping\r\n\r\n",
    "data:{\"choices\":[{\"delta\":{\"content\":\"\\ud83e\\udd80\"}}],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"two at once\"}}]}\n\n",
    "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"two lines\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    SSE_USAGE,
    "data: [DONE]\n\n",
];

const NDJSON: [&str; 5] = [
    "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n",
    "{\"choices\":[{\"delta\":{\"content\":\"Grüße, 🦀\"}}]}\r\n",
    "{\"choices\":[{\"delta\":{\"content\":\"two\"}}]}\n\n{\"choices\":[{\"delta\":{\"content\":\"at once\"}}]}\n",
    "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n",
    JSON_USAGE,
];

fn script(content_type: &str, events: &[&str]) -> Behaviour {
    Behaviour::Raw {
        status: 200,
        content_type: content_type.to_owned(),
        headers: vec![("x-engine".to_owned(), "stays inside".to_owned())],
        events: events.iter().map(|&event| Event::after(GAP_MS, event)).collect(),
        ending: Ending::Finish,
    }
}

/// What should arrive, and when, for events a gap apart.
fn expected(events: &[&str], dropped: Option<&str>) -> BTreeMap<Duration, Vec<u8>> {
    let times = (1..).map(|n| Duration::from_millis(GAP_MS * n));
    let all = times.zip(events).filter(|(_, event)| Some(**event) != dropped);
    all.map(|(at, event)| (at, event.as_bytes().to_vec())).collect()
}

/// `usage_event` is dropped when the app did not ask for it.
async fn check(chain: &Chain, content_type: &str, events: &[&str], usage_event: Option<&str>) {
    for usage in [true, false] {
        chain.engine().push(script(content_type, events));
        let reply = chain.ask(&stream_body("", usage)).await;
        let expected = expected(events, usage_event.filter(|_| !usage));
        check_digest(&reply, &expected);
        assert_eq!(texts(&reply.arrivals), texts(&expected), "usage asked: {usage}");
        assert_eq!(reply.headers["content-type"], content_type);
        assert!(!reply.headers.contains_key("x-engine"));
    }
    for record in chain.engine().requests() {
        let body = String::from_utf8_lossy(&record.body);
        assert!(body.contains("\"include_usage\":true"), "usage is always asked of the engine: {body}");
    }
}

fn check_digest(reply: &Reply, expected: &BTreeMap<Duration, Vec<u8>>) {
    let sent: Vec<u8> = expected.values().flatten().copied().collect();
    assert_eq!(Sha256::digest(reply.body()), Sha256::digest(&sent), "{}", reply.text());
}

fn texts(arrivals: &BTreeMap<Duration, Vec<u8>>) -> Vec<(Duration, String)> {
    arrivals.iter().map(|(at, bytes)| (*at, String::from_utf8_lossy(bytes).into_owned())).collect()
}

/// Every read and write between the roles, and of the engine, moves a few bytes.
fn torn() -> Setup {
    let chunking = Chunking::Random { seed: 11, max: 7 };
    Setup { links: LinkOptions { chunking, ..LinkOptions::default() }, engine_reads: 5, ..Setup::default() }
}

#[tokio::test(start_paused = true)]
async fn sse_bytes_leave_as_the_engine_sent_them_event_by_event() {
    for setup in [Setup::default(), torn()] {
        let chain = setup.start().await;
        check(&chain, "text/event-stream", &SSE, Some(SSE_USAGE)).await;
        check(&chain, "text/event-stream; charset=utf-8", &SSE, Some(SSE_USAGE)).await;
    }
}

/// As the original's client does, lines of JSON leave with the usage among them, whether or not it was asked for.
#[tokio::test(start_paused = true)]
async fn ndjson_bytes_leave_as_the_engine_sent_them_line_by_line() {
    for setup in [Setup::default(), torn()] {
        let chain = setup.start().await;
        check(&chain, "application/x-ndjson", &NDJSON, None).await;
        check(&chain, "application/json", &NDJSON, None).await;
    }
}

/// Events that are cut in the middle, with pauses inside them, may wait for their other half, and no longer.
#[tokio::test(start_paused = true)]
async fn an_event_in_pieces_is_complete_when_its_last_piece_is_sent() {
    let pieces: Vec<String> = SSE.concat().chars().collect::<Vec<_>>().chunks(9).map(|c| c.iter().collect()).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    for (usage, setup) in [(true, torn()), (false, torn()), (false, Setup::default())] {
        let chain = setup.start().await;
        chain.engine().push(script("text/event-stream", &pieces));
        let reply = chain.ask(&stream_body("", usage)).await;
        let dropped = if usage { "" } else { SSE_USAGE };
        assert_eq!(reply.text(), SSE.concat().replace(dropped, ""), "usage asked: {usage}");
        let mut sent = String::new();
        for (piece, n) in pieces.iter().zip(1..) {
            sent.push_str(piece);
            let arrived: usize =
                reply.arrivals.range(..=Duration::from_millis(GAP_MS * n)).map(|(_, bytes)| bytes.len()).sum();
            let whole = sent.rfind("\n\n").max(sent.rfind("\r\n\r\n").map(|at| at + 2)).map_or(0, |at| at + 2);
            let due = if usage { sent.len() } else { sent[..whole].replace(dropped, "").len() };
            assert!((due..=sent.len()).contains(&arrived), "{arrived} of {due} bytes after piece {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_10_000_token_stream_arrives_whole() {
    let chain = Setup::default().start().await;
    for usage in [true, false] {
        chain.engine().push(Behaviour::Tokens {
            count: 10_000,
            delay_ms: 1,
            force_usage: true,
            ending: Ending::Finish,
        });
        let reply = chain.ask(&stream_body(r#""max_tokens":10000"#, usage)).await;
        let text = reply.text();
        assert_eq!(text.matches("data: ").count(), 10_000 + 3 + usize::from(usage));
        assert!((0..10_000).all(|n| text.contains(&format!("\" t{n}\""))) && text.ends_with("data: [DONE]\n\n"));
        assert_eq!(text.contains("\"completion_tokens\":10000"), usage);
        assert_eq!(reply.took, Duration::from_secs(10));
        assert_eq!(reply.arrivals.len(), 10_000 + usize::from(reply.arrivals.contains_key(&Duration::ZERO)));
    }
    chain.until_idle().await;
    assert_eq!(chain.charged(), 2 * (9 + 10_000));
    assert_eq!(chain.client.status().tokens_total, chain.charged());
    assert_eq!(chain.proxy.status().tally.held_bytes, 0);
}
