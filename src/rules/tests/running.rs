//! Good rules: what they are given, what they change, and what is left of them after a failure.

use std::sync::Arc;

use super::kit::{Guest, OK, filter};
use crate::rules::wit::{Context, Fired, Level, Param, Quality, Reading, Series, Value};
use crate::rules::{Code, DECLARED, Engine, Instance, Limits, Outcome, Program, Rule, Settings};
use crate::state::Kept;

pub fn engines() -> [Engine; 2] {
    [Engine::new(Code::Auto).unwrap(), Engine::new(Code::Pulley).unwrap()]
}

pub fn settings() -> Settings {
    Settings { name: Arc::from("kit"), params: Vec::new(), limits: Limits::default() }
}

pub fn series(n: u32) -> Vec<Series> {
    (0..n)
        .map(|id| Series {
            id,
            device: format!("device-{id}"),
            point: "temperature".to_owned(),
            unit: Some("°C".to_owned()),
            labels: Vec::new(),
        })
        .collect()
}

pub fn context(batch: u64) -> Context {
    let now = 1_790_000_000_000_000 + i64::try_from(batch).unwrap() * 1_000_000;
    Context { batch, now, watermark: now - 5_000_000, clock_synced: true, fresh: false }
}

pub fn readings(numbers: &[f64]) -> Vec<Reading> {
    let reading = |(n, number): (i64, &f64)| Reading {
        series: 0,
        at: 1_790_000_000_000_000 + n,
        quality: Quality::empty(),
        value: Value::Number(*number),
    };
    (0..).zip(numbers).map(reading).collect()
}

pub fn open(engine: &Engine, guest: &Guest, kept: Kept) -> Instance {
    let program = Program::load(engine, &guest.build()).unwrap();
    Instance::open(&program, &settings(), &series(3), kept).unwrap()
}

fn numbers(outcome: &Outcome) -> Vec<f64> {
    let number = |reading: &Reading| match reading.value {
        Value::Number(number) => number,
        _ => f64::NAN,
    };
    outcome.emitted.iter().map(number).collect()
}

#[test]
fn a_filter_passes_on_what_it_should_natively_and_interpreted_for_the_same_fuel() {
    let mut fuel = Vec::new();
    for engine in engines() {
        let mut rule = open(&engine, &filter(20.0), Kept::default());
        let outcome = rule.process(&context(1), &readings(&[19.0, 20.5, 21.0, -1.0])).unwrap();
        assert_eq!(numbers(&outcome), [20.5, 21.0]);
        assert_eq!(outcome.change.place.batch, 1);
        assert!(outcome.fuel > 0);
        fuel.push(outcome.fuel);
    }
    assert_eq!(fuel[0], fuel[1]);
}

/// Counts batches in its state, under the key `count`, and emits nothing.
fn counter() -> Guest {
    Guest::processing(&format!(
        r#"(call $get (i32.const 1024) (i32.const 5) (i32.const 1100))
           (i32.store8 (i32.const 1200)
             (i32.add (i32.const 1)
               (if (result i32) (i32.load8_u (i32.const 1100))
                 (then (i32.load8_u (i32.load (i32.const 1104))))
                 (else (i32.const 0)))))
           (call $set (i32.const 1024) (i32.const 5) (i32.const 1200) (i32.const 1))
           (if (i32.eq (local.get $n) (i32.const 13)) (then unreachable))
           {OK}"#
    ))
    .with(r#"(data (i32.const 1024) "count")"#)
}

#[test]
fn a_failed_call_leaves_the_state_as_it_was_and_the_next_begins_fresh() {
    for engine in engines() {
        let mut rule = open(&engine, &counter(), Kept::default());
        let count = |rule: &Instance| rule.kept().state.get("count").map(|value| value[0]);
        rule.process(&context(1), &readings(&[1.0])).unwrap();
        rule.process(&context(2), &readings(&[1.0])).unwrap();
        assert_eq!(count(&rule), Some(2));
        let failure = rule.process(&context(3), &readings(&[0.0; 13])).unwrap_err();
        assert_eq!(failure.code, "trap.unreachable");
        assert!(failure.message.contains("process"), "{}", failure.message);
        assert_eq!((count(&rule), rule.kept().place.batch), (Some(2), 2));
        let outcome = rule.process(&context(3), &readings(&[1.0])).unwrap();
        assert_eq!(outcome.change.state, [(Arc::from("count"), Some(Arc::from([3].as_slice())))]);
        assert_eq!((count(&rule), rule.kept().place.batch), (Some(3), 3));
    }
}

#[test]
fn state_survives_a_restart_and_is_migrated_once() {
    let engine = Engine::new(Code::Auto).unwrap();
    let mut rule = open(&engine, &counter(), Kept::default());
    let first = rule.process(&context(1), &[]).unwrap();
    assert_eq!(first.change.place.version, 0);
    // The next version writes another kind of state: it doubles the count as it migrates.
    let mut next = counter();
    next.open = "(i32.store (i32.const 1304) (i32.const 7)) (i32.const 1300)".to_owned();
    next.migrate = format!(
        "(call $get (i32.const 1024) (i32.const 5) (i32.const 1100))
         (i32.store8 (i32.const 1200)
           (i32.mul (i32.const 10) (i32.load8_u (i32.load (i32.const 1104)))))
         (call $set (i32.const 1024) (i32.const 5) (i32.const 1200) (i32.const 1)) {OK}"
    );
    let mut rule = open(&engine, &next, rule.kept().clone());
    assert_eq!(rule.kept().state["count"][0], 10);
    // What the migration changed is told with the first outcome, for the same transaction.
    let outcome = rule.process(&context(2), &[]).unwrap();
    assert_eq!(outcome.change.place.version, 7);
    let values: Vec<_> = outcome.change.state.iter().map(|(_, v)| v.as_ref().unwrap()[0]).collect();
    assert_eq!(values, [10, 11]);
    let again = open(&engine, &next, rule.kept().clone());
    assert_eq!(again.kept().state["count"][0], 11);
    // A migration that fails leaves everything to the version before.
    next.migrate = "unreachable".to_owned();
    let program = Program::load(&engine, &next.build()).unwrap();
    let mut old = again.kept().clone();
    old.place.version = 1;
    let failed = Instance::open(&program, &settings(), &series(1), old).err().unwrap();
    assert_eq!(failed.code, "open.trap.unreachable");
}

#[test]
fn a_rule_is_told_of_its_instance_being_fresh_once() {
    let engine = Engine::new(Code::Auto).unwrap();
    let says = Guest::processing(&format!(
        "(if (local.get $fresh) (then (call $log (i32.const 1) (i32.const 1024) (i32.const 5))))
         (if (i32.eq (local.get $n) (i32.const 13)) (then unreachable)) {OK}"
    ))
    .with(r#"(data (i32.const 1024) "fresh")"#);
    let mut rule = open(&engine, &says, Kept::default());
    let mut fresh = |n: usize| {
        let outcome = rule.process(&context(1), &readings(&vec![0.0; n]));
        outcome.map(|outcome| outcome.log.len())
    };
    assert_eq!((fresh(0), fresh(0)), (Ok(1), Ok(0)));
    assert!(fresh(13).is_err());
    assert_eq!((fresh(0), fresh(0)), (Ok(1), Ok(0)));
}

#[test]
fn outputs_keep_their_ids_and_timers_fire_once() {
    let engine = Engine::new(Code::Auto).unwrap();
    let declares = |name: &str| {
        format!(
            r#"(call $declare (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 1030)
                 (i32.const {}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1500))"#,
            name.len()
        )
    };
    let mut guest = Guest::processing(&format!(
        "(call $timer (i32.const 1024) (i32.const 4) (i64.const 99)) {OK}"
    ))
    .with(r#"(data (i32.const 1024) "pump\00\00alarm")"#);
    guest.open = format!("{} {} {OK}", declares("alarm"), declares("ala"));
    // Emits on the output that `declare` gave the id of last.
    guest.timer = format!(
        "(i32.store (i32.const 2000) (i32.load (i32.const 1504)))
         (call $emit (i32.const 2000) (i32.const 1)) {OK}"
    );
    let mut rule = open(&engine, &guest, Kept::default());
    let outcome = rule.process(&context(1), &[]).unwrap();
    let points: Vec<_> = outcome.change.declared.iter().map(|d| d.point.to_string()).collect();
    assert_eq!(points, ["alarm", "ala"]);
    assert_eq!(outcome.change.timers, [(Arc::from("pump"), Some(99))]);
    let fired = [Fired { name: "pump".to_owned(), at: 99 }];
    let outcome = rule.on_timer(&context(1), &fired).unwrap();
    assert_eq!(outcome.emitted[0].series, DECLARED + 1);
    assert_eq!(outcome.change.timers, [(Arc::from("pump"), None)]);
    assert!(outcome.change.declared.is_empty() && rule.kept().timers.is_empty());
    let mut again = open(&engine, &guest, rule.kept().clone());
    let outcome = again.on_timer(&context(2), &fired).unwrap();
    assert_eq!(outcome.emitted[0].series, DECLARED + 1);
    assert!(outcome.change.declared.is_empty());
}

#[test]
fn parameters_of_every_kind_arrive() {
    let engine = Engine::new(Code::Auto).unwrap();
    let guest = Guest::processing(&format!(
        "(call $param (i32.const 1024) (i32.const 4) (i32.const 1104))
         (call $log (i32.load8_u (i32.const 1112)) (i32.const 1100) (i32.const 0)) {OK}"
    ))
    .with(r#"(data (i32.const 1024) "band")"#);
    let program = Program::load(&engine, &guest.build()).unwrap();
    // The log's levels are 0 to 3; the kinds of parameters come in the same order.
    for (kind, param) in [
        (Level::Debug, Param::Text("a".to_owned())),
        (Level::Info, Param::Number(0.5)),
        (Level::Warn, Param::Integer(5)),
        (Level::Error, Param::Boolean(true)),
    ] {
        let params = vec![("band".to_owned(), param)];
        let settings = Settings { params, ..settings() };
        let mut rule = Instance::open(&program, &settings, &[], Kept::default()).unwrap();
        assert_eq!(rule.process(&context(1), &[]).unwrap().log, [(kind, String::new())]);
    }
}

#[test]
fn state_is_scanned_in_order_with_what_is_staged_over_it() {
    // Deletes `b`, sets `c`, then scans everything after `a` and notes how many there are.
    let engine = Engine::new(Code::Auto).unwrap();
    let guest = Guest::processing(&format!(
        "(call $delete (i32.const 1025) (i32.const 1))
         (call $set (i32.const 1026) (i32.const 1) (i32.const 1024) (i32.const 4))
         (call $scan (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 1)
           (i32.const 100) (i32.const 1100))
         (call $log (i32.const 1) (i32.load (i32.load (i32.const 1100))) (i32.const 1))
         (i32.store8 (i32.const 1200) (i32.add (i32.const 48) (i32.load (i32.const 1104))))
         (call $log (i32.const 1) (i32.const 1200) (i32.const 1)) {OK}"
    ))
    .with(r#"(data (i32.const 1024) "abcd")"#);
    let mut kept = Kept::default();
    for key in ["a", "b", "d"] {
        kept.state.insert(Arc::from(key), Arc::from(key.as_bytes()));
    }
    let mut rule = open(&engine, &guest, kept);
    let log = rule.process(&context(1), &[]).unwrap().log;
    let lines: Vec<_> = log.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines, ["c", "2"]);
    let keys: Vec<_> = rule.kept().state.keys().map(|key| key.to_string()).collect();
    assert_eq!(keys, ["a", "c", "d"]);
}

#[test]
fn series_that_come_later_may_be_emitted_and_outlive_a_trap() {
    let engine = Engine::new(Code::Auto).unwrap();
    let guest = Guest::processing(&format!(
        "(if (i32.eqz (local.get $n)) (then unreachable))
         (call $emit (local.get $batch) (local.get $n)) {OK}"
    ));
    let mut rule = open(&engine, &guest, Kept::default());
    let reading = |series| Reading { series, ..readings(&[1.0])[0].clone() };
    let failure = rule.process(&context(1), &[reading(3)]).unwrap_err();
    assert_eq!(failure.code, "output.series");
    rule.series_added(&[Series { id: 3, ..series(1)[0].clone() }]).unwrap();
    assert_eq!(rule.process(&context(1), &[reading(3)]).unwrap().emitted.len(), 1);
    assert!(rule.process(&context(2), &[]).is_err());
    assert_eq!(rule.process(&context(3), &[reading(3)]).unwrap().emitted.len(), 1);
}

#[test]
fn an_error_that_a_rule_returns_is_its_own_and_what_it_wrote_last_is_told() {
    let engine = Engine::new(Code::Auto).unwrap();
    let guest = Guest::processing(
        "(call $log (i32.const 3) (i32.const 1024) (i32.const 9))
         (if (i32.eqz (local.get $n)) (then unreachable))
         (i32.store8 (i32.const 1100) (i32.const 1))
         (i32.store (i32.const 1104) (i32.const 1024)) (i32.store (i32.const 1108) (i32.const 3))
         (i32.store (i32.const 1112) (i32.const 1024)) (i32.store (i32.const 1116) (i32.const 9))
         (i32.const 1100)",
    )
    .with(r#"(data (i32.const 1024) "bad scale")"#);
    let mut rule = open(&engine, &guest, Kept::default());
    let failure = rule.process(&context(1), &readings(&[1.0])).unwrap_err();
    assert_eq!(failure.code, "rule.bad");
    assert_eq!(failure.message, "the rule says: bad scale");
    let failure = rule.process(&context(1), &[]).unwrap_err();
    assert!(failure.message.ends_with("; its last line: bad scale"), "{}", failure.message);
}

#[test]
fn an_instance_whose_memory_is_nearly_full_is_replaced_between_two_batches() {
    let engine = Engine::new(Code::Auto).unwrap();
    // Grows by a megabyte a batch and never gives back; the limit is four.
    let guest = Guest::processing(&format!(
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 16))) (then unreachable)) {OK}"
    ));
    let mut rule = open(&engine, &guest, Kept::default());
    for batch in 1..50 {
        rule.process(&context(batch), &readings(&[1.0])).unwrap();
    }
    assert_eq!(rule.kept().place.batch, 49);
}
