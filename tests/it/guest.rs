//! A shipped rule on the daemon's own engine, driven as the pipeline drives it: batches, a watermark
//! behind the newest reading, timers until none is due.
#![allow(dead_code, reason = "two benches and a room of tests use a part each")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::reading::Stream;
use fieldgate::rules::wit::{Context, Fired, Param, Quality, Reading, Series, Value};
use fieldgate::rules::{DECLARED, Engine, Failure, Instance, Outcome, Program, Rule, Settings};
use fieldgate::state::Kept;

/// Every rule of the package.
pub const SHIPPED: [&str; 11] = [
    "aggregate",
    "counter-rate",
    "deadband",
    "derived",
    "moving-average",
    "on-change",
    "rate-of-change",
    "shape",
    "swinging-door",
    "threshold",
    "zscore",
];

/// How far the watermark stands behind the newest reading: the gateway's default.
const LATENESS_US: i64 = 5_000_000;

/// Reads a rule's file, as `rules/build` made it.
pub fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/rules/{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; rules/build makes it", path.display()))
}

/// Parameters without which a rule has nothing to do.
pub fn params(name: &str) -> Vec<(String, Param)> {
    let text = |name: &str, text: &str| (name.to_owned(), Param::Text(text.to_owned()));
    match name {
        "threshold" => vec![("above".to_owned(), Param::Number(30.0))],
        "derived" => vec![text("expr", "[meter-1/p0] * 2 + 1"), text("point", "twice")],
        _ => Vec::new(),
    }
}

/// A rule that runs.
pub struct Guest {
    instance: Instance,
    series: Vec<Series>,
    batch: u64,
    newest: i64,
    /// Everything it emitted.
    pub emitted: Vec<Reading>,
    /// Lines of its log.
    pub log: Vec<String>,
    /// Fuel of all calls.
    pub fuel: u64,
    /// Time of all calls.
    pub took: Duration,
}

impl Guest {
    /// Starts a rule over these series.
    pub fn open(
        engine: &Engine,
        name: &str,
        params: Vec<(String, Param)>,
        series: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let program =
            Program::load(engine, &file(name)).unwrap_or_else(|r| panic!("{name}: {r:?}"));
        Self::of(&program, name, params, series)
    }

    /// Starts a rule that is compiled already.
    pub fn of(
        program: &Arc<Program>,
        name: &str,
        params: Vec<(String, Param)>,
        series: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let series: Vec<Series> = (0_u32..)
            .zip(series)
            .map(|(id, (device, point))| Series {
                id,
                device: (*device).to_owned(),
                point: (*point).to_owned(),
                unit: None,
                labels: Vec::new(),
            })
            .collect();
        let settings = Settings { name: name.into(), params, limits: Default::default() };
        let instance = Instance::open(program, &settings, &series, Kept::default())?;
        let (emitted, log) = (Vec::new(), Vec::new());
        let took = Duration::ZERO;
        Ok(Self { instance, series, batch: 0, newest: i64::MIN, emitted, log, fuel: 0, took })
    }

    /// The same over what it keeps, on a new instance.
    pub fn reopened(
        self,
        engine: &Engine,
        name: &str,
        params: Vec<(String, Param)>,
    ) -> Result<Self, Failure> {
        let program =
            Program::load(engine, &file(name)).unwrap_or_else(|r| panic!("{name}: {r:?}"));
        let settings = Settings { name: name.into(), params, limits: Default::default() };
        let kept = self.instance.kept().clone();
        let instance = Instance::open(&program, &settings, &self.series, kept)?;
        Ok(Self { instance, ..self })
    }

    fn context(&self, watermark: i64) -> Context {
        let (batch, now) = (self.batch, self.newest);
        Context { batch, now, watermark, clock_synced: true, fresh: self.batch == 1 }
    }

    fn take(&mut self, outcome: Outcome) {
        self.fuel += outcome.fuel;
        self.took += outcome.took;
        self.emitted.extend(outcome.emitted);
        self.log.extend(outcome.log.into_iter().map(|(_, line)| line));
    }

    /// Gives it a batch, and the timers that are due after it.
    pub fn process(&mut self, batch: &[Reading]) -> Result<(), Failure> {
        self.batch += 1;
        self.newest = batch.iter().map(|r| r.at).max().unwrap_or(self.newest).max(self.newest);
        let watermark = self.newest - LATENESS_US;
        let outcome = self.instance.process(&self.context(watermark), batch)?;
        self.take(outcome);
        self.settle(watermark)
    }

    /// Moves the watermark.
    pub fn settle(&mut self, watermark: i64) -> Result<(), Failure> {
        loop {
            let due = self.instance.kept().timers.iter().filter(|(_, at)| **at <= watermark);
            let fired: Vec<Fired> =
                due.map(|(name, at)| Fired { name: name.to_string(), at: *at }).collect();
            if fired.is_empty() {
                return Ok(());
            }
            let outcome = self.instance.on_timer(&self.context(watermark), &fired)?;
            self.take(outcome);
        }
    }

    /// Stream, device and point of an emitted reading.
    pub fn name(&self, reading: &Reading) -> (Stream, String, String) {
        match reading.series.checked_sub(DECLARED) {
            None => {
                let series = &self.series[reading.series as usize];
                (Stream::Data, series.device.clone(), series.point.clone())
            }
            Some(place) => {
                let to = &self.instance.kept().declared[place as usize];
                (to.stream, to.device.to_string(), to.point.to_string())
            }
        }
    }
}

/// A plain good reading.
pub fn reading(series: u32, at: i64, number: f64) -> Reading {
    Reading { series, at, quality: Quality::empty(), value: Value::Number(number) }
}

/// A batch of a poll a second over ten points that wander a little, `seconds` long.
pub fn polls(from_s: i64, seconds: i64) -> Vec<Reading> {
    let mut all = Vec::new();
    for second in from_s..from_s + seconds {
        for series in 0..10 {
            let step = (second * 7 + i64::from(series) * 3) % 23;
            let number = 20.0 + f64::from(i32::try_from(step).unwrap_or(0)) / 16.0;
            all.push(reading(series, (1_767_225_600 + second) * 1_000_000, number));
        }
    }
    all
}

/// The ten points of [`polls`].
pub const POINTS: [(&str, &str); 10] = [
    ("meter-1", "p0"),
    ("meter-1", "p1"),
    ("meter-1", "p2"),
    ("meter-1", "p3"),
    ("meter-1", "p4"),
    ("meter-1", "p5"),
    ("meter-1", "p6"),
    ("meter-1", "p7"),
    ("meter-1", "p8"),
    ("meter-1", "p9"),
];
