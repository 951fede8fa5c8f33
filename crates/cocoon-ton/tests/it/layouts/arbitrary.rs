//! Any state and any message.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::contract::message::{client, proxy, root, steward, wallet, worker};
use cocoon_ton::contract::note::{
    ClientNote, ClientPayload, Event, EventDetails, LogEntry, Note, WorkerClaim, WorkerNote,
};
use cocoon_ton::contract::signed::{self, Envelope, Payment};
use cocoon_ton::contract::steward::Pending;
use cocoon_ton::contract::{
    ClientState, ContractCodes, Lifecycle, Params, Pin, ProxyRecord, ProxyState, RootState, StewardState, Unpaid,
    WalletState, WorkerState,
};
use cocoon_ton::{Address, Cell};
use cocoon_units::{Multiplier, Multipliers, Nano};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use tycho_types::cell::{CellBuilder, CellFamily as _};

/// The largest amount has its own weight: its length is what makes a cell overflow.
pub(crate) fn nano() -> impl Strategy<Value = Nano> {
    prop_oneof![Just(Nano::ZERO), Just(Nano::MAX), any::<u64>().prop_map(Nano::new), (0..1000_u64).prop_map(Nano::new)]
}

pub(crate) fn address() -> impl Strategy<Value = Address> {
    (prop_oneof![Just(0_i8), Just(-1)], any::<[u8; 32]>())
        .prop_map(|(workchain, account)| Address { workchain, account })
}

pub(crate) fn cell() -> impl Strategy<Value = Cell> {
    vec(any::<u8>(), 0..64).prop_map(|bytes| {
        let mut builder = CellBuilder::new();
        builder.store_raw(&bytes, u16::try_from(bytes.len() * 8).unwrap()).unwrap();
        builder.build().unwrap()
    })
}

fn multiplier() -> impl Strategy<Value = Multiplier> {
    any::<u32>().prop_map(Multiplier::from_ten_thousandths)
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![Just(Lifecycle::Normal), Just(Lifecycle::Closing), Just(Lifecycle::Closed)]
}

fn codes() -> impl Strategy<Value = ContractCodes> {
    (cell(), cell(), cell()).prop_map(|(proxy, worker, client)| ContractCodes { proxy, worker, client })
}

pub(crate) fn params_with_codes() -> impl Strategy<Value = Params> {
    (params(), codes()).prop_map(|(params, codes)| Params { codes: Some(codes), ..params })
}

/// Without codes.
pub(crate) fn params() -> impl Strategy<Value = Params> {
    (
        (any::<u32>(), any::<u32>(), any::<bool>(), nano(), nano()),
        proptest::array::uniform4(multiplier()),
        (any::<u32>(), any::<u32>(), nano(), nano()),
    )
        .prop_map(|(head, [prompt, cached, completion, reasoning], tail)| Params {
            params_version: head.0,
            unique_id: head.1,
            is_test: head.2,
            price_per_token: head.3,
            worker_fee_per_token: head.4,
            multipliers: Multipliers { prompt, cached, completion, reasoning },
            proxy_delay_s: tail.0,
            client_delay_s: tail.1,
            min_proxy_stake: tail.2,
            min_client_stake: tail.3,
            codes: None,
        })
}

pub(crate) fn record() -> impl Strategy<Value = ProxyRecord> {
    let pin = (address(), any::<[u8; 32]>()).prop_map(|(contract, payment_key)| Pin { contract, payment_key });
    ("[!-~]{1,54}", "[!-~]{1,54}", proptest::option::of(pin))
        .prop_map(|(workers, clients, pin)| ProxyRecord::new(&workers, &clients, pin).unwrap())
}

fn hashes() -> impl Strategy<Value = BTreeSet<[u8; 32]>> {
    btree_set(any::<[u8; 32]>(), 0..12)
}

fn records() -> impl Strategy<Value = BTreeMap<u32, ProxyRecord>> {
    btree_map(prop_oneof![0..16_u32, any::<u32>()], record(), 0..12)
}

pub(crate) fn root_state() -> impl Strategy<Value = RootState> {
    ((address(), any::<u32>()), hashes(), records(), any::<u32>(), hashes(), hashes(), params_with_codes()).prop_map(
        |(
            (owner, version),
            proxy_hashes,
            registered_proxies,
            last_proxy_seqno,
            worker_hashes,
            model_hashes,
            params,
        )| {
            RootState {
                owner,
                version,
                proxy_hashes,
                registered_proxies,
                odd_proxies: BTreeMap::new(),
                last_proxy_seqno,
                worker_hashes,
                model_hashes,
                params,
            }
        },
    )
}

pub(crate) fn proxy_state() -> impl Strategy<Value = ProxyState> {
    let parties = (address(), any::<[u8; 32]>(), address(), lifecycle());
    (parties, nano(), nano(), any::<u32>(), params_with_codes(), nano()).prop_map(
        |((owner, payment_key, root, state), balance, stake, unlock_unix_s, params, funds)| ProxyState {
            owner,
            payment_key,
            root,
            state,
            balance,
            stake,
            unlock_unix_s,
            params,
            funds,
        },
    )
}

pub(crate) fn client_state() -> impl Strategy<Value = ClientState> {
    let money = (lifecycle(), nano(), nano(), any::<u64>(), any::<u32>(), any::<[u8; 32]>());
    (money, address(), address(), any::<[u8; 32]>(), params(), nano()).prop_map(
        |((state, balance, stake, tokens_used, unlock_unix_s, secret_hash), owner, proxy, proxy_key, params, due)| {
            ClientState {
                state,
                balance,
                stake,
                tokens_used,
                unlock_unix_s,
                secret_hash,
                owner,
                proxy,
                proxy_key,
                params,
                due,
            }
        },
    )
}

pub(crate) fn worker_state() -> impl Strategy<Value = WorkerState> {
    let unpaid = (nano(), nano()).prop_map(|(worker, proxy)| Unpaid { worker, proxy });
    (address(), address(), any::<[u8; 32]>(), lifecycle(), any::<u64>(), params(), unpaid).prop_map(
        |(owner, proxy, proxy_key, state, tokens, params, unpaid)| WorkerState {
            owner,
            proxy,
            proxy_key,
            state,
            tokens,
            params,
            unpaid,
        },
    )
}

pub(crate) fn wallet_state() -> impl Strategy<Value = WalletState> {
    (any::<u32>(), any::<u32>(), any::<[u8; 32]>(), any::<u32>(), address()).prop_map(
        |(seqno, subwallet, public_key, status, owner)| WalletState { seqno, subwallet, public_key, status, owner },
    )
}

fn pending() -> impl Strategy<Value = Pending> {
    (any::<u32>(), cell()).prop_map(|(due_unix_s, message)| Pending { due_unix_s, message })
}

pub(crate) fn steward_state() -> impl Strategy<Value = StewardState> {
    let waiting = btree_map(any::<u32>(), pending(), 0..12);
    (address(), proptest::option::of(address()), address(), any::<u32>(), any::<u32>(), waiting).prop_map(
        |(owner, pending_owner, root, delay_s, next_id, pending)| StewardState {
            owner,
            pending_owner,
            root,
            delay_s,
            next_id,
            pending,
        },
    )
}

pub(crate) fn client_message() -> impl Strategy<Value = client::Message> {
    (0..7, any::<u64>(), nano(), any::<[u8; 32]>(), any::<u64>(), address()).prop_map(
        |(kind, query_id, amount, secret_hash, nonce, excesses_to)| match kind {
            0 => client::TopUp { query_id, amount, excesses_to }.into(),
            1 => client::ChangeSecretHashAndTopUp { query_id, amount, secret_hash, excesses_to }.into(),
            2 => client::Register { query_id, nonce, excesses_to }.into(),
            3 => client::ChangeSecretHash { query_id, secret_hash, excesses_to }.into(),
            4 => client::IncreaseStake { query_id, stake: amount, excesses_to }.into(),
            5 => client::Withdraw { query_id, excesses_to }.into(),
            _ => client::RequestRefund { query_id, excesses_to }.into(),
        },
    )
}

pub(crate) fn proxy_message() -> impl Strategy<Value = proxy::Message> {
    (0..5, any::<u64>(), nano(), address()).prop_map(|(kind, query_id, amount, excesses_to)| match kind {
        0 => proxy::PayoutRequest { query_id, excesses_to }.into(),
        1 => proxy::IncreaseStake { query_id, amount, excesses_to }.into(),
        2 => proxy::Close { query_id, excesses_to }.into(),
        3 => proxy::CompleteClose { query_id, excesses_to }.into(),
        _ => proxy::ChargePaid { query_id, amount, excesses_to }.into(),
    })
}

pub(crate) fn worker_message() -> impl Strategy<Value = worker::Message> {
    (0..4, any::<u64>(), nano(), address()).prop_map(|(kind, query_id, amount, excesses_to)| match kind {
        0 => worker::Register { query_id, excesses_to }.into(),
        1 => worker::Claim { query_id, excesses_to }.into(),
        2 => worker::Close { query_id, excesses_to }.into(),
        _ => worker::PayoutRemainder { query_id, amount, excesses_to }.into(),
    })
}

pub(crate) fn root_message() -> impl Strategy<Value = root::Message> {
    let numbers = (0..17, any::<u64>(), any::<u32>(), any::<[u8; 32]>());
    (numbers, record(), params(), (cell(), cell(), cell()), address()).prop_map(
        |((kind, query_id, seqno, hash), proxy, p, (a, b, c), owner)| match kind {
            0 => root::AddWorkerType { query_id, hash }.into(),
            1 => root::DelWorkerType { query_id, hash }.into(),
            2 => root::AddModel { query_id, hash }.into(),
            3 => root::DelModel { query_id, hash }.into(),
            4 => root::AddProxyType { query_id, hash }.into(),
            5 => root::DelProxyType { query_id, hash }.into(),
            6 => root::RegisterProxy { query_id, proxy }.into(),
            7 => root::UnregisterProxy { query_id, seqno }.into(),
            8 => root::UpdateProxy { query_id, seqno, proxy }.into(),
            9 => change_fees(query_id, &p).into(),
            10 => change_params(query_id, &p).into(),
            11 => change_params_full(query_id, &p).into(),
            12 => root::UpgradeContracts { query_id, proxy: a, worker: b, client: c }.into(),
            13 => root::UpgradeCode { query_id, code: a }.into(),
            14 => root::Reset { query_id }.into(),
            15 => root::UpgradeFull { query_id, data: a, code: b }.into(),
            _ => root::ChangeOwner { query_id, owner }.into(),
        },
    )
}

fn change_fees(query_id: u64, p: &Params) -> root::ChangeFees {
    let (price_per_token, worker_fee_per_token) = (p.price_per_token, p.worker_fee_per_token);
    root::ChangeFees { query_id, price_per_token, worker_fee_per_token }
}

fn change_params(query_id: u64, p: &Params) -> root::ChangeParams {
    root::ChangeParams {
        query_id,
        price_per_token: p.price_per_token,
        worker_fee_per_token: p.worker_fee_per_token,
        proxy_delay_s: p.proxy_delay_s,
        client_delay_s: p.client_delay_s,
        min_proxy_stake: p.min_proxy_stake,
        min_client_stake: p.min_client_stake,
    }
}

fn change_params_full(query_id: u64, p: &Params) -> root::ChangeParamsFull {
    root::ChangeParamsFull {
        query_id,
        price_per_token: p.price_per_token,
        worker_fee_per_token: p.worker_fee_per_token,
        prompt: p.multipliers.prompt,
        cached: p.multipliers.cached,
        completion: p.multipliers.completion,
        reasoning: p.multipliers.reasoning,
        proxy_delay_s: p.proxy_delay_s,
        client_delay_s: p.client_delay_s,
        min_proxy_stake: p.min_proxy_stake,
        min_client_stake: p.min_client_stake,
    }
}

pub(crate) fn steward_message() -> impl Strategy<Value = steward::Message> {
    (0..6, any::<u64>(), any::<u32>(), vec(cell(), 1..=32), address()).prop_map(
        |(kind, query_id, id, bodies, owner)| match kind {
            0 => steward::Act { query_id, changes: steward::Batch::new(bodies).unwrap() }.into(),
            1 => steward::Execute { query_id, id }.into(),
            2 => steward::Cancel { query_id, id }.into(),
            3 => steward::ProposeOwner { query_id, owner }.into(),
            4 => steward::AcceptOwner { query_id }.into(),
            _ => steward::SetDelay { query_id, delay_s: id }.into(),
        },
    )
}

pub(crate) fn wallet_order() -> impl Strategy<Value = wallet::SignedOrder> {
    let messages = vec((any::<u8>(), cell()), 0..=4);
    (any::<u32>(), any::<u32>(), any::<u32>(), messages, vec(any::<u8>(), 64)).prop_map(
        |(subwallet, valid_until, seqno, messages, signature)| {
            let order = wallet::Order::new(subwallet, valid_until, seqno, messages).unwrap();
            order.signed(signature.try_into().unwrap())
        },
    )
}

pub(crate) fn payment() -> impl Strategy<Value = Payment> {
    (0..6, address(), any::<u64>(), any::<u64>()).prop_map(|(kind, contract, query_id, tokens)| match kind {
        0 => signed::charge(contract, query_id, tokens),
        1 => signed::grant_refund(contract, query_id, tokens),
        2 => signed::payout(contract, query_id, tokens),
        3 => signed::last_payout(contract, query_id, tokens),
        4 => signed::close_request(contract, query_id),
        _ => signed::close_complete(contract, query_id),
    })
}

pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    (payment(), vec(any::<u8>(), 64), address()).prop_map(|(payment, signature, excesses_to)| Envelope {
        signed: payment.with_signature(signature.try_into().unwrap()),
        excesses_to,
    })
}

fn client_payload() -> impl Strategy<Value = ClientPayload> {
    (0..4, nano(), any::<u64>(), address()).prop_map(|(kind, amount, nonce, excesses_to)| match kind {
        0 => ClientPayload::TopUp { amount, excesses_to },
        1 => ClientPayload::Register { nonce },
        2 => ClientPayload::RefundGranted { amount, excesses_to },
        _ => ClientPayload::RefundForced { amount, excesses_to },
    })
}

fn worker_claim() -> impl Strategy<Value = WorkerClaim> {
    (nano(), nano(), address()).prop_map(|(worker_part, proxy_part, excesses_to)| WorkerClaim {
        worker_part,
        proxy_part,
        excesses_to,
    })
}

pub(crate) fn note() -> impl Strategy<Value = Note> {
    let client = (client_state(), proptest::option::of(client_payload()));
    let worker = (worker_state(), proptest::option::of(worker_claim()));
    (0..6, any::<u64>(), client, worker).prop_map(|(kind, query_id, (client, payload), (worker, claim))| match kind {
        0 => Note::Excesses { query_id },
        1 => Note::Payout { query_id },
        2 => Note::DoNotProcess(LogEntry::Other),
        3 => Note::DoNotProcess(LogEntry::ProxyState { query_id, seqno: 1, unique_hash: client.secret_hash }),
        4 => Note::Client(ClientNote {
            query_id,
            owner: client.owner,
            state: client.state,
            balance: client.balance,
            stake: client.stake,
            tokens_used: client.tokens_used,
            secret_hash: client.secret_hash,
            payload,
        }),
        _ => Note::Worker(WorkerNote {
            query_id,
            owner: worker.owner,
            state: worker.state,
            tokens: worker.tokens,
            claim,
        }),
    })
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    (0..8, any::<u32>(), pending(), address(), address(), any::<u64>()).prop_map(
        |(kind, id, pending, before, after, query_id)| {
            let change = pending.message.clone();
            let details = match kind {
                0 => EventDetails::Forwarded(change),
                1 => EventDetails::Stored(pending),
                2 => EventDetails::Executed(change),
                3 => EventDetails::Cancelled(change),
                4 => EventDetails::Refused { op: id, query_id },
                5 => EventDetails::OwnerProposed { before, after },
                6 => EventDetails::OwnerChanged { before, after },
                _ => EventDetails::DelayChanged { before_s: id, after_s: 7 },
            };
            Event { id, details }
        },
    )
}

/// A cell of no bits.
pub(crate) fn empty() -> Cell {
    Cell::empty_cell()
}
