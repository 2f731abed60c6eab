//! `fieldgate rule push|list|enable|disable|promote|rollback|logs`: the running gateway's rules, over
//! its socket.

use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use ct_codecs::{Base64, Encoder as _};
use hyper::Method;

use super::mqtt::Over;
use super::sign::{beside, read};
use crate::api::rules::{Done, Line, Rights, Rule, SIGNATURE, Version};
use crate::batch::text::rfc3339;
use crate::cli::client::{Along, Daemon};
use crate::error::{Exit, Fatal};
use crate::limits;
use crate::reading::UnixMillis;

/// Arguments of `rule push`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Push {
    /// The rule's file; FILE.minisig beside it goes along
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The [rule.NAME] it is for; the rule's own name, or where it runs already, when absent
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    #[command(flatten)]
    over: Over,
    /// JSON, one object
    #[arg(long)]
    json: bool,
}

/// Arguments of commands about one rule.
#[derive(Debug, Args)]
pub(in crate::cli) struct One {
    /// The [rule.NAME]
    #[arg(value_name = "NAME")]
    rule: String,
    /// JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `rule list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only this one
    #[arg(value_name = "NAME")]
    rule: Option<String>,
    /// JSON, one array
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) fn run(self, config: &Path) -> Result<Exit, Fatal> {
        let file = read(&self.file, limits::RULE_FILE_BYTES_MAX)?;
        let at = beside(&self.file);
        let signature = at.exists().then(|| read(&at, limits::SIGNATURE_BYTES_MAX)).transpose()?;
        if self.over.is_meant() {
            return self.over.push((&self.file, &file), signature.as_deref(), self.to.as_deref());
        }
        let header = match signature {
            Some(text) => {
                let encoded = Base64::encode_to_string(text).map_err(|_| {
                    Fatal::new(Exit::Problem, "the signature is too long to be sent")
                })?;
                Some((SIGNATURE, encoded))
            }
            None => None,
        };
        let path = match &self.to {
            Some(to) => format!("/v1/rules?to={}", encoded(to)),
            None => "/v1/rules".to_owned(),
        };
        let along = Along { body: Bytes::from(file), kind: Some("application/wasm"), header };
        let done: Done = Daemon::of(config).send(Method::PUT, &path, along)?;
        told(&done, self.json)
    }
}

impl One {
    /// Gives an order about one rule.
    pub(super) fn order(&self, order: &str, config: &Path) -> Result<Exit, Fatal> {
        let path = format!("/v1/rules/{}/{order}", encoded(&self.rule));
        let done: Done = Daemon::of(config).send(Method::POST, &path, Along::default())?;
        told(&done, self.json)
    }

    /// Shows what a rule wrote to its log.
    pub(super) fn logs(&self, config: &Path) -> Result<Exit, Fatal> {
        let path = format!("/v1/rules/{}/logs", encoded(&self.rule));
        let lines: Vec<Line> = Daemon::of(config).get(&path)?;
        if self.json {
            return json(&lines);
        }
        let mut text = String::new();
        for Line { at_ms, level, text: said } in &lines {
            let _ = writeln!(text, "{}  {level:<5}  {said}", rfc3339(UnixMillis(*at_ms)));
        }
        say(text.trim_end())
    }
}

impl List {
    pub(super) fn run(&self, config: &Path) -> Result<Exit, Fatal> {
        let mut rules: Vec<Rule> = Daemon::of(config).get("/v1/rules")?;
        if let Some(name) = &self.rule {
            rules.retain(|rule| rule.rule == *name);
        }
        if self.json {
            return json(&rules);
        }
        if rules.is_empty() {
            return say(
                "no rules are configured here\n  Try:    docs/rules.md shows a [rule.NAME] table",
            );
        }
        say(&rules.iter().map(described).collect::<Vec<_>>().join("\n"))
    }
}

fn described(rule: &Rule) -> String {
    let version = |of: &Option<Version>| match of {
        Some(Version { name, version, digest }) => {
            format!("{name} {version} ({})", digest.get(..12).unwrap_or(digest))
        }
        None => "none".to_owned(),
    };
    let mut text = format!("{}  {}", rule.rule, version(&rule.live));
    if !rule.enabled {
        text += "  switched off";
    }
    if rule.trial.is_some() {
        let _ = write!(text, "\n  on trial   {}", version(&rule.trial));
    }
    if rule.good.is_some() {
        let _ = write!(text, "\n  last good  {}", version(&rule.good));
    }
    if let Some(Rights { asks, granted, limits }) = &rule.rights {
        let list = |of: &[String]| if of.is_empty() { "nothing".into() } else { of.join(", ") };
        let _ = write!(text, "\n  asks for   {} (granted: {})", list(asks), list(granted));
        let _ = write!(text, "\n  may use    {}", limits.words);
    }
    for (key, value) in rule.running.iter().filter_map(serde_json::Value::as_object).flatten() {
        if key == "trial" {
            text += &compared(value);
        } else if !value.is_null() {
            let _ = write!(
                text,
                "\n  {key:<9}  {}",
                value.as_str().map_or(value.to_string(), str::to_owned)
            );
        }
    }
    text
}

/// How the version on trial compares with the running one, in words.
fn compared(trial: &serde_json::Value) -> String {
    if trial.is_null() {
        return String::new();
    }
    let count = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    let side = |side: &serde_json::Value| {
        let (taken, emitted) = (count(&side["taken"]), count(&side["emitted"]));
        let fuel = count(&side["fuel"]) / taken.max(1);
        format!("{emitted} out of {taken}, {fuel} fuel a reading")
    };
    let [same, differing, missing, extra] =
        ["same", "differing", "missing", "extra"].map(|key| count(&trial[key]));
    let mut text = format!(
        "\n  trial      {}; the live one {}\n             \
         {same} the same, {differing} differ, {missing} missing, {extra} too many",
        side(&trial["trial"]),
        side(&trial["live"])
    );
    let first = &trial["first"];
    if let Some(point) = first["point"].as_str() {
        let word = |key: &str| first[key].as_str().unwrap_or("?").to_owned();
        let _ =
            write!(text, "\n             first: {point} {}, not {}", word("trial"), word("live"));
    }
    text
}

/// Tells what became of an order.
pub(super) fn told(done: &Done, as_json: bool) -> Result<Exit, Fatal> {
    if as_json {
        return json(done);
    }
    let stands = match done.stands.as_str() {
        "live" => "is live",
        "trial" => "is on trial beside the live one; fieldgate rule list shows how it does",
        _ => "is kept, and the rule is switched off",
    };
    match &done.version {
        Some(Version { name, version, .. }) => {
            say(&format!("{}: {name} {version} {stands}", done.rule))
        }
        None => say(&format!("{}: nothing runs", done.rule)),
    }
}

fn json(value: &impl serde::Serialize) -> Result<Exit, Fatal> {
    let text = serde_json::to_string(value)
        .map_err(|_| Fatal::new(Exit::Broken, "the answer cannot be written as JSON"))?;
    say(&text)
}

fn say(text: &str) -> Result<Exit, Fatal> {
    // A closed pipe is the reader's choice.
    let _ = writeln!(stdout().lock(), "{text}");
    Ok(Exit::Done)
}

/// Writes a name as part of a path (RFC 3986, section 2.1).
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(byte.into());
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
