//! `fieldgate once`: every source read once, printed as a table or as JSON. No store, no uplink: the
//! same sources as the daemon's, with a different end of the channel.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::batch::text;
use crate::config::{self, SourceSettings};
use crate::error::{Exit, Fatal};
use crate::gateway;
use crate::reading::{Group, PointId, Points, Reading};

/// Points that are named when nothing came from them in time.
const MISSING_SHOWN: usize = 8;

/// Arguments of `once`.
#[derive(Debug, Args)]
pub(super) struct Once {
    /// JSON, one reading a line
    #[arg(long)]
    json: bool,
    /// Longest time to wait for the slowest source
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::time)]
    timeout: humantime::Duration,
}

impl Once {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        super::log_to_stderr(super::LevelFilter::WARN);
        let config = config::load(path, config::Options::default())
            .map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))?;
        let pushed = config.sources.iter().filter(|source| names_its_points_later(source)).count();
        super::block_on(async {
            let (outlet, mut inbox) = gateway::open_outlet();
            let mut sources = gateway::start_sources(config.sources, &outlet)?;
            let points = outlet.points;
            // Pollers have named all their points by now; who sends by itself has named none.
            let awaited = points.len();
            let mut latest = BTreeMap::new();
            let end = Instant::now() + Duration::from(self.timeout);
            while latest.len() < awaited || pushed > 0 {
                match timeout_at(end, inbox.recv()).await {
                    Ok(Some(group)) => note(&group, &mut latest),
                    Ok(None) | Err(_) => break,
                }
            }
            drop(inbox);
            sources.end().await;
            self.print(&config.gateway.name, &points, awaited, &latest)
        })
    }

    fn print(
        &self,
        gateway: &str,
        points: &Points,
        awaited: usize,
        latest: &BTreeMap<PointId, Reading>,
    ) -> Result<Exit, Fatal> {
        let mut out = io::stdout().lock();
        for reading in latest.values() {
            let info = points.info(reading.point);
            let name = format!("{}/{}", info.device, info.point);
            let at = text::rfc3339(reading.at);
            let line = if self.json {
                let value = reading.sample.value.as_ref().ok();
                json!({"gw": gateway, "device": &*info.device, "point": &*info.point, "t": at,
                    "value": text::json(value.map(Into::into)), "unit": &*info.unit,
                    "q": reading.sample.mark()})
                .to_string()
            } else {
                match &reading.sample.value {
                    Ok(value) => format!("{name:<36} {value:>14} {}", info.unit),
                    Err(why) => format!("{name:<36} {:>14} ({why})", "-"),
                }
            };
            match writeln!(out, "{}", line.trim_end()) {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                written => written.map_err(|e| super::system_refuses("cannot write", &e))?,
            }
        }
        self.verdict(points, awaited, latest)
    }

    #[expect(clippy::print_stderr, reason = "a command speaks to the person who called it")]
    fn verdict(
        &self,
        points: &Points,
        awaited: usize,
        latest: &BTreeMap<PointId, Reading>,
    ) -> Result<Exit, Fatal> {
        let with_value = latest.values().filter(|r| r.sample.value.is_ok()).count();
        let missing: Vec<_> = (0..u32::try_from(awaited).unwrap_or(u32::MAX))
            .map(PointId)
            .filter(|id| !latest.contains_key(id))
            .map(|id| points.info(id))
            .map(|info| format!("{}/{}", info.device, info.point))
            .collect();
        if !missing.is_empty() {
            let more = missing.len().saturating_sub(MISSING_SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = missing[..missing.len().min(MISSING_SHOWN)].join(", ");
            eprintln!("not read within {}: {named}{more}", self.timeout);
        }
        Ok(match with_value {
            0 => Exit::Unreachable,
            n if n < latest.len() + missing.len() => Exit::Problem,
            _ => Exit::Done,
        })
    }
}

/// Whether a source knows its points only when somebody speaks to it.
fn names_its_points_later(source: &SourceSettings) -> bool {
    !matches!(source, SourceSettings::Modbus(_) | SourceSettings::Serial(_))
}

fn note(group: &Group, latest: &mut BTreeMap<PointId, Reading>) {
    for reading in group.readings() {
        latest.insert(reading.point, reading);
    }
}
