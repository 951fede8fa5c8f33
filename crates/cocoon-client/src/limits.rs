//! Every bound of the client, with its reason.
//!
//! Values that an owner may change are defaults of [`crate::ClientConfig`]; the rest are constants.

use std::time::Duration;

/// Bytes of one request body. A 1 MiB prompt must pass, with room for images as data URLs; an
/// original packet carries 16 MiB.
pub const BODY_BYTES_DEFAULT: usize = 8 << 20;

/// What the body limit can be raised to: one message of a connection is 16 MiB, and the envelope
/// and the fields that are added need some of it.
pub const BODY_BYTES_MAX: usize = 15 << 20;

/// Bytes of all request bodies that are being read or wait for a proxy; beyond it the app gets 429. Without it the
/// requests in flight could hold 32 GiB. Once sent, a body counts against its connection's queue instead.
pub const BODIES_BYTES_DEFAULT: usize = 512 << 20;

/// Bytes that a first buffer for a body is given before any arrived, whatever its length header
/// says: a peer must send bytes to make us hold bytes.
pub const BODY_PREALLOCATION: usize = 64 << 10;

/// Bytes of buffer on one HTTP/1 connection: bounds the request head, and how far the response may
/// run ahead of the socket.
pub const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// Bytes of headers on one HTTP/2 request: OpenAI SDKs send about 1 KiB.
pub const HTTP2_HEADER_BYTES: u32 = 16 << 10;

/// Requests in flight on one HTTP/2 connection.
pub const HTTP2_STREAMS: u32 = 256;

/// How long one HTTP/2 stream can live: the longest deadline, and a minute for each body. An app
/// that stops reading one stream of a connection it otherwise uses is cut off by nothing else.
pub const HTTP2_STREAM_LIFETIME: Duration = Duration::from_secs(3600 + 120);

/// How long an app may take no byte of what waits for it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// How often an idle HTTP/2 connection is asked whether it is alive, and how long it may think.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a request head may take to arrive, and an HTTP/1 connection may stay idle.
pub const HEADER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a request body may take to arrive in whole. 8 MiB in a minute is 140 kB/s.
pub const BODY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Open HTTP connections. One costs about 20 KiB when idle.
pub const CONNECTIONS_DEFAULT: usize = 1024;

/// Requests in flight over all connections; beyond it the app gets 429 at once. Each holds
/// one answer window; bodies have a bound of their own.
pub const REQUESTS_DEFAULT: usize = 4096;

/// How long shutdown waits for streams that are being answered.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Characters of a proxy's refusal that are logged: a sentence or two, and no flood of the log.
pub const PEER_TEXT_CHARS: usize = 200;

/// Pause after a failed `accept`, which means that descriptors ran out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The original client's request deadline.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// The longest deadline an app can ask for: a reservation is held for as long.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The original client's token limit for requests that name none.
pub const TOKENS_DEFAULT: u32 = 1000;

/// The original client's price cap, in thousandths.
pub const COEFFICIENT_DEFAULT: u32 = 4000;

/// What is left of a deadline after each hop to an original node, in percent.
pub const ORIGINAL_TIMEOUT_PERCENT: u32 = 95;

/// Answer bytes a proxy may send before the app has read any. At 64 KiB a part it keeps a link of
/// 100 Mbit/s and 20 ms busy.
pub const ANSWER_CREDIT: u32 = 256 << 10;

/// Credit is given back once this much was read: half the window, so that a fast app never waits
/// and grants stay two a window.
pub const ANSWER_GRANT: u32 = ANSWER_CREDIT / 2;

/// How far a peer may overrun its credit before it is a violation: one part, because the part that
/// empties the credit may be cut at the part size instead of the credit.
pub const ANSWER_CREDIT_SLACK: usize = cocoon_wire::limits::FRAGMENT_MAX;

/// How far an app may lag behind an original proxy, which knows no credit.
pub const ORIGINAL_LAG_BYTES: usize = 4 << 20;

/// Chunks that wait are copied together when they are smaller: a chunk pins a read buffer of 72 KiB, so at worst 18
/// times its own bytes.
pub const CHUNK_COPIED_BELOW: usize = 4 << 10;

/// How long such a copy may become before the next one is begun.
pub const CHUNK_JOINED_BYTES: usize = 64 << 10;

/// Bytes of a non-streamed answer that are held to learn the end times. A longer answer is passed
/// on as it comes, without them.
pub const WHOLE_ANSWER_BYTES: usize = 1 << 20;

/// Requests that the app gave up on and whose answers may still be on their way. An answer to an
/// older one is taken for an answer to an unknown request.
pub const CANCELLED_REMEMBERED: usize = 4096;

/// Appraisals of proxies that are kept for `/v1/attestation/{id}`. A document has at most 4 MiB and in practice 100 KiB,
/// and a proxy is appraised again every few minutes: the id of an answer lives for an hour or more.
pub const ATTESTATIONS_KEPT: usize = 64;

/// How often it is looked whether a proxy was appraised again: until then answers name the appraisal before, which is
/// kept too.
pub const ATTESTATION_LOOK: Duration = Duration::from_secs(10);

/// After news of the root, a proxy is dialled this much later: the policy and the list of proxies follow the root too.
pub const NEWS_SETTLE: Duration = Duration::from_millis(100);

/// A proxy that is no longer registered finishes its answers within this time, which the longest answers fit in.
pub const RETIRED_TIMEOUT: Duration = Duration::from_secs(600);

/// How often it is looked whether it has: nobody waits for that, but its connection.
pub const RETIRED_LOOK: Duration = Duration::from_millis(500);

/// Requests in flight on one proxy connection.
pub const REQUESTS_PER_PROXY: usize = 4096;

/// How long each step of the handshake with a proxy may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How often models and load are asked for, as the original does.
pub const MODELS_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How often they are asked for while there are none: a worker that has just come is seen soon.
pub const MODELS_POLL_EMPTY: Duration = Duration::from_millis(500);

/// An unknown model makes the client ask again when what it knows is older than this. Requests
/// cannot make it ask more often.
pub const MODELS_STALE: Duration = Duration::from_millis(250);

/// How long a poll may take.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a request for an unknown model waits for the answer to such a question.
pub const MODELS_REFRESH_WAIT: Duration = Duration::from_secs(5);

/// Models that one proxy may list: bounds `/v1/models` and the memory a proxy can take.
pub const MODELS_PER_PROXY: usize = 4096;

/// Models that are counted by name in the metrics; further ones are counted as `other`.
pub const MODELS_METERED: usize = 64;

/// Bytes of an `x-request-id` that is taken from the app.
pub const REQUEST_ID_BYTES: usize = 128;

/// Bytes of a `content-type` or `accept` that travels on.
pub const HEADER_VALUE_BYTES: usize = 256;

/// Advice to an app after 429, when the proxy gave none.
pub const RETRY_AFTER_BUSY: Duration = Duration::from_secs(1);

/// Advice to an app after 503, when the proxy gave none: about the time of a reconnection.
pub const RETRY_AFTER_UNAVAILABLE: Duration = Duration::from_secs(2);
