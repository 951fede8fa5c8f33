//! Headers that a stranger chose, as the network lets them through.

use tycho_types::boc::Boc;
use tycho_types::cell::{CellBuilder, CellFamily as _, Store as _};
use tycho_types::models::StdAddr;

use super::*;
use crate::chain::Transaction;

const ACCOUNT: Address = Address::basechain([5; 32]);
const STRANGER: Address = Address::basechain([6; 32]);

/// A transaction of the sandbox whose message brings code with `split_depth = just 0`, sent by somebody else.
const SPLIT_DEPTH_OF_ZERO: &[u8] = include_bytes!("split-depth-of-zero.boc");

/// Bits from left to right: a width and a value each.
fn bits(builder: &mut CellBuilder, fields: &[(u16, u64)]) {
    fields.iter().for_each(|(width, value)| builder.store_uint(*value, *width).unwrap());
}

fn address(builder: &mut CellBuilder, address: Address) {
    StdAddr::from(address).store_into(builder, Cell::empty_context()).unwrap();
}

/// An external to `ACCOUNT` whose header ends with these bits of `import_fee`, and with a body of 32 bits.
fn external(destination: impl Fn(&mut CellBuilder), import_fee: &[(u16, u64)]) -> Cell {
    let mut builder = CellBuilder::new();
    bits(&mut builder, &[(2, 2), (2, 0)]);
    destination(&mut builder);
    bits(&mut builder, import_fee);
    bits(&mut builder, &[(1, 0), (1, 0), (32, 0xC0C0)]);
    builder.build().unwrap()
}

fn body() -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u32(0xC0C0).unwrap();
    builder.build().unwrap()
}

/// `2^100` nanoTON: 13 bytes.
const ABSURD: [(u16, u64); 3] = [(4, 13), (40, 0x10_0000_0000), (64, 0)];

#[test]
fn an_external_wrapped_anew_with_an_absurd_import_fee_is_still_ours() {
    let message = Message::parse(ACCOUNT, &external(|builder| address(builder, ACCOUNT), &ABSURD)).unwrap();
    assert_eq!(message.kind, MessageKind::ExternalIn { to: ACCOUNT });
    assert_eq!(message.body, body());
}

#[test]
fn an_external_wrapped_anew_with_anycast_is_still_ours() {
    let anycast = |builder: &mut CellBuilder| {
        bits(builder, &[(2, 2), (1, 1), (5, 3), (3, 5), (8, 0)]);
        builder.store_raw(&ACCOUNT.account, 256).unwrap();
    };
    let variable = |builder: &mut CellBuilder| {
        bits(builder, &[(2, 3), (1, 0), (9, 256), (32, 0)]);
        builder.store_raw(&ACCOUNT.account, 256).unwrap();
    };
    for destination in [external(anycast, &[(4, 0)]), external(variable, &[(4, 0)])] {
        let message = Message::parse(ACCOUNT, &destination).unwrap();
        assert_eq!(message.kind, MessageKind::ExternalIn { to: ACCOUNT });
        assert_eq!(message.body, body());
    }
}

#[test]
fn code_with_a_split_depth_of_zero_does_not_hide_a_transaction() {
    let cell = Boc::decode(SPLIT_DEPTH_OF_ZERO).unwrap();
    let account: Address = "0:9fe93b5741bbc63e1035a30907164fbb3546fc4a536aecf90293bb690d42232f".parse().unwrap();
    let message = Transaction::parse(account, cell).unwrap().in_message.unwrap();
    assert!(message.has_state_init);
    assert!(matches!(message.kind, MessageKind::Internal { to, bounced: false, .. } if to == account));
}

/// All of `StateInit`'s optional parts, in the message itself, and then a body.
#[test]
fn an_initial_state_of_any_form_is_skipped_to_the_bit() {
    for parts in 0..32_u64 {
        let has = |part: u16| parts >> part & 1 == 1;
        let mut builder = CellBuilder::new();
        bits(&mut builder, &[(2, 2), (2, 0)]);
        address(&mut builder, ACCOUNT);
        bits(&mut builder, &[(4, 0), (1, 1), (1, 0)]);
        bits(&mut builder, if has(0) { &[(1, 1), (5, 31)] } else { &[(1, 0)] });
        bits(&mut builder, if has(1) { &[(1, 1), (2, 3)] } else { &[(1, 0)] });
        for part in 2..5 {
            bits(&mut builder, &[(1, u64::from(has(part)))]);
            if has(part) {
                builder.store_reference(Cell::default()).unwrap();
            }
        }
        bits(&mut builder, &[(1, 0), (32, 0xC0C0)]);
        let message = Message::parse(ACCOUNT, &builder.build().unwrap()).unwrap();
        assert_eq!((message.has_state_init, message.body), (true, body()), "{parts:05b}");
    }
}

#[test]
fn a_value_beyond_all_money_costs_the_header_only() {
    let message = |value: &[(u16, u64)], fee: &[(u16, u64)]| {
        let mut builder = CellBuilder::new();
        bits(&mut builder, &[(4, 0b0110)]);
        address(&mut builder, STRANGER);
        address(&mut builder, ACCOUNT);
        bits(&mut builder, value);
        bits(&mut builder, &[(1, 0), (4, 0)]);
        bits(&mut builder, fee);
        bits(&mut builder, &[(64, 9), (32, 8), (1, 0), (1, 0), (32, 0xC0C0)]);
        Message::parse(ACCOUNT, &builder.build().unwrap()).unwrap()
    };
    let readable = message(&[(4, 1), (8, 7)], &ABSURD);
    let value = Nano::new(7);
    let expected =
        MessageKind::Internal { from: STRANGER, to: ACCOUNT, value, bounce: true, bounced: false, created_lt: 9 };
    assert_eq!((readable.kind, readable.body), (expected, body()));
    let unreadable = message(&ABSURD, &[(4, 0)]);
    assert_eq!((unreadable.kind, unreadable.body), (MessageKind::Unreadable, body()));
}

#[test]
fn what_no_block_can_hold_is_a_servers_lie() {
    let whole = external(|builder| address(builder, ACCOUNT), &ABSURD);
    let slice = whole.as_slice().unwrap();
    for len in 0..slice.size_bits() - 33 {
        let mut slice = slice;
        let cut = CellBuilder::build_from(slice.load_prefix(len, 0).unwrap()).unwrap();
        assert!(Message::parse(ACCOUNT, &cut).is_err(), "{len} bits");
    }
}
