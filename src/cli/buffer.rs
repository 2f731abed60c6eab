//! `fieldgate buffer`: what waits for the uplink, with and without the daemon.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::batch::text;
use crate::config;
use crate::error::{Exit, Fatal};
use crate::reading::Stream;
use crate::store::{self, Status};

/// The buffer's own commands.
#[derive(Debug, Subcommand)]
pub(super) enum Buffer {
    /// Shows how much is kept and how much was dropped; works with and without the daemon
    Status(BufferStatus),
}

/// Arguments of `buffer status`.
#[derive(Debug, Args)]
pub(super) struct BufferStatus {
    /// JSON, one object
    #[arg(long)]
    json: bool,
    /// The buffer itself; the configured one when absent
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
}

impl Buffer {
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        let Self::Status(status) = self;
        let path = match status.path {
            Some(path) => path,
            None => {
                config::load(config, config::Options::default())
                    .map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))?
                    .store
                    .path
            }
        };
        let found =
            store::inspect(&path).map_err(|e| Fatal::new(Exit::Unreachable, e.to_string()))?;
        let text = if status.json { as_json(&path, &found) } else { as_text(&path, &found) };
        // A closed pipe is the reader's choice.
        let _ = writeln!(io::stdout().lock(), "{text}");
        let damaged = Stream::ALL.iter().any(|stream| found.stream(*stream).damaged > 0);
        Ok(if damaged { Exit::Problem } else { Exit::Done })
    }
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
            "\n{:<8} {} readings in {} batches wait ({}), {} not sealed yet; oldest {oldest}\n\
             {:8} next sequence {}, lowest held {}; {} readings dropped, {} batches damaged",
            stream.name(),
            part.readings,
            part.batches,
            bytesize::ByteSize(part.bytes),
            part.readings_open,
            "",
            part.seq_next,
            part.lo,
            part.dropped,
            part.damaged,
        ));
    }
    text
}

fn as_json(path: &Path, status: &Status) -> String {
    let streams: serde_json::Map<_, _> = Stream::ALL
        .iter()
        .map(|stream| {
            let part = status.stream(*stream);
            let value = json!({
                "seq_next": part.seq_next, "lo": part.lo, "batches": part.batches,
                "bytes": part.bytes, "readings": part.readings,
                "readings_open": part.readings_open, "dropped": part.dropped,
                "damaged": part.damaged, "oldest": part.oldest.map(text::rfc3339),
            });
            (stream.name().to_owned(), value)
        })
        .collect();
    json!({"path": path, "epoch": status.epoch, "disk_bytes": status.disk_bytes, "streams": streams})
        .to_string()
}
