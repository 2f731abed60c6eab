//! Wall-clock time, behind a seam so that tests can set it. Schedules never use it: they run on
//! tokio's monotonic clock, because a board without a battery-backed clock jumps at its first sync.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::reading::UnixMillis;

/// Tells what time it is. Two implementations: [`System`] and [`Manual`].
pub trait Clock: Send + Sync {
    /// Returns milliseconds since 1970-01-01 UTC, as the board believes.
    fn now(&self) -> UnixMillis;

    /// Returns whether the clock can be believed: false when it shows a time before this program
    /// was written, as a board without a battery does until its first network time.
    fn plausible(&self) -> bool {
        self.now() >= EARLIEST_PLAUSIBLE
    }
}

/// 2026-01-01T00:00:00Z: no gateway of this version ran before.
pub const EARLIEST_PLAUSIBLE: UnixMillis = UnixMillis(1_767_225_600_000);

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct System;

impl Clock for System {
    fn now(&self) -> UnixMillis {
        #[expect(clippy::disallowed_methods, reason = "this is the one home of wall time")]
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixMillis(i64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that moves only when told, for tests and replays.
#[derive(Debug)]
pub struct Manual(AtomicI64);

impl Manual {
    /// Starts at `at`.
    #[must_use]
    pub fn new(at: UnixMillis) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves to `at`, forwards or backwards.
    pub fn set(&self, at: UnixMillis) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    /// Moves forward by `by`, to the millisecond.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Manual {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}
