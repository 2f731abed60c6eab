//! `fieldgate status`: how the running gateway does, on one screen.

use std::io::{Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::client::Daemon;
use crate::api::status::{Health, Rule, Status as Told};
use crate::error::{Exit, Fatal};
use crate::events::{counted, rounded};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// JSON, one object
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self, config: &Path) -> Result<Exit, Fatal> {
        let status: serde_json::Value = Daemon::of(config).get("/v1/status")?;
        let told = serde_json::from_value::<Told>(status.clone());
        // A daemon of a later version may say more than this program understands.
        let text = match &told {
            Ok(told) if !self.json => screen(told),
            Err(_) if !self.json => format!("{status:#}"),
            _ => status.to_string(),
        };
        // A closed pipe is the reader's choice.
        let _ = writeln!(stdout().lock(), "{text}");
        Ok(match told {
            Ok(told) if told.health == Health::Bad => Exit::Problem,
            _ => Exit::Done,
        })
    }
}

/// Things that are wrong which fit one screen: a lost bus brings one for each of its devices.
const STANDING_SHOWN: usize = 5;

fn screen(told: &Told) -> String {
    let health = match told.health {
        Health::Good => "all good",
        Health::Degraded => "works; something is odd",
        Health::Bad => "needs a person",
    };
    let up = ago(told.uptime_s);
    let mut text = format!(
        "{}  up {up}  {health}   (fieldgate {}, config {}, process {})",
        told.gateway, told.version, told.config, told.pid
    );
    let names: Vec<_> = told.sources.iter().map(|source| &*source.name).collect();
    text += &format!(
        "\n sources  {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    );
    for one in &told.rules {
        text += &format!("\n rule     {}", rule(one));
    }
    text += &format!("\n buffer   {}", buffer(told));
    for uplink in &told.uplinks {
        let state = match (uplink.connected, uplink.acknowledged_s) {
            (true, Some(seconds)) => format!("connected, last ack {} ago", ago(seconds)),
            (true, None) => "connected".to_owned(),
            (false, Some(seconds)) => format!("NOT connected, last ack {} ago", ago(seconds)),
            (false, None) => "NOT connected".to_owned(),
        };
        text += &format!(
            "\n uplink   {}  {state}; {} in {} sent, {} waiting",
            uplink.name,
            counted(uplink.readings_sent, "reading"),
            counted(uplink.batches_sent, "batch"),
            counted(uplink.batches_waiting, "batch"),
        );
    }
    if told.uplinks.is_empty() {
        text += "\n uplink   none: readings are kept and sent nowhere";
    }
    let clock = match &told.clock.why {
        Some(why) if told.clock.set => format!("set ({why})"),
        _ => "NOT set: readings get their dates when it is".to_owned(),
    };
    text += &format!("\n clock    {clock}");
    // What needs a person first; what is left out is for whoever reads JSON.
    let (errors, others): (Vec<_>, Vec<_>) =
        told.standing.iter().partition(|standing| standing.weight == "error");
    for standing in errors.into_iter().chain(others).take(STANDING_SHOWN) {
        text += &format!(
            "\n\n{}\n  for {}, seen {}",
            standing.text,
            ago(standing.since_s),
            counted(standing.count, "time"),
        );
    }
    if let Some(more) = told.standing.len().checked_sub(STANDING_SHOWN).filter(|more| *more > 0) {
        text += &format!("\n\nand {more} more: fieldgate status --json tells them all");
    }
    if !told.standing.is_empty() {
        text += "\n\nfieldgate doctor looks closer";
    }
    text
}

fn rule(one: &Rule) -> String {
    let Rule { rule, state, name, version, digest, taken, emitted, .. } = one;
    let mut text = format!("{rule}  {state}");
    if !version.is_empty() {
        let name = if name.is_empty() || name == rule { String::new() } else { format!("{name} ") };
        text += &format!(": {name}{version} ({digest}); {taken} readings in, {emitted} out");
    }
    if let Some(fuel) = one.fuel_a_reading {
        text += &format!(", {fuel} fuel a reading");
    }
    if one.passed > 0 {
        text += &format!(", {} went PAST it", one.passed);
    }
    if one.dropped > 0 {
        text += &format!(", {} DROPPED", one.dropped);
    }
    if let Some(trial) = &one.trial {
        text += &format!("; {trial} is on trial");
    }
    if let Some(failure) = &one.failure {
        text += &format!("\n          failed last: {failure}");
    }
    text
}

fn buffer(told: &Told) -> String {
    let (mut batches, mut readings, mut dropped) = (0, 0, 0);
    for stream in &told.store.streams {
        batches += stream.batches;
        readings += stream.readings + stream.readings_open;
        dropped += stream.dropped;
    }
    let waiting = match (batches, readings) {
        (0, 0) => "empty".to_owned(),
        _ => {
            let (readings, batches) = (counted(readings, "reading"), counted(batches, "batch"));
            format!("{readings} waiting, {batches} sealed")
        }
    };
    let dropped = if dropped == 0 {
        String::new()
    } else {
        format!(", {} DROPPED", counted(dropped, "reading"))
    };
    let health = match &*told.store.health {
        "good" => "",
        "refused" => "; the disk REFUSES",
        _ => "; the store has ENDED",
    };
    format!("{waiting}, {} on disk{dropped}{health}", ByteSize(told.store.disk_bytes))
}

fn ago(seconds: u64) -> String {
    if seconds == 0 { "less than 1 s".to_owned() } else { rounded(Duration::from_secs(seconds)) }
}
