//! What the store is told: resolved by `config`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Coding;
use crate::limits;
use crate::reading::Stream;

/// Where and how readings are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database file; `-wal` and `-shm` stand beside it.
    pub path: PathBuf,
    /// Age after which data is dropped, oldest first.
    pub keep: Duration,
    /// Bytes of stored batches after which data is dropped, oldest first.
    pub bytes_max: u64,
    /// Bytes of the file system that are left to others: below it, new batches take the place of
    /// the oldest.
    pub free_min: u64,
    /// When batches are written.
    pub write: Write,
    /// Longest time a reading waits for its commit: what a power cut may cost.
    pub commit: Duration,
    /// How batches are sealed.
    pub seal: Seal,
    /// The gateway's name, sealed into every batch.
    pub gateway: Arc<str>,
    /// Short hash of the effective configuration, sealed into every batch.
    pub config_hash: Arc<str>,
}

/// When batches are written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Write {
    /// Before anyone sees them: what was committed survives a power cut.
    #[default]
    Always,
    /// Only when the receiver's side does not acknowledge promptly: a power cut costs what was not
    /// sealed and what was not acknowledged.
    WhenNeeded,
}

/// When and how an open chunk becomes a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// Longest time a committed reading waits for its batch.
    pub age_max: Duration,
    /// Readings that fill a batch, at most `limits::BATCH_READINGS_MAX`.
    pub readings_max: usize,
    /// Bytes of a whole payload, at most `limits::BATCH_BYTES_MAX`.
    pub bytes_max: usize,
    /// How bodies are compressed.
    pub coding: Coding,
}

impl Seal {
    /// Returns how long a stream's batch gathers when batches are to be so many times as long. Events
    /// never wait longer, since somebody waits for them.
    #[must_use]
    pub fn age_max_of(&self, stream: Stream, stretch: u32) -> Duration {
        match stream {
            Stream::Event => self.age_max,
            Stream::Data | Stream::Own => self
                .age_max
                .saturating_mul(stretch.max(1))
                .min(limits::DATA_PLAN_AGE_MAX.max(self.age_max)),
        }
    }
}
