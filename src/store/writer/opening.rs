//! Opening the file, for the first time and after every error: nothing of the old connection is
//! believed, the log is emptied where a sync may have failed, and a damaged store is moved aside.

use rusqlite::Connection;

use super::{Undecided, Writer};
use crate::events::buffer;
use crate::store::disk::Disk;
use crate::store::file;
use crate::store::room;
use crate::store::schema::{self, Kind};
use crate::store::trouble::{OpenError, Trouble};
use crate::store::wreck::Wreck;

/// Whether there may be pages that the kernel takes for written and the disk does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    No,
    /// An earlier process may have met an error that we do not know of.
    Perhaps,
    /// A write or sync of ours failed.
    Yes,
}

impl Writer {
    /// Opens the file, makes a new store when there is none, and moves a damaged one aside.
    pub(super) fn open_disk(&mut self) -> Result<Disk, OpenError> {
        self.lock.take(&self.settings.path)?;
        match self.try_open() {
            Err(OpenError::Unusable { trouble: Trouble::Damaged, path }) => {
                // Where no store ever was, a file that is no database is somebody else's: a wrong
                // path in the configuration must not move it.
                if self.lock.epoch() == 0 && !file::begins_as_a_database(&path) {
                    return Err(OpenError::Foreign { path });
                }
                self.set_aside()?;
                self.try_open()
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
        self.unsynced = Unsynced::No;
        // Their numbers belong to the epoch that has ended.
        for (dropped, lost) in self.work.dropped.iter_mut().zip(self.held.lose()) {
            *dropped += lost;
        }
        Ok(())
    }

    fn try_open(&mut self) -> Result<Disk, OpenError> {
        let path = self.settings.path.clone();
        let refuse = |error: rusqlite::Error| {
            let trouble = Trouble::of(&error);
            let vague = matches!(trouble, Trouble::Missing | Trouble::ReadOnly);
            let why = vague.then(|| file::why_unusable(&path)).flatten();
            OpenError::unusable(&path, why.unwrap_or(trouble))
        };
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
        self.empty_log(&conn).map_err(|trouble| OpenError::unusable(&path, trouble))?;
        let disk = room::limit_log(&conn, self.settings.bytes_max)
            .and_then(|()| Disk::load(conn, &self.uplinks, &self.points, &*self.clock))
            .map_err(refuse)?;
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
        if wreck.is_a_log_alone() {
            // All that is left stands in the log, which is whole: it is moved aside and salvaged.
            return Err(OpenError::unusable(path, Trouble::Damaged));
        }
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

    /// Empties the log into the database when that is owed. What an earlier process may have left
    /// keeps nobody from working who has no room for it, or beside whom somebody reads.
    fn empty_log(&mut self, conn: &Connection) -> Result<(), Trouble> {
        if self.unsynced == Unsynced::No {
            return Ok(());
        }
        let emptied = match schema::checkpoint(conn) {
            Ok(true) => file::sync_log(&self.settings.path).map_err(|e| Trouble::of_io(&e)),
            Ok(false) => Err(Trouble::Busy),
            Err(error) => Err(Trouble::of(&error)),
        };
        match emptied {
            Err(Trouble::Full | Trouble::Busy) if self.unsynced == Unsynced::Perhaps => Ok(()),
            Err(trouble) => {
                self.unsynced = Unsynced::Yes;
                Err(trouble)
            }
            Ok(()) => {
                self.unsynced = Unsynced::No;
                Ok(())
            }
        }
    }

    pub(super) fn reopen(&mut self) -> Result<(), Trouble> {
        let taken = self.lock.take(&self.settings.path);
        taken.map_err(|error| self.refuse(error.trouble()))?;
        if self.refused.is_some_and(|refused| refused.trouble == Trouble::Damaged) {
            // It opened before and may open again, but what it holds cannot be worked with.
            self.set_aside().map_err(|error| self.refuse(error.trouble()))?;
        }
        let disk = self.open_disk().map_err(|error| self.refuse(error.trouble()))?;
        // When another process worked on the store meanwhile, its ordinals prove nothing: rather
        // readings twice than none.
        let own = !self.lock.was_lent();
        let is_there = |it: &Undecided| own && disk.epoch == it.epoch && disk.ordinal > it.before;
        let undecided = self.undecided.take().filter(is_there);
        if let Some(Undecided { salvaged, .. }) = undecided {
            // What has come since was not part of it.
            let late = std::mem::take(&mut self.work.acknowledged);
            let haul = self.work.salvaged.take_if(|_| !salvaged);
            self.settle();
            (self.work.acknowledged, self.work.salvaged) = (late, haul);
        } else {
            self.held.begin();
            self.held.free(self.lock.epoch(), &mut self.work.acknowledged);
        }
        self.disk = Some(disk);
        Ok(())
    }
}
