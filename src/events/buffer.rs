//! What the store says. Codes FG-Bnn.

use std::path::Path;

use super::{Code, Notice};

/// This room's codes.
pub const CODES: &[&Code] = &[
    &REFUSED,
    &SET_ASIDE,
    &DROPPING,
    &ROWS_DAMAGED,
    &OVERFLOW,
    &HELD,
    &NEWER,
    &FOREIGN,
    &UNUSABLE,
];

/// The disk does not take readings.
pub static REFUSED: Code = Code {
    id: "FG-B01",
    title: "the disk refuses readings",
    about: "A commit failed, so new readings are not on disk. The gateway keeps them in memory \
            (200,000 readings at most), tries again after 1 s and then ever more slowly up to every \
            30 s, and goes on by itself when the disk takes them; nothing is written twice. A power \
            cut in this state costs what waits in memory. Make room, remount the file system for \
            writing, or replace the card.",
};

/// A store was moved aside.
pub static SET_ASIDE: Code = Code {
    id: "FG-B02",
    title: "a damaged buffer was moved aside",
    about: "The buffer file could not be read as a database. The gateway moved it aside under a \
            numbered name together with its log, deleted nothing, and went on with a new, empty \
            buffer of a new epoch, so that receivers can tell the two apart. Readings in the damaged \
            file that were not acknowledged are not sent by themselves. Keep the file for salvage, \
            and check the medium: damage seldom comes alone.",
};

/// A quota drops batches.
pub static DROPPING: Code = Code {
    id: "FG-B03",
    title: "the buffer drops its oldest readings",
    about: "The buffer reached its size or its age limit, so the oldest batches are dropped to make \
            room: data first, the gateway's own metrics next, events last. The count of dropped \
            readings is exact and goes out with every later batch. Bring the uplink back, or raise \
            `max` or `keep` in the `buffer` table.",
};

/// Rows were set aside.
pub static ROWS_DAMAGED: Code = Code {
    id: "FG-B04",
    title: "damaged rows were set aside",
    about: "A checksum over stored readings did not match: the medium changed bytes that SQLite \
            itself does not check. The rows were moved to the table `damaged` of the same file and \
            counted, and everything else goes on. The receiver sees the missing sequence numbers. \
            Check the medium; a second report within weeks means that it is wearing out.",
};

/// Readings were lost before they reached the disk.
pub static OVERFLOW: Code = Code {
    id: "FG-B05",
    title: "readings are lost because the disk refuses",
    about: "The disk has refused readings for so long that the memory for them is full. The oldest \
            waiting readings are dropped, data first, and counted exactly; the count is written with \
            the first commit that succeeds and goes out with every later batch. See FG-B01 for what \
            to do about the disk.",
};

/// Another daemon has the store.
pub static HELD: Code = Code {
    id: "FG-B06",
    title: "another daemon uses this buffer",
    about: "A buffer has one daemon: two would give the same sequence numbers to different batches. \
            The lock belongs to the running process and ends with it, so a crash never leaves it \
            behind. Stop the other daemon, or give this one a `path` of its own.",
};

/// The store is from the future.
pub static NEWER: Code = Code {
    id: "FG-B07",
    title: "the buffer was written by a later version",
    about: "The tables of the buffer have a layout that this version does not know, so it is left \
            untouched rather than damaged. Install the later version again and let it empty the \
            buffer before going back, or give this version another `path`.",
};

/// The file belongs to another program.
pub static FOREIGN: Code = Code {
    id: "FG-B08",
    title: "the buffer's path names another program's database",
    about: "The file is a sound SQLite database, but not one that fieldgate made. It is left \
            untouched. The usual cause is a wrong `path` in the `buffer` table.",
};

/// The store cannot be opened.
pub static UNUSABLE: Code = Code {
    id: "FG-B09",
    title: "the buffer cannot be opened",
    about: "The gateway cannot create or read its buffer, and without one it could not keep a single \
            reading safe, so it does not start. systemd starts it again after a pause, which helps \
            when a disk is mounted late. Otherwise check that the folder exists, belongs to the \
            user that fieldgate runs as, and has room.",
};

/// Returns how notices call the store.
#[must_use]
pub fn subject(path: &Path) -> String {
    format!("buffer {}", path.display())
}

/// The disk does not take readings; `words` say why.
#[must_use]
pub fn refused(path: &Path, words: &str) -> Notice {
    Notice::error(&REFUSED, subject(path), format!("cannot be written: {words}"))
        .seen("New readings wait in memory and are written as soon as it goes again.")
        .likely("the file system is full or its quota is used up")
        .likely("it was remounted read-only after an error")
        .likely("the card or disk is failing")
        .try_next("fieldgate buffer status")
}

/// The store at `path` was damaged and stands at `aside` now.
#[must_use]
pub fn set_aside(path: &Path, aside: &Path) -> Notice {
    Notice::error(&SET_ASIDE, subject(path), "could not be read as a database")
        .seen(format!("It was moved to {} and a new buffer begins.", aside.display()))
        .likely("a power cut on a medium that does not keep what it promised to have written")
        .likely("a worn-out card")
        .likely("another program wrote into the file")
        .try_next("fieldgate buffer status")
}

/// A quota dropped batches, the first of them with `readings`.
#[must_use]
pub fn dropping(path: &Path, readings: u64) -> Notice {
    Notice::error(&DROPPING, subject(path), format!("is full, {readings} readings were dropped"))
        .seen("The oldest go first, events last; the count goes out with every later batch.")
        .likely("the uplink has been away for longer than the buffer lasts")
        .likely("`max` or `keep` is too small for this many readings")
        .try_next("fieldgate buffer status")
}

/// Rows of `what` failed their checksum.
#[must_use]
pub fn rows_damaged(path: &Path, what: &str, rows: u64) -> Notice {
    let seen = format!("had {rows} damaged rows of {what}, which were set aside");
    Notice::error(&ROWS_DAMAGED, subject(path), seen)
        .seen("Their checksum did not match; all other rows are in order and are sent.")
        .likely("a card or disk that loses bits")
        .try_next("fieldgate buffer status")
}

/// Readings were dropped from memory.
#[must_use]
pub fn overflow(path: &Path) -> Notice {
    Notice::error(&OVERFLOW, subject(path), "has refused so long that readings are being lost")
        .seen("The oldest waiting readings go first, and every one is counted.")
        .likely("see FG-B01 for what is wrong with the disk")
        .try_next("fieldgate buffer status")
}

/// Another process holds the lock.
#[must_use]
pub fn held(path: &Path, pid: Option<u32>) -> Notice {
    let by = pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"));
    Notice::error(&HELD, subject(path), format!("is in use by {by}"))
        .likely("the fieldgate service is running")
        .likely("a `fieldgate run` in another terminal")
        .try_next("systemctl stop fieldgate, or another `path` in the `buffer` table")
}

/// A later version wrote the store.
#[must_use]
pub fn newer(path: &Path, version: i64) -> Notice {
    Notice::error(&NEWER, subject(path), format!("has layout {version}, later than this version's"))
        .seen("Nothing in it was changed.")
        .likely("fieldgate was replaced by an older version")
        .try_next("install the later version again, or set another `path`")
}

/// The file is someone else's.
#[must_use]
pub fn foreign(path: &Path) -> Notice {
    Notice::error(&FOREIGN, subject(path), "belongs to another program")
        .seen("Nothing in it was changed.")
        .likely("`path` in the `buffer` table names the wrong file")
        .try_next("fieldgate config show")
}

/// There is no store where one was looked for.
#[must_use]
pub fn missing(path: &Path) -> Notice {
    Notice::error(&UNUSABLE, subject(path), "does not exist")
        .likely("the daemon has not run yet")
        .likely("`path` in the `buffer` table names another place")
        .try_next("fieldgate config show")
}

/// The disk does not let us open it; `words` say why.
#[must_use]
pub fn unusable(path: &Path, words: &str) -> Notice {
    Notice::error(&UNUSABLE, subject(path), format!("cannot be opened: {words}"))
        .likely("the folder belongs to another user")
        .likely("the disk is full or not mounted yet")
        .try_next("ls -ld on the folder, and df on the disk")
}
