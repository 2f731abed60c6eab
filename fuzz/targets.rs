//! What is fuzzed, a function a target. libFuzzer calls them through `fuzz_targets/`, and
//! `tests/it/fuzz.rs` calls them with every file of `corpus/`, as ordinary tests.
//!
//! A target panics when something is wrong; refusing an input is right. Only public doors of the
//! program are used; where a room keeps its decoder to itself, it has a hidden one, `door`.

use std::io::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use fieldgate::batch::{
    Assembly, Coding, Decoded, Envelope, RowValue, chunk, decode, first_value, redate, text,
};
use fieldgate::limits;
use fieldgate::mqtt::{Broker, Session, Version};
use fieldgate::reading::{
    Group, NoData, PointId, PointInfo, Points, Quality, Sample, Stream, UnixMillis, Value,
};
use fieldgate::receive::check;
use fieldgate::rules::Manifest;
use fieldgate::rules::signature::{Claim, Key, Keys};
use fieldgate::rules::want::{self, From as Place};
use fieldgate::rules::{
    Code, Engine, Failure, Instance, Limits, Program, Rule as _, Settings, wit,
};
use fieldgate::sources::coap::{self, senml};
use fieldgate::sources::line::{LineSettings, SerialLine};
use fieldgate::sources::modbus;
use fieldgate::sources::serial::framing::{Cut, Cutter};
use fieldgate::sources::serial::parse::Parser;
use fieldgate::sources::serial::settings::{self as serial, Form, Framing, Parse};
use fieldgate::sources::zigbee2mqtt::network::Network;
use fieldgate::sources::zigbee2mqtt::settings::Bridge;
use fieldgate::state::Kept;
use fieldgate::store;
use fieldgate::uplink;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

#[path = "../src/rules/tests/kit.rs"]
#[allow(dead_code)]
pub mod kit;
#[path = "../src/rules/tests/wild.rs"]
mod wild;

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// One target: its name, which is its corpus folder's too, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const ALL: [Target; 22] = [
    ("batch_body", batch_body),
    ("batch_decode", batch_decode),
    ("batch_redate", batch_redate),
    ("batch_round_trip", batch_round_trip),
    ("chunk_decode", chunk_decode),
    ("coap_body", coap_body),
    ("coap_datagram", coap_datagram),
    ("config_file", config_file),
    ("modbus_frame", modbus_frame),
    ("mqtt_session", mqtt_session),
    ("receive_message", receive_message),
    ("rule_host", rule_host),
    ("rule_manifest", rule_manifest),
    ("rule_signature", rule_signature),
    ("rule_want", rule_want),
    ("senml_cbor", senml_cbor),
    ("senml_json", senml_json),
    ("serial_frames", serial_frames),
    ("serial_parse", serial_parse),
    ("store_wreck", store_wreck),
    ("uplink_ack", uplink_ack),
    ("zigbee2mqtt", zigbee2mqtt),
];

/// A payload from anywhere. What is taken must be readable to the last row, and hold what it says.
pub fn batch_decode(payload: &[u8]) {
    let _ = first_value(payload);
    let Ok(batch) = decode(payload) else { return };
    let mut rows = 0_u64;
    batch.rows(|row| {
        rows += 1;
        let _ = batch.name(row.series);
        assert!(row.at.0.unsigned_abs() < 1 << 53, "a time that no decoder can hold");
        if let Some(RowValue::Float(number)) = row.value {
            assert!(number.is_finite());
        }
        assert!(row.q < 32 || row.value.is_none(), "a value behind a mark that says there is none");
    });
    assert_eq!(rows, batch.readings());
    if batch.unknown_frames == 0 {
        assert_eq!(rows + batch.unknown_readings, batch.header.readings);
    }
    if rows < 5000 {
        text::write_batch(&batch, false, &mut std::io::sink()).unwrap();
        text::write_batch(&batch, true, &mut std::io::sink()).unwrap();
    }
}

/// A reading in words, for comparing.
type Flat = (String, i64, String, u8);

fn flat(batch: &Decoded) -> Vec<Flat> {
    let mut all = Vec::new();
    batch.rows(|row| {
        let (device, point, unit) = batch.name(row.series);
        // A reading of an unknown quality keeps its value and is uncertain from then on; one whose
        // value was no value is malformed.
        let sample = sample(row.value, row.q);
        let value = sample.value.as_ref().map_or_else(|why| format!("{why:?}"), exact);
        all.push((format!("{device}/{point}/{unit}"), row.at.0, value, sample.mark()));
    });
    all.sort();
    all
}

fn exact(value: &Value) -> String {
    match value {
        Value::Decimal(decimal) => format!("{:?}", decimal.to_f64()),
        Value::Float(number) => format!("{number:?}"),
        other => format!("{other:?}"),
    }
}

fn sample(value: Option<RowValue<'_>>, q: u8) -> Sample {
    match (NoData::of_mark(q), value) {
        (Some(why), _) => Sample::none(why),
        (None, None) => Sample::none(NoData::Malformed),
        (None, Some(value)) => Sample {
            value: Ok(value.into()),
            quality: Quality::of_mark(q).unwrap_or(Quality::Uncertain),
        },
    }
}

/// What was decoded is encoded again, and must come out the same: coded in every way, and cut in
/// pieces.
pub fn batch_round_trip(payload: &[u8]) {
    let Ok(batch) = decode(payload) else { return };
    if batch.readings() > 3000 || batch.readings() == 0 {
        return;
    }
    let points = Points::default();
    let mut groups = Vec::new();
    batch.rows(|row| {
        let (device, point, unit) = batch.name(row.series);
        let id = points.intern(PointInfo::new(device, point, unit)).unwrap();
        groups.push(Group {
            stream: Stream::Data,
            at: row.at,
            points: Arc::from([id]),
            samples: vec![sample(row.value, row.q)],
        });
    });
    let envelope = Envelope {
        gateway: "gw",
        epoch: 1,
        stream: Stream::Data,
        sequence: 1,
        lowest_held: 1,
        dropped: 0,
        clock: 1,
        config_hash: "",
    };
    for (coding, bytes_max) in [(Coding::Plain, 1000), (Coding::Plain, limits::BATCH_BYTES_MAX)] {
        let mut assembly = Assembly::default();
        groups.iter().for_each(|group| assembly.push(group));
        let mut found = Vec::new();
        for body in assembly.into_bodies(&points, coding, bytes_max) {
            let again = decode(&body.seal(&envelope)).expect("our own batch is refused");
            found.extend(flat(&again));
        }
        found.sort();
        assert_eq!(found, flat(&batch));
    }
}

/// A body behind two bytes with its number of readings, in an envelope of ours. However it is coded, it
/// holds the same readings or is refused: what inflates is trusted no more than what stands there plain.
pub fn batch_body(data: &[u8]) {
    let Some((count, body)) = data.split_first_chunk::<2>() else { return };
    let read = |coding: u8, coded: &[u8]| {
        let payload = enveloped(u16::from_be_bytes(*count), coding, coded);
        let batch = decode(&payload).ok().filter(|batch| batch.readings() < 3000)?;
        Some((flat(&batch), batch.unknown_frames, batch.unknown_readings))
    };
    let plain = read(0, body);
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflated.write_all(body).unwrap();
    assert_eq!(plain, read(1, &deflated.finish().unwrap()));
    assert_eq!(plain, read(2, &zstd::bulk::compress(body, 1).unwrap()));
}

/// Writes an envelope around a body (`docs/uplink/batch-v1.md`), without any of the program's own code.
fn enveloped(count: u16, coding: u8, coded: &[u8]) -> Vec<u8> {
    let mut payload = b"\x87\xa1v\x01\xa2gw\xa2gw\xa2ep\x01\xa3seq\x01\xa2t0\x00".to_vec();
    payload.extend_from_slice(b"\xa1n\xcd");
    payload.extend_from_slice(&count.to_be_bytes());
    payload.extend_from_slice(b"\xa1b");
    if coding == 0 {
        payload.extend_from_slice(coded);
        return payload;
    }
    payload[0] += 1;
    payload.push(0xc6);
    payload.extend_from_slice(&u32::try_from(coded.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(coded);
    payload.extend_from_slice(&[0xa1, b'z', coding]);
    payload
}

/// A batch that was sealed before its board knew the time. It is refused, or its times move and nothing
/// else does.
pub fn batch_redate(payload: &[u8]) {
    const BY: i64 = 86_400_000;
    let Some(moved) = redate(payload, BY) else { return };
    let (Ok(before), Ok(after)) = (decode(payload), decode(&moved)) else { return };
    let (old, new) = (&before.header, &after.header);
    assert_eq!((new.t0, new.sequence, new.epoch), (old.t0 + BY, old.sequence, old.epoch));
    if before.readings() < 3000 {
        let later = |(name, at, value, q): Flat| (name, at + BY, value, q);
        let expected: Vec<Flat> = flat(&before).into_iter().map(later).collect();
        assert_eq!(flat(&after), expected);
    }
}

/// A chunk of a damaged store.
pub fn chunk_decode(bytes: &[u8]) {
    let number = |n: i64| u32::try_from(n).ok().map(PointId);
    let Ok(groups) = chunk::decode(bytes, Stream::Data, number) else { return };
    let mut assembly = Assembly::default();
    if groups.iter().map(|group| group.points.len()).sum::<usize>() < 5000 {
        groups.iter().for_each(|group| assembly.push(group));
        let _ = chunk::encode(&assembly, |point| i64::from(point.0));
    }
}

/// A body posted to the CoAP listener: the first byte chooses its format and place.
pub fn coap_body(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let formats = [None, Some(0), Some(50), Some(110), Some(112), Some(60)];
    let format = formats[usize::from(choice >> 1) % formats.len()];
    let _ = coap::door::posted(format, choice & 1 == 1, body, NOW);
}

/// Datagrams to the CoAP listener, each behind two bytes with its length.
pub fn coap_datagram(data: &[u8]) {
    let mut rest = data;
    let mut datagrams = Vec::new();
    while let Some((head, tail)) = rest.split_at_checked(2) {
        let len = usize::from(u16::from_be_bytes([head[0], head[1]])).min(tail.len());
        datagrams.push(&tail[..len]);
        rest = &tail[len..];
    }
    if datagrams.len() <= 64 {
        let _ = coap::door::answered(&datagrams, NOW);
    }
}

/// A configuration file.
pub fn config_file(text: &[u8]) {
    thread_local! {
        static FOLDER: std::path::PathBuf = temporary("fuzz");
    }
    FOLDER.with(|folder| {
        let path = folder.join("fieldgate.toml");
        std::fs::write(&path, text).unwrap();
        let options = fieldgate::config::Options { keep_settings: true };
        if let Err(faults) = fieldgate::config::load(&path, options) {
            assert!(!faults.to_string().is_empty(), "refused without a word");
        }
        let _ = std::fs::remove_file(&path);
    });
}

/// A request of eight bytes, and what came in answer to it.
pub fn modbus_frame(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (request, answer) = rest.split_at(rest.len().min(12));
    let _ = modbus::door::judge(choice & 1 == 1, request, answer);
}

/// What a broker may send. The bytes come in pieces of the first byte's length.
pub fn mqtt_session(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut broker = Broker::new("localhost", 1883, "fuzz");
        if *step & 0x80 != 0 {
            broker.version = Version::V5;
        }
        let talk = async {
            let mut session = Session::open(Box::new(near), &broker, true).await.ok()?;
            session.publish("a", Bytes::from_static(b"b"), false).await.ok()?;
            session.subscribe(&["a/#".to_owned()]).await.ok()?;
            while session.next().await.is_ok() {}
            Some(())
        };
        let feed = async {
            for piece in bytes.chunks(usize::from(*step).max(1)) {
                let _ = far.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        tokio::join!(talk, feed);
    });
}

/// A SenML pack in CBOR.
pub fn senml_cbor(pack: &[u8]) {
    if let Err(fault) = senml::from_cbor(pack, NOW) {
        assert!(!fault.0.is_empty());
    }
}

/// A SenML pack in JSON.
pub fn senml_json(pack: &[u8]) {
    if let Err(fault) = senml::from_json(pack, NOW) {
        assert!(!fault.0.is_empty());
    }
}

/// Bytes of a serial line. The first byte chooses the framing; how the rest is cut on its way must
/// make no difference.
pub fn serial_frames(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let framing = match choice % 7 {
        0 => Framing::End(b"\r\n".to_vec()),
        1 => Framing::Length(8),
        2 => Framing::StartEnd(b"\x02".to_vec(), b"\x03".to_vec()),
        3 => Framing::StartEnd(b"~".to_vec(), b"~".to_vec()),
        4 => Framing::Gap(Duration::from_millis(5)),
        5 => Framing::Cobs,
        _ => Framing::Slip,
    };
    let cut = |step: usize| {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut found = Vec::new();
        let mut take = |cut: Cut<'_>| match cut {
            Cut::Frame(frame) => {
                assert!(!frame.is_empty() && frame.len() <= limits::SERIAL_FRAME_BYTES_MAX);
                found.push(Some(frame.to_vec()));
            }
            Cut::Overlong | Cut::Broken => found.push(None),
        };
        let mut cutter = Cutter::new(framing.clone(), LineSettings::DEFAULT, start);
        for piece in bytes.chunks(step.max(1)) {
            cutter.push(piece, later, &mut take);
        }
        cutter.pause(later + Duration::from_secs(1), &mut take);
        found
    };
    assert_eq!(cut(bytes.len()), cut(usize::from(choice / 7) + 1));
}

/// Frames of a serial device: a scale's line, and JSON.
pub fn serial_parse(data: &[u8]) {
    let Some((choice, frame)) = data.split_first() else { return };
    let names = ["status", "weight", "net"];
    let points =
        names.iter().zip([Form::Any, Form::Number, Form::Bool]).map(|(name, form)| serial::Point {
            name: (*name).into(),
            key: if choice & 1 == 0 { (*name).to_owned() } else { format!("a.{name}") },
            form,
            scale: 0.1,
            offset: 1.0,
            decimals: Some(choice % 10),
            unit: "kg".into(),
        });
    let parse = if choice & 1 == 0 {
        let pattern = r"^(?<status>\w*),?\s*(?<weight>[-+]?[\d.eE]+)?(?<net>on|off|1|0)?";
        Parse::Match(regex::Regex::new(pattern).unwrap())
    } else {
        Parse::Json
    };
    let device = serial::Device {
        name: "scale".into(),
        line: SerialLine {
            name: "s".into(),
            path: "/dev/null".into(),
            line: LineSettings::DEFAULT,
        },
        framing: Framing::Cobs,
        checksum: None,
        parse,
        points: points.collect(),
        ask: None,
        silent_after: None,
    };
    let points = Points::default();
    let mut parser = Parser::new(&device, &points).unwrap();
    if let Ok((ids, samples)) = parser.frame(frame) {
        assert_eq!(ids.len(), samples.len());
    }
}

/// Messages of a bridge: lines, each a topic, a blank and a payload. The list of devices of the
/// first file of the corpus is known already.
pub fn zigbee2mqtt(data: &[u8]) {
    const LIST: &str = r#"[{"ieee_address":"0x1","friendly_name":"d","type":"EndDevice","definition":
        {"exposes":[{"type":"numeric","name":"t","property":"t","unit":"°C","access":1},
        {"type":"binary","property":"b","access":1,"value_on":"ON","value_off":"OFF"},
        {"type":"composite","property":"c","features":[{"type":"numeric","property":"x","access":1}]}
        ]}}]"#;
    let bridge = Bridge {
        name: "zigbee".into(),
        broker: Broker::new("localhost", 1883, "fuzz"),
        base: "z".into(),
        rename: std::collections::BTreeMap::new(),
        points: Vec::new(),
    };
    let points = Points::default();
    let mut network = Network::new(bridge);
    network.begin();
    network.on_message("z/bridge/devices", LIST.as_bytes(), true, NOW, &points);
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let blank = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (topic, payload) = line.split_at(blank);
        let Ok(topic) = std::str::from_utf8(topic) else { continue };
        let payload = payload.get(1..).unwrap_or_default();
        network.on_message(topic, payload, line.len() % 2 == 0, NOW, &points);
        network.away(NOW, &points);
        drop(network.said());
    }
}

/// What a broker may hand to the receiver: a line with its topic, then its payload. What is believed is
/// from where it says that it is, and fits what sinks can hold.
pub fn receive_message(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(name) = std::str::from_utf8(&data[..end]) else { return };
    let payload = data.get(end + 1..).unwrap_or_default();
    let topic = check::topic(name);
    if let Some(topic) = topic.filter(|topic| topic.leaf == "status") {
        let Some(status) = check::status(name, payload) else { return };
        assert_eq!(status.gw, topic.gw);
        assert!(status.gw.len() <= limits::NAME_BYTES_MAX && !status.gw.contains('\0'));
        let numbers = [status.ep, status.seq, status.lo, status.backlog_s];
        assert!(numbers.into_iter().flatten().all(|number| i64::try_from(number).is_ok()));
        assert!(status.ver.is_none_or(|ver| ver.len() < 100 && !ver.contains('\0')));
        return;
    }
    match check::batch(name, &Bytes::copy_from_slice(payload), NOW) {
        Ok(delivery) => {
            let (header, topic) = (&delivery.batch.header, topic.unwrap());
            assert_eq!((header.gateway.as_str(), header.stream.as_str()), (topic.gw, topic.leaf));
            let numbers = [header.epoch, header.sequence, header.dropped, header.lowest_held];
            assert!(numbers.into_iter().all(|number| i64::try_from(number).is_ok()));
            for series in 0..delivery.batch.series_count() {
                let (device, point, unit) = delivery.batch.name(series);
                assert!([device, point, unit].iter().all(|name| !name.contains('\0')));
            }
        }
        Err(refusal) => assert!(![refusal.gw.as_str(), refusal.reason, &refusal.why].contains(&"")),
    }
}

/// A damaged store: a byte with its number of pages, these, and its log behind them. What is salvaged
/// is a batch of the key under which it was found.
pub fn store_wreck(data: &[u8]) {
    thread_local! {
        static FOLDER: std::path::PathBuf = temporary("wreck");
    }
    let Some((pages, rest)) = data.split_first() else { return };
    let (pages, log) = rest.split_at((usize::from(*pages) * 4096).min(rest.len()));
    FOLDER.with(|folder| {
        let path = folder.join("buffer.db");
        std::fs::write(&path, pages).unwrap();
        std::fs::write(folder.join("buffer.db-wal"), log).unwrap();
        for payload in store::door::salvage(&path) {
            assert!(fieldgate::batch::header(&payload).is_ok());
        }
    });
}

/// Makes a folder for one thread of one process.
fn temporary(what: &str) -> std::path::PathBuf {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let folder = std::env::temp_dir().join(format!("fieldgate-{what}-{process}-{thread:?}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What stands on a gateway's `ack` topic. What is taken can be true, and is taken twice alike.
pub fn uplink_ack(payload: &[u8]) {
    match uplink::door::receipt(payload, 7) {
        Ok(taken) => assert_eq!(uplink::door::receipt(payload, 7), Ok(taken)),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// A signature's text, which no key has made: refused in words, whatever it is. The lines in it are
/// taken for trusted comments and keys, too; a comment that is understood is written as it was read.
pub fn rule_signature(text: &[u8]) {
    let key = "RWSLDllAI/905ekwzNB0cncPCPqo6lnMj8quvMFGZKPctnqUZdK2+OZI";
    let keys = Keys::new(vec![Key::parse(key).unwrap()]);
    let text = String::from_utf8_lossy(text);
    let refused = keys.verify("it", b"a file", Some(&text)).unwrap_err().to_string();
    assert!(refused.starts_with("FG-W6"), "{refused}");
    for line in text.lines() {
        let _ = Key::parse(line);
        let line = line.strip_prefix("trusted comment: ").unwrap_or(line);
        if let Ok(claim) = Claim::parse(line) {
            assert_eq!(Claim::parse(&claim.to_string()).as_ref(), Ok(&claim), "{line}");
        }
    }
}

/// A desired state. What is understood is bounded, and written as it was read.
pub fn rule_want(payload: &[u8]) {
    let document = want::split(payload).map_or(payload, |(_, document)| document);
    let Ok(wishes) = want::parse(document) else { return };
    assert!(wishes.len() <= limits::RULES_MAX);
    for wish in wishes {
        let Some(sent) = wish.file else { continue };
        assert!(sent.size <= limits::RULE_FILE_BYTES_MAX);
        if let Place::Chunks(bytes) = sent.from {
            assert!(sent.size.div_ceil(bytes) <= sent.size / limits::CHUNK_BYTES_MIN + 1);
        }
        let again = want::parse(want::write(&wish.post, &sent).as_bytes()).unwrap();
        assert_eq!(again[0].file.as_ref(), Some(&sent));
    }
}

/// A rule that nobody would write, made of the input by wasm-smith, with the contract's imports and
/// exports. Whatever it does, it is stopped or done, and a good rule beside it is right.
pub fn rule_host(seed: &[u8]) {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(Code::Auto).unwrap());
    static GOOD: LazyLock<Arc<Program>> =
        LazyLock::new(|| Program::load(&ENGINE, &kit::filter(20.0).build()).unwrap());
    let Some(file) = wild::wild(seed) else { return };
    match Program::load(&ENGINE, &file) {
        Ok(program) => run_wild(&program),
        Err(refused) => assert!(!refused.message.is_empty()),
    }
    let mut good = open_rule(&GOOD).unwrap();
    let outcome = good.process(&rule_context(1), &[rule_reading(19.0), rule_reading(21.0)]);
    assert_eq!(outcome.unwrap().emitted, [rule_reading(21.0)]);
}

fn run_wild(program: &Arc<Program>) {
    let Ok(mut rule) = open_rule(program) else { return };
    let fired = [wit::Fired { name: "timer".to_owned(), at: 1 }];
    for batch in 1..4 {
        let before = rule.kept().clone();
        let context = rule_context(batch);
        let worked = match batch {
            2 => rule.on_timer(&context, &fired),
            _ => rule.process(&context, &[rule_reading(1.0), rule_reading(f64::NAN)]),
        };
        match worked {
            Ok(outcome) => {
                assert!(outcome.emitted.len() <= 2 * 4 + 64);
                assert_eq!(rule.kept().place.batch, batch);
            }
            Err(failure) => {
                assert!(!failure.code.is_empty() && !failure.message.is_empty());
                assert_eq!(rule.kept().state, before.state);
                assert_eq!(rule.kept().timers, before.timers);
            }
        }
    }
}

fn open_rule(program: &Arc<Program>) -> Result<Instance, Failure> {
    let limits = Limits { fuel_call: 20_000, fuel_reading: 10_000, ..Limits::default() };
    let settings = Settings { name: Arc::from("wild"), params: Vec::new(), limits };
    let series = wit::Series {
        id: 0,
        device: "device".to_owned(),
        point: "point".to_owned(),
        unit: None,
        labels: Vec::new(),
    };
    Instance::open(program, &settings, &[series], Kept::default())
}

fn rule_context(batch: u64) -> wit::Context {
    wit::Context { batch, now: 0, watermark: 0, clock_synced: true, fresh: false }
}

fn rule_reading(number: f64) -> wit::Reading {
    let (quality, value) = (wit::Quality::empty(), wit::Value::Number(number));
    wit::Reading { series: 0, at: 1, quality, value }
}

/// A rule's file, or the manifest alone. What is taken reads back the same, and its schema stands an
/// operator's table.
pub fn rule_manifest(bytes: &[u8]) {
    let found = match bytes {
        [b'\0', b'a', b's', b'm', ..] => Manifest::read(bytes).ok().flatten(),
        json => Manifest::parse(json).ok(),
    };
    let Some(manifest) = found else { return };
    let again = Manifest::parse(manifest.to_json().to_string().as_bytes()).unwrap();
    assert_eq!(again, manifest);
    let with = toml::de::DeTable::parse("band = 0.5\nheartbeat = \"10s\"\nodd = [1]").unwrap();
    for params in [manifest.params(with.get_ref()), manifest.params(&toml::de::DeTable::new())] {
        let Ok(params) = params else { continue };
        for output in &manifest.outputs {
            let names = output.names("device", "point", &params);
            assert!(names.len() <= limits::PARAM_ENTRIES_MAX);
        }
    }
}
