//! Connections to the engine that wait for their next request.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::connection::EngineConnection;
use crate::limits::{POOL_IDLE_AGE_MAX, POOL_IDLE_MAX};

/// Idle connections, the most recently used last.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<EngineConnection>>,
}

impl Pool {
    /// The connection that was used last and still works; older ones that do not are dropped.
    pub(super) fn take(&self) -> Option<EngineConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.idle_for() > POOL_IDLE_AGE_MAX {
                // Those below it have waited even longer.
                idle.clear();
            } else if connection.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn give(&self, mut connection: EngineConnection) {
        if !connection.is_usable() {
            return;
        }
        connection.rest();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < POOL_IDLE_MAX {
            idle.push(connection);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
