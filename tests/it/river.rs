//! The whole daemon, as a process, between a Modbus device and Debian's mosquitto. The device counts
//! its own polls, so that a lost or doubled reading shows as a hole or a repeat in the numbers that
//! reach the subscriber.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Ready, ready};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fieldgate::batch::{self, RowValue};
use futures_util::{SinkExt, StreamExt};
use rumqttc::{Codec, Connect, Packet, Publish, QoS, Subscribe};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::server::{Service, tcp};
use tokio_modbus::{ExceptionCode, Request, Response};
use tokio_util::codec::Framed;

use crate::peers::{Mosquitto, Peer};

/// A device whose register 0 counts the polls it answered; and when it answered each.
#[derive(Clone, Default)]
pub struct Counting(pub Arc<AtomicU32>, Arc<Mutex<Vec<i64>>>);

impl Service for Counting {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let count = || {
            self.1.lock().unwrap().push(now_ms());
            self.0.fetch_add(1, Ordering::Relaxed)
        };
        let word = |n: u32| u16::try_from(n % 0x1_0000).unwrap();
        ready(match request {
            Request::ReadHoldingRegisters(0, words) => {
                let n = count();
                let words = (0..u32::from(words)).map(|at| word(n + at));
                Ok(Response::ReadHoldingRegisters(words.collect()))
            }
            // For those who poll it so often that one register does not hold the number.
            Request::ReadHoldingRegisters(10, 2) => {
                let n = count();
                Ok(Response::ReadHoldingRegisters(vec![word(n / 0x1_0000), word(n)]))
            }
            _ => Err(ExceptionCode::IllegalDataAddress),
        })
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Serves the device on a thread of its own until the test process ends.
pub fn counting_device() -> (u16, Counting) {
    let device = Counting::default();
    let served = device.clone();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            let connected = |stream, address| {
                let device = served.clone();
                async move {
                    tcp::accept_tcp_connection(stream, address, |_| Ok(Some(device.clone())))
                }
            };
            tcp::Server::new(listener).serve(&connected, |_| ()).await.unwrap();
        });
    });
    (told.recv().unwrap(), device)
}

pub struct World {
    folder: TempDir,
    config: PathBuf,
    /// Between daemon and subscriber.
    pub broker: Mosquitto,
    device: Counting,
}

impl World {
    /// Sets everything up but the daemon; the device is read every `every`.
    pub fn new(every: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let (device_port, device) = counting_device();
        let config = folder.path().join("fieldgate.toml");
        let mut text = String::new();
        write!(
            text,
            r#"
[gateway]
name = "gw-river"
[device.counter]
via   = "modbus tcp 127.0.0.1:{device_port} id 1"
every = "{every}"
points.polls = {{ at = "holding 0", as = "u16" }}
points.next  = {{ at = "holding 1", as = "u16", unit = "V" }}
[buffer]
path   = "buffer.db"
commit = "200ms"
[uplink.cloud]
url   = "mqtt://127.0.0.1:{}"
batch = {{ max_age = "500ms" }}
"#,
            broker.port
        )
        .unwrap();
        std::fs::write(&config, text).unwrap();
        Self { folder, config, broker, device }
    }

    /// Starts the daemon.
    pub fn start(&self) -> Peer {
        self.start_with(&mut Command::new(env!("CARGO_BIN_EXE_fieldgate")))
    }

    fn start_with(&self, command: &mut Command) -> Peer {
        // Deaths in a row lead to safe mode, which has tests of its own.
        let _ = std::fs::remove_file(self.folder.path().join("starts.json"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        Peer::start(
            command.args(["run", "--config"]).arg(&self.config).stdout(Stdio::null()).stderr(log),
        )
    }

    /// Puts the buffer elsewhere, before a start.
    pub fn move_buffer(&self, path: &Path) {
        self.replace("\"buffer.db\"", &format!("{:?}", path.to_str().unwrap()));
    }

    /// Changes the configuration, before a start.
    pub fn replace(&self, this: &str, by: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, text.replace(this, by)).unwrap();
    }

    /// Adds to the configuration, before a start.
    pub fn configure(&self, more: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, text + more).unwrap();
    }

    /// Throws away what was compiled of rules.
    pub fn forget_code(&self) {
        let _ = std::fs::remove_dir_all(self.folder.path().join("rules-code"));
    }

    /// Keeps batches until their receiver names them, from the next start on.
    #[cfg(feature = "receive")]
    pub fn wait_for_the_receiver(&self) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let waiting = text.replace("batch = {", "ack   = \"receiver\"\nbatch = {");
        std::fs::write(&self.config, waiting).unwrap();
    }

    /// Where the buffer is, unless it was moved.
    #[cfg(feature = "receive")]
    pub fn buffer(&self) -> PathBuf {
        self.folder.path().join("buffer.db")
    }

    /// Starts the daemon under a clock that shows what the file `clock` says: `@1970-..` or an
    /// offset such as `+0`. The time since boot stays the machine's.
    fn start_under_a_clock(&self) -> Peer {
        let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
        let library = library.map(|at| at.path().join("faketime/libfaketimeMT.so.1"));
        let library = library.into_iter().find(|at| at.exists());
        let library = library.expect("libfaketime is missing; on Debian: apt install libfaketime");
        self.start_with(
            Command::new(env!("CARGO_BIN_EXE_fieldgate"))
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.folder.path().join("clock"))
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("TZ", "UTC"),
        )
    }

    fn set_clock(&self, to: &str) {
        let draft = self.folder.path().join("clock.draft");
        std::fs::write(&draft, to).unwrap();
        std::fs::rename(draft, self.folder.path().join("clock")).unwrap();
    }

    /// Waits until the device has answered so many polls more.
    pub async fn pass(&self, polls: u16) {
        let enough = self.polls() + polls;
        while self.polls() < enough {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns how often the device was read.
    pub fn polls(&self) -> u16 {
        self.device.0.load(Ordering::Relaxed).try_into().unwrap()
    }

    /// Waits until the device was read so often.
    #[cfg(feature = "receive")]
    pub async fn polled(&self, polls: u16) {
        while self.polls() < polls {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// What a receiver has: batches by their key, each once.
#[derive(Default)]
pub struct Received {
    batches: BTreeMap<u64, Vec<u8>>,
    status: Vec<String>,
}

impl Received {
    fn take(&mut self, publish: &Publish) {
        if publish.topic.ends_with("/status") {
            self.status.push(String::from_utf8(publish.payload.to_vec()).unwrap());
        } else {
            let sequence = batch::decode(&publish.payload).unwrap().header.sequence;
            let payload = publish.payload.to_vec();
            let before = self.batches.entry(sequence).or_insert_with(|| payload.clone());
            assert_eq!(*before, payload, "a resend differs from what was sent first");
        }
    }

    /// Returns the poll numbers that arrived, in the order of sequence and time.
    pub fn polls(&self) -> Vec<i64> {
        self.points("polls").into_iter().map(|(_, poll)| poll).collect()
    }

    /// Returns when a point had which whole number, in the order of sequence and time.
    pub fn points(&self, point: &str) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        for payload in self.batches.values() {
            let batch = batch::decode(payload).unwrap();
            batch.rows(|row| {
                if batch.name(row.series).1 == point
                    && let Some(RowValue::Decimal(n)) = row.value
                {
                    all.push((row.at.0, n.with_places(0).expect("a whole number")));
                }
            });
        }
        all
    }

    /// Returns what `status` said.
    pub fn said(&self) -> &[String] {
        &self.status
    }

    pub fn sequences_are_complete(&self) -> bool {
        self.batches.keys().copied().eq(1..=self.batches.len() as u64)
    }
}

pub type Inbox = Framed<TcpStream, Codec>;

/// Subscribes, waiting for the broker when it is still starting.
pub async fn subscribe(port: u16) -> Inbox {
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let codec = Codec { max_incoming_size: 1 << 22, max_outgoing_size: 1 << 22 };
    let mut inbox = Framed::new(stream, codec);
    let mut connect = Connect::new("receiver");
    connect.keep_alive = 0;
    connect.clean_session = true;
    inbox.send(Packet::Connect(connect)).await.unwrap();
    let mut subscribe = Subscribe::new("fg/1/gw-river/data", QoS::AtLeastOnce);
    subscribe.add("fg/1/gw-river/status".into(), QoS::AtLeastOnce);
    subscribe.pkid = 1;
    inbox.send(Packet::Subscribe(subscribe)).await.unwrap();
    loop {
        if let Packet::SubAck(_) = inbox.next().await.unwrap().unwrap() {
            return inbox;
        }
    }
}

/// Receives until `enough`, at most a minute.
pub async fn receive(
    inbox: &mut Inbox,
    received: &mut Received,
    enough: impl Fn(&Received) -> bool,
) {
    let end = Instant::now() + Duration::from_secs(60);
    while !enough(received) {
        let packet = tokio::time::timeout_at(end.into(), inbox.next()).await;
        match packet.unwrap_or_else(|_| panic!("nothing more came: {:?}", received.polls())) {
            Some(Ok(Packet::Publish(publish))) => {
                received.take(&publish);
                if publish.qos == QoS::AtLeastOnce {
                    let ack = rumqttc::PubAck::new(publish.pkid);
                    if inbox.send(Packet::PubAck(ack)).await.is_err() {
                        return; // The broker was stopped, as some tests do.
                    }
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

pub fn consecutive(polls: &[i64]) -> bool {
    polls.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Sends a signal by name.
pub fn signal(peer: &Peer, name: &str) {
    let ended = Command::new("kill").args([name, &peer.id().to_string()]).status().unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn every_poll_arrives_once_and_in_order_and_a_stop_says_goodbye() {
    let world = World::new("50ms");
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 60).await;
    signal(&daemon, "-TERM");
    receive(&mut inbox, &mut received, |r| {
        r.status.last().is_some_and(|status| status.contains("stopped"))
    })
    .await;
    let polls = received.polls();
    assert_eq!(polls[0], 0, "the first poll is missing");
    assert!(consecutive(&polls), "{polls:?}");
    assert_eq!(polls.len(), usize::from(world.polls()), "what was read last did not arrive");
    assert!(received.sequences_are_complete());
    assert!(received.status[0].contains(r#""up":true"#), "{:?}", received.status);
}

#[tokio::test]
async fn a_broker_that_is_away_costs_nothing_but_time() {
    let mut world = World::new("50ms");
    let mut received = Received::default();
    let mut inbox = subscribe(world.broker.port).await;
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 20).await;
    for _ in 0..2 {
        world.broker.stop();
        receive(&mut inbox, &mut received, |_| false).await;
        let polls = world.polls();
        while world.polls() < polls + 40 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.broker.resume();
        inbox = subscribe(world.broker.port).await;
        let so_far = i64::from(world.polls());
        receive(&mut inbox, &mut received, |r| r.polls().last() > Some(&so_far)).await;
    }
    let polls = received.polls();
    // A batch may reach a broker that dies before its subscriber has it, with its PUBACK under way:
    // only that one can be missing here, and only at the moment of the kill.
    let holes = polls.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(holes <= 2, "{polls:?}");
    assert!(polls.windows(2).all(|pair| pair[1] > pair[0]), "doubled or out of order: {polls:?}");
    let log = world.log();
    for code in ["FG-U01", "FG-U05"] {
        assert!(log.matches(code).count() <= 1, "{code} was told more than once: {log}");
    }
    drop(daemon);
}

#[tokio::test]
async fn what_was_committed_survives_kill_9_and_is_not_doubled() {
    let world = World::new("50ms");
    let mut received = Received::default();
    let mut inbox = subscribe(world.broker.port).await;
    for round in 0..4 {
        let daemon = world.start();
        let enough = received.polls().len() + 15 + round * 3;
        receive(&mut inbox, &mut received, |r| r.polls().len() >= enough).await;
        daemon.kill();
    }
    let daemon = world.start();
    let so_far = i64::from(world.polls());
    receive(&mut inbox, &mut received, |r| r.polls().last() > Some(&so_far)).await;
    drop(daemon);
    let polls = received.polls();
    assert!(polls.windows(2).all(|pair| pair[1] > pair[0]), "doubled or out of order: {polls:?}");
    assert!(received.sequences_are_complete(), "{:?}", received.batches.keys());
    // 200 ms of commit time at 20 polls a second, and the poll under way: 6 polls a kill at most.
    let lost: i64 = polls.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
    assert!(lost <= 4 * 6, "{lost} polls were lost in four kills: {polls:?}");
}

/// Goal: a board that wakes up in 1970 loses no reading and sends none with a wrong date.
/// Method: the daemon runs under a clock of the test's; the broker is away and the daemon killed
/// once while nobody knows the time; then the clock is set, and jumps once more; the device knows
/// when it was polled.
#[tokio::test]
async fn a_board_that_starts_in_1970_sends_every_reading_with_its_right_time() {
    let mut world = World::new("50ms");
    world.broker.stop();
    world.set_clock("@1970-01-01 00:10:00");
    let daemon = world.start_under_a_clock();
    world.pass(40).await;
    daemon.kill();
    let daemon = world.start_under_a_clock();
    world.pass(40).await;
    assert!(world.log().contains("FG-K01"), "{}", world.log());
    world.set_clock("+0");
    let before_set = i64::from(world.polls()) - 1;
    world.pass(60).await;
    world.set_clock("-30y");
    world.pass(40).await;
    // The daemon stands still until somebody listens, so that nothing passes unseen.
    signal(&daemon, "-STOP");
    world.broker.resume();
    let mut inbox = subscribe(world.broker.port).await;
    signal(&daemon, "-CONT");
    let mut received = Received::default();
    let so_far = i64::from(world.polls());
    let all = |r: &Received| r.sequences_are_complete() && r.polls().last() > Some(&so_far);
    receive(&mut inbox, &mut received, all).await;
    let polls = received.polls();
    // 200 ms of commit time at 20 polls a second for the one kill.
    let lost: i64 = polls.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
    assert!(polls[0] == 0 && (0..=6).contains(&lost), "{polls:?}");
    let answered = world.device.1.lock().unwrap().clone();
    for payload in received.batches.values() {
        let batch = batch::decode(payload).unwrap();
        batch.rows(|row| {
            if batch.name(row.series).1 != "polls" {
                return;
            }
            let Some(RowValue::Decimal(n)) = row.value else { return };
            let late = row.at.0 - answered[usize::try_from(n.digits).unwrap()];
            assert!((-50..2000).contains(&late), "poll {} is {late} ms off", n.digits);
            let ck = if n.digits <= before_set { 2 } else { batch.header.clock };
            assert!(batch.header.clock == ck && ck > 0, "poll {}: ck {ck}", n.digits);
        });
    }
    assert!(world.log().contains("FG-K03"), "1996 was believed: {}", world.log());
}

#[test]
fn a_faulty_configuration_ends_with_78_before_any_port_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fieldgate.toml");
    std::fs::write(&config, "[device.a]\nvia = \"modbus tcp 127.0.0.1:1 id 1\"\nevry = \"1s\"\n")
        .unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
        .args(["run", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(78));
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(text.contains("evry") && text.contains("every"), "{text}");
    assert!(!Path::new(&folder.path().join("buffer.db")).exists());
}

#[test]
fn a_second_daemon_on_the_same_buffer_is_refused() {
    let world = World::new("1s");
    let first = world.start();
    let end = Instant::now() + Duration::from_secs(20);
    while !world.folder.path().join("buffer.db").exists() {
        assert!(Instant::now() < end, "{}", world.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = Command::new(env!("CARGO_BIN_EXE_fieldgate"))
        .args(["run", "--config"])
        .arg(&world.config)
        .output()
        .unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(matches!(second.status.code(), Some(70 | 78)), "{:?}: {text}", second.status);
    assert!(text.contains(&first.id().to_string()) || text.contains("another"), "{text}");
}
