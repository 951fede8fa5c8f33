//! Bags of cells: states of contracts, messages, transactions. Reading is total, and what was read is written and read
//! again to the same. Input that is no bag of cells becomes a tree of cells byte by byte, since random bytes seldom are
//! a bag.

#![no_main]

use cocoon_ton::chain::Transaction;
use cocoon_ton::contract::message::{client, parse_comment, proxy, root, steward, wallet, worker};
use cocoon_ton::contract::note::{Bounced, Event, Note};
use cocoon_ton::contract::signed::Envelope;
use cocoon_ton::contract::{
    ClientState, Params, ProxyState, RootState, StewardState, WalletState, WorkerState,
};
use cocoon_ton::{Address, Cell, explain};
use tycho_types::boc::Boc;
use tycho_types::cell::CellBuilder;
use tycho_types::models::Transaction as Model;

macro_rules! round_trips {
    ($cell:ident: $($type:ty),*) => {$(
        if let Ok(read) = <$type>::parse(&$cell) {
            assert_eq!(<$type>::parse(&read.to_cell()).as_ref(), Ok(&read));
        }
    )*};
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let cell = Boc::decode(data).unwrap_or_else(|_| tree(&mut &*data, 8));
    round_trips!(cell: Params, RootState, ProxyState, ClientState, WorkerState, WalletState, StewardState);
    round_trips!(cell: client::Message, proxy::Message, worker::Message, root::Message, steward::Message);
    round_trips!(cell: wallet::Message, wallet::SignedOrder, Envelope, Note, Event);
    if let Ok(root) = RootState::parse(&cell) {
        assert_eq!(root.to_cell(), cell, "the root is v3 to the bit");
    }
    let _ = Bounced::parse(&cell);
    let _ = parse_comment(&cell);
    let _ = explain::recognise(&cell, &cell, None);
    transaction(cell);
});

fn transaction(cell: Cell) {
    let Ok(model) = cell.parse::<Model>() else { return };
    let account = Address::basechain(model.account.0);
    let Ok(read) = Transaction::parse(account, cell) else { return };
    assert!(!explain::transaction(&read, &explain::Names::default()).is_empty());
}

/// A cell: a byte with the number of its references, two with the number of its bits, its bits, its references.
fn tree(data: &mut &[u8], depth: u8) -> Cell {
    let mut builder = CellBuilder::new();
    let head = take(data, 3);
    let [refs, high, low] = [0, 1, 2].map(|index| head.get(index).copied().unwrap_or(0));
    let bits = (u16::from_be_bytes([high, low]) & 0x3ff).min(1023);
    let bytes = take(data, usize::from(bits.div_ceil(8)));
    let bits = bits.min(u16::try_from(bytes.len() * 8).expect("128 bytes at most"));
    builder.store_raw(bytes, bits).expect("1023 bits fit");
    for _ in 0..if depth == 0 { 0 } else { refs % 5 } {
        builder.store_reference(tree(data, depth - 1)).expect("four references fit");
    }
    builder.build().expect("no deeper than eight cells")
}

fn take<'a>(data: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(len.min(data.len()));
    *data = rest;
    taken
}
