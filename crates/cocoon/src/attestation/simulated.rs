//! The simulated platform of a folder, and a policy for each role that accepts it. For development only.
//!
//! Roles that share the folder share the platform, so that each accepts what the others show. What it shows proves
//! nothing about any machine, and its policies say so in their first line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cocoon_attest::policy::Mode;
use cocoon_attest::policy::template::{self, Images};
use cocoon_attest::{Attester, CollateralSource, Policy, Role};
use cocoon_simtee::{Platform, SimImage};
use cocoon_tee::NodeKeys;
use cocoon_units::Clock;

use super::{Lifetime, Node};
use crate::wiring;

/// A simulated platform and where its policies are.
#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    platform: Platform,
    folder: PathBuf,
}

impl Simulated {
    /// The platform of a folder, which is made if it is not there; its policies are written beside it.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::open_at(folder, wiring::clock())
    }

    /// The same, by another clock than this machine's.
    pub(crate) fn open_at(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let shown = folder.display();
        let platform = Platform::open(folder, clock)
            .with_context(|| format!("cannot use {shown} as the folder of a simulated TEE"))?;
        let simulated = Self { platform, folder: folder.to_owned() };
        for role in ROLES {
            let written = simulated.write_policy(role);
            written.with_context(|| format!("cannot write a policy into {shown}"))?;
        }
        Ok(simulated)
    }

    /// Its vendor's service.
    pub(crate) fn collateral(&self) -> Arc<dyn CollateralSource> {
        Arc::new(self.platform.collateral_source())
    }

    /// The platform itself.
    pub(crate) const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// What the image of a role shows here.
    pub(crate) fn attester(&self, role: Role) -> Arc<dyn Attester> {
        Arc::new(self.platform.td(SimImage::for_role(role)))
    }

    /// A node of a role, with the keys that the platform derives for this instance of its image.
    pub(crate) fn node(&self, role: Role, instance: &str, config_sha256: [u8; 32]) -> Result<Node> {
        let td = self.platform.td(SimImage::for_role(role));
        let keys = NodeKeys::derive(&td.sealing_keys(instance))?;
        Ok(Node { attester: Arc::new(td), keys, lifetime: Lifetime::Lasting, config_sha256, clock: None })
    }

    /// Where the policy of a role is.
    pub(crate) fn policy_path(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}-policy.toml", role.name()))
    }

    /// What a role accepts of its peers on this platform.
    pub(crate) fn policy(&self, role: Role) -> Result<Policy> {
        Ok(Policy::from_toml(&self.policy_text(role, Images::Of(&[image_of_peers(role)])))?)
    }

    /// The same, but of the images and models that a root contract lists.
    pub(crate) fn policy_by_root(&self, role: Role) -> Result<Policy> {
        Ok(Policy::from_toml(&self.policy_text(role, Images::ByRoot))?)
    }

    /// Clients use session keys, since they dial often; proxies and workers ask for fresh evidence each time.
    fn policy_text(&self, role: Role, images: Images<'_>) -> String {
        let mode = if role == Role::Client { Mode::SessionKey } else { Mode::Strict };
        template::simulated(&template::Simulated {
            name: &format!("simulated TEE, for a {}", role.name()),
            tdx_root_pem: Some(&self.platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images,
            roles: &[peers_of(role)],
            mode,
        })
    }

    /// Writes a policy for people to read and for other commands to use. It is this program's file: a policy of one's
    /// own goes by another name.
    fn write_policy(&self, role: Role) -> std::io::Result<()> {
        let (path, text) = (self.policy_path(role), self.policy_text(role, Images::Of(&[image_of_peers(role)])));
        if std::fs::read_to_string(&path).is_ok_and(|written| written == text) {
            return Ok(());
        }
        // Other roles of the same folder may start at this moment, and read it.
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &path)
    }
}

/// Whom a role asks for evidence.
const fn peers_of(role: Role) -> Role {
    match role {
        Role::Client | Role::Worker => Role::Proxy,
        Role::Proxy | _ => Role::Worker,
    }
}

/// SHA-256 of the manifest of what they run.
fn image_of_peers(role: Role) -> [u8; 32] {
    SimImage::for_role(peers_of(role)).manifest().sha256()
}

/// The roles that have a policy.
const ROLES: [Role; 3] = [Role::Client, Role::Proxy, Role::Worker];

/// Whether a folder holds a platform already.
#[cfg(feature = "attest")]
pub(crate) fn is_there(folder: &Path) -> bool {
    folder.join(PLATFORM).is_file()
}

/// What a platform keeps in its folder.
#[cfg(feature = "attest")]
const PLATFORM: &str = "platform.json";
