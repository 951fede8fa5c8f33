//! Initial states are v3's, bit for bit, with our code: addresses are those that v3's layout gives.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::Address;
use cocoon_ton::contract::{
    ClientState, Params, Pin, ProxyRecord, ProxyState, RootState, StewardState, WalletState, WorkerState,
    client_address, codes, proxy_address, worker_address,
};
use cocoon_units::{Multiplier, Multipliers, Nano};
use tycho_types::cell::CellBuilder;

use super::by_hand::{Hand, Known};

const OWNER: Address = Address::basechain([0x11; 32]);
const ROOT: Address = Address { workchain: -1, account: [0x22; 32] };
const PROXY: Address = Address::basechain([0x33; 32]);
const KEY: [u8; 32] = [0x44; 32];

fn params() -> Params {
    Params {
        params_version: 5,
        unique_id: 17,
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(300),
        multipliers: Multipliers {
            prompt: Multiplier::from_ten_thousandths(10_001),
            cached: Multiplier::from_ten_thousandths(1_002),
            completion: Multiplier::from_ten_thousandths(30_003),
            reasoning: Multiplier::from_ten_thousandths(40_004),
        },
        proxy_delay_s: 86_400,
        client_delay_s: 86_401,
        min_proxy_stake: Nano::new(1_000_000_000),
        min_client_stake: Nano::new(2_500_000_001),
        codes: Some(codes().published()),
    }
}

fn bare_params_by_hand() -> Hand {
    Hand::default()
        .uint(8, 3)
        .uint(32, 5)
        .uint(32, 17)
        .uint(1, 1)
        .coins(20)
        .coins(300)
        .uint(32, 10_001)
        .uint(32, 1_002)
        .uint(32, 30_003)
        .uint(32, 40_004)
        .uint(32, 86_400)
        .uint(32, 86_401)
        .coins(1_000_000_000)
        .coins(2_500_000_001)
}

fn params_by_hand() -> Hand {
    let codes = codes();
    bare_params_by_hand().uint(3, 0b111).reference(&codes.proxy).reference(&codes.worker).reference(&codes.client)
}

fn params_without_codes_by_hand() -> Hand {
    bare_params_by_hand().uint(3, 0)
}

/// `split_depth special code data library`: none, none, one, one, none.
fn address_by_hand(code: &cocoon_ton::Cell, data: Hand) -> Address {
    Address::basechain(Hand::default().uint(5, 0b00110).reference(code).reference(data).known().hash)
}

fn proxy_by_hand() -> Hand {
    Hand::default()
        .address(OWNER)
        .bytes(&KEY)
        .address(ROOT)
        .uint(2, 0)
        .coins(0)
        .coins(0)
        .uint(32, 0)
        .reference(params_by_hand())
}

fn worker_by_hand() -> Hand {
    Hand::default()
        .address(OWNER)
        .address(PROXY)
        .bytes(&KEY)
        .uint(2, 0)
        .uint(64, 0)
        .reference(params_without_codes_by_hand())
}

fn client_by_hand() -> Hand {
    Hand::default()
        .uint(2, 0)
        .coins(0)
        .coins(2_500_000_001)
        .uint(64, 0)
        .uint(32, 0)
        .bytes(&[0; 32])
        .reference(Hand::default().address(OWNER).address(PROXY).bytes(&KEY))
        .reference(params_without_codes_by_hand())
}

#[test]
fn the_address_of_a_proxy_contract_is_that_of_v3s_layout() {
    let state = ProxyState::initial(OWNER, KEY, ROOT, params()).unwrap();
    assert_eq!(state.to_cell().repr_hash().0, proxy_by_hand().known().hash);
    let expected = address_by_hand(&codes().proxy, proxy_by_hand());
    assert_eq!(proxy_address(OWNER, &KEY, ROOT, &params()), Ok(expected));
}

#[test]
fn the_address_of_a_worker_contract_is_that_of_v3s_layout() {
    let state = WorkerState::initial(OWNER, PROXY, KEY, &params());
    assert_eq!(state.to_cell().repr_hash().0, worker_by_hand().known().hash);
    let expected = address_by_hand(&codes().worker, worker_by_hand());
    assert_eq!(worker_address(OWNER, PROXY, &KEY, &params()), Ok(expected));
}

#[test]
fn the_address_of_a_client_contract_is_that_of_v3s_layout() {
    let state = ClientState::initial(OWNER, PROXY, KEY, &params());
    assert_eq!(state.to_cell().repr_hash().0, client_by_hand().known().hash);
    let expected = address_by_hand(&codes().client, client_by_hand());
    assert_eq!(client_address(OWNER, PROXY, &KEY, &params()), Ok(expected));
}

#[test]
fn the_address_of_a_wallet_is_that_of_v3s_layout() {
    let by_hand = Hand::default().uint(32, 0).uint(32, 0).bytes(&KEY).uint(32, 0).address(OWNER);
    let init = WalletState::initial(KEY, OWNER).state_init(codes().wallet.clone());
    assert_eq!(init.address(), address_by_hand(&codes().wallet, by_hand));
}

#[test]
fn the_address_of_a_steward_is_that_of_its_layout() {
    let by_hand = Hand::default().address(OWNER).uint(1, 0).address(ROOT).uint(32, 86_400).uint(32, 0).uint(1, 0);
    let init = StewardState::initial(OWNER, ROOT, 86_400).state_init(codes().steward.clone());
    assert_eq!(init.address(), address_by_hand(&codes().steward, by_hand));
}

#[test]
fn a_root_that_allows_nothing_is_v3s_layout() {
    let registry = Hand::default().uint(1, 0).uint(1, 0).uint(32, 0).uint(1, 0).uint(1, 0);
    let by_hand = Hand::default().address(OWNER).uint(32, 0).reference(registry).reference(params_by_hand());
    assert_eq!(RootState::initial(OWNER, params()).to_cell().repr_hash().0, by_hand.known().hash);
}

/// A dictionary of one entry is one edge: `hml_long$10`, the length of the label in `bits_for_len` bits, the key, the
/// value. A key of equal bits is `hml_same$11`, that bit, and the length.
#[test]
fn a_root_with_one_of_each_is_v3s_layout() {
    let mut hash = [0x5a; 32];
    hash[31] = 0x5b;
    let set = || Hand::default().uint(2, 0b10).uint(9, 256).bytes(&hash);
    let same = Hand::default().uint(2, 0b11).uint(1, 0).uint(9, 256);
    let pin = Hand::default().address(PROXY).bytes(&KEY);
    let endpoints = "10.0.0.1:9000 10.0.0.1:9001";
    let proxies = Hand::default()
        .uint(2, 0b10)
        .uint(6, 32)
        .uint(32, 7)
        .uint(1, 1)
        .uint(7, endpoints.len() as u64)
        .bytes(endpoints.as_bytes())
        .reference(pin);
    let registry = Hand::default()
        .uint(1, 1)
        .reference(set())
        .uint(1, 1)
        .reference(proxies)
        .uint(32, 7)
        .uint(1, 1)
        .reference(same)
        .uint(1, 1)
        .reference(set());
    let by_hand = Hand::default().address(OWNER).uint(32, 9).reference(registry).reference(params_by_hand());

    let pin = Pin { contract: PROXY, payment_key: KEY };
    let record = ProxyRecord::new("10.0.0.1:9000", "10.0.0.1:9001", Some(pin)).unwrap();
    let state = RootState {
        version: 9,
        proxy_hashes: BTreeSet::from([hash]),
        registered_proxies: [(7, record)].into(),
        last_proxy_seqno: 7,
        worker_hashes: BTreeSet::from([[0; 32]]),
        model_hashes: BTreeSet::from([hash]),
        ..RootState::initial(OWNER, params())
    };
    assert_eq!(state.to_cell().repr_hash().0, by_hand.known().hash);
    assert_eq!(RootState::parse(&state.to_cell()), Ok(state));
}

/// The contract of v3 checks the type bit of a record, and nothing else.
#[test]
fn an_odd_proxy_record_of_a_v3_root_is_skipped() {
    let leaf = |text: &[u8]| {
        let mut leaf = CellBuilder::new();
        leaf.store_uint(text.len() as u64, 8).unwrap();
        leaf.store_raw(text, u16::try_from(text.len() * 8).unwrap()).unwrap();
        leaf.build().unwrap()
    };
    let sound = ProxyRecord::new("10.0.0.1:9000", "10.0.0.1:9001", None).unwrap();
    let long = [b'a'; 126];
    let odd: [&[u8]; 6] = [b"", b"a:1  b:2", b"a:1 ", b"a:1 b:2 c:3", b"\xFF:1", &long];
    for text in odd {
        let odd_proxies = BTreeMap::from([(3, leaf(text)), (8, leaf(text))]);
        let registered_proxies = BTreeMap::from([(7, sound.clone())]);
        let state = RootState { odd_proxies, registered_proxies, ..RootState::initial(OWNER, params()) };
        assert_eq!(RootState::parse(&state.to_cell()), Ok(state), "{text:?}");
    }
}

/// The sum of what later states add to v3 is one bit and one reference at the end.
#[test]
fn later_states_append_one_reference() {
    let mut proxy = ProxyState::initial(OWNER, KEY, ROOT, params()).unwrap();
    proxy.funds = Nano::new(77);
    let by_hand = proxy_by_hand().uint(1, 1).reference(Hand::default().coins(77));
    assert_eq!(proxy.to_cell().repr_hash().0, by_hand.known().hash);

    let mut client = ClientState::initial(OWNER, PROXY, KEY, &params());
    client.due = Nano::new(78);
    let by_hand = client_by_hand().uint(1, 1).reference(Hand::default().coins(78));
    assert_eq!(client.to_cell().repr_hash().0, by_hand.known().hash);

    let mut worker = WorkerState::initial(OWNER, PROXY, KEY, &params());
    worker.unpaid.proxy = Nano::new(79);
    let by_hand = worker_by_hand().uint(1, 1).reference(Hand::default().coins(0).coins(79));
    assert_eq!(worker.to_cell().repr_hash().0, by_hand.known().hash);
}

#[test]
fn hashing_by_hand_agrees_with_a_known_cell() {
    let empty: Known = Hand::default().into();
    assert_eq!(hex::encode(empty.hash), "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7");
}
