//! `fieldgate decode`: batches from a file or a pipe, one reading a line. Payloads may stand one
//! behind the other, as `mosquitto_sub -N` writes them; what cannot be decoded is told on standard
//! error and counted, and the rest is decoded all the same.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::batch::text::write_batch;
use crate::batch::{DecodeError, decode, first_value};
use crate::error::{Exit, Fatal};
use crate::events;
use crate::limits;

/// Decodes uplink batches: one JSON reading a line.
#[derive(Debug, Args)]
pub struct Decode {
    /// File with one or more batch payloads, or - for standard input
    file: PathBuf,
    /// Comma-separated values with a header line, instead of JSON
    #[arg(long)]
    csv: bool,
    /// JSON, one object a line; the default
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// Bytes asked from the input at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What was met on the way.
#[derive(Default)]
struct Tally {
    batches: u64,
    damaged: u64,
    unknown_frames: u64,
    unknown_readings: u64,
    /// Bytes that belong to no batch.
    skipped: u64,
    /// What is being skipped was told.
    in_gap: bool,
}

impl Decode {
    /// Decodes until the input ends.
    ///
    /// # Errors
    /// When the input cannot be read at all, or the output is closed.
    pub fn run(self) -> Result<Exit, Fatal> {
        let input: Box<dyn Read> = if self.file == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&self.file).map_err(|e| self.unreadable(&e))?)
        };
        let out = BufWriter::new(io::stdout().lock());
        let tally = match self.stream(input, out) {
            Ok(tally) => tally,
            // Whoever read our output has seen enough (`| head`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(e) => return Err(self.unreadable(&e)),
        };
        tally.tell();
        Ok(if tally.damaged > 0 { Exit::Problem } else { Exit::Done })
    }

    fn unreadable(&self, error: &io::Error) -> Fatal {
        let notice = events::decode::unreadable(&self.file, error);
        Fatal::new(Exit::Unreachable, notice.to_string())
    }

    fn stream(&self, mut input: impl Read, mut out: impl Write) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut held = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        if self.csv {
            writeln!(out, "gw,device,point,t,value,unit,q,key")?;
        }
        loop {
            let len = input.read(&mut chunk)?;
            held.extend_from_slice(&chunk[..len]);
            let whole = len == 0 || held.len() > limits::MQTT_PACKET_BYTES_MAX;
            let taken = self.take_whole(&held, whole, &mut tally, &mut out)?;
            held.drain(..taken);
            out.flush()?;
            if len == 0 {
                break;
            }
        }
        if tally.batches + tally.damaged == 0 {
            tally.refuse("it is empty");
        }
        Ok(tally)
    }

    /// Decodes every whole payload at the start of `held` and returns the bytes they took. What is
    /// none is passed over up to where the next one begins. With `whole`, more bytes will not come.
    fn take_whole(
        &self,
        held: &[u8],
        whole: bool,
        tally: &mut Tally,
        out: &mut impl Write,
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < held.len() {
            let rest = &held[taken..];
            let (length, decoded) = match first_value(rest) {
                Ok(Some(length)) => (length, decode(&rest[..length])),
                Ok(None) if !whole => break,
                Ok(None) => (rest.len(), Err(DecodeError::Truncated)),
                Err(error) => (rest.len(), Err(error)),
            };
            match decoded {
                Ok(batch) => {
                    tally.in_gap = false;
                    tally.batches += 1;
                    tally.unknown_frames += batch.unknown_frames;
                    tally.unknown_readings += batch.unknown_readings;
                    write_batch(&batch, self.csv, out)?;
                    taken += length;
                }
                Err(error) => {
                    if !std::mem::replace(&mut tally.in_gap, true) {
                        tally.refuse(&error.to_string());
                    }
                    let skip = match next_envelope(&rest[..length]) {
                        Some(next) => next,
                        // The beginning of one may stand at the end of what has come so far.
                        None if !whole && length == rest.len() => {
                            length.saturating_sub(ENVELOPE.len() + 3).max(1)
                        }
                        None => length,
                    };
                    tally.skipped += skip as u64;
                    taken += skip;
                    let waits = !whole && rest.len() - skip <= ENVELOPE.len() + 3;
                    if waits {
                        break;
                    }
                }
            }
        }
        Ok(taken)
    }
}

/// How every envelope begins behind its map marker: `v` 1, then `gw`.
const ENVELOPE: &[u8] = b"\xa1v\x01\xa2gw";

/// Returns where, after its first byte, the next envelope may begin.
fn next_envelope(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, ENVELOPE).find_map(|at| {
        let is_map = |marker: &u8| matches!(marker, 0x80..=0x8f);
        let one = at.checked_sub(1).filter(|start| is_map(&bytes[*start]));
        let three = at.checked_sub(3).filter(|start| bytes[*start] == 0xde);
        one.or(three).filter(|start| *start > 0)
    })
}

impl Tally {
    #[expect(clippy::print_stderr, reason = "a command speaks to the person who called it")]
    fn refuse(&mut self, why: &str) {
        self.damaged += 1;
        eprintln!("{}", events::decode::not_a_batch(self.batches + self.damaged, why));
    }

    #[expect(clippy::print_stderr, reason = "a command speaks to the person who called it")]
    fn tell(&self) {
        if self.skipped > 0 {
            eprintln!("{} bytes in {} places were skipped", self.skipped, self.damaged);
        }
        if self.unknown_frames > 0 {
            eprintln!("{} frames of an unknown kind were skipped", self.unknown_frames);
        }
        if self.unknown_readings > 0 {
            eprintln!("{} readings of an unknown kind were skipped", self.unknown_readings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/uplink/vectors").join(name))
            .unwrap()
    }

    fn decoded(csv: bool, input: &[u8]) -> (String, Tally) {
        let mut out = Vec::new();
        let decode = Decode { file: "-".into(), csv, json: false };
        let tally = decode.stream(input, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), tally)
    }

    #[test]
    fn a_reading_is_one_json_object_with_the_keys_of_the_contract() {
        let (text, tally) = decoded(false, &vector("01-grid.msgpack"));
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"gw":"gw-0042","device":"meter-01","point":"temperature","t":"2026-09-21T14:13:20.417Z","value":21.5,"unit":"Cel","q":0,"key":"gw-0042/1789990000/data/4711"}"#
        );
        assert_eq!((text.lines().count(), tally.batches, tally.damaged), (15, 1, 0));
    }

    #[test]
    fn payloads_one_behind_the_other_are_told_apart_and_damage_is_passed_over() {
        let mut input = vector("01-grid.msgpack");
        let bad = input.len() + 10;
        input.extend(vector("04-events.msgpack"));
        input[bad] = 0xc0;
        input.extend(vector("02-grid-zlib.msgpack"));
        let (text, tally) = decoded(false, &input);
        assert!(tally.damaged >= 1, "the damage went unnoticed");
        assert!(text.lines().count() >= 15);
    }

    #[test]
    fn garbage_between_payloads_costs_only_itself() {
        let (one, two) = (vector("01-grid.msgpack"), vector("04-events.msgpack"));
        let lines = |input: &[u8]| decoded(false, input).0.lines().count();
        let garbage: [&[u8]; 4] = [b"\xff\xff\xff", b"hello", &one[..50], b"\xdf\xff\xff\xff\xff"];
        for garbage in garbage {
            let input = [&one[..], garbage, &two[..], &one[..]].concat();
            let (text, tally) = decoded(false, &input);
            assert_eq!((tally.batches, tally.damaged), (3, 1), "{garbage:?}");
            assert_eq!(text.lines().count(), 2 * lines(&one) + lines(&two));
            assert_eq!(tally.skipped, garbage.len() as u64);
        }
    }

    #[test]
    fn csv_has_a_header_and_empty_fields_for_no_data() {
        let (text, _) = decoded(true, &vector("03-grid-marks.msgpack"));
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap(), "gw,device,point,t,value,unit,q,key");
        assert!(lines.any(|line| line.contains(",energy,") && line.contains("Z,,Wh,32,")));
    }

    #[test]
    fn an_empty_or_cut_input_is_a_problem_not_a_success() {
        assert_eq!(decoded(false, b"").1.damaged, 1);
        let whole = vector("01-grid.msgpack");
        assert_eq!(decoded(false, &whole[..50]).1.damaged, 1);
        assert_eq!(decoded(false, b"hello there").1.damaged, 1);
    }
}
