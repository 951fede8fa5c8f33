//! The wallet of a command: opened, checked, used once, waited for.
//!
//! 1. [`WalletArgs::open`] reads the key file. The passphrase of a sealed one comes from a file or the environment.
//! 2. [`Opened::send`] refuses what the wallet cannot pay, then hands the messages to [`cocoon_ton::wallet::Sender`], which
//!    sees them through; its journal lies beside the key file, so that a command that was killed is not repeated by the
//!    next one without notice.
//! 3. [`arrival`] waits until a message reached a contract, and tells what became of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use cocoon_ton::Address;
use cocoon_ton::chain::{ChainPolicy, Message, MessageKind, Transaction, TxId};
use cocoon_ton::contract::exit;
use cocoon_ton::keys::{KeyFile, KeyFileError, Secret};
use cocoon_ton::wallet::{JournalError, Network, Outgoing, Sender, Wallet, WalletKind};
use tokio::time::{Instant, sleep};

use super::network::{Kind, Record, Session};
use super::words;
use crate::{config, environment, limits, terminal};

/// Which wallet acts.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WalletArgs {
    /// The wallet's key file [default: wallet.key in the data folder, else the wallet that `cocoon up` left there]
    #[arg(long, global = true, env = "COCOON_WALLET", value_name = "FILE")]
    pub(crate) wallet: Option<PathBuf>,

    /// A file whose first line is the key file's passphrase [default: $COCOON_WALLET_PASSPHRASE]
    #[arg(long, global = true, env = "COCOON_WALLET_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// The wallet's contract
    #[arg(long, global = true, value_enum, default_value_t = Contract::V5r1)]
    kind: Contract,

    /// Who may block a wallet of kind `cocoon`
    #[arg(long, global = true, value_name = "ADDRESS")]
    owner: Option<Address>,
}

/// The contracts a key can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contract {
    /// The standard one, which people's wallet programs use
    V5r1,
    /// The network's own, which its owner can block; it keeps at least 2 TON
    Cocoon,
}

/// An opened wallet.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where its key is.
    pub(crate) file: PathBuf,
    /// The key, with its words where it has any.
    pub(crate) key: KeyFile,
    /// Key and contract.
    pub(crate) wallet: Wallet,
}

impl WalletArgs {
    /// The name of a new wallet's file in the data folder.
    const FILE: &str = "wallet.key";

    /// Where the wallet's key is.
    pub(crate) fn path(&self, folder: &Path, record: Option<&Record>) -> PathBuf {
        if let Some(path) = &self.wallet {
            return path.clone();
        }
        let own = folder.join(Self::FILE);
        let left = record.and_then(|record| record.wallet.as_ref()).map(|path| folder.join(path));
        match left {
            Some(left) if !own.exists() => left,
            _ => own,
        }
    }

    /// Where a new key goes.
    pub(crate) fn new_path(&self, folder: &Path) -> PathBuf {
        self.wallet.clone().unwrap_or_else(|| folder.join(Self::FILE))
    }

    /// The passphrase, if one was given.
    pub(crate) fn passphrase(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.passphrase_file else {
            return Ok(environment::wallet_passphrase().map(Secret::new));
        };
        let text = Secret::new(config::read_text(path, limits::CONFIG_BYTES_MAX)?);
        let line = text.expose().lines().next().unwrap_or_default();
        if line.is_empty() {
            bail!("{} holds no passphrase: write it into the first line", path.display());
        }
        Ok(Some(Secret::new(line)))
    }

    /// The contract that a key has on a network.
    pub(crate) fn contract(&self, kind: Kind) -> Result<WalletKind> {
        match (self.kind, self.owner) {
            (Contract::V5r1, None) => Ok(WalletKind::V5R1 { network: network(kind) }),
            (Contract::Cocoon, Some(owner)) => Ok(WalletKind::Cocoon { owner }),
            (Contract::V5r1, Some(_)) => bail!("--owner belongs to a wallet of --kind cocoon"),
            (Contract::Cocoon, None) => bail!("a wallet of kind cocoon needs --owner: the address that may block it"),
        }
    }

    /// Opens the wallet for a network.
    pub(crate) fn open(&self, session: &Session) -> Result<Opened> {
        self.open_at(&self.path(&session.folder, session.record.as_ref()), session.kind)
    }

    /// Opens the wallet in a file.
    pub(crate) fn open_at(&self, path: &Path, kind: Kind) -> Result<Opened> {
        let contract = self.contract(kind)?;
        if !path.exists() {
            bail!(
                "there is no key file {}: make a wallet with `cocoon wallet new`, or name one with --wallet",
                path.display()
            );
        }
        let key = match KeyFile::open(path, self.passphrase()?.as_ref()) {
            Err(KeyFileError::PassphraseNeeded { path }) => bail!(
                "{} is sealed: give its passphrase with --passphrase-file FILE or COCOON_WALLET_PASSPHRASE",
                path.display()
            ),
            opened => opened?,
        };
        let wallet = Wallet::new(key.signing_key().clone(), contract);
        Ok(Opened { file: path.to_owned(), key, wallet })
    }
}

/// What a v5r1 wallet's id names. A devnet is a test network: a message that was signed there must not count where
/// money is real.
const fn network(kind: Kind) -> Network {
    match kind {
        Kind::Main => Network::MAINNET,
        Kind::Test | Kind::Devnet => Network::TESTNET,
    }
}

/// What a contract is called in words, for people: `v5r1`, `cocoon`.
pub(crate) const fn contract_name(kind: WalletKind) -> &'static str {
    match kind {
        WalletKind::Cocoon { .. } => "cocoon",
        WalletKind::V5R1 { .. } => "v5r1",
    }
}

impl Opened {
    /// Its address as people paste it.
    pub(crate) fn shown(&self, session: &Session) -> String {
        words::wallet(&self.wallet.address(), session.kind)
    }

    /// Refuses what the wallet cannot pay, before anything is sent, and says how much is missing.
    pub(crate) async fn afford(&self, session: &Session, messages: &[Outgoing]) -> Result<()> {
        let account = session.chain.account(&self.wallet.address()).await?.for_display();
        let view = self.wallet.view(&account)?;
        let shown = self.shown(session);
        if view.blocked {
            bail!("the wallet {shown} is blocked by its owner");
        }
        let needs = self.wallet.needs(messages);
        let Some(missing) = needs.checked_sub(view.balance).filter(|missing| missing.get() > 0) else {
            return Ok(());
        };
        let help = match session.kind {
            Kind::Devnet => "; on this devnet `cocoon wallet faucet` gives some",
            Kind::Main | Kind::Test => "",
        };
        bail!(
            "the wallet {shown} holds {}, and this takes {} with fees{}: {} are missing{help}",
            words::ton(view.balance),
            words::ton(needs),
            if needs == self.wallet.kind().floor() { ", which such a wallet must hold" } else { "" },
            words::ton(missing)
        )
    }

    /// Sends messages and waits until the wallet has sent them.
    pub(crate) async fn send(&self, session: &Session, messages: Vec<Outgoing>) -> Result<Transaction> {
        self.afford(session, &messages).await?;
        terminal::note("sending; this takes a few blocks");
        let sender = self.sender(session).await?;
        let sent = sender.send(messages).await.context("the wallet did not send")?;
        Ok(sent.transaction)
    }

    /// The sender; another command that sends from the same wallet is waited for.
    async fn sender(&self, session: &Session) -> Result<Sender> {
        let deadline = Instant::now() + limits::WALLET_BUSY_TIMEOUT;
        let mut is_told = false;
        loop {
            let chain = Arc::clone(&session.chain);
            let key = self.key.signing_key().clone();
            // A person asked for these messages and sees whose word the answers are; nothing is decided by them.
            let policy = ChainPolicy::InsecureReported;
            match Sender::new(chain, key, self.wallet.kind(), Some(self.journal()), policy) {
                Err(JournalError::InUse { .. }) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut is_told, true) {
                        terminal::note("another command sends from this wallet; waiting for it");
                    }
                    sleep(limits::WALLET_BUSY_POLL).await;
                }
                made => return Ok(made?),
            }
        }
    }

    /// Beside the key, one for each address that the key has.
    fn journal(&self) -> PathBuf {
        let account = hex::encode(self.wallet.address().account);
        let mut path = self.file.clone().into_os_string();
        path.push(format!(".{}.journal", account.get(..8).unwrap_or_default()));
        path.into()
    }
}

/// Where a contract stood before something was sent to it: what is new since is found after it.
pub(crate) async fn bookmark(session: &Session, address: &Address) -> Result<Option<TxId>> {
    Ok(session.chain.account(address).await?.for_display().last)
}

/// Waits for the transaction that a message caused, whether that went well ([`succeeded`]) or not.
pub(crate) async fn arrival(session: &Session, message: &Message, after: Option<TxId>) -> Result<Transaction> {
    let MessageKind::Internal { to, .. } = &message.kind else {
        bail!("a message that goes to no contract cannot arrive");
    };
    let deadline = Instant::now() + limits::ARRIVAL_TIMEOUT;
    let mut after = after;
    while Instant::now() < deadline {
        let news = session.chain.transactions(to, after, limits::ARRIVAL_PAGE).await?.for_display();
        let is_it = |transaction: &&Transaction| {
            transaction.in_message.as_ref().is_some_and(|arrived| arrived.hash == message.hash)
        };
        if let Some(transaction) = news.iter().find(is_it) {
            return Ok(transaction.clone());
        }
        after = news.last().map_or(after, |last| Some(last.id));
        sleep(session.kind.poll()).await;
    }
    bail!(
        "the message was sent, and has not reached {to} within {}; look later with `cocoon contract show {to} --history 3`",
        words::duration(limits::ARRIVAL_TIMEOUT)
    )
}

/// Turns a call that failed into an error in words. A payment may well be "aborted": nobody runs code to take money.
pub(crate) fn succeeded(transaction: &Transaction, session: &Session) -> Result<()> {
    let outcome = transaction.outcome;
    let shown = words::contract(&transaction.account, session.kind);
    if outcome.aborted {
        let code = outcome.exit_code.unwrap_or_default();
        bail!("{shown} refused the message: {}; the money came back less fees", exit::describe(code));
    }
    if let Some(code) = outcome.action_code.filter(|code| *code != 0) {
        bail!("{shown} could not send what follows from the message: {}", exit::describe(code));
    }
    Ok(())
}
