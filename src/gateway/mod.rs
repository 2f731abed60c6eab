//! The wiring board: the only place that makes channels and spawns tasks, and the order in which
//! everything starts and stops.
//!
//! Start: store, rules, pipeline, uplink, sources; so nothing is read that could not be kept, and
//! nothing before the rules that take it have begun. Stop, the
//! other way round: sources end, the pipeline drains what they left, rules process what waits for
//! them, the store commits and seals,
//! the uplink sends what it can and says goodbye, the store closes. A source that panics is started
//! again. Store, pipeline and uplinks hold what cannot be begun anew within a running process: one of
//! them ending by itself ends the gateway, and systemd starts it again. What hangs shows in `pulse`.

mod apply;
mod changes;
mod courier;
mod desk;
mod effect;
mod files;
mod orders;
mod parts;
mod proof;
mod pulse;
mod rules;
mod safe;
mod site;
mod sources;
mod trials;
mod uplinks;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::Server;
use crate::clock::{Board, Clock};
use crate::config::Config;
use crate::error::{Exit, Fatal};
use crate::events::{self, Events};
use crate::limits;
use crate::pipeline::{self, Bands, Filter};
use crate::reading::{Points, Stream, UnixMillis};
use crate::sources::Outlet;
use crate::store::{Health, Store, StoreThread};
use crate::uplink::LinkState;

use self::changes::Asked;
pub use self::changes::Changes;
use self::desk::Clerk;
use self::effect::{Configured, Effect};
use self::orders::Orders;
pub use self::parts::{Change, How, Parts, Plan};
pub use self::pulse::Pulse;
use self::pulse::Roster;
pub use self::rules::Rules;
pub use self::safe::Starts;
pub use self::sources::{Sources, open_outlet, start_sources};
use self::trials::Trials;
use self::uplinks::{Uplinks, World};
pub use self::versions::{State as VersionState, Version, Versions};

/// A running gateway.
pub struct Gateway {
    /// The store, for those who look at it from outside.
    pub store: Store,
    /// What is wrong now.
    pub events: Events,
    thread: StoreThread,
    /// What sources are given; gone once the gateway stops, so that the pipeline ends.
    outlet: Option<Outlet>,
    sources: Sources,
    /// Ends by itself when the last outlet is gone.
    pipeline: JoinSet<()>,
    /// The rules, for those who change them and look at them.
    pub rules: Rules,
    /// Which version of each runs.
    rule_orders: Orders,
    /// Ends when the rules have begun.
    beginning: JoinSet<()>,
    /// Looks after trials of new versions, and after chains that are to be joined.
    trials: JoinSet<()>,
    /// To all filters.
    deadbands: watch::Sender<Bands>,
    uplinks: Uplinks,
    /// Names of uplinks by their place in the store.
    places: Vec<Arc<str>>,
    /// An uplink ended unasked while others were being stopped.
    broke: bool,
    /// What runs, and the short hash of its configuration.
    parts: Parts,
    config_hash: watch::Sender<Arc<str>>,
    /// What is told of it and of the rules that run.
    effect: Effect,
    clock: Arc<dyn Clock>,
    /// From the socket, until someone serves them.
    orders: Option<mpsc::Receiver<Asked>>,
    roster: Roster,
    /// Answers on the daemon's socket, if it could be had.
    api: JoinSet<()>,
    stop_api: CancellationToken,
}

impl Gateway {
    /// Starts everything that `config` names.
    ///
    /// # Errors
    /// When the store cannot be opened at all, or a source's settings cannot be honoured.
    pub fn start(config: Config) -> Result<Self, Fatal> {
        let events = Events::default();
        let config_hash = watch::Sender::new(Arc::clone(&config.hash));
        let in_force = watch::Sender::new(Arc::clone(&config.hash));
        let (orders, asked) = mpsc::channel(limits::ORDERS_QUEUED_MAX);
        let clerk = Clerk::new(&config, in_force.subscribe(), orders, &events);
        let points = Arc::new(Points::default());
        let clock: Arc<dyn Clock> = Arc::new(Board::new(config.gateway.clock));
        let rule_orders = Orders::open(&config, &clock, &events);
        let parts = Parts::of(&config);
        let configured = Configured::at_start(&config);
        rule_orders.configure_at_start(config.rules, &events);
        let places = configured.places.clone();
        let (store, thread) = Store::open_for(
            places.clone(),
            configured.settings(&effect::of(&configured.identity, &rule_orders)),
            Arc::clone(&points),
            Arc::clone(&clock),
            events.clone(),
        )
        .map_err(|e| Fatal::new(e.exit(), e.to_string()))?;

        let (groups, inbox) = mpsc::channel(limits::GROUPS_QUEUED_MAX);
        let deadbands = watch::Sender::new(pipeline::bands(&config.deadbands));
        let filter = Filter::new(deadbands.subscribe(), Arc::clone(&points));
        let mut pipeline = JoinSet::new();
        let rules = rule_orders.start(&filter, &store, (&points, &clock, &events));
        pipeline.spawn(pipeline::run(inbox, rules.routes(), filter, store.clone()));
        let mut beginning = JoinSet::new();
        let begun = rule_orders.begin(&rules, &events, &mut beginning);

        let roster = Roster::new(events.clone());
        let mut uplinks =
            Uplinks::new(roster.clone(), World::of(&points, &clock, &events, &rule_orders));
        let effect = Effect::new(configured, in_force, &rule_orders, &store, uplinks.links());
        let trials = looks(&rules, &rule_orders, &effect, (&store, &events));
        for (settings, place) in config.uplinks.into_iter().zip(0..) {
            uplinks.start(settings, store.share(place));
        }

        let now = Arc::clone(&clock);
        let outlet = Outlet { groups, points, clock, events: events.clone() };
        let sources = Sources::started(config.sources, &outlet, roster.clone(), begun)?;
        let (mut api, stop_api) = (JoinSet::new(), CancellationToken::new());
        let (time, links) = (Arc::clone(&now), uplinks.links());
        let clerk = Arc::new(clerk.open(store.clone(), time, links, &roster, &rule_orders));
        if let Some(server) = Server::open(&config.api, clerk, &events) {
            api.spawn(server.serve(stop_api.clone()));
        }
        Ok(Self {
            store,
            events,
            thread,
            outlet: Some(outlet),
            sources,
            pipeline,
            rules,
            rule_orders,
            beginning,
            trials,
            deadbands,
            uplinks,
            places,
            broke: false,
            parts,
            config_hash,
            effect,
            clock: now,
            orders: Some(asked),
            roster,
            api,
            stop_api,
        })
    }

    /// Hands out the proof of progress to whoever feeds a watchdog with it.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.store.clone(), self.events.clone(), self.roster.clone())
    }

    /// Returns the short hash of the configuration that is in force.
    #[must_use]
    pub fn config_hash(&self) -> Arc<str> {
        Arc::clone(&self.config_hash.borrow())
    }

    /// Returns the time that readings are stamped with.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Returns the links of its uplinks, by their names.
    #[must_use]
    pub fn links(&self) -> Vec<(Arc<str>, LinkState)> {
        self.uplinks.links().all()
    }

    /// Waits until a part that never ends by itself has ended, and says which: the store's thread,
    /// the pipeline or an uplink that panicked. The gateway must not go on without it; whoever
    /// waits here starts the process anew.
    pub async fn broken(&mut self) -> Fatal {
        // It changes with every seal, and for the last time when the thread ends.
        let mut store = self.store.sealed();
        let part = loop {
            if self.store.status().health == Health::Ended {
                break "the store";
            }
            if self.broke {
                break "an uplink";
            }
            tokio::select! {
                Ok(()) = store.changed() => {}
                Some(_) = self.pipeline.join_next() => break "the pipeline",
                () = self.uplinks.broken() => break "an uplink",
            }
        };
        let notice = events::gateway::part_ended(part);
        let text = notice.to_string();
        self.events.raise(notice);
        Fatal::new(Exit::Broken, text)
    }

    /// Stops in order, within [`limits::SHUTDOWN_TIME_MAX`].
    ///
    /// # Errors
    /// When the store could not commit what was read last.
    pub async fn stop(mut self) -> Result<(), Fatal> {
        self.outlet = None;
        self.sources.stop_all(limits::STOP_SOURCES_TIME_MAX).await;
        let drained = async { while self.pipeline.join_next().await.is_some() {} };
        // What hangs here hangs the commit too, which says so.
        let _ = timeout(limits::STOP_COMMIT_TIME_MAX, drained).await;
        self.trials.shutdown().await;
        self.beginning.shutdown().await;
        self.rules.stop().await;
        let committed = timeout(limits::STOP_COMMIT_TIME_MAX, self.store.flush(true));
        let committed = committed.await;
        if !self.uplinks.is_empty() {
            self.drain(limits::STOP_DRAIN_TIME_MAX).await;
        }
        let goodbye = limits::UPLINK_GOODBYE_TIME_MAX + limits::MQTT_GOODBYE_TIME_MAX;
        self.uplinks.stop_all(goodbye).await;
        self.stop_api.cancel();
        while self.api.join_next().await.is_some() {}
        let lost = self.thread.close();
        if lost == 0 {
            // Closing is a last try, with all the time the disk takes.
            return Ok(());
        }
        let why = match committed {
            Ok(Ok(())) => "the disk refused at the very end".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the disk takes too long".to_owned(),
        };
        Err(Fatal::new(Exit::Broken, events::gateway::not_committed(lost, &why).to_string()))
    }

    /// Waits until every batch is acknowledged, or for `patience`.
    async fn drain(&self, patience: Duration) {
        let held =
            || Stream::ALL.iter().map(|s| self.store.status().stream(*s).batches).sum::<u64>();
        let emptied = async {
            while held() > 0 {
                sleep(limits::DRAIN_LOOK_TIME).await;
                // Acknowledgements free their batches with a commit, which may be a minute away. One
                // that fails has been told; the next look tries again.
                let _ = self.store.flush(false).await;
            }
        };
        if timeout(patience, emptied).await.is_err() {
            self.events.raise(events::gateway::slow_stop(patience, held()));
        }
    }
}

/// Those who look after rules that run: trials, chains that are to be joined, what is told of them.
fn looks(
    rules: &Rules,
    orders: &Orders,
    effect: &Effect,
    (store, events): (&Store, &Events),
) -> JoinSet<()> {
    let mut looks = JoinSet::new();
    looks.spawn(rules.clone().keep_joined());
    looks.spawn(Trials::new(orders.clone(), store.clone(), events.clone()).run());
    looks.spawn(effect.clone().follow());
    looks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_unasked_ends_the_gateway_with_70() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fieldgate.toml");
        let text = "[gateway]\nname = \"g\"\n[source.push]\nvia = \"coap listen 127.0.0.1:0\"\n\
                    [buffer]\npath = \"buffer.db\"\n";
        std::fs::write(&path, text).unwrap();
        let config = crate::config::load(&path, crate::config::Options::default()).unwrap();
        let mut gateway = Gateway::start(config).unwrap();
        assert!(timeout(Duration::from_millis(200), gateway.broken()).await.is_err());
        gateway.thread.kill();
        let fatal = gateway.broken().await;
        assert_eq!(fatal.exit, Exit::Broken);
        assert!(fatal.message.contains("the store ended by itself"), "{fatal}");
        gateway.stop().await.unwrap();
    }
}
