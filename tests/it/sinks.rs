//! The receiver's sinks and metrics against what others wrote: InfluxDB, VictoriaMetrics, librdkafka
//! and Prometheus' own parser. A simulated fleet sends; its totals say what must have arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fieldgate::batch::decode;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::peers::{Mosquitto, Peer, await_port, free_port, python};
use crate::uplink::Authority;

/// A broker, and a receiver that has subscribed.
struct World {
    metrics: u16,
    _receiver: Peer,
    broker: Mosquitto,
    // Last, so that it outlives its users.
    _folder: TempDir,
}

impl World {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let metrics = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"));
        command
            .args(["--quiet", "--from", &format!("mqtt://127.0.0.1:{}", broker.port)])
            .args(["--metrics", &format!("127.0.0.1:{metrics}")])
            .args(["--client-id", "sinks", "--to"])
            .args(arguments)
            .stdout(Stdio::null());
        let world = Self { metrics, _receiver: Peer::start(&mut command), broker, _folder: folder };
        await_port(metrics);
        // A batch that gets through proves that the subscription stands.
        while world.count("batches_stored_total") == 0 {
            world.simulate("--prefix probe --gateways 1 --batches 1 --fast");
            world.settle(|world| world.count("batches_stored_total") > 0);
        }
        world
    }

    fn simulate(&self, arguments: &str) -> Json {
        let output = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"))
            .args(["simulate", "--json", "--to", &format!("mqtt://127.0.0.1:{}", self.broker.port)])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Gives something a moment to become true, and does not insist.
    fn settle(&self, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_millis(500);
        while !done(self) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    fn count(&self, metric: &str) -> u64 {
        let name = format!("fieldgate_receive_{metric}");
        let text = self.scrape();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter(|(key, _)| *key == name).map(|(_, n)| n.parse::<u64>().unwrap()).sum()
    }
}

/// Waits until something is as it should be, at most a minute.
fn until<T: std::fmt::Debug>(mut look: impl FnMut() -> T, right: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = look();
        if right(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{found:?} after a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn count_of(totals: &Json, key: &str) -> u64 {
    totals[key].as_u64().unwrap_or_else(|| panic!("{key} in {totals}"))
}

/// Asks an HTTP server with Python's own client; a refusal's text comes back too.
fn http(method: &str, url: &str, body: &str) -> String {
    http_by(None, method, url, body)
}

/// As [`http`], over TLS and believing this CA.
fn http_by(ca: Option<&Path>, method: &str, url: &str, body: &str) -> String {
    const SCRIPT: &str = "import sys, urllib.request, urllib.error\n\
        r = urllib.request.Request(sys.argv[2], sys.argv[3].encode() or None, method=sys.argv[1])\n\
        try: print(urllib.request.urlopen(r, timeout=20).read().decode())\n\
        except urllib.error.HTTPError as e: print(e.code, e.read().decode())";
    let mut client = python();
    client.args(["-c", SCRIPT, method, url, body]).envs(ca.map(|ca| ("SSL_CERT_FILE", ca)));
    let output = client.output().unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Debian's InfluxDB, in a folder of its own.
struct Influx {
    port: u16,
    config: PathBuf,
    peer: Option<Peer>,
    /// Who signed its certificate, where it has one.
    ca: Option<PathBuf>,
    _folder: TempDir,
}

impl Influx {
    fn start() -> Self {
        Self::with("", None)
    }

    /// Starts one with more lines for its `[http]` section.
    fn with(extra: &str, ca: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, rpc) = (free_port(), free_port());
        let path = folder.path().display();
        let text = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
             [meta]\ndir = \"{path}/meta\"\n[data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n{extra}\n"
        );
        let config = folder.path().join("influxdb.conf");
        std::fs::write(&config, text).unwrap();
        let mut influx = Self { port, config, peer: None, ca, _folder: folder };
        influx.resume();
        influx.ask("POST", "/query?q=CREATE%20DATABASE%20plant", "");
        influx
    }

    fn resume(&mut self) {
        let mut command = Command::new("influxd");
        command.arg("-config").arg(&self.config).stdout(Stdio::null()).stderr(Stdio::null());
        self.peer = Some(Peer::start(&mut command));
        await_port(self.port);
    }

    fn url(&self, path: &str) -> String {
        let host = if self.ca.is_some() { "https://localhost" } else { "http://127.0.0.1" };
        format!("{host}:{}{path}", self.port)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        http_by(self.ca.as_deref(), method, &self.url(path), body)
    }

    /// Counts the fields of the simulated gateways; a reading is one field there.
    fn fields(&self) -> u64 {
        let query = "SELECT%20count(*)%20FROM%20/.*/%20WHERE%20gw%20=~%20/%5Esim-/";
        let answer = self.ask("GET", &format!("/query?db=plant&q={query}"), "");
        let answer: Json = serde_json::from_str(&answer).unwrap_or_default();
        let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
        let row = |one: &Json| -> u64 {
            let values = one["values"][0].as_array().unwrap();
            values[1..].iter().filter_map(Json::as_u64).sum()
        };
        series.iter().map(row).sum()
    }
}

#[test]
fn influxdb_holds_every_reading_once_though_it_was_away_and_batches_came_twice() {
    let mut influx = Influx::start();
    let world = World::new(&["line-protocol", &influx.url("/write?db=plant")]);
    influx.peer = None;
    let line = "--gateways 10 --points 20 --rate 200 --max-age 1s --fast --batches 20 \
                --duplicate 0.3 --reorder 0.3";
    let totals = world.simulate(line);
    assert!(count_of(&totals, "duplicated") > 20);
    until(|| world.count("retries_total"), |retries| *retries > 0);
    influx.resume();
    let readings = count_of(&totals, "acknowledged_readings");
    until(|| influx.fields(), |fields| *fields >= readings);
    let all = count_of(&totals, "published") + 1;
    until(|| world.count("batches_stored_total"), |stored| *stored >= all);
    assert_eq!(influx.fields(), readings);
}

#[test]
fn a_batch_that_influxdb_will_never_take_is_refused_and_the_next_one_is_stored() {
    let influx = Influx::start();
    let world = World::new(&["line-protocol", &influx.url("/write?db=plant")]);
    // From now on, in the shard of these days, the point `state` is a number and not a text.
    influx.ask("POST", "/query?q=DROP%20MEASUREMENT%20state&db=plant", "");
    influx.ask("POST", "/write?db=plant", "state,gw=other text=1");
    // Ten points have a text among them, eight have not.
    let mixed = world.simulate("--gateways 3 --points 10 --max-age 1s --fast --batches 5");
    let plain = "--gateways 3 --points 8 --rate 80 --max-age 1s --fast --batches 5 --prefix plain";
    world.simulate(plain);
    let refused = count_of(&mixed, "acknowledged_batches");
    until(|| world.count(r#"refused_total{reason="sink"}"#), |found| *found == refused);
    until(|| world.count("batches_stored_total"), |stored| *stored >= 16);
}

/// Goal: the same over TLS, and to no server that nobody vouches for.
#[test]
fn influxdb_over_tls_is_written_to_with_the_right_ca_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let theirs = Authority::new(folder.path(), "theirs");
    let (chain, key) = ours.sign(folder.path(), "localhost", 4000);
    let lines = format!(
        "https-enabled = true\nhttps-certificate = \"{}\"\nhttps-private-key = \"{}\"",
        chain.display(),
        key.display()
    );
    let influx = Influx::with(&lines, Some(ours.file.clone()));
    let url = influx.url("/write?db=plant");
    let told = refusal_of(&["line-protocol", &url, "--to-ca", theirs.file.to_str().unwrap()]);
    assert!(told.contains("not signed by a CA"), "{told}");
    let world = World::new(&["line-protocol", &url, "--to-ca", ours.file.to_str().unwrap()]);
    let totals =
        world.simulate("--gateways 5 --points 20 --rate 200 --max-age 1s --fast --batches 10");
    let readings = count_of(&totals, "acknowledged_readings");
    assert_eq!(until(|| influx.fields(), |fields| *fields >= readings), readings);
}

#[test]
fn victoria_metrics_holds_every_number() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new("victoria-metrics");
    command
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .arg(format!("-storageDataPath={}", folder.path().display()))
        .args(["-retentionPeriod=100y", "-loggerLevel=ERROR"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Peer::start(&mut command);
    await_port(port);
    let server = format!("http://127.0.0.1:{port}");
    let world = World::new(&["line-protocol", &server]);
    let line = "--gateways 5 --points 20 --rate 200 --max-age 1s --fast --batches 10";
    let totals = world.simulate(line);
    // One point in ten is a voltage: a value, or a mark that there is none.
    let expected = count_of(&totals, "acknowledged_readings") / 10;
    let voltages = || -> u64 {
        http("GET", &format!("{server}/internal/force_flush"), "");
        let matched = "match[]=%7Bgw=~%22sim-.*%22,__name__=~%22voltage_.*%22%7D";
        let answer = http("GET", &format!("{server}/api/v1/export?{matched}"), "");
        let lines = answer.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        lines.map(|line| line["values"].as_array().unwrap().len() as u64).sum()
    };
    until(voltages, |found| *found == expected);
}

/// The mock cluster and its consumer.
struct Kafka(Child, String);

impl Kafka {
    fn start() -> Self {
        Self::with(None)
    }

    /// Starts one behind TLS, when there are a certificate and its key.
    fn with(files: Option<&(PathBuf, PathBuf)>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/kafka.py");
        let mut child = python()
            .arg(script)
            .args(files.into_iter().flat_map(|(chain, key)| [chain, key]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut byte = [0];
        let out = child.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            first.push(byte[0].into());
        }
        assert!(first.contains(':'), "no mock cluster; tests/run installs confluent-kafka");
        Self(child, first)
    }

    /// Lets a fleet send, and holds what the consumer reads against what was sent.
    fn gets_everything(mut self, world: &World) {
        let totals = world.simulate("--gateways 12 --points 10 --max-age 1s --fast --batches 15");
        let mut order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut places: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut readings = 0;
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines() {
            let record: Json = serde_json::from_str(&line.unwrap()).unwrap();
            let key = record["key"].as_str().unwrap().to_owned();
            if !key.starts_with("sim-") {
                continue;
            }
            let hex = record["value"].as_str().unwrap().as_bytes();
            let bytes: Vec<u8> = hex
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
                .collect();
            let header = decode(&bytes).unwrap().header;
            assert_eq!(header.gateway, key);
            let headers = &record["headers"];
            assert_eq!(headers["seq"], header.sequence.to_string());
            assert_eq!(headers["ep"], header.epoch.to_string());
            assert_eq!(headers["st"], "data");
            places.entry(key.clone()).or_default().insert(record["partition"].as_u64().unwrap());
            order.entry(key).or_default().push(header.sequence);
            readings += header.readings;
            if readings == count_of(&totals, "acknowledged_readings") {
                break;
            }
        }
        assert_eq!(order.len(), 12);
        for (gw, seqs) in order {
            assert_eq!(seqs, (1..=15).collect::<Vec<_>>(), "{gw}");
        }
        assert!(places.values().all(|partitions| partitions.len() == 1));
        assert!(places.values().flatten().collect::<BTreeSet<_>>().len() > 1, "one partition only");
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kafka_gets_the_bytes_of_every_batch_and_a_gateway_stays_in_order() {
    let kafka = Kafka::start();
    let target = format!("{}/batches", kafka.1);
    let world = World::new(&["kafka", &target]);
    kafka.gets_everything(&world);
}

/// Goal: the same over TLS, and to no cluster that nobody vouches for. librdkafka's cluster speaks no
/// TLS itself; Python's does, in front of it.
#[test]
fn kafka_over_tls_gets_every_batch_and_every_wrong_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let theirs = Authority::new(folder.path(), "theirs");
    let kafka = Kafka::with(Some(&ours.sign(folder.path(), "localhost", 4000)));
    let (ours_file, theirs_file) = (ours.file.to_str().unwrap(), theirs.file.to_str().unwrap());
    let target = format!("kafkas://{}/batches", kafka.1);
    let told = refusal_of(&["kafka", &target, "--to-ca", theirs_file]);
    assert!(told.contains("is not signed by a CA that is trusted here"), "{told}");
    let told = refusal_of(&["kafka", &target]);
    assert!(told.contains("is not signed by a CA that is trusted here"), "{told}");
    let elsewhere = Kafka::with(Some(&ours.sign(folder.path(), "elsewhere", 4000)));
    let other = format!("kafkas://{}/batches", elsewhere.1);
    let told = refusal_of(&["kafka", &other, "--to-ca", ours_file]);
    assert!(told.contains("its certificate is for elsewhere only"), "{told}");
    let expired = Kafka::with(Some(&ours.sign(folder.path(), "localhost", 2001)));
    let old = format!("kafkas://{}/batches", expired.1);
    let told = refusal_of(&["kafka", &old, "--to-ca", ours_file]);
    assert!(told.contains("its certificate has expired"), "{told}");
    // Without TLS towards its port, nothing is taken for a cluster.
    let told = refusal_of(&["kafka", &format!("{}/batches", kafka.1)]);
    assert!(told.contains("takes no batches"), "{told}");
    let world = World::new(&["kafka", &target, "--to-ca", ours_file]);
    kafka.gets_everything(&world);
}

#[test]
fn a_file_of_lines_holds_every_reading_under_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("readings.ndjson");
    let world = World::new(&["ndjson", path.to_str().unwrap(), "--fsync"]);
    let line = "--gateways 5 --points 10 --max-age 1s --fast --batches 20 --duplicate 0.2";
    let totals = world.simulate(line);
    let per_batch = count_of(&totals, "sealed_readings") / count_of(&totals, "sealed_batches");
    let expected = count_of(&totals, "published") * per_batch;
    let ours = || -> Vec<Json> {
        let text = std::fs::read_to_string(&path).unwrap();
        // The last line may be under way.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let lines = whole.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        lines.filter(|line| line["gw"].as_str().unwrap().starts_with("sim-")).collect()
    };
    let lines = until(ours, |lines| lines.len() as u64 >= expected);
    assert_eq!(lines.len() as u64, expected);
    let readings: BTreeSet<String> = lines.iter().map(ToString::to_string).collect();
    assert_eq!(readings.len() as u64, count_of(&totals, "acknowledged_readings"));
    let keys: BTreeSet<&str> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len() as u64, count_of(&totals, "acknowledged_batches"));
}

#[test]
fn metrics_say_what_happened_and_name_no_gateway() {
    let world = World::new(&["ndjson"]);
    let before = world.count("readings_stored_total");
    let totals =
        world.simulate("--gateways 60 --points 10 --max-age 1s --fast --batches 2 --connections 1");
    let expected = before + count_of(&totals, "acknowledged_readings");
    until(|| world.count("readings_stored_total"), |readings| *readings == expected);
    let garbage = Command::new("mosquitto_pub")
        .args(["-p", &world.broker.port.to_string(), "-q", "1", "-t", "fg/1/gw/data", "-m", "x"])
        .status()
        .unwrap();
    assert!(garbage.success());
    until(|| world.count(r#"refused_total{reason="damaged"}"#), |refused| *refused == 1);
    assert!(world.count("gateways") >= 61);
    assert_eq!(world.count("connected"), 1);
    let text = world.scrape();
    assert!(text.lines().count() < 120 && !text.contains("sim-"), "{text}");
    // Prometheus' own reader of the format.
    let script = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
        names = {family.name for family in read(sys.stdin.read())}\n\
        print(' '.join(sorted(names)))";
    let mut reader =
        python().args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    for name in ["store_seconds", "lag_seconds", "refused", "missing_batches", "readings_stored"] {
        assert!(names.contains(&format!("fieldgate_receive_{name}")), "{name} in {names}");
    }
}

/// Goal: whoever starts a receiver hears at once that its target is not there.
#[test]
fn a_target_that_is_not_there_is_told_before_the_first_batch() {
    for target in [["kafka", "127.0.0.1:1/x"], ["line-protocol", "http://127.0.0.1:1"]] {
        let told = refusal_of(&target);
        assert!(told.contains("takes no batches"), "{target:?}: {told}");
    }
}

/// Starts a receiver on a target that takes nothing, and returns the line in which it says so.
fn refusal_of(target: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(folder.path(), "");
    let mut receiver = Command::new(env!("CARGO_BIN_EXE_fieldgate-receive"))
        .args(["--from", &format!("mqtt://127.0.0.1:{}", broker.port), "--to"])
        .args(target)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stderr.take().unwrap()).lines();
    let told = lines.by_ref().map(Result::unwrap).find(|line| line.contains("FG-R02"));
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    told.unwrap_or_else(|| panic!("{target:?}: it ended without a word"))
}
