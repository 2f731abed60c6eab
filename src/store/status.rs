//! What the store tells about itself, from inside the daemon and from outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, Result};

use crate::clock;
use crate::ranges::Ranges;
use crate::reading::{Stream, UnixMillis};
use crate::store::rules::{self, RuleStatus};
use crate::store::schema::{self, Kind};
use crate::store::shares::Shares;
use crate::store::traffic::{self, Used};
use crate::store::trouble::{OpenError, Trouble};
use crate::store::wear::{self, Usage};
use crate::store::{Progress, Shelf, batches, dates, file, lane::Lane, salvage, slots};

/// A snapshot of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the file was read since the start; all that is said here is nothing before.
    pub opened: bool,
    /// Unix seconds when this store was created.
    pub epoch: u64,
    /// In the order of [`Stream::ALL`].
    pub streams: [StreamStatus; Stream::ALL.len()],
    /// What was salvaged from damaged stores and waits, in the order of [`Stream::ALL`].
    pub salvaged: [StreamStatus; Stream::ALL.len()],
    /// What each uplink has not got yet, when there are several; else the shelves say it.
    pub uplinks: Vec<UplinkStatus>,
    /// The uplinks that the store serves, in their order; none when seen from outside.
    pub names: Vec<Arc<str>>,
    /// What uplinks with a data plan have used of it, as last written.
    pub traffic: BTreeMap<Arc<str>, Used>,
    /// What is kept of each rule; none when asked within the daemon.
    pub rules: BTreeMap<Arc<str>, RuleStatus>,
    /// Readings that were appended and are not on disk yet; 0 when seen from outside.
    pub uncommitted: u64,
    /// Bytes of the database file and its log, when it was last looked at: at the last commit.
    pub disk_bytes: u64,
    /// Rows of committed readings that were found damaged at the last start and set aside.
    pub damaged_chunks: u64,
    /// How far the salvage of each damaged store has come.
    pub salvages: Vec<Progress>,
    /// Batches sealed with a guess of the time that still get their dates when the clock is set; 0 when
    /// asked within the daemon.
    pub undated: u64,
    /// Whether the clock was set in this boot while the daemon ran; only when seen from outside.
    pub clock_set: bool,
    /// Whether the disk takes what it is given.
    pub health: Health,
}

/// One stream's part of a [`Status`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// Sequence number that the next batch gets, from 1.
    pub seq_next: u64,
    /// Lowest sequence number held; `seq_next` when nothing is.
    pub lo: u64,
    /// Sealed batches that were not acknowledged.
    pub batches: u64,
    /// Bytes of the file that they take.
    pub bytes: u64,
    /// Readings in them.
    pub readings: u64,
    /// Readings committed and not sealed yet.
    pub readings_open: u64,
    /// Readings dropped since the epoch began, by quota or because the disk refused them too long.
    pub dropped: u64,
    /// Batches found damaged and set aside since the epoch began.
    pub damaged: u64,
    /// When the oldest batch was sealed.
    pub oldest: Option<UnixMillis>,
}

/// One uplink's part of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkStatus {
    /// As the configuration names it.
    pub name: Arc<str>,
    /// In the order of [`Shelf::ALL`].
    pub shelves: [Backlog; Shelf::COUNT],
}

/// What an uplink has not got yet of one shelf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Lowest sequence number that it has not got; the next one to be sealed when it has all.
    pub lo: u64,
    /// Batches.
    pub batches: u64,
    /// When the oldest of them was sealed.
    pub oldest: Option<UnixMillis>,
}

/// Whether the store does its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Everything appended is on disk within the commit time.
    #[default]
    Good,
    /// The disk refuses; readings wait in memory, bounded, and it is tried again.
    Refused(Trouble),
    /// The store's thread has ended: the daemon is stopping, or must.
    Ended,
}

impl Status {
    /// Returns one stream's part.
    #[must_use]
    pub fn stream(&self, stream: Stream) -> &StreamStatus {
        &self.streams[stream as usize]
    }

    /// Returns one shelf's part.
    #[must_use]
    pub fn shelf(&self, shelf: Shelf) -> &StreamStatus {
        let of = if shelf.is_salvaged() { &self.salvaged } else { &self.streams };
        &of[shelf.stream() as usize]
    }

    pub(super) fn put(&mut self, lane: &Lane, oldest: Option<(u64, UnixMillis)>) {
        let salvaged = lane.shelf.is_salvaged();
        let of = if salvaged { &mut self.salvaged } else { &mut self.streams };
        of[lane.shelf.stream() as usize] = StreamStatus::of(lane, oldest);
    }
}

impl UplinkStatus {
    pub(super) fn of(name: Arc<str>) -> Self {
        Self { name, shelves: [Backlog::default(); Shelf::COUNT] }
    }

    /// Looks what it has not got of one shelf.
    pub(super) fn look(&mut self, conn: &Connection, lane: &Lane, had: &Ranges) -> Result<()> {
        let newest = lane.seq_next.saturating_sub(1);
        let held = batches::oldest(conn, lane.shelf)?.map_or(lane.seq_next, |(seq, _)| seq);
        let missing = had.gap(held, newest).map(|(first, _)| first);
        let oldest = match missing {
            Some(first) => batches::oldest_from(conn, lane.shelf, first)?,
            None => None,
        };
        self.shelves[lane.shelf as usize] = Backlog {
            lo: oldest.map_or(lane.seq_next, |(seq, _)| seq),
            // Exact but for batches that were found damaged between these.
            batches: missing.map_or(0, |first| newest - first + 1 - had.count(first, newest)),
            oldest: oldest.map(|(_, at)| at),
        };
        Ok(())
    }
}

impl StreamStatus {
    /// Describes a stream from its row and its oldest batch.
    fn of(lane: &Lane, oldest: Option<(u64, UnixMillis)>) -> Self {
        Self {
            seq_next: lane.seq_next,
            lo: oldest.map_or(lane.seq_next, |(seq, _)| seq),
            batches: lane.batches,
            bytes: lane.bytes,
            readings: lane.readings,
            readings_open: lane.open.readings() as u64,
            dropped: lane.dropped,
            damaged: lane.damaged,
            oldest: oldest.map(|(_, at)| at),
        }
    }
}

/// Describes a store without its daemon, or beside it. Nothing is written, and no lock is taken.
///
/// # Errors
/// When there is no store at `path`, or it cannot be read; the error says why in a sentence.
pub fn inspect(path: &Path) -> Result<Status, OpenError> {
    let status = look(path, read)?;
    Ok(Status { opened: true, disk_bytes: file::bytes(path), ..status })
}

/// Says what a store takes of its disk and what it wrote on it day by day, without its daemon or
/// beside it; the daemon saves these counts every ten minutes and when it stops.
///
/// # Errors
/// As [`inspect`].
pub fn usage(path: &Path) -> Result<Usage, OpenError> {
    look(path, wear::read)
}

fn look<T>(path: &Path, read: fn(&Connection) -> Result<(T, Kind)>) -> Result<T, OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing { path: path.into() });
    }
    let unusable = |error| OpenError::unusable(path, Trouble::of(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let found = Connection::open_with_flags(path, flags).and_then(|conn| read(&conn));
    let found = match found {
        // On a read-only file system not even a reader can make the log's index. Without a log
        // there is nothing in it to miss.
        Err(error) if Trouble::of(&error) != Trouble::Damaged && !file::has_log(path) => {
            let uri = file::immutable_uri(path);
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(uri, flags).and_then(|conn| read(&conn))
        }
        other => other,
    };
    match found.map_err(unusable)? {
        (_, Kind::Newer(version)) => Err(OpenError::Newer { path: path.into(), version }),
        (_, Kind::Foreign) => Err(OpenError::Foreign { path: path.into() }),
        // A start that the disk cut short leaves an empty file.
        (_, Kind::Empty) => Err(OpenError::Missing { path: path.into() }),
        (found, Kind::Ours(_)) => Ok(found),
    }
}

fn read(conn: &Connection) -> Result<(Status, Kind)> {
    conn.busy_timeout(schema::BUSY_TIME)?;
    let kind = schema::kind(conn)?;
    let mut status = Status::default();
    if let Kind::Ours(version) = kind {
        // One transaction, so that the numbers belong together while the daemon goes on.
        conn.execute_batch("BEGIN")?;
        status.epoch = schema::epoch(conn, version)?;
        let lanes = Lane::load(conn, status.epoch, version)?;
        for lane in &lanes {
            let oldest = batches::oldest(conn, lane.shelf)?;
            status.put(lane, oldest);
        }
        if version >= 2 {
            let open = slots::count(conn, status.epoch, &lanes)?;
            for (part, readings) in status.streams.iter_mut().zip(open) {
                part.readings_open = readings;
            }
            status.traffic = traffic::load(conn)?;
            (status.undated, status.clock_set) = dates::outlook(conn, &clock::boot_name())?;
            status.rules = rules::status(conn)?;
            status.uplinks = Shares::load_all(conn, status.epoch)?.status(conn, &lanes)?;
        }
        status.salvages = salvage::progress(conn)?;
        conn.execute_batch("COMMIT")?;
    }
    Ok((status, kind))
}
