//! What happens when a rule fails: the same batch once more, then in halves until the reading that
//! does it is found and set aside; after several of those the rule is given up for a while.

use super::wit::{Context, Fired, Reading, Series};
use super::{Failure, Outcome, Rule};

/// What becomes of a rule's readings while the rule is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They go on without it.
    #[default]
    Pass,
    /// They are dropped.
    Drop,
    /// They wait.
    Hold,
}

/// A rule with its failure ladder. It never fails: what the rule could not do is in the [`Climb`].
pub struct Ladder {
    rule: Box<dyn Rule>,
    on_failure: OnFailure,
}

/// How a batch went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Climb {
    /// What the rule did with the readings it could process, in their order, as one outcome.
    pub outcome: Outcome,
    /// Places in the batch of the readings that were set aside, each of which alone makes it fail.
    pub aside: Vec<usize>,
    /// Places in the batch from which on nothing was tried: the rule is given up, or the batch took
    /// too many calls. What becomes of them is the operator's policy ([`Ladder::on_failure`]).
    pub unruled: Option<usize>,
    /// What happened, for the caller's events; empty when all went well.
    pub steps: Vec<Step>,
}

/// One thing that happened on the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A batch failed and is tried once more, on a fresh instance.
    Retried(Failure),
    /// It went well the second time.
    Recovered,
    /// A reading (its place in the batch), or a timer, makes the rule fail and was set aside.
    Aside {
        /// Its place in the batch.
        at: usize,
        /// What the rule did with it.
        failure: Failure,
    },
    /// The search for the poison took all the calls a batch may take; `left` readings were not tried.
    Exhausted {
        /// Readings that were not tried.
        left: usize,
        /// The last failure.
        failure: Failure,
    },
    /// The rule failed too often and is given up for now.
    GivenUp {
        /// How many readings were set aside in the time looked at.
        poisons: usize,
        /// The last failure.
        failure: Failure,
    },
    /// It was tried again after being given up, and works.
    TakenUp,
}

impl Ladder {
    /// Wraps a rule.
    #[must_use]
    pub fn new(rule: Box<dyn Rule>, on_failure: OnFailure) -> Self {
        Self { rule, on_failure }
    }

    /// The operator's policy.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Whether the rule is given up at the moment.
    #[must_use]
    pub fn given_up(&self) -> bool {
        false
    }

    /// Tells of series that came after the start.
    pub fn series_added(&mut self, series: &[Series]) -> Vec<Step> {
        let _ = self.rule.series_added(series);
        Vec::new()
    }

    /// Processes a batch as far as the rule can.
    pub fn process(&mut self, context: &Context, batch: &[Reading]) -> Climb {
        let outcome = self.rule.process(context, batch).unwrap_or_default();
        Climb { outcome, ..Climb::default() }
    }

    /// Tells of timers that the watermark has passed, as far as the rule can take them; `aside` are
    /// places in `fired` then, and those timers are gone too.
    pub fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Climb {
        let outcome = self.rule.on_timer(context, fired).unwrap_or_default();
        Climb { outcome, ..Climb::default() }
    }
}
