//! The steward: what only lists goes at once, everything else waits where anybody can read it, and a new owner must
//! want to be one.

use cocoon_ton::contract::message::root::{
    AddModel, AddProxyType, AddWorkerType, ChangeFees, ChangeOwner, DelModel, DelProxyType, DelWorkerType,
    RegisterProxy, Reset, UnregisterProxy, UpdateProxy, UpgradeCode,
};
use cocoon_ton::contract::message::steward::{AcceptOwner, Act, Batch, Cancel, Execute, ProposeOwner, SetDelay};
use cocoon_ton::contract::note::EventDetails;
use cocoon_ton::contract::steward::Pending;
use cocoon_ton::contract::{ProxyRecord, RootState, StewardState, codes, exit};
use cocoon_ton::get_method::StackValue;
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;

use super::scene::{
    FLOOR, MILLI, NEXT_OWNER, OWNER, STRANGER, Scene, TON, details, events, person, root_init, steward_init,
};
use super::stage::{Trace, longer, shorter};

const DELAY_S: u32 = 172_800;
const VALUE: u64 = 500 * MILLI;

/// A root in the hands of a steward.
struct Government {
    scene: Scene,
    root: Address,
    steward: Address,
}

impl Government {
    fn new() -> Self {
        let mut scene = Scene::new();
        let root = scene.deploy(root_init(person(OWNER)), TON);
        let steward = scene.deploy(steward_init(root, DELAY_S), FLOOR + MILLI);
        let hand_over = ChangeOwner { query_id: 1, owner: steward };
        assert_eq!(scene.send(OWNER, root, VALUE, hand_over.to_cell()).exit(root), 0);
        Self { scene, root, steward }
    }

    fn tell(&mut self, from: u32, body: Cell) -> Trace {
        self.scene.send(from, self.steward, VALUE, body)
    }

    /// The owner's batch, which must be taken.
    fn act(&mut self, bodies: Vec<Cell>) -> Trace {
        let trace = self.tell(OWNER, act(bodies));
        assert_eq!(trace.exit(self.steward), 0);
        trace
    }

    fn refused(&mut self, from: u32, value: u64, body: Cell, code: i32) {
        let before = (self.scene.data(self.steward), self.scene.data(self.root));
        let trace = self.scene.send(from, self.steward, value, body);
        assert_eq!(trace.exit(self.steward), code, "not {}", exit::describe(code));
        assert_eq!((self.scene.data(self.steward), self.scene.data(self.root)), before);
        assert_eq!(events(&trace, self.steward), [], "an event of what did not happen");
    }

    fn state(&self) -> StewardState {
        let state = StewardState::parse(&self.scene.data(self.steward)).unwrap();
        assert_eq!(state.to_cell(), self.scene.data(self.steward), "to the bit");
        state
    }

    fn root(&self) -> RootState {
        RootState::parse(&self.scene.data(self.root)).unwrap()
    }
}

fn act(bodies: Vec<Cell>) -> Cell {
    Act { query_id: 7, changes: Batch::new(bodies).unwrap() }.to_cell()
}

fn execute(id: u32) -> Cell {
    Execute { query_id: 8, id }.to_cell()
}

fn cancel(id: u32) -> Cell {
    Cancel { query_id: 9, id }.to_cell()
}

fn propose(owner: u32) -> Cell {
    ProposeOwner { query_id: 10, owner: person(owner) }.to_cell()
}

fn accept() -> Cell {
    AcceptOwner { query_id: 11 }.to_cell()
}

fn set_delay(delay_s: u32) -> Cell {
    SetDelay { query_id: 12, delay_s }.to_cell()
}

fn model(hash: u8) -> Cell {
    AddModel { query_id: 1, hash: [hash; 32] }.to_cell()
}

fn price(nano: u64) -> Cell {
    ChangeFees { query_id: 2, price_per_token: Nano::new(nano), worker_fee_per_token: Nano::new(1) }.to_cell()
}

#[test]
fn what_only_lists_or_unlists_reaches_the_root_at_once() {
    let mut government = Government::new();
    let proxy = || ProxyRecord::new("192.0.2.1:9000", "192.0.2.1:9001", None).unwrap();
    let hash = [1; 32];
    let bodies = vec![
        AddProxyType { query_id: 1, hash }.to_cell(),
        AddWorkerType { query_id: 2, hash }.to_cell(),
        AddModel { query_id: 3, hash }.to_cell(),
        RegisterProxy { query_id: 4, proxy: proxy() }.to_cell(),
        RegisterProxy { query_id: 5, proxy: proxy() }.to_cell(),
        UpdateProxy { query_id: 6, seqno: 2, proxy: proxy() }.to_cell(),
    ];
    government.scene.send(OWNER, government.steward, TON, act(bodies));
    let root = government.root();
    assert_eq!((root.proxy_hashes.len(), root.worker_hashes.len(), root.model_hashes.len()), (1, 1, 1));
    assert_eq!(root.registered_proxies.len(), 2);
    let bodies = vec![
        UnregisterProxy { query_id: 1, seqno: 1 }.to_cell(),
        DelModel { query_id: 2, hash }.to_cell(),
        DelWorkerType { query_id: 3, hash }.to_cell(),
        DelProxyType { query_id: 4, hash }.to_cell(),
    ];
    let trace = government.act(bodies.clone());
    let root = government.root();
    assert_eq!((root.proxy_hashes.len(), root.worker_hashes.len(), root.model_hashes.len()), (0, 0, 0));
    assert_eq!(root.registered_proxies.keys().collect::<Vec<_>>(), [&2]);
    let forwarded: Vec<_> = bodies.into_iter().map(EventDetails::Forwarded).collect();
    assert_eq!(details(&trace, government.steward), forwarded);
    assert_eq!(government.state().pending.len(), 0);
}

#[test]
fn a_price_change_waits_and_can_be_read_meanwhile() {
    let mut government = Government::new();
    let trace = government.act(vec![price(99)]);
    let due_unix_s = government.scene.now + DELAY_S;
    let pending = Pending { due_unix_s, message: price(99) };
    assert_eq!(details(&trace, government.steward), [EventDetails::Stored(pending.clone())]);
    assert_eq!(government.state().pending.into_iter().collect::<Vec<_>>(), [(0, pending)]);
    let read = government.scene.get(government.steward, "get_pending", vec![]);
    assert!(matches!(&read[..], [StackValue::Cell(_)]), "{read:?}");
    assert_eq!(government.root().params.price_per_token.get(), 20);

    government.scene.wait(DELAY_S - 1);
    government.refused(OWNER, VALUE, execute(0), 1011);
    government.scene.wait(1);
    government.refused(STRANGER, VALUE, execute(0), 1010);
    let trace = government.tell(OWNER, execute(0));
    assert_eq!(details(&trace, government.steward), [EventDetails::Executed(price(99))]);
    assert_eq!(government.root().params.price_per_token.get(), 99);
    assert_eq!(government.state().pending.len(), 0);
    government.refused(OWNER, VALUE, execute(0), 2001);
}

#[test]
fn whatever_nobody_thought_of_is_locked() {
    let mut government = Government::new();
    let codes = codes();
    let unknown = CellBuilder::build_from((0xdead_beef_u32, 1_u64)).unwrap();
    let bodies = vec![
        ChangeOwner { query_id: 1, owner: person(STRANGER) }.to_cell(),
        UpgradeCode { query_id: 1, code: codes.wallet.clone() }.to_cell(),
        Reset { query_id: 1 }.to_cell(),
        set_delay(0),
        unknown.clone(),
        CellBuilder::build_from(0x9a12_47c0_u32).unwrap(),
        propose(STRANGER),
    ];
    let before = government.root();
    let count = bodies.len();
    government.act(bodies);
    assert_eq!(government.root(), before);
    let state = government.state();
    assert_eq!((state.pending.len(), state.delay_s, state.owner), (count, DELAY_S, person(OWNER)));

    government.scene.wait(DELAY_S);
    let trace = government.tell(OWNER, execute(4));
    let refused = EventDetails::Refused { op: 0xdead_beef, query_id: 1 };
    assert_eq!(details(&trace, government.steward), [EventDetails::Executed(unknown), refused]);
    assert_eq!(government.root(), before);
}

#[test]
fn the_lock_cannot_be_shortened_around_the_lock() {
    let mut government = Government::new();
    government.refused(OWNER, VALUE, set_delay(0), 1012);
    government.act(vec![set_delay(60), price(50)]);
    government.refused(OWNER, VALUE, execute(0), 1011);
    government.scene.wait(DELAY_S);
    let trace = government.tell(OWNER, execute(0));
    let changed = EventDetails::DelayChanged { before_s: DELAY_S, after_s: 60 };
    assert_eq!(details(&trace, government.steward), [EventDetails::Executed(set_delay(60)), changed]);
    government.act(vec![price(51)]);
    let due = government.state().pending[&2].due_unix_s;
    assert_eq!(due, government.scene.now + 60, "from now on, the shorter one");
}

#[test]
fn a_delay_that_would_lock_the_root_for_good_is_refused() {
    let mut government = Government::new();
    let year = 365 * 24 * 3600;
    government.refused(OWNER, VALUE, act(vec![set_delay(year + 1)]), 1004);
    government.refused(OWNER, VALUE, act(vec![set_delay(u32::MAX)]), 1004);
    government.refused(OWNER, VALUE, act(vec![longer(&set_delay(1))]), 9);
    government.act(vec![set_delay(year)]);
}

#[test]
fn a_pending_change_can_be_cancelled_once() {
    let mut government = Government::new();
    government.act(vec![price(50), price(51)]);
    government.refused(STRANGER, VALUE, cancel(0), 1010);
    let trace = government.tell(OWNER, cancel(0));
    assert_eq!(details(&trace, government.steward), [EventDetails::Cancelled(price(50))]);
    government.refused(OWNER, VALUE, cancel(0), 2001);
    government.scene.wait(DELAY_S);
    government.refused(OWNER, VALUE, execute(0), 2001);
    government.refused(OWNER, VALUE, execute(2), 2001);
    assert_eq!(government.tell(OWNER, execute(1)).exit(government.steward), 0);
    assert_eq!(government.root().params.price_per_token.get(), 51);
    government.act(vec![price(52)]);
    assert_eq!(government.state().pending.keys().collect::<Vec<_>>(), [&2], "numbers are not used again");
}

#[test]
fn a_new_owner_must_accept() {
    let mut government = Government::new();
    government.refused(NEXT_OWNER, VALUE, accept(), 1010);
    government.refused(STRANGER, VALUE, propose(STRANGER), 1010);
    let (before, after) = (person(OWNER), person(NEXT_OWNER));
    let trace = government.tell(OWNER, propose(NEXT_OWNER));
    assert_eq!(details(&trace, government.steward), [EventDetails::OwnerProposed { before, after }]);
    assert_eq!((government.state().owner, government.state().pending_owner), (before, Some(after)));

    government.refused(OWNER, VALUE, accept(), 1010);
    government.refused(STRANGER, VALUE, accept(), 1010);
    government.refused(NEXT_OWNER, VALUE, act(vec![model(1)]), 1010);
    government.act(vec![model(1)]);

    let trace = government.tell(NEXT_OWNER, accept());
    assert_eq!(details(&trace, government.steward), [EventDetails::OwnerChanged { before, after }]);
    assert_eq!((government.state().owner, government.state().pending_owner), (after, None));
    government.refused(OWNER, VALUE, act(vec![model(2)]), 1010);
    government.refused(NEXT_OWNER, VALUE, accept(), 1010);
    assert_eq!(government.tell(NEXT_OWNER, act(vec![model(2)])).exit(government.steward), 0);
    assert_eq!(government.root().model_hashes.len(), 2);
}

#[test]
fn a_proposal_can_be_replaced_before_it_is_accepted() {
    let mut government = Government::new();
    government.tell(OWNER, propose(STRANGER));
    government.tell(OWNER, propose(NEXT_OWNER));
    government.refused(STRANGER, VALUE, accept(), 1010);
    let elsewhere = Address { workchain: -1, account: [1; 32] };
    government.refused(OWNER, VALUE, ProposeOwner { query_id: 1, owner: elsewhere }.to_cell(), 1004);
    assert_eq!(government.tell(NEXT_OWNER, accept()).exit(government.steward), 0);
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let mut government = Government::new();
    let no_op = CellBuilder::build_from(1_u16).unwrap();
    government.refused(OWNER, VALUE, act(vec![model(1), price(50), no_op]), 9);
    // 0.05 TON for fees, and 0.04 TON with every body that goes at once.
    government.refused(OWNER, 169 * MILLI, act(vec![model(1), model(2), model(3)]), 1003);
    let trace = government.scene.send(OWNER, government.steward, 170 * MILLI, act(vec![model(1), model(2), model(3)]));
    assert_eq!(trace.exit(government.steward), 0);
    assert_eq!(government.root().model_hashes.len(), 3);
}

#[test]
fn a_batch_has_32_bodies_at_most() {
    let mut government = Government::new();
    let bodies = |count: u8| (0..count).map(model).collect::<Vec<_>>();
    // The builder refuses more, so this one is made by hand.
    let list = bodies(33).into_iter().rev().fold(None, |next: Option<Cell>, body| {
        let mut builder = CellBuilder::new();
        builder.store_reference(body).unwrap();
        builder.store_bit(next.is_some()).unwrap();
        next.into_iter().for_each(|next| builder.store_reference(next).unwrap());
        Some(builder.build().unwrap())
    });
    let mut body = CellBuilder::new();
    body.store_u32(Act::OP).unwrap();
    body.store_u64(7).unwrap();
    body.store_reference(list.unwrap()).unwrap();
    government.refused(OWNER, 5 * TON, body.build().unwrap(), 2002);
    let trace = government.scene.send(OWNER, government.steward, 2 * TON, act(bodies(32)));
    assert_eq!(trace.exit(government.steward), 0);
    assert_eq!(government.root().model_hashes.len(), 32);
    assert_eq!(events(&trace, government.steward).len(), 32);
}

#[test]
fn what_the_root_refuses_is_told_to_everybody_and_its_value_comes_back() {
    let mut government = Government::new();
    let proxy = ProxyRecord::new("192.0.2.1:9000", "192.0.2.1:9001", None).unwrap();
    let body = UpdateProxy { query_id: 77, seqno: 5, proxy }.to_cell();
    let before = government.scene.coins(person(OWNER));
    let trace = government.act(vec![body.clone()]);
    assert_eq!(trace.exit(government.root), 2000);
    let refused = EventDetails::Refused { op: UpdateProxy::OP, query_id: 77 };
    assert_eq!(details(&trace, government.steward), [EventDetails::Forwarded(body), refused]);
    let paid = before - government.scene.coins(person(OWNER));
    assert!(paid < 40 * MILLI, "fees of {paid} nano");
}

#[test]
fn the_steward_keeps_its_floor_and_no_more() {
    let mut government = Government::new();
    let steward = government.steward;
    government.scene.send(STRANGER, steward, TON, Cell::default());
    assert!(government.scene.coins(steward) > TON);
    let before = government.scene.coins(person(OWNER));
    government.act(vec![model(1), price(50)]);
    assert_eq!(government.scene.coins(steward), FLOOR);
    assert!(government.scene.coins(person(OWNER)) > before + TON - 100 * MILLI, "a gift goes to the owner");

    government.scene.wait(365 * 24 * 3600);
    assert_eq!(government.tell(OWNER, cancel(0)).exit(steward), 0);
    assert_eq!(government.scene.coins(steward), FLOOR, "a year of storage is paid by the next message");
}

#[test]
fn bodies_must_end_where_they_end() {
    let mut government = Government::new();
    government.act(vec![price(50)]);
    government.scene.wait(DELAY_S);
    for body in [act(vec![model(1)]), execute(0), cancel(0), propose(NEXT_OWNER)] {
        government.refused(OWNER, VALUE, longer(&body), 9);
        government.refused(OWNER, VALUE, shorter(&body), 9);
    }
    government.tell(OWNER, propose(NEXT_OWNER));
    government.refused(NEXT_OWNER, VALUE, longer(&accept()), 9);
    government.refused(NEXT_OWNER, VALUE, shorter(&accept()), 9);
    let unknown = CellBuilder::build_from((0x1234_5678_u32, 7_u64)).unwrap();
    government.refused(OWNER, VALUE, unknown.clone(), 1012);
    government.refused(STRANGER, VALUE, unknown, 1010);
}

#[test]
fn the_getter_says_what_the_data_holds() {
    let mut government = Government::new();
    government.act(vec![price(50)]);
    let empty = government.scene.get(government.steward, "get_steward_data", vec![]);
    assert_eq!(empty[1], StackValue::Null);
    government.tell(OWNER, propose(NEXT_OWNER));
    let data = government.scene.get(government.steward, "get_steward_data", vec![]);
    assert_eq!(data[3..], [StackValue::int(DELAY_S), StackValue::int(1)]);
    let address =
        |of: Address| StackValue::Slice(CellBuilder::build_from(tycho_types::models::StdAddr::from(of)).unwrap());
    assert_eq!(data[..3], [address(person(OWNER)), address(person(NEXT_OWNER)), address(government.root)]);
}
