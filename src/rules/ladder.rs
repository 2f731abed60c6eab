//! What happens when a rule fails: the same batch once more, on a fresh instance; then in halves until
//! the reading that does it is found and set aside; after several of those the rule is given up, and
//! tried again now and then.
//!
//! Nothing here looks at the machine's clock: a replay climbs the same steps. A batch has a budget of
//! calls ([`limits::RULE_LADDER_CALLS_MAX`]); finding one reading among a thousand takes 22. The calls
//! of a search get shorter as it goes, and so do their fuel and deadlines: all of it takes about four
//! times as long as the whole batch may.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wit::{Context, Fired, Reading, Series};
use super::{Failure, Outcome, Rule};
use crate::limits;
use crate::state::Place;

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
    name: Arc<str>,
    place: Place,
    /// When readings were set aside, newest last, in microseconds of the readings' clock.
    poisons: VecDeque<i64>,
    /// When it is tried again, if it is given up.
    again: Option<i64>,
    aside: u64,
}

/// How a batch went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Climb {
    /// What the rule did with the readings it could process, in their order, as one outcome. Its
    /// change names the rule and its place even when no call went well.
    pub outcome: Outcome,
    /// Places in the batch of the readings that were set aside, each of which alone makes it fail.
    pub aside: Vec<usize>,
    /// Place in the batch from which on nothing was tried: the rule is given up, or the batch took
    /// too many calls. What becomes of them is the operator's policy ([`Ladder::on_failure`]).
    pub unruled: Option<usize>,
    /// What happened, for the caller's events; empty when all went well.
    pub steps: Vec<Step>,
}

/// One thing that happened on the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A batch failed, and went well when it was tried again, in as many calls as it took.
    Stumbled {
        /// Calls, the first included.
        calls: usize,
        /// What the first one ended with.
        failure: Failure,
    },
    /// A reading (its place in the batch), or a timer, makes the rule fail and was set aside.
    Aside {
        /// Its place in the batch.
        at: usize,
        /// How many were set aside since the start, this one included.
        total: u64,
        /// What the rule did with it.
        failure: Failure,
    },
    /// The search took all the calls a batch may take.
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
    /// It was tried again after it had been given up, and failed again.
    StillGivenUp {
        /// What it did this time.
        failure: Failure,
    },
    /// It was tried again after it had been given up, and works.
    TakenUp,
}

/// A batch on its way up.
struct Search {
    climb: Climb,
    calls: usize,
    first: Failure,
    last: Failure,
}

impl Ladder {
    /// Wraps a rule called `name` that stands at `place`.
    #[must_use]
    pub fn new(rule: Box<dyn Rule>, name: Arc<str>, place: Place, on_failure: OnFailure) -> Self {
        let poisons = VecDeque::new();
        Self { rule, on_failure, name, place, poisons, again: None, aside: 0 }
    }

    /// The operator's policy.
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Whether the rule is given up at the moment.
    #[must_use]
    pub fn given_up(&self) -> bool {
        self.again.is_some()
    }

    /// Readings and timers that were set aside since the start.
    #[must_use]
    pub fn aside(&self) -> u64 {
        self.aside
    }

    /// Tells of series that came after the start. When that fails, the next call begins on a fresh
    /// instance that learns of them as it opens; so there is nothing to climb, only to tell.
    pub fn series_added(&mut self, series: &[Series]) -> Option<Failure> {
        self.rule.series_added(series).err()
    }

    /// Processes a batch as far as the rule can.
    pub fn process(&mut self, context: &Context, batch: &[Reading]) -> Climb {
        self.climb(context, batch.len(), |rule, from, to| rule.process(context, &batch[from..to]))
    }

    /// Tells of timers that the watermark has passed, as far as the rule can take them. Those set
    /// aside are gone too; those not tried stay set and are due again.
    pub fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Climb {
        let call =
            |rule: &mut dyn Rule, from: usize, to: usize| rule.on_timer(context, &fired[from..to]);
        let mut climb = self.climb(context, fired.len(), call);
        for &at in &climb.aside {
            self.rule.forget(&fired[at..=at]);
            climb.outcome.change.timers.push((Arc::from(fired[at].name.as_str()), None));
        }
        climb
    }

    fn climb(
        &mut self,
        context: &Context,
        len: usize,
        mut call: impl FnMut(&mut dyn Rule, usize, usize) -> Result<Outcome, Failure>,
    ) -> Climb {
        let tried_again = match self.again {
            Some(at) if context.now < at => {
                return self.settled(context, Climb { unruled: Some(0), ..Climb::default() });
            }
            again => again.is_some(),
        };
        let first = match call(&mut *self.rule, 0, len) {
            Ok(outcome) => {
                let mut climb = Climb { outcome, ..Climb::default() };
                if tried_again {
                    self.take_up(&mut climb.steps);
                }
                return self.settled(context, climb);
            }
            Err(failure) => failure,
        };
        if tried_again {
            self.again = Some(context.now.saturating_add(limits::RULE_GIVEN_UP_TIME_US));
            let steps = vec![Step::StillGivenUp { failure: first }];
            return self.settled(context, Climb { unruled: Some(0), steps, ..Climb::default() });
        }
        let (last, climb) = (first.clone(), Climb::default());
        let mut search = Search { climb, calls: 1, first, last };
        self.search(context, &mut search, len, &mut call);
        let Search { mut climb, calls, first, .. } = search;
        if climb.aside.is_empty() && climb.unruled.is_none() {
            climb.steps.push(Step::Stumbled { calls, failure: first });
        }
        self.settled(context, climb)
    }

    fn take_up(&mut self, steps: &mut Vec<Step>) {
        self.again = None;
        self.poisons.clear();
        steps.push(Step::TakenUp);
    }

    /// Tries the whole again, then halves of what fails, from the front.
    fn search(
        &mut self,
        context: &Context,
        search: &mut Search,
        len: usize,
        call: &mut impl FnMut(&mut dyn Rule, usize, usize) -> Result<Outcome, Failure>,
    ) {
        // Parts still to be tried, the next one last.
        let mut parts = vec![(0, len)];
        while let Some((from, to)) = parts.pop() {
            if search.calls >= limits::RULE_LADDER_CALLS_MAX {
                let (left, failure) = (len - from, search.last.clone());
                search.climb.unruled = Some(from);
                search.climb.steps.push(Step::Exhausted { left, failure });
                self.poisoned(context, search);
                return;
            }
            search.calls += 1;
            let failure = match call(&mut *self.rule, from, to) {
                Ok(outcome) => {
                    merge(&mut search.climb.outcome, outcome);
                    continue;
                }
                Err(failure) => failure,
            };
            search.last = failure.clone();
            // A rule that does not even open would fail with any reading.
            let hopeless = failure.code.starts_with("open.");
            if hopeless {
                search.climb.unruled = Some(from);
                self.give_up(context, search);
                return;
            }
            if to - from > 1 {
                let middle = from + (to - from) / 2;
                parts.extend([(middle, to), (from, middle)]);
                continue;
            }
            // An empty batch has nothing that could be set aside.
            if to > from {
                search.climb.aside.push(from);
                self.aside += 1;
                let total = self.aside;
                search.climb.steps.push(Step::Aside { at: from, total, failure });
            }
            if self.poisoned(context, search) {
                search.climb.unruled = (to < len).then_some(to);
                return;
            }
        }
    }

    /// Notes a poison; returns whether it was the last one that is borne.
    fn poisoned(&mut self, context: &Context, search: &mut Search) -> bool {
        let since = context.now.saturating_sub(limits::RULE_POISON_TIME_US);
        self.poisons.push_back(context.now);
        while self.poisons.front().is_some_and(|at| *at < since) {
            self.poisons.pop_front();
        }
        let enough = self.poisons.len() >= limits::RULE_POISONS_MAX;
        if enough {
            self.give_up(context, search);
        }
        enough
    }

    fn give_up(&mut self, context: &Context, search: &mut Search) {
        let (poisons, failure) = (self.poisons.len(), search.last.clone());
        self.again = Some(context.now.saturating_add(limits::RULE_GIVEN_UP_TIME_US));
        search.climb.steps.push(Step::GivenUp { poisons, failure });
    }

    /// Fills in who the change is of and where the rule stands, also when no call went well.
    fn settled(&mut self, context: &Context, mut climb: Climb) -> Climb {
        let change = &mut climb.outcome.change;
        let version =
            if change.rule.is_empty() { self.place.version } else { change.place.version };
        if climb.unruled != Some(0) {
            self.place = Place { batch: context.batch, watermark: context.watermark, version };
        }
        change.rule = Arc::clone(&self.name);
        change.place = self.place;
        climb
    }
}

/// Adds what a later part did to what earlier ones did.
fn merge(sum: &mut Outcome, part: Outcome) {
    sum.emitted.extend(part.emitted);
    sum.change.rule = part.change.rule;
    sum.change.state.extend(part.change.state);
    sum.change.timers.extend(part.change.timers);
    sum.change.declared.extend(part.change.declared);
    sum.change.place = part.change.place;
    sum.log.extend(part.log);
    sum.fuel = sum.fuel.saturating_add(part.fuel);
    sum.took = sum.took.saturating_add(part.took);
}
