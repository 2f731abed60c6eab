//! All chains of a gateway: which rules form which, their threads, and how they are changed while
//! readings flow.
//!
//! **A change** is made between two batches. Files are checked and compiled first, while everything
//! goes on. Then new inboxes take the readings of the chains that change; the old ones finish what
//! waits and give their rules back; rules that are as they were go on where they stand, the others
//! begin with what was kept. No reading is lost or processed twice, and none waits for a compiler.
//! A rule that cannot be had in its new form goes on in its old one, and that is told.
//!
//! **Chains follow what rules make.** A rule may declare an output that its file did not announce, when
//! it is opened or later. If another takes that, the two are put into one chain between two batches
//! ([`Board::join`]); nothing of either is lost or begun anew.
//!
//! **Before the rules have begun** nothing waits here: their readings go the way their `on_failure`
//! says. Whoever reads keeps sources from starting until the first [`Board::apply`] is through.
//!
//! What is kept of a rule that is taken out of the configuration stays on disk, for the day it comes
//! back; [`crate::state::Change::gone`] forgets it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::chain::{Chain, Sink};
use super::definition::{Definition, Loaded, Loader};
use super::graph::{Circle, Graph, Knot};
use super::inbox::Inbox;
use super::node::Node;
use super::pattern::Pattern;
use super::report::Shown;
use super::router::{Door, Router, Table, group_of};
use super::trial::{Side, Trial};
use super::{Failure, Ladder, Mode};
use crate::clock::Clock;
use crate::events::{Events, chain};
use crate::limits;
use crate::reading::Points;
use crate::state::Kept;

/// What rules live in.
#[derive(Clone)]
pub struct World {
    /// Where names become ids.
    pub points: Arc<Points>,
    /// Moves watermarks when no reading comes.
    pub clock: Arc<dyn Clock>,
    /// Where trouble is told.
    pub events: Events,
    /// Makes rules.
    pub loader: Arc<dyn Loader>,
    /// Makes a chain's way out.
    pub sink: Arc<dyn Fn() -> Box<dyn Sink> + Send + Sync>,
    /// Called on a chain's thread when one of its rules declared what its file did not announce; asks
    /// for [`Board::join`], which must not be called from there.
    pub declared: Arc<dyn Fn() + Send + Sync>,
}

/// See the file's head.
pub struct Board {
    world: World,
    router: Arc<Router>,
    chains: Vec<Running>,
}

/// A chain on its thread.
struct Running {
    inbox: Arc<Inbox>,
    rules: Vec<(Definition, Shown)>,
    /// For each rule, how many others feed it.
    fed_by: Vec<usize>,
    /// Gives the rules back when the thread ends; closed when it panicked.
    done: Receiver<Vec<Node>>,
}

/// A rule that is to run, made from its definition.
enum Made {
    /// It runs already, as it should.
    Same,
    /// To begin, or to take the place of the one that runs.
    New(Arc<dyn Loaded>),
    /// It cannot be had.
    Refused(Failure),
}

impl Board {
    /// A board for these rules, which [`Board::apply`] begins.
    #[must_use]
    pub fn new(rules: &[Definition], world: World) -> Self {
        let router: Arc<Router> = Arc::default();
        if !rules.is_empty() {
            let inbox = Arc::<Inbox>::default();
            inbox.close();
            let rules = rules.iter().map(|rule| (rule.clone(), Shown::waiting(rule))).collect();
            router.set(Table { doors: vec![Door { inbox, rules }] });
        }
        Self { world, router, chains: Vec::new() }
    }

    /// Returns the doors of its chains, for the pipeline.
    #[must_use]
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// Returns the definitions that run, in the order of their chains.
    pub fn rules(&self) -> impl Iterator<Item = &Definition> {
        self.chains.iter().flat_map(|chain| &chain.rules).map(|(rule, _)| rule)
    }

    /// Makes exactly these rules run; those that do not run yet begin where `kept` says they stood.
    /// Blocks while files are compiled and old chains finish what waits. Returns what could not be
    /// done, which is told too: those rules go on as they were, or stand still and their readings go
    /// the way their `on_failure` says.
    pub fn apply(
        &mut self,
        rules: Vec<Definition>,
        mut kept: BTreeMap<Arc<str>, Kept>,
    ) -> Vec<(Arc<str>, Failure)> {
        let mut refused = Vec::new();
        fork(&rules, &mut kept);
        let made = rules.into_iter().map(|rule| self.make(rule, &mut refused)).collect();
        self.arrange(made, kept, &mut refused);
        self.join();
        refused
    }

    /// Puts rules that have come to feed one another into one chain, each behind those that feed it.
    /// Blocks as [`Board::apply`] does, but for the compiler. Returns whether there were any.
    pub fn join(&mut self) -> bool {
        let mut joined = false;
        // Each round connects two at least that were not.
        for _ in 0..self.rules().count() {
            let mut made: Vec<_> = self.rules().map(|rule| (rule.clone(), Made::Same)).collect();
            let mut refused = Vec::new();
            let graph = self.graph(&mut made, &BTreeMap::new(), &mut refused);
            let stands = |places: &Vec<usize>| {
                let names = places.iter().map(|place| made[*place].0.name());
                let names: Vec<_> = names.collect();
                let fed_by = graph.fed_by(places);
                self.chains.iter().any(|chain| {
                    chain.rules.iter().map(|(rule, _)| rule.name()).eq(names.iter().copied())
                        && chain.fed_by == fed_by
                })
            };
            if refused.is_empty() && graph.chains.iter().all(stands) {
                break;
            }
            joined = true;
            self.arrange(made, BTreeMap::new(), &mut refused);
        }
        joined
    }

    /// Makes exactly these run, in the chains that they form.
    fn arrange(
        &mut self,
        mut made: Vec<(Definition, Made)>,
        mut kept: BTreeMap<Arc<str>, Kept>,
        refused: &mut Vec<(Arc<str>, Failure)>,
    ) {
        let graph = self.graph(&mut made, &kept, refused);
        let mut old: Vec<Option<Running>> =
            std::mem::take(&mut self.chains).into_iter().map(Some).collect();
        let mut made: Vec<Option<(Definition, Made)>> = made.into_iter().map(Some).collect();
        // Chains that are as they were are not touched.
        let mut plan = Vec::new();
        for places in &graph.chains {
            let same = old.iter_mut().find(|running| {
                let fed_by = graph.fed_by(places);
                running.as_ref().is_some_and(|running| {
                    running.fed_by == fed_by && is_untouched(running, places, &made)
                })
            });
            match same.and_then(Option::take) {
                Some(running) => self.chains.push(running),
                None => plan.push((places, Arc::<Inbox>::default())),
            }
        }
        let mut nodes = self.hand_over(&plan, &made, old);
        for (places, inbox) in plan {
            let mut chain = Vec::new();
            for place in places {
                let Some((rule, made)) = made[*place].take() else { continue };
                let stood = nodes.remove(rule.name());
                let parked = kept.remove(rule.name());
                chain.push(self.begin((stood, parked), rule, made, refused));
            }
            self.run(chain, graph.fed_by(places), inbox);
        }
        self.router.set(Table { doors: self.doors() });
        self.compare();
    }

    /// Puts the two sides of every trial together.
    fn compare(&self) {
        let all = || self.chains.iter().flat_map(|chain| &chain.rules);
        for (rule, shown) in all().filter(|(rule, _)| rule.beside.is_none()) {
            let beside =
                |other: &&(Definition, Shown)| other.0.beside.as_ref() == Some(rule.name());
            let Some((tried, on_trial)) = all().find(beside) else {
                shown.open().trial = None;
                continue;
            };
            let mut report = on_trial.open();
            let trial = match &report.trial {
                Some((_, trial)) if report.digest == tried.digest => trial.clone(),
                _ => Trial::new(&tried.trial),
            };
            if report.state == super::State::Stopped {
                let failure = report.failure.clone().unwrap_or_else(|| Failure {
                    code: "open".to_owned(),
                    message: "it could not be begun".to_owned(),
                });
                trial.failed(&failure);
            }
            report.trial = Some((Side::Trial, trial.clone()));
            drop(report);
            shown.open().trial = Some((Side::Live, trial));
        }
    }

    /// Checks and compiles what is new or changed.
    fn make(&self, rule: Definition, refused: &mut Vec<(Arc<str>, Failure)>) -> (Definition, Made) {
        let mut all = self.chains.iter().flat_map(|chain| &chain.rules);
        let known = all.find(|(running, _)| running.name() == rule.name());
        let running = known.map(|(running, _)| running);
        // One that stands still is tried anew.
        let stands = known.is_some_and(|(_, shown)| shown.open().state != super::State::Stopped);
        if stands && running.is_some_and(|running| running.is_same(&rule)) {
            return (rule, Made::Same);
        }
        match self.world.loader.load(&rule) {
            Ok(loaded) => (rule, Made::New(loaded)),
            Err(failure) => {
                self.tell(&rule, running.is_some(), &failure);
                refused.push((Arc::clone(rule.name()), failure.clone()));
                match running {
                    Some(running) => (running.clone(), Made::Same),
                    None => (rule, Made::Refused(failure)),
                }
            }
        }
    }

    fn tell(&self, rule: &Definition, runs: bool, failure: &Failure) {
        let Failure { code, message } = failure;
        self.world.events.raise(chain::not_started(rule.name(), runs, code, message));
    }

    /// Says that what kept a rule from running is over.
    fn runs(&self, rule: &Definition) {
        for code in [&chain::NOT_STARTED, &chain::STOPPED, &chain::GIVEN_UP] {
            self.world.events.clear(code, &chain::subject(rule.name()), "runs");
        }
    }

    /// Orders the rules. One that closes a circle is taken out until there is none.
    fn graph(
        &self,
        made: &mut [(Definition, Made)],
        kept: &BTreeMap<Arc<str>, Kept>,
        refused: &mut Vec<(Arc<str>, Failure)>,
    ) -> Graph {
        let status = self.router.status();
        let mut knots: Vec<Knot> = (made.iter())
            .map(|(rule, made)| {
                let report = status.iter().find(|report| report.name == *rule.name());
                let stands_still = report.is_some_and(|it| it.state == super::State::Stopped)
                    && matches!(made, Made::Same | Made::Refused(_));
                let (mut on, mut makes) = (rule.on.clone(), Vec::new());
                if stands_still {
                    on.clear();
                } else if rule.mode == Mode::Live {
                    let parked = kept.get(rule.name()).map(|kept| &kept.declared);
                    let running = report.map(|report| &report.declared);
                    makes.clone_from(&rule.makes);
                    for declared in parked.into_iter().chain(running) {
                        makes.extend(unannounced(declared, rule));
                    }
                }
                Knot { name: Arc::clone(rule.name()), on, makes }
            })
            .collect();
        loop {
            match Graph::of(&knots) {
                Ok(graph) => return graph,
                Err(Circle(round)) => {
                    let last = round.iter().copied().max().unwrap_or_default();
                    let names: Vec<&str> = round.iter().map(|knot| &*knots[*knot].name).collect();
                    let failure = Failure {
                        code: "graph.circle".to_owned(),
                        message: format!("{} feed one another in a circle", names.join(", ")),
                    };
                    let (rule, made) = &mut made[last];
                    self.tell(rule, false, &failure);
                    refused.push((Arc::clone(rule.name()), failure.clone()));
                    *made = Made::Refused(failure);
                    knots[last].on.clear();
                    knots[last].makes.clear();
                }
            }
        }
    }

    /// Lets new inboxes take the readings, and the old chains finish. Returns their rules.
    fn hand_over(
        &mut self,
        plan: &[(&Vec<usize>, Arc<Inbox>)],
        made: &[Option<(Definition, Made)>],
        old: Vec<Option<Running>>,
    ) -> BTreeMap<Arc<str>, Node> {
        let mut doors = self.doors();
        for (places, inbox) in plan {
            let rules = places.iter().filter_map(|place| made[*place].as_ref());
            let rules = rules.map(|(rule, _)| (rule.clone(), Shown::waiting(rule))).collect();
            doors.push(Door { inbox: Arc::clone(inbox), rules });
        }
        self.router.set(Table { doors });
        let old: Vec<Running> = old.into_iter().flatten().collect();
        old.iter().for_each(|running| running.inbox.close());
        let mut nodes = BTreeMap::new();
        for running in old {
            for node in running.done.recv().unwrap_or_default() {
                nodes.insert(Arc::clone(node.rule.name()), node);
            }
        }
        nodes
    }

    /// Puts a rule to where it stood.
    fn begin(
        &mut self,
        (stood, parked): (Option<Node>, Option<Kept>),
        rule: Definition,
        made: Made,
        refused: &mut Vec<(Arc<str>, Failure)>,
    ) -> Node {
        let world = (&self.world.points, &self.world.events);
        let mut fail = |board: &Self, rule: &Definition, runs, failure: Failure| {
            board.tell(rule, runs, &failure);
            refused.push((Arc::clone(rule.name()), failure));
        };
        match (stood, made) {
            (Some(node), Made::Same) => node,
            (Some(mut node), Made::New(loaded)) => {
                match loaded.open(&rule.settings, &node.series(), node.kept.clone()) {
                    Ok(opened) => {
                        let ladder = Ladder::new(opened.rule, rule.on_failure);
                        self.runs(&rule);
                        node.replace(rule, Some(ladder));
                        node.shown.open().declared = opened.declared;
                    }
                    Err(failure) => fail(self, &rule, true, failure),
                }
                node
            }
            (Some(mut node), Made::Refused(failure)) => {
                node.stop(&failure);
                node
            }
            (None, made) => {
                let known = parked.is_some();
                let kept = parked.unwrap_or_default();
                // What was refused before has been told.
                let told = matches!(made, Made::Refused(_));
                let opened = match made {
                    Made::New(loaded) => loaded.open(&rule.settings, &[], kept.clone()),
                    Made::Refused(failure) => Err(failure),
                    Made::Same => Err(Failure {
                        code: "gateway".to_owned(),
                        message: "its thread has ended".to_owned(),
                    }),
                };
                let (ladder, declared, failure) = match opened {
                    Ok(opened) => {
                        self.runs(&rule);
                        let ladder = Ladder::new(opened.rule, rule.on_failure);
                        (Some(ladder), opened.declared, None)
                    }
                    Err(failure) => (None, kept.declared.clone(), Some(failure)),
                };
                if let Some(failure) = failure.clone().filter(|_| !told) {
                    fail(self, &rule, false, failure);
                }
                let mut node = Node::new(rule, ladder, kept, world);
                // What was forked is on disk under the other name only.
                node.anew = (!known || node.rule.beside.is_some()) && node.ladder.is_some();
                let mut report = node.shown.open();
                (report.failure, report.declared) = (failure, declared);
                drop(report);
                node
            }
        }
    }

    /// Gives a chain its thread.
    fn run(&mut self, nodes: Vec<Node>, fed_by: Vec<usize>, inbox: Arc<Inbox>) {
        let rules: Vec<_> =
            nodes.iter().map(|node| (node.rule.clone(), node.shown.clone())).collect();
        let names: Arc<[Arc<str>]> =
            rules.iter().map(|(rule, _)| Arc::clone(rule.name())).collect();
        rules.iter().for_each(|(_, shown)| shown.open().chain = Arc::clone(&names));
        let (give, done) = sync_channel(1);
        let sink = (self.world.sink)();
        let declared = Arc::clone(&self.world.declared);
        let clock = Arc::clone(&self.world.clock);
        let chain = Chain::new(nodes, fed_by.clone(), sink, clock).telling(declared);
        let taken = Arc::clone(&inbox);
        let spawned = std::thread::Builder::new()
            .name("rules".to_owned())
            .stack_size(limits::RULE_CHAIN_STACK_BYTES)
            .spawn(move || {
                // Nobody takes them back when the daemon stops without waiting.
                let _ = give.send(chain.run(&taken));
            });
        if spawned.is_err() {
            inbox.close();
            for (rule, shown) in &rules {
                shown.open().state = super::State::Stopped;
                self.world.events.raise(chain::not_started(
                    rule.name(),
                    false,
                    "gateway.thread",
                    "the system gives the gateway no more threads",
                ));
            }
        }
        self.chains.push(Running { inbox, rules, fed_by, done });
    }

    fn doors(&self) -> Vec<Door> {
        let door =
            |chain: &Running| Door { inbox: Arc::clone(&chain.inbox), rules: chain.rules.clone() };
        self.chains.iter().map(door).collect()
    }

    /// Stops: chains process what waits, within `patience`; what they do not get to goes on unruled.
    /// Call it when nothing comes any more, and where waiting is allowed.
    pub fn stop(mut self, patience: Duration) {
        let until = Instant::now() + patience;
        self.router.set(Table::default());
        let chains = std::mem::take(&mut self.chains);
        chains.iter().for_each(|chain| chain.inbox.close());
        for chain in chains {
            let left = until.saturating_duration_since(Instant::now());
            let Err(RecvTimeoutError::Timeout) = chain.done.recv_timeout(left) else { continue };
            let inputs = chain.inbox.abandon();
            let count: usize = inputs.iter().map(|input| input.samples.len()).sum();
            for (rule, _) in &chain.rules {
                self.world.events.raise(chain::slow_stop(rule.name(), count));
            }
            (self.world.sink)().take(inputs.into_iter().map(group_of).collect(), Vec::new());
        }
    }
}

/// A version on trial begins with what the running one keeps, as it was committed last.
fn fork(rules: &[Definition], kept: &mut BTreeMap<Arc<str>, Kept>) {
    for rule in rules {
        if let Some(live) = rule.beside.as_ref().and_then(|live| kept.get(live)).cloned() {
            kept.entry(Arc::clone(rule.name())).or_insert(live);
        }
    }
}

/// Returns whether a chain that runs is what is wanted.
fn is_untouched(running: &Running, places: &[usize], made: &[Option<(Definition, Made)>]) -> bool {
    running.rules.len() == places.len()
        && places.iter().zip(&running.rules).all(|(place, (runs, _))| {
            let wanted = made[*place].as_ref();
            wanted.is_some_and(|(rule, made)| {
                matches!(made, Made::Same) && rule.name() == runs.name()
            })
        })
}

/// Readings that a rule has declared and its file did not announce, as the graph sees them.
fn unannounced(declared: &[crate::state::Declared], rule: &Definition) -> Vec<Pattern> {
    let news = declared.iter().filter(|output| rule.is_unannounced(output));
    news.map(|output| Pattern::of(&output.device, &output.point)).collect()
}
