//! What bad rules and exchanged rules cost everybody else: how long readings are on their way from a
//! source to the store's door, without rules and through a good rule, while beside them a rule loops,
//! grabs memory, recurses, floods, or runs just within its limits, and while rules are exchanged.
//!
//! `cargo bench --bench isolation`; `-- 10` for so many seconds a row. Bounds: the p99 of the river
//! moves by at most 20 ms under any bad rule, and a hot swap loses nothing and delays no reading by
//! more than 50 ms. Every row is held against the one above it that has no bad rule. One thread
//! feeds and splits, as in the daemon; chains have theirs. On a busy machine the row without a bad
//! rule is bad, too: look at the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, clippy::cast_sign_loss)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

#[path = "../src/rules/tests/kit.rs"]
#[allow(dead_code)]
mod kit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fieldgate::clock::{Clock, System};
use fieldgate::events::Events;
use fieldgate::reading::{Group, PointId, PointInfo, Points, Sample, Stream, Value};
use fieldgate::rules::definition::Written;
use fieldgate::rules::folder::digest;
use fieldgate::rules::trial::Bounds;
use fieldgate::rules::wit::Series;
use fieldgate::rules::{
    Board, Code, Definition, Engine, Failure, Instance, Limits, Loaded, Loader, Mode, OnFailure,
    Opened, Pattern, Program, Routes, Settings, Sink, World,
};
use fieldgate::state::{Change, Kept};
use kit::{Guest, OK};

/// Devices of each kind: without rules, with a good one, with a bad one.
const DEVICES: usize = 5;
/// Readings of a group, one group a device every [`EVERY`]: 5,000 readings/s of each kind.
const POINTS: usize = 10;
const EVERY: Duration = Duration::from_millis(10);

fn main() {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(10);
    let duration = Duration::from_secs(seconds);
    for code in [Code::Native, Code::Pulley] {
        let Ok(engine) = Engine::new(code) else {
            println!("{code:?}: not here");
            continue;
        };
        println!(
            "{code:?}; ms                    unruled: p50    p99    max   ruled: p50    p99    max"
        );
        run(&engine, "a good rule", None, duration);
        for (what, guest, limits) in bad() {
            run(&engine, what, Some((guest, limits)), duration);
        }
        swap(&engine, duration);
    }
}

/// Rules that mean harm, and one that is only slow.
fn bad() -> Vec<(&'static str, Guest, Limits)> {
    let usual = Limits::default();
    let fuel = Limits { fuel_call: 1 << 50, ..usual };
    let endless = "(loop $l (br $l)) (unreachable)";
    let grab = "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) \
                (memory.fill (i32.const 4096) (i32.const 7) (i32.const 4000000)) (unreachable)";
    let deep = "(func $deep (param $n i64) (result i64)
        (i64.add (i64.const 1) (call $deep (i64.add (local.get $n) (i64.const 1)))))";
    let flood = "(loop $l (call $emit (local.get $batch) (local.get $n)) (br $l)) (unreachable)";
    let calls = "(loop $l (call $get (i32.const 1024) (i32.const 4) (i32.const 512)) (br $l)) \
                 (unreachable)";
    // About half of what its limits allow, with every batch, and never caught.
    let slow = format!(
        "(local $k i64) (local.set $k (i64.add (i64.const 20000)
           (i64.mul (i64.extend_i32_u (local.get $n)) (i64.const 2000))))
         (loop $l (local.set $k (i64.sub (local.get $k) (i64.const 1)))
           (br_if $l (i64.gt_s (local.get $k) (i64.const 0)))) {OK}"
    );
    let recursion =
        Guest::processing(&format!("(drop (call $deep (i64.const 0))) {OK}")).with(deep);
    vec![
        ("a loop, to its fuel", Guest::processing(endless), usual),
        ("a loop, to its deadline", Guest::processing(endless), fuel),
        ("a grab for memory", Guest::processing(grab), usual),
        ("deep recursion", recursion, usual),
        ("a flood of output", Guest::processing(flood), usual),
        ("a flood of host calls", Guest::processing(calls), fuel),
        ("slow within its limits", Guest::processing(&slow), usual),
    ]
}

/// Compiles and opens on one engine.
struct Ours(Engine);

struct Compiled(Arc<Program>);

impl Loader for Ours {
    fn load(&self, rule: &Definition) -> Result<Arc<dyn Loaded>, Failure> {
        let program = Program::load(&self.0, &rule.code).expect("the bench's own rules load");
        Ok(Arc::new(Compiled(program)))
    }
}

impl Loaded for Compiled {
    fn open(&self, settings: &Settings, series: &[Series], kept: Kept) -> Result<Opened, Failure> {
        let instance = Instance::open(&self.0, settings, series, kept)?;
        let declared = instance.kept().declared.clone();
        Ok(Opened { rule: Box::new(instance), declared })
    }
}

/// Delays of readings that came through, microseconds, by their kind.
#[derive(Default)]
struct Delays {
    straight: Mutex<Vec<u32>>,
    ruled: Mutex<Vec<u32>>,
}

/// The store's door: looks at how long ago each reading was made.
struct Door {
    began: Instant,
    ruled: Arc<Vec<bool>>,
    delays: Arc<Delays>,
}

impl Door {
    fn note(&self, group: &Group) {
        let now = self.began.elapsed().as_micros() as u64;
        let is_ruled = group.points.first().is_some_and(|point| self.ruled[point.0 as usize]);
        let to = if is_ruled { &self.delays.ruled } else { &self.delays.straight };
        let mut to = to.lock().unwrap();
        for sample in &group.samples {
            if let Ok(Value::Decimal(made)) = &sample.value {
                to.push(now.saturating_sub(made.to_f64() as u64) as u32);
            }
        }
    }
}

impl Sink for Door {
    fn take(&mut self, groups: Vec<Group>, _: Vec<Change>) -> Vec<Arc<str>> {
        groups.iter().filter(|group| group.stream == Stream::Data).for_each(|it| self.note(it));
        Vec::new()
    }
}

fn definition(name: &str, on: &str, guest: &Guest, limits: Limits) -> Definition {
    let code: Arc<[u8]> = guest.build().into();
    Definition {
        settings: Settings { name: name.into(), params: Vec::new(), limits },
        file: name.into(),
        digest: digest(&code).into(),
        code,
        version: "1.0.0".into(),
        on: vec![Pattern::parse(on).unwrap()],
        asks: Arc::default(),
        makes: Vec::new(),
        keep: false,
        mode: Mode::Live,
        on_failure: OnFailure::Drop,
        lateness: Duration::from_secs(1),
        written: Written::default(),
        trial: Bounds::default(),
        beside: None,
    }
}

/// A board and its feeder, ready to run.
struct Bench {
    points: Arc<Points>,
    board: Board,
    routes: Routes,
    door: Door,
    lists: Vec<Arc<[PointId]>>,
}

impl Bench {
    fn new(engine: &Engine, rules: Vec<Definition>) -> Self {
        let points = Arc::<Points>::default();
        let (mut lists, mut ruled) = (Vec::new(), Vec::new());
        for kind in ["free", "good", "bad"] {
            for device in 0..DEVICES {
                let device = format!("{kind}-{device}");
                let of = |n| PointInfo::new(&device, &format!("p{n}"), "");
                let list: Vec<_> = (0..POINTS).map(|n| points.intern(of(n)).unwrap()).collect();
                ruled.resize(ruled.len() + POINTS, kind == "good");
                lists.push(list.into());
            }
        }
        let clock: Arc<dyn Clock> = Arc::new(System);
        let events = Events::default();
        let (began, ruled, delays) = (Instant::now(), Arc::new(ruled), Arc::<Delays>::default());
        let door = Door { began, ruled: Arc::clone(&ruled), delays: Arc::clone(&delays) };
        let world = World {
            points: Arc::clone(&points),
            clock: Arc::clone(&clock),
            events: events.clone(),
            loader: Arc::new(Ours(engine.clone())),
            sink: Arc::new(move || {
                let (ruled, delays) = (Arc::clone(&ruled), Arc::clone(&delays));
                Box::new(Door { began, ruled, delays })
            }),
            declared: Arc::new(|| ()),
        };
        let mut board = Board::new(&rules, world);
        assert_eq!(board.apply(rules, BTreeMap::new()), []);
        let routes = Routes::new(Arc::clone(board.router()), Arc::clone(&points), clock, events);
        Self { points, board, routes, door, lists }
    }

    /// Feeds until told to end; returns how many readings of each kind were fed.
    fn feed(routes: &mut Routes, door: &Door, lists: &[Arc<[PointId]>], end: &AtomicBool) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (groups, mut inbox) = tokio::sync::mpsc::channel::<Group>(1024);
            let source = async {
                let mut every = tokio::time::interval(EVERY);
                let mut rounds = 0;
                while !end.load(Ordering::Relaxed) {
                    every.tick().await;
                    for list in lists {
                        let made = door.began.elapsed().as_micros() as i64;
                        let sample = || Sample::good(Value::from_i64(made));
                        let group = Group {
                            stream: Stream::Data,
                            at: System.now(),
                            points: Arc::clone(list),
                            samples: (0..POINTS).map(|_| sample()).collect(),
                        };
                        groups.send(group).await.unwrap();
                    }
                    rounds += 1;
                }
                drop(groups);
                rounds * DEVICES * POINTS
            };
            let pipeline = async {
                while let Some(group) = inbox.recv().await {
                    routes.split(group, &mut |group| door.note(&group));
                }
            };
            tokio::join!(source, pipeline).0
        })
    }
}

fn run(engine: &Engine, what: &str, other: Option<(Guest, Limits)>, duration: Duration) {
    let good = definition("good", "good-*/*", &kit::filter(-1.0), Limits::default());
    let other = other.map(|(guest, limits)| definition("bad", "bad-*/*", &guest, limits));
    let bench = Bench::new(engine, [good].into_iter().chain(other).collect());
    measure(bench, what, duration, |_, end| {
        std::thread::sleep(duration);
        end.store(true, Ordering::Relaxed);
    });
}

/// Exchanges the good rule for another file, compiled anew each time, four times a second.
fn swap(engine: &Engine, duration: Duration) {
    let version = |n: usize| {
        let guest = kit::filter(-1.0 - n as f64);
        definition("good", "good-*/*", &guest, Limits::default())
    };
    let bench = Bench::new(engine, vec![version(0)]);
    let swaps = AtomicUsize::new(0);
    measure(bench, "hot swaps", duration, |board, end| {
        let began = Instant::now();
        while began.elapsed() < duration {
            let n = swaps.fetch_add(1, Ordering::Relaxed) + 1;
            assert_eq!(board.apply(vec![version(n)], BTreeMap::new()), []);
            std::thread::sleep(Duration::from_millis(250));
        }
        end.store(true, Ordering::Relaxed);
    });
    println!("    {} swaps", swaps.into_inner());
}

fn measure(
    bench: Bench,
    what: &str,
    duration: Duration,
    drive: impl FnOnce(&mut Board, &AtomicBool),
) {
    let Bench { mut board, mut routes, door, lists, points: _points } = bench;
    let end = AtomicBool::new(false);
    let fed = std::thread::scope(|scope| {
        let (end, door, lists) = (&end, &door, &lists);
        let feeding = scope.spawn(move || Bench::feed(&mut routes, door, lists, end));
        drive(&mut board, end);
        feeding.join().unwrap()
    });
    board.stop(Duration::from_secs(60));
    let [mut straight, mut ruled] = [&door.delays.straight, &door.delays.ruled]
        .map(|delays| std::mem::take(&mut *delays.lock().unwrap()));
    straight.sort_unstable();
    ruled.sort_unstable();
    let of = |all: &[u32], share: f64| {
        let at = ((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1));
        all.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    };
    let show =
        |all: &[u32]| format!("{:7.2} {:6.2} {:6.2}", of(all, 0.5), of(all, 0.99), of(all, 1.0));
    println!("  {what:30} {}     {}", show(&straight), show(&ruled));
    assert_eq!(ruled.len(), fed, "readings through the good rule in {duration:?}");
    assert!(straight.len() >= fed, "readings without rules");
}
