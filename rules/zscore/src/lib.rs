//! Raises an event when a value is unlike those before it: further from their mean than so many
//! standard deviations. Learns as it goes, in three numbers a series.
#![no_std]

use fieldgate_rule::calc::sqrt;
use fieldgate_rule::prelude::*;

/// An event when a value is unlike those before it.
#[derive(Params)]
pub struct Zscore {
    /// How many standard deviations from the mean raise the event; half of it ends it.
    #[param(default = 4.0, min = 1.0, max = 100.0)]
    limit: f64,
    /// Readings after which what was learnt has lost two thirds of its weight.
    #[param(default = 300, min = 2, max = 1000000)]
    memory: i64,
    /// Readings to learn from before anything is said.
    #[param(default = 30, min = 2, max = 1000000)]
    learn: i64,
    /// Smallest standard deviation, in the point's unit: a value that never moved is no reason to
    /// cry when it does.
    #[param(default = 1e-6, min = 0.0)]
    floor: f64,
    /// Name of the event, a point of the same device, in which {point} stands for the point's name:
    /// true when raised, false when over.
    #[param(default = "{point}.anomaly")]
    event: String,
    /// Whether the distance, in standard deviations, is sent for every reading as POINT.z.
    #[param(default = false)]
    score: bool,
}

/// What was learnt of one series.
#[derive(State, Default)]
pub struct Learnt {
    newest: Option<Timestamp>,
    count: i64,
    mean: f64,
    variance: f64,
    raised: bool,
}

/// Where it is said.
pub struct To {
    event: Output,
    score: Option<Output>,
}

#[rule(state = Learnt, outputs = To, emits = ["event {device}/{event}", "{device}/{point}.z"])]
impl Rule for Zscore {
    fn outputs(&self, series: &Series, declare: &mut Declare) -> Result<To, Error> {
        let event = declare.event(&series.device, &self.event.replace("{point}", &series.point))?;
        let point = format!("{}.z", series.point);
        let score = match self.score {
            true => Some(declare.data(&series.device, &point, None)?),
            false => None,
        };
        Ok(To { event, score })
    }

    fn reading(&self, r: Reading, learnt: &mut Learnt, out: &mut Out<To>) {
        let Some(now) = r.number() else { return };
        if learnt.newest.is_some_and(|newest| r.at < newest) {
            return;
        }
        learnt.newest = Some(r.at);
        let deviation = sqrt(learnt.variance).max(self.floor);
        let mut distance = now - learnt.mean;
        if learnt.count >= self.learn && deviation > 0.0 {
            let z = distance / deviation;
            if let Some(score) = out.to().score {
                out.send(score, r.at, z);
            }
            let raise =
                if learnt.raised { z.abs() >= self.limit / 2.0 } else { z.abs() > self.limit };
            if raise != learnt.raised {
                learnt.raised = raise;
                out.send(out.to().event, r.at, raise);
            }
            // Learnt no further off than the limit: one outlier spoils nothing, and a new level is
            // learnt in the end.
            distance = distance.max(-self.limit * deviation).min(self.limit * deviation);
        }
        learnt.count = learnt.count.saturating_add(1);
        // The plain mean at first, then one that forgets.
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let weight = 1.0 / learnt.count.min(self.memory) as f64;
        learnt.mean += weight * distance;
        learnt.variance = (1.0 - weight) * (learnt.variance + weight * distance * distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{BEGIN, Bed, documented, holds, plans, recordings};

    /// A value that trembles by ±1, `odd` at reading 100.
    fn trembling(odd: f64) -> Bed {
        let readings = (0_i32..200).map(|n| {
            let tremble = f64::from((n * 7) % 11) / 5.0 - 1.0;
            let value = if n == 100 { odd } else { 20.0 + tremble };
            (Timestamp(BEGIN.0 + i64::from(n) * 1_000_000), value)
        });
        Bed::of("m", "p", readings)
    }

    #[test]
    fn what_is_unlike_the_rest_is_said_once_and_so_is_its_end() {
        let came = trembling(26.0).lines::<Zscore>();
        assert_eq!(came, ["event m/p.anomaly = true@1m40s", "event m/p.anomaly = false@1m41s"]);
        assert!(trembling(21.5).lines::<Zscore>().is_empty());
    }

    #[test]
    fn a_new_level_is_learnt_in_the_end() {
        let readings = (0_i32..4_000).map(|n| {
            let level = if n < 100 { 20.0 } else { 40.0 };
            let tremble = f64::from((n * 7) % 11) / 5.0 - 1.0;
            (Timestamp(BEGIN.0 + i64::from(n) * 1_000_000), level + tremble)
        });
        let came = Bed::of("m", "p", readings).lines::<Zscore>();
        assert_eq!(came.len(), 2, "{came:?}");
        assert!(came[1].starts_with("event m/p.anomaly = false@"));
    }

    #[test]
    fn the_distance_is_sent_when_asked_for() {
        let came = trembling(26.0).with("score", true).lines::<Zscore>();
        assert_eq!(came.iter().filter(|line| line.starts_with("m/p.z")).count(), 170);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<Zscore>(include_str!("../../../docs/rules/zscore.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<Zscore>(&bed.with("learn", 2_i64).with("limit", 1.0).with("score", true), &plan)?;
        }
    }
}
