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

/// How long a listener waits for the answer to a proof-of-work challenge above [`WORK_QUICK_BITS_MAX`].
/// The default of 20 bits takes 2^20 hashes on average: a second on a slow core, and luck may need ten times that.
pub const WORK_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a dialer works on one challenge. 28 bits take 2^28 hashes on average: under a minute on one core
/// with SHA instructions.
pub const WORK_SOLVE_TIMEOUT: Duration = Duration::from_secs(120);

/// Challenges solved at the same time in this process; each takes a whole core.
pub const WORK_SOLVERS_MAX: usize = 2;

/// Of these, how many work on more than [`POW_DIFFICULTY_BITS_UNDER_LOAD`]: no honest listener asks for it, and solving
/// it takes up to [`WORK_SOLVE_TIMEOUT`].
pub const WORK_HARD_SOLVERS_MAX: usize = 1;

/// Nonces tried between two looks at the cancellation flag: about a tenth of a millisecond.
pub const WORK_BATCH: u64 = 1024;

/// Challenges up to this many bits are solved in place: 64 hashes on average cost less than a thread switch.
pub const WORK_INLINE_BITS_MAX: i32 = 6;

/// What an idle attested connection may take in all: its read buffer ([`READ_BUFFER_BYTES`]), TLS with its own
/// ([`TLS_READ_BYTES`] and what keys take), the peer's evidence, some 80 KiB, and the tasks of its session.
/// `cargo xtask bench scale` measures it with 5,000 workers: a GiB.
pub const IDLE_CONNECTION_BYTES: usize = 224 << 10;

/// Connections that one listener holds, handshakes not included. Each costs two buffers ([`READ_BUFFER_BYTES`]
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

/// The data queue of one connection: one largest message (an upload of 26 MiB) and the 4 MiB that a stream may lag on an
/// original leg.
pub const DATA_QUEUE_BYTES_MAX: usize = 31 << 20;

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
pub const REASSEMBLY_BYTES_MAX: usize = 35 << 20;

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

/// A peer's certificate: a quote of the original's profile, which is bounded by `cocoon_attest`, and 4 KiB for the rest.
/// One without a quote has 250 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = cocoon_attest::limits::QUOTE_BYTES_MAX + (4 << 10);

/// Extensions of a peer's certificate; the original writes seven. Each is compared with all others.
pub const CERTIFICATE_EXTENSIONS_MAX: usize = 16;

/// Peers whose certificate need not be verified again; each costs 200 bytes. More than come back within an hour.
pub const CERTIFICATES_KNOWN_MAX: usize = 1024;

/// How long a certificate is valid, in seconds: a day, as the original's. Long enough to outlive a night without the
/// clock's server, short enough that an old one is no identity.
pub const CERTIFICATE_LIFETIME_S: u64 = 24 * 60 * 60;

/// How far clocks of two honest nodes may be apart, in seconds (attestation.md, section 9).
pub const CERTIFICATE_CLOCK_SKEW_S: u64 = 5 * 60;

/// Handshakes in progress at one listener, apart from its connections. After its work is done, each may hold a TLS
/// session and up to 1 MiB of evidence that is still arriving, so this is 256 MiB at the very worst. An honest handshake
/// takes a second, so this many are a few hundred new peers a second.
pub const HANDSHAKES_MAX: usize = 256;

/// Handshakes in progress of one IPv4 address or IPv6 /64: a machine whose every role reconnects at once, and a
/// sixteenth of all places.
pub const HANDSHAKES_PER_SOURCE_MAX: usize = 16;

/// Connections of one IPv4 address or IPv6 /64: some dozens of workers or clients behind one NAT, and a sixteenth of all
/// places. An operator with a larger site behind one address raises it.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 64;

/// Handshakes in progress from this host: all of them. Whoever runs programs here has other means of harm, and tunnels
/// and reverse proxies make every peer look like this host.
pub const LOOPBACK_HANDSHAKES_MAX: usize = HANDSHAKES_MAX;

/// Connections from this host: all of them, for the same reasons.
pub const LOOPBACK_CONNECTIONS_MAX: usize = CONNECTIONS_MAX;

/// The most work that load alone brings about: what original listeners always ask for, a third of a second on one core.
/// More would lock out honest dialers on small machines before it stops anyone.
pub const POW_DIFFICULTY_BITS_UNDER_LOAD: i32 = 20;

/// Arrivals are counted over this long: long enough to see a flood in the noise, short enough to forget it soon.
pub const ARRIVAL_WINDOW: Duration = Duration::from_secs(10);

/// Admitted arrivals in a window that ask for no work: 50 a second, as when all clients of a proxy reconnect.
pub const ARRIVALS_IDLE: u32 = 500;

/// Admitted arrivals in a window that ask for the most work: 1000 a second. Two cores do about as many TLS handshakes.
pub const ARRIVALS_FULL: u32 = 10_000;

/// Arrivals of one source in a window that ask for no work: two a second, as a dialer with its backoff and its siblings.
pub const SOURCE_ARRIVALS_IDLE: u32 = 20;

/// Arrivals of one source in a window that ask for the most work: 20 a second.
pub const SOURCE_ARRIVALS_FULL: u32 = 200;

/// As [`SOURCE_ARRIVALS_IDLE`], for all programs of this host together: as for everyone.
pub const LOOPBACK_ARRIVALS_IDLE: u32 = ARRIVALS_IDLE;

/// As [`SOURCE_ARRIVALS_FULL`], for all programs of this host together: as for everyone.
pub const LOOPBACK_ARRIVALS_FULL: u32 = ARRIVALS_FULL;

/// Counters of arrivals in one row; sources share them by hash. With [`ARRIVAL_ROWS`] rows the table has 24 KiB,
/// whatever happens. Strangers must make 20 000 arrivals in a window before an average counter looks like a source that
/// has to work.
pub const ARRIVAL_COLUMNS: usize = 1024;

/// Rows of counters; a source has to share one in each before it is taken for a busier one.
pub const ARRIVAL_ROWS: usize = 2;

/// Salts change this often, and answers to the last one still count: so no answer that comes within
/// [`WORK_ANSWER_TIMEOUT`] is too late, and none is good for more than twice this.
pub const SALT_BUCKET: Duration = Duration::from_secs(60);

/// The work up to which a listener waits for [`HANDSHAKE_TIMEOUT`] only: 2^16 hashes are a tenth of a second on a slow
/// core, so ten seconds are plenty even for ten unlucky dialers in a queue.
pub const WORK_QUICK_BITS_MAX: i32 = 16;

/// All steps of a listener's handshake together. An honest one takes seconds; the hardest work is half a minute on a slow
/// core, and attestation waits for quotes. A peer that uses up each step's own time loses its place after this.
pub const HANDSHAKE_TOTAL_TIMEOUT: Duration = Duration::from_secs(90);

/// From the first byte of TLS to the packets, all steps of an attested handshake together: whoever is slow in each of
/// them a little is cut off here.
pub const ATTEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The hellos: one round trip, and room for a slow link.
pub const ATTEST_HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Both sides' evidence: a full line of quotes ([`QUOTES_WAITING_MAX`] of a second each), and a megabyte on a slow link.
pub const ATTEST_EVIDENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// The peer's verdict: it may have to fetch collateral first ([`COLLATERAL_TIMEOUT`]).
pub const ATTEST_VERDICT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a refusal waits for the peer to read it. The peer is no friend, and the reason is short.
pub const ATTEST_REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Room made at once for a frame of the attested handshake; more only as bytes arrive.
pub const ATTEST_READ_BYTES: usize = 4 << 10;

/// After this time a node writes itself a new certificate, in seconds. An hour, as the original: far below
/// [`CERTIFICATE_LIFETIME_S`].
pub const CERTIFICATE_RENEWED_AFTER_S: u64 = 60 * 60;

/// Quotes that wait for the platform. At a second each (the slowest measured) the last one is still in time for
/// [`ATTEST_EVIDENCE_TIMEOUT`]; more would only be late together.
pub const QUOTES_WAITING_MAX: usize = 32;

/// Quotes that one IPv4 address or IPv6 /64 waits for: an eighth of the line, in which nobody has to show who they are.
/// A site behind one address that reconnects with more roles at once is served in the order of its dialers' backoff.
pub const QUOTES_PER_SOURCE_MAX: usize = QUOTES_WAITING_MAX / 8;

/// One quote, GPU evidence included: ten times the slowest that was measured.
pub const QUOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long evidence waits for collateral to staple. It is a courtesy.
pub const STAPLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an appraisal waits for collateral of our own.
pub const COLLATERAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A service of ours that fails is worth one warning in this time, however many strangers come meanwhile.
pub const COLLATERAL_WARNING_SPACING: Duration = Duration::from_secs(60);

/// Services warned about in that time. Configurations name two or three.
pub const COLLATERAL_WARNED_MAX: usize = 16;

/// Appraisals at the same time. Each takes a core for 2 to 13 ms; more at once would not be sooner.
pub const APPRAISALS_MAX: usize = 2;

/// Peers whose session key is remembered: more than a proxy has workers. A remembered appraisal holds its evidence,
/// 100 KiB, so this is at most 50 MiB.
pub const SESSIONS_MAX: usize = 512;

/// Verdicts kept of evidence that may come again (`cocoon-v1` only).
pub const VERDICTS_MAX: usize = 256;

/// Kinds of platform whose TCB evaluation number is remembered; Intel has some dozens.
pub const TCB_FLOORS_MAX: usize = 1024;

/// Ciphertext read at once on an attested link: two full records. Each connection holds as much, so that a thousand of
/// them hold 32 MiB more than without TLS.
pub const TLS_READ_BYTES: usize = 32 << 10;

/// From a challenge on an open connection to the answer: the peer's line of quotes, and a queue of data before it.
pub const REATTEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Challenges of one peer are answered no more often than this.
pub const REATTEST_SPACING: Duration = Duration::from_secs(1);

/// How long a challenge waits for a platform that is busy; after that there is still time to say so.
pub const REATTEST_ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Pause before a challenge that found our own queue full is queued again, and before the platform is asked again.
pub const REATTEST_RETRY: Duration = Duration::from_secs(1);

/// Events handed to a role before re-attestation is looked at even though more events wait.
pub const ATTESTATION_EVENTS: usize = 64;

// What a sender may have begun must fit what a receiver puts together.
const _: () = assert!(DATA_QUEUE_BYTES_MAX <= REASSEMBLY_BYTES_MAX);
const _: () = assert!(MESSAGE_MAX < DATA_QUEUE_BYTES_MAX);
const _: () = assert!(PING_AFTER.as_secs() < DIALER_SILENCE_MAX.as_secs());
const _: () = assert!(READ_ROOM_MIN < READ_BUFFER_BYTES);
const _: () = assert!(WORK_ANSWER_TIMEOUT.as_secs() <= SALT_BUCKET.as_secs());
const _: () = assert!(WORK_ANSWER_TIMEOUT.as_secs() + HANDSHAKE_TIMEOUT.as_secs() < HANDSHAKE_TOTAL_TIMEOUT.as_secs());
const _: () = assert!(WORK_HARD_SOLVERS_MAX < WORK_SOLVERS_MAX);
const _: () = assert!(WORK_INLINE_BITS_MAX <= WORK_QUICK_BITS_MAX);
const _: () = assert!(HANDSHAKES_PER_SOURCE_MAX * 16 <= HANDSHAKES_MAX);
const _: () = assert!(CONNECTIONS_PER_SOURCE_MAX * 16 <= CONNECTIONS_MAX);
const _: () = assert!(CERTIFICATE_RENEWED_AFTER_S + CERTIFICATE_CLOCK_SKEW_S < CERTIFICATE_LIFETIME_S);
const _: () = assert!(REATTEST_ANSWER_TIMEOUT.as_secs() + QUOTE_TIMEOUT.as_secs() < REATTEST_TIMEOUT.as_secs());
const _: () = assert!(COLLATERAL_TIMEOUT.as_secs() < ATTEST_VERDICT_TIMEOUT.as_secs());
const _: () = assert!(QUOTE_TIMEOUT.as_secs() < ATTEST_EVIDENCE_TIMEOUT.as_secs());
const _: () = assert!(ATTEST_EVIDENCE_TIMEOUT.as_secs() < ATTEST_TIMEOUT.as_secs());
const _: () = assert!(cocoon_wire::limits::ATTEST_EVIDENCE_MAX <= UNFRAGMENTED_BYTES_MAX);
