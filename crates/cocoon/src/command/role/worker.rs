//! `cocoon worker`: an engine, offered to proxies.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_worker::engine::openai_http::OpenAiHttp;
use cocoon_worker::{Engine, OpenAiHttpConfig, Worker, WorkerConfig};
use serde::Deserialize;

use super::ConfigArgs;
use crate::{terminal, wiring};

/// Run a worker: an inference engine offered to proxies
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/worker.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    proxies: Vec<SocketAddr>,
    /// Kept as a table until its `kind` is known: each kind has keys of its own.
    engine: toml::Table,
    worker: WorkerConfig,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            proxies: vec![wiring::PROXY_FOR_WORKERS],
            engine: toml::Table::new(),
            worker: WorkerConfig::default(),
        }
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(file) = args.config.read::<File>(SAMPLE)? else { return Ok(()) };
    if file.proxies.is_empty() {
        bail!("`proxies` is empty: name at least one proxy");
    }
    let engine = engine(file.engine).context("the engine under [engine]")?;
    super::run_role(file.threads, |stop| async move {
        let worker = Worker::new(file.worker, wiring::clock(), engine, wiring::dialers(&file.proxies))?;
        terminal::line(&format!("worker: serves {} proxies", file.proxies.len()));
        worker.run(stop).await;
        Ok(())
    })
}

/// The engine that `[engine]` describes; over HTTP if it does not say otherwise.
fn engine(mut table: toml::Table) -> Result<Arc<dyn Engine>> {
    let kind = table.remove("kind").unwrap_or_else(|| "openai-http".into());
    match kind.as_str() {
        Some("openai-http") => {
            let config: OpenAiHttpConfig = table.try_into()?;
            Ok(Arc::new(OpenAiHttp::new(&config)?))
        }
        #[cfg(feature = "engine-embedded")]
        Some("embedded") => crate::embedded::load(&table.try_into()?),
        _ => bail!("`kind` is {kind}: it must be \"openai-http\" or, in a build with it, \"embedded\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> File {
        crate::config::parse(text).unwrap()
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        let mut sample = parse(SAMPLE);
        assert_eq!(sample.engine.remove("kind"), Some("openai-http".into()));
        let shown: OpenAiHttpConfig = sample.engine.try_into().unwrap();
        assert_eq!(shown, OpenAiHttpConfig::default());
        let expected = File::default();
        assert_eq!(sample.worker, expected.worker);
        assert_eq!((sample.threads, sample.proxies), (expected.threads, expected.proxies));
    }

    #[test]
    fn engines_are_told_apart_and_their_unknown_keys_named() {
        assert!(engine(parse("[engine]\nurl = \"http://127.0.0.1:1\"").engine).is_ok());
        let refused = |text: &str| format!("{:#}", engine(parse(text).engine).err().unwrap());
        assert!(refused("[engine]\nurll = \"x\"").contains("urll"));
        assert!(refused("[engine]\nkind = \"magic\"").contains("magic"));
    }
}
