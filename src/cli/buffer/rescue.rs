//! `fieldgate buffer check`, `export` and `repair`: what to do about a buffer that took damage.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Export, path, settings, unreachable};
use crate::clock::System;
use crate::error::{Exit, Fatal};
use crate::events::{self, Events};
use crate::reading::Points;
use crate::store::{self, Exported, Findings, OpenError, Progress, Store};

/// How often a repair looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Examines a buffer and says what to do.
pub(super) fn check(as_json: bool, path: &Path) -> Result<Exit, Fatal> {
    let found = match store::check(path) {
        Ok(found) => found,
        // That it cannot be opened is what was found.
        Err(error @ OpenError::Unusable { .. }) => {
            tell(&if as_json { unusable(path) } else { error.to_string() });
            return Ok(Exit::Problem);
        }
        Err(error) => return Err(unreachable(&error)),
    };
    let text = if as_json { findings(path, &found) } else { sentences(path, &found) };
    tell(&text);
    Ok(if found.is_sound() { Exit::Done } else { Exit::Problem })
}

fn unusable(path: &Path) -> String {
    json!({"path": path, "sound": false, "readable": false}).to_string()
}

fn findings(path: &Path, found: &Findings) -> String {
    let stores = |(path, done): &(PathBuf, bool)| json!({"path": path, "done": done});
    let damaged = found.batches_damaged.iter();
    let damaged: Vec<_> = damaged.map(|(shelf, seq)| json!([shelf.name(), seq])).collect();
    json!({
        "path": path, "sound": found.is_sound(), "readable": true, "batches": found.batches,
        "batches_damaged": damaged, "slots_damaged": found.slots_damaged,
        "names_damaged": found.names_damaged, "keys_sound": found.keys_sound,
        "structure_faults": found.structure, "log_cut": found.log_cut,
        "set_aside": found.set_aside,
        "damaged_stores": found.damaged_stores.iter().map(stores).collect::<Vec<_>>(),
    })
    .to_string()
}

fn sentences(path: &Path, found: &Findings) -> String {
    let mut lines = vec![format!("buffer {}: {} batches are sound", path.display(), found.batches)];
    for (shelf, seq) in found.batches_damaged.iter().take(10) {
        lines.push(format!("  damaged: batch {seq} of {}", shelf.name()));
    }
    if let Some(more) = found.batches_damaged.len().checked_sub(10).filter(|more| *more > 0) {
        lines.push(format!("  and {more} batches more"));
    }
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            lines.push(format!("  damaged: {number} {what}"));
        }
    };
    count(found.slots_damaged, "rows of readings that are not sealed yet");
    count(found.names_damaged, "names of points");
    count(found.structure, "places in the structure of the database");
    if !found.keys_sound {
        lines.push("  damaged: the epoch, or the row of a stream".into());
    }
    if found.log_cut {
        lines.push("  damaged: the log beside it lacks commits".into());
    }
    if found.set_aside > 0 {
        lines.push(format!("  {} rows were set aside earlier (FG-B04)", found.set_aside));
    }
    for (aside, done) in &found.damaged_stores {
        let state = if *done { "all that can be read is back" } else { "not salvaged yet" };
        lines.push(format!("  moved aside: {}, {state}", aside.display()));
    }
    if !found.is_sound() {
        lines.push(
            "The daemon sets damaged rows aside and goes on; where the structure, a stream's row or \
             the log is damaged it moves the buffer aside, and what is sound comes back.\n\
             Try:    fieldgate buffer export FILE, for a copy of what is sound"
                .into(),
        );
    } else if found.damaged_stores.iter().any(|(_, done)| !done) {
        lines.push("Try:    fieldgate buffer repair, or start the daemon".into());
    }
    lines.join("\n")
}

/// Writes batches to a file.
pub(super) fn export(args: Export, config: &Path) -> Result<Exit, Fatal> {
    let (from, damaged) = match &args.damaged {
        None => (path(args.buffer, config)?, false),
        Some(named) => match named.parse::<u32>() {
            Ok(number) => {
                let buffer = path(args.buffer, config)?;
                (PathBuf::from(format!("{}.damaged-{number}", buffer.display())), true)
            }
            Err(_) => (PathBuf::from(named), true),
        },
    };
    let to_pipe = args.to == Path::new("-");
    let exported = if to_pipe {
        store::export(&from, damaged, &mut BufWriter::new(io::stdout().lock()))
    } else {
        let file = File::create_new(&args.to).map_err(|e| unwritten(&args.to, &e))?;
        let mut out = BufWriter::new(file);
        store::export(&from, damaged, &mut out).map(|exported| {
            exported.and_then(|exported| out.get_ref().sync_all().map(|()| exported))
        })
    };
    let exported = exported.map_err(|error| unreachable(&error))?;
    let exported = match exported {
        // Whoever read our output has seen enough.
        Err(e) if to_pipe && e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        other => other.map_err(|e| unwritten(&args.to, &e))?,
    };
    let text = written(args.json, &from, &args.to, exported);
    if to_pipe {
        tell_aside(&text)
    } else {
        tell(&text)
    }
    Ok(if exported.missing > 0 { Exit::Problem } else { Exit::Done })
}

fn unwritten(to: &Path, error: &io::Error) -> Fatal {
    Fatal::new(Exit::Unreachable, events::buffer::not_exported(to, error.kind()).to_string())
}

fn written(as_json: bool, from: &Path, to: &Path, exported: Exported) -> String {
    let Exported { batches, readings, missing } = exported;
    if as_json {
        return json!({
            "from": from, "to": to, "batches": batches, "readings": readings, "missing": missing,
        })
        .to_string();
    }
    let missing = match missing {
        0 => String::new(),
        n => format!("; {n} batches cannot be read"),
    };
    let (from, to) = (from.display(), to.display());
    format!("{readings} readings in {batches} batches of {from} are in {to}{missing}")
}

/// Salvages all damaged buffers beside the configured one.
pub(super) fn repair(as_json: bool, named: Option<PathBuf>, config: &Path) -> Result<Exit, Fatal> {
    let mut settings = settings(config)?;
    if let Some(path) = named {
        settings.path = path;
    }
    let path = settings.path.clone();
    let events = Events::default();
    let done = super::super::block_on(async {
        let (store, thread) =
            Store::open(settings, Arc::new(Points::default()), Arc::new(System), events.clone())
                .map_err(|error| unreachable(&error))?;
        let done = salvaged(&store, &path, &events).await;
        drop(store);
        thread.close();
        Ok(done)
    })?;
    let lines: Vec<_> = done
        .iter()
        .map(|one| {
            let Progress { name, batches, readings, slots, missing, uncertain, .. } = one;
            format!(
                "{name}: {readings} readings in {batches} batches and {slots} not sealed are back; \
             {missing} batches are missing, {uncertain} rows of readings stay where they are"
            )
        })
        .collect();
    let whole = done.iter().all(|one| one.done && one.missing == 0);
    tell(&match (as_json, lines.is_empty()) {
        (true, _) => {
            let salvages: Vec<_> = done.iter().map(salvage).collect();
            json!({"path": path, "salvages": salvages}).to_string()
        }
        (false, true) => format!("no damaged buffer stands beside {}", path.display()),
        (false, false) => lines.join("\n"),
    });
    Ok(if whole { Exit::Done } else { Exit::Problem })
}

/// Waits until everything that can be read is back, or cannot be read at all.
async fn salvaged(store: &Store, path: &Path, events: &Events) -> Vec<Progress> {
    loop {
        // A disk that refuses is told as such, and tried again by the next look.
        let _ = store.flush(true).await;
        let status = store.status();
        let stuck = events.standing().iter().any(|condition| {
            [&events::buffer::SALVAGE_STUCK, &events::buffer::REFUSED]
                .iter()
                .any(|code| code.id == condition.notice.code.id)
        });
        if stuck || store::is_salvaged(path, &status.salvages) {
            return status.salvages;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One salvage as JSON.
pub(super) fn salvage(salvage: &Progress) -> Value {
    json!({
        "name": salvage.name, "done": salvage.done, "batches": salvage.batches,
        "readings": salvage.readings, "readings_not_sealed": salvage.slots,
        "batches_missing": salvage.missing, "rows_left": salvage.uncertain,
    })
}

fn tell(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[expect(clippy::print_stderr, reason = "standard output carries the batches")]
fn tell_aside(text: &str) {
    eprintln!("{text}");
}
