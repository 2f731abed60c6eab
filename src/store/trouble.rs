//! What can be wrong with a store, in words. SQLite's and the system's own words never get out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::Exit;
use crate::events::buffer;

/// Why the disk does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No space is left.
    Full,
    /// The file system is mounted read-only, or the file is.
    ReadOnly,
    /// This user may not.
    NotAllowed,
    /// The folder or the file is gone and cannot be made.
    Missing,
    /// A folder stands where the file should.
    Folder,
    /// A file stands where a folder should.
    NoFolder,
    /// No file can have that name.
    Name,
    /// Reading or writing fails: the medium is going, or was taken out.
    Failing,
    /// Another program holds the file.
    Busy,
    /// What stands in the file is not a store, or not a sound one.
    Damaged,
    /// Nothing of these; a defect of ours more likely than one of the disk.
    Odd,
}

impl Trouble {
    /// Sorts SQLite's error.
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        use rusqlite::Error;
        match error {
            Error::SqliteFailure(inner, message) => match inner.code {
                ErrorCode::DiskFull => Self::Full,
                ErrorCode::ReadOnly => Self::ReadOnly,
                ErrorCode::PermissionDenied => Self::NotAllowed,
                ErrorCode::CannotOpen => Self::Missing,
                // The log's index, 32 KiB that SQLite makes at every open, found no room.
                _ if inner.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
                ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory => Self::Failing,
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed => Self::Busy,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged,
                ErrorCode::Unknown if message.as_ref().is_some_and(|m| m.contains("no such")) => {
                    Self::Damaged
                }
                _ => Self::Odd,
            },
            // A row or column that every store has is missing or of another type.
            Error::QueryReturnedNoRows
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::FromSqlConversionFailure(..)
            | Error::Utf8Error(..) => Self::Damaged,
            _ => Self::Odd,
        }
    }

    /// Sorts the system's error.
    pub(super) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            io::ErrorKind::IsADirectory => Self::Folder,
            io::ErrorKind::NotADirectory => Self::NoFolder,
            io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => Self::Name,
            // A link whose target is not mounted yet exists, and is no folder.
            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => Self::Missing,
            io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => Self::Busy,
            _ => Self::Failing,
        }
    }

    /// Returns whether it may pass without anyone changing the configuration or the rights: room is
    /// made, a disk is mounted, or mounted for writing again. Then the store waits for it.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Full | Self::ReadOnly | Self::Missing | Self::Failing | Self::Busy => true,
            Self::NotAllowed | Self::Folder | Self::NoFolder | Self::Name => false,
            Self::Damaged | Self::Odd => false,
        }
    }

    /// Returns the trouble as the end of a sentence that names the file.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the file system is read-only",
            Self::NotAllowed => "this user may not write there",
            Self::Missing => "its folder does not exist and cannot be made, or it is gone",
            Self::Folder => "it is a folder; `path` names the file in it, as in FOLDER/buffer.db",
            Self::NoFolder => "one of the folders in its path is a file",
            Self::Name => "no file can have that name",
            Self::Failing => "the disk reports errors when it is read or written",
            Self::Busy => "another program holds the file",
            Self::Damaged => "what is stored there is damaged",
            Self::Odd => "the database answered in a way that fieldgate does not expect",
        }
    }
}

/// The store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another daemon has it.
    Held {
        /// The database file.
        path: PathBuf,
        /// The process that holds it, when it left its number.
        pid: Option<u32>,
    },
    /// A later version of fieldgate wrote it.
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        version: i64,
    },
    /// It is another program's database. It is left alone.
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// There is none (only when one is looked at, not when it is opened for work).
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The disk does not let us.
    Unusable {
        /// The database file.
        path: PathBuf,
        /// Why.
        trouble: Trouble,
    },
}

impl OpenError {
    pub(super) fn unusable(path: &Path, trouble: Trouble) -> Self {
        Self::Unusable { path: path.into(), trouble }
    }

    /// Returns what it means for a store that was open before: whatever stands there now is not it.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Unusable { trouble, .. } => *trouble,
            Self::Held { .. } => Trouble::Busy,
            Self::Newer { .. } | Self::Foreign { .. } | Self::Missing { .. } => Trouble::Odd,
        }
    }

    /// Returns how the daemon ends: [`Exit::Misconfigured`] when only a person can change it,
    /// [`Exit::Broken`] when starting again may help.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Newer { .. } | Self::Foreign { .. } => Exit::Misconfigured,
            Self::Unusable { trouble, .. } => match trouble {
                Trouble::NotAllowed | Trouble::Folder | Trouble::NoFolder | Trouble::Name => {
                    Exit::Misconfigured
                }
                _ => Exit::Broken,
            },
            Self::Held { .. } => Exit::Broken,
            Self::Missing { .. } => Exit::Unreachable,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, pid } => buffer::held(path, *pid).fmt(f),
            Self::Newer { path, version } => buffer::newer(path, *version).fmt(f),
            Self::Foreign { path } => buffer::foreign(path).fmt(f),
            Self::Missing { path } => buffer::missing(path).fmt(f),
            Self::Unusable { path, trouble: Trouble::Damaged } => buffer::unreadable(path).fmt(f),
            Self::Unusable { path, trouble: Trouble::Full } => buffer::no_room(path).fmt(f),
            Self::Unusable { path, trouble } => buffer::unusable(path, trouble.words()).fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// The store could not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The disk refuses; it is tried again by itself.
    Refused(Trouble),
    /// Too many requests wait; come again.
    Busy,
    /// What there is waits a moment for the clock to be set, because dates of batches that were
    /// handed out cannot be corrected any more; come again.
    Undated,
    /// The store has ended.
    Ended,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(trouble) => f.write_str(trouble.words()),
            Self::Busy => f.write_str("too many requests wait for the store"),
            Self::Undated => f.write_str("what there is waits for the clock to be set"),
            Self::Ended => f.write_str("the store has ended"),
        }
    }
}

impl std::error::Error for StoreError {}
