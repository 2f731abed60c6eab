//! The hour after a promotion, on the real daemon: versions that behave on trial and misbehave in
//! their place are taken back by the gateway itself, after a power cut too, and when the uplink falls
//! silent. The hour is made short by configuration.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fuzz::targets::kit::{Guest, MANIFEST, OK, READING};
use crate::peers::{Mosquitto, Peer, coap_post, free_udp_port};

/// What a version does with a reading above a thousand: name of its table, what the table says more,
/// the code it goes back with, and the body.
const MISDEEDS: [(&str, &str, &str, &str); 6] = [
    ("trap", "", "trap.unreachable", "(unreachable)"),
    ("fuel", "", "fuel", "(loop $l (br $l))"),
    (
        "memory",
        "",
        "memory",
        "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) (unreachable)",
    ),
    // Roots, each of which waits for the one before: fuel for 50 ms of them, and time for a fraction.
    (
        "latency",
        "limit = { fuel = 10_000_000, deadline = \"1ms\" }\n",
        "deadline",
        "(local.set $x (f64.const 2)) (loop $l (local.set $x ROOTS) (br $l))",
    ),
    (
        "flood",
        "",
        "output.count",
        "(loop $l (call $emit (local.get $batch) (local.get $n)) (br $l))",
    ),
    // Within its caps, and three times as many as before.
    (
        "volume",
        "",
        "trial.volume",
        "(call $emit (local.get $batch) (local.get $n)) (call $emit (local.get $batch) (local.get $n))",
    ),
];

/// A rule that hands on what it gets, and does `misdeed` as well when a number is above a thousand.
fn guest(version: &str, misdeed: &str) -> Vec<u8> {
    let roots = "(f64.sqrt ".repeat(400) + "(local.get $x)" + &")".repeat(400);
    let misdeed = misdeed.replace("ROOTS", &roots);
    let body = format!(
        "(local $at i32) (local $end i32) (local $x f64)
         (local.set $at (local.get $batch))
         (local.set $end (i32.add (local.get $batch) (i32.mul (local.get $n) (i32.const {READING}))))
         (call $emit (local.get $batch) (local.get $n))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
           (if (i32.and (i32.eqz (i32.load8_u offset=24 (local.get $at)))
                        (f64.gt (f64.load offset=32 (local.get $at)) (f64.const 1000)))
             (then {misdeed} (return {OK})))
           (local.set $at (i32.add (local.get $at) (i32.const {READING})))
           (br $more)))
         {OK}"
    );
    let manifest = MANIFEST.replace("1.0.0\",\"licence", &format!("{version}\",\"licence"));
    Guest { manifest: Some(manifest), ..Guest::processing(&body) }.build()
}

/// A gateway with a broker and rules that takes files without a signature.
struct Gateway {
    folder: tempfile::TempDir,
    broker: Mosquitto,
    daemon: Option<Peer>,
    /// Where it listens for readings over CoAP.
    port: u16,
    sent: u16,
}

impl Gateway {
    /// Starts one with these tables, each with its first version: name, and what it says more.
    fn start(tables: &[(&str, &str)]) -> Self {
        Self::start_with("1h", tables)
    }

    /// As [`Gateway::start`], with a probation of this length.
    fn start_with(probation: &str, tables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let mut gateway = Self { folder, broker, daemon: None, port: free_udp_port(), sent: 0 };
        std::fs::write(gateway.at("first.wasm"), guest("1.0.0", "")).unwrap();
        let mut config = format!(
            "[gateway]\nname = \"gw-1\"\n[api]\nsocket = \"api.sock\"\n\
             [source.push]\nvia = \"coap listen 127.0.0.1:{}\"\n[buffer]\npath = \"buffer.db\"\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\nbatch = {{ max_age = \"1s\" }}\n",
            gateway.port, gateway.broker.port
        );
        for (name, more) in tables {
            let _ = write!(
                config,
                "[rule.{name}]\nfile = \"first.wasm\"\non = \"{name}/*\"\npromote_after = \"1s\"\n\
                 trial = {{ readings = 250, volume = 2, cost = 1000, silence = \"5s\", \
                 probation = \"{probation}\" }}\n{more}"
            );
        }
        std::fs::write(gateway.at("fieldgate.toml"), config).unwrap();
        gateway.resume();
        for (name, _) in tables {
            gateway.until("the first version runs", |gateway| {
                let rule = gateway.rule(name);
                rule["running"]["state"] == "running" && rule["live"]["version"] == "1.0.0"
            });
        }
        gateway
    }

    fn resume(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        self.daemon = Some(Peer::start(
            Command::new(env!("CARGO_BIN_EXE_fieldgate"))
                .args(["run", "--config"])
                .arg(self.at("fieldgate.toml"))
                .stderr(log),
        ));
        self.until("the daemon answers", |this| this.run(&["rule", "list"]).status.success());
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command.args(arguments).arg("--config").arg(self.at("fieldgate.toml"));
        command.output().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let patience = Instant::now() + Duration::from_secs(90);
        while !holds(self) {
            assert!(Instant::now() < patience, "not within 90 s: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn rule(&self, name: &str) -> Value {
        let all = self.run(&["rule", "list", "--json"]);
        let all: Value = serde_json::from_slice(&all.stdout).unwrap();
        all.as_array().unwrap().iter().find(|rule| rule["rule"] == name).unwrap().clone()
    }

    fn live(&self, name: &str) -> String {
        self.rule(name)["live"]["version"].as_str().unwrap().to_owned()
    }

    fn push(&self, name: &str, version: &str, misdeed: &str) {
        let file = self.at(&format!("{name}.wasm"));
        std::fs::write(&file, guest(version, misdeed)).unwrap();
        let pushed = self.run(&["rule", "push", file.to_str().unwrap(), "--to", name]);
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    }

    /// Sends 25 readings of a point of `device`, all of this value.
    fn send(&mut self, device: &str, value: f64) {
        self.sent += 1;
        let record = |n: i32| {
            let t = f64::from(n - 25) / 1000.0;
            serde_json::json!({ "n": "level", "t": t, "v": value + f64::from(n) / 4.0 })
        };
        let pack = Value::Array((0..25).map(record).collect()).to_string();
        coap_post(self.port, self.sent, &[device], &pack);
    }
}

#[test]
fn a_version_that_misbehaves_only_in_its_place_goes_back_by_itself_after_a_power_cut_too() {
    let tables = MISDEEDS.map(|(name, more, ..)| (name, more));
    let mut gateway = Gateway::start(&tables);
    for (name, _, _, misdeed) in MISDEEDS {
        gateway.push(name, "2.0.0", misdeed);
    }
    let await_live = |gateway: &mut Gateway, names: &[&str], version: &str, value: f64| {
        gateway.until(&format!("{names:?} run {version}"), |gateway| {
            let waiting = names.iter().filter(|name| gateway.live(name) != version);
            let waiting: Vec<_> = waiting.copied().collect();
            waiting.iter().for_each(|name| gateway.send(name, value));
            waiting.is_empty()
        });
    };
    let names = tables.map(|(name, _)| name);
    await_live(&mut gateway, &names, "2.0.0", 20.0);
    assert!(!gateway.log().contains("FG-W8"), "they behave on trial: {}", gateway.log());

    await_live(&mut gateway, &names, "1.0.0", 5000.0);
    let log = gateway.log();
    for (name, _, code, _) in MISDEEDS {
        let told = format!("rule {name} goes back from version 2.0.0 to 1.0.0: ");
        let at = log.find(&told).unwrap_or_else(|| panic!("{told:?} is not in\n{log}"));
        let notice = log[at..].split("FG-").next().unwrap();
        assert!(notice.contains(&format!("({code})")), "{name}: {notice}");
    }
    let rule = gateway.rule("trap");
    assert!(rule["good"].is_null() && rule["running"]["failure"].is_null(), "{rule}");

    // It cannot save itself by taking the daemon down, or by luck.
    gateway.push("trap", "3.0.0", "(unreachable)");
    await_live(&mut gateway, &["trap"], "3.0.0", 20.0);
    gateway.daemon.take().unwrap().kill();
    gateway.resume();
    gateway.until("it runs again", |gateway| gateway.live("trap") == "3.0.0");
    await_live(&mut gateway, &["trap"], "1.0.0", 5000.0);
    assert!(gateway.log().contains("rule trap goes back from version 3.0.0 to 1.0.0"));
}

#[test]
fn a_version_after_whose_promotion_the_uplink_falls_silent_goes_back_by_itself() {
    let mut gateway = Gateway::start(&[("calm", "")]);
    gateway.push("calm", "2.0.0", "");
    gateway.until("it takes over", |gateway| {
        gateway.send("calm", 20.0);
        gateway.live("calm") == "2.0.0"
    });
    gateway.broker.stop();
    gateway.until("it goes back", |gateway| {
        gateway.send("calm", 20.0);
        gateway.live("calm") == "1.0.0"
    });
    let log = gateway.log();
    let told = "rule calm goes back from version 2.0.0 to 1.0.0: no batch was acknowledged";
    assert!(log.contains(told) && log.contains("(trial.uplink)"), "{log}");
}

#[test]
fn a_version_that_is_given_up_long_after_its_first_hour_gives_way_to_the_last_good_one() {
    let mut gateway = Gateway::start_with("1s", &[("late", "on_failure = \"hold\"\n")]);
    gateway.push("late", "2.0.0", "(unreachable)");
    gateway.until("it takes over", |gateway| {
        gateway.send("late", 20.0);
        gateway.live("late") == "2.0.0"
    });
    let proven = "rule late: 2.0.0 has proven itself";
    gateway.until("its hour is over", |gateway| gateway.log().contains(proven));
    assert_eq!(gateway.rule("late")["good"]["version"], "1.0.0", "it is kept at hand");
    // A power cut changes none of that.
    gateway.daemon.take().unwrap().kill();
    gateway.resume();
    gateway.until("it runs again", |gateway| {
        let rule = gateway.rule("late");
        rule["live"]["version"] == "2.0.0" && rule["running"]["state"] == "running"
    });

    gateway.until("it goes back", |gateway| {
        gateway.send("late", 5000.0);
        gateway.live("late") == "1.0.0"
    });
    let log = gateway.log();
    assert!(log.contains("FG-W27") && log.contains("FG-W82"), "{log}");
    let told = "rule late goes back from version 2.0.0 to 1.0.0: ";
    let at = log.find(told).unwrap_or_else(|| panic!("{told:?} is not in\n{log}"));
    let notice = log[at..].split("FG-").next().unwrap();
    assert!(notice.contains("was given up (trap.unreachable)"), "{notice}");
    // What waited for the one that was given up is processed by the one that came back.
    gateway.until("nothing waits any more", |gateway| {
        gateway.send("late", 5000.0);
        let running = gateway.rule("late")["running"].clone();
        running["held"] == 0 && running["state"] == "running"
    });

    // The ledger says so before anything runs: a power cut does not bring the other one back.
    gateway.daemon.take().unwrap().kill();
    gateway.resume();
    gateway.until("it runs again", |gateway| gateway.rule("late")["running"]["state"] == "running");
    let rule = gateway.rule("late");
    assert_eq!(rule["live"]["version"], "1.0.0");
    assert!(rule["good"].is_null(), "{rule}");
}
