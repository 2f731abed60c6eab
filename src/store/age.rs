//! When data is older than `keep`, and when a clock may say so.
//!
//! A clock that is wrong by years must not empty the store. So ages are believed only as long as the
//! clock moves with the time since boot: when it leaps, in whichever direction, nothing is dropped
//! for its age until `keep` has passed once more, counted by what no one can set, while a gateway
//! runs. By then all that was held at the leap is too old whatever the clock was. Meanwhile `max`
//! still holds.
//!
//! From one boot to the next only the clock tells how long the board was off. It is believed up to a
//! year; a board that wakes up later than that, or before what it wrote last, begins as after a leap.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use crate::clock::State;
use crate::reading::UnixMillis;
use crate::store::batches;
use crate::store::lane::Lane;

/// Longest time a board is believed to have been off: a year.
const OFF_MAX_MS: i64 = 366 * 86_400_000;
/// A leap of this part of `keep` is one; less makes data go a little early or late.
const LEAP_PART: i64 = 10;
/// How often the rest of the distrust is written down, in time since boot.
const WRITE_EVERY_MS: i64 = 60_000;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Age {
    /// The boot whose clock was followed last, and what it added to the time since boot.
    boot: String,
    base: i64,
    /// Milliseconds until ages are believed again.
    distrust: i64,
    /// Time since boot at the last look, and what of it has been written down.
    looked: Option<i64>,
    written: i64,
}

impl Age {
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let number = |key| {
            conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()
        };
        let boot = "SELECT CAST(value AS TEXT) FROM meta WHERE key = 'age_boot'";
        let boot: Option<String> = conn.query_row(boot, [], |r| r.get(0)).optional()?;
        Ok(Self {
            boot: boot.unwrap_or_default(),
            base: number("age_base")?.unwrap_or(0),
            distrust: number("age_distrust_ms")?.unwrap_or(0),
            ..Self::default()
        })
    }

    /// Follows a clock that is set and shows `now`; costs nothing while it moves as it should.
    pub(super) fn follow(
        &mut self,
        conn: &Connection,
        lanes: &[Lane],
        (state, now): (&State, UnixMillis),
        keep: Duration,
    ) -> Result<()> {
        let keep = millis(keep);
        let since_boot = now.0 - state.base;
        let passed = since_boot - self.looked.replace(since_boot).unwrap_or(since_boot);
        self.distrust = (self.distrust - passed).max(0);
        let leapt = if self.boot == *state.boot {
            let leap = state.base.abs_diff(self.base);
            if leap <= (keep / LEAP_PART).unsigned_abs() {
                if self.written.abs_diff(self.distrust) >= WRITE_EVERY_MS.unsigned_abs() {
                    self.write(conn)?;
                }
                return Ok(());
            }
            true
        } else {
            let off = batches::newest(conn, lanes)?.map_or(0, |newest| now.0 - newest.0);
            !(-keep / LEAP_PART..=OFF_MAX_MS.max(keep)).contains(&off)
        };
        if leapt {
            self.distrust = keep;
        }
        (*state.boot).clone_into(&mut self.boot);
        self.base = state.base;
        self.write(conn)
    }

    fn write(&mut self, conn: &Connection) -> Result<()> {
        self.written = self.distrust;
        conn.prepare_cached(
            "REPLACE INTO meta VALUES ('age_boot', ?1), ('age_base', ?2), ('age_distrust_ms', ?3)",
        )?
        .execute(params![self.boot, self.base, self.distrust])
        .map(drop)
    }

    /// Returns the time before which what was sealed is too old; `None` while ages are not believed.
    pub(super) fn limit(&self, now: UnixMillis, keep: Duration) -> Option<UnixMillis> {
        (self.distrust == 0).then(|| UnixMillis(now.0.saturating_sub(millis(keep))))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
