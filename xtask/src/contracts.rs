//! `cargo xtask contracts`: from `contracts/*.tolk` to what is committed from them.
//!
//! 1. Compile: `contracts/compiled/{name}.boc` and `hashes.json`, with the compiler that
//!    `contracts/build/package-lock.json` pins.
//! 2. Measure: `contracts/GAS.md`, what each op costs on the embedded devnet.
//! 3. With `--record`: run everything on the official executor and keep what went in and came out, for
//!    the replay test of `cocoon-ton`.
//!
//! With `--check` nothing is written: step 1 compares, and step 2 is a Rust test that compares on its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{cargo, command, root, run as run_command, say};

/// What to do besides compiling.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only say whether what is committed is what the sources give
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// Also record the transactions that the replay test runs
    #[arg(long)]
    record: bool,
}

impl Args {
    /// What CI wants to know.
    pub(crate) fn check() -> Self {
        Self { check: true, record: false }
    }
}

/// Compiles, then writes or compares.
///
/// # Errors
///
/// When npm or the compiler fails, or `check` finds a difference.
pub(crate) fn run(args: &Args) -> Result<()> {
    let compiled = compile()?;
    let committed = contracts().join("compiled");
    if args.check {
        return compare(&compiled, &committed);
    }
    for name in files(&compiled)? {
        std::fs::copy(compiled.join(&name), committed.join(&name)).with_context(|| format!("cannot write {name}"))?;
    }
    if args.record {
        record()?;
    }
    measure()
}

fn contracts() -> PathBuf {
    root().join("contracts")
}

fn work(name: &str) -> PathBuf {
    root().join("target/contracts").join(name)
}

/// Compiles every contract into a folder under `target/`.
fn compile() -> Result<PathBuf> {
    let compiled = work("compiled");
    // A contract that is gone must not stay behind.
    if compiled.exists() {
        std::fs::remove_dir_all(&compiled)?;
    }
    let folder = install("build")?;
    run_command(command("node", &["compile.js"]).arg(contracts()).arg(&compiled).current_dir(folder))?;
    Ok(compiled)
}

fn compare(compiled: &Path, committed: &Path) -> Result<()> {
    let (fresh, old) = (files(compiled)?, files(committed)?);
    ensure!(fresh == old, "contracts/compiled holds {old:?}, the sources give {fresh:?}: run `cargo xtask contracts`");
    for name in fresh {
        let same = std::fs::read(compiled.join(&name))? == std::fs::read(committed.join(&name))?;
        ensure!(same, "contracts/compiled/{name} is not what the sources give: run `cargo xtask contracts`");
    }
    say("contracts/compiled is what the sources give");
    Ok(())
}

/// Runs the recorder with the compiled contracts that are committed.
fn record() -> Result<()> {
    let folder = install("record")?;
    let vectors = root().join("crates/cocoon-ton/tests/vectors/sandbox");
    run_command(command("node", &["record.js"]).arg(contracts().join("compiled")).arg(vectors).current_dir(folder))
}

/// Lets the gas test write the table instead of comparing with it.
fn measure() -> Result<()> {
    let arguments = ["test", "--locked", "-p", "cocoon-ton", "--test", "it", "gas_table"];
    run_command(cargo(&arguments).env("UPDATE_GAS", "1"))
}

/// Copies `contracts/{name}` under `target/` and installs there exactly what its lock file pins.
fn install(name: &str) -> Result<PathBuf> {
    let (from, folder) = (contracts().join(name), work(name));
    std::fs::create_dir_all(&folder)?;
    for file in files(&from)? {
        std::fs::copy(from.join(&file), folder.join(&file))?;
    }
    let wanted = std::fs::read(from.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/installed.json");
    if !std::fs::read(&stamp).is_ok_and(|have| have == wanted) {
        run_command(command("npm", &["ci", "--silent"]).current_dir(&folder)).context("cannot install the compiler")?;
        std::fs::write(stamp, wanted)?;
    }
    Ok(folder)
}

/// Names of the files of a folder, in order.
fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
