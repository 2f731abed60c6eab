//! Packet identifiers of one connection: 1 to 65,535, never one that is still in flight
//! (MQTT 3.1.1, section 2.3.1).

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU16, Ordering};

/// Names a publish until it is acknowledged. Means nothing outside its own session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

/// Gives identifiers out and takes them back.
#[derive(Debug, Default)]
pub(super) struct PacketIds {
    last: u16,
    in_flight: BTreeSet<PacketId>,
}

impl PacketId {
    /// Returns the identifier of that number; 0 is none.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// Returns the number on the wire.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// The identifier that any session of this process took last. A new connection goes on from there,
/// so that a broker that answers to what an earlier connection sent names nothing in flight here.
static LAST: AtomicU16 = AtomicU16::new(0);

impl PacketIds {
    /// Begins after the identifiers of earlier connections.
    pub(super) fn after_earlier_connections() -> Self {
        Self { last: LAST.load(Ordering::Relaxed), in_flight: BTreeSet::new() }
    }

    /// Takes the next free identifier; the one used longest ago comes last.
    pub(super) fn take(&mut self) -> Option<PacketId> {
        for _ in 0..u16::MAX {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last)?;
            if self.in_flight.insert(id) {
                LAST.store(self.last, Ordering::Relaxed);
                return Some(id);
            }
        }
        None
    }

    /// Gives an identifier back; returns whether it was in flight.
    pub(super) fn free(&mut self, id: PacketId) -> bool {
        self.in_flight.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_round_without_zero_and_without_one_in_flight() {
        let mut ids = PacketIds::default();
        let first = ids.take().unwrap();
        assert_eq!(first.get(), 1);
        let held = ids.take().unwrap();
        ids.free(first);
        for _ in 0..200_000 {
            let id = ids.take().unwrap();
            assert_ne!(id, held);
            assert!(ids.free(id));
        }
    }

    #[test]
    fn no_id_is_left_when_all_are_in_flight() {
        let mut ids = PacketIds::default();
        for _ in 0..u16::MAX {
            assert!(ids.take().is_some());
        }
        assert_eq!(ids.take(), None);
        assert!(ids.free(PacketId::new(7).unwrap()));
        assert_eq!(ids.take(), PacketId::new(7));
    }

    #[test]
    fn an_id_is_freed_once() {
        let mut ids = PacketIds::default();
        let id = ids.take().unwrap();
        assert!(ids.free(id));
        assert!(!ids.free(id));
    }
}
