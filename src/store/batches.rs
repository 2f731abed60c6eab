//! Sealed batches: the wire bytes on disk, by stream and sequence number, until they are
//! acknowledged or a quota drops them.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use crate::batch;
use crate::clock::{self, EARLIEST_PLAUSIBLE};
use crate::limits;
use crate::reading::UnixMillis;
use crate::store::lane::Lane;
use crate::store::schema::{PAGE_BYTES, count, int};
use crate::store::{Batch, Shelf, damaged, dates};

/// Bits of a key below the stream: 2^56 batches are two million years at a thousand a second.
pub(super) const SEQ_BITS: u32 = 56;
/// Bytes of a row beside its payload, rounded up.
const ROW_BYTES: u64 = 48;
/// Payload bytes that one call of [`read`] returns before it stops early.
const READ_BYTES_MAX: usize = 4 * limits::BATCH_BYTES_MAX;

/// A batch on its way to its row.
pub(super) struct Sealed {
    pub(super) readings: u64,
    pub(super) span: (UnixMillis, UnixMillis),
    pub(super) sealed_at: UnixMillis,
    pub(super) payload: Bytes,
}

impl Sealed {
    /// Returns it as the uplink sees it; the payload is shared.
    pub(super) fn to_batch(&self, shelf: Shelf, seq: u64) -> Batch {
        Batch {
            shelf,
            seq,
            readings: self.readings,
            last: self.span.1,
            payload: self.payload.clone(),
        }
    }
}

/// A batch as its row's short columns show it.
struct Brief {
    seq: u64,
    readings: u64,
    bytes: u64,
    sealed_at: UnixMillis,
}

/// What one step of a quota dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Whole batches.
    pub(super) batches: u64,
    /// The readings in them.
    pub(super) readings: u64,
}

/// Returns the bytes of the file that a batch takes: in whole pages once it fills more than a
/// quarter of one.
#[must_use]
pub fn footprint(payload: u64) -> u64 {
    let row = payload + ROW_BYTES;
    if row < PAGE_BYTES / 4 { row } else { row.next_multiple_of(PAGE_BYTES) }
}

/// Returns the key of a batch's row.
pub(super) fn key(shelf: Shelf, seq: u64) -> i64 {
    int(((shelf as u64) << SEQ_BITS) | seq.min((1 << SEQ_BITS) - 1))
}

/// Returns the sequence number in a key.
pub(super) fn seq(key: i64) -> u64 {
    key.unsigned_abs() & ((1 << SEQ_BITS) - 1)
}

pub(super) fn checksum(key: i64, batch: &Sealed) -> u32 {
    let head = [key, int(batch.readings), batch.span.0.0, batch.span.1.0, batch.sealed_at.0];
    damaged::crc(&[head.map(i64::to_le_bytes).as_flattened(), &batch.payload])
}

/// Writes a batch.
pub(super) fn insert(conn: &Connection, lane: &mut Lane, seq: u64, batch: &Sealed) -> Result<()> {
    write(conn, "INSERT", key(lane.shelf, seq), batch)?;
    lane.batches += 1;
    lane.readings += batch.readings;
    lane.bytes += footprint(batch.payload.len() as u64);
    lane.touch();
    Ok(())
}

fn write(conn: &Connection, how: &str, key: i64, batch: &Sealed) -> Result<()> {
    let sql = format!(
        "{how} INTO batch (id, n, t0, t1, sealed_ms, crc, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
    );
    conn.prepare_cached(&sql)?
        .execute(params![
            key,
            int(batch.readings),
            batch.span.0.0,
            batch.span.1.0,
            batch.sealed_at.0,
            checksum(key, batch),
            &batch.payload[..]
        ])
        .map(drop)
}

/// Gives a batch the dates that belong to it: its first time is `t0`. One that is not there any
/// more, or is damaged, is left as it is; whoever reads it sees.
pub(super) fn redate(conn: &Connection, lanes: &mut [Lane], key: i64, t0: i64) -> Result<()> {
    let found = conn
        .prepare_cached("SELECT id, n, t0, t1, sealed_ms, crc, payload FROM batch WHERE id = ?1")?
        .query_row([key], |row| Ok(sound(key, row)))
        .optional()?
        .flatten();
    let lane = usize::try_from(key >> SEQ_BITS).ok().and_then(|lane| lanes.get_mut(lane));
    let (Some(batch), Some(lane)) = (found, lane) else { return Ok(()) };
    let by = t0.saturating_sub(batch.span.0.0);
    let Some(payload) = batch::redate(&batch.payload, by) else { return Ok(()) };
    let moved = |at: UnixMillis| UnixMillis(at.0.saturating_add(by));
    let sealed_at = batch.sealed_at;
    let dated = Sealed {
        span: (moved(batch.span.0), moved(batch.span.1)),
        // What was sealed by the same clock is as old as that clock says now.
        sealed_at: if clock::counts_from_boot(sealed_at) { moved(batch.span.1) } else { sealed_at },
        payload: payload.into(),
        ..batch
    };
    let bytes = footprint(dated.payload.len() as u64);
    lane.bytes = (lane.bytes + bytes).saturating_sub(footprint(batch.payload.len() as u64));
    lane.touch();
    write(conn, "REPLACE", key, &dated)
}

/// Returns when the newest batch that a set clock saw was sealed.
pub(super) fn newest(conn: &Connection, lanes: &[Lane]) -> Result<Option<UnixMillis>> {
    let mut newest = None;
    for lane in lanes {
        let sealed = conn
            .prepare_cached(
                "SELECT sealed_ms FROM batch WHERE id > ?1 AND id < ?2 AND sealed_ms >= ?3
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(
                [key(lane.shelf, 0), key(lane.shelf, u64::MAX), EARLIEST_PLAUSIBLE.0],
                |row| row.get(0).map(UnixMillis),
            )
            .optional()?;
        newest = newest.max(sealed);
    }
    Ok(newest)
}

/// Returns the sequence number of the oldest batch held, and when it was sealed.
pub(super) fn oldest(conn: &Connection, shelf: Shelf) -> Result<Option<(u64, UnixMillis)>> {
    Ok(brief_after(conn, shelf, 0)?.map(|batch| (batch.seq, batch.sealed_at)))
}

/// As [`oldest`], of those from `first` on.
pub(super) fn oldest_from(
    conn: &Connection,
    shelf: Shelf,
    first: u64,
) -> Result<Option<(u64, UnixMillis)>> {
    let batch = brief_after(conn, shelf, first.saturating_sub(1))?;
    Ok(batch.map(|batch| (batch.seq, batch.sealed_at)))
}

fn brief_after(conn: &Connection, shelf: Shelf, after: u64) -> Result<Option<Brief>> {
    conn.prepare_cached(
        "SELECT id, n, octet_length(payload), sealed_ms FROM batch WHERE id > ?1 AND id < ?2
         ORDER BY id LIMIT 1",
    )?
    .query_row([key(shelf, after), key(shelf, u64::MAX)], |row| {
        Ok(Brief {
            seq: seq(row.get(0)?),
            readings: count(row, 1)?,
            bytes: footprint(count(row, 2)?),
            sealed_at: UnixMillis(row.get(3)?),
        })
    })
    .optional()
}

/// Frees batches `first` to `last`. What is not there was dropped before or freed already: nothing
/// happens.
pub(super) fn free(conn: &Connection, lane: &mut Lane, first: u64, last: u64) -> Result<()> {
    let mut after = first.saturating_sub(1);
    while let Some(batch) = brief_after(conn, lane.shelf, after)?.filter(|b| b.seq <= last) {
        delete(conn, lane, &batch)?;
        after = batch.seq;
    }
    Ok(())
}

fn delete(conn: &Connection, lane: &mut Lane, batch: &Brief) -> Result<()> {
    conn.prepare_cached("DELETE FROM batch WHERE id = ?1")?
        .execute([key(lane.shelf, batch.seq)])?;
    dates::forget(conn, key(lane.shelf, batch.seq))?;
    lane.forget(batch.readings, batch.bytes);
    Ok(())
}

/// Drops the oldest batch of a stream and counts its readings.
pub(super) fn drop_oldest(conn: &Connection, lane: &mut Lane) -> Result<Dropped> {
    let Some(batch) = brief_after(conn, lane.shelf, 0)? else {
        // The row says there is one: it was written with the batch, so the table is damaged.
        lane.batches = 0;
        lane.bytes = 0;
        lane.readings = 0;
        lane.touch();
        return Ok(Dropped::default());
    };
    delete(conn, lane, &batch)?;
    lane.dropped += batch.readings;
    Ok(Dropped { batches: 1, readings: batch.readings })
}

/// Returns whether the oldest batch was sealed before `limit`. Batches from before the clock was
/// set are as old as the first one after.
pub(super) fn is_older(conn: &Connection, lane: &Lane, limit: UnixMillis) -> Result<bool> {
    if lane.batches == 0 {
        return Ok(false);
    }
    let sealed_at = conn
        .prepare_cached(
            "SELECT sealed_ms FROM batch WHERE id > ?1 AND id < ?2 AND sealed_ms >= ?3
             ORDER BY id LIMIT 1",
        )?
        .query_row([key(lane.shelf, 0), key(lane.shelf, u64::MAX), EARLIEST_PLAUSIBLE.0], |row| {
            row.get::<_, i64>(0)
        })
        .optional()?;
    Ok(sealed_at.is_some_and(|at| at < limit.0))
}

/// Batches as they stand on disk, and the keys of those whose checksum failed.
#[derive(Default)]
pub(super) struct Read {
    pub(super) batches: Vec<Batch>,
    pub(super) damaged: Vec<u64>,
}

/// Reads a row; `None` when its checksum does not match, or a column is of another type.
fn sound(key: i64, row: &rusqlite::Row<'_>) -> Option<Sealed> {
    let batch = Sealed {
        readings: count(row, 1).ok()?,
        span: (UnixMillis(row.get(2).ok()?), UnixMillis(row.get(3).ok()?)),
        sealed_at: UnixMillis(row.get(4).ok()?),
        payload: row.get::<_, Vec<u8>>(6).ok()?.into(),
    };
    (i64::from(checksum(key, &batch)) == row.get::<_, i64>(5).ok()?).then_some(batch)
}

/// Reads the batches after `after`, oldest first, without those that `skip` names.
pub(super) fn read(
    conn: &Connection,
    shelf: Shelf,
    after: u64,
    most: usize,
    skip: impl Fn(u64) -> bool,
) -> Result<Read> {
    let mut found = Read::default();
    let mut bytes = 0;
    let mut statement = conn.prepare_cached(
        "SELECT id, n, t0, t1, sealed_ms, crc, payload FROM batch WHERE id > ?1 AND id < ?2
         ORDER BY id",
    )?;
    let mut rows = statement.query([key(shelf, after), key(shelf, u64::MAX)])?;
    while found.batches.len() < most && bytes < READ_BYTES_MAX {
        let Some(row) = rows.next()? else { break };
        let key: i64 = row.get(0)?;
        if skip(seq(key)) {
            continue;
        }
        let Some(batch) = sound(key, row) else {
            found.damaged.push(seq(key));
            continue;
        };
        bytes += batch.payload.len();
        found.batches.push(batch.to_batch(shelf, seq(key)));
    }
    Ok(found)
}

/// Reads every batch of every shelf in order, those whose checksum fails as `None`, until `found`
/// returns false.
pub(super) fn walk(
    conn: &Connection,
    mut found: impl FnMut(Shelf, u64, Option<Sealed>) -> bool,
) -> Result<()> {
    let mut statement =
        conn.prepare("SELECT id, n, t0, t1, sealed_ms, crc, payload FROM batch ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        let shelf = usize::try_from(key >> SEQ_BITS).ok().and_then(|n| Shelf::ALL.get(n));
        let Some(shelf) = shelf else { continue };
        if !found(*shelf, seq(key), sound(key, row)) {
            break;
        }
    }
    Ok(())
}

/// Moves a batch whose checksum failed out of the way.
pub(super) fn set_aside(
    conn: &Connection,
    lane: &mut Lane,
    seq: u64,
    now: UnixMillis,
) -> Result<()> {
    let Some(batch) = brief_after(conn, lane.shelf, seq.saturating_sub(1))? else { return Ok(()) };
    if batch.seq != seq {
        return Ok(());
    }
    let key = key(lane.shelf, seq);
    let payload: Vec<u8> =
        conn.query_row("SELECT CAST(payload AS BLOB) FROM batch WHERE id = ?1", [key], |row| {
            row.get(0)
        })?;
    damaged::keep(conn, lane.shelf.name(), key, now, &payload)?;
    delete(conn, lane, &batch)?;
    lane.damaged += 1;
    Ok(())
}
