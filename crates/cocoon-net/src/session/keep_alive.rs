//! Whether the peer is still there: silence, pings and patience (wire.md, section 1).
//!
//! A dialer pings after 10 s without a byte and gives up after 20 s; a listener only listens, and gives up after 60 s.

use std::time::{Duration, Instant};

use crate::limits::{DIALER_SILENCE_MAX, LISTENER_SILENCE_MAX, PING_AFTER};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

/// What a passed deadline asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    GiveUp(Duration),
}

#[derive(Debug)]
pub(super) struct KeepAlive {
    side: Side,
    heard_at: Instant,
    pinged: bool,
}

impl KeepAlive {
    pub(super) fn new(side: Side, now: Instant) -> Self {
        Self { side, heard_at: now, pinged: false }
    }

    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pinged = false;
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    pub(super) fn deadline(&self) -> Instant {
        let patience = match (self.side, self.pinged) {
            (Side::Dialer, false) => PING_AFTER,
            (Side::Dialer, true) => DIALER_SILENCE_MAX,
            (Side::Listener, _) => LISTENER_SILENCE_MAX,
        };
        self.heard_at + patience
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let silence = now.saturating_duration_since(self.heard_at);
        let silence_max = match self.side {
            Side::Dialer => DIALER_SILENCE_MAX,
            Side::Listener => LISTENER_SILENCE_MAX,
        };
        if silence >= silence_max {
            return Due::GiveUp(silence_max);
        }
        if self.side == Side::Dialer && silence >= PING_AFTER && !self.pinged {
            self.pinged = true;
            return Due::Ping;
        }
        Due::Nothing
    }
}
