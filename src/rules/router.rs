//! From the pipeline into the chains: which readings go where, decided once a point.
//!
//! A reading that no rule takes is not touched and waits for nothing. One that rules take goes into
//! the inbox of each chain that has such a rule. A chain that is behind, because its rules take longer
//! than their readings come, costs nobody else anything: what its inbox has no room for goes on
//! unruled (with `on_failure = "drop"` it is dropped), counted and told. Waiting would make one slow
//! rule everybody's; and `hold` is for a rule that will work again, not for one that never keeps up.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::OnFailure;
use super::convert::US_PER_MS;
use super::definition::{Definition, Mode};
use super::inbox::{Inbox, Input, Refusal};
use super::report::{Report, Shown};
use crate::clock::{Clock, counts_from_boot};
use crate::events::{Events, chain};
use crate::limits;
use crate::reading::{Group, PointId, Points, Sample, Stream, UnixMillis};

/// The doors of all chains; shared by the board, which changes them, and the pipeline.
#[derive(Debug, Default)]
pub struct Router(RwLock<Arc<Table>>);

/// The chains at one time.
#[derive(Debug, Default)]
pub struct Table {
    /// By chain.
    pub doors: Vec<Door>,
}

/// The way into one chain.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where its readings wait.
    pub inbox: Arc<Inbox>,
    /// Its rules, with what others see of them.
    pub rules: Vec<(Definition, Shown)>,
}

impl Router {
    /// Returns the doors as they are now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the state of every rule, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<Report> {
        let table = self.table();
        let rules = table.doors.iter().flat_map(|door| &door.rules);
        let mut all: Vec<Report> = rules.map(|(_, shown)| shown.read()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Puts other doors in their place.
    pub fn set(&self, table: Table) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

const NOWHERE: u32 = 1;
const FIRST_ROUTE: u32 = 2;

/// Where the readings of some points go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Route {
    chains: Vec<usize>,
    /// Whether they also go on, with the first of these.
    keep: bool,
}

/// The pipeline's view of the doors, with what it has learned about points.
pub struct Routes {
    router: Arc<Router>,
    points: Arc<Points>,
    clock: Arc<dyn Clock>,
    events: Events,
    table: Arc<Table>,
    /// By point id: 0 not looked at, [`NOWHERE`], or a route and [`FIRST_ROUTE`].
    by_point: Vec<u32>,
    routes: Vec<Route>,
}

impl Routes {
    /// A view of these doors.
    #[must_use]
    pub fn new(
        router: Arc<Router>,
        points: Arc<Points>,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Self {
        let table = router.table();
        Self { router, points, clock, events, table, by_point: Vec::new(), routes: Vec::new() }
    }

    /// Sends a group where it belongs; `on` is called with what goes on from here.
    pub fn split(&mut self, group: Group, on: &mut dyn FnMut(Group)) {
        let router = Arc::clone(&self.router);
        // Held until the group is delivered: an inbox is closed only after its doors were changed.
        let current = router.0.read().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, &self.table) {
            self.table = Arc::clone(&current);
            self.by_point.clear();
            self.routes.clear();
        }
        if self.table.doors.is_empty() || group.stream != Stream::Data {
            return on(group);
        }
        let first = group.points.first().map_or(NOWHERE, |point| self.route(*point));
        let alike = group.points.iter().all(|point| self.route(*point) == first);
        match first {
            NOWHERE if alike => on(group),
            route if alike => {
                let Group { at, points, samples, .. } = group;
                let input = self.input(at.0, points, samples);
                self.deliver(route, input, on);
            }
            _ => self.split_up(&group, on),
        }
    }

    /// Returns where a point's readings go.
    fn route(&mut self, point: PointId) -> u32 {
        let at = point.0 as usize;
        if at >= self.by_point.len() {
            self.by_point.resize(at + 1, 0);
        }
        if self.by_point[at] == 0 {
            self.by_point[at] = self.look(point);
        }
        self.by_point[at]
    }

    fn look(&mut self, point: PointId) -> u32 {
        let info = self.points.info(point);
        let takes = |rule: &Definition| rule.takes(&info.device, &info.point);
        let (mut chains, mut live, mut keep) = (Vec::new(), false, false);
        for (chain, door) in self.table.doors.iter().enumerate() {
            let mut takers = door.rules.iter().filter(|(rule, _)| takes(rule)).peekable();
            if takers.peek().is_some() {
                chains.push(chain);
            }
            for (rule, _) in takers.filter(|(rule, _)| rule.mode == Mode::Live) {
                live = true;
                keep |= rule.keep;
            }
        }
        if chains.is_empty() {
            return NOWHERE;
        }
        let route = Route { chains, keep: keep || !live };
        let known = self.routes.iter().position(|known| *known == route);
        let place = known.unwrap_or_else(|| {
            self.routes.push(route);
            self.routes.len() - 1
        });
        u32::try_from(place).map_or(NOWHERE, |place| place + FIRST_ROUTE)
    }

    fn input(&self, at_ms: i64, points: Arc<[PointId]>, samples: Vec<Sample>) -> Input {
        let at = at_ms.saturating_mul(US_PER_MS);
        let tolerance = i64::try_from(limits::RULE_AHEAD_MAX.as_millis()).unwrap_or(i64::MAX);
        let since_boot = counts_from_boot(UnixMillis(at_ms));
        let ahead = !since_boot && at_ms > self.clock.now().0.saturating_add(tolerance);
        Input { at, ahead, points, samples, goes_on: false }
    }

    /// As [`Routes::split`] for points of different routes.
    fn split_up(&mut self, group: &Group, on: &mut dyn FnMut(Group)) {
        let mut parts: HashMap<u32, (Vec<PointId>, Vec<Sample>)> = HashMap::new();
        for (point, sample) in group.points.iter().zip(&group.samples) {
            let (points, samples) = parts.entry(self.route(*point)).or_default();
            points.push(*point);
            samples.push(sample.clone());
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|(route, _)| *route);
        for (route, (points, samples)) in parts {
            let points: Arc<[PointId]> = points.into();
            if route == NOWHERE {
                on(Group { points, samples, ..*group });
            } else {
                self.deliver(route, self.input(group.at.0, points, samples), on);
            }
        }
    }

    /// Hands an input to the chains of a route.
    fn deliver(&mut self, route: u32, input: Input, on: &mut dyn FnMut(Group)) {
        let Some(Route { chains, keep }) = self.routes.get((route - FIRST_ROUTE) as usize) else {
            return;
        };
        let mut goes_on = false;
        for (place, chain) in chains.iter().enumerate() {
            let carries = *keep && place == 0;
            let given = Input { goes_on: carries, ..input.clone() };
            let door = &self.table.doors[*chain];
            if let Err(refusal) = door.inbox.push(given) {
                let is_behind = matches!(refusal, Refusal::Full(_));
                let unruled = self.go_past(door, &input, is_behind);
                goes_on |= carries || (!*keep && unruled);
            }
        }
        if goes_on {
            on(group_of(input));
        }
    }

    /// Counts what goes past a chain that is behind, or has not begun. Returns whether it goes on
    /// unruled.
    fn go_past(&self, door: &Door, input: &Input, is_behind: bool) -> bool {
        let Some(info) = input.points.first().map(|point| self.points.info(*point)) else {
            return false;
        };
        let count = input.samples.len() as u64;
        let mut unruled = false;
        for (rule, shown) in &door.rules {
            if rule.mode == Mode::Shadow || !rule.takes(&info.device, &info.point) {
                continue;
            }
            let mut report = shown.open();
            if rule.on_failure == OnFailure::Drop {
                report.dropped += count;
            } else {
                report.passed += count;
                unruled = true;
            }
            drop(report);
            if is_behind {
                self.events.raise(chain::behind(rule.name(), limits::RULE_INBOX_READINGS_MAX));
            }
        }
        if is_behind {
            door.inbox.told_behind();
        }
        unruled
    }
}

/// Turns an input back into the group that it was.
#[must_use]
pub fn group_of(input: Input) -> Group {
    let Input { at, points, samples, .. } = input;
    Group { stream: Stream::Data, at: UnixMillis(at.div_euclid(US_PER_MS)), points, samples }
}
