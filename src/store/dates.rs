//! Readings that were taken before the clock was set, and the dates they get when it is.
//!
//! Their times count from the boot of the board ([`clock::counts_from_boot`]). What must be added is
//! one number a boot. Until it is known, batches are sealed with a guess (whatever the board shows)
//! and `ck` 0, and their rows in `undated` remember the true distance to the boot. When the clock is
//! set, in this process or a later one of the same boot, the number goes into `boot`, and whatever
//! is sealed from then on has it. The batches before get it in transactions of their own, a few at
//! a time: three numbers of the envelope change, and the body, the sequence number and the order
//! stay. The number outlives the boot, so a power cut in between costs nothing.
//!
//! **Bytes that were sent never change.** A batch is handed out for the first time only after its
//! row in `undated` is gone, on disk. So that few are sent with a guess, they wait up to
//! [`limits::CLOCK_SET_GRACE`]: network time follows the network within seconds.
//!
//! **What cannot be corrected:** readings of a boot in which the clock was never set while the
//! gateway ran. They go out with the guess and `ck` 0: distances within the boot are right.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, params};

use crate::batch::Timing;
use crate::clock::{self, State};
use crate::limits;
use crate::reading::{Group, Quality, Sample, UnixMillis};
use crate::store::lane::Lane;
use crate::store::schema::{count, int};
use crate::store::{batches, damaged};

/// A guess that moved by less is not written again.
const GUESS_CHANGE_MIN_MS: u64 = 1000;

/// See the file's head.
#[derive(Default)]
pub(super) struct Dates {
    boots: BTreeMap<i64, Boot>,
    /// Highest row there ever was, damaged ones included.
    last: i64,
    /// Row of the boot that runs; 0 until the first transaction.
    here: i64,
    /// Row of the boot that undated readings in slots count from, as they were found.
    pub(super) left_by: i64,
    /// Whether there may be batches in `undated`, and some that can be corrected now.
    pending: bool,
    ripe: bool,
    /// When a batch that may still get its date was first asked for, as time since boot.
    asked: Option<UnixMillis>,
}

/// One row of `boot`.
struct Boot {
    name: String,
    /// Milliseconds to add, as the board believed.
    guess: i64,
    /// Milliseconds to add, once known.
    base: Option<i64>,
}

impl Boot {
    /// Reads a row; `None` when it is damaged.
    fn of(row: &rusqlite::Row<'_>) -> Option<(i64, Self)> {
        let id = row.get(0).ok()?;
        let name = row.get(1).ok()?;
        let boot = Self { name, guess: row.get(2).ok()?, base: row.get(3).ok()? };
        (i64::from(boot.checksum(id)) == row.get::<_, i64>(4).ok()?).then_some((id, boot))
    }

    fn checksum(&self, id: i64) -> u32 {
        let numbers = [id, self.guess, self.base.unwrap_or(i64::MIN)].map(i64::to_le_bytes);
        damaged::crc(&[numbers.as_flattened(), self.name.as_bytes()])
    }

    fn write(&self, conn: &Connection, id: i64) -> Result<()> {
        conn.prepare_cached("REPLACE INTO boot VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, self.name, self.guess, self.base, self.checksum(id)])
            .map(drop)
    }
}

/// One row of `undated`.
struct Undated {
    id: i64,
    boot: i64,
    /// The batch's first time, milliseconds since its boot.
    t0: i64,
}

impl Undated {
    fn checksum(&self) -> u32 {
        damaged::crc(&[[self.id, self.boot, self.t0].map(i64::to_le_bytes).as_flattened()])
    }

    /// Reads a row; its boot is 0, which is none, when it is damaged.
    fn of(row: &rusqlite::Row<'_>) -> Result<Self> {
        let id = row.get(0)?;
        let found = || Some(Self { id, boot: row.get(1).ok()?, t0: row.get(2).ok()? });
        let sound =
            |found: &Self| row.get(3).is_ok_and(|crc: i64| crc == i64::from(found.checksum()));
        Ok(found().filter(sound).unwrap_or(Self { id, boot: 0, t0: 0 }))
    }
}

impl Dates {
    /// Reads what is known of boots. What can never be corrected any more is forgotten with the next
    /// transaction.
    pub(super) fn load(conn: &Connection, state: &State) -> Result<Self> {
        let mut boots = BTreeMap::new();
        let mut statement = conn.prepare("SELECT id, name, guess, base, crc FROM boot")?;
        let mut rows = statement.query([])?;
        let mut last = 0;
        while let Some(row) = rows.next()? {
            last = last.max(row.get(0)?);
            boots.extend(Boot::of(row));
        }
        let same = |boot: &&Boot| boot.name == *state.boot;
        let here = if boots.get(&last).as_ref().is_some_and(same) { last } else { 0 };
        Ok(Self { boots, last, here, left_by: last, pending: true, ripe: true, asked: None })
    }

    /// Returns whether the clock had been set in this boot, as far as the store remembers.
    pub(super) fn was_set(&self) -> bool {
        self.boots.get(&self.here).is_some_and(|boot| boot.base.is_some())
    }

    /// Brings the row of the boot that runs up to what the clock says. Costs nothing when nothing
    /// changed.
    pub(super) fn follow(&mut self, conn: &Connection, state: &State) -> Result<()> {
        let base = state.set.map(|_| state.base);
        if let Some(boot) = self.boots.get_mut(&self.here) {
            let moved = boot.guess.abs_diff(state.base) >= GUESS_CHANGE_MIN_MS;
            if boot.base.is_some() || (base.is_none() && !moved) {
                return Ok(());
            }
            (boot.guess, boot.base) = (state.base, base);
            self.ripe |= base.is_some();
            return boot.write(conn, self.here);
        }
        // Numbers of boots only grow, so that the last row tells who left what stands in slots.
        self.last += 1;
        self.here = self.last;
        let boot = Boot { name: (*state.boot).to_owned(), guess: state.base, base };
        boot.write(conn, self.here)?;
        self.boots.insert(self.here, boot);
        self.forget(conn)
    }

    /// Forgets boots that nothing refers to, and batches that can never be corrected.
    fn forget(&mut self, conn: &Connection) -> Result<()> {
        let keep: Vec<i64> = conn
            .prepare("SELECT DISTINCT boot FROM undated")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_>>()?;
        for boot in &keep {
            if *boot != self.here && self.boots.get(boot).is_none_or(|boot| boot.base.is_none()) {
                conn.execute("DELETE FROM undated WHERE boot = ?1", [boot])?;
            }
        }
        let (here, left_by) = (self.here, self.left_by);
        let gone = |id: &i64| ![here, left_by].contains(id) && !keep.contains(id);
        let gone: Vec<i64> = self.boots.keys().copied().filter(gone).collect();
        for id in gone {
            conn.execute("DELETE FROM boot WHERE id = ?1", [id])?;
            self.boots.remove(&id);
        }
        Ok(())
    }

    /// Returns whether undated readings in slots count from a boot that is over.
    pub(super) fn are_left_over(&self) -> bool {
        self.left_by != self.here
    }

    /// Notes that what stood in slots is sealed.
    pub(super) fn took_over(&mut self) {
        self.left_by = self.here;
    }

    /// Returns what to add to times of open readings that count from boot, and what that rests on.
    pub(super) fn basis(&self) -> (i64, Timing) {
        match self.boots.get(&self.left_by) {
            Some(Boot { base: Some(base), .. }) => (*base, Timing::Corrected),
            Some(boot) => (boot.guess, Timing::Unset),
            None => (0, Timing::Unset),
        }
    }

    /// Notes a batch that was sealed with a guess, `t0` milliseconds since boot. Those of a boot that
    /// is over will never be corrected.
    pub(super) fn note(&mut self, conn: &Connection, id: i64, t0: i64) -> Result<()> {
        if self.left_by != self.here {
            return Ok(());
        }
        self.pending = true;
        let row = Undated { id, boot: self.here, t0 };
        conn.prepare_cached("INSERT INTO undated VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row.id, row.boot, row.t0, row.checksum()])
            .map(drop)
    }

    /// Returns whether batches may be handed out only after [`Dates::release`].
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Returns whether a transaction would correct something.
    pub(super) fn is_ripe(&self, state: &State) -> bool {
        let known = || self.boots.get(&self.here).is_some_and(|boot| boot.base.is_some());
        self.pending && (self.ripe || (state.set.is_some() && !known()))
    }

    /// Corrects a few of the batches that can be corrected, oldest first; returns how many.
    pub(super) fn correct(&mut self, conn: &Connection, lanes: &mut [Lane]) -> Result<u64> {
        if !self.pending || !self.ripe {
            return Ok(0);
        }
        let mut corrected = 0;
        for (boot, base) in self.boots.iter().filter_map(|(id, boot)| Some((id, boot.base?))) {
            let left = limits::BATCHES_CORRECTED_MAX - corrected;
            let found = conn
                .prepare_cached(
                    "SELECT id, boot, t0, crc FROM undated WHERE boot = ?1 ORDER BY id LIMIT ?2",
                )?
                .query_map(params![boot, int(left as u64)], Undated::of)?
                .collect::<Result<Vec<_>>>()?;
            corrected += found.len();
            for row in found {
                // A damaged row says nothing about its batch, which stays as it is.
                if row.boot == *boot {
                    batches::redate(conn, lanes, row.id, row.t0.saturating_add(base))?;
                }
                forget(conn, row.id)?;
            }
        }
        self.ripe = corrected == limits::BATCHES_CORRECTED_MAX;
        self.pending = waiting(conn)? > 0;
        Ok(corrected as u64)
    }

    /// Prepares batches with keys in `keys` for being handed out, `most` of them at the most: corrects
    /// those that can be, and writes down of the others that their bytes are final. Returns the key
    /// from which on batches must wait for the clock.
    pub(super) fn release(
        &mut self,
        conn: &Connection,
        lanes: &mut [Lane],
        keys: (i64, i64),
        most: usize,
        now: UnixMillis,
    ) -> Result<Option<i64>> {
        let found: Vec<Undated> = conn
            .prepare_cached(
                "SELECT id, boot, t0, crc FROM undated WHERE id > ?1 AND id < ?2
                 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![keys.0, keys.1, int(most as u64)], Undated::of)?
            .collect::<Result<_>>()?;
        for row in found {
            match self.boots.get(&row.boot).map(|boot| boot.base) {
                Some(Some(base)) => {
                    batches::redate(conn, lanes, row.id, row.t0.saturating_add(base))?;
                }
                Some(None) if row.boot == self.here && self.is_waiting(now) => {
                    return Ok(Some(row.id));
                }
                _ => {}
            }
            forget(conn, row.id)?;
        }
        Ok(None)
    }

    /// Returns whether the clock may still be set soon: the first question starts the time.
    fn is_waiting(&mut self, now: UnixMillis) -> bool {
        let asked = *self.asked.get_or_insert(now);
        u128::from(now.0.abs_diff(asked.0)) < limits::CLOCK_SET_GRACE.as_millis()
    }
}

/// Marks readings of another store whose times count from a boot: it was this one if that store was
/// lost since, and nothing tells. They get this boot's date, and everyone is warned.
pub(super) fn doubt(group: &mut Group) {
    if clock::counts_from_boot(group.at) {
        let good = |sample: &&mut Sample| sample.mark() == 0;
        group.samples.iter_mut().filter(good).for_each(|s| s.quality = Quality::ClockUnsynced);
    }
}

/// Forgets that a batch could be corrected.
pub(super) fn forget(conn: &Connection, id: i64) -> Result<()> {
    conn.prepare_cached("DELETE FROM undated WHERE id = ?1")?.execute([id]).map(drop)
}

/// Returns how many batches wait for their dates.
pub(super) fn waiting(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT count(*) FROM undated", [], |row| count(row, 0))
}

/// Returns how many batches wait for their dates, and whether the clock was set in the boot of this
/// name, as far as the store remembers. For one who looks from outside, at any version.
pub(super) fn outlook(conn: &Connection, boot: &str) -> Result<(u64, bool)> {
    let there = "SELECT count(*) FROM sqlite_schema WHERE name IN ('boot', 'undated')";
    if conn.query_row(there, [], |row| row.get::<_, i64>(0))? < 2 {
        return Ok((0, false));
    }
    let state = State { boot: boot.into(), base: 0, set: None, refused: None };
    Ok((waiting(conn)?, Dates::load(conn, &state)?.was_set()))
}
