//! How long to wait before something that failed is tried again: pauses that grow and are drawn by
//! chance, so that a fleet, or the buses of a board, do not come back as one.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Pauses with full jitter between a minimum and the end of a range that doubles each time.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// End of the range that the next pause is drawn from.
    longest: Duration,
}

impl Backoff {
    /// Begins with the shortest range, from `min` to twice that.
    ///
    /// # Panics
    /// When `max` is less than `min`; both are limits of this program, not settings.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        assert!(min <= max, "the maximum must not be less than the minimum");
        Self { min, max, longest: (min * 2).min(max) }
    }

    /// Begins with the shortest range again: what was tried has proved that it works.
    pub fn reset(&mut self) {
        self.longest = (self.min * 2).min(self.max);
    }

    /// Moves the longest pause to `max`, for a trouble that wants other patience than the one before.
    pub fn limit(&mut self, max: Duration) {
        self.max = max.max(self.min);
        self.longest = self.longest.min(self.max);
    }

    /// Draws the next pause, from the minimum to the end of the range, and doubles the range.
    pub fn pause(&mut self) -> Duration {
        let parts = u32::try_from(random() >> 48).unwrap_or(0);
        let range = self.longest - self.min;
        self.longest = (self.longest * 2).min(self.max);
        self.min + range * parts / 0xFFFF
    }
}

/// Returns a number nobody can foresee, for pauses, tokens and first numbers of a sequence. The
/// standard library seeds its hash maps from the system's random source; this asks one of them.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_are_never_the_same_for_two() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(300));
        let mut pauses = Backoff::new(min, max);
        let mut other = Backoff::new(min, max);
        let mut range = min * 2;
        let mut same = 0;
        for _ in 0..20 {
            let pause = pauses.pause();
            assert!(pause >= min && pause <= range, "{pause:?} {range:?}");
            same += u32::from(pause == other.pause());
            range = (range * 2).min(max);
        }
        assert!(same < 20);
        assert_eq!(pauses.longest, max);
        pauses.limit(min * 3);
        assert!((0..20).all(|_| pauses.pause() <= min * 3));
        pauses.reset();
        assert!(pauses.pause() <= min * 2);
    }
}
