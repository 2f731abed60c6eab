//! A new version of a rule beside the one that runs: both see the same readings, and only what the
//! running one makes goes on. What the two make is compared reading by reading, and a judge says when
//! that is enough, or enough of it.
//!
//! **What is alike.** Two readings are the same when point and time are; they agree when their values
//! and marks do. One side may emit later than the other (a window that waits longer), so readings
//! wait for their like within [`limits::TRIAL_UNMATCHED_MAX`]; the oldest beyond that are missing, or
//! too many, depending on whose they are.
//!
//! **What is judged.** A failure of any kind ends a trial at once: whatever the ladder would make of
//! it, the version that runs did not fail. Volume and cost are judged against the running version once
//! there is enough to judge, and above floors below which nobody minds.

mod probation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Failure;
use crate::limits;
use crate::reading::{Sample, Stream, Value};

pub use probation::{Probation, Seen};

/// What ends a trial, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// How long it lasts at least.
    pub time: Duration,
    /// How many readings the new version must have been given at least.
    pub readings: u64,
    /// How many times as many readings it may emit as the running one, or as few; at least 1.
    pub volume: f64,
    /// How many times as much fuel and time a reading it may take; at least 1.
    pub cost: f64,
    /// Largest share of readings that may differ, be missing or be too many; `None`: any.
    pub difference: Option<f64>,
    /// Largest distance between two values that count as the same, in their unit.
    pub tolerance: f64,
    /// Whether a trial that went well ends by itself. Otherwise somebody promotes it.
    pub promotes: bool,
    /// How long a promoted version is watched before it has proven itself.
    pub probation: Duration,
    /// How long no batch may be acknowledged in that time.
    pub silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            time: limits::TRIAL_TIME,
            readings: 0,
            volume: limits::TRIAL_VOLUME,
            cost: limits::TRIAL_COST,
            difference: None,
            tolerance: 0.0,
            promotes: true,
            probation: limits::TRIAL_PROBATION,
            silence: limits::TRIAL_UPLINK_SILENCE,
        }
    }
}

/// Whose doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Of the version that runs.
    Live,
    /// Of the one on trial.
    Trial,
}

/// A reading that one side emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Where it would go.
    pub stream: Stream,
    /// Device and point, `device/point`.
    pub point: Arc<str>,
    /// Microseconds since 1970 UTC.
    pub at: i64,
    /// What.
    pub sample: Sample,
}

/// What one side has done since the trial began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Readings it was given.
    pub taken: u64,
    /// Readings it emitted.
    pub emitted: u64,
    /// Fuel used.
    pub fuel: u64,
    /// Time taken.
    pub took: Duration,
}

impl Tally {
    /// Returns in which way a reading costs more than the bounds allow, where `usual` is what it cost.
    #[expect(clippy::cast_precision_loss, reason = "ratios of counts")]
    fn costs_more(self, usual: Self, bounds: &Bounds) -> Option<(&'static str, String)> {
        let each = |of: f64, tally: Self| of / tally.taken.max(1) as f64;
        let (fuel, was) = (each(self.fuel as f64, self), each(usual.fuel as f64, usual));
        if fuel > (was * bounds.cost).max(limits::TRIAL_FUEL_FREE as f64) {
            let text = format!("it takes {fuel:.0} fuel a reading where {was:.0} is usual");
            return Some(("fuel", text));
        }
        let nanos = |tally: Self| each(tally.took.as_nanos() as f64, tally);
        let (time, was) = (nanos(self), nanos(usual));
        if time > (was * bounds.cost).max(limits::TRIAL_TIME_FREE.as_nanos() as f64) {
            let (time, was) = (time / 1000.0, was / 1000.0);
            let text = format!("it takes {time:.1} us a reading where {was:.1} us is usual");
            return Some(("time", text));
        }
        None
    }
}

/// The difference between the two, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compared {
    /// The version that runs.
    pub live: Tally,
    /// The one on trial.
    pub trial: Tally,
    /// Readings both emitted, with the same value.
    pub same: u64,
    /// Readings both emitted, with another value.
    pub differing: u64,
    /// Readings that only the running version emitted.
    pub missing: u64,
    /// Readings that only the one on trial emitted.
    pub extra: u64,
    /// Readings that still wait for their like.
    pub waiting: u64,
    /// Largest distance between two values, in their unit.
    pub distance_max: f64,
    /// The first reading that differed: point, time in microseconds, the running version's value, the
    /// other's.
    pub first: Option<(Arc<str>, i64, String, String)>,
    /// Why the version on trial failed, if it did.
    pub failure: Option<Failure>,
}

/// How a trial stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It goes on.
    Open,
    /// It went well, and somebody may promote it.
    Passed,
    /// It is to end, and why.
    Failed(Failure),
}

/// A trial: two chains write, whoever judges it reads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trial(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    tolerance: f64,
    compared: Compared,
    /// What waits for its like, by time and point; of one side only, for each key.
    waiting: BTreeMap<(i64, Arc<str>), (Side, Vec<Sample>)>,
    count: usize,
}

impl Trial {
    /// A trial that has seen nothing yet.
    #[must_use]
    pub fn new(bounds: &Bounds) -> Self {
        let inner = Inner { tolerance: bounds.tolerance, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a side was given readings.
    pub fn was_given(&self, side: Side, readings: u64) {
        self.lock().compared.tally(side).taken += readings;
    }

    /// Notes what a side made in one call.
    pub fn made(&self, side: Side, made: Vec<Made>, fuel: u64, took: Duration) {
        let mut inner = self.lock();
        let tally = inner.compared.tally(side);
        tally.emitted += made.len() as u64;
        tally.fuel += fuel;
        tally.took += took;
        for reading in made {
            inner.meet(side, reading);
        }
        while inner.count > limits::TRIAL_UNMATCHED_MAX {
            inner.give_up_oldest();
        }
    }

    /// Notes that the version on trial failed; the first time counts.
    pub fn failed(&self, failure: &Failure) {
        self.lock().compared.failure.get_or_insert_with(|| failure.clone());
    }

    /// Returns what is known.
    #[must_use]
    pub fn compared(&self) -> Compared {
        let inner = self.lock();
        Compared { waiting: inner.count as u64, ..inner.compared.clone() }
    }
}

impl Inner {
    fn meet(&mut self, side: Side, made: Made) {
        let key = (made.at, made.point);
        if let Some((whose, samples)) = self.waiting.get_mut(&key)
            && *whose != side
        {
            let other = samples.remove(0);
            if samples.is_empty() {
                self.waiting.remove(&key);
            }
            self.count -= 1;
            let (live, trial) = match side {
                Side::Live => (made.sample, other),
                Side::Trial => (other, made.sample),
            };
            self.compare(key, &live, &trial);
            return;
        }
        self.waiting.entry(key).or_insert_with(|| (side, Vec::new())).1.push(made.sample);
        self.count += 1;
    }

    fn compare(&mut self, (at, point): (i64, Arc<str>), live: &Sample, trial: &Sample) {
        let distance = match (number(live), number(trial)) {
            (Some(live), Some(trial)) => (live - trial).abs(),
            _ => 0.0,
        };
        let alike = match (number(live), number(trial)) {
            (Some(_), Some(_)) => distance <= self.tolerance,
            _ => live.value == trial.value,
        };
        let compared = &mut self.compared;
        compared.distance_max = compared.distance_max.max(distance);
        if alike && live.mark() == trial.mark() {
            compared.same += 1;
            return;
        }
        compared.differing += 1;
        compared.first.get_or_insert_with(|| (point, at, shown(live), shown(trial)));
    }

    fn give_up_oldest(&mut self) {
        let Some((_, (side, samples))) = self.waiting.pop_first() else { return };
        self.count -= samples.len();
        match side {
            Side::Live => self.compared.missing += samples.len() as u64,
            Side::Trial => self.compared.extra += samples.len() as u64,
        }
    }
}

impl Compared {
    fn tally(&mut self, side: Side) -> &mut Tally {
        match side {
            Side::Live => &mut self.live,
            Side::Trial => &mut self.trial,
        }
    }

    /// Judges what is known after the trial has lasted `so_far`.
    #[must_use]
    pub fn judge(&self, bounds: &Bounds, so_far: Duration) -> Verdict {
        let fails = |code: &str, message: String| {
            Verdict::Failed(Failure { code: format!("trial.{code}"), message })
        };
        if let Some(Failure { code, message }) = &self.failure {
            return fails("failed", format!("it failed ({code}): {message}"));
        }
        if self.live.taken.min(self.trial.taken) >= limits::TRIAL_READINGS_JUDGED
            && let Some((code, message)) = self.beyond(bounds)
        {
            return fails(code, message);
        }
        if so_far < bounds.time || self.trial.taken < bounds.readings.max(1) {
            return Verdict::Open;
        }
        match bounds.difference {
            Some(most) if self.share_differing() > most => fails(
                "difference",
                format!(
                    "{:.1} % of its readings differ, are missing or are too many, {:.1} % may",
                    self.share_differing() * 100.0,
                    most * 100.0
                ),
            ),
            _ => Verdict::Passed,
        }
    }

    /// Returns the first bound of volume or cost that is passed.
    #[expect(clippy::cast_precision_loss, reason = "ratios of counts")]
    fn beyond(&self, bounds: &Bounds) -> Option<(&'static str, String)> {
        let (live, trial) = (self.live, self.trial);
        let most = live.emitted as f64 * bounds.volume + limits::TRIAL_EMITTED_FREE as f64;
        let least = live.emitted as f64 / bounds.volume - limits::TRIAL_EMITTED_FREE as f64;
        if trial.emitted as f64 > most || (trial.emitted as f64) < least {
            let text =
                format!("it emits {} readings where {} are usual", trial.emitted, live.emitted);
            return Some(("volume", text));
        }
        trial.costs_more(live, bounds)
    }

    /// Returns which share of the readings, from 0 to 1, is not the same on both sides. What still
    /// waits for its like is left out.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn share_differing(&self) -> f64 {
        let off = self.differing + self.missing + self.extra;
        off as f64 / (off + self.same).max(1) as f64
    }
}

fn number(sample: &Sample) -> Option<f64> {
    match sample.value.as_ref().ok()? {
        Value::Decimal(decimal) => Some(decimal.to_f64()),
        Value::Float(number) => Some(*number),
        Value::Bool(_) | Value::Text(_) => None,
    }
}

fn shown(sample: &Sample) -> String {
    match &sample.value {
        Ok(value) => value.to_string(),
        Err(why) => format!("none ({why})"),
    }
}
