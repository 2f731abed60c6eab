//! What does not fit is dropped, oldest first and counted, and room that is not needed any more goes
//! back to the file system.

use std::time::Instant;

use rusqlite::Result;

use super::{AGE_CHECK_EVERY, Around, Disk, Outcome};
use crate::limits;
use crate::store::batches::{self, Dropped};
use crate::store::{Shelf, schema, wear};

/// Free pages in the file that are kept for reuse (16 MiB).
const PAGES_FREE_KEPT: u64 = 4096;
/// What may be written anew, in memory and then to disk, to give more than that back.
const BYTES_WRITTEN_ANEW_MAX: u64 = 1024 * 1024;

impl Disk {
    /// Drops what is older than `keep`. Only a clock that can be believed may say so.
    pub(super) fn drop_old(&mut self, around: &Around<'_>, outcome: &mut Outcome) -> Result<()> {
        let recently = |at: Instant| around.now.duration_since(at) < AGE_CHECK_EVERY;
        if self.age_checked.is_some_and(recently) {
            return Ok(());
        }
        self.age_checked = Some(around.now);
        outcome.looked_around = true;
        let limit = self.age.limit(around.clock.now(), around.settings.keep);
        let Some(limit) = limit.filter(|_| around.clock.plausible()) else { return Ok(()) };
        for lane in &mut self.lanes {
            while batches::is_older(&self.conn, lane, limit)? {
                outcome.dropped.add(batches::drop_oldest(&self.conn, lane)?);
            }
        }
        Ok(())
    }

    /// Drops the oldest batches until what is in use fits: data first, then our own metrics, events
    /// last. One batch always stays, however small the quota, and a quota that became much smaller
    /// is reached in several commits.
    pub(super) fn drop_beyond_quota(
        &mut self,
        bytes_max: u64,
        outcome: &mut Outcome,
    ) -> Result<()> {
        for _ in 0..limits::BATCHES_DROPPED_A_COMMIT_MAX {
            let held = self.lanes.iter().map(|lane| lane.batches).sum::<u64>();
            if held <= 1 || wear::bytes_in_use(&self.conn)? <= bytes_max {
                break;
            }
            let first = Shelf::DROPPED.into_iter().find(|s| self.lanes[*s as usize].batches > 0);
            let Some(shelf) = first else { break };
            let lane = &mut self.lanes[shelf as usize];
            outcome.dropped.add(batches::drop_oldest(&self.conn, lane)?);
        }
        Ok(())
    }

    /// Gives free pages back to the file system, once the backlog that needed them is gone and what
    /// remains is little to write anew.
    pub(in crate::store) fn tidy(&self) -> Result<()> {
        let free = self.conn.pragma_query_value(None, "freelist_count", |r| schema::count(r, 0))?;
        if free > PAGES_FREE_KEPT && wear::bytes_in_use(&self.conn)? < BYTES_WRITTEN_ANEW_MAX {
            self.conn.execute_batch("VACUUM")?;
            schema::checkpoint(&self.conn)?;
        }
        Ok(())
    }
}

impl Dropped {
    pub(super) fn add(&mut self, more: Self) {
        self.batches += more.batches;
        self.readings += more.readings;
    }
}
