//! The Modbus source against pymodbus: TCP, RTU frames on a pseudo-terminal (socat joins it to the
//! server), and RTU frames over TCP. The server says what its registers hold.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fieldgate::clock::System;
use fieldgate::events::Events;
use fieldgate::reading::{Decimal, Group, NoData, Points, Value};
use fieldgate::sources::line::{LineSettings, SerialLine};
use fieldgate::sources::modbus::ModbusBus;
use fieldgate::sources::modbus::settings::{Bus, Device, Form, Link, Point, Table, WordOrder};
use fieldgate::sources::{Outlet, Source as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::peers::{self, Peer};

fn serve(port: u16, kind: &str, late_ms: u32) -> Peer {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/modbus_server.py");
    let mut python = peers::python();
    python.args([script, &port.to_string(), kind, &late_ms.to_string()]);
    let server = Peer::start(python.stderr(Stdio::null()));
    peers::await_port(port);
    server
}

/// Joins a pseudo-terminal at `path` to a TCP port.
fn pty(path: &Path, port: u16) -> Peer {
    let _ = std::fs::remove_file(path);
    let mut socat = Command::new("socat");
    socat.arg(format!("PTY,link={},raw,echo=0", path.display()));
    socat.arg(format!("TCP:127.0.0.1:{port}")).stderr(Stdio::null());
    let peer = Peer::start(&mut socat);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(std::time::Instant::now() < end, "socat made no pseudo-terminal in 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    peer
}

fn tcp(port: u16) -> Link {
    Link::Tcp { host: "127.0.0.1".into(), port }
}

fn rtu(path: PathBuf) -> Link {
    let line = LineSettings { baud: 115_200, ..LineSettings::DEFAULT };
    Link::Rtu(SerialLine { name: "rs485-1".into(), path, line })
}

fn point(name: &str, table: Table, address: u16, form: Form) -> Point {
    Point {
        name: name.into(),
        table,
        address,
        form,
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        decimals: None,
        unit: "".into(),
        every: Duration::from_millis(200),
    }
}

fn device(id: u8, points: Vec<Point>) -> Device {
    Device {
        name: format!("d{id}").into(),
        id,
        timeout: Duration::from_millis(500),
        pause: Duration::ZERO,
        gap_max: 8,
        registers_max: 125,
        points,
    }
}

/// Registers that cannot be merged, so that requests look alike.
fn apart(id: u8) -> Device {
    let points =
        (0..4).map(|n| point(&format!("r{}", n * 16), Table::Holding, n * 16, Form::U16)).collect();
    Device { timeout: Duration::from_millis(80), ..device(id, points) }
}

/// A bus at work in the background; ends with the test.
struct Running {
    groups: mpsc::Receiver<Group>,
    points: Arc<Points>,
    events: Events,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(link: Link, devices: Vec<Device>) -> Self {
        let points = Arc::new(Points::default());
        let settings = Bus { name: "plant".into(), link, devices };
        let mut bus = ModbusBus::new(settings, &points).unwrap();
        let (sender, groups) = mpsc::channel(256);
        let events = Events::default();
        let outlet = Outlet {
            groups: sender,
            points: Arc::clone(&points),
            clock: Arc::new(System),
            events: events.clone(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { bus.run(outlet, stopped).await });
        Self { groups, points, events, stop, task }
    }

    /// Returns the next group as names and values.
    async fn next(&mut self) -> Vec<(String, Result<Value, NoData>)> {
        let group = tokio::time::timeout(Duration::from_secs(20), self.groups.recv())
            .await
            .expect("no group came in 20 s")
            .expect("the bus ended");
        let named = |reading: fieldgate::reading::Reading| {
            let info = self.points.info(reading.point);
            (format!("{}/{}", info.device, info.point), reading.sample.value)
        };
        group.readings().map(named).collect()
    }

    /// Takes groups until one is as `wanted`, at most 200.
    async fn until(&mut self, wanted: impl Fn(&Result<Value, NoData>) -> bool) {
        for _ in 0..200 {
            if self.next().await.iter().all(|(_, value)| wanted(value)) {
                return;
            }
        }
        panic!("200 groups came and none was as wanted: {:?}", self.events.standing());
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn number(digits: i64, places: u8) -> Result<Value, NoData> {
    Ok(Value::Decimal(Decimal { digits, places }))
}

/// Reads every table and most forms of two units over `link` and checks each value.
async fn reads_everything(link: Link) {
    let bits = Form::Bits(vec![(3, "three".into()), (4, "four".into())]);
    let first = device(
        1,
        vec![
            point("coil3", Table::Coil, 3, Form::Bool),
            point("coil4", Table::Coil, 4, Form::Bool),
            point("discrete30", Table::Discrete, 30, Form::Bool),
            Point { scale: 0.1, ..point("scaled", Table::Holding, 7, Form::U16) },
            point("alarms", Table::Holding, 8, bits),
            point("temperature", Table::Holding, 100, Form::F32),
            point("name", Table::Holding, 104, Form::Text(6)),
            point("nowhere", Table::Holding, 200, Form::U16),
            point("minus", Table::Input, 100, Form::I16),
        ],
    );
    let second = device(2, vec![point("wide", Table::Input, 62, Form::U32)]);
    let mut bus = Running::start(link, vec![first, second]);
    assert_eq!(
        bus.next().await,
        [
            ("d1/coil3".into(), Ok(Value::Bool(true))),
            ("d1/coil4".into(), Ok(Value::Bool(false))),
            ("d1/discrete30".into(), Ok(Value::Bool(true))),
            ("d1/scaled".into(), number(10_07, 1)),
            // 1008 is 0b11_1111_0000.
            ("d1/alarms.three".into(), Ok(Value::Bool(false))),
            ("d1/alarms.four".into(), Ok(Value::Bool(true))),
            ("d1/temperature".into(), number(211, 1)),
            ("d1/name".into(), Ok(Value::Text("PUMP-7".into()))),
            ("d1/nowhere".into(), Err(NoData::Configuration)),
            ("d1/minus".into(), number(-2, 0)),
        ]
    );
    assert_eq!(bus.next().await, [("d2/wide".into(), number((2062 << 16) + 2063, 0))]);
    let told = bus.events.standing();
    assert_eq!(told.len(), 1);
    assert!(told[0].notice.to_string().starts_with("FG-M05"), "{}", told[0].notice);
    bus.end().await;
}

#[tokio::test]
async fn every_table_and_form_is_read_from_pymodbus_over_tcp() {
    let port = peers::free_port();
    let _server = serve(port, "tcp", 0);
    reads_everything(tcp(port)).await;
}

#[tokio::test]
async fn every_table_and_form_is_read_from_pymodbus_over_rtu() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tty");
    let port = peers::free_port();
    let _server = serve(port, "rtu", 0);
    let _line = pty(&path, port);
    reads_everything(rtu(path)).await;
}

#[tokio::test]
async fn every_table_and_form_is_read_from_pymodbus_over_rtu_in_tcp() {
    let port = peers::free_port();
    let _server = serve(port, "rtu", 0);
    reads_everything(Link::RtuOverTcp { host: "127.0.0.1".into(), port }).await;
}

/// Polls a unit that answers every third time later than its timeout beside one that does not.
async fn never_believes_late_answers(link: Link) {
    let mut bus = Running::start(link, vec![apart(1), apart(2)]);
    let (mut good, mut late) = (0, 0);
    for _ in 0..40 {
        for (name, value) in bus.next().await {
            let (unit, register) = name.split_once("/r").unwrap();
            let unit: i64 = unit[1..].parse().unwrap();
            let register: i64 = register.parse().unwrap();
            match value {
                Err(_) => late += 1,
                right => {
                    assert_eq!(right, number(1000 * unit + register, 0), "{name}");
                    good += 1;
                }
            }
        }
    }
    assert!(late > 0, "nothing was late");
    assert!(good > 40, "only {good} values came, {late} did not");
    bus.end().await;
}

#[tokio::test]
async fn late_answers_of_pymodbus_are_never_believed_over_tcp() {
    let port = peers::free_port();
    let _server = serve(port, "tcp", 170);
    never_believes_late_answers(tcp(port)).await;
}

#[tokio::test]
async fn late_answers_of_pymodbus_are_never_believed_over_rtu() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tty");
    let port = peers::free_port();
    let _server = serve(port, "rtu", 170);
    let _line = pty(&path, port);
    never_believes_late_answers(rtu(path)).await;
}

#[tokio::test]
async fn a_port_that_is_pulled_and_put_back_resumes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tty");
    let port = peers::free_port();
    let _server = serve(port, "rtu", 0);
    let line = pty(&path, port);
    let mut bus = Running::start(rtu(path.clone()), vec![apart(1)]);
    bus.until(Result::is_ok).await;
    line.kill();
    bus.until(|value| *value == Err(NoData::Timeout)).await;
    let told = bus.events.standing();
    assert!(told.iter().any(|c| c.notice.to_string().starts_with("FG-M01  bus plant lost ")));
    let _line = pty(&path, port);
    bus.until(Result::is_ok).await;
    assert!(bus.events.standing().is_empty(), "{:?}", bus.events.standing());
    bus.end().await;
}

#[tokio::test]
async fn a_refused_connection_is_told_in_words_and_resumes_by_itself() {
    let port = peers::free_port();
    let mut bus = Running::start(tcp(port), vec![apart(1)]);
    bus.until(|value| *value == Err(NoData::Timeout)).await;
    let told = bus.events.standing()[0].notice.to_string();
    let first = format!("FG-M02  bus plant is down: 127.0.0.1:{port} refused the connection\n");
    assert!(told.starts_with(&first), "{told}");
    assert!(!told.contains("os error"), "{told}");
    let _server = serve(port, "tcp", 0);
    bus.until(Result::is_ok).await;
    assert!(bus.events.standing().is_empty(), "{:?}", bus.events.standing());
    bus.end().await;
}
