//! Looks after trials: a new version that does well takes the running one's place, one that does not
//! is sent away, and one that fails soon after its promotion, or after which the uplink falls silent,
//! gives its place back to the last good one.
//!
//! Time on trial is counted anew after a restart: what was compared before is gone with the process,
//! and a version that ends the process must not pass because of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Instant, interval};

use super::orders::Orders;
use crate::api::Refusal;
use crate::api::rules::{Done, Order};
use crate::events::{Events, trial as say};
use crate::limits;
use crate::reading::Stream;
use crate::rules::Failure;
use crate::rules::folder::{Edition, Post};
use crate::rules::trial::Verdict;
use crate::state::Change;
use crate::store::Store;

/// See the file's head.
pub(super) struct Trials {
    orders: Orders,
    store: Store,
    events: Events,
    watched: BTreeMap<String, Watched>,
    link: Link,
}

/// A version that is looked after.
struct Watched {
    edition: Edition,
    since: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Beside the running one.
    Trial,
    /// As before, and nothing is wrong with it: somebody may promote it, and was told.
    Passed,
    /// In its place; whether batches were acknowledged when it came.
    Probation { was_linked: bool },
}

/// Whether batches get through, seen by what is freed.
struct Link {
    lowest: [u64; 3],
    /// When a batch was freed last, or nothing waited to be.
    proof: Instant,
}

impl Trials {
    pub(super) fn new(orders: Orders, store: Store, events: Events) -> Self {
        let link = Link { lowest: [0; 3], proof: Instant::now() };
        Self { orders, store, events, watched: BTreeMap::new(), link }
    }

    /// Looks, until it is dropped.
    pub(super) async fn run(mut self) {
        let mut looks = interval(limits::TRIAL_LOOK);
        loop {
            looks.tick().await;
            self.link.look(&self.store);
            let Some(door) = &self.orders.door else { return };
            let ledger = door.ledger();
            self.watched.retain(|post, _| ledger.posts.contains_key(post));
            for (post, known) in &ledger.posts {
                self.look(post, known).await;
            }
        }
    }

    async fn look(&mut self, post: &str, known: &Post) {
        let now = Instant::now();
        if let Some(edition) = known.trial.as_ref().filter(|_| known.enabled) {
            let begins = Watched { edition: edition.clone(), since: now, stage: Stage::Trial };
            let watched = self.watched.entry(post.to_owned());
            let watched = watched.or_insert_with(|| {
                tracing::info!("rule {post}: {} {} is on trial", edition.name, edition.version);
                Watched { edition: edition.clone(), since: now, stage: Stage::Trial }
            });
            if watched.edition != *edition || matches!(watched.stage, Stage::Probation { .. }) {
                *watched = begins;
            }
            let (since, stage) = (watched.since, watched.stage);
            self.judge(post, edition, since, stage).await;
            return;
        }
        let Some(watched) = self.watched.get_mut(post) else { return };
        if known.live.as_ref() != Some(&watched.edition) {
            // Sent away, replaced or switched off, by whoever did it.
            self.watched.remove(post);
            self.forget_fork(post);
            return;
        }
        if !matches!(watched.stage, Stage::Probation { .. }) {
            let was_linked = self.link.is_alive();
            (watched.since, watched.stage) = (now, Stage::Probation { was_linked });
            self.forget_fork(post);
        } else if watched.since.elapsed() >= limits::TRIAL_PROBATION {
            self.watched.remove(post);
        } else if let Some(why) = self.falls(post, known) {
            self.send_back(post, known, &why).await;
        }
    }

    async fn judge(&mut self, post: &str, edition: &Edition, since: Instant, stage: Stage) {
        let Some((compared, bounds)) = self.orders.compared(post) else { return };
        let version = edition.version.to_string();
        match compared.judge(&bounds, since.elapsed()) {
            Verdict::Open => {}
            Verdict::Passed if bounds.promotes => match self.order(post, Order::Promote).await {
                Ok(_) => tracing::info!("rule {post}: {version} takes over, its trial went well"),
                Err(_) => drop(self.order(post, Order::RollBack).await),
            },
            Verdict::Passed if stage == Stage::Trial => {
                if let Some(watched) = self.watched.get_mut(post) {
                    watched.stage = Stage::Passed;
                }
                tracing::info!(
                    "rule {post}: {version} may be promoted: fieldgate rule promote {post}"
                );
            }
            Verdict::Passed => {}
            Verdict::Failed(why) => {
                if self.order(post, Order::RollBack).await.is_ok() {
                    let (live, other) = (compared.live, compared.trial);
                    let seen = format!(
                        "it emitted {} readings of {}, the running one {} of {}",
                        other.emitted, other.taken, live.emitted, live.taken
                    );
                    let why = (why.code.as_str(), why.message.as_str());
                    self.events.raise(say::sent_away(post, &version, why, &seen));
                }
            }
        }
    }

    /// Returns why a version that was promoted is to give its place back, if it is.
    fn falls(&self, post: &str, known: &Post) -> Option<Failure> {
        known.good.as_ref()?;
        let watched = self.watched.get(post)?;
        if let Some(failure) = self.orders.failure(post) {
            return Some(failure);
        }
        let Stage::Probation { was_linked } = watched.stage else { return None };
        let silent = was_linked && !self.link.is_alive();
        silent.then(|| Failure {
            code: "trial.uplink".to_owned(),
            message: format!(
                "no batch was acknowledged for {} s",
                limits::TRIAL_UPLINK_SILENCE.as_secs()
            ),
        })
    }

    async fn send_back(&mut self, post: &str, known: &Post, why: &Failure) {
        let Some(watched) = self.watched.remove(post) else { return };
        let good = known.good.as_ref().map(|good| good.version.to_string()).unwrap_or_default();
        if self.order(post, Order::RollBack).await.is_ok() {
            let version = watched.edition.version.to_string();
            let why = (why.code.as_str(), why.message.as_str());
            self.events.raise(say::came_back(post, &version, &good, why));
        }
    }

    async fn order(&self, post: &str, order: Order) -> Result<Done, Refusal> {
        self.orders.order(post.to_owned(), order).await
    }

    /// What a version on trial kept is of no use when the trial is over.
    fn forget_fork(&self, post: &str) {
        self.store.append_with(Vec::new(), vec![Change::gone(on_trial(post))]);
    }
}

/// Returns the name under which a version on trial keeps its state.
pub(super) fn on_trial(post: &str) -> Arc<str> {
    format!("{post}~trial").into()
}

impl Link {
    fn look(&mut self, store: &Store) {
        let status = store.status();
        let streams = Stream::ALL.map(|stream| *status.stream(stream));
        let lowest = streams.map(|stream| stream.lo);
        let waits = streams.iter().any(|stream| stream.batches > 0);
        if lowest != self.lowest || !waits {
            (self.lowest, self.proof) = (lowest, Instant::now());
        }
    }

    fn is_alive(&self) -> bool {
        self.proof.elapsed() < limits::TRIAL_UPLINK_SILENCE
    }
}
