//! Bounds of everything that is read from others, queued or waited for, each with its reason.

use std::time::Duration;

use cocoon_units::Nano;

/// Images, models or proxies in one list of the root. A network has tens; a root with this many in each takes a fraction
/// of a second to read.
pub const REGISTRY_ENTRIES_MAX: usize = 4_096;

/// Changes that wait in a steward. Each is made by its owner; reading this many takes well under a millisecond.
pub const PENDING_CHANGES_MAX: usize = 1_024;

/// Changes in one message to a steward; the contract refuses more (`BATCH_MAX` of `contracts/common/registry.tolk`).
pub const STEWARD_BATCH_MAX: usize = 32;

/// Messages in one message to a wallet: a cell has four references.
pub const WALLET_MESSAGES_MAX: usize = 4;

/// Bytes of the endpoints of a registered proxy. Two IPv4 endpoints take 43; this many fit the cell of a message.
pub const NET_ADDR_BYTES_MAX: usize = 110;

/// Messages out of one transaction. The network's own limit is 255.
pub const OUT_MESSAGES_MAX: usize = 256;

/// Bytes of a signed message on its way between nodes. Its two cells take about 200.
pub const SIGNED_BOC_BYTES_MAX: usize = 1_024;

/// Gas of a get-method. Liteservers allow the same; a method of ours takes some thousands.
pub const GET_METHOD_GAS_MAX: u64 = 1_000_000;

/// Values that a get-method may leave on its stack, counted within tuples too.
pub const GET_METHOD_VALUES_MAX: usize = 4_096;

/// How deep tuples of a get-method may nest.
pub const GET_METHOD_DEPTH_MAX: usize = 32;

/// Bytes of a comment that is shown to people.
pub const COMMENT_BYTES_MAX: usize = 1_024;

// Devnet: HTTP

/// Bytes of one request. The largest message of the network is 64 KiB, which is 90 KiB in base64; code and arguments of
/// a get-method fit beside it.
pub const HTTP_BODY_BYTES: usize = 1 << 20;
/// Requests at work at once; the next one is told to come back. Each holds at most its body and its answer.
pub const HTTP_REQUESTS: usize = 256;
/// Open connections, each a file descriptor and some 20 KiB; the next one waits in the operating system's queue.
pub const HTTP_CONNECTIONS: usize = 512;
/// How long a request may take, its body included: a block of an automatic devnet comes well within.
pub const HTTP_DEADLINE: Duration = Duration::from_secs(30);
/// How long requests at work may go on once the server stops.
pub const HTTP_DRAIN: Duration = Duration::from_secs(3);
/// Transactions of one answer where nothing is said, as of toncenter.
pub const HTTP_TRANSACTIONS_DEFAULT: usize = 10;
/// Transactions of one answer: a client that walks asks for 100 and one to know where it was. Each is 1 to 3 KiB.
pub const HTTP_TRANSACTIONS_MAX: usize = 256;
/// Characters in the name of a get-method.
pub const HTTP_METHOD_CHARS: usize = 128;
/// Values on the stack of a get-method, in either direction; the wider `params` of a contract has 14.
pub const HTTP_STACK_VALUES: usize = 1_024;
/// How deep tuples may lie in tuples: writing them recurses.
pub const HTTP_STACK_DEPTH: usize = 32;
/// Bytes of a comment that are shown as text; a longer one is shown as cells.
pub const HTTP_COMMENT_BYTES: usize = 16 << 10;
/// Characters in the name of a snapshot, which becomes the name of a file.
pub const HTTP_SNAPSHOT_NAME_CHARS: usize = 64;

// Devnet: engine

/// Transactions in one block. At 0.1 to 0.2 ms each a block stays below a quarter of a second, which is the longest that
/// a message waits to be accepted.
pub const BLOCK_TRANSACTIONS_MAX: usize = 1_000;
/// External messages that wait for a block. A sender that is told to come back loses nothing; one that fills memory does.
pub const EXTERNALS_PENDING_MAX: usize = 16_384;
/// Logical time between the starts of two blocks, as on the public network.
pub const BLOCK_LT_STEP: u64 = 1_000_000;
/// Cells of one external message. The network's own bound is by bytes; this one stops a small file that unfolds.
pub const EXTERNAL_CELLS_MAX: usize = 8_192;
/// Blocks that "until nothing is left to do" makes before it gives up: two contracts may answer each other for ever.
pub const SETTLE_BLOCKS_MAX: usize = 1_000;

// Devnet: store and service

/// Transactions kept in a devnet's file, the oldest are dropped first: about 3 GB.
pub const HISTORY_TRANSACTIONS_MAX: u64 = 2_000_000;
/// Transactions in one answer.
pub const TRANSACTIONS_ANSWER_MAX: usize = 1_024;
/// Accounts that are watched at a time; each costs one channel.
pub const SUBSCRIPTIONS_MAX: usize = 65_536;
/// Messages that wait for the writer. Each sender waits for its own, so this bounds senders, not throughput.
pub const SENDS_WAITING_MAX: usize = 4_096;
/// Messages whose arrival is made durable at once.
pub const SENDS_BATCH_MAX: usize = 512;
/// Bytes of the database's cache: a devnet is a guest on a developer's machine.
pub const STORE_CACHE_BYTES: usize = 64 << 20;
/// Without work, an automatic devnet still makes a block this often, so that its time is never far behind.
pub const IDLE_BLOCK_SECONDS: u64 = 5;
/// Blocks that the faucet makes until its money has arrived. Two do, when nothing else waits.
pub const FAUCET_BLOCKS_MAX: usize = 8;
/// Latest time that a devnet reaches, in the year 2100: contracts add their delays to it in 32 bits.
pub const UNIX_SECONDS_MAX: u64 = 4_102_444_800;
/// Furthest jump in time: ten years.
pub const ADVANCE_MAX_SECONDS: u64 = 10 * 365 * 86_400;

// Keys.

/// Lists of words that are drawn for one key: one in 256 is valid, so failing after this many means broken randomness.
pub const MNEMONIC_DRAWS_MAX: usize = 100_000;
/// Room for 24 words of at most eight letters and the spaces between.
pub const MNEMONIC_TEXT_BYTES_MAX: usize = 24 * 9;
/// A key file holds one key; the largest, sealed words with a password, is about 1 KiB.
pub const KEY_FILE_BYTES_MAX: usize = 16 << 10;
/// Memory of one guess of a passphrase: 64 MiB, what RFC 9106 (section 4) recommends where 2 GiB are too much.
pub const KEY_KDF_MEMORY_KIB: u32 = 64 << 10;
/// Passes over it, of the same recommendation.
pub const KEY_KDF_PASSES: u32 = 3;
/// One lane: it is computed on one thread here, and a thief's lanes would only help the thief.
pub const KEY_KDF_LANES: u32 = 1;
/// What a file may ask for at most: 1 GiB, so that parameters can grow without letting a file exhaust the machine.
pub const KEY_KDF_MEMORY_KIB_MAX: u32 = 1 << 20;
/// As above, in time.
pub const KEY_KDF_PASSES_MAX: u32 = 16;

// Wallets.

/// Callers that wait for one wallet. Each holds a few messages; beyond it they wait outside.
pub const WALLET_QUEUE_MAX: usize = 256;
/// How long an external may land, by chain time. Short, since nothing can be said of it before it landed or expired,
/// and long enough for a dozen resends; never above the 120 s that the network's wallets agreed on.
pub const WALLET_VALID_S: u32 = 90;
const _: () = assert!(WALLET_VALID_S <= 120);
/// How long after its expiry an external counts as possible. The block of a shard carries a time a little before that
/// of the masterchain block that brings it, and servers lag.
pub const WALLET_EXPIRY_MARGIN_S: u32 = 20;
/// How often the same external is handed in again: a copy costs nothing, and a node may have dropped the last one.
pub const WALLET_RESEND_EVERY: Duration = Duration::from_secs(5);
/// Externals that are made, one after the other, for one call. After five of 90 s each the network is not taking any.
pub const WALLET_ATTEMPTS_MAX: u32 = 5;
/// How long a chain may be silent before callers hear of it.
pub const WALLET_CHAIN_DOWN_MAX: Duration = Duration::from_secs(300);
/// The same while nothing was sent yet: saying no then is safe.
pub const WALLET_LOOK_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at a chain that does not answer.
pub const WALLET_LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Transactions that are read at a time when looking for our own.
pub const WALLET_PAGE: usize = 64;
/// Pages that are read before our own was found. The externals of one call live for ten minutes in all, mostly two;
/// that strangers should press 16,384 transactions on a wallet in them costs more than the wallet's silence is worth.
pub const WALLET_PAGES_MAX: usize = 256;
/// What an external itself costs, deployment included: 0.0025 TON were measured, 0.01 leaves room.
pub const WALLET_FEE_BASE: Nano = Nano::new(10_000_000);
/// What forwarding one message costs at most in practice: 0.006 TON for one that deploys a contract.
pub const WALLET_FEE_PER_MESSAGE: Nano = Nano::new(10_000_000);
/// A journal holds one external: at most 255 messages, each bounded by the network to 8192 cells in all.
pub const WALLET_JOURNAL_BYTES_MAX: u64 = 4 << 20;

// Toncenter.

/// One request, from connecting to the last byte. Servers answer within a second; a page of old history may take ten.
pub const TONCENTER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer: the network's configuration is the largest, about 1 MiB in base64.
pub const TONCENTER_BODY_BYTES_MAX: u64 = 8 << 20;
/// Bytes of an answer's headers.
pub const TONCENTER_HEADERS_BYTES_MAX: usize = 16 << 10;
/// Times that a read is asked before its caller hears of it.
pub const TONCENTER_READS_MAX: u32 = 4;
/// Pause before a read is asked again; it doubles each time.
pub const TONCENTER_BACKOFF: Duration = Duration::from_millis(500);
/// Characters of a server's error that we repeat.
pub const TONCENTER_WORDS_MAX: usize = 400;
/// Transactions in one answer: the API's own bound is 100.
pub const TONCENTER_PAGE: usize = 64;
/// Transactions that are walked back to what is known: an hour of the busiest contract.
pub const TONCENTER_WALK_MAX: usize = 16_384;
/// How often a subscribed account is asked for. Blocks come every few seconds, and requests are rationed.
pub const TONCENTER_POLL: Duration = Duration::from_secs(5);
/// Accounts that are polled at a time: more would use up any ration of requests.
pub const TONCENTER_SUBSCRIPTIONS_MAX: usize = 64;

// Following the root.

/// How often a root is read when nothing says that it changed: the original's interval.
pub const ROOT_POLL: Duration = Duration::from_secs(30);
/// Least pause between two readings, however often the root's account changes.
pub const ROOT_PAUSE: Duration = Duration::from_millis(200);
/// Readings that a start tries before it gives up, or begins with the cached root.
pub const ROOT_START_ATTEMPTS: u32 = 5;
/// Age at which a root decides nothing any more: the original's proxy stops there, too.
pub const ROOT_STALE_S: u32 = 7_200;
/// A cached root: the largest lists that are read are about 1 MiB in hexadecimal.
pub const ROOT_CACHE_BYTES_MAX: u64 = 4 << 20;
