//! What can be wrong with a platform, as switches that tests and demonstrations turn while it runs.

use std::sync::{PoisonError, RwLock};

use cocoon_attest::facts::TcbStatus;

/// TCB evaluation number of a platform in order.
pub const TCB_EVALUATION_NUMBER: u32 = 17;

/// The state of a platform. The default is one in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// What the TCB info says of this platform's patch level. The two `TDRelaunchAdvised` are conclusions of a verifier,
    /// which no TCB info has: with them it is malformed.
    pub tcb_status: TcbStatus,
    /// When that level was current, in seconds since the Unix epoch; the default is the day the platform was made.
    pub tcb_level_date_unix_s: Option<u64>,
    /// Advisories that the TCB info lists for that level.
    pub advisories: Vec<String>,
    /// Of TCB info and QE identity: lower than what a verifier has seen is a roll-back.
    pub tcb_evaluation_number: u32,
    /// The PCK certificate is on its issuer's revocation list.
    pub pck_revoked: bool,
    /// The collateral service hands out collateral that ended a month ago.
    pub collateral_expired: bool,
    /// Guests run with the DEBUG attribute (TDX) or policy bit (SNP): the host reads their memory.
    pub debug_guest: bool,
    /// TDs run without SEPT_VE_DISABLE.
    pub sept_ve_disable_off: bool,
    /// Guests may be migrated: MIGRATABLE (TDX), MIGRATE_MA (SNP).
    pub migratable_guest: bool,
    /// Added to the clock that collateral is issued by.
    pub clock_offset_s: i64,
    /// GPUs are in DevTools mode: confidential computing with its memory open.
    pub gpu_devtools: bool,
    /// GPUs answer an old nonce, as a replayed report does.
    pub gpu_nonce_replayed: bool,
    /// The ASK, and with it every VCEK that it issued, is on the revocation list of the ARK.
    pub ask_revoked: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            tcb_status: TcbStatus::UpToDate,
            tcb_level_date_unix_s: None,
            advisories: Vec::new(),
            tcb_evaluation_number: TCB_EVALUATION_NUMBER,
            pck_revoked: false,
            collateral_expired: false,
            debug_guest: false,
            sept_ve_disable_off: false,
            migratable_guest: false,
            clock_offset_s: 0,
            gpu_devtools: false,
            gpu_nonce_replayed: false,
            ask_revoked: false,
        }
    }
}

/// The switches of one platform, shared by all its guests and services in this process.
#[derive(Debug, Default)]
pub struct FaultSwitches(RwLock<Faults>);

impl FaultSwitches {
    /// Turns switches; whatever is issued from now on is so.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Puts everything in order again.
    pub fn clear(&self) {
        self.set(|faults| *faults = Faults::default());
    }

    /// How they stand.
    #[must_use]
    pub fn snapshot(&self) -> Faults {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
