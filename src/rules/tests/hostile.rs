//! Rules that mean harm while they run: every misdeed in every place where a rule's code is run, and
//! lies to the host ([`misuse`] has those told in its calls). Each is stopped in words, changes
//! nothing, and a good rule on the same engine still gives the right answer.

mod misuse;

use std::sync::Arc;
use std::time::Duration;

use misuse::NO_TEXTS;

use super::kit::{Guest, OK, filter};
use super::running::{context, engines, open, readings, series, settings};
use super::wild::wild;
use crate::rules::wit::Fired;
use crate::rules::{Engine, Failure, Instance, Limits, Program, Rule, Settings};
use crate::state::Kept;

/// Where a rule's code is run.
const PLACES: [&str; 7] =
    ["process", "on-timer", "open", "series-added", "migrate", "cabi_realloc", "start"];

/// A misdeed that needs no call to the host: its name, the code it is stopped with, and the body of a
/// function without parameters or results.
const MISDEEDS: [(&str, &str, &str); 14] = [
    ("an endless loop", "fuel", "(loop $l (br $l))"),
    (
        "an endless loop over memory",
        "fuel",
        "(loop $l (memory.fill (i32.const 4096) (i32.const 1) (i32.const 65536)) (br $l))",
    ),
    (
        "a grab for memory, page by page",
        "memory",
        "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) (unreachable)",
    ),
    (
        "a grab for all memory at once",
        "memory",
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 65000))) (then unreachable))",
    ),
    (
        "a grab for table elements",
        "memory",
        "(if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 50000)))
           (then unreachable))",
    ),
    ("deep recursion", "trap.stack", "(call $evil)"),
    (
        "recursion with large frames",
        "trap.stack",
        "(local $a v128) (local.set $a (i8x16.splat (i32.load (i32.const 0)))) (call $evil)
         (v128.store (i32.const 64) (local.get $a))",
    ),
    ("giving up", "trap.unreachable", "(unreachable)"),
    (
        "a division by zero",
        "trap.division",
        "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 0))))",
    ),
    ("a read beyond its memory", "trap.memory", "(drop (i32.load (i32.const -4)))"),
    (
        "a write beyond its memory",
        "trap.memory",
        "(i64.store offset=0xfffffff0 (i32.const -1) (i64.const 1))",
    ),
    ("a call of nothing", "trap.call", "(call_indirect $t (type $nothing) (i32.const 3))"),
    ("a call beyond its table", "trap.call", "(call_indirect $t (type $nothing) (i32.const 1000))"),
    (
        "a number that fits no integer",
        "trap.number",
        "(drop (i32.trunc_f64_s (f64.div (f64.const 0) (f64.load (i32.const 0)))))",
    ),
];

/// A rule that does something in one place, and otherwise nothing.
fn doing(what: &str, place: &str) -> Guest {
    let top = format!(
        "(type $nothing (func)) (table $t 10 funcref) (func $evil {what}) {}",
        if place == "start" { "(start $evil)" } else { "" }
    );
    let mut guest = Guest::default().with(&top);
    let body = format!("(call $evil) {OK}");
    match place {
        "process" => guest.process = body,
        "on-timer" => guest.timer = body,
        "open" => guest.open = body,
        "series-added" => guest.added = body,
        "migrate" => {
            guest.open = "(i32.store (i32.const 1304) (i32.const 7)) (i32.const 1300)".to_owned();
            guest.migrate = body;
        }
        "cabi_realloc" => guest.realloc = "(call $evil) (i32.const 4096)".to_owned(),
        _ => {}
    }
    guest
}

/// What is kept of a rule that has run before, with a state of version 3.
fn kept() -> Kept {
    let mut kept = Kept::default();
    kept.state.insert(Arc::from("key"), Arc::from([1, 2, 3].as_slice()));
    (kept.place.version, kept.place.batch) = (3, 5);
    kept
}

/// Calls everything of a rule and returns its first failure. Nothing that fails changes anything.
fn provoke(engine: &Engine, settings: &Settings, guest: &Guest) -> Option<Failure> {
    let program = Program::load(engine, &guest.build()).unwrap();
    let mut rule = match Instance::open(&program, settings, &series(3), kept()) {
        Ok(rule) => rule,
        Err(failure) => return Some(failure),
    };
    let before = rule.kept().clone();
    let fired = [Fired { name: "timer".to_owned(), at: 1 }];
    let failed = rule
        .process(&context(6), &readings(&[1.0, 2.0]))
        .and_then(|_| rule.on_timer(&context(6), &fired))
        .and_then(|_| rule.series_added(&series(1)))
        .err()?;
    let mut after = rule.kept().clone();
    after.place = before.place;
    assert_eq!(after, before, "a failed call has changed something");
    Some(failed)
}

/// Time enough for a debug build, so that it is not time that ends a misdeed.
fn patient() -> Settings {
    let limits = Limits { deadline_call: Duration::from_secs(9), ..Limits::default() };
    Settings { limits, ..settings() }
}

/// The rule that must not be harmed by any of this.
struct Good(Instance);

impl Good {
    fn new(engine: &Engine) -> Self {
        Self(open(engine, &filter(20.0), Kept::default()))
    }

    fn still_works(&mut self) {
        let outcome = self.0.process(&context(1), &readings(&[19.0, 21.0, 20.0, 22.0])).unwrap();
        assert_eq!(
            outcome.emitted,
            [readings(&[0.0, 21.0])[1].clone(), readings(&[0.0, 0.0, 0.0, 22.0])[3].clone()]
        );
    }
}

fn misdeeds_in(places: &[&str]) {
    for engine in engines() {
        let mut good = Good::new(&engine);
        for place in places {
            for (name, code, what) in MISDEEDS {
                let failure = provoke(&engine, &patient(), &doing(what, place));
                let failure =
                    failure.unwrap_or_else(|| panic!("{name} in {place} was not stopped"));
                assert!(
                    failure.code.trim_start_matches("open.") == code,
                    "{name} in {place}: {failure:?}"
                );
                assert!(failure.message.starts_with("the rule "), "{failure:?}");
                good.still_works();
            }
        }
    }
}

#[test]
fn every_misdeed_is_stopped_while_a_batch_is_processed() {
    misdeeds_in(&PLACES[..2]);
}

#[test]
fn every_misdeed_is_stopped_while_a_rule_opens_or_is_told_of_series() {
    misdeeds_in(&PLACES[2..4]);
}

#[test]
fn every_misdeed_is_stopped_while_state_is_migrated() {
    misdeeds_in(&PLACES[4..5]);
}

#[test]
fn every_misdeed_is_stopped_in_the_allocator_and_before_the_first_call() {
    misdeeds_in(&PLACES[5..]);
}

/// Allocators that lie: name and body, given (old, old size, alignment, size).
const LIARS: [(&str, &str); 8] = [
    ("null", "(i32.const 0)"),
    ("an odd place", "(i32.const 4097)"),
    ("a place beyond the memory", "(i32.const -8)"),
    ("the last byte", "(i32.const 262143)"),
    ("the last aligned place", "(i32.const 262136)"),
    ("just behind the memory", "(i32.const 262144)"),
    ("its own size", "(local.get 3)"),
    ("over the module's data", "(i32.const 1024)"),
];

#[test]
fn an_allocator_that_lies_harms_nobody_but_its_rule() {
    for engine in engines() {
        let mut good = Good::new(&engine);
        for (name, body) in LIARS {
            let guest = Guest { realloc: body.to_owned(), ..Guest::default() };
            // Some of these are within the rule's own memory, where it may do as it likes.
            if let Some(failure) = provoke(&engine, &settings(), &guest) {
                assert_eq!(failure.code.trim_start_matches("open."), "abi", "{name}: {failure:?}");
            }
            // Lists from the host, into a lie.
            let mut guest = Guest::processing(&format!(
                "(call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                   (i32.const -1) (i32.const 512)) {OK}"
            ));
            guest.realloc = body.to_owned();
            if let Some(failure) = provoke(&engine, &settings(), &guest) {
                assert_eq!(failure.code.trim_start_matches("open."), "abi", "{name}: {failure:?}");
            }
            good.still_works();
        }
    }
}

#[test]
fn an_allocator_that_calls_the_host_is_stopped() {
    for engine in engines() {
        for call in [
            "(call $emit (i32.const 0) (i32.const 0))",
            "(call $log (i32.const 1) (i32.const 0) (i32.const 0))",
            "(call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))",
        ] {
            let realloc = format!("{call} (i32.const 4096)");
            let guest = Guest { realloc, ..Guest::default() };
            let failure = provoke(&engine, &settings(), &guest).unwrap();
            assert_eq!(failure.code, "open.abi", "{}", failure.message);
        }
    }
}

#[test]
fn what_needs_a_batch_is_refused_outside_of_one() {
    let engine = &engines()[0];
    let emit = "(call $emit (i32.const 0) (i32.const 0))";
    for place in ["open", "migrate", "series-added"] {
        let failure = provoke(engine, &settings(), &doing(emit, place)).unwrap();
        assert_eq!(failure.code.trim_start_matches("open."), "output.early", "{place}");
    }
    // In a batch an empty emission is nothing.
    assert_eq!(provoke(engine, &settings(), &doing(emit, "process")), None);
}

#[test]
fn with_fuel_to_burn_the_computing_time_still_ends() {
    for engine in engines() {
        let limits = Limits {
            fuel_call: u64::MAX,
            deadline_call: Duration::from_millis(20),
            ..Limits::default()
        };
        let settings = Settings { limits, ..settings() };
        for place in PLACES {
            let failure = provoke(&engine, &settings, &doing("(loop $l (br $l))", place)).unwrap();
            assert_eq!(failure.code.trim_start_matches("open."), "deadline", "{place}");
        }
        // Calls of the host that never end.
        let flood = "(loop $l (call $cancel (i32.const 512) (i32.const 1)) (br $l))";
        let failure = provoke(&engine, &settings, &doing(flood, "process")).unwrap();
        assert_eq!(failure.code, "deadline");
        Good::new(&engine).still_works();
    }
}

/// Makes a call so many times, each with another name of three bytes at 512.
fn count(call: &str, n: u32) -> String {
    format!(
        "(local $n i32) (loop $l (i32.store (i32.const 512) (i32.or (i32.and (local.get $n)
           (i32.const 0x7f)) (i32.or (i32.const 0x00010000)
             (i32.shl (i32.and (local.get $n) (i32.const 0x3f80)) (i32.const 1)))))
         {call} (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
           (i32.const {n}))))"
    )
}

const KEY: &str = "(call $set (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 0))";
const VALUE: &str = "(call $set (i32.const 512) (i32.const 3) (i32.const 1024) (i32.const 60000))";
const TIMER: &str = "(call $timer (i32.const 512) (i32.const 3) (i64.const 1))";

#[test]
fn caps_that_the_operator_sets_hold_in_place_of_the_usual_ones_and_say_how_much_there_is() {
    let engine = &engines()[0];
    let usual =
        Limits { fuel_call: u64::MAX, deadline_call: Duration::from_secs(9), ..Limits::default() };
    // One key is there from before, and two readings are given.
    let emit = |n: u32| format!("(call $emit (i32.const 32768) (i32.const {n}))");
    let cases = [
        (Limits { keys: 5, ..usual }, count(KEY, 4), count(KEY, 5), "state.keys", "5"),
        (
            Limits { keys: 12_000, ..usual },
            count(KEY, 11_999),
            count(KEY, 12_000),
            "state.keys",
            "12000",
        ),
        (
            Limits { state_bytes: 200_000, ..usual },
            count(VALUE, 3),
            count(VALUE, 4),
            "state.bytes",
            "200000",
        ),
        (
            Limits { state_bytes: 1 << 21, ..usual },
            count(VALUE, 34),
            count(VALUE, 35),
            "state.bytes",
            "2097152",
        ),
        (Limits { timers: 7, ..usual }, count(TIMER, 7), count(TIMER, 8), "timers.count", "7"),
        (
            Limits { timers: 1500, ..usual },
            count(TIMER, 1500),
            count(TIMER, 1501),
            "timers.count",
            "1500",
        ),
        (Limits { emitted_input: 1, ..usual }, emit(66), emit(67), "output.count", "66"),
        (Limits { emitted_input: 9, ..usual }, emit(82), emit(83), "output.count", "82"),
        (Limits { output_bytes: 240, ..usual }, emit(10), emit(11), "output.bytes", "240"),
    ];
    for (limits, within, beyond, code, most) in cases {
        let settings = Settings { limits, ..settings() };
        let guest = |what: &str| doing(what, "process").with(NO_TEXTS);
        assert_eq!(provoke(engine, &settings, &guest(&within)), None, "{code} {most}");
        let failure = provoke(engine, &settings, &guest(&beyond)).unwrap();
        assert_eq!(failure.code, code);
        assert!(failure.message.contains(most), "{most}: {failure:?}");
    }
}

#[test]
fn a_cap_that_was_lowered_below_what_is_kept_refuses_more_and_not_what_is_there() {
    let engine = &engines()[0];
    let settings =
        Settings { limits: Limits { keys: 1, timers: 1, ..Limits::default() }, ..settings() };
    let mut kept = kept();
    kept.state.insert(Arc::from("other"), Arc::from([1].as_slice()));
    for name in ["a", "b", "c"] {
        kept.timers.insert(Arc::from(name), 1);
    }
    let given = |what: &str| {
        let program =
            Program::load(engine, &doing(what, "process").with(NO_TEXTS).build()).unwrap();
        let mut rule = Instance::open(&program, &settings, &series(3), kept.clone()).unwrap();
        rule.process(&context(6), &readings(&[1.0])).map_err(|failure| failure.code)
    };
    let name = |text: &str| {
        format!("(i32.store (i32.const 512) (i32.const {}))", u32::from(text.as_bytes()[0]))
    };
    let set = "(call $timer (i32.const 512) (i32.const 1) (i64.const 9))";
    assert!(given(&format!("{} {set}", name("a"))).is_ok(), "one that is set is moved");
    assert_eq!(given(&format!("{} {set}", name("d"))).unwrap_err(), "timers.count");
    assert_eq!(given(KEY).unwrap_err(), "state.keys");
}

#[test]
fn caps_on_what_is_kept_hold_to_the_last_one() {
    let engine = &engines()[0];
    let limits =
        Limits { fuel_call: u64::MAX, deadline_call: Duration::from_secs(9), ..Limits::default() };
    let settings = Settings { limits, ..settings() };
    let declare = "(call $declare (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 512)
        (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 600))
        (if (i32.load8_u (i32.const 600)) (then unreachable))";
    // One key is there from before.
    for (call, most, code) in
        [(KEY, 9_999, "state.keys"), (VALUE, 17, "state.bytes"), (TIMER, 1_000, "timers.count")]
    {
        for n in [most, most + 1] {
            let guest = doing(&count(call, n), "process").with(NO_TEXTS);
            let failure = provoke(engine, &settings, &guest).map(|failure| failure.code);
            assert_eq!(failure.as_deref(), (n > most).then_some(code), "{n} {code}");
        }
    }
    // Names of outputs may not hold control characters: all but few of these are refused with
    // words that the rule can read, and the rule goes on.
    let failure = provoke(engine, &settings, &doing(&count(declare, 3), "open").with(NO_TEXTS));
    assert_eq!(failure.unwrap().code, "open.trap.unreachable");
}

#[test]
fn numbers_that_are_none_pass_through_unharmed() {
    for engine in engines() {
        let guest = Guest::processing(&format!(
            "(i64.store offset=32 (local.get $batch) (i64.const 0xfff4000000000001))
             (call $emit (local.get $batch) (i32.const 1)) {OK}"
        ));
        let mut rule = open(&engine, &guest, Kept::default());
        let outcome = rule.process(&context(1), &readings(&[1.0])).unwrap();
        let crate::rules::wit::Value::Number(number) = outcome.emitted[0].value else { panic!() };
        assert!(number.is_nan());
    }
}

#[test]
fn marks_that_do_not_exist_are_left_out() {
    let engine = &engines()[0];
    let guest = Guest::processing(&format!(
        "(i32.store8 offset=16 (local.get $batch) (i32.const 0xff))
         (call $emit (local.get $batch) (i32.const 1)) {OK}"
    ));
    let mut rule = open(engine, &guest, Kept::default());
    let outcome = rule.process(&context(1), &readings(&[1.0])).unwrap();
    assert_eq!(outcome.emitted[0].quality, crate::rules::wit::Quality::all());
}

#[test]
fn texts_of_other_encodings_are_read_as_they_are_meant() {
    use wit_component::StringEncoding::{CompactUTF16, UTF16};
    let engine = &engines()[0];
    for (encoding, length) in [(UTF16, 2), (CompactUTF16, 0x8000_0002_u32)] {
        let mut guest = Guest::processing(&format!(
            "(call $log (i32.const 1) (i32.const 1024) (i32.const {length})) {OK}"
        ))
        .with(r#"(data (i32.const 1024) "\e4\00\ac\20")"#);
        guest.encoding = encoding;
        let mut rule = open(engine, &guest, Kept::default());
        assert_eq!(rule.process(&context(1), &[]).unwrap().log[0].1, "ä€");
        // Half of a pair, and a length without end.
        for (at, length) in [(1030, length), (1024, u32::MAX), (1024, 0x7fff_ffff), (1025, length)]
        {
            guest.process =
                format!("(call $log (i32.const 1) (i32.const {at}) (i32.const {length})) {OK}");
            guest.top = r#"(data (i32.const 1030) "\00\d8\00\d8")"#.to_owned();
            let failure = provoke(engine, &settings(), &guest).unwrap();
            assert_eq!(failure.code, "abi", "{encoding} {at} {length}: {}", failure.message);
        }
    }
}

#[test]
fn a_panic_of_the_host_costs_one_instance() {
    for engine in engines() {
        let guest = Guest::processing(&format!(
            "(if (i32.eqz (local.get $n))
               (then (call $param (i32.const 1024) (i32.const 21) (i32.const 512)))) {OK}"
        ))
        .with(r#"(data (i32.const 1024) "the host shall panic!")"#);
        let mut rule = open(&engine, &guest, Kept::default());
        let failure = rule.process(&context(1), &[]).unwrap_err();
        assert_eq!(failure.code, "host");
        assert!(failure.message.ends_with("as a test wants"), "{}", failure.message);
        rule.process(&context(1), &readings(&[1.0])).unwrap();
        Good::new(&engine).still_works();
    }
}

#[test]
fn rules_that_nobody_would_write_are_refused_stopped_or_done() {
    let engine = &engines()[0];
    let mut good = Good::new(engine);
    let (mut made, mut ran, mut random) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut why = Vec::new();
    for n in 0..40 {
        let seed: Vec<u8> = (0..400 + 40 * n)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        let Some(file) = wild(&seed) else { continue };
        made += 1;
        match Program::load(engine, &file) {
            Ok(program) => {
                ran += 1;
                let opened = Instance::open(&program, &settings(), &series(1), Kept::default());
                let _ = opened.map(|mut rule| rule.process(&context(1), &readings(&[1.0])));
            }
            Err(refused) => why.push(refused.message),
        }
        good.still_works();
    }
    assert!(made > 10 && ran > 5, "{made} made, {ran} of them ran: {:?}", why.first());
}
