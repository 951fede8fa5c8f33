//! `cocoon client`: the OpenAI endpoint on the host of the one who asks and pays.

use std::net::SocketAddr;

use anyhow::Result;
use cocoon_client::{Client, ClientConfig};
use serde::Deserialize;

use super::ConfigArgs;
use crate::attestation::{Links, VerifierSettings};
use crate::config::Read;
use crate::{runtime, terminal, wiring};

/// Run the client: an OpenAI endpoint for your apps
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

const SAMPLE: &str = include_str!("../../../config/client.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    threads: usize,
    proxies: Vec<SocketAddr>,
    attestation: VerifierSettings,
    client: ClientConfig,
}

impl Default for File {
    fn default() -> Self {
        Self {
            threads: 1,
            proxies: vec![wiring::PROXY_FOR_CLIENTS],
            attestation: VerifierSettings::default(),
            client: ClientConfig::default(),
        }
    }
}

/// Carries the command out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(Read { file, .. }) = args.config.read::<File>(SAMPLE)? else { return Ok(()) };
    runtime::check(file.threads)?;
    let links = Links::of_client(file.attestation)?;
    wiring::check_proxies(&file.proxies, &links)?;
    super::run_role(file.threads, |stop| async move {
        let listen = file.client.listen;
        let client = Client::new(file.client, wiring::clock(), wiring::dialers(&file.proxies, &links))?;
        let listener = wiring::bind_http(listen, "`listen` under [client]")?;
        // Only now is it true.
        terminal::line(&format!("client: http://{}/v1", listener.local_addr()?));
        Ok(client.serve(listener, stop).await?)
    })
}

#[cfg(test)]
mod tests {
    use cocoon_client::LimitsConfig;
    use cocoon_units::{Multipliers, Pricing};

    use super::*;
    use crate::config::samples::shows_every_key;

    #[test]
    fn the_sample_shows_the_defaults() {
        let sample: File = crate::config::parse(SAMPLE).unwrap();
        assert_eq!(format!("{sample:?}"), format!("{:?}", File::default()));
    }

    #[test]
    fn the_sample_shows_every_key() {
        shows_every_key::<File>(SAMPLE, &[], &[]);
        let optional = ["policy", "pccs", "cache_dir", "insecure_simulated_tee"];
        shows_every_key::<VerifierSettings>(SAMPLE, &["attestation"], &optional);
        shows_every_key::<ClientConfig>(SAMPLE, &["client"], &[]);
        shows_every_key::<LimitsConfig>(SAMPLE, &["client", "limits"], &[]);
        shows_every_key::<Pricing>(SAMPLE, &["client", "pricing"], &[]);
        shows_every_key::<Multipliers>(SAMPLE, &["client", "pricing", "multipliers"], &[]);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = crate::config::parse::<File>("[client]\nlisten_on = 1\n").unwrap_err().to_string();
        assert!(error.contains("listen_on"), "{error}");
    }
}
