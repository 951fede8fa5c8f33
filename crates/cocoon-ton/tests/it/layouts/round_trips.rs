//! What is written is read, and reading gives what was written. Each is also a check that the largest values fit cells.

use cocoon_ton::contract::message::{client, comment, parse_comment, proxy, root, steward, wallet, worker};
use cocoon_ton::contract::note::{Event, Note};
use cocoon_ton::contract::signed::{Envelope, Payment};
use cocoon_ton::contract::{
    ClientState, Params, ProxyRecord, ProxyState, RootState, StateError, StewardState, WalletState, WorkerState,
};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::arbitrary as any;

macro_rules! round_trips {
    ($($name:ident: $strategy:expr, $type:ty;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(128))]
            $(
                #[test]
                fn $name(value in $strategy) {
                    let cell = value.to_cell();
                    prop_assert_eq!(<$type>::parse(&cell), Ok(value));
                }
            )*
        }
    };
}

round_trips! {
    params_are_read_as_written: any::params(), Params;
    params_with_codes_are_read_as_written: any::params_with_codes(), Params;
    root_state_is_read_as_written: any::root_state(), RootState;
    proxy_state_is_read_as_written: any::proxy_state(), ProxyState;
    client_state_is_read_as_written: any::client_state(), ClientState;
    worker_state_is_read_as_written: any::worker_state(), WorkerState;
    wallet_state_is_read_as_written: any::wallet_state(), WalletState;
    steward_state_is_read_as_written: any::steward_state(), StewardState;
    client_messages_are_read_as_written: any::client_message(), client::Message;
    proxy_messages_are_read_as_written: any::proxy_message(), proxy::Message;
    worker_messages_are_read_as_written: any::worker_message(), worker::Message;
    root_messages_are_read_as_written: any::root_message(), root::Message;
    steward_messages_are_read_as_written: any::steward_message(), steward::Message;
    wallet_orders_are_read_as_written: any::wallet_order(), wallet::SignedOrder;
    envelopes_are_read_as_written: any::envelope(), Envelope;
    notes_are_read_as_written: any::note(), Note;
    events_are_read_as_written: any::event(), Event;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn signed_payments_verify_with_their_key_only(payment in any::payment(), key in proptest::array::uniform32(0_u8..), other in any::payment()) {
        let key = SigningKey::from_bytes(&key);
        let public = key.verifying_key().to_bytes();
        prop_assert_eq!(Payment::parse(&payment.payload()), Ok(payment));
        let signed = payment.sign(&key);
        prop_assert!(signed.verify(&public).is_ok());
        let stranger = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        prop_assert!(signed.verify(&stranger).is_err());
        if other != payment {
            prop_assert!(other.with_signature(signed.signature).verify(&public).is_err());
        }
    }
}

#[test]
fn a_signature_of_zeroes_by_the_key_of_a_small_group_is_refused() {
    let mut key = [0; 32];
    key[0] = 1;
    let payment = cocoon_ton::contract::signed::charge(cocoon_ton::Address::basechain([1; 32]), 0, 5);
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(payment.with_signature(signature).verify(&key).is_err());
}

#[test]
fn comments_of_contracts_are_one_letter() {
    let cell = comment("w");
    assert_eq!((cell.bit_len(), cell.reference_count()), (40, 0));
    assert_eq!(parse_comment(&cell).as_deref(), Some("w"));
    assert_eq!(parse_comment(&any::empty()), None);
    let long = "ü".repeat(200);
    assert_eq!(parse_comment(&comment(&long)), Some("ü".repeat(61)));
}

#[test]
fn a_proxy_is_registered_with_readable_endpoints_only() {
    for (workers, clients) in [("", "a:1"), ("a:1", ""), ("a b", "c"), ("a\n", "b"), ("é:1", "b"), ("a", "b c")] {
        assert!(ProxyRecord::new(workers, clients, None).is_err(), "{workers:?} {clients:?}");
    }
    let long = "x".repeat(55);
    assert!(ProxyRecord::new(&long, &format!("{}y", &long[1..]), None).is_err());
    let one = ProxyRecord::new("1.2.3.4:5", "1.2.3.4:5", None).unwrap();
    assert_eq!((one.workers(), one.clients()), ("1.2.3.4:5", "1.2.3.4:5"));
    let two = ProxyRecord::new("1.2.3.4:5", "1.2.3.4:6", None).unwrap();
    assert_eq!((two.workers(), two.clients()), ("1.2.3.4:5", "1.2.3.4:6"));
}

#[test]
fn batches_and_orders_have_their_bounds() {
    assert!(steward::Batch::new(Vec::new()).is_err());
    assert!(steward::Batch::new(vec![any::empty(); 33]).is_err());
    let too_many = wallet::Order::new(0, 0, 0, vec![(3, any::empty()); 5]);
    assert!(matches!(too_many, Err(StateError::TooMany { .. })));
}
