//! What is known about a running rule, for those who look at it from outside.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::trial::{Side, Trial};
use super::{Definition, Failure, wit};
use crate::state::Declared;

/// A rule's state and counts since it was started.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The rule's name.
    pub name: Arc<str>,
    /// Whether it works.
    pub state: State,
    /// The version its author gave it.
    pub version: Arc<str>,
    /// SHA-256 of its file, hexadecimal.
    pub digest: Arc<str>,
    /// The rules of its chain, in their order.
    pub chain: Arc<[Arc<str>]>,
    /// Readings it was given.
    pub taken: u64,
    /// Readings it emitted.
    pub emitted: u64,
    /// Readings that went past it, because it could not run or was behind.
    pub passed: u64,
    /// Readings that were dropped for the same reason, with `on_failure = "drop"`.
    pub dropped: u64,
    /// Readings that wait for it, with `on_failure = "hold"`.
    pub held: u64,
    /// Readings that it failed on and that were set aside.
    pub aside: u64,
    /// Readings that came late.
    pub late: u64,
    /// Calls into it.
    pub calls: u64,
    /// Fuel used.
    pub fuel: u64,
    /// Time taken by its calls.
    pub took: Duration,
    /// Its watermark, microseconds since 1970 UTC.
    pub watermark: i64,
    /// Keys that it keeps.
    pub keys: usize,
    /// Timers that it has set.
    pub timers: usize,
    /// Outputs that it has declared.
    pub declared: Vec<Declared>,
    /// Why it failed last.
    pub failure: Option<Failure>,
    /// The last lines it wrote to its log, oldest first.
    pub log: VecDeque<Line>,
    /// The trial it takes part in, and on which side.
    pub trial: Option<(Side, Trial)>,
}

/// A line of a rule's log.
#[derive(Debug, Clone)]
pub struct Line {
    /// The rule's own time when it wrote it, microseconds since 1970 UTC.
    pub at: i64,
    /// How much it matters.
    pub level: wit::Level,
    /// What it says.
    pub text: String,
}

/// Whether a rule works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It runs.
    #[default]
    Running,
    /// It failed too often; it is tried again from time to time.
    GivenUp,
    /// It has not begun yet: its file is being compiled, or the disk has not told what it had kept.
    Waiting,
    /// It cannot run at all: its file was refused, or it broke a bound of the river.
    Stopped,
}

impl State {
    /// Returns a word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::GivenUp => "given up",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

/// A report that one thread writes and others read; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<Mutex<Report>>);

impl Shown {
    /// Begins a report.
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self(Arc::new(Mutex::new(report)))
    }

    /// The report of a rule that has not begun.
    #[must_use]
    pub fn waiting(rule: &Definition) -> Self {
        Self::new(Report {
            name: Arc::clone(rule.name()),
            state: State::Waiting,
            version: Arc::clone(&rule.version),
            digest: Arc::clone(&rule.digest),
            ..Report::default()
        })
    }

    /// Opens it for a moment.
    pub fn open(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns it as it stands.
    #[must_use]
    pub fn read(&self) -> Report {
        self.open().clone()
    }
}
