//! Sends a smoothed value for every reading: the mean of the last while, or one that forgets.
#![no_std]

use fieldgate_rule::prelude::*;

/// A smoothed value for every reading.
#[derive(Params)]
pub struct MovingAverage {
    /// How far back it looks; of the exponential one, the time in which the past loses two thirds of
    /// its weight.
    #[param(default = "1m", min = "1ms", max = "1d")]
    window: Duration,
    /// The mean of the window, or an exponential average, which keeps one number instead of all.
    #[param(default = "mean")]
    method: Method,
}

/// How it is smoothed.
#[derive(Choice, Clone, Copy)]
pub enum Method {
    /// The mean of the readings of the window.
    Mean,
    /// A weight that falls with the readings' age.
    Exponential,
}

/// Most readings that one mean is of; of more, the oldest are left out.
const READINGS_MAX: usize = 1_000;

/// What the next average needs.
#[derive(State, Default)]
pub struct Past {
    /// Readings of the window, in order of time.
    readings: VecDeque<(Timestamp, f64)>,
    average: Option<(Timestamp, f64)>,
}

#[rule(state = Past, outputs = Output, emits = ["{device}/{point}.avg"])]
impl Rule for MovingAverage {
    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Output, Error> {
        let point = format!("{}.avg", series.point);
        declare.data(&series.device, &point, series.unit.as_deref())
    }

    fn reading(&self, r: Reading, past: &mut Past, out: &mut Out<Output>) {
        let Some(now) = r.number() else { return };
        let average = match self.method {
            Method::Mean => self.mean(r.at, now, past),
            Method::Exponential => self.exponential(r.at, now, past),
        };
        if let Some(average) = average {
            out.send(*out.to(), r.at, average);
        }
    }
}

impl MovingAverage {
    /// `None` for a reading that is older than the one before it.
    fn mean(&self, at: Timestamp, now: f64, past: &mut Past) -> Option<f64> {
        let all = &mut past.readings;
        if all.back().is_some_and(|(newest, _)| at < *newest) {
            return None;
        }
        all.push_back((at, now));
        while all.len() > READINGS_MAX
            || all.front().is_some_and(|(old, _)| at - *old >= self.window)
        {
            all.pop_front();
        }
        // Added up anew each time: a running sum would gather its roundings for years.
        #[expect(clippy::cast_precision_loss, reason = "at most READINGS_MAX")]
        let count = all.len() as f64;
        Some(all.iter().map(|(_, number)| number).sum::<f64>() / count)
    }

    fn exponential(&self, at: Timestamp, now: f64, past: &mut Past) -> Option<f64> {
        let average = match past.average {
            Some((newest, _)) if at < newest => return None,
            Some((newest, average)) => {
                let age = (at - newest).as_secs_f64() / self.window.as_secs_f64();
                now + (average - now) * libm::exp(-age)
            }
            None => now,
        };
        past.average = Some((at, average));
        Some(average)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, documented, holds, plans, recordings};

    #[test]
    fn the_mean_is_of_the_readings_in_the_window() {
        let bed = Bed::new("m/p = 1@0s 2@10s 6@20s 4@1m").with("window", Duration::from_secs(30));
        let sent = ["m/p.avg = 1@0s", "m/p.avg = 1.5@10s", "m/p.avg = 3@20s", "m/p.avg = 4@1m"];
        assert_eq!(bed.lines::<MovingAverage>(), sent);
    }

    #[test]
    fn the_exponential_one_covers_two_thirds_of_a_step_in_its_window() {
        let bed = Bed::new("m/p = 0@0s 1@0s 1@1m").with("method", "exponential");
        let came = bed.lines::<MovingAverage>();
        assert_eq!(came[2], "m/p.avg = 0.6321205588285577@1m");
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        let bed = Bed::new("m/p = 1@0s none@1s 'x'@2s 9:bad@3s 3@4s");
        assert_eq!(bed.lines::<MovingAverage>(), ["m/p.avg = 1@0s", "m/p.avg = 2@4s"]);
    }

    #[test]
    fn a_flood_does_not_grow_what_is_kept() {
        let readings = (0..5_000).map(|n| (Timestamp(n * 1000), 1.0));
        let run = Bed::of("m", "p", readings).run::<MovingAverage>();
        assert_eq!(run.emitted.len(), 5_000);
        assert!(run.state[0].1.len() <= 16 * READINGS_MAX + 8);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<MovingAverage>(include_str!("../../../docs/rules/moving-average.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans(), exponential: bool) {
            let method = if exponential { "exponential" } else { "mean" };
            holds::<MovingAverage>(&bed.with("method", method), &plan)?;
        }
    }
}
