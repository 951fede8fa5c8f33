//! A proxy with many clients, each with a deposit, and charges that its key signed.

use cocoon_ton::contract::message::{client, proxy, worker};
use cocoon_ton::contract::{Params, StateInit, client_state_init, codes, proxy_state_init, signed, worker_state_init};
use cocoon_ton::devnet::{Order, puppet};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use ed25519_dalek::SigningKey;

use super::Failure;

const TON: u64 = 1_000_000_000;
pub(super) const NOW: u32 = 1_800_000_000;
const CHANGE: Address = Address::basechain([0xbb; 32]);
const PROXY_OWNER: u32 = 1;

pub(super) struct Stage {
    params: Params,
    key: SigningKey,
    proxy: StateInit,
}

impl Stage {
    pub(super) fn new() -> Result<Self, Failure> {
        let params = params();
        let key = SigningKey::from_bytes(&[7; 32]);
        let root = Address::basechain([0x77; 32]);
        let proxy = proxy_state_init(puppet::address(PROXY_OWNER), key.verifying_key().as_bytes(), root, &params)?;
        Ok(Self { params, key, proxy })
    }

    /// The message that deploys the proxy.
    pub(super) fn proxy(&self) -> Result<Cell, Failure> {
        let stake = proxy::IncreaseStake { query_id: 0, amount: Nano::new(TON), excesses_to: CHANGE };
        command(self.proxy.address(), 2 * TON, stake.to_cell(), Some(self.proxy.clone()), 0)
    }

    /// The message that deploys client number `index`.
    pub(super) fn client(&self, index: u32) -> Result<Cell, Failure> {
        let init = self.client_init(index)?;
        let top_up = client::TopUp { query_id: 0, amount: Nano::new(TON), excesses_to: CHANGE };
        command(init.address(), 2 * TON, top_up.to_cell(), Some(init), u64::from(index))
    }

    /// The message that charges client number `index` for all tokens up to `tokens`.
    pub(super) fn charge(&self, index: u32, tokens: u64) -> Result<Cell, Failure> {
        let to = self.client_init(index)?.address();
        let body = signed::charge(to, tokens, tokens).sign(&self.key).envelope(CHANGE);
        command(to, TON / 2, body, None, tokens)
    }

    /// The message that deploys worker number `index`; only its owner may send it.
    pub(super) fn worker(&self, index: u32) -> Result<Cell, Failure> {
        let owner = puppet::address(PROXY_OWNER);
        let mut params = self.params.clone();
        // Another network for each, so that each has another address.
        params.unique_id = index;
        let init = worker_state_init(owner, self.proxy.address(), self.key.verifying_key().as_bytes(), &params)?;
        let register = worker::Register { query_id: 0, excesses_to: CHANGE };
        command(init.address(), TON / 2, register.to_cell(), Some(init), u64::from(index))
    }

    fn client_init(&self, index: u32) -> Result<StateInit, Failure> {
        let mut owner = [0xcc; 32];
        owner[..4].copy_from_slice(&index.to_be_bytes());
        let key = self.key.verifying_key();
        Ok(client_state_init(Address::basechain(owner), self.proxy.address(), key.as_bytes(), &self.params)?)
    }
}

pub(super) fn params() -> Params {
    Params {
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(15),
        proxy_delay_s: 86_400,
        client_delay_s: 86_400,
        min_proxy_stake: Nano::new(TON),
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

fn command(to: Address, value: u64, body: Cell, init: Option<StateInit>, nonce: u64) -> Result<Cell, Failure> {
    let mut order = Order::call(to, Nano::new(value), body);
    order.state_init = init.map(Into::into);
    Ok(puppet::command(puppet::address(PROXY_OWNER), &order, nonce)?)
}
