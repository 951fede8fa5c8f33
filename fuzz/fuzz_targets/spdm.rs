//! GPU reports. The parse is total and keeps what it read; behind the constant bytes it goes deep quickly.

#![no_main]

use cocoon_attest::evidence::spdm::SpdmReport;

/// A request for all measurements, signed; a nonce and a slot of zeros; the start of the response.
fn begun() -> Vec<u8> {
    let mut report = vec![0x11, 0xe0, 0x01, 0xff];
    report.extend([0; 33]);
    report.extend([0x11, 0x60, 0, 0]);
    report
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    check(&[&begun(), data].concat());
});

fn check(bytes: &[u8]) {
    let Ok(report) = SpdmReport::parse(bytes) else { return };
    let read = report.signed.len() + report.signature.len();
    assert!(bytes.starts_with(report.signed));
    assert_eq!(bytes[report.signed.len()..read], report.signature);
    assert!(bytes.len() - read <= 1, "one byte may follow");
    assert_eq!(bytes[4..36], report.request_nonce);
    let values: usize = report.measurements.iter().map(|measurement| measurement.value.len() + 7).sum();
    assert!(values < report.signed.len());
    assert_eq!(SpdmReport::parse(&bytes[..read]).as_ref(), Ok(&report), "the byte after it says nothing");
    SpdmReport::parse(&bytes[..read - 1]).expect_err("a report that was cut");
}
