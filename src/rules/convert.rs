//! The border between the river's readings and the contract's: values, marks, times.

use super::wit;
use crate::reading::{NoData, Quality, Sample, Value};

/// Microseconds of a millisecond.
pub const US_PER_MS: i64 = 1000;

/// Returns a reading's value as rules see it.
#[must_use]
pub fn value_to_rule(sample: &Sample) -> wit::Value {
    match &sample.value {
        Ok(Value::Bool(flag)) => wit::Value::Boolean(*flag),
        Ok(Value::Decimal(decimal)) => wit::Value::Number(decimal.to_f64()),
        Ok(Value::Float(number)) => wit::Value::Number(*number),
        Ok(Value::Text(text)) => wit::Value::Text(text.to_string()),
        Err(why) => wit::Value::None(match why {
            NoData::Timeout => wit::NoData::Timeout,
            NoData::DeviceException => wit::NoData::DeviceException,
            NoData::Malformed => wit::NoData::Malformed,
            NoData::SensorFault => wit::NoData::OutOfRange,
            NoData::Configuration => wit::NoData::Configuration,
        }),
    }
}

/// Returns a reading's mark as rules see it. What was cut to its range is uncertain to them.
#[must_use]
pub fn quality_to_rule(quality: Quality) -> wit::Quality {
    match quality {
        Quality::Good => wit::Quality::empty(),
        Quality::Uncertain | Quality::Clamped => wit::Quality::UNCERTAIN,
        Quality::Bad => wit::Quality::BAD,
        Quality::Substituted => wit::Quality::SUBSTITUTED,
        Quality::ClockUnsynced => wit::Quality::CLOCK_UNSYNCED,
    }
}

/// Returns what a rule emitted as a sample. Of several marks the worst counts; that a reading came
/// late or was derived is no mark of its value.
#[must_use]
pub fn sample_of_rule(reading: &wit::Reading) -> Sample {
    let value = match &reading.value {
        wit::Value::Number(number) => Value::from_f64(*number),
        wit::Value::Integer(number) => Ok(Value::from_i64(*number)),
        wit::Value::Boolean(flag) => Ok(Value::Bool(*flag)),
        wit::Value::Text(text) => Ok(Value::from_text(text)),
        wit::Value::None(why) => Err(match why {
            wit::NoData::Timeout | wit::NoData::Offline => NoData::Timeout,
            wit::NoData::DeviceException => NoData::DeviceException,
            wit::NoData::Malformed => NoData::Malformed,
            wit::NoData::OutOfRange => NoData::SensorFault,
            wit::NoData::Configuration => NoData::Configuration,
        }),
    };
    let marks = [
        (wit::Quality::BAD, Quality::Bad),
        (wit::Quality::UNCERTAIN, Quality::Uncertain),
        (wit::Quality::SUBSTITUTED, Quality::Substituted),
        (wit::Quality::CLOCK_UNSYNCED, Quality::ClockUnsynced),
    ];
    let worst = marks.into_iter().find(|(flag, _)| reading.quality.contains(*flag));
    let quality = worst.filter(|_| value.is_ok()).map_or(Quality::Good, |(_, quality)| quality);
    Sample { value, quality }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_hands_on_unchanged_is_the_same_reading() {
        let samples = [
            Sample::good(Value::from_f64(21.5).unwrap()),
            Sample::good(Value::Float(1.0 / 3.0)),
            Sample::good(Value::Bool(true)),
            Sample { value: Ok(Value::from_text("on")), quality: Quality::Bad },
            Sample { value: Ok(Value::from_i64(7)), quality: Quality::ClockUnsynced },
            Sample::none(NoData::Timeout),
            Sample::none(NoData::SensorFault),
        ];
        for sample in samples {
            let reading = wit::Reading {
                series: 0,
                at: 0,
                quality: quality_to_rule(sample.quality),
                value: value_to_rule(&sample),
            };
            assert_eq!(sample_of_rule(&reading), sample);
        }
    }
}
