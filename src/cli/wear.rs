//! What `fieldgate buffer status` says about the disk: what was written today, what a reading costs,
//! how long the room lasts at the present rate, and how long an outage may.

use bytesize::ByteSize;
use serde_json::{Value, json};

use crate::store::{Day, Usage};

const DAY_SECONDS: f64 = 86_400.0;
/// The present rate is that of the last two days that were counted, or of what there is of them.
const DAYS_LOOKED_AT: usize = 2;
/// Less than this says nothing about a day.
const SECONDS_MIN: u64 = 60;

/// How a store's numbers look from here on.
pub(super) struct Outlook {
    usage: Usage,
    /// The configured `max`; `None` for a buffer without its configuration.
    bytes_max: Option<u64>,
    recent: Day,
}

impl Outlook {
    pub(super) fn new(usage: Usage, bytes_max: Option<u64>) -> Self {
        let mut recent = Day::default();
        for day in usage.days.iter().take(DAYS_LOOKED_AT) {
            recent.seconds += day.seconds;
            recent.written += day.written;
            recent.readings += day.readings;
            recent.sealed += day.sealed;
            recent.grown += day.grown;
        }
        Self { usage, bytes_max, recent }
    }

    fn written_today(&self) -> u64 {
        self.usage.days.first().map_or(0, |day| day.written)
    }

    fn bytes_a_reading(&self) -> Option<f64> {
        let Day { written, readings, .. } = self.recent;
        (readings > 0).then(|| float(written) / float(readings))
    }

    fn a_day(&self, bytes: f64) -> Option<f64> {
        let seconds = self.recent.seconds;
        (seconds >= SECONDS_MIN).then(|| bytes * DAY_SECONDS / float(seconds))
    }

    /// Days until `max` while the backlog grows as it does; `None` while it does not.
    fn days_until_full(&self) -> Option<f64> {
        let grown = self.a_day(float(self.recent.grown.max(0).cast_unsigned()))?;
        let left = self.bytes_max?.saturating_sub(self.usage.bytes);
        (grown > 0.0).then(|| float(left) / grown)
    }

    /// Days that all readings find room while nothing is acknowledged.
    fn outage_days(&self) -> Option<f64> {
        let sealed = self.a_day(float(self.recent.sealed))?;
        (sealed > 0.0).then_some(float(self.bytes_max?) / sealed)
    }

    pub(super) fn text(&self) -> String {
        let cost = self.bytes_a_reading().map_or_else(
            || "no reading counted yet".to_owned(),
            |bytes| format!("{bytes:.1} bytes a reading"),
        );
        let mut text = format!(
            "written  {} today (UTC), {cost}\nroom     {} in use",
            ByteSize(self.written_today()),
            ByteSize(self.usage.bytes)
        );
        let Some(bytes_max) = self.bytes_max else { return text };
        let until = match self.days_until_full() {
            Some(days) => format!("full in {} at the present rate", in_days(days)),
            None => "not growing".to_owned(),
        };
        let outage = self.outage_days().map_or_else(
            || "how long an outage may last is known after a minute".to_owned(),
            |days| format!("an outage of {} fits", in_days(days)),
        );
        text.push_str(&format!(" of {}, {until}; {outage}", ByteSize(bytes_max)));
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "written_today_bytes": self.written_today(),
            "written_bytes_a_reading": self.bytes_a_reading(),
            "in_use_bytes": self.usage.bytes,
            "max_bytes": self.bytes_max,
            "days_until_full": self.days_until_full(),
            "outage_days": self.outage_days(),
        })
    }
}

fn in_days(days: f64) -> String {
    match days {
        0.0..2.0 => format!("{:.0} h", days * 24.0),
        2.0..1000.0 => format!("{days:.0} days"),
        _ => "more than 1,000 days".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits at most")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64, seconds: u64, written: u64, sealed: u64, grown: i64) -> Day {
        Day { day, seconds, written, readings: seconds * 500, sealed, grown }
    }

    #[test]
    fn a_buffer_that_empties_is_never_full_and_says_what_outage_fits() {
        let days = vec![day(20_001, 43_200, 50_000_000, 20_000_000, 0)];
        let outlook = Outlook::new(Usage { bytes: 100_000, days }, Some(400_000_000));
        let text = outlook.text();
        assert!(text.contains("50.0 MB today") || text.contains("47.7 MiB today"), "{text}");
        assert!(text.contains("2.3 bytes a reading"), "{text}");
        assert!(text.contains("not growing; an outage of 10 days fits"), "{text}");
        assert_eq!(outlook.json()["days_until_full"], Value::Null);
    }

    #[test]
    fn a_buffer_that_grows_says_when_it_is_full() {
        let days = vec![
            day(20_001, 43_200, 1_000_000, 10_000_000, 10_000_000),
            day(20_000, 43_200, 1_000_000, 10_000_000, 0),
            day(19_999, 86_400, 0, 0, 1_000_000_000),
        ];
        let outlook = Outlook::new(Usage { bytes: 15_000_000, days }, Some(30_000_000));
        let text = outlook.text();
        assert!(
            text.contains("full in 36 h at the present rate; an outage of 36 h fits"),
            "{text}"
        );
    }

    #[test]
    fn without_counts_and_configuration_nothing_is_claimed() {
        let text = Outlook::new(Usage::default(), None).text();
        assert!(text.ends_with("in use") && text.contains("no reading counted yet"), "{text}");
    }
}
