//! `fieldgate buffer check`, `export` and `repair`: what to do about a buffer that took damage.

use std::fs::{self, File};
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
use crate::store::{self, Exported, Findings, Health, OpenError, Progress, Shelf, Store, Trouble};

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
        "names_damaged": found.names_damaged, "rules_damaged": found.rules_damaged,
        "keys_sound": found.keys_sound,
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
    count(found.rules_damaged, "rules' states, which the next start forgets (FG-W20)");
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
    if damaged && !from.exists() {
        let notice = events::buffer::not_aside(&from);
        return Err(Fatal::new(Exit::Unreachable, notice.to_string()));
    }
    if args.to == Path::new("-") {
        let exported = store::export(&from, damaged, &mut BufWriter::new(io::stdout().lock()));
        return match exported.map_err(|error| unreachable(&error))? {
            // Whoever read our output has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
            Err(e) => Err(unwritten(&args.to, &e)),
            Ok(exported) => {
                tell_aside(&written(args.json, &from, &args.to, exported));
                Ok(whole(exported))
            }
        };
    }
    let exported = export_to_file(&args.to, &from, damaged)?;
    tell(&written(args.json, &from, &args.to, exported));
    Ok(whole(exported))
}

fn whole(exported: Exported) -> Exit {
    if exported.missing > 0 { Exit::Problem } else { Exit::Done }
}

/// Writes a new file; one that did not become whole is taken away again.
fn export_to_file(to: &Path, from: &Path, damaged: bool) -> Result<Exported, Fatal> {
    let file = File::create_new(to).map_err(|e| unwritten(to, &e))?;
    let mut out = BufWriter::new(file);
    let done = match store::export(from, damaged, &mut out) {
        Err(error) => Err(unreachable(&error)),
        Ok(exported) => exported
            .and_then(|exported| out.get_ref().sync_all().map(|()| exported))
            .map_err(|e| unwritten(to, &e)),
    };
    if done.is_err() {
        // What is left of it is ours and of no use; the first error tells more than this one.
        let _ = fs::remove_file(to);
    }
    done
}

fn unwritten(to: &Path, error: &io::Error) -> Fatal {
    Fatal::new(Exit::Unreachable, events::buffer::not_exported(to, error.kind()).to_string())
}

fn written(as_json: bool, from: &Path, to: &Path, exported: Exported) -> String {
    let Exported { batches, readings, missing, not_sealed } = exported;
    if as_json {
        return json!({
            "from": from, "to": to, "batches": batches, "readings": readings, "missing": missing,
            "readings_not_sealed": not_sealed,
        })
        .to_string();
    }
    let from = from.display();
    let to =
        if to == Path::new("-") { "went out".into() } else { format!("are in {}", to.display()) };
    let mut text = format!("{readings} readings in {batches} batches of {from} {to}");
    if missing > 0 {
        text.push_str(&format!("; {missing} batches cannot be read"));
    }
    if not_sealed > 0 {
        text.push_str(&format!("; {not_sealed} readings are in no batch yet and stay behind"));
    }
    text
}

/// Salvages all damaged buffers beside the configured one.
pub(super) fn repair(as_json: bool, named: Option<PathBuf>, config: &Path) -> Result<Exit, Fatal> {
    let mut settings = settings(config)?;
    if let Some(path) = named {
        settings.path = path;
    }
    let path = settings.path.clone();
    if !store::is_there(&path) {
        return Err(unreachable(&OpenError::Missing { path }));
    }
    let suspect = !store::check(&path).is_ok_and(|found| found.is_sound());
    let events = Events::default();
    let (done, lost) = super::super::block_on(async {
        let (store, thread) =
            Store::open(settings, Arc::new(Points::default()), Arc::new(System), events.clone())
                .map_err(|error| unreachable(&error))?;
        if let Health::Refused(trouble) = store.status().health {
            return Err(unreachable(&OpenError::Unusable { path: path.clone(), trouble }));
        }
        if suspect {
            touch_all(&store).await;
        }
        let done = salvaged(&store, &path, &events).await;
        drop(store);
        Ok((done, thread.close()))
    })?;
    let standing = events.standing();
    let refused = standing.iter().find(|one| one.notice.code.id == events::buffer::REFUSED.id);
    if let Some(condition) = refused.filter(|_| lost > 0 || !store::is_salvaged(&path, &done)) {
        return Err(Fatal::new(Exit::Unreachable, condition.notice.to_string()));
    }
    if store::is_cramped(&path) && !store::is_salvaged(&path, &done) {
        return Err(unreachable(&OpenError::Unusable { path, trouble: Trouble::Full }));
    }
    let whole = done.iter().all(|one| one.done && one.missing == 0);
    tell(&if as_json {
        let salvages: Vec<_> = done.iter().map(salvage).collect();
        json!({"path": path, "salvages": salvages}).to_string()
    } else {
        repaired(&path, &done)
    });
    Ok(if whole { Exit::Done } else { Exit::Problem })
}

fn repaired(path: &Path, done: &[Progress]) -> String {
    if done.is_empty() {
        return format!("no damaged buffer stands beside {}", path.display());
    }
    let sentence = |one: &Progress| {
        let Progress { name, batches, readings, slots, missing, uncertain, .. } = one;
        let mut text = format!(
            "{name}: {readings} readings in {batches} batches and {slots} that were in none are back"
        );
        if *missing > 0 {
            text.push_str(&format!("; {missing} batches are missing"));
        }
        if *uncertain > 0 {
            text.push_str(&format!("; {uncertain} rows of readings stay where they are"));
        }
        if !one.done {
            text.push_str("; it is not done, because the file cannot be read");
        }
        text
    };
    done.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

/// Reads every batch once: damage shows to the store only when it is read, and it then does what is
/// to be done about it.
async fn touch_all(store: &Store) {
    for shelf in Shelf::ALL {
        let mut after = 0;
        // Where the disk does not answer, or the store was moved aside, there is no more to see.
        while let Ok(batches) = store.next(shelf, after, 100).await {
            let Some(last) = batches.last() else { break };
            after = last.seq();
        }
    }
}

/// Waits until everything that can be read is back, or cannot be read at all, or has no room.
async fn salvaged(store: &Store, path: &Path, events: &Events) -> Vec<Progress> {
    loop {
        // A disk that refuses is told as such, and tried again by the next look.
        let flushed = store.flush(true).await;
        let status = store.status();
        let standing = events.standing();
        let is_stuck = |id| standing.iter().any(|condition| condition.notice.code.id == id);
        let refused = flushed.is_err() && is_stuck(events::buffer::REFUSED.id);
        if (refused && status.health != Health::Refused(Trouble::Damaged))
            || is_stuck(events::buffer::SALVAGE_STUCK.id)
            || store::is_salvaged(path, &status.salvages)
            || store::is_cramped(path)
        {
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
