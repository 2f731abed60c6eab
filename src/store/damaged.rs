//! Checksums of stored rows, and the place where rows go that fail theirs. SQLite does not notice a
//! flipped bit inside a blob; we do, set the row aside for salvage, count it, and go on.

use rusqlite::{Connection, Result, params};

use crate::limits;
use crate::reading::UnixMillis;
use crate::store::schema::int;

/// CRC-32 (ISO 3309) over all parts.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

/// Puts a row aside, in the current transaction. Beyond [`limits::DAMAGED_ROWS_MAX`] the oldest goes.
pub(super) fn keep(
    conn: &Connection,
    kind: &str,
    key: i64,
    now: UnixMillis,
    body: &[u8],
) -> Result<()> {
    conn.prepare_cached("INSERT INTO damaged (kind, key, found_ms, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, key, now.0, body])?;
    let over = conn.last_insert_rowid() - int(limits::DAMAGED_ROWS_MAX);
    conn.prepare_cached("DELETE FROM damaged WHERE id <= ?1")?.execute([over])?;
    Ok(())
}
