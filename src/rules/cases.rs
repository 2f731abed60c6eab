//! Tests of rules as people write them: what a rule is fed, and what must come of it.
//!
//! ```toml
//! feed   = "chiller/supply_temp = 3.0@0s 1.9@10s 1.8@41s"
//! expect = "event freeze @40s"
//! ```
//! `docs/rules-testing.md` has the whole grammar. The same text serves the author's `rule test`, the
//! operator's `check --tests`, and a gateway before it tries a pushed rule. Nothing here knows how a
//! rule is run; [`compare`] takes what came and says the first difference in words.

mod compare;
mod expect;
mod feed;
mod hold;
mod play;
mod recording;
mod scan;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use super::wit::{NoData, Quality, Value};
use crate::reading::Stream;

pub use compare::{Verdict, compare};
pub use expect::{Expect, Wanted};
pub use feed::{Fed, Feed};
pub use hold::{Fell, hold, hold_all};
pub use play::{Cuts, Open, Played, play};
pub use table::{Case, CaseFault};

/// When a test begins, microseconds since 1970 UTC: 2026-01-01 00:00. Times in tests count from here,
/// so that windows of any usual length begin with the test.
pub const BEGIN_US: i64 = 1_767_225_600_000_000;

/// What is wrong with a line of a test; completes "the feed .." or "the expectation ..".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// What was found, with the words it was found in.
    pub found: String,
    /// What would do.
    pub hint: String,
}

/// A reading that a rule emitted, its series by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    /// [`Stream::Data`] or [`Stream::Event`].
    pub stream: Stream,
    /// Device.
    pub device: String,
    /// Point.
    pub point: String,
    /// Microseconds since [`BEGIN_US`].
    pub at: i64,
    /// What it showed.
    pub value: Value,
    /// How far it can be trusted.
    pub quality: Quality,
}

impl Slip {
    fn new(found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { found: found.into(), hint: hint.into() }
    }
}

impl fmt::Display for Slip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.hint)
    }
}

/// As a line of `expect` says it: `event chiller/freeze = true@40s`.
impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = if self.stream == Stream::Event { "event " } else { "" };
        write!(f, "{event}{}/{} = {}", self.device, self.point, self.token())
    }
}

impl Came {
    /// Value, quality and time: `2.5:uncertain@10s`.
    #[must_use]
    pub fn token(&self) -> String {
        format!(
            "{}{}@{}",
            show_value(&self.value),
            show_flags(&self.value, self.quality),
            show_time(self.at)
        )
    }
}

/// Every flag with its word.
const FLAGS: [(&str, Quality); 6] = [
    ("uncertain", Quality::UNCERTAIN),
    ("bad", Quality::BAD),
    ("late", Quality::LATE),
    ("clock-unsynced", Quality::CLOCK_UNSYNCED),
    ("derived", Quality::DERIVED),
    ("substituted", Quality::SUBSTITUTED),
];

/// Every reason for having no value with its word.
const REASONS: [(&str, NoData); 6] = [
    ("timeout", NoData::Timeout),
    ("device-exception", NoData::DeviceException),
    ("malformed", NoData::Malformed),
    ("out-of-range", NoData::OutOfRange),
    ("offline", NoData::Offline),
    ("configuration", NoData::Configuration),
];

/// Returns a value as a line of a test has it.
#[must_use]
pub fn show_value(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Text(text) => {
            let clean: String = text.chars().flat_map(char::escape_debug).collect();
            format!("'{}'", clean.replace("\\\"", "\""))
        }
        Value::None(_) => "none".to_owned(),
    }
}

fn show_flags(value: &Value, quality: Quality) -> String {
    let reason = match value {
        Value::None(NoData::Timeout) => None,
        Value::None(why) => REASONS.iter().find(|(_, known)| known == why).map(|(word, _)| *word),
        _ => None,
    };
    let flags = FLAGS.iter().filter(|(_, flag)| quality.contains(*flag)).map(|(word, _)| *word);
    let words: Vec<_> = reason.into_iter().chain(flags).collect();
    if words.is_empty() { String::new() } else { format!(":{}", words.join("+")) }
}

/// Returns a time of a test: `1m30s`.
#[must_use]
pub fn show_time(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let duration = std::time::Duration::from_micros(us.unsigned_abs());
    format!("{sign}{}", humantime::format_duration(duration).to_string().replace(' ', ""))
}
