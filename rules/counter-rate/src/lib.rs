//! Makes rates of counters: pulses, litres, watt-hours that only go up, roll over at the width of
//! their register and begin again at zero when the device restarts.
#![no_std]

use fieldgate_rule::prelude::*;

/// The rate of a counter, across its roll-over.
#[derive(Params)]
pub struct CounterRate {
    /// Width of the counter, after which it begins again at zero.
    #[param(default = "32")]
    bits: Bits,
    /// The time that the rate is per.
    #[param(default = "1s", min = "1ms", max = "1d")]
    per: Duration,
    /// What one count stands for, in the unit of the rate.
    #[param(default = 1.0)]
    scale: f64,
    /// Longest time between two readings; after more silence nobody knows how often it rolled over.
    #[param(default = "5m")]
    gap: Duration,
    /// Unit of the rate.
    unit: Option<String>,
}

/// Width of a counter.
#[derive(Choice, Clone, Copy)]
pub enum Bits {
    /// Of one register.
    #[param(word = "16")]
    B16,
    /// Of two.
    #[param(word = "32")]
    B32,
    /// Of four; beyond 2^53 its last digits are rounded.
    #[param(word = "64")]
    B64,
    /// It never rolls over.
    None,
}

/// The counter as it stood last.
#[derive(State, Default)]
pub struct Last(Option<(Timestamp, f64)>);

#[rule(state = Last, outputs = Output, emits = ["{device}/{point}.rate"])]
impl Rule for CounterRate {
    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Output, Error> {
        let point = format!("{}.rate", series.point);
        declare.data(&series.device, &point, self.unit.as_deref())
    }

    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out<Output>) {
        let Some(now) = r.number() else { return };
        let Some((at, then)) = last.0 else {
            last.0 = Some((r.at, now));
            return;
        };
        if r.at <= at {
            return;
        }
        let between = r.at - at;
        if between <= self.gap
            && let Some(counts) = self.counts(then, now)
        {
            let times = between.as_secs_f64() / self.per.as_secs_f64();
            out.send(*out.to(), r.at, counts * self.scale / times);
        }
        last.0 = Some((r.at, now));
    }
}

impl CounterRate {
    /// Counts from one reading to the next. `None` when the counter began again at zero: a step back
    /// that, taken as a roll-over, would be more than half of the range.
    fn counts(&self, then: f64, now: f64) -> Option<f64> {
        if now >= then {
            return Some(now - then);
        }
        let range = match self.bits {
            Bits::B16 => 65_536.0,
            Bits::B32 => 4_294_967_296.0,
            Bits::B64 => 18_446_744_073_709_551_616.0,
            Bits::None => return None,
        };
        let counts = range - then + now;
        (0.0..=range / 2.0).contains(&counts).then_some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, documented, holds, plans, recordings};

    #[test]
    fn a_counter_rolls_over_at_its_width() {
        let bed = Bed::new("m/n = 65530@0s 4@1s").with("bits", "16");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 10@1s"]);
        let bed = Bed::new("m/n = 4294967290@0s 14@10s");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 2@10s"]);
        let bed = Bed::new("m/n = 18446744073709500000@0s 48384@1s").with("bits", "64");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 99584@1s"]);
    }

    #[test]
    fn a_counter_that_began_again_gives_no_rate_for_that_step() {
        let bed = Bed::new("m/n = 1000@0s 5@1s 8@2s");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 3@2s"]);
        let bed = Bed::new("m/n = 65530@0s 4@1s 5@2s").with("bits", "none");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 1@2s"]);
    }

    #[test]
    fn counts_are_scaled_to_what_they_stand_for() {
        let bed = Bed::new("m/n = 100@0s 130@1m").with("scale", 0.5);
        let bed = bed.with("per", Duration::from_secs(3600));
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 900@1m"]);
    }

    #[test]
    fn after_a_long_silence_it_begins_anew() {
        let bed = Bed::new("m/n = 1@0s 2@10m 4@601s");
        assert_eq!(bed.lines::<CounterRate>(), ["m/n.rate = 2@10m1s"]);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<CounterRate>(include_str!("../../../docs/rules/counter-rate.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<CounterRate>(&bed.with("bits", "16"), &plan)?;
        }
    }
}
