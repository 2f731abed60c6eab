//! Sends a reading when it shows something else than the one before, or after a heartbeat. For
//! switches, states and texts; for measurements that tremble there is `deadband`.
#![no_std]

use fieldgate_rule::prelude::*;

/// Sends a reading when its value, quality or reason changed, or after `heartbeat`.
#[derive(Params)]
pub struct OnChange {
    /// A reading is sent at least this often.
    #[param(default = "10m", min = "1s")]
    heartbeat: Duration,
}

/// Time and digest of the reading sent last.
#[derive(State, Default)]
pub struct Last(Option<(Timestamp, u64)>);

#[rule(state = Last)]
impl Rule for OnChange {
    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out) {
        let digest = r.digest();
        let quiet = last.0.is_some_and(|(at, then)| then == digest && r.at - at < self.heartbeat);
        if !quiet {
            last.0 = Some((r.at, digest));
            out.emit(r);
        }
    }

    fn late(&self, r: Reading, out: &mut Out) {
        out.emit(r);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{Bed, documented, holds, plans, recordings};

    #[test]
    fn every_change_is_sent_and_nothing_between() {
        let bed = Bed::new("d/door = true@0s true@1s false@2s false@3s none@4s none@5s true@6s");
        let sent =
            ["d/door = true@0s", "d/door = false@2s", "d/door = none@4s", "d/door = true@6s"];
        assert_eq!(bed.lines::<OnChange>(), sent);
    }

    #[test]
    fn the_heartbeat_repeats_what_does_not_change() {
        let bed = Bed::new("d/door = true@0s true@5m true@10m true@11m");
        assert_eq!(bed.lines::<OnChange>(), ["d/door = true@0s", "d/door = true@10m"]);
    }

    #[test]
    fn a_quality_that_changes_is_a_change() {
        let bed = Bed::new("d/p = 1@0s 1:bad@1s 1:bad@2s 1@3s");
        assert_eq!(bed.lines::<OnChange>(), ["d/p = 1@0s", "d/p = 1:bad@1s", "d/p = 1@3s"]);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<OnChange>(include_str!("../../../docs/rules/on-change.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<OnChange>(&bed, &plan)?;
        }
    }
}
