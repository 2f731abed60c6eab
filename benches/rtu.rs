//! How much of a serial line the Modbus source uses: a pseudo-terminal paced like 19,200 baud 8E1, a
//! device that answers after exactly 3.5 characters, ten registers a poll. Prints the polls made, the
//! polls that frame lengths and silences allow, and the CPU time of this process without the device.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::reading::Points;
use fieldgate::sources::line::{LineSettings, SerialLine};
use fieldgate::sources::modbus::ModbusBus;
use fieldgate::sources::modbus::settings::{Bus, Device, Form, Link, Point, Table, WordOrder};
use fieldgate::sources::{Outlet, Source as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_serial::{SerialPort as _, SerialStream};
use tokio_util::sync::CancellationToken;

const REGISTERS: u16 = 10;
const RUN: Duration = Duration::from_secs(10);
const LINE: LineSettings = LineSettings { baud: 19_200, data_bits: 8, parity: 'E', stop_bits: 1 };

fn main() {
    let (name_out, name_in) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || runtime().block_on(device(&name_out)));
    let path: PathBuf = name_in.recv().unwrap();

    let answer = 5 + 2 * u32::from(REGISTERS);
    let cycle = LINE.characters(8 + answer) + LINE.characters(7);
    let possible = RUN.as_secs_f64() / cycle.as_secs_f64();
    let cpu = thread_cpu();
    let (times, bad) = runtime().block_on(poll(path));
    let cpu = thread_cpu().saturating_sub(cpu);
    let good = u32::try_from(times.len()).unwrap();
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    println!("half of all polls take at most {:?} of {cycle:?} at best", gaps[gaps.len() / 2]);
    println!(
        "{good} polls of {possible:.0} possible: {:.1} %; {bad} without data; {:.1} % of a core",
        100.0 * f64::from(good) / possible,
        100.0 * cpu.as_secs_f64() / RUN.as_secs_f64(),
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Returns the CPU time of the calling thread: user and system, in ticks of 10 ms.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// Plays the device: a request "arrives" when its bytes would have, and so does the answer.
async fn device(name: &std::sync::mpsc::SyncSender<PathBuf>) {
    let (mut line, far) = SerialStream::pair().unwrap();
    name.send(far.name().unwrap().into()).unwrap();
    let mut request = [0_u8; 256];
    let mut filled = 0;
    while let Ok(got) = line.read(&mut request[filled..]).await {
        filled += got;
        if filled < 8 {
            continue;
        }
        filled = 0;
        let mut answer = vec![request[0], request[1], u8::try_from(2 * REGISTERS).unwrap()];
        answer.resize(3 + 2 * usize::from(REGISTERS), 7);
        let sum = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&answer);
        answer.extend(sum.to_le_bytes());
        let taken = LINE.characters(8 + u32::try_from(answer.len()).unwrap());
        let due = Instant::now() + taken + LINE.characters(7) / 2;
        // Exact pacing: sleep to just before, then spin.
        let early = due.saturating_duration_since(Instant::now());
        std::thread::sleep(early.saturating_sub(Duration::from_micros(300)));
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        line.write_all(&answer).await.unwrap();
    }
}

async fn poll(path: PathBuf) -> (Vec<Instant>, u32) {
    let point = |address| Point {
        name: format!("r{address}").into(),
        table: Table::Holding,
        address,
        form: Form::U16,
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        decimals: None,
        unit: "".into(),
        every: Duration::from_millis(5),
    };
    let device = Device {
        name: "d".into(),
        id: 1,
        timeout: Duration::from_millis(300),
        pause: Duration::ZERO,
        gap_max: 0,
        registers_max: 125,
        points: (0..REGISTERS).map(point).collect(),
    };
    let line = SerialLine { name: "bench".into(), path, line: LINE };
    let settings = Bus { name: "bench".into(), link: Link::Rtu(line), devices: vec![device] };
    let points = Arc::new(Points::default());
    let mut bus = ModbusBus::new(settings, &points).unwrap();
    let (groups, mut taken) = mpsc::channel(256);
    let outlet = Outlet { groups, points, clock: Arc::new(System), events: Events::default() };
    let stop = CancellationToken::new();
    let count = async {
        let (mut good, mut bad) = (Vec::new(), 0);
        let end = tokio::time::Instant::now() + RUN;
        while let Ok(Some(group)) = tokio::time::timeout_at(end, taken.recv()).await {
            if group.samples.iter().all(|sample| sample.value.is_ok()) {
                good.push(Instant::now());
            } else {
                bad += 1;
            }
        }
        stop.cancel();
        (good, bad)
    };
    let (counted, ()) = tokio::join!(count, bus.run(outlet, stop.clone()));
    counted
}
