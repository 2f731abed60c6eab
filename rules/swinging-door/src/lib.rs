//! Sends the corners of a line: between two readings that were sent, every reading that was not lies
//! within the band of the straight line between them. Less than a dead-band on anything that drifts.
//!
//! From the reading sent last, each new one allows the slopes that pass it within the band. While a
//! reading lies within all that was allowed so far, the one before it need not be sent; when it does
//! not, the one before is sent, and the next line begins there. (The usual swinging door compares its
//! two doors only, and can be off by twice the band; this one never is.)
#![no_std]

use fieldgate_rule::prelude::*;

/// Sends the corners of a line that stays within `band` of every reading.
#[derive(Params)]
pub struct SwingingDoor {
    /// How far a reading may be off the line, in the point's unit.
    #[param(default = 0.1, min = 0.0)]
    band: f64,
    /// A reading is sent at least this often.
    #[param(default = "10m", min = "1s")]
    heartbeat: Duration,
}

/// The line so far.
#[derive(State, Default)]
pub struct Line {
    /// The reading sent last, where the line begins.
    sent: Option<(Timestamp, f64)>,
    /// The newest reading, not sent.
    held: Option<(Timestamp, f64, u8)>,
    /// Slopes a second that pass every reading since.
    low: f64,
    high: f64,
    /// Digest of the last reading that was no number, while none came after it.
    other: Option<u64>,
}

#[rule(state = Line)]
impl Rule for SwingingDoor {
    fn reading(&self, r: Reading, line: &mut Line, out: &mut Out) {
        let Some(now) = r.number() else {
            // What is no number ends the line; the same again says nothing new.
            let digest = r.digest();
            if line.other != Some(digest) {
                release(r.series, line, out);
                *line = Line { other: Some(digest), ..Line::default() };
                out.sleep();
                out.emit(r);
            }
            return;
        };
        line.other = None;
        let newest = line.held.map(|held| held.0).or(line.sent.map(|sent| sent.0));
        if newest.is_some_and(|newest| r.at <= newest) {
            return out.emit(r);
        }
        let Some(begin) = line.sent else { return self.begin(r, now, line, out) };
        if self.fits(begin, (r.at, now), line) {
            if line.held.is_none() {
                out.wake(begin.0 + self.heartbeat);
            }
            line.held = Some((r.at, now, r.quality.0));
            return;
        }
        match release(r.series, line, out) {
            Some(corner) => {
                line.sent = Some(corner);
                (line.low, line.high) = (f64::NEG_INFINITY, f64::INFINITY);
                // From the corner any single reading fits.
                let _ = self.fits(corner, (r.at, now), line);
                line.held = Some((r.at, now, r.quality.0));
                out.wake(corner.0 + self.heartbeat);
            }
            None => self.begin(r, now, line, out),
        }
    }

    fn late(&self, r: Reading, out: &mut Out) {
        out.emit(r);
    }

    fn wake(&self, _: Timestamp, line: &mut Line, out: &mut Out) {
        let series = out.series().id;
        if let Some(corner) = release(series, line, out) {
            line.sent = Some(corner);
            (line.low, line.high) = (f64::NEG_INFINITY, f64::INFINITY);
        }
    }
}

impl SwingingDoor {
    fn begin(&self, r: Reading, now: f64, line: &mut Line, out: &mut Out) {
        *line = Line { sent: Some((r.at, now)), ..Line::default() };
        (line.low, line.high) = (f64::NEG_INFINITY, f64::INFINITY);
        out.emit(r);
    }

    /// Whether the line from `begin` to `now` passes everything between, and what it then allows.
    fn fits(&self, begin: (Timestamp, f64), now: (Timestamp, f64), line: &mut Line) -> bool {
        let seconds = (now.0 - begin.0).as_secs_f64();
        let slope = (now.1 - begin.1) / seconds;
        if slope < line.low || slope > line.high {
            return false;
        }
        let spread = self.band / seconds;
        line.low = line.low.max(slope - spread);
        line.high = line.high.min(slope + spread);
        true
    }
}

/// Sends the reading that is held.
fn release(series: u32, line: &mut Line, out: &mut Out) -> Option<(Timestamp, f64)> {
    let (at, number, quality) = line.held.take()?;
    out.emit(Reading { series, at, quality: Quality(quality), value: Value::Number(number) });
    Some((at, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldgate_rule::testing::{BEGIN, Bed, documented, holds, plans, recordings};

    #[test]
    fn a_ramp_is_its_two_ends() {
        let bed = Bed::new("m/p = 0@0s 1@1s 2@2s 3@3s 3@4s 3@5s none@6s");
        let corners = ["m/p = 0@0s", "m/p = 3@3s", "m/p = 3@5s", "m/p = none@6s"];
        assert_eq!(bed.lines::<SwingingDoor>(), corners);
    }

    #[test]
    fn what_is_held_goes_out_with_the_heartbeat() {
        let bed = Bed::new("m/p = 1@0s 1@1m 1@9m");
        assert_eq!(bed.lines::<SwingingDoor>(), ["m/p = 1@0s", "m/p = 1@9m"]);
    }

    #[test]
    fn an_outage_ends_the_line_and_is_sent_once() {
        let bed = Bed::new("m/p = 1@0s 1@1s none@2s none@3s 1@4s");
        let sent = ["m/p = 1@0s", "m/p = 1@1s", "m/p = none@2s", "m/p = 1@4s"];
        assert_eq!(bed.lines::<SwingingDoor>(), sent);
    }

    #[test]
    fn its_page_tells_of_every_parameter() {
        documented::<SwingingDoor>(include_str!("../../../docs/rules/swinging-door.md"));
    }

    proptest::proptest! {
        #[test]
        fn no_reading_is_further_from_the_line_than_the_band(
            steps in proptest::collection::vec((1_i64..5_000, -300_i32..300), 1..200),
        ) {
            let (mut at, mut value, mut raw) = (BEGIN, 0.0, Vec::new());
            for (ms, step) in steps {
                at = Timestamp(at.0 + ms * 1000);
                value += f64::from(step) / 1000.0;
                raw.push((at, value));
            }
            let came = Bed::of("m", "p", raw.clone()).run::<SwingingDoor>().emitted;
            let corners: Vec<(Timestamp, f64)> = came
                .iter()
                .map(|came| match came.value.borrow() {
                    Value::Number(number) => (came.at, number),
                    other => panic!("{other:?}"),
                })
                .collect();
            proptest::prop_assert_eq!(corners.last(), raw.last(), "the newest comes in the end");
            for (at, value) in raw {
                let place = corners.partition_point(|corner| corner.0 < at);
                let (next, before) = (corners[place], corners[place.saturating_sub(1)]);
                let part = if next.0 == before.0 {
                    1.0
                } else {
                    (at - before.0).as_secs_f64() / (next.0 - before.0).as_secs_f64()
                };
                let line = before.1 + (next.1 - before.1) * part;
                proptest::prop_assert!((line - value).abs() <= 0.1 + 1e-9, "{line} for {value}");
            }
        }

        #[test]
        fn the_three_properties_hold(bed in recordings(), plan in plans()) {
            let bed = bed.with("heartbeat", Duration::from_secs(20));
            holds::<SwingingDoor>(&bed.with("band", 4.0), &plan)?;
        }
    }
}
