//! `cocoon attest peer`: appraises a running proxy, as a client would.
//!
//! It goes through the whole handshake of the link profile `attested-v2` with a key of its own and shows no evidence, as
//! clients do. It asks for nothing but evidence: no account is needed.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cocoon_attest::{Policy, Role};
use cocoon_net::{AttestedPeer, DialError, Peer, Unverified, dial, unverified_look};

use super::{policy, words};
use crate::attestation::{self, Attestation};
use crate::{runtime, terminal};

/// Connect to a proxy as a client would, appraise it, and say what was proved
///
/// Fails if the proxy is refused.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address where the proxy listens for clients
    #[arg(value_name = "HOST:PORT", value_parser = address)]
    addr: SocketAddr,

    /// What to accept [default: any image on a vendor's platform]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// A collateral service, for proxies that bring no collateral along
    #[arg(long, value_name = "URL")]
    pccs: Option<String>,

    /// Save the appraisal, for `cocoon attest verify`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The first address of a host.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "that host has no address".to_owned())
}

/// Carries the command out.
pub(super) fn run(args: &Args) -> Result<()> {
    let policy = match &args.policy {
        Some(path) => attestation::read_policy(path)?,
        None => attestation::any_image_policy()?,
    };
    terminal::line(&policy::title(&policy));
    let peer = appraise(args.addr, policy, args.pccs.as_deref())?;
    tell(args.addr, &peer);
    if let Some(path) = &args.json {
        let written = std::fs::write(path, peer.document().encode());
        written.with_context(|| format!("cannot write {}", path.display()))?;
        terminal::note(&format!("saved: check it again with  cocoon attest verify {}", path.display()));
    }
    Ok(())
}

/// What a proxy says of itself. Nothing of it is verified.
pub(super) fn show(addr: SocketAddr) -> Result<()> {
    // The policy is not asked; a link has one.
    let link = Attestation::visitor(attestation::any_image_policy()?, None)?.link(Role::Proxy);
    let shown = runtime::build(1)?.block_on(unverified_look(addr, link)).map_err(|error| explain(addr, error))?;
    terminal::line(&format!("{addr} says that it is a {}; nothing of this is verified yet", shown.role.name()));
    terminal::line(&format!("claims: {}\n", claims(&shown.claims)));
    super::show::platform(&shown.evidence.platform)?;
    terminal::line(&bound(&shown));
    for gpu in &shown.evidence.gpus {
        terminal::line(&format!("evidence of a GPU, {} bytes", gpu.report.len()));
    }
    terminal::note(&format!("appraise it:  cocoon attest peer {addr} --policy FILE"));
    Ok(())
}

/// Claims, one a line.
fn claims(bytes: &[u8]) -> String {
    let lines =
        serde_json::from_slice(bytes).and_then(|claims: serde_json::Value| serde_json::to_string_pretty(&claims));
    words::safe_lines(&lines.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned()))
}

/// What the report data would have to be for this very connection.
fn bound(shown: &Unverified) -> String {
    let expected = shown.binding.report_data(&shown.claims).map(hex::encode).unwrap_or_default();
    format!("\nbound to this connection if the report data is\n  {expected}")
}

fn appraise(addr: SocketAddr, policy: Policy, pccs: Option<&str>) -> Result<Arc<AttestedPeer>> {
    let attestation = Attestation::visitor(policy, pccs)?;
    let config = attestation.dial(addr, None);
    let connection = runtime::build(1)?.block_on(dial(config)).map_err(|error| explain(addr, error))?;
    match connection.peer() {
        Peer::Attested(peer) => Ok(Arc::clone(peer)),
        Peer::LoopbackPlain { .. }
        | Peer::InMemory { .. }
        | Peer::BehindRouter { .. }
        | Peer::Unattested { .. }
        | _ => bail!("{addr} showed no evidence"),
    }
}

fn tell(addr: SocketAddr, peer: &AttestedPeer) {
    terminal::line(&format!("accepted: {addr}, {} mode, id {}", peer.mode().name(), peer.id()));
    terminal::line(&words::verdict(peer.verdict()).text());
}

/// A refusal in its own words; anything else as the connection's failure.
fn explain(addr: SocketAddr, error: DialError) -> anyhow::Error {
    if let DialError::PeerAttestation(refusal) = &error {
        return words::refused(refusal);
    }
    anyhow::Error::new(error).context(format!("no attested connection with {addr}"))
}
