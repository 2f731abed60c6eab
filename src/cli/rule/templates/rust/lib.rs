//! Sends a reading when it has moved by more than a band since the one sent before, or after a
//! heartbeat. Make it your own: what is above `#[rule]` are parameters that an operator can set.
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

/// What is remembered of each series; it survives restarts.
#[derive(State, Default)]
pub struct Last(Option<(Timestamp, f64)>);

#[rule(state = Last)]
impl Rule for Deadband {
    fn reading(&self, r: Reading, last: &mut Last, out: &mut Out) {
        // What is no number (text, or that there is no value) goes on as it is.
        let Some(now) = r.number() else { return out.emit(r) };
        let quiet = last.0.is_some_and(|(at, then)| {
            (now - then).abs() <= self.band && r.at - at < self.heartbeat
        });
        if !quiet {
            last.0 = Some((r.at, now));
            out.emit(r);
        }
    }
}
