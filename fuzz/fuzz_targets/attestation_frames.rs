//! The bodies of the frames that carry attestation. What is read is written and read again to the same bytes.

#![no_main]

use bytes::Bytes;
use cocoon_wire::attestation::AttestMessage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(message) = AttestMessage::decode(Bytes::copy_from_slice(data)) else { return };
    let encoded = message.encode();
    let again = AttestMessage::decode(encoded.clone()).expect("what was written is read");
    assert_eq!(again, message);
    assert_eq!(again.encode(), encoded);
});
