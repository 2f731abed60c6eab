//! The rules folder, beside the buffer: every version's file, and the ledger of what runs.
//!
//! ```text
//! rules/ledger.json                                  what is live, on trial, last good
//! rules/deadband/1.2.0-0123456789abcdef/rule.wasm    a version, whole or not there
//! rules/deadband/1.2.0-0123456789abcdef/rule.wasm.minisig
//! ```
//! **What a power cut leaves.** A version is written into a folder whose name begins with `.new-`,
//! each file synced, then the folder; it is renamed, and the rename synced. Only then may the ledger
//! name it, which is written and renamed in the same way. So before the last rename everything is as
//! it was, after it everything is as it shall be, and what was begun is swept out at the next start.
//!
//! **What rot leaves.** A file is read against its digest. One that does not fit is as good as gone:
//! whoever starts a rule takes the next in the order live, last good, configured file. A ledger that
//! cannot be read is moved aside, and the configured files run.
//!
//! **Room.** Versions that nothing names are kept until the quota needs their place, oldest first.
//! What is live, on trial or last good is never removed; what then has no room is refused.

mod ledger;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::events::{Notice, push as say};
use crate::limits;

pub use ledger::{Edition, End, Ended, Ledger, Post, is_digest};

const LEDGER: &str = "ledger.json";
const PENDING: &str = ".new-";
/// The file of a version.
const RULE: &str = "rule.wasm";
/// Its signature.
const SIGNATURE: &str = "rule.wasm.minisig";

/// The open folder. One daemon has it, since one daemon has the buffer beside it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    ledger: Ledger,
    bytes_max: u64,
    #[cfg(test)]
    power: tests::Power,
}

/// What is kept of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The rule's file.
    pub file: Vec<u8>,
    /// Its signature, as it came.
    pub signature: Option<String>,
}

/// A version on disk that nothing may need.
struct Old {
    path: PathBuf,
    bytes: u64,
    since: SystemTime,
    needed: bool,
}

impl Folder {
    /// Opens the folder at `path`, making it when there is none, and sweeps out what a power cut left.
    /// The second part says what was wrong with it, if anything; it can be used all the same.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(path: &Path) -> Result<(Self, Option<Notice>), Box<Notice>> {
        let refused = |e: io::Error| Box::new(say::folder_refuses(path, e.kind()));
        fs::create_dir_all(path).map_err(refused)?;
        let mut this = Self {
            path: path.to_owned(),
            ledger: Ledger::default(),
            bytes_max: limits::RULES_FOLDER_BYTES_MAX,
            #[cfg(test)]
            power: tests::Power::default(),
        };
        this.sweep().map_err(refused)?;
        let at = path.join(LEDGER);
        let read = match fs::read(&at) {
            Ok(bytes) if bytes.len() <= limits::RULES_LEDGER_BYTES_MAX => {
                String::from_utf8(bytes).ok().and_then(|text| Ledger::of_text(&text))
            }
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((this, None)),
            Err(e) => return Err(refused(e)),
        };
        let Some(ledger) = read else {
            let aside = path.join("ledger.damaged");
            fs::rename(&at, &aside).map_err(refused)?;
            return Ok((this, Some(say::ledger_damaged(&aside))));
        };
        this.ledger = ledger;
        Ok((this, None))
    }

    /// Returns what runs.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes what runs, on disk first: either all of the change holds afterwards or nothing.
    ///
    /// # Errors
    /// When the disk refuses; then nothing has changed.
    pub fn change(&mut self, change: impl FnOnce(&mut Ledger)) -> Result<(), Box<Notice>> {
        let mut next = self.ledger.clone();
        change(&mut next);
        if next == self.ledger {
            return Ok(());
        }
        self.write_ledger(&next).map_err(|e| self.refuses(&e))?;
        self.ledger = next;
        Ok(())
    }

    /// Keeps a version's file; one that is there already is left as it is. Nothing runs it before the
    /// ledger says so.
    ///
    /// # Errors
    /// When the disk refuses, or there is no room beside what is needed.
    pub fn keep(
        &mut self,
        edition: &Edition,
        file: &[u8],
        signature: Option<&str>,
    ) -> Result<(), Box<Notice>> {
        if let Some(held) = self.read(edition)
            && held.signature.as_deref() == signature
        {
            return Ok(());
        }
        let bytes = (file.len() + signature.map_or(0, str::len)) as u64;
        self.make_room(bytes).map_err(|e| self.refuses(&e))?;
        self.write(edition, file, signature).map_err(|e| self.refuses(&e))
    }

    /// Reads a version; `None` when it is not there, or not what it was.
    #[must_use]
    pub fn read(&self, edition: &Edition) -> Option<Held> {
        let folder = self.place(edition);
        let file = read_at_most(&folder.join(RULE), limits::RULE_FILE_BYTES_MAX)?;
        if digest(&file) != edition.digest {
            return None;
        }
        let signature = read_at_most(&folder.join(SIGNATURE), limits::SIGNATURE_BYTES_MAX);
        let signature = signature.and_then(|bytes| String::from_utf8(bytes).ok());
        Some(Held { file, signature })
    }

    /// Returns every version that is kept, whole or not, as far as names tell: rule, version, path.
    #[must_use]
    pub fn versions(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (name, path) in entries(&self.path) {
            all.extend(entries(&path).into_iter().map(|(version, _)| (name.clone(), version)));
        }
        all.sort();
        all
    }

    fn place(&self, edition: &Edition) -> PathBuf {
        self.path.join(&edition.name).join(edition.folder())
    }

    fn write(&self, edition: &Edition, file: &[u8], signature: Option<&str>) -> io::Result<()> {
        let of_rule = self.path.join(&edition.name);
        if !of_rule.is_dir() {
            self.step()?;
            fs::create_dir(&of_rule)?;
            self.sync(&self.path)?;
        }
        let pending = of_rule.join(format!("{PENDING}{}", edition.folder()));
        let _ = fs::remove_dir_all(&pending);
        self.step()?;
        fs::create_dir(&pending)?;
        self.write_file(&pending.join(RULE), file)?;
        if let Some(signature) = signature {
            self.write_file(&pending.join(SIGNATURE), signature.as_bytes())?;
        }
        self.sync(&pending)?;
        let place = self.place(edition);
        if place.exists() {
            // Damaged, or with another signature. A rename does not replace a folder with files.
            self.step()?;
            fs::remove_dir_all(&place)?;
        }
        self.step()?;
        fs::rename(&pending, &place)?;
        self.sync(&of_rule)
    }

    fn write_ledger(&self, ledger: &Ledger) -> io::Result<()> {
        let pending = self.path.join(format!("{PENDING}{LEDGER}"));
        self.write_file(&pending, ledger.to_text().as_bytes())?;
        self.step()?;
        fs::rename(&pending, self.path.join(LEDGER))?;
        self.sync(&self.path)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        let mut file = File::create(path)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        self.step()?;
        file.write_all(second)?;
        self.step()?;
        file.sync_all()
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        self.step()?;
        File::open(folder)?.sync_all()
    }

    /// Where tests cut the power.
    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "for tests")
    )]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        self.power.step()?;
        Ok(())
    }

    /// Removes what was begun and never finished.
    fn sweep(&self) -> io::Result<()> {
        let begun = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PENDING))
        };
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if begun(&path) {
                remove(&path)?;
                continue;
            }
            for (_, path) in entries(&path) {
                if begun(&path) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut all = self.all();
        all.sort_by_key(|old| old.since);
        let mut taken: u64 = all.iter().map(|old| old.bytes).sum();
        for old in all.iter().filter(|old| !old.needed) {
            if taken + bytes <= self.bytes_max {
                break;
            }
            self.step()?;
            fs::remove_dir_all(&old.path)?;
            taken -= old.bytes;
        }
        if taken + bytes <= self.bytes_max {
            return Ok(());
        }
        Err(io::ErrorKind::QuotaExceeded.into())
    }

    fn all(&self) -> Vec<Old> {
        let needed: Vec<_> =
            self.ledger.posts.values().flat_map(Post::editions).map(|e| self.place(e)).collect();
        let mut all = Vec::new();
        for (_, rule) in entries(&self.path) {
            // What somebody else keeps in a folder of this name is theirs.
            for (_, path) in entries(&rule).into_iter().filter(|(_, p)| p.join(RULE).is_file()) {
                let size = |name| fs::metadata(path.join(name)).map_or(0, |found| found.len());
                let bytes = size(RULE) + size(SIGNATURE);
                let since = fs::metadata(path.join(RULE)).and_then(|found| found.modified());
                let since = since.unwrap_or(SystemTime::UNIX_EPOCH);
                all.push(Old { bytes, since, needed: needed.contains(&path), path });
            }
        }
        all
    }

    fn refuses(&self, error: &io::Error) -> Box<Notice> {
        Box::new(match error.kind() {
            io::ErrorKind::QuotaExceeded => say::folder_full(&self.path, self.bytes_max),
            kind => say::folder_refuses(&self.path, kind),
        })
    }
}

/// Hex SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Folders in a folder, with their names; none when it cannot be read or is a file.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let named = paths.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((name, path))
    });
    named.collect()
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Reads a file; `None` when it cannot be, or is larger.
fn read_at_most(path: &Path, bytes_max: usize) -> Option<Vec<u8>> {
    let size = usize::try_from(fs::metadata(path).ok()?.len()).ok()?;
    if size > bytes_max {
        return None;
    }
    fs::read(path).ok().filter(|bytes| bytes.len() <= bytes_max)
}

/// Reads the signature that stands beside a file, if there is one.
#[must_use]
pub fn signature_of(file: &Path) -> Option<String> {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    let bytes = read_at_most(Path::new(&name), limits::SIGNATURE_BYTES_MAX)?;
    String::from_utf8(bytes).ok()
}
