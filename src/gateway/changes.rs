//! How the configuration of a running gateway changes: its files, a signal, or an order over the
//! socket. One change at a time, in the order in which they were asked for.
//!
//! **Reload.** What stands on disk is loaded as at a start, on a thread of its own, and applied. With
//! faults nothing happens but a notice, which is over when the files are mended.
//!
//! **Trial.** A candidate comes over the socket and is put in force until somebody confirms it: see
//! [`trial`].

mod trial;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::trial::Trial;
use super::files::Files;
use super::safe::Starts;
use super::versions::{State, Version, Versions};
use super::{Gateway, Plan};
use crate::api::{ConfigOrder, Refusal, Why};
use crate::config::{self, Config, Faults, Options, Texts, texts};
use crate::error::Fatal;
use crate::events::{Notice, apply as say, gateway as told};
use crate::limits;

/// An order and where its answer is awaited.
pub(super) type Asked = (ConfigOrder, oneshot::Sender<Result<Value, Refusal>>);

/// See the file's head.
pub struct Changes {
    path: PathBuf,
    versions: Versions,
    files: Files,
    orders: mpsc::Receiver<Asked>,
    /// `None` where the system gives no signals.
    hang_up: Option<Signal>,
    trial: Option<Trial>,
    /// This start and those before it: whether this is a safe one.
    starts: Starts,
    /// Number of the version that is in force for good.
    kept: Option<u64>,
    /// Gives back what loading took.
    tidy: fn(),
}

/// A configuration with the texts it was made from.
type Loaded = (Result<Config, Faults>, Option<Texts>);

impl Changes {
    /// Watches over the configuration that stands at `path`, whose versions are kept in `versions`;
    /// `tidy` is called after each load. Takes the orders that come to `gateway` over its socket.
    #[must_use]
    pub fn new(
        path: &Path,
        versions: Versions,
        starts: Starts,
        gateway: &mut Gateway,
        tidy: fn(),
    ) -> Self {
        if starts.is_safe() {
            let left_out: Vec<&str> = starts.left_out().collect();
            gateway.events.raise(told::safe_mode(&left_out, Some("the store and the socket")));
        }
        // Of a gateway whose orders are taken already, none come here.
        let orders = gateway.orders.take().unwrap_or_else(|| mpsc::channel(1).1);
        Self {
            path: path.to_owned(),
            versions,
            files: Files::new(path),
            orders,
            hang_up: signal(SignalKind::hangup()).ok(),
            trial: None,
            starts,
            kept: None,
            tidy,
        }
    }

    /// Changes what `gateway` runs with, whenever that is asked for, until a part of it breaks.
    pub async fn run(&mut self, gateway: &mut Gateway) -> Fatal {
        self.begin(gateway).await;
        loop {
            let ends = self.trial.as_ref().map(|trial| trial.ends);
            tokio::select! {
                fatal = gateway.broken() => return fatal,
                Some(asked) = self.orders.recv() => self.serve(asked, gateway).await,
                () = hung_up(&mut self.hang_up) => drop(self.reload(gateway, "a signal").await),
                _ = self.starts.due() => self.next_part(gateway).await,
                () = self.files.changed(), if ends.is_none() => {
                    let _ = self.reload(gateway, "changed files").await;
                }
                () = until(ends), if ends.is_some() => {
                    self.go_back(gateway, "was not confirmed in time").await;
                }
            }
        }
    }

    /// Notes which files the configuration names that count as parts of it: its rules.
    pub fn watch(&mut self, files: Vec<PathBuf>) {
        self.files.name(files);
    }

    /// Notes an orderly end.
    pub fn end(self) {
        self.starts.end();
    }

    /// In safe mode: starts the next part, and says which are left out.
    async fn next_part(&mut self, gateway: &mut Gateway) {
        let Ok((mut config, _)) = self.load(None).await else { return };
        let next = self.starts.next(&config);
        self.starts.limit(&mut config);
        if let Err(notice) = gateway.apply(config).await {
            refused(gateway, &notice);
        }
        let left_out: Vec<&str> = self.starts.left_out().collect();
        gateway.events.clear(&told::SAFE_MODE, told::ALL_OF_IT, "has come this far");
        gateway.events.raise(told::safe_mode(&left_out, next.as_deref()));
    }

    /// Keeps what the gateway started with, and says what an earlier process left unfinished.
    async fn begin(&mut self, gateway: &Gateway) {
        let path = self.path.clone();
        let versions = self.versions.clone();
        let read = on_a_thread(move || {
            let texts = Texts::read(&path).ok();
            let tried =
                versions.list().into_iter().filter(|version| version.state == State::OnTrial);
            let is_installed =
                |number| texts.is_some() && versions.read(number).map(|(_, texts)| texts) == texts;
            let tried = tried.map(|version| (version.number, is_installed(version.number)));
            let tried = tried.collect::<Vec<_>>();
            (texts, tried)
        });
        let (texts, tried) = read.await.unwrap_or_default();
        for (number, is_installed) in tried {
            if is_installed {
                // Somebody had confirmed it, and was cut off before the daemon was told.
                self.mark(gateway, number, State::Kept).await;
                continue;
            }
            self.mark(gateway, number, State::WentBack).await;
            let why = "was on trial when the daemon ended";
            gateway.events.raise(say::went_back(number, why));
        }
        self.note_unfinished(gateway);
        if let Some(texts) = texts {
            self.keep(gateway, texts, "the files, at a start", State::Kept).await;
        }
    }

    async fn serve(&mut self, (order, reply): Asked, gateway: &mut Gateway) {
        let done = match order {
            ConfigOrder::Plan { texts } => self.plan(gateway, texts.map(Texts)).await,
            ConfigOrder::Reload { by } => match self.reload(gateway, &plain(&by)).await {
                Ok(plan) => Ok(json!({ "plan": plan, "text": plan.to_string() })),
                Err(notice) => Err(Refusal::new(Why::Refused, notice)),
            },
            ConfigOrder::Apply { texts, confirm_s, by } => {
                let patience = Duration::from_secs(confirm_s);
                self.try_out(gateway, Texts(texts), patience, &plain(&by)).await
            }
            ConfigOrder::Confirm { anyway, installed } => {
                self.confirm(gateway, anyway, installed).await
            }
            ConfigOrder::Rollback {} => self.roll_back(gateway).await,
            ConfigOrder::History {} => Ok(self.history().await),
            ConfigOrder::Version { number } => match self.version(number).await {
                Some((version, texts)) => Ok(json!({ "version": version, "texts": texts })),
                None => Err(Refusal::new(Why::Unknown, say::no_version(number))),
            },
        };
        // Whoever asked may have gone.
        let _ = reply.send(done);
    }

    /// Loads what stands on disk, or `given`.
    async fn load(&mut self, given: Option<Texts>) -> Result<(Config, Texts), Notice> {
        let (path, on_disk) = (self.path.clone(), given.is_none());
        let loaded = on_a_thread(move || load(&path, given)).await;
        (self.tidy)();
        match loaded {
            Some((Ok(config), Some(texts))) => {
                if on_disk {
                    self.watch(config.rules.iter().map(|rule| rule.file.clone()).collect());
                }
                for warning in &config.warnings {
                    tracing::warn!("{warning}");
                }
                Ok((config, texts))
            }
            Some((Err(faults), _)) => {
                let first = faults.faults.first().map_or_else(String::new, place_and_fault);
                let hint = faults.faults.first().map_or("", |fault| &fault.hint);
                Err(say::faulty(&first, faults.count(), hint))
            }
            Some((Ok(_), None)) | None => Err(say::not_loaded()),
        }
    }

    async fn plan(&mut self, gateway: &Gateway, given: Option<Texts>) -> Result<Value, Refusal> {
        refuse_improper(given.as_ref())?;
        let (config, _) = self.load(given).await.map_err(|n| Refusal::new(Why::Refused, n))?;
        let plan = gateway.plan(&config);
        let trial = self.trial.as_ref().map(|trial| trial.number);
        Ok(json!({ "plan": plan, "text": plan.to_string(), "hash": &*config.hash, "trial": trial }))
    }

    /// Puts in force what stands on disk. While a trial runs it does not; its end does.
    async fn reload(&mut self, gateway: &mut Gateway, by: &str) -> Result<Plan, Notice> {
        if let Some(trial) = &self.trial {
            return Err(say::on_trial_already(trial.number));
        }
        self.files.note();
        self.note_unfinished(gateway);
        let outcome = self.take(gateway, None).await;
        match outcome {
            Ok((plan, texts)) => {
                over(gateway);
                if !plan.is_empty() {
                    tracing::info!("configuration {} by {by}:\n{plan}", gateway.config_hash());
                    gateway.events.clear(&say::WENT_BACK, say::SUBJECT, "was changed since");
                }
                self.keep(gateway, texts, by, State::Kept).await;
                Ok(plan)
            }
            Err(notice) => {
                refused(gateway, &notice);
                Err(notice)
            }
        }
    }

    async fn take(
        &mut self,
        gateway: &mut Gateway,
        given: Option<Texts>,
    ) -> Result<(Plan, Texts), Notice> {
        let (config, texts) = self.load(given).await?;
        let plan = gateway.apply(config).await?;
        if self.starts.is_safe() {
            self.starts.leave();
            gateway.events.clear(&told::SAFE_MODE, told::ALL_OF_IT, "runs as configured");
        }
        (self.tidy)();
        Ok((plan, texts))
    }

    async fn version(&self, number: u64) -> Option<(Version, Texts)> {
        let versions = self.versions.clone();
        on_a_thread(move || versions.read(number)).await.flatten()
    }

    async fn history(&self) -> Value {
        let left = |trial: &Trial| {
            let left = trial.ends.saturating_duration_since(Instant::now()).as_secs();
            json!({ "number": trial.number, "left_s": left })
        };
        let versions = self.versions.clone();
        let versions = on_a_thread(move || versions.list()).await;
        json!({
            "versions": versions,
            "in_force": self.trial.as_ref().map_or(self.kept, |trial| Some(trial.number)),
            "trial": self.trial.as_ref().map(left),
        })
    }

    /// Keeps a version, unless the last one is the same. Returns its number.
    async fn keep(
        &mut self,
        gateway: &Gateway,
        texts: Texts,
        by: &str,
        state: State,
    ) -> Option<u64> {
        let version = Version {
            number: 0,
            at_ms: gateway.now().0,
            by: by.to_owned(),
            what: String::new(),
            hash: gateway.config_hash().to_string(),
            state,
        };
        let versions = self.versions.clone();
        let kept = on_a_thread(move || versions.keep_if_new(version, &texts)).await;
        let number = kept.and_then(|kept| said(gateway, kept));
        if state == State::Kept {
            // One that the disk did not take has no number, and an earlier one is not in force.
            self.kept = number;
        }
        number
    }

    async fn mark(&self, gateway: &Gateway, number: u64, state: State) {
        let versions = self.versions.clone();
        if let Some(marked) = on_a_thread(move || versions.mark(number, state)).await {
            said(gateway, marked);
        }
    }

    fn note_unfinished(&self, gateway: &Gateway) {
        if texts::unfinished(&self.path).is_some() {
            gateway.events.raise(say::unfinished());
        } else {
            gateway.events.clear(&say::UNFINISHED, say::SUBJECT, "is installed");
        }
    }
}

fn load(path: &Path, given: Option<Texts>) -> Loaded {
    match given.or_else(|| Texts::read(path).ok()) {
        Some(texts) => (config::load_texts(path, &texts, Options::default()), Some(texts)),
        // It knows in words what is wrong with which file.
        None => (config::load(path, Options::default()), None),
    }
}

/// Does what blocks on a thread of its own: the reactor goes on. `None` when the thread could not be
/// had, or fell.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = oneshot::channel();
    let thread = std::thread::Builder::new().name("config".into());
    let run = move || drop(send.send(work()));
    thread.spawn(run).ok()?;
    receive.await.ok()
}

async fn hung_up(signal: &mut Option<Signal>) {
    let heard = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

/// Whoever may use the socket says who it is, and that goes to the log, the history and terminals.
fn plain(by: &str) -> String {
    by.chars().filter(|c| !c.is_control()).take(limits::CONFIG_BY_CHARS_MAX).collect()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What came over the socket must be texts of a configuration and nothing else.
fn refuse_improper(texts: Option<&Texts>) -> Result<(), Refusal> {
    match texts {
        Some(texts) if !texts.is_proper() => Err(Refusal::new(Why::Malformed, say::improper())),
        _ => Ok(()),
    }
}

fn place_and_fault(fault: &config::Fault) -> String {
    let text = fault.to_string();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(1)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Tells why a change was not taken; what was told before about another one is over.
fn refused(gateway: &Gateway, notice: &Notice) {
    let told = |condition: &crate::events::Condition| {
        condition.notice.code == notice.code && condition.notice.what == notice.what
    };
    if !gateway.events.standing().iter().any(told) {
        over(gateway);
    }
    gateway.events.raise(notice.clone());
}

fn over(gateway: &Gateway) {
    for code in [&say::NOT_TAKEN, &say::NEEDS_RESTART] {
        gateway.events.clear(code, say::SUBJECT, "was changed again");
    }
}

/// Says once that the disk does not take versions.
fn said<T>(gateway: &Gateway, kept: std::io::Result<T>) -> Option<T> {
    match kept {
        Ok(kept) => {
            gateway.events.clear(&say::NO_HISTORY, say::SUBJECT, "is kept again");
            Some(kept)
        }
        Err(error) => {
            gateway.events.raise(say::no_history(error.kind()));
            None
        }
    }
}
