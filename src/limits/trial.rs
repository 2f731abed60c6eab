//! The bounds of trials: a new version of a rule beside the one that runs.

use std::time::Duration;

/// Readings a side has emitted that wait for their like from the other side. A version may emit some
/// seconds later than the other; what waits longer counts as missing.
pub const TRIAL_UNMATCHED_MAX: usize = 4096;

/// Readings a version must have been given before its volume and its cost are judged: a few say
/// nothing.
pub const TRIAL_READINGS_JUDGED: u64 = 200;

/// Fuel a reading below which a version is never called costly, whatever the other one uses.
pub const TRIAL_FUEL_FREE: u64 = 2_000;

/// Computing time a reading below which a version is never called slow: a twentieth of a percent of a
/// core at ten readings a second.
pub const TRIAL_TIME_FREE: Duration = Duration::from_micros(50);

/// Readings a version may emit beyond its bound before that counts: what a timer lets go at once.
pub const TRIAL_EMITTED_FREE: u64 = 64;

/// How long a version is on trial, unless the operator says otherwise.
pub const TRIAL_TIME: Duration = Duration::from_secs(3600);

/// Longest trial an operator may ask for.
pub const TRIAL_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many times as many readings a version may emit as the one that runs, or as few.
pub const TRIAL_VOLUME: f64 = 10.0;

/// How many times as much fuel and time a reading a version may take.
pub const TRIAL_COST: f64 = 10.0;

/// How long a version that has been promoted is watched: when it fails in that time, or the uplink is
/// lost, the last good one comes back.
pub const TRIAL_PROBATION: Duration = Duration::from_secs(3600);

/// How long no batch may be acknowledged within that time, though batches wait and were acknowledged
/// before the promotion.
pub const TRIAL_UPLINK_SILENCE: Duration = Duration::from_secs(300);

/// How long after the ledger could not be written the end of a trial is tried again: a disk that
/// refuses says so each time.
pub const TRIAL_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Bytes of the words that say why a trial ended, as the ledger and `have` show them: a sentence and
/// the rule's own message.
pub const RULE_ENDED_BYTES_MAX: usize = 400;

/// How often trials are looked at.
pub const TRIAL_LOOK: Duration = Duration::from_secs(1);
