//! The repository's own commands: `cargo xtask ci | test | tidy | codegen | contracts | fuzz | storm | bench`.
//!
//! Everything CI does is here, so that a person runs the same thing with the same words.

mod bench;
mod ci;
mod codegen;
mod contracts;
mod fuzz;
mod shell;
mod storm;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that must hold before a change lands: format, lints, licences, tidy, tests, fuzz smoke
    Ci,
    /// Every test: Rust, the official OpenAI and Anthropic SDKs, llama.cpp as engine and as referee
    Test(test::Args),
    /// Check the architecture invariants that can be read from the tree
    Tidy,
    /// Write the TL types from the scheme
    Codegen {
        /// Only say whether the committed types are the ones the scheme gives
        #[arg(long)]
        check: bool,
    },
    /// Compile the contracts and measure their gas
    Contracts(contracts::Args),
    /// Fuzz every target
    Fuzz(fuzz::Args),
    /// Kill processes of a network under load, and check that the money adds up
    Storm(storm::Args),
    /// Measure, with a peer in the same run
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Ci => ci::run(),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Codegen { check } => codegen::run(check),
        Command::Contracts(args) => contracts::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
