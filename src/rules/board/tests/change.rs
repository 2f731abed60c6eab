//! Which rules form which chain, and how that is changed while readings flow.

use super::*;

#[test]
fn what_a_rule_takes_goes_on_only_when_one_of_them_keeps_it() {
    let bench = Bench::new(&[("mark", Kind::Mark(1))]);
    let keeper = Definition { keep: true, ..definition("second", "mark", "meter/b") };
    let shadow = Definition { mode: Mode::Shadow, ..definition("third", "mark", "meter/c") };
    let on = vec![Pattern::of("meter", "a"), Pattern::of("meter", "b")];
    let first = Definition { on, ..definition("first", "mark", "*") };
    let (board, mut routes) = bench.board(vec![first, keeper, shadow]);
    let mut straight = 0;
    for point in ["a", "b", "c", "d"] {
        routes.split(bench.group(START, "meter", point, 1), &mut |_| straight += 1);
    }
    assert_eq!(straight, 1, "d alone is taken by no rule");
    board.stop(Duration::from_secs(60));
    let left: BTreeSet<String> = bench.left().into_iter().collect();
    let wanted = [
        "first/a_v1 = 1 @0",
        "first/b_v1 = 1 @0",
        "meter/b = 1 @0",
        "meter/c = 1 @0",
        "second/b_v1 = 1 @0",
    ];
    assert_eq!(left, wanted.map(str::to_owned).into());
}

#[test]
fn a_change_between_two_batches_loses_no_reading_and_takes_none_twice() {
    let kinds: Vec<(String, Kind)> = (0..20).map(|n| (format!("v{n}"), Kind::Mark(n))).collect();
    let kinds: Vec<(&str, Kind)> =
        kinds.iter().map(|(n, kind)| (n.as_str(), kind.clone())).collect();
    let bench = Bench::new(&kinds);
    let rules = |n: usize| {
        let changing = definition("changing", &format!("v{n}"), "meter/a");
        let steady = definition("steady", "v0", "meter/b");
        let extra = definition("extra", "v1", "changing/*_v*");
        if n % 3 == 2 { vec![changing, steady, extra] } else { vec![changing, steady] }
    };
    let (mut board, mut routes) = bench.board(rules(0));
    let feeding = std::thread::spawn({
        let groups: Vec<Group> = (0..2_000)
            .map(|n| bench.group(START + n, "meter", ["a", "b"][(n % 2) as usize], n))
            .collect();
        move || {
            for group in groups {
                routes.split(group, &mut |_| panic!("went past"));
                std::thread::yield_now();
            }
        }
    });
    let mut changes = 0;
    let mut kept = BTreeMap::new();
    while (!feeding.is_finished() || changes < 19) && changes < 40 {
        changes += 1;
        bench.keep(&mut kept);
        assert_eq!(board.apply(rules(changes % 20), kept.clone()), []);
    }
    feeding.join().unwrap();
    board.stop(Duration::from_secs(60));
    let mut numbers: Vec<i64> = (bench.left().iter())
        .map(|text| text.split(" = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..2_000).collect::<Vec<_>>(), "{changes} changes");
    assert!(!bench.says("FG-W23"));
}

#[test]
fn a_rule_that_cannot_be_had_leaves_the_old_one_running() {
    let bench = Bench::new(&[("v1", Kind::Mark(1)), ("v2", Kind::Mark(2))]);
    let (mut board, mut routes) = bench.board(vec![definition("mark", "v1", "meter/*")]);
    let mut send = |n| routes.split(bench.group(START + n, "meter", "a", n), &mut |_| panic!());
    send(1);
    for file in ["gone", "v2"] {
        bench.rust.refuses_to_open.store(file == "v2", Ordering::Relaxed);
        let refused = board.apply(vec![definition("mark", file, "meter/*")], BTreeMap::new());
        assert_eq!(refused.len(), 1);
        send(2);
    }
    bench.rust.refuses_to_open.store(false, Ordering::Relaxed);
    assert_eq!(board.apply(vec![definition("mark", "v2", "meter/*")], BTreeMap::new()), []);
    send(3);
    let loads = bench.rust.loads.load(Ordering::Relaxed);
    assert_eq!(board.apply(vec![definition("mark", "v2", "meter/*")], BTreeMap::new()), []);
    assert_eq!(bench.rust.loads.load(Ordering::Relaxed), loads, "nothing changed");
    board.stop(Duration::from_secs(60));
    let wanted = ["mark/a_v1 = 1 @1", "mark/a_v1 = 2 @2", "mark/a_v1 = 2 @2", "mark/a_v2 = 3 @3"];
    assert_eq!(bench.left(), wanted);
}

#[test]
fn readings_go_past_rules_that_have_not_begun_as_configured() {
    let bench = Bench::new(&[("mark", Kind::Mark(1))]);
    let drops = Definition { on_failure: OnFailure::Drop, ..definition("drops", "mark", "drop/*") };
    let rules = vec![definition("mark", "mark", "meter/*"), drops];
    let mut board = Board::new(&rules, bench.world.clone());
    let mut routes = bench.routes(&board);
    let mut straight = Vec::new();
    for device in ["meter", "drop", "other"] {
        let mut on = |group: Group| straight.push(bench.world.points.info(group.points[0]).device);
        routes.split(bench.group(START, device, "a", 1), &mut on);
    }
    assert_eq!(straight.iter().map(|device| &**device).collect::<Vec<_>>(), ["meter", "other"]);
    let status = board.router().status();
    assert_eq!((status[0].state, status[0].dropped), (State::Waiting, 1));
    assert_eq!((status[1].state, status[1].passed), (State::Waiting, 1));
    assert!(!bench.says("FG-W23"), "it is not behind");
    board.apply(rules, BTreeMap::new());
    routes.split(bench.group(START + 10, "meter", "a", 10), &mut |_| panic!("past"));
    board.stop(Duration::from_secs(60));
    assert_eq!(bench.left(), ["mark/a_v1 = 10 @10"]);
    // The store did not know the rule, so it begins with all there is.
    assert_eq!(bench.out.lock().unwrap().changes[0].onto, crate::state::Onto::Nothing);
}

/// A rule whose file does not announce what it makes.
fn silent(name: &str, file: &str, on: &str) -> Definition {
    Definition { makes: Vec::new(), ..definition(name, file, on) }
}

/// The chains, each as the names of its rules with how many others feed them.
fn chains(board: &Board) -> Vec<String> {
    let of = |chain: &Running| {
        let rules = chain.rules.iter().zip(&chain.fed_by);
        rules.map(|((rule, _), fed_by)| format!("{} {fed_by}", rule.name())).collect::<Vec<_>>()
    };
    let mut all: Vec<String> = board.chains.iter().map(|chain| of(chain).join(", ")).collect();
    all.sort();
    all
}

#[test]
fn a_version_that_makes_something_else_when_it_is_opened_is_joined_to_whoever_takes_it_at_once() {
    let kinds = [("v1", Kind::Mark(1)), ("v2", Kind::Opens("new")), ("mark", Kind::Mark(3))];
    let bench = Bench::new(&kinds);
    let rules =
        |file: &str| vec![silent("taker", "mark", "maker/new"), silent("maker", file, "meter/a")];
    let (mut board, mut routes) = bench.board(rules("v1"));
    assert_eq!(chains(&board), ["maker 0", "taker 0"]);
    let mut send = |n| routes.split(bench.group(START + n, "meter", "a", n), &mut |_| panic!());
    send(1);
    assert_eq!(board.apply(rules("v2"), BTreeMap::new()), []);
    assert_eq!(chains(&board), ["maker 0, taker 1"]);
    send(2);
    let shown = board.router().status();
    assert_eq!(shown[1].chain.iter().map(|name| &**name).collect::<Vec<_>>(), ["maker", "taker"]);
    board.stop(Duration::from_secs(60));
    assert_eq!(bench.left(), ["maker/a_v1 = 1 @1", "taker/new_v3 = 2 @2"]);
}

#[test]
fn an_output_that_is_declared_on_the_way_joins_two_chains_and_nothing_is_lost() {
    let bench = Bench::new(&[("v1", Kind::Mark(1)), ("mark", Kind::Mark(3))]);
    let rules = vec![silent("taker", "mark", "maker/*_v1"), silent("maker", "v1", "meter/*")];
    let (mut board, mut routes) = bench.board(rules);
    let mut send = |n| routes.split(bench.group(START + n, "meter", "a", n), &mut |_| panic!());
    send(1);
    bench.declared.recv().unwrap();
    assert!(board.join());
    assert_eq!(chains(&board), ["maker 0, taker 1"]);
    (2..50).for_each(&mut send);
    assert!(!board.join(), "it is as it should be");
    (50..100).for_each(&mut send);
    board.stop(Duration::from_secs(60));
    let left = bench.left();
    assert_eq!(left[0], "maker/a_v1 = 1 @1", "nobody was known to take it");
    let rest: Vec<_> = (2..100).map(|n| format!("taker/a_v1_v3 = {n} @{n}")).collect();
    assert_eq!(left[1..], rest);
}

#[test]
fn a_second_way_within_a_chain_is_seen() {
    let bench = Bench::new(&[("v1", Kind::Mark(1))]);
    let rules = vec![
        definition("first", "v1", "meter/a"),
        silent("second", "v1", "first/a*"),
        definition("third", "v1", "*/a_v1*"),
    ];
    let (mut board, mut routes) = bench.board(rules);
    assert_eq!(chains(&board), ["first 0, second 1, third 1"]);
    routes.split(bench.group(START, "meter", "a", 1), &mut |_| panic!());
    bench.declared.recv().unwrap();
    assert!(board.join());
    assert_eq!(chains(&board), ["first 0, second 1, third 2"]);
    board.stop(Duration::from_secs(60));
}

#[test]
fn what_a_version_on_trial_makes_feeds_nobody() {
    let bench = Bench::new(&[("v1", Kind::Mark(1)), ("v2", Kind::Opens("new"))]);
    let live = || vec![silent("taker", "v1", "maker/new"), silent("maker", "v1", "meter/a")];
    let tried = Definition {
        mode: Mode::Shadow,
        beside: Some("maker".into()),
        ..silent("maker~trial", "v2", "meter/a")
    };
    let (mut board, _routes) = bench.board(live());
    let with_trial = live().into_iter().chain([tried]).collect();
    assert_eq!(board.apply(with_trial, BTreeMap::new()), []);
    assert_eq!(chains(&board), ["maker 0", "maker~trial 0", "taker 0"]);
    // Promoted, it does.
    let promoted = vec![silent("taker", "v1", "maker/new"), silent("maker", "v2", "meter/a")];
    assert_eq!(board.apply(promoted, BTreeMap::new()), []);
    assert_eq!(chains(&board), ["maker 0, taker 1"]);
    board.stop(Duration::from_secs(60));
}

#[test]
fn rules_that_come_to_feed_each_other_in_a_circle_lose_the_last_of_them_and_it_can_come_back() {
    let bench = Bench::new(&[("v1", Kind::Mark(1))]);
    let on = |name: &str, other: &str| {
        let on = vec![Pattern::of("meter", name), Pattern::of(other, "*_v1")];
        Definition { on, ..silent(name, "v1", "*") }
    };
    let (mut board, mut routes) = bench.board(vec![on("one", "two"), on("two", "one")]);
    for name in ["one", "two"] {
        routes.split(bench.group(START, "meter", name, 1), &mut |_| panic!());
        bench.declared.recv().unwrap();
    }
    board.join();
    assert!(!board.join(), "it is settled");
    let stopped = |board: &Board| {
        let status = board.router().status();
        status.iter().filter(|it| it.state == State::Stopped).count()
    };
    assert_eq!(stopped(&board), 1);
    assert!(bench.says("FG-W21"));
    let apart = silent("two", "v1", "meter/two");
    assert_eq!(board.apply(vec![on("one", "two"), apart], BTreeMap::new()), []);
    assert_eq!(stopped(&board), 0);
    assert!(!bench.says("FG-W21"), "it runs again");
    board.stop(Duration::from_secs(60));
}

#[test]
fn a_circle_that_shows_when_rules_declare_stops_the_last_of_them_by_name() {
    let bench = Bench::new(&[("mark", Kind::Mark(1))]);
    let known = |point: &str, name: &str| {
        let (device, unit) = (Arc::<str>::from(name), "".into());
        let declared = vec![Declared { stream: Stream::Data, device, point: point.into(), unit }];
        (Arc::<str>::from(name), Kept { declared, ..Kept::default() })
    };
    let rule =
        |name: &str, on: &str| Definition { makes: Vec::new(), ..definition(name, "mark", on) };
    let rules = vec![rule("one", "two/y"), rule("two", "one/x")];
    let mut board = Board::new(&rules, bench.world.clone());
    let kept = [known("x", "one"), known("y", "two")].into();
    let refused = board.apply(rules, kept);
    assert_eq!((refused.len(), &*refused[0].0), (1, "two"));
    assert!(refused[0].1.message.contains("feed one another in a circle"));
    board.stop(Duration::from_secs(60));
}
