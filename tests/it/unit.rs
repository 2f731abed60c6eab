//! The daemon as a service: what it tells systemd, and what the unit takes away from it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::peers::Peer;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/fieldgate.service")
}

/// Every directive with its values, in order.
fn directives() -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(unit()).unwrap().lines() {
        if line.is_empty() || line.starts_with(['#', '[']) {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no directive: {line}"));
        all.entry(name.into()).or_default().push(value.into());
    }
    all
}

/// What the unit says, word by word: a directive that is taken away, added or changed fails here, so
/// that it is done with intent.
#[rustfmt::skip]
const DIRECTIVES: &[(&str, &[&str])] = &[
    ("After", &["network.target", "modprobe@usbserial.service modprobe@cdc_acm.service"]),
    ("AmbientCapabilities", &[""]),
    ("CapabilityBoundingSet", &[""]),
    ("ConditionPathExists", &["/etc/fieldgate/fieldgate.toml"]),
    ("Description", &["fieldgate edge gateway"]),
    ("DeviceAllow", &["char-tty[A-Z]* rw", "char-ttymxc rw"]),
    ("DevicePolicy", &["closed"]),
    ("Documentation", &["man:fieldgate(1) file:///usr/share/doc/fieldgate/README.md"]),
    ("ExecReload", &["/usr/bin/fieldgate apply"]),
    ("ExecStart", &["/usr/bin/fieldgate run"]),
    ("Group", &["fieldgate"]),
    ("KeyringMode", &["private"]),
    ("LimitCORE", &["0"]),
    ("LimitNOFILE", &["4096"]),
    ("LockPersonality", &["yes"]),
    ("MemoryDenyWriteExecute", &["yes"]),
    ("MemoryMax", &["256M"]),
    ("NoNewPrivileges", &["yes"]),
    ("NotifyAccess", &["main"]),
    ("OOMPolicy", &["stop"]),
    ("OOMScoreAdjust", &["-100"]),
    ("PrivateMounts", &["yes"]),
    ("PrivateTmp", &["yes"]),
    ("ProtectClock", &["yes"]),
    ("ProtectControlGroups", &["yes"]),
    ("ProtectHome", &["yes"]),
    ("ProtectHostname", &["yes"]),
    ("ProtectKernelLogs", &["yes"]),
    ("ProtectKernelModules", &["yes"]),
    ("ProtectKernelTunables", &["yes"]),
    ("ProtectProc", &["invisible"]),
    ("ProtectSystem", &["strict"]),
    ("RemoveIPC", &["yes"]),
    ("Restart", &["always"]),
    ("RestartPreventExitStatus", &["78"]),
    ("RestartSec", &["2s"]),
    ("RestrictAddressFamilies", &["AF_INET AF_INET6 AF_UNIX"]),
    ("RestrictNamespaces", &["yes"]),
    ("RestrictRealtime", &["yes"]),
    ("RestrictSUIDSGID", &["yes"]),
    ("RuntimeDirectory", &["fieldgate"]),
    ("RuntimeDirectoryMode", &["0750"]),
    ("StartLimitIntervalSec", &["0"]),
    ("StateDirectory", &["fieldgate"]),
    ("StateDirectoryMode", &["0700"]),
    ("SystemCallArchitectures", &["native"]),
    ("SystemCallErrorNumber", &["EPERM"]),
    ("SystemCallFilter", &["@system-service", "~@privileged @resources", "prlimit64"]),
    ("TasksMax", &["192"]),
    ("TimeoutStartSec", &["10min"]),
    ("TimeoutStopSec", &["30s"]),
    ("Type", &["notify"]),
    ("UMask", &["0077"]),
    ("User", &["fieldgate"]),
    ("WantedBy", &["multi-user.target"]),
    ("Wants", &["modprobe@usbserial.service modprobe@cdc_acm.service"]),
    ("WatchdogSec", &["120s"]),
];

#[test]
fn every_directive_of_the_unit_is_the_one_that_was_meant() {
    let mut found = directives();
    for (name, values) in DIRECTIVES {
        assert_eq!(found.remove(*name).as_deref().unwrap_or_default(), *values, "{name}");
    }
    assert!(found.is_empty(), "not asserted: {found:?}");
}

#[test]
fn every_rule_that_a_gateway_may_have_gets_its_thread() {
    let tasks: usize = directives()["TasksMax"][0].parse().unwrap();
    // A thread for each, the compiler's process, and as many again as a busy reload takes.
    assert!(tasks >= fieldgate::limits::RULES_MAX + 32, "{tasks} tasks");
}

#[test]
fn systemd_calls_the_unit_hardened() {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=yes", "--no-pager", "--threshold=15"]).arg(unit());
    let Ok(ended) = command.output() else {
        // Its figure is a second opinion; the directives are asserted above on every machine.
        return;
    };
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("Overall exposure level"), "{said}");
}

/// A socket as systemd's, and the daemon that is told of it.
struct Watcher {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Watcher {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fieldgate.toml"), config).unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { folder, socket }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command
            .args(["run", "--config"])
            .arg(self.folder.path().join("fieldgate.toml"))
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env("WATCHDOG_USEC", "400000")
            .stderr(Stdio::null());
        command
    }

    /// Returns the next datagram.
    fn hear(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("the daemon says nothing for 30 s");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

const CONFIG: &str = "[gateway]\nname = \"gw\"\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
                      [buffer]\npath = \"buffer.db\"\n[uplink.x]\nurl = \"mqtt://127.0.0.1:1\"\n";

#[test]
fn systemd_hears_ready_then_progress_then_stopping() {
    let watcher = Watcher::new(CONFIG);
    let daemon = Peer::start(&mut watcher.command());
    let ready = watcher.hear();
    assert!(ready.starts_with("READY=1\nSTATUS="), "{ready}");
    // Started means started: the buffer is there.
    assert!(watcher.folder.path().join("buffer.db").exists());
    // Three, so that feeding goes on while the broker cannot be reached.
    let mut fed = 0;
    while fed < 3 {
        let said = watcher.hear();
        assert!(said == "WATCHDOG=1" || said.starts_with("STATUS="), "{said}");
        fed += usize::from(said == "WATCHDOG=1");
    }
    let told = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
    assert!(told.success());
    let mut last = watcher.hear();
    while !last.starts_with("STOPPING=1") {
        assert!(last == "WATCHDOG=1" || last.starts_with("STATUS="), "{last}");
        last = watcher.hear();
    }
}

#[test]
fn a_misconfigured_daemon_is_never_ready_and_ends_with_what_systemd_does_not_restart() {
    let watcher = Watcher::new("[gateway]\nnaem = \"gw\"\n");
    let ended = watcher.command().status().unwrap();
    assert_eq!(ended.code(), Some(78));
    assert_eq!(directives()["RestartPreventExitStatus"], ["78"]);
    watcher.socket.set_nonblocking(true).unwrap();
    assert!(watcher.socket.recv(&mut [0; 64]).is_err(), "it called itself ready");
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let watcher = Watcher::new(CONFIG);
    let _daemon = Peer::start(watcher.command().env("WATCHDOG_PID", "1"));
    assert!(watcher.hear().starts_with("READY=1"));
    watcher.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 1024];
    while let Ok(length) = watcher.socket.recv(&mut buffer) {
        assert!(!buffer[..length].starts_with(b"WATCHDOG"), "fed all the same");
    }
}
