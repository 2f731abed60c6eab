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
    /// When readings were set aside, newest last, in microseconds of the readings' clock.
    poisons: VecDeque<i64>,
    /// When it is tried again, if it is given up.
    again: Option<i64>,
    aside: u64,
}

/// How a batch went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Climb {
    /// What the rule did with the readings it could process, in their order, as one outcome; its
    /// change is empty when no call went well.
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
    /// A batch failed and is tried once more, on a fresh instance, and then in halves; or series that
    /// came later could not be told of.
    Retried(Failure),
    /// It went well then, to the last reading.
    Recovered,
    /// A reading, or a timer, makes the rule fail and was set aside.
    Aside {
        /// Its place in the batch.
        at: usize,
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
    /// The rule failed too often and is given up for now, or for another while.
    GivenUp {
        /// How many readings were set aside in the time looked at.
        poisons: usize,
        /// The last failure.
        failure: Failure,
    },
    /// It was tried again after it had been given up, and works.
    TakenUp,
}

/// A batch on its way up.
struct Search {
    climb: Climb,
    calls: usize,
    last: Failure,
}

impl Ladder {
    /// Wraps a rule.
    #[must_use]
    pub fn new(rule: Box<dyn Rule>, on_failure: OnFailure) -> Self {
        Self { rule, on_failure, poisons: VecDeque::new(), again: None, aside: 0 }
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
    pub fn series_added(&mut self, series: &[Series]) -> Vec<Step> {
        self.rule.series_added(series).err().map(Step::Retried).into_iter().collect()
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
        let was_given_up = match self.again {
            Some(at) if context.now < at => {
                return Climb { unruled: Some(0), ..Climb::default() };
            }
            again => again.is_some(),
        };
        let failure = match call(&mut *self.rule, 0, len) {
            Ok(outcome) => {
                let mut climb = Climb { outcome, ..Climb::default() };
                if was_given_up {
                    (self.again, climb.steps) = (None, vec![Step::TakenUp]);
                    self.poisons.clear();
                }
                return climb;
            }
            Err(failure) => failure,
        };
        let mut search = Search { climb: Climb::default(), calls: 1, last: failure.clone() };
        if was_given_up {
            search.climb.unruled = Some(0);
            self.give_up(context, &mut search);
            return search.climb;
        }
        search.climb.steps.push(Step::Retried(failure));
        self.search(context, &mut search, len, &mut call);
        let mut climb = search.climb;
        if climb.aside.is_empty() && climb.unruled.is_none() && !self.given_up() {
            climb.steps.push(Step::Recovered);
        }
        climb
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
                search.climb.steps.push(Step::Aside { at: from, failure });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::wit::{Quality, Value};

    /// A rule that fails with readings it does not like, and keeps count of its calls.
    struct Picky {
        dislikes: Vec<i64>,
        calls: Arc<std::sync::atomic::AtomicUsize>,
        /// Fails this many calls whatever they are.
        moody: usize,
        code: &'static str,
    }

    impl Rule for Picky {
        fn series_added(&mut self, _series: &[Series]) -> Result<(), Failure> {
            Ok(())
        }

        fn process(&mut self, context: &Context, batch: &[Reading]) -> Result<Outcome, Failure> {
            self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let moody = self.moody > 0;
            self.moody = self.moody.saturating_sub(1);
            if moody || batch.iter().any(|reading| self.dislikes.contains(&reading.at)) {
                let message = format!("batch {}", context.batch);
                return Err(Failure { code: self.code.to_owned(), message });
            }
            Ok(Outcome { emitted: batch.to_vec(), fuel: 1, ..Outcome::default() })
        }

        fn on_timer(&mut self, context: &Context, fired: &[Fired]) -> Result<Outcome, Failure> {
            let batch: Vec<_> = fired.iter().map(|fired| reading(fired.at)).collect();
            self.process(context, &batch)
        }
    }

    fn reading(at: i64) -> Reading {
        Reading { series: 0, at, quality: Quality::empty(), value: Value::Integer(at) }
    }

    fn batch(n: i64) -> Vec<Reading> {
        (0..n).map(reading).collect()
    }

    fn at(minute: i64) -> Context {
        let now = minute * 60_000_000;
        Context { batch: 7, now, watermark: now, clock_synced: true, fresh: false }
    }

    fn picky(dislikes: &[i64], moody: usize) -> (Ladder, Arc<std::sync::atomic::AtomicUsize>) {
        let calls = Arc::default();
        let (dislikes, code) = (dislikes.to_vec(), "trap.unreachable");
        let rule = Picky { dislikes, calls: Arc::clone(&calls), moody, code };
        (Ladder::new(Box::new(rule), OnFailure::Pass), calls)
    }

    fn times(climb: &Climb) -> Vec<i64> {
        climb.outcome.emitted.iter().map(|reading| reading.at).collect()
    }

    #[test]
    fn one_poison_among_a_thousand_is_found_and_the_rest_is_processed_in_order() {
        for poison in [0, 1, 499, 500, 998, 999] {
            let (mut ladder, calls) = picky(&[poison], 0);
            let climb = ladder.process(&at(0), &batch(1000));
            assert_eq!(climb.aside, [usize::try_from(poison).unwrap()]);
            assert_eq!((climb.unruled, times(&climb).len()), (None, 999));
            assert!(times(&climb).is_sorted());
            assert!(matches!(climb.steps[..], [Step::Retried(_), Step::Aside { .. }]));
            assert!(calls.load(std::sync::atomic::Ordering::Relaxed) <= 22);
            assert!(!ladder.given_up());
        }
    }

    #[test]
    fn a_failure_that_does_not_come_back_costs_nothing() {
        let (mut ladder, _) = picky(&[], 1);
        let climb = ladder.process(&at(0), &batch(10));
        assert_eq!(times(&climb).len(), 10);
        assert!(matches!(climb.steps[..], [Step::Retried(_), Step::Recovered]));
        // A batch that only fails as a whole (too much output, say) goes well in halves.
        let (mut ladder, _) = picky(&[], 2);
        let climb = ladder.process(&at(0), &batch(10));
        assert_eq!((times(&climb).len(), climb.aside.len()), (10, 0));
        assert!(times(&climb).is_sorted());
    }

    #[test]
    fn after_three_poisons_in_ten_minutes_the_rule_is_given_up_and_tried_again_after_five() {
        let (mut ladder, calls) = picky(&[3], 0);
        for minute in [0, 20, 25] {
            assert_eq!(ladder.process(&at(minute), &batch(5)).aside, [3]);
        }
        let climb = ladder.process(&at(29), &batch(5));
        assert_eq!((&climb.aside[..], climb.unruled), (&[3][..], Some(4)));
        assert!(matches!(climb.steps.last(), Some(Step::GivenUp { poisons: 3, .. })));
        assert!(ladder.given_up());
        let before = calls.load(std::sync::atomic::Ordering::Relaxed);
        let climb = ladder.process(&at(33), &batch(5));
        assert_eq!((climb.unruled, climb.steps.len()), (Some(0), 0));
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), before);
        // A single call, and another five minutes.
        let climb = ladder.process(&at(34), &batch(5));
        assert!(matches!(climb.steps[..], [Step::GivenUp { .. }]));
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), before + 1);
        assert_eq!(ladder.process(&at(38), &batch(2)).unruled, Some(0));
        let climb = ladder.process(&at(39), &batch(2));
        assert_eq!((climb.steps, climb.unruled), (vec![Step::TakenUp], None));
        // A new beginning: what was before does not count any more.
        assert!(ladder.process(&at(39), &batch(5)).unruled.is_none());
        assert_eq!(ladder.aside(), 5);
    }

    #[test]
    fn a_rule_that_fails_with_everything_is_given_up_after_a_few_calls() {
        let (mut ladder, calls) = picky(&[], usize::MAX);
        let climb = ladder.process(&at(0), &batch(1000));
        assert_eq!(climb.aside, [0, 1, 2]);
        assert_eq!(climb.unruled, Some(3));
        assert!(ladder.given_up());
        assert!(calls.load(std::sync::atomic::Ordering::Relaxed) <= 20);
    }

    #[test]
    fn many_poisons_of_one_batch_exhaust_its_calls_and_no_more() {
        let (mut ladder, calls) = picky(&[], 0);
        // Never fails with one reading alone, always with more: the search must end by itself.
        struct Sociable(Arc<std::sync::atomic::AtomicUsize>);
        impl Rule for Sociable {
            fn series_added(&mut self, _series: &[Series]) -> Result<(), Failure> {
                Ok(())
            }
            fn process(&mut self, _: &Context, batch: &[Reading]) -> Result<Outcome, Failure> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if batch.len() > 1 {
                    return Err(Failure { code: "memory".to_owned(), message: String::new() });
                }
                Ok(Outcome { emitted: batch.to_vec(), ..Outcome::default() })
            }
            fn on_timer(&mut self, _: &Context, _: &[Fired]) -> Result<Outcome, Failure> {
                Ok(Outcome::default())
            }
        }
        ladder.rule = Box::new(Sociable(Arc::clone(&calls)));
        let climb = ladder.process(&at(0), &batch(1000));
        let tried = climb.unruled.unwrap();
        assert_eq!(times(&climb).len(), tried);
        assert!(
            matches!(climb.steps.last(), Some(Step::Exhausted { left, .. }) if *left == 1000 - tried)
        );
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), limits::RULE_LADDER_CALLS_MAX);
    }

    #[test]
    fn a_rule_that_cannot_open_is_given_up_without_blaming_readings() {
        let calls = Arc::default();
        let rule = Picky { dislikes: Vec::new(), calls, moody: 99, code: "open.fuel" };
        let mut ladder = Ladder::new(Box::new(rule), OnFailure::Hold);
        let climb = ladder.process(&at(0), &batch(8));
        assert_eq!((climb.unruled, climb.aside.len()), (Some(0), 0));
        assert!(ladder.given_up());
    }

    #[test]
    fn a_timer_that_no_call_survives_is_forgotten() {
        let (mut ladder, _) = picky(&[2], 0);
        let fired: Vec<_> = (0..4).map(|at| Fired { name: format!("t{at}"), at }).collect();
        let climb = ladder.on_timer(&at(0), &fired);
        assert_eq!(climb.aside, [2]);
        assert_eq!(times(&climb), [0, 1, 3]);
        assert_eq!(climb.outcome.change.timers, [(Arc::from("t2"), None)]);
    }
}
