//! What a reading costs on its way to the disk: readings a second through commit and seal, and
//! bytes written a reading at the rate of a small plant, batches acknowledged as they are sealed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::batch::Coding;
use fieldgate::clock::Manual;
use fieldgate::events::Events;
use fieldgate::reading::{
    Decimal, Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};
use fieldgate::store::Store;
use fieldgate::store::settings::{Seal, Settings};

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

/// One commit a virtual second with a poll of each device; sealed every ten; acknowledged at once.
fn run(name: &str, devices: usize, seconds: i64) {
    // The project's own folder, since a temporary one may be in memory, where nothing is written.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let points = Arc::new(Points::default());
    let settings = Settings {
        path: folder.path().join("buffer.db"),
        keep: Duration::from_secs(86_400),
        bytes_max: 1 << 30,
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
    let clock = Arc::new(Manual::new(UnixMillis(START)));
    let (store, thread) =
        Store::open(settings, Arc::clone(&points), clock, Events::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut plant = Plant::new(&points, devices);
    let (before, started) = (written(), Instant::now());
    runtime.block_on(async {
        let mut after = 0;
        for second in 0..seconds {
            plant.poll(second, &store);
            store.flush(second % 10 == 9).await.unwrap();
            for batch in store.next(Stream::Data, after, 16).await.unwrap() {
                after = batch.seq();
                store.acknowledge(Stream::Data, after);
            }
        }
    });
    thread.close();
    let readings =
        u32::try_from(devices * POINTS_A_DEVICE).unwrap() * u32::try_from(seconds).unwrap();
    let bytes = u32::try_from(written() - before).map_or(f64::INFINITY, f64::from);
    let rate = f64::from(readings) / started.elapsed().as_secs_f64();
    println!(
        "store/{name}: {rate:.0} readings/s, {:.1} bytes written a reading, {:.2} ms a commit",
        bytes / f64::from(readings),
        started.elapsed().as_secs_f64() * 1000.0 / f64::from(u32::try_from(seconds).unwrap()),
    );
}

fn main() {
    run("500 readings a commit", 50, 600);
    run("10,000 readings a commit", 1000, 60);
}
