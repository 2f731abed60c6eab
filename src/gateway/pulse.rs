//! Proof that the gateway makes progress, for whoever restarts it when it does not.
//!
//! What proves it, part by part, without work made up for the proof:
//!
//! - **The reactor**: [`Pulse::proven`] is a task on it like every other. The pipeline never waits
//!   for anything but its inbox, so it stands still only when the reactor does, or has ended.
//! - **The store**: its thread answers a question that reads no page and begins no commit. It
//!   answers between commits, so a thread that hangs in one does not. A disk that refuses is weather:
//!   the thread answers, and tries it again.
//! - **Uplinks, and sources that poll**: their tasks set timers of their own (a look at the backlog
//!   every ten seconds, the next poll, the end of a wait for an answer, the pause before the next
//!   dial), so they wake by themselves whatever the wire does. Each wake is counted; one that has not
//!   woken within its pace and [`OVERDUE_AFTER`] waits for something that never
//!   comes. Waking costs one addition.
//! - **Sources that only listen** (serial lines, CoAP uploads and observations): nothing comes from a
//!   silent line, so silence proves nothing. Their task must not have ended; it is begun anew after
//!   a panic.
//!
//! What it does not see: a task that wakes and does nothing of use. Missing readings show that.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::events::{Events, counted, gateway as say};
use crate::store::{Health, Store};

/// Waiting for the store's thread to answer before that is told: an SD card that tidies itself up
/// takes seconds, and a commit after it is no reason to restart.
const STORE_OVERDUE_AFTER: Duration = Duration::from_secs(30);
/// Sleep of an uplink or a polling source beyond its own pace that shows that it hangs. The longest
/// single wait they have is for an answer, [`crate::limits::TIMEOUT_MAX`].
const OVERDUE_AFTER: Duration = Duration::from_secs(120);
const _: () = assert!(OVERDUE_AFTER.as_secs() >= 2 * crate::limits::TIMEOUT_MAX.as_secs());
/// Between two looks at a part that makes no progress.
const LOOK_TIME: Duration = Duration::from_millis(500);

/// Every part's sign of life, and what the gateway is about.
pub struct Pulse {
    store: Store,
    store_told: bool,
    events: Events,
    roster: Roster,
}

/// Every task that is watched; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Roster {
    tasks: Arc<Mutex<Vec<Watched>>>,
    events: Events,
}

/// A task's sign of life, counted where the task is polled.
#[derive(Debug, Default)]
pub(super) struct Beat {
    wakes: AtomicU64,
    ended: AtomicBool,
}

/// A task as the watcher sees it.
#[derive(Debug)]
struct Watched {
    name: String,
    beat: Arc<Beat>,
    /// The longest it sleeps by itself; `None` for one that only listens.
    pace: Option<Duration>,
    /// How often it had woken, and when that was last seen to change.
    seen: (u64, Instant),
    told: bool,
}

impl Beat {
    /// Runs a task and counts its wakes.
    pub(super) async fn around(self: Arc<Self>, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        poll_fn(|context| {
            self.wakes.fetch_add(1, Relaxed);
            task.as_mut().poll(context)
        })
        .await;
        self.ended.store(true, Relaxed);
    }
}

impl Roster {
    pub(super) fn new(events: Events) -> Self {
        Self { tasks: Arc::default(), events }
    }

    /// Watches a task that runs in [`Beat::around`].
    pub(super) fn add(&self, name: &str, beat: Arc<Beat>, pace: Option<Duration>) {
        let seen = (0, Instant::now());
        self.lock().push(Watched { name: name.to_owned(), beat, pace, seen, told: false });
    }

    /// Watches a task no more: it is about to be stopped.
    pub(super) fn remove(&self, name: &str) {
        let mut tasks = self.lock();
        let Some(at) = tasks.iter().position(|task| task.name == name) else { return };
        let mut task = tasks.swap_remove(at);
        tell(&self.events, name, &mut task.told, false);
    }

    /// Returns what the tasks are called.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().iter().map(|task| task.name.clone()).collect()
    }

    /// Looks at every task, and tells of those that hang.
    fn is_one_stuck(&self) -> bool {
        let now = Instant::now();
        let mut any = false;
        for task in self.lock().iter_mut() {
            let stuck = task.is_stuck(now);
            tell(&self.events, &task.name, &mut task.told, stuck);
            any |= stuck;
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Returns whether it has ended, or slept for longer than it would.
    fn is_stuck(&mut self, now: Instant) -> bool {
        let wakes = self.beat.wakes.load(Relaxed);
        if wakes != self.seen.0 {
            self.seen = (wakes, now);
        }
        let asleep = now.duration_since(self.seen.1);
        let overdue = |pace| asleep > pace + OVERDUE_AFTER;
        self.beat.ended.load(Relaxed) || self.pace.is_some_and(overdue)
    }
}

impl Pulse {
    pub(super) fn new(store: Store, events: Events, roster: Roster) -> Self {
        Self { store, store_told: false, events, roster }
    }

    /// Returns once every part has shown that it makes progress. While one does not, this waits, and
    /// says which part it waits for.
    pub async fn proven(&mut self) {
        let store = self.store.clone();
        let mut answer = pin!(async {
            // No answer: it has ended, or too many requests wait.
            while !store.answers().await {
                sleep(LOOK_TIME).await;
            }
        });
        while timeout(STORE_OVERDUE_AFTER, &mut answer).await.is_err() {
            tell(&self.events, "the store", &mut self.store_told, true);
        }
        tell(&self.events, "the store", &mut self.store_told, false);
        while self.roster.is_one_stuck() {
            sleep(LOOK_TIME).await;
        }
    }

    /// Says in one line how the gateway does.
    #[must_use]
    pub fn status(&self) -> String {
        let store = self.store.status();
        let batches: u64 = store.streams.iter().chain(&store.salvaged).map(|s| s.batches).sum();
        let disk = match store.health {
            Health::Good => "",
            Health::Refused(_) => ", the disk refuses",
            Health::Ended => ", the store has ended",
        };
        let wrong = match self.events.standing().len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            many => format!("{many} things are wrong"),
        };
        let standing = self.events.standing();
        let is_safe = standing.iter().any(|condition| condition.notice.code == &say::SAFE_MODE);
        let mode = if is_safe { "safe mode: rules are off; " } else { "" };
        format!("{mode}{} waiting{disk}; {wrong}", counted(batches, "batch"))
    }
}

fn tell(events: &Events, part: &str, told: &mut bool, stuck: bool) {
    if stuck && !*told {
        events.raise(say::part_stuck(part));
    } else if !stuck && *told {
        events.clear(&say::PART_STUCK, part, "goes on");
    }
    *told = stuck;
}

#[cfg(test)]
mod tests;
