#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "numbers made by the test itself"
)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::ARRIVAL_WINDOW;

fn ip(number: u32) -> IpAddr {
    // Past the addresses that mean this host.
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn admission(change: impl FnOnce(&mut ListenLimits)) -> (Admission, Instant) {
    let now = Instant::now();
    let mut limits = ListenLimits::default();
    change(&mut limits);
    (Admission::new(limits, 0, [1; 32], now), now)
}

#[track_caller]
fn admitted(arrival: Arrival) -> (HandshakeId, i32) {
    match arrival {
        Arrival::Admitted { id, difficulty_bits, .. } => (id, difficulty_bits),
        Arrival::Refused(full) => panic!("refused: {full:?}"),
    }
}

/// Takes as many connections as are given.
fn connect(admission: &mut Admission, now: Instant, ip: IpAddr, count: usize) -> Result<Vec<ConnectionPlace>, Full> {
    (0..count)
        .map(|_| match admission.handle_arrival(now, ip) {
            Arrival::Admitted { id, .. } => admission.handle_connected(id),
            Arrival::Refused(full) => Err(full),
        })
        .collect()
}

#[test]
fn idle_listener_asks_for_no_work() {
    let (mut admission, now) = admission(|_| {});
    for number in 0..HANDSHAKES_MAX / 8 {
        assert_eq!(admitted(admission.handle_arrival(now, ip(number as u32))).1, 0);
    }
}

/// One address opens streams as fast as it can and answers nothing; another one dials every second.
#[test]
fn honest_newcomer_is_let_in_without_work_while_an_address_floods() {
    let (mut admission, start) = admission(|_| {});
    let (flooder, honest) = (ip(1), ip(2));
    for second in 0..60 {
        let now = start + Duration::from_secs(second);
        for _ in 0..1000 {
            let _ = admission.handle_arrival(now, flooder);
        }
        let (id, bits) = admitted(admission.handle_arrival(now, honest));
        assert_eq!(bits, 0, "in second {second}");
        admission.handle_proven(id);
        let connection = admission.handle_connected(id).unwrap();
        admission.handle_closed(connection);
    }
    assert_eq!(admission.handshakes.len(), HANDSHAKES_PER_SOURCE_MAX);
}

#[test]
fn flooding_address_has_to_work_hard_itself() {
    let (mut admission, now) = admission(|_| {});
    let mut last = 0;
    for _ in 0..SOURCE_ARRIVALS_FULL {
        let (id, bits) = admitted(admission.handle_arrival(now, ip(1)));
        assert!(bits >= last, "never less while it goes on");
        last = bits;
        admission.handle_ended(id);
    }
    assert_eq!(last, POW_DIFFICULTY_BITS_UNDER_LOAD);
}

#[test]
fn difficulty_rises_with_load_and_falls_after_it() {
    let (mut admission, now) = admission(|_| {});
    let mut seen = Vec::new();
    let mut ids = Vec::new();
    for number in 0..HANDSHAKES_MAX {
        let (id, bits) = admitted(admission.handle_arrival(now, ip(number as u32)));
        seen.push(bits);
        ids.push(id);
    }
    assert!(seen.is_sorted());
    assert_eq!((seen[0], seen[HANDSHAKES_MAX / 8], seen[HANDSHAKES_MAX - 1]), (0, 0, 20));
    assert!((5..15).contains(&seen[HANDSHAKES_MAX / 2 - 16]), "{}", seen[HANDSHAKES_MAX / 2 - 16]);
    for id in ids {
        admission.handle_ended(id);
    }
    assert_eq!(admitted(admission.handle_arrival(now, ip(0))).1, 0);
}

#[test]
fn difficulty_from_arrivals_falls_with_time() {
    let (mut admission, now) = admission(|_| {});
    for number in 0..ARRIVALS_FULL {
        let (id, _) = admitted(admission.handle_arrival(now, ip(number)));
        admission.handle_ended(id);
    }
    let bits_after = |admission: &mut Admission, windows: f64| {
        let (id, bits) = admitted(admission.handle_arrival(now + ARRIVAL_WINDOW.mul_f64(windows), ip(1 << 20)));
        admission.handle_ended(id);
        bits
    };
    let bits = [0.0, 1.25, 1.75, 3.0].map(|windows| bits_after(&mut admission, windows));
    assert_eq!((bits[0], bits[3]), (20, 0));
    assert!(bits.windows(2).all(|pair| pair[0] > pair[1]), "{bits:?}");
}

#[test]
fn difficulty_stays_between_its_bounds() {
    for (floor, max, idle, loaded) in [(0, 12, 0, 12), (8, 12, 8, 12), (20, 12, 20, 20), (0, 0, 0, 0), (0, 28, 0, 28)] {
        let now = Instant::now();
        let limits = ListenLimits { pow_difficulty_bits_max: max, ..ListenLimits::default() };
        let mut admission = Admission::new(limits, floor, [1; 32], now);
        assert_eq!(admitted(admission.handle_arrival(now, ip(0))).1, idle);
        let most = (1..HANDSHAKES_MAX).map(|number| admitted(admission.handle_arrival(now, ip(number as u32))).1).max();
        assert_eq!(most, Some(loaded));
    }
}

#[test]
fn one_address_has_its_share_and_no_more() {
    let (mut admission, now) = admission(|_| {});
    for _ in 0..HANDSHAKES_PER_SOURCE_MAX {
        admitted(admission.handle_arrival(now, ip(1)));
    }
    assert_eq!(admission.handle_arrival(now, ip(1)), Arrival::Refused(Full::SourceHandshakes));
    let held = connect(&mut admission, now, ip(2), CONNECTIONS_PER_SOURCE_MAX).unwrap();
    assert_eq!(admission.handle_arrival(now, ip(2)), Arrival::Refused(Full::SourceConnections));
    admitted(admission.handle_arrival(now, ip(3)));
    for place in held {
        admission.handle_closed(place);
    }
    admitted(admission.handle_arrival(now, ip(2)));
}

#[test]
fn network_of_ipv6_addresses_is_one_source() {
    let (mut admission, now) = admission(|_| {});
    let in_network = |host: u128| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) + host));
    for host in 0..HANDSHAKES_PER_SOURCE_MAX as u128 {
        admitted(admission.handle_arrival(now, in_network(host << 20)));
    }
    assert_eq!(admission.handle_arrival(now, in_network(77)), Arrival::Refused(Full::SourceHandshakes));
    admitted(admission.handle_arrival(now, in_network(1 << 64)));
}

#[test]
fn this_host_may_take_every_place() {
    let (mut admission, now) = admission(|_| {});
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let _held = connect(&mut admission, now, here, CONNECTIONS_MAX).unwrap();
    assert_eq!(admission.handle_arrival(now, here), Arrival::Refused(Full::Connections));
}

/// The lock-out that single places allowed: 1024 handshakes that never end, and nobody else gets in.
#[test]
fn half_done_handshakes_from_everywhere_do_not_lock_newcomers_out() {
    let (mut admission, now) = admission(|_| {});
    for number in 0..1024 {
        admitted(admission.handle_arrival(now, ip(number)));
    }
    let (id, _) = admitted(admission.handle_arrival(now, ip(5000)));
    assert!(admission.handle_connected(id).is_ok());
    assert_eq!(admission.connections, 1);
}

#[test]
fn greediest_source_loses_its_oldest_unproven_handshake_first() {
    let (mut admission, now) = admission(|limits| limits.handshakes_max = 6);
    let arrive = |admission: &mut Admission, number| admitted(admission.handle_arrival(now, ip(number))).0;
    let modest = arrive(&mut admission, 1);
    let greedy: Vec<_> = (0..4).map(|_| arrive(&mut admission, 2)).collect();
    let proven = arrive(&mut admission, 3);
    admission.handle_proven(proven);
    admission.handle_proven(greedy[0]);
    let shed = |admission: &mut Admission, number| match admission.handle_arrival(now, ip(number)) {
        Arrival::Admitted { shed, .. } => shed,
        Arrival::Refused(full) => panic!("{full:?}"),
    };
    // The first of the greedy source has done its work and stays; of two equals the older one goes.
    assert_eq!(shed(&mut admission, 10), Some(greedy[1]));
    assert_eq!(shed(&mut admission, 11), Some(greedy[2]));
    assert_eq!(shed(&mut admission, 12), Some(modest));
    assert!(admission.handle_connected(modest).is_err(), "its place is gone");
    assert!(admission.handle_connected(proven).is_ok());
}

#[test]
fn handshakes_that_did_their_work_are_not_dropped_for_newcomers() {
    let (mut admission, now) = admission(|limits| limits.handshakes_max = 4);
    let ids: Vec<_> = (0..4).map(|number| admitted(admission.handle_arrival(now, ip(number))).0).collect();
    ids.iter().for_each(|id| admission.handle_proven(*id));
    assert_eq!(admission.handle_arrival(now, ip(9)), Arrival::Refused(Full::Handshakes));
    admission.handle_ended(ids[0]);
    admitted(admission.handle_arrival(now, ip(9)));
}

#[test]
fn a_million_addresses_make_nothing_grow() {
    // Few places, because every newcomer looks through them.
    let places = 32;
    let (mut admission, start) = admission(|limits| limits.handshakes_max = places);
    let mut refused = 0;
    for number in 0..1_000_000 {
        let now = start + Duration::from_micros(u64::from(number));
        match admission.handle_arrival(now, ip(number)) {
            // Every third does its work, every ninth becomes a connection that stays.
            Arrival::Admitted { id, .. } if number % 9 == 0 => drop(admission.handle_connected(id)),
            Arrival::Admitted { id, .. } if number % 3 == 0 => admission.handle_proven(id),
            Arrival::Admitted { .. } => {}
            Arrival::Refused(_) => refused += 1,
        }
    }
    assert!(refused > 0);
    assert!(admission.handshakes.len() <= places && admission.connections <= CONNECTIONS_MAX);
    assert!(admission.held.len() <= places + CONNECTIONS_MAX, "{}", admission.held.len());
    assert!(admission.held.capacity() <= 4 * (places + CONNECTIONS_MAX), "{}", admission.held.capacity());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u8),
    Prove(usize),
    End(usize),
    Connect(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..6).prop_map(Step::Arrive),
        1 => any::<usize>().prop_map(Step::Prove),
        1 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Connect),
        1 => any::<usize>().prop_map(Step::Close),
    ]
}

proptest! {
    /// Whatever happens in whatever order: the books agree with the places, and no bound is passed.
    #[test]
    fn books_balance(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut admission, now) = admission(|limits| {
            limits.handshakes_max = 8;
            limits.connections_max = 6;
            limits.per_source = SourceLimits { connections_max: 3, handshakes_max: 4 };
        });
        let (mut ids, mut places) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Arrive(number) => {
                    if let Arrival::Admitted { id, .. } = admission.handle_arrival(now, ip(number.into())) {
                        ids.push(id);
                    }
                }
                // Also ids that ended or were dropped before: they must change nothing.
                Step::Prove(at) if !ids.is_empty() => admission.handle_proven(ids[at % ids.len()]),
                Step::End(at) if !ids.is_empty() => admission.handle_ended(ids[at % ids.len()]),
                Step::Connect(at) if !ids.is_empty() => places.extend(admission.handle_connected(ids[at % ids.len()])),
                Step::Close(at) if !places.is_empty() => {
                    let place = places.swap_remove(at % places.len());
                    admission.handle_closed(place);
                }
                Step::Prove(_) | Step::End(_) | Step::Connect(_) | Step::Close(_) => {}
            }
            prop_assert!(admission.handshakes.len() <= 8 && admission.connections <= 6);
            prop_assert_eq!(admission.connections, places.len());
            for (source, held) in &admission.held {
                let mine = admission.handshakes.values().filter(|handshake| handshake.source == *source);
                prop_assert_eq!(mine.clone().count(), held.handshakes);
                prop_assert_eq!(mine.filter(|handshake| !handshake.proven).count(), held.unproven);
                prop_assert_eq!(places.iter().filter(|place| place.0 == *source).count(), held.connections);
                prop_assert!(held.handshakes <= 4 && held.connections <= 3 && held.handshakes + held.connections > 0);
            }
            let sum: usize = admission.held.values().map(|held| held.handshakes).sum();
            prop_assert_eq!(sum, admission.handshakes.len());
        }
    }
}
