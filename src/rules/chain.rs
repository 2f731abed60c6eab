//! Rules that feed one another, on a thread of their own.
//!
//! The thread takes what waits as one batch, runs the rules in their order, and hands everything that
//! leaves the chain, with all that changed, to the store as one: the readings are on disk with the
//! state that led to them, or neither is. A rule that takes readings from more than one place is fed
//! reading by reading, so that what it sees does not depend on where a batch was cut.
//!
//! When no reading comes, the gateway's clock moves the watermark of rules that wait for a timer,
//! once a second. That is an input like any other ([`Feed::Clock`]): the same inputs make the same
//! outputs, wherever and whenever.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::convert::US_PER_MS;
use super::inbox::{Inbox, Input};
use super::node::{Item, Node};
use super::{Failure, Mode};
use crate::clock::Clock;
use crate::limits;
use crate::reading::{Group, PointId, Stream, UnixMillis};
use crate::state::Change;

/// Where what leaves a chain goes. Two kinds: the pipeline's way to the store, and lists in tests.
pub trait Sink: Send {
    /// Takes readings and what changed with them, as one. Returns the rules whose next change is to
    /// say all that is kept of them.
    fn take(&mut self, groups: Vec<Group>, changes: Vec<Change>) -> Vec<Arc<str>>;
}

/// What a chain is fed with.
#[derive(Debug, Clone)]
pub enum Feed {
    /// Readings, in the order of arrival.
    Readings(Vec<Input>),
    /// The gateway's clock, microseconds since 1970 UTC.
    Clock(i64),
}

/// See the file's head.
pub struct Chain {
    /// The rules, each behind those that feed it.
    pub nodes: Vec<Node>,
    /// For each rule, how many others feed it.
    fed_by: Vec<usize>,
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
    /// Called when a rule declared what its file did not announce.
    declared: Arc<dyn Fn() + Send + Sync>,
    lists: HashMap<Box<[PointId]>, Arc<[PointId]>>,
}

impl Chain {
    /// A chain of these rules in this order; `fed_by` says how many others feed each.
    #[must_use]
    pub fn new(
        mut nodes: Vec<Node>,
        fed_by: Vec<usize>,
        sink: Box<dyn Sink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.index = index;
        }
        let declared: Arc<dyn Fn() + Send + Sync> = Arc::new(|| ());
        Self { nodes, fed_by, sink, clock, declared, lists: HashMap::new() }
    }

    /// Calls this when a rule declared what its file did not announce.
    #[must_use]
    pub fn telling(self, declared: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { declared, ..self }
    }

    /// Runs until the inbox is closed and empty, and gives the rules back.
    pub fn run(mut self, inbox: &Inbox) -> Vec<Node> {
        self.hand_on(Vec::new());
        loop {
            let waiting = self.nodes.iter().any(|node| node.next_timer().is_some());
            let call = inbox.wait(waiting.then_some(limits::RULE_CLOCK_LOOK));
            let feed = if call.inputs.is_empty() {
                self.clock.plausible().then(|| Feed::Clock(self.idle_time()))
            } else {
                Some(Feed::Readings(call.inputs))
            };
            if let Some(feed) =
                feed.filter(|feed| !call.closed || matches!(feed, Feed::Readings(_)))
            {
                self.feed_guarded(feed);
            }
            if call.caught_up {
                self.nodes.iter().for_each(Node::keeps_up);
            }
            if call.closed {
                return self.nodes;
            }
        }
    }

    /// What the clock may move a watermark to: readings may still be on their way from the source.
    fn idle_time(&self) -> i64 {
        let grace = i64::try_from(limits::RULE_CLOCK_GRACE.as_millis()).unwrap_or(i64::MAX);
        self.clock.now().0.saturating_sub(grace).saturating_mul(US_PER_MS)
    }

    /// As [`Chain::feed`]; a fault of ours stops these rules and nothing else.
    fn feed_guarded(&mut self, feed: Feed) {
        let copy = feed.clone();
        if catch_unwind(AssertUnwindSafe(|| self.feed(feed))).is_err() {
            let failure = Failure {
                code: "gateway".to_owned(),
                message: "the gateway itself failed while it ran this chain".to_owned(),
            };
            for node in &mut self.nodes {
                node.stop(&failure);
                node.changes.clear();
                node.anew = true;
            }
            // Without rules there is nothing left that failed.
            let _ = catch_unwind(AssertUnwindSafe(|| self.feed(copy)));
        }
    }

    /// Feeds the rules and hands on what they made.
    pub fn feed(&mut self, feed: Feed) {
        let mut items = Vec::new();
        match feed {
            Feed::Clock(now) => {
                for index in 0..self.nodes.len() {
                    let before = items.len();
                    self.nodes[index].tick(now, &mut items);
                    self.consume(index, &mut items, before);
                    let which = self.fresh_for(index, &items, 0);
                    if !which.is_empty() {
                        let before = items.len();
                        self.nodes[index].feed(&mut items, &which);
                        self.consume(index, &mut items, before);
                    }
                }
            }
            Feed::Readings(inputs) => {
                let raw: Vec<Item> = inputs.iter().flat_map(items_of).collect();
                if self.is_mixed(&raw) {
                    for item in raw {
                        let from = items.len();
                        items.push(item);
                        self.pass_through(&mut items, from);
                    }
                } else {
                    items = raw;
                    self.pass_through(&mut items, 0);
                }
            }
        }
        let groups = self.groups(items);
        self.hand_on(groups);
        let mut has_news = false;
        for node in &mut self.nodes {
            has_news |= std::mem::take(&mut node.has_news);
        }
        if has_news {
            (self.declared)();
        }
    }

    /// Runs the rules, in their order, over the items from `from` on.
    fn pass_through(&mut self, items: &mut Vec<Item>, from: usize) {
        for index in 0..self.nodes.len() {
            let which = self.fresh_for(index, items, from);
            if which.is_empty() && self.nodes[index].held.is_empty() {
                continue;
            }
            let before = items.len();
            self.nodes[index].feed(items, &which);
            self.consume(index, items, before);
        }
    }

    fn fresh_for(&mut self, index: usize, items: &[Item], from: usize) -> Vec<usize> {
        let node = &mut self.nodes[index];
        (from..items.len()).filter(|at| node.takes(&items[*at])).collect()
    }

    /// What a rule made and others of the chain take does not go on, unless one of them keeps it.
    fn consume(&mut self, index: usize, items: &mut [Item], before: usize) {
        for item in items[before..].iter_mut().filter(|item| item.from == Some(index) && item.feeds)
        {
            let later = &mut self.nodes[index + 1..];
            let mut takers = later.iter_mut().filter_map(|node| {
                let live = node.rule.mode == Mode::Live;
                (live && node.takes(item)).then_some(node.rule.keep)
            });
            if let Some(first) = takers.next() {
                item.goes_on = first || takers.any(|keep| keep);
            }
        }
    }

    /// Whether some rule takes these readings from more than one place.
    fn is_mixed(&mut self, raw: &[Item]) -> bool {
        let fed_by = &self.fed_by;
        self.nodes.iter_mut().zip(fed_by).any(|(node, fed_by)| {
            *fed_by > 1 || (*fed_by == 1 && raw.iter().any(|item| node.takes(item)))
        })
    }

    /// Puts what goes on into groups: neighbours of one stream and instant.
    fn groups(&mut self, items: Vec<Item>) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut points: Vec<PointId> = Vec::new();
        let mut samples = Vec::new();
        let mut open: Option<(Stream, UnixMillis)> = None;
        for item in items.into_iter().filter(|item| item.goes_on) {
            let key = (item.stream, UnixMillis(item.at.div_euclid(US_PER_MS)));
            if open.is_some_and(|open| open != key) {
                self.close(&mut open, &mut points, &mut samples, &mut groups);
            }
            open = Some(key);
            points.push(item.point);
            samples.push(item.sample);
        }
        self.close(&mut open, &mut points, &mut samples, &mut groups);
        groups
    }

    fn close(
        &mut self,
        open: &mut Option<(Stream, UnixMillis)>,
        points: &mut Vec<PointId>,
        samples: &mut Vec<crate::reading::Sample>,
        groups: &mut Vec<Group>,
    ) {
        let Some((stream, at)) = open.take() else { return };
        let points = self.list(points);
        groups.push(Group { stream, at, points, samples: std::mem::take(samples) });
    }

    /// Returns the shared list of these points: the batch encoder knows a list by its address.
    fn list(&mut self, points: &mut Vec<PointId>) -> Arc<[PointId]> {
        if let Some(list) = self.lists.get(points.as_slice()) {
            points.clear();
            return Arc::clone(list);
        }
        if self.lists.len() >= limits::RULE_POINT_LISTS_MAX {
            self.lists.clear();
        }
        let list: Arc<[PointId]> = points.as_slice().into();
        self.lists.insert(std::mem::take(points).into(), Arc::clone(&list));
        list
    }

    /// Hands readings and changes to the store, together.
    fn hand_on(&mut self, groups: Vec<Group>) {
        let mut changes = Vec::new();
        for node in &mut self.nodes {
            let made = std::mem::take(&mut node.changes);
            if std::mem::take(&mut node.anew) {
                changes.push(node.kept.to_change(Arc::clone(node.rule.name())));
            } else {
                changes.extend(made);
            }
        }
        if groups.is_empty() && changes.is_empty() {
            return;
        }
        for rule in self.sink.take(groups, changes) {
            for node in self.nodes.iter_mut().filter(|node| *node.rule.name() == rule) {
                node.anew = true;
            }
        }
    }
}

fn items_of(input: &Input) -> impl Iterator<Item = Item> + '_ {
    input.points.iter().zip(&input.samples).map(|(point, sample)| Item {
        point: *point,
        at: input.at,
        sample: sample.clone(),
        stream: Stream::Data,
        ahead: input.ahead,
        from: None,
        feeds: true,
        goes_on: input.goes_on,
        copy_of: None,
    })
}
