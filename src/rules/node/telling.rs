//! What a rule's failures look like from outside: events for the operator, event readings for whoever
//! receives its readings.

use std::sync::Arc;

use super::super::trial::Side;
use super::super::{Failure, Mode, OnFailure, State, Step};
use super::{Item, Node};
use crate::events::chain;
use crate::limits;
use crate::reading::{PointInfo, Sample, Stream, Value};

impl Node {
    /// Says what happened on the failure ladder.
    pub(super) fn tell(&mut self, step: Step, batch: Option<&[Item]>, items: &mut Vec<Item>) {
        let name = Arc::clone(self.rule.name());
        let failed = |failure: &Failure| {
            let mut report = self.shown.open();
            report.failure = Some(failure.clone());
            if let Some((Side::Trial, trial)) = &report.trial {
                trial.failed(failure);
            }
        };
        match step {
            Step::Retried(failure) => failed(&failure),
            Step::Recovered => {}
            Step::Aside { at, failure } => {
                failed(&failure);
                let item = batch.and_then(|batch| batch.get(at));
                let what = item.map_or_else(|| "a timer".to_owned(), |item| self.show_item(item));
                self.events.raise(chain::aside(&name, &what, &failure.code, &failure.message));
                let at = item.map_or(self.time.now(), |item| item.at);
                let text = format!("{what}: {}: {}", failure.code, failure.message);
                self.raise("aside", at, &text, items);
            }
            Step::Exhausted { left, failure } => {
                failed(&failure);
                self.events.raise(chain::exhausted(&name, left, &failure.code, &failure.message));
            }
            Step::GivenUp { poisons, failure } => {
                failed(&failure);
                self.shown.open().state = State::GivenUp;
                let policy = self.rule.on_failure;
                self.events.raise(chain::given_up(
                    &name,
                    poisons,
                    (&failure.code, &failure.message),
                    policy_words(policy),
                ));
                let text = format!("given up: {}: {}", failure.code, failure.message);
                self.raise("given_up", self.time.now(), &text, items);
            }
            Step::TakenUp => {
                self.shown.open().state = State::Running;
                self.events.clear(&chain::GIVEN_UP, &chain::subject(&name), "works again");
            }
        }
    }

    fn show_item(&self, item: &Item) -> String {
        let info = self.points.info(item.point);
        match &item.sample.value {
            Ok(value) => format!("{}/{} = {value}", info.device, info.point),
            Err(why) => format!("{}/{} without data ({why})", info.device, info.point),
        }
    }

    /// Sends an event of the rule itself, so that whoever receives its readings sees it.
    fn raise(&self, point: &str, at: i64, text: &str, items: &mut Vec<Item>) {
        let Ok(point) = self.points.intern(PointInfo::new(self.rule.name(), point, "")) else {
            return;
        };
        items.push(Item {
            point,
            at,
            sample: Sample::good(Value::from_text(text)),
            stream: Stream::Event,
            ahead: false,
            from: Some(self.index),
            feeds: false,
            goes_on: self.rule.mode == Mode::Live,
            copy_of: None,
        });
    }

    /// Its chain was behind, and is no longer.
    pub fn keeps_up(&self) {
        let subject = chain::subject(self.rule.name());
        self.events.clear(&chain::BEHIND, &subject, "keeps up again");
    }

    /// Readings that wait are within their bound, or no longer are.
    pub(super) fn look_at_held(&mut self, over: bool) {
        let name = self.rule.name();
        if over {
            self.events.raise(chain::held_too_many(name, limits::RULE_HELD_READINGS_MAX));
        } else if self.has_overflowed && self.held.is_empty() {
            self.events.clear(&chain::HELD_TOO_MANY, &chain::subject(name), "has its readings");
        }
        self.has_overflowed = over || (self.has_overflowed && !self.held.is_empty());
    }

    /// Readings that are all far too late: the clock was ahead and has come back.
    pub(super) fn look_at_lateness(&mut self, all: bool, none: bool, latest: i64) {
        let behind = self.time.watermark().saturating_sub(latest);
        let far = i64::try_from(limits::RULE_LATE_TOLD.as_micros()).unwrap_or(i64::MAX);
        if all && behind > far {
            self.events.raise(chain::all_late(self.rule.name(), behind / 1_000_000));
        } else if none {
            let subject = chain::subject(self.rule.name());
            self.events.clear(&chain::ALL_LATE, &subject, "gets readings in time again");
        }
    }
}

fn policy_words(policy: OnFailure) -> &'static str {
    match policy {
        OnFailure::Pass => "Its readings go on without it.",
        OnFailure::Drop => "Its readings are dropped and counted.",
        OnFailure::Hold => "Its readings wait in memory; the oldest go on when there are too many.",
    }
}
