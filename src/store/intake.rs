//! Where readings, acknowledgements and requests wait for the store's thread. Appending never
//! waits for the disk and does not wake the thread: it wakes by itself when a commit is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::limits;
use crate::ranges::Ranges;
use crate::reading::{Group, Stream, Value};
use crate::state::{Change, Kept, Onto};
use crate::store::disk::Work;
use crate::store::salvage::Haul;
use crate::store::settings::Settings;
use crate::store::traffic::Used;
use crate::store::trouble::StoreError;
use crate::store::{Batch, Shelf};

/// Bytes of text that weigh as much as a reading without any.
const TEXT_BYTES_A_READING: usize = 32;

/// See the file's head. Held by every [`crate::store::Store`] and by the thread.
#[derive(Default)]
pub(super) struct Intake {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: Work,
    /// Weight of the groups that wait, and of those the thread has taken and not committed yet.
    weight: usize,
    weight_taken: usize,
    readings: usize,
    readings_taken: usize,
    requests: VecDeque<Request>,
    /// Whether a group has come since the start.
    begun: bool,
    /// When the first commit is due.
    linger: Option<Instant>,
    stop: Option<Stop>,
    ended: bool,
    /// By uplink, of which there are few.
    stretch: BTreeMap<u8, u32>,
    /// Rules that are to say all they know.
    wanted: BTreeSet<Arc<str>>,
}

/// Something that the thread answers.
pub(super) enum Request {
    Next {
        from: (u8, Shelf),
        after: u64,
        count: usize,
        reply: oneshot::Sender<NextReply>,
    },
    Flush {
        seal: bool,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// All that is kept of rules, and nothing that was not committed.
    Kept {
        reply: oneshot::Sender<KeptReply>,
    },
    /// Asks for nothing but an answer.
    Alive {
        reply: oneshot::Sender<()>,
    },
    /// Other settings, and other uplinks.
    Change {
        settings: Box<Settings>,
        uplinks: Vec<Arc<str>>,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// To be written with the next commit; one at a time.
    Salvaged(Box<Haul>),
}

pub(super) type NextReply = Result<Vec<Batch>, StoreError>;
pub(super) type KeptReply = Result<BTreeMap<Arc<str>, Kept>, StoreError>;

/// How the thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Commit what there is and close.
    Flush,
    /// Stop where it stands, as `kill -9` would.
    #[cfg(test)]
    Abandon,
}

/// Why the thread woke.
pub(super) struct Call {
    pub(super) requests: VecDeque<Request>,
    pub(super) stop: Option<Stop>,
    /// The first readings after the start have waited long enough.
    pub(super) first: bool,
    /// Half of the bound is in use.
    pub(super) pressed: bool,
}

/// Returns how much memory a group takes, in readings without text.
fn weigh(group: &Group) -> usize {
    let texts = group.samples.iter().map(|sample| match &sample.value {
        Ok(Value::Text(text)) => text.len() / TEXT_BYTES_A_READING,
        _ => 0,
    });
    group.samples.len() + texts.sum::<usize>()
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a group. Beyond the bound the oldest that wait are dropped and counted: data before
    /// our own metrics, events last.
    pub(super) fn append(&self, group: Group) {
        self.append_with([group], []);
    }

    /// Takes groups, and what changed of the rules that they came from, as one: they are on disk
    /// together or not at all. Returns the rules that are to say all they know.
    pub(super) fn append_with(
        &self,
        groups: impl IntoIterator<Item = Group>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Vec<Arc<str>> {
        let mut inner = self.lock();
        let before = inner.weight;
        let mut come = false;
        for group in groups {
            come |= inner.push(group);
        }
        let wanted = changes.into_iter().filter_map(|change| inner.merge(change)).collect();
        if come {
            self.wake_for(&mut inner, before);
        }
        wanted
    }

    fn wake_for(&self, inner: &mut Inner, before: usize) {
        let half = limits::READINGS_UNCOMMITTED_MAX / 2;
        if !inner.begun {
            inner.begun = true;
            inner.linger = Some(Instant::now() + limits::FIRST_SEAL_LINGER);
            self.wake.notify_one();
        } else if before < half && inner.weight >= half {
            self.wake.notify_one();
        }
    }

    /// Asks rules for all they know, with their next change.
    pub(super) fn want(&self, rules: BTreeSet<Arc<str>>) {
        self.lock().wanted.extend(rules);
    }

    /// Returns whether changes of rules wait.
    pub(super) fn has_changes(&self) -> bool {
        !self.lock().waiting.rules.is_empty()
    }

    /// Takes an acknowledgement of batches `first` to `last` of the store of an epoch.
    pub(super) fn acknowledge(&self, from: (u8, Shelf), epoch: u64, (first, last): (u64, u64)) {
        let mut inner = self.lock();
        let acks = inner.waiting.acknowledged.entry(from).or_default();
        if acks.seqs.spans() < limits::ACKNOWLEDGED_UNCOMMITTED_MAX || epoch > acks.epoch {
            let mut seqs = Ranges::default();
            seqs.insert(first, last);
            acks.extend(epoch, &seqs);
        }
    }

    /// Takes what an uplink has used of its data plan, for the next commit.
    pub(super) fn used(&self, uplink: u8, used: Used) {
        self.lock().waiting.used.insert(uplink, used);
    }

    /// Makes batches gather so many times as long as usual, for the sake of one uplink.
    pub(super) fn stretch(&self, uplink: u8, times: u32) {
        self.lock().stretch.insert(uplink, times);
    }

    /// Forgets what uplinks have asked for that do not stay at their places.
    pub(super) fn forget(&self, stays: &dyn Fn(u8) -> bool) {
        self.lock().stretch.retain(|place, _| stays(*place));
    }

    /// Returns how many times as long as usual batches gather: as the neediest uplink says.
    pub(super) fn stretched(&self) -> u32 {
        self.lock().stretch.values().copied().max().unwrap_or(1).max(1)
    }

    /// Takes a request and wakes the thread.
    pub(super) fn request(&self, request: Request) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.ended || inner.stop.is_some() {
            return Err(StoreError::Ended);
        }
        if inner.requests.len() >= limits::STORE_REQUESTS_MAX {
            return Err(StoreError::Busy);
        }
        inner.requests.push_back(request);
        self.wake.notify_one();
        Ok(())
    }

    /// As [`Intake::request`], for what must not be lost: gives back what there is no room for, and
    /// nothing once the store has ended.
    pub(super) fn offer(&self, request: Request) -> Result<(), Option<Request>> {
        let mut inner = self.lock();
        if inner.ended || inner.stop.is_some() {
            return Err(None);
        }
        if inner.requests.len() >= limits::STORE_REQUESTS_MAX {
            return Err(Some(request));
        }
        inner.requests.push_back(request);
        self.wake.notify_one();
        Ok(())
    }

    /// Does as if the first readings had come, so that a test is not woken by them.
    #[cfg(test)]
    pub(super) fn begin(&self) {
        self.lock().begun = true;
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self, how: Stop) {
        self.lock().stop = Some(how);
        self.wake.notify_one();
    }

    /// Refuses everything from now on: the thread has ended, however.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.requests.clear();
    }

    /// Waits until `due`, or until there is something to do before. While the disk refuses
    /// (`patient`), a full intake is no reason to wake.
    pub(super) fn wait(&self, due: Instant, patient: bool) -> Call {
        let mut inner = self.lock();
        loop {
            let now = Instant::now();
            let first = inner.linger.is_some_and(|at| now >= at);
            let pressed = !patient && inner.weight >= limits::READINGS_UNCOMMITTED_MAX / 2;
            let called = !inner.requests.is_empty() || inner.stop.is_some();
            if called || first || pressed || now >= due {
                if first {
                    inner.linger = None;
                }
                let requests = std::mem::take(&mut inner.requests);
                return Call { requests, stop: inner.stop, first, pressed };
            }
            let until = inner.linger.map_or(due, |at| at.min(due));
            let left = until.duration_since(now);
            (inner, _) =
                self.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Moves what waits into `work`, whose groups must have been committed before.
    pub(super) fn take(&self, work: &mut Work) {
        let mut inner = self.lock();
        std::mem::swap(&mut work.groups, &mut inner.waiting.groups);
        work.rules = std::mem::take(&mut inner.waiting.rules);
        work.dropped = std::mem::take(&mut inner.waiting.dropped);
        inner.weight_taken = std::mem::take(&mut inner.weight);
        inner.readings_taken = std::mem::take(&mut inner.readings);
    }

    /// Moves the acknowledgements that wait into `work`, and what data plans have used.
    pub(super) fn take_acknowledged(&self, work: &mut Work) {
        let mut inner = self.lock();
        work.used.append(&mut inner.waiting.used);
        for (from, acks) in std::mem::take(&mut inner.waiting.acknowledged) {
            let known = work.acknowledged.entry(from).or_default();
            known.extend(acks.epoch, &acks.seqs);
            // What is forgotten is sent once more.
            known.seqs.truncate(limits::ACKNOWLEDGED_UNCOMMITTED_MAX);
        }
    }

    /// Notes that what was taken is on disk.
    pub(super) fn committed(&self) {
        let mut inner = self.lock();
        inner.weight_taken = 0;
        inner.readings_taken = 0;
    }

    /// Returns how many readings are not on disk yet.
    pub(super) fn readings(&self) -> u64 {
        let inner = self.lock();
        (inner.readings + inner.readings_taken) as u64
    }

    /// Returns whether readings were dropped that the disk does not know of yet.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().waiting.dropped.iter().sum()
    }
}

impl Inner {
    fn push(&mut self, group: Group) -> bool {
        if group.samples.is_empty() || group.samples.len() != group.points.len() {
            debug_assert!(group.samples.len() == group.points.len(), "a sample for every point");
            return false;
        }
        self.weight += weigh(&group);
        self.readings += group.samples.len();
        self.waiting.groups.push_back(group);
        while self.weight + self.weight_taken > limits::READINGS_UNCOMMITTED_MAX {
            self.drop_oldest();
        }
        true
    }

    /// Adds a change to those of its rule. Returns the rule when it is to say all it knows.
    fn merge(&mut self, change: Change) -> Option<Arc<str>> {
        let rule = Arc::clone(&change.rule);
        if change.onto != Onto::Kept {
            self.wanted.remove(&rule);
        }
        let crowded = self.waiting.rules.entry(Arc::clone(&rule)).or_default().merge(change);
        if crowded {
            self.wanted.insert(Arc::clone(&rule));
        }
        self.wanted.contains(&rule).then_some(rule)
    }

    fn drop_oldest(&mut self) {
        let groups = &mut self.waiting.groups;
        let order = [Stream::Data, Stream::Own, Stream::Event];
        let oldest = order.iter().find_map(|s| groups.iter().position(|g| g.stream == *s));
        let Some(group) = oldest.and_then(|index| groups.remove(index)) else { return };
        self.weight -= weigh(&group);
        self.readings -= group.samples.len();
        self.waiting.dropped[group.stream as usize] += group.samples.len() as u64;
    }
}
