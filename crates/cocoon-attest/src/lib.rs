//! Evidence of trusted execution environments and its appraisal. Pure: no input, output or clock; `now` is a parameter.
//!
//! The words are those of RFC 9334. An **attester** shows [`Evidence`]; a **verifier** appraises it against
//! [`Collateral`] (the vendor's endorsements) and its own [`Policy`], and gets a [`Verdict`] or a [`Refusal`].
//!
//! 1. [`evidence`]: what a platform says about itself, as bytes, and the parsers of each format.
//! 2. [`facts`]: what a signature under an accepted root proved, before any judgement.
//! 3. [`policy`]: the judgement, one check a file.
//! 4. [`appraise()`]: all of it, in the order of attestation.md section 4.4(4).
//! 5. [`binding`], [`claims`]: why evidence belongs to one live connection and to nothing else.
//! 6. [`document`]: an appraisal that was, as one JSON that anyone can check again offline.
//!
//! Not here: collecting evidence and collateral (`cocoon-tee`), the connection (`cocoon-net`), simulated platforms
//! (`cocoon-simtee`). The verifier has no branch for simulated evidence: it is told apart by its root, which is policy.

pub mod appraise;
pub mod binding;
pub mod claims;
pub mod collateral;
pub mod document;
pub mod evidence;
pub mod facts;
pub mod limits;
pub mod manifest;
pub mod policy;
pub mod provider;
mod refusal;
pub mod rim;
pub mod roots;
mod verdict;
pub mod verify;

pub use appraise::{Exhibit, Expected, appraise};
pub use binding::{Binding, ChannelBinding};
pub use claims::{Claims, ClaimsError, PublicKeys, Role};
pub use collateral::{Collateral, CollateralNeed, SnpCollateral, TdxCollateral};
pub use document::Document;
pub use evidence::{Evidence, Format, GpuEvidence, PlatformEvidence};
pub use facts::{GpuFacts, PlatformFacts, RootId};
pub use manifest::ImageManifest;
pub use policy::Policy;
pub use provider::{Attester, CollateralError, CollateralSource, EvidenceError};
pub use refusal::{Check, Refusal};
pub use verdict::{Provenance, Verdict};
