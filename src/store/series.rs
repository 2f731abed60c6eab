//! Numbers that stand for points on disk. A [`PointId`] is valid for one process; a series number
//! stays with its name in the `series` table for as long as committed readings refer to it.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Result, Row, params};

use crate::limits;
use crate::reading::{PointId, PointInfo, Points};
use crate::store::damaged;

/// Both directions between points and series.
pub(super) struct Series {
    /// By [`PointId`]; 0 means not written yet.
    of_point: Vec<i64>,
    /// Series on disk whose point has not been seen by this process.
    unseen: HashMap<PointInfo, i64>,
    last: i64,
    epoch: u64,
}

impl Series {
    /// Reads the table. A name whose checksum fails is left out: readings that refer to it count as
    /// damaged, rather than as another point's.
    pub(super) fn load(conn: &Connection, epoch: u64) -> Result<Self> {
        let mut unseen = HashMap::new();
        let mut last = 0;
        let mut rows = conn.prepare("SELECT id, device, point, unit, src, crc FROM series")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            last = last.max(id);
            // A column of another type is damage like any other.
            let Ok(info) = info(row) else { continue };
            if row.get::<_, i64>(5).is_ok_and(|found| found == crc(epoch, id, &info)) {
                unseen.insert(info, id);
            }
        }
        Ok(Self { of_point: Vec::new(), unseen, last, epoch })
    }

    /// Returns the names that series numbers stand for, as they were when the table was read.
    pub(super) fn names(&self) -> HashMap<i64, &PointInfo> {
        self.unseen.iter().map(|(info, id)| (*id, info)).collect()
    }

    /// Makes sure that every point of a list has a number, in the transaction that uses it first.
    pub(super) fn write(&mut self, conn: &Connection, ids: &[PointId], all: &Points) -> Result<()> {
        for id in ids {
            let index = id.0 as usize;
            if self.of_point.get(index).is_some_and(|series| *series != 0) {
                continue;
            }
            let info = all.info(*id);
            let series = match self.unseen.remove(&*info) {
                Some(series) => series,
                None => self.insert(conn, &info)?,
            };
            if self.of_point.len() <= index {
                self.of_point.resize(index + 1, 0);
            }
            self.of_point[index] = series;
        }
        Ok(())
    }

    fn insert(&mut self, conn: &Connection, info: &PointInfo) -> Result<i64> {
        self.last += 1;
        let crc = crc(self.epoch, self.last, info);
        conn.prepare_cached(
            "INSERT INTO series (id, device, point, unit, src, crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![self.last, info.device, info.point, info.unit, info.src, crc])?;
        Ok(self.last)
    }

    /// Returns the number of a point that was written; 0 for others.
    pub(super) fn of(&self, point: PointId) -> i64 {
        self.of_point.get(point.0 as usize).copied().unwrap_or(0)
    }

    /// Removes series that nothing refers to, when there are many. Only while no readings wait in
    /// slots: sealed batches carry their own names.
    pub(super) fn prune(&mut self, conn: &Connection, points: &Points) -> Result<()> {
        let orphan = |info: &PointInfo| points.find(info).is_none();
        if self.unseen.keys().filter(|info| orphan(info)).count() < limits::SERIES_ORPHANS_MAX {
            return Ok(());
        }
        let mut delete = conn.prepare("DELETE FROM series WHERE id = ?1")?;
        let orphans: Vec<_> = self.unseen.extract_if(|info, _| orphan(info)).collect();
        for (_, id) in orphans {
            delete.execute([id])?;
        }
        Ok(())
    }
}

/// Reads the columns after `id`.
fn info(row: &Row<'_>) -> Result<PointInfo> {
    let text = |column| row.get::<_, String>(column).map(Arc::from);
    let src = row.get::<_, Option<String>>(4)?.map(Arc::from);
    Ok(PointInfo { device: text(1)?, point: text(2)?, unit: text(3)?, src })
}

/// Over epoch, id and the texts, each with its length before it.
pub(super) fn crc(epoch: u64, id: i64, info: &PointInfo) -> i64 {
    let texts = [&*info.device, &info.point, &info.unit, info.src.as_deref().unwrap_or("")];
    let [a, b, c, d] = texts.map(|text| (text.len() as u64).to_le_bytes());
    let [device, point, unit, src] = texts.map(str::as_bytes);
    let head = [epoch.to_le_bytes(), id.to_le_bytes()];
    damaged::crc(&[head.as_flattened(), &a, device, &b, point, &c, unit, &d, src]).into()
}

/// Version 2: a checksum in every row.
pub(super) fn add_checksums(conn: &Connection, epoch: u64) -> Result<()> {
    let mut rows = conn.prepare("SELECT id, device, point, unit, src FROM series")?;
    let mut rows = rows.query([])?;
    let mut write = conn.prepare("UPDATE series SET crc = ?2 WHERE id = ?1")?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let Ok(info) = info(row) else { continue };
        write.execute([id, crc(epoch, id, &info)])?;
    }
    Ok(())
}
