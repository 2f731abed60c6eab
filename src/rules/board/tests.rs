//! Chains and boards with rules written in Rust: what a rule sees does not depend on where batches
//! were cut, a change loses nothing, and a bad rule costs nobody else anything.

mod trials;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::clock::Manual;
use crate::reading::{Group, PointId, PointInfo, Quality, Sample, UnixMillis, Value};
use crate::rules::inbox::Input;
use crate::rules::trial::Bounds;
use crate::rules::wit::{self, Context, Fired, Reading, Series};
use crate::rules::{
    DECLARED, Feed, Limits, Mode, OnFailure, Opened, Outcome, Routes, Rule, Settings, State,
};
use crate::state::{Change, Declared};

/// 2026-11-22, milliseconds.
const START: i64 = 1_795_300_000_000;
const US: i64 = 1000;

/// What leaves the chains.
#[derive(Default)]
struct Out {
    groups: Vec<Group>,
    changes: Vec<Change>,
    /// The store is to ask for all that is kept, once.
    ask: bool,
}

struct Collector(Arc<Mutex<Out>>);

impl Sink for Collector {
    fn take(&mut self, groups: Vec<Group>, changes: Vec<Change>) -> Vec<Arc<str>> {
        let mut out = self.0.lock().unwrap();
        out.groups.extend(groups);
        let ask = std::mem::take(&mut out.ask);
        let names = changes.iter().map(|change| Arc::clone(&change.rule)).filter(|_| ask).collect();
        out.changes.extend(changes);
        names
    }
}

/// What a test rule does with its readings.
#[derive(Clone)]
enum Kind {
    /// Windows of ten seconds a series, closed by timers; emits the sum as `DEVICE/POINT_sum`.
    Window,
    /// Hands everything on under a name of its own, with a number that says which version it is.
    Mark(i64),
    /// Waits in every call until the test lets it go.
    Stuck(Arc<(Mutex<bool>, Condvar)>),
    /// Panics with every call.
    Panics,
    /// Fails with texts.
    Picky,
}

struct TestRule {
    kind: Kind,
    name: Arc<str>,
    series: Vec<(String, String)>,
    kept: Kept,
    seen: Arc<Mutex<Vec<Reading>>>,
}

impl TestRule {
    fn change(&mut self, context: &Context, mut change: Change) -> Change {
        change.rule = Arc::clone(&self.name);
        change.place.batch = context.batch;
        change.place.watermark = context.watermark;
        change.place.version = 1;
        self.kept.apply(&change);
        change
    }

    fn output(&self, point: String, change: &mut Change) -> u32 {
        let output = Declared {
            stream: Stream::Data,
            device: self.name.trim_end_matches("~trial").into(),
            point: point.into(),
            unit: "".into(),
        };
        let known = self.kept.declared.iter().chain(&change.declared).position(|it| *it == output);
        let place = known.unwrap_or_else(|| {
            change.declared.push(output);
            self.kept.declared.len() + change.declared.len() - 1
        });
        DECLARED + u32::try_from(place).unwrap()
    }

    fn number(reading: &Reading) -> i64 {
        match reading.value {
            wit::Value::Number(number) => number as i64,
            _ => 0,
        }
    }

    fn window(&mut self, context: &Context, batch: &[Reading]) -> Outcome {
        let mut state: BTreeMap<String, i64> = BTreeMap::new();
        let mut change = Change::default();
        for reading in batch {
            let (device, point) = &self.series[reading.series as usize];
            let end = (reading.at.div_euclid(10_000_000) + 1) * 10_000_000;
            let key = format!("{device}/{point}@{end}");
            let kept = self.kept.state.get(key.as_str());
            let kept = kept.map_or(0, |bytes| i64::from_le_bytes(bytes[..].try_into().unwrap()));
            *state.entry(key.clone()).or_insert(kept) += Self::number(reading);
            change.timers.push((key.into(), Some(end)));
        }
        let bytes = |sum: i64| Some(sum.to_le_bytes().to_vec().into());
        change.state = state.into_iter().map(|(key, sum)| (key.into(), bytes(sum))).collect();
        Outcome { change: self.change(context, change), ..Outcome::default() }
    }
}

impl Rule for TestRule {
    fn series_added(&mut self, series: &[Series]) -> Result<(), Failure> {
        self.series.extend(series.iter().map(|one| (one.device.clone(), one.point.clone())));
        Ok(())
    }

    fn process(&mut self, context: &Context, batch: &[Reading]) -> Result<Outcome, Failure> {
        self.seen.lock().unwrap().extend_from_slice(batch);
        match self.kind.clone() {
            Kind::Window => Ok(self.window(context, batch)),
            Kind::Mark(version) => {
                let mut change = Change::default();
                let mut emitted = Vec::new();
                for reading in batch {
                    let point = self.series[reading.series as usize].1.clone();
                    let series = self.output(format!("{point}_v{version}"), &mut change);
                    emitted.push(Reading { series, ..reading.clone() });
                }
                let change = self.change(context, change);
                Ok(Outcome { emitted, change, ..Outcome::default() })
            }
            Kind::Stuck(gate) => {
                let mut open = gate.0.lock().unwrap();
                while !*open {
                    open = gate.1.wait(open).unwrap();
                }
                Ok(Outcome::default())
            }
            Kind::Panics => panic!("a rule that panics"),
            Kind::Picky => {
                let text = batch.iter().any(|one| matches!(one.value, wit::Value::Text(_)));
                let failure = Failure { code: "rule.text".into(), message: "no texts".into() };
                if text { Err(failure) } else { Ok(Outcome::default()) }
            }
        }
    }

    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<Outcome, Failure> {
        let mut change = Change::default();
        let mut emitted = Vec::new();
        for timer in fired {
            change.timers.push((timer.name.as_str().into(), None));
            let Some(sum) = self.kept.state.get(timer.name.as_str()) else { continue };
            let sum = i64::from_le_bytes(sum[..].try_into().unwrap());
            let (name, _) = timer.name.split_once('@').unwrap();
            let (_, point) = name.split_once('/').unwrap();
            let series = self.output(format!("{point}_sum"), &mut change);
            let (quality, value) = (wit::Quality::DERIVED, wit::Value::Integer(sum));
            emitted.push(Reading { series, at: timer.at, quality, value });
            change.state.push((timer.name.as_str().into(), None));
        }
        let change = self.change(context, change);
        Ok(Outcome { emitted, change, ..Outcome::default() })
    }
}

/// Makes test rules by the name of their file.
#[derive(Default)]
struct Rust {
    kinds: Mutex<BTreeMap<String, Kind>>,
    seen: Arc<Mutex<Vec<Reading>>>,
    loads: AtomicUsize,
    refuses_to_open: AtomicBool,
}

struct Ready {
    kind: Kind,
    seen: Arc<Mutex<Vec<Reading>>>,
    refuses: bool,
}

impl Loader for Arc<Rust> {
    fn load(&self, rule: &Definition) -> Result<Arc<dyn Loaded>, Failure> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let file = rule.file.to_string_lossy().into_owned();
        let Some(kind) = self.kinds.lock().unwrap().get(&file).cloned() else {
            return Err(Failure {
                code: "file.none".into(),
                message: "there is no such rule".into(),
            });
        };
        let refuses = self.refuses_to_open.load(Ordering::Relaxed);
        Ok(Arc::new(Ready { kind, seen: Arc::clone(&self.seen), refuses }))
    }
}

impl Loaded for Ready {
    fn open(&self, settings: &Settings, series: &[Series], kept: Kept) -> Result<Opened, Failure> {
        if self.refuses {
            return Err(Failure {
                code: "open.rule".into(),
                message: "it does not want to".into(),
            });
        }
        let declared = kept.declared.clone();
        let series = series.iter().map(|one| (one.device.clone(), one.point.clone())).collect();
        let (kind, seen) = (self.kind.clone(), Arc::clone(&self.seen));
        let name = Arc::clone(&settings.name);
        let rule = Box::new(TestRule { kind, name, series, kept, seen });
        Ok(Opened { rule, declared })
    }
}

struct Bench {
    world: World,
    rust: Arc<Rust>,
    out: Arc<Mutex<Out>>,
}

fn definition(name: &str, file: &str, on: &str) -> Definition {
    Definition {
        settings: Settings { name: name.into(), params: Vec::new(), limits: Limits::default() },
        file: file.into(),
        code: [].into(),
        digest: file.into(),
        version: "1.0.0".into(),
        on: vec![Pattern::parse(on).unwrap()],
        makes: vec![Pattern::of(name, "*")],
        keep: false,
        mode: Mode::Live,
        on_failure: OnFailure::Pass,
        lateness: Duration::from_secs(5),
        written: crate::rules::definition::Written::default(),
        trial: Bounds::default(),
        beside: None,
    }
}

impl Bench {
    fn new(kinds: &[(&str, Kind)]) -> Self {
        let rust = Arc::new(Rust::default());
        let kinds = kinds.iter().map(|(file, kind)| ((*file).to_owned(), kind.clone()));
        rust.kinds.lock().unwrap().extend(kinds);
        let out: Arc<Mutex<Out>> = Arc::default();
        let clock = Arc::new(Manual::new(UnixMillis(START)));
        let way = Arc::clone(&out);
        let world = World {
            points: Arc::default(),
            clock,
            events: Events::default(),
            loader: Arc::new(Arc::clone(&rust)),
            sink: Arc::new(move || Box::new(Collector(Arc::clone(&way)))),
        };
        Self { world, rust, out }
    }

    fn board(&self, rules: Vec<Definition>) -> (Board, Routes) {
        let mut board = Board::new(&rules, self.world.clone());
        let routes = self.routes(&board);
        assert_eq!(board.apply(rules, BTreeMap::new()), []);
        (board, routes)
    }

    fn routes(&self, board: &Board) -> Routes {
        let World { points, clock, events, .. } = self.world.clone();
        Routes::new(Arc::clone(board.router()), points, clock, events)
    }

    fn point(&self, device: &str, point: &str) -> PointId {
        self.world.points.intern(PointInfo::new(device, point, "")).unwrap()
    }

    fn group(&self, at_ms: i64, device: &str, point: &str, number: i64) -> Group {
        Group {
            stream: Stream::Data,
            at: UnixMillis(at_ms),
            points: [self.point(device, point)].into(),
            samples: vec![Sample::good(Value::from_i64(number))],
        }
    }

    /// Everything that left, as `device/point = value`.
    fn left(&self) -> Vec<String> {
        let out = self.out.lock().unwrap();
        let all = out.groups.iter().flat_map(|group| group.readings().collect::<Vec<_>>());
        all.map(|reading| {
            let info = self.world.points.info(reading.point);
            let value = reading.sample.value.unwrap();
            format!("{}/{} = {value} @{}", info.device, info.point, reading.at.0 - START)
        })
        .collect()
    }

    fn says(&self, code: &str) -> bool {
        self.world.events.standing().iter().any(|it| it.notice.code.id == code)
    }

    /// A chain of these rules on the test's own thread.
    fn chain(&self, rules: Vec<Definition>, kept: &BTreeMap<Arc<str>, Kept>) -> Chain {
        let knots: Vec<Knot> = (rules.iter())
            .map(|rule| Knot {
                name: Arc::clone(rule.name()),
                on: rule.on.clone(),
                makes: rule.makes.clone(),
            })
            .collect();
        let graph = Graph::of(&knots).unwrap();
        let fed_by = |place: &usize| graph.edges.iter().filter(|(_, to)| to == place).count();
        let fed_by = graph.chains[0].iter().map(fed_by).collect();
        let mut made: Vec<Option<Definition>> = rules.into_iter().map(Some).collect();
        let node = |place: &usize| {
            let rule = made[*place].take().unwrap();
            let kept = kept.get(rule.name()).cloned().unwrap_or_default();
            let opened = self.world.loader.load(&rule).unwrap();
            let opened = opened.open(&rule.settings, &[], kept.clone()).unwrap();
            let ladder = Ladder::new(opened.rule, rule.on_failure);
            Node::new(rule, Some(ladder), kept, (&self.world.points, &self.world.events))
        };
        let nodes = graph.chains[0].iter().map(node).collect();
        let sink = Box::new(Collector(Arc::clone(&self.out)));
        Chain::new(nodes, fed_by, sink, Arc::clone(&self.world.clock))
    }

    fn input(&self, at_ms: i64, device: &str, point: &str, number: i64) -> Input {
        let group = self.group(at_ms, device, point, number);
        let (points, samples) = (group.points, group.samples);
        Input { at: at_ms * US, ahead: false, points, samples, goes_on: false }
    }
}

/// A stream of readings with gaps, late ones, and ones of a board without the time.
fn river(bench: &Bench, seed: u64, length: usize) -> Vec<Input> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) % limit) as i64
    };
    let mut now = START;
    let mut all = Vec::new();
    for _ in 0..length {
        now += match below(20) {
            0 => 7_000 + below(30_000),
            1..=9 => 0,
            _ => below(900),
        };
        let at = match below(25) {
            0 => now - below(20_000),
            1 => 1000 + below(100_000),
            _ => now,
        };
        all.push(bench.input(at, "meter", ["a", "b"][below(2) as usize], below(100)));
    }
    all
}

#[test]
fn the_same_input_gives_the_same_output_whatever_the_split_into_batches() {
    let kinds = [("window", Kind::Window), ("mark", Kind::Mark(1))];
    for seed in 1..40 {
        let mut outputs = Vec::new();
        for split in [1, 7, 100, 1000] {
            let bench = Bench::new(&kinds);
            let rules = || {
                vec![
                    definition("sums", "window", "meter/*"),
                    definition("marked", "mark", "sums/*_sum"),
                    // Takes what a source and what a rule makes.
                    definition("both", "mark", "*/a*"),
                ]
            };
            let mut chain = bench.chain(rules(), &BTreeMap::new());
            let mut kept = BTreeMap::new();
            for (n, part) in river(&bench, seed, 400).chunks(split).enumerate() {
                chain.feed(Feed::Readings(part.to_vec()));
                kept = chain
                    .nodes
                    .iter()
                    .map(|node| (Arc::clone(node.rule.name()), node.kept.clone()))
                    .collect();
                // A restart at some boundaries: memory is gone, what is kept is not.
                if n % 3 == 2 && split != 1000 {
                    chain = bench.chain(rules(), &kept);
                }
            }
            let state: Vec<_> = (kept.into_values())
                .map(|kept| (kept.state, kept.timers, kept.declared, kept.place.watermark))
                .collect();
            outputs.push((bench.left(), state));
        }
        assert!(outputs[0].0.len() > 100, "seed {seed}: {} readings", outputs[0].0.len());
        for other in &outputs[1..] {
            assert_eq!(&outputs[0], other, "seed {seed}");
        }
    }
}

#[test]
fn a_clock_that_jumps_closes_no_window_twice() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    let hour = 3_600_000;
    for at in [0, 1000, hour, hour + 1000, 2000, 3000, hour + 2000] {
        chain.feed(Feed::Readings(vec![bench.input(START + at, "meter", "a", 1)]));
    }
    // One dated ahead of the gateway's clock moves nothing.
    let ahead = Input { ahead: true, ..bench.input(START + 30 * hour, "meter", "a", 1) };
    chain.feed(Feed::Readings(vec![ahead]));
    chain.feed(Feed::Readings(vec![bench.input(START + hour + 16_000, "meter", "a", 1)]));
    let left = bench.left();
    assert_eq!(left[0], "sums/a_sum = 2 @10000");
    // The two that came after the jump back are late: the rule sees them, and says so itself.
    assert_eq!(left[1], "sums/a_sum = 2 @10000");
    assert_eq!(left[2], format!("sums/a_sum = 3 @{}", hour + 10_000));
    assert_eq!(left.len(), 3, "{left:?}");
    let late = bench.rust.seen.lock().unwrap();
    let late: Vec<bool> = late.iter().map(|one| one.quality.contains(wit::Quality::LATE)).collect();
    assert_eq!(late, [false, false, false, false, true, true, false, false, false]);
    assert!(!bench.says("FG-W28"), "a reading in time ends it");
}

#[test]
fn a_board_without_the_time_moves_no_watermark_and_says_so() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    for at in [1000, 500_000] {
        chain.feed(Feed::Readings(vec![bench.input(at, "meter", "a", 1)]));
    }
    let mut marked = bench.input(START, "meter", "a", 1);
    marked.samples[0].quality = Quality::ClockUnsynced;
    chain.feed(Feed::Readings(vec![marked]));
    assert!(bench.left().is_empty());
    let unsynced = wit::Quality::CLOCK_UNSYNCED;
    assert!(bench.rust.seen.lock().unwrap().iter().all(|one| one.quality.contains(unsynced)));
    assert_eq!(chain.nodes[0].kept.place.watermark, 0);
    chain.feed(Feed::Readings(vec![bench.input(START + 20_000, "meter", "a", 1)]));
    assert_eq!(bench.left().len(), 3, "what was counted meanwhile is closed once");
}

#[test]
fn the_gateways_clock_fires_what_is_due_when_no_reading_comes_and_a_replay_is_the_same() {
    let feeds = |bench: &Bench| {
        vec![
            Feed::Readings(vec![bench.input(START, "meter", "a", 4)]),
            Feed::Clock((START + 9_000) * US),
            Feed::Clock((START + 15_200) * US),
            Feed::Clock((START + 16_000) * US),
            Feed::Readings(vec![bench.input(START + 12_000, "meter", "a", 5)]),
        ]
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new(&[("window", Kind::Window)]);
        let rules = vec![definition("sums", "window", "meter/*")];
        let mut chain = bench.chain(rules, &BTreeMap::new());
        for (n, feed) in feeds(&bench).into_iter().enumerate() {
            chain.feed(feed);
            assert_eq!(bench.left().len(), usize::from(n >= 2), "feed {n}");
        }
        let batches = chain.nodes[0].kept.place.batch;
        assert_eq!(batches, 3, "a reading, a move that fired, a reading");
        seen.push((bench.left(), bench.out.lock().unwrap().changes.clone()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, ["sums/a_sum = 4 @10000"]);
}

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

impl Bench {
    /// Does what a store would have kept.
    fn keep(&self, kept: &mut BTreeMap<Arc<str>, Kept>) {
        let changes = std::mem::take(&mut self.out.lock().unwrap().changes);
        for change in changes {
            kept.entry(Arc::clone(&change.rule)).or_default().apply(&change);
        }
    }
}

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
fn readings_wait_for_rules_that_have_not_begun() {
    let bench = Bench::new(&[("mark", Kind::Mark(1))]);
    let rules = vec![definition("mark", "mark", "meter/*")];
    let mut board = Board::new(&rules, bench.world.clone());
    let mut routes = bench.routes(&board);
    let mut straight = 0;
    for n in 0..10 {
        routes.split(bench.group(START + n, "meter", "a", n), &mut |_| straight += 1);
        routes.split(bench.group(START + n, "other", "a", n), &mut |_| straight += 1);
    }
    assert_eq!(straight, 10);
    assert_eq!(board.router().status()[0].state, State::Waiting);
    board.apply(rules, BTreeMap::new());
    routes.split(bench.group(START + 10, "meter", "a", 10), &mut |_| panic!("past"));
    board.stop(Duration::from_secs(60));
    let wanted: Vec<String> = (0..11).map(|n| format!("mark/a_v1 = {n} @{n}")).collect();
    assert_eq!(bench.left(), wanted);
    // The store did not know the rule, so it begins with all there is.
    assert_eq!(bench.out.lock().unwrap().changes[0].onto, crate::state::Onto::Nothing);
}

#[test]
fn a_rule_that_the_store_asks_says_all_it_keeps() {
    let bench = Bench::new(&[("window", Kind::Window)]);
    let mut chain = bench.chain(vec![definition("sums", "window", "meter/*")], &BTreeMap::new());
    let input = |at| vec![bench.input(START + at, "meter", "a", 1)];
    bench.out.lock().unwrap().ask = true;
    chain.feed(Feed::Readings(input(0)));
    bench.out.lock().unwrap().changes.clear();
    chain.feed(Feed::Readings(input(30_000)));
    let changes = std::mem::take(&mut bench.out.lock().unwrap().changes);
    assert_eq!(changes, [chain.nodes[0].kept.to_change("sums".into())]);
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
