//! What each uplink with a data plan has used of its month. The uplink counts and says the sum; here
//! it is only kept, in a row that goes with commits that happen anyway.
//!
//! A row that is damaged counts as none: the month is counted from there on.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use crate::reading::UnixMillis;
use crate::store::damaged;
use crate::store::schema::{count, int};

/// What was used in a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Months since January 1970; 0 while the clock was never set.
    pub month: u64,
    /// Since when it was counted.
    pub from: UnixMillis,
    /// Bytes, in both directions.
    pub bytes: u64,
    /// The plan, bytes a month.
    pub plan: u64,
}

impl Used {
    /// Returns the month as people write it, `2026-11`; `None` while it is not known.
    #[must_use]
    pub fn month_name(&self) -> Option<String> {
        let (year, month) = (1970 + self.month / 12, self.month % 12 + 1);
        (self.month > 0).then(|| format!("{year}-{month:02}"))
    }
}

/// By the names of uplinks.
pub(super) type Traffic = BTreeMap<Arc<str>, Used>;

/// Reads all rows.
pub(super) fn load(conn: &Connection) -> Result<Traffic> {
    let mut statement =
        conn.prepare("SELECT name, month, from_ms, bytes, plan, crc FROM traffic")?;
    let mut rows = statement.query([])?;
    let mut all = Traffic::new();
    while let Some(row) = rows.next()? {
        let (name, crc): (String, i64) = (row.get(0)?, row.get(5)?);
        let from = UnixMillis(row.get(2)?);
        let used =
            Used { month: count(row, 1)?, from, bytes: count(row, 3)?, plan: count(row, 4)? };
        if crc == sum(&name, &used) {
            all.insert(name.into(), used);
        }
    }
    Ok(all)
}

/// Writes one row. With a new month, those go that nobody has written since the last.
pub(super) fn save(conn: &Connection, name: &str, used: &Used) -> Result<()> {
    let Used { month, from, bytes, plan } = *used;
    let month = int(month);
    conn.prepare_cached("DELETE FROM traffic WHERE month < ?1 - 1 AND month > 0")?
        .execute([month])?;
    conn.prepare_cached("INSERT OR REPLACE INTO traffic VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![name, month, from.0, int(bytes), int(plan), sum(name, used)])
        .map(drop)
}

fn sum(name: &str, used: &Used) -> i64 {
    let Used { month, from, bytes, plan } = *used;
    let row = [int(month), from.0, int(bytes), int(plan)].map(i64::to_le_bytes);
    damaged::crc(&[name.as_bytes(), row.as_flattened()]).into()
}
