//! The whole daemon under load, measured from outside: Modbus TCP registers from a simulator in
//! another process, through the release binary, to mosquitto. Prints CPU seconds per million
//! readings, memory (the process's own, and mapped of files), and the time from start to the first
//! reading at the broker; for a first start, and for a second over the store that the first leaves
//! when it is killed.
//!
//! `cargo bench --bench river` runs 1,000, 10,000 and 100,000 readings/s; `-- 10000 60` runs one
//! rate for so many seconds. Needs mosquitto. Figures are only comparable within one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss)]

#[path = "../tests/it/peers.rs"]
#[allow(dead_code)]
mod peers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Ready, ready};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fieldgate::batch;
use futures_util::{SinkExt, StreamExt};
use rumqttc::{Codec, Connect, Packet, QoS, Subscribe};
use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::server::{Service, tcp};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::codec::Framed;

const DEVICES: usize = 10;
const WARM_UP: Duration = Duration::from_secs(5);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().any(|a| a == "simulate") {
        runtime.block_on(simulate(u16::try_from(numbers[0]).unwrap()));
        return;
    }
    let (rates, seconds) = match numbers[..] {
        [rate] => (vec![rate], 20),
        [rate, seconds] => (vec![rate], seconds),
        _ => (vec![1_000, 10_000, 100_000], 20),
    };
    println!(
        "readings/s asked   start     got   CPU s/M   RSS MiB (own + file)   first reading s   \
         missing batches"
    );
    for rate in rates {
        runtime.block_on(measure(rate, Duration::from_secs(seconds)));
    }
}

/// Registers that drift a little, each on its own, so that nothing compresses to nothing.
#[derive(Clone, Copy)]
struct Drift(Instant);

impl Service for Drift {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let step = u16::try_from(self.0.elapsed().as_millis() / 100 % 1000).unwrap();
        ready(match request {
            Request::ReadHoldingRegisters(from, count) => Ok(Response::ReadHoldingRegisters(
                (from..from + count).map(|at| 2000 + step.wrapping_mul(at % 7) % 31).collect(),
            )),
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

async fn simulate(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let drift = Drift(Instant::now());
    let connected = |stream, address| async move {
        tcp::accept_tcp_connection(stream, address, |_| Ok(Some(drift)))
    };
    tcp::Server::new(listener).serve(&connected, |_| ()).await.unwrap();
}

/// 1,000 readings/s are 10 devices of 100 points at 1 Hz; from 10,000 on they have 1,000 points.
fn configuration(rate: u64, simulator: u16, broker: u16) -> String {
    let points = if rate <= 1000 { rate / DEVICES as u64 } else { 1000 };
    let every_ms = 1000 * points * DEVICES as u64 / rate;
    let mut text = format!(
        "[gateway]\nname = \"bench\"\n[buffer]\npath = \"buffer.db\"\n\
         [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{broker}\"\n"
    );
    for device in 0..DEVICES {
        let _ = write!(
            text,
            "[device.meter-{device}]\nvia = \"modbus tcp 127.0.0.1:{simulator} id {}\"\n\
             every = \"{every_ms}ms\"\n",
            device + 1
        );
        for point in 0..points {
            let _ = writeln!(
                text,
                "points.p{point} = {{ at = \"holding {point}\", as = \"u16\", scale = 0.1, \
                 unit = \"V\", decimals = 1 }}"
            );
        }
    }
    text
}

#[derive(Default)]
struct Arrived {
    readings: u64,
    sequences: BTreeMap<u64, ()>,
}

async fn measure(rate: u64, duration: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let broker = peers::Mosquitto::start(folder.path(), "");
    let simulator_port = peers::free_port();
    let _simulator = peers::Peer::start(
        Command::new(std::env::current_exe().unwrap())
            .args(["simulate", &simulator_port.to_string()])
            .stdout(Stdio::null()),
    );
    peers::await_port(simulator_port);
    let config = folder.path().join("fieldgate.toml");
    std::fs::write(&config, configuration(rate, simulator_port, broker.port)).unwrap();
    for start in ["first", "second"] {
        observe(rate, start, duration, &config, broker.port).await;
    }
}

/// One start over the folder's store, which the second finds as a power cut has left it.
async fn observe(rate: u64, name: &str, duration: Duration, config: &Path, broker: u16) {
    let mut inbox = subscribe(broker).await;
    let log = config.with_extension(name);
    let start = Instant::now();
    let daemon = peers::Peer::start(
        Command::new(env!("CARGO_BIN_EXE_fieldgate"))
            .args(["run", "--config"])
            .arg(config)
            .stderr(std::fs::File::create(&log).unwrap()),
    );
    let mut arrived = Arrived::default();
    arrived.take(&mut inbox, Instant::now() + Duration::from_secs(10), true).await;
    let first = start.elapsed();
    arrived.take(&mut inbox, Instant::now() + WARM_UP, false).await;
    let (cpu_before, readings_before, began) =
        (cpu_seconds(daemon.id()), arrived.readings, Instant::now());
    arrived.take(&mut inbox, began + duration, false).await;
    let cpu = cpu_seconds(daemon.id()) - cpu_before;
    let [resident, own, file] =
        ["VmRSS:", "RssAnon:", "RssFile:"].map(|line| memory_mib(daemon.id(), line));
    let got = arrived.readings - readings_before;
    let elapsed = began.elapsed().as_secs_f64();
    let (lowest, highest) =
        (arrived.sequences.first_key_value(), arrived.sequences.last_key_value());
    let span = highest.zip(lowest).map_or(0, |(highest, lowest)| highest.0 - lowest.0 + 1);
    let missing = span - arrived.sequences.len() as u64;
    // Batches arrive in lumps of up to max_age; the rate asked is the fairer divisor when all came.
    let readings = (rate as f64 * elapsed).min(got.max(1) as f64 * 1.5);
    println!(
        "{rate:>16} {name:>7} {:>7.0} {:>9.3} {resident:>9.1} ({own:>4.1} + {file:>3.1}) {:>17.3} \
         {missing:>17}",
        got as f64 / elapsed,
        cpu / readings * 1e6,
        first.as_secs_f64()
    );
    let log = std::fs::read_to_string(log).unwrap();
    for line in log.lines().filter(|line| line.contains("FG-")) {
        println!("    {line}");
    }
}

async fn subscribe(port: u16) -> Framed<TcpStream, Codec> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let codec = Codec { max_incoming_size: 1 << 22, max_outgoing_size: 1 << 22 };
    let mut framed = Framed::new(stream, codec);
    let mut connect = Connect::new("counter");
    connect.keep_alive = 0;
    framed.send(Packet::Connect(connect)).await.unwrap();
    let mut subscribe = Subscribe::new("fg/1/bench/data", QoS::AtMostOnce);
    subscribe.pkid = 1;
    framed.send(Packet::Subscribe(subscribe)).await.unwrap();
    framed
}

impl Arrived {
    /// Counts what arrives until `end`, or until the first batch.
    async fn take(&mut self, inbox: &mut Framed<TcpStream, Codec>, end: Instant, first: bool) {
        while let Ok(Some(Ok(packet))) = tokio::time::timeout_at(end.into(), inbox.next()).await {
            let Packet::Publish(publish) = packet else { continue };
            let batch = batch::decode(&publish.payload).unwrap();
            if self.sequences.insert(batch.header.sequence, ()).is_none() {
                self.readings += batch.readings();
            }
            if first {
                return;
            }
        }
    }
}

/// CPU time of all threads, from the scheduler's own nanosecond accounts.
fn cpu_seconds(pid: u32) -> f64 {
    let mut nanoseconds = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let accounts = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        nanoseconds += accounts.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    nanoseconds as f64 / 1e9
}

/// A line of the process's `status`, which is in KiB.
fn memory_mib(pid: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
