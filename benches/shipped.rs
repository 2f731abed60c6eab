//! Nanoseconds and fuel a reading of every shipped rule, in native code and in the interpreter, over
//! batches of 1,000 readings of ten points; best of 20. `rules/build` first.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use fieldgate::rules::{Code, Engine, Program};

#[path = "../tests/it/guest.rs"]
mod guest;

const BATCH_SECONDS: i64 = 100;
const BATCHES: u32 = 20;

fn main() {
    println!("{:16} {:>8} {:>10} {:>10} {:>8}", "rule", "bytes", "native ns", "pulley ns", "fuel");
    let engines = [Code::Native, Code::Pulley].map(|code| Engine::new(code).unwrap());
    for name in guest::SHIPPED {
        let file = guest::file(name);
        let ran = engines.each_ref().map(|engine| measure(engine, name, &file));
        let ns = ran.map(|(took, _)| took.as_nanos() / 1_000);
        let bytes = file.len();
        println!("{name:16} {bytes:>8} {:>10} {:>10} {:>8}", ns[0], ns[1], ran[0].1 / 1_000);
    }
}

/// The shortest time of a batch of 1,000 readings with its timers, and its fuel.
fn measure(engine: &Engine, name: &str, file: &[u8]) -> (Duration, u64) {
    let program = Program::load(engine, file).unwrap();
    let params = guest::params(name);
    let mut guest = guest::Guest::of(&program, name, params, &guest::POINTS).unwrap();
    let (mut best, mut fuel_best) = (Duration::MAX, 0);
    for batch in 0..i64::from(BATCHES) {
        let (took, fuel) = (guest.took, guest.fuel);
        guest.process(&guest::polls(batch * BATCH_SECONDS, BATCH_SECONDS)).unwrap();
        if guest.took.checked_sub(took).unwrap() < best {
            (best, fuel_best) = (guest.took.checked_sub(took).unwrap(), guest.fuel - fuel);
        }
    }
    (best, fuel_best)
}
