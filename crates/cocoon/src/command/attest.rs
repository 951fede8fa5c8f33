//! `cocoon attest`: looks at evidence and at what was made of it, without a running node.
//!
//! What is read here comes from strangers: it is bounded before it is parsed, and escaped and cut before it is printed.
//!
//! - [`show`]: what a file or a live peer is, in words, believing nothing.
//! - [`verify`]: an appraisal done again, offline.
//! - [`peer`]: an appraisal of a running proxy, as a client would do it.
//! - [`quote`]: evidence of this machine.
//! - [`policy`]: what a policy accepts, in plain sentences.

mod artefact;
mod peer;
mod policy;
mod quote;
mod show;
mod verify;
mod words;

use anyhow::Result;
use clap::Subcommand;

/// Look at evidence of trusted execution environments, and check what was verified
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon attest show quote.bin                          what a file says, in words
  cocoon attest peer 127.0.0.1:10001 --policy policy.toml
  curl -s http://127.0.0.1:10000/v1/attestation/ID > proof.json
  cocoon attest verify proof.json --policy policy.toml  check it again, offline
  cocoon attest policy example > policy.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(show::Args),
    Verify(verify::Args),
    Peer(peer::Args),
    Quote(quote::Args),
    Policy(policy::Args),
}

/// Carries the command out.
pub(crate) fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Show(args) => show::run(&args),
        Action::Verify(args) => verify::run(&args),
        Action::Peer(args) => peer::run(&args),
        Action::Quote(args) => quote::run(&args),
        Action::Policy(args) => policy::run(&args),
    }
}
