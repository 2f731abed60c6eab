//! The time of one rule: its watermark moves with the readings it is given, and only forward.
//!
//! **Steps.** The watermark is the latest reading's time less the rule's lateness, rounded down to
//! [`limits::RULE_TIME_STEP`]. It moves before the reading that moves it is handed over, and timers
//! fire then and at no other moment. So what a rule sees depends on the order of its readings alone
//! and not on where a batch was cut; and a second of readings costs ten calls at most.
//!
//! **What does not move it.** Readings of a board that does not know the time (they count from its
//! boot), and readings dated ahead of the gateway's clock: one sensor with a wrong date would make
//! all that follows late. Both are handed over with their own time.
//!
//! **Jumps.** A clock set forward makes it leap, and everything that was due fires once. One set back
//! leaves it where it is: readings are late until their time has caught up, and no window is closed
//! a second time.

use std::time::Duration;

use crate::limits;

/// See the file's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Microseconds since 1970 UTC; 0 before the first reading.
    watermark: i64,
    lateness: i64,
}

impl Time {
    /// Goes on from where a rule stood.
    #[must_use]
    pub fn at(watermark: i64, lateness: Duration) -> Self {
        Self { watermark, lateness: micros(lateness) }
    }

    /// Returns the watermark.
    #[must_use]
    pub fn watermark(self) -> i64 {
        self.watermark
    }

    /// Returns the only clock a rule has: what the watermark follows, in the same steps; 0 before the
    /// first reading.
    #[must_use]
    pub fn now(self) -> i64 {
        if self.watermark == 0 { 0 } else { self.watermark.saturating_add(self.lateness) }
    }

    /// Returns where a reading of this time moves the watermark, if it does.
    #[must_use]
    pub fn moved_by(self, at: i64) -> Option<i64> {
        let step = micros(limits::RULE_TIME_STEP);
        let to = at.saturating_sub(self.lateness).div_euclid(step) * step;
        (to > self.watermark).then_some(to)
    }

    /// Moves the watermark.
    pub fn go(&mut self, to: i64) {
        self.watermark = self.watermark.max(to);
    }

    /// Returns whether a reading of this time is late.
    #[must_use]
    pub fn is_late(self, at: i64) -> bool {
        at < self.watermark
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn the_watermark_follows_in_steps_and_never_goes_back() {
        let mut time = Time::at(0, Duration::from_secs(5));
        assert_eq!(time.now(), 0);
        let first = time.moved_by(1_800_000_000 * SECOND + 123_456).unwrap();
        assert_eq!(first, 1_799_999_995 * SECOND + 100_000);
        time.go(first);
        assert_eq!(time.now(), 1_800_000_000 * SECOND + 100_000);
        assert_eq!(time.moved_by(1_800_000_000 * SECOND + 199_999), None);
        assert_eq!(time.moved_by(1_700_000_000 * SECOND), None);
        assert!(time.is_late(first - 1) && !time.is_late(first));
        time.go(first - SECOND);
        assert_eq!(time.watermark(), first);
    }

    #[test]
    fn it_goes_on_after_a_restart_from_what_was_kept() {
        let lateness = Duration::from_millis(1500);
        let mut time = Time::at(0, lateness);
        time.go(time.moved_by(1_800_000_000 * SECOND).unwrap());
        assert_eq!(Time::at(time.watermark(), lateness), time);
    }
}
