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

/// Parts of a window. Readings of one part are kept as one sum: what is kept is written with every
/// batch, so it must not grow with the rate of readings.
const PARTS: u32 = 64;

/// Readings of one part of the window.
#[derive(State)]
pub struct Part {
    /// Time of its first reading.
    from: Timestamp,
    /// Time of its newest.
    until: Timestamp,
    sum: f64,
    count: u32,
}

/// What the next average needs.
#[derive(State, Default)]
#[state(version = 2)]
pub struct Past {
    /// Parts of the window, in order of time.
    parts: VecDeque<Part>,
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

    /// Version 1 kept every reading.
    fn migrate(&self, from: u32, mut bytes: &[u8]) -> Option<Past> {
        if from != 1 {
            return None;
        }
        let readings = VecDeque::<(Timestamp, f64)>::load(&mut bytes)?;
        let mut past = Past { average: Option::load(&mut bytes)?, ..Past::default() };
        for (at, number) in readings {
            self.mean(at, number, &mut past);
        }
        Some(past)
    }
}

impl MovingAverage {
    /// `None` for a reading that is older than the one before it.
    fn mean(&self, at: Timestamp, now: f64, past: &mut Past) -> Option<f64> {
        let all = &mut past.parts;
        match all.back_mut() {
            Some(last) if at < last.until => return None,
            Some(last) if at - last.from < self.window / PARTS => {
                (last.until, last.count) = (at, last.count + 1);
                last.sum += now;
            }
            _ => all.push_back(Part { from: at, until: at, sum: now, count: 1 }),
        }
        while all.front().is_some_and(|old| at - old.until >= self.window) {
            all.pop_front();
        }
        // Parts are added up anew each time: a running sum would gather its roundings for years.
        let (sum, count) =
            all.iter().fold((0.0, 0), |(sum, count), part| (sum + part.sum, count + part.count));
        Some(sum / f64::from(count))
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
    fn a_flood_does_not_grow_what_is_kept_and_the_mean_stays_within_a_part_of_the_window() {
        let second = 1_000_000;
        let readings = (0..5_000).map(|n| (Timestamp(n * second / 10), (n / 10) as f64));
        let run = Bed::of("m", "p", readings).run::<MovingAverage>();
        assert_eq!(run.emitted.len(), 5_000);
        assert!(run.state[0].1.len() <= 28 * (PARTS as usize + 2) + 8);
        // The value is the second it was read in, so the mean lies half a window back.
        let Value::Number(last) = run.emitted[4_999].value.borrow() else {
            panic!("{:?}", run.emitted[4_999])
        };
        assert!((last - (499.0 - 29.5)).abs() <= 1.0, "{last}");
    }

    #[test]
    fn what_version_1_kept_goes_on() {
        let mut bytes = Vec::new();
        VecDeque::from([(Timestamp(0), 1.0), (Timestamp(10_000_000), 2.0)]).save(&mut bytes);
        Some((Timestamp(5), 7.0)).save(&mut bytes);
        let rule = MovingAverage { window: Duration::from_secs(30), method: Method::Mean };
        let mut past = rule.migrate(1, &bytes).unwrap();
        assert_eq!(past.average, Some((Timestamp(5), 7.0)));
        assert_eq!(rule.mean(Timestamp(20_000_000), 6.0, &mut past), Some(3.0));
        assert!(rule.migrate(1, &bytes[..9]).is_none() && rule.migrate(3, &bytes).is_none());
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
