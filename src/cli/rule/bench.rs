//! `rule bench`: what a reading costs, in nanoseconds and in fuel, and the limit to suggest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::machine::{Machine, Subject};
use super::{cases, ends, say};
use crate::error::{Exit, Fatal};
use crate::events::Notice;
use crate::events::author as told;
use crate::limits;
use crate::rules::cases::{BEGIN_US, Feed};
use crate::rules::wit::{self, Context, Param, Quality, Reading, Series};
use crate::rules::{Failure, Limits, Rule};
use crate::state::Kept;

/// Measures what a reading costs, and suggests a limit
#[derive(Debug, Args)]
#[command(
    after_help = "Fuel is the same on every machine, so the limit that is suggested here holds
on the board too. Time is that of this machine; the interpreter (pulley) is what a
gateway runs where memory may not become executable, and on 32-bit ARM.

Without --recording the readings are a random walk."
)]
pub(in crate::cli) struct Bench {
    /// The rule's folder, which is built first, or a .wasm file
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    rule: PathBuf,
    /// Readings of a batch
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Readings of a recording, over and over: .csv, .ndjson, or batches as exported
    #[arg(long, value_name = "FILE", conflicts_with = "series")]
    recording: Option<PathBuf>,
    /// Series that the readings belong to
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    series: u32,
    /// How long to measure on each machine, seconds
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds: f64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// What one machine showed.
struct Figures {
    machine: &'static str,
    readings: u64,
    emitted: u64,
    /// The middle batch, nanoseconds a reading.
    ns: f64,
    fuel: f64,
    /// The dearest batch, fuel a reading.
    fuel_most: f64,
}

impl Bench {
    pub(super) fn run(self) -> Result<Exit, Fatal> {
        let problem = |notice: Notice| ends(Exit::Problem, &notice);
        let subject = Subject::of(&self.rule).map_err(problem)?;
        let (cases, _) = cases::read_all(&subject.folder, &subject.manifest);
        let params = subject
            .manifest
            .params(&toml::de::DeTable::new())
            .or_else(|faults| cases.first().map(|named| named.case.params.clone()).ok_or(faults));
        let params = params.map_err(|faults| {
            let found = faults.first().map(|fault| fault.found.clone()).unwrap_or_default();
            problem(told::bad_case(
                &subject.path.display().to_string(),
                &found,
                "a case that gives it",
            ))
        })?;
        let recording = self.recording.as_deref().map(cases::recording).transpose();
        let recording = recording.map_err(problem)?;
        let mut all = Vec::new();
        for machine in subject.machines().map_err(problem)? {
            let given = Given::new(recording.as_ref(), self.series);
            let figures = self.measure(&subject, &machine, &params, given).map_err(|failure| {
                let why = format!("the rule failed ({}): {}", failure.code, failure.message);
                problem(told::case_failed(&subject.path.display().to_string(), &why, &[]))
            })?;
            all.push(figures);
        }
        let suggested = suggested(&all);
        if self.json {
            say(&as_json(&all, suggested).to_string());
        } else {
            let series = recording.as_ref().map_or(self.series as usize, |feed| feed.series.len());
            say(&self.in_words((&subject, series), &all, suggested));
        }
        Ok(Exit::Done)
    }

    fn measure(
        &self,
        subject: &Subject,
        machine: &Machine,
        params: &[(String, Param)],
        mut given: Given<'_>,
    ) -> Result<Figures, Failure> {
        let limits = Limits { fuel_reading: limits::RULE_FUEL_READING_MAX, ..Limits::default() };
        let mut rule =
            machine.open(&subject.manifest, params, limits, &given.series(), Kept::default())?;
        let seconds = self.seconds.clamp(0.01, 60.0);
        let begun = Instant::now();
        let (mut times, mut readings, mut emitted, mut fuel) = (Vec::new(), 0_u64, 0_u64, 0_u64);
        let mut fuel_most = 0.0_f64;
        while times.len() < 8 || begun.elapsed() < Duration::from_secs_f64(seconds) {
            let outcome = self.batch(&mut *rule, &mut given, times.len())?;
            // The first batch finds no state and compiles nothing more; it is no measure of the rest.
            readings += u64::from(self.batch);
            emitted += u64::try_from(outcome.emitted.len()).unwrap_or(u64::MAX);
            fuel += outcome.fuel;
            fuel_most = fuel_most.max(ratio(outcome.fuel, self.batch));
            times.push(outcome.took);
        }
        times.sort_unstable();
        let middle = times[times.len() / 2];
        let ns = middle.as_secs_f64() * 1e9 / f64::from(self.batch);
        #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
        let fuel = fuel as f64 / readings as f64;
        Ok(Figures { machine: machine.name, readings, emitted, ns, fuel, fuel_most })
    }

    fn batch(
        &self,
        rule: &mut dyn Rule,
        given: &mut Given<'_>,
        number: usize,
    ) -> Result<crate::rules::Outcome, Failure> {
        let batch: Vec<_> = (0..self.batch).map(|n| given.reading(n)).collect();
        let now = batch.last().map_or(BEGIN_US, |last| last.at);
        let context = Context {
            batch: u64::try_from(number).unwrap_or(u64::MAX) + 1,
            now,
            watermark: now - 5_000_000,
            clock_synced: true,
            fresh: number == 0,
        };
        rule.process(&context, &batch)
    }

    fn in_words(
        &self,
        (subject, series): (&Subject, usize),
        all: &[Figures],
        suggested: u64,
    ) -> String {
        let mut lines = vec![format!(
            "{} {}  batches of {} readings of {series} series",
            subject.manifest.name, subject.manifest.version, self.batch
        )];
        for figures in all {
            let Figures { machine, readings, emitted, ns, fuel, fuel_most } = figures;
            lines.push(format!(
                "  {machine:<7} {ns:>8.0} ns a reading  {fuel:>8.0} fuel, {fuel_most:.0} at most  \
                 ({readings} readings, {emitted} emitted)"
            ));
        }
        lines.push(format!(
            "  suggest fuel = {suggested} a reading: four times the dearest batch\n          \
             limits = {{ fuel = {suggested} }} in rule.toml, or #[rule(fuel = {suggested})]"
        ));
        lines.join("\n")
    }
}

/// Four times the dearest batch, rounded up to two digits.
fn suggested(all: &[Figures]) -> u64 {
    let dearest = all.iter().map(|figures| figures.fuel_most).fold(0.0, f64::max);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fuel of a reading"
    )]
    let fuel = (dearest * 4.0).ceil() as u64;
    let mut unit = 1;
    while fuel / unit >= 100 {
        unit *= 10;
    }
    fuel.div_ceil(unit).max(1) * unit
}

fn as_json(all: &[Figures], suggested: u64) -> Value {
    let machines: serde_json::Map<_, _> = all
        .iter()
        .map(|figures| {
            let Figures { machine, readings, emitted, ns, fuel, fuel_most } = figures;
            let figures = json!({
                "ns_a_reading": ns, "fuel_a_reading": fuel, "fuel_a_reading_max": fuel_most,
                "readings": readings, "emitted": emitted,
            });
            ((*machine).to_owned(), figures)
        })
        .collect();
    json!({ "machines": machines, "suggested_fuel": suggested })
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
fn ratio(fuel: u64, readings: u32) -> f64 {
    fuel as f64 / f64::from(readings)
}

/// What the rule is given.
enum Given<'f> {
    /// A random walk of so many series.
    Walk(Walk, u32),
    /// A recording, and how often it has been through.
    Recording(&'f Feed, usize),
}

impl<'f> Given<'f> {
    fn new(recording: Option<&'f Feed>, series: u32) -> Self {
        match recording {
            Some(feed) => Self::Recording(feed, 0),
            None => Self::Walk(Walk { at: BEGIN_US, level: 20.0, dice: 1 }, series),
        }
    }

    fn series(&self) -> Vec<Series> {
        let named = |id: u32, device: &str, point: &str| {
            let (device, point) = (device.to_owned(), point.to_owned());
            Series { id, device, point, unit: None, labels: Vec::new() }
        };
        match self {
            Self::Walk(_, count) => {
                (0..*count).map(|id| named(id, &format!("device-{id}"), "point")).collect()
            }
            Self::Recording(feed, _) => {
                let all = (0_u32..).zip(&feed.series);
                all.map(|(id, (device, point))| named(id, device, point)).collect()
            }
        }
    }

    /// Returns the next reading, the n-th of its batch.
    fn reading(&mut self, n: u32) -> Reading {
        match self {
            Self::Walk(walk, series) => walk.reading(n % *series),
            Self::Recording(feed, next) => {
                let (lap, place) = (*next / feed.readings.len(), *next % feed.readings.len());
                *next += 1;
                let mut reading = feed.readings[place].reading();
                // Time goes on from lap to lap.
                let lap = i64::try_from(lap).unwrap_or_default();
                reading.at = reading.at.saturating_add(lap.saturating_mul(feed.ends() + 1_000_000));
                reading
            }
        }
    }
}

/// A random walk, a reading every 10 ms.
struct Walk {
    at: i64,
    level: f64,
    dice: u32,
}

impl Walk {
    fn reading(&mut self, series: u32) -> Reading {
        // A linear congruence is random enough for a temperature.
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.at += 10_000;
        self.level += f64::from(self.dice >> 16) / 65_536.0 - 0.5;
        let value = wit::Value::Number((self.level * 100.0).round() / 100.0);
        Reading { series, at: self.at, quality: Quality::empty(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_has_room_and_few_digits() {
        let figures = |fuel_most| Figures {
            machine: "native",
            readings: 1,
            emitted: 0,
            ns: 1.0,
            fuel: 1.0,
            fuel_most,
        };
        assert_eq!(suggested(&[figures(80.2)]), 330);
        assert_eq!(suggested(&[figures(3.0), figures(1234.0)]), 5000);
        assert_eq!(suggested(&[figures(0.0)]), 1);
    }
}
