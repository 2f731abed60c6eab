//! `fieldgate plan`, `apply`, `confirm`, `rollback` and `history`: how a configuration gets into force
//! and back out of it. What is tried goes to the daemon; what stays is written here, by whoever may
//! write there, and then the daemon is told. All of it but trials works without a daemon, too.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::{Along, Daemon};
use crate::batch::text;
use crate::config::{self, Options, Texts, texts};
use crate::error::{Exit, Fatal};
use crate::events::apply as say;
use crate::gateway::{Parts, Version, VersionState, Versions};
use crate::reading::UnixMillis;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// A folder with a whole configuration, or files that take their place in the present one; without,
    /// what stands on disk
    #[arg(value_name = "FILE|FOLDER")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// A folder with a whole configuration, or files that take their place in the present one; without,
    /// what stands on disk is loaded
    #[arg(value_name = "FILE|FOLDER")]
    files: Vec<PathBuf>,
    /// Go back by itself unless confirmed within this time
    #[arg(long, value_name = "TIME", requires = "files", value_parser = super::time)]
    confirm: Option<humantime::Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `confirm`.
#[derive(Debug, Args)]
pub(super) struct Confirm {
    /// Keep it although no batch was acknowledged since
    #[arg(long)]
    anyway: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// Version to go back to; without, what is on trial ends, or the one before comes back
    #[arg(value_name = "NUMBER")]
    number: Option<u64>,
    /// Go forth again by itself unless confirmed within this time
    #[arg(long, value_name = "TIME", requires = "number", value_parser = super::time)]
    confirm: Option<humantime::Duration>,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct History {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        let given = match self.files.is_empty() {
            true => None,
            false => Some(candidate(path, &self.files)?),
        };
        let wanted = load(path, given.as_ref())?;
        let order = json!({ "texts": given });
        let plan = match ask(path, "/v1/plan", &order) {
            Err(fatal) if fatal.exit == Exit::Unreachable => {
                // Without a daemon: against what stands on disk, or against nothing.
                let before = given.and_then(|_| config::load(path, Options::default()).ok());
                let before = before.map(|config| Parts::of(&config));
                let plan = before.unwrap_or_default().plan(&Parts::of(&wanted));
                let text = format!("{plan}\nThe daemon does not run; this is for its next start.");
                json!({ "plan": plan, "text": text })
            }
            answer => answer?,
        };
        if self.json {
            print(&format!("{:#}", plan["plan"]));
        } else {
            print(plan["text"].as_str().unwrap_or_default());
        }
        Ok(Exit::Done)
    }
}

impl Apply {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        let finished = finish(path);
        if self.files.is_empty() {
            // The daemon's own user may not write; what was cut short is in force all the same.
            load(path, None)?;
            let answer = ask(path, "/v1/reload", &json!({ "by": who() }))?;
            if let Err(fatal) = finished {
                // It is in force; that it is not finished concerns the next one who edits a file.
                let _ = writeln!(io::stderr().lock(), "{fatal}");
            }
            return Ok(self.print(&answer, ""));
        }
        finished?;
        let texts = candidate(path, &self.files)?;
        load(path, Some(&texts))?;
        match self.confirm {
            Some(time) => {
                let answer = try_out(path, &texts, time)?;
                Ok(self.print(&answer, &on_trial(&answer)))
            }
            None => {
                let answer = put(path, &texts)?;
                Ok(self.print(&answer, ""))
            }
        }
    }

    fn print(&self, answer: &Value, more: &str) -> Exit {
        if self.json {
            print(&format!("{answer:#}"));
        } else {
            let text = answer["text"].as_str().unwrap_or_default();
            print(format!("{text}\n{more}").trim_end());
        }
        Exit::Done
    }
}

impl Confirm {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        finish(path)?;
        let order = json!({ "anyway": self.anyway, "installed": false });
        let answer = ask(path, "/v1/confirm", &order)?;
        let texts: Texts = serde_json::from_value(answer["install"].clone())
            .map_err(|_| Fatal::new(Exit::Problem, say::improper().to_string()))?;
        let before = Texts::read(path).ok();
        install(path, &texts)?;
        let order = json!({ "anyway": self.anyway, "installed": true });
        let number = &answer["number"];
        match ask(path, "/v1/confirm", &order) {
            Err(fatal) if is_told(&fatal, say::NOT_NOW.id) => {
                let number = number.as_u64().unwrap_or_default();
                undo_unless_kept(path, number, (before, &texts), fatal)?;
            }
            Err(fatal) if fatal.exit == Exit::Unreachable => {
                // It has ended meanwhile, and starts with what stands there now.
                print(&format!(
                    "version {number} is installed; the daemon does not run, it takes it at its \
                     next start"
                ));
                return Ok(Exit::Done);
            }
            answer => drop(answer?),
        }
        print(&format!("version {number} is confirmed and installed"));
        Ok(Exit::Done)
    }
}

/// A trial may end while its texts are being written: its time is up, or somebody takes it back. The
/// daemon keeps it when it finds them written by then. Otherwise it went back, and what it went back
/// from must not come into force by standing on disk.
fn undo_unless_kept(
    path: &Path,
    number: u64,
    (before, tried): (Option<Texts>, &Texts),
    fatal: Fatal,
) -> Result<(), Fatal> {
    let (_, in_force, trial) = history(path)?;
    if in_force == Some(number) {
        return Ok(());
    }
    let is_over = trial.is_null() && Texts::read(path).ok().as_ref() == Some(tried);
    let Some(before) = before.filter(|_| is_over) else { return Err(fatal) };
    install(path, &before)?;
    Err(Fatal::new(Exit::Problem, say::ended_meanwhile(number).to_string()))
}

impl Rollback {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        finish(path)?;
        if self.number.is_none() {
            match ask(path, "/v1/rollback", &json!({})) {
                Ok(answer) => {
                    print(&format!("version {} is taken back", answer["number"]));
                    return Ok(Exit::Done);
                }
                // Nothing is on trial, or nobody is there who could try something.
                Err(fatal) if is_told(&fatal, say::NOT_NOW.id) => {}
                Err(fatal) if fatal.exit == Exit::Unreachable => {}
                Err(fatal) => return Err(fatal),
            }
        }
        let (number, texts) = self.version(path)?;
        load(path, Some(&texts))?;
        let (answer, more) = match self.confirm {
            Some(time) => {
                let answer = try_out(path, &texts, time)?;
                let more = on_trial(&answer);
                (answer, more)
            }
            None => (put(path, &texts)?, format!("version {number} is in force again")),
        };
        print(format!("{}\n{more}", answer["text"].as_str().unwrap_or_default()).trim_end());
        Ok(Exit::Done)
    }

    /// Finds the version of this number, or the one before what stands on disk.
    fn version(&self, path: &Path) -> Result<(u64, Texts), Fatal> {
        if let Some(number) = self.number {
            return Ok((number, texts_of(path, number)?));
        }
        let (versions, in_force, _) = history(path)?;
        // What stands on disk and never came into force, or has faults, is what one goes back from.
        if let Some(number) = in_force
            && let Ok(texts) = texts_of(path, number)
            && Texts::read(path).ok().as_ref() != Some(&texts)
        {
            return Ok((number, texts));
        }
        let kept = |v: &&Version| v.state == VersionState::Kept && Some(v.number) != in_force;
        let before = versions.iter().find(kept).map(|version| version.number);
        let nothing = || Fatal::new(Exit::Problem, say::nothing_before().to_string());
        let number = before.ok_or_else(nothing)?;
        Ok((number, texts_of(path, number)?))
    }
}

/// Asks the daemon for the texts of a version, or reads them where it does not run.
fn texts_of(path: &Path, number: u64) -> Result<Texts, Fatal> {
    let texts = match Daemon::of(path).get::<Value>(&format!("/v1/history/{number}")) {
        Ok(answer) => serde_json::from_value(answer["texts"].clone()).ok(),
        Err(fatal) if fatal.exit == Exit::Unreachable => {
            versions(path).read(number).map(|(_, texts)| texts)
        }
        Err(fatal) => return Err(fatal),
    };
    texts.ok_or_else(|| Fatal::new(Exit::Problem, say::no_version(number).to_string()))
}

impl History {
    pub(super) fn run(self, path: &Path) -> Result<Exit, Fatal> {
        let (versions, in_force, trial) = history(path)?;
        if self.json {
            let all = json!({ "versions": versions, "in_force": in_force, "trial": trial });
            print(&format!("{all:#}"));
            return Ok(Exit::Done);
        }
        let mut out = String::new();
        for version in &versions {
            let state = match version.state {
                VersionState::Kept if Some(version.number) == in_force => "in force",
                VersionState::Kept => "",
                VersionState::OnTrial => "on trial",
                VersionState::WentBack => "went back",
            };
            out += &format!(
                "{:>4}  {}  {:<9}  {}  {}  ({})\n",
                version.number,
                text::rfc3339(UnixMillis(version.at_ms)),
                state,
                version.hash,
                version.what,
                version.by,
            );
        }
        if let Some(left) = trial["left_s"].as_u64() {
            out += &format!("version {} goes back by itself in {left} s\n", trial["number"]);
        }
        print(if out.is_empty() { "no version was kept yet" } else { out.trim_end() });
        Ok(Exit::Done)
    }
}

/// Returns the number of the version that the daemon tries, when it tries one.
pub(super) fn trial(path: &Path) -> Option<u64> {
    let answer = Daemon::of(path).get::<Value>("/v1/history").ok()?;
    answer["trial"]["number"].as_u64()
}

/// Returns the versions, which of them is in force, and what the daemon says of a trial.
fn history(path: &Path) -> Result<(Vec<Version>, Option<u64>, Value), Fatal> {
    match Daemon::of(path).get::<Value>("/v1/history") {
        Ok(answer) => {
            let versions = serde_json::from_value(answer["versions"].clone()).unwrap_or_default();
            Ok((versions, answer["in_force"].as_u64(), answer["trial"].clone()))
        }
        Err(fatal) if fatal.exit == Exit::Unreachable => {
            let versions = versions(path).list();
            let kept = versions.iter().find(|version| version.state == VersionState::Kept);
            let in_force = kept.map(|version| version.number);
            Ok((versions, in_force, Value::Null))
        }
        Err(fatal) => Err(fatal),
    }
}

/// Where the versions are, as the configuration on disk says, faulty or not: a faulty one is what
/// people go back from.
fn versions(path: &Path) -> Versions {
    match config::load(path, Options::default()) {
        Ok(config) => Versions::of(&config),
        Err(_) => Versions::beside(&config::buffer(path)),
    }
}

/// Loads what is wanted, or says all that is wrong with it.
fn load(path: &Path, texts: Option<&Texts>) -> Result<config::Config, Fatal> {
    let loaded = match texts {
        Some(texts) => config::load_texts(path, texts, Options::default()),
        None => config::load(path, Options::default()),
    };
    loaded.map_err(|faults| Fatal::new(Exit::Problem, faults.to_string()))
}

fn candidate(path: &Path, files: &[PathBuf]) -> Result<Texts, Fatal> {
    // A whole configuration takes the place of the present one, in whatever state that is.
    let is_whole = matches!(files, [folder] if folder.is_dir());
    let present = match Texts::present(path) {
        Ok(present) => present,
        Err(_) if is_whole => Texts::default(),
        Err(error) => {
            // Loading knows in words which file it is.
            load(path, None)?;
            let named = path.display().to_string();
            return Err(Fatal::new(
                Exit::Problem,
                say::unreadable(&named, error.kind()).to_string(),
            ));
        }
    };
    match Texts::candidate(&present, path, files) {
        Ok(texts) if texts.is_proper() => Ok(texts),
        Ok(_) => Err(Fatal::new(Exit::Problem, say::improper().to_string())),
        Err(error) => {
            let readable = |file: &&PathBuf| std::fs::metadata(file).is_ok();
            let culprit = files.iter().find(|file| !readable(file)).or(files.first());
            let named = culprit.map_or_else(String::new, |file| file.display().to_string());
            Err(Fatal::new(Exit::Problem, say::unreadable(&named, error.kind()).to_string()))
        }
    }
}

fn try_out(path: &Path, texts: &Texts, time: humantime::Duration) -> Result<Value, Fatal> {
    ask(path, "/v1/apply", &json!({ "texts": texts, "confirm_s": time.as_secs(), "by": who() }))
}

/// The daemon has bounds for the time, so its word counts.
fn on_trial(answer: &Value) -> String {
    let number = &answer["number"];
    let time = Duration::from_secs(answer["confirm_s"].as_u64().unwrap_or_default());
    let time = humantime::format_duration(time);
    format!("version {number} is on trial for {time}; to keep it: fieldgate confirm")
}

/// Installs a configuration for good and has the daemon load it. When the daemon does not take it, the
/// one before is put back.
fn put(path: &Path, texts: &Texts) -> Result<Value, Fatal> {
    let before = Texts::read(path).ok();
    // The daemon runs as another user, and may not see what this one sees.
    match ask(path, "/v1/plan", &json!({ "texts": texts })) {
        Ok(answer) if !answer["trial"].is_null() => {
            let number = answer["trial"].as_u64().unwrap_or_default();
            let notice = say::on_trial_already(number);
            return Err(Fatal::new(Exit::Problem, notice.to_string()));
        }
        Err(fatal) if fatal.exit != Exit::Unreachable => return Err(fatal),
        Ok(_) | Err(_) => {}
    }
    install(path, texts)?;
    match ask(path, "/v1/reload", &json!({ "by": who() })) {
        Err(fatal) if fatal.exit == Exit::Unreachable => Ok(
            json!({ "text": "installed; the daemon does not run, it takes it at its next start" }),
        ),
        Err(fatal) if is_told(&fatal, say::NEEDS_RESTART.id) => {
            Ok(json!({ "text": format!("installed, and not in force yet\n{fatal}") }))
        }
        Err(fatal) => {
            if let Some(before) = before {
                install(path, &before)?;
            }
            Err(fatal)
        }
        answer => answer,
    }
}

fn install(path: &Path, texts: &Texts) -> Result<(), Fatal> {
    texts::install(path, texts).map_err(|error| {
        let fatal = may_not_write(path, &error);
        if texts::unfinished(path).as_ref() != Some(texts) {
            return fatal;
        }
        // It was cut behind the point from which on it is in force.
        Fatal::new(fatal.exit, format!("{fatal}\n{}", say::unfinished()))
    })
}

/// Finishes what a power cut has left, before anything else is done to the files.
fn finish(path: &Path) -> Result<(), Fatal> {
    texts::finish(path).map(drop).map_err(|error| may_not_write(path, &error))
}

fn may_not_write(path: &Path, error: &io::Error) -> Fatal {
    let exit = Exit::Problem;
    Fatal::new(exit, say::not_written(&path.display().to_string(), error.kind()).to_string())
}

fn ask(path: &Path, route: &str, order: &Value) -> Result<Value, Fatal> {
    let (body, kind) = (order.to_string().into(), Some("application/json"));
    Daemon::of(path).send(Method::POST, route, Along { body, kind, ..Along::default() })
}

/// Returns whether a refusal is one of this code.
fn is_told(fatal: &Fatal, code: &str) -> bool {
    fatal.exit == Exit::Problem && fatal.message.starts_with(code)
}

/// Who runs this, for the history: a name, not a proof.
fn who() -> String {
    let name = |key| std::env::var(key).ok().filter(|name: &String| !name.is_empty());
    let user = name("USER").or_else(|| name("LOGNAME")).unwrap_or_else(|| "someone".to_owned());
    name("SUDO_USER").map_or(user.clone(), |real| format!("{real} as {user}"))
}

fn print(text: &str) {
    // Whoever closed the pipe does not want to know more.
    let _ = writeln!(io::stdout().lock(), "{text}");
}
