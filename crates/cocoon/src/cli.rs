//! The command line: global options and the list of commands.
//!
//! Each command keeps its own arguments next to the code that obeys them (`command/*.rs`).

use clap::{Parser, Subcommand, ValueEnum};

use crate::command;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "cocoon",
    version,
    about = "A confidential AI network: an OpenAI-compatible endpoint in front of other people's GPUs.",
    long_about = LONG_ABOUT,
    after_help = "Start with:  cocoon up",
    after_long_help = AFTER_LONG_HELP,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to log: a level (error, warn, info, debug, trace) or `target=level` pairs. Never a prompt.
    #[arg(long, global = true, env = "COCOON_LOG", value_name = "FILTER", default_value = "warn")]
    pub(crate) log: String,

    /// How log lines look on standard error.
    #[arg(long, global = true, env = "COCOON_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// One human-readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// One variant per command; the file of the same name under `command/` carries it out.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "dev")]
    Up(command::up::Args),
    #[cfg(feature = "dev")]
    Chat(command::chat::Args),
    #[cfg(feature = "dev")]
    Model(command::model::Args),
    #[cfg(feature = "dev")]
    Devnet(command::devnet::Args),
    #[cfg(all(feature = "client", not(feature = "chain-tools")))]
    Client(command::role::client::Args),
    #[cfg(all(feature = "client", feature = "chain-tools"))]
    Client(command::client_money::Args),
    #[cfg(feature = "proxy")]
    Proxy(command::role::proxy::Args),
    #[cfg(all(feature = "worker", not(feature = "chain-tools")))]
    Worker(command::role::worker::Args),
    #[cfg(all(feature = "worker", feature = "chain-tools"))]
    Worker(command::worker_earnings::Args),
    #[cfg(feature = "attest")]
    Attest(command::attest::Args),
    #[cfg(feature = "attest")]
    Receipt(command::receipt::Args),
    #[cfg(feature = "client")]
    Key(command::key::Args),
    #[cfg(feature = "chain-tools")]
    Wallet(command::wallet::Args),
    #[cfg(feature = "chain-tools")]
    Root(command::root::Args),
    #[cfg(feature = "chain-tools")]
    Contract(command::contract::Args),
}

const LONG_ABOUT: &str = "\
A confidential AI network: an OpenAI-compatible endpoint in front of other people's GPUs.

Three roles, one binary:
  client   runs next to your app and speaks the OpenAI API on http://127.0.0.1:10000/v1
  proxy    routes requests to workers and meters them
  worker   runs the model, or stands in front of vLLM, SGLang, llama.cpp, Ollama

Proxies and workers run inside trusted execution environments and prove it, to each other and to the client, before a
prompt is sent.";

const AFTER_LONG_HELP: &str = "\
Try it:
  cocoon up                                   all three roles and a small model on this machine
  cocoon chat \"What is the capital of France?\"
  cocoon up --engine http://127.0.0.1:8000    the same, with your own engine

Point any OpenAI SDK at it:
  base_url = http://127.0.0.1:10000/v1        api_key = anything

See what was verified:
  cocoon attest --help
  cocoon receipt verify FILE                  what an answer cost, signed by the worker that made it

See your money:
  cocoon client status --config FILE          deposits and use; `withdraw` and `close` bring it home
  cocoon worker earnings --config FILE        what was signed and paid

See the network's registry, and money on its chain:
  cocoon root show                            images, models, proxies and prices, and changes that wait
  cocoon wallet --help
  cocoon devnet --help                        a chain of your own, with play money
";
