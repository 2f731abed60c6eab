//! What a simulation is told, and what of it fits this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::bodies::Bodies;
use super::fleet::{Fleet, Mischief};
use crate::batch::Coding;
use crate::clock::{Clock as _, System};
use crate::error::{Exit, Fatal};
use crate::limits;
use crate::mqtt::{Broker, Login, Tls};
use crate::receive::address;
use crate::secret::Secret;

/// Simulates a fleet of gateways that speak the real uplink.
#[derive(Debug, Clone, Args)]
pub struct Simulate {
    /// Broker: mqtt[s]://[user[:password]@]host[:port]
    #[arg(long, value_name = "URL")]
    to: String,
    /// CAs to trust the broker by, PEM; the system's store when absent
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How many gateways
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) gateways: u32,
    /// Readings a second of each gateway
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// Points of each gateway
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    points: u32,
    /// How long readings gather in a batch
    #[arg(long, value_name = "TIME", default_value = "10s")]
    max_age: humantime::Duration,
    /// Ends after this time; without it, on Ctrl-C
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<humantime::Duration>,
    /// Ends after this many batches of each gateway
    #[arg(long, value_name = "N")]
    batches: Option<u64>,
    /// As fast as the broker acknowledges, instead of in real time; the readings' own clocks run ahead
    #[arg(long)]
    fast: bool,
    /// TCP connections that the gateways share; one each by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: Option<u32>,
    /// Names of gateways: NAME-00001 and so on
    #[arg(long, value_name = "NAME", default_value = "sim")]
    prefix: String,
    /// How bodies are compressed: none, zlib or zstd
    #[arg(long, value_name = "HOW", default_value = "zlib")]
    compress: String,
    /// Share of batches that are sealed and never sent, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    lose: f64,
    /// Share of batches that are sent twice
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    duplicate: f64,
    /// Share of batches that are sent after the next one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    reorder: f64,
    /// Begins every choice by chance; the same seed makes the same choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Totals as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Simulate {
    /// Resolves `--to`; each connection adds its client identifier and will.
    pub(super) fn broker(&self) -> Result<Broker, Fatal> {
        let url = address::broker(&self.to).map_err(|why| usage(&format!("--to: {why}")))?;
        let password = Secret::Typed(url.password.unwrap_or_default().into());
        let tls = url.tls.then(|| Tls { ca: self.ca.clone(), client: None });
        let login =
            url.user.map(|user| Login { user: user.as_str().into(), password: Some(password) });
        Ok(Broker { tls, login, ..Broker::new(&url.host, url.port, "") })
    }

    /// Makes the fleet.
    pub(super) fn fleet(&self) -> Result<Fleet, Fatal> {
        let mischief =
            Mischief { lose: self.lose, duplicate: self.duplicate, reorder: self.reorder };
        if [self.lose, self.duplicate, self.reorder].iter().any(|p| !(0.0..=1.0).contains(p)) {
            return Err(usage("--lose, --duplicate and --reorder are shares from 0 to 1"));
        }
        let coding = match self.compress.as_str() {
            "none" => Coding::Plain,
            "zlib" => Coding::Zlib,
            "zstd" => Coding::Zstd,
            _ => return Err(usage("--compress is none, zlib or zstd")),
        };
        // A topic level, and room for a number behind it.
        let sound = !self.prefix.is_empty() && !self.prefix.contains(['/', '+', '#', '\0']);
        if !sound || self.prefix.len() + 8 > limits::NAME_BYTES_MAX {
            return Err(usage("--prefix is no topic level"));
        }
        if !(0.001..=1_000_000.0).contains(&self.rate) {
            return Err(usage("--rate is 0.001 to 1000000 readings a second"));
        }
        let (rows, period_us) = self.rows()?;
        let bodies = Bodies::new(self.points, rows, period_us, coding, self.seed)
            .ok_or_else(|| usage("such a batch is over 512 KiB; lower --max-age"))?;
        Ok(Fleet {
            prefix: self.prefix.clone(),
            epoch: u64::try_from(System.now().0 / 1000).unwrap_or(0),
            bodies,
            mischief,
            seed: self.seed,
            fast: self.fast,
            batches_max: self.batches.unwrap_or(u64::MAX),
            gateways: self.gateways,
        })
    }

    /// Returns the rows of a batch, and microseconds between them. A fleet slower than its
    /// `max_age` seals a row at a time.
    fn rows(&self) -> Result<(u32, u64), Fatal> {
        let period = f64::from(self.points) / self.rate;
        let rows = (Duration::from(self.max_age).as_secs_f64() / period).round().max(1.0);
        let readings = rows * f64::from(self.points);
        if readings > f64::from(u32::try_from(limits::BATCH_READINGS_MAX).unwrap_or(u32::MAX)) {
            let why = format!("a batch of {readings} readings is over 50,000; lower --max-age");
            return Err(usage(&why));
        }
        #[expect(clippy::cast_possible_truncation, reason = "1 to 50,000; 1 us to 4 months")]
        #[expect(clippy::cast_sign_loss, reason = "1 to 50,000; 1 us to 4 months")]
        Ok((rows as u32, (period * 1e6).round().max(1.0) as u64))
    }

    /// Returns how many connections to open, when this process may.
    pub(super) fn connections(&self) -> Result<u32, Fatal> {
        let wanted = self.connections.unwrap_or(self.gateways).min(self.gateways);
        let needed = wanted.saturating_add(limits::SIMULATE_SPARE_FILES);
        match files_max() {
            Some(max) if max < u64::from(needed) => Err(usage(&format!(
                "{wanted} connections need {needed} open files, and this process may have {max}\n  \
                 Try:    ulimit -n {needed}        or share them: --connections {}",
                max.saturating_sub(u64::from(limits::SIMULATE_SPARE_FILES)).max(1)
            ))),
            _ => Ok(wanted),
        }
    }

    /// Says in one line what begins.
    pub(super) fn plan(&self, fleet: &Fleet, connections: u32) -> String {
        let Self { gateways, points, .. } = self;
        let every = humantime::format_duration(fleet.bodies.interval());
        let readings = fleet.bodies.readings();
        let pace = if self.fast { "as fast as they are acknowledged" } else { "in real time" };
        format!(
            "{gateways} gateways of {points} points on {connections} connections, each a batch of \
             {readings} readings every {every}, {pace}"
        )
    }
}

/// Returns how many files this process may have open (proc(5), `/proc/pid/limits`).
fn files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

fn usage(why: &str) -> Fatal {
    let next = "Try:    fieldgate-receive simulate --help";
    let next = if why.contains("Try:") { String::new() } else { format!("\n  {next}") };
    Fatal::new(Exit::Usage, format!("fieldgate-receive simulate: {why}{next}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        simulate: Simulate,
    }

    fn typed(line: &str) -> Simulate {
        Line::parse_from(["simulate", "--to", "mqtt://h"].into_iter().chain(line.split(' ')))
            .simulate
    }

    #[test]
    fn rate_points_and_age_make_whole_batches() {
        let fleet = typed("--rate 500 --points 50 --max-age 10s").fleet().unwrap();
        assert_eq!(fleet.bodies.readings(), 5000);
        assert_eq!(fleet.bodies.interval(), Duration::from_secs(10));
        let slow = typed("--rate 1 --points 50 --max-age 10s").fleet().unwrap();
        assert_eq!(slow.bodies.readings(), 50);
        assert_eq!(slow.bodies.interval(), Duration::from_secs(50));
    }

    #[test]
    fn what_no_gateway_would_seal_is_refused() {
        let refused = [
            "--rate 100000 --max-age 60s",
            "--rate 0",
            "--lose 1.5",
            "--prefix a/b",
            "--compress gzip",
        ];
        for line in refused {
            let fatal = typed(line).fleet().err().unwrap_or_else(|| panic!("{line} was taken"));
            assert_eq!(fatal.exit, Exit::Usage);
        }
    }

    #[test]
    fn more_connections_than_files_are_refused_with_the_way_out() {
        let max = files_max().unwrap();
        let many = typed("--gateways 100000").connections();
        if max < 100_000 {
            let message = many.unwrap_err().message;
            assert!(message.contains("ulimit -n") && message.contains("--connections"));
        }
        assert_eq!(typed("--gateways 100000 --connections 3").connections().unwrap(), 3);
    }
}
