//! One case as a TOML table: `feed`, `expect`, `with`, `lateness`, `until`. `[test.x]` of a gateway's
//! configuration and the tables of a rule's `tests/*.toml` are the same but for the key `rule`.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Expect, Feed, Slip};
use crate::limits;
use crate::rules::Manifest;
use crate::rules::wit::Param;

/// One test of a rule, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Parameters in force.
    pub params: Vec<(String, Param)>,
    /// What the rule is fed.
    pub feed: Feed,
    /// What must come.
    pub expect: Expect,
    /// How long readings are waited for.
    pub lateness: Duration,
    /// How far the clock goes on behind the last reading, microseconds since the test began.
    pub until: i64,
}

/// One thing wrong with a case's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseFault {
    /// Bytes of the file it stands in; `None` when something is missing.
    pub span: Option<Range<usize>>,
    /// What was found.
    pub found: String,
    /// Why it does not do; may be empty.
    pub why: String,
    /// What would do; may be empty.
    pub hint: String,
}

/// The keys of a case.
pub const KEYS: [&str; 8] =
    ["rule", "feed", "recording", "expect", "expected", "with", "lateness", "until"];

/// How long readings are waited for unless a case says otherwise: as in `[rule.x]`.
const LATENESS: Duration = Duration::from_secs(5);

/// How far the clock goes on behind the last reading unless a case says otherwise: a day, in which
/// windows close and alarms are raised.
const SILENCE: Duration = Duration::from_secs(24 * 3600);

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Case {
    /// Reads a case of a rule; the files it names are relative to `folder`. `base` is what the rule is
    /// configured with, over which the case's own `with` goes; `lateness` is its `[rule.x]`'s, when it
    /// has one.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn read(
        (table, folder): (&DeTable<'_>, &Path),
        manifest: &Manifest,
        base: &DeTable<'_>,
        lateness: Option<Duration>,
    ) -> Result<Self, Vec<CaseFault>> {
        let mut faults: Vec<CaseFault> = table
            .iter()
            .filter(|(key, _)| !KEYS.contains(&key.get_ref().as_ref()))
            .map(|(key, _)| {
                let found = format!("unknown key \"{}\" in a test", key.get_ref().escape_debug());
                fault(Some(key.span()), found, format!("known here: {}", KEYS.join(", ")))
            })
            .collect();
        let feed = match named(table, "recording", "feed", &mut faults) {
            Some((path, span)) => {
                slipped(Feed::recorded(&folder.join(path)), "recording", span, &mut faults)
            }
            None => lines(table, "feed", &mut faults, |lines| Feed::parse(lines.iter().copied())),
        };
        let expect = match named(table, "expected", "expect", &mut faults) {
            Some((path, span)) => {
                slipped(Expect::recorded(&folder.join(path)), "expected", span, &mut faults)
            }
            None => {
                lines(table, "expect", &mut faults, |lines| Expect::parse(lines.iter().copied()))
            }
        };
        let params = params(table, manifest, base, &mut faults);
        let lateness = duration(table, "lateness", &mut faults).or(lateness).unwrap_or(LATENESS);
        let until = duration(table, "until", &mut faults);
        match (feed, expect, params) {
            (Some(feed), Some(expect), Some(params)) if faults.is_empty() => Ok(Self {
                params,
                until: match until {
                    Some(until) => micros(until).max(feed.ends()),
                    None => feed.ends().saturating_add(micros(SILENCE)),
                },
                feed,
                expect,
                lateness,
            }),
            _ => Err(faults),
        }
    }
}

impl Case {
    /// A case that only feeds: whatever comes is right.
    #[must_use]
    pub fn feeding(feed: Feed, params: Vec<(String, Param)>) -> Self {
        let until = feed.ends().saturating_add(micros(SILENCE));
        Self { params, feed, expect: Expect::anything(), lateness: LATENESS, until }
    }
}

fn fault(span: Option<Range<usize>>, found: String, why: String) -> CaseFault {
    CaseFault { span, found, why, hint: String::new() }
}

/// Reads one text or a list of them.
fn lines<T>(
    table: &DeTable<'_>,
    key: &str,
    faults: &mut Vec<CaseFault>,
    parse: impl FnOnce(&[&str]) -> Result<T, Slip>,
) -> Option<T> {
    let Some(value) = table.get(key) else {
        let example = match key {
            "feed" => "feed = \"boiler/temp = 20.0@0s 21.5@10s\"",
            _ => "expect = \"boiler/temp = 20.0@0s\", or expect = \"nothing\"",
        };
        let mut missing = fault(None, format!("a test has no {key}"), String::new());
        missing.hint = example.to_owned();
        faults.push(missing);
        return None;
    };
    let text = |entry: &'_ Spanned<DeValue<'_>>| entry.get_ref().as_str().map(str::to_owned);
    let texts: Option<Vec<String>> = match value.get_ref() {
        DeValue::String(one) => Some(vec![one.to_string()]),
        DeValue::Array(list) => list.iter().map(text).collect(),
        _ => None,
    };
    let Some(texts) = texts else {
        let why = "it is a text, or a list of texts".to_owned();
        faults.push(fault(Some(value.span()), format!("{key} is neither text nor a list"), why));
        return None;
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    slipped(parse(&texts), key, value.span(), faults)
}

fn slipped<T>(
    parsed: Result<T, Slip>,
    key: &str,
    span: Range<usize>,
    faults: &mut Vec<CaseFault>,
) -> Option<T> {
    parsed
        .map_err(|slip| {
            let mut slipped = fault(Some(span), format!("{key}: {}", slip.found), String::new());
            slipped.hint = slip.hint;
            faults.push(slipped);
        })
        .ok()
}

/// Reads the name of a file that stands for a text, which must not stand beside it.
fn named(
    table: &DeTable<'_>,
    key: &str,
    text: &str,
    faults: &mut Vec<CaseFault>,
) -> Option<(String, Range<usize>)> {
    let value = table.get(key)?;
    if let Some(other) = table.get(text) {
        let why = "one of them says it".to_owned();
        faults.push(fault(Some(other.span()), format!("a test has {text} and {key}"), why));
    }
    let Some(path) = value.get_ref().as_str() else {
        let why = "it is a file's name, relative to this file".to_owned();
        faults.push(fault(Some(value.span()), format!("{key} is no text"), why));
        return None;
    };
    Some((path.to_owned(), value.span()))
}

fn params(
    table: &DeTable<'_>,
    manifest: &Manifest,
    base: &DeTable<'_>,
    faults: &mut Vec<CaseFault>,
) -> Option<Vec<(String, Param)>> {
    let empty = DeTable::new();
    let over = match table.get("with").map(|with| (with.get_ref().as_table(), with.span())) {
        None => &empty,
        Some((Some(with), _)) => with,
        Some((None, span)) => {
            let why = "it is a table of parameters: with = { band = 0.5 }".to_owned();
            faults.push(fault(Some(span), "with is no table".to_owned(), why));
            return None;
        }
    };
    match manifest.params_of(&[base, over]) {
        Ok(params) => Some(params),
        Err(wrong) => {
            // What is wrong with the rule's own table is told at its own place.
            faults.extend(wrong.into_iter().map(|wrong| CaseFault {
                span: wrong.span.filter(|_| wrong.layer == 1),
                found: wrong.found,
                why: wrong.why,
                hint: wrong.hint,
            }));
            None
        }
    }
}

fn duration(table: &DeTable<'_>, key: &str, faults: &mut Vec<CaseFault>) -> Option<Duration> {
    let value = table.get(key)?;
    let duration = value.get_ref().as_str().and_then(|text| humantime::parse_duration(text).ok());
    if duration.is_none_or(|duration| duration > limits::CASE_TIME_MAX) {
        let days = limits::CASE_TIME_MAX.as_secs() / 86_400;
        let why = format!("it is a duration of at most {days} days, such as \"30s\"");
        faults.push(fault(Some(value.span()), format!("{key} does not do"), why));
        return None;
    }
    duration
}
