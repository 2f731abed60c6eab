//! Rules as the socket and `have` show them. Keys are only ever added.

use crate::api::rules::{Caps, Rights};
use crate::rules::trial::{Compared, Tally};
use crate::rules::{Definition, Report};

/// What a rule asks for, and what it may use.
pub(super) fn rights(rule: &Definition) -> Rights {
    let limits = &rule.settings.limits;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let caps = Caps {
        fuel: limits.fuel_reading,
        memory: count(limits.memory_bytes),
        deadline_ms: u64::try_from(limits.deadline_call.as_millis()).unwrap_or(u64::MAX),
        emitted: count(limits.emitted_input),
        output: count(limits.output_bytes),
        state: count(limits.state_bytes),
        keys: count(limits.keys),
        timers: count(limits.timers),
        log: u64::from(limits.log_minute),
        words: limits.to_string(),
    };
    let granted = rule.written.granted().iter().map(|&word| word.to_owned()).collect();
    Rights { asks: rule.asks.to_vec(), granted, limits: caps }
}

/// How a rule does.
pub(super) fn report(report: Report) -> serde_json::Value {
    let trial = report.trial.map(|(_, trial)| compared(&trial.compared()));
    serde_json::json!({
        "trial": trial,
        "state": report.state.word(),
        "taken": report.taken,
        "emitted": report.emitted,
        "passed": report.passed,
        "dropped": report.dropped,
        "held": report.held,
        "aside": report.aside,
        "late": report.late,
        "calls": report.calls,
        "fuel": report.fuel,
        "took_us": u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX),
        "keys": report.keys,
        "timers": report.timers,
        "failure": report.failure.map(|failure| failure.message),
    })
}

/// How a version on trial compares with the running one.
fn compared(compared: &Compared) -> serde_json::Value {
    let side = |tally: Tally| {
        serde_json::json!({
            "taken": tally.taken,
            "emitted": tally.emitted,
            "fuel": tally.fuel,
            "took_us": u64::try_from(tally.took.as_micros()).unwrap_or(u64::MAX),
        })
    };
    let first = compared.first.as_ref().map(|(point, at_us, live, trial)| {
        serde_json::json!({ "point": &**point, "at_us": at_us, "live": live, "trial": trial })
    });
    serde_json::json!({
        "live": side(compared.live),
        "trial": side(compared.trial),
        "same": compared.same,
        "differing": compared.differing,
        "missing": compared.missing,
        "extra": compared.extra,
        "waiting": compared.waiting,
        "distance_max": compared.distance_max,
        "first": first,
        "failure": compared.failure.as_ref().map(|failure| &failure.message),
    })
}
