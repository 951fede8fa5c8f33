//! Every bound of the client, with its reason.
//!
//! Values that an owner may change are defaults of [`crate::ClientConfig`]; the rest are constants.

use std::time::Duration;

use cocoon_units::Nano;

/// Bytes of one request body. A 1 MiB prompt must pass, with room for images as data URLs; an
/// original packet carries 16 MiB.
pub const BODY_BYTES_DEFAULT: usize = 8 << 20;

/// What the body limit can be raised to: one message of a connection is 16 MiB, and the envelope
/// and the fields that are added need some of it.
pub const BODY_BYTES_MAX: usize = 15 << 20;

/// Bytes of one form with files: the 25 MiB of one audio file that OpenAI takes, and the fields around it. An original
/// packet carries 16 MiB, so a larger one needs a proxy of ours.
pub const UPLOAD_BYTES_DEFAULT: usize = (25 << 20) + (64 << 10);

/// What that limit can be raised to: the envelope needs some of a connection's largest message.
pub const UPLOAD_BYTES_MAX: usize = cocoon_wire::limits::UPLOAD_BODY_MAX - (64 << 10);

/// Bytes of all request bodies that are being read, or wait for a proxy or the head of an answer; beyond it the app gets
/// 429. Without it the requests in flight could hold 32 GiB. A body is kept until the head comes, since it may have to go to
/// another proxy; where there is one proxy only, until it is sent.
pub const BODIES_BYTES_DEFAULT: usize = 512 << 20;

/// Bytes that a first buffer for a body is given before any arrived, whatever its length header
/// says: a peer must send bytes to make us hold bytes.
pub const BODY_PREALLOCATION: usize = 64 << 10;

/// Bytes of buffer on one HTTP/1 connection: bounds the request head, and how far the response may
/// run ahead of the socket.
pub const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// First read of a connection: the head and body of an ordinary request.
pub const FIRST_READ_BYTES: usize = 4 << 10;

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

/// Requests that the app gave up on and whose answers may still be on their way: all of one connection, when all apps
/// hang up at once. An answer to an older one is taken for an answer to an unknown request.
pub const CANCELLED_REMEMBERED: usize = REQUESTS_PER_PROXY;

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

/// What one open stream may take of memory: its connection's two buffers (8 KiB each, which hyper makes), the task that serves
/// it (2 KiB), the body of its answer (1 KiB), its receipt so far, its entries in tables, and what allocators round up. With
/// the proxy's and the worker's it is at most 32 KiB; `cargo xtask bench scale` measures it with 10,000 streams.
pub const STREAM_BYTES: usize = 23_040;

/// Requests in flight on one proxy connection: what the largest worker takes. How many there may be over all connections
/// is configured, and by default far less.
pub const REQUESTS_PER_PROXY: usize = 16_384;

/// Proxies that one request is sent to, one after the other: one that breaks whoever takes it breaks no more than these, and
/// each may cost.
pub const ATTEMPTS_MAX: usize = 3;

/// Failures of a proxy in a row that open its breaker: one or two may be chance, and cost a retry each.
pub const BREAKER_FAILURES: u32 = 3;

/// Requests of which half must have failed to open it though some succeed between them; a bit each in a word.
pub const BREAKER_WINDOW: u32 = 20;

/// How long a proxy is left alone first: about what a restart takes.
pub const BREAKER_PAUSE_FIRST: Duration = Duration::from_millis(500);

/// The longest such pause: a proxy that is mended waits no longer for its first request.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(30);

/// After this long without an outcome of the request that tries a proxy, another one may: engines may think for long.
pub const BREAKER_PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a proxy whose workers were all busy is avoided for a model, where it gave no advice.
pub const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The most of its advice that is taken: it was a guess.
pub const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Proxies whose troubles `/readyz` tells: it answers strangers on this host, and a probe reads little.
pub const DOUBTS_SHOWN: usize = 8;

/// After this time what was measured of a proxy counts half: one that was slow or failed is tried again within a minute.
pub const QUALITY_HALF_LIFE: Duration = Duration::from_secs(20);

/// Models, streamed and not, of which the quality is known for each proxy; each takes about 100 bytes.
pub const QUALITY_KINDS: usize = 128;

/// How often a link is looked at while requests wait on it. Several looks make a verdict, so that a pause of this process
/// counts as one.
pub const LIVENESS_LOOK: Duration = Duration::from_millis(100);

/// Looks without a byte from the proxy after which it is asked for a sign of life.
pub const LIVENESS_QUIET_LOOKS: u32 = 2;

/// How long it may take to give one, at least. With the looks before it, what has not begun leaves a silent proxy within
/// 0.8 s. A link with longer round trips gets four of them.
pub const LIVENESS_PATIENCE: Duration = Duration::from_millis(500);

/// The most that round trips add to it; they are measured by questions that a busy proxy answers late.
pub const LIVENESS_PATIENCE_MAX: Duration = Duration::from_secs(5);

/// The slowest uplink that a large request is given time for, in bytes a second: 1 Mbit/s. The question for a sign of life
/// waits behind what the system has buffered.
pub const LIVENESS_UPLINK_BYTES_PER_S: u64 = 128 << 10;

/// How often a request that waits on a silent proxy looks for another one.
pub const SILENT_LOOK: Duration = Duration::from_millis(100);

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

/// Requests of one account whose end is not known: those in flight to one proxy, and as many whose app hung up or that a
/// crash left. Beyond it no further one is sent, since each may have to be paid for.
pub const OPEN_REQUESTS_MAX: usize = 2 * REQUESTS_PER_PROXY;

/// After this long a request whose end was not heard is over at every node: the longest deadline, and a minute.
pub const OPEN_CERTAIN_S: u64 = 3600 + 60;

/// Days of usage that are kept, for a quarter's bill.
pub const USAGE_DAYS_KEPT: u64 = 92;

/// Lines of usage a day; further models are counted as `other`. A line takes 300 bytes in the file.
pub const USAGE_ROWS_PER_DAY: usize = 512;

/// Characters of a model's name in the usage.
pub const USAGE_MODEL_CHARS: usize = 128;

/// The budget's file is rewritten from this length on, which 40,000 requests reach, and at twice what it was then: under
/// load a rewrite holds requests up every minute or so, for as long as the disk needs for some megabytes.
pub const BUDGET_REWRITE_BYTES: u64 = 16 << 20;

/// The length at which nothing more is written to the budget's file, and so no request is sent: rewriting it must have
/// failed for long, and a file of twice this could not be opened.
pub const BUDGET_FILE_BYTES_MAX: u64 = cocoon_wal::limits::FILE_BYTES_MAX / 2;

/// How often the budget's file is brought to the disk: what a machine that dies can forget. The death of this process
/// alone forgets ends of [`ENDS_FLUSH_AFTER`], and no holds.
pub const BUDGET_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Characters of an API key's name.
pub const KEY_NAME_CHARS: usize = 64;

/// Advice to an app after 429, when the proxy gave none.
pub const RETRY_AFTER_BUSY: Duration = Duration::from_secs(1);

/// How long the end of a request and its receipt may wait for others, to be written with them: what the death of this
/// process can forget, and what the proxy is asked for again.
pub const ENDS_FLUSH_AFTER: Duration = Duration::from_millis(10);

/// Advice to an app after 503, when the proxy gave none: about the time of a reconnection.
pub const RETRY_AFTER_UNAVAILABLE: Duration = Duration::from_secs(2);

/// Receipts that are kept for apps, each about 2 KiB in memory and in the file; the oldest make room.
pub const RECEIPTS_KEPT: usize = 4096;

/// Bytes of the file of receipts that make a rewrite worth it: twice what is kept, and some.
pub const RECEIPTS_FILE_BYTES: u64 = 32 << 20;

/// Workers' documents in memory: as many workers as serve one client at a time.
pub const EVIDENCE_KEPT: usize = 256;

/// Bytes of them; one has tens of kilobytes, a megabyte at most.
pub const EVIDENCE_KEPT_BYTES: usize = 16 << 20;

/// Bytes of workers' documents in files. Whoever makes many valid ones fills this and no more; receipts that come
/// later are kept without theirs.
pub const EVIDENCE_FILES_BYTES: u64 = 256 << 20;

/// Bytes of a request body that are digested on the spot: a third of a millisecond at worst.
pub const DIGEST_INLINE_BYTES: usize = 128 << 10;

/// The oldest evidence that vouches for a receipt: proxies have workers attest again once a day at least, and a request
/// may have begun before that.
pub const EVIDENCE_AGE_MAX_S: u64 = 86_400 + 3_600 + 300;

/// How far a receipt's times may be from ours: five minutes, as attestation lets clocks be apart, and the longest request,
/// so that a clock that jumps meanwhile makes no liar of an honest worker. The id tells requests apart, not the time.
pub const RECEIPT_SKEW_MS: u64 = 300_000 + 3_600_000;

/// How long a receipt that is weighed in another way than the root says waits for the root to say so: several looks at
/// the chain.
pub const RECEIPT_NEWS_WAIT: Duration = Duration::from_secs(60);

/// Receipts that may wait for evidence to be fetched; further ones leave their holds open.
pub const RECEIPTS_UNCHECKED: usize = 1024;

/// Documents that are fetched at a time: one slow proxy must not keep the others' receipts waiting.
pub const RECEIPTS_CHECKED_AT_ONCE: usize = 16;

/// Documents that are fetched for the receipts in one answer on settled requests; the others wait for the next one, so
/// that a proxy that makes names up does not keep us busy.
pub const SETTLED_EVIDENCE_FETCHED: usize = 16;

/// A proxy that gives no evidence is asked again after each of these: the last answer may have been lost to a full queue.
pub const EVIDENCE_TRIES: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(2), Duration::ZERO];

/// How long an app that asks for a receipt waits for a verdict that is on its way.
pub const RECEIPT_WAIT: Duration = Duration::from_secs(3);

/// Advice to an app whose receipt is not there yet.
pub const RETRY_AFTER_PENDING: Duration = Duration::from_secs(1);

// The desk: what is done on chain.

/// How often a contract that serves is looked at when nothing says that it changed: a top-up is due within hours, not
/// seconds, and servers ration requests.
pub const DESK_LOOK: Duration = Duration::from_secs(30);

/// How often while something is being done: a contract that is deployed, or waits for its proxy.
pub const DESK_LOOK_BUSY: Duration = Duration::from_secs(2);

/// A handshake takes what was seen of a contract this long ago for how it stands; else it is looked at first.
pub const DESK_FRESH: Duration = Duration::from_secs(60);

/// How long a handshake waits for that look: connections are not held open for a deployment.
pub const DESK_ADMIT_WAIT: Duration = Duration::from_secs(5);

/// Pause after something failed that will not pass by itself, such as a message that a contract refuses; it doubles.
pub const DESK_PAUSE: Duration = Duration::from_secs(60);

/// The longest such pause.
pub const DESK_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// What a call carries for fees. Measured calls use at most 0.011 TON of it, and the contract asks for 0.1 and what
/// storage took meanwhile; the rest comes back (`contracts/GAS.md`).
pub const DESK_CALL_VALUE: Nano = Nano::new(300_000_000);

/// The same with the contract's code, which keeps 0.11 TON of it until it is closed.
pub const DESK_DEPLOY_VALUE: Nano = Nano::new(500_000_000);

/// What a top-up costs in all: 0.0081 TON were measured from a minimal wallet, a standard one takes 0.003 more.
pub const DESK_TOP_UP_FEE: Nano = Nano::new(12_000_000);

/// The most of a top-up that may go on fees. A smaller top-up is not made.
pub const TOP_UP_FEE_PERCENT_MAX: u32 = 2;

/// What a withdrawal costs in all; one that brings less is refused.
pub const DESK_WITHDRAW_FEE: Nano = Nano::new(13_000_000);

/// A closed contract keeps 0.01 TON for its storage. Above this, fetching what came since is worth its fees.
pub const DESK_SWEEP_MIN: Nano = Nano::new(60_000_000);

/// Messages that keep one contract usable, in one day of chain time. An ordinary day has one or two top-ups; this many
/// cost 0.3 TON. Above it, something makes this client pay fees.
pub const DESK_UPKEEP_MESSAGES_PER_DAY: u32 = 24;

/// How long a call waits for the message that left to come: two blocks, mostly.
pub const DESK_ARRIVAL_MAX: Duration = Duration::from_secs(60);

/// How often it looks.
pub const DESK_ARRIVAL_LOOK: Duration = Duration::from_secs(1);

/// Chain time after which a message of which nothing is known will not come: five externals of 90 s each, and some.
pub const DESK_LOST_AFTER_S: u32 = 900;

/// The same for one that the wallet's journal does not know: it never left, or it left before the journal's last entry.
pub const DESK_UNRECORDED_AFTER_S: u32 = 60;

/// Transactions of a contract that are read at a time.
pub const DESK_PAGE: usize = 64;

/// Pages that are read to find a message: beyond it, it counts as not come, until it is lost.
pub const DESK_PAGES_MAX: usize = 64;

/// Contracts of one wallet: one for each proxy and version of the parameters, until it is closed.
pub const DESK_CONTRACTS_MAX: usize = 1_024;

/// Bytes of the list of contracts: this many entries of some 500 bytes.
pub const DESK_BOOK_BYTES_MAX: u64 = 1 << 20;

/// A funded proxy without a session for this long gives its place to another: a restart takes seconds, an update of the
/// image minutes.
pub const DESK_SEAT_LOST: Duration = Duration::from_secs(600);

/// At most this many times `max_funded_proxies` contracts hold money, however often proxies come and go.
pub const DESK_SPREAD_MAX: usize = 2;

/// After a change of parameters a proxy has this long, in chain time, to settle the old contract by itself, which costs
/// this client nothing; then it asks for the refund.
pub const DESK_OLD_CONTRACT_S: u32 = 600;

/// How long a proxy may take to sign a refund: its requests in flight, and a commit that covers that this client leaves. By
/// default that is begun within a minute, and what was begun just before has to be seen on chain first.
pub const DESK_GRANT_WAIT: Duration = Duration::from_secs(120);

/// Least pause between two registrations on chain for one proxy (long authorization): each costs 0.011 TON, and a proxy
/// decides how often it asks.
pub const REGISTER_PAUSE: Duration = Duration::from_secs(600);

/// How often a proxy is asked what became of requests whose end was not heard: after a hang-up it says so by itself, so
/// only what a lost connection left remains.
pub const UNHEARD_ASKED_EVERY: Duration = Duration::from_secs(15);

/// How long the proxy may take to see a registration, as in the original.
pub const REGISTER_WAIT: Duration = Duration::from_secs(300);

// Dialects: other APIs, translated here.

/// Bytes of one event of a chat stream that is translated. Ordinary ones have 300; a tool call whose arguments come in one
/// piece, or twenty alternatives of a token, have kilobytes.
pub const CHAT_EVENT_BYTES: usize = 1 << 20;

/// Bytes of text, arguments and probabilities of one answer that are kept for the documents and events that repeat them.
/// An answer of 100,000 tokens has half a megabyte.
pub const DIALECT_TEXT_BYTES: usize = 4 << 20;

/// Blocks of one answer: stretches of text or reasoning, and tool calls. Models think, speak and call a few times.
pub const DIALECT_BLOCKS: usize = 256;

/// Tool calls of one answer, as many as tools that OpenAI lets one request name.
pub const DIALECT_TOOL_CALLS: usize = 128;

/// Bytes of a tool call's name, and of its id.
pub const DIALECT_NAME_BYTES: usize = 1024;

/// Elements of one list of a request: items of a conversation, parts of a message, tools. A long agent's conversation has
/// thousands.
pub const DIALECT_ELEMENTS: usize = 32 << 10;

/// Bytes of a whole answer that is translated, which has to be held: its text, and some for probabilities of tokens. What is
/// beyond [`WHOLE_ANSWER_BYTES`] takes of the room for bodies.
pub const DIALECT_ANSWER_BYTES: usize = 8 << 20;

/// Members of a request's body, as many as the chat body may have.
pub const DIALECT_MEMBERS: usize = cocoon_wire::limits::JSON_MEMBERS_MAX;

/// Stop sequences of one request: apps have a few, and each is kept until the answer ends.
pub const DIALECT_STOP_SEQUENCES: usize = 64;

/// Bytes of an engine's words about an error that are passed on.
pub const DIALECT_ERROR_BYTES: usize = 1024;
