//! `cocoon wallet faucet`: play money from a devnet, and only from one.

use anyhow::{Context as _, Result, bail};
use cocoon_units::{Nano, Ton};
use serde_json::{Value, json};

use crate::command::ton::network::{Kind, Session};
use crate::command::ton::sender::Opened;
use crate::command::ton::{Said, words};
use crate::limits;

/// Get play money from a devnet
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How much, in TON
    #[arg(value_name = "AMOUNT", default_value = "100")]
    amount: Ton,
}

/// Asks the faucet and tells what the wallet holds then.
pub(super) async fn run(session: &Session, opened: &Opened, args: &Args) -> Result<Said> {
    match session.kind {
        Kind::Devnet => {}
        Kind::Main | Kind::Test => bail!(
            "{} is no devnet: play money is given by `cocoon devnet` and `cocoon up` only{}",
            session.endpoint,
            if session.kind == Kind::Test { "; on TON's test network ask the bot @testgiver_ton_bot" } else { "" }
        ),
    }
    let address = opened.wallet.address();
    let url = format!("{}/dev/faucet", session.endpoint.trim_end_matches("/api/v2"));
    let body = json!({ "address": address, "amount": args.amount.to_string() });
    let asked = url.clone();
    tokio::task::spawn_blocking(move || ask(&asked, &body)).await??;
    let balance = session.chain.account(&address).await?.for_display().balance;
    Ok(told(session, opened, args.amount.nano(), balance))
}

fn told(session: &Session, opened: &Opened, amount: Nano, balance: Nano) -> Said {
    let text = format!("{} for {}; it holds {} now", words::ton(amount), opened.shown(session), words::ton(balance));
    let json = json!({
        "address": opened.wallet.address(),
        "amount_nano": amount.get().to_string(),
        "balance_nano": balance.get().to_string(),
    });
    Said { text, json }
}

/// Asks the faucet; its refusals are errors in its own words.
fn ask(url: &str, body: &Value) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limits::FAUCET_TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into();
    let response = agent.post(url).content_type("application/json").send(&body.to_string());
    let mut response =
        response.with_context(|| format!("no devnet answers at {url}; start `cocoon up` or `cocoon devnet`"))?;
    let status = response.status();
    let answer = response.body_mut().with_config().limit(limits::FAUCET_BYTES_MAX).read_to_string().unwrap_or_default();
    if status.is_success() {
        return Ok(());
    }
    let error = serde_json::from_str::<Value>(&answer).ok();
    let error = error.as_ref().and_then(|answer| answer.get("error")).and_then(Value::as_str);
    match error {
        Some(error) => bail!("the faucet refused: {}", crate::words::safe(error)),
        None => bail!("{url} is no faucet (HTTP {}): is this a devnet?", status.as_u16()),
    }
}
