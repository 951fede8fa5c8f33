//! `cocoon receipt`: checks what a worker signed about an answer, offline and for good.
//!
//! - [`verify`]: the checks, one after another, over a file of `/v1/receipts`.
//! - [`bodies`]: whether these were the request and the answer.
//! - [`recount`]: the prompt counted again with the model's tokenizer, and the answer as far as its text tells.
//! - [`report`]: what came out, for people and for programs.

mod bodies;
mod recount;
mod report;
mod verify;

use anyhow::Result;
use clap::Subcommand;

/// Check what a worker signed about an answer: who, with which model, how many tokens, at which price
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  curl -s http://127.0.0.1:10000/v1/receipts/ID > receipt.json   the id is in the answer's x-cocoon-receipt header
  cocoon receipt verify receipt.json                             signature, attestation, price
  cocoon receipt verify receipt.json --policy policy.toml        by your own policy for workers
  cocoon receipt verify receipt.json --recount --request request.json --model model.gguf")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Verify(verify::Args),
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.action {
        Action::Verify(args) => verify::run(args),
    }
}
