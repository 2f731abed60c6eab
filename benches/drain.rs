//! What an outage costs when it is over: a store with a backlog of ten million readings, drained by
//! the real uplink into mosquitto in another process. Prints readings a second from the dial to the
//! last acknowledgement (a lower bound: the backlog waits for its turn at random up to five seconds,
//! so that a fleet's newest come first), the same without that wait as long as the first look at the
//! backlog came in its first half, and CPU seconds of this process per million readings.
//!
//! `cargo bench --bench drain` runs full batches and those of a small plant; `-- 2` takes two
//! million readings. Needs mosquitto. Figures are only comparable within one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

#[path = "../tests/it/peers.rs"]
#[allow(dead_code)]
mod peers;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::batch::Coding;
use fieldgate::clock::{Clock, System};
use fieldgate::events::Events;
use fieldgate::mqtt::Broker;
use fieldgate::reading::{
    Decimal, Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};
use fieldgate::store::Store;
use fieldgate::store::settings::{Seal, Settings, Write};
use fieldgate::uplink::Uplink;
use fieldgate::uplink::settings::{Ack, Uplink as UplinkSettings};
use tokio_util::sync::CancellationToken;

const START: i64 = 1_790_000_000_000;
const DEVICES: usize = 50;
const POINTS: usize = 10;
const A_SECOND: u64 = (DEVICES * POINTS) as u64;

fn main() {
    let millions = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!(
        "readings a batch   batches   bytes/reading   from the dial/s   without wait/s   CPU s/M"
    );
    for seconds_a_batch in [100, 10] {
        runtime.block_on(measure(millions * 1_000_000 / A_SECOND, seconds_a_batch));
    }
}

/// Fifty devices of ten points, each once a second; values wander as temperatures do.
async fn fill(store: &Store, points: &Points, seconds: u64, seconds_a_batch: u64) {
    let point = |device: usize, n: usize| {
        let info = PointInfo::new(&format!("device-{device}"), &format!("point-{n}"), "Cel");
        points.intern(info).unwrap()
    };
    let devices: Vec<Arc<[PointId]>> =
        (0..DEVICES).map(|device| (0..POINTS).map(|n| point(device, n)).collect()).collect();
    let mut values = vec![2000_i64; DEVICES * POINTS];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for second in 0..seconds {
        for (device, points) in devices.iter().enumerate() {
            let samples = values[device * POINTS..][..POINTS].iter_mut().map(|value| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                *value += i64::try_from(random % 5).unwrap() - 2;
                Sample::good(Value::Decimal(Decimal { digits: *value, places: 1 }))
            });
            let at = START + i64::try_from(second * 1000 + device as u64).unwrap();
            let (points, samples) = (Arc::clone(points), samples.collect());
            store.append(Group { stream: Stream::Data, at: UnixMillis(at), points, samples });
        }
        if second % seconds_a_batch == seconds_a_batch - 1 {
            store.flush(true).await.unwrap();
        }
    }
    store.flush(true).await.unwrap();
}

fn settings(folder: &Path) -> Settings {
    Settings {
        path: folder.join("buffer.db"),
        keep: Duration::from_secs(10 * 366 * 86_400),
        bytes_max: 2 << 30,
        free_min: 0,
        write: Write::Always,
        commit: Duration::from_secs(1),
        seal: Seal {
            age_max: Duration::from_secs(3600),
            readings_max: 50_000,
            bytes_max: 512 * 1024,
            coding: Coding::Zlib,
        },
        gateway: "bench".into(),
        config_hash: "c0ffee".into(),
    }
}

async fn measure(seconds: u64, seconds_a_batch: u64) {
    // The project's own folder, since a temporary one may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let broker = peers::Mosquitto::start(folder.path(), "");
    let (points, clock) = (Arc::<Points>::default(), Arc::new(System) as Arc<dyn Clock>);
    let open = Store::open(
        settings(folder.path()),
        Arc::clone(&points),
        Arc::clone(&clock),
        Events::default(),
    );
    let (store, thread) = open.unwrap();
    fill(&store, &points, seconds, seconds_a_batch).await;
    let held = store.status();
    let held = held.stream(Stream::Data);
    let uplink = UplinkSettings {
        name: "cloud".to_owned(),
        gateway: "bench".into(),
        config_hash: "c0ffee".into(),
        labels: Vec::new(),
        broker: Broker::new("127.0.0.1", broker.port, "bench"),
        ack: Ack::Broker,
        drain: None,
        data_plan: None,
    };
    let uplink = Uplink::new(uplink, store.clone(), points, clock, Events::default());
    let (mut link, stop) = (uplink.link(), CancellationToken::new());
    let (dialled, cpu, until) = (Instant::now(), cpu_seconds(), stop.clone());
    // On a thread of its own: an uplink that never waits would be watched too late.
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(uplink.run(until));
    });
    // The newest goes at once; the second is the backlog's first.
    link.wait_for(|link| link.batches > 1).await.unwrap();
    let (began, before) = (Instant::now(), link.borrow().readings);
    link.wait_for(|link| link.readings >= held.readings).await.unwrap();
    let (ended, cpu) = (Instant::now(), cpu_seconds() - cpu);
    let rate = |readings: u64, since: Instant| {
        format!("{:.0}", readings as f64 / (ended - since).as_secs_f64())
    };
    let without_wait = match held.readings - before {
        left if left * 2 > held.readings => rate(left, began),
        _ => "seen too late".to_owned(),
    };
    println!(
        "{:>16} {:>9} {:>15.2} {:>17} {:>16} {:>9.3}",
        seconds_a_batch * A_SECOND,
        held.batches,
        held.bytes as f64 / held.readings as f64,
        rate(held.readings, dialled),
        without_wait,
        cpu / held.readings as f64 * 1e6,
    );
    stop.cancel();
    running.join().unwrap();
    assert_eq!(thread.close(), 0);
}

/// CPU time of all threads, from the scheduler's own nanosecond accounts.
fn cpu_seconds() -> f64 {
    let mut nanoseconds = 0_u64;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let accounts = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        nanoseconds += accounts.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    nanoseconds as f64 / 1e9
}
