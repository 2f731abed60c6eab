//! `[rule.NAME]`: the rule's file, what it takes, its parameters against the author's, and which rules
//! feed one another.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::events::config as codes;
use crate::limits;
use crate::reading::Stream;
use crate::rules::graph::{Circle, Graph, Knot};
use crate::rules::manifest::{Manifest, Output};
use crate::rules::settings::Asked;
use crate::rules::wit::Param;
use crate::rules::{Definition, Limits, Mode, OnFailure, Pattern, Settings};

use super::fault::Fault;
use super::findings::{Findings, Plain, Where, key_as_written};
use super::keys;
use super::layer::{Layer, Raw};
use super::merge::Named;
use super::reader::Table;
use super::text::Place;

/// Resolves all rules.
pub fn rules(named: &[Named<'_>], findings: &Findings) -> Vec<Definition> {
    if let Some(first_too_many) = named.get(limits::RULES_MAX) {
        let found = format!("there are {} rules", named.len());
        let why = format!("a gateway runs at most {}", limits::RULES_MAX);
        findings.fault(Fault::at(&codes::TOO_MANY, first_too_many.place, found, why));
        return Vec::new();
    }
    let found: Vec<_> = named.iter().map(|named| (named.place, rule(named, findings))).collect();
    let (places, rules): (Vec<Place<'_>>, Vec<Definition>) =
        found.into_iter().filter_map(|(place, rule)| Some((place, rule?))).unzip();
    refuse_circle(&rules, &places, findings);
    rules
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

fn rule(named: &Named<'_>, findings: &Findings) -> Option<Definition> {
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
    let operator = asked(&table);
    let (file, at) = file.map(|at| (at.value, at.place))?;
    let code = read(&file, at, findings)?;
    let manifest = manifest(&code, at, findings)?;
    let params = params(&table, &manifest, named.place)?;
    let on = on?;
    let digest: Arc<str> = digest(&code).into();
    findings.also(&format!("{} digest {digest}", table.title()));
    let makes = makes(&manifest, &on, &params);
    Some(Definition {
        settings: Settings {
            name: named.name.into(),
            params,
            limits: Limits::settle(manifest.limits, operator),
        },
        file,
        code: code.into(),
        digest,
        version: manifest.version.to_string().into(),
        on,
        makes,
        keep,
        mode,
        on_failure,
        lateness,
    })
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

/// What the operator grants.
fn asked(table: &Table<'_>) -> Asked {
    let Some(limit) = table.table("limit") else { return Asked::default() };
    Asked {
        fuel: limit.integer("fuel"),
        memory: limit.raw("memory").map(|_| limit.size("memory")),
        deadline: limit.duration_if_any("deadline"),
    }
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

/// Readings that a rule is to make under names of their own, for each pattern it takes.
fn makes(manifest: &Manifest, on: &[Pattern], params: &[(String, Param)]) -> Vec<Pattern> {
    let own = |output: &&Output| {
        output.stream == Stream::Data && (output.device != "{device}" || output.point != "{point}")
    };
    let mut makes: Vec<Pattern> = Vec::new();
    for output in manifest.outputs.iter().filter(own) {
        for on in on {
            for (device, point) in output.names(on.device(), on.point(), params) {
                let made = Pattern::of(&device, &point);
                if !makes.contains(&made) {
                    makes.push(made);
                }
            }
        }
    }
    makes
}

fn digest(code: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, code);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
