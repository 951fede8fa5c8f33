//! The root's state: who belongs to the network, and on which terms.
//!
//! v3's to the bit. Nodes of the original refuse a root with one bit or reference more, and so do we; what is ours
//! (time lock, two-step ownership, events) is in the steward, which owns the root. There is no getter for the lists:
//! nodes read this state.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_units::Pricing;
use tycho_types::cell::{Cell, HashBytes};

use super::codec::{Reader, StateError, Writer};
use super::derive::StateInit;
use super::net_addr::ProxyRecord;
use super::params::Params;
use crate::address::Address;
use crate::limits::REGISTRY_ENTRIES_MAX;

const WHAT: &str = "state of the root";

/// The state of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootState {
    /// Who may change it: the steward.
    pub owner: Address,
    /// Counts its changes. Nodes accept only higher ones.
    pub version: u32,
    /// Images that may be proxies.
    pub proxy_hashes: BTreeSet<[u8; 32]>,
    /// Proxies that may be dialled, by number.
    pub registered_proxies: BTreeMap<u32, ProxyRecord>,
    /// Records that nobody can dial, by number, as they stand: an empty text, two spaces, more than fits. A v3 root lists
    /// whatever its owner tells it, and one odd record must not take the network down.
    pub odd_proxies: BTreeMap<u32, Cell>,
    /// The number that the latest registered proxy got.
    pub last_proxy_seqno: u32,
    /// Images that may be workers.
    pub worker_hashes: BTreeSet<[u8; 32]>,
    /// Models that may be served, as hashes of their full names.
    pub model_hashes: BTreeSet<[u8; 32]>,
    /// Prices, delays, stakes and codes.
    pub params: Params,
}

impl RootState {
    /// A root that allows nothing yet.
    #[must_use]
    pub const fn initial(owner: Address, params: Params) -> Self {
        Self {
            owner,
            version: 0,
            proxy_hashes: BTreeSet::new(),
            registered_proxies: BTreeMap::new(),
            odd_proxies: BTreeMap::new(),
            last_proxy_seqno: 0,
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            params,
        }
    }

    /// Reads the data of a root contract.
    ///
    /// # Errors
    ///
    /// When it is not v3's layout to the bit, its parameters lack codes, or a list is longer than
    /// [`REGISTRY_ENTRIES_MAX`].
    pub fn parse(data: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, data.as_ref())?;
        let owner = reader.get("owner")?;
        let version = reader.get("version")?;
        let mut registry = reader.nested("registry of the root", "registry")?;
        let params = Params::parse(&reader.get("parameters")?)?;
        params.codes()?;
        reader.end()?;
        let proxy_hashes = hashes(&mut registry, "proxy images")?;
        let (registered_proxies, odd_proxies) = proxies(&mut registry)?;
        let state = Self {
            owner,
            version,
            proxy_hashes,
            registered_proxies,
            odd_proxies,
            last_proxy_seqno: registry.get("last proxy number")?,
            worker_hashes: hashes(&mut registry, "worker images")?,
            model_hashes: hashes(&mut registry, "models")?,
            params,
        };
        registry.end()?;
        state.check_form(data)?;
        Ok(state)
    }

    /// A dictionary can be written in more than one way, and forks may hide bits that no reader of entries sees. There
    /// is one way in which the chain writes it.
    fn check_form(&self, data: &Cell) -> Result<(), StateError> {
        if self.to_cell() == *data {
            return Ok(());
        }
        let reason = "written in another way than the chain writes it";
        Err(StateError::Malformed { what: WHAT, field: "registry", reason })
    }

    /// The data cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let unit = |(): &()| Cell::default();
        let set = |hashes: &BTreeSet<[u8; 32]>| hashes.iter().map(|hash| (HashBytes(*hash), ())).collect::<Vec<_>>();
        let registry = Writer::new()
            .dict(set(&self.proxy_hashes), unit)
            .dict(self.proxy_leaves(), Cell::clone)
            .put(&self.last_proxy_seqno)
            .dict(set(&self.worker_hashes), unit)
            .dict(set(&self.model_hashes), unit)
            .cell();
        Writer::new().put(&self.owner).put(&self.version).put(&registry).put(&self.params.to_cell()).cell()
    }

    /// Leaves of all records. A number that has a record which can be dialled has no other.
    fn proxy_leaves(&self) -> BTreeMap<u32, Cell> {
        let mut leaves = self.odd_proxies.clone();
        leaves.extend(self.registered_proxies.iter().map(|(seqno, proxy)| (*seqno, Writer::new().put(proxy).cell())));
        leaves
    }

    /// What proxies charge by.
    #[must_use]
    pub const fn pricing(&self) -> Pricing {
        self.params.pricing()
    }

    /// Code and data to deploy it with.
    #[must_use]
    pub fn state_init(&self, code: Cell) -> StateInit {
        StateInit { code, data: self.to_cell() }
    }
}

fn hashes(reader: &mut Reader<'_>, field: &'static str) -> Result<BTreeSet<[u8; 32]>, StateError> {
    let entries: Vec<(HashBytes, ())> = reader.dict(field, REGISTRY_ENTRIES_MAX, |_| Ok(()))?;
    Ok(entries.into_iter().map(|(hash, ())| hash.0).collect())
}

type Proxies = (BTreeMap<u32, ProxyRecord>, BTreeMap<u32, Cell>);

/// The records that can be dialled, and the others.
fn proxies(reader: &mut Reader<'_>) -> Result<Proxies, StateError> {
    let field = "registered proxies";
    let (mut known, mut odd) = Proxies::default();
    for (seqno, listed) in reader.dict(field, REGISTRY_ENTRIES_MAX, |leaf| ProxyRecord::listed(leaf, field))? {
        match listed {
            Ok(record) => drop(known.insert(seqno, record)),
            Err(leaf) => drop(odd.insert(seqno, leaf)),
        }
    }
    Ok((known, odd))
}
