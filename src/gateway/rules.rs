//! Rules in the gateway: they are begun when the store has told what they had kept, and sources only
//! then, so that nothing is read that waits in memory for a compiler. Changed while everything runs,
//! and stopped between pipeline and store.
//!
//! A compiler that takes longer than [`limits::RULES_BEGIN_TIME_MAX`], or a disk that does not say what
//! was kept, keeps no source waiting for ever: then what is read goes the way its rules' `on_failure`
//! says until they have begun, and that is told.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::events::{Events, chain};
use crate::limits;
use crate::pipeline::{Exit, Filter};
use crate::reading::Points;
use crate::rules::{Board, Definition, Failure, Loader, Report, Router, Routes, World};
use crate::store::Store;

/// The gateway's rules; cheap to clone.
#[derive(Clone)]
pub struct Rules {
    board: Arc<Mutex<Option<Board>>>,
    router: Arc<Router>,
    store: Store,
    events: Events,
    points: Arc<Points>,
    clock: Arc<dyn Clock>,
    /// A rule declared what its file did not announce.
    declared: Arc<Notify>,
}

impl Rules {
    /// Makes room for rules, to be begun. `filter` has the deadbands of what leaves.
    #[must_use]
    pub fn new(
        (rules, loader): (&[Definition], Arc<dyn Loader>),
        filter: &Filter,
        store: &Store,
        (points, clock, events): (&Arc<Points>, &Arc<dyn Clock>, &Events),
    ) -> Self {
        let (out, filter) = (store.clone(), filter.fresh());
        let declared = Arc::<Notify>::default();
        let told = Arc::clone(&declared);
        let world = World {
            points: Arc::clone(points),
            clock: Arc::clone(clock),
            events: events.clone(),
            loader,
            sink: Arc::new(move || Box::new(Exit::new(filter.fresh(), out.clone()))),
            declared: Arc::new(move || told.notify_one()),
        };
        let board = Board::new(rules, world);
        Self {
            router: Arc::clone(board.router()),
            board: Arc::new(Mutex::new(Some(board))),
            store: store.clone(),
            events: events.clone(),
            points: Arc::clone(points),
            clock: Arc::clone(clock),
            declared,
        }
    }

    /// Returns the pipeline's way into the rules.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let (points, clock) = (Arc::clone(&self.points), Arc::clone(&self.clock));
        Routes::new(Arc::clone(&self.router), points, clock, self.events.clone())
    }

    /// Begins rules where the store says they stood; asks again while the disk refuses. `rules` says
    /// which, when it has answered: one may have been pushed meanwhile, and tests may have to run; it
    /// may block. `begun` is cancelled when they
    /// run, when they take too long, and when the task ends before.
    pub async fn begin(
        self,
        rules: impl FnOnce() -> Vec<Definition> + Send + 'static,
        begun: CancellationToken,
    ) {
        let begun = begun.drop_guard();
        let mut begin = pin!(async {
            let kept = loop {
                match self.store.kept().await {
                    Ok(kept) => break kept,
                    Err(error) => {
                        self.events.raise(chain::state_unread(&error.to_string()));
                        sleep(limits::DISK_RETRY_DELAY_MAX).await;
                    }
                }
            };
            self.events.clear(&chain::STATE_UNREAD, "rules", "are begun");
            self.change(rules, kept).await;
        });
        if timeout(limits::RULES_BEGIN_TIME_MAX, &mut begin).await.is_err() {
            self.events.raise(chain::slow_begin(limits::RULES_BEGIN_TIME_MAX));
            drop(begun);
            begin.await;
            self.events.clear(&chain::SLOW_BEGIN, "rules", "are begun");
        }
    }

    /// Puts rules that have come to feed one another into one chain, whenever one declares an output
    /// that its file did not announce. Runs until it is dropped.
    pub async fn keep_joined(self) {
        loop {
            self.declared.notified().await;
            let board = Arc::clone(&self.board);
            let join = move || {
                let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(board) = board.as_mut() {
                    board.join();
                }
            };
            // It waits for a chain to finish its batch. One that panicked was told of.
            let _ = tokio::task::spawn_blocking(join).await;
        }
    }

    /// Makes exactly these rules run, between two batches, without losing a reading. Returns those
    /// that could not be changed, with the reason; they go on as they were.
    pub async fn apply(&self, rules: Vec<Definition>) -> Vec<(Arc<str>, Failure)> {
        match self.store.kept().await {
            Ok(kept) => self.change(move || rules, kept).await,
            Err(error) => {
                self.events.raise(chain::state_unread(&error.to_string()));
                let failure = Failure { code: "gateway.disk".into(), message: error.to_string() };
                rules.iter().map(|rule| (Arc::clone(rule.name()), failure.clone())).collect()
            }
        }
    }

    async fn change(
        &self,
        rules: impl FnOnce() -> Vec<Definition> + Send + 'static,
        kept: BTreeMap<Arc<str>, crate::state::Kept>,
    ) -> Vec<(Arc<str>, Failure)> {
        let board = Arc::clone(&self.board);
        // Compiling takes seconds, and old chains finish what waits: not on the network's thread.
        let done = tokio::task::spawn_blocking(move || {
            let rules = rules();
            let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
            board.as_mut().map(|board| board.apply(rules, kept)).unwrap_or_default()
        });
        done.await.unwrap_or_default()
    }

    /// Returns the state of every rule, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<Report> {
        self.router.status()
    }

    /// Stops: what waits is processed within [`limits::STOP_RULES_TIME_MAX`], the rest goes on
    /// unruled. Call it when the pipeline has ended.
    pub async fn stop(&self) {
        let board = Arc::clone(&self.board);
        let stopped = tokio::task::spawn_blocking(move || {
            let board = board.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(board) = board {
                board.stop(limits::STOP_RULES_TIME_MAX);
            }
        });
        // A compiler that is at work ends with the process.
        let _ = timeout(limits::STOP_RULES_TIME_MAX * 2, stopped).await;
    }
}
