//! What it costs to be on the network, as this one charged it: the main network's prices, on a devnet.
//!
//! A contract's cost is what was sent to it, less the money that it holds for its owner and what came back: gas,
//! forwarding, and the little that pays for its storage.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use cocoon_ton::chain::{ChainPolicy, MessageKind, Transaction};
use cocoon_ton::contract::Params;
use cocoon_ton::contract::message::client::ChangeSecretHashAndTopUp;
use cocoon_ton::contract::message::proxy::IncreaseStake;
use cocoon_ton::{Address, Cell, Chain};
use cocoon_units::Nano;

/// Below this, a node's wallet sends nothing.
const WALLET_FLOOR: Nano = Nano::new(2_000_000_000);

/// The costs of the moment.
#[derive(Debug, Clone)]
pub(in super::super) struct Costs {
    stake: Nano,
    deposit_min: Nano,
    deposit: Nano,
    proxy: Nano,
    client: Nano,
    wallet: Nano,
    price_per_token: Nano,
}

/// Whose contracts are measured.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Measured {
    /// The proxy's contract, and the wallet that deployed it.
    pub(in super::super) proxy: (Address, Address),
    /// The client's.
    pub(in super::super) client: (Address, Address),
}

/// Reads them from the contracts' first transactions, and that of a node's wallet.
pub(in super::super) async fn measure(chain: &dyn Chain, of: Measured, params: &Params) -> Result<Costs> {
    let (proxy, node) = of.proxy;
    let (client, payer) = of.client;
    let staked = first(chain, proxy).await?;
    let deposited = first(chain, client).await?;
    let stake = body(&staked).and_then(|body| IncreaseStake::parse(body).ok()).map_or(Nano::ZERO, |body| body.amount);
    let deposit = body(&deposited)
        .and_then(|body| ChangeSecretHashAndTopUp::parse(body).ok())
        .map_or(Nano::ZERO, |body| body.amount);
    Ok(Costs {
        stake: params.min_proxy_stake,
        deposit_min: params.min_client_stake,
        deposit,
        proxy: cost(&staked, node, stake),
        client: cost(&deposited, payer, deposit),
        wallet: first(chain, node).await?.cost(),
        price_per_token: params.price_per_token,
    })
}

async fn first(chain: &dyn Chain, address: Address) -> Result<Transaction> {
    let found = chain.transactions(&address, None, 1).await?.for_money(ChainPolicy::Proved)?;
    found.into_iter().next().with_context(|| format!("nothing has happened at {address} yet"))
}

fn body(transaction: &Transaction) -> Option<&Cell> {
    transaction.in_message.as_ref().map(|message| &message.body)
}

/// What came in, less what the contract holds for its owner and what went back.
fn cost(transaction: &Transaction, back_to: Address, holds: Nano) -> Nano {
    let value = |kind: &MessageKind| match kind {
        MessageKind::Internal { to, value, .. } => Some((*to, value.get())),
        MessageKind::ExternalIn { .. } | MessageKind::ExternalOut { .. } | MessageKind::Unreadable => None,
    };
    let came = transaction.in_message.as_ref().and_then(|message| value(&message.kind)).map_or(0, |(_, value)| value);
    let back = transaction.out_messages.iter().filter_map(|message| value(&message.kind));
    let back: u64 = back.filter(|(to, _)| *to == back_to).map(|(_, value)| value).sum();
    Nano::new(came.saturating_sub(back).saturating_sub(holds.get()))
}

impl Costs {
    /// For people.
    pub(in super::super) fn words(&self) -> String {
        let sum = |parts: &[Nano]| Nano::new(parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.get())));
        let proxy = sum(&[WALLET_FLOOR, self.wallet, self.stake, self.proxy]);
        let client = sum(&[WALLET_FLOOR, self.wallet, self.deposit_min, self.client]);
        let worker = sum(&[WALLET_FLOOR, self.wallet]);
        let mut text = String::from("what it costs, measured here at the main network's prices\n");
        let _ = writeln!(
            text,
            "  a node's wallet keeps {}, below which it sends nothing; its deployment costs {}",
            ton(WALLET_FLOOR),
            ton(self.wallet)
        );
        let _ = writeln!(text, "  a proxy stakes {}; its contract costs {}", ton(self.stake), ton(self.proxy));
        let _ = writeln!(
            text,
            "  a client deposits at least {}, here {}; its contract costs {}",
            ton(self.deposit_min),
            ton(self.deposit),
            ton(self.client)
        );
        let _ =
            writeln!(text, "  least to start: proxy {}, worker {}, client {}", ton(proxy), ton(worker), ton(client));
        let million = Nano::new(self.price_per_token.get().saturating_mul(1_000_000));
        let _ = write!(text, "  a million tokens: {}", ton(million));
        text
    }
}

fn ton(amount: Nano) -> String {
    format!("{} TON", amount.ton())
}
