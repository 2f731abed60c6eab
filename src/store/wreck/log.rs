//! SQLite's log (SQLite file format, section 4), read by ourselves: which pages stand in it, and
//! whether all that was committed to it is still there. SQLite stops reading at the first frame
//! whose checksum fails, and takes what stands before for everything. After a power cut that is
//! right, since one transaction at most was not yet synced; where whole transactions follow the bad
//! frame, committed ones would be lost in silence and their sequence numbers given again.
//!
//! That frames are missing at the end shows in the log's index (`-shm`), which SQLite writes after it
//! has synced the frames and which a killed process leaves behind. After a power cut it may be older
//! than the log, never newer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::store::schema::PAGE;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + PAGE;

/// A log with the frames of its present round; those of earlier rounds stand in the database.
pub(super) struct Log {
    file: File,
    /// The page that each frame holds.
    pub(super) pages: Vec<u32>,
    /// How many frames belong to transactions that SQLite reads.
    pub(super) readable: usize,
    /// Commits that stand behind a frame whose checksum fails.
    pub(super) commits_cut_off: usize,
    salts: [u8; 8],
}

impl Log {
    /// Reads the log at `path`; `None` when there is none, or nothing in it.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if file.metadata()?.len() <= HEADER as u64 {
            return Ok(None);
        }
        let mut log =
            Self { file, pages: Vec::new(), readable: 0, commits_cut_off: 0, salts: [0; 8] };
        log.read()?;
        Ok(Some(log))
    }

    fn read(&mut self) -> io::Result<()> {
        let mut reader = io::BufReader::with_capacity(16 * FRAME, &self.file);
        let mut header = [0; HEADER];
        reader.read_exact(&mut header)?;
        let big = word(&header, 0) & 1 == 1;
        let mut sum = add([0; 2], &header[..24], big);
        let mut chained =
            sum == [word(&header, 24), word(&header, 28)] && word(&header, 0) & !1 == 0x377f_0682;
        let salts = if chained { first8(&header[16..]) } else { self.commonest_salts()? };
        let mut frame = vec![0; FRAME];
        while reader.read_exact(&mut frame).is_ok() {
            if first8(&frame[8..]) != salts {
                chained = false;
                self.pages.push(0);
                continue;
            }
            if chained {
                sum = add(add(sum, &frame[..8], big), &frame[FRAME_HEADER..], big);
                chained = sum == [word(&frame, 16), word(&frame, 20)];
            }
            self.pages.push(word(&frame, 0));
            if word(&frame, 4) != 0 {
                if chained {
                    self.readable = self.pages.len();
                } else {
                    self.commits_cut_off += 1;
                }
            }
        }
        self.salts = salts;
        Ok(())
    }

    /// Where the header is damaged, most frames say which round this is.
    fn commonest_salts(&self) -> io::Result<[u8; 8]> {
        let mut times = HashMap::new();
        let frames = (self.file.metadata()?.len() - HEADER as u64) / FRAME as u64;
        for frame in 0..frames {
            let mut salts = [0; 8];
            self.file.read_exact_at(&mut salts, HEADER as u64 + frame * FRAME as u64 + 8)?;
            *times.entry(salts).or_insert(0) += u32::from(salts != [0; 8]);
        }
        Ok(times.into_iter().max_by_key(|(_, times)| *times).map_or([0; 8], |(salts, _)| salts))
    }

    /// Reads the page in a frame.
    pub(super) fn page(&self, frame: usize, page: &mut [u8]) -> io::Result<()> {
        let at = HEADER + frame * FRAME + FRAME_HEADER;
        self.file.read_exact_at(page, at as u64)
    }
}

/// Returns whether the index at `path` knows of committed frames that SQLite would not find in the
/// log (WAL-mode file format, section 2.1).
pub(super) fn lacks_frames(log: Option<&Log>, index: &Path) -> bool {
    let mut header = [0; 96];
    if File::open(index).and_then(|mut file| file.read_exact(&mut header)).is_err() {
        return false;
    }
    let native = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    // Both copies, so that one that was being written is not believed.
    let is_whole = header[..48] == header[48..]
        && add_native([0; 2], &header[..40]) == [native(40), native(44)]
        && header[12] == 1;
    let frames = usize::try_from(native(16)).unwrap_or(0);
    is_whole
        && match log {
            None => frames > 0,
            Some(log) => header[32..40] == log.salts && frames > log.readable,
        }
}

fn add_native(sum: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    add(sum, bytes, cfg!(target_endian = "big"))
}

fn first8(bytes: &[u8]) -> [u8; 8] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Section 4.2, "Checksum algorithm".
fn add(mut sum: [u32; 2], bytes: &[u8], big: bool) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let (first, second) = if big {
            (word(pair, 0), word(pair, 4))
        } else {
            (word(pair, 0).swap_bytes(), word(pair, 4).swap_bytes())
        };
        sum[0] = sum[0].wrapping_add(first).wrapping_add(sum[1]);
        sum[1] = sum[1].wrapping_add(second).wrapping_add(sum[0]);
    }
    sum
}
