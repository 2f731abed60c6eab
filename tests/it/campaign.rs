//! The crash campaign: gateway, receiver, broker and database as processes, killed at random moments,
//! and what stands in the receiver's tables compared with what the device was asked, reading by
//! reading. `FIELDGATE_KILLS=10000` makes it long; the seed is printed and may be given as
//! `FIELDGATE_SEED`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use fieldgate::batch::{RowValue, decode};
use fieldgate::mqtt::{self, Broker};
use fieldgate::reading::{Points, Stream};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::peers::{Mosquitto, Peer, Postgres};
use crate::river::{self, Counting};
use crate::store;

/// Kills of the gateway in the ordinary run.
const KILLS: u32 = 300;
/// Kills of the gateway where everything else dies too.
const KILLS_OF_ALL: u32 = 40;
/// How often the tables are read in the course of a campaign: each time it is all there is, and nothing
/// ever leaves them, so a look sees what earlier ones would have seen.
const LOOKS: u32 = 300;
/// Polls that a kill may cost: those not committed within 100 ms at 100 a second, and then some for
/// a machine that does other things.
const POLLS_A_KILL_MAX: usize = 60;

/// A generator of numbers that gives the same ones for the same seed (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    /// Begins with the seed that was asked for, or a new one.
    fn new() -> Self {
        let given = std::env::var("FIELDGATE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self(given.unwrap_or(u64::from(now.subsec_nanos()) | 1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A device that numbers its polls, a gateway, a broker, a receiver and its tables.
struct Plant {
    device: Counting,
    broker: Mosquitto,
    database: Postgres,
    tables: Client,
    config: PathBuf,
    // Last, so that it outlives its users.
    folder: TempDir,
}

impl Plant {
    async fn new(ack: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let (device_port, device) = river::counting_device();
        let database = Postgres::start();
        let tables = database.connect("postgres").await;
        let mut text = String::new();
        write!(
            text,
            r#"
[gateway]
name = "gw-campaign"
[device.counter]
via   = "modbus tcp 127.0.0.1:{device_port} id 1"
every = "10ms"
points.polls = {{ at = "holding 10", as = "u32" }}
[buffer]
path   = "buffer.db"
commit = "100ms"
[uplink.cloud]
url   = "mqtt://127.0.0.1:{}"
batch = {{ max_age = "200ms" }}
ack   = "{ack}"
"#,
            broker.port
        )
        .unwrap();
        let config = folder.path().join("fieldgate.toml");
        std::fs::write(&config, text).unwrap();
        Self { device, broker, database, tables, config, folder }
    }

    /// Returns how often the device was read.
    fn polls(&self) -> usize {
        self.device.0.load(Ordering::Relaxed).try_into().unwrap()
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.folder.path().join(name);
        std::fs::File::options().create(true).append(true).open(path).unwrap().into()
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Starts the gateway, which is not to know that it was killed before: after three deaths in a row
    /// it would start in safe mode, which has tests of its own.
    fn gateway(&self) -> Peer {
        let _ = std::fs::remove_file(self.folder.path().join("starts.json"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command.args(["run", "--config"]).arg(&self.config);
        Peer::start(command.stdout(Stdio::null()).stderr(self.log("gateway.log")))
    }

    fn receiver(&self) -> Peer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        command.arg("--from").arg(format!("mqtt://127.0.0.1:{}", self.broker.port)).args([
            "--client-id",
            "campaign",
            "--init",
            "--to",
            &self.database.url("postgres"),
        ]);
        Peer::start(command.stdout(Stdio::null()).stderr(self.log("receiver.log")))
    }

    /// Waits until the receiver has subscribed for the first time: what a gateway sends before, a
    /// broker keeps for nobody. A `status` of nobody's gateway that arrives is the proof, and no batch.
    async fn until_subscribed(&self) {
        let broker = Broker::new("127.0.0.1", self.broker.port, "probe");
        let mut probe = mqtt::connect(&broker, true).await.unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let arrived = "SELECT count(*) FROM gateways WHERE gw = 'probe'";
        // There may be no table to ask as yet.
        while self.tables.query_one(arrived, &[]).await.map_or(0, |row| row.get::<_, i64>(0)) == 0 {
            assert!(Instant::now() < end, "no receiver: {}", self.said("receiver.log"));
            let status = Bytes::from_static(br#"{"up":true}"#);
            probe.publish("fg/1/probe/status", status, false).await.unwrap();
            probe.next().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        probe.disconnect().await;
    }

    /// Returns the numbers of all polls in the tables.
    async fn stored(&self) -> Vec<usize> {
        let query = "SELECT value FROM readings JOIN series ON series.id = readings.series
                     WHERE point = 'polls' AND q < 32 ORDER BY value";
        let rows = self.tables.query(query, &[]).await.unwrap();
        let whole = |value: f64| format!("{value:.0}").parse().unwrap();
        rows.iter().map(|row| whole(row.get::<_, f64>(0))).collect()
    }

    /// Returns the numbers of all polls that the gateway's buffer holds, from a copy of it.
    fn buffered(&self) -> BTreeSet<usize> {
        let copy = tempfile::tempdir().unwrap();
        let from = self.folder.path().join("buffer.db");
        let into = copy.path().join("buffer.db");
        if !from.exists() {
            return BTreeSet::new();
        }
        for suffix in ["", "-wal"] {
            let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            if with(&from).exists() {
                std::fs::copy(with(&from), with(&into)).unwrap();
            }
        }
        let (store, _thread) = store::open(&into, &Arc::new(Points::default()));
        let mut polls = BTreeSet::new();
        store::runtime().block_on(async {
            store.flush(true).await.unwrap();
            let mut after = 0;
            loop {
                let batches = store.next(Stream::Data, after, 100).await.unwrap();
                let Some(last) = batches.last() else { break };
                after = last.seq();
                for batch in &batches {
                    decode(batch.payload()).unwrap().rows(|row| {
                        if let Some(RowValue::Decimal(n)) = row.value {
                            assert!(polls.insert(usize::try_from(n.digits).unwrap()));
                        }
                    });
                }
            }
        });
        polls
    }

    /// Waits until the tables say that nothing is lost. What is on its way through the broker when they
    /// are asked is called so until it is there (`docs/receive.md`, views).
    async fn until_nothing_is_lost(&self) {
        let lost = "SELECT format('%s %s/%s of epoch %s', st, first_seq, last_seq, ep) FROM gaps
                    WHERE state = 'lost'";
        let begun = Instant::now();
        loop {
            let rows = self.tables.query(lost, &[]).await.unwrap();
            let gaps: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            if gaps.is_empty() {
                return;
            }
            println!("{gaps:?} {} ms after the end", begun.elapsed().as_millis());
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the tables say that {gaps:?} is lost\ngateway: {}\nreceiver: {}",
                self.said("gateway.log"),
                self.said("receiver.log")
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until all of `committed` stands in the tables.
    async fn until_stored(&self, committed: &BTreeSet<usize>) -> Vec<usize> {
        // A batch that a dead broker took along is sent again after a minute or two.
        let end = Instant::now() + Duration::from_secs(240);
        loop {
            let stored = self.stored().await;
            let missing = committed.iter().filter(|n| stored.binary_search(n).is_err()).count();
            if missing == 0 {
                return stored;
            }
            assert!(
                Instant::now() < end,
                "{missing} committed readings never came\ngateway: {}\nreceiver: {}",
                self.said("gateway.log"),
                self.said("receiver.log")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn each_once(stored: &[usize]) {
    let doubled = stored.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(doubled, None, "a reading stands twice in the tables");
}

/// Who is killed beside the gateway, at every so many of its kills; 0 for never.
struct Others {
    receiver: u32,
    broker: u32,
    database: u32,
}

/// Kills the gateway `kills` times and others with it. After each kill the buffer's committed readings
/// are noted from a copy and the tables hold none twice; at the end all that was ever committed has to
/// be in them, and what is missing of the device's own count is what was not committed, and that
/// little. With `often`, every tenth time too.
async fn campaign(plant: &mut Plant, kills: u32, others: &Others, often: bool) {
    let mut dice = Dice::new();
    println!("FIELDGATE_SEED={}", dice.0);
    let mut receiver = plant.receiver();
    plant.until_subscribed().await;
    let mut committed = BTreeSet::new();
    let now = |kill: u32, every: u32| every > 0 && kill.is_multiple_of(every);
    for kill in 1..=kills {
        let gateway = plant.gateway();
        tokio::time::sleep(Duration::from_millis(40 + dice.below(360))).await;
        if often && now(kill, 10 * kills.div_ceil(LOOKS)) {
            each_once(&plant.until_stored(&committed).await);
        }
        gateway.kill();
        committed.extend(tokio::task::block_in_place(|| plant.buffered()));
        if now(kill, others.receiver) {
            receiver.kill();
            receiver = plant.receiver();
        }
        if now(kill, others.broker) {
            plant.broker.stop();
            plant.broker.resume();
        }
        if now(kill, others.database) {
            plant.database.stop();
            plant.database.resume();
            plant.tables = plant.database.connect("postgres").await;
        }
        if now(kill, kills.div_ceil(LOOKS)) {
            let polls = plant.polls();
            let stored = plant.stored().await;
            each_once(&stored);
            assert!(stored.last().is_none_or(|last| *last < polls), "a reading nobody took");
        }
    }
    let gateway = plant.gateway();
    let stored = plant.until_stored(&committed).await;
    river::signal(&gateway, "-TERM");
    each_once(&stored);
    let polls = plant.polls();
    let lost = (0..polls).filter(|n| stored.binary_search(n).is_err()).count();
    println!("{kills} kills, {polls} polls, {} in the tables, {lost} not", stored.len());
    assert!(stored.len() > polls / 2, "most of it was lost: {lost} of {polls}");
    assert!(lost <= usize::try_from(kills).unwrap() * POLLS_A_KILL_MAX, "{lost} of {polls}");
    plant.until_nothing_is_lost().await;
    let said = plant.said("gateway.log");
    assert!(!said.contains("FG-B"), "a kill was taken for damage: {said}");
    drop(receiver);
}

fn kills(usual: u32) -> u32 {
    std::env::var("FIELDGATE_KILLS").map_or(usual, |kills| kills.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_kills_lose_nothing_committed_and_double_nothing() {
    let mut plant = Plant::new("broker").await;
    let others = Others { receiver: 7, broker: 0, database: 0 };
    campaign(&mut plant, kills(KILLS), &others, true).await;
}

/// A broker that is killed here forgets what it has acknowledged, and who had subscribed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_receivers_word_broker_and_database_may_die_too() {
    let mut plant = Plant::new("receiver").await;
    let others = Others { receiver: 7, broker: 5, database: 13 };
    campaign(&mut plant, kills(KILLS_OF_ALL), &others, false).await;
}
