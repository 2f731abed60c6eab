//! Readings from text, in the words that `fieldgate rule test` and `[test.x]` use too.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{BEGIN, Bed, Fed};
use crate::sys::Owned;
use crate::{NoData, Quality, Timestamp};

const REASONS: [&str; 6] =
    ["timeout", "device-exception", "malformed", "out-of-range", "offline", "configuration"];
const FLAGS: [&str; 6] = ["uncertain", "bad", "late", "clock-unsynced", "derived", "substituted"];
const UNITS: [(&str, i64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

pub(super) fn read(text: &str, bed: &mut Bed) -> Result<(), String> {
    let mut arriving: Vec<(Timestamp, Fed)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let slip = || format!("not DEVICE/POINT = VALUE@TIME ..: {line}");
        let (name, readings) = line.split_once('=').ok_or_else(slip)?;
        let (device, point) = name.trim().split_once('/').ok_or_else(slip)?;
        let series = bed.add(device, point);
        let mut clock = Timestamp(i64::MIN);
        for token in readings.split_whitespace() {
            let (value, at) = token.rsplit_once('@').ok_or_else(slip)?;
            let at = Timestamp(BEGIN.0 + micros(at).ok_or_else(slip)?);
            let (value, quality) = shown(value).ok_or_else(slip)?;
            clock = clock.max(at);
            arriving.push((clock, Fed { series, at, quality, value }));
        }
    }
    arriving.sort_by_key(|(clock, _)| *clock);
    bed.readings.extend(arriving.into_iter().map(|(_, fed)| fed));
    Ok(())
}

/// Value and quality of `2.5:uncertain+bad` or `none:offline`.
fn shown(text: &str) -> Option<(Owned, Quality)> {
    let (value, words) = text.rsplit_once(':').unwrap_or((text, ""));
    let (mut quality, mut why) = (Quality::GOOD, NoData::Timeout);
    for word in words.split('+').filter(|word| !word.is_empty()) {
        if let Some(place) = FLAGS.iter().position(|known| *known == word) {
            quality = quality | Quality(1 << place);
        } else {
            why = NoData::ALL[REASONS.iter().position(|known| *known == word)?];
        }
    }
    let value = match value {
        "none" => Owned::None(why),
        "true" => Owned::Boolean(true),
        "false" => Owned::Boolean(false),
        _ => match value.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            Some(text) => Owned::Text(text.to_string()),
            None => Owned::Number(value.parse().ok()?),
        },
    };
    Some((value, quality))
}

/// Microseconds of `1m30s`, `-250ms`.
fn micros(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..word])?.1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "tests")]
        let part = crate::calc::round(number * unit as f64) as i64;
        total += part;
        rest = &rest[word..];
    }
    Some(sign * total)
}

/// A time since [`BEGIN`] as people write it.
#[must_use]
pub fn show_time(at: Timestamp) -> String {
    let us = at.0 - BEGIN.0;
    let (mut rest, mut text) = (us.unsigned_abs(), String::from(if us < 0 { "-" } else { "" }));
    for (name, unit) in UNITS.iter().rev() {
        let count = rest / unit.unsigned_abs();
        rest %= unit.unsigned_abs();
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if us == 0 { "0s".to_string() } else { text }
}

pub(super) fn reason(why: NoData) -> &'static str {
    REASONS[why as usize]
}

/// Flags but `derived`, which says nothing in a test.
pub(super) fn flags(quality: Quality) -> String {
    let set = FLAGS.iter().enumerate().filter(|(place, _)| quality.0 & (1 << place) != 0);
    let words: Vec<&str> = set.map(|(_, word)| *word).filter(|word| *word != "derived").collect();
    if words.is_empty() { String::new() } else { format!(":{}", words.join("+")) }
}
