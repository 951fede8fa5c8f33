//! Integration tests of the wire crate: recorded sessions, hostile bytes, round trips.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod protocol_doc;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod vectors;
