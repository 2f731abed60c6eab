//! Who has what, when several uplinks take the same batches: a batch is freed when the last of them
//! has it. With one uplink there is nothing to note: what it has is gone.
//!
//! What each has is a set of ranges a shelf, nearly always one range, in a row of its own that is
//! written with the commit that takes its acknowledgements; so a commit costs a row an uplink, not a
//! row a batch. A row that is damaged counts as empty: its uplink sends again, under the same keys.

use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use crate::limits;
use crate::ranges::Ranges;
use crate::store::disk::Acknowledged;
use crate::store::lane::Lane;
use crate::store::status::UplinkStatus;
use crate::store::{Shelf, batches, damaged};

/// See the file's head.
#[derive(Default)]
pub(super) struct Shares {
    /// By place; empty where nobody is.
    names: Vec<Arc<str>>,
    /// In the order of `names`; empty sets while there is only one.
    had: Vec<[Ranges; Shelf::COUNT]>,
    dirty: Vec<[bool; Shelf::COUNT]>,
    /// Uplinks of an earlier start are to be forgotten, with the next transaction.
    stale: bool,
}

impl Shares {
    /// Reads what the uplinks of these names have.
    pub(super) fn load(conn: &Connection, epoch: u64, names: &[Arc<str>]) -> Result<Self> {
        let mut shares = Self {
            names: names.to_vec(),
            had: names.iter().map(|_| Default::default()).collect(),
            dirty: names.iter().map(|_| Default::default()).collect(),
            stale: false,
        };
        if shares.are_several() {
            // One that has nothing yet gets a row too, for those who look from outside.
            shares.dirty.iter_mut().for_each(|dirty| dirty[Shelf::Data as usize] = true);
        }
        if shares.places().next().is_none() {
            return Ok(shares);
        }
        let mut statement = conn.prepare("SELECT name, shelf, had FROM uplink")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (name, shelf): (String, u8) = (row.get(0)?, row.get(1)?);
            let shelf = usize::from(shelf);
            let at = names.iter().position(|known| **known == *name);
            shares.stale |= at.is_none() || !shares.are_several();
            if let Some(at) = at.filter(|_| shelf == Shelf::Data as usize) {
                shares.dirty[at][shelf] = false;
            }
            if let Some(place) = at.and_then(|at| shares.had[at].get_mut(shelf)) {
                *place = decode(&row.get::<_, Vec<u8>>(2)?, epoch).unwrap_or_default();
            }
        }
        Ok(shares)
    }

    /// Reads whatever uplinks there are, for one who looks from outside.
    pub(super) fn load_all(conn: &Connection, epoch: u64) -> Result<Self> {
        let mut statement = conn.prepare("SELECT DISTINCT name FROM uplink ORDER BY name")?;
        let names = statement.query_map([], |row| Ok(Arc::from(row.get::<_, String>(0)?)))?;
        let names: Vec<Arc<str>> = names.collect::<Result<_>>()?;
        Self::load(conn, epoch, &names)
    }

    /// Takes what the uplinks have acknowledged, and frees what all of them have.
    pub(super) fn take(
        &mut self,
        conn: &Connection,
        epoch: u64,
        lanes: &mut [Lane; Shelf::COUNT],
        acknowledged: &Acknowledged,
    ) -> Result<()> {
        self.settle(conn, lanes)?;
        for ((uplink, shelf), acks) in acknowledged {
            let Some(mut through) = acks.of(epoch).cloned() else { continue };
            let name = self.names.get(usize::from(*uplink));
            if !self.names.is_empty() && name.is_none_or(|name| name.is_empty()) {
                // From a place that nobody has: a word that came late.
                continue;
            }
            // Nobody can have what was never sealed.
            through.remove(lanes[*shelf as usize].seq_next, u64::MAX);
            if self.are_several() {
                let (at, shelf) = (usize::from(*uplink), *shelf as usize);
                let Some(had) = self.had.get_mut(at) else { continue };
                had[shelf].extend(&through);
                self.dirty[at][shelf] = true;
                for place in self.places() {
                    through = through.intersection(&self.had[place][shelf]);
                }
            }
            for (first, last) in through.iter() {
                batches::free(conn, &mut lanes[*shelf as usize], first, last)?;
            }
        }
        Ok(())
    }

    /// Forgets uplinks that are not there any more, and frees what all others have.
    fn settle(&mut self, conn: &Connection, lanes: &mut [Lane; Shelf::COUNT]) -> Result<()> {
        if !std::mem::take(&mut self.stale) {
            return Ok(());
        }
        for lane in lanes {
            let shelf = lane.shelf as usize;
            let mut sets = self.places().map(|place| &self.had[place][shelf]);
            let first = sets.next().cloned().unwrap_or_default();
            let all = sets.fold(first, |all, had| all.intersection(had));
            for (first, last) in all.iter() {
                batches::free(conn, lane, first, last)?;
            }
        }
        conn.execute("DELETE FROM uplink", [])?;
        if self.are_several() {
            self.dirty.fill([true; Shelf::COUNT]);
        } else {
            self.had.fill_with(Default::default);
        }
        Ok(())
    }

    /// Writes what has changed.
    pub(super) fn save(
        &mut self,
        conn: &Connection,
        epoch: u64,
        lanes: &[Lane; Shelf::COUNT],
    ) -> Result<()> {
        for at in self.places().collect::<Vec<_>>() {
            let name = Arc::clone(&self.names[at]);
            for lane in lanes {
                let shelf = lane.shelf as usize;
                if !std::mem::take(&mut self.dirty[at][shelf]) {
                    continue;
                }
                let had = &mut self.had[at][shelf];
                // What is not held any more needs no ranges of its own.
                let lowest =
                    batches::oldest(conn, lane.shelf)?.map_or(lane.seq_next, |(seq, _)| seq);
                had.insert(0, lowest.saturating_sub(1));
                // What is forgotten here is sent once more.
                had.truncate(limits::UPLINK_SPANS_MAX);
                conn.prepare_cached("INSERT OR REPLACE INTO uplink VALUES (?1, ?2, ?3)")?
                    .execute(params![&*name, lane.shelf as u8, encode(had, epoch)])?;
            }
        }
        Ok(())
    }

    /// Returns the places that somebody has.
    fn places(&self) -> impl Iterator<Item = usize> {
        let named = self.names.iter().enumerate().filter(|(_, name)| !name.is_empty());
        named.map(|(place, _)| place)
    }

    fn are_several(&self) -> bool {
        self.places().nth(1).is_some()
    }

    /// Returns the name of the uplink at a place.
    pub(super) fn name(&self, uplink: u8) -> Option<&Arc<str>> {
        self.names.get(usize::from(uplink))
    }

    /// Returns whether an uplink has a batch.
    pub(super) fn has(&self, uplink: u8, shelf: Shelf, seq: u64) -> bool {
        self.of(uplink, shelf).is_some_and(|had| had.contains(seq))
    }

    /// Returns the last of what an uplink has in a row after `after`; `after` when it has not the next.
    pub(super) fn past(&self, uplink: u8, shelf: Shelf, after: u64) -> u64 {
        let gap = self.of(uplink, shelf).and_then(|had| had.gap(after.saturating_add(1), u64::MAX));
        gap.map_or(after, |(first, _)| first - 1)
    }

    fn of(&self, uplink: u8, shelf: Shelf) -> Option<&Ranges> {
        self.had.get(usize::from(uplink)).map(|had| &had[shelf as usize])
    }

    /// Says what each uplink has not got yet; nothing while there is only one.
    pub(super) fn status(
        &self,
        conn: &Connection,
        lanes: &[Lane; Shelf::COUNT],
    ) -> Result<Vec<UplinkStatus>> {
        let several = self.are_several();
        let places = self.places().filter(|_| several);
        places
            .map(|place| {
                let (name, had) = (&self.names[place], &self.had[place]);
                let mut status = UplinkStatus::of(Arc::clone(name));
                for lane in lanes {
                    status.look(conn, lane, &had[lane.shelf as usize])?;
                }
                Ok(status)
            })
            .collect()
    }
}

/// CRC-32, then pairs of u64, all little-endian. The epoch is part of the sum, so that a row of
/// another store says nothing.
fn encode(had: &Ranges, epoch: u64) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for (first, last) in had.iter() {
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
    }
    let sum = damaged::crc(&[&epoch.to_le_bytes(), &bytes[4..]]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], epoch: u64) -> Option<Ranges> {
    let (sum, pairs) = bytes.split_first_chunk::<4>()?;
    if damaged::crc(&[&epoch.to_le_bytes(), pairs]) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut had = Ranges::default();
    for pair in pairs.chunks_exact(16) {
        let (first, last) = pair.split_first_chunk::<8>()?;
        had.insert(u64::from_le_bytes(*first), u64::from_le_bytes(last.try_into().ok()?));
    }
    Some(had)
}
