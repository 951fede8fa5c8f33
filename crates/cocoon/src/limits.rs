//! Bounds of the command line's own work. The roles keep theirs in their own crates.

#[cfg(any(feature = "chain-tools", feature = "dev", feature = "worker"))]
use std::time::Duration;

/// Longest configuration file read: a page of settings, not a data file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Characters of one text of a stranger that is printed: a line or two, and no flood of the terminal.
#[cfg(any(feature = "attest", feature = "chain-tools"))]
pub(crate) const STRANGER_TEXT_CHARS: usize = 200;

/// Events of a log that `attest show` prints: a boot of a measured image writes about fifty.
#[cfg(feature = "attest")]
pub(crate) const ATTEST_EVENTS_SHOWN: usize = 256;

/// Longest answer that `receipt verify` compares: more than any model writes at once, log probabilities included.
#[cfg(feature = "attest")]
pub(crate) const RECEIPT_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Seconds between two looks at the root contract, as the original's nodes do it.
pub(crate) const ROOT_POLL_S_DEFAULT: u64 = 30;

/// Longest such time: a root that was not read for two hours counts for nothing, and one lost answer must not cost that.
pub(crate) const ROOT_POLL_S_MAX: u64 = 1_800;

/// Questions to a devnet in a second: it is on this machine, and a role asks few.
pub(crate) const DEVNET_REQUESTS_PER_SECOND: u32 = 50;

/// What toncenter allows a free key. Without one it is one a second.
pub(crate) const TONCENTER_REQUESTS_PER_SECOND_WITH_KEY: u32 = 10;

/// Most threads of a role: more than the largest machines have is a typing mistake.
pub(crate) const THREADS_MAX: usize = 1024;

/// What is not reached after this long is waited for, and the operator is told so.
#[cfg(any(feature = "dev", feature = "worker"))]
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How often `worker` looks whether what it told the operator is still so.
#[cfg(feature = "worker")]
pub(crate) const WATCH_POLL: Duration = Duration::from_millis(200);

/// How long a source of models may take to be found and reached; the next source is tried after it.
#[cfg(feature = "dev")]
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a source may think before the first byte of its answer, redirects aside.
#[cfg(feature = "dev")]
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// One attempt reads the body for this long; a slower link goes on with a ranged request where it stopped.
#[cfg(feature = "dev")]
pub(crate) const DOWNLOAD_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Attempts in a row that may bring nothing before a source counts as failed.
#[cfg(feature = "dev")]
pub(crate) const FRUITLESS_ATTEMPTS_MAX: u32 = 2;

/// Copy and hash buffer: large enough that system calls do not matter, small enough for any cache.
#[cfg(any(feature = "dev", feature = "engine-embedded"))]
pub(crate) const COPY_BUFFER_BYTES: usize = 1 << 18;

/// `chat` waits this long for the first byte: a full queue and a long prompt on a laptop fit in it.
#[cfg(feature = "dev")]
pub(crate) const CHAT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// `chat` reads one answer for at most this long.
#[cfg(feature = "dev")]
pub(crate) const CHAT_ANSWER_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Longest server-sent event line `chat` accepts; answers come in pieces of a few tokens.
#[cfg(feature = "dev")]
pub(crate) const CHAT_LINE_BYTES_MAX: u64 = 1 << 20;

/// Longest answer of `/readyz` that `chat` reads: three short fields.
#[cfg(feature = "dev")]
pub(crate) const CHAT_READY_BYTES_MAX: u64 = 4 << 10;

/// Longest prompt `chat` reads from standard input.
#[cfg(feature = "dev")]
pub(crate) const CHAT_STDIN_BYTES_MAX: u64 = 4 << 20;

/// Most proxies `up` starts: each stakes and settles on the devnet, and the client deposits with each.
#[cfg(feature = "dev")]
pub(crate) const UP_PROXIES_MAX: u16 = 8;

/// Most workers `up` starts: beyond it the table, and the machine, stop being useful.
#[cfg(feature = "dev")]
pub(crate) const UP_WORKERS_MAX: u16 = 64;

/// Between two blocks of the devnet of `up`: a start takes a handful, and nobody waits for them.
#[cfg(feature = "dev")]
pub(crate) const UP_BLOCK: Duration = Duration::from_millis(50);

/// How often the roles of `up` look at the root at least. A change is heard of at once; this is for a missed word.
#[cfg(feature = "dev")]
pub(crate) const UP_ROOT_POLL: Duration = Duration::from_secs(1);

/// What `up` sends to its devnet has come about after this time, or something is wrong.
#[cfg(feature = "dev")]
pub(crate) const UP_CHAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How often `up` looks whether an old contract can be closed.
#[cfg(feature = "dev")]
pub(crate) const UP_CHAIN_LOOK: Duration = Duration::from_secs(5);

/// How often it looks for the model of an engine that has not said which it serves: requests wait for that.
#[cfg(feature = "dev")]
pub(crate) const UP_MODEL_LOOK: Duration = Duration::from_millis(100);

/// `up` waits this long for its own roles to find each other on loopback.
#[cfg(feature = "dev")]
pub(crate) const UP_READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often `up` looks whether the roles have found each other.
#[cfg(feature = "dev")]
pub(crate) const UP_READY_POLL: Duration = Duration::from_millis(20);

/// After the first Ctrl-C, each role of `up` gets this long to finish what runs.
#[cfg(feature = "dev")]
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A message to a contract arrives within a few blocks, each some seconds; a shard under load takes longer.
#[cfg(feature = "chain-tools")]
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(120);

/// How often it is looked whether a message arrived: toncenter allows one request a second without a key.
#[cfg(feature = "chain-tools")]
pub(crate) const ARRIVAL_POLL: Duration = Duration::from_millis(1_500);

/// The same on a devnet, which makes blocks several times a second.
#[cfg(feature = "chain-tools")]
pub(crate) const ARRIVAL_POLL_DEVNET: Duration = Duration::from_millis(100);

/// Transactions read at a time while waiting for one.
#[cfg(feature = "chain-tools")]
pub(crate) const ARRIVAL_PAGE: usize = 32;

/// How long the faucet of a devnet may take: it answers once its transaction is final, which is a block or two.
#[cfg(feature = "chain-tools")]
pub(crate) const FAUCET_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer of a faucet that is read: one short JSON object.
#[cfg(feature = "chain-tools")]
pub(crate) const FAUCET_BYTES_MAX: u64 = 64 << 10;

/// Transactions of a history in one question: a server is walked from the end for each, so that few are better.
#[cfg(feature = "chain-tools")]
pub(crate) const HISTORY_PAGE: usize = 1_000;

/// Most transactions of a history that are shown.
#[cfg(feature = "chain-tools")]
pub(crate) const HISTORY_SHOWN_MAX: i64 = 1_000;

/// Most transactions that a statement tells: each costs up to a kilobyte of words.
#[cfg(feature = "chain-tools")]
pub(crate) const STATEMENT_TRANSACTIONS_MAX: usize = 100_000;

/// Longest comment of a payment: a cell of 127 bytes less the four that mark it as text.
#[cfg(feature = "chain-tools")]
pub(crate) const COMMENT_BYTES_MAX: usize = 123;

/// How long a command waits for another one that sends from the same wallet: as long as that may wait for a contract.
#[cfg(feature = "chain-tools")]
pub(crate) const WALLET_BUSY_TIMEOUT: Duration = ARRIVAL_TIMEOUT;

/// How often it is looked whether the other one is done.
#[cfg(feature = "chain-tools")]
pub(crate) const WALLET_BUSY_POLL: Duration = Duration::from_millis(100);

/// Between two looks at a contract that waits for its delay, which is hours.
#[cfg(feature = "chain-tools")]
pub(crate) const CLOSE_LOOK: Duration = Duration::from_secs(5);

/// How often a client's contract that is being closed is looked at: what it waits for takes a day, mostly.
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) const CLIENT_CLOSE_LOOK: Duration = Duration::from_secs(10);
/// Messages that close one contract: two, and one for what came later.
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) const CLIENT_CLOSE_STEPS_MAX: usize = 8;
/// How long a client on this machine may take to be reached.
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) const CLIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer of its `/readyz` that is read: some sentences.
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) const CLIENT_READY_BYTES_MAX: u64 = 16 << 10;
/// How long it may take to send what it was asked for: five externals of its wallet, at worst.
#[cfg(all(feature = "client", feature = "chain-tools"))]
pub(crate) const CLIENT_COMMAND_TIMEOUT: Duration = Duration::from_secs(600);
