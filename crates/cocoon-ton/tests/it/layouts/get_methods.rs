//! Get-methods run here, on the state of an account.

use cocoon_ton::chain::{Account, Head, Status};
use cocoon_ton::contract::{
    ClientState, Lifecycle, Params, ProxyState, RootState, StewardState, Unpaid, WalletState, WorkerState, codes,
};
use cocoon_ton::devnet::{Engine, Genesis};
use cocoon_ton::get_method::{GetError, StackValue, run};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;

const OWNER: Address = Address::basechain([0x11; 32]);
const OTHER: Address = Address::basechain([0x22; 32]);
const KEY: [u8; 32] = [0x44; 32];

fn account(code: Cell, data: Cell) -> Account {
    Account {
        address: Address::basechain([9; 32]),
        status: Status::Active,
        balance: Nano::new(5_000_000_000),
        code: Some(code),
        data: Some(data),
        last: None,
        at: Head { seqno: 7, unix_s: 1_800_000_000, lt: 1_000 },
    }
}

fn call(account: &Account, method: &str, stack: Vec<StackValue>) -> Result<Vec<StackValue>, GetError> {
    run(account, &Engine::new(&Genesis::default()).config(), method, stack)
}

fn params() -> Params {
    Params {
        params_version: 3,
        unique_id: 17,
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(15),
        min_client_stake: Nano::new(1_000_000_000),
        min_proxy_stake: Nano::new(2_000_000_000),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

fn ints(values: &[StackValue]) -> Vec<Option<u64>> {
    values.iter().map(StackValue::as_u64).collect()
}

#[test]
fn the_root_answers_as_its_state_says() {
    let mut state = RootState::initial(OWNER, params());
    state.worker_hashes.insert([5; 32]);
    state.version = 8;
    let root = account(codes().root.clone(), state.to_cell());
    assert_eq!(call(&root, "last_proxy_seqno", vec![]), Ok(vec![StackValue::int(0)]));
    let data = call(&root, "get_cocoon_data", vec![]).unwrap();
    assert_eq!(ints(&data[..4]), [Some(8), Some(0), Some(3), Some(17)]);
    assert_eq!(data[4].as_bool(), Some(true));
    assert_eq!(data.last().unwrap().as_address(), Some(OWNER));
    let params = call(&root, "get_cur_params", vec![]).unwrap();
    assert_eq!(params.len(), 14);
    assert_eq!(params[11].as_hash(), Some(codes().proxy.repr_hash().0));
    let listed = |hash: &[u8; 32]| call(&root, "worker_hash_is_valid", vec![StackValue::hash(hash)]).unwrap();
    assert_eq!(listed(&[5; 32])[0].as_bool(), Some(true));
    assert_eq!(listed(&[6; 32])[0].as_bool(), Some(false));
}

#[test]
fn the_other_contracts_answer_as_their_states_say() {
    let mut client = ClientState::initial(OWNER, OTHER, KEY, &params());
    client.balance = Nano::new(7);
    client.due = Nano::new(11);
    let account_of_client = account(codes().client.clone(), client.to_cell());
    let data = call(&account_of_client, "get_cocoon_client_data", vec![]).unwrap();
    assert_eq!((data[0].as_address(), data[1].as_address()), (Some(OWNER), Some(OTHER)));
    assert_eq!(data[2].as_hash(), Some(KEY));
    assert_eq!(ints(&data[3..8]), [Some(0), Some(7), Some(1_000_000_000), Some(0), Some(0)]);
    assert_eq!(ints(&call(&account_of_client, "get_cocoon_client_due", vec![]).unwrap()), [Some(11)]);

    let mut worker = WorkerState::initial(OWNER, OTHER, KEY, &params());
    worker.state = Lifecycle::Closed;
    worker.tokens = 13;
    worker.unpaid = Unpaid { worker: Nano::new(17), proxy: Nano::new(19) };
    let account_of_worker = account(codes().worker.clone(), worker.to_cell());
    let data = call(&account_of_worker, "get_cocoon_worker_data", vec![]).unwrap();
    assert_eq!(ints(&data[3..]), [Some(2), Some(13)]);
    let unpaid = call(&account_of_worker, "get_cocoon_worker_unpaid", vec![]).unwrap();
    assert_eq!(ints(&unpaid), [Some(17), Some(19)]);

    let mut proxy = ProxyState::initial(OWNER, KEY, OTHER, params()).unwrap();
    proxy.funds = Nano::new(23);
    let account_of_proxy = account(codes().proxy.clone(), proxy.to_cell());
    assert_eq!(ints(&call(&account_of_proxy, "get_cocoon_proxy_funds", vec![]).unwrap()), [Some(23)]);
    assert_eq!(call(&account_of_proxy, "get_cocoon_proxy_data", vec![]).unwrap().len(), 12);

    let wallet = account(codes().wallet.clone(), WalletState::initial(KEY, OWNER).to_cell());
    assert_eq!(call(&wallet, "get_public_key", vec![]).unwrap()[0].as_hash(), Some(KEY));
    assert_eq!(call(&wallet, "get_owner_address", vec![]).unwrap()[0].as_address(), Some(OWNER));

    let steward = account(codes().steward.clone(), StewardState::initial(OWNER, OTHER, 60).to_cell());
    let data = call(&steward, "get_steward_data", vec![]).unwrap();
    assert_eq!((data[0].as_address(), &data[1]), (Some(OWNER), &StackValue::Null));
    assert_eq!(call(&steward, "get_pending", vec![]).unwrap(), [StackValue::Null]);
}

#[test]
fn failures_have_their_types() {
    let root = account(codes().root.clone(), RootState::initial(OWNER, params()).to_cell());
    assert_eq!(call(&root, "no_such_method", vec![]), Err(GetError::NoSuchMethod("no_such_method".to_owned())));
    assert_eq!(call(&root, "worker_hash_is_valid", vec![]), Err(GetError::Exit(2)));
    let without_code = Account { code: None, status: Status::Uninit, ..root.clone() };
    assert_eq!(call(&without_code, "last_proxy_seqno", vec![]), Err(GetError::NoCode(root.address)));
    let damaged = account(codes().root.clone(), Cell::default());
    assert!(matches!(call(&damaged, "get_cocoon_data", vec![]), Err(GetError::Exit(_))));
}

fn code(bytes: &[u8]) -> Account {
    let mut code = CellBuilder::new();
    code.store_raw(bytes, u16::try_from(bytes.len() * 8).unwrap()).unwrap();
    account(code.build().unwrap(), Cell::default())
}

#[test]
fn a_method_without_end_runs_out_of_gas() {
    // `SETCP0; PUSHCONT { }; AGAIN`.
    assert_eq!(call(&code(&[0xff, 0x00, 0x90, 0xea]), "any", vec![]), Err(GetError::OutOfGas));
}

#[test]
fn a_stack_that_unfolds_without_end_is_given_up() {
    // `SETCP0; DROP; NIL`, then `DUP; 2 TUPLE` a hundred times: 2^100 empty tuples on one stack.
    let mut bytes = vec![0xff, 0x00, 0x30, 0x6f, 0x00];
    for _ in 0..30 {
        bytes.extend([0x20, 0x6f, 0x02]);
    }
    assert!(matches!(call(&code(&bytes), "any", vec![]), Err(GetError::Result(_))));
}

#[test]
fn the_clock_of_a_method_is_that_of_the_block() {
    // `SETCP0; DROP; NOW`.
    let values = call(&code(&[0xff, 0x00, 0x30, 0xf8, 0x23]), "any", vec![]).unwrap();
    assert_eq!(ints(&values), [Some(1_800_000_000)]);
}

#[test]
fn values_go_in_as_they_come_out() {
    // `SETCP0; DROP` leaves the arguments.
    let keep = code(&[0xff, 0x00, 0x30]);
    let cell = CellBuilder::build_from(5_u32).unwrap();
    let values = vec![
        StackValue::Null,
        StackValue::int(-1),
        StackValue::hash(&[0xff; 32]),
        StackValue::Cell(cell.clone()),
        StackValue::Slice(cell.clone()),
        StackValue::Builder(cell),
        StackValue::address(OWNER),
        StackValue::Tuple(vec![StackValue::int(1), StackValue::Tuple(vec![]), StackValue::Null]),
    ];
    assert_eq!(call(&keep, "any", values.clone()), Ok(values));
}
