//! Sends how fast a value changes, from one reading to the next.
#![no_std]

use fieldgate_rule::prelude::*;

/// The change of a value per second, minute or hour.
#[derive(Params)]
pub struct RateOfChange {
    /// The time that the rate is per.
    #[param(default = "1s", min = "1ms", max = "1d")]
    per: Duration,
    /// Shortest time between the two readings of a rate: noise of a fast sensor is not a rate.
    #[param(default = "0s")]
    over: Duration,
    /// Longest time between the two readings of a rate; after more silence there is none.
    #[param(default = "5m")]
    gap: Duration,
}

/// The reading that the next rate begins at.
#[derive(State, Default)]
pub struct Last(Option<(Timestamp, f64)>);

#[rule(state = Last, outputs = Output, emits = ["{device}/{point}.rate"])]
impl Rule for RateOfChange {
    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Output, Error> {
        let unit = series.unit.as_deref().and_then(|unit| unit_per(unit, self.per));
        declare.data(&series.device, &format!("{}.rate", series.point), unit.as_deref())
    }

    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out<Output>) {
        let Some(now) = r.number() else { return };
        let Some((at, then)) = last.0 else {
            last.0 = Some((r.at, now));
            return;
        };
        let between = r.at - at;
        // What is older than the last, or of the same time, says nothing of a rate.
        if between.is_zero() || between < self.over {
            return;
        }
        if between <= self.gap {
            let times = between.as_secs_f64() / self.per.as_secs_f64();
            out.send(*out.to(), r.at, (now - then) / times);
        }
        last.0 = Some((r.at, now));
    }
}

/// `Cel` per minute is `Cel/min`.
fn unit_per(unit: &str, per: Duration) -> Option<String> {
    let word = match per.as_millis() {
        1_000 => "s",
        60_000 => "min",
        3_600_000 => "h",
        86_400_000 => "d",
        _ => return None,
    };
    Some(format!("{unit}/{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, documented, holds, plans, recordings};

    #[test]
    fn a_rate_is_per_the_time_that_was_asked_for() {
        let bed = Bed::new("m/p = 10@0s 11@2s 10@3s").with("per", Duration::from_secs(60));
        assert_eq!(bed.lines::<RateOfChange>(), ["m/p.rate = 30@2s", "m/p.rate = -60@3s"]);
    }

    #[test]
    fn the_unit_says_what_it_is_per() {
        let mut bed = Bed::new("m/p = 10@0s 11@2s");
        bed.series[0].unit = Some("Cel".to_string());
        assert_eq!(bed.run::<RateOfChange>().emitted[0].unit.as_deref(), Some("Cel/s"));
    }

    #[test]
    fn silence_outages_and_readings_of_one_time_give_no_rate() {
        let bed = Bed::new("m/p = 1@0s none@1s 3@2s 4@2s 5@10m 6@601s");
        assert_eq!(bed.lines::<RateOfChange>(), ["m/p.rate = 1@2s", "m/p.rate = 1@10m1s"]);
    }

    #[test]
    fn a_longer_base_leaves_noise_out() {
        let bed = Bed::new("m/p = 0@0s 9@1s 0@2s 10@10s").with("over", Duration::from_secs(10));
        assert_eq!(bed.lines::<RateOfChange>(), ["m/p.rate = 1@10s"]);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<RateOfChange>(include_str!("../../../docs/rules/rate-of-change.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<RateOfChange>(&bed, &plan)?;
        }
    }
}
