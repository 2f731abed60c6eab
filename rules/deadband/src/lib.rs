//! Sends a reading when it has moved by more than a band since the one sent before, or after a
//! heartbeat. So the value that a receiver holds is never wrong by more than the band.
#![no_std]

use fieldgate_rule::prelude::*;

/// Sends a reading when it moved by more than `band`, or after `heartbeat`.
#[derive(Params)]
pub struct Deadband {
    /// Smallest change worth sending, in the point's unit.
    #[param(default = 0.1, min = 0.0)]
    band: f64,
    /// A reading is sent at least this often.
    #[param(default = "10m", min = "1s")]
    heartbeat: Duration,
}

/// The reading sent last.
#[derive(State, Default)]
pub struct Last(Option<Sent>);

#[derive(State)]
struct Sent {
    at: Timestamp,
    /// Its number, when it was one to calculate with.
    number: Option<f64>,
    /// What it showed, when it was none.
    digest: u64,
}

#[rule(state = Last)]
impl Rule for Deadband {
    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out) {
        let (number, digest) = (r.number(), r.digest());
        let quiet = last.0.as_ref().is_some_and(|last| {
            let same = match (number, last.number) {
                // 1.1 - 1.0 is a little more than 0.1 in binary.
                (Some(now), Some(then)) => (now - then).abs() <= self.band * (1.0 + 1e-9),
                (None, None) => digest == last.digest,
                _ => false,
            };
            same && r.at - last.at < self.heartbeat
        });
        if !quiet {
            last.0 = Some(Sent { at: r.at, number, digest });
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
    fn only_what_moved_by_more_than_the_band_is_sent() {
        let bed = Bed::new("m/p = 1@0s 1.05@1s 1.1@2s 1.2@3s 1.15@4s 0.9@5s");
        assert_eq!(bed.lines::<Deadband>(), ["m/p = 1@0s", "m/p = 1.2@3s", "m/p = 0.9@5s"]);
    }

    #[test]
    fn an_outage_is_sent_once_and_so_is_its_end() {
        let bed = Bed::new("m/p = 1@0s none@1s none@2s none:offline@3s 1@4s 1@5s 'x'@6s 'x'@7s");
        let came = bed.lines::<Deadband>();
        let sent =
            ["m/p = 1@0s", "m/p = none@1s", "m/p = none:offline@3s", "m/p = 1@4s", "m/p = 'x'@6s"];
        assert_eq!(came, sent);
    }

    #[test]
    fn a_quiet_point_shows_that_it_lives() {
        let bed =
            Bed::new("m/p = 1@0s 1@30s 1@1m 1@90s").with("heartbeat", Duration::from_secs(60));
        assert_eq!(bed.lines::<Deadband>(), ["m/p = 1@0s", "m/p = 1@1m"]);
    }

    #[test]
    fn a_late_reading_goes_on_as_it_is() {
        let bed = Bed::new("m/p = 1@0s 1@1m 1@10s");
        assert_eq!(bed.lines::<Deadband>(), ["m/p = 1@0s", "m/p = 1:late@10s"]);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<Deadband>(include_str!("../../../docs/rules/deadband.md"));
    }

    proptest::proptest! {
        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            holds::<Deadband>(&bed, &plan)?;
        }
    }
}
