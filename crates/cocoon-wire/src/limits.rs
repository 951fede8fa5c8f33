//! Every limit of this crate, with its reason.

/// Longest frame body of the original: `len` is refused above this before anything is read.
pub const FRAME_LEN_MAX: usize = 1 << 24;

/// Shortest frame body: one constructor id.
pub const FRAME_LEN_MIN: usize = 4;

/// Bytes before a frame's body: length and sequence number.
pub const FRAME_HEADER_LEN: usize = 8;

/// Room made at once for a frame that has been announced, beyond as much as has already come.
///
/// An announced length is only a claim: room doubles with what arrives, so sixteen announced MiB
/// cost their sender sixteen MiB.
pub const FRAME_RESERVE_MIN: usize = 64 * 1024;

/// Longest piece of a message in one `tcp.fragment`.
///
/// 64 KiB on a 1 Gbit/s link is half a millisecond: nobody on the connection waits longer than that
/// for somebody else's large request.
pub const FRAGMENT_MAX: usize = 64 * 1024;

/// Longest body of one answer part that our nodes send.
///
/// With constructor, id and final information it stays within one fragment, so answers are never
/// fragmented and a stream never waits behind reassembly.
pub const ANSWER_PART_MAX: usize = FRAGMENT_MAX - 1024;

/// Longest whole message, assembled from fragments: one request body and its envelope.
pub const MESSAGE_MAX: usize = UPLOAD_BODY_MAX + HTTP_HEAD_MAX + 8 * 1024;

/// Longest request body of JSON that is read or edited.
///
/// Sixteen MiB hold a long context several times over, or a dozen images as data URLs.
pub const REQUEST_BODY_MAX: usize = 16 * 1024 * 1024;

/// Longest form with files in it: the 25 MiB of one audio file that OpenAI takes, and the fields around it.
pub const UPLOAD_BODY_MAX: usize = 26 * 1024 * 1024;

/// Most parts of a form; the API has some twenty fields, and lists of a few more.
pub const MULTIPART_PARTS_MAX: usize = 64;

/// Longest head of one part: three headers, and the name of a file.
pub const MULTIPART_HEAD_MAX: usize = 4 * 1024;

/// Longest name of a form field.
pub const MULTIPART_NAME_MAX: usize = 64;

/// Longest boundary (RFC 2046, section 5.1.1).
pub const MULTIPART_BOUNDARY_MAX: usize = 70;

/// Most items of one TL vector.
///
/// An item can be larger in memory than on the wire (a header is 8 bytes there and 48 here), so the
/// bytes that arrived are not a bound by themselves; no vector of the scheme nears this.
pub const VECTOR_ITEMS_MAX: usize = 65_536;

/// Items for which room is made before the first is read; more grow as they come.
pub const VECTOR_PREALLOCATED_MAX: usize = 64;

/// A bytes field at least this long becomes a segment of its own when a message is encoded.
///
/// Below it a copy is cheaper than another segment in a vectored write.
pub const SEGMENT_MIN: usize = 4 * 1024;

/// Longest signed payment: the recorded ones are 180 bytes; a bag of cells with proofs is far below.
pub const SIGNED_PAYMENT_MAX: usize = 4 * 1024;

/// Longest receipt: ours have about 1 KiB.
pub const RECEIPT_MAX: usize = 4 * 1024;

/// Longest account tag: a sealed account, amount and id.
pub const ACCOUNT_TAG_MAX: usize = 512;

/// Most requests asked about at once.
pub const SETTLED_MAX: usize = 256;

/// Longest document of evidence: that of `cocoon-attest`, with collateral.
pub const EVIDENCE_MAX: usize = 1024 * 1024;

/// Longest secret of short authorization.
pub const SECRET_MAX: usize = 256;

/// Longest model name: `name@commit:verity_hash` with room to spare.
pub const MODEL_NAME_MAX: usize = 512;

/// Longest address string; a friendly TON address has 48 characters.
pub const ADDRESS_MAX: usize = 128;

/// Longest text of a failure; longer ones are cut.
pub const FAILURE_MESSAGE_MAX: usize = 512;

/// Longest debug text that a role adds to the final information.
pub const DEBUG_TEXT_MAX: usize = 64 * 1024;

/// Longest opaque body of a recovery handover or refund.
pub const OPAQUE_MAX: usize = 1024 * 1024;

/// Longest timeout that is believed: a day. A longer wish is cut to it.
pub const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Most headers of an HTTP envelope; the roles send fewer than ten.
pub const HTTP_HEADERS_MAX: usize = 128;

/// Most bytes of an HTTP envelope without its payload.
pub const HTTP_HEAD_MAX: usize = 32 * 1024;

/// Longest URL of an HTTP envelope; the API's paths are short.
pub const HTTP_URL_MAX: usize = 4 * 1024;

/// Longest reason phrase of an HTTP envelope.
pub const HTTP_REASON_MAX: usize = 256;

/// Deepest nesting of a request body; JSON schemas of tools reach about twenty.
pub const JSON_DEPTH_MAX: usize = 96;

/// Most members of a request body's top level; the API knows about fifty.
pub const JSON_MEMBERS_MAX: usize = 256;

/// Most values in a request body, at all levels. OpenAI takes 300,000 tokens a request, and a conversation of as many bytes
/// as a body may have has fewer values. An engine that builds a tree of what it reads takes some hundred bytes for each of
/// them, for which two bytes of body are enough.
pub const JSON_VALUES_MAX: usize = 1 << 19;

/// Longest key that is compared; a longer one is none of ours.
pub const JSON_KEY_MAX: usize = 64;

/// Deepest nesting that the usage reader follows in an answer (one bit a level).
pub const ANSWER_DEPTH_MAX: usize = 128;

/// Most bytes the SSE filter holds back while an incomplete event may be the usage event.
///
/// A usage event is under one KiB; whatever grows beyond this is something else and is let go.
pub const HELD_EVENT_MAX: usize = 16 * 1024;

/// Most bytes the cost splicer holds back from a usage object to the end of the answer.
///
/// Usage comes last in every engine's answer; a body that says it first and goes on for longer passes without its cost.
pub const HELD_COST_MAX: usize = 1024 * 1024;

/// Most costs that are replaced in one usage object; there are three names, and an honest object has each once.
pub const COST_MEMBERS_MAX: usize = 8;

/// Hardest proof of work a dialer solves, in leading zero bits: seconds of one core.
pub const POW_DIFFICULTY_BITS_MAX: i32 = 28;

/// Default proof of work of an original listener.
pub const POW_DIFFICULTY_BITS_ORIGINAL: i32 = 20;

/// Longest peer record of a router, without its length; the recorded one has 572 bytes.
pub const ROUTER_RECORD_MAX: usize = 4 * 1024;

/// Longest hello of an attested link: a role, a nonce, a hash and some format names make 200 bytes.
pub const ATTEST_HELLO_MAX: usize = 4 * 1024;

/// Longest evidence frame of an attested link: a quote, an event log and eight GPU reports make 200 KiB.
pub const ATTEST_EVIDENCE_MAX: usize = 1024 * 1024;

/// Longest verdict frame of an attested link: a check's name and one text.
pub const ATTEST_VERDICT_MAX: usize = 2 * 1024;

/// Most formats of evidence that a hello may name; three exist.
pub const ATTEST_FORMATS_MAX: usize = 16;

/// Longest name of a role, a format or a check.
pub const ATTEST_NAME_MAX: usize = 32;

/// Longest reason of a refusal; longer ones are cut by whoever writes them.
pub const ATTEST_TEXT_MAX: usize = 1024;

/// Most certificates beside a report: a chain has three.
pub const ATTEST_CERTIFICATES_MAX: usize = 8;

/// Most GPUs of one machine: the largest confidential ones have eight.
pub const ATTEST_GPUS_MAX: usize = 16;

const _: () = assert!(ATTEST_TEXT_MAX < ATTEST_VERDICT_MAX);
const _: () = assert!(ATTEST_EVIDENCE_MAX < FRAME_LEN_MAX);
const _: () = assert!(ANSWER_PART_MAX < FRAGMENT_MAX);
const _: () = assert!(FRAGMENT_MAX < FRAME_LEN_MAX);
const _: () = assert!(REQUEST_BODY_MAX < UPLOAD_BODY_MAX);
const _: () = assert!(UPLOAD_BODY_MAX < MESSAGE_MAX);
const _: () = assert!(ANSWER_DEPTH_MAX <= 128);
