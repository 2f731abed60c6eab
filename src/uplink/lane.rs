//! One stream's place in the store, as the window sees it: what is on its way or through, what is to
//! be sent next, and with `ack = "receiver"` what the broker has and its receiver has not named yet.
//!
//! All of it is sets of sequence numbers: what is in `out` is not to be sent now, the lowest number
//! outside is the next of the backlog. A refused batch, or one that its receiver misses, is taken
//! out of the set and so comes again by itself. Nothing here grows with the length of a backlog.

use tokio::time::Instant;

use super::outbox::Waiting;
use crate::limits;
use crate::ranges::Ranges;

/// Slots that live batches and backlog share; the first are the live ones'.
const SLOTS: u64 = 4;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// On its way, through, parked, or not held: not to be sent now.
    pub(super) out: Ranges,
    /// Newest sequence number heard of.
    pub(super) told: u64,
    /// The store could not answer; asked again when there is news.
    pub(super) stalled: bool,
    /// While a long backlog drains: what was sealed since the connection began goes beside it.
    live: Option<Live>,
    /// Highest sequence number that may ever have been sent; what an acknowledgement names beyond
    /// is not believed.
    sent_max: u64,
    delivered: Delivered,
    /// What the receiver has, by its own word.
    had: Ranges,
    /// Its `upto`, and when it last grew.
    upto: Option<(u64, Instant)>,
}

/// The lane of what is new.
#[derive(Debug, Clone, Copy)]
struct Live {
    /// Lowest sequence number of it: the newest when the connection began.
    from: u64,
    /// Which of [`SLOTS`] is next.
    slot: u64,
}

/// What to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) count: usize,
    pub(super) live: bool,
}

/// What the broker has acknowledged and the receiver has not, in three ages: what is in the last has
/// been there for one to two [`limits::RECEIPT_OVERDUE_AFTER`]. Kept over connections.
#[derive(Debug, Default)]
struct Delivered {
    ages: [Ranges; 3],
}

impl Delivered {
    fn insert(&mut self, seq: u64) {
        for age in &mut self.ages {
            age.remove(seq, seq);
        }
        self.ages[0].insert(seq, seq);
    }

    fn forget(&mut self, first: u64, last: u64) {
        for age in &mut self.ages {
            age.remove(first, last);
        }
    }

    fn age(&mut self) {
        let [young, middle, old] = &mut self.ages;
        old.extend(middle);
        *middle = std::mem::take(young);
        for age in &mut self.ages {
            // What is forgotten here is sent once more after the next connect, under the same key.
            age.truncate(limits::UPLINK_SPANS_MAX);
        }
    }
}

impl Lane {
    /// Begins a connection: everything held is to be sent but what the broker had acknowledged and
    /// the receiver may still name.
    pub(super) fn begin(
        &mut self,
        waiting: Waiting,
        window: usize,
        parked: impl Iterator<Item = u64>,
    ) {
        let first_time = self.told == 0;
        self.told = waiting.newest;
        if first_time {
            // An earlier process may have sent any of them.
            self.sent_max = waiting.newest;
        }
        self.stalled = false;
        self.out = Ranges::default();
        self.out.insert(0, waiting.lo.saturating_sub(1));
        for age in &self.delivered.ages {
            self.out.extend(age);
        }
        for seq in parked {
            self.out.insert(seq, seq);
        }
        let to_send = (self.told + 1) - self.out.count(0, self.told);
        let live = Live { from: self.told, slot: 0 };
        self.live = (to_send > window as u64).then_some(live);
    }

    /// Takes the newest sequence number.
    pub(super) fn hear(&mut self, newest: u64) {
        self.stalled = false;
        self.told = self.told.max(newest);
    }

    /// Returns what to read next: of every four, one is live while a backlog drains, and three are
    /// when more than [`limits::LIVE_BEHIND_MAX`] wait; without live ones the backlog has all.
    pub(super) fn next(&mut self, paced: bool) -> Option<Next> {
        if self.stalled {
            return None;
        }
        let Some((first, last)) = self.out.gap(0, self.told) else {
            self.live = None;
            return None;
        };
        let backlog = |last, count| Some(Next { first, last, count, live: false });
        let Some(live) = self.live.filter(|live| first < live.from) else {
            // The lanes have met, or there was one from the beginning.
            self.live = None;
            return backlog(last, limits::BATCHES_READ_MAX);
        };
        let last = last.min(live.from - 1);
        let Some((from, to)) = self.out.gap(live.from, self.told) else {
            return if paced { None } else { backlog(last, limits::BATCHES_READ_MAX) };
        };
        let live_slots = if to - from < limits::LIVE_BEHIND_MAX { 1 } else { SLOTS - 1 };
        let left = |end: u64| usize::try_from(end.saturating_sub(live.slot)).unwrap_or(1).max(1);
        if paced || live.slot < live_slots {
            return Some(Next { first: from, last: to, count: left(live_slots), live: true });
        }
        backlog(last, left(SLOTS))
    }

    /// Notes that so many batches were asked for.
    pub(super) fn asked(&mut self, next: &Next) {
        let waiting = self.live.and_then(|live| self.out.gap(live.from, self.told)).is_some();
        if let Some(live) = &mut self.live {
            // What comes new finds its slot free.
            live.slot = if waiting { (live.slot + next.count as u64) % SLOTS } else { 0 };
        }
    }

    /// Returns whether a backlog drains beside what is new.
    pub(super) fn is_split(&self) -> bool {
        self.live.is_some()
    }

    /// Returns whether it is part of a backlog that drains beside what is new.
    pub(super) fn is_backlog(&self, seq: u64) -> bool {
        self.live.is_some_and(|live| seq < live.from)
    }

    /// Notes what was found in `first` to `last`: what was not found is not held.
    pub(super) fn found(&mut self, first: u64, last: u64) {
        self.out.insert(first, last);
        self.sent_max = self.sent_max.max(last.min(self.told));
    }

    /// Takes a batch out of what is on its way: it is to be sent again.
    pub(super) fn again(&mut self, first: u64, last: u64) {
        if self.out.spans() < limits::UPLINK_SPANS_MAX {
            self.out.remove(first, last);
        }
    }

    /// Notes that the broker has a batch whose receiver has to name it.
    pub(super) fn deliver(&mut self, seq: u64) {
        if !self.had.contains(seq) {
            self.delivered.insert(seq);
        }
    }

    /// Returns whether the broker has this one and its receiver has not named it.
    pub(super) fn is_delivered(&self, seq: u64) -> bool {
        self.delivered.ages.iter().any(|age| age.contains(seq))
    }

    /// Notes that the receiver has named one that the broker had; `false` when the broker had not.
    pub(super) fn named(&mut self, seq: u64) -> bool {
        let delivered = self.is_delivered(seq);
        self.delivered.forget(seq, seq);
        delivered
    }

    /// Lets what has waited for its receiver's word for long be sent again, and returns it.
    pub(super) fn repeat_overdue(&mut self) -> Ranges {
        let overdue = std::mem::take(&mut self.delivered.ages[2]);
        for (first, last) in overdue.iter() {
            self.again(first, last);
        }
        overdue
    }

    /// Returns whether the broker has batches for long that the receiver has not named.
    pub(super) fn is_overdue(&self) -> bool {
        !self.delivered.ages[2].is_empty()
    }

    /// Lets time pass, one [`limits::RECEIPT_OVERDUE_AFTER`].
    pub(super) fn age(&mut self) {
        self.delivered.age();
    }

    /// Returns whether a receiver can have this.
    pub(super) fn can_be(&self, upto: u64) -> bool {
        upto <= self.sent_max
    }

    /// Takes the receiver's word: it has everything up to `upto` but `holes`. Returns what it has
    /// that it did not name before. What it misses or passes over for long is sent again.
    pub(super) fn receipt(&mut self, now: Instant, upto: u64, holes: &Ranges) -> Ranges {
        let mut has = Ranges::default();
        has.insert(0, upto);
        for (first, last) in holes.iter() {
            has.remove(first, last);
        }
        let mut news = has.clone();
        for (first, last) in self.had.iter() {
            news.remove(first, last);
        }
        for (first, last) in news.iter() {
            self.delivered.forget(first, last);
            self.out.insert(first, last);
        }
        self.had.extend(&has);
        self.had.truncate(limits::UPLINK_SPANS_MAX);
        let grew = self.upto.is_none_or(|(before, _)| upto > before);
        if grew {
            self.upto = Some((upto, now));
        }
        let mut missed = holes.intersection(&self.delivered.ages[2]);
        let overdue = |at: Instant| now.duration_since(at) >= limits::RECEIPT_OVERDUE_AFTER;
        if self.upto.is_some_and(|(_, at)| overdue(at)) {
            // It speaks, and has got no further for long: what stands behind is lost as well.
            missed.extend(&self.delivered.ages[2]);
        }
        for (first, last) in missed.iter() {
            self.delivered.forget(first, last);
            self.again(first, last);
        }
        news
    }
}
