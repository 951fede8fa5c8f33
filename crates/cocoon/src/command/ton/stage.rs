//! A network in memory for the tests of commands: its blocks are made while a command waits, without any real time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use cocoon_ton::Address;
use cocoon_ton::devnet::{Devnet, Options};
use cocoon_ton::keys::{KeyFile, SigningKey};
use cocoon_ton::wallet::{Network, Wallet, WalletKind};
use cocoon_units::{FixedClock, Nano, UnixTime};
use tempfile::TempDir;
use tokio::time::sleep;

use super::Said;
use super::network::{Kind, Record, Session};

/// nanoTON in a TON.
pub(crate) const TON: u64 = 1_000_000_000;

/// A devnet, and a data folder.
pub(crate) struct Stage {
    pub(crate) devnet: Devnet,
    pub(crate) session: Session,
    folder: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let clock = FixedClock::at(UnixTime::from_secs_f64(1_800_000_000.0));
        let devnet = Devnet::memory(&Options { clock: Some(Arc::new(clock)), ..Options::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let session = Session {
            chain: Arc::new(devnet.clone()),
            endpoint: "http://127.0.0.1:8081".to_owned(),
            kind: Kind::Devnet,
            folder: folder.path().to_owned(),
            record: None,
        };
        Self { devnet, session, folder }
    }

    /// A path in the data folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The address of a wallet with a key file of this name, which is made of `seed`.
    pub(crate) fn wallet(&self, name: &str, seed: u8) -> Address {
        let key = SigningKey::from_bytes(&[seed; 32]);
        KeyFile::from_key(key.clone()).create(self.path(name).as_ref(), None).unwrap();
        Wallet::new(key, WalletKind::V5R1 { network: Network::TESTNET }).address()
    }

    /// Gives somebody money.
    pub(crate) async fn fund(&self, address: Address, ton: u64) {
        self.run(self.devnet.faucet(address, Nano::new(ton * TON))).await.unwrap();
    }

    /// Does something while the network makes blocks.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let blocks = async {
            loop {
                self.devnet.tick().await.unwrap();
                sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = blocks => unreachable!("blocks are made for ever"),
        }
    }

    /// Begins another command, which finds what the last one left.
    pub(crate) fn reopen(&mut self) {
        self.session.record = Record::read(self.folder.path()).unwrap();
    }
}

/// Arguments of a command as a person writes them.
pub(crate) fn parse<T: clap::Args>(line: &[&str]) -> Result<T, clap::Error> {
    #[derive(Parser)]
    struct Command<T: clap::Args> {
        #[command(flatten)]
        args: T,
    }
    Ok(Command::<T>::try_parse_from(std::iter::once(&"command").chain(line))?.args)
}

/// The words of a failure, with its causes.
pub(crate) fn refusal(outcome: Result<Said>) -> String {
    format!("{:#}", outcome.unwrap_err())
}
