//! Power cuts, one at every write and sync of the store. A writer runs once under strace, which
//! records each byte that goes to each file; from that record the files are rebuilt as a cut after
//! the n-th call would leave them, for every n, and the store is opened on them.
//!
//! What a cut leaves: what was synced stands. What was written after the last sync of its file is
//! there, gone, or torn at sectors of 512 bytes, in turn. Files are taken to exist once created, and
//! a sync to be honest: what a lying card does is the business of checksums, not of this.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fieldgate::batch::{RowValue, decode};
use fieldgate::reading::{Points, Stream};

use crate::store::{group, held, open, runtime};

/// Names the database for the recorded writer; its presence makes the test below that writer.
const WRITER: &str = "FIELDGATE_TEST_RECORDED_WRITER";
const COMMITS: i64 = 560;
const READINGS_A_COMMIT: i64 = 20;
const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// Not a test of its own: the process that is recorded. It commits numbers upwards, seals now and
/// then, acknowledges some of the batches, and says on standard output what it was promised.
#[test]
fn a_writer_to_be_recorded() {
    let Ok(path) = std::env::var(WRITER) else { return };
    let points = Arc::new(Points::default());
    let (store, thread) = open(&PathBuf::from(path), &points);
    runtime().block_on(async {
        let mut freed = 0;
        for commit in 1..=COMMITS {
            for n in (commit - 1) * READINGS_A_COMMIT..commit * READINGS_A_COMMIT {
                store.append(group(&points, n + 1));
            }
            store.flush(commit % 4 == 0).await.unwrap();
            println!("committed {}", commit * READINGS_A_COMMIT);
            if commit % 7 == 0 {
                let oldest = store.next(Stream::Data, 0, 1).await.unwrap().remove(0);
                let mut last = 0;
                decode(oldest.payload()).unwrap().rows(|row| {
                    if let Some(RowValue::Decimal(decimal)) = row.value {
                        last = decimal.digits;
                    }
                });
                assert!(last > freed);
                freed = last;
                println!("freeing {freed}");
                store.acknowledge(Stream::Data, oldest.seq());
            }
        }
    });
    assert_eq!(thread.close(), 0);
}

/// One recorded call, in the order of their ends.
pub enum Call {
    Write {
        file: PathBuf,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        len: usize,
    },
    Sync {
        file: PathBuf,
    },
    /// The kernel takes for written what is not.
    SyncFailed {
        file: PathBuf,
    },
    Remove {
        file: PathBuf,
    },
    /// All numbers up to this one were reported as committed.
    Committed(i64),
    /// Batches with numbers up to this one are being freed.
    Freeing(i64),
}

/// Runs the writer under strace and returns what it did to the files in `folder`.
fn record(folder: &Path) -> Vec<Call> {
    let done = traced(folder, &[])
        .args(["--exact", "power::a_writer_to_be_recorded", "--nocapture"])
        .env(WRITER, folder.join("buffer.db"))
        .output()
        .unwrap_or_else(|e| panic!("strace cannot be started ({e}); tests/run installs it"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    read_record(folder)
}

/// Returns this test program under strace, with the record in `folder`.
pub fn traced(folder: &Path, more: &[&str]) -> Command {
    let calls = "openat,write,pwrite64,ftruncate,fsync,fdatasync,unlink,unlinkat,lseek";
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-xx", "-s", "1000000", "-e", &format!("trace={calls}")])
        .args(more)
        .arg("-o")
        .arg(folder.join("strace"))
        .arg(std::env::current_exe().unwrap());
    command
}

/// Reads what strace recorded in `folder`.
pub fn read_record(folder: &Path) -> Vec<Call> {
    let log = folder.join("strace");
    let mut calls = Vec::new();
    let mut begun: BTreeMap<String, String> = BTreeMap::new();
    for line in BufReader::new(std::fs::File::open(&log).unwrap()).lines() {
        let line = line.unwrap();
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread.to_owned(), start.to_owned());
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once("resumed>").unwrap();
            let start = begun.remove(thread).unwrap();
            calls.extend(parse(&(start + end), folder));
        } else {
            calls.extend(parse(rest, folder));
        }
    }
    calls
}

/// Reads one line of the record, such as `pwrite64(5<\x2f\x64..>, "\x00..", 24, 4120) = 24`.
fn parse(line: &str, folder: &Path) -> Option<Call> {
    let (call, rest) = line.split_once('(')?;
    // A call that was interrupted by another thread's has its result set off by spaces.
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let failed = result.starts_with("-1");
    if failed && !call.ends_with("sync") {
        return None;
    }
    let result: usize = result.split_whitespace().next()?.parse().unwrap_or(0);
    if call.starts_with("unlink") {
        let name = String::from_utf8(unescape(arguments.split('"').nth(1)?)).unwrap();
        let file = PathBuf::from(name);
        return file.starts_with(folder).then_some(Call::Remove { file });
    }
    let (number, rest) = arguments.split_once('<')?;
    let (name, rest) = rest.split_once('>')?;
    let name = String::from_utf8_lossy(&unescape(name)).into_owned();
    // The folder itself is synced too; its entries are taken to be there.
    let ours = || Some(PathBuf::from(&name)).filter(|file| file.parent() == Some(folder));
    let text = || rest.split('"').nth(1).map(unescape);
    match call {
        "write" if number == "1" => {
            let said = String::from_utf8_lossy(&text()?).into_owned();
            let number = |word: &str| said.split_once(word)?.1.trim().parse().ok();
            number("committed ").map(Call::Committed).or(number("freeing ").map(Call::Freeing))
        }
        "pwrite64" => {
            let bytes = text()?;
            assert_eq!(bytes.len(), result, "a short write: {line:.80}");
            let at = rest.rsplit(", ").next()?.parse().ok()?;
            Some(Call::Write { file: ours()?, at, bytes })
        }
        // Only the lock file is written so, and always as a whole.
        "write" => Some(Call::Write { file: ours()?, at: 0, bytes: text()? }),
        "ftruncate" => {
            let len = rest.rsplit(", ").next()?.parse().ok()?;
            Some(Call::Truncate { file: ours()?, len })
        }
        "fsync" | "fdatasync" if failed => Some(Call::SyncFailed { file: ours()? }),
        "fsync" | "fdatasync" => Some(Call::Sync { file: ours()? }),
        _ => None,
    }
}

fn unescape(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect()
}

/// How a cut treats what was not synced.
#[derive(Debug, Clone, Copy)]
pub enum Unsynced {
    There,
    Gone,
    Torn(u64),
}

/// A file as the disk has it and as the program sees it.
#[derive(Default, Clone)]
struct Content {
    synced: Vec<u8>,
    seen: Vec<u8>,
    /// Pages that the kernel takes for written since a sync that failed.
    lost: BTreeSet<usize>,
}

impl Content {
    fn sync(&mut self) {
        let before = std::mem::replace(&mut self.synced, self.seen.clone());
        for page in &self.lost {
            for at in page * PAGE..self.synced.len().min((page + 1) * PAGE) {
                self.synced[at] = before.get(at).copied().unwrap_or(0);
            }
        }
    }

    fn fail_to_sync(&mut self) {
        let differs = |page: &usize| {
            let range = |bytes: &[u8]| {
                bytes[bytes.len().min(page * PAGE)..bytes.len().min((page + 1) * PAGE)].to_vec()
            };
            range(&self.seen) != range(&self.synced)
        };
        self.lost.extend((0..self.seen.len().div_ceil(PAGE)).filter(differs));
    }

    fn after(&self, unsynced: Unsynced) -> Vec<u8> {
        match unsynced {
            Unsynced::There => self.seen.clone(),
            Unsynced::Gone => self.synced.clone(),
            Unsynced::Torn(seed) => {
                let mut dice = seed | 1;
                let mut keep = || {
                    // xorshift64 (Marsaglia 2003).
                    dice ^= dice << 13;
                    dice ^= dice >> 7;
                    dice ^= dice << 17;
                    !dice.is_multiple_of(5)
                };
                let len = if keep() { self.seen.len() } else { self.synced.len() };
                let mut torn = vec![0; len];
                for (sector, bytes) in torn.chunks_mut(SECTOR).enumerate() {
                    let from = if keep() { &self.seen } else { &self.synced };
                    for (at, byte) in bytes.iter_mut().enumerate() {
                        // Where a shorter length did not reach the disk, what stood there stands.
                        let at = sector * SECTOR + at;
                        let there = from.get(at).or_else(|| self.synced.get(at));
                        *byte = there.copied().unwrap_or(0);
                    }
                }
                torn
            }
        }
    }
}

/// What the disk holds and what was promised after some calls.
#[derive(Default, Clone)]
pub struct World {
    files: BTreeMap<PathBuf, Content>,
    pub committed: i64,
    freeing: i64,
}

impl World {
    /// Takes a call; returns whether it changed what a cut would leave.
    pub fn take(&mut self, call: &Call) -> bool {
        match call {
            Call::Write { file, at, bytes } => {
                let Content { seen, lost, .. } = self.files.entry(file.clone()).or_default();
                let end = at + bytes.len();
                lost.retain(|page| end <= page * PAGE || (page + 1) * PAGE <= *at);
                seen.resize(seen.len().max(end), 0);
                seen[*at..end].copy_from_slice(bytes);
            }
            Call::Truncate { file, len } => {
                let Content { seen, lost, .. } = self.files.entry(file.clone()).or_default();
                seen.resize(*len, 0);
                lost.retain(|page| page * PAGE < *len);
            }
            Call::Sync { file } => {
                self.files.entry(file.clone()).or_default().sync();
            }
            Call::SyncFailed { file } => {
                self.files.entry(file.clone()).or_default().fail_to_sync();
            }
            Call::Remove { file } => {
                self.files.remove(file);
            }
            Call::Committed(number) => self.committed = *number,
            Call::Freeing(number) => self.freeing = *number,
        }
        !matches!(call, Call::Committed(_) | Call::Freeing(_))
    }

    pub fn rebuild(&self, from: &Path, into: &Path, unsynced: Unsynced) {
        for (file, content) in &self.files {
            // The index of the log lives in shared memory and dies with the power.
            if file.extension().is_some_and(|e| e == "db-shm") {
                continue;
            }
            let name = file.strip_prefix(from).unwrap();
            std::fs::write(into.join(name), content.after(unsynced)).unwrap();
        }
    }
}

/// Opens what a cut left and compares it with what was promised.
pub fn verify(world: &World, folder: &Path, what: &str) {
    let points = Arc::new(Points::default());
    let (store, thread) = open(&folder.join("buffer.db"), &points);
    let found = held(&store);
    let numbers: Vec<i64> = found.values().flat_map(|(_, numbers)| numbers.clone()).collect();
    let first = numbers.first().copied().unwrap_or(world.freeing.max(world.committed) + 1);
    let last = numbers.last().copied().unwrap_or(first - 1);
    assert!(last >= world.committed, "{what}: {last} of {} committed", world.committed);
    assert!(first <= world.freeing + 1, "{what}: begins at {first}, {} freed", world.freeing);
    assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "{what}");
    let seqs: Vec<u64> = found.keys().copied().collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: holes in {seqs:?}");
    assert_eq!(thread.close(), 0, "{what}");
    let aside = folder.join("buffer.db.damaged-1");
    assert!(!aside.exists(), "{what}: a cut was taken for damage");
}

#[test]
fn a_power_cut_at_any_write_or_sync_costs_nothing_that_was_committed() {
    let recorded = tempfile::tempdir().unwrap();
    let calls = record(recorded.path());
    let committed = calls.iter().filter(|call| matches!(call, Call::Committed(_))).count();
    assert_eq!(i64::try_from(committed), Ok(COMMITS), "the record is not whole");
    let syncs = calls.iter().filter(|call| matches!(call, Call::Sync { .. })).count();
    assert!(syncs > committed, "commits that were not synced: {syncs} syncs");
    let cuts = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for part in 0..threads {
            let (calls, cuts, from) = (&calls, &cuts, recorded.path());
            scope.spawn(move || {
                let mut world = World::default();
                for (n, call) in calls.iter().enumerate() {
                    if !world.take(call) || n % threads != part {
                        continue;
                    }
                    let unsynced = match cuts.fetch_add(1, Ordering::Relaxed) % 3 {
                        0 => Unsynced::There,
                        1 => Unsynced::Gone,
                        _ => Unsynced::Torn((n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                    };
                    let cut = tempfile::tempdir_in("/dev/shm").unwrap();
                    world.rebuild(from, cut.path(), unsynced);
                    verify(&world, cut.path(), &format!("cut after call {n}, {unsynced:?}"));
                }
            });
        }
    });
    println!("{} cuts, {syncs} syncs, {COMMITS} commits", cuts.into_inner());
}
