//! `cargo xtask test`: every test there is, on one build of the dev profile.
//!
//! 1. Rust: unit, integration and documentation tests, with the small real model.
//! 2. The embedded engine beside llama.cpp on the same file.
//! 3. The official SDKs of OpenAI and Anthropic, for Python and Node, against the running network.
//! 4. The stock TON clients against `cocoon devnet`, and the devnet against SIGKILL.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, Steps, cargo, command, root};
use crate::tools;

/// What to leave out.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only the Rust tests: no Python, Node or model
    #[arg(long)]
    rust_only: bool,
}

/// Runs every test and shows the times, also after a failure.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut table = Steps::default();
    let result = steps(args, &mut table);
    table.show();
    result
}

/// The steps, for `ci` to run among its own.
pub(crate) fn steps(args: &Args, steps: &mut Steps) -> Result<()> {
    // What is missing is said before the long build, not after it.
    steps.step("tools", || {
        if !args.rust_only {
            tools::check_host()?;
            tools::node_modules()?;
            ton_modules()?;
            python()?;
        }
        tools::cargo_tool("nextest").map(drop)
    })?;
    steps.step("build", || shell::run(&mut cargo(&["build", "--locked", "--workspace", "--all-targets"])))?;
    let cocoon = tools::dev_binary("cocoon");
    let model = if args.rust_only { None } else { Some(tools::model(&cocoon)?) };
    let embedding_model = if args.rust_only { None } else { Some(tools::embedding_model(&cocoon)?) };
    let with_data = |command: &mut Command| {
        if let Some(model) = &model {
            command.env("COCOON_TEST_MODEL", model);
        }
        if let Some(model) = &embedding_model {
            command.env("COCOON_TEST_EMBEDDING_MODEL", model);
        }
        shell::run(command.env("COCOON_VECTORS", tools::vectors()))
    };
    steps.step("rust tests", || {
        let nextest = tools::cargo_tool("nextest")?;
        with_data(&mut command(nextest, &["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]))
    })?;
    steps.step("doc tests", || with_data(&mut cargo(&["test", "--locked", "--workspace", "--doc", "--quiet"])))?;
    let Some(model) = &model else { return Ok(()) };
    steps.step("llama.cpp comparison", || {
        let script = root().join("tests/llama_cpp/compare.py");
        let mut compare = command(python()?, &[]);
        compare.arg(script).arg("--model").arg(model);
        shell::run(compare.arg("--generate").arg(tools::dev_binary("examples/generate")))
    })?;
    steps.step("official SDKs", || {
        let mut sdks = command(python()?, &[]);
        sdks.arg(root().join("tests/sdk/run.py")).arg("--model").arg(model);
        sdks.arg("--cocoon").arg(tools::dev_binary("cocoon")).arg("--sim").arg(tools::dev_binary("cocoon-sim"));
        shell::run(sdks.arg("--node-modules").arg(tools::node_modules()?))
    })?;
    steps.step("TON clients", || {
        let mut clients = command("python3", &[]);
        clients.arg(root().join("tests/ton/run.py")).arg("--cocoon").arg(tools::dev_binary("cocoon"));
        shell::run(clients.arg("--node-modules").arg(ton_modules()?))
    })
}

fn ton_modules() -> Result<PathBuf> {
    tools::locked_modules("node-ton", "tests/ton")
}

/// The interpreter that has the SDKs and llama.cpp.
pub(crate) fn python() -> Result<PathBuf> {
    tools::python("venv", &std::fs::read_to_string(root().join("tests/sdk/requirements.txt"))?)
}
