//! `cocoon`: one binary, a role per subcommand.
//!
//! What it is: the edge of the program. It reads arguments, environment and configuration files, opens logs, and
//! wires the roles together.
//! What it is not: a place for decisions about requests, money or trust; those live in the role crates.
//!
//! 1. [`cli`] parses the command line; one file per command under `command/`.
//! 2. [`config`] reads TOML; [`environment`] is the only reader of environment variables.
//! 3. [`wiring`] turns configuration into running roles, [`attestation`] protects the links between them, [`chain`] lets them follow the root contract; [`runtime`] gives them threads and the signal to stop.
//! 4. Errors come back here as `anyhow` and are printed once, with their causes and what to do.

use std::process::ExitCode;

use clap::Parser as _;

mod attestation;
mod chain;
mod cli;
mod clock;
mod command;
mod config;
#[cfg(feature = "engine-embedded")]
mod embedded;
#[cfg(any(feature = "dev", feature = "chain-tools"))]
mod environment;
mod limits;
mod logging;
#[cfg(any(feature = "dev", feature = "engine-embedded"))]
mod model;
mod money;
mod runtime;
mod terminal;
mod wiring;
#[cfg(any(feature = "attest", feature = "chain-tools"))]
mod words;

/// A role allocates some hundred times per request, on one thread: the system's allocator took an eighth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if let Err(error) = logging::start(&cli.log, cli.log_format) {
        terminal::error(&error);
        return ExitCode::from(2);
    }
    match command::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}
