//! What a reading costs on its way to the disk: readings a second through commit and seal, bytes
//! written a reading at the rate of a small plant, and memory while nobody acknowledges. One part
//! alone: `cargo bench --bench store -- wear|rate|outage`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::batch::Coding;
use fieldgate::clock::Manual;
use fieldgate::events::Events;
use fieldgate::reading::{
    Decimal, Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};
use fieldgate::store::settings::{Seal, Settings, Write};
use fieldgate::store::{Store, StoreThread};

const START: i64 = 1_790_000_000_000;
const POINTS_A_DEVICE: usize = 10;

/// Devices whose values wander by small steps, as temperatures and voltages do.
struct Plant {
    devices: Vec<Arc<[PointId]>>,
    values: Vec<i64>,
    random: u64,
}

impl Plant {
    fn new(points: &Points, devices: usize) -> Self {
        let point = |device: usize, n: usize| {
            let info = PointInfo::new(&format!("device-{device}"), &format!("point-{n}"), "Cel");
            points.intern(info).unwrap()
        };
        let of = |device| (0..POINTS_A_DEVICE).map(|n| point(device, n)).collect();
        Self {
            devices: (0..devices).map(of).collect(),
            values: vec![2000; devices * POINTS_A_DEVICE],
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn poll(&mut self, second: i64, store: &Store) {
        for (device, points) in self.devices.iter().enumerate() {
            let samples = (0..POINTS_A_DEVICE).map(|n| {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let value = &mut self.values[device * POINTS_A_DEVICE + n];
                *value += i64::try_from(self.random % 5).unwrap() - 2;
                Sample::good(Value::Decimal(Decimal { digits: *value, places: 1 }))
            });
            store.append(Group {
                stream: Stream::Data,
                at: UnixMillis(START + second * 1000 + i64::try_from(device).unwrap()),
                points: Arc::clone(points),
                samples: samples.collect(),
            });
        }
    }
}

/// Bytes this process caused to be written (`/proc/self/io`, `write_bytes`).
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.trim().parse().unwrap()
}

/// CPU seconds of the store's thread (`schedstat`, first field, nanoseconds).
fn store_cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |name: &str, path: &std::path::Path| std::fs::read_to_string(path.join(name)).unwrap();
    let store = tasks
        .map(|task| task.unwrap().path())
        .find(|task| of("comm", task).trim() == "store")
        .unwrap();
    let used: u64 = of("schedstat", &store).split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(used).as_secs_f64()
}

/// Resident memory, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// A store in a folder of its own.
struct World {
    points: Arc<Points>,
    store: Store,
    thread: StoreThread,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// Long enough for nothing to happen by itself.
const NEVER: Duration = Duration::from_secs(36_000);

impl World {
    fn new(commit: Duration, coding: Coding, write: Write) -> Self {
        // The project's own folder, since a temporary one may be in memory, where nothing is written.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let points = Arc::new(Points::default());
        let settings = Settings {
            path: folder.path().join("buffer.db"),
            keep: Duration::from_secs(86_400),
            bytes_max: 1 << 30,
            free_min: 0,
            write,
            commit,
            seal: Seal { age_max: 2 * NEVER, readings_max: 50_000, bytes_max: 512 * 1024, coding },
            gateway: "gw".into(),
            config_hash: "c0ffee".into(),
        };
        let clock = Arc::new(Manual::new(UnixMillis(START)));
        let (store, thread) =
            Store::open(settings, Arc::clone(&points), clock, Events::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { points, store, thread, runtime, _folder: folder }
    }
}

fn million(readings: usize) -> f64 {
    f64::from(u32::try_from(readings).unwrap()) / 1e6
}

/// A plant of 50 devices with 10 points each, polled every virtual second and acknowledged at once:
/// bytes written a reading, by how often it is committed and sealed.
fn wear(name: &str, commit: i64, seal: i64, coding: Coding, write: Write) {
    const SECONDS: i64 = 3000;
    /// Until then the file is made and finds its size; what counts is what goes on for years.
    const WARM_UP: i64 = 300;
    let world = World::new(NEVER, coding, write);
    let mut plant = Plant::new(&world.points, 50);
    let mut before = 0;
    let started = Instant::now();
    let store = &world.store;
    world.runtime.block_on(async {
        let mut after = 0;
        for second in -WARM_UP..SECONDS {
            if second == 0 {
                before = written();
            }
            plant.poll(second, store);
            if (second + 1) % commit == 0 {
                store.flush((second + 1) % seal == 0).await.unwrap();
            }
            for batch in store.next(Stream::Data, after, 16).await.unwrap() {
                after = batch.seq();
                store.acknowledge(Stream::Data, after);
            }
        }
    });
    world.thread.close();
    let readings = 500 * usize::try_from(SECONDS).unwrap();
    let bytes = f64::from(u32::try_from(written() - before).unwrap());
    println!(
        "store/wear, {name}: {:.2} bytes written a reading, {:.2} ms a commit",
        bytes / 1e6 / million(readings),
        started.elapsed().as_secs_f64() * 1000.0 * f64::from(u32::try_from(commit).unwrap())
            / f64::from(u32::try_from(WARM_UP + SECONDS).unwrap()),
    );
}

/// As much as the store takes, from `devices` of ten points, at `commit = 1s`; nothing is dropped.
fn rate(name: &str, devices: usize, coding: Coding) {
    const READINGS: usize = 10_000_000;
    let world = World::new(Duration::from_secs(1), coding, Write::Always);
    let mut plant = Plant::new(&world.points, devices);
    let rounds = READINGS / devices / POINTS_A_DEVICE;
    let store = &world.store;
    let started = Instant::now();
    let mut waited = Duration::ZERO;
    for second in 0..rounds {
        plant.poll(i64::try_from(second).unwrap(), store);
        let full = Instant::now();
        while store.status().uncommitted > 150_000 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        waited += full.elapsed();
    }
    world.runtime.block_on(store.flush(true)).unwrap();
    let (took, cpu) = (started.elapsed(), store_cpu());
    let shown = *store.status().stream(Stream::Data);
    assert_eq!((shown.readings, shown.dropped), (READINGS as u64, 0));
    println!(
        "store/rate, {name}: {:.2} M readings/s committed ({:.2} M a CPU second of its thread), the producer waited {:.0} % of the time, {:.2} bytes a reading on disk",
        million(READINGS) / took.as_secs_f64(),
        million(READINGS) / cpu,
        100.0 * waited.as_secs_f64() / took.as_secs_f64(),
        f64::from(u32::try_from(shown.bytes).unwrap()) / 1e6 / million(READINGS),
    );
}

/// Ten million readings that nobody acknowledges, 10,000 a commit and 50,000 a batch: resident
/// memory at the first tenth and how far it moves from there on.
fn outage() {
    let world = World::new(NEVER, Coding::Zlib, Write::Always);
    let mut plant = Plant::new(&world.points, 1000);
    let (mut first, mut least, mut most) = (0, u64::MAX, 0);
    for second in 0..1000 {
        plant.poll(second, &world.store);
        world.runtime.block_on(world.store.flush(false)).unwrap();
        if second == 100 {
            first = resident();
        }
        if second >= 100 {
            (least, most) = (least.min(resident()), most.max(resident()));
        }
    }
    println!(
        "store/outage of 10 M readings: {first} KiB resident after 1 M, between {:+} and {:+} KiB of that to the end",
        i64::try_from(least).unwrap() - i64::try_from(first).unwrap(),
        i64::try_from(most).unwrap() - i64::try_from(first).unwrap(),
    );
}

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let on = |part: &str| only.is_empty() || only.starts_with('-') || only == part;
    if on("wear") {
        wear("commit 1s", 1, 10, Coding::Zlib, Write::Always);
        wear("commit 1s, plain", 1, 10, Coding::Plain, Write::Always);
        wear("commit 10s", 10, 10, Coding::Zlib, Write::Always);
        wear("commit 10s, plain", 10, 10, Coding::Plain, Write::Always);
        wear("when-needed", 10, 10, Coding::Zlib, Write::WhenNeeded);
    }
    if on("rate") {
        rate("1,000 points", 100, Coding::Zlib);
        rate("10,000 points", 1000, Coding::Zlib);
        rate("10,000 points, plain", 1000, Coding::Plain);
    }
    if on("outage") {
        outage();
    }
}
