//! The keys of rules.

use std::time::Duration;

use super::{
    Choice, File, Flag, Free, Integer, Keys, Kind, Number, Patterns, Size, Table, Text, Texts,
    must, or, whole,
};
use crate::limits;

/// `[rule.NAME]`
pub const RULE: Keys = &[
    must("file", File, "the rule, a .wasm file that `fieldgate rule build` made"),
    must("on", Patterns, "points that it takes: \"DEVICE/POINT\" with * for anything, or a list"),
    must("with", Free, "its parameters, as its author named them"),
    must("limit", Table(RULE_LIMIT), "what it may use, when it needs more than usual, or less"),
    must("grant", Texts, "which interfaces of the contract it may ask for; default: all of them"),
    or("keep", Flag, "false", "whether the readings it takes also go on"),
    or(
        "mode",
        Choice(&["live", "shadow"]),
        "live",
        "whether what it makes goes on, or is only tried",
    ),
    or(
        "on_failure",
        Choice(&["pass", "drop", "hold"]),
        "pass",
        "what becomes of its readings while it cannot run",
    ),
    or(
        "lateness",
        Kind::Duration(Duration::ZERO, limits::RULE_LATENESS_MAX),
        limits::RULE_LATENESS,
        "how long readings may be on their way before they are late",
    ),
    or(
        "promote_after",
        Kind::Duration(Duration::from_secs(1), limits::TRIAL_TIME_MAX),
        "1h",
        "how long another version is on trial before it takes its place",
    ),
    must("trial", Table(RULE_TRIAL), "what ends the trial of another version"),
];

/// `trial` of a rule.
pub const RULE_TRIAL: Keys = &[
    or("readings", Integer(0, 1 << 40), "0", "readings that it must have been given"),
    or("volume", Number, "10", "how many times as many readings it may emit, or as few"),
    or("cost", Number, "10", "how many times as much fuel and time a reading it may take"),
    must("difference", Number, "share of readings, 0 to 1, that may differ at most; default: any"),
    or("tolerance", Number, "0", "distance at which two values still count as the same"),
    or(
        "promote",
        Choice(&["by-itself", "by-hand"]),
        "by-itself",
        "who ends a trial that went well",
    ),
    or(
        "probation",
        Kind::Duration(Duration::from_secs(1), limits::TRIAL_TIME_MAX),
        "1h",
        "how long a version that took the place is watched before it has proven itself",
    ),
    or(
        "silence",
        Kind::Duration(Duration::from_secs(1), limits::TRIAL_TIME_MAX),
        "5m",
        "how long no batch may be acknowledged in that time, if batches were before",
    ),
];

/// `limit` of a rule.
pub const RULE_LIMIT: Keys = &[
    must("fuel", Integer(1, FUEL_MAX), "fuel a reading; about one unit an instruction"),
    must("memory", Size(64 * 1024, limits::RULE_MEMORY_BYTES_MAX as u64), "linear memory"),
    must(
        "deadline",
        Kind::Duration(Duration::from_millis(1), limits::RULE_DEADLINE_CALL_MAX),
        "computing time of a call before its first reading",
    ),
    must("emitted", count(limits::RULE_EMITTED_PER_INPUT_MAX), "readings it may emit for each one"),
    must(
        "output",
        Size(1024, limits::RULE_EMITTED_BYTES_MAX as u64),
        "what it may emit for a batch",
    ),
    must("state", Size(1024, limits::RULE_STATE_BYTES_MAX as u64), "keys and values it may keep"),
    must("keys", count(limits::RULE_KEYS_MAX), "keys it may keep"),
    must("timers", count(limits::RULE_TIMERS_MAX), "timers it may have set"),
    must(
        "log",
        Integer(1, limits::RULE_LOG_PER_MINUTE_MAX as i64),
        "lines it may write to its log in a minute, after a burst",
    ),
];

const fn count(most: usize) -> Kind {
    Integer(1, whole(most))
}

#[expect(clippy::cast_possible_wrap, reason = "far below 2^63")]
const FUEL_MAX: i64 = limits::RULE_FUEL_READING_MAX as i64;

/// `[test.NAME]`
pub const TEST: Keys = &[
    must("rule", Text, "the rule that is tested, by its name here"),
    must("feed", Patterns, "what comes in: \"DEVICE/POINT = VALUE@TIME ..\", or a list of such"),
    must("recording", File, "a recording in place of feed: .csv, .ndjson, or batches as exported"),
    must("expect", Patterns, "what must come of it, in the same form, or \"nothing\""),
    must("expected", File, "a file in place of expect, with what rule test --show printed"),
    must("with", Free, "parameters over those of the rule"),
    must(
        "lateness",
        Kind::Duration(Duration::ZERO, limits::CASE_TIME_MAX),
        "as the rule's, unless it is said",
    ),
    must(
        "until",
        Kind::Duration(Duration::ZERO, limits::CASE_TIME_MAX),
        "when the test ends; default: a day after the last reading",
    ),
];
