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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// What a change stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Onto {
    /// On what is kept of the rule, which must be known already.
    #[default]
    Kept,
    /// On nothing: what was kept before is forgotten. So begins every rule, a fork of one, and what
    /// takes the place of another.
    Nothing,
    /// The rule is forgotten altogether; the rest of the change says nothing.
    Gone,
}

/// What one batch changes of what is kept of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The rule's name in the configuration.
    pub rule: Arc<str>,
    /// What it stands on; a running rule changes what is kept.
    pub onto: Onto,
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

impl Kept {
    /// Does what a change says.
    pub fn apply(&mut self, change: &Change) {
        if change.onto != Onto::Kept {
            *self = Self::default();
        }
        if change.onto == Onto::Gone {
            return;
        }
        for (key, value) in &change.state {
            match value {
                Some(value) => drop(self.state.insert(Arc::clone(key), Arc::clone(value))),
                None => drop(self.state.remove(key)),
            }
        }
        for (name, at) in &change.timers {
            match at {
                Some(at) => drop(self.timers.insert(Arc::clone(name), *at)),
                None => drop(self.timers.remove(name)),
            }
        }
        self.declared.extend(change.declared.iter().cloned());
        self.place = change.place;
    }

    /// Returns the change that makes `rule` stand exactly here, whatever was kept of it: how a rule
    /// begins, how one is forked under another name, and how a fork takes the place of its origin.
    #[must_use]
    pub fn to_change(&self, rule: Arc<str>) -> Change {
        let state =
            self.state.iter().map(|(key, value)| (Arc::clone(key), Some(Arc::clone(value))));
        Change {
            rule,
            onto: Onto::Nothing,
            state: state.collect(),
            timers: self.timers.iter().map(|(name, at)| (Arc::clone(name), Some(*at))).collect(),
            declared: self.declared.clone(),
            place: self.place,
        }
    }
}

impl Change {
    /// Returns the change that forgets a rule.
    #[must_use]
    pub fn gone(rule: Arc<str>) -> Self {
        Self { rule, onto: Onto::Gone, ..Self::default() }
    }
}
