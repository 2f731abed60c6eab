//! The store's promises one by one; `model` holds it against a plain list, `damage` has what goes
//! wrong.

mod away;
mod damage;
mod hard;
mod held;
mod killed;
mod layout;
mod model;
mod plan;
mod room;
mod rules;
mod shares;
mod time;
mod wrecks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::batch::{Coding, RowValue, decode};
use crate::clock::Manual;
use crate::error::Exit;
use crate::events::buffer;
use crate::reading::{PointId, PointInfo, Points, Sample, Stream, Value};
use settings::{Seal, Write};

/// Faults that a test can order.
#[derive(Default)]
pub(super) struct Faults {
    /// The database may have this many pages; 0 for any number.
    pages_max: AtomicU32,
    /// The next commit succeeds and says that it failed.
    lie: AtomicBool,
    /// The thread hangs while a test holds this.
    hang: Arc<tokio::sync::Mutex<()>>,
    /// Nothing may be written.
    read_only: AtomicBool,
}

impl Faults {
    pub(super) fn arm(&self, disk: &disk::Disk) {
        let most = match self.pages_max.load(Ordering::Relaxed) {
            0 => 1_000_000_000,
            pages => pages,
        };
        let only = self.read_only.load(Ordering::Relaxed);
        let order = format!("PRAGMA max_page_count = {most}; PRAGMA query_only = {only}");
        disk.conn().execute_batch(&order).unwrap();
    }

    pub(super) fn hang(&self) {
        drop(self.hang.blocking_lock());
    }

    pub(super) fn after_commit(&self) -> rusqlite::Result<()> {
        if self.lie.swap(false, Ordering::Relaxed) {
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            return Err(rusqlite::Error::SqliteFailure(error, None));
        }
        Ok(())
    }
}

impl Store {
    /// Lets the disk refuse to grow, as a full one does, or take everything again.
    pub(crate) fn refuse_commits(&self, refuse: bool) {
        self.0.faults.pages_max.store(u32::from(refuse), Ordering::Relaxed);
    }

    /// What the thread hangs on while it is locked, as on a disk that never answers.
    pub(crate) fn hanger(&self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.0.faults.hang)
    }
}

const START: UnixMillis = UnixMillis(1_790_000_000_000);

/// What a small quota is with this many pages beside the log.
fn quota(pages: u64) -> u64 {
    (64 + pages) * 4096
}

/// Pages of a store in which nothing is: the header, and one a table.
const TABLES_PAGES: u64 = 15;

/// A store in a folder of its own, with one point, and the world it lives in.
struct Bench {
    folder: tempfile::TempDir,
    settings: Settings,
    points: Arc<Points>,
    point: Arc<[PointId]>,
    clock: Arc<Manual>,
    events: Events,
    runtime: tokio::runtime::Runtime,
    /// What the reading that [`Bench::open`] appends carries.
    mark: std::cell::Cell<i64>,
}

impl Bench {
    fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        let points = Arc::new(Points::default());
        let point = points.intern(PointInfo::new("meter", "count", "1")).unwrap();
        let settings = Settings {
            path: folder.path().join("deeper/buffer.db"),
            keep: Duration::from_secs(86_400),
            bytes_max: u64::MAX / 2,
            free_min: 0,
            write: Write::Always,
            commit: Duration::from_secs(3600),
            seal: Seal {
                age_max: Duration::from_secs(36_000),
                readings_max: 50_000,
                bytes_max: 512 * 1024,
                coding: Coding::Plain,
            },
            gateway: "gw".into(),
            config_hash: "c0ffee".into(),
        };
        Self {
            folder,
            settings,
            point: [point].into(),
            points,
            clock: Arc::new(Manual::new(START)),
            events: Events::default(),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            mark: std::cell::Cell::new(0),
        }
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Opens a store that commits and seals only when it is told to: the first readings of a start
    /// are not sealed by themselves a moment later, which on a busy machine is any moment.
    fn try_open(&self) -> Result<(Store, StoreThread), OpenError> {
        self.open_eager().inspect(|(store, _)| store.0.intake.begin())
    }

    fn open_eager(&self) -> Result<(Store, StoreThread), OpenError> {
        Store::open(
            self.settings.clone(),
            Arc::clone(&self.points),
            Arc::clone(&self.clock) as _,
            self.events.clone(),
        )
    }

    /// Opens, and waits until everything that happens by itself after a start has happened.
    fn open(&self) -> (Store, StoreThread) {
        let (store, thread) = self.open_eager().unwrap();
        let mut sealed = store.sealed();
        self.runtime.block_on(store.flush(false)).unwrap();
        sealed.mark_unchanged();
        store.append(self.group(Stream::Own, &[self.mark.get()]));
        self.runtime.block_on(sealed.changed()).unwrap();
        (store, thread)
    }

    /// A group a reading, each with its number as value, one millisecond apart.
    fn group(&self, stream: Stream, numbers: &[i64]) -> Group {
        let points: Arc<[PointId]> = match numbers.len() {
            1 => Arc::clone(&self.point),
            n => vec![self.point[0]; n].into(),
        };
        let samples = numbers.iter().map(|n| Sample::good(Value::from_i64(*n))).collect();
        Group { stream, at: UnixMillis(START.0 + numbers[0]), points, samples }
    }

    fn append(&self, store: &Store, stream: Stream, numbers: std::ops::Range<i64>) {
        for number in numbers {
            store.append(self.group(stream, &[number]));
        }
    }

    /// A reading whose batch takes three pages.
    fn append_large(&self, store: &Store, number: i64) {
        let text = Value::from_text(&format!("{number:010000}"));
        let samples = vec![Sample::good(text)];
        store.append(Group { samples, ..self.group(Stream::Data, &[number]) });
    }

    fn flush(&self, store: &Store, seal: bool) -> Result<(), StoreError> {
        self.runtime.block_on(store.flush(seal))
    }

    fn next(&self, store: &Store, stream: Stream, after: u64, count: usize) -> Vec<Batch> {
        self.runtime.block_on(store.next(stream, after, count)).unwrap()
    }

    fn all(&self, store: &Store, stream: Stream) -> Vec<Batch> {
        self.next(store, stream, 0, 100_000)
    }

    /// The numbers in the stream's batches, in order.
    fn numbers(&self, store: &Store, stream: Stream) -> Vec<i64> {
        self.all(store, stream).iter().flat_map(numbers).collect()
    }

    fn says(&self, code: &str) -> bool {
        self.events.standing().iter().any(|condition| condition.notice.code.id == code)
    }

    fn sql(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.path()).unwrap();
        // The log of a killed store stays where it is.
        let keep = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        conn.set_db_config(keep, true).unwrap();
        conn.execute_batch(sql).unwrap();
        // In the log it would be bytes that SQLite vouches for.
        conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
}

/// A folder in memory, for stores that are made by the thousand.
fn on_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn numbers(batch: &Batch) -> Vec<i64> {
    let mut found = Vec::new();
    decode(batch.payload()).unwrap().rows(|row| match row.value {
        Some(RowValue::Decimal(decimal)) => found.push(decimal.digits),
        Some(RowValue::Text(text)) => found.push(text.parse().unwrap()),
        other => panic!("{other:?}"),
    });
    found
}

fn header(batch: &Batch) -> crate::batch::Header {
    decode(batch.payload()).unwrap().header
}

// ---------------------------------------------------------------------------------------------

#[test]
fn the_first_readings_after_a_start_are_sealed_without_waiting_for_the_commit_time() {
    let bench = Bench::new();
    let (store, _thread) = bench.open_eager().unwrap();
    let mut sealed = store.sealed();
    bench.append(&store, Stream::Data, 1..4);
    // The commit time is an hour: only the exception can wake this.
    bench.runtime.block_on(sealed.changed()).unwrap();
    assert_eq!(bench.numbers(&store, Stream::Data), [1, 2, 3]);
}

#[test]
fn a_crash_before_the_seal_loses_nothing_that_was_committed() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..2001);
    bench.flush(&store, false).unwrap();
    bench.append(&store, Stream::Data, 2001..2101);
    bench.flush(&store, false).unwrap();
    bench.append(&store, Stream::Data, 9000..9001);
    assert_eq!(store.status().stream(Stream::Data).readings_open, 2100);
    thread.abandon();
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data), (1..2101).collect::<Vec<_>>());
}

#[test]
fn a_chunk_of_many_slots_survives_a_crash() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    // Noise, which no compression makes smaller than a few slots.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let wanted = (0..5000).map(|_| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        (noise >> 24) as i64
    });
    let wanted: BTreeSet<i64> = wanted.collect();
    let group = |n: &i64| Group { at: START, ..bench.group(Stream::Data, &[*n]) };
    wanted.iter().for_each(|n| store.append(group(n)));
    bench.flush(&store, false).unwrap();
    thread.abandon();
    let conn = rusqlite::Connection::open(bench.path()).unwrap();
    let slots: i64 = conn.query_row("SELECT count(*) FROM slot", [], |r| r.get(0)).unwrap();
    assert!(slots > 4, "{slots} slots");
    drop(conn);
    let (store, _thread) = bench.open();
    assert_eq!(bench.numbers(&store, Stream::Data).into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn every_kind_of_value_survives_a_crash_before_its_seal() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    let sample = |value| Sample { value: Ok(value), quality: crate::reading::Quality::Uncertain };
    let samples = vec![
        sample(Value::Bool(true)),
        Sample::good(Value::from_f64(-20.05).unwrap()),
        Sample::good(Value::Float(1.0 / 3.0)),
        Sample::good(Value::from_text("ä".repeat(9000).as_str())),
        Sample::none(crate::reading::NoData::Timeout),
    ];
    let points = (0..5).map(|n| {
        let mut info = PointInfo::new("d", &format!("p{n}"), "Cel");
        info.src = Some("holding 1".into());
        bench.points.intern(info).unwrap()
    });
    let points: Arc<[PointId]> = points.collect();
    store.append(Group { stream: Stream::Event, at: START, points, samples: samples.clone() });
    bench.flush(&store, false).unwrap();
    thread.abandon();
    // Another process: other ids for the same names.
    let bench = Bench { points: Arc::default(), ..bench };
    bench.points.intern(PointInfo::new("other", "x", "")).unwrap();
    let (store, _thread) = bench.try_open().unwrap();
    bench.flush(&store, false).unwrap();
    let batch = &bench.all(&store, Stream::Event)[0];
    let decoded = decode(batch.payload()).unwrap();
    let mut found = Vec::new();
    decoded.rows(|row| found.push((row.value.map(Value::from), row.q)));
    let wanted: Vec<_> = samples.into_iter().map(|s| (s.value.clone().ok(), s.mark())).collect();
    for sample in wanted {
        assert!(found.contains(&sample), "{sample:?} is missing");
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn sequence_lowest_held_and_dropped_stand_in_the_envelope() {
    let mut bench = Bench::new();
    bench.settings.bytes_max = quota(TABLES_PAGES + 10);
    let (store, _thread) = bench.open();
    for n in 1..=5 {
        bench.append_large(&store, n);
        bench.flush(&store, true).unwrap();
    }
    let found: Vec<_> = bench
        .all(&store, Stream::Data)
        .iter()
        .map(header)
        .map(|h| (h.sequence, h.lowest_held, h.dropped))
        .collect();
    let status = store.status();
    assert_eq!(status.stream(Stream::Own).batches, 1, "data is dropped before our own metrics");
    assert_eq!(found.last().unwrap().0, 5);
    let dropped = status.stream(Stream::Data).dropped;
    assert!(dropped > 0);
    assert_eq!(found.len() as u64 + dropped, 5);
    assert!(found.iter().all(|(seq, lo, _)| lo <= seq));
    assert!(found.last().unwrap().2 >= dropped - 1);
    assert!(bench.says("FG-B03"));
}

#[test]
fn events_are_dropped_last_of_all() {
    let mut bench = Bench::new();
    bench.settings.bytes_max = quota(TABLES_PAGES + 4);
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Event, 1..2);
    bench.flush(&store, true).unwrap();
    for n in 2..9 {
        bench.append_large(&store, n);
        bench.flush(&store, true).unwrap();
    }
    assert_eq!(bench.numbers(&store, Stream::Event), [1]);
    assert!(store.status().stream(Stream::Data).dropped >= 6);
}

#[test]
fn batches_older_than_keep_are_dropped() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..11);
    bench.flush(&store, true).unwrap();
    thread.close();
    bench.clock.advance(Duration::from_secs(86_400 + 1));
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 21..22);
    bench.flush(&store, true).unwrap();
    assert_eq!(store.status().stream(Stream::Data).dropped, 10);
    assert_eq!(bench.numbers(&store, Stream::Data), [21]);
}

#[test]
fn a_batch_dropped_in_flight_and_then_acknowledged_changes_nothing() {
    let mut bench = Bench::new();
    bench.settings.bytes_max = quota(TABLES_PAGES + 4);
    let (store, _thread) = bench.open();
    bench.append_large(&store, 1);
    bench.flush(&store, true).unwrap();
    let flying = bench.all(&store, Stream::Data).remove(0);
    for n in 2..6 {
        bench.append_large(&store, n);
        bench.flush(&store, true).unwrap();
    }
    let before = store.status();
    assert!(before.stream(Stream::Data).lo > flying.seq());
    store.acknowledge(Stream::Data, flying.seq());
    store.acknowledge(Stream::Data, 0);
    store.acknowledge(Stream::Event, u64::MAX);
    bench.flush(&store, false).unwrap();
    assert_eq!(store.status().streams, before.streams);
}

#[test]
fn an_acknowledged_batch_is_not_handed_out_again_before_its_commit() {
    let bench = Bench::new();
    let (store, _thread) = bench.open();
    for n in 1..4 {
        bench.append(&store, Stream::Data, n..n + 1);
        bench.flush(&store, true).unwrap();
    }
    store.acknowledge(Stream::Data, 2);
    let seqs: Vec<_> = bench.all(&store, Stream::Data).iter().map(Batch::seq).collect();
    assert_eq!(seqs, [1, 3]);
    assert_eq!(store.status().stream(Stream::Data).batches, 3);
}

#[test]
fn more_readings_than_a_batch_holds_become_several_in_one_commit() {
    let mut bench = Bench::new();
    bench.settings.seal.readings_max = 100;
    let (store, _thread) = bench.open();
    bench.append(&store, Stream::Data, 1..1051);
    bench.flush(&store, false).unwrap();
    let status = store.status();
    assert_eq!(status.stream(Stream::Data).batches, 10);
    assert_eq!(status.stream(Stream::Data).readings_open, 50);
    assert_eq!(bench.numbers(&store, Stream::Data), (1..1001).collect::<Vec<_>>());
}

#[test]
fn a_batch_never_grows_over_its_byte_limit() {
    let mut bench = Bench::new();
    bench.settings.seal.bytes_max = 4096;
    let (store, _thread) = bench.open();
    for n in 1..200 {
        let mut group = bench.group(Stream::Data, &[n]);
        group.samples[0] = Sample::good(Value::from_text(&format!("{n}").repeat(100)));
        store.append(group);
    }
    bench.flush(&store, true).unwrap();
    let batches = bench.all(&store, Stream::Data);
    assert!(batches.len() > 5);
    assert!(batches.iter().all(|batch| batch.payload().len() <= 4096));
    assert_eq!(batches.iter().map(Batch::readings).sum::<u64>(), 199);
}

#[test]
fn inspect_agrees_with_the_daemon_beside_it_and_after_it() {
    let bench = Bench::new();
    assert!(matches!(inspect(bench.path()), Err(OpenError::Missing { .. })));
    let (store, thread) = bench.open();
    bench.append(&store, Stream::Data, 1..101);
    bench.flush(&store, true).unwrap();
    assert_eq!(inspect(bench.path()).unwrap(), store.status());
    bench.append(&store, Stream::Data, 101..108);
    bench.append(&store, Stream::Event, 1..3);
    bench.flush(&store, false).unwrap();
    let beside = inspect(bench.path()).unwrap();
    assert_eq!(beside, store.status());
    let open = [Stream::Data, Stream::Event].map(|stream| beside.stream(stream).readings_open);
    assert_eq!(open, [7, 2], "committed, and in no batch yet");
    thread.close();
    let after = inspect(bench.path()).unwrap();
    assert_eq!(after.streams, store.status().streams);
    assert_eq!(store.status().health, Health::Ended);
}

#[test]
fn an_ended_store_answers_that_it_ended() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    thread.close();
    assert_eq!(bench.flush(&store, false), Err(StoreError::Ended));
    assert_eq!(bench.runtime.block_on(store.next(Stream::Data, 0, 1)), Err(StoreError::Ended));
}

#[test]
fn a_new_store_on_a_board_without_the_time_has_an_epoch_of_its_own() {
    let mut epochs = BTreeSet::new();
    for _ in 0..4 {
        let bench = Bench::new();
        bench.clock.set(UnixMillis(5000));
        let (store, _thread) = bench.try_open().unwrap();
        epochs.insert(store.status().epoch);
    }
    assert_eq!(epochs.len(), 4);
}

#[test]
fn names_that_nothing_refers_to_are_forgotten_when_there_are_many() {
    let bench = Bench::new();
    let (store, thread) = bench.open();
    let names = i64::try_from(crate::limits::SERIES_ORPHANS_MAX).unwrap() + 10;
    for n in 0..names {
        let info = PointInfo::new("device", &format!("point-{n}"), "");
        let points = [bench.points.intern(info).unwrap()].into();
        store.append(Group { points, ..bench.group(Stream::Data, &[n]) });
    }
    bench.flush(&store, false).unwrap();
    thread.close();
    let bench = Bench { points: Arc::default(), ..bench };
    bench.points.intern(PointInfo::new("meter", "count", "1")).unwrap();
    // The first start still needs them for what is open; the second does not.
    bench.open().1.close();
    let bench = Bench { points: Arc::default(), ..bench };
    bench.points.intern(PointInfo::new("meter", "count", "1")).unwrap();
    let (store, thread) = bench.open();
    bench.flush(&store, false).unwrap();
    thread.close();
    let conn = rusqlite::Connection::open(bench.path()).unwrap();
    let left: i64 = conn.query_row("SELECT count(*) FROM series", [], |r| r.get(0)).unwrap();
    assert!(left < 5, "{left} names left");
}

#[test]
fn every_refusal_reads_as_a_sentence_about_the_buffer() {
    for trouble in [Trouble::Full, Trouble::ReadOnly, Trouble::Failing, Trouble::Odd] {
        let text = buffer::refused(Path::new("/b.db"), trouble.words()).to_string();
        assert!(
            text.starts_with("FG-B01  buffer /b.db cannot be written: the d")
                || text.contains("the file system is read-only"),
            "{text}"
        );
    }
}

#[test]
fn a_folder_where_the_buffer_should_be_is_named_as_such() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path()).unwrap();
    let error = bench.try_open().err().unwrap();
    assert!(error.to_string().contains("it is a folder"), "{error}");
}
