//! Every bound of the proxy, each with its reason.
//!
//! Bounds on bytes of one message are `cocoon_wire::limits`, on one connection `cocoon_net::limits`.

use std::time::Duration;

/// How many workers one request is tried on. Three rule out one bad worker and one bad moment; more
/// would spend the caller's deadline and the network's capacity on a request that breaks engines.
pub const ATTEMPTS_MAX: usize = 3;

/// Bytes of request bodies held while they wait or may be retried, all clients together.
/// Ten of the largest uploads, or a hundred thousand ordinary requests.
pub const HELD_BYTES_MAX: u64 = 256 << 20;

/// Requests up to this size are copied before they wait: as slices they would keep the whole buffer
/// that they were read into, 72 KiB each. Copying one costs less than decoding it.
pub const DETACHED_BYTES_MAX: usize = 16 << 10;

/// Cancellations remembered for requests that have not arrived, per client. A cancellation can
/// overtake only requests that are still in the connection's queue.
pub const EARLY_CANCELS_MAX: usize = 64;

/// How long a worker may take to report the usage of a cancelled request (extended profile), and how long after its
/// deadline a client waits for the end that names the cost: one of the original profile has no deadline of its own.
pub const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long a request of an original worker, which cannot be cancelled, keeps its slot after the
/// client gave up: the original's own default timeout is 120 s, shortened by two hops.
pub const UNCANCELLABLE_GRACE: Duration = Duration::from_secs(108);

/// Requests whose late answers are still tolerated on one worker connection, after the proxy stopped
/// waiting for them: all that it can have had, when their client leaves at once. Older ones are forgotten, and an answer
/// to them is a violation.
pub const ABANDONED_MAX: usize = 16_384;

/// Names of models that are remembered, served or not, so that "not now" differs from "never".
pub const MODELS_MAX: usize = 4_096;

/// What one open stream may take of memory: its entries in the tables of core, hub and two sessions. Its body is let go with
/// the answer's first bytes, and [`HELD_BYTES_MAX`] bounds all bodies. With the client's and the worker's it is at most
/// 32 KiB; `cargo xtask bench scale` measures it with 10,000 streams.
pub const STREAM_BYTES: usize = 3_072;

/// Concurrent requests that are believed of one worker, whatever it claims: a gateway in front of many engines has
/// 10,000 streams open.
pub const WORKER_SLOTS_MAX: u32 = 16_384;

/// A worker that failed is the last choice for this long, doubled per failure in a row.
pub const COOLDOWN_FIRST: Duration = Duration::from_secs(1);

/// Longest cooldown: a worker that was repaired is back within half a minute.
pub const COOLDOWN_MAX: Duration = Duration::from_secs(30);

/// What a request is expected to take before any was measured.
pub const SERVICE_TIME_DEFAULT: Duration = Duration::from_secs(1);

/// Bounds of the retry advice: under a second is a busy loop, over half a minute is a guess.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// See [`RETRY_AFTER_MIN`].
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Bytes of answers that one stream may lag on a leg without credit (wire.md, section 6), and that
/// the proxy holds for a client whose credit is used up while an original worker goes on sending.
pub const LAG_BYTES_MAX: usize = 4 << 20;

/// Events that wait for the core; sessions that produce more wait themselves. At 2 µs an event the
/// last of them is handled within 2 ms.
pub const EVENTS_MAX: usize = 1_024;

/// From the beginning of one batch of the journal to that of the next, at least: 200 syncs a second, each for all that ended
/// meanwhile. It is also what a crash can forget beyond the batch that is being written, and workers' receipts bring back.
pub const JOURNAL_PAUSE: Duration = Duration::from_millis(5);

/// Events handled before their effects are published and other tasks run.
pub const EVENTS_BATCH_MAX: usize = 128;

/// Commands that wait for one worker's session beyond three a slot (run, cancel, payment): room for
/// the bursts between two wake-ups. A session that falls further behind is stuck.
pub const COMMANDS_EXTRA: usize = 64;

/// From an open connection to the end of its Cocoon handshake.
pub const SESSION_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest message of a peer that has not finished its handshake. Names, addresses and secrets fit; a
/// thousand strangers hold 4 MiB with it. (A handover of what the proxy lost may be longer.)
pub const HANDSHAKE_MESSAGE_MAX: usize = 4 << 10;

/// How long a drain waits for running requests when the configuration does not say.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long sessions may take to write out their last answers after the drain.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(6);

const _: () = assert!(EVENTS_BATCH_MAX <= EVENTS_MAX);
const _: () = assert!(WORKER_SLOTS_MAX as usize <= ABANDONED_MAX);
const _: () = assert!(COOLDOWN_FIRST.as_secs() <= COOLDOWN_MAX.as_secs());

/// What holding an answer costs beside its body, so that a million empty ones are not free.
pub const HELD_ANSWER_OVERHEAD: usize = 512;

/// Bytes held for want of credit for all streams of one client connection: sixteen streams that
/// lag to their bound.
pub const HELD_PER_CLIENT_MAX: usize = 16 * LAG_BYTES_MAX;

/// The same for all clients together: four that lag to their bound. Only answers of original workers
/// to extended clients are ever held, so this is a bound on a rarity.
pub const HELD_ANSWERS_MAX: usize = 4 * HELD_PER_CLIENT_MAX;

/// Most credit that a worker is ahead of its answer, and the most that one message can carry. What a
/// client gives beyond it is told to the worker when it gets there.
pub const CREDIT_AHEAD_MAX: u32 = i32::MAX.unsigned_abs();

/// How far a worker may overrun its credit before it is a violation: one part, because the part that
/// empties the credit may be cut at the part size instead of at the credit.
pub const CREDIT_SLACK: u64 = 64 << 10;

/// The least time between two warnings about refused peers, per listener: strangers could fill a log with them. A worker
/// that is refused tries again for as long as it runs, so one that was left out is told of soon.
pub const REFUSED_PEER_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long sessions of an old contract may go on, until nothing of them runs. The longest answers fit in; a client
/// that keeps asking is cut then, and asks again over its next session.
pub const LEAVING_TIMEOUT: Duration = Duration::from_secs(600);

/// Longest name of an account in a tag: a raw address has 66 characters. Two of them and the rest fit a tag.
pub const ACCOUNT_NAME_MAX: usize = 128;

/// Documents of evidence kept of workers that have left, or were attested again since, for clients that still check
/// receipts. (Each worker's session keeps one more.)
pub const EVIDENCE_DOCUMENTS_MAX: usize = 1_024;

/// Bytes of them, all together: a document has 20 to 200 KiB.
pub const EVIDENCE_BYTES_MAX: usize = 64 << 20;

/// How far a receipt's times may lie outside of the request's, by our clock: what attestation lets clocks be apart. A
/// client takes 65 minutes by its own clock, so what passes here passes there, though that is five minutes off, too.
pub const RECEIPT_SKEW_MS: u64 = 300_000;

/// The oldest evidence that a receipt is charged on: the longest time between two attestations, and the longest request.
/// A client takes five minutes more, so that none that is charged is too old for it.
pub const RECEIPT_EVIDENCE_AGE_MAX_S: u64 = 86_400 + 3_600;

/// How much later than the end of its receipt evidence may have been recorded, where a worker was attested again just
/// then. A client takes five minutes more.
pub const RECEIPT_EVIDENCE_AHEAD_MAX_S: u64 = 3_600;

/// How long long authorization waits for a client's message on the chain (wire.md, section 4), and a little for the
/// answer of the chain itself.
pub const LONG_AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(310);

/// How long a worker may take to hand over what the proxy lost: 256 chunks over a slow line.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(300);

/// Chunks of one handover. A crash loses what was counted since the last write to disk, seconds at most; 256 MiB of
/// receipts are a day of one worker.
pub const HANDOVER_CHUNKS_MAX: usize = 256;

/// Receipts of a handover verified before other tasks run: a tenth of a millisecond each.
pub const HANDOVER_VERIFIED_AT_ONCE: usize = 16;

/// Accounts that are not known and are looked up on the chain for one handover.
pub const HANDOVER_PAYERS_MAX: usize = 64;

/// How long the last entries of the books may take to be written when the proxy stops. A disk that needs longer is one
/// that does not write any more.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after a crash new requests can be kept out, whatever is configured and however long a worker hands over: what
/// a crash loses is seconds of work, handed over in as many.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether handovers that outlast the configured time are over: those that wait are told to come
/// back after a second.
pub const RECOVERY_LOOK: Duration = Duration::from_millis(250);

const _: () = assert!(RECOVERY_MAX.as_secs() <= HANDOVER_TIMEOUT.as_secs());

/// How long ago a request may have been sent whose receipt is handed over. Its client holds what a request can cost for a
/// minute longer, and may then have taken our word that it cost nothing.
pub const HANDED_OVER_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Questions about settled requests that wait for their requests to end, all clients together.
pub const SETTLED_QUESTIONS_MAX: usize = 1_024;

/// The same of one client: with 256 ids each, all requests that it can have had in flight.
pub const SETTLED_QUESTIONS_OF_CLIENT_MAX: usize = 4;

/// Wallets that peers named, kept beside their accounts: twice as many as the ledger has accounts, so that the rest is
/// thrown out seldom.
pub const OWNERS_MAX: usize = 400_000;
