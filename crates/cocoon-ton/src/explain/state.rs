//! What an account holds and where it stands, in words.

use super::{Contract, Line, duration, recognise, time};
use crate::chain::{Account, Status};
use crate::contract::message::steward::describe;
use crate::contract::{
    ClientState, Field as _, Lifecycle, Params, ProxyState, RootState, StewardState, WalletState, WorkerState,
};

/// What `account` is and holds. `params` are a root's, when there is one at hand.
#[must_use]
pub fn state(account: &Account, params: Option<&Params>) -> Vec<Line> {
    let mut lines = vec![Line::new("address", account.address.raw()), Line::new("account", words(account.status))];
    lines.push(Line::new("holds", account.balance.show()));
    lines.push(Line::new("as of", format!("{}, block {}", time(account.at.unix_s), account.at.seqno)));
    let (Some(code), Some(data)) = (&account.code, &account.data) else { return lines };
    match recognise(code, data, params) {
        Ok((contract, how)) => {
            lines.push(Line::new("contract", contract.to_string()));
            lines.push(Line::new("recognised by", how.to_string()));
            lines.extend(contract_lines(&contract, account.at.unix_s));
        }
        Err(error) => {
            lines.push(Line::new("contract", "none of Cocoon's"));
            lines.push(Line::new("code hash", code.repr_hash().to_string()));
            lines.push(Line::new("closest layout", error.to_string()));
        }
    }
    lines
}

const fn words(status: Status) -> &'static str {
    match status {
        Status::Missing => "never used",
        Status::Uninit => "no contract yet; it only holds money",
        Status::Active => "active",
        Status::Frozen => "frozen: it could not pay for storage",
    }
}

fn contract_lines(contract: &Contract, now: u32) -> Vec<Line> {
    match contract {
        Contract::Root(root) => root_lines(root),
        Contract::Proxy(proxy) => proxy_lines(proxy, now),
        Contract::Client(client) => client_lines(client, now),
        Contract::Worker(worker) => worker_lines(worker),
        Contract::Wallet(wallet) => wallet_lines(wallet),
        Contract::Steward(steward) => steward_lines(steward, now),
    }
}

fn root_lines(root: &RootState) -> Vec<Line> {
    let mut lines = vec![
        Line::new("owner", root.owner.show()),
        Line::new("version", root.version.to_string()),
        Line::new("network", if root.params.is_test { "test: money is play money" } else { "real money" }),
    ];
    for (list, hashes) in
        [("proxy images", &root.proxy_hashes), ("worker images", &root.worker_hashes), ("models", &root.model_hashes)]
    {
        lines.push(Line::new(list, hashes.len().to_string()));
        lines.extend(hashes.iter().map(|hash| Line::part("hash", hex::encode(hash))));
    }
    lines.push(Line::new("proxies", root.registered_proxies.len().to_string()));
    lines.extend(
        root.registered_proxies.iter().map(|(seqno, proxy)| Line::part(format!("number {seqno}"), proxy.show())),
    );
    lines.extend(root.odd_proxies.keys().map(|seqno| Line::part(format!("number {seqno}"), "cannot be dialled")));
    lines.extend(params_lines(&root.params));
    lines
}

fn params_lines(params: &Params) -> Vec<Line> {
    let weights = &params.multipliers;
    let mut lines = vec![
        Line::new("parameters", format!("version {}, network {}", params.params_version, params.unique_id)),
        Line::part("price", format!("{} nanoTON a token", params.price_per_token.get())),
        Line::part("worker's part", format!("{} nanoTON a token", params.worker_fee_per_token.get())),
        Line::part("prompt weight", weights.prompt.show()),
        Line::part("cached weight", weights.cached.show()),
        Line::part("completion weight", weights.completion.show()),
        Line::part("reasoning weight", weights.reasoning.show()),
        Line::part("proxy delay", duration(params.proxy_delay_s)),
        Line::part("client delay", duration(params.client_delay_s)),
        Line::part("minimum proxy stake", params.min_proxy_stake.show()),
        Line::part("minimum client stake", params.min_client_stake.show()),
    ];
    if let Some(codes) = &params.codes {
        for (name, code) in
            [("proxy code", &codes.proxy), ("worker code", &codes.worker), ("client code", &codes.client)]
        {
            lines.push(Line::part(name, code.repr_hash().to_string()));
        }
    }
    lines
}

fn proxy_lines(proxy: &ProxyState, now: u32) -> Vec<Line> {
    let mut lines = vec![
        Line::new("state", lifecycle(proxy.state, proxy.unlock_unix_s, now, "the owner may complete the close")),
        Line::new("owner", proxy.owner.show()),
        Line::new("root", proxy.root.show()),
        Line::new("payment key", proxy.payment_key.show()),
        Line::new("stake", proxy.stake.show()),
        Line::new("commission", format!("{} not paid out yet", proxy.balance.show())),
        Line::new("funds", format!("{} for stake, commission and workers", proxy.funds.show())),
    ];
    lines.extend(params_lines(&proxy.params));
    lines
}

fn client_lines(client: &ClientState, now: u32) -> Vec<Line> {
    let mut lines = vec![
        Line::new("state", lifecycle(client.state, client.unlock_unix_s, now, "the owner may take everything")),
        Line::new("owner", client.owner.show()),
        Line::new("proxy contract", client.proxy.show()),
        Line::new("proxy key", client.proxy_key.show()),
        Line::new("balance", client.balance.show()),
        Line::new("stake", client.stake.show()),
        Line::new("tokens charged", client.tokens_used.to_string()),
    ];
    if client.due.get() > 0 {
        lines.push(Line::new("charged, not taken", format!("{}: there was no proxy contract", client.due.show())));
    }
    if client.secret_hash != [0; 32] {
        lines.push(Line::new("secret hash", client.secret_hash.show()));
    }
    lines.extend(params_lines(&client.params));
    lines
}

fn worker_lines(worker: &WorkerState) -> Vec<Line> {
    let mut lines = vec![
        Line::new("state", worker.state.to_string()),
        Line::new("owner", worker.owner.show()),
        Line::new("proxy contract", worker.proxy.show()),
        Line::new("proxy key", worker.proxy_key.show()),
        Line::new("tokens claimed", worker.tokens.to_string()),
    ];
    if worker.unpaid.worker.get() > 0 || worker.unpaid.proxy.get() > 0 {
        lines.push(Line::new("unpaid", "claimable again"));
        lines.push(Line::part("worker's part", worker.unpaid.worker.show()));
        lines.push(Line::part("proxy's part", worker.unpaid.proxy.show()));
    }
    lines.extend(params_lines(&worker.params));
    lines
}

fn wallet_lines(wallet: &WalletState) -> Vec<Line> {
    vec![
        Line::new("state", if wallet.is_blocked() { "blocked by its owner" } else { "open" }),
        Line::new("owner", wallet.owner.show()),
        Line::new("key", wallet.public_key.show()),
        Line::new("messages sent", wallet.seqno.to_string()),
    ]
}

fn steward_lines(steward: &StewardState, now: u32) -> Vec<Line> {
    let mut lines = vec![
        Line::new("owner", steward.owner.show()),
        Line::new("root", steward.root.show()),
        Line::new("delay", duration(steward.delay_s)),
    ];
    if let Some(owner) = &steward.pending_owner {
        lines.push(Line::new("proposed owner", format!("{owner}, who has not accepted yet")));
    }
    lines.push(Line::new("pending changes", steward.pending.len().to_string()));
    for (id, pending) in &steward.pending {
        let when = when(pending.due_unix_s, now, "may be executed");
        lines.push(Line::part(format!("number {id}"), format!("{}; {when}", describe(&pending.message))));
    }
    lines
}

fn lifecycle(state: Lifecycle, unlock: u32, now: u32, then: &str) -> String {
    match state {
        Lifecycle::Normal | Lifecycle::Closed => state.to_string(),
        Lifecycle::Closing => format!("closing; {}", when(unlock, now, then)),
    }
}

/// `then` happens from `at` on.
fn when(at: u32, now: u32, then: &str) -> String {
    match at.checked_sub(now) {
        None | Some(0) => format!("{then} since {}", time(at)),
        Some(left) => format!("{then} from {}, in {}", time(at), duration(left)),
    }
}
