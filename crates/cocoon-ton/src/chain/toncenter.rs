//! A chain over toncenter's HTTP API, version 2. Its answers are reported, not proved.
//!
//! 1. `http` asks: bounded, with a deadline, no faster than allowed, reads again when the server was busy.
//! 2. `answer` turns JSON into our types; a cell is read from its bytes, never from the server's words about it.
//! 3. Transactions are checked as far as anything can be: each must hash to what the one after it names, back to the
//!    one that the caller knows. What the account's *last* transaction is, only the server says; so everything here is
//!    [`Proof::Reported`], and a production policy refuses it for money.
//!
//! Get-methods of the server are never called ([`crate::get_method`] runs them here).

mod answer;
mod history;
mod http;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use tycho_types::models::BlockchainConfig;

use self::answer::destination;
use self::http::Http;
use super::{Account, Chain, ChainError, Head, Proof, Proved, Transaction, TxId};
use crate::address::Address;
use crate::keys::Secret;
use crate::limits::{TONCENTER_POLL, TONCENTER_SUBSCRIPTIONS_MAX};

pub use self::http::UrlError;

/// Whom to ask, and how often.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API's address with its path, `https://toncenter.com/api/v2`. Without TLS only on this machine.
    pub url: String,
    /// Sent as `X-API-Key`. Without one the public server answers about one request a second.
    pub api_key: Option<Secret>,
    /// How often we ask at most; at least one.
    pub requests_per_second: u32,
}

/// The client. Polling for its subscribers stops when it is dropped.
pub struct Toncenter {
    http: Arc<Http>,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    accounts: HashMap<Address, channel::Sender<Option<TxId>>>,
    pollers: JoinSet<()>,
}

impl Toncenter {
    /// A client. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`UrlError`] when the address is none, or would be asked without TLS over a network.
    pub fn new(config: Config) -> Result<Self, UrlError> {
        Ok(Self { http: Arc::new(Http::new(config)?), subscriptions: Mutex::default() })
    }
}

#[async_trait]
impl Chain for Toncenter {
    async fn head(&self) -> Result<Proved<Head>, ChainError> {
        // The API has no call that tells a block's time, but every account comes with that of its block. This one is
        // always there.
        let nobody = Address { workchain: -1, account: [0; 32] };
        self.account(&nobody).await.map(|account| account.map(|account| account.at))
    }

    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError> {
        Ok(Proved::new(self.http.account(address).await?, Proof::Reported))
    }

    async fn transactions(
        &self,
        address: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError> {
        Ok(Proved::new(history::after(&self.http, address, after, limit).await?, Proof::Reported))
    }

    async fn send(&self, message: &Cell) -> Result<[u8; 32], ChainError> {
        let to = destination(message)?;
        self.http.send(to, Boc::encode_base64(message)).await?;
        Ok(message.repr_hash().0)
    }

    async fn subscribe(&self, address: &Address) -> Result<channel::Receiver<Option<TxId>>, ChainError> {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let Subscriptions { accounts, pollers } = &mut *subscriptions;
        // Those that nobody listens to any more ended by themselves.
        accounts.retain(|_, sender| !sender.is_closed());
        while pollers.try_join_next().is_some() {}
        if accounts.len() >= TONCENTER_SUBSCRIPTIONS_MAX && !accounts.contains_key(address) {
            return Err(ChainError::RateLimited { endpoint: self.http.endpoint().to_owned() });
        }
        Ok(match accounts.entry(*address) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => {
                let (sender, receiver) = channel::channel(None);
                pollers.spawn(poll(Arc::clone(&self.http), *address, sender.clone()));
                entry.insert(sender);
                receiver
            }
        })
    }

    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError> {
        Ok(Proved::new(Arc::new(self.http.config().await?), Proof::Reported))
    }
}

/// Asks for an account while anybody listens. An answer that fails is only a late one.
async fn poll(http: Arc<Http>, address: Address, changes: channel::Sender<Option<TxId>>) {
    while !changes.is_closed() {
        if let Ok(account) = http.account(&address).await {
            changes.send_if_modified(|last| {
                let changed = *last != account.last;
                *last = account.last;
                changed
            });
        }
        sleep(TONCENTER_POLL).await;
    }
}

impl fmt::Debug for Toncenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toncenter").field("endpoint", &self.http.endpoint()).finish_non_exhaustive()
    }
}
