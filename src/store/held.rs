//! Batches that stand in memory only, while the broker acknowledges promptly: `write = "when-needed"`.
//!
//! **What is on disk.** Each seal writes its stream's row and nothing else: the sequence number is
//! spent, durably, before anyone sees the batch, so that it never stands for two payloads. Between
//! seals readings wait where they would wait for a commit. When a batch was not acknowledged within
//! [`limits::HELD_TIME_MAX`], when they take more than [`limits::HELD_BYTES_MAX`], or at a stop,
//! everything held is written and the store works as with `always`, until it is empty again.
//!
//! **What a crash costs.** The readings since the last seal, and the batches held. A receiver sees
//! the latter as holes below the next `lo`: they are counted, not guessed. Whatever was on disk
//! before stays there: a batch whose readings stand in slots is sealed to disk even in this mode.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::limits;
use crate::reading::Stream;
use crate::store::batches::Sealed;
use crate::store::disk::Acknowledged;
use crate::store::status::Status;
use crate::store::{Batch, Shelf};

/// See the file's head.
#[derive(Default)]
pub(super) struct Held {
    /// Whether the next seals stay in memory.
    pub(super) on: bool,
    batches: BTreeMap<(Shelf, u64), (Sealed, Instant)>,
    /// Sealed by a transaction that is not known to be on disk.
    fresh: Vec<(Shelf, u64, Sealed)>,
    /// Whether that transaction wrote all of `batches`.
    written: bool,
    bytes: usize,
}

impl Held {
    /// Takes a batch whose number is being spent by the transaction under way.
    pub(super) fn seal(&mut self, shelf: Shelf, seq: u64, batch: Sealed) {
        self.fresh.push((shelf, seq, batch));
    }

    /// Returns what the transaction under way is to write: everything, once holding has ended.
    pub(super) fn write_out(&mut self) -> impl Iterator<Item = (Shelf, u64, &Sealed)> {
        self.written = !self.on;
        let write = self.written;
        self.batches
            .iter()
            .filter(move |_| write)
            .map(|((shelf, seq), (batch, _))| (*shelf, *seq, batch))
    }

    /// Notes that the transaction under way begins anew.
    pub(super) fn begin(&mut self) {
        self.fresh.clear();
        self.written = false;
    }

    /// Notes that the transaction is on disk.
    pub(super) fn committed(&mut self, now: Instant) {
        if std::mem::take(&mut self.written) {
            self.batches.clear();
            self.bytes = 0;
        }
        for (shelf, seq, batch) in self.fresh.drain(..) {
            self.bytes += batch.payload.len();
            self.batches.insert((shelf, seq), (batch, now));
        }
    }

    /// Frees what was acknowledged of the store of this epoch, and takes it out of the list. Returns
    /// whether anything was.
    pub(super) fn free(&mut self, epoch: u64, acknowledged: &mut Acknowledged) -> bool {
        let before = self.batches.len();
        // While nobody knows whether they are on disk, their acknowledgements wait for the answer.
        if before == 0 || self.written {
            return false;
        }
        for ((_, shelf), acks) in acknowledged.iter_mut().filter(|(_, acks)| acks.epoch == epoch) {
            let seqs = &mut acks.seqs;
            let held = self.batches.range((*shelf, 0)..=(*shelf, u64::MAX)).map(|(key, _)| key.1);
            let had: Vec<u64> = held.filter(|seq| seqs.contains(*seq)).collect();
            for seq in had {
                seqs.remove(seq, seq);
                if let Some((batch, _)) = self.batches.remove(&(*shelf, seq)) {
                    self.bytes -= batch.payload.len();
                }
            }
        }
        acknowledged.retain(|_, acks| !acks.seqs.is_empty());
        self.batches.len() < before
    }

    /// Returns whether holding must end: the broker is not prompt, or memory is short.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let late =
            |(_, since): &(Sealed, Instant)| now.duration_since(*since) >= limits::HELD_TIME_MAX;
        self.bytes > limits::HELD_BYTES_MAX || self.batches.values().any(late)
    }

    /// Returns whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the batches of a stream after `after`, oldest first.
    pub(super) fn next(&self, shelf: Shelf, after: u64) -> impl Iterator<Item = Batch> {
        let range = self.batches.range((shelf, after.saturating_add(1))..=(shelf, u64::MAX));
        range.map(move |((_, seq), (batch, _))| batch.to_batch(shelf, *seq))
    }

    /// Returns the lowest sequence number of a stream, with those of the transaction under way.
    pub(super) fn lowest(&self, shelf: Shelf) -> Option<u64> {
        let held = self.batches.range((shelf, 0)..=(shelf, u64::MAX)).next();
        let fresh = || self.fresh.iter().find(|(of, ..)| *of == shelf).map(|(_, seq, _)| *seq);
        held.map(|((_, seq), _)| *seq).or_else(fresh)
    }

    /// Adds what is held to the state of what is on disk.
    pub(super) fn add_to(&self, status: &mut Status) {
        for ((shelf, seq), (batch, _)) in &self.batches {
            let shown = &mut status.streams[shelf.stream() as usize];
            shown.lo = shown.lo.min(*seq);
            shown.oldest = shown.oldest.or(Some(batch.sealed_at));
            shown.batches += 1;
            shown.readings += batch.readings;
        }
    }

    /// Forgets everything, because its epoch has ended. Returns the readings of each stream.
    pub(super) fn lose(&mut self) -> [u64; Stream::ALL.len()] {
        let mut lost = [0; Stream::ALL.len()];
        for ((shelf, _), (batch, _)) in std::mem::take(&mut self.batches) {
            lost[shelf.stream() as usize] += batch.readings;
        }
        self.begin();
        self.bytes = 0;
        lost
    }
}
