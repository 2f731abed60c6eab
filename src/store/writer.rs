//! The store's thread: the only one that writes. It sleeps until a commit is due, commits everything
//! that waits in one transaction, and keeps what the disk refuses until the disk takes it.
//!
//! After an error nothing in memory is trusted but the readings themselves. The connection is
//! thrown away and the file read anew. After a failed write or sync the log is first emptied into
//! the database, because the kernel may have forgotten pages that it could not write: only pages
//! written again are pages on disk. A transaction whose commit failed may still be there; its
//! ordinal tells, so nothing is written twice.

mod change;
mod opening;

use std::sync::Arc;
use std::time::{Duration, Instant};

use change::is_alone;
use opening::Unsynced;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::events::{Events, buffer, chain};
use crate::limits;
use crate::reading::Points;
use crate::store::dates;
use crate::store::disk::{Around, Disk, Outcome, Work};
use crate::store::file::{self, Lock};
use crate::store::held::Held;
use crate::store::intake::{Call, KeptReply, Request, Stop};
use crate::store::jumps::Jumps;
use crate::store::salvage::{Job, Salvage};
use crate::store::settings::{Settings, Write};
use crate::store::status::{Health, Status};
use crate::store::trouble::{OpenError, StoreError, Trouble};
use crate::store::wear::Wear;
use crate::store::{Batch, Shared, Shelf};

/// After this long without a drop, dropping is over.
const DROPPING_OVER_AFTER: Duration = Duration::from_secs(600);

/// See the file's head.
pub(super) struct Writer {
    shared: Arc<Shared>,
    settings: Settings,
    /// Names of the uplinks that take batches.
    uplinks: Vec<Arc<str>>,
    points: Arc<Points>,
    clock: Arc<dyn Clock>,
    events: Events,
    lock: Lock,
    /// `None` while the disk refuses.
    disk: Option<Disk>,
    /// What was taken from the intake and is not known to be on disk.
    work: Work,
    held: Held,
    /// A commit that failed, and may be there.
    undecided: Option<Undecided>,
    /// Whether the log must be emptied into the database before anything in it is believed.
    unsynced: Unsynced,
    refused: Option<Refused>,
    next_commit: Instant,
    /// When everything that had come was sealed last; only looked at while batches are held.
    sealed_at: Instant,
    dropped_at: Option<Instant>,
    jumps: Jumps,
    salvage: Option<Salvage>,
    /// A store was moved aside since the salvage was started.
    salvage_due: bool,
    /// The store that is about to be moved aside lacks commits.
    log_lost: bool,
    wear: Wear,
}

/// A commit that failed.
#[derive(Clone, Copy)]
struct Undecided {
    /// The store's epoch and ordinal before it: a higher ordinal in the file means that it is there.
    epoch: u64,
    before: u64,
    /// Whether it was to bring back what was salvaged.
    salvaged: bool,
}

/// The disk refuses since a while.
#[derive(Clone, Copy)]
struct Refused {
    trouble: Trouble,
    delay: Duration,
}

impl Writer {
    /// Opens the store, on the caller's thread, so that its errors are known before anything runs.
    pub(super) fn open(
        shared: Arc<Shared>,
        settings: Settings,
        uplinks: Vec<Arc<str>>,
        points: Arc<Points>,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Result<Self, OpenError> {
        let lock = Lock::of(&settings.path);
        let commit = settings.commit.max(limits::COMMIT_MIN);
        let settings = Settings { commit, ..settings };
        let mut writer = Self {
            shared,
            settings,
            uplinks,
            points,
            clock,
            events,
            lock,
            disk: None,
            work: Work::default(),
            held: Held::default(),
            undecided: None,
            unsynced: Unsynced::Perhaps,
            refused: None,
            next_commit: Instant::now(),
            sealed_at: Instant::now(),
            dropped_at: None,
            jumps: Jumps::default(),
            salvage: None,
            salvage_due: true,
            log_lost: false,
            wear: Wear::new(),
        };
        match writer.open_disk() {
            Ok(disk) => {
                writer.disk = Some(disk);
                writer.publish(Outcome::default());
            }
            // What passes by itself is waited for, as it would be if the store had been open:
            // readings are taken meanwhile. What only a person can change ends the start.
            Err(OpenError::Unusable { trouble, .. }) if trouble.may_pass() => {
                let epoch = writer.lock.epoch();
                writer.shared.show(Status { epoch, ..Status::default() }, 0);
                writer.refuse(trouble);
            }
            Err(error) => return Err(error),
        }
        Ok(writer)
    }

    /// Starts a salvage where one is due and none is under way.
    fn salvage(&mut self) {
        let busy = self.salvage.as_ref().is_some_and(|salvage| !salvage.is_over());
        let Some(disk) = self.disk.as_ref().filter(|_| self.salvage_due && !busy) else { return };
        self.salvage_due = false;
        let job = Job {
            path: self.settings.path.clone(),
            gateway: Arc::clone(&self.settings.gateway),
            hint: self.lock.epoch_before(),
            points: Arc::clone(&self.points),
            events: self.events.clone(),
            known: disk.salvages().unwrap_or_default(),
        };
        self.salvage = Salvage::start(job, &self.shared);
    }

    /// Runs until asked to stop. What an earlier process committed and did not seal is sealed first.
    pub(super) fn run(mut self) {
        let leftover = self.disk.as_ref().is_some_and(Disk::has_open);
        if leftover {
            let _ = self.step(true);
        }
        loop {
            self.salvage();
            let call = self.shared.intake.wait(self.next_commit, self.refused.is_some());
            #[cfg(test)]
            self.shared.faults.hang();
            match self.answer(call) {
                None => {}
                Some(Stop::Flush) => break,
                #[cfg(test)]
                Some(Stop::Abandon) => return,
            }
        }
        self.salvage = None;
        self.held.on = false;
        let _ = self.step(false);
        let used = std::mem::take(&mut self.work.used);
        let finish = |disk: Disk| disk.finish(&self.points, (&self.wear, self.clock.now()), &used);
        if let Some(Err(error)) = self.disk.take().map(finish) {
            self.events.raise(buffer::refused(&self.settings.path, Trouble::of(&error).words()));
        }
    }

    fn answer(&mut self, call: Call) -> Option<Stop> {
        self.shared.intake.take_acknowledged(&mut self.work);
        if self.held.free(self.lock.epoch(), &mut self.work.acknowledged) {
            self.publish(Outcome::default());
        }
        self.held.on &= !self.held.is_due(Instant::now());
        let mut flushes: Vec<oneshot::Sender<_>> = Vec::new();
        let mut seal = call.first;
        let mut came_back = false;
        for request in call.requests {
            match request {
                Request::Next { from, after, count, reply } => {
                    let _ = reply.send(self.next(from, after, count));
                }
                Request::Salvaged(haul) => {
                    self.work.salvaged = Some(haul);
                    came_back = true;
                }
                Request::Kept { reply } => {
                    let _ = reply.send(self.kept());
                }
                Request::Change { settings, uplinks, reply } => {
                    let _ = reply.send(self.change(*settings, uplinks));
                }
                Request::Alive { reply } => {
                    let _ = reply.send(());
                }
                Request::Flush { seal: now, reply } => {
                    seal |= now;
                    flushes.push(reply);
                }
            }
        }
        if call.stop.is_some() {
            flushes.clear();
            return call.stop;
        }
        let due = Instant::now() >= self.next_commit;
        let called = seal || came_back || call.pressed || !flushes.is_empty();
        if due && !called && self.may_wait() {
            self.next_commit = Instant::now() + self.settings.commit;
        } else if due || called {
            let done = self.step(seal);
            for reply in flushes {
                let _ = reply.send(done);
            }
        }
        None
    }

    /// Returns whether what has come may go on waiting in memory: batches are held, and the next is
    /// not due.
    fn may_wait(&self) -> bool {
        let (now, age_max) = (Instant::now(), self.settings.seal.age_max);
        let stretch = self.shared.intake.stretched();
        let young = now.duration_since(self.sealed_at) + self.settings.commit < age_max;
        let due = |disk: &Disk| disk.is_seal_due(&self.settings, now, stretch);
        self.held.on && young && self.work.is_settled() && !self.disk.as_ref().is_none_or(due)
    }

    fn next(
        &mut self,
        from: (u8, Shelf),
        after: u64,
        count: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let Some(disk) = &mut self.disk else {
            let trouble = self.refused.map_or(Trouble::Odd, |refused| refused.trouble);
            return Err(StoreError::Refused(trouble));
        };
        let acknowledged = &self.work.acknowledged;
        match disk.next(from, after, count, acknowledged, &*self.clock) {
            Ok(next) => {
                if next.damaged > 0 {
                    let notice = buffer::rows_damaged(&self.settings.path, "batches", next.damaged);
                    self.events.raise(notice);
                    self.publish(Outcome::default());
                }
                if next.waits {
                    return Err(StoreError::Undated);
                }
                if !next.batches.is_empty() {
                    self.note_reached();
                }
                // What is held is newer than all that is on disk.
                let mut batches = next.batches;
                if batches.is_empty() {
                    batches.extend(self.held.next(from.1, after).take(count));
                }
                Ok(batches)
            }
            Err(error) => {
                self.next_commit = Instant::now();
                Err(StoreError::Refused(self.fail(&error)))
            }
        }
    }

    /// All that is kept of rules, with what has come until now.
    fn kept(&mut self) -> KeptReply {
        if self.disk.is_none() || !self.work.is_settled() || self.shared.intake.has_changes() {
            self.step(false)?;
        }
        let Some(disk) = &mut self.disk else { return Err(StoreError::Refused(Trouble::Odd)) };
        let found = disk.kept();
        let (kept, damaged) = found.map_err(|error| StoreError::Refused(self.fail(&error)))?;
        for rule in damaged {
            self.events.raise(chain::state_damaged(&rule, &self.settings.path));
        }
        Ok(kept)
    }

    /// One commit, with everything that belongs to it. An error means that nothing is known to be
    /// on disk; it is tried again by itself.
    fn step(&mut self, seal: bool) -> Result<(), StoreError> {
        let started = Instant::now();
        self.jumps.look(&self.clock.state(), &self.events);
        // What came since must not be taken for what an undecided commit may have written.
        let again = self.undecided.is_some() || !self.work.is_settled();
        if !again {
            self.shared.intake.take(&mut self.work);
        }
        let mut done = self.try_step(seal, started);
        if again && done.is_ok() {
            // What the disk refused before is there; now what came since.
            self.shared.intake.take(&mut self.work);
            done = self.try_step(seal, started);
        }
        self.next_commit = match (&done, &mut self.refused) {
            (Err(_), Some(refused)) => {
                let delay = refused.delay;
                refused.delay = (delay * 2).min(limits::DISK_RETRY_DELAY_MAX);
                Instant::now() + delay
            }
            _ => started + self.settings.commit,
        };
        done.map_err(StoreError::Refused)
    }

    fn try_step(&mut self, seal: bool, now: Instant) -> Result<(), Trouble> {
        if self.disk.is_none() {
            self.reopen()?;
        }
        let Some(disk) = &mut self.disk else { return Err(Trouble::Odd) };
        self.wear.begin(disk.bytes());
        // What a rule keeps is on disk when the readings it led to are, and not before.
        let seal = seal || (self.held.on && !self.work.rules.is_empty());
        self.held.on &= self.work.rules.is_empty();
        let around = Around {
            settings: &self.settings,
            points: &self.points,
            clock: &*self.clock,
            now,
            wear: self.wear.is_due().then_some(&self.wear),
            seal,
            stretch: self.shared.intake.stretched(),
        };
        let held = self.held.on || self.held.is_empty();
        let idle = self.work.is_empty() && held && !(seal && disk.has_open());
        if idle && !disk.is_due(&around) {
            return disk.tidy().map_err(|error| self.fail(&error));
        }
        let full = self.refused.is_some_and(|refused| refused.trouble == Trouble::Full);
        if full && self.held.is_empty() {
            // What was acknowledged gives room to what waits.
            let free = Work {
                acknowledged: std::mem::take(&mut self.work.acknowledged),
                ..Work::default()
            };
            if let Err(error) =
                disk.commit(&free, &mut self.held, &Around { seal: false, ..around })
            {
                self.work.acknowledged = free.acknowledged;
                return Err(self.fail(&error));
            }
        }
        if let Some(haul) = &mut self.work.salvaged {
            haul.groups.iter_mut().for_each(dates::doubt);
            self.work.groups.extend(haul.groups.drain(..));
        }
        let (epoch, before) = (disk.epoch, disk.ordinal);
        #[cfg(test)]
        self.shared.faults.arm(disk);
        let saved = around.wear.is_some();
        let done = disk.commit(&self.work, &mut self.held, &around);
        match done.and_then(|outcome| self.shared.fault(outcome)) {
            Ok(outcome) => {
                let tidied = if outcome.looked_around { disk.tidy() } else { Ok(()) };
                if saved {
                    self.wear.saved(disk.bytes());
                }
                self.committed(outcome);
                tidied.map_err(|error| self.fail(&error))
            }
            Err(error) => {
                let salvaged = self.work.salvaged.is_some();
                self.undecided = Some(Undecided { epoch, before, salvaged });
                Err(self.fail(&error))
            }
        }
    }

    fn committed(&mut self, outcome: Outcome) {
        let readings = self.work.groups.iter().map(|group| group.samples.len() as u64);
        self.wear.add(readings.sum(), outcome.sealed_bytes);
        self.settle();
        if let Some(disk) = &mut self.disk {
            self.shared.intake.want(std::mem::take(&mut disk.rules.lacking));
        }
        if outcome.looked_around || self.lock.reached() == 0 {
            self.note_reached();
        }
        let alone = is_alone(&self.uplinks);
        if outcome.empty && alone && self.settings.write == Write::WhenNeeded {
            self.held.on = true;
        }
        let path = &self.settings.path;
        if self.refused.take().is_some() {
            self.events.clear(&buffer::REFUSED, &buffer::subject(path), "takes readings again");
        }
        self.publish(outcome);
    }

    /// Notes beside the database how far it has come, before what it came to is handed out and once
    /// a minute: a log that loses its last transactions, to whatever, is found out by it. Without a
    /// sync: the commit itself was synced before, and the kernel writes the page once in half a
    /// minute, however often it changes.
    fn note_reached(&mut self) {
        let Some(disk) = &self.disk else { return };
        if disk.reached() > self.lock.reached() && self.lock.reach(disk.reached()).is_err() {
            // The database takes commits, so the disk is told about where it does not.
            tracing::debug!("the lock file does not take a note");
        }
    }

    /// Notes that everything in hand is on disk.
    fn settle(&mut self) {
        let now = Instant::now();
        if let Some(haul) = std::mem::take(&mut self.work).salvaged {
            haul.committed();
        }
        self.held.committed(now);
        self.sealed_at = now;
        self.shared.intake.committed();
    }

    /// Throws the connection away and says why, once.
    fn fail(&mut self, error: &rusqlite::Error) -> Trouble {
        self.disk = None;
        let trouble = Trouble::of(error);
        if trouble != Trouble::Full {
            self.unsynced = Unsynced::Yes;
        }
        if matches!(trouble, Trouble::ReadOnly | Trouble::Failing | Trouble::Missing) {
            self.lock.let_go();
        }
        tracing::debug!("the store's database failed: {error}");
        self.refuse(trouble)
    }

    fn refuse(&mut self, trouble: Trouble) -> Trouble {
        let delay = self.refused.map_or(limits::DISK_RETRY_DELAY_MIN, |refused| refused.delay);
        self.refused = Some(Refused { trouble, delay });
        self.events.raise(buffer::refused(&self.settings.path, trouble.words()));
        let lost = self.shared.intake.dropped() + self.work.dropped.iter().sum::<u64>();
        if lost > 0 {
            self.events.raise(buffer::overflow(&self.settings.path));
        }
        self.shared.set_health(Health::Refused(trouble));
        trouble
    }

    /// Shows the new state, wakes the uplink, and tells what the quota did.
    fn publish(&mut self, outcome: Outcome) {
        let Some(disk) = &self.disk else { return };
        let mut status = Status {
            opened: true,
            epoch: disk.epoch,
            damaged_chunks: disk.damaged,
            salvages: disk.salvages().unwrap_or_default(),
            disk_bytes: file::bytes(&self.settings.path),
            health: self.refused.map_or(Health::Good, |refused| Health::Refused(refused.trouble)),
            uplinks: disk.uplinks(),
            traffic: disk.traffic.clone(),
            names: self.uplinks.clone(),
            ..Status::default()
        };
        for lane in &disk.lanes {
            // A failure to look shows up at the next commit.
            let oldest = disk.oldest(lane.shelf).ok().flatten();
            status.put(lane, oldest);
        }
        self.held.add_to(&mut status);
        self.shared.show(status, outcome.sealed + outcome.corrected);
        let path = &self.settings.path;
        let over = |at: Instant| at.elapsed() > DROPPING_OVER_AFTER;
        if outcome.dropped.batches > 0 {
            self.dropped_at = Some(Instant::now());
            self.events.raise(buffer::dropping(path, outcome.dropped.readings));
        } else if self.dropped_at.is_some_and(over) {
            self.dropped_at = None;
            self.events.clear(&buffer::DROPPING, &buffer::subject(path), "drops nothing any more");
        }
    }
}
