//! Chains and boards with rules written in Rust: what a rule sees does not depend on where batches
//! were cut, a change loses nothing, and a bad rule costs nobody else anything.

mod bad;
mod change;
mod time;
mod trials;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::clock::Manual;
use crate::reading::{Group, PointId, PointInfo, Quality, Sample, Stream, UnixMillis, Value};
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
    /// As [`Kind::Mark`], with one output that it declares when it is opened.
    Opens(&'static str),
    /// Waits in every call until the test lets it go.
    Stuck(Arc<(Mutex<bool>, Condvar)>),
    /// Panics with every call.
    Panics,
    /// Fails with texts.
    Picky,
}

/// A rule's output under its own name.
fn declared_as(rule: &str, point: &str) -> Declared {
    let device = rule.trim_end_matches("~trial").into();
    Declared { stream: Stream::Data, device, point: point.into(), unit: "".into() }
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
        let output = declared_as(&self.name, &point);
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
            Kind::Opens(point) => {
                let mut change = Change::default();
                let series = self.output(point.to_owned(), &mut change);
                let emitted = batch.iter().map(|one| Reading { series, ..one.clone() }).collect();
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
        let mut declared = kept.declared.clone();
        if let Kind::Opens(point) = self.kind {
            declared.push(declared_as(&settings.name, point));
        }
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
    /// A rule declared what its file did not announce.
    declared: Receiver<()>,
}

fn definition(name: &str, file: &str, on: &str) -> Definition {
    Definition {
        settings: Settings { name: name.into(), params: Vec::new(), limits: Limits::default() },
        file: file.into(),
        code: [].into(),
        digest: file.into(),
        version: "1.0.0".into(),
        on: vec![Pattern::parse(on).unwrap()],
        asks: Arc::default(),
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
        let (told, declared) = sync_channel(64);
        let world = World {
            points: Arc::default(),
            clock,
            events: Events::default(),
            loader: Arc::new(Arc::clone(&rust)),
            sink: Arc::new(move || Box::new(Collector(Arc::clone(&way)))),
            // Nobody listens in most tests.
            declared: Arc::new(move || _ = told.try_send(())),
        };
        Self { world, rust, out, declared }
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

impl Bench {
    /// Does what a store would have kept.
    fn keep(&self, kept: &mut BTreeMap<Arc<str>, Kept>) {
        let changes = std::mem::take(&mut self.out.lock().unwrap().changes);
        for change in changes {
            kept.entry(Arc::clone(&change.rule)).or_default().apply(&change);
        }
    }
}
