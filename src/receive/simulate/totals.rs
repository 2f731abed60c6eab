//! What a simulation did: the figures that a receiver's tables are held against.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Counted by all connections.
#[derive(Debug, Default)]
pub(super) struct Totals {
    sealed_batches: AtomicU64,
    sealed_readings: AtomicU64,
    lost_batches: AtomicU64,
    lost_readings: AtomicU64,
    dropped_readings: AtomicU64,
    published: AtomicU64,
    published_bytes: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
    acknowledged_batches: AtomicU64,
    acknowledged_readings: AtomicU64,
    connected: AtomicU64,
    reconnected: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Batches with a sequence number.
    pub(super) sealed_batches: u64,
    /// Readings in them.
    pub(super) sealed_readings: u64,
    /// Batches lost on purpose, by `--lose`: a receiver must report exactly these as missing.
    pub(super) lost_batches: u64,
    pub(super) lost_readings: u64,
    /// Readings of batches that were held too long: `dr` of the envelopes.
    pub(super) dropped_readings: u64,
    /// Payloads sent, repeats included.
    pub(super) published: u64,
    pub(super) published_bytes: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// Different batches that the broker has taken over.
    pub(super) acknowledged_batches: u64,
    /// What a receiver's tables must hold in the end.
    pub(super) acknowledged_readings: u64,
    pub(super) connected: u64,
    pub(super) reconnected: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Totals {
    pub(super) fn sealed(&self, readings: u64) {
        add(&self.sealed_batches, 1);
        add(&self.sealed_readings, readings);
    }

    pub(super) fn lost(&self, readings: u64) {
        add(&self.lost_batches, 1);
        add(&self.lost_readings, readings);
    }

    pub(super) fn dropped(&self, readings: u64) {
        add(&self.dropped_readings, readings);
    }

    pub(super) fn published(&self, bytes: u64) {
        add(&self.published, 1);
        add(&self.published_bytes, bytes);
    }

    pub(super) fn duplicated(&self) {
        add(&self.duplicated, 1);
    }

    pub(super) fn reordered(&self) {
        add(&self.reordered, 1);
    }

    pub(super) fn acknowledged(&self, readings: u64) {
        add(&self.acknowledged_batches, 1);
        add(&self.acknowledged_readings, readings);
    }

    /// Counts a login; `again` when its connection stood before.
    pub(super) fn login(&self, again: bool) {
        add(if again { &self.reconnected } else { &self.connected }, 1);
    }

    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Returns whether every batch that was not lost or dropped on purpose is acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        let counts = self.counts();
        let expected = counts.sealed_readings - counts.lost_readings - counts.dropped_readings;
        counts.acknowledged_readings == expected
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sealed_batches: of(&self.sealed_batches),
            sealed_readings: of(&self.sealed_readings),
            lost_batches: of(&self.lost_batches),
            lost_readings: of(&self.lost_readings),
            dropped_readings: of(&self.dropped_readings),
            published: of(&self.published),
            published_bytes: of(&self.published_bytes),
            duplicated: of(&self.duplicated),
            reordered: of(&self.reordered),
            acknowledged_batches: of(&self.acknowledged_batches),
            acknowledged_readings: of(&self.acknowledged_readings),
            connected: of(&self.connected),
            reconnected: of(&self.reconnected),
        }
    }

    pub(super) fn progress(&self, since: Duration) -> String {
        let counts = self.counts();
        format!(
            "{} readings acknowledged, {}/s since the start; {} connections",
            counts.acknowledged_readings,
            per_second(counts.acknowledged_readings, since),
            counts.connected
        )
    }

    pub(super) fn json(&self, took: Duration) -> String {
        let mut object = serde_json::to_value(self.counts()).unwrap_or_default();
        object["seconds"] = took.as_secs_f64().into();
        object.to_string()
    }

    pub(super) fn text(&self, took: Duration) -> String {
        let c = self.counts();
        let mut text = String::new();
        let mut line = |name: &str, what: String| {
            let _ = writeln!(text, "{name:<14} {what}");
        };
        let pair = |batches: u64, readings: u64| format!("{batches} batches, {readings} readings");
        line("sealed", pair(c.sealed_batches, c.sealed_readings));
        line("acknowledged", pair(c.acknowledged_batches, c.acknowledged_readings));
        line("lost on purpose", pair(c.lost_batches, c.lost_readings));
        line("dropped", format!("{} readings", c.dropped_readings));
        let sent = format!("{} payloads, {} bytes", c.published, c.published_bytes);
        line("sent", format!("{sent}, {} twice, {} out of order", c.duplicated, c.reordered));
        line("connections", format!("{}, made again {} times", c.connected, c.reconnected));
        line("in", format!("{:.1} s", took.as_secs_f64()));
        line("pace", format!("{} readings/s", per_second(c.acknowledged_readings, took)));
        text
    }
}

fn per_second(count: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    u64::try_from(u128::from(count) * 1000 / u128::from(millis)).unwrap_or(u64::MAX)
}
