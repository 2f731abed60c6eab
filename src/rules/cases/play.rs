//! Runs a rule over what a test feeds it, with the time that a gateway has: the watermark follows the
//! readings in steps, timers fire when it passes them, and behind the last reading the clock goes on.
//!
//! What is kept of the rule is kept here, as the store keeps it: an instance can be thrown away
//! between any two batches and the next one goes on. So the three things every rule must hold can be
//! tried on any feed: other batches, other instances, and simply again.

use std::time::Duration;

use super::{BEGIN_US, Came, Case, Feed};
use crate::limits;
use crate::reading::Stream;
use crate::rules::time::Time;
use crate::rules::wit::{Context, Fired, Level, Quality, Reading, Series};
use crate::rules::{DECLARED, Failure, Outcome, Rule};
use crate::state::Kept;

/// Starts the rule under test over these series with what is kept of it.
pub type Open<'a> = &'a dyn Fn(&[Series], Kept) -> Result<Box<dyn Rule>, Failure>;

/// How input is cut into batches, and when the rule is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cuts {
    /// Readings of a batch at most; 0 for as many as there are.
    pub batch: usize,
    /// Makes batches of many sizes up to `batch`, the same ones for the same number.
    pub seed: Option<u64>,
    /// A new instance before every batch.
    pub restarts: bool,
}

impl Cuts {
    /// As few batches as time allows, one instance.
    pub const WHOLE: Self = Self { batch: 0, seed: None, restarts: false };
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Played {
    /// Everything emitted, in the order in which it was emitted.
    pub came: Vec<Came>,
    /// Lines of the rule's log.
    pub log: Vec<(Level, String)>,
    /// Fuel used by all calls.
    pub fuel: u64,
    /// Calls made.
    pub calls: u64,
    /// Time taken by all calls.
    pub took: Duration,
}

/// Runs a case.
///
/// # Errors
/// When the rule fails: it traps, returns an error or passes a limit.
pub fn play(case: &Case, open: Open<'_>, cuts: Cuts) -> Result<Played, Failure> {
    let mut stage = Stage::new(case, open, cuts)?;
    for fed in &case.feed.readings {
        stage.take(fed.reading())?;
    }
    stage.end(case.feed.ends().max(case.until))?;
    Ok(stage.played)
}

struct Stage<'a> {
    feed: &'a Feed,
    /// As the feed names them; ids are places in the feed.
    series: Vec<Series>,
    /// Those the rule was told of, as it numbers them: their places in the feed.
    met: Vec<usize>,
    open: Open<'a>,
    cuts: Cuts,
    rule: Box<dyn Rule>,
    kept: Kept,
    time: Time,
    batch: Vec<Reading>,
    /// Where the row of batch sizes stands.
    dice: u64,
    room: usize,
    played: Played,
}

impl<'a> Stage<'a> {
    fn new(case: &'a Case, open: Open<'a>, cuts: Cuts) -> Result<Self, Failure> {
        let series: Vec<_> = (0_u32..)
            .zip(&case.feed.series)
            .map(|(id, (device, point))| Series {
                id,
                device: device.clone(),
                point: point.clone(),
                unit: None,
                labels: Vec::new(),
            })
            .collect();
        let mut stage = Self {
            feed: &case.feed,
            rule: open(&[], Kept::default())?,
            met: Vec::new(),
            series,
            open,
            cuts,
            kept: Kept::default(),
            time: Time::at(0, case.lateness),
            batch: Vec::new(),
            dice: cuts.seed.unwrap_or_default(),
            room: 0,
            played: Played::default(),
        };
        stage.room = stage.next_size();
        Ok(stage)
    }

    fn take(&mut self, mut reading: Reading) -> Result<(), Failure> {
        if !is_unsynced(&reading)
            && let Some(to) = self.time.moved_by(reading.at)
        {
            // All readings of a batch see the same watermark, wherever batches are cut.
            self.flush()?;
            self.time.go(to);
            self.fire()?;
        }
        if self.batch.first().is_some_and(|first| is_unsynced(first) != is_unsynced(&reading)) {
            self.flush()?;
        }
        if !is_unsynced(&reading) && self.time.is_late(reading.at) {
            reading.quality |= Quality::LATE;
        }
        self.batch.push(reading);
        if self.batch.len() >= self.room { self.flush() } else { Ok(()) }
    }

    /// Lets the clock go on to `until`, timer by timer.
    fn end(&mut self, until: i64) -> Result<(), Failure> {
        self.flush()?;
        let until = BEGIN_US.saturating_add(until);
        let step = i64::try_from(limits::RULE_TIME_STEP.as_micros()).unwrap_or(1);
        let mut rounds = 0;
        while let Some(next) = self.kept.timers.values().min().filter(|next| **next <= until) {
            // The clock moves in steps, too: a timer fires at the first one that is not before it.
            let to = next.saturating_add(step - 1).div_euclid(step) * step;
            self.time.go(to);
            self.fire()?;
            rounds += 1;
            if rounds > limits::CASE_TIMERS_MAX {
                return Err(endless());
            }
        }
        self.time.go(until);
        Ok(())
    }

    /// Tells the rule of timers that the watermark has passed.
    fn fire(&mut self) -> Result<(), Failure> {
        for _ in 0..limits::CASE_TIMERS_MAX {
            let watermark = self.time.watermark();
            let due = self.kept.timers.iter().filter(|(_, at)| **at <= watermark);
            let mut due: Vec<_> =
                due.map(|(name, at)| Fired { name: name.to_string(), at: *at }).collect();
            if due.is_empty() {
                return Ok(());
            }
            due.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
            for fired in &due {
                self.kept.timers.remove(fired.name.as_str());
            }
            let context = self.context()?;
            let outcome = self.rule.on_timer(&context, &due)?;
            self.note(outcome);
        }
        Err(endless())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let context = self.context()?;
        let batch = self.meet()?;
        let outcome = self.rule.process(&context, &batch)?;
        self.batch.clear();
        self.room = self.next_size();
        self.note(outcome);
        Ok(())
    }

    /// Tells the rule of series that it meets for the first time, as a gateway does, and returns the
    /// batch with the rule's own numbers.
    fn meet(&mut self) -> Result<Vec<Reading>, Failure> {
        let mut new = Vec::new();
        let mut batch = self.batch.clone();
        for reading in &mut batch {
            let place = usize::try_from(reading.series).unwrap_or(usize::MAX);
            let id = self.met.iter().position(|known| *known == place).unwrap_or_else(|| {
                self.met.push(place);
                new.extend(self.known().last().cloned());
                self.met.len() - 1
            });
            reading.series = u32::try_from(id).unwrap_or(u32::MAX);
        }
        if !new.is_empty() {
            self.rule.series_added(&new)?;
        }
        Ok(batch)
    }

    /// The series that the rule was told of, as it numbers them.
    fn known(&self) -> Vec<Series> {
        let places = self.met.iter().filter_map(|place| self.series.get(*place));
        (0_u32..).zip(places).map(|(id, series)| Series { id, ..series.clone() }).collect()
    }

    /// Begins a call: its number, and a new instance where one is asked for.
    fn context(&mut self) -> Result<Context, Failure> {
        if self.cuts.restarts && self.played.calls > 0 {
            self.rule = (self.open)(&self.known(), self.kept.clone())?;
        }
        self.played.calls += 1;
        Ok(Context {
            batch: self.played.calls,
            now: self.time.now(),
            watermark: self.time.watermark(),
            clock_synced: !self.batch.first().is_some_and(is_unsynced),
            fresh: self.cuts.restarts || self.played.calls == 1,
        })
    }

    fn note(&mut self, outcome: Outcome) {
        let Outcome { emitted, change, log, fuel, took } = outcome;
        self.kept.apply(&change);
        for reading in emitted {
            if let Some(came) = self.named(reading) {
                self.played.came.push(came);
            }
        }
        let room = limits::CASE_LOG_LINES_MAX.saturating_sub(self.played.log.len());
        self.played.log.extend(log.into_iter().take(room));
        self.played.fuel += fuel;
        self.played.took += took;
    }

    fn named(&self, reading: Reading) -> Option<Came> {
        let (stream, device, point) = match reading.series.checked_sub(DECLARED) {
            Some(place) => {
                let declared = self.kept.declared.get(usize::try_from(place).ok()?)?;
                (declared.stream, declared.device.to_string(), declared.point.to_string())
            }
            None => {
                let place = self.met.get(usize::try_from(reading.series).ok()?)?;
                let (device, point) = self.feed.series.get(*place)?;
                (Stream::Data, device.clone(), point.clone())
            }
        };
        let Reading { at, quality, value, .. } = reading;
        Some(Came { stream, device, point, at: at - BEGIN_US, value, quality })
    }

    fn next_size(&mut self) -> usize {
        match (self.cuts.batch, self.cuts.seed) {
            (0, _) => usize::MAX,
            (most, None) => most,
            (most, Some(_)) => {
                // Knuth's MMIX generator; its high bits are good enough for sizes.
                self.dice = self
                    .dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                1 + usize::try_from(self.dice >> 33).unwrap_or_default() % most
            }
        }
    }
}

/// Whether a reading was taken by a board that did not know the time.
fn is_unsynced(reading: &Reading) -> bool {
    reading.quality.contains(Quality::CLOCK_UNSYNCED)
}

fn endless() -> Failure {
    Failure {
        code: "timers.endless".to_owned(),
        message: format!(
            "its timers go off more than {} times without a reading between",
            limits::CASE_TIMERS_MAX
        ),
    }
}
