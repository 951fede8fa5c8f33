//! The proxies that a node keeps sessions with. They may change while it runs: the root contract registers them.
//!
//! Each has a number that stays its own: its place in a configuration, or its number in the registry. What stands
//! behind a number, an address or whom to expect there, may change; it counts from the next dial on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::transport::Dialer;

/// Dialers by number.
pub type Dialers = BTreeMap<u32, Arc<dyn Dialer>>;

/// A view of the proxies of the moment. Clones see the same.
#[derive(Clone)]
pub struct Directory {
    dialers: watch::Receiver<Dialers>,
}

impl Directory {
    /// One that somebody else changes, by the sender.
    #[must_use]
    pub const fn following(dialers: watch::Receiver<Dialers>) -> Self {
        Self { dialers }
    }

    /// Who has this number now.
    #[must_use]
    pub fn dialer(&self, number: u32) -> Option<Arc<dyn Dialer>> {
        self.dialers.borrow().get(&number).map(Arc::clone)
    }

    /// The numbers of the moment, in order. A change after this call ends the next [`changed`](Self::changed).
    pub fn look(&mut self) -> Vec<u32> {
        self.dialers.borrow_and_update().keys().copied().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dialers.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a change; for ever, where nobody can change it any more.
    pub async fn changed(&mut self) {
        if self.dialers.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A list that never changes, numbered from 0.
impl From<Vec<Arc<dyn Dialer>>> for Directory {
    fn from(list: Vec<Arc<dyn Dialer>>) -> Self {
        let (_, dialers) = watch::channel((0..).zip(list).collect());
        Self { dialers }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.dialers.borrow().iter()).finish()
    }
}
