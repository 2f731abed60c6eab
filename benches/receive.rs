//! What storing costs PostgreSQL: readings a second of its own CPU time, in both layouts, against a
//! server that the benchmark starts in a folder of its own. The budgets of the contract: a million
//! readings a core-second narrow, four million as arrays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, dead_code)]

use std::time::Instant;

use bytes::Bytes;
use fieldgate::batch::{Assembly, Coding, Envelope};
use fieldgate::limits;
use fieldgate::reading::{Points, Stream, UnixMillis};
use fieldgate::receive::{Layout, check, postgres_sink};

#[path = "../tests/it/peers.rs"]
mod peers;
#[path = "../tests/it/reference.rs"]
mod reference;

const GATEWAYS: usize = 20;
const BATCHES: u64 = 20;

/// The reference minute, once for each gateway and sequence number: only its key differs.
fn payloads() -> Vec<(String, Bytes)> {
    let points = Points::default();
    let mut assembly = Assembly::default();
    reference::groups(&points).iter().for_each(|group| assembly.push(group));
    let body = assembly.into_bodies(&points, Coding::Zlib, limits::BATCH_BYTES_MAX).remove(0);
    let mut payloads = Vec::new();
    for sequence in 1..=BATCHES {
        for gateway in 0..GATEWAYS {
            let gateway = format!("gw-{gateway}");
            let envelope = Envelope {
                gateway: &gateway,
                epoch: 1_789_990_000,
                stream: Stream::Data,
                sequence,
                lowest_held: 1,
                dropped: 0,
                clock: 1,
                config_hash: "9f3a11c2",
            };
            payloads.push((format!("fg/1/{gateway}/data"), body.seal(&envelope).into()));
        }
    }
    payloads
}

/// CPU seconds of this server's processes, ended ones included (proc(5), `stat`, fields 14 to 17).
fn cpu_seconds(postmaster: u32) -> f64 {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |field: usize| -> u64 { fields[field - 3].parse().unwrap_or(0) };
        if head.split(' ').next() == Some(postmaster.to_string().as_str()) {
            ticks += number(14) + number(15) + number(16) + number(17);
        } else if number(4) == u64::from(postmaster) {
            ticks += number(14) + number(15);
        }
    }
    // USER_HZ is 100 on every Linux that runs this.
    f64::from(u32::try_from(ticks).unwrap()) / 100.0
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = peers::Postgres::start();
    let payloads = payloads();
    for layout in [Layout::Narrow, Layout::Array] {
        runtime.block_on(async {
            let client = database.connect("postgres").await;
            client.batch_execute(&format!("CREATE DATABASE \"{}\"", layout.name())).await.unwrap();
            let url = database.url(layout.name());
            let mut sink = postgres_sink(&url, layout).await.unwrap();
            let (began, before) = (Instant::now(), cpu_seconds(database.id()));
            let (mut readings, mut decoding) = (0, std::time::Duration::ZERO);
            for slice in payloads.chunks(GATEWAYS) {
                let decode = Instant::now();
                let slice: Vec<_> = slice
                    .iter()
                    .map(|(topic, payload)| check::batch(topic, payload, UnixMillis(0)).unwrap())
                    .collect();
                decoding += decode.elapsed();
                sink.store(&slice).await.unwrap();
                readings += slice.iter().map(|delivery| delivery.batch.readings()).sum::<u64>();
            }
            let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(database.id()) - before);
            let readings = f64::from(u32::try_from(readings).unwrap());
            let query = "SELECT pg_database_size(current_database())";
            let inside = database.connect(layout.name()).await;
            let bytes: i64 = inside.query_one(query, &[]).await.unwrap().get(0);
            let bytes = f64::from(u32::try_from(bytes / 1024).unwrap()) * 1024.0 / readings;
            println!(
                "{}: {readings} readings, {:.2} M/s of PostgreSQL's CPU, {:.2} M/s by the clock, \
                 decoding {:.1} M/s, {bytes:.0} bytes a reading on disk",
                layout.name(),
                readings / cpu / 1e6,
                readings / wall / 1e6,
                readings / decoding.as_secs_f64() / 1e6,
            );
        });
    }
}
