//! The bounds of the store: what waits for the disk, what stands on it, and what is taken back from a
//! damaged one.

use std::time::Duration;

use super::BATCH_BYTES_MAX;

/// Requests (reads of the uplink, flushes) waiting for the store's thread; one more is refused and
/// comes again. Appending is no request: it never waits.
pub const STORE_REQUESTS_MAX: usize = 64;

/// Readings held in memory while the disk refuses them, then counted drops. 200,000 readings of 32
/// bytes are 6.4 MB: 40 s at 5,000 a second.
pub const READINGS_UNCOMMITTED_MAX: usize = 200_000;

/// Acknowledgements held in memory until the next commit, each 16 bytes. One beyond is forgotten,
/// which costs a repeated batch under the same key.
pub const ACKNOWLEDGED_UNCOMMITTED_MAX: usize = 10_000;

/// How long a batch may stand in memory unacknowledged with `write = "when-needed"` before it is
/// written: a broker behind a cellular link answers within a second or two, one that takes longer
/// than this is away, and a power cut then costs at most this much more.
pub const HELD_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of batches that stand in memory at the same time, then they are written: eight of the
/// largest.
pub const HELD_BYTES_MAX: usize = 8 * BATCH_BYTES_MAX;

/// Shortest and longest group commit. An SD card takes about 10 ms for an fsync; more than a minute
/// at risk is not what anyone means by kept.
pub const COMMIT_MIN: Duration = Duration::from_millis(10);

/// See [`COMMIT_MIN`].
pub const COMMIT_MAX: Duration = Duration::from_secs(60);

/// Waiting for more readings before the first batch after a start is sealed: an installer who looks
/// on sees a first value at once, and one with most of its neighbours.
pub const FIRST_SEAL_LINGER: Duration = Duration::from_millis(50);

/// First and longest pause before a disk that refused is tried again.
pub const DISK_RETRY_DELAY_MIN: Duration = Duration::from_secs(1);

/// See [`DISK_RETRY_DELAY_MIN`]: a disk that healed is in use again within half a minute, the time
/// to read a large log back included.
pub const DISK_RETRY_DELAY_MAX: Duration = Duration::from_secs(20);

/// Batches that a quota drops in one commit; a quota that was made much smaller is reached in
/// several. Dropping one of the largest reads 128 pages, so this is 128 MiB.
pub const BATCHES_DROPPED_A_COMMIT_MAX: usize = 256;

/// Smallest buffer, bytes: two batches of the largest size and SQLite's own pages.
pub const BUFFER_BYTES_MIN: u64 = 2 * 1024 * 1024;

/// Largest buffer, bytes: 1 TiB, more than any board carries.
pub const BUFFER_BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;

/// Names kept in the store that no point of this process has; more are forgotten when nothing
/// refers to them.
pub const SERIES_ORPHANS_MAX: usize = 1000;

/// Batches of a damaged store that one pass over it remembers, lowest keys first: 4 MB. A store that
/// holds more is passed over again.
pub const SALVAGE_BATCHES_MAX: usize = 50_000;

/// Chunks of committed readings that one pass over a damaged store remembers: a store has a few
/// hundred slots of 4 KB at most, and each stands in its log once more.
pub const SALVAGE_CHUNKS_MAX: usize = 1000;

/// Epochs that one damaged store is tried with: its own, the last one known at its path, and that of
/// a log that does not belong to it.
pub const SALVAGE_EPOCHS_MAX: usize = 4;

/// Pages at the beginning of a store that may hold its epoch, which is written when it is made.
pub const SALVAGE_META_PAGES_MAX: usize = 64;

/// Bytes of salvaged batches that are written in one commit, so that fresh readings never wait long
/// behind them.
pub const SALVAGE_BYTES_A_COMMIT: usize = 1024 * 1024;

/// Free bytes of the file system below which a salvage waits: it copies, and what is fresh goes
/// first.
pub const SALVAGE_ROOM_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Pause of a salvage after each of its commits: 4 MiB/s at most, and most of the disk and of the
/// processor for what is fresh.
pub const SALVAGE_PAUSE: Duration = Duration::from_millis(250);

/// Damaged rows kept for salvage; at the batch limit they take 50 MiB.
pub const DAMAGED_ROWS_MAX: u64 = 100;

/// What is read of the file that locks a store: two numbers with names.
pub const LOCK_FILE_BYTES_MAX: u64 = 128;

/// Keys and timers of one rule that wait for the next commit, deleted ones included; beyond, the rule
/// says all it knows instead. Twice what a rule may have at a time.
pub const RULE_CHANGES_WAITING_MAX: usize = 22_000;
