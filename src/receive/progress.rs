//! What a person sees: one line on a terminal that follows the totals, and the totals at the end.
//! Machines get the same as JSON. All of it goes to standard error; standard output is a sink's.

use std::io::{IsTerminal as _, Write as _, stderr};

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::totals::{Snapshot, Totals};
use crate::limits;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    /// A line that follows on a terminal; elsewhere only the totals.
    Text,
    /// A line of JSON each time.
    Json,
}

/// Shows progress for ever.
pub(super) async fn show(totals: &Totals, shown: Shown) {
    let follows = shown == Shown::Json || (shown == Shown::Text && stderr().is_terminal());
    if !follows {
        return std::future::pending().await;
    }
    let mut ticks = interval(limits::PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = (ticks.tick().await, totals.snapshot());
    loop {
        let now = ticks.tick().await;
        let snapshot = totals.snapshot();
        print(&line(shown, &snapshot, rate(&before, now, &snapshot)), shown == Shown::Text);
        before = (now, snapshot);
    }
}

/// Shows the totals at the end.
pub(super) fn conclude(totals: &Totals, shown: Shown) {
    let snapshot = totals.snapshot();
    match shown {
        Shown::Nothing => {}
        Shown::Json => print(&line(shown, &snapshot, 0), false),
        Shown::Text => {
            let lead = if stderr().is_terminal() { "\r\x1b[K" } else { "" };
            print(&format!("{lead}received {}", told(&snapshot)), false);
        }
    }
}

fn rate(before: &(Instant, Snapshot), now: Instant, snapshot: &Snapshot) -> u64 {
    let millis = u64::try_from((now - before.0).as_millis()).unwrap_or(u64::MAX).max(1);
    (snapshot.readings - before.1.readings).saturating_mul(1000) / millis
}

fn line(shown: Shown, snapshot: &Snapshot, rate: u64) -> String {
    if shown == Shown::Json {
        let mut object = json!(snapshot);
        object["readings_per_s"] = rate.into();
        return object.to_string();
    }
    let away = if snapshot.connected { "" } else { "  (no broker)" };
    format!("\r\x1b[K{rate} readings/s  {}{away}", told(snapshot))
}

fn told(snapshot: &Snapshot) -> String {
    let refused: u64 = snapshot.refused.values().sum();
    let mut told = format!(
        "{} readings in {} batches from {} gateways, {} seen before, {refused} refused",
        snapshot.readings, snapshot.batches, snapshot.gateways, snapshot.seen
    );
    if refused > 0 {
        let reasons: Vec<_> =
            snapshot.refused.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        told += &format!(" ({})", reasons.join(", "));
    }
    told
}

fn print(text: &str, stays: bool) {
    let mut err = stderr().lock();
    // Nobody may be reading; receiving goes on.
    let _ = if stays { write!(err, "{text}") } else { writeln!(err, "{text}") };
    let _ = err.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_people_and_machines_the_same() {
        let totals = Totals::default();
        totals.readings.add(500);
        totals.batches.add(2);
        totals.meet("a");
        totals.refuse("damaged");
        let text = line(Shown::Text, &totals.snapshot(), 250);
        for part in ["250 readings/s", "500 readings in 2 batches from 1 gateways", "damaged 1"] {
            assert!(text.contains(part), "{text}");
        }
        let json = line(Shown::Json, &totals.snapshot(), 250);
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(object["refused"]["damaged"], 1);
        assert_eq!(
            (object["readings"].as_u64(), object["readings_per_s"].as_u64()),
            (Some(500), Some(250))
        );
    }
}
