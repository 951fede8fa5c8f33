//! The set of the tests about governance: a root, its steward, a wallet, and puppets for people.

use cocoon_ton::chain::{MessageKind, Transaction};
use cocoon_ton::contract::note::{Event, EventDetails};
use cocoon_ton::contract::{Params, RootState, StateInit, StewardState, codes};
use cocoon_ton::devnet::{Engine, Genesis, Order, Refused, puppet};
use cocoon_ton::get_method::{self, StackValue};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;
use tycho_types::models::{ExtInMsgInfo, MsgInfo, OwnedMessage, StdAddr};

pub(crate) use super::stage::Trace;

pub(crate) const NOW: u32 = 1_800_000_000;
pub(crate) const MILLI: u64 = 1_000_000;
pub(crate) const TON: u64 = 1_000 * MILLI;
pub(crate) const FLOOR: u64 = 10 * MILLI;

/// Who sends.
pub(crate) fn person(number: u32) -> Address {
    puppet::address(number)
}

pub(crate) const OWNER: u32 = 1;
pub(crate) const NEXT_OWNER: u32 = 2;
pub(crate) const STRANGER: u32 = 3;

/// An engine and its time.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) now: u32,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { engine: Engine::new(&Genesis { unix_s: NOW, puppets: 3, ..Genesis::default() }), now: NOW }
    }

    pub(crate) fn deploy(&mut self, init: StateInit, value: u64) -> Address {
        let to = init.address();
        let order = Order::call(to, Nano::new(value), Cell::default()).deploying(init.into());
        let trace = self.order(OWNER, &order);
        assert_eq!(trace.exit(to), 0);
        to
    }

    /// Sends, and makes blocks until nothing is on its way.
    pub(crate) fn send(&mut self, from: u32, to: Address, value: u64, body: Cell) -> Trace {
        self.order(from, &Order::call(to, Nano::new(value), body))
    }

    pub(crate) fn order(&mut self, from: u32, order: &Order) -> Trace {
        self.engine.order(person(from), order).unwrap();
        self.settle()
    }

    /// Submits an external message; the exit code where the contract does not accept it.
    pub(crate) fn submit(&mut self, to: Address, body: Cell, init: Option<StateInit>) -> Result<Trace, Option<i32>> {
        let message = external(to, body, init);
        match self.engine.submit(&message) {
            Ok(_) => Ok(self.settle()),
            Err(Refused::NotAccepted { exit_code, .. }) => Err(exit_code),
            Err(other) => panic!("{other}"),
        }
    }

    fn settle(&mut self) -> Trace {
        let blocks = self.engine.settle(self.now);
        self.engine.check_conservation().unwrap();
        let executed = blocks.iter().flat_map(|block| &block.transactions);
        Trace(executed.map(|one| Transaction::parse(one.account, one.cell.clone()).unwrap()).collect())
    }

    pub(crate) fn wait(&mut self, seconds: u32) {
        self.now += seconds;
        self.engine.tick(self.now);
    }

    pub(crate) fn coins(&self, of: Address) -> u64 {
        self.engine.balance(&of).get()
    }

    pub(crate) fn data(&self, of: Address) -> Cell {
        self.engine.account(&of).data.unwrap()
    }

    pub(crate) fn get(&self, of: Address, method: &str, stack: Vec<StackValue>) -> Vec<StackValue> {
        get_method::run(&self.engine.account(&of), &self.engine.config(), method, stack).unwrap()
    }
}

pub(crate) fn external(to: Address, body: Cell, init: Option<StateInit>) -> Cell {
    CellBuilder::build_from(OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo { dst: StdAddr::from(to).into(), ..ExtInMsgInfo::default() }),
        init: init.map(Into::into),
        body: body.into(),
        layout: None,
    })
    .unwrap()
}

pub(crate) fn params() -> Params {
    Params {
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(15),
        proxy_delay_s: 86_400,
        client_delay_s: 43_200,
        min_proxy_stake: Nano::new(TON),
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

pub(crate) fn root_init(owner: Address) -> StateInit {
    RootState::initial(owner, params()).state_init(codes().root.clone())
}

pub(crate) fn steward_init(root: Address, delay_s: u32) -> StateInit {
    StewardState::initial(person(OWNER), root, delay_s).state_init(codes().steward.clone())
}

/// What a contract told everybody.
pub(crate) fn events(trace: &Trace, of: Address) -> Vec<Event> {
    let messages = trace.0.iter().filter(|one| one.account == of).flat_map(|one| &one.out_messages);
    let outside = messages.filter(|message| matches!(message.kind, MessageKind::ExternalOut { .. }));
    outside.map(|message| Event::parse(&message.body).unwrap()).collect()
}

pub(crate) fn details(trace: &Trace, of: Address) -> Vec<EventDetails> {
    events(trace, of).into_iter().map(|event| event.details).collect()
}
