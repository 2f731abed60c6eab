//! Files of earlier versions, and the tables they become.

use rusqlite::{Connection, params};

use super::*;
use crate::store::schema;

/// The tables as version 1 made them.
const VERSION_1: &str = "
PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
PRAGMA application_id = 1718051445; PRAGMA user_version = 1;
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
";

/// Turns the store at `path` into one of version 1 that holds the same.
fn as_version_1(path: &Path) {
    let old = path.with_extension("v1");
    let conn = Connection::open(&old).unwrap();
    conn.execute_batch(VERSION_1).unwrap();
    conn.execute("ATTACH ?1 AS now", [path.to_str().unwrap()]).unwrap();
    conn.execute_batch(
        "INSERT INTO meta SELECT * FROM now.meta WHERE key = 'epoch';
         INSERT INTO stream SELECT id, seq_next, floor, tick, dropped, damaged, batches, readings,
           bytes FROM now.stream WHERE id < 3;
         INSERT INTO batch SELECT id, n, t0, t1, sealed_ms, crc, payload FROM now.batch;
         INSERT INTO series SELECT id, device, point, unit, src, attrs FROM now.series;",
    )
    .unwrap();
    let mut slots = conn.prepare("SELECT id, body FROM now.slot").unwrap();
    let mut rows = slots.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (id, mut body): (i64, Vec<u8>) = (row.get(0).unwrap(), row.get(1).unwrap());
        // Checksum, ordinal, stream, part, parts, length: of version 1 it knew no epoch.
        let length = usize::from(u16::from_le_bytes([body[17], body[18]]));
        let crc = damaged::crc(&[&body[4..19 + length]]);
        body[..4].copy_from_slice(&crc.to_le_bytes());
        conn.execute("INSERT INTO slot VALUES (?1, ?2)", params![id, body]).unwrap();
    }
    drop(rows);
    drop(slots);
    conn.execute_batch("DETACH now").unwrap();
    drop(conn);
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    // Its lock knew nothing of logs.
    let lock = format!("{}.lock", path.display());
    let text = std::fs::read_to_string(&lock).unwrap();
    std::fs::write(lock, text.split(" reached").next().unwrap()).unwrap();
    std::fs::rename(old, path).unwrap();
}

/// A store of version 1 with two sealed batches, and committed readings in slots.
fn bench_of_version_1() -> Bench {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..101);
    bench.flush(&store, true).unwrap();
    bench.append(&store, Stream::Event, 9101..9111);
    bench.flush(&store, true).unwrap();
    bench.append(&store, Stream::Data, 101..2111);
    bench.flush(&store, false).unwrap();
    thread.abandon();
    as_version_1(bench.path());
    bench
}

#[test]
fn a_store_of_version_1_arrives_whole_and_keeps_its_epoch() {
    let bench = bench_of_version_1();
    let before = inspect(bench.path()).unwrap();
    assert_eq!(before.stream(Stream::Data).readings, 100);
    let (store, _thread) = bench.open();
    assert_eq!(store.status().epoch, before.epoch);
    assert_eq!(store.status().damaged_chunks, 0);
    assert_eq!(bench.numbers(&store, Stream::Data), (1..2111).collect::<Vec<_>>());
    assert_eq!(bench.numbers(&store, Stream::Event), (9101..9111).collect::<Vec<_>>());
    assert_eq!(bench.all(&store, Stream::Data)[1].seq(), 2);
    assert!(bench.events.standing().is_empty());
}

#[test]
fn a_migrated_file_has_the_tables_of_a_new_one() {
    let tables = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        let mut names = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
        let names: Vec<String> =
            names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let columns = |name: &String| -> Vec<(String, String, bool, bool)> {
            let sql = "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)";
            let mut columns = conn.prepare(sql).unwrap();
            let column =
                |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            columns.query_map([name], column).unwrap().map(Result::unwrap).collect()
        };
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        (version, names.iter().map(|name| (name.clone(), columns(name))).collect::<Vec<_>>())
    };
    let old = bench_of_version_1();
    old.open().1.close();
    let new = Bench::new();
    new.open().1.close();
    assert_eq!(tables(old.path()), tables(new.path()));
    assert_eq!(tables(old.path()).0, schema::VERSION);
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let bench = bench_of_version_1();
    let conn = Connection::open(bench.path()).unwrap();
    // A disk that is full in the middle of the step.
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "max_page_count", pages).unwrap();
    let schema = |conn: &Connection| -> Vec<String> {
        let mut sql = conn.prepare("SELECT sql FROM sqlite_schema").unwrap();
        sql.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let before = schema(&conn);
    let error = schema::migrate(&conn, 1).unwrap_err();
    assert_eq!(Trouble::of(&error), Trouble::Full);
    assert_eq!(schema(&conn), before);
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    drop(conn);
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), (1..2111).collect::<Vec<_>>());
}

#[test]
fn a_sequence_number_that_was_flipped_is_never_given_twice() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..2);
    bench.flush(&store, true).unwrap();
    let epoch = store.status().epoch;
    thread.close();
    bench.sql("UPDATE stream SET seq_next = 1 WHERE id = 0");
    let (store, _thread) = bench.open();
    assert!(store.status().epoch > epoch, "the same key would have stood for other bytes");
    assert!(bench.says("FG-B02"));
}

#[test]
fn a_name_that_was_flipped_makes_readings_damaged_and_not_another_points() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..11);
    bench.flush(&store, false).unwrap();
    thread.abandon();
    bench.sql("UPDATE series SET device = 'mater'");
    let (store, _thread) = bench.open();
    assert!(bench.numbers(&store, Stream::Data).is_empty());
    assert_eq!(store.status().damaged_chunks, 1);
    assert!(bench.says("FG-B04"));
}
