//! `fieldgate buffer`: what waits for the uplink, with and without the daemon.

mod rescue;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::batch::text;
use crate::cli::wear::Outlook;
use crate::clock::{Board, Clock as _, Evidence, State, Trust};
use crate::config::{self, Config};
use crate::error::{Exit, Fatal};
use crate::events::counted;
use crate::reading::Stream;
use crate::store::settings::Settings;
use crate::store::{self, OpenError, RuleStatus, Shelf, Status, UplinkStatus, Used};

/// The buffer's own commands.
#[derive(Debug, Subcommand)]
pub(super) enum Buffer {
    /// Shows how much is kept and how much was dropped; works with and without the daemon
    Status(BufferStatus),
    /// Holds every checksum against its row and says what is damaged; changes nothing
    Check(BufferStatus),
    /// Writes the batches that wait to a file that `fieldgate decode` reads; changes nothing
    Export(Export),
    /// Puts what can be saved from damaged buffers back, without waiting for the daemon to do it
    Repair(BufferStatus),
}

/// Arguments of `buffer status`, `check` and `repair`.
#[derive(Debug, Args)]
pub(super) struct BufferStatus {
    /// JSON, one object
    #[arg(long)]
    json: bool,
    /// The buffer itself; the configured one when absent
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
}

/// Arguments of `buffer export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Where to write, one batch behind the other; - for standard output
    #[arg(value_name = "FILE")]
    to: PathBuf,
    /// From a buffer that was moved aside: its number, or its file
    #[arg(long, value_name = "N|FILE")]
    damaged: Option<String>,
    /// The buffer itself; the configured one when absent
    #[arg(long, value_name = "FILE")]
    buffer: Option<PathBuf>,
    /// JSON, one object, about what was written; on standard error when the batches go to standard
    /// output
    #[arg(long)]
    json: bool,
}

impl Buffer {
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        match self {
            Self::Status(args) => status(args, config),
            Self::Check(args) => rescue::check(args.json, &path(args.path, config)?),
            Self::Export(args) => rescue::export(args, config),
            Self::Repair(args) => rescue::repair(args.json, args.path, config),
        }
    }
}

/// The buffer that is meant: the one named, or the configured one.
fn path(named: Option<PathBuf>, config: &Path) -> Result<PathBuf, Fatal> {
    match named {
        Some(path) => Ok(path),
        None => Ok(settings(config)?.path),
    }
}

fn settings(config: &Path) -> Result<Settings, Fatal> {
    configured(config).map(|config| config.store)
}

fn configured(config: &Path) -> Result<Config, Fatal> {
    config::load(config, config::Options::default())
        .map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))
}

/// What this board's clock is worth, as far as it shows without the daemon.
struct Time {
    why: Option<Evidence>,
}

impl Time {
    fn of(state: &State) -> Self {
        Self { why: state.set }
    }

    /// Why the clock is believed. The daemon may have seen it being set, and wrote that down.
    fn evidence(&self, status: &Status) -> Option<Evidence> {
        self.why.or(status.clock_set.then_some(Evidence::Earlier))
    }

    fn text(&self, status: &Status) -> String {
        let state = match self.evidence(status) {
            Some(why) => format!("believed: {}", why.words()),
            None => "not set: readings count from boot until it is (fieldgate doctor clock)".into(),
        };
        let waiting = match status.undated {
            0 => String::new(),
            batches => format!("; {batches} batches get their dates with it"),
        };
        format!("clock    {state}{waiting}")
    }

    fn json(&self, status: &Status) -> serde_json::Value {
        let why = self.evidence(status);
        json!({
            "set": why.is_some(), "why": why.map(Evidence::words), "undated_batches": status.undated,
        })
    }
}

fn unreachable(error: &OpenError) -> Fatal {
    Fatal::new(Exit::Unreachable, error.to_string())
}

fn status(args: BufferStatus, config: &Path) -> Result<Exit, Fatal> {
    let (path, bytes_max, trust) = match args.path {
        Some(path) => (path, None, Trust::Auto),
        None => {
            let found = configured(config)?;
            (found.store.path, Some(found.store.bytes_max), found.gateway.clock)
        }
    };
    let time = Time::of(&Board::new(trust).state());
    let found = store::inspect(&path).map_err(|error| unreachable(&error))?;
    let usage = store::usage(&path).map_err(|error| unreachable(&error))?;
    let outlook = Outlook::new(usage, bytes_max);
    let text = if args.json {
        as_json(&path, &found, &outlook, &time)
    } else {
        let time = time.text(&found);
        format!("{}\n{time}\n{}", as_text(&path, &found), outlook.text())
    };
    // A closed pipe is the reader's choice.
    let _ = writeln!(io::stdout().lock(), "{text}");
    let damaged = Shelf::ALL.iter().any(|shelf| found.shelf(*shelf).damaged > 0);
    Ok(if damaged { Exit::Problem } else { Exit::Done })
}

fn as_text(path: &Path, status: &Status) -> String {
    let mut text = format!(
        "buffer   {}\nepoch    {}\non disk  {}",
        path.display(),
        status.epoch,
        bytesize::ByteSize(status.disk_bytes)
    );
    for stream in Stream::ALL {
        let part = status.stream(stream);
        let oldest = part.oldest.map_or("-".to_owned(), text::rfc3339);
        text.push_str(&format!(
            "\n{:<8} {} in {} waiting ({}), {} not sealed yet; oldest {oldest}\n\
             {:8} next sequence {}, lowest held {}; {} dropped, {} damaged",
            stream.name(),
            counted(part.readings, "reading"),
            counted(part.batches, "batch"),
            bytesize::ByteSize(part.bytes),
            part.readings_open,
            "",
            part.seq_next,
            part.lo,
            counted(part.dropped, "reading"),
            counted(part.damaged, "batch"),
        ));
    }
    for stream in Stream::ALL {
        let part = status.shelf(Shelf::salvaged(stream));
        if part.seq_next > 1 {
            text.push_str(&format!(
                "\nsalvaged {} {} in {} of earlier epochs waiting ({}); {} dropped",
                stream.name(),
                counted(part.readings, "reading"),
                counted(part.batches, "batch"),
                bytesize::ByteSize(part.bytes),
                part.dropped,
            ));
        }
    }
    for salvage in &status.salvages {
        text.push_str(&format!(
            "\n{}  {}: {} readings in {} batches and {} not sealed came back, {} batches are missing",
            salvage.name,
            if salvage.done { "done" } else { "under way" },
            salvage.readings,
            salvage.batches,
            salvage.slots,
            salvage.missing,
        ));
    }
    text + &uplinks_as_text(status) + &plans_as_text(status) + &rules_as_text(status)
}

/// What is kept of rules.
fn rules_as_text(status: &Status) -> String {
    let one = |(name, rule): (&Arc<str>, &RuleStatus)| {
        format!(
            "\nrule     {name}: {} keys ({}), {} timers, {} outputs; at batch {}",
            rule.keys,
            bytesize::ByteSize(rule.bytes),
            rule.timers,
            rule.outputs,
            rule.batch,
        )
    };
    status.rules.iter().map(one).collect()
}

fn rules_as_json(status: &Status) -> serde_json::Value {
    let one = |(name, rule): (&Arc<str>, &RuleStatus)| {
        let value = json!({
            "keys": rule.keys, "bytes": rule.bytes, "timers": rule.timers,
            "outputs": rule.outputs, "batch": rule.batch, "watermark_us": rule.watermark,
        });
        (name.to_string(), value)
    };
    serde_json::Value::Object(status.rules.iter().map(one).collect())
}

/// What uplinks with a data plan have used of it.
fn plans_as_text(status: &Status) -> String {
    let one = |(name, used): (&Arc<str>, &Used)| {
        let size = |bytes| bytesize::ByteSize(bytes).display().si();
        format!(
            "\nplan     {name}: {} of {} used in {} ({} %)",
            size(used.bytes),
            size(used.plan),
            used.month_name().unwrap_or_else(|| "a month not known yet".to_owned()),
            used.bytes.saturating_mul(100) / used.plan.max(1),
        )
    };
    status.traffic.iter().map(one).collect()
}

fn plans_as_json(status: &Status) -> serde_json::Value {
    let one = |(name, used): (&Arc<str>, &Used)| {
        let value = json!({ "month": used.month_name(), "bytes": used.bytes, "plan": used.plan });
        (name.to_string(), value)
    };
    serde_json::Value::Object(status.traffic.iter().map(one).collect())
}

/// What each of several uplinks has not got yet.
fn uplinks_as_text(status: &Status) -> String {
    let mut text = String::new();
    for uplink in &status.uplinks {
        for (shelf, backlog) in Shelf::ALL.iter().zip(uplink.shelves) {
            if backlog.batches > 0 || *shelf == Shelf::Data {
                let oldest = backlog.oldest.map_or("-".to_owned(), text::rfc3339);
                text.push_str(&format!(
                    "\nuplink   {}: {} of {} waiting, from {}; oldest {oldest}",
                    uplink.name,
                    counted(backlog.batches, "batch"),
                    shelf.name(),
                    backlog.lo,
                ));
            }
        }
    }
    text
}

fn uplinks_as_json(status: &Status) -> serde_json::Value {
    let one = |uplink: &UplinkStatus| {
        let shelves: serde_json::Map<_, _> = Shelf::ALL
            .iter()
            .zip(uplink.shelves)
            .map(|(shelf, it)| {
                let value = json!({
                    "lo": it.lo, "batches": it.batches, "oldest": it.oldest.map(text::rfc3339),
                });
                (shelf.name().to_owned(), value)
            })
            .collect();
        (uplink.name.to_string(), serde_json::Value::Object(shelves))
    };
    serde_json::Value::Object(status.uplinks.iter().map(one).collect())
}

fn as_json(path: &Path, status: &Status, outlook: &Outlook, time: &Time) -> String {
    let shelves = |salvaged: bool| -> serde_json::Map<_, _> {
        let shelf = |stream| if salvaged { Shelf::salvaged(stream) } else { Shelf::from(stream) };
        let value = |stream: Stream| {
            let part = status.shelf(shelf(stream));
            let value = json!({
                "seq_next": part.seq_next, "lo": part.lo, "batches": part.batches,
                "bytes": part.bytes, "readings": part.readings,
                "readings_open": part.readings_open, "dropped": part.dropped,
                "damaged": part.damaged, "oldest": part.oldest.map(text::rfc3339),
            });
            (stream.name().to_owned(), value)
        };
        Stream::ALL.into_iter().map(value).collect()
    };
    let salvages: Vec<_> = status.salvages.iter().map(rescue::salvage).collect();
    json!({
        "path": path, "epoch": status.epoch, "disk_bytes": status.disk_bytes,
        "disk": outlook.json(), "clock": time.json(status),
        "streams": shelves(false), "salvaged": shelves(true), "salvages": salvages,
        "uplinks": uplinks_as_json(status), "data_plans": plans_as_json(status),
        "rules": rules_as_json(status),
    })
    .to_string()
}
