//! A store looked at from outside, with or without its daemon: every checksum held against its row,
//! and batches written to a file. Nothing is changed, and no lock is taken.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Result};

use crate::limits;
use crate::reading::{PointInfo, Points, Stream};
use crate::store::batches;
use crate::store::lane::Lane;
use crate::store::salvage::{self, Progress};
use crate::store::schema::{self, Kind};
use crate::store::series;
use crate::store::slots::Piece;
use crate::store::trouble::{OpenError, Trouble};
use crate::store::wreck::Wreck;
use crate::store::{Shelf, file, rules, slots};

/// What an examination found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Batches whose checksum holds.
    pub batches: u64,
    /// Batches whose checksum fails, by shelf and place.
    pub batches_damaged: Vec<(Shelf, u64)>,
    /// Rows of committed readings whose checksum fails.
    pub slots_damaged: u64,
    /// Names of points whose checksum fails.
    pub names_damaged: u64,
    /// Rules of whose state a checksum fails.
    pub rules_damaged: u64,
    /// Whether the epoch, and every stream's row, is as it was written.
    pub keys_sound: bool,
    /// Faults that SQLite finds in its own structure; it looks no further after 100.
    pub structure: u64,
    /// Whether the log lacks committed transactions.
    pub log_cut: bool,
    /// Rows that were found damaged earlier and set aside.
    pub set_aside: u64,
    /// Damaged stores beside it, and whether all of each has come back.
    pub damaged_stores: Vec<(PathBuf, bool)>,
}

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Whole payloads.
    pub batches: u64,
    /// Readings in them.
    pub readings: u64,
    /// Batches that are there and could not be read, or that the store says it held.
    pub missing: u64,
    /// Committed readings that are in no batch yet, and so not in the export.
    pub not_sealed: u64,
}

impl Findings {
    /// Returns whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.batches_damaged.is_empty()
            && self.slots_damaged + self.names_damaged + self.rules_damaged + self.structure == 0
            && self.keys_sound
            && !self.log_cut
    }
}

/// Examines the store at `path`.
///
/// # Errors
/// When there is none, it is not ours, or it cannot be opened at all; says why in a sentence.
pub fn check(path: &Path) -> Result<Findings, OpenError> {
    let (conn, version) = open(path)?;
    let mut found = Findings {
        log_cut: Wreck::open(path).is_ok_and(|wreck| wreck.is_cut()),
        ..Findings::default()
    };
    let known = salvage::progress(&conn).unwrap_or_default();
    for aside in file::damaged_stores(path) {
        let done = file::salvage_mark(&aside).done || is_done(&known, &aside);
        found.damaged_stores.push((aside, done));
    }
    // What fails to read is damage of the structure, which is counted on its own.
    found.structure = structure(&conn).unwrap_or(1);
    let walked = batches::walk(&conn, |shelf, seq, batch| {
        match batch {
            Some(_) => found.batches += 1,
            None => found.batches_damaged.push((shelf, seq)),
        }
        true
    });
    let epoch = schema::epoch(&conn, version);
    let lanes = epoch.as_ref().is_ok_and(|epoch| Lane::load(&conn, *epoch, version).is_ok());
    found.keys_sound = lanes;
    if let (Ok(epoch), true) = (epoch, version > 1) {
        let checked = rows(&conn, epoch, &mut found);
        found.structure += u64::from(checked.is_err());
    }
    found.structure += u64::from(walked.is_err());
    Ok(found)
}

fn is_done(known: &[Progress], aside: &Path) -> bool {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    known.iter().any(|progress| progress.name == name && progress.done)
}

fn rows(conn: &Connection, epoch: u64, found: &mut Findings) -> Result<()> {
    let mut bodies = conn.prepare("SELECT body FROM slot")?;
    let mut bodies = bodies.query([])?;
    while let Some(row) = bodies.next()? {
        let body = row.get_ref(0)?.as_bytes().unwrap_or(&[0]);
        found.slots_damaged += u64::from(slots::parse(epoch, body).is_none());
    }
    let mut numbers = conn.prepare("SELECT id FROM series")?;
    let mut numbers = numbers.query([])?;
    while let Some(row) = numbers.next()? {
        let name = series::name_of(conn, epoch, row.get(0)?)?;
        found.names_damaged += u64::from(name.is_none());
    }
    let set_aside = conn.query_row("SELECT count(*) FROM damaged", [], |r| schema::count(r, 0))?;
    found.set_aside = set_aside;
    found.rules_damaged = rules::count_damaged(conn, epoch)?;
    Ok(())
}

/// Counts what SQLite says is wrong with its structure.
fn structure(conn: &Connection) -> Result<u64> {
    let mut statement = conn.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = statement.query([])?;
    let mut faults = 0;
    while let Some(row) = rows.next()? {
        faults += u64::from(row.get_ref(0)?.as_str() != Ok("ok"));
    }
    Ok(faults)
}

/// Opens a store for reading, beside its daemon or without it; returns its version, too.
fn open(path: &Path) -> Result<(Connection, i64), OpenError> {
    if Wreck::open(path).is_ok_and(|wreck| wreck.is_a_log_alone()) {
        return Err(OpenError::unusable(path, Trouble::Damaged));
    }
    if !path.exists() {
        return Err(OpenError::Missing { path: path.into() });
    }
    let unusable = |error: rusqlite::Error| OpenError::unusable(path, Trouble::of(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let with_kind = |conn: Connection| {
        conn.busy_timeout(schema::BUSY_TIME)?;
        let kind = schema::kind(&conn)?;
        Ok((conn, kind))
    };
    let opened = Connection::open_with_flags(path, flags).and_then(with_kind);
    let (conn, kind) = match opened {
        // On a read-only file system not even a reader can make the log's index.
        Err(error) if Trouble::of(&error) != Trouble::Damaged && !file::has_log(path) => {
            let uri = file::immutable_uri(path);
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(uri, flags).and_then(with_kind)
        }
        other => other,
    }
    .map_err(unusable)?;
    match kind {
        Kind::Ours(version) => Ok((conn, version)),
        Kind::Newer(version) => Err(OpenError::Newer { path: path.into(), version }),
        Kind::Foreign => Err(OpenError::Foreign { path: path.into() }),
        Kind::Empty => Err(OpenError::Missing { path: path.into() }),
    }
}

/// Writes all batches held at `path` one behind the other. `damaged` reads the file without SQLite,
/// as a salvage does.
///
/// # Errors
/// When the store cannot be opened (the first), or the file not written (the second).
pub fn export(
    path: &Path,
    damaged: bool,
    out: &mut impl Write,
) -> Result<io::Result<Exported>, OpenError> {
    if damaged {
        let wreck =
            Wreck::open(path).map_err(|error| OpenError::unusable(path, Trouble::of_io(&error)))?;
        if !path.exists() && !file::has_log(path) {
            return Err(OpenError::Missing { path: path.into() });
        }
        return Ok(export_wreck(&wreck, out));
    }
    let (conn, version) = open(path)?;
    let mut exported = Exported::default();
    let mut failed = None;
    let walked = batches::walk(&conn, |_, _, batch| {
        let Some(batch) = batch else {
            exported.missing += 1;
            return true;
        };
        exported.batches += 1;
        exported.readings += batch.readings;
        failed = out.write_all(&batch.payload).err();
        failed.is_none()
    });
    match (walked, failed) {
        (_, Some(error)) => Ok(Err(error)),
        (Ok(()), None) => {
            // What cannot be counted is no reason to keep the rest back.
            exported.not_sealed = not_sealed(&conn, version).unwrap_or(0);
            Ok(out.flush().map(|()| exported))
        }
        (Err(error), None) => Err(OpenError::unusable(path, Trouble::of(&error))),
    }
}

/// Counts the readings in slots.
fn not_sealed(conn: &Connection, version: i64) -> Result<u64> {
    let epoch = schema::epoch(conn, version)?;
    let lanes = Lane::load(conn, epoch, version)?;
    let mut chunks: BTreeMap<(u64, usize), Vec<Piece>> = BTreeMap::new();
    let mut bodies = conn.prepare("SELECT body FROM slot")?;
    let mut bodies = bodies.query([])?;
    while let Some(row) = bodies.next()? {
        let body = row.get_ref(0)?.as_bytes().unwrap_or(&[0]);
        if let Some(part) = slots::parse(epoch, body)
            && part.ordinal > lanes[part.stream].floor
        {
            let chunk = chunks.entry((part.ordinal, part.stream)).or_default();
            chunk.push((part.part, part.parts, part.data.to_vec()));
        }
    }
    let whole = chunks.into_iter().map(|((_, stream), parts)| (stream, slots::join(parts)));
    Ok(whole.map(|(stream, (_, data))| readings(&data, Stream::ALL[stream])).sum())
}

/// Counts the readings of a chunk; 0 for one that is damaged.
fn readings(data: &[u8], stream: Stream) -> u64 {
    let points = Points::default();
    let any = points.intern(PointInfo::new("", "", "")).ok();
    let groups = slots::groups(data, stream, |_| any).unwrap_or_default();
    groups.iter().map(|group| group.samples.len() as u64).sum()
}

fn export_wreck(wreck: &Wreck, out: &mut impl Write) -> io::Result<Exported> {
    let mut exported = Exported::default();
    let mut after = None;
    loop {
        let Some(survey) = wreck.survey(after, 0, || true) else { return Ok(exported) };
        let chunks = survey.slots.iter().map(|(stream, data)| readings(data, *stream));
        exported.not_sealed = chunks.sum();
        for key in survey.keys() {
            after = Some(key);
            let Some(found) = wreck.fetch(&survey, key) else { continue };
            out.write_all(&found.batch.payload)?;
            exported.batches += 1;
            exported.readings += found.batch.readings;
        }
        if !survey.more {
            exported.missing = survey.held.saturating_sub(exported.batches);
            out.flush()?;
            return Ok(exported);
        }
    }
}

/// Returns whether anything of a store stands at `path`: a database, or one that was moved aside.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    path.exists() || file::has_log(path) || !file::damaged_stores(path).is_empty()
}

/// Returns whether the disk has too little room for a salvage, which waits for more.
#[must_use]
pub fn is_cramped(path: &Path) -> bool {
    file::room(path).is_some_and(|room| room < limits::SALVAGE_ROOM_BYTES_MIN)
}

/// Returns whether all that can be read in the damaged stores beside the one at `path` is back.
#[must_use]
pub fn is_salvaged(path: &Path, known: &[Progress]) -> bool {
    file::damaged_stores(path)
        .iter()
        .all(|aside| file::salvage_mark(aside).done || is_done(known, aside))
}
