//! Looks after trials: a new version that does well takes the running one's place, one that does not
//! is sent away, and one that fails soon after its promotion, or after which the uplink falls silent,
//! gives its place back to the last good one. So does, at any later time, one that is given up.
//!
//! Time on trial and on probation is counted anew after a restart: what was seen before is gone with
//! the process, and a version that ends the process must not pass because of it. That a version is on
//! probation stands in the ledger, so neither a power cut nor a quick hand spares it that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::orders::Orders;
use crate::api::{Refusal, Why};
use crate::events::{Events, trial as say};
use crate::limits;
use crate::reading::Stream;
use crate::rules::Failure;
use crate::rules::door::{Door, Site};
use crate::rules::folder::{Edition, Post};
use crate::rules::trial::{Compared, Probation, Verdict};
use crate::state::Change;
use crate::store::Store;

/// See the file's head.
pub(super) struct Trials {
    orders: Orders,
    store: Store,
    events: Events,
    /// Beside the running version, by post.
    tried: BTreeMap<String, Tried>,
    /// In its place, by post.
    proving: BTreeMap<String, Proving>,
    /// Posts where the ledger could not be written: not before then.
    later: BTreeMap<String, Instant>,
    /// Posts whose version cannot give its place back, though it was given up: the last good one no
    /// longer fits or starts. That is tried once for each two.
    alone: BTreeMap<String, (Edition, Edition)>,
    link: Link,
}

/// A version on trial.
struct Tried {
    edition: Edition,
    since: Instant,
    /// Whether somebody was told that it may be promoted.
    told: bool,
    /// As of the last look.
    compared: Compared,
}

/// A version on probation.
struct Proving {
    edition: Edition,
    since: Instant,
    probation: Probation,
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
        let (tried, proving) = (BTreeMap::new(), BTreeMap::new());
        let (later, alone) = (BTreeMap::new(), BTreeMap::new());
        Self { orders, store, events, tried, proving, later, alone, link }
    }

    /// Looks, until it is dropped.
    pub(super) async fn run(mut self) {
        let mut looks = interval(limits::TRIAL_LOOK);
        loop {
            looks.tick().await;
            self.link.look(&self.store);
            let Some(door) = &self.orders.door else { return };
            let ledger = door.ledger();
            self.tried.retain(|post, _| ledger.posts.contains_key(post));
            self.proving.retain(|post, _| ledger.posts.contains_key(post));
            self.alone.retain(|post, _| ledger.posts.contains_key(post));
            self.later.retain(|_, at| Instant::now() < *at);
            for (post, known) in &ledger.posts {
                // Its trial may have been what this version came from, so it is looked at first.
                if self.prove(post, known).await {
                    self.try_on(post, known).await;
                }
            }
        }
    }

    /// Looks after the version on trial at a post, if there is one.
    async fn try_on(&mut self, post: &str, known: &Post) {
        let Some(edition) = known.trial.as_ref().filter(|_| known.enabled) else {
            if self.tried.remove(post).is_some() {
                // Promoted, sent away or switched off, by whoever did it.
                self.forget_fork(post);
            }
            return;
        };
        if self.tried.get(post).is_none_or(|tried| tried.edition != *edition) {
            tracing::info!("rule {post}: {} {} is on trial", edition.name, edition.version);
            let compared = Compared::default();
            let (edition, since) = (edition.clone(), Instant::now());
            self.tried.insert(post.to_owned(), Tried { edition, since, told: false, compared });
        }
        let Some((compared, bounds)) = self.orders.compared(post) else { return };
        let Some(tried) = self.tried.get_mut(post) else { return };
        tried.compared = compared.clone();
        let verdict = compared.judge(&bounds, tried.since.elapsed());
        let may_order = !self.later.contains_key(post);
        match verdict {
            Verdict::Passed if bounds.promotes && may_order => self.promote(post, edition).await,
            Verdict::Passed if !bounds.promotes && !tried.told => {
                tried.told = true;
                let version = &edition.version;
                tracing::info!(
                    "rule {post}: {version} may be promoted: fieldgate rule promote {post}"
                );
            }
            Verdict::Failed(why) if may_order => {
                self.send_away(post, edition, &why, &compared).await;
            }
            _ => {}
        }
    }

    async fn promote(&mut self, post: &str, edition: &Edition) {
        let (named, version) = (post.to_owned(), &edition.version);
        let done = self
            .orders
            .end(move |door, site| door.promote(&named, "its trial went well", site).map(drop));
        match done.await {
            Ok(()) => tracing::info!("rule {post}: {version} takes over, its trial went well"),
            Err(refusal) => {
                let why = Failure {
                    code: "trial.start".to_owned(),
                    message: format!("it could not take the place: {}", refusal.notice.what),
                };
                let compared = self.tried.get(post).map(|tried| tried.compared.clone());
                self.send_away(post, edition, &why, &compared.unwrap_or_default()).await;
            }
        }
    }

    async fn send_away(&mut self, post: &str, edition: &Edition, why: &Failure, seen: &Compared) {
        let (named, words) = (post.to_owned(), why.message.clone());
        let done =
            self.orders.end(move |door, site| door.roll_back(&named, &words, site).map(drop)).await;
        if self.is_done(post, &done) {
            let (live, other) = (seen.live, seen.trial);
            let seen = format!(
                "it emitted {} readings of {}, the running one {} of {}",
                other.emitted, other.taken, live.emitted, live.taken
            );
            let why = (why.code.as_str(), why.message.as_str());
            self.events.raise(say::sent_away(post, &edition.version.to_string(), why, &seen));
        }
    }

    /// Looks after the version on probation at a post, if there is one. Returns whether the post is
    /// still as it was.
    async fn prove(&mut self, post: &str, known: &Post) -> bool {
        let on_probation = known.on_probation && known.enabled && known.good.is_some();
        let Some(edition) = known.live.as_ref().filter(|_| on_probation) else {
            self.proving.remove(post);
            return self.stand_by(post, known).await;
        };
        let Some((mut seen, bounds)) = self.orders.standing(post) else { return true };
        if self.proving.get(post).is_none_or(|proving| proving.edition != *edition) {
            let tried = self.tried.get(post).filter(|tried| tried.edition == *edition);
            let usual = tried.map(|tried| tried.compared.live);
            let probation = Probation::new(usual, seen.tally, self.link.is_alive(bounds.silence));
            let (edition, since) = (edition.clone(), Instant::now());
            self.proving.insert(post.to_owned(), Proving { edition, since, probation });
        }
        let Some(proving) = self.proving.get(post).filter(|_| !self.later.contains_key(post))
        else {
            return true;
        };
        seen.silent = self.link.silent_since(proving.since);
        match proving.probation.judge(&seen, &bounds, proving.since.elapsed()) {
            Verdict::Open => true,
            Verdict::Passed => {
                let named = post.to_owned();
                let done = self.orders.end(move |door, _| door.prove(&named)).await;
                if self.is_done(post, &done) {
                    tracing::info!("rule {post}: {} has proven itself", edition.version);
                }
                true
            }
            Verdict::Failed(why) => {
                if self.send_back(post, edition, &why).await.is_ok() {
                    let notice =
                        say::came_back(post, &versions(known), bounds.probation, parts(&why));
                    self.events.raise(notice);
                }
                false
            }
        }
    }

    /// Looks after a version that has proven itself: one that is given up has failed too often to be
    /// tried again, while there is one that did well. Returns whether the post is still as it was.
    async fn stand_by(&mut self, post: &str, known: &Post) -> bool {
        let (Some(edition), Some(good), true) = (&known.live, &known.good, known.enabled) else {
            return true;
        };
        let given_up = self.orders.standing(post).map(|(seen, _)| Probation::afterwards(&seen));
        let Some(Verdict::Failed(why)) = given_up else { return true };
        let alone = self.alone.get(post).is_some_and(|two| (&two.0, &two.1) == (edition, good));
        if alone || self.later.contains_key(post) {
            return true;
        }
        match self.send_back(post, edition, &why).await {
            Ok(()) => {
                self.events.raise(say::gave_way(post, &versions(known), parts(&why)));
            }
            // A disk that refuses is asked again, a version that cannot run is not.
            Err(Refusal { why: Why::Unable, .. }) => {}
            Err(_) => {
                let two = (edition.clone(), good.clone());
                self.alone.insert(post.to_owned(), two);
            }
        }
        false
    }

    async fn send_back(
        &mut self,
        post: &str,
        edition: &Edition,
        why: &Failure,
    ) -> Result<(), Refusal> {
        let (named, failed, words) = (post.to_owned(), edition.clone(), why.message.clone());
        let back = move |door: &Door, site: &dyn Site| {
            door.fall_back((&named, &failed), &words, site).map(drop)
        };
        let done = self.orders.end(back).await;
        self.is_done(post, &done);
        done
    }

    /// Whether an order was followed; one that was not is given again later, for a disk that refuses
    /// says so each time.
    fn is_done(&mut self, post: &str, done: &Result<(), Refusal>) -> bool {
        if done.is_err() {
            self.later.insert(post.to_owned(), Instant::now() + limits::TRIAL_RETRY_DELAY);
        }
        done.is_ok()
    }

    /// What a version on trial kept is of no use when the trial is over.
    fn forget_fork(&self, post: &str) {
        self.store.append_with(Vec::new(), vec![Change::gone(on_trial(post))]);
    }
}

/// The version that has failed, the one that comes back, and one that was on trial meanwhile.
fn versions(known: &Post) -> [String; 3] {
    [&known.live, &known.good, &known.trial]
        .map(|of| of.as_ref().map(|edition| edition.version.to_string()).unwrap_or_default())
}

fn parts(failure: &Failure) -> (&str, &str) {
    (&failure.code, &failure.message)
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

    fn is_alive(&self, silence: Duration) -> bool {
        self.proof.elapsed() < silence
    }

    /// For how long nothing has got through, counted from `since` at the earliest.
    fn silent_since(&self, since: Instant) -> Duration {
        self.proof.max(since).elapsed()
    }
}
