//! Fetches a file of a model from the Hugging Face hub, or a mirror of it, over HTTPS, resuming where an earlier try stopped.
//!
//! The address holds a full revision, so two ranges always belong to the same file; the hash is checked afterwards
//! in any case. A slow link takes several attempts; an attempt that brings nothing counts against the source.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::ProgressBar;
use ureq::Agent;

use super::catalogue::{Model, ModelFile};
use super::progress::Progress;
use crate::limits;

/// Brings a file of the model into `part`.
pub(crate) fn fetch(base: &str, model: &Model, wanted: &ModelFile, part: &Path, progress: Progress) -> Result<()> {
    let hub = &model.hub;
    let base = base.trim_end_matches('/');
    let url = format!("{base}/{}/resolve/{}/{}", hub.repository, hub.revision, wanted.hub_path);
    let agent = agent();
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(part)?;
    let mut done = file.seek(SeekFrom::End(0))?;
    let bar = progress.bar("hub", done, wanted.bytes);
    let mut fruitless = 0;
    while done < wanted.bytes {
        let outcome = attempt(&agent, &url, wanted.bytes, &mut file, &bar);
        let now = file.stream_position()?;
        fruitless = if now > done { 0 } else { fruitless + 1 };
        done = now;
        let failure = match outcome {
            Ok(()) if fruitless <= limits::FRUITLESS_ATTEMPTS_MAX => continue,
            Ok(()) => anyhow!("sent nothing"),
            Err(error) if fruitless < attempts_max(&error) => continue,
            Err(error) => error,
        };
        bar.finish_and_clear();
        return Err(failure);
    }
    bar.finish_and_clear();
    Ok(())
}

/// A refusal is final; a broken connection is worth another try.
fn attempts_max(error: &anyhow::Error) -> u32 {
    match error.downcast_ref::<ureq::Error>() {
        Some(ureq::Error::Timeout(ureq::Timeout::RecvBody) | ureq::Error::Io(_)) => limits::FRUITLESS_ATTEMPTS_MAX,
        Some(_) => 1,
        None => limits::FRUITLESS_ATTEMPTS_MAX,
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_resolve(Some(limits::CONNECT_TIMEOUT))
        .timeout_connect(Some(limits::CONNECT_TIMEOUT))
        .timeout_recv_response(Some(limits::RESPONSE_TIMEOUT))
        .timeout_recv_body(Some(limits::DOWNLOAD_ATTEMPT_TIMEOUT))
        .http_status_as_error(false)
        .user_agent(concat!("cocoon/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// One request: asks for what is missing and appends it.
fn attempt(agent: &Agent, url: &str, bytes: u64, file: &mut File, bar: &ProgressBar) -> Result<()> {
    let start = file.stream_position()?;
    let response = agent.get(url).header("range", format!("bytes={start}-")).call()?;
    match response.status().as_u16() {
        206 => {
            let range = response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or("");
            if !range.starts_with(&format!("bytes {start}-")) {
                bail!("answered with another range than asked for");
            }
        }
        // A server without ranges sends the whole file; 416 means that what we hold is not its beginning.
        200 => restart(file, bar)?,
        416 => return restart(file, bar),
        status => bail!("answered with HTTP {status}"),
    }
    append(response.into_body().into_reader(), bytes, file, bar)
}

fn restart(file: &mut File, bar: &ProgressBar) -> Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    bar.set_position(0);
    Ok(())
}

/// Appends the body; one byte above the pinned length is enough to know that it is the wrong file.
fn append(mut body: impl Read, bytes_max: u64, file: &mut File, bar: &ProgressBar) -> Result<()> {
    let mut buffer = vec![0; limits::COPY_BUFFER_BYTES];
    loop {
        let read = body.read(&mut buffer).context("the transfer broke off")?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        file.write_all(bytes).context("cannot write to the cache: is the disk full?")?;
        let done = file.stream_position()?;
        if done > bytes_max {
            restart(file, bar)?;
            bail!("sent more than the {bytes_max} bytes of the pinned file");
        }
        bar.set_position(done);
    }
}
