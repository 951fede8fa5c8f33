//! The devnet, of which parts can be made to fail.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use cocoon_ton::chain::{Account, Chain, ChainError, Head, Proved, Transaction, TxId};
use cocoon_ton::devnet::Devnet;
use cocoon_ton::{Address, Cell};
use tokio::sync::watch;
use tycho_types::models::BlockchainConfig;

#[derive(Debug, Clone)]
pub(super) struct Faulty {
    devnet: Devnet,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// Nobody answers questions of this account's state.
    pub(super) unreachable: Option<Address>,
    /// The server has thrown away the beginning of this account's history.
    pub(super) forgotten: Option<Address>,
    /// So many of the next waits for a change of this account panic.
    pub(super) panics: Option<(Address, u32)>,
}

impl Faulty {
    pub(super) fn new(devnet: Devnet) -> Self {
        Self { devnet, faults: Arc::default() }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }
}

#[async_trait]
impl Chain for Faulty {
    async fn head(&self) -> Result<Proved<Head>, ChainError> {
        self.devnet.head().await
    }

    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError> {
        if self.faults().unreachable == Some(*address) {
            return Err(ChainError::Unreachable { endpoint: "a test".to_owned(), reason: "it is made so".to_owned() });
        }
        self.devnet.account(address).await
    }

    async fn transactions(
        &self,
        address: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError> {
        if self.faults().forgotten == Some(*address) && after.is_none() {
            return Err(ChainError::Gap { address: *address, before_lt: 1 });
        }
        self.devnet.transactions(address, after, limit).await
    }

    async fn send(&self, message: &Cell) -> Result<[u8; 32], ChainError> {
        self.devnet.send(message).await
    }

    async fn subscribe(&self, address: &Address) -> Result<watch::Receiver<Option<TxId>>, ChainError> {
        let panics = match &mut self.faults().panics {
            Some((of, left)) if of == address && *left > 0 => {
                *left -= 1;
                true
            }
            Some(_) | None => false,
        };
        assert!(!panics, "a test asked for this panic");
        self.devnet.subscribe(address).await
    }

    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError> {
        self.devnet.config().await
    }
}
