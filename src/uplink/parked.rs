//! Batches that the broker does not take as they are: they stay on disk and out of the way of the
//! rest, and are tried again, alone, after a long pause. Also how long to hold everything when the
//! broker says that it is busy.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::store::Shelf;

/// Why a batch was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The broker refused it several times, with a reason of its own.
    Refused,
    /// It has more bytes than the broker takes.
    TooLarge(usize),
    /// So many connections in a row ended with it.
    HungUp(u32),
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Bounded by [`limits::BATCHES_PARKED_MAX`].
    batches: Vec<Batch>,
    /// The one that is being tried again.
    trial: Option<(Shelf, u64)>,
    /// Refusals of the batch refused last.
    refusals: Option<(Shelf, u64, u32)>,
    /// Batches parked for hanging up since one was acknowledged.
    in_a_row: u32,
    /// The broker is busy until then.
    hold: Option<Instant>,
    pause: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    stream: Shelf,
    seq: u64,
    again_at: Instant,
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn of(&self, stream: Shelf) -> impl Iterator<Item = u64> + '_ {
        self.batches.iter().filter(move |batch| batch.stream == stream).map(|batch| batch.seq)
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Counts a batch that was parked because the broker hung up on it.
    pub(super) fn hung_up(&mut self) {
        self.in_a_row += 1;
    }

    /// The broker has taken something.
    pub(super) fn progress(&mut self) {
        self.in_a_row = 0;
        self.pause = None;
    }

    /// Parks a batch, again or for the first time. `false` when too many are parked.
    pub(super) fn park(&mut self, stream: Shelf, seq: u64, now: Instant) -> bool {
        let again_at = now + limits::BATCH_PARKED_TIME;
        if self.is_trial(stream, seq) {
            self.trial = None;
        }
        let known = self.batches.iter_mut().find(|b| (b.stream, b.seq) == (stream, seq));
        if let Some(batch) = known {
            batch.again_at = again_at;
            return true;
        }
        let fits = self.batches.len() < limits::BATCHES_PARKED_MAX;
        if fits {
            self.batches.push(Batch { stream, seq, again_at });
        }
        fits
    }

    /// Frees what is parked of `first` to `last`; returns whether there was something.
    pub(super) fn free(&mut self, stream: Shelf, first: u64, last: u64) -> bool {
        let before = self.batches.len();
        self.batches.retain(|b| b.stream != stream || !(first..=last).contains(&b.seq));
        if self.trial.is_some_and(|(s, seq)| s == stream && (first..=last).contains(&seq)) {
            self.trial = None;
        }
        self.batches.len() < before
    }

    /// Returns the batch that is to be tried again now.
    pub(super) fn trial(&self, now: Instant) -> Option<(Shelf, u64)> {
        if self.trial.is_some() {
            return None;
        }
        let due = self.batches.iter().find(|batch| batch.again_at <= now)?;
        Some((due.stream, due.seq))
    }

    /// Begins to try the batch that [`Parked::trial`] names.
    pub(super) fn begin_trial(&mut self, now: Instant) {
        self.trial = self.trial(now);
    }

    /// A new connection knows of no trial; the batch is as due as before.
    pub(super) fn forget_trial(&mut self) {
        self.trial = None;
        self.hold = None;
    }

    pub(super) fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    pub(super) fn is_trial(&self, stream: Shelf, seq: u64) -> bool {
        self.trial == Some((stream, seq))
    }

    /// Counts a refusal; returns whether it was one too many.
    pub(super) fn refused(&mut self, stream: Shelf, seq: u64) -> bool {
        let times = match self.refusals {
            Some((s, before, times)) if (s, before) == (stream, seq) => times + 1,
            _ => 1,
        };
        self.refusals = Some((stream, seq, times));
        times >= limits::BATCH_REFUSED_MAX || self.is_trial(stream, seq)
    }

    /// Holds everything for a pause that doubles until something is acknowledged.
    pub(super) fn busy(&mut self, now: Instant) {
        if self.is_holding(now) {
            return;
        }
        let pause = self.pause.map_or(limits::BROKER_BUSY_TIME_MIN, |pause| pause * 2);
        let pause = pause.min(limits::BROKER_BUSY_TIME_MAX);
        self.pause = Some(pause);
        self.hold = Some(now + pause);
        self.trial = None;
    }

    pub(super) fn is_holding(&self, now: Instant) -> bool {
        self.hold.is_some_and(|until| now < until)
    }

    /// Returns when the next pause here ends.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let ends = self.batches.iter().map(|batch| batch.again_at).chain(self.hold);
        ends.filter(|end| *end > now).min()
    }
}
