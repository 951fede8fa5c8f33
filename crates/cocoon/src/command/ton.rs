//! What `wallet`, `root` and `contract` share: which chain, which wallet, how something is done there and told.
//!
//! 1. [`network`] finds the chain: an address that was given, or what `cocoon up` left in the data folder.
//! 2. The commands are functions of a [`network::Session`], which holds any [`cocoon_ton::Chain`]; they answer with
//!    [`Said`], and never print a result themselves.
//! 3. [`sender`] opens the wallet, shows what will happen, sends, and waits until it happened.
//! 4. [`words`] tells addresses, amounts and times.

pub(crate) mod history;
pub(crate) mod network;
pub(crate) mod sender;
#[cfg(test)]
pub(crate) mod stage;
pub(crate) mod statement;
pub(crate) mod words;

use anyhow::Result;
use serde_json::Value;

use crate::terminal;

/// What a command answers: words for people, the same for scripts.
#[derive(Debug)]
pub(crate) struct Said {
    /// For people; lines without an end.
    pub(crate) text: String,
    /// For `--json`: amounts are strings of nano, addresses `workchain:hex`.
    pub(crate) json: Value,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Output {
    /// Print one JSON document instead of words: amounts in nano as strings, addresses as WORKCHAIN:HEX
    #[arg(long, global = true)]
    json: bool,
}

impl Output {
    /// Prints an answer to standard output.
    pub(crate) fn print(self, said: &Said) -> Result<()> {
        if self.json {
            terminal::line(&serde_json::to_string_pretty(&said.json)?);
        } else {
            terminal::line(&said.text);
        }
        Ok(())
    }
}
