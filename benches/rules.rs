//! What a rule costs: nanoseconds a reading natively and interpreted, what the host spends on a batch,
//! the memory of an instance that waits, and a hundred rules at once.
//!
//! `cargo bench --bench rules`. Budgets: 100 ns a reading native and 1 µs in Pulley over batches of
//! 1,000, 20 µs a batch for the host, 1.5 MiB an idle instance. Minima of several passes; they repeat
//! within 5 % on a quiet machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]

#[path = "../src/rules/tests/kit.rs"]
#[allow(dead_code)]
mod kit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fieldgate::rules::wit::{Context, Quality, Reading, Series, Value};
use fieldgate::rules::{Code, Engine, Instance, Limits, Program, Rule, Settings};
use fieldgate::state::Kept;
use kit::{Guest, OK};

const BATCH: usize = 1000;
const PASSES: usize = 400;

fn main() {
    for code in [Code::Native, Code::Pulley] {
        let Ok(engine) = Engine::new(code) else {
            println!("{code:?}: not here");
            continue;
        };
        println!("{code:?}");
        speed(&engine, "filter, passes none", &kit::filter(1e9));
        speed(&engine, "filter, passes a tenth", &kit::filter(89.5));
        speed(&engine, "filter, passes all", &kit::filter(-1.0));
        speed(&engine, "emits one by one", &one_by_one());
        idle(&engine);
        many(&engine);
    }
}

/// Emits each reading by itself.
fn one_by_one() -> Guest {
    Guest::processing(&format!(
        "(local $end i32)
         (local.set $end (i32.add (local.get $batch) (i32.mul (local.get $n) (i32.const 40))))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $batch) (local.get $end)))
           (call $emit (local.get $batch) (i32.const 1))
           (local.set $batch (i32.add (local.get $batch) (i32.const 40)))
           (br $more)))
         {OK}"
    ))
}

fn instance(engine: &Engine, guest: &Guest) -> Instance {
    let program = Program::load(engine, &guest.build()).unwrap();
    open(&program)
}

fn open(program: &Arc<Program>) -> Instance {
    let settings =
        Settings { name: Arc::from("bench"), params: Vec::new(), limits: Limits::default() };
    let series: Vec<_> = (0..10)
        .map(|id| Series {
            id,
            device: format!("device-{id}"),
            point: "temperature".to_owned(),
            unit: None,
            labels: Vec::new(),
        })
        .collect();
    Instance::open(program, &settings, &series, Kept::default()).unwrap()
}

fn batch(n: usize) -> Vec<Reading> {
    (0..n)
        .map(|n| Reading {
            series: n as u32 % 10,
            at: 1_790_000_000_000_000 + n as i64,
            quality: Quality::empty(),
            value: Value::Number((n % 100) as f64),
        })
        .collect()
}

fn context(batch: u64) -> Context {
    let now = 1_790_000_000_000_000;
    Context { batch, now, watermark: now, clock_synced: true, fresh: false }
}

/// The shortest of many calls.
fn shortest(mut call: impl FnMut(u64)) -> Duration {
    let time = |n| {
        let began = Instant::now();
        call(n);
        began.elapsed()
    };
    (1..=PASSES as u64).map(time).min().unwrap()
}

fn speed(engine: &Engine, what: &str, guest: &Guest) {
    let mut rule = instance(engine, guest);
    let full = batch(BATCH);
    let mut fuel = 0;
    let whole = shortest(|n| fuel = rule.process(&context(n), &full).unwrap().fuel);
    let empty = shortest(|n| drop(rule.process(&context(n), &[]).unwrap()));
    let one = shortest(|n| drop(rule.process(&context(n), &full[..1]).unwrap()));
    println!(
        "  {what:24} {:7.1} ns a reading, {:5.1} fuel; a batch of 0: {:5.1} µs, of 1: {:5.1} µs",
        whole.as_nanos() as f64 / BATCH as f64,
        fuel as f64 / BATCH as f64,
        empty.as_nanos() as f64 / 1000.0,
        one.as_nanos() as f64 / 1000.0,
    );
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap()
}

/// Memory of instances that have run and wait, each of a program of its own: code and all.
fn idle(engine: &Engine) {
    const RULES: usize = 100;
    let files: Vec<_> = (0..RULES).map(|n| kit::filter(n as f64 + 0.5).build()).collect();
    let programs: Vec<_> = files.iter().map(|file| Program::load(engine, file).unwrap()).collect();
    let before = resident();
    let opening = Instant::now();
    let mut rules: Vec<_> = programs.iter().map(open).collect();
    let opened = opening.elapsed().as_micros() as f64 / RULES as f64;
    let idle = (resident() - before) / RULES as f64;
    let full = batch(BATCH);
    for rule in &mut rules {
        rule.process(&context(1), &full).unwrap();
    }
    let used = (resident() - before) / RULES as f64;
    println!(
        "  an instance: {opened:.0} µs to open, {idle:.0} KiB idle, {used:.0} KiB after a batch"
    );
}

/// A hundred rules, each over the same batch in turn.
fn many(engine: &Engine) {
    const RULES: usize = 100;
    let program = Program::load(engine, &kit::filter(49.5).build()).unwrap();
    let mut rules: Vec<_> = (0..RULES).map(|_| open(&program)).collect();
    let full = batch(BATCH);
    // Each rule's shortest turn, so that what else runs on the machine is not counted.
    let mut shortest = vec![Duration::MAX; RULES];
    for n in 1..=10 {
        for (rule, shortest) in rules.iter_mut().zip(&mut shortest) {
            let began = Instant::now();
            rule.process(&context(n), &full).unwrap();
            *shortest = began.elapsed().min(*shortest);
        }
    }
    let all: Duration = shortest.iter().sum();
    println!(
        "  a hundred rules over 1,000 readings: {:.1} ms, {:.1} ns a reading and rule",
        all.as_nanos() as f64 / 1e6,
        all.as_nanos() as f64 / (RULES * BATCH) as f64,
    );
}
