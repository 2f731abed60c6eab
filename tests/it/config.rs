//! Configurations as people write them: golden folders of bad input, the annotated example, what
//! `config show` promises, and files that are no text at all.
//!
//! A case is a folder `tests/cases/<sentence>/` with `fieldgate.toml` (and what belongs beside it)
//! and `expected.txt`, which is what `fieldgate check` prints. `UPDATE_GOLDEN=1` writes the latter.

use std::path::{Path, PathBuf};

use fieldgate::cli;
use fieldgate::config::{Config, Faults, Options, SourceSettings, load, schema};
use fieldgate::error::{Exit, Fatal};
use fieldgate::sources::modbus::settings::{Form, Link, Table, WordOrder};
use fieldgate::sources::serial::settings::Framing;

const SMALL: &str = "[gateway]\nname = \"gw\"\n[device.plc]\nvia = \"modbus tcp 192.0.2.1 id 1\"\n\
                     points.a = { at = \"holding 1\" }\n\
                     [uplink.u]\nurl = \"mqtt://broker.example\"\n";

/// The configuration that the project's contract shows, without what later versions do.
const CONTRACT: &str = r#"
version = 1
[gateway]
name   = "gw-4f2a"
site   = "hall-3"
groups = ["pumps", "north"]
[port.rs485-1]
path = "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0"
line = "9600 8N1"
[port.rs232-1]
path = "/dev/serial/by-id/usb-Prolific_PL2303_B1-if00-port0"
[device.meter-1]
template = "eastron-sdm630"
via   = "modbus rs485-1 id 1"
every = "1s"
points.frequency = { every = "10s" }
points.energy_export = false
[device.chiller]
via   = "modbus tcp 192.168.1.40:502 id 1"
every = "5s"
word_order = "CDAB"
points.supply_temp = { at = "holding 107", as = "i16", scale = 0.1, unit = "Cel", decimals = 1 }
points.power       = { at = "30053", as = "f32", unit = "kW", decimals = 2, deadband = 0.05 }
points.running     = { at = "coil 3", as = "bool" }
points.alarms      = { at = "holding 200", as = "bits", bits = { 0 = "low_pressure", 3 = "freeze" } }
[device.scale]
via   = "serial rs232-1"
frame = { end = "\r\n" }
match = '^(?<status>ST|US),GS,\s*(?<weight>[-+]?\d+\.\d+)kg$'
points.weight = { unit = "kg", decimals = 2 }
points.status = { as = "text" }
[source.zigbee]
via    = "zigbee2mqtt mqtt://localhost"
rename = { "0x00158d0001a2b3c4" = "door-north" }
points = ["temperature", "humidity", "contact", "battery"]
[source.tank-sensors]
via    = "coap coap://[fd00::7]/sensors"
mode   = "observe"
format = "senml"
[source.push]
via    = "coap listen 0.0.0.0:5683"
[buffer]
path   = "/var/lib/fieldgate/buffer.db"
keep   = "30d"
max    = "2GiB"
full   = "drop-oldest"
commit = "1s"
[uplink.cloud]
preset = "mqtt"
url    = "mqtts://mqtt.example.org:8883"
auth   = { cert = "/etc/fieldgate/client.pem", key = { credential = "client-key" } }
batch  = { max_age = "10s", compress = "zlib" }
ack    = "broker"
"#;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Loads `content` as the only file of a configuration.
fn load_bytes(content: impl AsRef<[u8]>) -> Result<Config, Faults> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fieldgate.toml");
    std::fs::write(&path, content).unwrap();
    load(&path, Options { keep_settings: true })
}

fn first_code(result: Result<Config, Faults>) -> &'static str {
    result.expect_err("should be refused").faults[0].code.id
}

fn check(path: &Path, json: bool) -> (String, Exit) {
    let mut out = Vec::new();
    let exit =
        cli::check::run(path, &cli::check::Args { json, points: false, tests: false }, &mut out);
    (String::from_utf8(out).unwrap(), exit)
}

fn show(path: &Path, args: &cli::config::ShowArgs) -> String {
    let mut out = Vec::new();
    assert_eq!(cli::config::show(path, args, &mut out), Exit::Done);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_case_is_told_as_its_folder_says() {
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = std::fs::read_dir(root().join("tests/cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("fieldgate.toml").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    for case in cases {
        let (text, exit) = check(&case.join("fieldgate.toml"), false);
        let told = text.replace(&format!("{}/", case.display()), "");
        let said = format!("{told}exit {}\n", exit as u8);
        let expected = case.join("expected.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{}:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_secret_of_any_case_is_ever_repeated() {
    for case in std::fs::read_dir(root().join("tests/cases")).unwrap() {
        let path = case.unwrap().path().join("fieldgate.toml");
        for json in [false, true] {
            assert!(!check(&path, json).0.contains("hunter2"), "{}", path.display());
        }
    }
}

/// The examples name certificates and passwords that are on no machine of ours.
fn warns_of_missing_files_only(config: &Config) {
    let others: Vec<_> = config.warnings.iter().filter(|one| one.code.id != "FG-C57").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn the_annotated_example_loads_without_a_warning() {
    let config = load(&root().join("packaging/fieldgate.toml"), Options::default()).unwrap();
    warns_of_missing_files_only(&config);
    assert_eq!(config.sources.len(), 6);
    assert_eq!(config.uplinks.len(), 1);
    assert_eq!(&*config.gateway.name, "gw-4f2a");
    assert_eq!(config.uplinks[0].labels[0], ("site".to_owned(), "hall-3".to_owned()));
}

#[test]
fn the_example_of_the_contract_loads() {
    let config = load_bytes(CONTRACT).unwrap_or_else(|faults| panic!("{faults}"));
    warns_of_missing_files_only(&config);
    assert_eq!(config.sources.len(), 6);
    let client = config.sources.iter().find_map(|source| match source {
        SourceSettings::CoapClient(client) => Some(client),
        _ => None,
    });
    assert_eq!(client.unwrap().mode, fieldgate::sources::coap::settings::Mode::Observe);
    assert_eq!(&*client.unwrap().point, "sensors");
}

#[test]
fn the_annotated_example_names_every_key() {
    let example = std::fs::read_to_string(root().join("packaging/fieldgate.toml")).unwrap();
    for (table, key) in schema::all_keys() {
        let written = regex::Regex::new(&format!(r"(^|[\s.{{\[]){key}(\s*=|[.\]])")).unwrap();
        assert!(written.is_match(&example), "the example does not show {key} ({table})");
    }
}

#[test]
fn what_was_written_arrives_in_the_settings() {
    let config = load(&root().join("packaging/fieldgate.toml"), Options::default()).unwrap();
    let buses: Vec<_> = config
        .sources
        .iter()
        .filter_map(|source| match source {
            SourceSettings::Modbus(bus) => Some(bus),
            _ => None,
        })
        .collect();
    let meter = &buses[0].devices[0];
    assert!(matches!(&buses[0].link, Link::Rtu(line) if line.name == "rs485-1"));
    assert_eq!((meter.registers_max, meter.points.len()), (80, 33));
    let of = |name: &str| meter.points.iter().find(|point| &*point.name == name);
    assert!(of("energy_export").is_none());
    assert_eq!(of("frequency").unwrap().every.as_secs(), 10);
    assert_eq!(of("power").unwrap().every.as_secs(), 1);
    let chiller = &buses[1].devices[0];
    let power = &chiller.points[1];
    assert_eq!((power.table, power.address, &power.form), (Table::Input, 52, &Form::F32));
    assert_eq!(power.order, WordOrder::Cdab);
    assert_eq!(chiller.points[2].order, WordOrder::Abcd);
    assert_eq!((chiller.points[0].scale, chiller.points[0].decimals), (0.1, Some(1)));
    assert_eq!(chiller.points[4].form.width(), 1);
    let scale = config.sources.iter().find_map(|source| match source {
        SourceSettings::Serial(device) => Some(device),
        _ => None,
    });
    assert_eq!(scale.unwrap().framing, Framing::StartEnd(vec![2], vec![3]));
    let bands: Vec<_> = config.deadbands.iter().map(|it| (&*it.point, it.band)).collect();
    assert_eq!(bands, [("power", 0.05), ("weight", 0.01)]);
    assert_eq!(config.store.bytes_max, 2 << 30);
}

#[test]
fn the_smallest_configuration_is_complete() {
    let text = "[device.plc]\nvia = \"modbus tcp 192.0.2.1 id 1\"\npoints.a.at = \"holding 1\"\n\
                [uplink.u]\nurl = \"mqtt://broker.example\"\n";
    let config = load_bytes(text).unwrap();
    assert!(!config.gateway.name.is_empty());
    assert_eq!(config.store.path, Path::new("/var/lib/fieldgate/buffer.db"));
    assert_eq!(config.uplinks[0].broker.port, 1883);
    assert_eq!(config.hash.len(), 8);
    assert!(config.warnings.is_empty());
}

#[test]
fn decimals_follow_from_a_written_scale() {
    let point = "points.a = { at = \"holding 1\", scale = 0.01, offset = -40.5 }";
    let text = SMALL.replace("points.a = { at = \"holding 1\" }", point);
    let config = load_bytes(text).unwrap();
    let SourceSettings::Modbus(bus) = &config.sources[0] else { panic!("no bus") };
    assert_eq!(bus.devices[0].points[0].decimals, Some(2));
}

#[test]
fn units_and_names_are_shared_between_points() {
    let mut text = SMALL.to_owned();
    for n in 0..3 {
        let device = format!("[device.d{n}]\nvia = \"modbus tcp 192.0.2.1 id 1{n}\"\n");
        text += &(device + "points.power = { at = \"holding 1\", unit = \"kW\" }\n");
    }
    let config = load_bytes(text).unwrap();
    let SourceSettings::Modbus(bus) = &config.sources[0] else { panic!("no bus") };
    assert_eq!(bus.devices.len(), 4, "devices behind one address share a bus");
    let (a, b) = (&bus.devices[1].points[0], &bus.devices[3].points[0]);
    assert!(std::sync::Arc::ptr_eq(&a.name, &b.name) && std::sync::Arc::ptr_eq(&a.unit, &b.unit));
}

#[test]
fn what_show_prints_loads_to_the_same_configuration() {
    let path = root().join("packaging/fieldgate.toml");
    let hash = load(&path, Options::default()).unwrap().hash;
    for origin in [false, true] {
        let shown = show(&path, &cli::config::ShowArgs { origin, json: false });
        let again = load_bytes(&shown).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
        assert_eq!(again.hash, hash, "{shown}");
    }
}

#[test]
fn show_names_the_origin_of_every_value() {
    let path = root().join("packaging/fieldgate.toml");
    let shown = show(&path, &cli::config::ShowArgs { origin: true, json: false });
    let line = |start: &str| {
        let found = shown.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in\n{shown}")).to_owned()
    };
    assert!(line("site = \"hall-3\"").contains("packaging/fieldgate.toml:9"));
    assert!(line("points.frequency.every = \"10s\"").contains("packaging/fieldgate.toml:"));
    assert!(line("points.frequency.at").contains("eastron-sdm630.toml:"));
    assert!(line("points.weight.unit").contains("packaging/fieldgate.toml:"));
    assert!(line("registers_max = 80").contains("eastron-sdm630.toml:"));
    assert!(line("timeout = \"1s\"").ends_with("# default"));
    assert!(line("auth.key = { credential = \"client-key\" }").contains("packaging"));
    let json = show(&path, &cli::config::ShowArgs { origin: true, json: true });
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(list.as_array().unwrap().iter().all(|setting| setting["origin"].is_string()));
}

#[test]
fn the_hash_sees_values_and_not_their_order_or_comments() {
    let hash = |text: &str| load_bytes(text).unwrap().hash;
    let turned = "# a comment\n[uplink.u]\nurl = \"mqtt://broker.example\"\n[device.plc]\n\
                  points.a = { at = \"holding 1\" }\nvia = \"modbus tcp 192.0.2.1 id 1\"\n\
                  [gateway]\nname = \"gw\"\n";
    assert_eq!(hash(SMALL), hash(turned));
    assert_ne!(hash(SMALL), hash(&SMALL.replace("holding 1", "holding 2")));
    assert_ne!(hash(SMALL), hash(&SMALL.replace("gw", "gx")));
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let plain = load_bytes(SMALL).unwrap().hash;
    assert_eq!(load_bytes(SMALL.replace('\n', "\r\n")).unwrap().hash, plain);
    assert_eq!(load_bytes(format!("\u{FEFF}{SMALL}")).unwrap().hash, plain);
    let faults = load_bytes("\u{FEFF}\r\n\r\n[gatway]\r\n").unwrap_err();
    assert_eq!((faults.faults[0].line, faults.faults[0].column), (3, 2));
}

#[test]
fn files_that_are_no_text_are_refused_in_words() {
    let noise: Vec<u8> =
        (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    assert_eq!(first_code(load_bytes(noise)), "FG-C01");
    assert_eq!(first_code(load_bytes(vec![0; 4096])), "FG-C01");
    assert_eq!(first_code(load_bytes(b"\xFF\xFEv\0")), "FG-C01");
    let faults = load_bytes(b"[gateway]\nname = \"Hall \xDCbersee\"\n").unwrap_err();
    assert_eq!((faults.faults[0].line, faults.faults[0].column), (2, 14));
    assert!(faults.to_string().contains("UTF-8"), "{faults}");
}

#[test]
fn a_huge_file_is_refused_without_being_read_whole() {
    let faults = load_bytes(vec![b'#'; 5 * 1024 * 1024]).unwrap_err();
    assert_eq!(faults.faults[0].code.id, "FG-C01");
    assert!(faults.to_string().contains("4 MiB"), "{faults}");
}

#[test]
fn faults_are_bounded_whatever_the_file_holds() {
    let unknown: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    let faults = load_bytes(format!("{unknown}{SMALL}")).unwrap_err();
    assert_eq!(faults.count(), 5000);
    assert!(faults.faults.len() <= fieldgate::limits::FAULTS_MAX);
    assert!(faults.to_string().contains("and 4800 more"));
    let garbage = "= [ {\n".repeat(500_000);
    assert_eq!(load_bytes(garbage).unwrap_err().count(), 1);
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    let deep = format!("a = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(first_code(load_bytes(deep)), "FG-C02");
    let keys = vec!["a"; 50_000].join(".");
    assert_eq!(first_code(load_bytes(format!("{keys} = 1\n"))), "FG-C02");
}

#[test]
fn a_file_that_is_not_there_ends_check_with_one_and_run_with_78() {
    let path = Path::new("/nonexistent/fieldgate.toml");
    let (text, exit) = check(path, false);
    assert_eq!(exit, Exit::Problem);
    assert!(text.contains("there is no such file") && !text.contains("os error"), "{text}");
    let fatal = Fatal::from(load(path, Options::default()).unwrap_err());
    assert_eq!(fatal.exit, Exit::Misconfigured);
    let (text, exit) = check(&std::env::temp_dir(), false);
    assert!(exit == Exit::Problem && text.contains("folder"), "{text}");
}

#[test]
fn check_json_is_an_array_of_faults_and_warnings() {
    let case = root().join("tests/cases/warnings_do_not_keep_it_from_being_used/fieldgate.toml");
    let (text, exit) = check(&case, true);
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(exit, Exit::Done);
    assert!(list.len() >= 4 && list.iter().all(|it| it["weight"] == "warning"), "{text}");
    let case = root().join("tests/cases/another_version_is_refused/fieldgate.toml");
    let (text, _) = check(&case, true);
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&list[0]["code"], &list[0]["line"]), (&"FG-C09".into(), &1.into()));
}

#[test]
fn conf_d_is_read_in_order_and_paths_begin_at_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let conf_d = folder.path().join("conf.d");
    std::fs::create_dir(&conf_d).unwrap();
    std::fs::write(folder.path().join("fieldgate.toml"), SMALL).unwrap();
    let device = |n: u8| {
        format!("[device.d{n}]\nvia = \"modbus tcp h{n} id 1\"\npoints.a = {{ at = \"coil 1\" }}\n")
    };
    std::fs::write(conf_d.join("20-b.toml"), device(2)).unwrap();
    std::fs::write(conf_d.join("10-a.toml"), device(1) + "[buffer]\npath = \"b.db\"\n").unwrap();
    std::fs::write(conf_d.join(".hidden.toml"), "garbage").unwrap();
    let config = load(&folder.path().join("fieldgate.toml"), Options::default()).unwrap();
    let names: Vec<_> = config
        .sources
        .iter()
        .map(|source| match source {
            SourceSettings::Modbus(bus) => bus.name.clone(),
            _ => String::new(),
        })
        .collect();
    assert_eq!(names, ["192.0.2.1:502", "h1:502", "h2:502"]);
    assert_eq!(config.store.path, conf_d.join("b.db"));
}

#[test]
fn every_shipped_template_loads_without_a_warning() {
    for entry in std::fs::read_dir(root().join("packaging/templates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = format!(
            "[gateway]\nname = \"gw\"\n[device.d]\nvia = \"modbus tcp 192.0.2.1 id 1\"\n\
             template = \"{name}\"\n[uplink.u]\nurl = \"mqtt://broker.example\"\n"
        );
        let config = load_bytes(text).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        let content = std::fs::read_to_string(&path).unwrap();
        assert!(content.starts_with('#') && content.contains("# Source:"), "{name}");
    }
}

#[test]
fn the_schema_knows_every_key_and_accepts_the_example() {
    let mut out = Vec::new();
    assert_eq!(cli::config::schema(&mut out), Exit::Done);
    let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let example = std::fs::read_to_string(root().join("packaging/fieldgate.toml")).unwrap();
    let example: toml::Table = example.parse().unwrap();
    let example = serde_json::to_value(example).unwrap();
    accept(&schema, &example, "").unwrap();
    let mut bad = example.clone();
    bad["gateway"]["nmae"] = "x".into();
    assert!(accept(&schema, &bad, "").is_err());
    bad = example.clone();
    bad["device"]["chiller"]["gap"] = "10".into();
    assert!(accept(&schema, &bad, "").is_err());
    bad = example;
    bad["rule"] = serde_json::json!({ "x": { "keep": "yes" } });
    assert!(accept(&schema, &bad, "").is_err());
}

/// The part of JSON Schema that ours uses.
fn accept(schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Result<(), String> {
    let no = |why: &str| Err(format!("{at}: {why}"));
    if schema.get("not").is_some() {
        return no("never");
    }
    for any in ["anyOf", "oneOf"] {
        if let Some(list) = schema.get(any).and_then(|it| it.as_array()) {
            let tried: Vec<_> = list.iter().map(|one| accept(one, value, at)).collect();
            return if tried.iter().any(Result::is_ok) {
                Ok(())
            } else {
                no(&format!("{tried:?}"))
            };
        }
    }
    if schema.get("const").is_some_and(|it| it != value) {
        return no("const");
    }
    if schema.get("enum").is_some_and(|it| !it.as_array().unwrap().contains(value)) {
        return no("enum");
    }
    match schema.get("type").and_then(|it| it.as_str()) {
        Some("string") => {
            let Some(text) = value.as_str() else { return no("no string") };
            let pattern = schema.get("pattern").and_then(|it| it.as_str()).unwrap_or("");
            if !regex::Regex::new(pattern).unwrap().is_match(text) { no("pattern") } else { Ok(()) }
        }
        Some("integer") if !value.is_i64() => no("no integer"),
        Some("boolean") if !value.is_boolean() => no("neither true nor false"),
        Some("number") if !value.is_number() => no("no number"),
        Some("boolean") if !value.is_boolean() => no("no boolean"),
        Some("array") if !value.is_array() => no("no array"),
        Some("object") => {
            let Some(object) = value.as_object() else { return no("no object") };
            for (key, value) in object {
                let inner = schema["properties"].get(key).or(schema.get("additionalProperties"));
                match inner {
                    Some(serde_json::Value::Bool(false)) => return no(&format!("unknown {key}")),
                    Some(inner) => accept(inner, value, &format!("{at}.{key}"))?,
                    None => {}
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
