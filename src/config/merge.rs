//! From files to one document: named tables of all files side by side, a name defined twice refused
//! with both places, tables of later versions refused by name.

use std::collections::HashMap;

use toml::de::{DeTable, DeValue};

use crate::events::config as codes;

use super::fault::Fault;
use super::findings::{Findings, key_as_written};
use super::keys::{self, Kind, ROOT};
use super::layer::{Layer, Raw, what_it_is};
use super::text::{Place, Text};
use super::value;

/// One `[kind.NAME]` table.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its name, already checked.
    pub name: &'a str,
    /// Where the name stands.
    pub place: Place<'a>,
    /// Its content.
    pub layer: Layer<'a>,
}

/// All tables of all files.
#[derive(Debug, Default)]
pub struct Document<'a> {
    /// `[gateway]`
    pub gateway: Option<Layer<'a>>,
    /// `[buffer]`
    pub buffer: Option<Layer<'a>>,
    /// `[api]`
    pub api: Option<Layer<'a>>,
    /// `[trust]`
    pub trust: Option<Layer<'a>>,
    /// `[port.NAME]`
    pub ports: Vec<Named<'a>>,
    /// `[device.NAME]`
    pub devices: Vec<Named<'a>>,
    /// `[source.NAME]`
    pub sources: Vec<Named<'a>>,
    /// `[uplink.NAME]`
    pub uplinks: Vec<Named<'a>>,
    /// `[rule.NAME]`
    pub rules: Vec<Named<'a>>,
    /// `[test.NAME]`
    pub tests: Vec<Named<'a>>,
}

/// Merges the files.
pub fn merge<'a>(files: &[(&'a Text, &'a DeTable<'a>)], findings: &Findings) -> Document<'a> {
    let mut document = Document::default();
    let mut seen: HashMap<(&str, &str), Place<'a>> = HashMap::new();
    for (text, root) in files {
        let whole = Layer { text, table: root, place: Place::new(text, 0..0) };
        for (key, place, raw) in whole.entries() {
            take(&mut document, &mut seen, (key, place, raw), findings);
        }
    }
    document
}

fn take<'a>(
    document: &mut Document<'a>,
    seen: &mut HashMap<(&'a str, &'a str), Place<'a>>,
    (key, place, raw): (&'a str, Place<'a>, Raw<'a>),
    findings: &Findings,
) {
    let Some(known) = keys::find(ROOT, key) else {
        findings.fault(unknown_table(key, place));
        return;
    };
    if let Kind::Later(what) = known.kind {
        findings.fault(Fault::later(&format!("[{key}]"), what, place));
        return;
    }
    if key == "version" {
        check_version(raw, findings);
        return;
    }
    let Some(layer) = raw.layer(place) else {
        let fault = Fault::at(
            &codes::WRONG_TYPE,
            raw.place,
            format!("{key} is {}", what_it_is(raw.value)),
            format!("{key} is a table: {}", known.help),
        );
        findings.fault(fault.hint(match known.kind {
            Kind::Named(_) => format!("[{key}.NAME]"),
            _ => format!("[{key}]"),
        }));
        return;
    };
    match key {
        "gateway" | "buffer" | "api" | "trust" => {
            if is_second(seen, (key, ""), place, findings) {
                return;
            }
            *match key {
                "gateway" => &mut document.gateway,
                "buffer" => &mut document.buffer,
                "trust" => &mut document.trust,
                _ => &mut document.api,
            } = Some(layer);
        }
        _ => {
            let list = match key {
                "port" => &mut document.ports,
                "device" => &mut document.devices,
                "source" => &mut document.sources,
                "rule" => &mut document.rules,
                "test" => &mut document.tests,
                _ => &mut document.uplinks,
            };
            for entry in layer.entries() {
                list.extend(named(key, entry, seen, findings));
            }
        }
    }
}

fn named<'a>(
    kind: &'a str,
    (name, place, raw): (&'a str, Place<'a>, Raw<'a>),
    seen: &mut HashMap<(&'a str, &'a str), Place<'a>>,
    findings: &Findings,
) -> Option<Named<'a>> {
    let Some(layer) = raw.layer(place) else {
        let fault = match raw.value {
            DeValue::Array(_) => Fault::at(
                &codes::WRONG_TYPE,
                place,
                format!("{kind}.{name} is a list of tables"),
                "tables are named here, so that a fault can name them",
            )
            .hint(format!("[{kind}.NAME] with single brackets, once for each")),
            _ => Fault::at(
                &codes::WRONG_TYPE,
                place,
                format!("{name} stands in [{kind}] without a {kind}'s name"),
                format!("every {kind} has a name of its own"),
            )
            .hint(format!("[{kind}.NAME]")),
        };
        findings.fault(fault);
        return None;
    };
    if let Some(trouble) = value::name_trouble(name) {
        let found = format!("\"{}\" is no name for a {kind}", name.escape_debug());
        findings.fault(
            Fault::at(&codes::BAD_NAME, place, found, trouble)
                .hint(format!("[{kind}.{}]", key_as_written(&value::legal_name(name)))),
        );
        return None;
    }
    (!is_second(seen, (kind, name), place, findings)).then_some(Named { name, place, layer })
}

/// Returns whether the name is taken, and says by whom.
fn is_second<'a>(
    seen: &mut HashMap<(&'a str, &'a str), Place<'a>>,
    (kind, name): (&'a str, &'a str),
    place: Place<'a>,
    findings: &Findings,
) -> bool {
    let Some(first) = seen.get(&(kind, name)) else {
        seen.insert((kind, name), place);
        return false;
    };
    let dot = if name.is_empty() { "" } else { "." };
    findings.fault(
        Fault::at(
            &codes::DEFINED_TWICE,
            place,
            format!("[{kind}{dot}{name}] is defined twice"),
            format!("it is first defined in {}", first.file_and_line()),
        )
        .hint("rename one of them, or remove it"),
    );
    true
}

fn check_version(raw: Raw<'_>, findings: &Findings) {
    let DeValue::Integer(number) = raw.value else {
        let found = format!("version is {}", what_it_is(raw.value));
        findings.fault(
            Fault::at(&codes::WRONG_TYPE, raw.place, found, "version takes a whole number")
                .hint("version = 1"),
        );
        return;
    };
    if number.as_str() != "1" {
        findings.fault(
            Fault::at(
                &codes::LATER,
                raw.place,
                format!("version {number} of the format is not known"),
                "this fieldgate reads version 1",
            )
            .hint("version = 1, or install the fieldgate this file was written for"),
        );
    }
}

fn unknown_table(key: &str, place: Place<'_>) -> Fault {
    let names: Vec<_> = ROOT.iter().map(|key| key.name).collect();
    let fault = Fault::at(
        &codes::UNKNOWN_KEY,
        place,
        format!("unknown key \"{}\" at the top of the file", key.escape_debug()),
        format!("known here: {}", names.join(", ")),
    );
    match value::did_you_mean(key, names) {
        Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
        None => fault.hint("remove it; fieldgate config schema lists every key"),
    }
}
