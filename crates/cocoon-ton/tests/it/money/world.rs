//! Two proxies, three clients, three workers, their owners, and the network.

use std::sync::LazyLock;

use cocoon_ton::chain::Transaction;
use cocoon_ton::contract::message::{client, proxy, worker};
use cocoon_ton::contract::{
    ClientState, Params, ProxyState, StateInit, WorkerState, client_state_init, codes, proxy_state_init,
    worker_state_init,
};
use cocoon_ton::devnet::{Block, Engine, Genesis, Order, puppet};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use ed25519_dalek::SigningKey;

use super::book::Book;
use super::random::Random;

pub(crate) const TON: u64 = 1_000_000_000;
pub(crate) const CLIENT_DELAY_S: u32 = 100;
pub(crate) const PROXY_DELAY_S: u32 = 200;
const NOW: u32 = 1_800_000_000;
/// Where change goes: it has no code, and so takes no fees.
pub(crate) const PURSE: Address = Address::basechain([0xbb; 32]);
/// Price of a token and what of it is the worker's: as usual, a worker's fee above the price, and dear tokens, of which a
/// balance pays a few only.
const PRICES: [(u64, u64); 3] = [(20, 15), (10, 15), (300_000_000, 200_000_000)];

/// A contract of one of the three kinds, its owner and its place.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) kind: Kind,
    pub(crate) owner: Address,
    pub(crate) address: Address,
    pub(crate) init: StateInit,
    /// Which of the proxies it belongs to; a proxy to itself.
    pub(crate) proxy: usize,
    /// The highest count of tokens that the proxy signed for it.
    pub(crate) signed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Proxy,
    Client,
    Worker,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: u32,
    pub(crate) params: Params,
    pub(crate) keys: [SigningKey; 2],
    /// Proxies first, so that a proxy's number is its index.
    pub(crate) parties: Vec<Party>,
    pub(crate) book: Book,
    pub(crate) query: u64,
    /// The last signed message that each party could replay.
    pub(crate) replay: Option<(usize, Cell)>,
}

/// One world for each price, with clients and workers deployed and the proxies not.
static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| PRICES.map(World::build).into());

impl World {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut world = WORLDS[random.index(WORLDS.len())].clone();
        for proxy in 0..2 {
            // The others may be deployed later, or never.
            if random.percent(80) {
                world.deploy(proxy);
            }
        }
        world.calm().unwrap();
        world
    }

    fn build((price, fee): (u64, u64)) -> Self {
        let params = Params {
            params_version: 1,
            unique_id: 17,
            is_test: true,
            price_per_token: Nano::new(price),
            worker_fee_per_token: Nano::new(fee),
            proxy_delay_s: PROXY_DELAY_S,
            client_delay_s: CLIENT_DELAY_S,
            min_proxy_stake: Nano::new(TON),
            min_client_stake: Nano::new(TON),
            codes: Some(codes().published()),
            ..Params::default()
        };
        let keys = [SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32])];
        let mut world = Self {
            engine: Engine::new(&Genesis { unix_s: NOW, puppets: 9, ..Genesis::default() }),
            now: NOW,
            parties: parties(&keys, &params),
            book: Book::new(price.into(), fee.into(), 8),
            params,
            keys,
            query: 0,
            replay: None,
        };
        for party in 2..8 {
            world.deploy(party);
        }
        world.calm().unwrap();
        world
    }

    /// Everybody but the owners.
    pub(crate) fn stranger() -> Address {
        puppet::address(9)
    }

    /// Days since the beginning.
    pub(crate) fn age_days(&self) -> u32 {
        (self.now - NOW) / 86_400
    }

    pub(crate) fn query(&mut self) -> u64 {
        self.query += 1;
        self.query
    }

    pub(crate) fn indices(&self, kind: Kind) -> Vec<usize> {
        (0..self.parties.len()).filter(|index| self.parties[*index].kind == kind).collect()
    }

    pub(crate) fn party_at(&self, address: &Address) -> Option<usize> {
        self.parties.iter().position(|party| party.address == *address)
    }

    /// Deploys a contract with a message that anybody, or its owner, may send.
    pub(crate) fn deploy(&mut self, index: usize) {
        let party = self.parties[index].clone();
        let query_id = self.query();
        let (value, body) = match party.kind {
            Kind::Proxy => {
                let stake = proxy::IncreaseStake { query_id, amount: Nano::new(TON), excesses_to: PURSE };
                (TON, stake.to_cell())
            }
            Kind::Client => {
                let top_up = client::TopUp { query_id, amount: Nano::new(3 * TON), excesses_to: PURSE };
                (3 * TON, top_up.to_cell())
            }
            Kind::Worker => (0, worker::Register { query_id, excesses_to: PURSE }.to_cell()),
        };
        let order = Order::call(party.address, Nano::new(value + TON), body).deploying(party.init.into());
        self.engine.order(party.owner, &order).expect("puppets have money enough for any case");
    }

    pub(crate) fn send(&mut self, from: Address, to: Address, value: u64, body: Cell) {
        let sent = self.engine.order(from, &Order::call(to, Nano::new(value), body));
        sent.expect("puppets have money enough for any case");
    }

    /// A block of at most this many transactions, which the book reads.
    pub(crate) fn tick(&mut self, transactions_max: usize) -> Result<(), String> {
        let block = self.engine.tick_up_to(self.now, transactions_max);
        self.read(&block)
    }

    /// Ends all faults, and lets everything arrive.
    pub(crate) fn calm(&mut self) -> Result<(), String> {
        *self.engine.faults_mut() = cocoon_ton::devnet::Faults::default();
        for block in self.engine.settle(self.now) {
            self.read(&block)?;
        }
        if self.engine.has_work() {
            return Err("messages go round for ever".to_owned());
        }
        Ok(())
    }

    fn read(&mut self, block: &Block) -> Result<(), String> {
        for executed in &block.transactions {
            if let Some(index) = self.party_at(&executed.account) {
                let transaction = Transaction::parse(executed.account, executed.cell.clone()).unwrap();
                self.book.read(&self.parties, index, &transaction)?;
            }
        }
        Ok(())
    }

    pub(crate) fn client(&self, index: usize) -> ClientState {
        ClientState::parse(&self.data(index).expect("clients are deployed")).unwrap()
    }

    pub(crate) fn worker(&self, index: usize) -> WorkerState {
        WorkerState::parse(&self.data(index).expect("workers are deployed")).unwrap()
    }

    /// `None` while it is not deployed.
    pub(crate) fn proxy(&self, index: usize) -> Option<ProxyState> {
        self.data(index).map(|data| ProxyState::parse(&data).unwrap())
    }

    fn data(&self, index: usize) -> Option<Cell> {
        self.engine.account(&self.parties[index].address).data
    }

    pub(crate) fn coins(&self, index: usize) -> u64 {
        self.engine.balance(&self.parties[index].address).get()
    }
}

fn parties(keys: &[SigningKey; 2], params: &Params) -> Vec<Party> {
    let root = Address::basechain([0x77; 32]);
    let mut parties: Vec<Party> = Vec::new();
    for (index, kind) in [(0, Kind::Proxy), (1, Kind::Proxy)]
        .into_iter()
        .chain([(0, Kind::Client), (0, Kind::Client), (1, Kind::Client)])
        .chain([(0, Kind::Worker), (1, Kind::Worker), (1, Kind::Worker)])
    {
        let owner = puppet::address(u32::try_from(parties.len()).unwrap() + 1);
        let key = keys[index].verifying_key().to_bytes();
        let init = match kind {
            Kind::Proxy => proxy_state_init(owner, &key, root, params),
            Kind::Client => client_state_init(owner, parties[index].address, &key, params),
            Kind::Worker => worker_state_init(owner, parties[index].address, &key, params),
        };
        let init = init.unwrap();
        parties.push(Party { kind, owner, address: init.address(), init, proxy: index, signed: 0 });
    }
    parties
}
