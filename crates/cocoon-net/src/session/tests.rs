//! The session against a scripted peer: no sockets, no clock.

use std::io::IoSlice;
use std::time::Duration;

use cocoon_wire::Encoded;
use cocoon_wire::limits::FRAGMENT_MAX;
use cocoon_wire::packet::{FrameError, PacketOut, encode_frame};
use tokio::sync::oneshot;

use super::*;
use crate::error::FragmentError;
use crate::limits::{
    CONTROL_QUEUE_BYTES_MAX, DATA_QUEUE_BYTES_MAX, DIALER_SILENCE_MAX, LARGE_MESSAGES_MAX, LISTENER_SILENCE_MAX,
    PACKET_OVERHEAD, PING_AFTER, QUERIES_IN_MAX, QUERIES_OUT_MAX,
};
use crate::outbox::Withdrawal;

/// A session, its peer's half of the codec, and the time.
struct Script {
    session: Session,
    now: Instant,
    seqno: u32,
    decoder: FrameDecoder,
    received: BytesMut,
}

impl Script {
    fn new(session: impl FnOnce(Instant) -> Session) -> Self {
        let now = Instant::now();
        Self { session: session(now), now, seqno: 0, decoder: FrameDecoder::new(), received: BytesMut::new() }
    }

    fn open(side: Side) -> Self {
        Self::new(|now| Session::open(side, 100, now))
    }

    fn frame(&mut self, packet: &PacketOut<'_>) -> BytesMut {
        let mut frame = BytesMut::new();
        encode_frame(self.seqno, packet, &mut frame).unwrap();
        self.seqno += 1;
        frame
    }

    fn feed_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ConnectionError> {
        self.session.read_buffer().extend_from_slice(bytes);
        self.session.handle_read(self.now)?;
        let mut events = Vec::new();
        while let Some(event) = self.session.poll_event()? {
            events.push(event);
        }
        Ok(events)
    }

    fn feed(&mut self, packet: &PacketOut<'_>) -> Result<Vec<Event>, ConnectionError> {
        let frame = self.frame(packet);
        self.feed_bytes(&frame)
    }

    /// What one write of at most `most` bytes would carry.
    fn write(&mut self, most: usize) -> usize {
        self.session.poll_transmit(self.now, Waker::noop());
        let mut slices = [IoSlice::new(&[]); 8];
        let used = self.session.writer.slices(&mut slices);
        let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
        self.session.handle_written(self.now, bytes.len());
        self.received.extend_from_slice(&bytes);
        bytes.len()
    }

    /// Everything that is queued, as the peer reads it.
    fn drain(&mut self) -> Vec<Packet> {
        while self.write(usize::MAX) > 0 {}
        let mut packets = Vec::new();
        while let Some(packet) = self.decoder.read_from(&mut self.received).unwrap() {
            packets.push(packet);
        }
        assert!(self.received.is_empty(), "whole frames only");
        packets
    }

    fn pass(&mut self, time: Duration) -> Result<(), ConnectionError> {
        self.now += time;
        self.session.handle_timeout(self.now)
    }
}

fn message(bytes: &'static [u8]) -> Encoded {
    Encoded::from(Bytes::from_static(bytes))
}

fn zeros(len: usize) -> Encoded {
    Encoded::from(Bytes::from(vec![0; len]))
}

fn is_ping(packets: &[Packet]) -> bool {
    matches!(packets, [Packet::Ping { .. }])
}

// Handshake.

#[test]
fn handshake_of_both_sides() {
    let mut dialer = Script::new(|now| Session::dialer(7, now));
    assert_eq!(dialer.session.poll_open().unwrap(), None);
    assert_eq!(dialer.drain(), [Packet::Connect { id: 7 }]);

    let mut listener = Script::new(|now| Session::listener(1, now));
    let connect = listener.frame(&PacketOut::Connect { id: 7 });
    listener.session.read_buffer().extend_from_slice(&connect);
    assert_eq!(listener.session.poll_open().unwrap(), Some(()));
    assert_eq!(listener.drain(), [Packet::Connected { id: 7 }]);

    let connected = dialer.frame(&PacketOut::Connected { id: 7 });
    dialer.session.read_buffer().extend_from_slice(&connected);
    assert_eq!(dialer.session.poll_open().unwrap(), Some(()));
}

#[test]
fn wrong_packet_in_handshake() {
    let data = message(b"hello");
    for packet in [
        PacketOut::Message { data: &data },
        PacketOut::Ping { id: 1 },
        PacketOut::Query { id: 1, data: &data },
        PacketOut::Connected { id: 7 },
    ] {
        let mut listener = Script::new(|now| Session::listener(1, now));
        let frame = listener.frame(&packet);
        listener.session.read_buffer().extend_from_slice(&frame);
        let error = listener.session.poll_open().unwrap_err();
        assert!(matches!(error, ConnectionError::PeerUnexpectedPacket { .. }), "{packet:?}: {error}");
    }
}

#[test]
fn connected_with_another_id_is_refused() {
    let mut dialer = Script::new(|now| Session::dialer(7, now));
    let frame = dialer.frame(&PacketOut::Connected { id: 8 });
    dialer.session.read_buffer().extend_from_slice(&frame);
    assert!(matches!(dialer.session.poll_open(), Err(ConnectionError::PeerUnexpectedPacket { .. })));
}

#[test]
fn large_frame_before_the_handshake_is_refused() {
    let mut listener = Script::new(|now| Session::listener(1, now));
    let data = zeros(1000);
    let frame = listener.frame(&PacketOut::Message { data: &data });
    listener.session.read_buffer().extend_from_slice(&frame[..8]);
    let error = listener.session.poll_open().unwrap_err();
    assert!(matches!(error, ConnectionError::PeerFrame(FrameError::BadLength { .. })), "{error}");
}

#[test]
fn second_connect_is_refused() {
    let mut script = Script::open(Side::Listener);
    let error = script.feed(&PacketOut::Connect { id: 1 }).unwrap_err();
    assert_eq!(error.to_string(), "peer sent tcp.connect after the handshake");
    assert_eq!(error.fault(), crate::Fault::Peer);
}

// Frames.

#[test]
fn bad_seqno() {
    let mut script = Script::open(Side::Listener);
    script.feed(&PacketOut::Ping { id: 1 }).unwrap();
    script.seqno = 5;
    let error = script.feed(&PacketOut::Ping { id: 2 }).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerFrame(FrameError::BadSeqno { expected: 1, actual: 5 })), "{error}");
}

#[test]
fn oversize_length() {
    let mut script = Script::open(Side::Listener);
    let mut head = (1u32 << 24).wrapping_add(1).to_le_bytes().to_vec();
    head.extend([0; 4]);
    let error = script.feed_bytes(&head).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerFrame(FrameError::BadLength { .. })), "{error}");
}

#[test]
fn unknown_constructor() {
    let mut script = Script::open(Side::Listener);
    let error = script.feed_bytes(&[4, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerFrame(FrameError::BadPacket(_))), "{error}");
}

#[test]
fn truncated_packet_at_the_end_of_the_stream() {
    let mut script = Script::open(Side::Listener);
    assert!(matches!(script.session.handle_end_of_stream(), ConnectionError::PeerClosed));
    script.feed_bytes(&[4, 0, 0, 0]).unwrap();
    assert!(matches!(script.session.handle_end_of_stream(), ConnectionError::PeerTruncated));
}

#[test]
fn announced_length_alone_allocates_nothing() {
    let mut script = Script::open(Side::Listener);
    script.feed_bytes(&[0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
    assert!(script.session.read_buffer().capacity() <= 2 * READ_BUFFER_BYTES);
}

#[test]
fn memory_of_a_large_frame_is_not_kept_after_it() {
    let mut script = Script::open(Side::Listener);
    let data = zeros(10 << 20);
    let large = script.frame(&PacketOut::Message { data: &data });
    let next = script.frame(&PacketOut::Ping { id: 1 });
    for chunk in large.chunks(READ_BUFFER_BYTES) {
        script.feed_bytes(chunk).unwrap();
    }
    script.feed_bytes(&next[..5]).unwrap();
    assert!(script.session.read_buffer().capacity() <= 2 * READ_BUFFER_BYTES);
    script.feed_bytes(&next[5..]).unwrap();
    assert_eq!(script.drain(), [Packet::Pong { id: 1 }]);
}

#[test]
fn small_message_behind_a_large_one_does_not_keep_its_memory() {
    let mut script = Script::open(Side::Listener);
    let (large, small) = (zeros(10 << 20), message(b"small"));
    let mut bytes = script.frame(&PacketOut::Message { data: &large });
    bytes.extend_from_slice(&script.frame(&PacketOut::Message { data: &small }));
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let room = script.session.read_buffer().spare_capacity_mut().len();
        let taken = room.min(script.session.read_limit()).min(bytes.len());
        events.extend(script.feed_bytes(&bytes.split_to(taken)).unwrap());
    }
    let [Event::Message(large), Event::Message(small)] = &events[..] else { panic!("{events:?}") };
    let behind = small.as_ptr().addr().wrapping_sub(large.as_ptr().addr());
    assert!(behind > large.len() + 64, "they lie in one buffer");
}

#[test]
fn strangers_are_held_to_short_messages() {
    let mut script = Script::open(Side::Listener);
    script.session.set_message_max(4 << 10);
    let (short, long) = (zeros(4 << 10), zeros((4 << 10) + 64));
    assert_eq!(script.feed(&PacketOut::Query { id: 1, data: &short }).unwrap().len(), 1);
    let refused =
        (0..3).find_map(|id| script.feed(&PacketOut::Fragment { message_id: id, last: false, data: &short }).err());
    assert!(matches!(refused, Some(ConnectionError::PeerFragments(FragmentError::TooManyBytes))), "{refused:?}");
    let refused = script.feed(&PacketOut::Message { data: &long }).unwrap_err();
    assert!(matches!(refused, ConnectionError::PeerFrame(FrameError::BadLength { .. })), "{refused}");
    script.session.set_message_max(MESSAGE_MAX);
}

/// Recorded bytes of the original (`shared/vectors`).
fn recorded(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("COCOON_VECTORS").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into(),
        std::path::PathBuf::from,
    );
    std::fs::read(folder.join("wire").join(name)).unwrap()
}

#[test]
fn recorded_dialers_of_the_original_are_understood() {
    for (name, pings) in [("conn0-port11001-to_proxy.bin", 3), ("conn1-port11002-to_proxy.bin", 2)] {
        let mut script = Script::new(|now| Session::listener(1, now));
        script.session.read_buffer().extend_from_slice(&recorded(name));
        script.session.poll_open().unwrap();
        let mut queries = 0;
        while let Some(event) = script.session.poll_event().unwrap() {
            if let Event::Query(query) = event {
                script.session.outbox.answer(query.id, message(b"!")).unwrap();
                queries += 1;
            }
        }
        assert!(matches!(script.session.handle_end_of_stream(), ConnectionError::PeerClosed));
        let sent = script.drain();
        let count = |wanted: fn(&Packet) -> bool| sent.iter().filter(|packet| wanted(packet)).count();
        assert_eq!(count(|packet| matches!(packet, Packet::Connected { .. })), 1);
        assert_eq!(count(|packet| matches!(packet, Packet::Pong { .. })), pings, "{name}");
        assert!(queries > 2 && count(|packet| matches!(packet, Packet::QueryAnswer { .. })) == queries);
    }
}

// Queries.

#[test]
fn queries_are_answered_refused_and_matched() {
    let mut script = Script::open(Side::Dialer);
    let (first_in, mut first) = oneshot::channel();
    let (second_in, mut second) = oneshot::channel();
    script.session.outbox.lock().push_query(message(b"a?"), first_in).unwrap();
    script.session.outbox.lock().push_query(message(b"b?"), second_in).unwrap();
    assert!(matches!(script.drain()[..], [Packet::Query { id: 100, .. }, Packet::Query { id: 101, .. }]));

    let answer = message(b"b!");
    script.feed(&PacketOut::QueryAnswer { id: 101, data: &answer }).unwrap();
    script.feed(&PacketOut::QueryError { id: 100, code: 3, message: "no" }).unwrap();
    assert_eq!(second.try_recv().unwrap(), Ok(Bytes::from_static(b"b!")));
    let refusal = QueryError::PeerRefused { code: 3, message: "no".into() };
    assert_eq!(first.try_recv().unwrap(), Err(refusal));
}

#[test]
fn answer_for_unknown_query() {
    let mut script = Script::open(Side::Dialer);
    let data = message(b"!");
    let error = script.feed(&PacketOut::QueryAnswer { id: 100, data: &data }).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerAnsweredUnknownQuery { id: 100 }), "{error}");
}

#[test]
fn second_answer_to_one_query() {
    let mut script = Script::open(Side::Dialer);
    let (answer_in, _answer) = oneshot::channel();
    let id = script.session.outbox.lock().push_query(message(b"?"), answer_in).unwrap();
    script.feed(&PacketOut::QueryError { id, code: 1, message: "" }).unwrap();
    let error = script.feed(&PacketOut::QueryError { id, code: 1, message: "" }).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerAnsweredUnknownQuery { .. }), "{error}");
}

#[test]
fn late_answer_to_an_abandoned_query_is_ignored() {
    let mut script = Script::open(Side::Dialer);
    let (answer_in, answer) = oneshot::channel();
    let id = script.session.outbox.lock().push_query(message(b"?"), answer_in).unwrap();
    drop(answer);
    script.session.outbox.lock().abandon_query(id);
    let data = message(b"!");
    assert!(script.feed(&PacketOut::QueryAnswer { id, data: &data }).unwrap().is_empty());
}

#[test]
fn own_queries_are_bounded() {
    let script = Script::open(Side::Dialer);
    let push = || script.session.outbox.lock().push_query(message(b"?"), oneshot::channel().0);
    for _ in 0..QUERIES_OUT_MAX {
        push().unwrap();
    }
    assert_eq!(push(), Err(QueryError::TooManyInFlight));
}

#[test]
fn duplicate_query_id() {
    let mut script = Script::open(Side::Listener);
    let data = message(b"?");
    script.feed(&PacketOut::Query { id: 5, data: &data }).unwrap();
    script.session.outbox.answer(5, message(b"!")).unwrap();
    assert_eq!(script.session.outbox.answer(5, message(b"!")), Err(SendError::UnknownQuery));
    // Answered, so the id is free again.
    script.feed(&PacketOut::Query { id: 5, data: &data }).unwrap();
    let error = script.feed(&PacketOut::Query { id: 5, data: &data }).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerReusedQueryId { id: 5 }), "{error}");
}

#[test]
fn flood_of_queries_is_bounded() {
    let mut script = Script::open(Side::Listener);
    let data = message(b"?");
    for id in (0..).take(QUERIES_IN_MAX) {
        script.feed(&PacketOut::Query { id, data: &data }).unwrap();
    }
    let error = script.feed(&PacketOut::Query { id: -1, data: &data }).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerFloodedQueries), "{error}");
}

#[test]
fn long_refusal_is_cut_at_a_character() {
    let mut script = Script::open(Side::Listener);
    let data = message(b"?");
    script.feed(&PacketOut::Query { id: 5, data: &data }).unwrap();
    script.session.outbox.refuse(5, 1, &"ü".repeat(10_000)).unwrap();
    let Packet::QueryError { message, .. } = script.drain().remove(0) else { panic!("a refusal") };
    assert_eq!(message.len(), 512);
}

// Keep-alive.

#[test]
fn dialer_pings_after_ten_seconds_and_gives_up_after_twenty() {
    let mut script = Script::open(Side::Dialer);
    assert_eq!(script.session.poll_timeout(), script.now + PING_AFTER);
    script.pass(PING_AFTER - Duration::from_millis(1)).unwrap();
    assert!(script.drain().is_empty());
    script.pass(Duration::from_millis(1)).unwrap();
    assert!(is_ping(&script.drain()));
    script.feed(&PacketOut::Pong { id: 0 }).unwrap();

    script.pass(PING_AFTER).unwrap();
    assert!(is_ping(&script.drain()));
    script.pass(Duration::from_secs(9)).unwrap();
    assert!(script.drain().is_empty(), "one ping is enough");
    assert_eq!(script.session.poll_timeout(), script.now + Duration::from_secs(1));
    let error = script.pass(Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerSilent(DIALER_SILENCE_MAX)), "{error}");
}

#[test]
fn listener_gives_up_after_sixty_seconds_and_never_pings() {
    let mut script = Script::open(Side::Listener);
    script.pass(LISTENER_SILENCE_MAX - Duration::from_millis(1)).unwrap();
    assert!(script.drain().is_empty());
    let error = script.pass(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerSilent(LISTENER_SILENCE_MAX)), "{error}");
}

#[test]
fn pings_are_answered_with_their_id() {
    let mut script = Script::open(Side::Listener);
    assert!(script.feed(&PacketOut::Ping { id: -3 }).unwrap().is_empty());
    assert_eq!(script.drain(), [Packet::Pong { id: -3 }]);
}

#[test]
fn flood_of_pings_by_a_peer_that_does_not_read_is_bounded() {
    let mut script = Script::open(Side::Listener);
    let most = CONTROL_QUEUE_BYTES_MAX / PACKET_OVERHEAD;
    let refused = (0..=most).find_map(|_| script.feed(&PacketOut::Ping { id: 1 }).err());
    assert!(matches!(refused, Some(ConnectionError::PeerFloodedControl)));
}

#[test]
fn peer_that_takes_no_byte_is_given_up() {
    let mut script = Script::open(Side::Listener);
    script.session.outbox.send(zeros(1 << 20)).unwrap();
    assert!(script.write(1000) == 1000);
    for _ in 0..5 {
        script.pass(Duration::from_secs(10)).unwrap();
        script.feed(&PacketOut::Ping { id: 1 }).unwrap();
    }
    let error = script.pass(Duration::from_secs(10)).unwrap_err();
    assert!(matches!(error, ConnectionError::PeerNotReading(_)), "{error}");
}

#[test]
fn flood_by_a_peer_that_takes_no_byte_does_not_put_off_its_end() {
    let mut script = Script::open(Side::Listener);
    script.session.outbox.send(zeros(1 << 20)).unwrap();
    script.write(1000);
    // The driver never sleeps, so no timer of it ever rings.
    let data = message(b"x");
    let refused = (0..100).find_map(|_| {
        script.now += Duration::from_secs(1);
        script.feed(&PacketOut::Message { data: &data }).err()
    });
    assert!(matches!(refused, Some(ConnectionError::PeerNotReading(_))), "{refused:?}");
}

// Queues.

#[test]
fn control_bypasses_a_full_data_queue() {
    let mut script = Script::open(Side::Listener);
    let outbox = script.session.outbox().clone();
    while outbox.send(zeros(1 << 20)).is_ok() {}
    assert_eq!(outbox.send(zeros(1 << 20)), Err(SendError::Full));
    assert!(script.write(10) == 10, "the first frame is on its way");
    outbox.send_control(message(b"credit")).unwrap();
    let at = script.drain().iter().position(|packet| matches!(packet, Packet::Message { data } if data.len() == 6));
    assert_eq!(at, Some(1), "behind the frame that was being written, before the rest");
}

#[test]
fn slow_reader_memory_is_bounded_and_the_room_comes_back() {
    let mut script = Script::open(Side::Listener);
    let outbox = script.session.outbox().clone();
    let queued = (0..1_000_000).take_while(|_| outbox.send(Encoded::default()).is_ok()).count();
    assert_eq!(queued, DATA_QUEUE_BYTES_MAX / PACKET_OVERHEAD, "empty messages count too");
    assert!(outbox.queued_bytes() <= DATA_QUEUE_BYTES_MAX);
    assert_eq!(script.drain().len(), queued);
    assert_eq!(outbox.queued_bytes(), 0);
    outbox.send(message(b"again")).unwrap();
}

#[test]
fn large_messages_are_whole_frames_until_extended() {
    let mut script = Script::open(Side::Listener);
    script.session.outbox.send(zeros(1 << 20)).unwrap();
    assert!(matches!(&script.drain()[..], [Packet::Message { data }] if data.len() == 1 << 20));
    assert_eq!(script.session.outbox.send(zeros(1 << 24)), Err(SendError::TooLarge));
}

#[test]
fn small_message_is_prompt_behind_a_large_one() {
    let mut script = Script::open(Side::Listener);
    let outbox = script.session.outbox().clone();
    outbox.enable_extended();
    outbox.send(zeros(16 << 20)).unwrap();
    assert!(script.write(1) == 1, "the large message has begun");
    outbox.send(message(b"small")).unwrap();
    let packets = script.drain();
    let at = packets.iter().position(|packet| matches!(packet, Packet::Message { .. })).unwrap();
    assert!(at <= WRITE_BATCH_BYTES / FRAGMENT_MAX + 1, "after {at} fragments");
    assert_eq!(packets.len(), (16 << 20) / FRAGMENT_MAX + 1);
    assert_eq!(outbox.queued_bytes(), 0);
}

#[test]
fn large_messages_take_turns_and_small_ones_cannot_starve_them() {
    let mut script = Script::open(Side::Listener);
    let outbox = script.session.outbox().clone();
    outbox.enable_extended();
    outbox.send(zeros(4 * FRAGMENT_MAX)).unwrap();
    outbox.send(zeros(4 * FRAGMENT_MAX)).unwrap();
    for _ in 0..100 {
        outbox.send(zeros(8 << 10)).unwrap();
    }
    let packets = script.drain();
    let turns: Vec<u64> = packets
        .iter()
        .filter_map(|packet| if let Packet::Fragment { message_id, .. } = packet { Some(*message_id) } else { None })
        .collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 1, 0, 1]);
    let first = packets.iter().position(|packet| matches!(packet, Packet::Fragment { .. })).unwrap();
    assert!(first <= 8, "a fragment leaves after 64 KiB of small messages");
}

#[test]
fn begun_large_messages_stay_within_what_the_peer_allows() {
    let mut sender = Script::open(Side::Dialer);
    let mut receiver = Script::open(Side::Listener);
    let outbox = sender.session.outbox().clone();
    outbox.enable_extended();
    let sent = (0..1000).take_while(|_| outbox.send(zeros(FRAGMENT_MAX * 2 + 1)).is_ok()).count();
    assert!(sent > LARGE_MESSAGES_MAX);
    while sender.write(usize::MAX) > 0 {}
    let bytes = sender.received.split();
    assert_eq!(receiver.feed_bytes(&bytes).unwrap().len(), sent);
}

#[test]
fn fragment_flood_ends_the_connection() {
    let mut script = Script::open(Side::Listener);
    let data = message(b"x");
    let refused =
        (0..100).find_map(|id| script.feed(&PacketOut::Fragment { message_id: id, last: false, data: &data }).err());
    assert!(matches!(refused, Some(ConnectionError::PeerFragments(FragmentError::TooManyMessages))));
}

#[test]
fn withdrawn_messages_never_arrive() {
    let mut script = Script::open(Side::Listener);
    let mut receiver = Script::open(Side::Dialer);
    let outbox = script.session.outbox().clone();
    outbox.enable_extended();
    let begun = outbox.send_tracked(zeros(1 << 20)).unwrap();
    assert!(script.write(1) == 1);
    let small = outbox.send_tracked(message(b"small")).unwrap();
    let large = outbox.send_tracked(zeros(1 << 20)).unwrap();
    outbox.send(message(b"stays")).unwrap();
    for ticket in [begun, small, large] {
        assert_eq!(outbox.withdraw(ticket), Withdrawal::NeverDelivered);
    }
    while script.write(usize::MAX) > 0 {}
    assert_eq!(outbox.queued_bytes(), 0);
    assert_eq!(outbox.withdraw(small), Withdrawal::TooLate);
    let bytes = script.received.split();
    let events = receiver.feed_bytes(&bytes).unwrap();
    assert!(matches!(&events[..], [Event::Message(data)] if &data[..] == b"stays"), "{events:?}");
    assert!(matches!(receiver.session.handle_end_of_stream(), ConnectionError::PeerClosed));
}

#[test]
fn segments_are_written_in_order_whatever_the_transport_takes() {
    for most in [1, 7, 4096, 5000, usize::MAX] {
        let mut script = Script::open(Side::Listener);
        let outbox = script.session.outbox().clone();
        let part = |byte: u8, len| Bytes::from(vec![byte; len]);
        let sent = Encoded::from_segments(part(1, 10), part(2, 9001), part(3, 5000));
        let expected = sent.to_bytes();
        outbox.send(message(b"before")).unwrap();
        outbox.send(sent).unwrap();
        outbox.send(message(b"after")).unwrap();
        while script.write(most) > 0 {}
        let packets = script.drain();
        let [Packet::Message { data: before }, Packet::Message { data }, Packet::Message { data: after }] =
            &packets[..]
        else {
            panic!("three messages")
        };
        assert!(&before[..] == b"before" && *data == expected && &after[..] == b"after");
    }
}

// The end.

#[test]
fn close_writes_what_is_queued_and_refuses_more() {
    let mut script = Script::open(Side::Listener);
    let outbox = script.session.outbox().clone();
    outbox.send(message(b"last")).unwrap();
    outbox.close();
    assert_eq!(outbox.send(message(b"more")), Err(SendError::Closed));
    assert!(outbox.is_closed() && !script.session.is_finished());
    assert_eq!(script.drain().len(), 1);
    assert!(script.session.is_finished());
}

#[test]
fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    let mut script = Script::open(Side::Listener);
    script.session.outbox.send(message(b"last")).unwrap();
    script.session.outbox.close();
    script.session.poll_transmit(script.now, Waker::noop());
    assert_eq!(script.session.poll_timeout(), script.now + CLOSE_LINGER_MAX);
    assert!(matches!(script.pass(CLOSE_LINGER_MAX), Err(ConnectionError::ClosedLocally)));
}

#[test]
fn flood_does_not_put_off_the_end_of_a_closing_connection() {
    let mut script = Script::open(Side::Listener);
    script.session.outbox.send(message(b"last")).unwrap();
    script.session.outbox.close();
    script.session.poll_transmit(script.now, Waker::noop());
    script.now += CLOSE_LINGER_MAX;
    let data = message(b"x");
    assert!(matches!(script.feed(&PacketOut::Message { data: &data }), Err(ConnectionError::ClosedLocally)));
}

#[test]
fn the_end_fails_queries_in_flight() {
    let mut script = Script::open(Side::Listener);
    let (answer_in, mut answer) = oneshot::channel();
    script.session.outbox.lock().push_query(message(b"?"), answer_in).unwrap();
    script.session.end();
    assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(script.session.outbox.send(message(b"more")), Err(SendError::Closed));
}

#[test]
fn debug_shows_no_message() {
    let mut script = Script::open(Side::Listener);
    let data = message(b"secret prompt");
    let events = script.feed(&PacketOut::Message { data: &data }).unwrap();
    script.session.outbox.send(data).unwrap();
    let shown = format!("{events:?} {:?}", script.session.outbox);
    assert!(shown.contains("13 bytes") && !shown.contains("secret"), "{shown}");
}
