//! How long `fieldgate check` takes: a configuration of 5,000 points, loaded from disk 20 times.
//! The goal is 200 ms; the figure printed is the median and the slowest.
#![allow(clippy::expect_used, clippy::print_stdout)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use fieldgate::config::{Options, load};

/// 50 devices a bus, 20 points each.
fn configuration(points: usize) -> String {
    let mut text =
        String::from("[gateway]\nname = \"bench\"\n[uplink.u]\nurl = \"mqtt://localhost\"\n");
    for device in 0..points / 20 {
        let (host, id) = (device / 50 + 1, device % 50 + 1);
        let _ = writeln!(
            text,
            "[device.device-{device}]\nvia = \"modbus tcp 192.0.2.{host} id {id}\"\nevery = \"1s\""
        );
        for point in 0..20 {
            let _ = writeln!(
                text,
                "points.value_{point} = {{ at = \"holding {}\", as = \"f32\", unit = \"kW\", \
                 decimals = 2, deadband = 0.05 }}",
                point * 2
            );
        }
    }
    text
}

fn time(path: &Path, options: Options) -> (f64, f64) {
    let mut times: Vec<f64> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            load(path, options).expect("the generated configuration is sound");
            begin.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() - 1])
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the bench");
    let path = folder.path().join("fieldgate.toml");
    for points in [5_000, 10_000] {
        let text = configuration(points);
        std::fs::write(&path, &text).expect("the folder can be written");
        let (median, slowest) = time(&path, Options::default());
        let (with_settings, _) = time(&path, Options { keep_settings: true });
        println!(
            "{points} points, {} KiB: {median:.1} ms (slowest {slowest:.1}), with origins \
             {with_settings:.1} ms",
            text.len() / 1024
        );
    }
}
