//! Who may take up this node's time before anything is known about it: places, shares and the proof of work.
//!
//! A pure state machine: addresses and `now` in, decisions out. The listener's side of it is [`door`].
//!
//! 1. Handshakes and connections have places of their own, so unfinished handshakes never lock out the sessions of
//!    peers that finished theirs, and full connection places never stop a handshake half way in favour of another.
//! 2. Each source ([`source`]: an IPv4 address, an IPv6 /64, this host) has a share of both.
//! 3. When all handshake places are taken, a newcomer takes the place of the oldest handshake that has not done its
//!    work, of the source that holds the most such places. Handshakes that did their work are never dropped for a
//!    newcomer: they end, well or badly, within their deadline.
//! 4. The proof of work asks for nothing while there is room, and for more with each sign of load ([`load`]): all
//!    handshakes in progress, all arrivals lately, and both for the source at hand. What one source does beyond its
//!    share makes work for itself alone.
//! 5. The salt of a challenge is computed, not stored ([`salt`]).
//!
//! **Bounds**: what is kept for each source is kept only while it holds a place, so there are never more entries than
//! places; arrivals are counted in a table of fixed size. No number of addresses makes this grow.
//!
//! **Limits of this**: it raises the price of a flood, it does not end one. Who has more addresses than there are
//! handshake places can keep turning over the places of newcomers that are still working; difficulty does not stop
//! someone who never answers. A source is also everyone behind the same NAT or proxy. Nothing here looks at what a
//! peer says: that is for TLS and evidence.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(crate) mod door;
mod load;
mod salt;
pub(crate) mod source;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use crate::admission::load::{Arrivals, Meter, bits_of, pressure};
use crate::admission::source::Source;
use crate::limits::{
    ARRIVALS_FULL, ARRIVALS_IDLE, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, HANDSHAKES_MAX,
    HANDSHAKES_PER_SOURCE_MAX, LOOPBACK_ARRIVALS_FULL, LOOPBACK_ARRIVALS_IDLE, LOOPBACK_CONNECTIONS_MAX,
    LOOPBACK_HANDSHAKES_MAX, POW_DIFFICULTY_BITS_UNDER_LOAD, SOURCE_ARRIVALS_FULL, SOURCE_ARRIVALS_IDLE,
};

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenLimits {
    /// Connections held at once; while there are as many, streams are closed at once.
    pub connections_max: usize,
    /// Handshakes in progress at once, counted apart from connections.
    pub handshakes_max: usize,
    /// The share of one IPv4 address or IPv6 /64.
    pub per_source: SourceLimits,
    /// The share of all programs on this host together.
    pub loopback: SourceLimits,
    /// The most work that load can bring about; `pow_difficulty_bits` of the listener is the least.
    pub pow_difficulty_bits_max: i32,
}

/// How much of a listener one source may hold.
#[derive(Debug, Clone, Copy)]
pub struct SourceLimits {
    /// Connections.
    pub connections_max: usize,
    /// Handshakes in progress.
    pub handshakes_max: usize,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            handshakes_max: HANDSHAKES_MAX,
            per_source: SourceLimits {
                connections_max: CONNECTIONS_PER_SOURCE_MAX,
                handshakes_max: HANDSHAKES_PER_SOURCE_MAX,
            },
            loopback: SourceLimits {
                connections_max: LOOPBACK_CONNECTIONS_MAX,
                handshakes_max: LOOPBACK_HANDSHAKES_MAX,
            },
            pow_difficulty_bits_max: POW_DIFFICULTY_BITS_UNDER_LOAD,
        }
    }
}

/// A handshake in progress; later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HandshakeId(u64);

/// A connection's place; given back with [`Admission::handle_closed`].
#[derive(Debug)]
#[must_use = "a connection place is given back by `handle_closed`"]
pub(crate) struct ConnectionPlace(Source);

/// What becomes of a stream that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has a place.
    Admitted {
        /// Its handshake.
        id: HandshakeId,
        /// The work to ask for.
        difficulty_bits: i32,
        /// The handshake that lost its place to it; its stream must be closed.
        shed: Option<HandshakeId>,
    },
    /// It must be closed at once.
    Refused(Full),
}

/// Which bound a stream ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Its source's share of handshakes.
    SourceHandshakes,
    /// Its source's share of connections.
    SourceConnections,
    /// All handshakes; none can be dropped for it.
    Handshakes,
    /// All connections.
    Connections,
}

/// The state of all places of one listener.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: ListenLimits,
    difficulty_floor: i32,
    next_id: u64,
    handshakes: BTreeMap<HandshakeId, Handshake>,
    connections: usize,
    /// Sources that hold places, and no others.
    held: HashMap<Source, Held>,
    admitted: Meter,
    arrivals: Arrivals,
}

#[derive(Debug)]
struct Handshake {
    source: Source,
    /// Whether it has done its work; then it keeps its place.
    proven: bool,
}

#[derive(Debug, Default)]
struct Held {
    handshakes: usize,
    unproven: usize,
    connections: usize,
}

impl Admission {
    /// Everything free. `key` hides from strangers which sources share a counter.
    pub(crate) fn new(limits: ListenLimits, difficulty_floor: i32, key: [u8; 32], now: Instant) -> Self {
        Self {
            limits,
            difficulty_floor,
            next_id: 0,
            handshakes: BTreeMap::new(),
            connections: 0,
            held: HashMap::new(),
            admitted: Meter::default(),
            arrivals: Arrivals::new(key, now),
        }
    }

    /// A stream arrived.
    pub(crate) fn handle_arrival(&mut self, now: Instant, ip: IpAddr) -> Arrival {
        let source = Source::of(ip);
        // Refused streams count for their source too: trying harder does not help.
        let source_arrivals = self.arrivals.count(now, source);
        let shed = match self.place_for(source) {
            Ok(shed) => shed,
            Err(full) => return Arrival::Refused(full),
        };
        if let Some(id) = shed {
            self.handle_ended(id);
        }
        let window = self.arrivals.window(now);
        self.admitted.add(window.index);
        let difficulty_bits = self.difficulty(source, source_arrivals, self.admitted.estimate(window));
        let id = HandshakeId(self.next_id);
        self.next_id = self.next_id.saturating_add(1);
        self.handshakes.insert(id, Handshake { source, proven: false });
        let held = self.held.entry(source).or_default();
        held.handshakes = held.handshakes.saturating_add(1);
        held.unproven = held.unproven.saturating_add(1);
        Arrival::Admitted { id, difficulty_bits, shed }
    }

    /// A handshake has done its work. Unknown ones were dropped meanwhile.
    pub(crate) fn handle_proven(&mut self, id: HandshakeId) {
        let Some(handshake) = self.handshakes.get_mut(&id) else { return };
        let source = handshake.source;
        if !std::mem::replace(&mut handshake.proven, true) {
            self.change(source, |held| held.unproven = held.unproven.saturating_sub(1));
        }
    }

    /// A handshake ended without a connection. Unknown ones were dropped meanwhile.
    pub(crate) fn handle_ended(&mut self, id: HandshakeId) {
        let Some(Handshake { source, proven }) = self.handshakes.remove(&id) else { return };
        self.change(source, |held| {
            held.handshakes = held.handshakes.saturating_sub(1);
            held.unproven = held.unproven.saturating_sub(usize::from(!proven));
        });
    }

    /// A handshake became a connection; its place among the handshakes is free in any case.
    pub(crate) fn handle_connected(&mut self, id: HandshakeId) -> Result<ConnectionPlace, Full> {
        // A handshake that was dropped has no place to exchange.
        let source = self.handshakes.get(&id).map(|handshake| handshake.source).ok_or(Full::Handshakes)?;
        self.handle_ended(id);
        self.room_for_connection(source)?;
        self.connections = self.connections.saturating_add(1);
        let held = self.held.entry(source).or_default();
        held.connections = held.connections.saturating_add(1);
        Ok(ConnectionPlace(source))
    }

    /// A connection ended.
    pub(crate) fn handle_closed(&mut self, ConnectionPlace(source): ConnectionPlace) {
        self.connections = self.connections.saturating_sub(1);
        self.change(source, |held| held.connections = held.connections.saturating_sub(1));
    }

    fn limits_of(&self, source: Source) -> SourceLimits {
        if source == Source::Loopback { self.limits.loopback } else { self.limits.per_source }
    }

    /// Whether there is a handshake place for this source, and whose it was.
    fn place_for(&self, source: Source) -> Result<Option<HandshakeId>, Full> {
        self.room_for_connection(source)?;
        let held = self.held.get(&source).map_or(0, |held| held.handshakes);
        if held >= self.limits_of(source).handshakes_max {
            return Err(Full::SourceHandshakes);
        }
        if self.handshakes.len() < self.limits.handshakes_max {
            return Ok(None);
        }
        self.victim().map(Some).ok_or(Full::Handshakes)
    }

    fn room_for_connection(&self, source: Source) -> Result<(), Full> {
        if self.connections >= self.limits.connections_max {
            return Err(Full::Connections);
        }
        let held = self.held.get(&source).map_or(0, |held| held.connections);
        if held >= self.limits_of(source).connections_max { Err(Full::SourceConnections) } else { Ok(()) }
    }

    /// The oldest unproven handshake of the source with the most of them. A scan of all handshakes, which are few.
    fn victim(&self) -> Option<HandshakeId> {
        let unproven = self.handshakes.iter().filter(|(_, handshake)| !handshake.proven);
        let share = |source| self.held.get(source).map_or(0, |held| held.unproven);
        unproven.max_by_key(|(id, handshake)| (share(&handshake.source), std::cmp::Reverse(**id))).map(|(id, _)| *id)
    }

    /// Work for a newcomer: the least that is configured, or what the strongest sign of load asks for.
    fn difficulty(&self, source: Source, source_arrivals: u32, all_arrivals: u32) -> i32 {
        let own = self.limits_of(source);
        let own_handshakes = self.held.get(&source).map_or(0, |held| held.handshakes);
        let (idle, full) = if source == Source::Loopback {
            (LOOPBACK_ARRIVALS_IDLE, LOOPBACK_ARRIVALS_FULL)
        } else {
            (SOURCE_ARRIVALS_IDLE, SOURCE_ARRIVALS_FULL)
        };
        let signs = [
            of_places(self.handshakes.len(), self.limits.handshakes_max),
            of_places(own_handshakes, own.handshakes_max),
            pressure(source_arrivals, idle, full),
            pressure(all_arrivals, ARRIVALS_IDLE, ARRIVALS_FULL),
        ];
        let strongest = signs.into_iter().max().unwrap_or_default();
        self.difficulty_floor.max(bits_of(strongest, self.limits.pow_difficulty_bits_max))
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.held.get_mut(&source) else { return };
        change(held);
        if held.handshakes == 0 && held.connections == 0 {
            self.held.remove(&source);
        }
    }
}

/// How much of these places are taken: an eighth is everyday, three quarters are as good as all.
fn of_places(taken: usize, max: usize) -> load::Permille {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
    pressure(taken, max.div_ceil(8), max.saturating_sub(max / 4))
}

#[cfg(test)]
mod tests;
