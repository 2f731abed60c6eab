//! The tables, how a file of an earlier version becomes one of this, and the connection to them.
//! `docs/store.md` says what every table and column means.
//!
//! A new store gets [`TABLES`] at once; an older one is brought up step by step ([`STEPS`]), each in
//! one transaction together with its version, so that a step that fails leaves the file as it was.
//! Both ways end in the same tables, which a test compares.
//!
//! Not used, and why: auto-vacuum (its page map is one more page in most commits; [`super::disk`]
//! gives room back when the backlog has gone); secondary indexes (every one is another page a commit);
//! memory mapping (it turned a WAL race into structural damage elsewhere); `quick_check` at start (it
//! saw 3 % of single bit flips, our checksums see all that hit a payload, and it reads the whole
//! file).

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result, ffi};

use crate::store::{damaged, lane, series, slots};

/// Stands in every file's header (`PRAGMA application_id`): "fgbu".
pub(super) const APPLICATION_ID: i64 = 0x6667_6275;
/// Layout of the tables (`PRAGMA user_version`). A change of [`TABLES`] raises it and adds a step.
pub(super) const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  seq_next INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  tick INTEGER NOT NULL,
  dropped INTEGER NOT NULL,
  damaged INTEGER NOT NULL,
  batches INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  crc INTEGER
);
CREATE TABLE slot (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE batch (
  id INTEGER PRIMARY KEY,
  n INTEGER NOT NULL,
  t0 INTEGER NOT NULL,
  t1 INTEGER NOT NULL,
  sealed_ms INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  payload BLOB NOT NULL
);
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  point TEXT NOT NULL,
  unit TEXT NOT NULL,
  src TEXT,
  attrs BLOB,
  crc INTEGER
);
CREATE TABLE damaged (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  key INTEGER NOT NULL,
  found_ms INTEGER NOT NULL,
  body BLOB NOT NULL
);
";

/// Tables that came with version 2.
const TABLES_OF_2: &str = "
CREATE TABLE salvage (
  name TEXT PRIMARY KEY,
  after_epoch INTEGER NOT NULL,
  after_stream INTEGER NOT NULL,
  after_seq INTEGER NOT NULL,
  batches INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  missing INTEGER NOT NULL,
  uncertain INTEGER NOT NULL,
  slots_taken INTEGER NOT NULL,
  done INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE uplink (
  name TEXT NOT NULL,
  shelf INTEGER NOT NULL,
  had BLOB NOT NULL,
  PRIMARY KEY (name, shelf)
) WITHOUT ROWID;
CREATE TABLE traffic (
  name TEXT PRIMARY KEY,
  month INTEGER NOT NULL,
  from_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  plan INTEGER NOT NULL,
  crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE boot (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  guess INTEGER NOT NULL,
  base INTEGER,
  crc INTEGER NOT NULL
);
CREATE TABLE undated (
  id INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL,
  t0 INTEGER NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE wear (
  day INTEGER PRIMARY KEY,
  seconds INTEGER NOT NULL,
  written INTEGER NOT NULL,
  readings INTEGER NOT NULL,
  sealed INTEGER NOT NULL,
  grown INTEGER NOT NULL
);
CREATE TABLE rule_place (
  rule TEXT PRIMARY KEY,
  batch INTEGER NOT NULL,
  watermark INTEGER NOT NULL,
  version INTEGER NOT NULL,
  crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE rule_state (
  rule TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (rule, key)
) WITHOUT ROWID;
CREATE TABLE rule_timer (
  rule TEXT NOT NULL,
  name TEXT NOT NULL,
  at INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (rule, name)
) WITHOUT ROWID;
CREATE TABLE rule_output (
  rule TEXT NOT NULL,
  place INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  device TEXT NOT NULL,
  point TEXT NOT NULL,
  unit TEXT NOT NULL,
  crc INTEGER NOT NULL,
  PRIMARY KEY (rule, place)
) WITHOUT ROWID;
";

/// What brings a file of version N to version N + 1, at index N - 1. Columns and tables are added,
/// never changed or taken away, so that a step needs no room for a copy. Until a version is
/// released, what is new goes into its tables, and into its step what changes older ones.
const STEPS: [fn(&Connection) -> Result<()>; 1] = [to_2];

/// Version 2: checksums over everything that a batch's key or a reading's name is made of, shelves
/// for what was salvaged from damaged stores and the record of that, boots and the batches that can
/// still get their dates, what rules leave behind.
fn to_2(conn: &Connection) -> Result<()> {
    conn.execute_batch(
        "ALTER TABLE stream ADD COLUMN crc INTEGER;
         ALTER TABLE series ADD COLUMN crc INTEGER;",
    )?;
    conn.execute_batch(TABLES_OF_2)?;
    let epoch =
        conn.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |r| count(r, 0))?;
    conn.execute("INSERT INTO meta VALUES ('epoch_crc', ?1)", [epoch_crc(epoch)])?;
    lane::add_checksums(conn, epoch)?;
    series::add_checksums(conn, epoch)?;
    slots::add_epochs(conn, epoch)
}

/// Bytes of a page; an SD card erases and writes in multiples of it.
pub(super) const PAGE_BYTES: u64 = PAGE as u64;
/// The same, as lengths in memory are counted.
pub(super) const PAGE: usize = 4096;
/// Waiting for a reader (`fieldgate buffer status`) that stands in the way of a checkpoint.
pub(super) const BUSY_TIME: Duration = Duration::from_millis(500);

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// New or empty.
    Empty,
    /// Ours, of this version or an earlier one.
    Ours(i64),
    /// Ours, written by a later version.
    Newer(i64),
    /// A database of another program.
    Foreign,
}

/// Opens the file for writing and says what it is. Nothing is changed yet.
pub(super) fn connect(path: &Path) -> Result<(Connection, Kind)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIME)?;
    // After a failure nothing may be checkpointed on the way out; `finish` does it when all is well.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let kind = kind(&conn)?;
    Ok((conn, kind))
}

/// Says what a file is.
pub(super) fn kind(conn: &Connection) -> Result<Kind> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    let application: i64 = conn.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let version: i64 = conn.pragma_query_value(None, "user_version", |r| r.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Kind::Empty,
        (APPLICATION_ID, version, _) if version > VERSION => Kind::Newer(version),
        (APPLICATION_ID, version, _) => Kind::Ours(version.max(1)),
        _ => Kind::Foreign,
    })
}

/// Sets what must be set on every connection. `synchronous = FULL`: in WAL mode NORMAL lost whole
/// transactions in simulated power cuts, FULL none.
pub(super) fn prepare(conn: &Connection) -> Result<()> {
    conn.execute_batch(
        "PRAGMA page_size = 4096;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA mmap_size = 0;
         PRAGMA cache_size = -512;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 1000;
         PRAGMA journal_size_limit = 4194304;",
    )?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Makes the tables of a new store, in one transaction.
pub(super) fn create(conn: &Connection, epoch: u64) -> Result<()> {
    in_one(conn, VERSION, || {
        conn.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; {TABLES} {TABLES_OF_2}"
        ))?;
        let crc = epoch_crc(epoch);
        conn.execute(
            "INSERT INTO meta VALUES ('epoch', ?1), ('epoch_crc', ?2)",
            [int(epoch), crc],
        )?;
        lane::create(conn, epoch)
    })
}

/// Brings a store of an earlier version to this one.
pub(super) fn migrate(conn: &Connection, from: i64) -> Result<()> {
    for (step, version) in STEPS.iter().zip(2..).filter(|(_, version)| *version > from) {
        in_one(conn, version, || step(conn))?;
    }
    Ok(())
}

/// Does something in one transaction that also sets the version.
fn in_one(conn: &Connection, version: i64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let done = work()
        .and_then(|()| conn.pragma_update(None, "user_version", version))
        .and_then(|()| conn.execute_batch("COMMIT"));
    if done.is_err() {
        // The first error tells more than one about a transaction that has ended by itself.
        let _ = conn.execute_batch("ROLLBACK");
    }
    done
}

/// Reads the epoch. A file of version 1 has no checksum over it.
pub(super) fn epoch(conn: &Connection, version: i64) -> Result<u64> {
    let value =
        |key| conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| count(row, 0));
    let epoch = value("epoch")?;
    if version > 1 && int(value("epoch_crc")?) != epoch_crc(epoch) {
        return Err(damage());
    }
    Ok(epoch)
}

fn epoch_crc(epoch: u64) -> i64 {
    damaged::crc(&[&epoch.to_le_bytes()]).into()
}

/// What SQLite says when it finds damage; for that which it cannot find.
pub(super) fn damage() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None)
}

/// Moves everything from the log into the database file and empties the log. Returns whether no
/// reader stood in the way.
pub(super) fn checkpoint(conn: &Connection) -> Result<bool> {
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)).map(|b| b == 0)
}

/// Reads a column that never holds a negative number.
pub(super) fn count(row: &rusqlite::Row<'_>, column: usize) -> Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Writes a count; those here stay far below 2^63.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
