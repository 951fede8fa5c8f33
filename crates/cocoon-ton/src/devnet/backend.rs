//! The devnet as a [`Chain`]: what it says is true, since this process runs it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tycho_types::cell::Cell;
use tycho_types::models::BlockchainConfig;

use super::Devnet;
use super::service::Service;
use crate::address::Address;
use crate::chain::{Account, Chain, ChainError, Head, Proof, Proved, Transaction, TxId};

#[async_trait]
impl Chain for Devnet {
    async fn head(&self) -> Result<Proved<Head>, ChainError> {
        self.service.head().map(local)
    }

    async fn account(&self, address: &Address) -> Result<Proved<Account>, ChainError> {
        self.service.account(address).map(local)
    }

    async fn transactions(
        &self,
        address: &Address,
        after: Option<TxId>,
        limit: usize,
    ) -> Result<Proved<Vec<Transaction>>, ChainError> {
        let address = *address;
        self.blocking(move |service| service.after(&address, after, limit)).await.map(local)
    }

    /// Answers once the message is in the file: it waits for a block then, also after a crash.
    async fn send(&self, message: &Cell) -> Result<[u8; 32], ChainError> {
        let place = self.service.enqueue(message.clone())?;
        if place.leads {
            // It goes on for the others when this future is dropped.
            self.blocking(Service::take_sends).await?;
        }
        place.answer.await.map_err(|_| ChainError::Stopped("the message was not taken".to_owned()))?
    }

    async fn subscribe(&self, address: &Address) -> Result<watch::Receiver<Option<TxId>>, ChainError> {
        self.service.subscribe(address)
    }

    async fn config(&self) -> Result<Proved<Arc<BlockchainConfig>>, ChainError> {
        Ok(local(self.service.config()))
    }
}

const fn local<T>(value: T) -> Proved<T> {
    Proved::new(value, Proof::Local)
}
