//! Trials on a board: the version beside the running one sees what that sees, and none of it leaves.

use super::*;

/// What a store would have kept.
fn kept(bench: &Bench) -> BTreeMap<Arc<str>, Kept> {
    let mut kept: BTreeMap<Arc<str>, Kept> = BTreeMap::new();
    for change in &bench.out.lock().unwrap().changes {
        kept.entry(Arc::clone(&change.rule)).or_default().apply(change);
    }
    kept
}

#[test]
fn a_version_on_trial_sees_the_same_readings_and_nothing_of_it_leaves() {
    let kinds = [
        ("one", Kind::Window),
        ("two", Kind::Window),
        ("bad", Kind::Panics),
        ("no", Kind::Mark(2)),
    ];
    let mut bench = Bench::new(&kinds);
    let clock = Arc::new(Manual::new(UnixMillis(START)));
    bench.world.clock = Arc::clone(&clock) as _;
    let live = |file: &str| definition("sums", file, "meter/*");
    let tried = |file: &str| Definition {
        mode: Mode::Shadow,
        beside: Some("sums".into()),
        makes: Vec::new(),
        ..definition("sums~trial", file, "meter/*")
    };
    let (mut board, mut routes) = bench.board(vec![live("one")]);
    let mut now = START;
    let mut send = |count: i64| {
        for _ in 0..count {
            now += 1000;
            clock.set(UnixMillis(now));
            routes.split(bench.group(now, "meter", "a", 1), &mut |_| panic!("went past"));
        }
    };
    send(95);
    let given = |name: &str, board: &Board| {
        let status = board.router().status();
        status.into_iter().find(|report| *report.name == *name).map_or(0, |report| report.taken)
    };
    while given("sums", &board) < 95 {
        std::thread::yield_now();
    }
    // The window that is open at the beginning of the trial is part of what is forked.
    assert_eq!(board.apply(vec![live("one")], kept(&bench)), []);
    assert_eq!(board.apply(vec![live("one"), tried("two")], kept(&bench)), []);
    send(300);
    let trial = |name: &str, board: &Board| {
        let status = board.router().status();
        let report = status.into_iter().find(|report| *report.name == *name).unwrap();
        report.trial.map(|(_, trial)| trial)
    };
    let running = trial("sums", &board).expect("the running version takes part");
    let taken = |trial: &Trial| trial.compared().live.taken.min(trial.compared().trial.taken);
    while taken(&running) < 300 || running.compared().waiting > 0 {
        std::thread::yield_now();
    }
    let compared = running.compared();
    assert!(compared.same >= 29, "{compared:?}");
    assert_eq!((compared.differing, compared.missing, compared.extra), (0, 0, 0), "{compared:?}");

    // One that fails is told by its failure, and costs nothing.
    assert_eq!(board.apply(vec![live("one"), tried("bad")], kept(&bench)), []);
    send(10);
    let bad = trial("sums~trial", &board).unwrap();
    while bad.compared().failure.is_none() {
        std::thread::yield_now();
    }
    // One takes the place of the other, over the running one's state.
    assert_eq!(board.apply(vec![live("two")], kept(&bench)), []);
    assert!(trial("sums", &board).is_none());
    send(35);
    board.stop(Duration::from_secs(60));
    let sums: Vec<String> = bench.left();
    assert!(sums.iter().all(|text| text.starts_with("sums/a_sum = ")), "{sums:?}");
    assert!(sums.iter().skip(1).all(|text| text.contains("= 10 @")), "{sums:?}");
    assert!(sums.len() >= 42, "{}: {sums:?}", sums.len());
}
