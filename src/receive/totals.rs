//! What a receiver has done since its start: counted by the loop, read by progress and metrics.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::metrics::Timings;
use super::sink::{Ack, Sequence};
use crate::limits;

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Returns the sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Totals since the start of this process.
#[derive(Debug, Default)]
pub struct Totals {
    /// Batches stored.
    pub batches: Count,
    /// Readings in them.
    pub readings: Count,
    /// Their payload bytes.
    pub bytes: Count,
    /// Batches that the sink had already.
    pub seen: Count,
    /// Frames and readings of kinds this version does not know.
    pub unknown: Count,
    /// Slices that had to be offered again.
    pub retries: Count,
    /// Sessions with the broker.
    pub sessions: Count,
    /// Acknowledgements published to gateways.
    pub acks: Count,
    /// How long things took.
    pub timings: Timings,
    connected: AtomicBool,
    /// Batches missing in the ledger, of the sequences that were acknowledged last.
    missing: Mutex<HashMap<Sequence, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    gateways: Mutex<HashSet<String>>,
}

/// Totals at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// See [`Totals::batches`].
    pub batches: u64,
    /// See [`Totals::readings`].
    pub readings: u64,
    /// See [`Totals::bytes`].
    pub bytes: u64,
    /// See [`Totals::seen`].
    pub seen: u64,
    /// See [`Totals::unknown`].
    pub unknown: u64,
    /// By reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Gateways heard of, up to [`limits::GATEWAYS_KNOWN_MAX`].
    pub gateways: usize,
    /// See [`Totals::retries`].
    pub retries: u64,
    /// See [`Totals::sessions`].
    pub sessions: u64,
    /// See [`Totals::acks`].
    pub acks: u64,
    /// Batches that the ledger misses below the newest of their sequence.
    pub missing: u64,
    /// Whether a session with the broker stands.
    pub connected: bool,
}

impl Totals {
    /// Counts a refused message.
    pub fn refuse(&self, reason: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(reason).or_default() += 1;
    }

    /// Notes a gateway; returns whether it is heard of for the first time.
    pub fn meet(&self, gw: &str) -> bool {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if gateways.contains(gw) || gateways.len() >= limits::GATEWAYS_KNOWN_MAX {
            return false;
        }
        gateways.insert(gw.to_owned())
    }

    /// Notes what a ledger misses. Sequences beyond [`limits::GATEWAYS_KNOWN_MAX`] are not counted.
    pub fn miss(&self, ack: &Ack) {
        let sequence = Sequence { gw: ack.gw.clone(), ep: ack.ep, st: ack.st.clone() };
        let missing = ack.holes.iter().map(|(first, last)| last.saturating_sub(*first) + 1).sum();
        let mut all = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing == 0 {
            all.remove(&sequence);
        } else if all.len() < limits::GATEWAYS_KNOWN_MAX || all.contains_key(&sequence) {
            all.insert(sequence, missing);
        }
    }

    /// Says whether a session with the broker stands.
    pub fn connected(&self, now: bool) {
        self.connected.store(now, Ordering::Relaxed);
    }

    /// Returns all totals as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            batches: self.batches.get(),
            readings: self.readings.get(),
            bytes: self.bytes.get(),
            seen: self.seen.get(),
            unknown: self.unknown.get(),
            refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            gateways: self.gateways.lock().unwrap_or_else(PoisonError::into_inner).len(),
            retries: self.retries.get(),
            sessions: self.sessions.get(),
            acks: self.acks.get(),
            missing: self.missing.lock().unwrap_or_else(PoisonError::into_inner).values().sum(),
            connected: self.connected.load(Ordering::Relaxed),
        }
    }
}
