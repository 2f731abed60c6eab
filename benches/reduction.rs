//! What the shipped rules save on recorded readings: bytes of a JSON message a reading, against batch
//! v1 with zlib behind the default dead-band and windows of 10 s (mean, min, max). What a receiver
//! decodes bounds every raw value: it lies within the band of what its window, or the one sent before
//! it, spans from min to max. `rules/build` and `benches/reduction-data` first.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use fieldgate::batch::{Assembly, Coding, Envelope, RowValue, decode, text};
use fieldgate::limits;
use fieldgate::reading::{Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value};
use fieldgate::rules::wit::{self, Param, Reading};
use fieldgate::rules::{Code, Engine};

#[path = "../tests/it/guest.rs"]
mod guest;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/data/reduction.csv");
/// The default of `deadband`: what a value may be off by, in the unit of its point.
const BAND: f64 = 0.1;
/// The default of `aggregate`.
const WINDOW_MS: i64 = 10_000;

/// Values by device and point, in the order of time.
type Table = BTreeMap<(String, String), Vec<(i64, f64)>>;

fn main() {
    for set in ["pulse", "machine", "stations"] {
        reduce(set);
    }
}

fn reduce(set: &str) {
    let (series, raw) = recorded(set);
    let json: usize = raw.iter().map(|one| message(&series, one).len()).sum();
    let (count, points) = (raw.len(), series.len());
    println!("{set}: {count} readings of {points} points; as JSON, one a message: {json} bytes");

    let quiet = through("deadband", Vec::new(), &series, &raw);
    let emit = ["mean", "min", "max"].map(str::to_owned).to_vec();
    let with = vec![("emit".to_owned(), Param::Texts(emit))];
    let windows = through("aggregate", with, &quiet.0, &quiet.1);
    println!("  after deadband {} are left, after windows {}", quiet.1.len(), windows.1.len());
    for (every, ms) in [("10 s", 10_000), ("10 min", 600_000), ("1 h", 3_600_000)] {
        let plain: usize = batches(&series, &raw, ms).iter().map(Vec::len).sum();
        let sealed = batches(&windows.0, &windows.1, ms);
        let ruled: usize = sealed.iter().map(Vec::len).sum();
        let (plain_less, ruled_less) = (less(json, plain), less(json, ruled));
        println!("  a batch each {every}: {plain} bytes without rules ({plain_less} less)");
        println!("                     {ruled} bytes with them ({ruled_less} less)");
        let worst = worst(&series, &raw, &received(&sealed));
        assert!(worst <= BAND * (1.0 + 1e-9), "a raw value is {worst} off");
    }
}

fn less(before: usize, after: usize) -> String {
    let [before, after] = [before, after].map(|bytes| f64::from(u32::try_from(bytes).unwrap()));
    format!("{:.1} %", 100.0 * (1.0 - after / before))
}

/// The recording: its series, and the readings in the order of time.
fn recorded(set: &str) -> (Vec<(String, String)>, Vec<Reading>) {
    let text = std::fs::read_to_string(DATA)
        .unwrap_or_else(|error| panic!("{DATA}: {error}; benches/reduction-data fetches it"));
    let mut series: Vec<(String, String)> = Vec::new();
    let lines = text.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let readings = lines.filter(|cells| cells[0] == set).map(|cells| {
        let name = (cells[2].to_owned(), cells[3].to_owned());
        let place = series.iter().position(|one| *one == name).unwrap_or_else(|| {
            series.push(name);
            series.len() - 1
        });
        let at = cells[1].parse().unwrap();
        guest::reading(u32::try_from(place).unwrap(), at, cells[4].parse().unwrap())
    });
    let readings = readings.collect();
    (series, readings)
}

/// A message as gateways commonly send it.
fn message(series: &[(String, String)], one: &Reading) -> String {
    let (device, point) = &series[one.series as usize];
    let wit::Value::Number(number) = one.value else { panic!("only numbers are recorded") };
    let time = text::rfc3339(UnixMillis(one.at / 1000));
    format!(r#"{{"device":"{device}","point":"{point}","time":"{time}","value":{number}}}"#)
}

/// Runs a shipped rule over readings, a hundred a batch.
fn through(
    rule: &str,
    with: Vec<(String, Param)>,
    series: &[(String, String)],
    readings: &[Reading],
) -> (Vec<(String, String)>, Vec<Reading>) {
    let engine = Engine::new(Code::Auto).unwrap();
    let names: Vec<(&str, &str)> =
        series.iter().map(|(device, point)| (device.as_str(), point.as_str())).collect();
    let mut guest = guest::Guest::open(&engine, rule, with, &names).unwrap();
    for batch in readings.chunks(100) {
        guest.process(batch).unwrap();
    }
    guest.settle(i64::MAX / 2).unwrap();

    let mut named: Vec<(String, String)> = Vec::new();
    let emitted = guest.emitted.iter().map(|one| {
        let (_, device, point) = guest.name(one);
        let name = (device, point);
        let place = named.iter().position(|known| *known == name).unwrap_or_else(|| {
            named.push(name);
            named.len() - 1
        });
        Reading { series: u32::try_from(place).unwrap(), ..one.clone() }
    });
    let emitted = emitted.collect();
    (named, emitted)
}

/// Seals readings into batches of this age.
fn batches(series: &[(String, String)], readings: &[Reading], age_ms: i64) -> Vec<Vec<u8>> {
    let points = Points::default();
    let ids: Vec<PointId> = series
        .iter()
        .map(|(device, point)| {
            let (device, point) = (device.as_str().into(), point.as_str().into());
            points.intern(PointInfo { device, point, unit: "".into(), src: None }).unwrap()
        })
        .collect();
    let mut sealed = Vec::new();
    let mut assembly = Assembly::default();
    let mut first = i64::MIN;
    for group in readings.chunk_by(|a, b| a.at == b.at) {
        let at = group[0].at / 1000;
        if !assembly.is_empty() && at - first >= age_ms {
            sealed.extend(seal(std::mem::take(&mut assembly), &points));
        }
        if assembly.is_empty() {
            first = at;
        }
        let samples = group.iter().map(|one| {
            let wit::Value::Number(number) = one.value else { panic!("only numbers come out") };
            Sample::good(Value::from_f64(number).unwrap())
        });
        assembly.push(&Group {
            stream: Stream::Data,
            at: UnixMillis(at),
            points: group.iter().map(|one| ids[one.series as usize]).collect::<Arc<[PointId]>>(),
            samples: samples.collect(),
        });
    }
    sealed.extend(seal(assembly, &points));
    sealed
}

fn seal(assembly: Assembly, points: &Points) -> Vec<Vec<u8>> {
    let bodies = assembly.into_bodies(points, Coding::Zlib, limits::BATCH_BYTES_MAX);
    let envelope = Envelope {
        gateway: "gw-4f2a",
        epoch: 1_789_990_000,
        stream: Stream::Data,
        sequence: 4711,
        lowest_held: 4690,
        dropped: 0,
        clock: 1,
        config_hash: "9f3a11c2",
    };
    bodies.iter().map(|body| body.seal(&envelope)).collect()
}

/// What a receiver has after all batches.
fn received(sealed: &[Vec<u8>]) -> Table {
    let mut table = Table::new();
    for batch in sealed {
        let batch = decode(batch).unwrap();
        batch.rows(|row| {
            let number = match row.value {
                Some(RowValue::Decimal(decimal)) => decimal.to_f64(),
                Some(RowValue::Float(number)) => number,
                other => panic!("{other:?}"),
            };
            let (device, point, _) = batch.name(row.series);
            let name = (device.to_owned(), point.to_owned());
            table.entry(name).or_default().push((row.at.0, number));
        });
    }
    // Frames of a batch are in order each by itself.
    table.values_mut().for_each(|values| values.sort_by_key(|(at, _)| *at));
    table
}

/// The largest distance of a raw value from what its window and the one sent before it span. A value
/// that was not sent is within the band of the one sent last, which is in one of the two.
fn worst(series: &[(String, String)], raw: &[Reading], received: &Table) -> f64 {
    let distances = raw.iter().map(|one| {
        let wit::Value::Number(number) = one.value else { panic!("only numbers are recorded") };
        let (device, point) = &series[one.series as usize];
        let of = |figure: &str| &received[&(device.clone(), format!("{point}.{figure}"))];
        let (low, high) = (of("min"), of("max"));
        let end = (one.at / 1000).div_euclid(WINDOW_MS) * WINDOW_MS + WINDOW_MS;
        let place = low.partition_point(|(at, _)| *at <= end) - 1;
        let before = if low[place].0 == end { place.saturating_sub(1) } else { place };
        let (low, high) = (low[place].1.min(low[before].1), high[place].1.max(high[before].1));
        (low - number).max(number - high)
    });
    distances.fold(0.0, f64::max)
}
