//! The daemon's configuration while it runs: reloaded part by part, tried and taken back, and what is
//! left of it after three quick deaths. The devices count their own polls, as in `river`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::{Mosquitto, Peer};
use crate::river::{Counting, Received, counting_device, receive, signal, subscribe};

/// A gateway with a device that counts its polls, ten a second, and room for parts that change.
struct World {
    folder: TempDir,
    broker: Mosquitto,
    device: Counting,
    port: u16,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let (port, device) = counting_device();
        let world = Self { folder, broker, device, port };
        world.write("");
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fieldgate.toml")
    }

    fn text(&self, more: &str) -> String {
        let mut text = String::new();
        write!(
            text,
            r#"
[gateway]
name = "gw-river"
[device.counter]
via   = "modbus tcp 127.0.0.1:{} id 1"
every = "100ms"
points.polls = {{ at = "holding 0", as = "u16" }}
[buffer]
path   = "buffer.db"
commit = "200ms"
[api]
socket = "api.sock"
[uplink.cloud]
url   = "mqtt://127.0.0.1:{}"
batch = {{ max_age = "500ms" }}
{more}
"#,
            self.port, self.broker.port
        )
        .unwrap();
        text
    }

    fn write(&self, more: &str) {
        self.replace(&self.text(more));
    }

    /// As editors do it: another file takes the name.
    fn replace(&self, text: &str) {
        let draft = self.folder.path().join(".draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path()).unwrap();
    }

    fn start(&self) -> Peer {
        let log = self.folder.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command.args(["run", "--config"]).arg(self.path());
        Peer::start(command.stdout(Stdio::null()).stderr(log))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log says it so often.
    async fn logged(&self, what: &str, times: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.log().matches(what).count() < times {
            assert!(Instant::now() < end, "{what} was not said {times} times: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a command, as a person would.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command.args(arguments).arg("--config").arg(self.path());
        command.env("USER", "jo").env_remove("SUDO_USER").output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(arguments);
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_str(&said).unwrap()
    }

    /// Waits until the daemon answers at its socket.
    async fn answers(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.run(&["history"]).status.success()
            || !self.path().with_file_name("api.sock").exists()
        {
            assert!(Instant::now() < end, "nobody answers: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn polls(&self) -> i64 {
        self.device.0.load(Ordering::Relaxed).into()
    }

    /// Stops the daemon, receives what is left, and asserts that every poll that the device has ever
    /// answered arrived once.
    async fn account(
        &self,
        daemon: Peer,
        inbox: &mut crate::river::Inbox,
        received: &mut Received,
    ) {
        signal(&daemon, "-TERM");
        daemon.ended();
        let all = self.polls();
        receive(inbox, received, |r| count(&r.polls()) >= all).await;
        let mut polls = received.polls();
        polls.sort_unstable();
        let missing: Vec<i64> = (0..all).filter(|n| polls.binary_search(n).is_err()).collect();
        assert!(missing.is_empty(), "lost: {missing:?}");
        assert_eq!(count(&polls), all, "something came twice");
        assert!(received.sequences_are_complete());
    }
}

fn count(polls: &[i64]) -> i64 {
    i64::try_from(polls.len()).unwrap()
}

/// Parts that are there in this round, and how they are set then.
fn round(world: &World, n: usize) -> String {
    let mut more = String::new();
    // A device beside it on the same line, another line, an uplink and a listener come, change and go.
    if !n.is_multiple_of(3) {
        let every = 60 + 10 * (n % 4);
        let _ = write!(
            more,
            "[device.beside]\nvia = \"modbus tcp 127.0.0.1:{} id 2\"\nevery = \"{every}ms\"\n\
             points.polls = {{ at = \"holding 0\", as = \"u16\", deadband = {} }}\n",
            world.port,
            0.1 + n as f64 / 1000.0
        );
    }
    if n % 4 > 1 {
        let _ = write!(
            more,
            "[device.away]\nvia = \"modbus tcp 127.0.0.1:{} id 3\"\nevery = \"1s\"\n\
             points.x = {{ at = \"holding 0\", as = \"u16\" }}\n",
            1 + n % 5
        );
    }
    if n % 5 > 2 {
        let port = if n.is_multiple_of(2) { world.broker.port } else { 1 };
        let _ = write!(
            more,
            "[uplink.site]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"site\"\n"
        );
    }
    if n.is_multiple_of(2) {
        more += "[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n";
    }
    more
}

#[tokio::test]
async fn fifty_reloads_of_other_parts_lose_no_reading_of_a_device_that_stays() {
    let world = World::new();
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 5).await;
    for n in 1..=50 {
        world.write(&round(&world, n));
        signal(&daemon, "-HUP");
        world.logged(" by a signal", n).await;
        let so_far = world.polls();
        receive(&mut inbox, &mut received, |r| r.polls().iter().max() > Some(&so_far)).await;
    }
    let log = world.log();
    // The line was never closed, and the uplink that stays never connected anew.
    assert_eq!(log.matches("uplink cloud is connected").count(), 1, "{log}");
    assert!(!log.contains("FG-A"), "{log}");
    world.account(daemon, &mut inbox, &mut received).await;
}

#[tokio::test]
async fn a_faulty_file_keeps_what_runs_and_is_told_once_with_its_place_until_it_is_mended() {
    let world = World::new();
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 5).await;
    // Nobody gives a signal: changed files are enough.
    world.replace(&world.text("[source.push]\nvia = \"coap listen 127.0.0.1:0\"\nmoed = 1"));
    world.logged("FG-A20", 1).await;
    let log = world.log();
    let line = world.text("").lines().count() + 2;
    let told = log.lines().find(|line| line.contains("FG-A20")).unwrap();
    assert!(told.contains(&format!("fieldgate.toml:{line}:1")), "{line}: {told}");
    assert!(log.contains("fieldgate check"), "{log}");
    // Reloading it says no, in words, and is not told again.
    let ended = world.run(&["apply"]);
    assert_eq!(ended.status.code(), Some(1));
    signal(&daemon, "-HUP");
    let so_far = world.polls();
    receive(&mut inbox, &mut received, |r| r.polls().iter().max() > Some(&so_far)).await;
    assert_eq!(world.log().matches("FG-A20  the configuration was changed and is not").count(), 1);
    // A name that cannot change while it runs.
    world.replace(&world.text("").replace("gw-river", "gw-other"));
    world.logged("FG-A21", 1).await;
    assert!(world.log().contains("systemctl restart fieldgate"), "{}", world.log());
    world.write("[source.push]\nvia = \"coap listen 127.0.0.1:0\"");
    world.logged("by changed files", 1).await;
    world.logged("FG-A21  the configuration was changed again", 1).await;
    assert!(world.log().contains("coap listener push is added"), "{}", world.log());
    world.account(daemon, &mut inbox, &mut received).await;
}

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr)
}

/// A folder with a whole configuration.
fn candidate(world: &World, name: &str, text: &str) -> String {
    let folder = world.folder.path().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("fieldgate.toml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_configuration_that_cuts_the_uplink_heals_itself() {
    let world = World::new();
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 5).await;
    let good = std::fs::read_to_string(world.path()).unwrap();
    let broker = format!("mqtt://127.0.0.1:{}", world.broker.port);
    let cut = candidate(&world, "cut", &good.replace(&broker, "mqtt://127.0.0.1:1"));
    let planned = said(&world.run(&["plan", &cut]));
    assert!(planned.contains("uplink cloud is stopped and started anew"), "{planned}");
    assert!(planned.contains("not touched") && planned.contains("bus 127.0.0.1"), "{planned}");
    let applied = world.run(&["apply", &cut, "--confirm", "8s"]);
    assert!(applied.status.success(), "{}", said(&applied));
    // The files are still those of before, and a cut uplink cannot be confirmed.
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), good);
    let confirmed = world.run(&["confirm"]);
    assert_eq!(confirmed.status.code(), Some(1));
    assert!(said(&confirmed).contains("no batch of uplink cloud"), "{}", said(&confirmed));
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), good);
    let second = world.run(&["apply", &cut, "--confirm", "8s"]);
    assert!(said(&second).contains("on trial already"), "{}", said(&second));
    world.logged("FG-A23", 1).await;
    let so_far = world.polls();
    receive(&mut inbox, &mut received, |r| r.polls().iter().max() > Some(&so_far)).await;
    let history = world.json(&["history", "--json"]);
    assert_eq!(history["versions"][0]["state"], "went_back", "{history}");
    assert_eq!(history["versions"][0]["by"], "jo");
    assert_eq!(history["in_force"], history["versions"][1]["number"]);
    world.account(daemon, &mut inbox, &mut received).await;
}

#[tokio::test]
async fn what_is_confirmed_is_installed_and_every_version_can_come_back() {
    let world = World::new();
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 5).await;
    let first = std::fs::read_to_string(world.path()).unwrap();
    let better = first.replace("name = \"gw-river\"", "name = \"gw-river\"\nsite = \"hall-3\"");
    let folder = candidate(&world, "better", &better);
    assert!(world.run(&["apply", &folder, "--confirm", "5m"]).status.success());
    let end = Instant::now() + Duration::from_secs(30);
    while !world.run(&["confirm"]).status.success() {
        assert!(Instant::now() < end, "it cannot be confirmed: {}", world.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), better);
    assert_eq!(world.run(&["confirm"]).status.code(), Some(1), "confirmed twice");
    // A file of its own takes its place beside the others.
    let extra = world.folder.path().join("extra.toml");
    std::fs::write(&extra, "[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n").unwrap();
    let applied = world.run(&["apply", extra.to_str().unwrap()]);
    assert!(said(&applied).contains("coap listener push is added"), "{}", said(&applied));
    assert!(world.folder.path().join("conf.d/extra.toml").exists());
    // One that cannot be used is refused before anything is written.
    std::fs::write(&extra, "[source.push]\n").unwrap();
    assert_eq!(world.run(&["apply", extra.to_str().unwrap()]).status.code(), Some(1));
    let kept = std::fs::read_to_string(world.folder.path().join("conf.d/extra.toml")).unwrap();
    assert!(kept.contains("coap listen"));
    let back = world.run(&["rollback"]);
    assert!(back.status.success(), "{}", said(&back));
    assert!(!world.folder.path().join("conf.d/extra.toml").exists());
    let history = world.json(&["history", "--json"]);
    let one = history["versions"].as_array().unwrap().last().unwrap()["number"].clone();
    assert!(world.run(&["rollback", &one.to_string()]).status.success());
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), first);
    world.account(daemon, &mut inbox, &mut received).await;
}

#[tokio::test]
async fn files_that_are_edited_during_a_trial_are_never_overwritten_by_its_confirmation() {
    let world = World::new();
    let daemon = world.start();
    world.answers().await;
    let tried = candidate(&world, "tried", &world.text("# tried"));
    assert!(world.run(&["apply", &tried, "--confirm", "5m"]).status.success());
    let edited = world.text("[source.push]\nvia = \"coap listen 127.0.0.1:0\"");
    world.replace(&edited);
    let ended = world.run(&["confirm", "--anyway"]);
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    assert!(said(&ended).contains("edited since the trial began"), "{}", said(&ended));
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), edited);
    assert!(world.run(&["rollback"]).status.success());
    let status = said(&world.run(&["status", "--json"]));
    assert!(status.contains("coap listener"), "the edit is not in force: {status}");
    drop(daemon);
}

#[tokio::test]
async fn a_trial_that_ends_while_it_is_being_installed_leaves_the_files_of_before() {
    let world = World::new();
    let daemon = world.start();
    world.answers().await;
    let before = std::fs::read_to_string(world.path()).unwrap();
    let tried = candidate(&world, "tried", &world.text("# tried"));
    assert!(world.run(&["apply", &tried, "--confirm", "5m"]).status.success());
    // Somebody else is installing: whoever confirms waits behind the daemon's first answer.
    let folder = std::fs::File::open(world.folder.path()).unwrap();
    folder.lock().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    command.args(["confirm", "--anyway", "--config"]).arg(world.path());
    let confirm = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .any(|line| line.contains("-> FLOCK") && line.contains(&format!(" {} ", confirm.id())))
    {
        assert!(Instant::now() < end, "it does not wait for the lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(world.run(&["rollback"]).status.success());
    drop(folder);
    let ended = confirm.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("ended meanwhile"), "{told}");
    assert_eq!(std::fs::read_to_string(world.path()).unwrap(), before);
    drop(daemon);
}

#[tokio::test]
async fn a_daemon_that_dies_during_a_trial_starts_with_what_stood_before() {
    let world = World::new();
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    let daemon = world.start();
    receive(&mut inbox, &mut received, |r| r.polls().len() >= 5).await;
    let tried =
        candidate(&world, "tried", &world.text("[source.push]\nvia = \"coap listen 127.0.0.1:0\""));
    assert!(world.run(&["apply", &tried, "--confirm", "5m"]).status.success());
    daemon.kill();
    let daemon = world.start();
    world.logged("FG-A23", 1).await;
    assert!(world.log().contains("was on trial when the daemon ended"), "{}", world.log());
    let ended = world.run(&["confirm"]);
    assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
    let status = said(&world.run(&["status", "--json"]));
    assert!(!status.contains("coap listener"), "{status}");
    drop(daemon);
}

fn without_daemon(world: &World) {
    let planned = world.run(&["plan"]);
    assert!(
        said(&planned).contains("the daemon does not run")
            || said(&planned).contains("The daemon does not run")
    );
    let more = world.folder.path().join("more.toml");
    std::fs::write(&more, "[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n").unwrap();
    let planned = said(&world.run(&["plan", more.to_str().unwrap()]));
    assert!(planned.contains("coap listener push is added"), "{planned}");
    let applied = world.run(&["apply", more.to_str().unwrap()]);
    assert!(said(&applied).contains("at its next start"), "{}", said(&applied));
    assert!(world.folder.path().join("conf.d/more.toml").exists());
    let tried = world.run(&["apply", more.to_str().unwrap(), "--confirm", "1m"]);
    assert_eq!(tried.status.code(), Some(3), "{}", said(&tried));
}

#[tokio::test]
async fn three_quick_deaths_start_a_safe_mode_that_keeps_data_and_answers() {
    let world = World::new();
    without_daemon(&world);
    let mut inbox = subscribe(world.broker.port).await;
    let mut received = Received::default();
    for life in 1..=3 {
        let daemon = world.start();
        let so_far = world.polls();
        receive(&mut inbox, &mut received, |r| r.polls().iter().max() >= Some(&so_far)).await;
        assert!(!world.log().contains("FG-G08"), "safe mode in life {life}");
        daemon.kill();
    }
    let daemon = world.start();
    world.logged("FG-G08", 1).await;
    world.answers().await;
    let status = said(&world.run(&["status"]));
    assert!(status.contains("FG-G08") && status.contains("safe mode"), "{status}");
    // The uplink has its turn first, and what was kept gets out.
    let all = world.polls();
    world.logged("uplink cloud is connected", 4).await;
    assert_eq!(world.polls(), all, "a source was started with it");
    // The way out that the notice names starts everything.
    assert!(world.log().contains("fieldgate apply"), "{}", world.log());
    let out = world.run(&["apply"]);
    assert!(out.status.success(), "{}", said(&out));
    receive(&mut inbox, &mut received, |r| r.polls().iter().max() > Some(&all)).await;
    assert!(!said(&world.run(&["status"])).contains("FG-G08"));
    signal(&daemon, "-TERM");
    daemon.ended();
    // An orderly end is forgiven.
    assert!(!Path::new(&world.folder.path().join("starts.json")).exists());
}
