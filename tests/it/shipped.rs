//! The shipped rules as files, on the daemon's own engine: what their native tests cannot see.

use fieldgate::reading::Stream;
use fieldgate::rules::wit::{Param, Value};
use fieldgate::rules::{Code, Engine};

use crate::guest::{Guest, POINTS, SHIPPED, file, params, polls, reading};

/// Bytes of a rule's file: what goes over a SIM card and is compiled on a board.
const FILE_BYTES_MAX: usize = 100_000;

#[test]
fn every_shipped_rule_is_small_and_says_what_it_is() {
    for name in SHIPPED {
        let file = file(name);
        assert!(file.len() <= FILE_BYTES_MAX, "{name} has {} bytes", file.len());
        // Outermost and first, so that whoever wonders what a file is need not read further.
        let said = format!("{{\"name\":\"{name}\",\"version\":\"1.0.0\"");
        assert!(String::from_utf8_lossy(&file[..120]).contains(&said), "{name} says who it is");
    }
}

#[test]
fn native_code_and_the_interpreter_agree_to_the_bit_and_in_fuel() {
    let native = Engine::new(Code::Native).unwrap();
    let pulley = Engine::new(Code::Pulley).unwrap();
    for name in SHIPPED {
        let ran = [&native, &pulley].map(|engine| {
            let mut guest = Guest::open(engine, name, params(name), &POINTS).unwrap();
            for minute in 0..4 {
                guest.process(&polls(minute * 60, 60)).unwrap_or_else(|f| panic!("{name}: {f:?}"));
            }
            guest.settle(i64::MAX / 2).unwrap();
            (guest.emitted, guest.fuel, guest.log)
        });
        assert_eq!(ran[0], ran[1], "{name}");
        let quiet = ["threshold", "zscore"].contains(&name);
        assert_eq!(ran[0].0.is_empty(), quiet, "{name} emitted {}", ran[0].0.len());
        assert!(ran[0].2.is_empty(), "{name} logged {:?}", ran[0].2);
    }
}

#[test]
fn the_freeze_alarm_of_the_contract_is_raised_at_forty_seconds() {
    let engine = Engine::new(Code::Auto).unwrap();
    let with = vec![
        ("below".to_owned(), Param::Number(2.0)),
        ("for".to_owned(), Param::DurationUs(30_000_000)),
        ("event".to_owned(), Param::Text("freeze".to_owned())),
    ];
    let mut guest = Guest::open(&engine, "threshold", with, &[("chiller", "supply_temp")]).unwrap();
    let begin = 1_767_225_600_000_000;
    for (second, number) in [(0, 3.0), (10, 1.9), (41, 1.8)] {
        guest.process(&[reading(0, begin + second * 1_000_000, number)]).unwrap();
    }
    let [event] = guest.emitted.as_slice() else { panic!("{:?}", guest.emitted) };
    assert_eq!((event.at - begin, &event.value), (40_000_000, &Value::Boolean(true)));
    assert_eq!(guest.name(event), (Stream::Event, "chiller".to_owned(), "freeze".to_owned()));
}

/// Goal: no rule breaks for the number of its series, within the limits that every rule has. Method:
/// windows of two thousand series wait at once; the instance is thrown away, as a restart does; then
/// one reading comes, and one that makes every window due.
#[test]
fn two_thousand_series_may_wait_at_once_and_a_restart_finds_them() {
    let names: Vec<String> = (0..2000).map(|n| format!("p{n}")).collect();
    let series: Vec<(&str, &str)> = names.iter().map(|name| ("plant", name.as_str())).collect();
    let (begin, ten_seconds) = (1_767_225_600_000_000, 10_000_000);
    for (code, name) in [(Code::Native, "aggregate"), (Code::Pulley, "threshold")] {
        let engine = Engine::new(code).unwrap();
        let params = match name {
            "threshold" => vec![
                ("above".to_owned(), Param::Number(30.0)),
                ("for".to_owned(), Param::DurationUs(5_000_000)),
            ],
            _ => params(name),
        };
        let mut guest = Guest::open(&engine, name, params.clone(), &series).unwrap();
        // Ten at a time, as devices are polled.
        for device in 0..200 {
            let poll: Vec<_> = (0..10).map(|n| reading(device * 10 + n, begin, 31.0)).collect();
            guest.process(&poll).unwrap_or_else(|f| panic!("{name}: {f:?}"));
        }
        let mut guest = guest.reopened(&engine, name, params).unwrap();
        guest.process(&[reading(7, begin + 1, 31.0)]).unwrap_or_else(|f| panic!("{name}: {f:?}"));
        assert!(guest.emitted.is_empty(), "{name}: nothing is due");
        let late = begin + 2 * ten_seconds;
        guest.process(&[reading(7, late, 20.0)]).unwrap_or_else(|f| panic!("{name}: {f:?}"));
        guest.settle(late).unwrap_or_else(|f| panic!("{name}: {f:?}"));
        assert_eq!(guest.emitted.len(), 2000 + usize::from(name == "threshold"), "{name}");
    }
}

#[test]
fn texts_pass_through_a_rule_unharmed() {
    let engine = Engine::new(Code::Auto).unwrap();
    let mut guest = Guest::open(&engine, "on-change", Vec::new(), &[("scale", "status")]).unwrap();
    let texts = ["", "ST", "ünsicher", &"x".repeat(5_000)];
    let batch: Vec<_> = (0..)
        .zip(texts)
        .map(|(second, text)| {
            let mut one = reading(0, second * 1_000_000, 0.0);
            one.value = Value::Text(text.to_owned());
            one
        })
        .collect();
    guest.process(&batch).unwrap();
    assert_eq!(guest.emitted, batch);
}

#[test]
fn what_a_rule_refuses_is_said_in_its_own_words() {
    let engine = Engine::new(Code::Auto).unwrap();
    let Err(failure) = Guest::open(&engine, "threshold", Vec::new(), &[("m", "p")]) else {
        panic!("it has nothing to watch for")
    };
    assert!(failure.message.contains("neither above nor below is set"), "{failure:?}");
}

/// Goal: every window that may be configured fits the fuel that every rule has. Method: the largest
/// ones, of one series and of a hundred polled together, until each is full and closes.
#[test]
fn the_largest_windows_need_no_more_fuel_than_every_rule_has() {
    let engine = Engine::new(Code::Native).unwrap();
    let seconds = |name: &str, n: u64| (name.to_owned(), Param::DurationUs(n * 1_000_000));
    let sliding = || ("kind".to_owned(), Param::Text("sliding".to_owned()));
    let percentiles = || {
        let all = ["p50", "p90", "p95", "p99"].map(str::to_owned);
        ("emit".to_owned(), Param::Texts(all.to_vec()))
    };
    for (rule, with, polls) in [
        ("aggregate", vec![seconds("window", 2)], 30),
        ("aggregate", vec![seconds("window", 500), percentiles()], 510),
        ("aggregate", vec![seconds("window", 20), seconds("every", 1), sliding()], 60),
        (
            "aggregate",
            vec![seconds("window", 300), seconds("every", 15), sliding(), percentiles()],
            340,
        ),
        ("moving-average", vec![seconds("window", 200)], 210),
    ] {
        for many in [1, 100] {
            let names: Vec<String> = (0..many).map(|n| format!("p{n}")).collect();
            let series: Vec<_> = names.iter().map(|name| ("plant", name.as_str())).collect();
            let mut guest = Guest::open(&engine, rule, with.clone(), &series).unwrap();
            // Multiples of all windows begin here.
            let begin = 1_767_225_000_000_000;
            for poll in 0..polls {
                let number = f64::from(poll * 7919 % 997);
                let at = begin + i64::from(poll) * 1_000_000;
                let batch: Vec<_> = (0..many).map(|one| reading(one, at, number)).collect();
                let said = guest.process(&batch);
                said.unwrap_or_else(|f| panic!("{rule} {with:?}, {many}, poll {poll}: {f:?}"));
            }
            assert!(guest.emitted.len() >= many as usize, "{rule} {with:?} closed nothing");
        }
    }
}
