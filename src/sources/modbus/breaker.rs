//! When something that never answers is asked again. A dead device costs its bus one short probe
//! now and then instead of a timeout a cycle. Changes state and touches no network.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

/// Counts failures in a row and spaces the attempts that follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// Failures in a row.
    pub(super) failures: u32,
    /// When the first of them was.
    pub(super) since: Option<Instant>,
    rest: Option<Rest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rest {
    until: Instant,
    delay: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It answers: ask as planned.
    Ask,
    /// It did not answer for a while, and it is time to see whether it does.
    Probe,
    /// Not yet.
    Rest,
}

impl Breaker {
    /// Says what to do at `now`.
    pub(super) fn turn(&self, now: Instant) -> Turn {
        match &self.rest {
            None => Turn::Ask,
            Some(rest) if now >= rest.until => Turn::Probe,
            Some(_) => Turn::Rest,
        }
    }

    /// Notes an answer. Returns whether it had been given up before.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_resting = self.rest.is_some();
        if self.failures > 0 {
            *self = Self::default();
        }
        was_resting
    }

    /// Notes that no answer came. Returns whether it is given up just now.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        match &mut self.rest {
            Some(rest) => {
                rest.delay = (rest.delay * 2).min(limits::MODBUS_PROBE_DELAY_MAX);
                rest.until = now + rest.delay;
                false
            }
            None if self.failures >= limits::MODBUS_FAILURES_MAX => {
                let delay = limits::MODBUS_PROBE_DELAY_MIN;
                self.rest = Some(Rest { until: now + delay, delay });
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn probes_double_from_one_second_to_half_a_minute() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        assert!(!breaker.failed(now));
        assert_eq!(breaker.turn(now), Turn::Ask);
        assert!(breaker.failed(now));
        let mut waits = Vec::new();
        for _ in 0..7 {
            let begun = now;
            while breaker.turn(now) == Turn::Rest {
                now += Duration::from_millis(100);
            }
            waits.push((now - begun).as_secs());
            assert!(!breaker.failed(now), "it is given up once, not at each probe");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert!(breaker.succeeded());
        assert_eq!(breaker.turn(now), Turn::Ask);
        assert!(!breaker.succeeded());
    }
}
