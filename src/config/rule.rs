//! `[rule.NAME]`: the rule's file, what it takes, its parameters against the author's, and which rules
//! feed one another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::events::config as codes;
use crate::limits;
use crate::rules::definition::{Written, makes};
use crate::rules::folder::{digest, signature_of};
use crate::rules::graph::{Circle, Graph, Knot};
use crate::rules::manifest::{CAPABILITIES, Manifest};
use crate::rules::settings::Asked;
use crate::rules::signature::Keys;
use crate::rules::trial::Bounds;
use crate::rules::wit::Param;
use crate::rules::{Definition, Limits, Mode, OnFailure, Pattern, Settings};

use super::fault::Fault;
use super::findings::{Findings, Plain, Where, key_as_written};
use super::keys;
use super::layer::{Layer, Raw, integer};
use super::merge::Named;
use super::reader::Table;
use super::text::Place;

/// Resolves all rules.
pub fn rules(named: &[Named<'_>], trust: &Keys, findings: &Findings) -> Vec<Definition> {
    if let Some(first_too_many) = named.get(limits::RULES_MAX) {
        let found = format!("there are {} rules", named.len());
        let why = format!("a gateway runs at most {}", limits::RULES_MAX);
        findings.fault(Fault::at(&codes::TOO_MANY, first_too_many.place, found, why));
        return Vec::new();
    }
    let found: Vec<_> =
        named.iter().map(|named| (named.place, rule(named, trust, findings))).collect();
    let (places, mut rules): (Vec<Place<'_>>, Vec<Definition>) =
        found.into_iter().filter_map(|(place, rule)| Some((place, rule?))).unzip();
    hold_once(&mut rules);
    refuse_circle(&rules, &places, findings);
    rules
}

/// Lets rules of the same file share what it holds: many are made from few files.
fn hold_once(rules: &mut [Definition]) {
    let mut held: HashMap<Arc<str>, Arc<[u8]>> = HashMap::new();
    for rule in rules {
        rule.code = match held.entry(Arc::clone(&rule.digest)) {
            Entry::Occupied(held) => Arc::clone(held.get()),
            Entry::Vacant(first) => Arc::clone(first.insert(Arc::clone(&rule.code))),
        };
    }
}

/// A circle can be seen as far as files say what their rules make.
fn refuse_circle(rules: &[Definition], places: &[Place<'_>], findings: &Findings) {
    let Err(Circle(round)) = Graph::of(&knots(rules)) else { return };
    let names: Vec<&str> = round.iter().map(|rule| &**rules[*rule].name()).collect();
    let last = round.iter().copied().max().unwrap_or_default();
    let found = format!("rules {} feed one another in a circle", names.join(", "));
    findings.fault(
        Fault::at(
            &codes::EXCLUSIVE,
            places[last],
            found,
            "each takes what the one before it makes, so none could be the first",
        )
        .hint("narrow the pattern in on of one of them"),
    );
}

/// Rules as the graph sees them.
#[must_use]
pub fn knots(rules: &[Definition]) -> Vec<Knot> {
    let knot = |rule: &Definition| Knot {
        name: Arc::clone(rule.name()),
        on: rule.on.clone(),
        makes: rule.makes.clone(),
    };
    rules.iter().map(knot).collect()
}

fn rule(named: &Named<'_>, trust: &Keys, findings: &Findings) -> Option<Definition> {
    let path = Where::table(&format!("rule.{}", key_as_written(named.name)));
    let table = Table::new(findings, path, keys::RULE, named.layer, None);
    if table.raw("file").is_none() {
        table.missing("file");
    }
    let file = table.file("file");
    let on = patterns(&table);
    let keep = table.flag("keep");
    let mode = match table.choice("mode") {
        Some("shadow") => Mode::Shadow,
        _ => Mode::Live,
    };
    let on_failure = match table.choice("on_failure") {
        Some("drop") => OnFailure::Drop,
        Some("hold") => OnFailure::Hold,
        _ => OnFailure::Pass,
    };
    let lateness = table.duration("lateness");
    let (operator, grant) = (asked(&table), grant(&table));
    let trial = bounds(&table);
    let (file, at) = file.map(|at| (at.value, at.place))?;
    let code = read(&file, at, findings)?;
    let written = Written { with: with(&table), limit: operator, grant, ..Written::default() };
    let digest: Arc<str> = digest(&code).into();
    findings.also(&format!("{} digest {digest}", table.title()));
    let unread = Definition {
        settings: Settings {
            name: named.name.into(),
            params: Vec::new(),
            limits: Limits::settle(Asked::default(), operator),
        },
        file,
        code: code.into(),
        digest,
        version: "".into(),
        asks: Arc::default(),
        on: on?,
        makes: Vec::new(),
        keep,
        mode,
        on_failure,
        lateness,
        written,
        trial,
        beside: None,
    };
    // Nothing of a file is parsed before its signature is found good.
    if !is_trusted(&unread, trust, at, findings) {
        return Some(unread);
    }
    let manifest = manifest(&unread.code, at, findings)?;
    let params = params(&table, &manifest, named.place)?;
    if !is_granted(&unread, &manifest, &table) {
        return None;
    }
    Some(Definition {
        asks: manifest.capabilities.as_slice().into(),
        makes: makes(&manifest, &unread.on, &params),
        settings: Settings {
            params,
            limits: Limits::settle(manifest.limits, operator),
            ..unread.settings
        },
        version: manifest.version.to_string().into(),
        ..unread
    })
}

/// Looks at the signature beside the file, where one is asked for. A file without a good one does not
/// run, and keeps nothing else from running.
fn is_trusted(rule: &Definition, trust: &Keys, at: Place<'_>, findings: &Findings) -> bool {
    if trust.is_empty() {
        return true;
    }
    let subject = rule.file.display().to_string();
    let Err(notice) = trust.verify(&subject, &rule.code, signature_of(&rule.file).as_deref())
    else {
        return true;
    };
    let found = format!("{subject} {}", notice.what);
    let why = "it does not run; a version that was taken in before goes on";
    let fault = Fault::at(notice.code, at, found, why);
    findings.warning(fault.hint(notice.next.first().map_or("", String::as_str)));
    false
}

/// Writes `with` as an inline table, for a later version of the file.
fn with(table: &Table<'_>) -> Arc<str> {
    let text = table.raw("with").and_then(|raw| plain(raw.value)).map(|value| value.to_string());
    text.unwrap_or_default().into()
}

/// A value without its places.
pub(super) fn plain(value: &DeValue<'_>) -> Option<toml::Value> {
    Some(match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => toml::Value::Integer(integer(number)?),
        DeValue::Float(number) => {
            toml::Value::Float(number.as_str().replace('_', "").parse().ok()?)
        }
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(at) => toml::Value::Datetime(*at),
        DeValue::Array(list) => {
            toml::Value::Array(list.iter().map(|v| plain(v.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.to_string(), plain(value.get_ref())?))
            };
            toml::Value::Table(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// What ends the trial of another version.
fn bounds(table: &Table<'_>) -> Bounds {
    let usual = Bounds { time: table.duration("promote_after"), ..Bounds::default() };
    let Some(trial) = table.table("trial") else { return usual };
    let within = |key: &str, least: f64, most: f64| {
        let number = trial.number(key)?;
        if (least..=most).contains(&number.value) {
            return Some(number.value);
        }
        trial.bad(number.place, format!("{key} = {}", number.value), format!("{least} to {most}"));
        None
    };
    Bounds {
        readings: trial.integer("readings").unwrap_or_default(),
        volume: within("volume", 1.0, 1e6).unwrap_or(usual.volume),
        cost: within("cost", 1.0, 1e6).unwrap_or(usual.cost),
        difference: within("difference", 0.0, 1.0),
        tolerance: within("tolerance", 0.0, f64::MAX).unwrap_or(usual.tolerance),
        promotes: trial.choice("promote") != Some("by-hand"),
        probation: trial.duration("probation"),
        silence: trial.duration("silence"),
        ..usual
    }
}

/// Reads `on`: a pattern, or a list of them.
fn patterns(table: &Table<'_>) -> Option<Vec<Pattern>> {
    let Some(raw) = table.raw("on") else {
        table.missing("on");
        return None;
    };
    let mut patterns = Vec::new();
    let one = |text: &str, place| match Pattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            let found = format!("\"{}\" selects no points", text.escape_debug());
            let fault = Fault::at(&codes::BAD_VALUE, place, found, why);
            table.findings.fault(fault.hint("on = \"meter-1/*\", or a list of such patterns"));
            None
        }
    };
    match raw.value {
        DeValue::String(text) => {
            patterns.extend(one(text, raw.place));
            table.put("on", Plain::Text(text), Some(raw.place));
        }
        DeValue::Array(list) => {
            let mut texts = Vec::new();
            for value in list.iter() {
                let place = Place::new(raw.place.text, value.span());
                let Some(text) = value.get_ref().as_str() else {
                    table.wrong_type("on", Raw { value: value.get_ref(), place });
                    return None;
                };
                patterns.extend(one(text, place));
                texts.push(text.to_owned());
            }
            if texts.is_empty() {
                table.bad(raw.place, "on is empty", "on = \"meter-1/*\"");
                return None;
            }
            if patterns.len() < texts.len() {
                return None;
            }
            table.put("on", Plain::Texts(&texts), Some(raw.place));
        }
        _ => table.wrong_type("on", raw),
    }
    (!patterns.is_empty()).then_some(patterns)
}

/// What the operator lets it use.
fn asked(table: &Table<'_>) -> Asked {
    let Some(limit) = table.table("limit") else { return Asked::default() };
    let size = |key: &str| limit.raw(key).map(|_| limit.size(key));
    Asked {
        fuel: limit.integer("fuel"),
        memory: size("memory"),
        deadline: limit.duration_if_any("deadline"),
        emitted: limit.integer("emitted"),
        output: size("output"),
        state: size("state"),
        keys: limit.integer("keys"),
        timers: limit.integer("timers"),
        log: limit.integer("log"),
    }
}

/// Reads `grant`: which interfaces of the contract the rule may ask for.
fn grant(table: &Table<'_>) -> Option<Arc<[&'static str]>> {
    let raw = table.raw("grant")?;
    let DeValue::Array(list) = raw.value else {
        table.wrong_type("grant", raw);
        return None;
    };
    let mut granted = Vec::new();
    for value in list.iter() {
        let place = Place::new(raw.place.text, value.span());
        let Some(text) = value.get_ref().as_str() else {
            table.wrong_type("grant", Raw { value: value.get_ref(), place });
            return None;
        };
        let Some(known) = CAPABILITIES.into_iter().find(|known| *known == text) else {
            let found = format!("\"{}\" is nothing that a rule has", text.escape_debug());
            table.bad(place, found, format!("there are {}", CAPABILITIES.join(", ")));
            return None;
        };
        granted.push(known);
    }
    let texts: Vec<String> = granted.iter().map(|&word| word.to_owned()).collect();
    table.put("grant", Plain::Texts(&texts), Some(raw.place));
    Some(granted.into())
}

/// Looks whether the file asks for what the operator does not grant.
fn is_granted(rule: &Definition, manifest: &Manifest, table: &Table<'_>) -> bool {
    let Err(why) = rule.written.admit(manifest) else { return true };
    let place = table.raw("grant").map_or(table.place(), |raw| raw.place);
    let fault = Fault::at(&codes::BAD_VALUE, place, format!("the file {why}"), "it would not run");
    table.findings.fault(fault.hint("grant what it asks for, or build it without"));
    false
}

fn read(file: &Path, at: Place<'_>, findings: &Findings) -> Option<Vec<u8>> {
    let shown = file.display();
    let fault = |code, found: String, why: &str, hint: &str| {
        findings.fault(Fault::at(code, at, found, why).hint(hint));
        None
    };
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "a relative path begins at the folder of the file that names it";
            return fault(
                &codes::NOT_FOUND,
                format!("there is no file {shown}"),
                why,
                "fieldgate rule build makes it",
            );
        }
        Err(_) => {
            let why = "the daemon's user may not, or the disk refuses";
            let found = format!("{shown} cannot be opened");
            return fault(&codes::UNREADABLE, found, why, "chgrp fieldgate FILE && chmod 640 FILE");
        }
    };
    let mut code = Vec::new();
    let most = limits::RULE_FILE_BYTES_MAX as u64 + 1;
    if opened.take(most).read_to_end(&mut code).is_err() {
        let found = format!("{shown} cannot be read");
        return fault(&codes::UNREADABLE, found, "it is a folder, or the disk refuses", "ls -l");
    }
    if code.len() > limits::RULE_FILE_BYTES_MAX {
        let why = format!("a rule's file has at most {} bytes", limits::RULE_FILE_BYTES_MAX);
        let found = format!("{shown} is too large");
        return fault(&codes::TOO_MANY, found, &why, "fieldgate rule build leaves debug data out");
    }
    Some(code)
}

fn manifest(code: &[u8], at: Place<'_>, findings: &Findings) -> Option<Manifest> {
    let (found, why) = match Manifest::read(code) {
        Ok(Some(manifest)) => return Some(manifest),
        Ok(None) => {
            let why = "a rule's file says its name, version and parameters itself";
            ("the file has no manifest".to_owned(), why.to_owned())
        }
        Err(bad) => ("the file is no rule".to_owned(), format!("its manifest {}", bad.why)),
    };
    let fault = Fault::at(&codes::BAD_VALUE, at, found, why);
    findings.fault(fault.hint("fieldgate rule build makes such a file"));
    None
}

/// Checks `with` against what the author says.
fn params(
    table: &Table<'_>,
    manifest: &Manifest,
    place: Place<'_>,
) -> Option<Vec<(String, Param)>> {
    let empty = DeTable::new();
    let layer = match table.raw("with") {
        None => Layer { text: place.text, table: &empty, place },
        Some(raw) => match raw.layer(raw.place) {
            Some(layer) => layer,
            None => {
                table.wrong_type("with", raw);
                return None;
            }
        },
    };
    match manifest.params(layer.table) {
        Ok(params) => {
            let within = table.path_to("with");
            for (name, param) in &params {
                let written = layer.table.get(name.as_str());
                let place = written.map(|value| Place::new(layer.text, value.span()));
                put(table.findings, &within, name, param, place);
            }
            Some(params)
        }
        Err(faults) => {
            for fault in faults {
                let place = fault.span.map_or(layer.place, |span| Place::new(layer.text, span));
                let told = Fault::at(&codes::BAD_VALUE, place, fault.found, fault.why);
                table.findings.fault(told.hint(fault.hint));
            }
            None
        }
    }
}

fn put(findings: &Findings, path: &Where, name: &str, param: &Param, place: Option<Place<'_>>) {
    let plain = match param {
        Param::Text(text) => Plain::Text(text),
        Param::Number(number) => Plain::Number(*number),
        Param::Integer(number) => Plain::Integer(*number),
        Param::Boolean(flag) => Plain::Flag(*flag),
        Param::DurationUs(us) => Plain::Duration(Duration::from_micros(*us)),
        Param::Texts(texts) => Plain::Texts(texts),
        Param::Numbers(numbers) => Plain::Numbers(numbers),
    };
    findings.set(path, name, plain, place);
}
