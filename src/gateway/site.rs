//! Where rules run, as their door sees it: the configuration's tables, each with the version that the
//! door let in, and the board that runs them.

mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::rules::Rules;
use super::trials::on_trial;
use crate::api::rules::Rights;
use crate::clock::Clock;
use crate::config::Config;
use crate::events::{Events, push as say};
use crate::rules::cases::hold_all;
use crate::rules::door::{Door, Examined, Pushed, Running, Settings, Site};
use crate::rules::folder::{Folder, signature_of};
use crate::rules::manifest::Manifest;
use crate::rules::trial::{Bounds, Compared, Seen, Tally};
use crate::rules::wit::Level;
use crate::rules::{Definition, Loader, Mode, Report, Settings as RuleSettings, State};
use crate::uplink::Ruled;

/// Name of the rules folder, beside the buffer.
const FOLDER: &str = "rules";

/// Opens the door; without its folder there is none, and what was wrong is told.
pub(super) fn open_door(
    config: &Config,
    clock: &Arc<dyn Clock>,
    events: &Events,
) -> Option<Arc<Door>> {
    let path = config.store.path.parent().unwrap_or(Path::new(".")).join(FOLDER);
    let folder = match Folder::open(&path) {
        Ok((folder, trouble)) => {
            if let Some(notice) = trouble {
                events.raise(notice);
            }
            folder
        }
        Err(notice) => {
            events.raise(*notice);
            return None;
        }
    };
    let settings = Settings {
        gateway: Arc::clone(&config.gateway.name),
        groups: config.gateway.groups.clone(),
        keys: config.trust.clone(),
    };
    Some(Arc::new(Door::new(settings, Arc::clone(clock), folder)))
}

/// The tables and what runs at each.
pub(super) struct Posts {
    tables: Mutex<Tables>,
    loader: Arc<dyn Loader>,
    /// Runs them; not there before the gateway has begun.
    board: OnceLock<(Rules, Handle)>,
    /// Something else runs at a table.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Tables {
    /// As configured, in the order of the files.
    configured: Vec<Definition>,
    /// As they are to run.
    running: BTreeMap<Arc<str>, Definition>,
    /// What is on trial beside them, by their names.
    trials: BTreeMap<Arc<str>, Definition>,
    /// Whose file was changed while nothing ran.
    waiting: Vec<Definition>,
    /// Where nothing ran, and that have tests: they hold, or it does not begin.
    first: Vec<Definition>,
}

/// What was to run at a post: the live version, and one on trial.
type Stood = (Option<Definition>, Option<Definition>);

impl Posts {
    /// No tables yet; files are made rules by `loader`.
    pub(super) fn new(loader: Arc<dyn Loader>) -> Self {
        Self {
            tables: Mutex::default(),
            loader,
            board: OnceLock::new(),
            changed: watch::Sender::new(()),
        }
    }

    /// Returns who makes rules of files.
    pub(super) fn loader(&self) -> Arc<dyn Loader> {
        Arc::clone(&self.loader)
    }

    /// Takes the configuration's tables, and lets the door choose what runs at each. What was wrong is
    /// told; those tables go without. `at_start`, where nothing is to wait for a compiler, a file that
    /// was changed beside one that ran waits for [`Posts::take_in_changed`], and a first one with tests
    /// for [`Posts::take_in_first`].
    pub(super) fn configure(
        &self,
        rules: Vec<Definition>,
        door: Option<&Door>,
        events: &Events,
        at_start: bool,
    ) {
        let mut tables = self.lock();
        let Some(door) = door else {
            // Nothing can be kept, so nothing is chosen: what the configuration has found in order.
            let sound = rules.iter().filter(|rule| !rule.version.is_empty());
            tables.running = sound.map(|rule| (Arc::clone(rule.name()), rule.clone())).collect();
            tables.configured = rules;
            return;
        };
        tables.configured.clone_from(&rules);
        tables.running.clear();
        tables.trials.clear();
        drop(tables);
        let (mut waiting, mut first) = (Vec::new(), Vec::new());
        for rule in rules {
            let known = door.ledger().posts.get(&**rule.name()).cloned().unwrap_or_default();
            let is_changed = known.file.as_deref() != Some(&*rule.digest);
            let live = known.live.as_ref().filter(|_| is_changed).and_then(|live| door.read(live));
            let is_beside = live.is_some_and(|live| self.suits(rule.name(), &live));
            let comes = is_changed || known.live.is_none();
            let is_first = comes && !is_beside && !rule.written.tests.is_empty();
            if at_start && is_first {
                first.push(rule);
                continue;
            }
            let waits = at_start && is_beside;
            let file = (!waits).then_some(&rule);
            let site = Choosing { posts: self, compiles: is_beside || is_first };
            choose(&rule, file, door, &site, events);
            if waits {
                waiting.push(rule);
            }
        }
        let mut tables = self.lock();
        (tables.waiting, tables.first) = (waiting, first);
        drop(tables);
        self.changed.send_replace(());
    }

    /// Takes in first versions that have tests, before anything has begun. Waits for the compiler.
    pub(super) fn take_in_first(&self, door: &Door, events: &Events) {
        let first = self.lock().first.clone();
        for rule in &first {
            choose(rule, Some(rule), door, &Choosing { posts: self, compiles: true }, events);
        }
        self.lock().first.clear();
        self.changed.send_replace(());
    }

    /// Takes in the files that were changed before the start. Waits for the compiler.
    pub(super) fn take_in_changed(&self, door: &Door, events: &Events) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for rule in waiting {
            choose(&rule, Some(&rule), door, self, events);
        }
    }

    /// Returns the rules whose output counts, and whether these are the files that the configuration
    /// names.
    pub(super) fn in_force(&self) -> (Vec<Ruled>, bool) {
        let tables = self.lock();
        let running = tables.configured.iter().filter_map(|rule| tables.expected(rule.name()));
        let all = running.map(|rule| Ruled {
            rule: Arc::clone(rule.name()),
            version: Arc::clone(&rule.version),
            digest: Arc::clone(&rule.digest),
        });
        let all: Vec<_> = all.collect();
        let configured = tables.configured.iter().map(|rule| (rule.name(), &rule.digest));
        let as_configured = configured.eq(all.iter().map(|rule| (&rule.rule, &rule.digest)));
        (all, as_configured)
    }

    /// Returns a watch on what runs.
    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns how the rules do that run, each version on trial behind its `~`.
    pub(super) fn reports(&self) -> Vec<Report> {
        self.board.get().map(|(rules, _)| rules.status()).unwrap_or_default()
    }

    /// Returns what is to run, in the order of the files.
    pub(super) fn running(&self) -> Vec<Definition> {
        self.lock().in_order()
    }

    /// Returns what is to run when first versions hold their tests.
    pub(super) fn expected(&self) -> Vec<Definition> {
        let tables = self.lock();
        let names = tables.configured.iter().map(Definition::name);
        names.filter_map(|name| tables.expected(name)).cloned().collect()
    }

    /// Learns who runs them.
    pub(super) fn run_on(&self, rules: Rules) {
        if let Ok(handle) = Handle::try_current() {
            // A second board would be a second gateway.
            let _ = self.board.set((rules, handle));
        }
    }

    /// Makes the definition of a table from another file.
    fn made_of(&self, post: &str, file: &[u8]) -> Result<Definition, String> {
        let tables = self.lock();
        let configured = tables.configured.iter().find(|rule| **rule.name() == *post);
        configured.ok_or("no such table is configured")?.made_of(file)
    }

    /// Notes what is to run at a post; returns what was there.
    fn note(&self, post: &str, running: Running<'_>) -> Result<Stood, String> {
        let made =
            |of: Option<(_, &[u8])>| of.map(|(_, file)| self.made_of(post, file)).transpose();
        let live = made(running.live)?;
        let trial = made(running.trial)?.filter(|_| live.is_some()).map(tried);
        Ok(self.lock().put(post, (live, trial)))
    }

    /// Returns what the version that is to run at a post asks for and may use; where none is, what the
    /// configured file would.
    pub(super) fn rights(&self, post: &str) -> Option<Rights> {
        let tables = self.lock();
        let configured = || tables.configured.iter().find(|rule| **rule.name() == *post);
        let rule = tables.running.get(post).or_else(configured)?;
        Some(shown::rights(rule))
    }

    /// Returns how the trial at a post stands, and what ends it.
    pub(super) fn compared(&self, post: &str) -> Option<(Compared, Bounds)> {
        let bounds = self.lock().trials.get(post)?.trial.clone();
        let (_, trial) = self.status(post)?.trial?;
        Some((trial.compared(), bounds))
    }

    /// Returns how the running version does and what it is watched for; `None` before it has begun.
    pub(super) fn standing(&self, post: &str) -> Option<(Seen, Bounds)> {
        let bounds = self.lock().running.get(post)?.trial.clone();
        let report = self.status(post).filter(|report| report.state != State::Waiting)?;
        let Report { taken, emitted, fuel, took, failure, state, .. } = report;
        let tally = Tally { taken, emitted, fuel, took };
        let given_up = state == State::GivenUp;
        Some((Seen { tally, failure, given_up, ..Seen::default() }, bounds))
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, post: &str) -> Option<Report> {
        let (rules, _) = self.board.get()?;
        rules.status().into_iter().find(|report| *report.name == *post)
    }
}

impl Tables {
    fn expected(&self, name: &str) -> Option<&Definition> {
        self.running.get(name).or_else(|| self.first.iter().find(|rule| **rule.name() == *name))
    }

    fn in_order(&self) -> Vec<Definition> {
        let names = || self.configured.iter().map(Definition::name);
        let live = names().filter_map(|name| self.running.get(name));
        let trials = names().filter_map(|name| self.trials.get(name));
        live.chain(trials).cloned().collect()
    }

    fn put(&mut self, post: &str, (live, trial): Stood) -> Stood {
        let set = |map: &mut BTreeMap<Arc<str>, Definition>, rule| match rule {
            Some(rule) => map.insert(post.into(), rule),
            None => map.remove(post),
        };
        (set(&mut self.running, live), set(&mut self.trials, trial))
    }
}

/// Lets the door choose what runs at a table, with its configured file or without, and tells what was
/// wrong with that once.
fn choose(
    rule: &Definition,
    file: Option<&Definition>,
    door: &Door,
    site: &dyn Site,
    events: &Events,
) {
    let subject = format!("rule {}", rule.name());
    let signature = file.and_then(|rule| signature_of(&rule.file));
    let pushed = file.map(|rule| Pushed {
        subject: &subject,
        file: &rule.code,
        signature: signature.as_deref(),
        to: Some(rule.name()),
        is_configured: true,
    });
    let (_, trouble) = door.begin(rule.name(), pushed, site);
    let told: Vec<&'static str> = trouble.iter().map(|notice| notice.code.id).collect();
    for notice in trouble {
        events.raise(*notice);
    }
    for code in say::CODES.iter().filter(|code| !told.contains(&code.id)) {
        events.clear(code, &subject, "is in order");
    }
}

/// A version that only looks on: it sees what the running one sees, and nothing waits for it.
fn tried(rule: Definition) -> Definition {
    Definition {
        settings: RuleSettings { name: on_trial(rule.name()), ..rule.settings.clone() },
        mode: Mode::Shadow,
        makes: Vec::new(),
        beside: Some(Arc::clone(rule.name())),
        ..rule
    }
}

impl Site for Posts {
    fn posts(&self) -> Vec<String> {
        self.lock().configured.iter().map(|rule| rule.name().to_string()).collect()
    }

    fn examine(&self, file: &[u8]) -> Result<Examined, String> {
        match Manifest::read(file) {
            Ok(Some(Manifest { name, version, capabilities, .. })) => {
                Ok(Examined { name, version, capabilities })
            }
            Ok(None) => Err("it has no manifest; fieldgate rule build writes one".to_owned()),
            Err(bad) => Err(format!("its manifest {}", bad.why)),
        }
    }

    fn fits(&self, post: &str, file: &[u8]) -> Result<(), String> {
        let rule = self.made_of(post, file)?;
        let loaded = self.loader.load(&rule).map_err(|failure| failure.message)?;
        hold_all(&rule, &*loaded)
    }

    fn suits(&self, post: &str, file: &[u8]) -> bool {
        self.made_of(post, file).is_ok()
    }

    fn arrange(&self, post: &str, running: Running<'_>) -> Result<(), String> {
        let before = self.note(post, running)?;
        let Some((rules, handle)) = self.board.get() else {
            self.changed.send_replace(());
            return Ok(());
        };
        let refused = handle.block_on(rules.apply(self.running()));
        let tried = on_trial(post);
        match refused.into_iter().find(|(name, _)| **name == *post || *name == tried) {
            None => {
                self.changed.send_replace(());
                Ok(())
            }
            Some((name, failure)) => {
                self.lock().put(post, before);
                if name == tried {
                    // The running one was not touched; only the newcomer is to go.
                    handle.block_on(rules.apply(self.running()));
                }
                Err(failure.message)
            }
        }
    }

    fn has_trials(&self) -> bool {
        true
    }

    fn report(&self, post: &str) -> Option<serde_json::Value> {
        self.status(post).map(shown::report)
    }

    fn log(&self, post: &str) -> Option<Vec<(i64, &'static str, String)>> {
        if !self.posts().iter().any(|known| known == post) {
            return None;
        }
        let lines = self.status(post).map(|report| report.log).unwrap_or_default();
        let line = |line: crate::rules::report::Line| {
            let level = match line.level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            (line.at / 1000, level, line.text)
        };
        Some(lines.into_iter().map(line).collect())
    }
}

/// The tables while it is chosen what runs: nothing is started, for all of it starts together.
struct Choosing<'a> {
    posts: &'a Posts,
    /// Whether a changed file takes the place of one that ran, which must not be lost to one that
    /// cannot, or has tests to hold. Any other is compiled by the board, on a thread of its own.
    compiles: bool,
}

impl Site for Choosing<'_> {
    fn posts(&self) -> Vec<String> {
        self.posts.posts()
    }

    fn examine(&self, file: &[u8]) -> Result<Examined, String> {
        self.posts.examine(file)
    }

    fn fits(&self, post: &str, file: &[u8]) -> Result<(), String> {
        match self.compiles {
            true => self.posts.fits(post, file),
            false => self.posts.made_of(post, file).map(drop),
        }
    }

    fn suits(&self, post: &str, file: &[u8]) -> bool {
        self.posts.suits(post, file)
    }

    fn arrange(&self, post: &str, running: Running<'_>) -> Result<(), String> {
        self.posts.note(post, running).map(drop)
    }

    fn has_trials(&self) -> bool {
        self.posts.has_trials()
    }

    fn report(&self, _: &str) -> Option<serde_json::Value> {
        None
    }

    fn log(&self, _: &str) -> Option<Vec<(i64, &'static str, String)>> {
        None
    }
}
