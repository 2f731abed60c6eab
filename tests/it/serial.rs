//! Framed serial devices on pseudo terminals that socat makes: frames, a pulled cable, garbage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::reading::{Decimal, Group, NoData, Points, Value};
use fieldgate::sources::line::{LineSettings, SerialLine, ports};
use fieldgate::sources::serial::intake::Counts;
use fieldgate::sources::serial::settings::{Device, Form, Framing, Parse, Point};
use fieldgate::sources::serial::{Opener, SerialDevice};
use fieldgate::sources::{Outlet, Source};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::peers::Peer;

const PATIENCE: Duration = Duration::from_secs(30);

/// A cable made of two pseudo terminals: the device writes to one end, the gateway opens the other.
struct Cable {
    socat: Option<Peer>,
    device: PathBuf,
    gateway: PathBuf,
}

impl Cable {
    fn plug(folder: &Path) -> Self {
        let mut cable =
            Self { socat: None, device: folder.join("device"), gateway: folder.join("gateway") };
        cable.replug();
        cable
    }

    fn replug(&mut self) {
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let mut command = Command::new("socat");
        command.arg(end(&self.device)).arg(end(&self.gateway)).stderr(Stdio::null());
        self.socat = Some(Peer::start(&mut command));
        let end = Instant::now() + PATIENCE;
        while !(self.device.exists() && self.gateway.exists()) {
            assert!(Instant::now() < end, "socat made no pseudo terminals");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends socat and removes its links, as udev removes those of an adapter.
    fn pull(&mut self) {
        self.socat.take().unwrap().kill();
        let _ = std::fs::remove_file(&self.device);
        let _ = std::fs::remove_file(&self.gateway);
    }

    fn say(&self, bytes: &[u8]) {
        let mut end = std::fs::OpenOptions::new().write(true).open(&self.device).unwrap();
        end.write_all(bytes).unwrap();
    }
}

fn scale(path: &Path) -> Device {
    Device {
        name: "scale".into(),
        line: SerialLine {
            name: "rs232-1".into(),
            path: path.into(),
            line: LineSettings::parse("115200 8N1").unwrap(),
        },
        framing: Framing::End(b"\r\n".to_vec()),
        checksum: None,
        parse: Parse::Match(
            regex::Regex::new(r"^(?:ST|US),GS,\s*(?<weight>[-+]?\d+\.\d+)kg$").unwrap(),
        ),
        points: vec![Point {
            name: "weight".into(),
            key: "weight".into(),
            form: Form::Number,
            scale: 1.0,
            offset: 0.0,
            decimals: Some(2),
            unit: "kg".into(),
        }],
        ask: None,
        silent_after: None,
    }
}

/// A running source, stopped when dropped.
struct Running {
    groups: mpsc::Receiver<Group>,
    events: Events,
    counts: Arc<Counts>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(device: Device) -> Running {
    let points = Arc::new(Points::default());
    let mut source = SerialDevice::new(device, &points).unwrap();
    let (sender, groups) = mpsc::channel(256);
    let events = Events::default();
    let outlet = Outlet { groups: sender, points, clock: Arc::new(System), events: events.clone() };
    let counts = source.counts();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move { source.run(outlet, stopped).await });
    Running { groups, events, counts, stop, task }
}

impl Running {
    async fn next(&mut self) -> Result<Value, NoData> {
        let group = timeout(PATIENCE, self.groups.recv()).await.expect("no group in 30 s").unwrap();
        group.samples[0].value.clone()
    }

    /// Skips what an outage left behind and waits for the next value.
    async fn next_value(&mut self) -> Value {
        loop {
            if let Ok(value) = self.next().await {
                return value;
            }
        }
    }

    async fn opened(&self, times: u64) {
        let opened = async {
            while self.counts.opens.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, opened).await.expect("the port was not opened");
    }

    fn standing(&self) -> Vec<&'static str> {
        self.events.standing().iter().map(|condition| condition.notice.code.id).collect()
    }
}

fn kg(hundredths: i64) -> Value {
    Value::Decimal(Decimal { digits: hundredths, places: 2 })
}

/// The first frame after an open may be passed over (its beginning might have been missed), so the
/// device says a blank line first.
fn frame(text: &str) -> Vec<u8> {
    format!("\r\nST,GS,  {text}kg\r\n").into_bytes()
}

#[tokio::test]
async fn frames_from_a_pty_arrive_as_readings() {
    let folder = tempfile::tempdir().unwrap();
    let cable = Cable::plug(folder.path());
    let mut source = run(scale(&cable.gateway));
    source.opened(1).await;
    cable.say(&frame("+12.340"));
    assert_eq!(source.next().await, Ok(kg(1234)));
    cable.say(b"ST,GS, 0.5");
    cable.say(b"0kg\r");
    cable.say(b"\n");
    assert_eq!(source.next().await, Ok(kg(50)));
    assert!(source.standing().is_empty());
    source.stop.cancel();
    timeout(PATIENCE, &mut source.task).await.expect("stops when told").unwrap();
}

#[tokio::test]
async fn a_pulled_and_replugged_cable_resumes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut cable = Cable::plug(folder.path());
    let mut source = run(scale(&cable.gateway));
    source.opened(1).await;
    cable.say(&frame("1.00"));
    assert_eq!(source.next().await, Ok(kg(100)));

    cable.pull();
    assert_eq!(source.next().await, Err(NoData::Timeout));
    assert_eq!(source.standing(), ["FG-S01"]);
    let reads = source.counts.reads.load(Ordering::Relaxed);
    let opens = source.counts.opens.load(Ordering::Relaxed);
    source.opened(opens + 2).await;
    assert_eq!(source.counts.reads.load(Ordering::Relaxed), reads, "nothing is read while gone");
    assert!(source.groups.try_recv().is_err(), "an outage is one group without data");

    cable.replug();
    let opens = source.counts.opens.load(Ordering::Relaxed);
    source.opened(opens + 1).await;
    cable.say(&frame("2.00"));
    assert_eq!(source.next_value().await, kg(200));
    assert!(source.standing().is_empty(), "{:?}", source.standing());
}

#[tokio::test]
async fn garbage_and_a_frame_of_64_kib_do_not_stop_the_frames_after_them() {
    let folder = tempfile::tempdir().unwrap();
    let cable = Cable::plug(folder.path());
    let mut source = run(scale(&cable.gateway));
    source.opened(1).await;
    cable.say(&frame("1.00"));
    assert_eq!(source.next().await, Ok(kg(100)));
    let mut noise: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    noise.extend(frame("3.00"));
    let device = cable.device.clone();
    let writer = std::thread::spawn(move || {
        let mut end = std::fs::OpenOptions::new().write(true).open(device).unwrap();
        end.write_all(&noise).unwrap();
    });
    assert_eq!(source.next().await, Err(NoData::Malformed));
    assert_eq!(source.next_value().await, kg(300));
    writer.join().unwrap();
    assert_eq!(source.standing(), ["FG-S04"]);
}

#[tokio::test]
async fn a_port_that_another_gateway_holds_is_told_with_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let cable = Cable::plug(folder.path());
    let mut line = scale(&cable.gateway).line;
    let held = Opener::open(&mut line).unwrap();
    // socat keeps both of its ends open too, so either of the two may be named.
    assert!(ports::holder(&line.path).is_some());
    let mut source = run(scale(&cable.gateway));
    assert_eq!(source.next().await, Err(NoData::Timeout));
    let told = source.events.standing()[0].notice.to_string();
    assert!(told.starts_with("FG-S02") && told.contains("cannot be opened: pid "), "{told}");

    drop(held);
    let opens = source.counts.opens.load(Ordering::Relaxed);
    source.opened(opens + 1).await;
    cable.say(&frame("4.00"));
    assert_eq!(source.next_value().await, kg(400));
    assert!(source.standing().is_empty());
}
