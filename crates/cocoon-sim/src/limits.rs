//! Bounds of the development engines, each with its reason.

use std::time::Duration;

/// Largest request head read: generous, because tests send hostile heads on purpose.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Largest request body read: above every limit of the roles, so that a role's limit is what a test hits.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Read buffer of one connection of the load generator: some events.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// What the system takes in for a connection that is not read.
pub(crate) const UNREAD_SOCKET_BYTES: u32 = 16 * 1024;

/// Bytes of one answer that does not stop by itself: far more than every buffer between engine and app.
pub(crate) const FLOOD_BYTES: usize = 16 << 20;

/// Requests remembered before the oldest is forgotten: a test suite looks at its own last few.
pub(crate) const RECORDS_MAX: usize = 4096;

/// Bytes of request bodies remembered in all; older bodies are emptied first.
pub(crate) const RECORDED_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Scripted behaviours waiting for a request.
pub(crate) const SCRIPT_QUEUE_MAX: usize = 4096;

/// Most tokens a generated stream may have.
pub(crate) const GENERATED_TOKENS_MAX: u32 = 1_000_000;

/// Most bytes of a generated binary answer.
pub(crate) const GENERATED_BYTES_MAX: usize = 64 << 20;

/// Buffer of an in-memory connection: small enough that back-pressure shows in tests.
pub(crate) const MEMORY_PIPE_BYTES: usize = 16 * 1024;

/// How long a slow answer (`sim:slow`) waits before each event.
pub(crate) const SLOW_EVENT_DELAY: Duration = Duration::from_millis(200);
