//! Raises an event while a value is beyond a limit: at once or when it has been so for a while, and
//! not again before it is clearly back.
#![no_std]

use fieldgate_rule::prelude::*;

/// An event while a value is above or below a limit.
#[derive(Params)]
pub struct Threshold {
    /// Raises the event while the value is above this, in the point's unit.
    above: Option<f64>,
    /// Raises the event while the value is below this, in the point's unit.
    below: Option<f64>,
    /// How far back within the limit the value must be before the event is over.
    #[param(default = 0.0, min = 0.0)]
    hysteresis: f64,
    /// How long the value must be beyond the limit before the event is raised.
    #[param(default = "0s", max = "7d")]
    r#for: Duration,
    /// Name of the event, a point of the same device, in which {point} stands for the point's name:
    /// true when raised, false when over.
    #[param(default = "{point}.alarm")]
    event: String,
}

/// What is known of one series.
#[derive(State, Default)]
pub struct Watch {
    newest: Option<Timestamp>,
    /// Beyond the limit since, while it has not been so for long enough.
    since: Option<Timestamp>,
    raised: bool,
}

#[rule(state = Watch, outputs = Output, emits = ["event {device}/{event}"])]
impl Rule for Threshold {
    fn prepare(&mut self) -> Result<(), Error> {
        match (self.above, self.below) {
            (None, None) => Err(Error::new(
                "params.limit",
                "neither above nor below is set, so there is nothing to watch for",
            )),
            (Some(above), Some(below)) if above - self.hysteresis < below + self.hysteresis => {
                Err(Error::new(
                    "params.limit",
                    "between below and above no value is left at which the event could be over",
                ))
            }
            _ => Ok(()),
        }
    }

    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<Output, Error> {
        declare.event(&series.device, &self.event.replace("{point}", &series.point))
    }

    fn reading(&self, r: Reading, watch: &mut Watch, out: &mut Out<Output>) {
        // An outage neither raises nor ends anything, and the past is over.
        let Some(value) = r.number() else { return };
        if watch.newest.is_some_and(|newest| r.at < newest) {
            return;
        }
        watch.newest = Some(r.at);
        if watch.raised {
            if self.is_back(value) {
                watch.raised = false;
                out.send(*out.to(), r.at, false);
            }
        } else if !self.is_beyond(value) {
            if watch.since.take().is_some() {
                out.sleep();
            }
        } else if self.r#for.is_zero() {
            self.raise(r.at, watch, out);
        } else if watch.since.is_none() {
            watch.since = Some(r.at);
            out.wake(r.at + self.r#for);
        }
    }

    fn wake(&self, at: Timestamp, watch: &mut Watch, out: &mut Out<Output>) {
        self.raise(at, watch, out);
    }
}

impl Threshold {
    fn raise(&self, at: Timestamp, watch: &mut Watch, out: &mut Out<Output>) {
        watch.since = None;
        watch.raised = true;
        out.send(*out.to(), at, true);
    }

    fn is_beyond(&self, value: f64) -> bool {
        self.above.is_some_and(|above| value > above)
            || self.below.is_some_and(|below| value < below)
    }

    fn is_back(&self, value: f64) -> bool {
        self.above.is_none_or(|above| value <= above - self.hysteresis)
            && self.below.is_none_or(|below| value >= below + self.hysteresis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, Plan, documented, holds, plans, recordings};

    fn freeze(feed: &str) -> Bed {
        let bed = Bed::new(feed).with("below", 2.0).with("event", "freeze");
        bed.with("for", Duration::from_secs(30))
    }

    #[test]
    fn the_example_of_the_contract_comes_out_as_written() {
        let bed = freeze("chiller/supply_temp = 3.0@0s 1.9@10s 1.8@41s");
        assert_eq!(bed.lines::<Threshold>(), ["event chiller/freeze = true@40s"]);
    }

    #[test]
    fn it_is_raised_while_nothing_comes() {
        let bed = freeze("chiller/supply_temp = 1.9@10s");
        assert_eq!(bed.lines::<Threshold>(), ["event chiller/freeze = true@40s"]);
    }

    #[test]
    fn a_value_that_is_back_in_time_raises_nothing() {
        let bed = freeze("chiller/supply_temp = 1.9@10s 2@39s 1.9@41s 3@1m");
        assert!(bed.lines::<Threshold>().is_empty());
    }

    #[test]
    fn within_the_hysteresis_it_stays_raised() {
        let bed = Bed::new("m/p = 10@0s 11@1s 9.5@2s 10.5@3s 8.9@4s 9.5@5s 10.1@6s");
        let bed = bed.with("above", 10.0).with("hysteresis", 1.0);
        let came = bed.lines::<Threshold>();
        let wanted = [
            "event m/p.alarm = true@1s",
            "event m/p.alarm = false@4s",
            "event m/p.alarm = true@6s",
        ];
        assert_eq!(came, wanted);
    }

    #[test]
    fn an_outage_neither_raises_nor_ends_it() {
        let bed = Bed::new("m/p = 1@0s 9@1s none@2s 9:bad@3s 1:bad@4s 1@5s").with("above", 5.0);
        assert_eq!(
            bed.lines::<Threshold>(),
            ["event m/p.alarm = true@1s", "event m/p.alarm = false@5s"]
        );
    }

    #[test]
    fn without_a_limit_it_says_so() {
        let plan = Plan { sizes: [1].into(), restarts: [false].into() };
        let said = Bed::new("m/p = 1@0s").run_as::<Threshold>(&plan).unwrap_err();
        assert!(said.message.contains("neither above nor below"), "{}", said.message);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<Threshold>(include_str!("../../../docs/rules/threshold.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans(), wait in 0_u64..9) {
            let bed = bed.with("above", 20.0).with("hysteresis", 2.0);
            holds::<Threshold>(&bed.with("for", Duration::from_secs(wait)), &plan)?;
        }
    }
}
