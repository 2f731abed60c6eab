//! The first hour of a promoted version in its place, in which the last good one is kept at hand, and
//! what takes a version back that has proven itself.
//!
//! **What is judged.** A failure of any kind, however it was recovered from; a flood: more readings
//! than it is given, and more times as many as before than the bounds allow; cost as on trial; and
//! whether batches still get through. Saying too little is judged on trial only, where both versions
//! see the same readings: a dead band that is quiet at night has no fault.
//!
//! What was usual before is known while the process lives. After a restart a version on probation is
//! watched anew, for failures and the uplink.
//!
//! **After it** one thing counts: that the ladder gave the version up. A failure, a busy day or a
//! lost uplink says little about code that has run for an hour; readings that it fails on again and
//! again do.

use std::time::Duration;

use super::{Bounds, Tally, Verdict};
use crate::limits;
use crate::rules::Failure;

/// What a version is measured against after its promotion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probation {
    /// What the version before it did on the trial's readings, if there was a trial to know it from.
    usual: Option<Tally>,
    /// What the place had done when it came: its counts go on.
    began: Tally,
    /// Whether batches got through when it came.
    was_linked: bool,
}

/// What is seen of it now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// What the place has done.
    pub tally: Tally,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Whether it failed so often that it is given up at the moment.
    pub given_up: bool,
    /// For how long batches have waited without one getting through, since it came at the earliest.
    pub silent: Duration,
}

impl Probation {
    /// Begins to watch.
    #[must_use]
    pub fn new(usual: Option<Tally>, began: Tally, was_linked: bool) -> Self {
        Self { usual, began, was_linked }
    }

    /// Judges what is seen after `so_far`: `Open` while it goes on, `Passed` once it has proven itself.
    #[must_use]
    pub fn judge(&self, seen: &Seen, bounds: &Bounds, so_far: Duration) -> Verdict {
        if let Some(failure) = &seen.failure {
            return Verdict::Failed(failure.clone());
        }
        let fails = |code: &str, message: String| {
            Verdict::Failed(Failure { code: format!("trial.{code}"), message })
        };
        if let Some((code, message)) = self.beyond(seen.tally.since(self.began), bounds) {
            return fails(code, message);
        }
        if self.was_linked && seen.silent >= bounds.silence {
            let seconds = seen.silent.as_secs();
            return fails("uplink", format!("no batch was acknowledged for {seconds} s"));
        }
        if so_far >= bounds.probation { Verdict::Passed } else { Verdict::Open }
    }

    /// Judges a version that has proven itself: `Open`, or `Failed` when it is given up.
    #[must_use]
    pub fn afterwards(seen: &Seen) -> Verdict {
        match &seen.failure {
            Some(failure) if seen.given_up => Verdict::Failed(failure.clone()),
            _ => Verdict::Open,
        }
    }

    /// Returns the first bound of volume or cost that is passed.
    #[expect(clippy::cast_precision_loss, reason = "ratios of counts")]
    fn beyond(&self, done: Tally, bounds: &Bounds) -> Option<(&'static str, String)> {
        let usual = self
            .usual
            .filter(|usual| usual.taken.min(done.taken) >= limits::TRIAL_READINGS_JUDGED)?;
        let rate = |tally: Tally| tally.emitted as f64 / tally.taken as f64;
        let most = (rate(usual) * bounds.volume).max(1.0) * done.taken as f64;
        if done.emitted as f64 > most + limits::TRIAL_EMITTED_FREE as f64 {
            let (now, was) = (rate(done), rate(usual));
            let text = format!("it emits {now:.2} readings for one, {was:.2} are usual");
            return Some(("volume", text));
        }
        done.costs_more(usual, bounds)
    }
}

impl Tally {
    /// Returns what was done since it stood at `began`.
    fn since(self, began: Self) -> Self {
        Self {
            taken: self.taken.saturating_sub(began.taken),
            emitted: self.emitted.saturating_sub(began.emitted),
            fuel: self.fuel.saturating_sub(began.fuel),
            took: self.took.saturating_sub(began.took),
        }
    }
}
