//! Rules pushed to a running daemon: over its socket, and over a real mosquitto, signed by our own hand
//! and by Debian's minisign.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fieldgate::rules::manifest;
use serde_json::{Value, json};

use crate::peers::{Mosquitto, Peer, coap_post, free_udp_port};

/// A board with a broker, two pairs of keys and a rule in several versions.
struct Board {
    folder: tempfile::TempDir,
    broker: Mosquitto,
    daemon: Option<Peer>,
    /// Where it listens for readings over CoAP.
    port: u16,
}

fn guest() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rules/deadband.wasm");
    std::fs::read(&path).unwrap_or_else(|_| panic!("{} is missing: rules/build", path.display()))
}

/// The same rule under another version.
fn version(of: &[u8], version: &str) -> Vec<u8> {
    with_manifest(of, |json| json["version"] = json!(version))
}

/// The same rule with a band that lets nothing through but the first reading.
fn deaf(of: &[u8]) -> Vec<u8> {
    with_manifest(of, |json| {
        let parameters = json["parameters"].as_array_mut().unwrap();
        parameters.iter_mut().find(|one| one["name"] == "band").unwrap()["default"] = json!(1e9);
    })
}

fn with_manifest(of: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let found = manifest::sections(of).unwrap();
    let mut json: Value = serde_json::from_slice(found.outermost.unwrap()).unwrap();
    change(&mut json);
    manifest::write(of, json.to_string().as_bytes()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Board {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let board = Self { folder, broker, daemon: None, port: free_udp_port() };
        for pair in ["ops", "stranger"] {
            let (public, secret) =
                (board.at(&format!("{pair}.pub")), board.at(&format!("{pair}.key")));
            let made = Command::new("minisign")
                .args(["-G", "-W", "-p"])
                .arg(public)
                .arg("-s")
                .arg(secret)
                .stdout(Stdio::null())
                .status();
            assert!(made.expect("minisign is missing; tests/run installs it").success());
        }
        let guest = guest();
        for number in ["1.0.0", "1.0.5", "1.1.0", "1.2.0"] {
            std::fs::write(board.at(&format!("v{number}.wasm")), version(&guest, number)).unwrap();
        }
        std::fs::write(board.at("v1.3.0.wasm"), deaf(&version(&guest, "1.3.0"))).unwrap();
        board
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fieldgate"))
            .args(arguments)
            .arg("--config")
            .arg(self.at("fieldgate.toml"))
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        let said = text(&ended.stdout) + &text(&ended.stderr);
        assert!(ended.status.success(), "{arguments:?}: {said}");
        said
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        let said = text(&ended.stdout) + &text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }

    /// Signs v1.0.0, configures it, and starts the daemon.
    fn start(&mut self, promote_after: &str) {
        self.start_with(promote_after, "");
    }

    fn start_with(&mut self, promote_after: &str, more: &str) {
        self.done(&["rule", "sign", "v1.0.0.wasm", "--key", "ops.key"]);
        let public = std::fs::read_to_string(self.at("ops.pub")).unwrap();
        let config = format!(
            "[gateway]\nname = \"gw-1\"\ngroups = [\"pumps\"]\n[api]\nsocket = \"api.sock\"\n\
             [trust]\nkeys = [\"{}\"]\n[source.push]\nvia = \"coap listen 127.0.0.1:{}\"\n\
             [buffer]\npath = \"buffer.db\"\n\
             [rule.smooth]\nfile = \"v1.0.0.wasm\"\non = \"*/*\"\n\
             promote_after = \"{}\"\ntrial = {{ readings = 300, volume = 2 }}\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\n{more}",
            public.lines().nth(1).unwrap(),
            self.port,
            promote_after,
            self.broker.port,
        );
        std::fs::write(self.at("fieldgate.toml"), config).unwrap();
        self.resume();
    }

    fn resume(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        self.daemon = Some(Peer::start(
            Command::new(env!("CARGO_BIN_EXE_fieldgate"))
                .args(["run", "--config"])
                .arg(self.at("fieldgate.toml"))
                .stderr(log),
        ));
        self.until("the daemon answers", |_| self.run(&["rule", "list"]).status.success());
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let patience = Instant::now() + Duration::from_secs(180);
        while !holds(self) {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "not within three minutes: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn smooth(&self) -> Value {
        let all: Value = serde_json::from_str(&self.done(&["rule", "list", "--json"])).unwrap();
        all.as_array().unwrap().iter().find(|rule| rule["rule"] == "smooth").unwrap().clone()
    }

    /// Sends a reading of `tank/level` that any dead band lets through.
    fn send(&self, number: u32) {
        let value = (number * 10).to_string();
        coap_post(self.port, u16::try_from(number).unwrap(), &["tank", "level"], &value);
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }

    /// Whether the retained `meta` says that this version runs, under this hash.
    fn meta_tells(&self, version: &str, hash: &Value) -> bool {
        let port = self.broker.port.to_string();
        let read = Command::new("mosquitto_sub")
            .args(["-p", &port, "-t", "fg/1/gw-1/meta", "-C", "1", "-W", "10"])
            .output();
        let read = read.expect("mosquitto_sub is missing; tests/run installs it").stdout;
        let meta: Value = serde_json::from_slice(&read).unwrap_or_default();
        let rule = &meta["rules"][0];
        let digest = rule["digest"].as_str().unwrap_or_default().len();
        (&rule["rule"], &rule["version"], digest, &meta["cv"])
            == (&json!("smooth"), &json!(version), 64, hash)
    }

    fn live(&self) -> String {
        self.smooth()["live"]["version"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes down what the gateway says it has, from now on.
    fn listen(&self) -> Peer {
        let out = std::fs::File::create(self.at("have")).unwrap();
        let heard = Peer::start(
            Command::new("mosquitto_sub")
                .args(["-p", &self.broker.port.to_string(), "-q", "1", "-t", "fg/1/gw-1/have"])
                .stdout(out),
        );
        // What is retained comes first: it listens.
        self.until("something is had", |board| board.last_have().is_some());
        heard
    }

    fn last_have(&self) -> Option<Value> {
        let all = std::fs::read_to_string(self.at("have")).unwrap();
        serde_json::from_str(all.lines().next_back()?).ok()
    }

    /// Waits until the last that `have` says is this: what is live, and how the last trial ended.
    fn hears(&self, _listening: &Peer, live: &str, ended: &str) {
        self.until(&format!("have says {live}, {ended}"), |board| {
            let smooth = &board.last_have().unwrap_or_default()["rules"]["smooth"];
            let of = |key: &str| smooth[key]["version"].as_str().unwrap_or_default();
            let word = |key: &str| smooth["ended"][key].as_str().unwrap_or_default();
            let told = format!("{} {}: {}", of("ended"), word("end"), word("why"));
            of("live") == live && smooth["trial"].is_null() && told.starts_with(ended)
        });
    }

    /// Over the broker; a version on trial is promoted.
    fn push_over_mqtt(&self, file: &str, key: &str) -> Output {
        let url = format!("mqtt://127.0.0.1:{}", self.broker.port);
        let pushed = self.run(&[
            "rule",
            "push",
            file,
            "--to",
            "smooth",
            "--mqtt",
            &url,
            "--gateway",
            "gw-1",
            "--key",
            key,
            "--wait",
            "60",
        ]);
        if pushed.status.success() && !self.smooth()["trial"].is_null() {
            self.done(&["rule", "promote", "smooth"]);
        }
        pushed
    }
}

#[test]
fn a_rule_comes_over_mosquitto_outlives_a_kill_and_an_older_or_strange_one_does_not_come() {
    let mut board = Board::new();
    board.start_with(
        "1h",
        "[test.steps]\nrule = \"smooth\"\nfeed = \"tank/level = 1@0s 2@1s\"\n\
         expect = \"tank/level = 1@0s 2@1s\"\n",
    );
    board.until("the configured rule runs", |board| board.live() == "1.0.0");
    let configured = board.status()["config"].clone();
    board.until("meta tells of it", |board| board.meta_tells("1.0.0", &configured));
    board.done(&["rule", "sign", "v1.1.0.wasm", "--key", "ops.key", "--groups", "pumps,valves"]);
    let pushed = board.push_over_mqtt("v1.1.0.wasm", "ops.key");
    assert!(pushed.status.success(), "{}{}", text(&pushed.stdout), text(&pushed.stderr));
    assert_eq!(board.live(), "1.1.0");
    let pushed = board.status()["config"].clone();
    assert_ne!(pushed, configured, "what is in force has another hash");
    board.until("meta tells of the pushed one", |board| board.meta_tells("1.1.0", &pushed));

    board.done(&["rule", "sign", "v1.3.0.wasm", "--key", "ops.key"]);
    let told = text(&board.push_over_mqtt("v1.3.0.wasm", "ops.key").stderr);
    for words in ["FG-W67", "test.steps", "expected tank/level = 2@1s, nothing more came"] {
        assert!(told.contains(words), "{words} is missing: {told}");
    }
    let told = board.refused(&["rule", "push", "v1.3.0.wasm"]);
    assert!(told.contains("FG-W67") && told.contains("test.steps"), "{told}");
    assert!(board.smooth()["trial"].is_null() && board.live() == "1.1.0");

    board.done(&["rule", "sign", "v1.0.5.wasm", "--key", "ops.key"]);
    let told = text(&board.push_over_mqtt("v1.0.5.wasm", "ops.key").stderr);
    assert!(told.contains("FG-W65") && told.contains("1.1.0"), "{told}");
    board.done(&["rule", "sign", "v1.2.0.wasm", "--key", "stranger.key"]);
    let told = text(&board.push_over_mqtt("v1.2.0.wasm", "stranger.key").stderr);
    assert!(told.contains("FG-W62") && told.contains("not trusted here"), "{told}");
    let told = text(&board.push_over_mqtt("v1.2.0.wasm", "ops.key").stderr);
    assert!(told.contains("FG-W62"), "a good desired state with a strange file: {told}");
    assert_eq!(board.live(), "1.1.0");

    board.daemon.take().unwrap().kill();
    board.resume();
    board.until("the pushed rule runs again", |board| board.live() == "1.1.0");
    assert_eq!(board.status()["config"], pushed, "a start tells what runs, not what is configured");
    board.done(&["rule", "rollback", "smooth"]);
    assert_eq!(board.live(), "1.0.0");
    assert_eq!(board.status()["config"], configured);
    let shown = board.done(&["status"]);
    assert!(shown.contains("rule     smooth  running: deadband 1.0.0 ("), "{shown}");
}

#[test]
fn the_socket_takes_what_debians_minisign_signed_and_refuses_the_rest_in_words() {
    let mut board = Board::new();
    board.start("1h");
    board.until("the configured rule runs", |board| board.live() == "1.0.0");
    let told = board.refused(&["rule", "push", "v1.1.0.wasm", "--to", "smooth"]);
    assert!(told.contains("FG-W60"), "{told}");
    let name = board.smooth()["live"]["name"].as_str().unwrap().to_owned();
    let sign = |comment: &str| {
        let signed = Command::new("minisign")
            .current_dir(board.folder.path())
            .args(["-S", "-s", "ops.key", "-m", "v1.1.0.wasm", "-t", comment])
            .stdout(Stdio::null())
            .status();
        assert!(signed.unwrap().success());
    };
    for (comment, code) in [
        ("just a file".to_owned(), "FG-W61"),
        (format!("fieldgate rule {name} 1.2.0"), "FG-W63"),
        (format!("fieldgate rule {name} 1.1.0 groups=south"), "FG-W63"),
        (format!("fieldgate rule {name} 1.1.0 not-after=2020-01-01"), "FG-W64"),
    ] {
        sign(&comment);
        let told = board.refused(&["rule", "push", "v1.1.0.wasm", "--to", "smooth"]);
        assert!(told.contains(code), "{comment}: {told}");
    }
    sign(&format!("fieldgate rule {name} 1.1.0 groups=pumps"));
    let told = board.refused(&["rule", "push", "v1.1.0.wasm", "--to", "nowhere"]);
    assert!(told.contains("FG-W66") && told.contains("smooth"), "{told}");
    // Its place is found by what runs there.
    board.done(&["rule", "push", "v1.1.0.wasm"]);
    if !board.smooth()["trial"].is_null() {
        board.done(&["rule", "promote", "smooth"]);
    }
    assert_eq!(board.live(), "1.1.0");

    // A desired state with shell tools alone, as the manual shows it.
    std::fs::write(board.at("want.json"), r#"{"rules":{"smooth":{"enabled":false}}}"#).unwrap();
    let publish = format!(
        "minisign -S -s ops.key -m want.json -t 'fieldgate want gw-1 7' && \
         cat want.json.minisig want.json | mosquitto_pub -p {} -t fg/1/gw-1/want -r -q 1 -s",
        board.broker.port
    );
    let published =
        Command::new("sh").current_dir(board.folder.path()).args(["-c", &publish]).output();
    assert!(published.unwrap().status.success());
    board.until("the rule is switched off", |board| board.smooth()["enabled"] == false);
    board.done(&["rule", "enable", "smooth"]);
    assert_eq!(board.smooth()["enabled"], true);
}

#[test]
fn a_bad_version_on_trial_is_sent_away_and_a_good_one_takes_over_by_itself() {
    let mut board = Board::new();
    board.start("1s");
    board.until("the configured rule runs", |board| {
        board.smooth()["running"]["state"] == "running" && board.live() == "1.0.0"
    });
    let good = std::fs::read(board.at("v1.1.0.wasm")).unwrap();
    std::fs::write(board.at("v1.1.0.wasm"), deaf(&good)).unwrap();
    for number in ["1.1.0", "1.2.0"] {
        board.done(&["rule", "sign", &format!("v{number}.wasm"), "--key", "ops.key"]);
    }
    let have = board.listen();
    let number = std::cell::Cell::new(0);
    let send = |board: &Board| {
        for _ in 0..30 {
            number.set(number.get() + 1);
            board.send(number.get());
        }
    };

    board.done(&["rule", "push", "v1.1.0.wasm"]);
    assert_eq!(board.smooth()["trial"]["version"], "1.1.0");
    board.until("the bad version is sent away", |board| {
        send(board);
        board.smooth()["trial"].is_null()
    });
    assert_eq!(board.live(), "1.0.0");
    let told = board.run(&["status", "--json"]);
    let told = text(&told.stdout) + &std::fs::read_to_string(board.at("log")).unwrap();
    assert!(told.contains("FG-W80") && told.contains("1.1.0"), "{told}");
    board.hears(&have, "1.0.0", "1.1.0 sent away: it emits");

    board.done(&["rule", "push", "v1.2.0.wasm"]);
    assert_eq!(board.smooth()["trial"]["version"], "1.2.0");
    board.until("the good version takes over", |board| {
        send(board);
        board.live() == "1.2.0"
    });
    let smooth = board.smooth();
    assert!(smooth["trial"].is_null() && smooth["good"]["version"] == "1.0.0", "{smooth}");
    board.hears(&have, "1.2.0", "1.2.0 promoted: its trial went well");
    board.done(&["rule", "rollback", "smooth"]);
    board.hears(&have, "1.0.0", "1.2.0 rolled back: ");
}
