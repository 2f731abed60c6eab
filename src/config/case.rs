//! `[test.NAME]`: what a rule is fed and what must come of it, held against the rule's manifest.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::events::config as codes;
use crate::limits;
use crate::rules::cases::Case;
use crate::rules::definition::Proof;
use crate::rules::{Definition, Manifest};

use super::fault::Fault;
use super::findings::Findings;
use super::merge::Named;
use super::rule::plain;
use super::text::Place;
use super::value;

/// A test of a rule.
#[derive(Debug, Clone)]
pub struct Test {
    /// The name of its table.
    pub name: Arc<str>,
    /// Place of its rule among the configuration's.
    pub rule: usize,
    /// What goes in and what must come out.
    pub case: Case,
}

/// Resolves all tests; `written` are the rules as they stand in the files, `rules` those that can run.
pub fn tests(
    named: &[Named<'_>],
    written: &[Named<'_>],
    rules: &[Definition],
    findings: &Findings,
) -> Vec<Test> {
    if let Some(first_too_many) = named.get(limits::TESTS_MAX) {
        let found = format!("there are {} tests", named.len());
        let why = format!("a configuration has at most {}", limits::TESTS_MAX);
        findings.fault(Fault::at(&codes::TOO_MANY, first_too_many.place, found, why));
        return Vec::new();
    }
    named.iter().filter_map(|named| test(named, written, rules, findings)).collect()
}

/// Gives each rule the tests that name it, as they are written: another version of its file is held
/// against them before it runs.
pub fn give(named: &[Named<'_>], rules: &mut [Definition]) {
    for rule in rules {
        let names = |named: &&Named<'_>| {
            let wanted = named.layer.table.get("rule").and_then(|rule| rule.get_ref().as_str());
            wanted == Some(&**rule.name())
        };
        let written = |named: &Named<'_>| {
            let entries = named.layer.table.iter();
            let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.to_string(), plain(value.get_ref())?))
            };
            let table: toml::Table = entries.map(entry).collect::<Option<_>>()?;
            let table = toml::Value::Table(table).to_string().into();
            let folder = named.layer.text.folder.clone();
            Some(Proof { name: named.name.into(), folder, table })
        };
        rule.written.tests = named.iter().filter(names).filter_map(written).collect();
    }
}

fn test(
    named: &Named<'_>,
    written: &[Named<'_>],
    rules: &[Definition],
    findings: &Findings,
) -> Option<Test> {
    let Some(value) = named.layer.table.get("rule") else {
        let found = format!("test.{} has no rule", named.name);
        findings.fault(
            Fault::at(&codes::MISSING_KEY, named.place, found, "which rule it tests")
                .hint("rule = \"NAME\""),
        );
        return None;
    };
    let place = Place::new(named.layer.text, value.span());
    let wanted = value.get_ref().as_str().unwrap_or_default();
    let Some(layer) = written.iter().find(|rule| rule.name == wanted) else {
        let found = format!("there is no rule \"{}\"", wanted.escape_debug());
        let near = value::did_you_mean(wanted, written.iter().map(|rule| rule.name));
        let fault = Fault::at(&codes::NOT_FOUND, place, found, "");
        findings.fault(match near {
            Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
            None => fault.hint(format!("define it: [rule.{wanted}]")),
        });
        return None;
    };
    // A rule that cannot be used was told of at its own place.
    let rule = rules.iter().position(|rule| &**rule.name() == wanted)?;
    let manifest = Manifest::read(&rules[rule].code).ok().flatten()?;
    let empty = DeTable::new();
    let with = layer.layer.table.get("with").and_then(|with| with.get_ref().as_table());
    let lateness = Some(rules[rule].lateness);
    let folder = &named.layer.text.folder;
    match Case::read((named.layer.table, folder), &manifest, with.unwrap_or(&empty), lateness) {
        Ok(case) => Some(Test { name: named.name.into(), rule, case }),
        Err(faults) => {
            for fault in faults {
                let place =
                    fault.span.map_or(named.place, |span| Place::new(named.layer.text, span));
                findings.fault(
                    Fault::at(&codes::BAD_VALUE, place, fault.found, fault.why).hint(fault.hint),
                );
            }
            None
        }
    }
}
