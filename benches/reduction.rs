//! What the shipped rules save on recorded readings: bytes of a JSON message a reading, against batch
//! v1 with zlib behind the default dead-band and 10 s windows; and that every raw value lies within
//! the band of what a receiver decodes. `rules/build` and `benches/reduction-data` first.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use fieldgate::batch::{Assembly, Coding, Envelope, RowValue, decode, text};
use fieldgate::limits;
use fieldgate::reading::{Group, PointId, PointInfo, Points, Sample, Stream, UnixMillis, Value};
use fieldgate::rules::wit::{self, Reading};
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
    let (series, raw) = recorded();
    let json: usize = raw.iter().map(|one| message(&series, one).len()).sum();
    println!(
        "{} readings of {} points; as JSON, one a message: {json} bytes",
        raw.len(),
        series.len()
    );

    let quiet = through("deadband", &series, &raw);
    let windows = through("aggregate", &quiet.0, &quiet.1);
    println!("sent after deadband: {}; after 10 s windows: {}", quiet.1.len(), windows.1.len());
    for (every, ms) in [("10 s", 10_000), ("10 min", 600_000), ("1 h", 3_600_000)] {
        let plain: usize = batches(&series, &raw, ms).iter().map(Vec::len).sum();
        let sealed = batches(&windows.0, &windows.1, ms);
        let ruled: usize = sealed.iter().map(Vec::len).sum();
        println!(
            "a batch each {every}: batch v1 alone {plain} bytes ({} less), with the rules {ruled} ({} less)",
            less(json, plain),
            less(json, ruled)
        );
        let worst = worst(&series, &raw, &received(&sealed));
        println!("  furthest that a raw value is from what was received: {worst:.6}");
        assert!(worst <= BAND * (1.0 + 1e-9), "a raw value is {worst} off");
    }
}

fn less(before: usize, after: usize) -> String {
    let [before, after] = [before, after].map(|bytes| f64::from(u32::try_from(bytes).unwrap()));
    format!("{:.1} %", 100.0 * (1.0 - after / before))
}

/// The recording: its series, and the readings in the order of time.
fn recorded() -> (Vec<(String, String)>, Vec<Reading>) {
    let text = std::fs::read_to_string(DATA)
        .unwrap_or_else(|error| panic!("{DATA}: {error}; benches/reduction-data fetches it"));
    let mut series: Vec<(String, String)> = Vec::new();
    let readings = text.lines().map(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        let name = (cells[1].to_owned(), cells[2].to_owned());
        let place = series.iter().position(|one| *one == name).unwrap_or_else(|| {
            series.push(name);
            series.len() - 1
        });
        let at = cells[0].parse::<i64>().unwrap() * 1_000_000;
        guest::reading(u32::try_from(place).unwrap(), at, cells[3].parse().unwrap())
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

/// Runs a shipped rule with its defaults over readings, a batch for each time.
fn through(
    rule: &str,
    series: &[(String, String)],
    readings: &[Reading],
) -> (Vec<(String, String)>, Vec<Reading>) {
    let engine = Engine::new(Code::Auto).unwrap();
    let names: Vec<(&str, &str)> =
        series.iter().map(|(device, point)| (device.as_str(), point.as_str())).collect();
    let mut guest = guest::Guest::open(&engine, rule, Vec::new(), &names).unwrap();
    for batch in readings.chunk_by(|a, b| a.at == b.at) {
        guest.process(batch).unwrap();
    }
    guest.settle(i64::MAX / 2).unwrap();

    let mut named: Vec<(String, String)> = Vec::new();
    let emitted = guest.emitted.iter().map(|one| {
        let (_, device, point) = guest.name(one);
        let name = (device, point.trim_end_matches(".mean").to_owned());
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
    table
}

/// The largest distance of a raw value from the newest received one of a window that ended by the end
/// of its own.
fn worst(series: &[(String, String)], raw: &[Reading], received: &Table) -> f64 {
    let distances = raw.iter().map(|one| {
        let wit::Value::Number(number) = one.value else { panic!("only numbers are recorded") };
        let values = &received[&series[one.series as usize]];
        let end = (one.at / 1000).div_euclid(WINDOW_MS) * WINDOW_MS + WINDOW_MS;
        let place = values.partition_point(|(at, _)| *at <= end);
        (values[place - 1].1 - number).abs()
    });
    distances.fold(0.0, f64::max)
}
