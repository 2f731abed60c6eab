//! Who answers at the daemon's socket on behalf of the gateway.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::changes::Asked;
use super::orders::Orders;
use super::pulse::Roster;
use super::uplinks::{Links, part};
use crate::api::rules::{Done, Line, Order, Push, Rule};
use crate::api::status::{Clock, Health, Source, Standing, Status, Store, Stream, Uplink};
use crate::api::{Answer, ConfigOrder, Desk, Refusal, Why};
use crate::clock::{self, Evidence};
use crate::config::Config;
use crate::events::{Condition, Events, Weight, apply as say};
use crate::reading::Stream as Lane;
use crate::store;
use crate::uplink::LinkState;

/// What is known before the store is open.
pub(super) struct Clerk {
    gateway: Arc<str>,
    config: watch::Receiver<Arc<str>>,
    orders: mpsc::Sender<Asked>,
    path: String,
    events: Events,
}

/// All of it.
pub(super) struct Open {
    clerk: Clerk,
    store: store::Store,
    clock: Arc<dyn clock::Clock>,
    links: Links,
    roster: Roster,
    rules: Orders,
    since: Instant,
}

impl Clerk {
    pub(super) fn new(
        config: &Config,
        hash: watch::Receiver<Arc<str>>,
        orders: mpsc::Sender<Asked>,
        events: &Events,
    ) -> Self {
        Self {
            gateway: Arc::clone(&config.gateway.name),
            config: hash,
            orders,
            path: config.store.path.display().to_string(),
            events: events.clone(),
        }
    }

    /// Begins to answer for a gateway that runs.
    pub(super) fn open(
        self,
        store: store::Store,
        clock: Arc<dyn clock::Clock>,
        links: &Links,
        roster: &Roster,
        rules: &Orders,
    ) -> Open {
        let (links, roster, rules) = (links.clone(), roster.clone(), rules.clone());
        Open { clerk: self, store, clock, links, roster, rules, since: Instant::now() }
    }
}

impl Open {
    fn uplinks(&self, store: &store::Status) -> Vec<Uplink> {
        let one = |(name, link): (Arc<str>, LinkState)| {
            let place = store.names.iter().position(|known| *known == name).unwrap_or(0);
            let share = self.store.share(u8::try_from(place).unwrap_or(0));
            uplink(&name, &link, &share, store)
        };
        self.links.all().into_iter().map(one).collect()
    }

    fn sources(&self) -> Vec<Source> {
        let uplinks: Vec<_> = self.links.all().iter().map(|(name, _)| part(name)).collect();
        let names = self.roster.names().into_iter().filter(|name| !uplinks.contains(name));
        let mut sources: Vec<_> = names.map(|name| Source { name }).collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources
    }
}

impl Desk for Open {
    fn configure(&self, order: ConfigOrder) -> Answer<'_, Value> {
        Box::pin(async move {
            let stopping = || Refusal::new(Why::Unable, say::stopping());
            let (reply, answer) = oneshot::channel();
            self.clerk.orders.send((order, reply)).await.map_err(|_| stopping())?;
            answer.await.unwrap_or_else(|_| Err(stopping()))
        })
    }

    fn status(&self) -> Status {
        let clerk = &self.clerk;
        let store = self.store.status();
        let standing = clerk.events.standing();
        Status {
            gateway: clerk.gateway.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: clerk.config.borrow().to_string(),
            uptime_s: self.since.elapsed().as_secs(),
            pid: std::process::id(),
            health: health(&standing, &store),
            clock: time(&*self.clock),
            standing: standing.iter().map(told).collect(),
            uplinks: self.uplinks(&store),
            store: kept(&store, &clerk.path),
            sources: self.sources(),
            rules: self.rules.status(),
        }
    }

    fn rules(&self) -> Answer<'_, Vec<Rule>> {
        Box::pin(async { self.rules.all() })
    }

    fn push(&self, push: Push) -> Answer<'_, Done> {
        Box::pin(self.rules.push(push))
    }

    fn order(&self, rule: String, order: Order) -> Answer<'_, Done> {
        Box::pin(self.rules.order(rule, order))
    }

    fn rule_logs(&self, rule: String) -> Answer<'_, Vec<Line>> {
        Box::pin(async move { self.rules.logs(&rule) })
    }
}

fn health(standing: &[Condition], store: &store::Status) -> Health {
    let is_bad = standing.iter().any(|condition| condition.notice.weight == Weight::Error);
    match (is_bad || store.health != store::Health::Good, standing.is_empty()) {
        (true, _) => Health::Bad,
        (false, false) => Health::Degraded,
        (false, true) => Health::Good,
    }
}

fn told(condition: &Condition) -> Standing {
    let notice = &condition.notice;
    Standing {
        code: notice.code.id.to_owned(),
        weight: match notice.weight {
            Weight::Warning => "warning".to_owned(),
            Weight::Error => "error".to_owned(),
        },
        subject: notice.subject.clone(),
        text: notice.to_string(),
        since_s: condition.since.elapsed().as_secs(),
        count: condition.count,
    }
}

fn time(clock: &dyn clock::Clock) -> Clock {
    let set = clock.state().set;
    let why = set.map(|evidence| match evidence {
        Evidence::Trusted => "trusted",
        Evidence::Synced => "synced",
        Evidence::Battery => "battery",
        Evidence::Machine => "machine",
        Evidence::Step => "step",
        Evidence::Earlier => "earlier",
    });
    Clock { set: set.is_some(), why: why.map(str::to_owned), now_ms: clock.now().0 }
}

fn kept(status: &store::Status, path: &str) -> Store {
    let streams = Lane::ALL.iter().map(|lane| {
        let stream = status.stream(*lane);
        Stream {
            name: lane.name().to_owned(),
            seq_next: stream.seq_next,
            batches: stream.batches,
            readings: stream.readings,
            readings_open: stream.readings_open,
            bytes: stream.bytes,
            dropped: stream.dropped,
            oldest_ms: stream.oldest.map(|at| at.0),
        }
    });
    Store {
        path: path.to_owned(),
        epoch: status.epoch,
        health: match status.health {
            store::Health::Good => "good",
            store::Health::Refused(_) => "refused",
            store::Health::Ended => "ended",
        }
        .to_owned(),
        disk_bytes: status.disk_bytes,
        uncommitted: status.uncommitted,
        streams: streams.collect(),
    }
}

fn uplink(name: &str, link: &LinkState, share: &store::Share, status: &store::Status) -> Uplink {
    let backlogs: Vec<_> =
        store::Shelf::ALL.iter().map(|shelf| share.backlog(status, *shelf)).collect();
    let ago = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs());
    Uplink {
        name: name.to_owned(),
        connected: link.connected,
        connections: link.connections,
        acknowledged_s: ago(link.last_acknowledged),
        receipt_s: ago(link.last_receipt),
        batches_sent: link.batches,
        readings_sent: link.readings,
        batches_waiting: backlogs.iter().map(|backlog| backlog.batches).sum(),
        oldest_ms: backlogs.iter().filter_map(|backlog| backlog.oldest).map(|at| at.0).min(),
    }
}
