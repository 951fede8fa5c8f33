//! `cocoon root prices`: what a token costs, how long an exit takes, and what must be staked.
//!
//! All of it is part of the parameters that contracts are derived from: when it changes, every proxy, client and worker
//! moves to new contract instances. A steward therefore lets it wait, and this says until when.

use anyhow::{Result, bail};
use clap::Subcommand;
use cocoon_ton::contract::message::root::ChangeParamsFull;
use cocoon_ton::contract::{ContractCodes, Params};
use cocoon_units::{Multiplier, Multipliers, Nano, Ton};
use serde_json::{Value, json};

use super::change::{Change, Timing};
use super::registry::Registry;
use crate::command::ton::words::{self, parse_factor, parse_span};
use crate::words::Sheet;

/// Show prices, multipliers, delays and stakes, or set them
///
/// A change moves every proxy, client and worker to new contract instances. Under a steward it waits for the time lock,
/// so that whoever disagrees can leave first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root prices
  cocoon root prices set --price 20 --worker-fee 18
  cocoon root prices set --completion 3 --cached 0.1
  cocoon root prices set --min-client-stake 5 --client-delay 12h")]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Change what is named, all at once, and leave the rest
    #[command(arg_required_else_help = true)]
    Set(Terms),
}

/// What may be set; what is not named stays as it is.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = true)]
pub(super) struct Terms {
    /// Price of one adjusted token
    #[arg(long, value_name = "NANO")]
    price: Option<u64>,

    /// What of the price is the worker's; the rest is the proxy's commission
    #[arg(long, value_name = "NANO")]
    worker_fee: Option<u64>,

    /// Factor of tokens of a prompt
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    prompt: Option<Multiplier>,

    /// Factor of tokens of a prompt that were cached
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    cached: Option<Multiplier>,

    /// Factor of tokens of an answer
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    completion: Option<Multiplier>,

    /// Factor of tokens of reasoning
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    reasoning: Option<Multiplier>,

    /// How long the owner of a proxy waits for its stake after closing
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    proxy_delay: Option<u32>,

    /// How long a client waits for its money after asking for it back against the proxy's will
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    client_delay: Option<u32>,

    /// What a proxy must stake before our clients accept it
    #[arg(long, value_name = "TON")]
    min_proxy_stake: Option<Ton>,

    /// What a client must leave in its contract
    #[arg(long, value_name = "TON")]
    min_client_stake: Option<Ton>,
}

impl Terms {
    /// The parameters with these terms.
    pub(super) fn apply(&self, params: &Params) -> Result<Params> {
        let mut new = params.clone();
        let Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
        new.multipliers = Multipliers {
            prompt: self.prompt.unwrap_or(prompt),
            cached: self.cached.unwrap_or(cached),
            completion: self.completion.unwrap_or(completion),
            reasoning: self.reasoning.unwrap_or(reasoning),
        };
        new.price_per_token = self.price.map_or(new.price_per_token, Nano::new);
        new.worker_fee_per_token = self.worker_fee.map_or(new.worker_fee_per_token, Nano::new);
        new.proxy_delay_s = self.proxy_delay.unwrap_or(new.proxy_delay_s);
        new.client_delay_s = self.client_delay.unwrap_or(new.client_delay_s);
        new.min_proxy_stake = self.min_proxy_stake.map_or(new.min_proxy_stake, Ton::nano);
        new.min_client_stake = self.min_client_stake.map_or(new.min_client_stake, Ton::nano);
        if new.worker_fee_per_token > new.price_per_token {
            bail!(
                "a worker fee of {} nano is more than the price of {} nano: the proxy would pay for every token",
                new.worker_fee_per_token.get(),
                new.price_per_token.get()
            );
        }
        Ok(new)
    }
}

/// What an action changes: one message, or nothing when all is so already.
pub(super) fn changes(action: &Action, registry: &Registry) -> Result<Vec<Change>> {
    let Action::Set(terms) = action;
    let old = &registry.state.params;
    let new = terms.apply(old)?;
    let differences = differences(old, &new);
    if differences.is_empty() {
        return Ok(Vec::new());
    }
    let words = differences.join(", ");
    Ok(vec![Change { words, body: message(registry.query_id(), &new).to_cell(), timing: Timing::AfterDelay }])
}

/// The message that sets all of these.
fn message(query_id: u64, params: &Params) -> ChangeParamsFull {
    let Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
    ChangeParamsFull {
        query_id,
        price_per_token: params.price_per_token,
        worker_fee_per_token: params.worker_fee_per_token,
        prompt,
        cached,
        completion,
        reasoning,
        proxy_delay_s: params.proxy_delay_s,
        client_delay_s: params.client_delay_s,
        min_proxy_stake: params.min_proxy_stake,
        min_client_stake: params.min_client_stake,
    }
}

/// A term's name, and what it says.
type Term = (&'static str, String);

/// The terms in words.
pub(super) fn terms(params: &Params) -> [Term; 10] {
    let Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
    [
        ("price", words::price(params.price_per_token)),
        ("worker fee", words::price(params.worker_fee_per_token)),
        ("prompt tokens", words::factor(prompt)),
        ("cached tokens", words::factor(cached)),
        ("completion tokens", words::factor(completion)),
        ("reasoning tokens", words::factor(reasoning)),
        ("exit of a proxy", format!("after {}", words::span(params.proxy_delay_s.into()))),
        (
            "exit of a client",
            format!("after {}, and at once when its proxy agrees", words::span(params.client_delay_s.into())),
        ),
        ("stake of a proxy", format!("at least {}", words::ton(params.min_proxy_stake))),
        ("stake of a client", format!("at least {}", words::ton(params.min_client_stake))),
    ]
}

/// What differs, each as `price: old -> new`.
pub(super) fn differences(old: &Params, new: &Params) -> Vec<String> {
    let pairs = terms(old).into_iter().zip(terms(new));
    pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((name, old), (_, new))| format!("{name}: {old} -> {new}"))
        .collect()
}

/// The terms as rows.
pub(super) fn sheet(params: &Params) -> Sheet {
    let mut sheet = Sheet::default();
    for (name, text) in terms(params) {
        sheet.row(name, text);
    }
    sheet
}

/// The same for scripts.
pub(super) fn json(params: &Params) -> Value {
    let Multipliers { prompt, cached, completion, reasoning } = params.multipliers;
    json!({
        "params_version": params.params_version,
        "price_per_token_nano": params.price_per_token.get().to_string(),
        "worker_fee_per_token_nano": params.worker_fee_per_token.get().to_string(),
        "multipliers_ten_thousandths": {
            "prompt": prompt.ten_thousandths(),
            "cached": cached.ten_thousandths(),
            "completion": completion.ten_thousandths(),
            "reasoning": reasoning.ten_thousandths(),
        },
        "proxy_delay_s": params.proxy_delay_s,
        "client_delay_s": params.client_delay_s,
        "min_proxy_stake_nano": params.min_proxy_stake.get().to_string(),
        "min_client_stake_nano": params.min_client_stake.get().to_string(),
    })
}

/// The parameters of ton.md 1.4, which a new network begins with.
pub(super) fn default_params(unique_id: u32, is_test: bool, codes: ContractCodes) -> Params {
    const DAY_S: u32 = 86_400;
    const TON: Nano = Nano::new(1_000_000_000);
    Params {
        params_version: 0,
        unique_id,
        is_test,
        price_per_token: Nano::new(2),
        worker_fee_per_token: Nano::new(1),
        multipliers: Multipliers::default(),
        proxy_delay_s: DAY_S,
        client_delay_s: DAY_S,
        min_proxy_stake: TON,
        min_client_stake: TON,
        codes: Some(codes),
    }
}
