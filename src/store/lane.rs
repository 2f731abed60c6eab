//! One stream's row in the `stream` table, and the open batch that gathers beside it in memory.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, params};

use crate::batch::Assembly;
use crate::reading::Stream;
use crate::store::schema::{count, int};

/// What a stream holds. The numbers mirror the row; they are changed in the transaction that writes
/// them, and thrown away with the connection when it fails.
pub(super) struct Lane {
    pub(super) stream: Stream,
    /// Sequence number of the next batch, from 1.
    pub(super) seq_next: u64,
    /// Slots up to this ordinal are sealed.
    pub(super) floor: u64,
    /// Ordinal of the transaction that wrote the row last.
    tick: u64,
    /// Readings dropped by quota since the epoch began.
    pub(super) dropped: u64,
    /// Batches set aside because their checksum failed.
    pub(super) damaged: u64,
    /// Batches held, their readings, and the bytes of the file they take.
    pub(super) batches: u64,
    pub(super) readings: u64,
    pub(super) bytes: u64,
    dirty: bool,
    /// Readings that were committed (or are being committed) and not yet sealed.
    pub(super) open: Assembly,
    /// When the first of them was committed.
    pub(super) opened: Option<Instant>,
}

impl Lane {
    /// Reads all rows.
    pub(super) fn load(conn: &Connection) -> Result<[Self; 3]> {
        let mut statement = conn.prepare(
            "SELECT seq_next, floor, tick, dropped, damaged, batches, readings, bytes
             FROM stream WHERE id = ?1",
        )?;
        let mut one = |stream: Stream| {
            statement.query_row([stream as u8], |row| {
                Ok(Self {
                    stream,
                    seq_next: count(row, 0)?,
                    floor: count(row, 1)?,
                    tick: count(row, 2)?,
                    dropped: count(row, 3)?,
                    damaged: count(row, 4)?,
                    batches: count(row, 5)?,
                    readings: count(row, 6)?,
                    bytes: count(row, 7)?,
                    dirty: false,
                    open: Assembly::default(),
                    opened: None,
                })
            })
        };
        Ok([one(Stream::Data)?, one(Stream::Event)?, one(Stream::Own)?])
    }

    /// Returns the highest ordinal the row knows of.
    pub(super) fn ordinal(&self) -> u64 {
        self.tick.max(self.floor)
    }

    /// Notes that the row must be written with this transaction.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Writes the row when it changed.
    pub(super) fn save(&mut self, conn: &Connection, ordinal: u64) -> Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        self.tick = ordinal;
        conn.prepare_cached(
            "UPDATE stream SET seq_next = ?2, floor = ?3, tick = ?4, dropped = ?5, damaged = ?6,
             batches = ?7, readings = ?8, bytes = ?9 WHERE id = ?1",
        )?
        .execute(params![
            self.stream as u8,
            int(self.seq_next),
            int(self.floor),
            int(self.tick),
            int(self.dropped),
            int(self.damaged),
            int(self.batches),
            int(self.readings),
            int(self.bytes),
        ])?;
        Ok(())
    }

    /// Returns whether the open batch is full. One that grew to the very limit would have to be cut
    /// in two, so it is full a sixteenth before.
    pub(super) fn is_full(&self, readings_max: usize, bytes_max: usize) -> bool {
        self.open.readings() >= readings_max
            || self.open.bytes_estimate() >= bytes_max - bytes_max / 16
    }

    /// Returns whether waiting for the commit after this one would make the open batch older than
    /// `age_max`.
    pub(super) fn is_due(&self, now: Instant, age_max: Duration, commit: Duration) -> bool {
        self.opened.is_some_and(|opened| now.duration_since(opened) + commit > age_max)
    }

    /// Counts a batch that is held no longer.
    pub(super) fn forget(&mut self, readings: u64, bytes: u64) {
        self.batches = self.batches.saturating_sub(1);
        self.readings = self.readings.saturating_sub(readings);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.touch();
    }
}
