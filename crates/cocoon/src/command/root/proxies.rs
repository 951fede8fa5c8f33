//! `cocoon root proxies`: where the network's proxies are, and which contract and key each is pinned to.

use std::net::SocketAddrV4;

use anyhow::{Result, bail};
use clap::Subcommand;
use cocoon_ton::Address;
use cocoon_ton::contract::message::root::{RegisterProxy, UnregisterProxy, UpdateProxy};
use cocoon_ton::contract::{Pin, ProxyRecord};

use super::change::{Change, Timing};
use super::registry::Registry;
use crate::words::safe;

/// List the network's proxies, add one, change one, or remove one
///
/// Clients and workers find proxies here. With --contract and --payment-key a client also knows whom it pays before it
/// meets the proxy; nodes of the original pass over such an entry.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root proxies
  cocoon root proxies add --clients 203.0.113.7:443 --workers 203.0.113.7:8443
  cocoon root proxies add --clients 203.0.113.7:443 --contract EQ… --payment-key 5d41…
  cocoon root proxies update 3 --clients 203.0.113.8:443
  cocoon root proxies remove 3")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Add a proxy; the root gives it a number
    Add(Entry),
    /// Replace what the root says about a proxy
    Update {
        /// Its number
        #[arg(value_name = "NUMBER")]
        seqno: u32,
        #[command(flatten)]
        entry: Entry,
    },
    /// Remove proxies; several become one change
    Remove {
        /// Their numbers
        #[arg(value_name = "NUMBER", required = true)]
        seqnos: Vec<u32>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Entry {
    /// Where clients connect
    #[arg(long, value_name = "IP:PORT")]
    clients: SocketAddrV4,

    /// Where workers connect [default: where clients do]
    #[arg(long, value_name = "IP:PORT")]
    workers: Option<SocketAddrV4>,

    /// The proxy's contract
    #[arg(long, value_name = "ADDRESS", requires = "payment_key")]
    contract: Option<Address>,

    /// The key that signs the proxy's payments, 64 hexadecimal digits
    #[arg(long, value_name = "HEX", requires = "contract", value_parser = key)]
    payment_key: Option<PaymentKey>,
}

/// An Ed25519 public key.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaymentKey([u8; 32]);

fn key(text: &str) -> Result<PaymentKey, String> {
    super::images::hash(text).map(PaymentKey).ok_or_else(|| "a key is 64 hexadecimal digits".to_owned())
}

impl Entry {
    fn record(&self) -> Result<ProxyRecord> {
        let pinned = self.contract.zip(self.payment_key);
        let pinned = pinned.map(|(contract, PaymentKey(payment_key))| Pin { contract, payment_key });
        let workers = self.workers.unwrap_or(self.clients);
        Ok(ProxyRecord::new(&workers.to_string(), &self.clients.to_string(), pinned)?)
    }
}

/// What an action changes.
pub(super) fn changes(action: &Action, registry: &Registry) -> Result<Vec<Change>> {
    let listed = &registry.state.registered_proxies;
    let query_id = registry.query_id();
    let known = |seqno: u32| match listed.get(&seqno) {
        Some(record) => Ok(record),
        None => bail!("the root lists no proxy {seqno}; see `cocoon root proxies`"),
    };
    match action {
        Action::Add(entry) => {
            let record = entry.record()?;
            let words = format!("add a proxy, {}", told(&record));
            Ok(vec![change(words, RegisterProxy { query_id, proxy: record }.to_cell())])
        }
        Action::Update { seqno, entry } => {
            let (old, record) = (known(*seqno)?, entry.record()?);
            if *old == record {
                return Ok(Vec::new());
            }
            let words = format!("proxy {seqno} becomes {}", told(&record));
            Ok(vec![change(words, UpdateProxy { query_id, seqno: *seqno, proxy: record }.to_cell())])
        }
        Action::Remove { seqnos } => seqnos
            .iter()
            .map(|seqno| {
                let words = format!("remove proxy {seqno}, {}", told(known(*seqno)?));
                Ok(change(words, UnregisterProxy { query_id, seqno: *seqno }.to_cell()))
            })
            .collect(),
    }
}

fn change(words: String, body: cocoon_ton::Cell) -> Change {
    Change { words, body, timing: Timing::AtOnce }
}

/// An entry in words.
pub(super) fn told(record: &ProxyRecord) -> String {
    let (workers, clients) = (safe(record.workers()), safe(record.clients()));
    let place = if workers == clients { clients } else { format!("{clients} for clients, {workers} for workers") };
    match record.pinned() {
        Some(pin) => format!("{place}, pinned to the contract {}", pin.contract),
        None => place,
    }
}
