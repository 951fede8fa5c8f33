//! Every bound of this crate, each with its reason.
//!
//! A bound here is a promise about memory or time that a hostile peer cannot break.
//! Lengths of packets and fields are `cocoon_wire::limits`; these are about connections.

use std::time::Duration;

use cocoon_wire::limits::{FRAME_LEN_MAX, MESSAGE_MAX};

/// A dialer asks for a sign of life after this much silence (wire.md, section 1; as the original).
pub const PING_AFTER: Duration = Duration::from_secs(10);

/// A dialer gives up after this much silence: one ping and ten seconds to answer it.
pub const DIALER_SILENCE_MAX: Duration = Duration::from_secs(20);

/// A listener gives up after this much silence: six pings of a healthy dialer.
pub const LISTENER_SILENCE_MAX: Duration = Duration::from_secs(60);

/// A peer that takes no byte for this long while we have some for it is not reading.
/// Six times the dialer's ping interval, as for silence.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// After [`Outbox::close`](crate::Outbox::close) the queue is still written out for this long.
/// A healthy link of 10 MB/s empties a full data queue in two seconds.
pub const CLOSE_LINGER_MAX: Duration = Duration::from_secs(5);

/// From the end of the proof of work to `tcp.connected`: one round trip, and room for a slow link.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a listener waits for the answer to a proof-of-work challenge above [`WORK_INLINE_BITS_MAX`].
/// The default of 20 bits takes 2^20 hashes on average: a second on a slow core, and luck may need ten times that.
pub const WORK_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a dialer works on one challenge. 28 bits take 2^28 hashes on average: under a minute on one core
/// with SHA instructions.
pub const WORK_SOLVE_TIMEOUT: Duration = Duration::from_secs(120);

/// Challenges solved at the same time in this process; each takes a whole core.
pub const WORK_SOLVERS_MAX: usize = 2;

/// Nonces tried between two looks at the cancellation flag: about a tenth of a millisecond.
pub const WORK_BATCH: u64 = 1024;

/// Challenges up to this many bits are solved in place: 64 hashes on average cost less than a thread switch.
pub const WORK_INLINE_BITS_MAX: i32 = 6;

/// Connections that one listener holds, handshakes included. Each costs two buffers ([`READ_BUFFER_BYTES`]
/// and a small one) when idle, so this is about 64 MiB. Configurable per listener.
pub const CONNECTIONS_MAX: usize = 1024;

/// Pause of a listener that ran out of file descriptors or memory, so that it does not spin.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Read buffer of a connection: one read takes up to this much, and all its frames are delivered without
/// another system call. One fragment and its head fit.
pub const READ_BUFFER_BYTES: usize = 72 << 10;

/// When less room than this is left, the read buffer is renewed. Small enough to fill most of a buffer,
/// large enough that a typical answer part is not cut in two.
pub const READ_ROOM_MIN: usize = 8 << 10;

/// Frames staged for one write. Staged frames have a sequence number, so a control frame waits behind them:
/// 128 KiB is a millisecond on a 1 Gbit/s link.
pub const WRITE_BATCH_BYTES: usize = 128 << 10;

/// Bodies up to this size are copied beside their head; larger ones are written in place (vectored).
/// Copying 4 KiB costs about as much as one more segment of a vectored write.
pub const COALESCE_BYTES_MAX: usize = 4 << 10;

/// Segments handed to one vectored write; Linux takes 1024, and a batch rarely has more than a few.
pub const WRITE_SEGMENTS_MAX: usize = 32;

/// Accounted on top of the bytes of each queued packet, so that a million empty ones are not free.
pub const PACKET_OVERHEAD: usize = 128;

/// The data queue of one connection: one largest message (16 MiB) and the 4 MiB that a stream may lag on an
/// original leg.
pub const DATA_QUEUE_BYTES_MAX: usize = 20 << 20;

/// The control queue of one connection. Credits, cancellations and pongs are under 100 bytes each, so this is
/// several thousand of them unread: the peer is not reading.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 1 << 20;

/// A control message; the largest that exists is a cancellation of some 40 bytes.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Data bytes sent in one turn before one fragment of a large message gets its own turn.
pub const SMALL_TURN_BYTES: usize = 64 << 10;

/// Large messages that a sender interleaves; more wait their turn. The receiver allows as many.
pub const LARGE_MESSAGES_MAX: usize = 16;

/// Unfinished messages of one connection, all together. A sender's data queue bounds what it can have begun.
pub const REASSEMBLY_BYTES_MAX: usize = 24 << 20;

/// Our queries that the peer has not answered, those we gave up on included: a late answer to one of these is
/// ignored, and an answer to anything else ends the connection.
pub const QUERIES_OUT_MAX: usize = 256;

/// Queries of the peer that we have not answered. Handshakes and polls come one at a time, so this is a flood.
pub const QUERIES_IN_MAX: usize = 64;

/// What a packet adds to its data: constructor, query id, TL length and padding, rounded up.
pub const PACKET_HEAD_MAX: usize = 32;

/// Data of a packet that is not cut: what is left of the longest frame.
pub const UNFRAGMENTED_BYTES_MAX: usize = FRAME_LEN_MAX - PACKET_HEAD_MAX;

/// A frame before the handshake is done: `tcp.connect` and `tcp.connected` have 12 bytes.
pub const HANDSHAKE_FRAME_MAX: usize = 64;

/// First pause of a [`Backoff`](crate::Backoff), after the attempt that is made at once.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// Longest pause of a [`Backoff`](crate::Backoff): a proxy that returns has its workers within half a minute.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A connection that lasted this long was healthy: the next loss is answered at once again.
pub const BACKOFF_HEALTHY: Duration = Duration::from_secs(60);

/// Bytes in flight in one direction of an in-memory link, as a socket buffer would hold.
pub const MEMORY_LINK_BYTES: usize = 256 << 10;

/// Dials waiting in an in-memory listener.
pub const MEMORY_BACKLOG_MAX: usize = 128;

// What a sender may have begun must fit what a receiver puts together.
const _: () = assert!(DATA_QUEUE_BYTES_MAX <= REASSEMBLY_BYTES_MAX);
const _: () = assert!(MESSAGE_MAX < DATA_QUEUE_BYTES_MAX);
const _: () = assert!(PING_AFTER.as_secs() < DIALER_SILENCE_MAX.as_secs());
const _: () = assert!(READ_ROOM_MIN < READ_BUFFER_BYTES);
