//! Everything that crosses a wire between Cocoon nodes.
//!
//! This crate is pure: bytes in, values out, and back.
//! It opens no socket, reads no clock and uses no async runtime, and it is the only crate that
//! knows TL constructors and protocol versions: above it there is one message enum per direction.
//!
//! From the outside in:
//!
//! 1. [`pow`]: the proof of work a listener asks for before anything else.
//! 2. [`router_record`]: what the original's TLS router says about a peer (insecure listener only).
//! 3. [`packet`]: frames of length, sequence number and one packet.
//! 4. [`message`]: what a packet's data means, one enum per direction, all versions folded in.
//! 5. [`http`]: the request and response envelope inside a query or an answer.
//! 6. [`openai`] and [`usage`]: the few parts of bodies that are read, never re-serialised.
//!
//! Bytes from peers never panic here: every length is checked before it is believed, and an
//! allocation is never larger than what has already arrived.
//! The protocol is described in `docs/protocol.md`.

pub mod attestation;
mod bare;
mod encoded;
pub mod failure;
pub mod http;
mod id;
mod json;
pub mod limits;
pub mod message;
pub mod openai;
pub mod packet;
pub mod pow;
mod reader;
pub mod router_record;
mod sealed;
mod tl;
pub mod usage;
mod version;
mod writer;

pub use encoded::Encoded;
pub use id::RequestId;
pub use reader::DecodeError;
pub use sealed::Sealed;
pub use version::{Version, VersionRange};

#[doc(hidden)]
pub mod fuzzing;
