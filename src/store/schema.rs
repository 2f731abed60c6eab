//! The tables, what they mean, and the connection to them.
//!
//! `meta` holds the epoch. `stream` has one row a stream: the next sequence number, what is held and
//! what was dropped since the epoch began, so that none of it is ever counted by reading batches.
//! `batch` holds the wire bytes of every sealed batch; its key carries stream and sequence number,
//! so that no second index is written. `slot` holds committed readings that wait for their batch,
//! `series` the names they refer to. `damaged` keeps rows whose checksum failed, for salvage.
//!
//! Several uplinks will add a table of cursors; a batch is then freed when the last has passed it.
//! Nothing in these tables names an uplink.
//!
//! Not used, and why: secondary indexes (every one is another page a commit); memory mapping (it
//! turned a WAL race into structural damage elsewhere); `quick_check` at start (it saw 3 % of single
//! bit flips, our checksums see all that hit a payload, and it reads the whole file).

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result};

/// Stands in every file's header (`PRAGMA application_id`): "fgbu".
pub(super) const APPLICATION_ID: i64 = 0x6667_6275;
/// Layout of the tables (`PRAGMA user_version`). A change of [`TABLES`] raises it.
pub(super) const VERSION: i64 = 1;

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
  bytes INTEGER NOT NULL
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
  attrs BLOB
);
CREATE TABLE damaged (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  key INTEGER NOT NULL,
  found_ms INTEGER NOT NULL,
  body BLOB NOT NULL
);
INSERT INTO stream VALUES (0, 1, 0, 0, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0, 0, 0, 0),
  (2, 1, 0, 0, 0, 0, 0, 0, 0);
";

/// Bytes of a page; an SD card erases and writes in multiples of it.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Waiting for a reader (`fieldgate buffer status`) that stands in the way of a checkpoint.
pub(super) const BUSY_TIME: Duration = Duration::from_millis(500);

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// New or empty.
    Empty,
    /// Ours, of this version.
    Ours,
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
        (APPLICATION_ID, ..) => Kind::Ours,
        _ => Kind::Foreign,
    })
}

/// Sets what must be set on every connection. `synchronous = FULL`: in WAL mode NORMAL lost whole
/// transactions in simulated power cuts, FULL none.
pub(super) fn prepare(conn: &Connection) -> Result<()> {
    conn.execute_batch(
        "PRAGMA page_size = 4096;
         PRAGMA auto_vacuum = INCREMENTAL;
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
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION}; {TABLES}
         INSERT INTO meta VALUES ('epoch', {epoch}); COMMIT;"
    ))
}

/// Reads the epoch.
pub(super) fn epoch(conn: &Connection) -> Result<u64> {
    conn.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |r| count(r, 0))
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
