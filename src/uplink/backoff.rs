//! How long to wait before a broker is dialled again: not long when it is away, long when it hangs
//! up on the same batch again and again, since every try sends that batch once more.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits;

/// Pauses with full jitter, so that a fleet does not come back as one. The range doubles each time
/// until its maximum.
#[derive(Debug, Clone)]
pub struct Backoff {
    longest: Duration,
    /// Keyed by the operating system's randomness: jitter needs no better.
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    /// Begins with the shortest range.
    #[must_use]
    pub fn new() -> Self {
        Self { longest: FIRST_RANGE, random: RandomState::new(), drawn: 0 }
    }

    /// Begins with the shortest range again: the broker has proved that it works.
    pub fn reset(&mut self) {
        self.longest = FIRST_RANGE;
    }

    /// Draws the next pause, from [`limits::RECONNECT_DELAY_MIN`] to the end of the range, which
    /// grows to at most `max`.
    pub fn pause(&mut self, max: Duration) -> Duration {
        self.drawn += 1;
        let parts = u32::try_from(self.random.hash_one(self.drawn) >> 48).unwrap_or(0);
        let range = self.longest.min(max) - limits::RECONNECT_DELAY_MIN;
        self.longest = (self.longest * 2).min(max);
        limits::RECONNECT_DELAY_MIN + range * parts / 0xFFFF
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

const FIRST_RANGE: Duration = limits::RECONNECT_DELAY_MIN.saturating_mul(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_are_never_the_same_for_two() {
        let mut pauses = Backoff::new();
        let mut other = Backoff::new();
        let mut range = limits::RECONNECT_DELAY_MIN * 2;
        let mut same = 0;
        for _ in 0..20 {
            let pause = pauses.pause(limits::RECONNECT_DELAY_MAX);
            assert!(pause >= limits::RECONNECT_DELAY_MIN && pause <= range, "{pause:?} {range:?}");
            same += u32::from(pause == other.pause(limits::RECONNECT_DELAY_MAX));
            range = (range * 2).min(limits::RECONNECT_DELAY_MAX);
        }
        assert!(same < 20);
        assert_eq!(pauses.longest, limits::RECONNECT_DELAY_MAX);
        pauses.reset();
        assert!(pauses.pause(limits::RECONNECT_DELAY_MAX) <= limits::RECONNECT_DELAY_MIN * 2);
    }
}
