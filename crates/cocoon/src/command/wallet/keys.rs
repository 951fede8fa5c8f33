//! `cocoon wallet new`, `import`, `export`: the key itself. Nothing here talks to a chain.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use cocoon_ton::keys::{KeyFile, Mnemonic};
use cocoon_ton::wallet::{Wallet, WalletKind};
use serde_json::json;
use zeroize::Zeroizing;

use crate::command::ton::network::{Kind, NetworkArgs, Record};
use crate::command::ton::sender::{WalletArgs, contract_name};
use crate::command::ton::{Said, words};
use crate::words::Sheet;
use crate::{config, limits, terminal};

/// Take over a key from its 24 words
///
/// The words are read from standard input, or from a file, and never from the command line, which others can read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon wallet import < words.txt
  cocoon wallet import --words words.txt --wallet treasury.key --passphrase-file pass.txt")]
pub(super) struct ImportArgs {
    /// A file with the words, instead of standard input
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
}

/// Makes a key.
pub(super) fn new(wallet: &WalletArgs, network: &NetworkArgs) -> Result<Said> {
    let mnemonic = Mnemonic::generate().context("cannot make a key")?;
    create(wallet, network, &KeyFile::from_mnemonic(mnemonic), "made")
}

/// Takes a key over.
pub(super) fn import(wallet: &WalletArgs, network: &NetworkArgs, args: &ImportArgs) -> Result<Said> {
    let text = match &args.words {
        Some(path) => Zeroizing::new(config::read_text(path, limits::CONFIG_BYTES_MAX)?),
        None => from_stdin()?,
    };
    let mnemonic = Mnemonic::parse(&text, None).context("these are no 24 words of a TON wallet")?;
    create(wallet, network, &KeyFile::from_mnemonic(mnemonic), "imported")
}

fn from_stdin() -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(limits::CONFIG_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read the words from standard input")?;
    if text.trim().is_empty() {
        bail!("no words on standard input: `cocoon wallet import < words.txt`");
    }
    Ok(text)
}

fn create(wallet: &WalletArgs, network: &NetworkArgs, key: &KeyFile, done: &str) -> Result<Said> {
    let (folder, kind) = (network.folder()?, network.kind()?);
    let path = wallet.new_path(&folder);
    let contract = Wallet::new(key.signing_key().clone(), wallet.contract(kind)?);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let passphrase = wallet.passphrase()?;
    key.create(&path, passphrase.as_ref())?;
    let text = told(&contract, wallet, &path, passphrase.is_some())?;
    let json = json!({
        "address": contract.address(),
        "friendly": words::wallet(&contract.address(), kind),
        "kind": contract_name(contract.kind()),
        "public_key": hex::encode(contract.public_key().as_bytes()),
        "key_file": path,
        "is_sealed": passphrase.is_some(),
    });
    Ok(Said { text: format!("{done} a wallet, {}\n{text}", contract_name(contract.kind())), json })
}

/// Where the key is, and its address on each kind of network: they differ, so that what is signed on one counts nowhere
/// else.
fn told(wallet: &Wallet, args: &WalletArgs, path: &Path, is_sealed: bool) -> Result<String> {
    let mut sheet = Sheet::default();
    for (kind, label) in [(Kind::Main, "main network"), (Kind::Test, "test and devnets")] {
        let address = args.contract(kind)?.state_init(&wallet.public_key()).address();
        sheet.row(label, words::wallet(&address, kind)).row("", address.raw());
    }
    let sealed = if is_sealed { "sealed with your passphrase" } else { "not sealed; readable by you only" };
    sheet.row("key", format!("{}, {sealed}", path.display())).row(
        "back it up",
        format!("`cocoon wallet export --wallet {}` prints the words that bring it back", path.display()),
    );
    if let WalletKind::Cocoon { owner } = args.contract(Kind::Main)? {
        let named = format!("with --kind cocoon --owner {owner}, always: the key file does not remember them");
        sheet.row("name it", named);
    }
    Ok(sheet.text())
}

/// Gives the words away.
pub(super) fn export(wallet: &WalletArgs, network: &NetworkArgs) -> Result<Said> {
    let folder = network.folder()?;
    let path = wallet.path(&folder, Record::read(&folder)?.as_ref());
    let opened = wallet.open_at(&path, network.kind()?)?;
    terminal::note(&format!("whoever has this has the money of {}", path.display()));
    let public_key = hex::encode(opened.wallet.public_key().as_bytes());
    Ok(match opened.key.mnemonic() {
        Some(mnemonic) => {
            let words = mnemonic.words().to_owned();
            Said { json: json!({ "words": words, "public_key": public_key }), text: words }
        }
        None => {
            let seed = hex::encode(opened.key.signing_key().to_bytes());
            terminal::note("this key was not made from words: it is the seed, as 64 hexadecimal digits");
            Said { json: json!({ "seed": seed, "public_key": public_key }), text: seed }
        }
    })
}
