//! What the store says. Codes FG-Bnn.

use std::path::Path;

use super::{Code, Notice, counted};

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
    &SALVAGED,
    &LOG_LOST,
    &LOG_TORN,
    &SALVAGE_STUCK,
    &NOT_EXPORTED,
];

/// The disk does not take readings.
pub static REFUSED: Code = Code {
    id: "FG-B01",
    title: "the disk refuses readings",
    about: "A commit failed, so new readings are not on disk. The gateway keeps them in memory \
            (200,000 readings at most), tries again after 1 s and then ever more slowly up to every \
            20 s, and goes on by itself when the disk takes them; nothing is written twice. A power \
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
            file whose checksums hold come back by themselves, in the background (FG-B10). Check the \
            medium: damage seldom comes alone.",
};

/// A quota drops batches.
pub static DROPPING: Code = Code {
    id: "FG-B03",
    title: "the buffer drops its oldest readings",
    about: "The buffer reached its size or its age limit, or its disk has less than `free` left, so the oldest batches are dropped to make \
            room: data first, the gateway's own metrics next, events last. The count of dropped \
            readings is exact and goes out with every later batch. Bring the uplink back, or raise \
            `max` or `keep` in the `buffer` table, or make room on the disk.",
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
    about: "The gateway cannot create or read its buffer, for a reason that does not pass by itself: \
            its folder or file belongs to another user, or its path names something that is no \
            buffer. So it does not start, and systemd does not try again (exit 78). A disk that is \
            full, read-only or not mounted yet keeps nobody from starting: readings wait in memory \
            until it is there (FG-B01).",
};

/// Readings came back from a damaged store.
pub static SALVAGED: Code = Code {
    id: "FG-B10",
    title: "readings came back from a damaged buffer",
    about: "What could be read in a buffer that was moved aside was put back: sealed batches under the \
            key they always had, so that a receiver which has one already knows it, and committed \
            readings that were in no batch yet in new ones. The damaged file stays as it is, beside a \
            small file `.salvaged` that says it is done; both may be deleted by hand once nothing in \
            them is missed. `fieldgate buffer export --damaged` writes its batches to a file.",
};

/// The log lacks committed transactions.
pub static LOG_LOST: Code = Code {
    id: "FG-B11",
    title: "the buffer's log is lost, damaged or another one's",
    about: "The last commits stand in the file `-wal` beside the buffer. It is missing, damaged before \
            its end, or does not belong to this buffer, so commits are lost that batches may have \
            been sent from. Going on would give their sequence numbers a second time, and receivers \
            would take the new batches for repeats. So the buffer is moved aside like any damaged \
            one, a new epoch begins, and everything readable comes back (FG-B02, FG-B10). Never copy \
            or delete the buffer without the files beside it.",
};

/// The log's last transaction is not whole.
pub static LOG_TORN: Code = Code {
    id: "FG-B12",
    title: "the buffer's log ended in the middle of a commit",
    about: "The last transaction in the buffer's log is not whole. After a power cut that is the \
            commit which was under way: it had not been reported as done, nothing of it was sent, and \
            at most the time named by `commit` is lost. Without a power cut it means that the medium \
            lost something it had confirmed.",
};

/// A damaged store cannot be read at all.
pub static SALVAGE_STUCK: Code = Code {
    id: "FG-B13",
    title: "a damaged buffer cannot be read for salvage",
    about: "The file of a buffer that was moved aside cannot even be opened, so nothing of it comes \
            back for now. The next start tries again; `fieldgate buffer repair` does it at once, and \
            a copy of the file made on another machine can be given to `fieldgate buffer export`.",
};

/// An export cannot be written.
pub static NOT_EXPORTED: Code = Code {
    id: "FG-B14",
    title: "the export cannot be written",
    about: "`fieldgate buffer export` makes a new file and never writes over one that is there. The \
            buffer itself is only read. Choose another name or folder, with room for as many bytes \
            as `fieldgate buffer status` shows.",
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
        .likely("the disk that belongs there is not mounted yet")
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

/// What could be read in the damaged store at `aside` is back: so many batches and readings. Not back
/// are at most `missing` batches and `left` rows of unsealed readings.
#[must_use]
pub fn salvaged(
    aside: &Path,
    (batches, readings): (u64, u64),
    (missing, left): (u64, u64),
) -> Notice {
    let what = format!("gave back {readings} readings, {batches} batches among them");
    let mut notice = Notice::warning(&SALVAGED, subject(aside), what);
    if (missing, left) == (0, 0) {
        return notice.seen("Nothing that it says it held is missing.");
    }
    if missing > 0 {
        let batches = counted(missing, "batch");
        notice = notice.seen(format!("{batches} that it says it held, at most, cannot be read."));
    }
    if left > 0 {
        let rows = counted(left, "row");
        let why = "damaged, or perhaps in a batch that was sent";
        notice = notice.seen(format!("{rows} of unsealed readings stay where they are: {why}."));
    }
    notice.likely("see FG-B02 for what damages a buffer").try_next("fieldgate buffer status")
}

/// The log at `path` lacks commits; `why` completes "its log".
#[must_use]
pub fn log_lost(path: &Path, why: &str) -> Notice {
    Notice::error(&LOG_LOST, subject(path), format!("cannot go on: its log {why}"))
        .seen("Committed readings may be missing, and their sequence numbers must not come again.")
        .likely("the buffer was copied or restored without the files beside it")
        .likely("a card that loses what it confirmed")
        .try_next("fieldgate buffer status")
}

/// The log of `path` ends in a commit that is not whole.
#[must_use]
pub fn log_torn(path: &Path) -> Notice {
    Notice::warning(&LOG_TORN, subject(path), "lost the commit that was under way at the end")
        .seen("Nothing of it had been reported as kept or sent.")
        .likely("the power was cut")
        .likely("without a power cut: a card that loses what it confirmed")
        .try_next("fieldgate buffer check")
}

/// The damaged store at `aside` cannot be opened; `words` say why.
#[must_use]
pub fn salvage_stuck(aside: &Path, words: &str) -> Notice {
    Notice::error(&SALVAGE_STUCK, subject(aside), format!("cannot be opened for salvage: {words}"))
        .likely("the file belongs to another user")
        .likely("the card or disk is failing")
        .try_next("fieldgate buffer repair")
}

/// The export cannot be written to `to`.
#[must_use]
pub fn not_exported(to: &Path, kind: std::io::ErrorKind) -> Notice {
    use std::io::ErrorKind;
    let (what, likely) = match kind {
        ErrorKind::AlreadyExists => ("is there already", "it was exported before"),
        ErrorKind::StorageFull => ("does not fit on the disk", "it is the disk that filled up"),
        ErrorKind::ReadOnlyFilesystem => {
            ("is on a read-only file system", "it was remounted read-only after an error")
        }
        ErrorKind::PermissionDenied => {
            ("may not be written by this user", "the folder belongs to another user")
        }
        ErrorKind::NotFound => ("names a folder that does not exist", "a typing error"),
        _ => ("cannot be written", "the disk is failing, or was taken out"),
    };
    Notice::error(&NOT_EXPORTED, format!("export {}", to.display()), what)
        .likely(likely)
        .try_next("another FILE, or - for standard output")
}

/// A quota dropped batches, the first of them with `readings`.
#[must_use]
pub fn dropping(path: &Path, readings: u64) -> Notice {
    Notice::error(&DROPPING, subject(path), format!("is full, {readings} readings were dropped"))
        .seen("The oldest go first, events last; the count goes out with every later batch.")
        .likely("the uplink has been away for longer than the buffer lasts")
        .likely("`max` or `keep` is too small for this many readings")
        .likely("something else has filled the disk up to `free`")
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

/// SQLite cannot read it.
#[must_use]
pub fn unreadable(path: &Path) -> Notice {
    Notice::error(&UNUSABLE, subject(path), "cannot be read: what is stored there is damaged")
        .seen("The daemon moves it aside at its next start, and what is sound comes back.")
        .likely("a power cut on a medium that does not keep what it promised to have written")
        .likely("a worn-out card")
        .likely("it is no buffer at all")
        .try_next(format!("fieldgate buffer export FILE --damaged {}", path.display()))
}

/// The disk has no room to open it.
#[must_use]
pub fn no_room(path: &Path) -> Notice {
    Notice::error(&UNUSABLE, subject(path), "cannot be opened: the disk is full")
        .likely("another program filled the disk, or its quota is used up")
        .likely("the disk that belongs there is not mounted yet")
        .try_next("df on its folder, and make room")
}

/// There is no buffer of that number that was moved aside.
#[must_use]
pub fn not_aside(path: &Path) -> Notice {
    Notice::error(&UNUSABLE, subject(path), "does not exist")
        .likely("no buffer was moved aside, or it has another number")
        .try_next("fieldgate buffer status")
}

/// The disk does not let us open it; `words` say why.
#[must_use]
pub fn unusable(path: &Path, words: &str) -> Notice {
    Notice::error(&UNUSABLE, subject(path), format!("cannot be opened: {words}"))
        .likely(
            "the folder, or a file in it, belongs to another user: fieldgate was once run by root",
        )
        .likely("`path` in the `buffer` table has a typing error")
        .try_next("sudo ls -la on the folder: all of it should belong to fieldgate")
        .try_next(format!(
            "sudo chown fieldgate: {}*; sudo systemctl restart fieldgate",
            path.display()
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salvage_says_what_is_back_and_what_is_not() {
        let said = |lost| salvaged(Path::new("b.damaged-1"), (2, 70), lost).to_string();
        let whole = said((0, 0));
        assert!(whole.contains("gave back 70 readings, 2 batches"), "{whole}");
        assert!(whole.contains("Nothing that it says it held is missing."), "{whole}");
        assert!(said((1, 0)).contains("1 batch that it says it held, at most, cannot be read."));
        let left = said((0, 3));
        assert!(left.contains("3 rows of unsealed readings stay where they are"), "{left}");
        assert!(!left.contains("Nothing") && !left.contains("batches that"), "{left}");
    }
}
