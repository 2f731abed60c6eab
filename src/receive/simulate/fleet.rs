//! A gateway that is not there: its sequence, what it holds, and what goes wrong on purpose. Touches
//! no network.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::Serialize;

use super::bodies::{Bodies, Chance};
use super::totals::Totals;
use crate::batch::Envelope;
use crate::limits;
use crate::reading::Stream;

/// What all gateways share.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) prefix: String,
    /// Unix seconds when the simulation began.
    pub(super) epoch: u64,
    pub(super) bodies: Bodies,
    pub(super) mischief: Mischief,
    pub(super) seed: u64,
    pub(super) fast: bool,
    /// Batches that each gateway seals at most.
    pub(super) batches_max: u64,
    pub(super) gateways: u32,
}

/// Shares of batches, 0 to 1, that go wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mischief {
    /// Sealed and never sent, as if a broker had acknowledged and forgotten them.
    pub(super) lose: f64,
    /// Sent twice.
    pub(super) duplicate: f64,
    /// Sent after the next one.
    pub(super) reorder: f64,
}

/// What an envelope needs besides the clock. Payloads are made again from it, byte for byte, so a
/// fleet that cannot send holds a few bytes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) seq: u64,
    lo: u64,
    dropped: u64,
}

/// One gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) topic: String,
    sealed: u64,
    held: VecDeque<Held>,
    /// Readings dropped because too many batches were held.
    dropped: u64,
    /// Waits for the next batch to go first.
    late: Option<Held>,
    chance: Chance,
}

#[derive(Serialize)]
struct Status<'a> {
    up: bool,
    ep: u64,
    seq: u64,
    lo: u64,
    ver: &'a str,
    cv: &'a str,
    backlog_s: u64,
}

#[derive(Serialize)]
struct Meta<'a> {
    gw: &'a str,
    ver: &'a str,
    cv: &'a str,
    ep: u64,
    labels: Labels,
    series_count: u64,
    rules: [(); 0],
}

#[derive(Serialize)]
struct Labels {
    site: &'static str,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The configuration hash of a fleet that has no configuration.
const CONFIG: &str = "simulate";

impl Gateway {
    pub(super) fn new(fleet: &Fleet, number: u32) -> Self {
        let name = format!("{}-{:05}", fleet.prefix, number + 1);
        Self {
            number,
            topic: format!("fg/1/{name}/{}", Stream::Data.name()),
            name,
            sealed: 0,
            held: VecDeque::new(),
            dropped: 0,
            late: None,
            chance: Chance::new(fleet.seed ^ u64::from(number).wrapping_mul(0x1_0000_0001)),
        }
    }

    pub(super) fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Seals the next batch and returns what is to be sent now: nothing, it, it twice, or it before
    /// the one that waited.
    pub(super) fn seal(&mut self, fleet: &Fleet, totals: &Totals) -> Vec<Held> {
        self.sealed += 1;
        let lo = self.held.front().map_or(self.sealed, |first| first.seq);
        let held = Held { seq: self.sealed, lo, dropped: self.dropped };
        let readings = fleet.bodies.readings();
        totals.sealed(readings);
        let Mischief { lose, duplicate, reorder } = fleet.mischief;
        let mut leaving = Vec::with_capacity(2);
        if self.chance.happens(lose) {
            totals.lost(readings);
            leaving.extend(self.late.take());
            return leaving;
        }
        self.held.push_back(held);
        if self.held.len() > limits::SIMULATE_BATCHES_HELD_MAX {
            self.held.pop_front();
            self.dropped += readings;
            totals.dropped(readings);
        }
        if self.late.is_none() && self.chance.happens(reorder) {
            self.late = Some(held);
            totals.reordered();
            return leaving;
        }
        leaving.push(held);
        if self.chance.happens(duplicate) {
            leaving.push(held);
            totals.duplicated();
        }
        leaving.extend(self.late.take());
        leaving
    }

    /// Lets go of what waits for a next batch that will not come.
    pub(super) fn flush(&mut self) -> Option<Held> {
        self.late.take()
    }

    /// Returns what is not acknowledged, oldest first: what a new connection begins with.
    pub(super) fn unacknowledged(&mut self) -> impl Iterator<Item = Held> + '_ {
        self.late = None;
        self.held.iter().copied()
    }

    pub(super) fn holds(&self, seq: u64) -> bool {
        self.held.binary_search_by_key(&seq, |held| held.seq).is_ok()
    }

    /// Frees an acknowledged batch; returns whether it was held.
    pub(super) fn free(&mut self, seq: u64) -> bool {
        match self.held.binary_search_by_key(&seq, |held| held.seq) {
            Ok(at) => self.held.remove(at).is_some(),
            Err(_) => false,
        }
    }

    /// Makes the bytes of a batch, always the same.
    pub(super) fn payload(&self, fleet: &Fleet, held: Held) -> Bytes {
        let envelope = Envelope {
            gateway: &self.name,
            epoch: fleet.epoch,
            stream: Stream::Data,
            sequence: held.seq,
            lowest_held: held.lo,
            dropped: held.dropped,
            clock: 1,
            config_hash: CONFIG,
        };
        let interval_us = fleet.bodies.interval().as_micros();
        let phase_us = interval_us * u128::from(self.number) / u128::from(fleet.gateways.max(1));
        let since_us = interval_us * u128::from(held.seq - 1) + phase_us;
        // Sealed when its time was over.
        let start_us = u128::from(fleet.epoch) * 1_000_000 + since_us - interval_us;
        let start = i64::try_from(start_us / 1000).unwrap_or(0);
        fleet.bodies.seal(self.number, &envelope, start).into()
    }

    /// Returns `status`, as docs/uplink says.
    pub(super) fn status(&self, fleet: &Fleet) -> Bytes {
        let lo = self.held.front().map_or(self.sealed + 1, |first| first.seq);
        let behind = u32::try_from(self.sealed + 1 - lo).unwrap_or(u32::MAX);
        let status = Status {
            up: true,
            ep: fleet.epoch,
            seq: self.sealed,
            lo,
            ver: VERSION,
            cv: CONFIG,
            backlog_s: fleet.bodies.interval().saturating_mul(behind).as_secs(),
        };
        serde_json::to_vec(&status).unwrap_or_default().into()
    }

    pub(super) fn meta(&self, fleet: &Fleet) -> Bytes {
        let meta = Meta {
            gw: &self.name,
            ver: VERSION,
            cv: CONFIG,
            ep: fleet.epoch,
            labels: Labels { site: "simulated" },
            series_count: fleet.bodies.points(),
            rules: [],
        };
        serde_json::to_vec(&meta).unwrap_or_default().into()
    }

    /// Returns the topic of a leaf: `fg/1/{gw}/{leaf}`.
    pub(super) fn topic(&self, leaf: &str) -> String {
        format!("fg/1/{}/{leaf}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Coding, decode};

    fn fleet(lose: f64, duplicate: f64, reorder: f64) -> Fleet {
        Fleet {
            prefix: "sim".into(),
            epoch: 1_790_000_000,
            bodies: Bodies::new(5, 4, 250_000, Coding::Plain, 1).unwrap(),
            mischief: Mischief { lose, duplicate, reorder },
            seed: 1,
            fast: true,
            batches_max: u64::MAX,
            gateways: 2,
        }
    }

    fn seqs(leaving: &[Held]) -> Vec<u64> {
        leaving.iter().map(|held| held.seq).collect()
    }

    #[test]
    fn a_batch_is_sealed_once_and_its_bytes_never_change() {
        let (fleet, totals) = (fleet(0.0, 0.0, 0.0), Totals::default());
        let mut gateway = Gateway::new(&fleet, 1);
        let first = gateway.seal(&fleet, &totals)[0];
        let second = gateway.seal(&fleet, &totals)[0];
        let before = gateway.payload(&fleet, second);
        assert!(gateway.free(1) && !gateway.free(1));
        assert_eq!(gateway.payload(&fleet, second), before);
        assert_eq!(gateway.unacknowledged().collect::<Vec<_>>(), [second]);
        let (a, b) = (decode(&gateway.payload(&fleet, first)), decode(&before));
        let (a, b) = (a.unwrap().header, b.unwrap().header);
        assert_eq!((b.gateway.as_str(), b.sequence, b.lowest_held), ("sim-00002", 2, 1));
        assert_eq!(b.t0 - a.t0, 1000);
        assert!(a.t1 < b.t0);
        let status: serde_json::Value = serde_json::from_slice(&gateway.status(&fleet)).unwrap();
        assert_eq!((status["seq"].as_u64(), status["lo"].as_u64()), (Some(2), Some(2)));
    }

    #[test]
    fn mischief_is_done_as_asked_and_counted() {
        let totals = Totals::default();
        let lossy = fleet(1.0, 0.0, 0.0);
        let mut gateway = Gateway::new(&lossy, 0);
        assert!(gateway.seal(&lossy, &totals).is_empty());
        assert!(!gateway.holds(1));
        let twice = fleet(0.0, 1.0, 0.0);
        assert_eq!(seqs(&Gateway::new(&twice, 0).seal(&twice, &totals)), [1, 1]);
        let late = fleet(0.0, 0.0, 1.0);
        let mut gateway = Gateway::new(&late, 0);
        assert!(gateway.seal(&late, &totals).is_empty());
        assert_eq!(seqs(&gateway.seal(&late, &totals)), [2, 1]);
        assert!(gateway.seal(&late, &totals).is_empty());
        assert_eq!(gateway.flush().map(|held| held.seq), Some(3));
        let found = totals.counts();
        assert_eq!((found.lost_batches, found.duplicated, found.reordered), (1, 1, 2));
        assert_eq!(found.sealed_batches, 5);
    }

    #[test]
    fn a_fleet_that_cannot_send_drops_its_oldest_and_says_so() {
        let (fleet, totals) = (fleet(0.0, 0.0, 0.0), Totals::default());
        let mut gateway = Gateway::new(&fleet, 0);
        let last = (0..limits::SIMULATE_BATCHES_HELD_MAX as u64 + 3)
            .flat_map(|_| gateway.seal(&fleet, &totals))
            .last()
            .unwrap();
        let header = decode(&gateway.payload(&fleet, last)).unwrap().header;
        assert_eq!((header.lowest_held, header.dropped), (3, 40));
        assert_eq!(totals.counts().dropped_readings, 60);
    }
}
