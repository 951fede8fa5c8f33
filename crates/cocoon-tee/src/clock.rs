//! Trusted time: what a TEE may believe of a clock that is its host's (attestation.md, section 9).
//!
//! 1. Never earlier than the build, a chain time that was proved, or a time seen before. The last one is kept in a file
//!    with a MAC under a key of the platform, so that a host which sets its clock back is noticed at the next start.
//! 2. Within five minutes of the chain's time, once that is known; between two blocks the monotonic clock carries it on.
//! 3. Otherwise the clock is **unreliable**: [`TrustedClock::check`] says why, and as a [`Clock`] it then says
//!    [`UNRELIABLE_NOW`], the far future, in which every certificate, revocation list, verdict and session key has
//!    expired. Whoever forgets to check refuses everything; nothing is accepted by mistake.
//!
//! What this does not do: without a chain it cannot notice a clock that is ahead, nor a host that puts back an older
//! file of the last time seen together with the older clock. Both need a witness outside of the host.
//!
//! [`TimeKeeper`] is the rule, without input or output; [`TrustedClock`] feeds it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cocoon_units::{Clock, UnixTime};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::files;
use crate::keys::{KEY_VERSION, KeyError, KeyProvider, purpose};
use crate::limits::{CLOCK_PERSIST_EVERY, CLOCK_SKEW_MAX_S};

/// What an unreliable clock says: the last second of the year 9999.
pub const UNRELIABLE_NOW: UnixTime = UnixTime::from_secs_f64(253_402_300_799.0);

/// How much slower than the monotonic clock the chain's time may run: more than any oscillator is wrong by.
const CHAIN_SLEW: f64 = 0.001;

/// Why the time cannot be believed, or not be kept.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The host's clock went back, or is wrong since the start.
    #[error(
        "the clock is unreliable: the host says {host_s:.0}, but {floor_s:.0} was already past ({source_of_floor}); set the host's clock"
    )]
    HostBehind {
        /// What the host says, in seconds since the Unix epoch.
        host_s: f64,
        /// What it cannot be before.
        floor_s: f64,
        /// How that is known.
        source_of_floor: Floor,
    },
    /// The host's clock and the chain's differ.
    #[error(
        "the clock is unreliable: the host says {host_s:.0}, the chain {chain_s:.0}, and they may differ by {CLOCK_SKEW_MAX_S} s; set the host's clock"
    )]
    ChainDiffers {
        /// What the host says, in seconds since the Unix epoch.
        host_s: f64,
        /// What the chain says, carried on to now.
        chain_s: f64,
    },
    /// The file of the last time seen is not what was written.
    #[error(
        "the file of the last time seen, {path}, is not what this node wrote: {why}; remove it only if you trust the host's clock"
    )]
    Tampered {
        /// Which.
        path: String,
        /// How.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("the file of the last time seen, {path}, cannot be used: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// There is no key for that file.
    #[error("there is no key to keep the last time seen with: {0}")]
    Key(String),
}

/// Where the earliest possible time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Floor {
    /// The program was built then.
    Build,
    /// This node saw that time before, in this run or an earlier one.
    Seen,
    /// The chain proved it.
    Chain,
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "this program was built then",
            Self::Seen => "this node saw that time before",
            Self::Chain => "the chain proved that time",
        })
    }
}

/// Both clocks of the host, read at the same moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostTime {
    /// Wall time, in seconds since the Unix epoch. The host sets it as it likes.
    pub unix_s: f64,
    /// Time since an arbitrary moment of this run; never goes back.
    pub monotonic: Duration,
}

/// The rule of trusted time, without any clock of its own.
#[derive(Debug, Clone)]
pub struct TimeKeeper {
    floor_s: f64,
    source_of_floor: Floor,
    /// Chain time, and the monotonic time at which it was heard.
    chain: Option<(f64, Duration)>,
}

impl TimeKeeper {
    /// A keeper that knows when the program was built, and the last time that an earlier run saw.
    #[must_use]
    pub fn new(build_unix_s: u64, seen_unix_s: Option<u64>) -> Self {
        let mut keeper = Self { floor_s: seconds(build_unix_s), source_of_floor: Floor::Build, chain: None };
        if let Some(seen) = seen_unix_s {
            keeper.raise(seconds(seen), Floor::Seen);
        }
        keeper
    }

    /// Takes a time that the chain proved. Such a proof says that this time has come, not that no later one has: a host
    /// that hands on blocks late cannot slow the chain's time by more than a thousandth.
    pub fn handle_chain_time(&mut self, chain_unix_s: u64, host: HostTime) {
        let chain_s = seconds(chain_unix_s);
        let anchor = match (self.chain, self.chain_now(host)) {
            (Some((_, heard)), Some(known)) => {
                let elapsed = host.monotonic.saturating_sub(heard).as_secs_f64();
                elapsed.mul_add(-CHAIN_SLEW, known).max(chain_s)
            }
            _ => chain_s,
        };
        self.chain = Some((anchor, host.monotonic));
        self.raise(chain_s, Floor::Chain);
    }

    /// The time now, if it can be believed.
    ///
    /// # Errors
    /// When the host's clock contradicts what is known.
    pub fn now(&mut self, host: HostTime) -> Result<f64, ClockError> {
        let (host_s, skew_s) = (host.unix_s, seconds(CLOCK_SKEW_MAX_S));
        if let Some(chain_s) = self.chain_now(host) {
            // A time that is not a number is near nothing.
            let is_near = (host_s - chain_s).abs() <= skew_s;
            if !is_near {
                return Err(ClockError::ChainDiffers { host_s, chain_s });
            }
        }
        let is_past_floor = host_s + skew_s >= self.floor_s;
        if !is_past_floor {
            return Err(ClockError::HostBehind {
                host_s,
                floor_s: self.floor_s,
                source_of_floor: self.source_of_floor,
            });
        }
        self.raise(host_s, Floor::Seen);
        Ok(self.floor_s)
    }

    /// Chain time carried on to now.
    fn chain_now(&self, host: HostTime) -> Option<f64> {
        self.chain.map(|(chain_s, heard)| chain_s + host.monotonic.saturating_sub(heard).as_secs_f64())
    }

    fn raise(&mut self, time_s: f64, source: Floor) {
        if time_s > self.floor_s {
            self.floor_s = time_s;
            self.source_of_floor = source;
        }
    }
}

/// Exact until the year 285 million.
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 have 34 bits; the fraction is what f64 is for")]
const fn seconds(unix_s: u64) -> f64 {
    unix_s as f64
}

/// The clock that everything in a TEE is given.
pub struct TrustedClock {
    host: Arc<dyn Clock>,
    started: Instant,
    keeper: Mutex<TimeKeeper>,
    store: Option<SeenTime>,
}

impl TrustedClock {
    /// A clock over the host's that keeps the last time seen in `path`, under a key of this provider.
    ///
    /// It succeeds with an unreliable clock too: ask [`check`](Self::check).
    ///
    /// # Errors
    /// When there is no key, or the file cannot be read or is not what this node wrote.
    pub fn open(
        host: Arc<dyn Clock>,
        build_unix_s: u64,
        path: impl Into<PathBuf>,
        keys: &dyn KeyProvider,
    ) -> Result<Self, ClockError> {
        let store = SeenTime::new(path.into(), keys).map_err(|error| ClockError::Key(error.to_string()))?;
        let keeper = TimeKeeper::new(build_unix_s, store.load()?);
        Ok(Self { store: Some(store), ..Self::with_keeper(host, keeper) })
    }

    /// A clock that remembers nothing over restarts: a host that sets its clock back is noticed only within a run.
    #[must_use]
    pub fn without_memory(host: Arc<dyn Clock>, build_unix_s: u64) -> Self {
        Self::with_keeper(host, TimeKeeper::new(build_unix_s, None))
    }

    fn with_keeper(host: Arc<dyn Clock>, keeper: TimeKeeper) -> Self {
        Self { host, started: Instant::now(), keeper: Mutex::new(keeper), store: None }
    }

    /// The time now, if it can be believed. Whoever starts to listen or dial asks first, for the message.
    ///
    /// # Errors
    /// When it cannot: the error says why and what to do.
    pub fn check(&self) -> Result<UnixTime, ClockError> {
        let host = self.host_time();
        self.with(|keeper| keeper.now(host)).map(UnixTime::from_secs_f64)
    }

    /// Takes a time that the chain **proved**, not one that somebody says the chain has.
    pub fn handle_chain_time(&self, chain_unix_s: u64) {
        let host = self.host_time();
        self.with(|keeper| keeper.handle_chain_time(chain_unix_s, host));
    }

    /// Writes the last time seen. A few milliseconds of disk: call it now and then, and at the end.
    ///
    /// # Errors
    /// When the clock is unreliable, or the file cannot be written.
    pub fn persist(&self) -> Result<(), ClockError> {
        let now = self.check()?;
        self.store.as_ref().map_or(Ok(()), |store| store.save(now))
    }

    /// Persists every [`CLOCK_PERSIST_EVERY`] until dropped. Run it beside the role.
    pub async fn keep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(CLOCK_PERSIST_EVERY);
        loop {
            ticks.tick().await;
            let clock = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || clock.persist()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the time is not kept"),
                Err(error) => tracing::error!(%error, "keeping the time failed"),
            }
        }
    }

    fn host_time(&self) -> HostTime {
        HostTime { unix_s: self.host.unix_now().as_secs_f64(), monotonic: self.started.elapsed() }
    }

    fn with<R>(&self, operation: impl FnOnce(&mut TimeKeeper) -> R) -> R {
        // The keeper is consistent after each of its operations, so a panic elsewhere does not spoil it.
        operation(&mut self.keeper.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for TrustedClock {
    fn unix_now(&self) -> UnixTime {
        self.check().unwrap_or(UNRELIABLE_NOW)
    }
}

impl fmt::Debug for TrustedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedClock").field("now", &self.check()).finish_non_exhaustive()
    }
}

/// The file of the last time seen: a magic word, seconds, and a MAC over both.
struct SeenTime {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

const SEEN_MAGIC: [u8; 8] = *b"cocoonT1";
const SEEN_BYTES: usize = 8 + 8 + 32;

impl SeenTime {
    fn new(path: PathBuf, keys: &dyn KeyProvider) -> Result<Self, KeyError> {
        Ok(Self { path, key: keys.derive(purpose::CLOCK, KEY_VERSION)? })
    }

    fn load(&self) -> Result<Option<u64>, ClockError> {
        let bytes = match files::read_bounded(&self.path, SEEN_BYTES as u64) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => return Err(self.tampered("too long")),
            Err(error) => return Err(self.failed(&error)),
        };
        let (Some((magic, rest)), true) = (bytes.split_first_chunk::<8>(), bytes.len() == SEEN_BYTES) else {
            return Err(self.tampered("too short"));
        };
        let (Some((time, tag)), true) = (rest.split_first_chunk::<8>(), *magic == SEEN_MAGIC) else {
            return Err(self.tampered("another format"));
        };
        let mut mac = self.mac();
        mac.update(magic);
        mac.update(time);
        mac.verify_slice(tag).map_err(|_| self.tampered("made with another key, or changed"))?;
        Ok(Some(u64::from_le_bytes(*time)))
    }

    fn save(&self, time: UnixTime) -> Result<(), ClockError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; a reliable time is positive"
        )]
        let time = (time.as_secs_f64() as u64).to_le_bytes();
        let mut mac = self.mac();
        mac.update(&SEEN_MAGIC);
        mac.update(&time);
        let bytes = [&SEEN_MAGIC[..], &time[..], &mac.finalize().into_bytes()[..]].concat();
        files::write_atomically(&self.path, &bytes).map_err(|error| self.failed(&error))
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.key.as_ref()).expect("HMAC takes a key of any length")
    }

    fn tampered(&self, why: &str) -> ClockError {
        ClockError::Tampered { path: shown(&self.path), why: why.into() }
    }

    fn failed(&self, error: &std::io::Error) -> ClockError {
        ClockError::File { path: shown(&self.path), why: error.to_string() }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::InsecureFileKeys;

    const BUILD: u64 = 1_700_000_000;
    const YEAR: u64 = 365 * 24 * 3600;

    fn host(unix_s: u64, monotonic_s: u64) -> HostTime {
        HostTime { unix_s: seconds(unix_s), monotonic: Duration::from_secs(monotonic_s) }
    }

    #[test]
    fn an_honest_host_is_believed() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        assert_eq!(keeper.now(host(BUILD + 10, 0)), Ok(seconds(BUILD + 10)));
        keeper.handle_chain_time(BUILD + 18, host(BUILD + 20, 10));
        assert_eq!(keeper.now(host(BUILD + 30, 20)), Ok(seconds(BUILD + 30)));
    }

    #[test]
    fn time_never_goes_back_and_a_small_correction_is_forgiven() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.now(host(BUILD + 1000, 0)).unwrap();
        assert_eq!(keeper.now(host(BUILD + 900, 1)), Ok(seconds(BUILD + 1000)), "held, not turned back");
        assert_eq!(keeper.now(host(BUILD + 1001, 200)), Ok(seconds(BUILD + 1001)));
    }

    #[test]
    fn host_clock_set_back_a_year_is_refused() {
        for (name, mut keeper) in [
            ("during a run", {
                let mut keeper = TimeKeeper::new(BUILD, None);
                keeper.now(host(BUILD + 2 * YEAR, 0)).unwrap();
                keeper
            }),
            ("over a restart", TimeKeeper::new(BUILD, Some(BUILD + 2 * YEAR))),
            ("before the build", TimeKeeper::new(BUILD + 2 * YEAR, None)),
        ] {
            let refused = keeper.now(host(BUILD + YEAR, 5));
            assert!(matches!(refused, Err(ClockError::HostBehind { .. })), "{name}: {refused:?}");
            assert!(keeper.now(host(BUILD + 2 * YEAR, 10)).is_ok(), "{name}: set right again");
        }
    }

    #[test]
    fn host_clock_away_from_the_chain_is_refused_in_both_directions() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.handle_chain_time(BUILD + 1000, host(BUILD + 1000, 0));
        assert!(keeper.now(host(BUILD + 1299, 0)).is_ok());
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.handle_chain_time(BUILD + 1000, host(BUILD + 1000, 0));
        for wrong in [BUILD + 1301, BUILD + 699, BUILD + YEAR] {
            assert!(matches!(keeper.now(host(wrong, 0)), Err(ClockError::ChainDiffers { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_jump_between_two_blocks_is_noticed_by_the_monotonic_clock() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.handle_chain_time(BUILD + 1000, host(BUILD + 1000, 0));
        assert!(keeper.now(host(BUILD + 4600, 3600)).is_ok(), "an hour later by both");
        assert!(matches!(keeper.now(host(BUILD + 8200, 3601)), Err(ClockError::ChainDiffers { .. })));
    }

    #[test]
    fn a_stale_proof_does_not_turn_the_chain_back() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.handle_chain_time(BUILD + YEAR, host(BUILD + YEAR, 0));
        keeper.handle_chain_time(BUILD + 1, host(BUILD + YEAR, 1));
        assert!(keeper.now(host(BUILD + YEAR, 2)).is_ok());
        assert!(keeper.now(host(BUILD + 1, 2)).is_err());
    }

    #[test]
    fn a_time_that_is_no_number_is_refused() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        for odd in [f64::NAN, f64::NEG_INFINITY] {
            assert!(keeper.now(HostTime { unix_s: odd, monotonic: Duration::ZERO }).is_err());
        }
    }

    #[test]
    fn blocks_handed_on_late_do_not_slow_the_chain() {
        let mut keeper = TimeKeeper::new(BUILD, None);
        keeper.handle_chain_time(BUILD, host(BUILD, 0));
        // Every 299 s the host shows a block that is 5 s younger than the last.
        for step in 1..100 {
            keeper.handle_chain_time(BUILD + 5 * step, host(BUILD + 5 * step, 299 * step));
        }
        assert!(keeper.now(host(BUILD + 5 * 99, 299 * 99)).is_err());
        assert!(keeper.now(host(BUILD + 299 * 99, 299 * 99)).is_ok());
    }

    /// A host whose clock tests set.
    #[derive(Debug)]
    struct Host(Mutex<u64>);

    impl Clock for Host {
        fn unix_now(&self) -> UnixTime {
            UnixTime::from_secs_f64(seconds(*self.0.lock().unwrap()))
        }
    }

    struct Node {
        _folder: tempfile::TempDir,
        path: PathBuf,
        keys: InsecureFileKeys,
        host: Arc<Host>,
    }

    impl Node {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let keys = InsecureFileKeys::open_or_create(folder.path().join("keys")).unwrap();
            let host = Arc::new(Host(Mutex::new(BUILD + 100)));
            Self { path: folder.path().join("seen"), _folder: folder, keys, host }
        }

        fn open(&self) -> Result<TrustedClock, ClockError> {
            TrustedClock::open(Arc::<Host>::clone(&self.host), BUILD, &self.path, &self.keys)
        }

        fn set(&self, unix_s: u64) {
            *self.host.0.lock().unwrap() = unix_s;
        }
    }

    #[test]
    fn host_clock_set_back_a_year_is_noticed_at_the_next_start() {
        let node = Node::new();
        node.set(BUILD + 2 * YEAR);
        node.open().unwrap().persist().unwrap();
        node.set(BUILD + YEAR);
        let clock = node.open().unwrap();
        assert!(matches!(clock.check(), Err(ClockError::HostBehind { source_of_floor: Floor::Seen, .. })));
        assert_eq!(clock.unix_now(), UNRELIABLE_NOW, "whoever does not check refuses everything");
        assert!(clock.persist().is_err(), "and nothing is written over what is known");
        node.set(BUILD + 2 * YEAR + 1);
        assert_eq!(clock.unix_now().as_secs_f64(), seconds(BUILD + 2 * YEAR + 1));
    }

    #[test]
    fn a_changed_or_foreign_file_of_the_last_time_is_refused() {
        let node = Node::new();
        node.open().unwrap().persist().unwrap();
        let honest = std::fs::read(&node.path).unwrap();
        for at in 0..honest.len() {
            let mut changed = honest.clone();
            changed[at] ^= 1;
            std::fs::write(&node.path, &changed).unwrap();
            assert!(matches!(node.open(), Err(ClockError::Tampered { .. })), "byte {at}");
        }
        for odd in [&honest[..honest.len() - 1], &[], &[0; 4096]] {
            std::fs::write(&node.path, odd).unwrap();
            assert!(matches!(node.open(), Err(ClockError::Tampered { .. })));
        }
        std::fs::write(&node.path, &honest).unwrap();
        let other = InsecureFileKeys::open_or_create(node.path.with_file_name("other")).unwrap();
        let host = Arc::<Host>::clone(&node.host);
        assert!(matches!(TrustedClock::open(host, BUILD, &node.path, &other), Err(ClockError::Tampered { .. })));
        assert!(node.open().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_kept_while_the_node_runs() {
        let node = Node::new();
        let clock = Arc::new(node.open().unwrap());
        let keeping = tokio::time::timeout(CLOCK_PERSIST_EVERY / 2, Arc::clone(&clock).keep());
        assert!(keeping.await.is_err(), "it keeps until it is dropped");
        node.set(BUILD);
        assert!(node.open().unwrap().check().is_ok(), "100 s back are within the allowed skew");
        assert_eq!(node.open().unwrap().unix_now().as_secs_f64(), seconds(BUILD + 100));
    }
}
