//! Batch v1 on the reference set: readings a second in and out, and bytes a reading. The budgets of
//! the contract: at most 1.3 bytes raw and 0.8 with zlib; at least 5 million readings a second
//! encoded and 20 million decoded, on one core.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fieldgate::batch::{Assembly, Coding, Envelope, RowValue, decode};
use fieldgate::limits;
use fieldgate::reading::{Group, Points, Stream};

#[path = "../tests/it/reference.rs"]
mod reference;

const CODINGS: [(&str, Coding); 3] =
    [("raw", Coding::Plain), ("zlib", Coding::Zlib), ("zstd", Coding::Zstd)];

fn encode(groups: &[Group], points: &Points, coding: Coding) -> Vec<u8> {
    let mut assembly = Assembly::default();
    groups.iter().for_each(|group| assembly.push(group));
    let bodies = assembly.into_bodies(points, coding, limits::BATCH_BYTES_MAX);
    bodies[0].seal(&Envelope {
        gateway: "gw-4f2a",
        epoch: 1_789_990_000,
        stream: Stream::Data,
        sequence: 4711,
        lowest_held: 4690,
        dropped: 0,
        clock: 1,
        config_hash: "9f3a11c2",
    })
}

/// Decodes a payload and touches every reading.
fn sum(payload: &[u8]) -> f64 {
    let mut sum = 0.0;
    decode(payload).unwrap().rows(|row| match row.value {
        Some(RowValue::Decimal(decimal)) => sum += decimal.to_f64(),
        Some(RowValue::Float(number)) => sum += number,
        Some(RowValue::Bool(flag)) => sum += f64::from(u8::from(flag)),
        Some(RowValue::Text(_)) | None => {}
    });
    sum
}

fn batch(criterion: &mut Criterion) {
    let points = Points::default();
    let groups = reference::groups(&points);
    let readings: usize = groups.iter().map(|group| group.samples.len()).sum();
    for (name, coding) in CODINGS {
        let bytes = u32::try_from(encode(&groups, &points, coding).len()).unwrap();
        let a_reading = f64::from(bytes) / f64::from(u32::try_from(readings).unwrap());
        println!("{name}: {a_reading:.3} bytes a reading ({readings} readings)");
    }
    let mut bench = criterion.benchmark_group("batch");
    bench.throughput(Throughput::Elements(readings as u64));
    for (name, coding) in CODINGS {
        bench.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| encode(black_box(&groups), &points, coding));
        });
    }
    for (name, coding) in CODINGS {
        let payload = encode(&groups, &points, coding);
        bench.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| sum(black_box(&payload)));
        });
    }
    bench.finish();
}

criterion_group!(benches, batch);
criterion_main!(benches);
