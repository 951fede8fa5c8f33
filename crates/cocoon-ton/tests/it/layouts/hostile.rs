//! Cells that somebody made to do harm: cut short, with flipped bits, without references, with more than there should
//! be, with dictionaries that unfold without end. Each gives an error or a value, quickly; none a panic.

use cocoon_ton::chain::Transaction;
use cocoon_ton::contract::message::{self, client, parse_comment, proxy, root, steward, wallet, worker};
use cocoon_ton::contract::note::{Bounced, Event, Note};
use cocoon_ton::contract::signed::Envelope;
use cocoon_ton::contract::{
    ClientState, Params, ProxyState, RootState, StateError, StewardState, WalletState, WorkerState,
};
use cocoon_ton::limits::REGISTRY_ENTRIES_MAX;
use cocoon_ton::{Address, Cell, explain};
use proptest::prelude::*;
use tycho_types::cell::{CellBuilder, CellSlice};

use super::arbitrary as any;

type Read = fn(&Cell) -> Result<(), StateError>;

/// Every reader there is.
const READERS: &[(&str, Read)] = &[
    ("params", |cell| Params::parse(cell).map(drop)),
    ("root", |cell| RootState::parse(cell).map(drop)),
    ("proxy", |cell| ProxyState::parse(cell).map(drop)),
    ("client", |cell| ClientState::parse(cell).map(drop)),
    ("worker", |cell| WorkerState::parse(cell).map(drop)),
    ("wallet", |cell| WalletState::parse(cell).map(drop)),
    ("steward", |cell| StewardState::parse(cell).map(drop)),
    ("client message", |cell| client::Message::parse(cell).map(|message| drop(message.lines()))),
    ("proxy message", |cell| proxy::Message::parse(cell).map(|message| drop(message.lines()))),
    ("worker message", |cell| worker::Message::parse(cell).map(|message| drop(message.lines()))),
    ("root message", |cell| root::Message::parse(cell).map(|message| drop(message.lines()))),
    ("steward message", |cell| steward::Message::parse(cell).map(|message| drop(message.lines()))),
    ("wallet message", |cell| wallet::Message::parse(cell).map(|message| drop(message.lines()))),
    ("order", |cell| wallet::SignedOrder::parse(cell).map(drop)),
    ("envelope", |cell| Envelope::parse(cell).map(drop)),
    ("note", |cell| Note::parse(cell).map(|note| drop(note.lines()))),
    ("event", |cell| Event::parse(cell).map(|event| drop(event.lines()))),
    ("bounced", |cell| Bounced::parse(cell).map(drop)),
    ("op", |cell| message::op_of(cell).map(drop)),
];

fn read_by_all(cell: &Cell) {
    for (_, read) in READERS {
        let _ = read(cell);
    }
    let _ = parse_comment(cell);
    let _ = explain::recognise(cell, cell, None);
    assert!(Transaction::parse(Address::basechain([0; 32]), cell.clone()).is_err());
}

/// A cell of the same references, or all but one, whose bits are cut, flipped or added to.
fn changed(cell: &Cell, bits: impl Fn(&mut Vec<bool>), leave_out: Option<u8>, add: Option<Cell>) -> Cell {
    let slice = CellSlice::new_allow_exotic(cell.as_ref());
    let mut all: Vec<bool> = (0..slice.size_bits()).map(|bit| slice.get_bit(bit).unwrap()).collect();
    bits(&mut all);
    let mut builder = CellBuilder::new();
    all.iter().for_each(|bit| builder.store_bit(*bit).unwrap());
    for index in (0..cell.reference_count()).filter(|index| Some(*index) != leave_out) {
        builder.store_reference(cell.reference_cloned(index).unwrap()).unwrap();
    }
    add.into_iter().for_each(|cell| builder.store_reference(cell).unwrap());
    builder.build().unwrap()
}

/// The same change to every cell of the tree, one at a time.
fn in_every_cell(root: &Cell, change: &dyn Fn(&Cell) -> Vec<Cell>) -> Vec<Cell> {
    let mut all = change(root);
    for index in 0..root.reference_count() {
        for child in in_every_cell(&root.reference_cloned(index).unwrap(), change) {
            all.push(with_child(root, index, child));
        }
    }
    all
}

fn with_child(parent: &Cell, replaced: u8, child: Cell) -> Cell {
    let slice = CellSlice::new_allow_exotic(parent.as_ref());
    let mut builder = CellBuilder::new();
    builder.store_slice_data(slice).unwrap();
    for index in 0..parent.reference_count() {
        let old = parent.reference_cloned(index).unwrap();
        builder.store_reference(if index == replaced { child.clone() } else { old }).unwrap();
    }
    builder.build().unwrap()
}

fn prefixes(cell: &Cell) -> Vec<Cell> {
    (0..cell.bit_len()).map(|len| changed(cell, |bits| bits.truncate(len.into()), None, None)).collect()
}

fn flips(cell: &Cell) -> Vec<Cell> {
    (0..cell.bit_len()).map(|bit| changed(cell, |bits| bits[usize::from(bit)] ^= true, None, None)).collect()
}

fn without_a_reference(cell: &Cell) -> Vec<Cell> {
    (0..cell.reference_count()).map(|index| changed(cell, |_| {}, Some(index), None)).collect()
}

fn longer(cell: &Cell) -> Vec<Cell> {
    let mut all = Vec::new();
    if cell.bit_len() < 1023 {
        all.push(changed(cell, |bits| bits.push(false), None, None));
        all.push(changed(cell, |bits| bits.push(true), None, None));
    }
    if cell.reference_count() < 4 {
        all.push(changed(cell, |_| {}, None, Some(any::empty())));
    }
    all
}

/// One of each, with everything that is optional.
fn samples() -> Vec<Cell> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut sample = Vec::new();
    macro_rules! take {
        ($($strategy:expr),*) => {$(
            sample.push($strategy.new_tree(&mut runner).unwrap().current().to_cell());
        )*};
    }
    use proptest::strategy::ValueTree as _;
    for _ in 0..3 {
        take!(
            any::params_with_codes(),
            any::root_state(),
            any::proxy_state(),
            any::client_state(),
            any::worker_state()
        );
        take!(any::wallet_state(), any::steward_state(), any::client_message(), any::proxy_message());
        take!(any::worker_message(), any::root_message(), any::steward_message(), any::wallet_order());
        take!(any::envelope(), any::note(), any::event());
    }
    sample
}

#[test]
fn no_prefix_of_a_cell_is_read() {
    for cell in samples() {
        for (name, read) in READERS.iter().filter(|(_, read)| read(&cell).is_ok()) {
            // Those that read the beginning of a cell, and one that takes anything as an order of another length.
            if ["op", "bounced", "order"].contains(name) {
                continue;
            }
            for prefix in prefixes(&cell) {
                // v3 without our extension is v3; a log entry may end anywhere.
                if let Err(error) = read(&prefix) {
                    assert!(!error.to_string().is_empty());
                } else {
                    let without_ext = prefix.bit_len() + 1 == cell.bit_len();
                    assert!(*name == "note" || without_ext, "{name}: a prefix of {} bits is read", prefix.bit_len());
                }
            }
        }
    }
}

#[test]
fn no_cut_cell_anywhere_panics() {
    for cell in samples() {
        in_every_cell(&cell, &prefixes).iter().for_each(read_by_all);
    }
}

#[test]
fn no_flipped_bit_anywhere_panics() {
    for cell in samples() {
        in_every_cell(&cell, &flips).iter().for_each(read_by_all);
    }
}

#[test]
fn no_missing_reference_is_read() {
    for cell in samples() {
        for hostile in in_every_cell(&cell, &without_a_reference) {
            read_by_all(&hostile);
        }
        for (name, read) in READERS.iter().filter(|(_, read)| read(&cell).is_ok()) {
            if !["op", "bounced", "order", "note"].contains(name) {
                for hostile in without_a_reference(&cell) {
                    assert!(read(&hostile).is_err(), "{name}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Nodes of the original refuse such a root, so we must never take one for good.
    #[test]
    fn a_root_with_one_bit_or_reference_more_is_refused(state in any::root_state()) {
        let cell = state.to_cell();
        for hostile in longer(&cell) {
            prop_assert!(RootState::parse(&hostile).is_err());
        }
        for index in 0..2 {
            for child in longer(&cell.reference_cloned(index).unwrap()) {
                prop_assert!(RootState::parse(&with_child(&cell, index, child)).is_err());
            }
        }
    }

    #[test]
    fn a_list_of_the_root_with_a_bit_more_in_an_entry_is_refused(state in any::root_state()) {
        let cell = state.to_cell();
        let registry = cell.reference_cloned(0).unwrap();
        for index in 0..registry.reference_count() {
            for dict in in_every_cell(&registry.reference_cloned(index).unwrap(), &longer) {
                let hostile = with_child(&cell, 0, with_child(&registry, index, dict));
                prop_assert!(RootState::parse(&hostile).is_err());
            }
        }
    }

    #[test]
    fn later_states_leave_at_most_one_reference(proxy in any::proxy_state(), client in any::client_state(), worker in any::worker_state()) {
        for hostile in longer(&proxy.to_cell()) {
            prop_assert_eq!(ProxyState::parse(&hostile).ok().filter(|read| *read != proxy), None);
        }
        for hostile in longer(&client.to_cell()) {
            prop_assert_eq!(ClientState::parse(&hostile).ok().filter(|read| *read != client), None);
        }
        for hostile in longer(&worker.to_cell()) {
            prop_assert_eq!(WorkerState::parse(&hostile).ok().filter(|read| *read != worker), None);
        }
    }
}

/// A dictionary whose two halves are one cell, 256 times over: 2^256 entries in 256 cells.
fn endless_dict(key_bits: u16) -> Cell {
    let mut edge = {
        let mut leaf = CellBuilder::new();
        // `hml_short$0`, an empty label.
        leaf.store_uint(0, 2).unwrap();
        leaf.build().unwrap()
    };
    for _ in 0..key_bits {
        let mut fork = CellBuilder::new();
        fork.store_uint(0, 2).unwrap();
        fork.store_reference(edge.clone()).unwrap();
        fork.store_reference(edge).unwrap();
        edge = fork.build().unwrap();
    }
    edge
}

#[test]
fn a_dictionary_without_end_is_given_up() {
    let mut registry = CellBuilder::new();
    registry.store_bit(true).unwrap();
    registry.store_reference(endless_dict(256)).unwrap();
    registry.store_uint(0, 35).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let state = Strategy::new_tree(&any::root_state(), &mut runner).unwrap();
    let cell = proptest::strategy::ValueTree::current(&state).to_cell();
    let hostile = with_child(&cell, 0, registry.build().unwrap());
    let refused = RootState::parse(&hostile);
    assert!(matches!(refused, Err(StateError::TooMany { max: REGISTRY_ENTRIES_MAX, .. })), "{refused:?}");
}

#[test]
fn an_amount_beyond_64_bits_is_refused_not_cut() {
    // `Coins` of nine bytes in place of the price: the parameters' first 73 bits stay.
    let mut params = CellBuilder::new();
    params.store_u8(3).unwrap();
    params.store_uint(0, 65 - 1 + 1).unwrap();
    params.store_uint(9, 4).unwrap();
    params.store_u8(1).unwrap();
    params.store_u64(0).unwrap();
    let refused = Params::parse(&params.build().unwrap());
    assert_eq!(refused, Err(StateError::Amount { what: "parameters", field: "price" }));
}

#[test]
fn an_amount_with_leading_zeroes_is_refused() {
    let mut params = CellBuilder::new();
    params.store_u8(3).unwrap();
    params.store_uint(0, 65).unwrap();
    params.store_uint(2, 4).unwrap();
    params.store_u16(5).unwrap();
    assert!(matches!(Params::parse(&params.build().unwrap()), Err(StateError::Malformed { field: "price", .. })));
}

#[test]
fn parameters_of_another_generation_are_refused_by_number() {
    for version in [0, 2, 4, 255] {
        let mut params = CellBuilder::new();
        params.store_u8(version).unwrap();
        params.store_uint(0, 64).unwrap();
        assert_eq!(Params::parse(&params.build().unwrap()), Err(StateError::Version(version)));
    }
}

proptest! {
    #[test]
    fn no_cell_panics(cells in proptest::collection::vec(any::cell(), 1..5)) {
        let mut builder = CellBuilder::new();
        builder.store_slice(cells[0].as_slice().unwrap()).unwrap();
        for cell in cells.iter().skip(1) {
            builder.store_reference(cell.clone()).unwrap();
        }
        read_by_all(&builder.build().unwrap());
    }
}
