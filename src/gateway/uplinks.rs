//! The uplinks that run, each a task with a stop of its own and a place in the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::courier::Courier;
use super::orders::Orders;
use super::pulse::{Beat, Roster};
use crate::clock::Clock;
use crate::events::Events;
use crate::mqtt::{Layout, errands};
use crate::reading::Points;
use crate::store::Share;
use crate::uplink::settings::Uplink as Settings;
use crate::uplink::{Identity, LinkState, Uplink};

/// What every uplink is given.
pub(super) struct World {
    pub(super) points: Arc<Points>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Events,
    pub(super) rules: Orders,
}

impl World {
    pub(super) fn of(
        points: &Arc<Points>,
        clock: &Arc<dyn Clock>,
        events: &Events,
        rules: &Orders,
    ) -> Self {
        let (points, clock) = (Arc::clone(points), Arc::clone(clock));
        Self { points, clock, events: events.clone(), rules: rules.clone() }
    }
}

/// The links of the uplinks that run, for whoever shows them or has something to say over them; cheap
/// to clone.
#[derive(Clone, Default)]
pub(super) struct Links(Arc<Mutex<Linked>>);

#[derive(Default)]
struct Linked {
    /// What an uplink that starts is to say of the gateway.
    identity: Option<Identity>,
    /// By name: what is known of it, and what it says, which changes without a new connection.
    running: BTreeMap<Arc<str>, (watch::Receiver<LinkState>, watch::Sender<Identity>)>,
}

impl Links {
    /// Returns them by the names of their uplinks.
    pub(super) fn all(&self) -> Vec<(Arc<str>, LinkState)> {
        let linked = self.lock();
        let running = linked.running.iter();
        running.map(|(name, (link, _))| (Arc::clone(name), *link.borrow())).collect()
    }

    /// Says to all what the gateway is now.
    pub(super) fn tell(&self, identity: &Identity) {
        let mut linked = self.lock();
        linked.identity = Some(identity.clone());
        for (_, said) in linked.running.values() {
            said.send_replace(identity.clone());
        }
    }

    fn add(&self, name: &Arc<str>, uplink: (watch::Receiver<LinkState>, watch::Sender<Identity>)) {
        let mut linked = self.lock();
        if let Some(identity) = &linked.identity {
            uplink.1.send_replace(identity.clone());
        }
        linked.running.insert(Arc::clone(name), uplink);
    }

    fn lock(&self) -> MutexGuard<'_, Linked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The uplinks that run, by name.
pub(super) struct Uplinks {
    tasks: JoinSet<Arc<str>>,
    running: BTreeMap<Arc<str>, Running>,
    /// Those who bring rules over them; each ends with its uplink.
    couriers: JoinSet<()>,
    links: Links,
    roster: Roster,
    world: World,
}

/// One of them.
struct Running {
    stop: CancellationToken,
    task: AbortHandle,
}

impl Uplinks {
    pub(super) fn new(roster: Roster, world: World) -> Self {
        Self {
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            couriers: JoinSet::new(),
            links: Links::default(),
            roster,
            world,
        }
    }

    /// Starts one; its name must not be in use.
    pub(super) fn start(&mut self, settings: Settings, share: Share) {
        let name: Arc<str> = settings.name.as_str().into();
        let (beat, stop) = (Arc::<Beat>::default(), CancellationToken::new());
        let part = part(&name);
        self.roster.add(&part, Arc::clone(&beat), Some(Duration::ZERO));
        let World { points, clock, events, rules } = &self.world;
        let (points, clock) = (Arc::clone(points), Arc::clone(clock));
        let root = format!("fg/1/{}", settings.gateway);
        let takes_rules = settings.broker.preset.topics == Layout::Own;
        let mut uplink = Uplink::new(settings, share, points, clock, events.of(&part));
        self.links.add(&name, (uplink.link(), uplink.identity()));
        if let Some(door) =
            rules.door.clone().filter(|door| takes_rules && door.asks_for_signatures())
        {
            let (carrier, broker) = errands(format!("{root}/want"));
            let (site, events) = (Arc::clone(&rules.site), events.of(&part));
            let courier = Courier { door, site, events, root, broker, link: uplink.link() };
            uplink = uplink.carrying(carrier);
            self.couriers.spawn(courier.run(stop.clone()));
        }
        let (known, run) = (Arc::clone(&name), beat.around(uplink.run(stop.clone())));
        let task = self.tasks.spawn(async move {
            run.await;
            known
        });
        self.running.insert(name, Running { stop, task });
    }

    /// Waits until one ends that was not told to; for ever while there is none.
    pub(super) async fn broken(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Stops those of these names: each says goodbye first. Returns whether another one has ended
    /// meanwhile, which nobody had asked to.
    pub(super) async fn stop(&mut self, names: &[Arc<str>], patience: Duration) -> bool {
        let mut awaited = BTreeMap::new();
        for name in names {
            self.roster.remove(&part(name));
            self.links.lock().running.remove(name);
            if let Some(running) = self.running.remove(name) {
                running.stop.cancel();
                awaited.insert(Arc::clone(name), running.task);
            }
        }
        let mut broke = false;
        let all = async {
            while !awaited.is_empty() {
                match self.tasks.join_next().await {
                    Some(Ok(name)) => broke |= awaited.remove(&name).is_none(),
                    Some(Err(_)) => broke = true,
                    None => break,
                }
            }
        };
        if timeout(patience, all).await.is_err() {
            for task in awaited.values() {
                task.abort();
            }
            // They end at their next wake, and nobody is to take that for a fall.
            for _ in 0..awaited.len() {
                self.tasks.join_next().await;
            }
        }
        broke
    }

    /// Stops all of them.
    pub(super) async fn stop_all(&mut self, patience: Duration) {
        let names: Vec<Arc<str>> = self.running.keys().cloned().collect();
        self.stop(&names, patience).await;
        self.tasks.shutdown().await;
        self.couriers.shutdown().await;
    }

    /// Returns whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Returns the links.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }
}

/// What people call it.
pub(super) fn part(name: &str) -> String {
    format!("uplink {name}")
}
