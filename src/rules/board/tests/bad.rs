//! Rules that hang, panic, fail or are many cost nobody else anything.

use super::*;

#[test]
fn a_rule_that_hangs_costs_nobody_else_anything() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let kinds = [("stuck", Kind::Stuck(Arc::clone(&gate))), ("mark", Kind::Mark(1))];
    let bench = Bench::new(&kinds);
    let rules = vec![definition("bad", "stuck", "meter/a"), definition("good", "mark", "meter/b")];
    let (board, mut routes) = bench.board(rules);
    let (mut past, mut free) = (0, 0);
    let room = limits::RULE_INBOX_READINGS_MAX as i64;
    for n in 0..3 * room {
        routes.split(bench.group(START + n, "meter", "a", n), &mut |_| past += 1);
        if n % 1000 == 0 {
            routes.split(bench.group(START + n, "meter", "b", n), &mut |_| past += 1_000_000);
        }
        routes.split(bench.group(START + n, "free", "x", n), &mut |_| free += 1);
    }
    assert_eq!(free, 3 * room);
    assert!((room..=2 * room).contains(&past), "{past}");
    let report = board.router().status();
    assert_eq!((&*report[0].name, report[0].passed), ("bad", past.unsigned_abs()));
    assert!(bench.says("FG-W23"));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    board.stop(Duration::from_secs(60));
    assert_eq!(bench.left().iter().filter(|text| text.starts_with("good/")).count(), 30);
    assert!(!bench.says("FG-W23"), "it has processed what waited");
}

#[test]
fn what_a_hanging_rule_has_not_taken_at_a_stop_goes_on_unruled() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let bench = Bench::new(&[("stuck", Kind::Stuck(Arc::clone(&gate)))]);
    let (board, mut routes) = bench.board(vec![definition("bad", "stuck", "meter/a")]);
    for n in 0..5000 {
        routes.split(bench.group(START + n, "meter", "a", n), &mut |_| panic!("past"));
    }
    board.stop(Duration::from_millis(20));
    assert!(bench.left().len() >= 4000, "{}", bench.left().len());
    assert!(bench.says("FG-W29"));
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

#[test]
fn a_chain_that_panics_is_stopped_and_its_readings_go_on() {
    let bench = Bench::new(&[("panics", Kind::Panics), ("mark", Kind::Mark(1))]);
    let rules = vec![definition("bad", "panics", "meter/a"), definition("good", "mark", "meter/b")];
    let (board, mut routes) = bench.board(rules);
    for n in 0..10 {
        routes.split(bench.group(START + n, "meter", "a", n), &mut |_| panic!("past"));
        routes.split(bench.group(START + n, "meter", "b", n), &mut |_| panic!("past"));
    }
    board.stop(Duration::from_secs(60));
    let left = bench.left();
    assert_eq!(left.iter().filter(|text| text.starts_with("meter/a")).count(), 10, "{left:?}");
    assert_eq!(left.iter().filter(|text| text.starts_with("good/")).count(), 10);
    assert!(bench.says("FG-W22"));
}

#[test]
fn a_hundred_rules_run_at_once() {
    let bench = Bench::new(&[("mark", Kind::Mark(1))]);
    let rules = (0..100).map(|n| definition(&format!("r{n}"), "mark", &format!("meter/p{n}")));
    let (board, mut routes) = bench.board(rules.collect());
    for n in 0..100 {
        for at in 0..20 {
            let group = bench.group(START + at, "meter", &format!("p{n}"), at);
            routes.split(group, &mut |_| panic!("past"));
        }
    }
    board.stop(Duration::from_secs(60));
    assert_eq!(bench.left().len(), 2000);
}

#[test]
fn too_many_readings_that_wait_are_told_of_until_the_rule_has_them() {
    let bench = Bench::new(&[("picky", Kind::Picky)]);
    let rule = Definition { on_failure: OnFailure::Hold, ..definition("p", "picky", "meter/*") };
    let mut chain = bench.chain(vec![rule], &BTreeMap::new());
    let most = limits::RULE_HELD_READINGS_MAX as i64;
    let mut inputs: Vec<Input> =
        (0..most + 5).map(|n| bench.input(START, "meter", "a", n)).collect();
    for input in &mut inputs[..3] {
        input.samples[0] = Sample::good(Value::from_text("no number"));
    }
    chain.feed(Feed::Readings(inputs));
    let held = |chain: &Chain| chain.nodes[0].shown.read().held;
    assert_eq!((held(&chain), bench.says("FG-W27")), (most.unsigned_abs(), true));
    assert!(bench.says("FG-W24"));
    // It is tried again after five minutes, and then gets what waits.
    for (minute, waiting) in [(1, most), (6, 0), (7, 0)] {
        let at = START + minute * 60_000;
        chain.feed(Feed::Readings(vec![bench.input(at, "meter", "a", 1)]));
        if waiting > 0 {
            assert_eq!((held(&chain), bench.says("FG-W24")), (waiting.unsigned_abs(), true));
        }
    }
    assert_eq!(held(&chain), 0);
    assert!(!bench.says("FG-W24") && !bench.says("FG-W27"));
}

#[test]
fn a_reading_that_a_rule_fails_on_is_named_and_the_others_are_ruled() {
    let bench = Bench::new(&[("picky", Kind::Picky)]);
    let mut chain = bench.chain(vec![definition("picky", "picky", "meter/*")], &BTreeMap::new());
    let mut inputs: Vec<Input> = (0..100).map(|n| bench.input(START, "meter", "a", n)).collect();
    inputs[42].samples[0] = Sample::good(Value::from_text("forty-two"));
    chain.feed(Feed::Readings(inputs));
    let report = chain.nodes[0].shown.read();
    assert_eq!((report.taken, report.aside, report.passed), (100, 1, 1));
    assert!(bench.says("FG-W25"));
    let left = bench.left();
    assert!(
        left[0].starts_with("picky/aside = meter/a = forty-two")
            || left[1].starts_with("picky/aside"),
        "{left:?}"
    );
    assert_eq!(left.len(), 2, "the event, and the reading itself: {left:?}");
}
