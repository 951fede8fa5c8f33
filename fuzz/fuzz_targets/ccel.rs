//! Event logs. The parse is total, the used part of a table parses to the same log, and each event extends one
//! register at most.

#![no_main]

use cocoon_attest::evidence::event_log::{self, EventLog};
use cocoon_attest::manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check(data);
    check(&[&event_log::header(), data].concat());
});

fn check(table: &[u8]) {
    let Ok(log) = EventLog::parse(table) else { return };
    let used = EventLog::used(table).expect("what parses has a used part");
    assert_eq!(EventLog::parse(used).as_ref(), Ok(&log));
    let mut registers = [[0; 48]; 4];
    for (register, value) in (0..).zip(&mut registers) {
        for event in log.events(register) {
            *value = event_log::extend(value, &event.digest);
        }
    }
    assert_eq!(registers, log.replay());
    // One more event changes RTMR3 and nothing else.
    let mut longer = used.to_vec();
    longer.extend(event_log::runtime_event(b"cocoon:one=more").expect("a short event"));
    if let Ok(longer) = EventLog::parse(&longer) {
        assert_eq!(longer.replay()[..3], registers[..3]);
        assert_ne!(longer.replay()[3], registers[3]);
    }
    if let Ok(events) = manifest::runtime_events(&log) {
        assert_eq!(events.len(), log.events(3).count());
    }
}
