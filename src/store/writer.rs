//! The store's thread: the only one that writes. It sleeps until a commit is due, commits everything
//! that waits in one transaction, and keeps what the disk refuses until the disk takes it.
//!
//! After an error nothing in memory is trusted but the readings themselves. The connection is
//! thrown away and the file read anew. After a failed write or sync the log is first emptied into
//! the database, because the kernel may have forgotten pages that it could not write: only pages
//! written again are pages on disk. A transaction whose commit failed may still be there; its
//! ordinal tells, so nothing is written twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::events::{Events, buffer};
use crate::limits;
use crate::reading::Points;
use crate::store::dates;
use crate::store::disk::{Around, Disk, Outcome, Work};
use crate::store::file::{self, Lock};
use crate::store::intake::{Call, Request, Stop};
use crate::store::jumps::Jumps;
use crate::store::salvage::{Job, Salvage};
use crate::store::schema::{self, Kind};
use crate::store::settings::Settings;
use crate::store::status::{Health, Status};
use crate::store::trouble::{OpenError, StoreError, Trouble};
use crate::store::wreck::Wreck;
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
    /// The disk's ordinal before a commit that failed: a higher one in the file means it is there.
    undecided: Option<u64>,
    refused: Option<Refused>,
    next_commit: Instant,
    dropped_at: Option<Instant>,
    jumps: Jumps,
    salvage: Option<Salvage>,
    /// A store was moved aside since the salvage was started.
    salvage_due: bool,
    /// The store that is about to be moved aside lacks commits.
    log_lost: bool,
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
        let lock = Lock::take(&settings.path)?;
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
            undecided: None,
            refused: None,
            next_commit: Instant::now(),
            dropped_at: None,
            jumps: Jumps::default(),
            salvage: None,
            salvage_due: true,
            log_lost: false,
        };
        match writer.open_disk(false) {
            Ok(disk) => {
                writer.disk = Some(disk);
                writer.publish(Outcome::default());
            }
            // A store that was there before waits for room as it would have if it had been open;
            // a place that never held one is more likely a mistake that a person should see.
            Err(OpenError::Unusable { trouble, .. })
                if trouble == Trouble::Full && writer.lock.epoch() > 0 =>
            {
                let epoch = writer.lock.epoch();
                writer.shared.show(Status { epoch, ..Status::default() }, 0);
                writer.refuse(trouble);
            }
            Err(error) => return Err(error),
        }
        Ok(writer)
    }

    /// Opens the file, makes a new store when there is none, and moves a damaged one aside.
    fn open_disk(&mut self, resync: bool) -> Result<Disk, OpenError> {
        match self.try_open(resync) {
            Err(OpenError::Unusable { trouble: Trouble::Damaged, path }) => {
                // Where no store ever was, a file that is no database is somebody else's: a wrong
                // path in the configuration must not move it.
                if self.lock.epoch() == 0 && !file::begins_as_a_database(&path) {
                    return Err(OpenError::Foreign { path });
                }
                self.set_aside()?;
                self.try_open(false)
            }
            other => other,
        }
    }

    fn set_aside(&mut self) -> Result<(), OpenError> {
        let path = &self.settings.path;
        let refuse = |e| OpenError::unusable(path, Trouble::of_io(&e));
        let aside = file::set_aside(path).map_err(refuse)?;
        if std::mem::take(&mut self.log_lost) {
            // What stands in slots may be in batches that are lost with the log.
            file::mark_salvage(&aside, false);
        }
        self.events.raise(buffer::set_aside(path, &aside));
        self.undecided = None;
        self.salvage_due = true;
        Ok(())
    }

    fn try_open(&mut self, resync: bool) -> Result<Disk, OpenError> {
        let path = self.settings.path.clone();
        let refuse = |e: rusqlite::Error| OpenError::unusable(&path, Trouble::of(&e));
        self.look_at_log()?;
        let io = |e| OpenError::unusable(&path, Trouble::of_io(&e));
        let (conn, kind) = schema::connect(&path).map_err(refuse)?;
        match kind {
            Kind::Newer(version) => return Err(OpenError::Newer { path, version }),
            Kind::Foreign => return Err(OpenError::Foreign { path }),
            Kind::Ours(version) => {
                if version < schema::VERSION {
                    schema::migrate(&conn, version).map_err(refuse)?;
                }
            }
            Kind::Empty => {
                let epoch = self.lock.next_epoch(&path, &*self.clock);
                self.lock.remember(epoch).map_err(io)?;
                schema::prepare(&conn)
                    .and_then(|()| schema::create(&conn, epoch))
                    .map_err(refuse)?;
            }
        }
        if resync && !schema::checkpoint(&conn).map_err(refuse)? {
            return Err(OpenError::unusable(&path, Trouble::Busy));
        }
        let disk = Disk::load(conn, &self.uplinks, &self.points, &*self.clock).map_err(refuse)?;
        if disk.epoch == self.lock.epoch() && disk.reached() < self.lock.reached() {
            self.log_lost = true;
            self.events.raise(buffer::log_lost(&path, "lacks commits, or it is an older copy"));
            return Err(OpenError::unusable(&path, Trouble::Damaged));
        }
        self.lock
            .remember_if_new(disk.epoch)
            .map_err(|e| OpenError::unusable(&path, Trouble::of_io(&e)))?;
        if disk.damaged > 0 {
            self.events.raise(buffer::rows_damaged(&path, "committed readings", disk.damaged));
        }
        Ok(disk)
    }

    /// Looks whether committed transactions are missing that SQLite would not miss. The sequence
    /// numbers in them would be given again, so the store is damaged as a whole.
    fn look_at_log(&mut self) -> Result<(), OpenError> {
        let path = &self.settings.path;
        let log_lost = &mut self.log_lost;
        let mut damaged = |why| {
            *log_lost = true;
            self.events.raise(buffer::log_lost(path, why));
            Err(OpenError::unusable(path, Trouble::Damaged))
        };
        // What cannot be read shows when it is opened.
        let Ok(wreck) = Wreck::open(path) else { return Ok(()) };
        if wreck.is_cut() {
            return damaged("is cut short or damaged before its end");
        }
        if wreck.log_is_foreign() {
            return damaged("belongs to another buffer");
        }
        if wreck.is_torn() {
            self.events.raise(buffer::log_torn(path));
        }
        Ok(())
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
            match self.answer(call) {
                None => {}
                Some(Stop::Flush) => break,
                #[cfg(test)]
                Some(Stop::Abandon) => return,
            }
        }
        self.salvage = None;
        let _ = self.step(false);
        let finish = |disk: Disk| disk.finish(&self.points);
        if let Some(Err(error)) = self.disk.take().map(finish) {
            self.events.raise(buffer::refused(&self.settings.path, Trouble::of(&error).words()));
        }
    }

    fn answer(&mut self, call: Call) -> Option<Stop> {
        self.shared.intake.take_acknowledged(&mut self.work);
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
        if due || seal || came_back || call.pressed || !flushes.is_empty() {
            let done = self.step(seal);
            for reply in flushes {
                let _ = reply.send(done);
            }
        }
        None
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
                if next.waits { Err(StoreError::Undated) } else { Ok(next.batches) }
            }
            Err(error) => {
                self.next_commit = Instant::now();
                Err(StoreError::Refused(self.fail(&error)))
            }
        }
    }

    /// One commit, with everything that belongs to it. An error means that nothing is known to be
    /// on disk; it is tried again by itself.
    fn step(&mut self, seal: bool) -> Result<(), StoreError> {
        let started = Instant::now();
        self.jumps.look(&self.clock.state(), &self.events);
        let again = !self.work.is_settled();
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
        let idle = self.work.is_empty() && !(seal && disk.has_open());
        if idle && !disk.is_due(&self.settings, now, &*self.clock) {
            return disk.tidy().map_err(|error| self.fail(&error));
        }
        let around = Around {
            settings: &self.settings,
            points: &self.points,
            clock: &*self.clock,
            now,
            seal,
        };
        if self.refused.is_some_and(|refused| refused.trouble == Trouble::Full) {
            // What was acknowledged gives room to what waits.
            let free = Work {
                acknowledged: std::mem::take(&mut self.work.acknowledged),
                ..Work::default()
            };
            if let Err(error) = disk.commit(&free, &Around { seal: false, ..around }) {
                self.work.acknowledged = free.acknowledged;
                return Err(self.fail(&error));
            }
        }
        if let Some(haul) = &mut self.work.salvaged {
            haul.groups.iter_mut().for_each(dates::doubt);
            self.work.groups.extend(haul.groups.drain(..));
        }
        let before = disk.ordinal;
        #[cfg(test)]
        self.shared.faults.arm(disk);
        match disk.commit(&self.work, &around).and_then(|outcome| self.shared.fault(outcome)) {
            Ok(outcome) => {
                let tidied = if outcome.looked_around { disk.tidy() } else { Ok(()) };
                self.committed(outcome);
                tidied.map_err(|error| self.fail(&error))
            }
            Err(error) => {
                self.undecided = Some(before);
                Err(self.fail(&error))
            }
        }
    }

    fn committed(&mut self, outcome: Outcome) {
        self.settle();
        self.note_reached(outcome.looked_around);
        let path = &self.settings.path;
        if self.refused.take().is_some() {
            self.events.clear(&buffer::REFUSED, &buffer::subject(path), "takes readings again");
        }
        self.publish(outcome);
    }

    /// Notes beside the database how far it has come: with the first commit and then once a minute,
    /// without a sync, since the commit itself was synced before.
    fn note_reached(&mut self, again: bool) {
        let Some(disk) = &self.disk else { return };
        if (again || self.lock.reached() == 0) && self.lock.reach(disk.reached()).is_err() {
            // The database takes commits, so the disk is told about where it does not.
            tracing::debug!("the lock file does not take a note");
        }
    }

    /// Forgets what is on disk now.
    fn settle(&mut self) {
        if let Some(haul) = std::mem::take(&mut self.work).salvaged {
            haul.committed();
        }
        self.shared.intake.committed();
    }

    /// Throws the connection away and says why, once.
    fn fail(&mut self, error: &rusqlite::Error) -> Trouble {
        self.disk = None;
        let trouble = Trouble::of(error);
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

    fn reopen(&mut self) -> Result<(), Trouble> {
        if self.refused.is_some_and(|refused| refused.trouble == Trouble::Damaged) {
            // It opened before and may open again, but what it holds cannot be worked with.
            self.set_aside().map_err(|error| self.refuse(error.trouble()))?;
        }
        let resync = self.refused.is_some_and(|refused| refused.trouble != Trouble::Full);
        let disk = self.open_disk(resync).map_err(|error| self.refuse(error.trouble()))?;
        if self.undecided.take().is_some_and(|before| disk.ordinal > before) {
            self.settle();
        }
        self.disk = Some(disk);
        Ok(())
    }

    /// Shows the new state, wakes the uplink, and tells what the quota did.
    fn publish(&mut self, outcome: Outcome) {
        let Some(disk) = &self.disk else { return };
        let mut status = Status {
            epoch: disk.epoch,
            damaged_chunks: disk.damaged,
            salvages: disk.salvages().unwrap_or_default(),
            disk_bytes: file::bytes(&self.settings.path),
            health: self.refused.map_or(Health::Good, |refused| Health::Refused(refused.trouble)),
            uplinks: disk.uplinks(),
            ..Status::default()
        };
        for lane in &disk.lanes {
            // A failure to look shows up at the next commit.
            let oldest = disk.oldest(lane.shelf).ok().flatten();
            status.put(lane, oldest);
        }
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
