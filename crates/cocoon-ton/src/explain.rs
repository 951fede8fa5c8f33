//! State and transactions of Cocoon's contracts in words, for people.
//!
//! 1. [`recognise`] finds out which contract an account is: by the hash of its code, among ours and those that a root
//!    publishes, else by the one layout that its data fits. Which of the two it was is said.
//! 2. [`state`] tells what the account holds and where it stands.
//! 3. [`transaction`] tells who asked for what, what came of it, and who paid whom.
//! 4. [`movements`] tells what a transaction did to the balance, piece by piece.
//!
//! The result is [`Line`]s, so that a terminal can align them. Nothing here decides anything: whoever acts reads the
//! typed state.

mod movement;
mod state;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;

use time::OffsetDateTime;
use tycho_types::cell::Cell;

use crate::address::Address;
use crate::contract::{
    ClientState, Params, ProxyState, RootState, StateError, StewardState, WalletState, WorkerState, codes,
};

pub use movement::{Movement, movements};
pub use state::state;
pub use transaction::transaction;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How far it is to the right: 0 for a fact, 1 for a part of the one before.
    pub depth: u8,
    /// What it is about.
    pub key: String,
    /// What it is.
    pub value: String,
}

impl Line {
    /// A fact.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { depth: 0, key: key.into(), value: value.into() }
    }

    /// A part of the fact before.
    pub fn part(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { depth: 1, ..Self::new(key, value) }
    }
}

/// One of the six contracts, and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contract {
    /// The root.
    Root(Box<RootState>),
    /// A proxy contract.
    Proxy(Box<ProxyState>),
    /// A client contract.
    Client(Box<ClientState>),
    /// A worker contract.
    Worker(Box<WorkerState>),
    /// A Cocoon wallet.
    Wallet(WalletState),
    /// A steward.
    Steward(StewardState),
}

/// How a contract was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// Its code is the one that this program was built with.
    OurCode,
    /// Its code is the one that the root publishes.
    RootsCode,
    /// Its data fits; its code is unknown, and may do anything.
    LayoutOnly,
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root(_) => "root",
            Self::Proxy(_) => "proxy contract",
            Self::Client(_) => "client contract",
            Self::Worker(_) => "worker contract",
            Self::Wallet(_) => "Cocoon wallet",
            Self::Steward(_) => "steward",
        })
    }
}

impl fmt::Display for Recognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OurCode => "code known to this program",
            Self::RootsCode => "code published by the root",
            Self::LayoutOnly => "unknown code, which may do anything; only the data fits",
        })
    }
}

type Parse = fn(&Cell) -> Result<Contract, StateError>;

const ROOT: Parse = |data| Ok(Contract::Root(Box::new(RootState::parse(data)?)));
const PROXY: Parse = |data| Ok(Contract::Proxy(Box::new(ProxyState::parse(data)?)));
const CLIENT: Parse = |data| Ok(Contract::Client(Box::new(ClientState::parse(data)?)));
const WORKER: Parse = |data| Ok(Contract::Worker(Box::new(WorkerState::parse(data)?)));
const WALLET: Parse = |data| Ok(Contract::Wallet(WalletState::parse(data)?));
const STEWARD: Parse = |data| Ok(Contract::Steward(StewardState::parse(data)?));

/// Which contract this is. `params` are a root's, when there is one at hand.
///
/// # Errors
///
/// When the code is known and the data does not fit it, or no layout fits.
pub fn recognise(code: &Cell, data: &Cell, params: Option<&Params>) -> Result<(Contract, Recognised), StateError> {
    let ours = codes();
    let published = params.and_then(|params| params.codes.as_ref());
    let known = [(&ours.root, ROOT), (&ours.wallet, WALLET), (&ours.steward, STEWARD)]
        .into_iter()
        .chain([(&ours.proxy, PROXY), (&ours.client, CLIENT), (&ours.worker, WORKER)])
        .map(|(code, parse)| (code, parse, Recognised::OurCode));
    let published = published
        .into_iter()
        .flat_map(|codes| [(&codes.proxy, PROXY), (&codes.client, CLIENT), (&codes.worker, WORKER)])
        .map(|(code, parse)| (code, parse, Recognised::RootsCode));
    let by_code = known.chain(published).find(|(known, ..)| known.repr_hash() == code.repr_hash());
    if let Some((_, parse, how)) = by_code {
        return Ok((parse(data)?, how));
    }
    // Exact ends and tags of addresses keep the layouts apart: no data fits two.
    let fits = [PROXY, CLIENT, WORKER, WALLET, STEWARD].into_iter().find_map(|parse| parse(data).ok());
    let contract = fits.map_or_else(|| ROOT(data), Ok)?;
    Ok((contract, Recognised::LayoutOnly))
}

/// What addresses are called: the parties of a contract, and whomever else the reader knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<Address, String>);

impl Names {
    /// The parties that a contract's state names.
    #[must_use]
    pub fn of(contract: &Contract) -> Self {
        let mut names = Self::default();
        match contract {
            Contract::Root(root) => names.insert(root.owner, "owner"),
            Contract::Proxy(proxy) => {
                names.insert(proxy.owner, "owner");
                names.insert(proxy.root, "root");
            }
            Contract::Client(client) => {
                names.insert(client.owner, "owner");
                names.insert(client.proxy, "proxy contract");
            }
            Contract::Worker(worker) => {
                names.insert(worker.owner, "owner");
                names.insert(worker.proxy, "proxy contract");
            }
            Contract::Wallet(wallet) => names.insert(wallet.owner, "owner"),
            Contract::Steward(steward) => {
                names.insert(steward.owner, "owner");
                names.insert(steward.root, "root");
            }
        }
        names
    }

    /// Calls an address by a name.
    pub fn insert(&mut self, address: Address, name: impl Into<String>) {
        self.0.insert(address, name.into());
    }

    /// An address, with its name where it has one.
    #[must_use]
    pub fn show(&self, address: &Address) -> String {
        match self.0.get(address) {
            Some(name) => format!("{address} ({name})"),
            None => address.to_string(),
        }
    }
}

/// A time of the chain for people: `2026-11-23 07:00:00 UTC`.
#[must_use]
pub fn time(unix_s: u32) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_s.into()) {
        Ok(at) => format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second()),
        Err(_) => unix_s.to_string(),
    }
}

/// A duration for people: `1 d`, `2 h 30 min`, `45 s`.
#[must_use]
pub fn duration(seconds: u32) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let words: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}
