//! A damaged store, read without SQLite: what SQLite needs to find a row (header, schema, inner
//! pages) is what is often gone, while the rows themselves are sound and say so by their checksum.
//!
//! Every page of the database and of its log is searched for rows, in one pass and at the speed of
//! reading. A row that continues on overflow pages is tried with the pages as the log has them, and
//! as the database has them; the checksum says which was right. So a row comes back unless its own
//! bytes are damaged. Rows that were deleted may stand in free pages still: a batch below the `lo`
//! of a later one had left the store, and is passed over. Of those acknowledged since the last seal
//! a few may be found again; receivers know them by their key.
//!
//! Readings in slots were never sent, so they may get a new key, but only when it is certain that
//! they are in no batch. That needs their stream's row and a log that is whole ([`Survey::slots`]).

mod cells;
mod log;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::batch::{self, Header};
use crate::limits;
use crate::reading::{PointInfo, Stream, UnixMillis};
use crate::store::batches::{self, Sealed};
use crate::store::schema::PAGE;
use crate::store::slots::{self, Piece};
use crate::store::{damaged, file, lane, series};
use cells::{Cell, Column, Finders};
use log::Log;

/// See the file's head.
pub(super) struct Wreck {
    file: Option<File>,
    pages: usize,
    log: Option<Log>,
    /// The last frame of each page.
    newest: HashMap<u32, usize>,
    lacks_frames: bool,
}

/// The key of a batch, in the order in which batches come back.
pub(super) type Key = (u64, Stream, u64);

/// A batch that was found.
pub(super) struct Found {
    /// Which gateway sealed it.
    pub(super) gateway: String,
    pub(super) batch: Sealed,
}

/// Where a row begins: which page or frame, and where in it.
#[derive(Debug, Clone, Copy)]
struct Spot {
    page: usize,
    in_log: bool,
    /// Which of the page's batches, from 0.
    nth: usize,
}

/// What a pass over all pages found.
#[derive(Default)]
pub(super) struct Survey {
    /// Batches after the key that was asked for, the lowest keys first.
    spots: BTreeMap<Key, Spot>,
    /// Whether there were more than fit.
    pub(super) more: bool,
    /// Batches that some stream's row says were held.
    pub(super) held: u64,
    /// Committed readings that no batch has.
    pub(super) slots: Vec<(Stream, Vec<u8>)>,
    /// Chunks of committed readings of which it is not certain, or that are damaged.
    pub(super) uncertain: u64,
    /// What their numbers stand for.
    pub(super) names: HashMap<i64, PointInfo>,
    lows: HashMap<(u64, Stream), u64>,
    highs: HashMap<(u64, Stream), u64>,
    lanes: [Option<lane::Brief>; 3],
    parts: BTreeMap<(u64, usize), BTreeMap<u16, Piece>>,
}

impl Wreck {
    /// Opens what stands at `path` and in the log beside it, for reading only.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        let bytes = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|m| m.len()))?;
        let pages = usize::try_from(bytes.div_ceil(PAGE as u64)).unwrap_or(usize::MAX);
        let log = Log::open(&file::log(path)).unwrap_or(None);
        let frames = log.iter().flat_map(|log| log.pages.iter().enumerate());
        let newest = frames.map(|(frame, page)| (*page, frame)).collect();
        let lacks_frames = log::lacks_frames(log.as_ref(), &file::log_index(path));
        Ok(Self { file, pages, log, newest, lacks_frames })
    }

    /// Returns whether the log holds commits and the database beside it is gone or empty. SQLite takes
    /// that for a new database and deletes the log unread.
    pub(super) fn is_a_log_alone(&self) -> bool {
        self.pages == 0 && self.log.as_ref().is_some_and(|log| log.readable > 0)
    }

    /// Returns whether committed transactions are missing from the log, or stand where SQLite does
    /// not reach them. One may be there after a power cut, which had not been synced.
    pub(super) fn is_cut(&self) -> bool {
        self.lacks_frames || self.log.as_ref().is_some_and(|log| log.commits_cut_off > 1)
    }

    /// Returns whether the log ends in a transaction that is not whole.
    pub(super) fn is_torn(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.commits_cut_off == 1)
    }

    /// Returns whether the log that SQLite would read holds rows of another epoch than the database.
    pub(super) fn log_is_foreign(&self) -> bool {
        let Some(log) = &self.log else { return false };
        let mut page = vec![0; PAGE];
        let mut ours = Vec::new();
        for n in 0..self.pages.min(limits::SALVAGE_META_PAGES_MAX) {
            if self.read(n, false, &mut page).is_ok() {
                ours.extend(cells::epochs(&page));
            }
        }
        let finders = Finders::default();
        let mut foreign = false;
        // Of version 1, and of a store that stands in its log as yet, no epoch is known.
        for frame in (0..log.readable).filter(|_| !ours.is_empty()) {
            if self.read(frame, true, &mut page).is_err() {
                continue;
            }
            foreign |= cells::epochs(&page).iter().any(|epoch| !ours.contains(epoch));
            finders.batches(&page, |cell| {
                let own = cell.rowid >> batches::SEQ_BITS < 3;
                let found = self.batch(&cell, true).filter(|_| own);
                foreign |= found.is_some_and(|(header, _)| !ours.contains(&header.epoch));
            });
            // SQLite's own checksum holds, so these bytes are as they were written. Only cells that
            // the page lists: a page that was a slot's and is another table's now keeps the slot's
            // bytes where nothing was written over them.
            cells::listed(&page, log.pages[frame] == 1, |cell| {
                let Some(body) = cells::slot(&cell) else { return };
                foreign |= !ours.iter().any(|epoch| slots::parse(*epoch, body).is_some());
            });
        }
        foreign
    }

    /// Searches all pages for batches after `after`, and for everything else. `hint` is an epoch
    /// that the store may have had. `step` is called for every page and may end the search.
    pub(super) fn survey(
        &self,
        after: Option<Key>,
        hint: u64,
        mut step: impl FnMut() -> bool,
    ) -> Option<Survey> {
        let mut survey = Survey::default();
        let finders = Finders::default();
        let epochs = self.epochs(hint);
        let mut page = vec![0; PAGE];
        for (n, in_log) in self.places() {
            if !step() {
                return None;
            }
            // What cannot be read holds nothing for us; the next page may.
            if self.read(n, in_log, &mut page).is_err() {
                continue;
            }
            let mut nth = 0;
            finders.batches(&page, |cell| {
                let spot = Spot { page: n, in_log, nth };
                nth += 1;
                if let Some(found) = self.batch(&cell, in_log) {
                    survey.note(found, spot, after);
                }
            });
            for epoch in &epochs {
                finders.slots(&page, |_, body| survey.note_slot(*epoch, body));
                cells::listed(&page, n == 0 && !in_log, |cell| survey.note_row(*epoch, &cell));
            }
        }
        survey.settle(!self.is_cut());
        Some(survey)
    }

    /// Reads a batch that a survey found again, whole.
    pub(super) fn fetch(&self, survey: &Survey, key: Key) -> Option<Found> {
        let spot = survey.spots.get(&key)?;
        let mut page = vec![0; PAGE];
        self.read(spot.page, spot.in_log, &mut page).ok()?;
        let (mut nth, mut found) = (0, None);
        Finders::default().batches(&page, |cell| {
            if nth == spot.nth {
                found = self.batch(&cell, spot.in_log);
            }
            nth += 1;
        });
        let (header, batch) = found?;
        Some(Found { gateway: header.gateway, batch })
    }

    /// Every page of the database, then every frame of the log.
    fn places(&self) -> impl Iterator<Item = (usize, bool)> {
        let frames = self.log.as_ref().map_or(0, |log| log.pages.len());
        (0..self.pages).map(|n| (n, false)).chain((0..frames).map(|n| (n, true)))
    }

    /// Reads a page; what a file that was cut short lacks of it is zeros.
    fn read(&self, n: usize, in_log: bool, page: &mut [u8]) -> io::Result<()> {
        match (&self.file, &self.log) {
            (_, Some(log)) if in_log => log.page(n, page),
            (Some(file), _) if !in_log => {
                let mut filled = 0;
                while filled < page.len() {
                    let at = (n * PAGE + filled) as u64;
                    match file.read_at(&mut page[filled..], at)? {
                        0 => break,
                        read => filled += read,
                    }
                }
                page[filled..].fill(0);
                Ok(())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Epochs that the store may have had: checked ones first.
    fn epochs(&self, hint: u64) -> Vec<u64> {
        let mut epochs = vec![hint];
        let mut page = vec![0; PAGE];
        for (n, in_log) in self.places() {
            let is_early = in_log || n < limits::SALVAGE_META_PAGES_MAX;
            if !is_early || self.read(n, in_log, &mut page).is_err() {
                continue;
            }
            for epoch in cells::epochs(&page) {
                if !epochs.contains(&epoch) && epochs.len() < limits::SALVAGE_EPOCHS_MAX {
                    epochs.push(epoch);
                }
            }
        }
        epochs
    }

    /// Reads a cell as a batch's row; `None` unless its checksum holds.
    fn batch(&self, cell: &Cell<'_>, in_log: bool) -> Option<(Header, Sealed)> {
        // As the store saw it last, and as it was before what stands in the log.
        [in_log, !in_log].into_iter().find_map(|with_log| {
            let record = self.record(cell, with_log)?;
            let columns = cells::columns(&record, record.len())?;
            let [_, n, t0, t1, sealed_at, crc] = *columns.get(..6)? else { return None };
            let Some(Column::Blob(_, payload)) = columns.get(6) else { return None };
            let int = |column| match column {
                Column::Int(number) => Some(number),
                _ => None,
            };
            let batch = Sealed {
                readings: u64::try_from(int(n)?).ok()?,
                span: (UnixMillis(int(t0)?), UnixMillis(int(t1)?)),
                sealed_at: UnixMillis(int(sealed_at)?),
                payload: payload.to_vec().into(),
            };
            if i64::from(batches::checksum(cell.rowid, &batch)) != int(crc)? {
                return None;
            }
            Some((batch::header(&batch.payload).ok()?, batch))
        })
    }

    /// Joins a record with what stands on overflow pages.
    fn record(&self, cell: &Cell<'_>, with_log: bool) -> Option<Vec<u8>> {
        let mut record = cell.local.to_vec();
        let mut next = cell.overflow;
        let mut page = vec![0; PAGE];
        while record.len() < cell.length {
            let number = next?;
            match self.newest.get(&number).filter(|_| with_log) {
                Some(frame) => self.read(*frame, true, &mut page).ok()?,
                None => {
                    let n = usize::try_from(number).ok()?.checked_sub(1)?;
                    self.read(n, false, &mut page).ok().filter(|()| n < self.pages)?;
                }
            }
            let (link, data) = page.split_first_chunk::<4>()?;
            next = Some(u32::from_be_bytes(*link)).filter(|next| *next != 0);
            record.extend_from_slice(&data[..data.len().min(cell.length - record.len())]);
        }
        Some(record)
    }
}

fn key_of(header: &Header) -> Option<Key> {
    let stream = Stream::ALL.into_iter().find(|stream| stream.name() == header.stream)?;
    Some((header.epoch, stream, header.sequence))
}

impl Survey {
    /// Returns the keys that were found and had not left the store, in order.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.spots.keys().copied().collect()
    }

    /// Returns how many batches were found that had not left the store.
    pub(super) fn found(&self) -> u64 {
        self.spots.len() as u64
    }

    fn note(&mut self, (header, _): (Header, Sealed), spot: Spot, after: Option<Key>) {
        let Some(key) = key_of(&header) else { return };
        let (epoch, stream, seq) = key;
        let low = self.lows.entry((epoch, stream)).or_default();
        *low = header.lowest_held.max(*low);
        let high = self.highs.entry((epoch, stream)).or_default();
        *high = seq.max(*high);
        if after.is_some_and(|after| key <= after) {
            return;
        }
        self.spots.insert(key, spot);
        if self.spots.len() > limits::SALVAGE_BATCHES_MAX {
            self.spots.pop_last();
            self.more = true;
        }
    }

    fn note_slot(&mut self, epoch: u64, body: &[u8]) {
        let Some(part) = slots::parse(epoch, body).filter(|part| part.ordinal > 0) else { return };
        if self.parts.len() < limits::SALVAGE_CHUNKS_MAX {
            let piece = (part.part, part.parts, part.data.to_vec());
            self.parts.entry((part.ordinal, part.stream)).or_default().insert(part.part, piece);
        }
    }

    fn note_row(&mut self, epoch: u64, cell: &Cell<'_>) {
        if cell.overflow.is_some() {
            return;
        }
        let Some(columns) = cells::columns(cell.local, cell.length) else { return };
        if let Some((stream, row)) = lane::Brief::of(epoch, cell.rowid, &columns_as_ints(&columns))
        {
            let lane = &mut self.lanes[stream as usize];
            if lane.as_ref().is_none_or(|known| known.tick < row.tick) {
                *lane = Some(row);
            }
        } else if let Some(info) = named(epoch, cell.rowid, &columns) {
            self.names.insert(cell.rowid, info);
        }
    }

    /// Leaves out what had left the store, and joins the chunks that are in no batch.
    fn settle(&mut self, log_is_whole: bool) {
        let lows = &self.lows;
        self.spots.retain(|(epoch, stream, seq), _| {
            lows.get(&(*epoch, *stream)).is_none_or(|low| seq >= low)
        });
        self.held = self.lanes.iter().flatten().map(|row| row.batches).sum();
        for ((ordinal, stream), parts) in std::mem::take(&mut self.parts) {
            let Some(stream) = Stream::ALL.get(stream).copied() else { continue };
            let Some(row) = &self.lanes[stream as usize] else {
                self.uncertain += 1;
                continue;
            };
            if ordinal <= row.floor {
                continue;
            }
            // A batch that the row does not know of yet was sealed after the row was written.
            let high = self.highs.get(&(row.epoch, stream));
            let newest = high.is_none_or(|seq| *seq < row.seq_next);
            let (whole, data) = slots::join(parts.into_values().collect());
            if log_is_whole && newest && whole {
                self.slots.push((stream, data));
            } else {
                self.uncertain += 1;
            }
        }
    }
}

fn columns_as_ints(columns: &[Column<'_>]) -> Vec<i64> {
    let int = |column: &Column<'_>| match column {
        Column::Int(number) => Some(*number),
        _ => None,
    };
    columns.iter().skip(1).map_while(int).collect()
}

/// Reads a row of `series`; `None` unless its checksum holds.
fn named(epoch: u64, id: i64, columns: &[Column<'_>]) -> Option<PointInfo> {
    let text = |column: &Column<'_>| match column {
        Column::Text(bytes) => std::str::from_utf8(bytes).ok().map(std::sync::Arc::from),
        _ => None,
    };
    let [Column::Null, device, point, unit, src, _, Column::Int(crc), ..] = columns else {
        return None;
    };
    let src = if *src == Column::Null { None } else { Some(text(src)?) };
    let info = PointInfo { device: text(device)?, point: text(point)?, unit: text(unit)?, src };
    (series::crc(epoch, id, &info) == *crc).then_some(info)
}

/// What a checksum is for: epochs are believed only with theirs.
fn is_epoch(epoch: i64, crc: i64) -> bool {
    i64::from(damaged::crc(&[&epoch.to_le_bytes()])) == crc
}
