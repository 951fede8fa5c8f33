//! Bounds of the command line's own work. The roles keep theirs in their own crates.

#[cfg(any(feature = "dev", feature = "worker"))]
use std::time::Duration;

/// Longest configuration file read: a page of settings, not a data file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Characters of one text of a stranger that `attest` prints: a line or two, and no flood of the terminal.
#[cfg(feature = "attest")]
pub(crate) const ATTEST_TEXT_CHARS: usize = 200;

/// Events of a log that `attest show` prints: a boot of a measured image writes about fifty.
#[cfg(feature = "attest")]
pub(crate) const ATTEST_EVENTS_SHOWN: usize = 256;

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

/// Most workers `up` starts: beyond it the table, and the machine, stop being useful.
#[cfg(feature = "dev")]
pub(crate) const UP_WORKERS_MAX: u16 = 64;

/// `up` waits this long for its own roles to find each other on loopback.
#[cfg(feature = "dev")]
pub(crate) const UP_READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often `up` looks whether the roles have found each other.
#[cfg(feature = "dev")]
pub(crate) const UP_READY_POLL: Duration = Duration::from_millis(20);

/// After the first Ctrl-C, each role of `up` gets this long to finish what runs.
#[cfg(feature = "dev")]
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
