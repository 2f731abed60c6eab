//! The bed a rule is tested on: a host in memory, readings from text, and the three properties that
//! every rule must have.
//!
//! ```
//! use fieldgate_rule::{prelude::*, testing::Bed};
//! # #[derive(Params)] struct Doubled;
//! # #[rule] impl Rule for Doubled {
//! #     fn reading(&self, r: Reading, _: &mut (), out: &mut Out) {
//! #         if let Some(n) = r.number() { out.emit(r.with(n * 2.0)); }
//! #     }
//! # }
//! let bed = Bed::new("d/p = 1@0s 2@1s none@2s");
//! assert_eq!(bed.lines::<Doubled>(), ["d/p = 2@0s", "d/p = 4@1s"]);
//! ```
#![expect(clippy::missing_panics_doc, clippy::expect_used, reason = "tests end by panicking")]

mod feed;
mod properties;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use crate::guest::{Exported, Guest};
use crate::sys::{self, DECLARED, Emitted, Kept, Level, Owned, Stream};
use crate::whole::{Context, Fired};
use crate::{Error, NoData, Param, Quality, Reading, Series, Timestamp};

pub use feed::show_time;
pub use properties::{Plan, holds, plans, recordings};

/// When a test begins: 2026-01-01 00:00 UTC, so windows of any usual length begin with it.
pub const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);

/// A reading of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Fed {
    /// Place of its series.
    pub series: u32,
    /// When it was taken.
    pub at: Timestamp,
    /// What is known against it.
    pub quality: Quality,
    /// What it shows.
    pub value: Owned,
}

/// Readings, parameters and the host's settings.
#[derive(Clone, Default)]
pub struct Bed {
    /// The series that the readings are of.
    pub series: Vec<Series>,
    /// In the order of arrival.
    pub readings: Vec<Fed>,
    params: Vec<(String, Param)>,
    lateness: Duration,
    silence: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// What was emitted, in order: stream, device, point and the reading.
    pub emitted: Vec<Came>,
    /// Lines of the log.
    pub log: Vec<(Level, String)>,
    /// Calls that changed state.
    pub writes: u64,
    /// Keys and values at the end.
    pub state: Vec<(String, Vec<u8>)>,
}

/// A reading that came out, its series by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    /// Readings or events.
    pub stream: Stream,
    /// Device name.
    pub device: String,
    /// Point name.
    pub point: String,
    /// Unit.
    pub unit: Option<String>,
    /// Time.
    pub at: Timestamp,
    /// Quality.
    pub quality: Quality,
    /// Value.
    pub value: Owned,
}

impl Bed {
    /// Takes readings from lines such as `meter-1/power = 2.5@10s none@20s 'on'@1m 3:bad@2m`. A
    /// reading that stands behind a later one of its line arrives after it.
    #[must_use]
    pub fn new(feed: &str) -> Self {
        let mut bed = Self::default();
        feed::read(feed, &mut bed).unwrap_or_else(|slip| panic!("{slip}"));
        bed.lateness = Duration::from_secs(5);
        bed.silence = Duration::from_secs(60 * 60 * 24);
        bed
    }

    /// Takes readings of one series.
    #[must_use]
    pub fn of(
        device: &str,
        point: &str,
        readings: impl IntoIterator<Item = (Timestamp, f64)>,
    ) -> Self {
        let mut bed = Self::new("");
        let series = bed.add(device, point);
        let fed = readings.into_iter().map(|(at, number)| {
            let (quality, value) = (Quality::GOOD, Owned::Number(number));
            Fed { series, at, quality, value }
        });
        bed.readings = fed.collect();
        bed
    }

    /// Adds a series, or finds it.
    pub fn add(&mut self, device: &str, point: &str) -> u32 {
        let known = self.series.iter().find(|one| one.device == device && one.point == point);
        if let Some(known) = known {
            return known.id;
        }
        let id = u32::try_from(self.series.len()).expect("few series");
        let (device, point) = (device.to_string(), point.to_string());
        self.series.push(Series { id, device, point, unit: None, labels: Vec::new() });
        id
    }

    /// Sets a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Param>) -> Self {
        self.params.push((name.to_string(), value.into()));
        self
    }

    /// Sets how late readings may come; 5 s.
    #[must_use]
    pub fn lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// Sets how long the gateway's clock runs on after the last reading; a day.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// What came out, as a line each: `event chiller/freeze = true@40s`.
    #[must_use]
    pub fn lines<R: Exported>(&self) -> Vec<String> {
        self.run::<R>().emitted.iter().map(ToString::to_string).collect()
    }

    /// Runs the rule over the readings, one batch each.
    ///
    /// # Panics
    /// When the rule fails.
    #[must_use]
    pub fn run<R: Exported>(&self) -> Run {
        let plan = Plan { sizes: vec![1], restarts: vec![false] };
        self.run_as::<R>(&plan).unwrap_or_else(|error| panic!("{}: {}", error.code, error.message))
    }

    /// Runs the rule with these batches and restarts.
    ///
    /// # Errors
    /// What the rule says.
    pub fn run_as<R: Exported>(&self, plan: &Plan) -> Result<Run, Error> {
        sys::with(|host| *host = Kept::default());
        let mut bench = Bench::<R>::open(self)?;
        let (mut rest, mut batch, mut newest) = (self.readings.as_slice(), 0_usize, i64::MIN);
        while !rest.is_empty() {
            let size = plan.sizes[batch % plan.sizes.len()].clamp(1, rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            if batch > 0 && plan.restarts[batch % plan.restarts.len()] {
                bench.restart(self)?;
            }
            batch += 1;
            // A reading is late by those that came before it, wherever the batch began.
            let marked: Vec<Fed> = now
                .iter()
                .map(|fed| {
                    newest = newest.max(fed.at.0);
                    let late = fed.at < Timestamp(newest) - self.lateness;
                    let mark = if late { Quality::LATE } else { Quality::GOOD };
                    Fed { quality: fed.quality | mark, ..fed.clone() }
                })
                .collect();
            bench.process(&marked, Timestamp(newest) - self.lateness)?;
        }
        if newest > i64::MIN {
            bench.advance(Timestamp(newest) + self.silence)?;
        }
        Ok(bench.end(self))
    }
}

/// Checks that a page of documentation has a row for each parameter of the rule.
///
/// # Panics
/// With the name of the first that is missing.
pub fn documented<R: Exported>(page: &str) {
    let (_, rest) = R::MANIFEST.split_once("\"parameters\":[").expect("a manifest has parameters");
    let (parameters, _) = rest.split_once("],\"outputs\":").expect("and outputs");
    for parameter in parameters.split("{\"name\":\"").skip(1) {
        let name = parameter.split('"').next().unwrap_or_default();
        let row = |line: &str| line.starts_with("| ") && line.contains(&format!("`{name}`"));
        assert!(page.lines().any(row), "the page has no row for {name}");
    }
}

/// A rule that is running.
struct Bench<R: Exported> {
    guest: R::Guest,
    context: Context,
}

impl<R: Exported> Bench<R> {
    fn open(bed: &Bed) -> Result<Self, Error> {
        let mut get = |name: &str| {
            let found = bed.params.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, param)| param.clone())
        };
        let guest = R::Guest::open(bed.series.clone(), &mut get)?;
        let zero = Timestamp(i64::MIN);
        let context =
            Context { batch: 0, now: zero, watermark: zero, clock_synced: true, fresh: true };
        Ok(Self { guest, context })
    }

    /// As after `kill -9` between two batches: memory is gone, what was kept is there.
    fn restart(&mut self, bed: &Bed) -> Result<(), Error> {
        let (batch, watermark) = (self.context.batch, self.context.watermark);
        *self = Self::open(bed)?;
        self.context.batch = batch;
        self.context.watermark = watermark;
        Ok(())
    }

    fn process(&mut self, batch: &[Fed], watermark: Timestamp) -> Result<(), Error> {
        self.context.batch += 1;
        self.context.now = batch.iter().map(|fed| fed.at).max().unwrap_or(self.context.now);
        let readings = batch.iter().map(|fed| Reading {
            series: fed.series,
            at: fed.at,
            quality: fed.quality,
            value: fed.value.borrow(),
        });
        self.guest.process(&self.context, &readings.collect::<Vec<_>>())?;
        self.context.fresh = false;
        self.advance(watermark)
    }

    /// Moves the watermark, and fires what it passes until nothing is due.
    fn advance(&mut self, watermark: Timestamp) -> Result<(), Error> {
        self.context.watermark = self.context.watermark.max(watermark);
        for _ in 0..100_000 {
            let due = sys::with(|host| {
                let due = host.timers.iter().filter(|(_, at)| **at <= self.context.watermark);
                let mut due: Vec<Fired> =
                    due.map(|(name, at)| Fired { name: name.clone(), at: *at }).collect();
                due.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
                host.timers.retain(|_, at| *at > self.context.watermark);
                due
            });
            if due.is_empty() {
                return Ok(());
            }
            self.guest.on_timer(&self.context, &due)?;
            self.context.fresh = false;
        }
        panic!("timers go off for ever");
    }

    fn end(self, bed: &Bed) -> Run {
        sys::with(|host| {
            let host = core::mem::take(host);
            let name = |emitted: Emitted| {
                let (stream, device, point, unit) = match emitted.series.checked_sub(DECLARED) {
                    Some(place) => host.declared[place as usize].clone(),
                    None => {
                        let Series { device, point, unit, .. } =
                            bed.series[emitted.series as usize].clone();
                        (Stream::Data, device, point, unit)
                    }
                };
                let Emitted { at, quality, value, .. } = emitted;
                Came { stream, device, point, unit, at, quality, value }
            };
            Run {
                emitted: host.emitted.into_iter().map(name).collect(),
                log: host.log,
                writes: host.writes,
                state: host.state.into_iter().collect(),
            }
        })
    }
}

/// As lines of readings, in the order of arrival.
impl core::fmt::Debug for Bed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for fed in &self.readings {
            let Fed { series, at, quality, value } = fed.clone();
            let Series { device, point, unit, .. } = self.series[series as usize].clone();
            let came = Came { stream: Stream::Data, device, point, unit, at, quality, value };
            write!(f, "{came}; ")?;
        }
        write!(f, "with {:?}", self.params)
    }
}

impl core::fmt::Display for Came {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let event = if self.stream == Stream::Event { "event " } else { "" };
        let value = match &self.value {
            Owned::Number(number) => number.to_string(),
            Owned::Integer(number) => number.to_string(),
            Owned::Boolean(flag) => flag.to_string(),
            Owned::Text(text) => format!("'{text}'"),
            Owned::None(NoData::Timeout) => "none".to_string(),
            Owned::None(why) => format!("none:{}", feed::reason(*why)),
        };
        let (device, point) = (&self.device, &self.point);
        let flags = feed::flags(self.quality);
        write!(f, "{event}{device}/{point} = {value}{flags}@{}", show_time(self.at))
    }
}

macro_rules! into_param {
    ($($kind:ty: $given:ident => $param:expr,)*) => {$(
        impl From<$kind> for Param {
            fn from($given: $kind) -> Self {
                $param
            }
        }
    )*};
}
into_param! {
    f64: number => Self::Number(number),
    i64: number => Self::Integer(number),
    bool: flag => Self::Boolean(flag),
    &str: text => Self::Text(text.to_string()),
    Duration: time => Self::DurationUs(u64::try_from(time.as_micros()).expect("below 500,000 years")),
    &[&str]: texts => Self::Texts(texts.iter().map(ToString::to_string).collect()),
    &[f64]: numbers => Self::Numbers(numbers.to_vec()),
}
