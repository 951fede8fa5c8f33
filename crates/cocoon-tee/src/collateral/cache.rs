//! A cache before a collateral service: in memory, and in a folder so that a node starts without the service.
//!
//! 1. What has not expired is handed out at once. Past half of its life it is fetched anew in the background.
//! 2. What has expired is never handed out, whatever the service says or fails to say.
//! 3. One fetch for each need at a time. It goes on when its caller is gone: strangers choose the needs, and a stranger
//!    that connects and hangs up must not start a fetch each time. A failure is remembered for half a minute. Whoever
//!    finds the line full hears that this cache is busy, and not that there is no collateral.
//! 4. An edition that is older than the one known (TCB evaluation number, issue dates, revocation lists) is refused, so
//!    that a service which was taken over or lags behind cannot bring back a patch level that was revoked. Removing the
//!    folder's files while the node is down forgets this.
//!
//! Files are replaced as a whole; one that cannot be read is fetched again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cocoon_attest::{Collateral, CollateralError, CollateralNeed, CollateralSource};
use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};
use tokio::task::JoinSet;

use super::stored::{Stored, file_name, need_text};
use crate::files;
use crate::limits::{
    CACHE_ENTRIES_MAX, CLOCK_SKEW_MAX_S, COLLATERAL_FILE_BYTES_MAX, FETCHES_MAX, FETCHES_QUEUED_MAX, REFRESH_RETRY_S,
    RETRY_AFTER_FAILURE_S,
};

/// The name of this cache in errors about what a source sent.
const SERVICE: &str = "collateral cache";

/// A cache. Dropping it ends its fetches. Must be used within a tokio runtime.
pub struct CollateralCache {
    inner: Arc<Inner>,
    fetches: Mutex<JoinSet<()>>,
}

struct Inner {
    source: Arc<dyn CollateralSource>,
    folder: Option<PathBuf>,
    slots: Mutex<Slots>,
    turns: Semaphore,
}

/// Slots by need, with the moment of their last use on a counter.
#[derive(Default)]
struct Slots {
    uses: u64,
    by_need: BTreeMap<CollateralNeed, (u64, Arc<Slot>)>,
}

/// What is known about one need.
#[derive(Default)]
struct Slot {
    /// Held by the one fetch.
    flight: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest edition seen, kept when it expires: the next one must not be older.
    newest: Option<Stored>,
    failed: Option<(u64, CollateralError)>,
    refresh_tried_unix_s: Option<u64>,
    file_was_read: bool,
}

impl CollateralCache {
    /// A cache before this source; with a folder, which is created where it is missing, it outlives a restart.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(source: Arc<dyn CollateralSource>, folder: Option<PathBuf>) -> io::Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)?;
        }
        let inner = Inner { source, folder, slots: Mutex::default(), turns: Semaphore::new(FETCHES_MAX) };
        Ok(Self { inner: Arc::new(inner), fetches: Mutex::default() })
    }

    /// The TCB evaluation number of the newest edition kept for this need, expired or not. The service said so; whether
    /// its signature holds is for an appraisal to see.
    #[must_use]
    pub fn evaluation_number(&self, need: &CollateralNeed) -> Option<u64> {
        let (_, slot) = locked(&self.inner.slots).by_need.get(need)?.clone();
        locked(&slot.state).newest.as_ref()?.edition.evaluation_number()
    }

    /// Starts the work of one need, which goes on without us; tells when it is done.
    fn start(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
        flight: OwnedMutexGuard<()>,
    ) -> Result<oneshot::Receiver<()>, CollateralError> {
        let (done, is_done) = oneshot::channel();
        let mut fetches = locked(&self.fetches);
        while fetches.try_join_next().is_some() {}
        if fetches.len() >= FETCHES_QUEUED_MAX {
            return Err(CollateralError::Busy);
        }
        fetches.spawn(async move {
            work.await;
            drop(flight);
            // Nobody may be waiting any more.
            let _ = done.send(());
        });
        Ok(is_done)
    }

    /// Fetches what is past half of its life, unless that is being done or was just tried.
    fn refresh_when_due(&self, need: &CollateralNeed, slot: &Arc<Slot>, now_unix_s: u64) {
        let Ok(flight) = Arc::clone(&slot.flight).try_lock_owned() else { return };
        if !slot.take_refresh_turn(now_unix_s) {
            return;
        }
        let (inner, need, slot) = (Arc::clone(&self.inner), need.clone(), Arc::clone(slot));
        // When too many wait, the next use will start it.
        drop(self.start(async move { inner.fetch(&need, &slot, now_unix_s).await }, flight));
    }
}

#[async_trait]
impl CollateralSource for CollateralCache {
    async fn collateral(&self, need: &CollateralNeed, now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let slot = self.inner.slot(need);
        if slot.fresh(now_unix_s).is_none() {
            let flight = Arc::clone(&slot.flight).lock_owned().await;
            // Whoever held it may have found an answer for us.
            if slot.answer(now_unix_s).is_none() {
                let (inner, need, slot) = (Arc::clone(&self.inner), need.clone(), Arc::clone(&slot));
                let work = async move { inner.load_or_fetch(&need, &slot, now_unix_s).await };
                // An error means that the task panicked or the runtime stops; there is no answer then.
                let _ = self.start(work, flight)?.await;
            }
        }
        let answer = slot.answer(now_unix_s).ok_or_else(|| failed("the fetch did not finish"))??;
        self.refresh_when_due(need, &slot, now_unix_s);
        Ok(answer)
    }
}

impl fmt::Debug for CollateralCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollateralCache")
            .field("source", &self.inner.source)
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The slot of a need; the least recently used one makes room, those without collateral first: strangers make up
    /// needs as they like, and must not push out what is known and what a roll-back is told by.
    fn slot(&self, need: &CollateralNeed) -> Arc<Slot> {
        let mut slots = locked(&self.slots);
        slots.uses = slots.uses.saturating_add(1);
        let uses = slots.uses;
        if let Some((used, slot)) = slots.by_need.get_mut(need) {
            *used = uses;
            return Arc::clone(slot);
        }
        if slots.by_need.len() >= CACHE_ENTRIES_MAX {
            let rank = |(used, slot): &(u64, Arc<Slot>)| (locked(&slot.state).newest.is_some(), *used);
            let oldest = slots.by_need.iter().min_by_key(|(_, entry)| rank(entry)).map(|(need, _)| need.clone());
            oldest.and_then(|need| slots.by_need.remove(&need));
        }
        let slot = Arc::<Slot>::default();
        slots.by_need.insert(need.clone(), (uses, Arc::clone(&slot)));
        slot
    }

    async fn load_or_fetch(&self, need: &CollateralNeed, slot: &Slot, now_unix_s: u64) {
        self.load(need, slot).await;
        if slot.fresh(now_unix_s).is_none() {
            self.fetch(need, slot, now_unix_s).await;
        }
    }

    /// Reads the need's file, once.
    async fn load(&self, need: &CollateralNeed, slot: &Slot) {
        let was_read = std::mem::replace(&mut locked(&slot.state).file_was_read, true);
        let (Some(folder), false) = (&self.folder, was_read) else { return };
        let path = folder.join(file_name(need));
        let wanted = need_text(need);
        let read = tokio::task::spawn_blocking(move || read_file(&path, &wanted)).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(stored) => locked(&slot.state).newest = stored,
            Err(why) => tracing::warn!(need = need_text(need), why, "a file of the collateral cache is fetched again"),
        }
    }

    /// Asks the source, and keeps the answer or the failure.
    async fn fetch(&self, need: &CollateralNeed, slot: &Slot, now_unix_s: u64) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let fetched = self.source.collateral(need, now_unix_s).await;
        match fetched.and_then(|collateral| slot.accept(collateral, now_unix_s)) {
            Ok(stored) => self.save(need, stored).await,
            Err(error) => {
                tracing::warn!(need = need_text(need), %error, "no new collateral");
                locked(&slot.state).failed = Some((now_unix_s, error));
            }
        }
    }

    /// Writes the need's file. A disk that fails costs the next start a fetch, nothing else.
    async fn save(&self, need: &CollateralNeed, stored: Stored) {
        let Some(folder) = self.folder.clone() else { return };
        let (path, bytes) = (folder.join(file_name(need)), stored.encode(need));
        let written = tokio::task::spawn_blocking(move || {
            files::write_atomically(&path, &bytes)?;
            remove_oldest(&folder)
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the collateral cache cannot write its folder"),
            Err(error) => tracing::error!(%error, "writing the collateral cache failed"),
        }
    }
}

impl Slot {
    /// What may be handed out now.
    fn fresh(&self, now_unix_s: u64) -> Option<Arc<Collateral>> {
        let state = locked(&self.state);
        let stored = state.newest.as_ref().filter(|stored| now_unix_s < stored.edition.expires_unix_s)?;
        Some(Arc::clone(&stored.collateral))
    }

    /// What may be handed out now, or why a moment ago there was nothing.
    fn answer(&self, now_unix_s: u64) -> Option<Result<Arc<Collateral>, CollateralError>> {
        self.fresh(now_unix_s).map(Ok).or_else(|| {
            let state = locked(&self.state);
            let (failed_unix_s, error) = state.failed.as_ref()?;
            is_within(*failed_unix_s, RETRY_AFTER_FAILURE_S, now_unix_s).then(|| Err(error.clone()))
        })
    }

    /// Whether a refresh is due; if so, the next one is not before [`REFRESH_RETRY_S`].
    fn take_refresh_turn(&self, now_unix_s: u64) -> bool {
        let mut state = locked(&self.state);
        let due = state
            .newest
            .as_ref()
            .is_some_and(|stored| now_unix_s >= stored.edition.refresh_unix_s(stored.fetched_unix_s));
        let tried = state.refresh_tried_unix_s.is_some_and(|tried| is_within(tried, REFRESH_RETRY_S, now_unix_s));
        if due && !tried {
            state.refresh_tried_unix_s = Some(now_unix_s);
        }
        due && !tried
    }

    /// Keeps what a source sent, if it is good for anything and not older than what we have.
    fn accept(&self, collateral: Arc<Collateral>, now_unix_s: u64) -> Result<Stored, CollateralError> {
        let stored = Stored::new(collateral, now_unix_s).map_err(malformed)?;
        let expires = stored.edition.expires_unix_s;
        if now_unix_s >= expires {
            return Err(malformed(format!("it expired at {expires}, and it is {now_unix_s}")));
        }
        let issued = stored.edition.issued_unix_s;
        if issued > now_unix_s.saturating_add(CLOCK_SKEW_MAX_S) {
            // Kept, its dates would make every genuine edition look older.
            return Err(malformed(format!("it was issued at {issued}, and it is {now_unix_s}")));
        }
        let mut state = locked(&self.state);
        if let Some(why) = state.newest.as_ref().and_then(|newest| newest.edition.rolled_back_by(&stored.edition)) {
            return Err(malformed(format!("it is older than what was seen before: {why}")));
        }
        state.newest = Some(stored.clone());
        state.failed = None;
        // A service that lags hands out what is past half of its life: asking again at once brings the same.
        state.refresh_tried_unix_s = Some(now_unix_s);
        Ok(stored)
    }
}

/// The file of a need, or `None` where there is none.
fn read_file(path: &Path, wanted: &str) -> Result<Option<Stored>, String> {
    let bytes = match files::read_bounded(path, COLLATERAL_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let (need, stored) = Stored::decode(&bytes)?;
    if need != wanted {
        return Err(format!("it is for {need:?}"));
    }
    Ok(Some(stored))
}

/// Bounds the folder: the file that was not written for longest goes.
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut written = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "json") {
            written.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let Some(excess) = written.len().checked_sub(CACHE_ENTRIES_MAX) else { return Ok(()) };
    written.sort();
    written.iter().take(excess).try_for_each(|(_, path)| std::fs::remove_file(path))
}

/// A clock that went back makes nothing recent.
fn is_within(then_unix_s: u64, seconds: u64, now_unix_s: u64) -> bool {
    now_unix_s.checked_sub(then_unix_s).is_some_and(|age| age < seconds)
}

fn failed(why: &str) -> CollateralError {
    CollateralError::Service { service: SERVICE.into(), why: why.into() }
}

fn malformed(why: String) -> CollateralError {
    CollateralError::Malformed { service: SERVICE.into(), why }
}

/// What these locks protect is consistent between statements, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
