//! Whether a root that was read replaces the one that is known. Pure.

use super::{RootConfig, RootError};
use crate::chain::{Account, Status};
use crate::contract::RootState;

/// A good reading.
#[derive(Debug)]
pub(super) enum Judged {
    /// A higher version, or the first.
    Newer(Box<RootConfig>),
    /// What is known already.
    Same,
}

pub(super) fn judge(known: Option<&RootConfig>, account: Account, is_test: bool) -> Result<Judged, RootError> {
    let Account { address, status, data, at, .. } = account;
    let (Status::Active, Some(data)) = (status, data) else { return Err(RootError::NotThere(address)) };
    let state = RootState::parse(&data).map_err(|error| RootError::Unreadable { address, error })?;
    if state.params.is_test != is_test {
        return Err(RootError::TestMode { address, found: state.params.is_test });
    }
    let read = RootConfig { address, state, at };
    match known {
        None => Ok(Judged::Newer(Box::new(read))),
        Some(known) => succeed(&known.state, read),
    }
}

fn succeed(known: &RootState, read: RootConfig) -> Result<Judged, RootError> {
    let (address, found) = (read.address, &read.state);
    if found.params.unique_id != known.params.unique_id {
        let (known, found) = (known.params.unique_id, found.params.unique_id);
        return Err(RootError::AnotherNetwork { address, known, found });
    }
    if found.version > known.version {
        return Ok(Judged::Newer(Box::new(read)));
    }
    if found.version < known.version {
        return Err(RootError::Older { address, known: known.version, found: found.version });
    }
    if found != known {
        return Err(RootError::Conflicting { address, version: known.version });
    }
    Ok(Judged::Same)
}
