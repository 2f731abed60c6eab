//! What README shows is typed here as it stands there, so that it cannot rot.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::peers::{Mosquitto, Peer, coap_post, free_udp_port};

/// The blocks of a section: language and text.
fn blocks(section: &str) -> Vec<(String, String)> {
    let readme = include_str!("../../README.md");
    let from = readme.find(&format!("\n## {section}\n")).expect("the section is gone") + 1;
    let text = &readme[from..];
    let text = &text[..text[3..].find("\n## ").map_or(text.len(), |end| end + 3)];
    let mut parts = text.split("\n```");
    let mut blocks = Vec::new();
    parts.next();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), text.to_owned()));
    }
    blocks
}

/// A desk and a gateway in one folder.
struct Hour {
    folder: tempfile::TempDir,
    broker: Mosquitto,
    daemon: Option<Peer>,
    port: u16,
}

impl Hour {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(folder.path(), "");
        let hour = Self { folder, broker, daemon: None, port: free_udp_port() };
        // On the gateway every command finds its configuration where packages put it.
        let bin = hour.at("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::create_dir(hour.at("gateway")).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$2\" in list|promote|rollback|logs) set -- \"$@\" --config {};; esac\n\
             exec {} \"$@\"\n",
            hour.at("gateway/fieldgate.toml").display(),
            env!("CARGO_BIN_EXE_fieldgate")
        );
        std::fs::write(bin.join("fieldgate"), script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bin.join("fieldgate"), mode).unwrap();
        hour
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Types a block in a folder and returns what was printed.
    fn types(&self, block: &str, folder: &Path) -> String {
        let port = self.broker.port;
        let block = block
            .replace("mqtts://mqtt.example.org", &format!("mqtt://127.0.0.1:{port}"))
            .replace("-h mqtt.example.org", &format!("-h 127.0.0.1 -p {port}"));
        let path = std::env::var("PATH").unwrap();
        let ended = Command::new("sh")
            .args(["-e", "-c", &block])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("CARGO_TARGET_DIR", concat!(env!("CARGO_MANIFEST_DIR"), "/target/authors"))
            .output()
            .unwrap();
        let out = String::from_utf8(ended.stdout).unwrap();
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{block}\n{out}\n{errors}");
        out
    }

    /// Puts the rule and the configuration of README on the gateway, and starts it.
    fn starts(&mut self, shown: &str) {
        let key = std::fs::read_to_string(self.at("spike-filter/ops.pub")).unwrap();
        assert!(shown.contains("\"RWS..\""), "{shown}");
        let shown = shown.replace("RWS..", key.lines().nth(1).unwrap());
        let rest = format!(
            "[api]\nsocket = \"api.sock\"\n[buffer]\npath = \"buffer.db\"\n\
             [source.push]\nvia = \"coap listen 127.0.0.1:{}\"\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\n",
            self.port, self.broker.port
        );
        std::fs::write(self.at("gateway/fieldgate.toml"), shown + "\n" + &rest).unwrap();
        for file in ["spike-filter.wasm", "spike-filter.wasm.minisig"] {
            let from = self.at("spike-filter").join(file);
            std::fs::copy(from, self.at("gateway").join(file)).unwrap();
        }
        let log = std::fs::File::create(self.at("log")).unwrap();
        self.daemon = Some(Peer::start(
            Command::new(env!("CARGO_BIN_EXE_fieldgate"))
                .args(["run", "--config"])
                .arg(self.at("gateway/fieldgate.toml"))
                .stderr(log),
        ));
        self.until("the first version runs", || {
            let (rule, running) = (self.spikes(), "running");
            rule["live"]["version"] == "0.1.0" && rule["running"]["state"] == running
        });
    }

    fn spikes(&self) -> Value {
        let listed =
            Command::new(self.at("bin/fieldgate")).args(["rule", "list", "--json"]).output();
        let all: Value = serde_json::from_slice(&listed.unwrap().stdout).unwrap_or_default();
        all[0].clone()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(90);
        while !holds() {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "not within 90 s: {what}\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn reads(&self, value: &str) {
        coap_post(self.port, 1, &["chiller", "supply_temp"], value);
    }
}

#[test]
fn the_operators_hour() {
    let all = blocks("The operator's hour");
    let languages: Vec<_> = all.iter().map(|(language, _)| language.as_str()).collect();
    assert_eq!(languages, ["sh", "toml", "sh", "sh", "sh"]);
    let mut hour = Hour::new();
    let (top, desk) = (hour.folder.path().to_owned(), hour.at("spike-filter"));

    let said = hour.types(&all[0].1, &top);
    for word in ["4 cases, 0 failed", "pulley", "suggest fuel", "groups=pumps"] {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }
    hour.starts(&all[1].1);

    let said = hour.types(&all[2].1, &desk);
    assert!(said.contains("spike-filter 0.2.0 is on trial beside the live one"), "{said}");
    hour.until("both versions see readings", || {
        hour.reads("20.5");
        hour.spikes()["running"]["trial"]["same"].as_u64() > Some(0)
    });
    let said = hour.types(&all[3].1, &desk);
    for word in
        ["on trial   spike-filter 0.2.0", "1 the same, 0 differ", "0.2.0 is live", "0.1.0 is live"]
    {
        assert!(said.contains(word), "{word} is missing:\n{said}");
    }

    let said = hour.types(&all[4].1, &desk);
    assert!(said.contains("spike-filter 0.3.0 is on trial"), "{said}");
    hour.until("the bad version is sent away", || {
        hour.reads("150");
        hour.spikes()["trial"].is_null()
    });
    assert_eq!(hour.spikes()["live"]["version"], "0.1.0");
    let log = std::fs::read_to_string(hour.at("log")).unwrap();
    assert!(log.contains("FG-W80") && log.contains("sends version 0.3.0 away"), "{log}");
    let last = all[4].1.lines().last().unwrap();
    hour.until("have says what became of it", || {
        let have: Value = serde_json::from_str(&hour.types(last, &desk)).unwrap();
        let ended = &have["rules"]["spikes"]["ended"];
        ended["version"] == "0.3.0" && ended["end"] == "sent away"
    });
}
