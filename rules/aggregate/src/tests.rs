//! Windows of every kind, against what they should come to.

use super::*;
use fieldgate_rule::testing::{BEGIN, Bed, Plan, documented, holds, plans, recordings};

const TEN: &str = "m/p = 1@0s 3@4s 2@9s 10@10s 20@19s 7@25s";

#[test]
fn windows_side_by_side_give_their_figures_at_their_end() {
    let bed = Bed::new(TEN).with("emit", ["mean", "max"].as_slice());
    let mut came = bed.lines::<Aggregate>();
    came.sort();
    let wanted = [
        "m/p.max = 20@20s",
        "m/p.max = 3@10s",
        "m/p.max = 7@30s",
        "m/p.mean = 15@20s",
        "m/p.mean = 2@10s",
        "m/p.mean = 7@30s",
    ];
    assert_eq!(came, wanted);
}

#[test]
fn every_figure_is_what_its_name_says() {
    let all = ["min", "sum", "count", "last", "p50", "p90", "p95", "p99"];
    let bed = Bed::of("m", "p", (1..=100).map(|n| (Timestamp(BEGIN.0 + n * 1000), n as f64)));
    let came = bed.with("emit", all.as_slice()).lines::<Aggregate>();
    let wanted = ["min = 1", "sum = 5050", "count = 100", "last = 100", "p50 = 50", "p90 = 90"];
    for (line, wanted) in came.iter().zip(wanted.iter().chain(&["p95 = 95", "p99 = 99"])) {
        assert_eq!(*line, format!("m/p.{wanted}@10s"));
    }
    assert_eq!(came.len(), all.len());
}

#[test]
fn a_reading_out_of_order_is_in_its_window_and_a_late_one_is_not() {
    let bed = Bed::new("m/p = 1@1s 5@12s 3@9s 5@30s 100@2s");
    let wanted = ["m/p.mean = 2@10s", "m/p.mean = 5@20s", "m/p.mean = 5@40s"];
    assert_eq!(bed.lines::<Aggregate>(), wanted);
    let passed = bed.with("late", "pass").lines::<Aggregate>();
    assert!(passed.contains(&"m/p = 100:late@2s".to_string()), "{passed:?}");
}

#[test]
fn an_outage_gives_windows_without_value_and_silence_gives_nothing() {
    let bed = Bed::new("m/p = 1@1s none:offline@12s none:offline@15s 4@31s none@32s");
    let wanted = ["m/p.mean = 1@10s", "m/p.mean = none:offline@20s", "m/p.mean = 4@40s"];
    assert_eq!(bed.lines::<Aggregate>(), wanted);
}

#[test]
fn sliding_windows_overlap() {
    let bed = Bed::new("m/p = 1@1s 2@6s 4@11s 8@31s").with("emit", ["sum"].as_slice());
    let bed = bed.with("kind", "sliding").with("every", Duration::from_secs(5));
    let wanted = [
        "m/p.sum = 1@5s",
        "m/p.sum = 3@10s",
        "m/p.sum = 6@15s",
        "m/p.sum = 4@20s",
        "m/p.sum = 8@35s",
        "m/p.sum = 8@40s",
    ];
    assert_eq!(bed.lines::<Aggregate>(), wanted);
}

#[test]
fn a_session_ends_with_silence() {
    let bed = Bed::new("m/p = 1@0s 2@20s 3@40s 5@2m 5@125s").with("kind", "session");
    let bed = bed.with("emit", ["sum"].as_slice()).with("window", Duration::from_secs(3600));
    assert_eq!(bed.lines::<Aggregate>(), ["m/p.sum = 6@40s", "m/p.sum = 10@2m5s"]);
}

#[test]
fn a_session_is_no_longer_than_the_window() {
    let bed = Bed::new("m/p = 1@0s 1@10s 1@20s 1@30s 1@40s 1@50s").with("kind", "session");
    let bed = bed.with("emit", ["count"].as_slice()).with("window", Duration::from_secs(30));
    assert_eq!(bed.lines::<Aggregate>(), ["m/p.count = 3@20s", "m/p.count = 3@50s"]);
}

#[test]
fn more_readings_than_are_kept_still_give_percentiles() {
    let readings =
        (0..50_000_i32).map(|n| (Timestamp(BEGIN.0 + i64::from(n)), f64::from(n % 1000)));
    let run = Bed::of("m", "p", readings).with("emit", ["p50"].as_slice()).run::<Aggregate>();
    let Value::Number(median) = run.emitted[0].value.borrow() else { panic!("no number") };
    assert!((450.0..550.0).contains(&median), "{median}");
    assert!(run.log.is_empty());
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let plan = Plan { sizes: [1].into(), restarts: [false].into() };
    let said = |bed: Bed| bed.run_as::<Aggregate>(&plan).unwrap_err().message;
    let bed = Bed::new(TEN).with("kind", "sliding");
    let odd = said(bed.clone().with("every", Duration::from_secs(3)));
    assert_eq!(odd, "window must be 1 to 20 times every, without remainder");
    assert!(said(bed.with("emit", [].as_slice() as &[&str])).contains("emit is empty"));
}

#[test]
fn its_page_tells_of_every_parameter() {
    documented::<Aggregate>(include_str!("../../../docs/rules/aggregate.md"));
}

proptest::proptest! {
    #[test]
    fn the_three_properties_hold(bed in recordings(), plan in plans(), kind in 0_usize..3) {
        let kind = ["tumbling", "sliding", "session"][kind];
        let bed = bed.with("kind", kind).with("every", Duration::from_secs(2));
        let bed = bed.with("gap", Duration::from_secs(3));
        let all = ["mean", "min", "max", "sum", "count", "last", "p50"];
        holds::<Aggregate>(&bed.with("emit", all.as_slice()), &plan)?;
    }
}
