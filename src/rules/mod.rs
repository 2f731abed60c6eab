//! Rules: WASM components that operators push, each over the readings its `on` pattern selects.
//!
//! A rule sees a batch of readings, its own state and timers, and the readings' own time; it emits
//! readings and changes its state. Nothing of what it does counts before the batch is through:
//! emitted readings, state, timers and its place in the input are committed in one transaction, and
//! a trap, an error or a limit takes all of it back. It has no files, no network and no other clock.

pub mod board;
mod cache;
mod calls;
pub mod cases;
pub mod chain;
pub mod compile;
pub mod convert;
pub mod definition;
pub mod door;
pub mod engine;
mod failure;
pub mod fetch;
pub mod folder;
pub mod graph;
mod guest;
pub mod inbox;
mod inspect;
pub mod instance;
pub mod ladder;
mod log;
pub mod manifest;
pub mod node;
pub mod pattern;
pub mod program;
pub mod report;
pub mod router;
pub mod settings;
pub mod signature;
#[cfg(test)]
pub(crate) mod tests;
pub mod time;
pub mod trial;
pub mod want;
pub mod wit;

pub use board::{Board, World};
pub use chain::{Chain, Feed, Sink};
pub use definition::{Definition, Loaded, Loader, Mode, Opened, Wasm};
pub use engine::{Code, Engine};
pub use instance::Instance;
pub use ladder::{Climb, Ladder, OnFailure, Step};
pub use manifest::Manifest;
pub use pattern::Pattern;
pub use program::{Program, Refused};
pub use report::{Report, State};
pub use router::{Router, Routes};
pub use settings::{Asked, Limits, Settings};
pub use trial::Trial;

use std::time::Duration;

use crate::state::Change;
use wit::{Context, Fired, Level, Reading, Series};

/// A rule that runs, whatever it is made of. One thread owns it.
///
/// Every call either returns what it did, which is then part of the rule's state, or fails and has
/// changed nothing. After a failure the next call begins on a fresh instance by itself.
pub trait Rule: Send {
    /// Tells of series that came after the start; ids continue those given before.
    ///
    /// # Errors
    /// As [`Rule::process`].
    fn series_added(&mut self, series: &[Series]) -> Result<(), Failure>;

    /// Processes one batch, in the order of arrival.
    ///
    /// # Errors
    /// When the rule traps, returns an error or passes a limit.
    fn process(&mut self, context: &Context, batch: &[Reading]) -> Result<Outcome, Failure>;

    /// Tells of timers that the watermark has passed. They are gone from what is kept.
    ///
    /// # Errors
    /// As [`Rule::process`].
    fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<Outcome, Failure>;

    /// Removes timers that no call of the rule survives, so that they do not fire for ever.
    fn forget(&mut self, timers: &[Fired]) {
        let _ = timers;
    }
}

/// What a call did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Readings in the order they were emitted. Ids below [`DECLARED`] are the rule's inputs, those
    /// from there on its declared outputs.
    pub emitted: Vec<Reading>,
    /// What it changed of what is kept of it.
    pub change: Change,
    /// Lines it wrote to its log.
    pub log: Vec<(Level, String)>,
    /// Fuel used.
    pub fuel: u64,
    /// Time taken, host calls included.
    pub took: Duration,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A dotted word for machines: `fuel`, `deadline`, `memory`, `output.count`, `output.bytes`,
    /// `state.bytes`, `trap.unreachable`, `rule.CODE` for an error that the rule returned itself.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// The first id of a declared output; the place in [`crate::state::Kept::declared`] is added to it.
pub const DECLARED: u32 = 1 << 31;
