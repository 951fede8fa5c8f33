//! Small contracts in machine code, and shorthands.

use cocoon_ton::devnet::{Engine, Executed, Genesis};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;
use tycho_types::models::{
    ExtInMsgInfo, MsgInfo, OrdinaryTxInfo, OwnedMessage, StateInit, StdAddr, Transaction, TxInfo,
};

pub(crate) const TON: u64 = 1_000_000_000;
pub(crate) const NOW: u32 = 1_800_000_000;

pub(crate) fn ton(whole: u64) -> Nano {
    Nano::new(whole * TON)
}

/// An engine with three puppets of 1,000 TON each.
pub(crate) fn engine() -> Engine {
    Engine::new(&Genesis { unix_s: NOW, puppets: 3, ..Genesis::default() })
}

/// `SETCP0; 777 THROW`.
pub(crate) const THROWS: [u8; 5] = [0xff, 0x00, 0xf2, 0xc3, 0x09];
/// `SETCP0`: takes every message, keeps its money.
pub(crate) const KEEPS: [u8; 2] = [0xff, 0x00];
/// `SETCP0; ACCEPT; AGAIN { }`: never ends before its gas does. `<{ }> PUSHCONT AGAIN` is `90 ea`.
pub(crate) const LOOPS: [u8; 6] = [0xff, 0x00, 0xf8, 0x00, 0x90, 0xea];

pub(crate) fn contract(code: &[u8]) -> (Address, StateInit) {
    contract_with(code, Cell::default())
}

pub(crate) fn contract_with(code: &[u8], data: Cell) -> (Address, StateInit) {
    let mut cell = CellBuilder::new();
    cell.store_raw(code, u16::try_from(code.len() * 8).unwrap()).unwrap();
    let init = StateInit { code: Some(cell.build().unwrap()), data: Some(data), ..StateInit::default() };
    let hash = *CellBuilder::build_from(&init).unwrap().repr_hash();
    (Address::basechain(hash.0), init)
}

pub(crate) fn parse(executed: &Executed) -> (Transaction, OrdinaryTxInfo) {
    let transaction = executed.cell.parse::<Transaction>().unwrap();
    let TxInfo::Ordinary(info) = transaction.load_info().unwrap() else { panic!("no ticks or tocks here") };
    (transaction, info)
}

/// A cell of 960 bits.
pub(crate) fn full_cell(n: u64, children: &[Cell]) -> Cell {
    let mut builder = CellBuilder::new();
    for _ in 0..15 {
        builder.store_u64(n).unwrap();
    }
    for child in children {
        builder.store_reference(child.clone()).unwrap();
    }
    builder.build().unwrap()
}

/// A tree of full cells with this many leaves.
pub(crate) fn tree(leaves: u64) -> Cell {
    let mut level: Vec<Cell> = (0..leaves).map(|n| full_cell(n, &[])).collect();
    while level.len() > 1 {
        level = level.chunks(4).map(|children| full_cell(0, children)).collect();
    }
    level.remove(0)
}

/// An external message.
pub(crate) fn external(to: Address, body: Cell) -> Cell {
    CellBuilder::build_from(OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo { dst: StdAddr::from(to).into(), ..ExtInMsgInfo::default() }),
        init: None,
        body: body.into(),
        layout: None,
    })
    .unwrap()
}
