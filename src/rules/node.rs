//! One rule in its chain: what it is given, in which calls, and what comes of them.
//!
//! Calls are cut where the rule's watermark moves (`time.rs`) and where readings begin or end to be of
//! a board that does not know the time, and nowhere else. What a call did is applied to the mirror of
//! what is kept and handed on; nothing here waits.

mod telling;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::convert::{quality_to_rule, sample_of_rule, value_to_rule};
use super::definition::{Definition, Mode};
use super::report::{Line, Shown, State};
use super::time::Time;
use super::trial::{Made, Side};
use super::{Climb, DECLARED, Failure, Ladder, OnFailure, Outcome, wit};
use crate::clock::counts_from_boot;
use crate::events::{Events, chain};
use crate::limits;
use crate::reading::{PointId, PointInfo, Points, Quality, Sample, Stream, UnixMillis};
use crate::state::{Change, Kept, Place};

/// A reading within a chain.
#[derive(Debug, Clone)]
pub struct Item {
    /// Which point.
    pub point: PointId,
    /// Microseconds since 1970 UTC, or since boot.
    pub at: i64,
    /// What.
    pub sample: Sample,
    /// Where it goes.
    pub stream: Stream,
    /// Whether it must not move a watermark.
    pub ahead: bool,
    /// The rule that made it; `None` for one from a source.
    pub from: Option<usize>,
    /// Whether others of the chain are fed with it.
    pub feeds: bool,
    /// Whether it leaves the chain.
    pub goes_on: bool,
    /// Its place among the items of this batch, for a copy of one.
    pub copy_of: Option<usize>,
}

impl Item {
    fn is_unsynced(&self) -> bool {
        counts_from_boot(UnixMillis(self.at / super::convert::US_PER_MS))
            || self.sample.quality == Quality::ClockUnsynced
    }
}

/// One rule in its chain.
pub struct Node {
    /// As configured.
    pub rule: Definition,
    /// The rule, unless it cannot run.
    pub ladder: Option<Ladder>,
    /// The mirror of what is kept of it.
    pub kept: Kept,
    /// What it has changed since that was handed on.
    pub changes: Vec<Change>,
    /// The store is to have all that is kept, not what changed.
    pub anew: bool,
    /// What others see.
    pub shown: Shown,
    /// Readings that wait while it cannot run, with `on_failure = "hold"`.
    pub held: VecDeque<Item>,
    /// Its place in the chain.
    pub index: usize,
    /// It declared what its file did not announce since this was looked at last.
    pub has_news: bool,
    /// More readings waited than there was room for, and some still do.
    has_overflowed: bool,
    time: Time,
    series: Vec<PointId>,
    series_of: HashMap<PointId, u32>,
    /// Whether it takes a point, by point id: when a source makes it, when a rule does.
    takes: Vec<Option<bool>>,
    outputs: Vec<(Stream, PointId)>,
    points: Arc<Points>,
    events: Events,
}

impl Node {
    /// A rule that stands where `kept` says.
    #[must_use]
    pub fn new(
        rule: Definition,
        ladder: Option<Ladder>,
        kept: Kept,
        world: (&Arc<Points>, &Events),
    ) -> Self {
        let time = Time::at(kept.place.watermark, rule.lateness);
        let report = super::Report {
            name: Arc::clone(rule.name()),
            state: if ladder.is_some() { State::Running } else { State::Stopped },
            version: Arc::clone(&rule.version),
            digest: Arc::clone(&rule.digest),
            watermark: time.watermark(),
            keys: kept.state.len(),
            timers: kept.timers.len(),
            declared: kept.declared.clone(),
            ..super::Report::default()
        };
        let mut node = Self {
            rule,
            ladder,
            kept,
            changes: Vec::new(),
            anew: false,
            shown: Shown::new(report),
            held: VecDeque::new(),
            index: 0,
            has_news: false,
            has_overflowed: false,
            time,
            series: Vec::new(),
            series_of: HashMap::new(),
            takes: Vec::new(),
            outputs: Vec::new(),
            points: Arc::clone(world.0),
            events: world.1.clone(),
        };
        node.learn_outputs();
        node
    }

    /// Puts another definition and its rule in the place of this one; series and what is kept stay.
    pub fn replace(&mut self, rule: Definition, ladder: Option<Ladder>) {
        let mut report = self.shown.open();
        report.version = Arc::clone(&rule.version);
        report.digest = Arc::clone(&rule.digest);
        report.state = if ladder.is_some() { State::Running } else { State::Stopped };
        report.failure = None;
        drop(report);
        self.time = Time::at(self.time.watermark(), rule.lateness);
        (self.rule, self.ladder) = (rule, ladder);
        self.takes.clear();
    }

    /// Returns the series it knows, as its rule numbers them.
    #[must_use]
    pub fn series(&self) -> Vec<wit::Series> {
        self.series.iter().zip(0..).map(|(point, id)| self.describe(*point, id)).collect()
    }

    fn describe(&self, point: PointId, id: u32) -> wit::Series {
        let info = self.points.info(point);
        let unit = (!info.unit.is_empty()).then(|| info.unit.to_string());
        wit::Series {
            id,
            device: info.device.to_string(),
            point: info.point.to_string(),
            unit,
            labels: Vec::new(),
        }
    }

    /// Returns whether it takes this reading.
    pub fn takes(&mut self, item: &Item) -> bool {
        if item.from == Some(self.index) || (item.from.is_some() && !item.feeds) {
            return false;
        }
        let made = item.from.is_some();
        let at = item.point.0 as usize * 2 + usize::from(made);
        if at >= self.takes.len() {
            self.takes.resize(at + 1, None);
        }
        if let Some(known) = self.takes[at] {
            return known;
        }
        let info = self.points.info(item.point);
        let takes = if made {
            self.rule.takes_made(&info.device, &info.point)
        } else {
            self.rule.takes(&info.device, &info.point)
        };
        self.takes[at] = Some(takes);
        takes
    }

    /// Returns when the next timer is due, if the gateway's clock may fire it.
    #[must_use]
    pub fn next_timer(&self) -> Option<i64> {
        self.kept.timers.values().min().copied().filter(|_| self.ladder.is_some())
    }

    /// Hands readings over, in order. What it makes goes to the end of `items`.
    pub fn feed(&mut self, items: &mut Vec<Item>, which: &[usize]) {
        let mut segment: Vec<Item> = Vec::new();
        let held = std::mem::take(&mut self.held);
        let copy = |index: &usize| Item { copy_of: Some(*index), ..items[*index].clone() };
        let fresh: Vec<Item> = which.iter().map(copy).collect();
        for item in held.into_iter().chain(fresh) {
            let unsynced = item.is_unsynced();
            let moves = !unsynced && !item.ahead;
            if let Some(to) = self.time.moved_by(item.at).filter(|_| moves) {
                self.call(&mut segment, items);
                self.time.go(to);
                self.fire(items);
            } else if segment.first().is_some_and(|first| first.is_unsynced() != unsynced) {
                self.call(&mut segment, items);
            }
            segment.push(item);
        }
        self.call(&mut segment, items);
        self.look_at_held(false);
        self.show();
    }

    /// Moves the watermark as the gateway's clock says, when a timer waits for that.
    pub fn tick(&mut self, now: i64, items: &mut Vec<Item>) {
        let Some(due) = self.next_timer() else { return };
        let Some(to) = self.time.moved_by(now).filter(|to| due <= *to) else { return };
        tracing::debug!("rule {}: the clock moves the watermark to {to}", self.rule.name());
        self.time.go(to);
        self.fire(items);
        self.show();
    }

    /// Fires what the watermark has passed, and what that sets anew, within a bound.
    fn fire(&mut self, items: &mut Vec<Item>) {
        for _ in 0..limits::RULE_TIMER_ROUNDS_MAX {
            let due = |(_, at): &(&Arc<str>, &i64)| **at <= self.time.watermark();
            let mut fired: Vec<wit::Fired> = (self.kept.timers.iter().filter(due))
                .map(|(name, at)| wit::Fired { name: name.to_string(), at: *at })
                .collect();
            fired.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
            let context = self.context(true);
            let Some(ladder) = self.ladder.as_mut().filter(|_| !fired.is_empty()) else { return };
            let climb = ladder.on_timer(&context, &fired);
            let upto = climb.unruled.unwrap_or(fired.len());
            let gone =
                fired[..upto].iter().map(|fired| (fired.name.as_str().into(), None)).collect();
            let given_up = climb.unruled.is_some();
            self.take(climb.outcome, gone, &context, items);
            for step in climb.steps {
                self.tell(step, None, items);
            }
            if given_up {
                return;
            }
        }
    }

    fn context(&self, synced: bool) -> wit::Context {
        wit::Context {
            batch: self.kept.place.batch + 1,
            now: self.time.now(),
            watermark: self.time.watermark(),
            clock_synced: synced,
            fresh: false,
        }
    }

    /// Makes one call over what has gathered.
    fn call(&mut self, segment: &mut Vec<Item>, items: &mut Vec<Item>) {
        if segment.is_empty() {
            return;
        }
        let batch = std::mem::take(segment);
        if self.ladder.is_none() {
            self.unruled(batch, items);
            return;
        }
        let synced = !batch[0].is_unsynced();
        self.meet(&batch, items);
        let mut late = 0;
        let readings: Vec<wit::Reading> = batch
            .iter()
            .map(|item| {
                let mut quality = quality_to_rule(item.sample.quality);
                if !synced {
                    quality |= wit::Quality::CLOCK_UNSYNCED;
                } else if self.time.is_late(item.at) {
                    quality |= wit::Quality::LATE;
                    late += 1;
                }
                let series = self.series_of.get(&item.point).copied().unwrap_or_default();
                wit::Reading { series, at: item.at, quality, value: value_to_rule(&item.sample) }
            })
            .collect();
        let context = self.context(synced);
        let Some(ladder) = &mut self.ladder else { return };
        let Climb { outcome, aside, unruled, steps } = ladder.process(&context, &readings);
        let tried = unruled.unwrap_or(batch.len());
        {
            let mut report = self.shown.open();
            report.taken += tried as u64;
            report.late += late;
            report.aside += aside.len() as u64;
            if let Some((side, trial)) = &report.trial {
                trial.was_given(*side, tried as u64);
            }
        }
        self.take(outcome, Vec::new(), &context, items);
        for step in steps {
            self.tell(step, Some(&batch), items);
        }
        let poison = aside.iter().map(|at| batch[*at].clone()).collect();
        self.past(poison, items);
        if tried < batch.len() {
            self.unruled(batch[tried..].to_vec(), items);
        }
        let latest = batch.iter().map(|item| item.at).max().unwrap_or_default();
        self.look_at_lateness(late == batch.len() as u64, late == 0, latest);
    }

    /// Tells the rule of series that it meets for the first time.
    fn meet(&mut self, batch: &[Item], items: &mut Vec<Item>) {
        let mut met = Vec::new();
        for item in batch {
            if !self.series_of.contains_key(&item.point) {
                let id = u32::try_from(self.series.len()).unwrap_or(DECLARED);
                self.series.push(item.point);
                self.series_of.insert(item.point, id);
                met.push(self.describe(item.point, id));
            }
        }
        let Some(ladder) = self.ladder.as_mut().filter(|_| !met.is_empty()) else { return };
        for step in ladder.series_added(&met) {
            self.tell(step, None, items);
        }
    }

    /// Takes what a call did.
    fn take(
        &mut self,
        outcome: Outcome,
        gone: Vec<(Arc<str>, Option<i64>)>,
        context: &wit::Context,
        items: &mut Vec<Item>,
    ) {
        let Outcome { emitted, change, log, fuel, took } = outcome;
        let version = match change.place.version {
            0 => self.kept.place.version,
            version => version,
        };
        let place = Place { batch: context.batch, watermark: context.watermark, version };
        let timers = gone.into_iter().chain(change.timers).collect();
        let rule = Arc::clone(self.rule.name());
        let change = Change { rule, timers, place, ..change };
        self.kept.apply(&change);
        self.changes.push(change);
        self.learn_outputs();
        let mut report = self.shown.open();
        report.emitted += emitted.len() as u64;
        report.calls += 1;
        report.fuel += fuel;
        report.took += took;
        for (level, text) in log {
            tracing::info!("rule {}: {text}", self.rule.name());
            if report.log.len() >= limits::RULE_LOG_LINES_KEPT {
                report.log.pop_front();
            }
            report.log.push_back(Line { at: context.now, level, text });
        }
        let trial = report.trial.clone();
        drop(report);
        let made: Vec<Item> = emitted.iter().filter_map(|one| self.emitted(one)).collect();
        if let Some((side, trial)) = trial {
            trial.made(side, made.iter().map(|item| self.made(item)).collect(), fuel, took);
        }
        if self.rule.mode == Mode::Live {
            items.extend(made);
        }
    }

    /// What the other side of a trial is compared with.
    fn made(&self, item: &Item) -> Made {
        let info = self.points.info(item.point);
        let point = format!("{}/{}", info.device, info.point).into();
        Made { stream: item.stream, point, at: item.at, sample: item.sample.clone() }
    }

    fn emitted(&self, reading: &wit::Reading) -> Option<Item> {
        let (stream, point, feeds) = match reading.series.checked_sub(DECLARED) {
            None => (Stream::Data, *self.series.get(reading.series as usize)?, false),
            Some(place) => {
                let (stream, point) = *self.outputs.get(place as usize)?;
                (stream, point, stream == Stream::Data)
            }
        };
        let sample = sample_of_rule(reading);
        let from = Some(self.index);
        let (at, goes_on) = (reading.at, true);
        Some(Item { point, at, sample, stream, ahead: false, from, feeds, goes_on, copy_of: None })
    }

    /// Gives every declared output its point. A rule that invents more than the river holds is
    /// stopped.
    fn learn_outputs(&mut self) {
        while let Some(output) = self.kept.declared.get(self.outputs.len()) {
            let info = PointInfo::new(&output.device, &output.point, &output.unit);
            match self.points.intern(info) {
                Ok(point) => {
                    self.has_news |= self.rule.is_unannounced(output);
                    self.outputs.push((output.stream, point));
                }
                Err(_) => {
                    self.stop(&Failure {
                        code: "output.points".to_owned(),
                        message: format!("the gateway holds {} points", limits::POINTS_MAX),
                    });
                    return;
                }
            }
        }
    }

    /// Takes the rule out of its chain until it is configured anew.
    pub fn stop(&mut self, failure: &Failure) {
        if self.ladder.take().is_some() {
            self.events.raise(chain::stopped(self.rule.name(), &failure.code, &failure.message));
        }
        let mut report = self.shown.open();
        report.state = State::Stopped;
        report.failure = Some(failure.clone());
        if let Some((Side::Trial, trial)) = &report.trial {
            trial.failed(failure);
        }
    }

    /// Readings that nothing was tried with: held, dropped or handed on, as configured.
    fn unruled(&mut self, batch: Vec<Item>, items: &mut Vec<Item>) {
        if self.rule.on_failure != OnFailure::Hold || self.rule.mode == Mode::Shadow {
            self.past(batch, items);
            return;
        }
        self.held.extend(batch.into_iter().map(|item| Item { copy_of: None, ..item }));
        let over = self.held.len().saturating_sub(limits::RULE_HELD_READINGS_MAX);
        if over > 0 {
            let oldest = self.held.drain(..over).collect();
            self.look_at_held(true);
            self.past(oldest, items);
        }
    }

    /// Readings that the rule will not see: dropped, or handed on unless they go on anyway.
    pub fn past(&mut self, batch: Vec<Item>, items: &mut Vec<Item>) {
        if self.rule.mode == Mode::Shadow || batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        if self.rule.on_failure == OnFailure::Drop {
            self.shown.open().dropped += count;
            return;
        }
        self.shown.open().passed += count;
        for item in batch.into_iter().filter(|item| !item.goes_on) {
            match item.copy_of.and_then(|index| items.get_mut(index)) {
                Some(origin) => origin.goes_on = true,
                None => {
                    let from = Some(self.index);
                    items.push(Item { from, feeds: false, goes_on: true, ..item });
                }
            }
        }
    }

    fn show(&mut self) {
        let given_up = self.ladder.as_ref().is_some_and(Ladder::given_up);
        let mut report = self.shown.open();
        report.watermark = self.time.watermark();
        report.held = self.held.len() as u64;
        report.keys = self.kept.state.len();
        report.timers = self.kept.timers.len();
        if report.declared.len() != self.kept.declared.len() {
            report.declared.clone_from(&self.kept.declared);
        }
        if report.state == State::GivenUp && !given_up {
            report.state = State::Running;
        }
    }
}
