//! How many bytes of its disk the store may use, and the checkpoint that follows from it.

use std::path::Path;

use rusqlite::{Connection, Result};

use crate::limits;
use crate::store::schema::{PAGE_BYTES, count};
use crate::store::settings::Settings;
use crate::store::wear;

/// Pages of the log after which it is emptied into the database: the more, the more often a page
/// that is written over and over costs one write less, and the more of the quota the log takes.
const LOG_PAGES: std::ops::RangeInclusive<u64> = 64..=1000;
/// The log takes this part of the quota at most.
const LOG_SHARE: u64 = 8;

/// Bytes of free pages that are left over in a file that may not grow: a commit writes before it
/// drops, and without them each would make the file a little longer.
const FREE_KEPT: u64 = 64 * PAGE_BYTES;

fn log_pages(bytes_max: u64) -> u64 {
    (bytes_max / LOG_SHARE / PAGE_BYTES).clamp(*LOG_PAGES.start(), *LOG_PAGES.end())
}

/// Makes SQLite empty its log as often as the quota asks for.
pub(super) fn limit_log(conn: &Connection, bytes_max: u64) -> Result<()> {
    conn.pragma_update(None, "wal_autocheckpoint", log_pages(bytes_max).cast_signed())
}

/// Returns the bytes of pages that may be in use: the quota without the log, and no more than the
/// file has now while its file system has less than `free` left. What was dropped for the room of
/// others would not come back when they have filled that too, so the file does not shrink for them;
/// new batches take the place of the oldest.
pub(super) fn bytes_max(conn: &Connection, settings: &Settings) -> Result<u64> {
    let quota = settings.bytes_max.saturating_sub(log_pages(settings.bytes_max) * PAGE_BYTES);
    if settings.free_min == 0 {
        return Ok(quota);
    }
    let Some(free) = bytes_free(&settings.path) else { return Ok(quota) };
    let file = conn.pragma_query_value(None, "page_count", |row| count(row, 0))? * PAGE_BYTES;
    let growth = free.saturating_sub(settings.free_min);
    let reusable = file.saturating_sub(FREE_KEPT).max(wear::bytes_in_use(conn)?);
    Ok(quota.min((reusable + growth).max(limits::BUFFER_BYTES_MIN)))
}

/// Returns the bytes that an ordinary user may still write to the file system of a file; `None` when
/// it cannot be asked, as when it is gone.
fn bytes_free(path: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(path).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}
