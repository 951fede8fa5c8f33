//! Every bound of the worker, each with its reason.

use std::time::Duration;

use cocoon_wire::limits::ANSWER_PART_MAX;

/// Longest time a request may take, whatever its caller asks: a day-long stream is a leak.
pub(crate) const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// How long one step of the session handshake may take; the proxy only looks things up.
pub(crate) const HANDSHAKE_STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// After news of the root, a proxy is dialled this much later: the policy and the list of proxies follow the root too.
pub(crate) const NEWS_SETTLE: Duration = Duration::from_millis(100);

/// Messages that may arrive before our side of the handshake is finished.
/// A proxy may send requests right behind its last handshake answer, and nothing before.
pub(crate) const EARLY_EVENTS_MAX: usize = 256;

/// Requests above its slots that a proxy may have in flight before it is refused: those that crossed
/// an answer's end on the way.
pub(crate) const SLOTS_SLACK: usize = 4;

/// Cancellations remembered for requests that have not arrived, per proxy. A cancellation can overtake
/// only requests that are still in the connection's queue.
pub(crate) const EARLY_CANCELS_MAX: usize = 64;

/// How long after a higher price was announced requests at the one before are still run: those that
/// crossed the announcement, on a link that is slow or behind.
pub(crate) const PRICE_GRACE: Duration = Duration::from_secs(10);

/// What one open stream may take of memory: the task that relays it, its engine's connection, which has no buffer
/// while it waits, its receipt so far, its entries in tables, and what allocators round up. With the client's and the
/// proxy's it is at most 32 KiB; `cargo xtask bench scale` measures it with 10,000 streams.
pub(crate) const STREAM_BYTES: usize = 6_656;

/// Slots one proxy is given at most, so that a mistyped configuration cannot exhaust memory: a gateway in front of many
/// engines has 10,000 streams open, each of which may take [`STREAM_BYTES`].
pub(crate) const SLOTS_MAX: u32 = 16_384;

/// Body bytes put into the first message of an answer that was not streamed; with its headers it
/// stays one answer part.
pub(crate) const WHOLE_ANSWER_MAX: usize = ANSWER_PART_MAX - HEAD_RESERVE;

/// Room for the envelope of a head: three short headers of ours and a content type.
const HEAD_RESERVE: usize = 1024;

/// Longest `content-type` or `accept` that travels on.
pub(crate) const MEDIA_TYPE_MAX: usize = 256;

/// How far an answer may lag behind on a leg without credit before it is ended (wire.md, section 6).
pub(crate) const LAG_BYTES_MAX: usize = 4 << 20;

/// Credit that may pile up for one answer; more is a proxy that does not subtract.
pub(crate) const CREDIT_MAX: i64 = 1 << 30;

/// Stream events beyond the token limit before the engine is taken to ignore the limit: the role,
/// finish, usage and end events, and whatever an engine adds for each choice.
pub(crate) const EVENTS_SLACK: u64 = 16;

/// Bytes of prompt text for one token, where an engine that was stopped has not counted: twice what tokenisers make of
/// English, and above what they make of other scripts.
pub(crate) const PROMPT_BYTES_PER_TOKEN: u64 = 8;

/// After an answer was given up, how long its engine is read on for the usage event, which comes last. An engine that is
/// done sends it at once; any other is stopped after the time of some tokens. Far below the time that a proxy waits for the
/// worker's last word (5 seconds).
pub(crate) const USAGE_GRACE: Duration = Duration::from_millis(250);

/// What is read and thrown away meanwhile: what sockets and pipes on this machine hold, which is thousands of tokens.
pub(crate) const USAGE_BYTES_MAX: usize = 1 << 20;

/// Advice to a proxy whose request found every slot taken.
pub(crate) const OVERLOADED_RETRY_MS: u32 = 1_000;

/// Advice while the engine loads its model, which takes seconds to minutes.
pub(crate) const LOADING_RETRY_MS: u32 = 5_000;

/// Between two looks at an engine that is not ready: a model that has just loaded is used within this.
pub(crate) const HEALTH_INTERVAL_UNREADY: Duration = Duration::from_millis(500);

/// Between two looks at an engine that is ready; requests notice a failure before that.
pub(crate) const HEALTH_INTERVAL_READY: Duration = Duration::from_secs(5);

/// How long one health check may take.
pub(crate) const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Failed checks in a row before a ready engine counts as failed: one may be an engine busy with a long prompt.
pub(crate) const HEALTH_FAILURES_MAX: u32 = 2;

/// Largest answer to a health check or model list.
pub(crate) const DISCOVERY_BYTES_MAX: usize = 1 << 20;

/// Models remembered of an engine's list.
pub(crate) const MODELS_MAX: usize = 1024;

/// Between two load reports; routing needs no finer view than a human does.
pub(crate) const LOAD_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Idle connections kept to the engine: as many as a busy worker's slots.
pub(crate) const POOL_IDLE_MAX: usize = 256;

/// Age at which an idle connection is not used again: below the usual keep-alive of servers
/// (uvicorn, under vLLM and SGLang, closes after 5 s).
pub(crate) const POOL_IDLE_AGE_MAX: Duration = Duration::from_secs(4);

/// Read of an engine's connection at once, into the stack: some dozens of events.
pub(crate) const ENGINE_READ_BYTES: usize = 16 << 10;

/// Bodies of requests to an engine that are copied behind their head, so that both leave in one write.
pub(crate) const ENGINE_JOINED_BYTES_MAX: usize = 16 << 10;

/// Longest head of an engine's answer; they have some hundred bytes.
pub(crate) const ENGINE_HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers in it; web servers add a dozen.
pub(crate) const ENGINE_HEADERS_MAX: usize = 64;

/// Bytes behind the length of a chunk, which nobody uses.
pub(crate) const ENGINE_EXTENSION_BYTES_MAX: usize = 1 << 10;

/// Bytes of headers behind the last chunk, which do not travel on.
pub(crate) const ENGINE_TRAILER_BYTES_MAX: usize = 8 << 10;

/// After shutdown began, running requests may take this long by default.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest body that the embedded engine tokenises on the event loop: under a millisecond.
#[cfg(feature = "engine-embedded")]
pub(crate) const EMBEDDED_INLINE_BYTES_MAX: usize = 16 << 10;

/// Most choices (`n`) of one request to the embedded engine; each is a sequence of its own.
#[cfg(feature = "engine-embedded")]
pub(crate) const EMBEDDED_CHOICES_MAX: u32 = 8;

/// Most functions that a request to the embedded engine may offer, as in the OpenAI API.
#[cfg(feature = "engine-embedded")]
pub(crate) const EMBEDDED_TOOLS_MAX: usize = 128;

/// Longest name of a function, as in the OpenAI API.
#[cfg(feature = "engine-embedded")]
pub(crate) const EMBEDDED_TOOL_NAME_MAX: usize = 64;

/// Vectors in one piece of an answer: some 40 kB of text, which is a part of an answer or two.
#[cfg(feature = "engine-embedded")]
pub(crate) const EMBEDDED_VECTORS_PER_PIECE: usize = 8;

const _: () = assert!(WHOLE_ANSWER_MAX < ANSWER_PART_MAX);

/// Receipts that are kept for one proxy: at its bound of 180 seconds unsigned, 150 requests a second for three minutes.
/// Beyond it the oldest go, which the proxy has counted long before.
pub(crate) const KEPT_RECEIPT_BYTES_MAX: usize = 32 << 20;

/// Receipts in one message of a handover; half of what the wire takes, since each comes with a few bytes of its own.
pub(crate) const HANDOVER_BYTES_MAX: usize = cocoon_wire::limits::OPAQUE_MAX / 2;

/// How long a proxy may take over one message of a handover: hundreds of signatures, and some looks at the chain.
pub(crate) const HANDOVER_STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Accounts that are kept: one for each proxy and each change of the network's parameters.
pub(crate) const ACCOUNTS_MAX: usize = 1024;

/// Spans between two tellings whose tokens wait for a payment, each with its own mark: half an hour of a proxy that tells
/// every half minute. The tokens of an older one wait with the next.
pub(crate) const UNSIGNED_SPANS_MAX: usize = 64;

/// How long a receipt may wait for others to be signed with: at 3,000 answers a second six share a signature, and what an
/// app waits for is two milliseconds later.
pub(crate) const SIGNING_WINDOW: Duration = Duration::from_millis(2);

/// Receipt ids remembered, to refuse one that comes again; two megabytes, and minutes of a busy worker. A proxy remembers
/// those that it settled for longer.
pub(crate) const RECEIPT_IDS_MAX: usize = 65_536;

/// Request body whose digest is made on the event loop: a tenth of a millisecond. Larger ones are digested beside it.
pub(crate) const DIGEST_INLINE_BYTES_MAX: usize = 64 << 10;

/// Length of the file of earnings above which receipts are only kept in memory: half of what is opened again.
pub(crate) const EARNINGS_FILE_BYTES_MAX: u64 = cocoon_wal::limits::FILE_BYTES_MAX / 2;

/// Records that wait while the file is synced or written anew, before receipts are only kept in memory: seconds of a busy
/// worker.
pub(crate) const WAITING_RECORDS_MAX: usize = 8_192;

/// How long a receipt may wait for others, to be written with them: what the death of this process can forget, of what its
/// proxy was told.
pub(crate) const RECEIPTS_FLUSH_AFTER: Duration = Duration::from_millis(10);

/// Between two syncs of the file. What a crash of the machine takes are receipts of the last seconds.
pub(crate) const KEEP_INTERVAL: Duration = Duration::from_secs(2);

/// A file of earnings below this is never rewritten; above it, once it has doubled.
pub(crate) const EARNINGS_REWRITE_BYTES: u64 = 1 << 20;

/// Between two looks for an errand that a command left.
pub(crate) const ERRAND_INTERVAL: Duration = Duration::from_secs(2);

/// Between two looks at contracts from which something is to be had; nothing there is in a hurry.
pub(crate) const CASH_INTERVAL: Duration = Duration::from_secs(60);

/// After something was sent to a contract, until it is decided anew: blocks must pass before the chain shows it.
pub(crate) const CASH_SETTLE: Duration = Duration::from_secs(60);

/// The longest wait after sends that changed nothing. Each costs a fee, so each doubles the wait.
pub(crate) const CASH_RETRY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(HANDOVER_BYTES_MAX < cocoon_wire::limits::OPAQUE_MAX);

/// How long something must have been worth cashing before it is: proxies pay out by the same rules, and who comes second
/// pays a fee for nothing.
pub(crate) const CASH_GRACE: Duration = Duration::from_secs(120);

// Whoever configures the most slots takes an eighth of a GiB with them.
const _: () = assert!(SLOTS_MAX as usize * STREAM_BYTES <= 128 << 20);
