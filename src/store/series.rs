//! Numbers that stand for points on disk. A [`PointId`] is valid for one process; a series number
//! stays with its name in the `series` table for as long as committed readings refer to it.
//!
//! The names stay on the disk. Of those that this process has not used yet, a fingerprint is kept in
//! memory until they are: 10,000 names twice, in the table and in [`Points`], were 3 MB after every
//! start but the first.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use crate::limits;
use crate::reading::{PointId, PointInfo, Points};
use crate::store::damaged;

/// Both directions between points and series.
pub(super) struct Series {
    /// By [`PointId`]; 0 means not written yet.
    of_point: Vec<i64>,
    /// Series on disk whose point has not been seen by this process, by fingerprint.
    unseen: HashMap<u128, i64>,
    fingerprints: Fingerprints,
    last: i64,
    epoch: u64,
}

/// Two 64-bit hashes with keys of their own, drawn at every start. Two of a million names agree in
/// both once in 10^26 starts, and nobody who invents names can aim for it.
#[derive(Default)]
struct Fingerprints(RandomState, RandomState);

/// The columns that [`sound`] reads.
const COLUMNS: &str = "id, device, point, unit, src, crc";

impl Fingerprints {
    fn of(&self, info: &PointInfo) -> u128 {
        u128::from(self.0.hash_one(info)) << 64 | u128::from(self.1.hash_one(info))
    }
}

impl Series {
    /// Reads the table. A name whose checksum fails is left out: readings that refer to it count as
    /// damaged, rather than as another point's.
    pub(super) fn load(conn: &Connection, epoch: u64) -> Result<Self> {
        let fingerprints = Fingerprints::default();
        let mut unseen = HashMap::new();
        let mut last = 0;
        let mut rows = conn.prepare(&format!("SELECT {COLUMNS} FROM series"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            last = last.max(id);
            if let Some(info) = sound(row, epoch) {
                unseen.insert(fingerprints.of(&info), id);
            }
        }
        Ok(Self { of_point: Vec::new(), unseen, fingerprints, last, epoch })
    }

    /// Makes sure that every point of a list has a number, in the transaction that uses it first.
    pub(super) fn write(&mut self, conn: &Connection, ids: &[PointId], all: &Points) -> Result<()> {
        for id in ids {
            let index = id.0 as usize;
            if self.of_point.get(index).is_some_and(|series| *series != 0) {
                continue;
            }
            let info = all.info(*id);
            let series = match self.unseen.remove(&self.fingerprints.of(&info)) {
                Some(series) => series,
                None => self.insert(conn, &info)?,
            };
            if self.of_point.len() <= index {
                self.of_point.resize(index + 1, 0);
            }
            self.of_point[index] = series;
        }
        if self.unseen.len() < self.unseen.capacity() / 4 {
            self.unseen.shrink_to_fit();
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
        if self.unseen.len() < limits::SERIES_ORPHANS_MAX {
            return Ok(());
        }
        let unseen: HashSet<i64> = self.unseen.values().copied().collect();
        let mut orphans = HashSet::new();
        let mut rows = conn.prepare(&format!("SELECT {COLUMNS} FROM series"))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let is_orphan = |info: PointInfo| points.find(&info).is_none();
            if unseen.contains(&id) && sound(row, self.epoch).is_some_and(is_orphan) {
                orphans.insert(id);
            }
        }
        if orphans.len() < limits::SERIES_ORPHANS_MAX {
            return Ok(());
        }
        let mut delete = conn.prepare("DELETE FROM series WHERE id = ?1")?;
        for id in &orphans {
            delete.execute([id])?;
        }
        self.unseen.retain(|_, id| !orphans.contains(id));
        Ok(())
    }
}

/// Returns the name that a series number stands for; `None` when no row has it, or a damaged one.
pub(super) fn name_of(conn: &Connection, epoch: u64, series: i64) -> Result<Option<PointInfo>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM series WHERE id = ?1"))?
        .query_row([series], |row| Ok(sound(row, epoch)))
        .optional()
        .map(Option::flatten)
}

/// Reads a row's [`COLUMNS`]; `None` when its checksum fails.
fn sound(row: &Row<'_>, epoch: u64) -> Option<PointInfo> {
    // A column of another type is damage like any other.
    let info = info(row).ok()?;
    let found = (row.get::<_, i64>(0).ok()?, row.get::<_, i64>(5).ok()?);
    (found.1 == crc(epoch, found.0, &info)).then_some(info)
}

/// Reads the columns after `id`.
fn info(row: &Row<'_>) -> Result<PointInfo> {
    let text = |column| row.get::<_, Arc<str>>(column);
    Ok(PointInfo { device: text(1)?, point: text(2)?, unit: text(3)?, src: row.get(4)? })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;

    fn info(n: u32) -> PointInfo {
        let src = n.is_multiple_of(3).then(|| format!("holding {n}").into());
        PointInfo { src, ..PointInfo::new("meter", &format!("p{n}"), "V") }
    }

    /// One start: reads the table and writes these points. Returns the series of each.
    fn start(conn: &Connection, order: impl Iterator<Item = u32>) -> (Series, Vec<(u32, i64)>) {
        let points = Points::default();
        let mut series = Series::load(conn, 1).unwrap();
        let ids: Vec<(u32, PointId)> =
            order.map(|n| (n, points.intern(info(n)).unwrap())).collect();
        let list: Vec<PointId> = ids.iter().map(|(_, id)| *id).collect();
        series.write(conn, &list, &points).unwrap();
        let mut found: Vec<_> = ids.iter().map(|(n, id)| (*n, series.of(*id))).collect();
        found.sort_unstable();
        (series, found)
    }

    #[test]
    fn a_second_start_finds_every_series_again_and_then_holds_none_of_their_names() {
        let conn = Connection::open_in_memory().unwrap();
        schema::create(&conn, 1).unwrap();
        let (_, first) = start(&conn, 0..2000);
        let (series, second) = start(&conn, (0..2000).rev());
        assert_eq!(first, second);
        assert_eq!(series.unseen.capacity(), 0);
        for (n, number) in &first {
            assert_eq!(name_of(&conn, 1, *number).unwrap(), Some(info(*n)));
        }
        let (series, _) = start(&conn, 1000..2001);
        assert_eq!((series.unseen.len(), series.last), (1000, 2001), "one is new");
    }
}
