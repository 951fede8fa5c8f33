//! The wallet: what its key may send, what its owner may say, and that no order is ever used twice, paid or not.

use cocoon_ton::chain::MessageKind;
use cocoon_ton::contract::message::comment;
use cocoon_ton::contract::message::wallet::{Order, OwnerSend};
use cocoon_ton::contract::{StateInit, WalletState, codes};
use cocoon_ton::get_method::StackValue;
use cocoon_ton::{Address, Cell};
use ed25519_dalek::{Signer as _, SigningKey};
use tycho_types::cell::CellBuilder;
use tycho_types::models::{
    CurrencyCollection, OwnedRelaxedMessage, RelaxedExtOutMsgInfo, RelaxedIntMsgInfo, RelaxedMsgInfo, StdAddr,
};

use super::scene::{MILLI, NOW, OWNER, STRANGER, Scene, TON, external, person};
use super::stage::{Trace, longer, shorter};

const PAYEE: Address = Address::basechain([0xbb; 32]);
/// Fees apart from the value; errors ignored.
const MODE: u8 = 3;

struct Purse {
    scene: Scene,
    key: SigningKey,
    wallet: Address,
    init: StateInit,
}

impl Purse {
    /// A wallet with 10 TON.
    fn new() -> Self {
        let key = SigningKey::from_bytes(&[5; 32]);
        let state = WalletState::initial(key.verifying_key().to_bytes(), person(OWNER));
        let init = state.state_init(codes().wallet.clone());
        let mut scene = Scene::new();
        let wallet = scene.deploy(init.clone(), 10 * TON);
        Self { scene, key, wallet, init }
    }

    fn state(&self) -> WalletState {
        WalletState::parse(&self.scene.data(self.wallet)).unwrap()
    }

    /// The next order, good for a minute.
    fn order(&self, messages: Vec<(u8, Cell)>) -> Order {
        Order::new(0, self.scene.now + 60, self.state().seqno, messages).unwrap()
    }

    fn sign(&self, order: Order) -> Cell {
        let signature = self.key.sign(&order.signing_hash()).to_bytes();
        order.signed(signature).to_cell()
    }

    fn submit(&mut self, order: Order) -> Result<Trace, Option<i32>> {
        let body = self.sign(order);
        self.scene.submit(self.wallet, body, None)
    }

    fn pay(&mut self, messages: Vec<(u8, Cell)>) -> Trace {
        self.submit(self.order(messages)).unwrap()
    }

    fn say(&mut self, from: u32, body: Cell) -> i32 {
        self.scene.send(from, self.wallet, 100 * MILLI, body).exit(self.wallet)
    }

    fn coins(&self) -> u64 {
        self.scene.coins(self.wallet)
    }
}

fn payment(value: u64) -> Cell {
    payment_from(None, value)
}

fn payment_from(src: Option<Address>, value: u64) -> Cell {
    message(src, value, None)
}

fn message(src: Option<Address>, value: u64, init: Option<StateInit>) -> Cell {
    CellBuilder::build_from(OwnedRelaxedMessage {
        info: RelaxedMsgInfo::Int(RelaxedIntMsgInfo {
            src: src.map(|src| StdAddr::from(src).into()),
            dst: StdAddr::from(PAYEE).into(),
            value: CurrencyCollection::new(u128::from(value)),
            ..RelaxedIntMsgInfo::default()
        }),
        init: init.map(Into::into),
        body: Cell::default().into(),
        layout: None,
    })
    .unwrap()
}

fn event() -> Cell {
    CellBuilder::build_from(OwnedRelaxedMessage {
        info: RelaxedMsgInfo::ExtOut(RelaxedExtOutMsgInfo { src: None, dst: None, created_lt: 0, created_at: 0 }),
        init: None,
        body: Cell::default().into(),
        layout: None,
    })
    .unwrap()
}

/// A message that deploys with libraries in a dictionary that is none: in the message, or in a cell of its own.
fn with_bad_libraries(message: &Cell, in_own_cell: bool) -> Cell {
    let mut init = CellBuilder::new();
    init.store_zeros(4).unwrap();
    init.store_bit_one().unwrap();
    init.store_reference(CellBuilder::build_from(0x05_u8).unwrap()).unwrap();

    // It ended with: no initial state, and an empty body.
    let mut head = message.as_slice().unwrap();
    let head = head.load_prefix(head.size_bits() - 2, 0).unwrap();
    let mut builder = CellBuilder::new();
    builder.store_slice(head).unwrap();
    builder.store_bit_one().unwrap();
    builder.store_bit(in_own_cell).unwrap();
    if in_own_cell {
        builder.store_reference(init.build().unwrap()).unwrap();
    } else {
        builder.store_builder(&init).unwrap();
    }
    builder.store_bit_zero().unwrap();
    builder.build().unwrap()
}

#[test]
fn an_order_pays_exactly_and_once() {
    let mut purse = Purse::new();
    let order = purse.order(vec![(MODE, payment(TON)), (MODE, payment(2 * TON))]);
    let again = order.clone();
    purse.submit(order).unwrap();
    assert_eq!(purse.scene.coins(PAYEE), 3 * TON);
    assert_eq!(purse.submit(again).err(), Some(Some(1032)));
    assert_eq!(purse.scene.coins(PAYEE), 3 * TON);
    assert_eq!(purse.state().seqno, 1);
}

#[test]
fn an_order_of_nothing_only_counts() {
    let mut purse = Purse::new();
    purse.pay(vec![]);
    assert_eq!(purse.state().seqno, 1);
}

#[test]
fn stale_foreign_and_forged_orders_are_refused_for_free() {
    let mut purse = Purse::new();
    purse.pay(vec![]);
    let (coins, now) = (purse.coins(), purse.scene.now);
    for (subwallet, valid_until, seqno, code) in [
        (0, now, 1, 1030),
        (0, NOW - 1, 1, 1030),
        (0, now + 60, 0, 1032),
        (0, now + 60, 2, 1032),
        (1, now + 60, 1, 1033),
    ] {
        let order = Order::new(subwallet, valid_until, seqno, vec![(MODE, payment(1))]).unwrap();
        assert_eq!(purse.submit(order).err(), Some(Some(code)));
    }
    let order = purse.order(vec![(MODE, payment(1))]);
    let stolen = SigningKey::from_bytes(&[6; 32]).sign(&order.signing_hash()).to_bytes();
    let forged = order.clone().signed(stolen).to_cell();
    assert_eq!(purse.scene.submit(purse.wallet, forged, None).err(), Some(Some(1034)));
    for broken in [longer(&purse.sign(order.clone())), shorter(&purse.sign(order))] {
        assert_eq!(purse.scene.submit(purse.wallet, broken, None).err(), Some(Some(1034)));
    }
    assert_eq!(purse.scene.submit(purse.wallet, Cell::default(), None).err(), Some(Some(9)));
    assert_eq!(purse.coins(), coins);
    assert_eq!(purse.state().seqno, 1);
}

/// v3 fails in the action phase, pays for it, and counts nothing: anybody can send the same order again, for a minute or
/// an hour, down to 2 TON.
#[test]
fn an_unfunded_wallet_action_cannot_be_replayed_to_burn_fees() {
    for mode in [0, 1, 2, 3] {
        let mut purse = Purse::new();
        let order = purse.order(vec![(mode, payment(1_000 * TON))]);
        let again = order.clone();
        let trace = purse.submit(order).unwrap();
        let outcome = trace.0[0].outcome;
        assert_eq!((outcome.exit_code, outcome.action_code), (Some(0), Some(0)), "mode {mode}");
        assert_eq!(purse.state().seqno, 1, "mode {mode}: it is used up");
        let coins = purse.coins();
        assert_eq!(purse.submit(again).err(), Some(Some(1032)), "mode {mode}");
        assert_eq!(purse.coins(), coins, "mode {mode}");
    }
}

#[test]
fn an_unpayable_message_does_not_keep_the_others_back() {
    let mut purse = Purse::new();
    purse.pay(vec![(1, payment(1_000 * TON)), (1, payment(TON))]);
    assert_eq!(purse.scene.coins(PAYEE), TON);
}

/// Any of these would fail the action phase whatever the mode, on the network if not here.
#[test]
fn a_malformed_wallet_message_cannot_be_replayed_to_burn_fees() {
    let no_message = CellBuilder::build_from(0x1234_u16).unwrap();
    for (what, mode, message) in [
        ("no message", MODE, no_message),
        ("an empty one", MODE, Cell::default()),
        ("one bit less", MODE, shorter(&payment(1))),
        ("another's address as source", MODE, payment_from(Some(PAYEE), 1)),
        ("mode 16", 16, payment(1)),
        ("mode 32, which would delete the wallet and its seqno", 160, payment(1)),
        ("modes 64 and 128", 192, payment(1)),
        ("mode 4", 4, payment(1)),
        ("mode 8", 8, payment(1)),
        ("an event that carries the message's value", 64, event()),
        ("an event that carries all coins", 128, event()),
        ("bad libraries", MODE, with_bad_libraries(&payment(1), false)),
        ("bad libraries in a cell of their own", MODE, with_bad_libraries(&payment(1), true)),
        ("an event with bad libraries", MODE, with_bad_libraries(&event(), false)),
    ] {
        let mut purse = Purse::new();
        let order = purse.order(vec![(MODE, payment(5)), (mode, message)]);
        let again = order.clone();
        purse.submit(order).unwrap();
        assert_eq!(purse.state().seqno, 1, "{what}: it is used up");
        assert_eq!(purse.scene.coins(PAYEE), 0, "{what}: nothing of the order is sent");
        let coins = purse.coins();
        assert_eq!(purse.submit(again).err(), Some(Some(1032)), "{what}");
        assert_eq!(purse.coins(), coins, "{what}");
    }
}

#[test]
fn a_wallet_announces_and_deploys() {
    let mut purse = Purse::new();
    let trace = purse.pay(vec![(MODE, event())]);
    assert!(matches!(trace.0[0].out_messages[0].kind, MessageKind::ExternalOut { .. }));
    let init = StateInit { code: Cell::default(), data: purse.scene.data(purse.wallet) };
    let trace = purse.pay(vec![(MODE, message(None, 1, Some(init)))]);
    assert_eq!((trace.0[0].out_messages.len(), purse.state().seqno), (1, 2));
}

#[test]
fn its_own_address_may_stand_as_source() {
    let mut purse = Purse::new();
    purse.pay(vec![(MODE, payment_from(Some(purse.wallet), 6))]);
    assert_eq!(purse.scene.coins(PAYEE), 6);
}

#[test]
fn below_two_ton_the_key_can_do_nothing() {
    let mut purse = Purse::new();
    let coins = purse.coins();
    purse.pay(vec![(MODE, payment(coins - 2 * TON))]);
    assert!(purse.coins() < 2 * TON);
    let before = purse.coins();
    assert_eq!(purse.submit(purse.order(vec![(MODE, payment(1))])).err(), Some(Some(1035)));
    assert_eq!(purse.coins(), before);
    purse.scene.send(STRANGER, purse.wallet, TON, Cell::default());
    purse.pay(vec![(MODE, payment(1))]);
}

#[test]
fn the_first_order_may_bring_the_wallet_with_it() {
    let mut purse = Purse::new();
    let mut scene = Scene::new();
    let fund = cocoon_ton::devnet::Order::transfer(purse.wallet, cocoon_units::Nano::new(3 * TON));
    scene.order(STRANGER, &fund);
    let body = purse.sign(purse.order(vec![(MODE, payment(TON))]));
    assert_eq!(scene.submit(purse.wallet, body.clone(), None).err(), Some(None), "there is no code yet");
    scene.submit(purse.wallet, body, Some(purse.init.clone())).unwrap();
    assert_eq!(scene.coins(PAYEE), TON);
    purse.scene = scene;
    assert_eq!(purse.state().seqno, 1);
}

#[test]
fn an_order_in_a_block_too_late_leaves_no_trace() {
    let mut purse = Purse::new();
    let message = external(purse.wallet, purse.sign(purse.order(vec![(MODE, payment(TON))])), None);
    let coins = purse.coins();
    purse.scene.engine.submit(&message).unwrap();
    let block = purse.scene.engine.tick(purse.scene.now + 60);
    assert_eq!((block.transactions.len(), block.expired.len()), (0, 1));
    assert_eq!((purse.coins(), purse.scene.coins(PAYEE)), (coins, 0));
}

#[test]
fn the_owner_blocks_unblocks_sends_and_empties_and_nobody_else_does() {
    let mut purse = Purse::new();
    let send = OwnerSend { query_id: 1, mode: 1, message: payment(TON) }.to_cell();
    for body in [comment("w"), comment("b"), comment("u"), send.clone()] {
        assert_eq!(purse.say(STRANGER, body), 1040);
    }
    assert_eq!(purse.say(OWNER, comment("b")), 0);
    assert!(purse.state().is_blocked());
    assert_eq!(purse.submit(purse.order(vec![])).err(), Some(Some(1031)));
    assert_eq!(purse.say(OWNER, send), 0, "the owner sends from a blocked wallet too");
    assert_eq!(purse.scene.coins(PAYEE), TON);
    assert_eq!(purse.say(OWNER, comment("u")), 0);
    purse.pay(vec![]);
    let before = purse.scene.coins(person(OWNER));
    assert_eq!(purse.say(OWNER, comment("w")), 0);
    assert_eq!(purse.coins(), 10 * MILLI);
    assert!(purse.scene.coins(person(OWNER)) > before + 8 * TON);
}

#[test]
fn what_the_owner_mistypes_is_sent_back() {
    let mut purse = Purse::new();
    let send = OwnerSend { query_id: 1, mode: 1, message: payment(TON) }.to_cell();
    let unknown = CellBuilder::build_from((0x1234_5678_u32, 7_u64)).unwrap();
    let bad_mode = OwnerSend { query_id: 1, mode: 32, message: payment(TON) }.to_cell();
    for (body, code) in [
        (comment("x"), 1041),
        (unknown, 1041),
        (comment("ww"), 9),
        (comment(""), 9),
        (longer(&send), 9),
        (shorter(&send), 9),
        (bad_mode, 1004),
    ] {
        let before = (purse.coins(), purse.scene.data(purse.wallet));
        assert_eq!(purse.say(OWNER, body), code);
        assert_eq!((purse.coins(), purse.scene.data(purse.wallet)), before);
    }
}

#[test]
fn replies_and_log_entries_are_taken_from_anybody() {
    let mut purse = Purse::new();
    for op in [0x2565_934c_u32, 0xc59a_7cd3, 0x9a12_47c0] {
        let before = purse.scene.data(purse.wallet);
        assert_eq!(purse.say(STRANGER, CellBuilder::build_from((op, 7_u64)).unwrap()), 0);
        assert_eq!(purse.scene.data(purse.wallet), before);
    }
}

#[test]
fn the_getters_say_what_the_data_holds() {
    let mut purse = Purse::new();
    purse.pay(vec![]);
    let state = purse.state();
    assert_eq!(purse.scene.get(purse.wallet, "seqno", vec![]), [StackValue::int(1)]);
    assert_eq!(purse.scene.get(purse.wallet, "get_public_key", vec![]), [StackValue::hash(&state.public_key)]);
    let owner = CellBuilder::build_from(StdAddr::from(state.owner)).unwrap();
    assert_eq!(purse.scene.get(purse.wallet, "get_owner_address", vec![]), [StackValue::Slice(owner)]);
}
