//! What the socket asks about rules and does to them, on behalf of the gateway.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::rules::Rules;
use super::site::{Posts, open_door};
use crate::api::rules::{Done, Line, Order, Push, Rule, Version};
use crate::api::{Refusal, Why, status};
use crate::clock::Clock;
use crate::config::Config;
use crate::events::{Events, Notice, push as say};
use crate::limits;
use crate::pipeline::Filter;
use crate::reading::Points;
use crate::rules::door::{Door, Pushed, Site, Stands};
use crate::rules::folder::{Edition, Post};
use crate::rules::trial::{Bounds, Compared, Seen};
use crate::rules::{Definition, Wasm};
use crate::store::Store;
use crate::uplink::Ruled;

/// The gateway's rules as the socket sees them; cheap to clone.
#[derive(Clone)]
pub(super) struct Orders {
    /// `None` when the rules folder cannot be used.
    pub(super) door: Option<Arc<Door>>,
    pub(super) site: Arc<dyn Site>,
    posts: Arc<Posts>,
}

type Refused = Box<Notice>;

impl Orders {
    /// Opens the door over the folder beside the buffer.
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>, events: &Events) -> Self {
        let code = config.store.path.with_file_name("rules-code");
        let posts = Arc::new(Posts::new(Arc::new(Wasm::of_gateway(code, events))));
        let site = Arc::clone(&posts) as Arc<dyn Site>;
        Self { door: open_door(config, clock, events), site, posts }
    }

    /// Lets the door choose what runs at each table of a configuration; returns what is to run.
    pub(super) fn configure(&self, rules: Vec<Definition>, events: &Events) -> Vec<Definition> {
        self.posts.configure(rules, self.door.as_deref(), events, false);
        self.running()
    }

    /// As [`Orders::configure`] at a start, which waits for no compiler: files that were changed while
    /// nothing ran wait for [`Orders::take_in_changed`], first ones with tests for
    /// [`Orders::take_in_first`].
    pub(super) fn configure_at_start(&self, rules: Vec<Definition>, events: &Events) {
        self.posts.configure(rules, self.door.as_deref(), events, true);
    }

    /// Takes in first versions that have tests, before anything has begun. Waits for the compiler.
    pub(super) fn take_in_first(&self, events: &Events) {
        if let Some(door) = &self.door {
            self.posts.take_in_first(door, events);
        }
    }

    /// Takes in the files that were changed while nothing ran. Waits for the compiler.
    pub(super) fn take_in_changed(&self, events: &Events) {
        if let Some(door) = &self.door {
            self.posts.take_in_changed(door, events);
        }
    }

    /// Returns what is to run now.
    pub(super) fn running(&self) -> Vec<Definition> {
        self.posts.running()
    }

    /// Makes room for the rules that are to run.
    pub(super) fn start(
        &self,
        filter: &Filter,
        store: &Store,
        world: (&Arc<Points>, &Arc<dyn Clock>, &Events),
    ) -> Rules {
        let rules = Rules::new((&self.posts.expected(), self.posts.loader()), filter, store, world);
        self.posts.run_on(rules.clone());
        rules
    }

    /// Begins them, as they are when the store has told where they stood. What waits for that is told
    /// by the token. Then files that were changed while nothing ran come in, as if they came now.
    pub(super) fn begin(
        &self,
        rules: &Rules,
        events: &Events,
        tasks: &mut JoinSet<()>,
    ) -> CancellationToken {
        let begun = CancellationToken::new();
        if self.posts.expected().is_empty() {
            begun.cancel();
        } else {
            let (this, events) = (self.clone(), events.clone());
            let (which, told) = (self.clone(), events.clone());
            let choose = move || {
                which.take_in_first(&told);
                which.running()
            };
            let begin = rules.clone().begin(choose, begun.clone());
            tasks.spawn(async move {
                begin.await;
                let _ = spawn_blocking(move || this.take_in_changed(&events)).await;
            });
        }
        begun
    }

    /// Returns the rules whose output counts, and whether these are the configuration's own files.
    pub(super) fn in_force(&self) -> (Vec<Ruled>, bool) {
        self.posts.in_force()
    }

    /// Returns a watch on what runs.
    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.posts.changed()
    }

    /// Says how each table does, on one line's room.
    pub(super) fn status(&self) -> Vec<status::Rule> {
        let ledger = self.door.as_ref().map(|door| door.ledger()).unwrap_or_default();
        let reports = self.posts.reports();
        let one = |rule: String| {
            let Post { live, trial, enabled, .. } =
                ledger.posts.get(&rule).cloned().unwrap_or_default();
            let report = reports.iter().find(|report| *report.name == *rule);
            let state = match report {
                Some(report) => report.state.word(),
                None if !enabled => "off",
                None => "not running",
            };
            let mut line = status::Rule {
                state: state.to_owned(),
                name: live.map(|live| live.name).unwrap_or_default(),
                trial: trial.map(|trial| trial.version.to_string()),
                rule,
                ..status::Rule::default()
            };
            if let Some(report) = report {
                line.version = report.version.to_string();
                line.digest = report.digest.chars().take(limits::DIGEST_SHOWN_CHARS).collect();
                (line.taken, line.emitted) = (report.taken, report.emitted);
                (line.passed, line.dropped) = (report.passed, report.dropped);
                line.fuel_a_reading = report.fuel.checked_div(report.taken);
                line.failure = report.failure.as_ref().map(|it| it.message.clone());
            }
            line
        };
        self.site.posts().into_iter().map(one).collect()
    }

    /// Lists the tables with what runs at each.
    pub(super) fn all(&self) -> Result<Vec<Rule>, Refusal> {
        let ledger = self.door()?.ledger();
        let one = |rule: String| {
            let Post { live, trial, good, enabled, .. } =
                ledger.posts.get(&rule).cloned().unwrap_or_default();
            let running = self.site.report(&rule);
            let [live, trial, good] = [live, trial, good].map(|of| of.as_ref().map(version));
            let rights = self.posts.rights(&rule);
            Rule { rule, enabled, live, trial, good, rights, running }
        };
        Ok(self.site.posts().into_iter().map(one).collect())
    }

    /// Takes a file in.
    pub(super) async fn push(&self, push: Push) -> Result<Done, Refusal> {
        let (door, site) = (self.door()?, Arc::clone(&self.site));
        let taken = blocking(move || {
            let pushed = Pushed {
                subject: "rule file",
                file: &push.file,
                signature: push.signature.as_deref(),
                to: push.to.as_deref(),
                is_configured: false,
            };
            door.take_in(pushed, &*site)
        });
        let taken = told(taken.await)?;
        tracing::info!("rule {}: {} {}", taken.post, taken.edition.name, taken.edition.version);
        Ok(Done {
            rule: taken.post,
            version: Some(version(&taken.edition)),
            stands: word(taken.stands).to_owned(),
        })
    }

    /// Does something to a rule.
    pub(super) async fn order(&self, rule: String, order: Order) -> Result<Done, Refusal> {
        let (door, site) = (self.door()?, Arc::clone(&self.site));
        let named = rule.clone();
        let done = blocking(move || match order {
            Order::Enable => door.enable(&named, true, &*site),
            Order::Disable => door.enable(&named, false, &*site),
            Order::Promote => door.promote(&named, "", &*site).map(drop),
            Order::RollBack => door.roll_back(&named, "", &*site).map(drop),
        });
        told(done.await)?;
        let known = self.door()?.ledger().posts.get(&rule).cloned().unwrap_or_default();
        let stands = if known.enabled { Stands::Live } else { Stands::Off };
        let version = known.live.as_ref().map(version);
        Ok(Done { rule, version, stands: word(stands).to_owned() })
    }

    /// Returns what a rule wrote to its log.
    pub(super) fn logs(&self, rule: &str) -> Result<Vec<Line>, Refusal> {
        let line = |(at_ms, level, text): (i64, &'static str, String)| Line {
            at_ms,
            level: level.to_owned(),
            text,
        };
        match self.site.log(rule) {
            Some(lines) => Ok(lines.into_iter().map(line).collect()),
            None => {
                let notice = say::nothing_there(&format!("rule {rule}"), "is not configured");
                Err(Refusal::new(Why::Unknown, notice))
            }
        }
    }

    /// Returns how the trial at a post stands, and what ends it.
    pub(super) fn compared(&self, post: &str) -> Option<(Compared, Bounds)> {
        self.posts.compared(post)
    }

    /// Returns how the running version of a rule does, and what it is watched for.
    pub(super) fn standing(&self, post: &str) -> Option<(Seen, Bounds)> {
        self.posts.standing(post)
    }

    /// Ends a trial or a probation, at the door.
    pub(super) async fn end(
        &self,
        end: impl FnOnce(&Door, &dyn Site) -> Result<(), Refused> + Send + 'static,
    ) -> Result<(), Refusal> {
        let (door, site) = (self.door()?, Arc::clone(&self.site));
        told(blocking(move || end(&door, &*site)).await)
    }

    fn door(&self) -> Result<Arc<Door>, Refusal> {
        let unusable = || Refusal::new(Why::Unable, say::no_door());
        self.door.clone().ok_or_else(unusable)
    }
}

/// Says in the log, too, what was refused: whoever looks after the gateway is not always the one who
/// pushes.
fn told<T>(done: Result<T, Refused>) -> Result<T, Refusal> {
    done.map_err(|notice| {
        tracing::warn!("{notice}");
        let why = match notice.code.id {
            id if id == say::NOTHING_THERE.id || id == say::NO_POST.id => Why::Unknown,
            id if id == say::OLDER.id => Why::Conflict,
            id if id == say::FOLDER.id || id == say::NOT_NOW.id => Why::Unable,
            _ => Why::Refused,
        };
        Refusal { why, notice }
    })
}

fn version(edition: &Edition) -> Version {
    let Edition { name, version, digest } = edition;
    Version { name: name.clone(), version: version.to_string(), digest: digest.clone() }
}

fn word(stands: Stands) -> &'static str {
    match stands {
        Stands::Live => "live",
        Stands::Trial => "trial",
        Stands::Off => "off",
    }
}

/// Runs what waits for the compiler and the disk on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // It panicked, which the panic hook has told.
        Err(_) => Err(Box::new(say::not_taken("rule", "fieldgate failed inside while at it"))),
    }
}
