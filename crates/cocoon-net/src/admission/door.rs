//! The door of one listener: [`Admission`](super::Admission) shared by the tasks that hold its places.
//!
//! A [`Place`] is held by a handshake, a [`Seat`] by the connection that came of it; dropping them gives the place
//! back, whatever happened. No lock is held for longer than one step of the state machine.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cocoon_wire::pow::{Answer, Challenge};
use tokio::sync::Notify;

use crate::admission::salt::{Question, Salts};
use crate::admission::{Admission, Arrival, ConnectionPlace, Full, HandshakeId, ListenLimits};

/// Lets streams in, or not. Clones are the same door.
#[derive(Debug, Clone)]
pub(crate) struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    salts: Salts,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    /// Wakes the handshake that is dropped for a newcomer; as many as there are handshakes.
    shed: HashMap<HandshakeId, Arc<Notify>>,
}

/// The place of a handshake.
#[must_use = "dropping a place gives it back"]
pub(crate) struct Place {
    door: Door,
    question: Question,
    shed: Arc<Notify>,
}

/// The place of a connection.
#[must_use = "dropping a seat gives it back"]
pub(crate) struct Seat {
    door: Door,
    place: Option<ConnectionPlace>,
}

impl Door {
    /// A door with every place free. The keys must be random, and different.
    pub(crate) fn new(
        limits: ListenLimits,
        difficulty_floor: i32,
        [salt_key, table_key]: [[u8; 32]; 2],
        now: Instant,
    ) -> Self {
        let admission = Admission::new(limits, difficulty_floor, table_key, now);
        let state = Mutex::new(State { admission, shed: HashMap::new() });
        Self(Arc::new(Inner { salts: Salts::new(salt_key, now), state }))
    }

    /// A place for a stream that arrived; or why it has none.
    pub(crate) fn admit(&self, now: Instant, addr: SocketAddr) -> Result<Place, Full> {
        let shed = Arc::new(Notify::new());
        let (id, difficulty_bits) = self.with(|state| match state.admission.handle_arrival(now, addr.ip()) {
            Arrival::Refused(full) => Err(full),
            Arrival::Admitted { id, difficulty_bits, shed: victim } => {
                if let Some(victim) = victim.and_then(|victim| state.shed.remove(&victim)) {
                    // Its stream closes when its task runs; its place is taken already.
                    victim.notify_one();
                }
                state.shed.insert(id, Arc::clone(&shed));
                Ok((id, difficulty_bits))
            }
        })?;
        let question = self.0.salts.question(now, addr, id, difficulty_bits);
        Ok(Place { door: self.clone(), question, shed })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    /// The challenge to send.
    pub(crate) fn challenge(&self) -> Challenge {
        self.door.0.salts.challenge(&self.question)
    }

    /// Takes the peer's answer; a right one makes the place its own.
    pub(crate) fn prove(&self, now: Instant, answer: &Answer) -> bool {
        let right = self.door.0.salts.accepts(now, &self.question, answer);
        if right {
            self.keep();
        }
        right
    }

    /// Makes the place the handshake's own, without work: where another program asked for it.
    pub(crate) fn keep(&self) {
        self.door.with(|state| state.admission.handle_proven(self.question.id));
    }

    /// Rings when the place was given to a newcomer.
    pub(crate) fn shed(&self) -> Arc<Notify> {
        Arc::clone(&self.shed)
    }

    /// Exchanges the place for a connection's.
    pub(crate) fn take_seat(self) -> Result<Seat, Full> {
        let place = self.door.with(|state| state.admission.handle_connected(self.question.id))?;
        Ok(Seat { door: self.door.clone(), place: Some(place) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.with(|state| {
            state.shed.remove(&self.question.id);
            state.admission.handle_ended(self.question.id);
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.door.with(|state| state.admission.handle_closed(place));
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.question).finish()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}
