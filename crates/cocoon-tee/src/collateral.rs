//! Finding the vendors' endorsements: what evidence is judged by.
//!
//! ```text
//! verifier ──► CollateralCache ──► Vendors ──► Pccs (Intel) │ Kds (AMD)
//!                 │    └ memory, disk             or OfflineCollateral, Fallback
//! ```
//!
//! Nothing here is trusted or verified: collateral is signed, and the appraisal checks it. What is checked here is that
//! an answer is about what was asked, that it is readable, not expired and not older than what was seen before.

mod cache;
mod http;
mod intel;
mod kds;
mod offline;
mod pccs;
mod stored;
mod window;

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_attest::{Collateral, CollateralError, CollateralNeed, CollateralSource};

pub use cache::CollateralCache;
pub use http::ServiceUrlError;
pub use kds::Kds;
pub use offline::{OfflineCollateral, OfflineError};
pub use pccs::Pccs;

/// Sends each need to the service of its vendor.
#[derive(Debug, Default)]
pub struct Vendors {
    /// For TDX and SGX.
    pub intel: Option<Arc<dyn CollateralSource>>,
    /// For SEV-SNP.
    pub amd: Option<Arc<dyn CollateralSource>>,
}

#[async_trait]
impl CollateralSource for Vendors {
    async fn collateral(&self, need: &CollateralNeed, now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let source = match need {
            CollateralNeed::Intel { .. } => &self.intel,
            CollateralNeed::Amd { .. } => &self.amd,
            // A vendor that this program does not know yet.
            _ => &None,
        };
        source.as_ref().ok_or(CollateralError::NoSource)?.collateral(need, now_unix_s).await
    }
}

/// Asks one source after another; the first that has an answer wins. Without one, a source that was busy is what counts:
/// it might have had it.
#[derive(Debug, Default)]
pub struct Fallback(pub Vec<Arc<dyn CollateralSource>>);

#[async_trait]
impl CollateralSource for Fallback {
    async fn collateral(&self, need: &CollateralNeed, now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let mut refused = CollateralError::NoSource;
        for source in &self.0 {
            match source.collateral(need, now_unix_s).await {
                Ok(collateral) => return Ok(collateral),
                // A source that fails says more than one that is not configured.
                Err(CollateralError::NoSource) => {}
                Err(error) if !matches!(refused, CollateralError::Busy) => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }
}
