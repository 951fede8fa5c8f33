//! The devnet's time: the machine's, plus what was advanced, and never before the newest block.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cocoon_units::{Clock, UnixTime};

/// Time that only moves forward. Shared with whoever asks for a clock; it does not keep the devnet running.
pub(super) struct Timeline {
    machine: Arc<dyn Clock>,
    offset_ms: AtomicU64,
    head_s: AtomicU32,
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline").field("offset_ms", &self.offset_ms).field("head_s", &self.head_s).finish()
    }
}

impl Timeline {
    pub(super) fn new(machine: Arc<dyn Clock>, offset_ms: u64, head_s: u32) -> Self {
        Self { machine, offset_ms: AtomicU64::new(offset_ms), head_s: AtomicU32::new(head_s) }
    }

    /// Whole seconds, as blocks count them.
    pub(super) fn now_s(&self) -> u32 {
        whole_seconds(self.unix_now())
    }

    pub(super) fn offset_ms(&self) -> u64 {
        self.offset_ms.load(Ordering::Acquire)
    }

    pub(super) fn set_offset_ms(&self, offset_ms: u64) {
        self.offset_ms.store(offset_ms, Ordering::Release);
    }

    /// Says when the newest block was made.
    pub(super) fn reached(&self, head_s: u32) {
        self.head_s.fetch_max(head_s, Ordering::AcqRel);
    }
}

impl Clock for Timeline {
    fn unix_now(&self) -> UnixTime {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of some decades fit 53 bits")]
        let offset_s = self.offset_ms() as f64 / 1_000.0;
        let head_s = f64::from(self.head_s.load(Ordering::Acquire));
        UnixTime::from_secs_f64((self.machine.unix_now().as_secs_f64() + offset_s).max(head_s))
    }
}

/// Seconds as blocks hold them; what does not fit is the nearest that does.
pub(super) fn whole_seconds(time: UnixTime) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from float saturates")]
    let seconds = time.as_secs_f64() as u32;
    seconds
}
