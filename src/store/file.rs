//! The files around the database: the lock that keeps a second daemon out and remembers the epoch,
//! and damaged stores that are moved aside. A damaged database moves together with its log: a log
//! alone, or a database without its log, is worth nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::backoff::random;
use crate::clock::{Clock, EARLIEST_PLAUSIBLE};
use crate::limits;
use crate::store::schema;
use crate::store::trouble::{OpenError, Trouble};

/// Keeps other daemons away while it is held; the kernel lets go of it with the process. It is let go
/// of, and taken again, when the disk goes: a file that stays open would keep a sick file system from
/// being unmounted and checked, and would lock one that is no longer there.
pub(super) struct Lock {
    /// `None` while it is not held.
    file: Option<File>,
    /// Highest epoch that any store at this path ever had.
    epoch: u64,
    /// The highest one before the present.
    epoch_before: u64,
    /// An ordinal that was on disk before it was noted here, in the present epoch.
    reached: u64,
    /// Whether this process has held it before, and someone else since.
    was_held: bool,
    was_lent: bool,
}

impl Lock {
    /// Reads what stands beside `path`, as far as it can be read, and takes nothing.
    pub(super) fn of(path: &Path) -> Self {
        let text = File::open(beside(path, "lock")).map(|file| read(&file)).unwrap_or_default();
        let epoch = field(&text, "epoch").unwrap_or(0);
        let reached = field(&text, "reached").unwrap_or(0);
        Self { file: None, epoch, epoch_before: epoch, reached, was_held: false, was_lent: false }
    }

    /// Takes the lock beside `path`, unless it is held already.
    pub(super) fn take(&mut self, path: &Path) -> Result<(), OpenError> {
        if self.file.is_some() {
            return Ok(());
        }
        let refuse = |error: io::Error| OpenError::unusable(path, Trouble::of_io(&error));
        if path.is_dir() {
            return Err(OpenError::unusable(path, Trouble::Folder));
        }
        if let Some(folder) = path.parent() {
            // Both a file in its place and a link to what is not mounted "exist already".
            fs::create_dir_all(folder).map_err(|error| match fs::metadata(folder) {
                Ok(_) => OpenError::unusable(path, Trouble::NoFolder),
                Err(_) => refuse(error),
            })?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(beside(path, "lock")).map_err(refuse)?;
        let locked = file.try_lock();
        let text = read(&file);
        let pid: Option<u32> = field(&text, "pid").and_then(|pid| pid.try_into().ok());
        match locked {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Held { path: path.into(), pid });
            }
            Err(fs::TryLockError::Error(error)) => return Err(refuse(error)),
        }
        self.was_lent |= self.was_held && pid != Some(std::process::id());
        self.was_held = true;
        let epoch = field(&text, "epoch").unwrap_or(0);
        let reached = field(&text, "reached").unwrap_or(0);
        if epoch > self.epoch {
            (self.epoch_before, self.epoch) = (epoch, epoch);
            self.reached = reached;
        } else if epoch == self.epoch {
            self.reached = self.reached.max(reached);
        }
        self.file = Some(file);
        self.write().map_err(refuse)
    }

    /// Lets go of it until it is taken again.
    pub(super) fn let_go(&mut self) {
        self.file = None;
    }

    /// Returns whether another process may have worked on the store since this was asked last.
    pub(super) fn was_lent(&mut self) -> bool {
        std::mem::take(&mut self.was_lent)
    }

    /// Returns the highest epoch that any store at this path ever had; 0 when there was none.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the epoch before it.
    pub(super) fn epoch_before(&self) -> u64 {
        self.epoch_before
    }

    /// Notes an epoch before it is used for the first time.
    pub(super) fn remember(&mut self, epoch: u64) -> io::Result<()> {
        if epoch > self.epoch {
            self.epoch_before = self.epoch;
            self.epoch = epoch;
            self.reached = 0;
        }
        self.write()?;
        self.file.as_ref().map_or(Ok(()), File::sync_all)
    }

    /// Notes the epoch of a store that was there before this lock.
    pub(super) fn remember_if_new(&mut self, epoch: u64) -> io::Result<()> {
        if epoch > self.epoch { self.remember(epoch) } else { Ok(()) }
    }

    /// Returns an ordinal that the store had reached; one that has not is an older copy, or lacks
    /// its log.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    /// Notes an ordinal that is on disk.
    pub(super) fn reach(&mut self, ordinal: u64) -> io::Result<()> {
        self.reached = ordinal;
        self.write()
    }

    /// Numbers have a fixed width, so that writing over them never leaves half of one.
    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        let (pid, reached) = (std::process::id(), self.reached);
        let line = format!("epoch {:020} pid {pid:010} reached {reached:020}\n", self.epoch);
        file.write_all(line.as_bytes())
    }

    /// Returns an epoch that no store at this path had before: the time, or one more than the
    /// highest. A board that does not know the time takes a moment of the years before this
    /// program was written, at random, since it cannot know what it used before its disk was lost.
    pub(super) fn next_epoch(&self, path: &Path, clock: &dyn Clock) -> u64 {
        let highest = self.epoch.max(highest_damaged(path));
        let earliest = u64::try_from(EARLIEST_PLAUSIBLE.0 / 1000).unwrap_or(0);
        let believed = if clock.plausible() {
            u64::try_from(clock.now().0 / 1000).unwrap_or(earliest)
        } else if highest == 0 {
            earliest - 1 - random() % (earliest / 8)
        } else {
            0
        };
        believed.max(highest + 1)
    }
}

/// Returns whether a file begins as every SQLite database does (SQLite file format, section 1.3.1).
pub(super) fn begins_as_a_database(path: &Path) -> bool {
    let mut head = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == *b"SQLite format 3\0"
}

/// Reads a lock's text; one that cannot be read is one that is not there.
fn read(mut file: &File) -> String {
    let mut text = String::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.take(limits::LOCK_FILE_BYTES_MAX).read_to_string(&mut text);
    text
}

/// Says why a database cannot be opened for writing where SQLite says only that it cannot; `None`
/// when the files themselves can.
pub(super) fn why_unusable(path: &Path) -> Option<Trouble> {
    ["", "-wal", "-shm"].into_iter().find_map(|end| {
        match OpenOptions::new().read(true).write(true).open(with(path, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Some(Trouble::of_io(&error)),
            _ => None,
        }
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// Returns `path` with something added to its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    with(path, &format!(".{suffix}"))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Moves a damaged store aside under the next free number, log first, so that a crash in between
/// leaves a database that is still damaged and moves at the next start. Nothing is ever deleted.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1;
    while ["", "-wal"].iter().any(|end| with(&damaged(path, number), end).exists()) {
        number += 1;
    }
    let aside = damaged(path, number);
    for end in ["-wal", "-shm", ""] {
        match fs::rename(with(path, end), with(&aside, end)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(aside)
}

/// Returns the damaged stores beside `path`, by number.
pub(super) fn damaged_stores(path: &Path) -> Vec<PathBuf> {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let begin = format!("{}.damaged-", name.to_string_lossy());
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(&begin)?;
        // A log alone may hold everything that is left.
        rest.strip_suffix("-wal").unwrap_or(rest).parse::<u32>().ok()
    };
    let numbers: BTreeSet<u32> = entries.filter_map(number).collect();
    numbers.into_iter().map(|number| damaged(path, number)).collect()
}

/// What stands beside a damaged store about its salvage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub(super) slots_taken: bool,
    pub(super) done: bool,
}

/// Reads the mark of a damaged store.
pub(super) fn salvage_mark(aside: &Path) -> Mark {
    let text = fs::read_to_string(with(aside, ".salvaged")).unwrap_or_default();
    Mark { slots_taken: !text.is_empty(), done: text.contains("done") }
}

/// Leaves a mark beside a damaged store. Where it cannot be written, the table `salvage` still
/// knows.
pub(super) fn mark_salvage(aside: &Path, done: bool) {
    let text = if done { "slots taken, done\n" } else { "slots taken\n" };
    let mark = File::create(with(aside, ".salvaged"));
    let _ =
        mark.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
}

/// Returns the free bytes of the file system, if it says.
pub(super) fn room(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let of = rustix::fs::statvfs(folder.unwrap_or(Path::new("."))).ok()?;
    Some(of.f_bavail.saturating_mul(of.f_frsize))
}

fn damaged(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!("damaged-{number}"))
}

/// Returns the highest epoch that can still be read from stores that were moved aside.
fn highest_damaged(path: &Path) -> u64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    damaged_stores(path)
        .into_iter()
        .filter_map(|aside| Connection::open_with_flags(immutable_uri(&aside), flags).ok())
        .filter_map(|conn| schema::epoch(&conn, 1).ok())
        .max()
        .unwrap_or(0)
}

/// Returns a name that makes SQLite read a file without touching anything beside it.
pub(super) fn immutable_uri(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1")
}

/// Returns where the log of a database stands.
pub(super) fn log(path: &Path) -> PathBuf {
    with(path, "-wal")
}

/// Returns where the index of a log stands.
pub(super) fn log_index(path: &Path) -> PathBuf {
    with(path, "-shm")
}

/// Returns whether a log with something in it stands beside the database.
pub(super) fn has_log(path: &Path) -> bool {
    fs::metadata(with(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Waits until the log on disk is as short as it was made. SQLite does not, because a log that is
/// found again holds what the database has; one whose last pages were lost holds less, and would
/// take the database back to what it was before.
pub(super) fn sync_log(path: &Path) -> io::Result<()> {
    match File::open(with(path, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        log => log?.sync_all(),
    }
}

/// Returns the bytes of the database and its log.
pub(super) fn bytes(path: &Path) -> u64 {
    let of = |end| fs::metadata(with(path, end)).map_or(0, |file| file.len());
    of("") + of("-wal")
}
