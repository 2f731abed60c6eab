//! The simplest sink: a line of JSON a reading, as `fieldgate decode` prints them, on standard output
//! or behind what a file holds. It remembers nothing, so a batch that comes twice is written twice,
//! under the same key.
//!
//! In a file, a slice is written whole or not at all: what a full disk or a crash left of one is cut
//! off before the next, at the end of the last whole line. With `--fsync` it is on the disk before
//! the broker hears PUBACK; without, a power cut costs what the system had not written yet.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use futures_util::future::BoxFuture;

use super::sink::{Away, Delivery, Sink, Verdict};
use crate::batch::text;
use crate::events::receive as say;

/// Prints to standard output, or writes to a file.
pub(super) enum Ndjson {
    Output,
    File(Lines),
}

/// A file of lines.
pub(super) struct Lines {
    file: File,
    /// Where its last whole slice ends.
    end: u64,
    fsync: bool,
    subject: String,
}

impl Ndjson {
    /// Opens a file, making it when it is not there, and cuts off half a line at its end.
    ///
    /// # Errors
    /// When it cannot be opened and written.
    pub(super) fn file(path: &Path, fsync: bool) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let end = last_line_end(&mut file)?;
        file.set_len(end)?;
        Ok(Self::File(Lines { file, end, fsync, subject: path.display().to_string() }))
    }

    fn write(&mut self, slice: &[Delivery]) -> io::Result<()> {
        match self {
            Self::Output => print(slice, &mut io::stdout().lock()),
            Self::File(lines) => lines.write(slice),
        }
    }

    fn subject(&self) -> &str {
        match self {
            Self::Output => "standard output",
            Self::File(lines) => &lines.subject,
        }
    }
}

impl Lines {
    fn write(&mut self, slice: &[Delivery]) -> io::Result<()> {
        // What the last attempt left, if it failed.
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        print(slice, &mut self.file)?;
        if self.fsync {
            self.file.sync_data()?;
        }
        self.end = self.file.stream_position()?;
        Ok(())
    }
}

impl Sink for Ndjson {
    fn store<'a>(&'a mut self, slice: &'a [Delivery]) -> BoxFuture<'a, Result<Vec<Verdict>, Away>> {
        Box::pin(async move {
            self.write(slice)
                .map_err(|e| Away(Box::new(say::output_refused(self.subject(), e.kind()))))?;
            Ok(vec![Verdict::Stored; slice.len()])
        })
    }
}

fn print(slice: &[Delivery], out: &mut impl io::Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    for delivery in slice {
        text::write_batch(&delivery.batch, false, &mut out)?;
    }
    out.flush()
}

/// Finds the end of the last whole line, looking back from the end.
fn last_line_end(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut part = Vec::new();
        io::Read::by_ref(file).take(end - start).read_to_end(&mut part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::UnixMillis;
    use crate::receive::check;

    fn delivery() -> Delivery {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/uplink/vectors/01-grid.msgpack");
        let payload: bytes::Bytes = std::fs::read(vectors).unwrap().into();
        let gw = crate::batch::decode(&payload).unwrap().header.gateway;
        check::batch(&format!("fg/1/{gw}/data"), &payload, UnixMillis(0)).unwrap()
    }

    #[test]
    fn half_a_line_of_a_crash_is_cut_off_and_whole_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings");
        let slice = [delivery()];
        Ndjson::file(&path, true).unwrap().write(&slice).unwrap();
        let once = std::fs::read_to_string(&path).unwrap();
        assert_eq!(once.lines().count() as u64, slice[0].batch.readings());
        let torn = format!("{once}{{\"gw\":{}", "x".repeat(200_000));
        std::fs::write(&path, torn).unwrap();
        let mut sink = Ndjson::file(&path, false).unwrap();
        sink.write(&slice).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), once.repeat(2));
        std::fs::write(&path, "no line").unwrap();
        drop(Ndjson::file(&path, false).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn a_slice_that_failed_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings");
        let Ndjson::File(mut lines) = Ndjson::file(&path, false).unwrap() else { panic!() };
        let slice = [delivery()];
        lines.write(&slice).unwrap();
        let once = std::fs::read_to_string(&path).unwrap();
        // Half of a second slice, as a full disk leaves it.
        lines.file.write_all(b"{\"gw\":\"half").unwrap();
        lines.write(&slice).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), once.repeat(2));
    }
}
