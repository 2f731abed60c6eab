//! The installer's first hour, command by command, against lines of simulated devices whose frames
//! pymodbus makes and checks, and against mosquitto with TLS and logins: scan, read, setup with
//! scripted answers, doctor, status, support, config migrate, and a clock that is wrong at the first
//! boot.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value as Json;

use crate::peers::{self, Mosquitto, Peer};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a configuration to be, a line to scan, and everything else a test needs.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// Devices on a line of their own at `line`.
    fn devices(&self, units: &str, more: &[&str]) -> Peer {
        let link = self.at("line");
        let device = self.start(&link, units, more);
        let end = Instant::now() + Duration::from_secs(20);
        while !link.exists() {
            assert!(Instant::now() < end, "no line after 20 s; tests/run installs pymodbus");
            std::thread::sleep(Duration::from_millis(10));
        }
        device
    }

    fn start(&self, link: &Path, units: &str, more: &[&str]) -> Peer {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peers/line_device.py");
        let mut python = peers::python();
        python.arg(script).arg(link).arg(units).args(more);
        Peer::start(&mut python)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
        command.args(["--config", self.at("fieldgate.toml").to_str().unwrap()]).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let all = text(&stdout) + &text(&stderr);
        assert!(!all.contains("os error") && !all.contains("panicked"), "{all}");
        (status.code().unwrap_or(-1), all)
    }

    /// Runs setup with these lines typed.
    fn setup(&self, more: &[&str], typed: &str) -> (i32, String) {
        let mut child = self
            .command(&["setup"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code().unwrap_or(-1), text(&stdout) + &text(&stderr))
    }
}

#[test]
fn a_scan_finds_the_line_the_ids_and_the_models_and_writes_the_configuration_down() {
    let bench = Bench::new();
    let _devices = bench.devices("1=sdm630,2=plain,7=trs02a", &["--line", "19200"]);
    let (code, said) = bench.run(&["scan", "modbus", "./line", "--ids", "1-8"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "19200 8E1: ids 1, 2, 7 answer",
        "9600 8N1: nothing",
        "id 1  template eastron-sdm630",
        "4 of 4 probe registers fit",
        "id 7  template simex-trs-02a",
        "id 2  no template fits",
        "fieldgate read ./line id 2 holding 0 --count 8 --explain --line \"19200 8E1\"",
        &format!("[port.rs485-1]\npath = \"{}\"\nline = \"19200 8E1\"", bench.at("line").display()),
        "[device.sdm630-1]\ntemplate = \"eastron-sdm630\"\nvia = \"modbus rs485-1 id 1\"",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    let config = said.split("fieldgate setup write it\n").nth(1).unwrap();
    bench.put("fieldgate.toml", config);
    let (code, said) = bench.run(&["check"]);
    assert!(code == 0 && said.contains("bus rs485-1"), "what scan proposes can be used: {said}");
    // The port is known by its name now, and its line is tried first.
    let (code, said) = bench.run(&["scan", "modbus", "rs485-1", "--ids", "1-3", "--json"]);
    let found: Json = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && found["tried"].as_array().unwrap().len() == 1, "{said}");
    assert_eq!(found["devices"][0]["via"], "modbus rs485-1 id 1");
    assert_eq!(found["devices"][0]["template"], "eastron-sdm630");
    assert_eq!(found["devices"][1]["template"], Json::Null);
    let (code, said) = bench.run(&["once", "--timeout", "5s"]);
    assert!(code <= 1 && said.contains("231.4 V"), "{said}");
}

#[test]
fn noise_and_echoes_are_told_from_answers_and_silence_is_explained() {
    let bench = Bench::new();
    let line = ["scan", "modbus", "./line", "--ids", "1-3", "--line", "9600 8N1"];
    let noisy = bench.devices("2=plain", &["--noise"]);
    let (code, said) = bench.run(&line);
    assert!(code == 3 && said.contains("FG-H02") && !said.contains("answers\n"), "{said}");
    drop(noisy);
    std::fs::remove_file(bench.at("line")).unwrap();
    let echoing = bench.devices("2=plain", &["--echo"]);
    let (code, said) = bench.run(&line);
    assert!(code == 0 && said.contains("id 2 answers") && said.contains("FG-H03"), "{said}");
    drop(echoing);
    std::fs::remove_file(bench.at("line")).unwrap();
    let _deaf = bench.devices("2=plain", &["--line", "115200,O"]);
    let (code, said) = bench.run(&line);
    assert!(code == 3 && said.contains("FG-H01") && said.contains("A and B are swapped"), "{said}");
    assert!(said.contains("among 1-3") && said.contains("Try:"), "{said}");
}

#[test]
fn a_device_that_answers_later_than_a_scan_waits_is_found_all_the_same() {
    let bench = Bench::new();
    let _slow = bench.devices("2=plain,3=plain,6=plain", &["--late", "150"]);
    let (code, said) =
        bench.run(&["scan", "modbus", "./line", "--ids", "1-6", "--line", "9600 8N1"]);
    assert!(code == 0 && said.contains("ids 2, 3, 6 answer"), "{said}");
}

#[test]
fn a_gateway_on_the_network_has_only_the_ids_behind_it_and_odd_targets_are_named() {
    let bench = Bench::new();
    let port = peers::free_port();
    let at = port.to_string();
    let _gateway = bench.start(&bench.at("none"), "3=sunspec,9=trs02a", &["--tcp", &at]);
    peers::await_port(port);
    let host = format!("127.0.0.1:{port}");
    let (code, said) = bench.run(&["scan", "modbus", &host, "--ids", "1-10"]);
    assert!(code == 0 && said.contains("Modbus TCP: ids 3, 9 answer"), "{said}");
    assert!(said.contains("sunspec-inverter") && said.contains("simex-trs-02a"), "{said}");
    assert!(said.contains(&format!("via = \"modbus tcp {host} id 9\"")), "{said}");
    let (code, said) = bench.run(&["read", &host, "id", "3", "holding", "40071", "--explain"]);
    assert!(code == 0 && said.contains("12.5"), "{said}");
    let refused = format!("127.0.0.1:{}", peers::free_port());
    let (code, said) = bench.run(&["scan", "modbus", &refused]);
    assert!(code == 3 && said.contains("FG-M02"), "{said}");
    let (code, said) = bench.run(&["scan", "modbus", "/dev/ttyNOT"]);
    assert!(code == 3 && said.contains("FG-S01") && said.contains("fieldgate ports"), "{said}");
    let (code, _) = bench.run(&["scan", "modbus", &host, "--ids", "1-300"]);
    assert_eq!(code, 2);
}

#[test]
fn gateways_that_close_wait_or_are_slow_and_devices_that_ignore_ids_are_scanned_for_what_they_are()
{
    let cases: &[(&str, &[&str], &str, &[&str])] = &[
        // Meters in a row are no device that ignores ids, and the reverse.
        (
            "1=plain,2=plain,3=plain,4=plain,5=plain,6=plain,7=plain,8=plain,9=plain",
            &[],
            "1-10",
            &["ids 1, 2, 3, 4, 5, 6, 7, 8, 9 answer"],
        ),
        ("any=plain", &[], "1-4", &["id 1 answers", "It answers to every id"]),
        ("2=plain,3=trs02a", &["--closes"], "1-4", &["ids 2, 3 answer", "simex-trs-02a"]),
        (
            "3=trs02a",
            &["--late", "1500"],
            "2-4",
            &["id 3 answers", "simex-trs-02a", "takes longer than 1 s"],
        ),
        ("5=plain", &["--absent", "900"], "1-8", &["id 5 answers"]),
        // As pymodbus answers for the absent.
        ("3=plain,4=trs02a", &["--nobody", "4"], "1-8", &["ids 3, 4 answer"]),
        ("1=plain", &["--banner", "SSH-2.0-x"], "1-2", &["FG-H02", "are no Modbus"]),
    ];
    for (units, more, ids, expected) in cases {
        let bench = Bench::new();
        let port = peers::free_port();
        let at = port.to_string();
        let _gateway = bench.start(&bench.at("none"), units, &[&["--tcp", &at], *more].concat());
        peers::await_port(port);
        let (code, said) =
            bench.run(&["scan", "modbus", &format!("127.0.0.1:{port}"), "--ids", ids]);
        assert_eq!(
            code,
            if more.contains(&"--banner") { 3 } else { 0 },
            "{units} {more:?}: {said}"
        );
        for words in *expected {
            assert!(said.contains(words), "{units} {more:?}: no {words:?} in\n{said}");
        }
        let is_one = units.starts_with("any");
        assert_eq!(said.contains("every id"), is_one, "{units} {more:?}: {said}");
    }
}

#[test]
fn setup_writes_over_nothing_and_takes_no_typing_error_for_a_default() {
    let bench = Bench::new();
    let ports = [peers::free_port(), peers::free_port()];
    let _meters = ports.map(|port| {
        let meter =
            bench.start(&bench.at("none"), "1=sdm630,2=plain", &["--tcp", &port.to_string()]);
        peers::await_port(port);
        meter
    });
    let set = |all: &[&str]| {
        let mut arguments = vec!["setup".to_owned(), "--yes".to_owned()];
        let usual = ["uplink=-", "start=n"];
        arguments.extend(usual.iter().chain(all).map(|one| format!("--set={one}")));
        bench.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let [first, second] = ports.map(|port| format!("127.0.0.1:{port}"));
    let [first, second] = [format!("port={first}"), format!("port.2={second}")];
    // A main file in Latin-1 is left as it is.
    let main = bench.at("fieldgate.toml");
    std::fs::write(&main, b"# Z\xE4hler\n[gateway]\nname = \"keller\"\n").unwrap();
    let (code, said) = set(&["name=g", &first, "ids=1"]);
    assert!(code == 1 && said.contains("is not UTF-8"), "{said}");
    assert!(std::fs::read(&main).unwrap().starts_with(b"# Z\xE4hler"));
    std::fs::remove_file(&main).unwrap();
    for typed in ["nmae=cabinet-7", "ids=1-3OO"] {
        let (code, said) = set(&["name=g", &first, typed]);
        assert!(code == 2 && !main.exists(), "{typed}: {said}");
    }
    // Two meters of one model, and a file of somebody's that is called as the first of them will be.
    let mine = "[device.chiller]\nvia = \"modbus tcp 127.0.0.1:9 id 1\"\n\
                points.a = { at = \"holding 1\" }\n";
    bench.put("conf.d/sdm630-1.toml", mine);
    let (code, said) = set(&["name=g", &first, "ids=1", "more=y", &second]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(bench.read("conf.d/sdm630-1.toml"), mine);
    let (code, said) = bench.run(&["check", "--points"]);
    assert_eq!(code, 0, "{said}");
    for port in ports {
        assert!(said.contains(&format!("127.0.0.1:{port}")), "{port} is lost: {said}");
    }
    assert!(said.contains("chiller"), "{said}");
    // A point that cannot be used is told where it is typed, and the good one after it is taken.
    let typed =
        format!("\n127.0.0.1:{}\n\n2\n\nv holding 65535 f32\nv holding 100 f32\n", ports[0]);
    let (_, said) = bench.setup(&["--set", "uplink=-"], &typed);
    assert!(said.contains("\"v holding 65535 f32\" does not do"), "{said}");
    assert!(said.contains("230.5"), "{said}");
}

#[test]
fn what_an_acl_throws_away_and_a_device_that_is_dead_behind_a_gateway_are_not_called_good() {
    let bench = Bench::new();
    let (broker_port, bus_port) = (peers::free_port(), peers::free_port());
    bench.put("acl", "topic read somewhere/else\n");
    let acl = bench.at("acl").display().to_string();
    let _broker = Mosquitto::start(
        bench.folder.path(),
        &format!(
            "user root\nlistener {broker_port} 127.0.0.1\nallow_anonymous true\nacl_file {acl}"
        ),
    );
    let _gateway = bench.start(&bench.at("none"), "3=plain", &["--tcp", &bus_port.to_string()]);
    peers::await_port(broker_port);
    peers::await_port(bus_port);
    bench.put(
        "fieldgate.toml",
        &format!(
            "[gateway]\nname = \"gw\"\n[buffer]\npath = \"buffer.db\"\n\
             [device.here]\nvia = \"modbus tcp 127.0.0.1:{bus_port} id 3\"\n\
             points.a = {{ at = \"holding 1\" }}\n\
             [device.gone]\nvia = \"modbus tcp 127.0.0.1:{bus_port} id 5\"\n\
             points.a = {{ at = \"holding 1\" }}\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{broker_port}\"\n"
        ),
    );
    let (code, said) = bench.run(&["doctor", "uplink"]);
    assert!(code == 1 && said.contains("acknowledged, and thrown away"), "{said}");
    let (code, said) = bench.run(&["doctor", "bus", &format!("127.0.0.1:{bus_port}")]);
    assert!(code == 1 && said.contains("1 of 2 devices do not answer their gateway"), "{said}");
}

#[test]
fn a_port_that_a_program_has_is_named_with_the_way_and_one_that_vanishes_leaves_what_was_found() {
    let bench = Bench::new();
    let devices = bench.devices("1=sdm630", &[]);
    bench.put(
        "fieldgate.toml",
        "[gateway]\nname = \"gw\"\n[port.bus]\npath = \"line\"\n[buffer]\npath = \"buffer.db\"\n\
         [device.meter]\ntemplate = \"eastron-sdm630\"\nvia = \"modbus bus id 1\"\n",
    );
    let mut daemon = Daemon::start(&bench);
    daemon.until_log("reads bus bus");
    let end = Instant::now() + Duration::from_secs(20);
    let said = loop {
        let (_, said) = bench.run(&["scan", "modbus", "bus"]);
        if said.contains("FG-H05") || Instant::now() > end {
            break said;
        }
    };
    assert!(said.contains("FG-H05") && said.contains("fieldgate (process"), "{said}");
    assert!(said.contains("systemctl stop fieldgate"), "{said}");
    let (code, said) = bench.run(&["doctor", "bus", "bus"]);
    assert!(code == 0 && said.contains("fieldgate status"), "{said}");
    let (code, said) = bench.run(&["read", "meter/voltage_l1"]);
    assert!(code == 3 && said.contains("FG-H05"), "{said}");
    daemon.stop();
    drop(devices);
    std::fs::remove_file(bench.at("line")).unwrap();
    let _fragile = bench.devices("1=plain,2=plain", &["--die-after", "5"]);
    let (code, said) = bench.run(&["scan", "modbus", "./line", "--ids", "1-32"]);
    assert!(code == 1 && said.contains("FG-H04") && said.contains("answer"), "{said}");
}

#[test]
fn ctrl_c_ends_a_scan_with_what_was_found() {
    let bench = Bench::new();
    let _devices = bench.devices("1=plain", &[]);
    let mut scan = bench
        .command(&["scan", "modbus", "./line", "--ids", "1-247", "--json", "--all"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    signal(&scan, "INT");
    let mut said = String::new();
    scan.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    let code = scan.wait().unwrap().code();
    let found: Json = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &found["stopped"]), (Some(1), &Json::Bool(true)), "{said}");
    assert_eq!(found["devices"].as_array().map(Vec::len), Some(1), "{said}");
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

#[test]
fn read_shows_points_and_registers_and_explains_both_conventions() {
    let bench = Bench::new();
    let _devices = bench.devices("1=sdm630,2=plain", &[]);
    bench.put(
        "fieldgate.toml",
        "[port.bus]\npath = \"line\"\n[device.meter]\ntemplate = \"eastron-sdm630\"\n\
         via = \"modbus bus id 1\"\n",
    );
    let (code, said) = bench.run(&["read", "meter/voltage_l1"]);
    assert!(code == 0 && said.contains("meter/voltage_l1  231.4 V"), "{said}");
    assert!(said.contains("input 0 = 4367 6666"), "{said}");
    let (code, said) = bench.run(&["read", "bus", "id", "2", "holding", "100", "--explain"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "holding 100 (protocol, from 0) is number 40101 (Modicon, from 1)",
        "a manual that says 40100 means holding 99",
        "points.NAME = { at = \"holding 100\", as = \"f32\", decimals = 2 }",
        "mains voltage",
        "off by one?  the device does not give holding 99",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    let by_number = bench.run(&["read", "modbus", "bus", "2", "40004"]);
    assert!(by_number.0 == 0 && by_number.1.contains("holding 3"), "{}", by_number.1);
    let (_, said) = bench.run(&["read", "bus", "id", "2", "holding 3", "--json", "--count", "2"]);
    let read: Json = serde_json::from_str(&said).unwrap();
    assert_eq!(read["registers"], serde_json::json!([2003, 2004]));
    let (code, said) = bench.run(&["read", "bus", "id", "2", "holding", "99"]);
    assert!(code == 1 && said.contains("exception 2") && said.contains("counts from 1"), "{said}");
    let (code, said) = bench.run(&["read", "bus", "id", "5", "holding", "0", "--timeout", "200ms"]);
    assert!(code == 3 && said.contains("no answer within"), "{said}");
    let (code, said) = bench.run(&["read", "meter/volt"]);
    assert!(code == 2 && said.contains("voltage_l1"), "{said}");
}

/// mosquitto with TLS and a login, and the files of its CA.
struct Secured {
    broker: Mosquitto,
    port: u16,
}

impl Secured {
    /// Its certificate is for localhost; `days` until it ends.
    fn start(bench: &Bench, from_year: i32, until_year: i32) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Plant CA");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "broker of the plant");
        params.not_before = rcgen::date_time_ymd(from_year, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        bench.put("ca.pem", &ca.pem());
        bench.put("broker.pem", &certificate.pem());
        bench.put("broker.key", &key.serialize_pem());
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c", bench.at("passwords").to_str().unwrap(), "gw", "s3cret-pw"])
            .status()
            .expect("mosquitto_passwd is missing; tests/run installs it");
        assert!(made.success());
        let port = peers::free_port();
        let at = |name: &str| bench.at(name).display().to_string();
        let extra = format!(
            "user root\nlistener {port} 127.0.0.1\n\
             password_file {}\ncertfile {}\nkeyfile {}",
            at("passwords"),
            at("broker.pem"),
            at("broker.key"),
        );
        let broker = Mosquitto::start(bench.folder.path(), &extra);
        peers::await_port(port);
        Self { broker, port }
    }

    fn url(&self) -> String {
        format!("mqtts://localhost:{}", self.port)
    }
}

/// The daemon of a bench.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(bench: &Bench) -> Self {
        Self::start_with(bench, bench.command(&["run"]))
    }

    fn start_with(bench: &Bench, mut command: Command) -> Self {
        let log = bench.at("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        Self { child: command.stderr(file).spawn().unwrap(), log }
    }

    fn until_log(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(words) {
                return;
            }
            assert!(Instant::now() < end, "never {words:?}:\n{log}");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(mut self) {
        signal(&self.child, "TERM");
        assert!(
            self.child.wait().unwrap().success(),
            "{}",
            std::fs::read_to_string(&self.log).unwrap()
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn setup_goes_from_nothing_to_values_and_a_green_uplink_and_changes_only_what_is_asked_again() {
    let bench = Bench::new();
    let _devices = bench.devices("1=sdm630,2=plain", &["--line", "19200"]);
    let broker = Secured::start(&bench, 2026, 2030);
    // Name, port, scan, ids, line; id 1: take it, port's name, name; id 2: no template, no point;
    // right; no more;
    // url, CA, user, password; write.
    let typed = format!(
        "gw-7\n./line\n\n1-3\n\n\n\nmeter\n\n\n\nn\n{}\nca.pem\ngw\ns3cret-pw\n\n",
        broker.url()
    );
    let (code, said) = bench.setup(&[], &typed);
    assert_eq!(code, 0, "{said}");
    for words in [
        "1/5 Name",
        "19200 8E1: answers from id 1, 2",
        "eastron-sdm630: three-phase energy meter",
        "voltage_l1               231.4 V",
        "ok    name",
        "ok    tcp",
        "broker of the plant, signed by Plant CA",
        "ok    login     accepted (user gw, client id gw-7-doctor",
        "ok    publish",
        "Written.",
        "systemctl start fieldgate",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    assert!(!said.contains("s3cret-pw"), "the password is shown:\n{said}");
    let main = bench.read("fieldgate.toml");
    assert!(main.contains("version = 1") && main.contains("name = \"gw-7\""), "{main}");
    assert!(main.contains("[port.rs485-1]") && main.contains("line = \"19200 8E1\""), "{main}");
    let device = bench.read("conf.d/meter.toml");
    assert!(device.contains("[device.meter]\ntemplate = \"eastron-sdm630\""), "{device}");
    for file in ["fieldgate.toml", "conf.d/meter.toml"] {
        assert!(!bench.read(file).contains("s3cret-pw"), "{file} holds the password");
    }
    assert_eq!(bench.read("secrets/cloud.password"), "s3cret-pw\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(bench.at("secrets/cloud.password")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let (code, said) = bench.run(&["check"]);
    assert!(code == 0 && !said.contains("fault"), "{said}");
    doctor_walks_all_the_way(&bench);
    setup_again_changes_the_name_alone(&bench);
}

fn doctor_walks_all_the_way(bench: &Bench) {
    bench.put("conf.d/buffer.toml", "[buffer]\npath = \"../buffer.db\"\n");
    let (code, said) = bench.run(&["doctor"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "configuration",
        "clock",
        "disk of",
        "port rs485-1",
        "the one device answers",
        "ok    publish",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    let (_, said) = bench.run(&["doctor", "uplink", "--json"]);
    let steps: Vec<_> = said
        .lines()
        .map(|line| {
            serde_json::from_str::<Json>(line).unwrap()["what"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(steps, ["name", "tcp", "tls", "login", "publish"], "{said}");
}

/// Comments and what is not asked for stay byte for byte.
fn setup_again_changes_the_name_alone(bench: &Bench) {
    let main =
        bench.read("fieldgate.toml").replace("[gateway]\n", "# hall 3, cabinet 2\n[gateway]\n");
    bench.put("fieldgate.toml", &main);
    let device = bench.read("conf.d/meter.toml");
    let (code, said) = bench.setup(&["--yes", "--set", "name=gw-8"], "");
    assert!(code == 0 && said.contains("There is a configuration"), "{said}");
    assert!(said.contains("device  meter") && said.contains("port    rs485-1"), "{said}");
    assert_eq!(bench.read("fieldgate.toml"), main.replace("\"gw-7\"", "\"gw-8\""));
    assert_eq!(bench.read("conf.d/meter.toml"), device);
    let (code, said) = bench.setup(&["--yes"], "");
    assert!(code == 0 && said.contains("Nothing has changed"), "{said}");
}

#[test]
fn setup_takes_answers_from_a_file_and_writes_nothing_when_it_cannot_end_well() {
    let bench = Bench::new();
    let _devices = bench.devices("7=trs02a", &[]);
    let dead = peers::free_port();
    bench.put(
        "answers",
        &format!(
            "# for a hundred cabinets\nname = cabinet-1\nport = {}\nids = 5-8\nline = 9600 8N1\n\
             device.7.name = oven\nuplink = mqtt://127.0.0.1:{dead}\nuser = -\n",
            bench.at("line").display()
        ),
    );
    let (code, said) = bench.setup(&["--answers", "answers"], "");
    assert!(code == 1 && said.contains("FG-U01"), "the broker is away, which is told: {said}");
    assert!(said.contains("21.5 Cel") && bench.read("conf.d/oven.toml").contains("id 7"), "{said}");
    assert!(bench.run(&["check"]).0 == 0);
    let other = Bench::new();
    let (code, said) = other.setup(&["--yes", "--set", "name=a/b"], "");
    assert!(code == 2 && said.contains("a/b"), "{said}");
    let (code, said) = other.setup(&["--yes", "--set", "port=-", "--set", "uplink=-"], "");
    assert!(code == 1 && said.contains("FG-H15") && said.contains("nothing was written"), "{said}");
    // A broken file beside good ones is named, and nothing is written over it.
    other.put("fieldgate.toml", "[gateway]\nname = \"g\"\n");
    other.put("conf.d/old.toml", "[device.x\n");
    let (code, said) =
        other.setup(&["--yes", "--set", "name=h", "--set", "port=-", "--set", "uplink=-"], "");
    assert!(code == 1 && said.contains("conf.d/old.toml") && said.contains("FG-C02"), "{said}");
    assert_eq!(other.read("fieldgate.toml"), "[gateway]\nname = \"g\"\n");
    assert_eq!(
        std::fs::read_dir(other.folder.path()).unwrap().count(),
        2,
        "a draft was left behind"
    );
}

#[test]
fn a_device_that_no_template_fits_is_set_up_by_the_addresses_of_its_points() {
    let bench = Bench::new();
    let _devices = bench.devices("2=plain", &[]);
    bench.put(
        "answers",
        &format!(
            "name = cabinet-2\nport = {}\nids = 2\nline = 9600 8N1\nuplink = -\n\
             device.2.point = first holding 0\ndevice.2.point.2 = second 40002 i16 0.1 Cel\n\
             device.2.name = pump\n",
            bench.at("line").display()
        ),
    );
    let (code, said) = bench.setup(&["--answers", "answers", "--yes"], "");
    let device = bench.read("conf.d/pump.toml");
    assert!(
        device.contains(
            "points.second = { at = \"40002\", as = \"i16\", scale = 0.1, unit = \"Cel\" }"
        ),
        "{said}\n{device}"
    );
    assert!(code == 0 && said.contains("second") && bench.run(&["check"]).0 == 0, "{said}");
}

#[test]
fn the_daemon_may_read_what_setup_writes_whatever_the_umask_of_its_caller() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.put(
        "fieldgate.toml",
        "[gateway]\nname = \"g\"\n[device.x]\nvia = \"modbus tcp 127.0.0.1:9 id 1\"\n\
         points.a = { at = \"holding 1\" }\n",
    );
    let main = bench.at("fieldgate.toml");
    std::fs::set_permissions(&main, std::fs::Permissions::from_mode(0o640)).unwrap();
    let dead = format!("uplink=mqtt://127.0.0.1:{}", peers::free_port());
    let done = Command::new("sh")
        .args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_fieldgate")])
        .args(["--config", main.to_str().unwrap(), "setup", "--yes"])
        .args(["name=h", "port=-", &dead, "user=u", "password=p"].map(|it| format!("--set={it}")))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(1), "the broker is away: {}", text(&done.stdout));
    let mode = |name: &str| std::fs::metadata(bench.at(name)).unwrap().permissions().mode() & 0o777;
    let modes = ["fieldgate.toml", "secrets", "secrets/cloud.password"].map(mode);
    assert_eq!(modes, [0o640, 0o711, 0o600]);
}

#[test]
fn an_adapter_that_vanishes_in_setup_is_told_and_leaves_nothing_half_written() {
    let bench = Bench::new();
    let _fragile = bench.devices("1=plain", &["--die-after", "3"]);
    let set =
        ["port=./line", "ids=1-4", "line=9600 8N1", "uplink=-"].map(|one| ["--set", one]).concat();
    let (code, said) = bench.setup(&[&["--yes"], &set[..]].concat(), "");
    assert!(code == 1 && said.contains("FG-H04"), "{said}");
    assert!(!bench.at("fieldgate.toml").exists() && !bench.at("conf.d").exists(), "{said}");
}

#[test]
fn doctor_uplink_names_the_step_that_fails() {
    let bench = Bench::new();
    let broker = Secured::start(&bench, 2026, 2030);
    let uplink = |url: &str, more: &str| {
        bench.put(
            "fieldgate.toml",
            &format!(
                "[gateway]\nname = \"gw\"\n[device.d]\nvia = \"modbus tcp 127.0.0.1:1 id 1\"\n\
                 points.a = {{ at = \"holding 1\" }}\n[buffer]\npath = \"b.db\"\n\
                 [uplink.cloud]\nurl = \"{url}\"\n{more}\n"
            ),
        );
        bench.run(&["doctor", "uplink"])
    };
    bench.put("pw", "wrong");
    bench.put("right", "s3cret-pw");
    let login = |file: &str| {
        format!("ca = \"ca.pem\"\nauth = {{ user = \"gw\", password = {{ file = \"{file}\" }} }}")
    };
    let (code, said) = uplink(&broker.url(), &login("right"));
    assert!(code == 0 && said.contains("ok    publish") && said.contains("days left"), "{said}");
    let (code, said) = uplink(&broker.url(), &login("pw"));
    assert!(code == 1 && said.contains("BAD   login") && said.contains("FG-U02"), "{said}");
    let (code, said) = uplink(&broker.url(), &login("nowhere"));
    assert!(code == 1 && said.contains("BAD   files") && said.contains("nowhere"), "{said}");
    let (code, said) = uplink(&broker.url(), "");
    assert!(code == 1 && said.contains("BAD   tls"), "{said}");
    let by_address = broker.url().replace("localhost", "127.0.0.1");
    let (code, said) = uplink(&by_address, &login("right"));
    assert!(code == 1 && said.contains("BAD   tls") && said.contains("localhost"), "{said}");
    assert!(said.contains("the broker shows: broker of the plant, signed by Plant CA"), "{said}");
    let plain = format!("mqtt://localhost:{}", broker.port);
    let (code, said) = uplink(&plain, "");
    assert!(code == 1 && said.contains("BAD   login"), "{said}");
    let (code, said) = uplink("mqtt://127.0.0.1:1", "");
    assert!(code == 1 && said.contains("BAD   tcp") && said.contains("ok    name"), "{said}");
    let (code, said) = uplink("mqtt://no-such-host.invalid", "");
    assert!(code == 1 && said.contains("BAD   name"), "{said}");
    let open = format!("mqtt://127.0.0.1:{}", broker.broker.port);
    let (code, said) = uplink(&open, "");
    assert!(code == 0 && said.contains("no user"), "{said}");
}

fn faketime() -> PathBuf {
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut library = library.map(|at| at.path().join("faketime/libfaketimeMT.so.1"));
    library
        .find(|at| at.exists())
        .expect("libfaketime is missing; on Debian: apt install libfaketime")
}

/// Lets a program see the time that the file `clock` says; the time since boot stays the machine's.
fn under_a_clock<'a>(bench: &Bench, command: &'a mut Command) -> &'a mut Command {
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", bench.at("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC")
}

/// Method: the board wakes up in 2019 without a battery; the broker's certificate is good from 2026 on.
/// The uplink must say what is wrong, keep trying, and be connected once the clock is set, without a
/// restart; `doctor clock` must tell meanwhile.
#[test]
fn a_clock_that_is_wrong_at_the_first_boot_keeps_tls_away_only_until_it_is_set() {
    let bench = Bench::new();
    let broker = Secured::start(&bench, 2026, 2030);
    bench.put("pw", "s3cret-pw");
    bench.put(
        "fieldgate.toml",
        &format!(
            "[gateway]\nname = \"gw\"\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
             [buffer]\npath = \"buffer.db\"\n[uplink.cloud]\nurl = \"{}\"\nca = \"ca.pem\"\n\
             auth = {{ user = \"gw\", password = {{ file = \"pw\" }} }}\n",
            broker.url()
        ),
    );
    bench.put("clock", "@2019-03-01 10:00:00");
    let mut command = bench.command(&["run"]);
    under_a_clock(&bench, &mut command);
    let mut daemon = Daemon::start_with(&bench, command);
    daemon.until_log("is not valid before 2026-01-01");
    let mut doctor = bench.command(&["doctor", "clock"]);
    let told = under_a_clock(&bench, &mut doctor).output().unwrap();
    let said = text(&told.stdout);
    assert!(told.status.code() == Some(1) && said.contains("2019-03-01T10:00"), "{said}");
    assert!(said.contains("FG-K03") && said.contains("set-ntp"), "{said}");
    let mut doctor = bench.command(&["doctor", "uplink"]);
    let said = text(&under_a_clock(&bench, &mut doctor).output().unwrap().stdout);
    assert!(said.contains("BAD   tls") && said.contains("this board's clock"), "{said}");
    // Plausible and still behind: the configuration was written later.
    bench.put("clock.next", "@2026-01-02 00:00:00");
    std::fs::rename(bench.at("clock.next"), bench.at("clock")).unwrap();
    let mut doctor = bench.command(&["doctor", "clock"]);
    let told = under_a_clock(&bench, &mut doctor).output().unwrap();
    let said = text(&told.stdout);
    let is_later = std::fs::metadata(bench.at("fieldgate.toml")).unwrap().modified().unwrap()
        > std::time::UNIX_EPOCH + Duration::from_secs(1_767_312_000 + 3600);
    assert!(!is_later || said.contains("FG-H08"), "{said}");
    bench.put("clock.next", "+0");
    std::fs::rename(bench.at("clock.next"), bench.at("clock")).unwrap();
    daemon.until_log("FG-U03  uplink cloud");
    daemon.until_log("connected to");
    daemon.stop();
}

#[test]
fn an_archive_for_support_holds_no_secret_wherever_one_was_planted() {
    let bench = Bench::new();
    let secrets = [
        "file-s3cret-1",
        "env-s3cret-2",
        "url-s3cret-3",
        "bare-s3cret-4",
        "MIIfakekey5base64",
        "cred-s3cret-6",
        "token-s3cret-7",
        "comment-s3cret-8",
    ];
    bench.put("pw", &format!("{}\n", secrets[0]));
    bench.put("credentials/mqtt", secrets[5]);
    bench.put("secrets/other", secrets[6]);
    let key = KeyPair::generate().unwrap().serialize_pem();
    bench.put("client.key", &key);
    bench.put(
        "fieldgate.toml",
        &format!(
            "# password = \"{}\"\n[gateway]\nname = \"gw\"\n[device.d]\nvia = \"modbus tcp 127.0.0.1:1 id 1\"\n\
             points.a = {{ at = \"holding 1\" }}\n[buffer]\npath = \"b.db\"\n[uplink.a]\n\
             url = \"mqtt://127.0.0.1:1\"\nauth = {{ user = \"u\", password = {{ file = \"pw\" }} }}\n\
             [uplink.b]\nurl = \"mqtt://127.0.0.1:2\"\nauth = {{ token = {{ env = \"FG_TEST_TOKEN\" }} }}\n\
             [uplink.c]\nurl = \"mqtt://127.0.0.1:3\"\n\
             auth = {{ user = \"x\", password = {{ credential = \"mqtt\" }} }}\n",
            secrets[7]
        ),
    );
    // Broken on purpose: what is refused is archived, too.
    bench.put(
        "conf.d/wrong.toml",
        &format!(
            "[uplink.d]\nurl = \"mqtt://me:{}@host\"\nauth = {{ user = \"u\", password = \"{}\" }}\n\
             note = \"{} {} {}\"\nkey = \"\"\"-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\"\"\"\n",
            secrets[2], secrets[3], secrets[0], secrets[5], secrets[6], secrets[4]
        ),
    );
    for _ in 0..2 {
        let ended = bench
            .command(&["support", "help.tar.gz"])
            .env("FG_TEST_TOKEN", secrets[1])
            .env("CREDENTIALS_DIRECTORY", bench.at("credentials"))
            .output()
            .unwrap();
        let said = text(&ended.stdout) + &text(&ended.stderr);
        assert!(ended.status.success() && said.contains("secrets taken out"), "{said}");
        let unpacked = bench.at("unpacked");
        let _ = std::fs::remove_dir_all(&unpacked);
        std::fs::create_dir(&unpacked).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(bench.at("help.tar.gz")).arg("-C").arg(&unpacked);
        assert!(tar.status().unwrap().success());
        let (mut all, mut names) = (String::new(), Vec::new());
        gather(&unpacked, &mut all, &mut names);
        for secret in secrets.iter().chain([&key.lines().nth(1).unwrap()]) {
            let place = all.find(secret).map(|at| all[at.saturating_sub(200)..at + 20].to_owned());
            assert!(place.is_none(), "{secret} is in the archive: {place:?}");
        }
        for name in ["about.txt", "fieldgate.toml", "check.txt", "status.json", "journal.txt"] {
            assert!(names.iter().any(|it| it == name), "{name} is not in {names:?}");
        }
        assert!(all.contains("[uplink.a]") && all.contains("holding 1"), "what helps stays");
        // Once more with a configuration that loads, whose settings and buffer are archived, too.
        let _ = std::fs::remove_file(bench.at("conf.d/wrong.toml"));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(bench.at("help.tar.gz")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

fn gather(folder: &Path, all: &mut String, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            gather(&entry.path(), all, names);
            continue;
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
        all.push_str(&text(&std::fs::read(entry.path()).unwrap()));
    }
}

#[test]
fn status_is_one_screen_and_says_when_there_is_no_daemon() {
    let bench = Bench::new();
    let _devices = bench.devices("1=sdm630", &[]);
    bench.put(
        "fieldgate.toml",
        "[gateway]\nname = \"gw-9\"\n[port.bus]\npath = \"line\"\n[buffer]\npath = \"buffer.db\"\n\
         [api]\nsocket = \"api.sock\"\n[device.meter]\ntemplate = \"eastron-sdm630\"\n\
         via = \"modbus bus id 1\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1\"\n",
    );
    let (code, said) = bench.run(&["status"]);
    assert!(code == 3 && said.contains("FG-A") && said.contains("Try:"), "{said}");
    let mut daemon = Daemon::start(&bench);
    daemon.until_log("FG-U01");
    let (code, said) = bench.run(&["status"]);
    assert!(code <= 1 && said.contains("gw-9  up ") && said.contains("sources  bus bus"), "{said}");
    assert!(said.contains("uplink   cloud  NOT connected") && said.contains("FG-U01"), "{said}");
    let (_, said) = bench.run(&["status", "--json"]);
    let told: Json = serde_json::from_str(&said).unwrap();
    assert_eq!(told["gateway"], "gw-9");
    let (code, said) = bench.run(&["doctor", "bus", "bus"]);
    assert!(code == 0 && said.contains("nothing to complain of"), "{said}");
    let (code, said) = bench.run(&["doctor", "uplink"]);
    assert!(code == 1 && said.contains("look  gateway   not connected"), "{said}");
    daemon.stop();
}

#[test]
fn config_migrate_marks_old_files_and_refuses_newer_ones() {
    let bench = Bench::new();
    bench.put("fieldgate.toml", "# plant 4\n[gateway]\nname = \"g\" # cabinet\n");
    let (code, said) = bench.run(&["config", "migrate"]);
    assert!(code == 0 && said.contains("fieldgate.toml.bak"), "{said}");
    assert_eq!(
        bench.read("fieldgate.toml"),
        "# plant 4\nversion = 1\n\n[gateway]\nname = \"g\" # cabinet\n"
    );
    assert_eq!(bench.read("fieldgate.toml.bak"), "# plant 4\n[gateway]\nname = \"g\" # cabinet\n");
    let (code, said) = bench.run(&["config", "migrate"]);
    assert!(code == 0 && said.contains("nothing to do"), "{said}");
    bench.put("conf.d/new.toml", "version = 2\n");
    let (code, said) = bench.run(&["config", "migrate"]);
    assert!(code == 1 && said.contains("FG-H14") && said.contains("version 2"), "{said}");
    let (code, said) = bench.run(&["check"]);
    assert!(code == 1 && said.contains("FG-C09"), "{said}");
}
