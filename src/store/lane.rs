//! One stream's row in the `stream` table, and the open batch that gathers beside it in memory.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, params};

use crate::batch::Assembly;
use crate::clock;
use crate::reading::{Group, Stream};
use crate::store::schema::{count, damage, int};
use crate::store::{Shelf, damaged};

/// What a stream holds. The numbers mirror the row; they are changed in the transaction that writes
/// them, and thrown away with the connection when it fails.
pub(super) struct Lane {
    pub(super) shelf: Shelf,
    epoch: u64,
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
    pub(super) open: Open,
    /// When the first of them was committed.
    pub(super) opened: Option<Instant>,
}

/// What gathers. Times since boot and dates never meet in one batch, since a batch has one `ck`.
#[derive(Default)]
pub(super) struct Open {
    /// Readings whose times count from the boot of the board.
    pub(super) undated: Assembly,
    /// All others, which is mostly all.
    pub(super) dated: Assembly,
}

impl Open {
    pub(super) fn push(&mut self, group: &Group) {
        let from_boot = clock::counts_from_boot(group.at);
        if from_boot { &mut self.undated } else { &mut self.dated }.push(group);
    }

    pub(super) fn readings(&self) -> usize {
        self.undated.readings() + self.dated.readings()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.undated.is_empty() && self.dated.is_empty()
    }

    /// Returns the bytes of the larger of the two.
    fn bytes_estimate(&self) -> usize {
        self.undated.bytes_estimate().max(self.dated.bytes_estimate())
    }
}

impl Lane {
    /// Reads all rows. A row whose checksum fails is damage of the whole store: a sequence number
    /// that is too low would be given twice.
    pub(super) fn load(conn: &Connection, epoch: u64, version: i64) -> Result<[Self; 6]> {
        let crc = if version > 1 { "crc" } else { "NULL" };
        let mut statement = conn.prepare(&format!(
            "SELECT seq_next, floor, tick, dropped, damaged, batches, readings, bytes, {crc}
             FROM stream WHERE id = ?1",
        ))?;
        let mut one = |shelf: Shelf| {
            if version < 2 && shelf.is_salvaged() {
                return Ok(Self::new(shelf, epoch));
            }
            let mut lane = Self::new(shelf, epoch);
            let crc = statement.query_row([shelf as u8], |row| {
                lane.seq_next = count(row, 0)?;
                lane.floor = count(row, 1)?;
                lane.tick = count(row, 2)?;
                lane.dropped = count(row, 3)?;
                lane.damaged = count(row, 4)?;
                lane.batches = count(row, 5)?;
                lane.readings = count(row, 6)?;
                lane.bytes = count(row, 7)?;
                row.get::<_, Option<i64>>(8)
            })?;
            let sound = version < 2 || crc == Some(lane.crc());
            if sound { Ok(lane) } else { Err(damage()) }
        };
        let [data, event, own, old_data, old_event, old_own] = Shelf::ALL;
        Ok([one(data)?, one(event)?, one(own)?, one(old_data)?, one(old_event)?, one(old_own)?])
    }

    fn new(shelf: Shelf, epoch: u64) -> Self {
        Self {
            shelf,
            epoch,
            seq_next: 1,
            floor: 0,
            tick: 0,
            dropped: 0,
            damaged: 0,
            batches: 0,
            readings: 0,
            bytes: 0,
            dirty: false,
            open: Open::default(),
            opened: None,
        }
    }

    /// In the order of the columns, from `id` on.
    fn row(&self) -> [i64; 9] {
        let counts = [
            self.seq_next,
            self.floor,
            self.tick,
            self.dropped,
            self.damaged,
            self.batches,
            self.readings,
            self.bytes,
        ];
        let mut row = [i64::from(self.shelf as u8); 9];
        row[1..].copy_from_slice(&counts.map(int));
        row
    }

    fn crc(&self) -> i64 {
        let row = self.row().map(i64::to_le_bytes);
        damaged::crc(&[&self.epoch.to_le_bytes(), row.as_flattened()]).into()
    }

    fn insert(&self, conn: &Connection) -> Result<()> {
        let [id, seq_next, floor, tick, dropped, damaged, batches, readings, bytes] = self.row();
        conn.prepare_cached(
            "INSERT OR REPLACE INTO stream (id, seq_next, floor, tick, dropped, damaged, batches,
             readings, bytes, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            seq_next,
            floor,
            tick,
            dropped,
            damaged,
            batches,
            readings,
            bytes,
            self.crc()
        ])?;
        Ok(())
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
        self.insert(conn)
    }

    /// Returns whether the open batch is full. One that grew to the very limit would have to be cut
    /// in two, so it is full a sixteenth before.
    pub(super) fn is_full(&self, readings_max: usize, bytes_max: usize) -> bool {
        self.open.readings() >= readings_max
            || self.open.bytes_estimate() >= bytes_max - bytes_max / 16
    }

    /// Returns whether waiting for the commit after this one would make the open batch as old as
    /// `age_max`. When a commit takes as long as a batch, every commit seals and no slot is written.
    pub(super) fn is_due(&self, now: Instant, age_max: Duration, commit: Duration) -> bool {
        self.opened.is_some_and(|opened| now.duration_since(opened) + commit >= age_max)
    }

    /// Counts a batch that is held no longer.
    pub(super) fn forget(&mut self, readings: u64, bytes: u64) {
        self.batches = self.batches.saturating_sub(1);
        self.readings = self.readings.saturating_sub(readings);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.touch();
    }
}

/// A stream's row as it stands in a damaged store.
pub(super) struct Brief {
    pub(super) epoch: u64,
    pub(super) seq_next: u64,
    pub(super) floor: u64,
    pub(super) tick: u64,
    pub(super) batches: u64,
}

impl Brief {
    /// Reads the columns after `id`; `None` unless they are a stream's own and their checksum holds.
    pub(super) fn of(epoch: u64, id: i64, columns: &[i64]) -> Option<(Stream, Self)> {
        let stream = *Stream::ALL.get(usize::try_from(id).ok()?)?;
        let mut lane = Lane::new(stream.into(), epoch);
        let [seq_next, floor, tick, dropped, damaged, batches, readings, bytes, crc, ..] = *columns
        else {
            return None;
        };
        let count = |number: i64| u64::try_from(number).ok();
        (lane.seq_next, lane.floor) = (count(seq_next)?, count(floor)?);
        (lane.tick, lane.dropped, lane.damaged) = (count(tick)?, count(dropped)?, count(damaged)?);
        (lane.batches, lane.readings) = (count(batches)?, count(readings)?);
        lane.bytes = count(bytes)?;
        let Lane { seq_next, floor, tick, batches, .. } = lane;
        (lane.crc() == crc).then_some((stream, Self { epoch, seq_next, floor, tick, batches }))
    }
}

/// Makes the rows of a new store.
pub(super) fn create(conn: &Connection, epoch: u64) -> Result<()> {
    Shelf::ALL.into_iter().try_for_each(|shelf| Lane::new(shelf, epoch).insert(conn))
}

/// Version 2: a checksum in every row, and rows for what is salvaged.
pub(super) fn add_checksums(conn: &Connection, epoch: u64) -> Result<()> {
    Lane::load(conn, epoch, 1)?.iter().try_for_each(|lane| lane.insert(conn))
}
