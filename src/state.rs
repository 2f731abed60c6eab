//! What a rule leaves behind between two batches: keys and values, timers, the outputs it declared
//! and its place in the input. The rule host makes changes, the store commits each in the
//! transaction of the readings it led to, and the next start hands back what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reading::Stream;

/// All that is kept of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Keys (at most 256 bytes) and values (at most 64 KiB).
    pub state: BTreeMap<Arc<str>, Arc<[u8]>>,
    /// Timers by name: when the readings' own time passes this, in microseconds since 1970 UTC.
    pub timers: BTreeMap<Arc<str>, i64>,
    /// Outputs in the order in which they were first declared; a place here never changes.
    pub declared: Vec<Declared>,
    /// Where the rule stands.
    pub place: Place,
}

/// An output of a rule: a series that it adds to the river.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// [`Stream::Data`] or [`Stream::Event`].
    pub stream: Stream,
    /// Device name.
    pub device: Arc<str>,
    /// Point name.
    pub point: Arc<str>,
    /// Unit; empty when there is none.
    pub unit: Arc<str>,
}

/// A rule's place in its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The last batch it has processed; 0 before the first.
    pub batch: u64,
    /// Readings older than this, in microseconds since 1970 UTC, come late; 0 before the first.
    pub watermark: i64,
    /// Version of the state that it writes, as its `open` returned it.
    pub version: u32,
}

/// What one batch changes of what is kept of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The rule's name in the configuration.
    pub rule: Arc<str>,
    /// Keys with their new values; `None` deletes. The last entry of a key counts.
    pub state: Vec<Entry>,
    /// Timers with their new times; `None` cancels.
    pub timers: Vec<(Arc<str>, Option<i64>)>,
    /// Outputs declared for the first time, to be added at the end.
    pub declared: Vec<Declared>,
    /// Where the rule stands now.
    pub place: Place,
}

/// A key and its new value; `None` deletes.
pub type Entry = (Arc<str>, Option<Arc<[u8]>>);
