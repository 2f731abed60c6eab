//! What the store costs its disk: bytes written and readings kept, a row a day, so that a person can
//! see how long a card will last and how long an outage may.
//!
//! The kernel counts for us: everything is written by one thread, and `/proc/thread-self/io` says how
//! many bytes of pages that thread made dirty, SQLite's log, its checkpoints and its index included.
//! In a file system in memory that is 0, and so is the wear. The counts since the last save, ten
//! minutes at most, are lost in a crash.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, params};

use crate::reading::UnixMillis;
use crate::store::schema::{self, PAGE_BYTES, count, int};

/// Between two saves: each costs two pages, a hundredth of what a small plant writes in that time.
const SAVE_EVERY: Duration = Duration::from_secs(600);
/// Days that are kept.
const DAYS_KEPT: i64 = 31;
const DAY_MS: i64 = 86_400_000;

/// One day of a store, or what is not saved yet of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970, UTC.
    pub day: i64,
    /// Seconds of it that the store was open.
    pub seconds: u64,
    /// Bytes written to disk.
    pub written: u64,
    /// Readings committed.
    pub readings: u64,
    /// Bytes of the file that the batches sealed take, whether they were written or not.
    pub sealed: u64,
    /// By how many bytes the batches on disk became more; negative when they became fewer.
    pub grown: i64,
}

/// What a store takes of its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the file that are in use; free pages, which are used again, are not among them.
    pub bytes: u64,
    /// The latest first.
    pub days: Vec<Day>,
}

/// Counts between two saves.
pub(super) struct Wear {
    since: Instant,
    /// The kernel's count at the last save; `None` before the first look.
    written: Option<u64>,
    /// Bytes of all batches on disk at the last save.
    bytes: Option<u64>,
    readings: u64,
    sealed: u64,
}

impl Wear {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), written: None, bytes: None, readings: 0, sealed: 0 }
    }

    /// Begins to count, on the thread that writes. `bytes` are those of all batches on disk.
    pub(super) fn begin(&mut self, bytes: u64) {
        self.written = self.written.or_else(|| Some(thread_written()));
        self.bytes = self.bytes.or(Some(bytes));
    }

    /// Counts what was committed, and the bytes of the batches sealed.
    pub(super) fn add(&mut self, readings: u64, sealed: u64) {
        self.readings += readings;
        self.sealed += sealed;
    }

    /// Returns whether it is time to save.
    pub(super) fn is_due(&self) -> bool {
        self.since.elapsed() >= SAVE_EVERY
    }

    /// Adds what was counted to its day, in the transaction under way.
    pub(super) fn save(&self, conn: &Connection, now: UnixMillis, bytes: u64) -> Result<()> {
        let day = now.0.div_euclid(DAY_MS);
        let written = self.written.map_or(0, |before| thread_written().saturating_sub(before));
        let grown = int(bytes) - int(self.bytes.unwrap_or(bytes));
        conn.prepare_cached(
            "INSERT INTO wear (day, seconds, written, readings, sealed, grown)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (day) DO UPDATE SET
             seconds = seconds + ?2, written = written + ?3, readings = readings + ?4,
             sealed = sealed + ?5, grown = grown + ?6",
        )?
        .execute(params![
            day,
            int(self.since.elapsed().as_secs()),
            int(written),
            int(self.readings),
            int(self.sealed),
            grown
        ])?;
        conn.prepare_cached("DELETE FROM wear WHERE day <= ?1")?.execute([day - DAYS_KEPT])?;
        Ok(())
    }

    /// Begins anew after a save that is on disk.
    pub(super) fn saved(&mut self, bytes: u64) {
        let written = self.written.map(|_| thread_written());
        *self = Self { written, bytes: Some(bytes), ..Self::new() };
    }
}

/// Returns the bytes that this thread caused to be written; 0 where the kernel does not say.
fn thread_written() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Returns the bytes of the file that are in use, as the transaction under way sees them.
pub(super) fn bytes_in_use(conn: &Connection) -> Result<u64> {
    let pages = |pragma| conn.pragma_query_value(None, pragma, |row| count(row, 0));
    Ok((pages("page_count")?.saturating_sub(pages("freelist_count")?)) * PAGE_BYTES)
}

/// Reads what a store takes.
pub(super) fn read(conn: &Connection) -> Result<(Usage, schema::Kind)> {
    let kind = schema::kind(conn)?;
    let mut usage = Usage { bytes: bytes_in_use(conn)?, days: Vec::new() };
    if matches!(kind, schema::Kind::Ours(version) if version > 1) {
        let mut statement = conn.prepare(
            "SELECT day, seconds, written, readings, sealed, grown FROM wear ORDER BY day DESC",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Day {
                day: row.get(0)?,
                seconds: count(row, 1)?,
                written: count(row, 2)?,
                readings: count(row, 3)?,
                sealed: count(row, 4)?,
                grown: row.get(5)?,
            })
        })?;
        usage.days = rows.collect::<Result<_>>()?;
    }
    Ok((usage, kind))
}
