//! Event logs: real ones replay to the registers of the quote of the same boot; malformed ones are refused.

use base64::Engine as _;
use cocoon_attest::evidence::event_log::{self, EventLog, EventLogError};
use cocoon_attest::limits::EVENT_LOG_BYTES_MAX;

use crate::vectors;

const COS: &str = "tdx/go-tdx-guest/ccel_data.dat";
const GRUB: &str = "eventlog/trustee_CCEL_data_grub";

const EV_NO_ACTION: u32 = 3;
const EV_IPL: u32 = 0xd;

/// RTMR0..3 of a v4 quote: behind a header of 48 bytes and 328 bytes of the TD report.
fn registers_of_quote(quote: &[u8]) -> [[u8; 48]; 4] {
    [0, 1, 2, 3].map(|register| quote[48 + 328 + 48 * register..][..48].try_into().unwrap())
}

/// A small log: some events of two registers.
fn small() -> Vec<u8> {
    let events = [(0, &b"firmware"[..]), (1, b"kernel"), (3, b"config"), (3, b"inited")];
    let mut log = event_log::header();
    log.extend(events.into_iter().flat_map(|(register, data)| event_log::event(register, EV_IPL, data).unwrap()));
    log
}

#[test]
fn the_log_of_a_real_boot_replays_to_the_registers_of_its_quote() {
    let log = EventLog::parse(&vectors::read(COS)).unwrap();
    assert_eq!(log.all().len(), 43);
    let quote = vectors::read("tdx/go-tdx-guest/cos-113-tdx-quote.dat");
    assert_eq!(log.replay(), registers_of_quote(&quote));
}

#[test]
fn a_real_log_parses_to_its_recorded_parse() {
    let log = EventLog::parse(&vectors::read(GRUB)).unwrap();
    let recorded: serde_json::Value =
        serde_json::from_slice(&vectors::read("eventlog/trustee_CCEL_data_grub_out.json")).unwrap();
    let recorded = recorded["uefi_event_logs"].as_array().unwrap();
    assert_eq!(log.all().len(), recorded.len());
    for (event, recorded) in log.all().iter().zip(recorded) {
        assert_eq!(recorded["index"], event.register.unwrap() + 1);
        assert_eq!(recorded["type_name"], event.kind_name().unwrap());
        assert_eq!(recorded["digests"].as_array().unwrap().len(), 1);
        assert_eq!(recorded["digests"][0]["alg"], "SHA-384");
        assert_eq!(recorded["digests"][0]["digest"], hex::encode(event.digest));
        assert_eq!(recorded["event"], base64::engine::general_purpose::STANDARD.encode(&event.data));
        assert_eq!(recorded["digest_matches_event"], event.data_is_measured());
    }
}

#[test]
fn every_real_log_is_cut_to_what_is_used() {
    for (name, events) in [(COS, 43), (GRUB, 37), ("tdx/trustee/CCEL_data_ovmf", 20)] {
        let table = vectors::read(name);
        let used = EventLog::used(&table).unwrap();
        assert!(used.len() < table.len() / 2, "{name}: {} bytes", used.len());
        let log = EventLog::parse(used).unwrap();
        assert_eq!(log.all().len(), events, "{name}");
        assert_eq!(log, EventLog::parse(&table).unwrap());
    }
}

#[test]
fn a_flipped_digest_changes_its_register_and_no_other() {
    let table = vectors::read(COS);
    let honest = EventLog::parse(&table).unwrap().replay();
    let digests: Vec<[u8; 48]> = EventLog::parse(&table).unwrap().all().iter().map(|event| event.digest).collect();
    for digest in digests {
        let position = table.windows(48).position(|window| window == digest).unwrap();
        let mut altered = table.clone();
        altered[position] ^= 1;
        let replayed = EventLog::parse(&altered).unwrap().replay();
        assert_eq!(replayed.iter().zip(&honest).filter(|(a, b)| a != b).count(), 1);
    }
}

#[test]
fn a_log_of_our_own_is_read_back_and_extends_like_the_hardware() {
    let log = EventLog::parse(&small()).unwrap();
    assert_eq!(log.all().len(), 4);
    let data: Vec<&[u8]> = log.events(3).map(|event| event.data.as_slice()).collect();
    assert_eq!(data, [&b"config"[..], b"inited"]);
    let [config, inited] = [0, 1].map(|nth| log.events(3).nth(nth).unwrap().digest);
    assert_eq!(log.replay()[3], event_log::extend(&event_log::extend(&[0; 48], &config), &inited));
    assert_eq!(log.replay()[2], [0; 48]);
    assert!(log.all().iter().all(event_log::Event::data_is_measured));
    assert_eq!(event_log::event(4, EV_IPL, b"no such register"), None);
}

#[test]
fn an_event_that_only_informs_extends_nothing() {
    let mut log = small();
    let honest = EventLog::parse(&log).unwrap().replay();
    log.extend(event_log::event(2, EV_NO_ACTION, b"startup locality").unwrap());
    log.extend([0_u32, EV_NO_ACTION, 0, 0].map(u32::to_le_bytes).concat());
    let log = EventLog::parse(&log).unwrap();
    assert_eq!(log.replay(), honest);
    assert_eq!(log.events(2).count(), 0);
    assert_eq!(log.all().len(), 6);
}

#[test]
fn filling_of_either_kind_is_ignored_and_other_bytes_are_not() {
    let log = small();
    let honest = EventLog::parse(&log).unwrap();
    for filling in [0x00, 0xff] {
        let mut table = log.clone();
        table.resize(64 << 10, filling);
        assert_eq!(EventLog::parse(&table).unwrap(), honest);
        assert_eq!(EventLog::used(&table).unwrap(), log);
        // An event hidden behind the filling.
        table.extend(event_log::event(3, EV_IPL, b"hidden").unwrap());
        EventLog::parse(&table).unwrap_err();
    }
}

#[test]
fn a_log_cut_anywhere_is_refused_without_panic() {
    let log = small();
    let mut whole = 0;
    for len in 0..log.len() {
        whole += usize::from(EventLog::parse(&log[..len]).is_ok());
    }
    // After the header and after each event but the last; a cut that leaves only zeros of a register looks like filling.
    assert!((4..8).contains(&whole), "{whole}");

    let real = vectors::read(COS);
    let used = EventLog::used(&real).unwrap();
    for len in (0..used.len()).step_by(13) {
        let _ = EventLog::parse(&used[..len]);
    }
}

#[test]
fn a_length_bomb_in_a_log_is_refused() {
    let header = event_log::header().len();
    let log = small();
    let altered = |position: usize| {
        let mut log = log.clone();
        log[position..position + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        EventLog::parse(&log).unwrap_err()
    };
    // The size of the header, its count of algorithms, the count of digests, the size of an event.
    assert!(matches!(altered(28), EventLogError::Truncated { event: 0, .. }));
    assert_eq!(altered(32 + 24), EventLogError::Header);
    assert_eq!(altered(header + 8), EventLogError::Digests { event: 1 });
    assert!(matches!(altered(header + 12 + 2 + 48), EventLogError::Truncated { event: 1, .. }));

    let mut many = log.clone();
    many.resize(EVENT_LOG_BYTES_MAX + 1, 0xff);
    assert_eq!(EventLog::parse(&many).unwrap_err(), EventLogError::TooLong { len: EVENT_LOG_BYTES_MAX + 1 });
}

#[test]
fn events_of_other_registers_and_digests_are_refused() {
    let header = event_log::header().len();
    let log = small();
    let altered = |position: usize, byte: u8| {
        let mut log = log.clone();
        log[position] = byte;
        EventLog::parse(&log).unwrap_err()
    };
    assert_eq!(altered(header, 5), EventLogError::Register { event: 1, register: 5 });
    assert_eq!(altered(header, 0), EventLogError::Register { event: 1, register: 0 });
    assert_eq!(altered(header + 12, 0x0b), EventLogError::Digests { event: 1 });
    assert_eq!(altered(header + 8, 0), EventLogError::Digests { event: 1 });
    // The header: another type, another name, SHA-256 instead of SHA-384, or 32 bytes of it.
    for (position, byte) in [(4, 4), (32, b's'), (60, 0x0b), (62, 32)] {
        assert_eq!(altered(position, byte), EventLogError::Header);
    }
    assert!(EventLog::parse(b"").is_err());
}
