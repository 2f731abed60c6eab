//! The receiver as a process, between mosquitto and PostgreSQL as Debian ships them. Batches are made
//! by the gateway's own encoder and published by hand, so that a test says exactly what arrives, in
//! which order and how often; one test has the whole daemon in front.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fieldgate::batch::{Assembly, Coding, Envelope, decode};
use fieldgate::limits;
use fieldgate::mqtt::{self, Broker, Incoming, Session};
use fieldgate::reading::{
    Decimal, Group, NoData, PointInfo, Points, Sample, Stream, UnixMillis, Value,
};
use fieldgate::store::{Shelf, inspect};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::peers::{Mosquitto, Peer, Postgres, await_port, free_port};
use crate::river;
use crate::uplink::Authority;

const START: i64 = 1_790_000_000_000;
const EPOCH: u64 = 1_789_990_000;

/// What a test can say about a batch; the rest is alike in all.
#[derive(Clone, Copy)]
struct Sent<'a> {
    gw: &'a str,
    ep: u64,
    seq: u64,
    lo: u64,
    dr: u64,
}

const SENT: Sent<'static> = Sent { gw: "gw-1", ep: EPOCH, seq: 1, lo: 1, dr: 0 };

/// Readings in each batch of [`payload`].
const READINGS: i64 = 5;

/// A batch whose readings are numbered by sequence: 10 * seq + 0..4, a second apart.
fn payload(sent: Sent<'_>) -> Bytes {
    let first = i64::try_from(sent.seq).unwrap() * 10;
    let samples = (0..READINGS).map(|n| {
        let value = Value::Decimal(Decimal { digits: first + n, places: 0 });
        (START + 1000 * (first + n), Sample::good(value))
    });
    sealed(sent, "counter", samples)
}

fn sealed(sent: Sent<'_>, point: &str, samples: impl IntoIterator<Item = (i64, Sample)>) -> Bytes {
    let points = Points::default();
    let id = points.intern(PointInfo::new("meter", point, "Wh")).unwrap();
    let mut assembly = Assembly::default();
    for (at, sample) in samples {
        assembly.push(&Group {
            stream: Stream::Data,
            at: UnixMillis(at),
            points: Arc::from([id]),
            samples: vec![sample],
        });
    }
    let bodies = assembly.into_bodies(&points, Coding::Zlib, limits::BATCH_BYTES_MAX);
    let envelope = Envelope {
        gateway: sent.gw,
        epoch: sent.ep,
        stream: Stream::Data,
        sequence: sent.seq,
        lowest_held: sent.lo,
        dropped: sent.dr,
        clock: 1,
        config_hash: "9f3a11c2",
    };
    bodies[0].seal(&envelope).into()
}

/// Broker and database, and what the receivers say.
struct World {
    port: u16,
    _broker: Option<Mosquitto>,
    database: Postgres,
    log: PathBuf,
    // Last, so that it outlives its users.
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let log = folder.path().join("receiver.log");
        let (port, database) = (broker.port, Postgres::start());
        Self { port, _broker: Some(broker), database, log, folder }
    }

    /// Takes a broker that is there.
    fn on(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("receiver.log");
        Self { port, _broker: None, database: Postgres::start(), log, folder }
    }

    fn command(&self, id: &str) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        command
            .arg("--from")
            .arg(format!("mqtt://127.0.0.1:{}", self.port))
            .args(["--client-id", id, "--to", &self.database.url("postgres"), "--init"])
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// Starts a receiver and waits until it has subscribed.
    async fn receiver(&self, id: &str, extra: &[&str]) -> Peer {
        let peer = Peer::start(self.command(id).args(extra));
        self.subscribed(id).await;
        peer
    }

    /// Waits until a batch of a gateway for this purpose reaches the tables: then the subscription
    /// stands.
    async fn subscribed(&self, id: &str) {
        let client = self.database.connect("postgres").await;
        let mut gateway = Gateway::connect(self.port, &format!("probe-{id}")).await;
        let gw = format!("probe-{id}");
        let end = Instant::now() + Duration::from_secs(30);
        for seq in 1.. {
            gateway.send(Sent { gw: &gw, seq, ..SENT }).await;
            let asked = client
                .query_one("SELECT count(*) FROM batches WHERE gw = $1", &[&gw])
                .await
                .map_or(0, |row| row.get::<_, i64>(0));
            if asked > 0 {
                return;
            }
            assert!(Instant::now() < end, "no receiver: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until a query returns a number that satisfies `enough`.
    async fn until(&self, client: &Client, query: &str, enough: impl Fn(i64) -> bool) -> i64 {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let found: i64 = client.query_one(query, &[]).await.unwrap().get(0);
            if enough(found) {
                return found;
            }
            assert!(Instant::now() < end, "{query}: {found}; {}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// A gateway's side of the broker.
struct Gateway(Session);

impl Gateway {
    async fn connect(port: u16, id: &str) -> Self {
        let broker = Broker::new("127.0.0.1", port, &format!("gateway-{id}"));
        Self(mqtt::connect(&broker, true).await.unwrap())
    }

    async fn publish(&mut self, topic: &str, payload: Bytes) {
        let id = self.0.publish(topic, payload, false).await.unwrap();
        while self.0.next().await.unwrap() != Incoming::Acknowledged(id) {}
    }

    async fn send(&mut self, sent: Sent<'_>) {
        self.publish(&format!("fg/1/{}/data", sent.gw), payload(sent)).await;
    }

    /// Waits for a message on a subscription that stands.
    async fn receive(&mut self) -> (String, serde_json::Value) {
        let wait = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                if let Incoming::Received(message) = self.0.next().await.unwrap() {
                    return (message.topic, serde_json::from_slice(&message.payload).unwrap());
                }
            }
        });
        wait.await.expect("nothing was published to the gateway")
    }
}

const OF_GW_1: &str = "SELECT count(*) FROM batches WHERE gw = 'gw-1'";
const READINGS_OF_GW_1: &str =
    "SELECT count(*) FROM readings r JOIN series s ON s.id = r.series WHERE s.gw = 'gw-1'";

async fn gaps(client: &Client) -> Vec<String> {
    let rows = client
        .query(
            "SELECT concat_ws(' ', gw, ep, state, first_seq, last_seq, batches, readings)
             FROM gaps WHERE gw NOT LIKE 'probe%' ORDER BY gw, ep, first_seq NULLS LAST",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn whatever_is_sent_again_adds_nothing_and_values_arrive_as_they_were_in_both_layouts() {
    for layout in ["narrow", "array"] {
        let world = World::new();
        let receiver = world.receiver("r1", &["--layout", layout]).await;
        let client = world.database.connect("postgres").await;
        let mut gateway = Gateway::connect(world.port, "1").await;
        for _ in 0..3 {
            for seq in 1..=40 {
                gateway.send(Sent { seq, ..SENT }).await;
            }
        }
        let odd = [
            Sample::good(Value::Decimal(Decimal { digits: 215, places: 1 })),
            Sample::good(Value::Bool(true)),
            Sample::good(Value::Text("door \0 open".into())),
            Sample::good(Value::Decimal(Decimal { digits: i64::MAX, places: 0 })),
            Sample::good(Value::Float(0.1)),
            Sample::none(NoData::Timeout),
        ];
        let times = (0..).map(|n| START + 1000 * n);
        let odd = sealed(Sent { seq: 41, ..SENT }, "odd", times.zip(odd));
        gateway.publish("fg/1/gw-1/data", odd).await;
        world.until(&client, OF_GW_1, |n| n == 41).await;
        world.until(&client, READINGS_OF_GW_1, |n| n == 40 * READINGS + 6).await;
        let rows = client
            .query(
                "SELECT concat_ws('|', extract(epoch from ts)::bigint, value, text, q)
                 FROM readings JOIN series s ON s.id = series WHERE point = 'odd' ORDER BY ts",
                &[],
            )
            .await
            .unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(
            rows,
            [
                "1790000000|21.5|0",
                "1790000001|1|true|0",
                "1790000002|door \u{fffd} open|0",
                "1790000003|9.223372036854776e+18|9223372036854775807|0",
                "1790000004|0.1|0",
                "1790000005|32",
            ],
            "{layout}"
        );
        let latest = client
            .query_one("SELECT value FROM latest WHERE gw = 'gw-1' AND point = 'counter'", &[])
            .await
            .unwrap();
        assert_eq!(latest.get::<_, f64>(0), 404.0);
        assert_eq!(gaps(&client).await, Vec::<String>::new());
        drop(receiver);
    }
}

#[tokio::test]
async fn holes_are_late_until_the_gateway_has_let_go_of_them_and_drops_are_counted() {
    let world = World::new();
    let _receiver = world.receiver("r1", &[]).await;
    let client = world.database.connect("postgres").await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    // The newest first, as a gateway does after an outage.
    for seq in [9, 8, 3, 4, 1] {
        gateway.send(Sent { seq, ..SENT }).await;
    }
    world.until(&client, OF_GW_1, |n| n == 5).await;
    let at = format!("gw-1 {EPOCH}");
    assert_eq!(gaps(&client).await, [format!("{at} late 2 2 1"), format!("{at} late 5 7 3")]);
    // The quota has taken 2, 5 and 6: three batches of five readings.
    gateway.send(Sent { seq: 10, lo: 7, dr: 15, ..SENT }).await;
    world.until(&client, OF_GW_1, |n| n == 6).await;
    let lost = [
        format!("{at} lost 2 2 1"),
        format!("{at} lost 5 6 2"),
        format!("{at} late 7 7 1"),
        format!("{at} dropped 15"),
    ];
    assert_eq!(gaps(&client).await, lost);
    // A status tells of what was sealed since.
    let status = format!(r#"{{"up":true,"ep":{EPOCH},"seq":12,"lo":7,"ver":"x","backlog_s":3}}"#);
    gateway.publish("fg/1/gw-1/status", status.into()).await;
    let told = "SELECT count(*) FROM gateways WHERE gw = 'gw-1'";
    world.until(&client, told, |n| n == 1).await;
    assert_eq!(gaps(&client).await[3], format!("{at} late 11 12 2"));
    // Another store: nothing can come of the one before.
    gateway.send(Sent { ep: EPOCH + 5, ..SENT }).await;
    world.until(&client, OF_GW_1, |n| n == 7).await;
    let states: BTreeSet<_> =
        gaps(&client).await.iter().map(|gap| gap.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), ["dropped", "lost"]);
    // And what comes all the same is no gap any more.
    for seq in [2, 5, 6, 7, 11, 12] {
        gateway.send(Sent { seq, ..SENT }).await;
    }
    world.until(&client, OF_GW_1, |n| n == 13).await;
    assert_eq!(gaps(&client).await, [format!("{at} dropped 15")]);
}

#[tokio::test]
async fn receivers_of_one_group_share_a_gateway_and_a_killed_one_doubles_nothing() {
    let world = World::new();
    let first = world.receiver("r1", &["--group", "g"]).await;
    let second = world.receiver("r2", &["--group", "g"]).await;
    let client = world.database.connect("postgres").await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    let mut peers = [Some(first), Some(second)];
    let mut seq = 0;
    for round in 0..8 {
        for _ in 0..40 {
            seq += 1;
            gateway.send(Sent { seq, ..SENT }).await;
            if seq % 3 == 0 {
                gateway.send(Sent { seq: seq / 2, ..SENT }).await;
            }
        }
        // Between commit and PUBACK, or before, or in the middle: whatever the moment hits.
        let victim = round % 2;
        peers[victim].take().unwrap().kill();
        let id = ["r1", "r2"][victim];
        peers[victim] = Some(Peer::start(world.command(id).args(["--group", "g"])));
    }
    let batches = i64::try_from(seq).unwrap();
    world.until(&client, OF_GW_1, |n| n == batches).await;
    world.until(&client, READINGS_OF_GW_1, |n| n >= batches * READINGS).await;
    let doubled = "SELECT count(*) - count(DISTINCT (series, ts)) FROM readings";
    assert_eq!(client.query_one(doubled, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(world.until(&client, READINGS_OF_GW_1, |_| true).await, batches * READINGS);
    assert_eq!(gaps(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_broker_that_restarts_while_the_receiver_is_away_keeps_what_comes_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let kept =
        format!("user root\npersistence true\npersistence_location {}/", folder.path().display());
    let mut broker = Mosquitto::start(folder.path(), &kept);
    let world = World::on(broker.port);
    world.receiver("r1", &[]).await.kill();
    broker.end();
    broker.resume();
    let mut gateway = Gateway::connect(world.port, "1").await;
    for seq in 1..=5 {
        gateway.send(Sent { seq, ..SENT }).await;
    }
    let _receiver = Peer::start(&mut world.command("r1"));
    let client = world.database.connect("postgres").await;
    world.until(&client, OF_GW_1, |n| n == 5).await;
    assert_eq!(gaps(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn receivers_that_share_nothing_store_each_batch_once() {
    let world = World::new();
    let _first = world.receiver("r1", &[]).await;
    let _second = world.receiver("r2", &[]).await;
    let client = world.database.connect("postgres").await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    for seq in 1..=40 {
        gateway.send(Sent { seq, ..SENT }).await;
    }
    world.until(&client, OF_GW_1, |n| n == 40).await;
    assert_eq!(world.until(&client, READINGS_OF_GW_1, |_| true).await, 40 * READINGS);
}

#[tokio::test]
async fn a_database_that_dies_holds_everything_up_and_loses_nothing() {
    let mut world = World::new();
    let receiver = world.receiver("r1", &[]).await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    let mut seq = 0;
    for _ in 0..2 {
        for n in 0..60 {
            seq += 1;
            gateway.send(Sent { seq, ..SENT }).await;
            if n == 30 {
                world.database.stop();
            }
        }
        // It has noticed, and told so.
        let end = Instant::now() + Duration::from_secs(30);
        while !world.log().contains("FG-R02") {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.database.resume();
        let client = world.database.connect("postgres").await;
        let batches = i64::try_from(seq).unwrap();
        world.until(&client, OF_GW_1, |n| n == batches).await;
        world.until(&client, READINGS_OF_GW_1, |n| n == batches * READINGS).await;
    }
    let told = world.log().matches("takes batches again").count();
    assert!((1..=2).contains(&told), "{}", world.log());
    // A stop says what was done.
    river::signal(&receiver, "-TERM");
    let end = Instant::now() + Duration::from_secs(20);
    while !world.log().contains("received ") {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hostile_payloads_are_refused_counted_put_aside_and_block_nothing() {
    let world = World::new();
    let rejects = world.folder.path().join("rejects");
    let receiver = world.receiver("r1", &["--rejects", rejects.to_str().unwrap(), "--json"]).await;
    let client = world.database.connect("postgres").await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/uplink/vectors/invalid");
    let mut refused = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        gateway.publish("fg/1/gw-1/data", bytes.into()).await;
        refused += 1;
    }
    let sound = payload(SENT);
    // Cut, flipped, and sound but under another's name or stream.
    gateway.publish("fg/1/gw-1/data", sound.slice(..sound.len() / 2)).await;
    let mut flipped = sound.to_vec();
    let middle = flipped.len() - 10;
    flipped[middle] ^= 0x10;
    gateway.publish("fg/1/gw-1/data", flipped.into()).await;
    gateway.publish("fg/1/gw-2/data", sound.clone()).await;
    gateway.publish("fg/1/gw-1/event", sound.clone()).await;
    gateway.publish("fg/1/gw-1/data", Bytes::from(vec![0x81; 700 * 1024])).await;
    gateway.publish("fg/1/gw-1/status", Bytes::from_static(b"{\"up\":7}")).await;
    gateway.publish("fg/1/gw-1/data", sound).await;
    world.until(&client, OF_GW_1, |n| n == 1).await;
    world.until(&client, READINGS_OF_GW_1, |n| n == READINGS).await;
    river::signal(&receiver, "-TERM");
    let last = || -> Option<serde_json::Value> {
        let log = world.log();
        let line = log.lines().rev().find(|line| line.starts_with('{'))?;
        serde_json::from_str(line).ok()
    };
    let sum = |totals: serde_json::Value| -> u64 {
        let refused = totals["refused"].as_object().unwrap();
        refused.values().map(|n| n.as_u64().unwrap()).sum()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while last().map(sum) != Some(refused + 5) {
        assert!(Instant::now() < end, "{refused} + 5: {}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let aside = std::fs::read_dir(&rejects).unwrap().count() as u64;
    assert_eq!(aside, refused + 5);
    let told = world.log().matches("FG-R01").count() as u64;
    assert!(told < refused, "each kind is told once: {}", world.log());
}

#[tokio::test]
async fn gateways_hear_what_the_ledger_has_at_once_and_after_a_restart_of_the_receiver() {
    let world = World::new();
    let receiver = world.receiver("r1", &[]).await;
    let mut gateway = Gateway::connect(world.port, "1").await;
    gateway.0.subscribe(&["fg/1/gw-1/ack".to_owned()]).await.unwrap();
    gateway.send(SENT).await;
    let (topic, ack) = gateway.receive().await;
    assert_eq!(topic, "fg/1/gw-1/ack");
    assert_eq!(ack, serde_json::json!({"ep": EPOCH, "st": "data", "upto": 1, "holes": []}));
    // A hole below what the gateway holds is not named; those it may still fill are.
    for seq in [3, 4, 8] {
        gateway.send(Sent { seq, lo: 3, ..SENT }).await;
    }
    let (_, ack) = gateway.receive().await;
    assert_eq!((&ack["upto"], &ack["holes"]), (&8.into(), &serde_json::json!([[5, 7]])));
    // A new one knows nothing but what the tables hold, and that is enough.
    receiver.kill();
    let _receiver = world.receiver("r1", &[]).await;
    gateway.send(Sent { seq: 6, lo: 3, ..SENT }).await;
    let (_, ack) = gateway.receive().await;
    assert_eq!((&ack["upto"], &ack["holes"]), (&8.into(), &serde_json::json!([[5, 5], [7, 7]])));
}

#[tokio::test]
async fn tables_are_made_once_and_another_layout_or_version_is_refused() {
    let database = Postgres::start();
    let client = database.connect("postgres").await;
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        let ended = command.args(["--to", &database.url("postgres")]).args(args).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, text) = run(&["--from", "mqtt://127.0.0.1:1"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("FG-R06") && text.contains("--init"), "{text}");
    for _ in 0..2 {
        assert_eq!(run(&["--init", "--layout", "array"]), (Some(0), String::new()));
    }
    let (code, text) = run(&["--init", "--layout", "narrow"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("layout array"), "{text}");
    client.execute("UPDATE fieldgate_layout SET version = 99", &[]).await.unwrap();
    let (code, text) = run(&["--init"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("version 99"), "{text}");
    // A missing database, a password that is wanted and not given, and one that may make no tables.
    let ask = |url: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        let ended = command.args(["--to", url, "--init"]).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, text) = ask(&database.url("plant"));
    assert!(code == Some(78) && text.contains("createdb"), "{text}");
    for statement in ["CREATE DATABASE other", "CREATE ROLE guest LOGIN"] {
        client.batch_execute(statement).await.unwrap();
    }
    database
        .connect("other")
        .await
        .batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await
        .unwrap();
    let url = database.url("other").replacen("fieldgate@", "guest@", 1);
    let (code, text) = ask(&url);
    assert!(code == Some(78) && text.contains("grant create"), "{text}");
    // AuthenticationCleartextPassword, as a server answers that wants one.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://me@{}/plant", server.local_addr().unwrap());
    let asks = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
        stream
    });
    let (code, text) = ask(&url);
    assert!(code == Some(78) && text.contains("--to-password-file"), "{text}");
    drop(asks.join());
    let mut nobody = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
    let ended = nobody.args(["--to", "postgres://x@127.0.0.1:1/y", "--init"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
}

/// Goal: TLS to PostgreSQL is TLS to that server and no other. Method: a server that lets nobody in
/// without it, a CA of the test's own, and each thing that may be wrong.
#[tokio::test]
async fn tls_to_postgresql_works_with_the_right_ca_and_every_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let theirs = Authority::new(folder.path(), "theirs");
    let files = ours.sign(folder.path(), "localhost", 4000);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut database = Postgres::start();
    let url = |host: &str, mode: &str, port: u16| {
        format!("postgres://fieldgate@{host}:{port}/postgres{mode}")
    };
    let ask = |url: &str, ca: Option<&Authority>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        command.args(["--init", "--to", url]);
        if let Some(ca) = ca {
            command.arg("--to-ca").arg(&ca.file);
        }
        let ended = command.output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let full = "?sslmode=verify-full";
    let (code, text) = ask(&url("localhost", full, database.port), Some(&ours));
    assert!(code == Some(78) && text.contains("speaks no TLS"), "{code:?} {text}");
    database.with_tls(&read(&files.0), &read(&files.1));
    for (url, ca, expected) in [
        (url("localhost", full, database.port), Some(&theirs), "not signed by a CA"),
        (url("localhost", "?sslmode=require", database.port), Some(&theirs), "not signed by a CA"),
        (url("127.0.0.1", full, database.port), Some(&ours), "is for localhost only"),
        (url("localhost", "", database.port), None, "PostgreSQL says"),
    ] {
        let (code, text) = ask(&url, ca);
        assert!(code == Some(78) && text.contains(expected), "{url}: {code:?} {text}");
        assert!(!text.contains("os error"), "{text}");
    }
    for mode in [full, "?sslmode=require", ""] {
        let done = ask(&url("localhost", mode, database.port), Some(&ours));
        assert_eq!(done, (Some(0), String::new()), "{mode}");
    }
    // The same for a batch: COPY and the ledger.
    let broker = Mosquitto::start(folder.path(), "");
    let metrics = free_port();
    let _receiver = Peer::start(
        Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"))
            .args(["--quiet", "--from", &format!("mqtt://127.0.0.1:{}", broker.port)])
            .args(["--client-id", "tls", "--metrics", &format!("127.0.0.1:{metrics}")])
            .args(["--to", &url("localhost", full, database.port), "--to-ca"])
            .arg(&ours.file),
    );
    await_port(metrics);
    let mut gateway = Gateway::connect(broker.port, "gw-tls").await;
    let end = Instant::now() + Duration::from_secs(30);
    for seq in 1.. {
        gateway.send(Sent { gw: "gw-tls", seq, ..SENT }).await;
        let mut told = String::new();
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_string(&mut told).unwrap();
        let stored = told.lines().find(|line| line.contains("batches_stored_total "));
        if stored.is_some_and(|line| !line.ends_with(" 0")) {
            return;
        }
        assert!(Instant::now() < end, "nothing is stored over TLS: {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: what a Modbus device said is in the tables, reading by reading, whatever died between.
/// Method: the device counts its own polls; daemon, receiver and database are killed in turn while
/// it goes on; then the numbers in the tables are compared with those the device gave.
#[tokio::test]
async fn what_a_device_said_is_in_the_tables_once_whatever_died_between() {
    let plant = river::World::new("50ms");
    let mut world = World::on(plant.broker.port);
    let mut receiver = world.receiver("r1", &[]).await;
    let mut daemon = plant.start();
    for _ in 0..3 {
        let polls = plant.polls();
        plant.polled(polls + 15).await;
        daemon.kill();
        daemon = plant.start();
        plant.polled(polls + 30).await;
        receiver.kill();
        receiver = Peer::start(&mut world.command("r1"));
        plant.polled(polls + 45).await;
        world.database.stop();
        plant.polled(polls + 60).await;
        world.database.resume();
    }
    river::signal(&daemon, "-TERM");
    let client = world.database.connect("postgres").await;
    let left = "SELECT count(*) FROM gateways WHERE gw = 'gw-river' AND NOT up
        AND seq <= (SELECT max(seq) FROM batches WHERE gw = 'gw-river')";
    world.until(&client, left, |n| n == 1).await;
    let rows = client
        .query(
            "SELECT value FROM readings r JOIN series s ON s.id = r.series
             WHERE gw = 'gw-river' AND st = 'data' AND point = 'polls' AND q = 0 ORDER BY value",
            &[],
        )
        .await
        .unwrap();
    let polls: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
    assert!(polls.windows(2).all(|pair| pair[1] > pair[0]), "doubled: {polls:?}");
    let lost: f64 = polls.windows(2).map(|pair| pair[1] - pair[0] - 1.0).sum();
    // As in the river's own test: what was not committed when the daemon was killed, six polls a kill.
    assert!(lost <= 18.0, "{lost} polls were lost in three kills: {polls:?}");
    assert_eq!(gaps(&client).await, Vec::<String>::new());
    drop(receiver);
}

/// Goal: where the receiver's word counts, it counts for salvaged batches too: the broker's leaves them
/// where they are. Method: a store with batches is wrecked while the database is away; the broker has
/// every salvaged batch (somebody else got them), and they stay until the database is back.
#[tokio::test]
async fn salvaged_batches_stay_until_the_receiver_has_them_although_the_broker_took_them() {
    let plant = river::World::new("50ms");
    plant.wait_for_the_receiver();
    let mut world = World::on(plant.broker.port);
    let receiver = world.receiver("r1", &[]).await;
    world.database.stop();
    let daemon = plant.start();
    plant.polled(60).await;
    river::signal(&daemon, "-TERM");
    daemon.ended();
    let committed = plant.polls();
    let path = plant.buffer();
    let held = inspect(&path).unwrap();
    assert!(held.stream(Stream::Data).batches > 0, "{held:?}");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let mut listener = Gateway::connect(plant.broker.port, "listener").await;
    listener.0.subscribe(&["fg/1/gw-river/data".to_owned()]).await.unwrap();
    let daemon = plant.start();
    let expected = held.stream(Stream::Data).batches;
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < expected {
        let Incoming::Received(message) = listener.0.next().await.unwrap() else { continue };
        let header = decode(&message.payload).unwrap().header;
        if header.epoch == held.epoch {
            seen.insert(header.sequence);
        }
    }
    plant.pass(40).await;
    let waiting = || inspect(&path).unwrap().shelf(Shelf::SalvagedData).batches;
    assert_eq!(waiting(), expected, "freed by the broker's word: {}", plant.log());

    world.database.resume();
    let client = world.database.connect("postgres").await;
    let end = Instant::now() + Duration::from_secs(120);
    while waiting() > 0 {
        assert!(Instant::now() < end, "{} wait for ever: {}", waiting(), world.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What was committed before the wreck is there, once.
    let polls = |what: &str| {
        format!(
            "SELECT count({what}) FROM readings r JOIN series s ON s.id = r.series
             WHERE gw = 'gw-river' AND point = 'polls' AND q = 0 AND value < {committed}"
        )
    };
    world.until(&client, &polls("DISTINCT value"), |n| n == i64::from(committed)).await;
    let rows: i64 = client.query_one(&polls("*"), &[]).await.unwrap().get(0);
    assert_eq!(rows, i64::from(committed));
    drop((receiver, daemon));
}

/// What TimescaleDB does where `--init` asks it, as far as a server without it can show: a stub in SQL
/// that notes the call, and refuses what the real one refuses, a unique index without the time.
const STUB: [(&str, &str); 2] = [
    ("timescaledb.control", "comment = 'stub'\ndefault_version = '0'\nrelocatable = true\n"),
    (
        "timescaledb--0.sql",
        "CREATE TABLE stub_calls (relation text, time_column text);
         CREATE FUNCTION create_hypertable(relation regclass, time_column_name name,
             if_not_exists boolean DEFAULT false, create_default_indexes boolean DEFAULT true,
             migrate_data boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
           IF EXISTS (SELECT 1 FROM pg_index i WHERE indrelid = relation AND indisunique
               AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE attrelid = relation
                 AND attname = time_column_name AND attnum = ANY (i.indkey))) THEN
             RAISE EXCEPTION 'cannot create a unique index without the column';
           END IF;
           PERFORM time_column_name FROM pg_attribute WHERE attrelid = relation
             AND attname = time_column_name AND attnotnull;
           IF NOT FOUND THEN RAISE EXCEPTION 'no such column, or it may be null'; END IF;
           INSERT INTO stub_calls VALUES (relation::text, time_column_name);
         END $$;",
    ),
];

#[tokio::test]
async fn init_asks_timescaledb_for_a_hypertable_where_the_extension_is_installed() {
    let database = Postgres::start_with(&STUB);
    let admin = database.connect("postgres").await;
    for (layout, table, time) in [("narrow", "readings", "ts"), ("array", "blocks", "t0")] {
        let name = format!("in_{layout}");
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let init = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
            let url = database.url(&name);
            command.args(["--init", "--layout", layout, "--to", &url]).output().unwrap()
        };
        let done = init();
        assert!(done.status.success(), "{done:?}");
        let client = database.connect(&name).await;
        let calls =
            client.query("SELECT relation, time_column FROM stub_calls", &[]).await.unwrap();
        let calls: Vec<(&str, &str)> = calls.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(calls, [(table, time)]);
        assert!(init().status.success(), "a second time");
    }
}
