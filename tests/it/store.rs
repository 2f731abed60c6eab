//! The store against `kill -9` and a file system that is really full.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fieldgate::batch::{Coding, RowValue, decode};
use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::reading::{Group, PointInfo, Points, Sample, Stream, UnixMillis, Value};
use fieldgate::store::settings::{Seal, Settings, Write};
use fieldgate::store::{Health, OpenError, Store, StoreThread, Trouble};

/// Names the database for a child that writes; its presence makes the test below the child.
const CHILD: &str = "FIELDGATE_TEST_STORE_WRITER";

pub fn settings(path: &Path) -> Settings {
    Settings {
        path: path.into(),
        keep: Duration::from_secs(86_400 * 365),
        bytes_max: 1 << 40,
        free_min: 0,
        write: Write::Always,
        commit: Duration::from_millis(20),
        seal: Seal {
            age_max: Duration::from_millis(100),
            readings_max: 300,
            bytes_max: 64 * 1024,
            coding: Coding::Plain,
        },
        gateway: "gw".into(),
        config_hash: "c0ffee".into(),
    }
}

pub fn open(path: &Path, points: &Arc<Points>) -> (Store, StoreThread) {
    try_open(path, points).unwrap()
}

pub fn try_open(path: &Path, points: &Arc<Points>) -> Result<(Store, StoreThread), OpenError> {
    Store::open(settings(path), Arc::clone(points), Arc::new(System), Events::default())
}

pub fn group(points: &Points, number: i64) -> Group {
    let point = points.intern(PointInfo::new("meter", "count", "1")).unwrap();
    Group {
        stream: Stream::Data,
        at: UnixMillis(1_790_000_000_000 + number),
        points: [point].into(),
        samples: vec![Sample::good(Value::from_i64(number))],
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sequence numbers, payloads and numbers of everything held.
pub fn held(store: &Store) -> BTreeMap<u64, (Vec<u8>, Vec<i64>)> {
    let mut all = BTreeMap::new();
    runtime().block_on(async {
        store.flush(true).await.unwrap();
        let mut after = 0;
        loop {
            let batches = store.next(Stream::Data, after, 100).await.unwrap();
            let Some(last) = batches.last() else { break };
            after = last.seq();
            for batch in batches {
                let mut numbers = Vec::new();
                decode(batch.payload()).unwrap().rows(|row| {
                    if let Some(RowValue::Decimal(decimal)) = row.value {
                        numbers.push(decimal.digits);
                    }
                });
                all.insert(batch.seq(), (batch.payload().to_vec(), numbers));
            }
        }
    });
    all
}

/// Not a test of its own: the process that the next test kills. It writes numbers upwards from the
/// one it is told, and says each on standard output once it is committed.
#[test]
fn a_writer_to_be_killed() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (first, path) = task.split_once(':').unwrap();
    let points = Arc::new(Points::default());
    let (store, _thread) = open(&PathBuf::from(path), &points);
    let mut next: i64 = first.parse().unwrap();
    runtime().block_on(async {
        loop {
            for _ in 0..50 {
                store.append(group(&points, next));
                next += 1;
            }
            store.flush(next % 3 == 0).await.unwrap();
            println!("committed {}", next - 1);
        }
    });
}

fn writer(path: &Path, first: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::a_writer_to_be_killed", "--nocapture"])
        .env(CHILD, format!("{first}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Goal: what was reported as committed is there after `kill -9`, once, in order, under keys that
/// never change. Method: a child reports, is killed after a varying number of reports plus a moment,
/// and the store it leaves is read and compared; twelve times over on the same file.
#[test]
fn everything_reported_as_committed_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffer.db");
    let points = Arc::new(Points::default());
    let mut before = BTreeMap::new();
    let mut last = 0;
    for round in 0..12_u64 {
        let mut child = writer(&path, last + 1);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut reported = last;
        for _ in 0..3 + round * 5 % 17 {
            let said = lines.by_ref().map(Result::unwrap).find_map(|line| {
                line.split_once("committed ").and_then(|(_, number)| number.parse().ok())
            });
            reported = said.expect("the writer ended by itself");
        }
        std::thread::sleep(Duration::from_micros(round * 977 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();

        let (store, thread) = open(&path, &points);
        let after = held(&store);
        let numbers: Vec<i64> = after.values().flat_map(|(_, numbers)| numbers.clone()).collect();
        let found = count(numbers.len());
        assert!(found >= reported, "{found} of {reported} are there");
        assert_eq!(numbers, (1..=found).collect::<Vec<_>>());
        assert!(after.keys().copied().eq(1..=after.len() as u64), "a hole in the sequence");
        for (seq, batch) in &before {
            assert_eq!(after.get(seq), Some(batch), "batch {seq} changed");
        }
        last = found;
        before = after;
        assert_eq!(thread.close(), 0);
    }
}

/// A file system of its own of one MiB, unmounted when dropped.
pub struct Small(pub tempfile::TempDir);

impl Small {
    pub fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "none"])
            .arg(folder.path())
            .status();
        let mounted = done.is_ok_and(|status| status.success());
        assert!(mounted, "a small file system cannot be mounted; this test needs root");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts it anew: `how` is `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &how]).arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "it does not remount");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Returns whether this process may mount, which is what the test below stands on. Without that the
/// same behaviour is tested with a page limit, beside the store's code.
pub fn may_mount() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.strip_prefix("Uid:").is_some_and(|ids| ids.contains("\t0\t")))
}

#[test]
fn a_full_file_system_does_not_prevent_a_start() {
    if !may_mount() {
        eprintln!("not root: nothing can be mounted");
        return;
    }
    let small = Small::mount();
    let path = small.path().join("buffer.db");
    let points = Arc::new(Points::default());
    let (store, thread) = open(&path, &points);
    let epoch = store.status().epoch;
    store.append(group(&points, 1));
    runtime().block_on(store.flush(true)).unwrap();
    thread.close();
    // Without them the database cannot even be opened when nothing fits.
    let _ = std::fs::remove_file(path.with_extension("db-shm"));
    let _ = std::fs::remove_file(path.with_extension("db-wal"));
    let ballast = small.path().join("ballast");
    assert!(std::fs::write(&ballast, vec![0; 4 << 20]).is_err());
    let (store, _thread) = open(&path, &points);
    assert_eq!(
        (store.status().epoch, store.status().health),
        (epoch, Health::Refused(Trouble::Full))
    );
    store.append(group(&points, 2));
    std::fs::remove_file(&ballast).unwrap();
    runtime().block_on(async { while store.flush(true).await.is_err() {} });
    assert_eq!(store.status().health, Health::Good);
    let numbers: Vec<i64> = held(&store).into_values().flat_map(|(_, numbers)| numbers).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn a_full_file_system_costs_nothing_but_time() {
    if !may_mount() {
        eprintln!("not root: the page-limit test beside the store's code stands for this one");
        return;
    }
    let small = Small::mount();
    let points = Arc::new(Points::default());
    let (store, thread) = open(&small.path().join("buffer.db"), &points);
    let ballast = small.path().join("ballast");
    runtime().block_on(async {
        store.append(group(&points, 1));
        store.flush(true).await.unwrap();
        // Writing until nothing fits is how a disk fills; the error is the point.
        assert!(std::fs::write(&ballast, vec![0; 2 << 20]).is_err());
        let mut last = 1;
        while store.status().health == Health::Good {
            for _ in 0..500 {
                last += 1;
                store.append(group(&points, last));
            }
            let _ = store.flush(true).await;
        }
        assert_eq!(store.status().health, Health::Refused(Trouble::Full));
        std::fs::remove_file(&ballast).unwrap();
        while store.flush(true).await.is_err() {}
        assert_eq!(store.status().health, Health::Good);
        let shown = store.status();
        let stream = shown.stream(Stream::Data);
        assert_eq!((i64::try_from(stream.readings), stream.dropped), (Ok(last), 0));
    });
    let numbers: Vec<i64> = held(&store).into_values().flat_map(|(_, numbers)| numbers).collect();
    assert_eq!(numbers, (1..=count(numbers.len())).collect::<Vec<_>>());
    assert_eq!(thread.close(), 0);
}
