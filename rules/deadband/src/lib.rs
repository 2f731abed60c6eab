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
    #[param(default = "10m")]
    heartbeat: Duration,
}

/// The reading sent last.
#[derive(State, Default)]
pub struct Last(Option<(Timestamp, f64)>);

#[rule(state = Last)]
impl Rule for Deadband {
    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out) {
        let Some(now) = r.number() else { return out.emit(r) };
        let quiet = last.0.is_some_and(|(at, then)| {
            (now - then).abs() <= self.band && r.at - at < self.heartbeat
        });
        if !quiet {
            last.0 = Some((r.at, now));
            out.emit(r);
        }
    }

    fn late(&self, r: Reading, out: &mut Out) {
        out.emit(r);
    }
}
