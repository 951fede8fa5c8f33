//! The root: only its owner changes it, each change is the one that was asked for, and its data is v3's to the bit.

use cocoon_ton::contract::message::root::{
    AddModel, AddProxyType, AddWorkerType, ChangeFees, ChangeOwner, ChangeParams, ChangeParamsFull, DelModel,
    DelProxyType, DelWorkerType, Message, RegisterProxy, Reset, UnregisterProxy, UpdateProxy, UpgradeCode,
    UpgradeContracts, UpgradeFull,
};
use cocoon_ton::contract::{ContractCodes, Pin, ProxyRecord, RootState, codes, exit};
use cocoon_ton::get_method::StackValue;
use cocoon_ton::{Address, Cell};
use cocoon_units::{Multiplier, Multipliers, Nano};
use tycho_types::cell::CellBuilder;

use super::scene::{FLOOR, MILLI, NEXT_OWNER, OWNER, STRANGER, Scene, TON, params, person, root_init};
use super::stage::{longer, shorter, with_reference};

const VALUE: u64 = 100 * MILLI;

fn stage() -> (Scene, Address) {
    let mut scene = Scene::new();
    let root = scene.deploy(root_init(person(OWNER)), TON);
    (scene, root)
}

fn state(scene: &Scene, root: Address) -> RootState {
    RootState::parse(&scene.data(root)).unwrap()
}

fn record(pinned: Option<Pin>) -> ProxyRecord {
    ProxyRecord::new("192.0.2.1:9000", "192.0.2.2:9001", pinned).unwrap()
}

fn pin() -> Pin {
    Pin { contract: Address::basechain([0x55; 32]), payment_key: [0x66; 32] }
}

/// Every message there is, in an order in which each of them works.
fn every_message() -> Vec<Message> {
    let codes = codes();
    vec![
        AddWorkerType { query_id: 1, hash: [1; 32] }.into(),
        AddModel { query_id: 2, hash: [2; 32] }.into(),
        AddProxyType { query_id: 3, hash: [3; 32] }.into(),
        RegisterProxy { query_id: 4, proxy: record(None) }.into(),
        RegisterProxy { query_id: 5, proxy: record(Some(pin())) }.into(),
        UpdateProxy { query_id: 6, seqno: 1, proxy: record(Some(pin())) }.into(),
        UnregisterProxy { query_id: 7, seqno: 1 }.into(),
        ChangeFees { query_id: 8, price_per_token: Nano::new(30), worker_fee_per_token: Nano::new(25) }.into(),
        ChangeParams {
            query_id: 9,
            price_per_token: Nano::new(31),
            worker_fee_per_token: Nano::new(26),
            proxy_delay_s: 100,
            client_delay_s: 50,
            min_proxy_stake: Nano::new(7),
            min_client_stake: Nano::new(8),
        }
        .into(),
        full_params().into(),
        UpgradeContracts {
            query_id: 11,
            proxy: codes.wallet.clone(),
            worker: codes.steward.clone(),
            client: codes.root.clone(),
        }
        .into(),
        UpgradeCode { query_id: 12, code: codes.root.clone() }.into(),
        DelWorkerType { query_id: 13, hash: [1; 32] }.into(),
        DelModel { query_id: 14, hash: [2; 32] }.into(),
        DelProxyType { query_id: 15, hash: [3; 32] }.into(),
        Reset { query_id: 16 }.into(),
        UpgradeFull { query_id: 17, data: root_init(person(OWNER)).data, code: codes.root.clone() }.into(),
        ChangeOwner { query_id: 18, owner: person(NEXT_OWNER) }.into(),
    ]
}

fn full_params() -> ChangeParamsFull {
    ChangeParamsFull {
        query_id: 10,
        price_per_token: Nano::new(32),
        worker_fee_per_token: Nano::new(27),
        prompt: Multiplier::from_ten_thousandths(1),
        cached: Multiplier::from_ten_thousandths(2),
        completion: Multiplier::from_ten_thousandths(3),
        reasoning: Multiplier::from_ten_thousandths(4),
        proxy_delay_s: 101,
        client_delay_s: 51,
        min_proxy_stake: Nano::new(9),
        min_client_stake: Nano::new(10),
    }
}

/// What a message must do, said without the contract.
fn apply(state: &mut RootState, message: &Message) {
    let before = state.version;
    state.version += 1;
    match message {
        Message::AddWorkerType(m) => drop(state.worker_hashes.insert(m.hash)),
        Message::DelWorkerType(m) => drop(state.worker_hashes.remove(&m.hash)),
        Message::AddModel(m) => drop(state.model_hashes.insert(m.hash)),
        Message::DelModel(m) => drop(state.model_hashes.remove(&m.hash)),
        Message::AddProxyType(m) => drop(state.proxy_hashes.insert(m.hash)),
        Message::DelProxyType(m) => drop(state.proxy_hashes.remove(&m.hash)),
        Message::RegisterProxy(m) => {
            state.last_proxy_seqno += 1;
            state.registered_proxies.insert(state.last_proxy_seqno, m.proxy.clone());
        }
        Message::UpdateProxy(m) => drop(state.registered_proxies.insert(m.seqno, m.proxy.clone())),
        Message::UnregisterProxy(m) => drop(state.registered_proxies.remove(&m.seqno)),
        Message::ChangeFees(m) => {
            state.params.price_per_token = m.price_per_token;
            state.params.worker_fee_per_token = m.worker_fee_per_token;
            state.params.params_version += 1;
        }
        Message::ChangeParams(m) => {
            let (price_per_token, worker_fee_per_token) = (m.price_per_token, m.worker_fee_per_token);
            apply(state, &ChangeFees { query_id: 0, price_per_token, worker_fee_per_token }.into());
            state.version -= 1;
            state.params.proxy_delay_s = m.proxy_delay_s;
            state.params.client_delay_s = m.client_delay_s;
            state.params.min_proxy_stake = m.min_proxy_stake;
            state.params.min_client_stake = m.min_client_stake;
        }
        Message::ChangeParamsFull(m) => {
            let ChangeParamsFull { query_id, price_per_token, worker_fee_per_token, .. } = *m;
            let ChangeParamsFull { proxy_delay_s, client_delay_s, min_proxy_stake, min_client_stake, .. } = *m;
            let rest = ChangeParams {
                query_id,
                price_per_token,
                worker_fee_per_token,
                proxy_delay_s,
                client_delay_s,
                min_proxy_stake,
                min_client_stake,
            };
            apply(state, &rest.into());
            state.version -= 1;
            state.params.multipliers =
                Multipliers { prompt: m.prompt, cached: m.cached, completion: m.completion, reasoning: m.reasoning };
        }
        Message::UpgradeContracts(m) => {
            let (proxy, worker, client) = (m.proxy.clone(), m.worker.clone(), m.client.clone());
            state.params.codes = Some(ContractCodes { proxy, worker, client });
            state.params.params_version += 1;
        }
        Message::UpgradeCode(_) => state.version = before,
        Message::Reset(_) => {
            state.proxy_hashes.clear();
            state.worker_hashes.clear();
            state.model_hashes.clear();
            state.registered_proxies.clear();
        }
        Message::UpgradeFull(m) => *state = RootState::parse(&m.data).unwrap(),
        Message::ChangeOwner(m) => state.owner = m.owner,
        _ => panic!("a message without a meaning here: {message:?}"),
    }
}

#[test]
fn every_change_is_the_one_that_was_asked_for() {
    let (mut scene, root) = stage();
    let mut expected = state(&scene, root);
    let held = scene.coins(root);
    for message in every_message() {
        apply(&mut expected, &message);
        let trace = scene.send(OWNER, root, VALUE, message.to_cell());
        assert_eq!(trace.exit(root), 0, "{message:?}");
        assert_eq!(state(&scene, root), expected, "{message:?}");
        assert_eq!(expected.to_cell(), scene.data(root), "to the bit: {message:?}");
        assert_eq!(scene.coins(root), held, "the balance stays flat: {message:?}");
        assert!(trace.change(root, person(OWNER)) > VALUE / 2, "the change comes back: {message:?}");
    }
}

#[test]
fn nobody_but_the_owner_changes_anything() {
    let (mut scene, root) = stage();
    for message in every_message() {
        refused(&mut scene, root, STRANGER, message.to_cell(), 1010);
    }
    let owner = ChangeOwner { query_id: 1, owner: person(NEXT_OWNER) };
    assert_eq!(scene.send(OWNER, root, VALUE, owner.to_cell()).exit(root), 0);
    for message in every_message() {
        refused(&mut scene, root, OWNER, message.to_cell(), 1010);
    }
}

#[test]
fn a_body_one_bit_longer_or_shorter_or_with_a_reference_more_is_refused() {
    let (mut scene, root) = stage();
    let first = RegisterProxy { query_id: 4, proxy: record(None) };
    assert_eq!(scene.send(OWNER, root, VALUE, first.to_cell()).exit(root), 0);
    for message in every_message() {
        let body = message.to_cell();
        refused(&mut scene, root, OWNER, longer(&body), 9);
        refused(&mut scene, root, OWNER, shorter(&body), 9);
        if body.reference_count() < 4 {
            refused(&mut scene, root, OWNER, with_reference(&body), 9);
        }
    }
}

fn refused(scene: &mut Scene, root: Address, from: u32, body: Cell, code: i32) {
    let before = (scene.data(root), scene.coins(root));
    let trace = scene.send(from, root, VALUE, body.clone());
    assert_eq!(trace.exit(root), code, "{}: {body:?}", exit::describe(code));
    assert_eq!((scene.data(root), scene.coins(root)), before);
}

/// v3 keeps whatever it is told, and a node stumbles over it until it is unlisted.
#[test]
fn an_endpoint_that_no_node_can_read_is_not_listed() {
    let (mut scene, root) = stage();
    let longest = "a".repeat(110);
    for (text, code) in [
        ("", 1004),
        (" ", 1004),
        (" a:1", 1004),
        ("a:1 ", 1004),
        ("a:1  b:1", 1004),
        ("a:1 b:1 c:1", 1004),
        ("a:1\n", 1004),
        ("a:\u{7f}", 1004),
        ("a:1 b:2", 0),
        ("[2001:db8::1]:9", 0),
        (longest.as_str(), 0),
    ] {
        let trace = scene.send(OWNER, root, VALUE, register(text.as_bytes(), None));
        assert_eq!(trace.exit(root), code, "{text:?}");
        state(&scene, root);
    }
    let trace = scene.send(OWNER, root, VALUE, register(b"a:\xc3\xa4", None));
    assert_eq!(trace.exit(root), 1004, "not ASCII");
}

#[test]
fn a_pin_is_a_basechain_address_and_a_key_and_nothing_else() {
    let (mut scene, root) = stage();
    let good = |workchain: i8| {
        let mut builder = CellBuilder::new();
        builder.store_small_uint(0b100, 3).unwrap();
        builder.store_u8(workchain.cast_unsigned()).unwrap();
        builder.store_raw(&[0x55; 32], 256).unwrap();
        builder.store_raw(&[0x66; 32], 256).unwrap();
        builder.build().unwrap()
    };
    for (pin, code) in [
        (good(0), 0),
        (good(-1), 1004),
        (Cell::default(), 9),
        (longer(&good(0)), 9),
        (shorter(&good(0)), 9),
        (with_reference(&good(0)), 9),
    ] {
        let trace = scene.send(OWNER, root, VALUE, register(b"a:1", Some(pin)));
        assert_eq!(trace.exit(root), code);
        state(&scene, root);
    }
}

fn register(text: &[u8], pin: Option<Cell>) -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(RegisterProxy::OP).unwrap();
    builder.store_u64(1).unwrap();
    builder.store_bit(pin.is_some()).unwrap();
    builder.store_small_uint(u8::try_from(text.len()).unwrap(), 7).unwrap();
    builder.store_raw(text, u16::try_from(text.len() * 8).unwrap()).unwrap();
    if let Some(pin) = pin {
        builder.store_reference(pin).unwrap();
    }
    builder.build().unwrap()
}

#[test]
fn a_number_of_a_proxy_never_means_another_proxy() {
    let (mut scene, root) = stage();
    let register = || RegisterProxy { query_id: 4, proxy: record(None) }.to_cell();
    for number in 1..=3 {
        scene.send(OWNER, root, VALUE, register());
        assert_eq!(state(&scene, root).last_proxy_seqno, number);
    }
    scene.send(OWNER, root, VALUE, UnregisterProxy { query_id: 5, seqno: 3 }.to_cell());
    scene.send(OWNER, root, VALUE, Reset { query_id: 6 }.to_cell());
    scene.send(OWNER, root, VALUE, register());
    assert_eq!(state(&scene, root).registered_proxies.keys().collect::<Vec<_>>(), [&4]);
    refused(&mut scene, root, OWNER, UnregisterProxy { query_id: 7, seqno: 3 }.to_cell(), 2000);
    refused(&mut scene, root, OWNER, UpdateProxy { query_id: 8, seqno: 3, proxy: record(None) }.to_cell(), 2000);
}

#[test]
fn unknown_operations_are_refused_and_log_entries_and_plain_transfers_taken() {
    let (mut scene, root) = stage();
    let op = |op: u32| CellBuilder::build_from((op, 7_u64)).unwrap();
    refused(&mut scene, root, OWNER, op(0x1234_5678), 1012);
    refused(&mut scene, root, STRANGER, op(0x1234_5678), 1010);
    refused(&mut scene, root, STRANGER, CellBuilder::build_from(7_u16).unwrap(), 9);
    for body in [op(0x9a12_47c0), Cell::default()] {
        let before = scene.data(root);
        assert_eq!(scene.send(STRANGER, root, VALUE, body).exit(root), 0);
        assert_eq!(scene.data(root), before);
    }
}

#[test]
fn a_year_of_storage_is_paid_by_the_root_and_changes_nothing_else() {
    let (mut scene, root) = stage();
    let before = scene.coins(root);
    scene.wait(365 * 24 * 3600);
    let trace = scene.send(OWNER, root, VALUE, AddModel { query_id: 1, hash: [1; 32] }.to_cell());
    assert_eq!(trace.exit(root), 0);
    let paid = before - scene.coins(root);
    assert!((FLOOR..10 * FLOOR).contains(&paid), "{paid}");
}

#[test]
fn the_getters_say_what_the_data_holds() {
    let (mut scene, root) = stage();
    for message in every_message().into_iter().take(10) {
        scene.send(OWNER, root, VALUE, message.to_cell());
    }
    let (state, params) = (state(&scene, root), full_params());
    let int = |value: u32| StackValue::int(value);
    let yes = StackValue::int(-1);
    assert_eq!(scene.get(root, "last_proxy_seqno", vec![]), [int(2)]);
    for (method, hash) in [("worker_hash_is_valid", 1), ("model_hash_is_valid", 2), ("proxy_hash_is_valid", 3)] {
        assert_eq!(scene.get(root, method, vec![StackValue::hash(&[hash; 32])])[0], yes);
        assert_eq!(scene.get(root, method, vec![StackValue::hash(&[9; 32])]), [int(0)]);
    }
    let data = scene.get(root, "get_cocoon_data", vec![]);
    let numbers = [state.version, 2, state.params.params_version, 17];
    assert_eq!(data[..4], numbers.map(int));
    assert_eq!(data[4], yes);
    assert_eq!(data[5..9], [32, 27, 9, 10].map(int));
    assert_eq!(data.len(), 10);
    let current = scene.get(root, "get_cur_params", vec![]);
    assert_eq!(current[..2], [state.params.params_version, 17].map(int));
    assert_eq!(current[2], yes);
    assert_eq!(current[3..5], [32, 27].map(int));
    assert_eq!(current[5..11], [2, 4, 101, 51, 9, 10].map(int));
    let codes = codes();
    let hashes = [&codes.proxy, &codes.worker, &codes.client].map(|code| StackValue::hash(&code.repr_hash().0));
    assert_eq!(current[11..], hashes);
    assert_eq!(params.price_per_token, state.params.price_per_token);
}

#[test]
fn the_initial_data_is_that_of_v3() {
    let init = root_init(person(OWNER));
    let state = RootState::parse(&init.data).unwrap();
    assert_eq!(state.params, params());
    assert_eq!(init.data.bit_len(), 267 + 32);
    assert_eq!(init.data.reference_count(), 2);
}
