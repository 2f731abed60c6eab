//! The typed reader: a table as the human wrote it, read key by key against its key list. A table
//! may have a second layer (a template) that answers where the first is silent. Every trouble is
//! noted with its place and reading goes on, so that one pass finds all of it.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::events::config as codes;

use super::fault::Fault;
use super::findings::{Findings, Plain, Where, key_as_written};
use super::keys::{self, Key, Keys, Kind};
use super::layer::{At, Layer, Raw, integer, what_it_is};
use super::text::Place;
use super::value;

/// A table with its keys, its place, and where to report.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// Where trouble is noted.
    pub findings: &'a Findings,
    /// What it is called.
    pub path: Where,
    keys: Keys,
    top: Layer<'a>,
    below: Option<Layer<'a>>,
}

impl<'a> Table<'a> {
    /// Begins to read a table; keys that are not in `keys` are faults. `below` answers where `top` is
    /// silent.
    pub fn new(
        findings: &'a Findings,
        path: Where,
        keys: Keys,
        top: Layer<'a>,
        below: Option<Layer<'a>>,
    ) -> Self {
        let table = Self { findings, path, keys, top, below };
        for layer in table.layers() {
            table.refuse_unknown(layer);
        }
        table
    }

    fn layers(&self) -> impl Iterator<Item = Layer<'a>> + use<'a> {
        std::iter::once(self.top).chain(self.below)
    }

    /// Returns where the table itself stands.
    #[must_use]
    pub fn place(&self) -> Place<'a> {
        self.top.place
    }

    /// Returns what the table is called: `device.chiller.points.power`.
    #[must_use]
    pub fn title(&self) -> String {
        let dot = if self.path.within.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.path.table, self.path.within)
    }

    fn refuse_unknown(&self, layer: Layer<'a>) {
        let is_template = layer.text.template.is_some() && self.path.within.is_empty();
        let is_known = |name: &str| match name {
            "via" | "template" if is_template => false,
            _ if is_template && keys::find(keys::TEMPLATE, name).is_some() => true,
            _ => keys::find(self.keys, name).is_some(),
        };
        for (name, place, _) in layer.entries() {
            if !is_known(name) {
                self.refuse_key(name, place, is_template);
            } else if let Some(Key { kind: Kind::Later(what), .. }) = keys::find(self.keys, name) {
                self.findings.fault(Fault::later(name, what, place));
            }
        }
    }

    fn refuse_key(&self, name: &str, place: Place<'a>, is_template: bool) {
        let is_open = |name: &&str| !(is_template && matches!(*name, "via" | "template"));
        let names: Vec<_> = self.keys.iter().map(|key| key.name).filter(is_open).collect();
        let whose = if is_template { "this template".to_owned() } else { self.title() };
        let mut fault = Fault::at(
            &codes::UNKNOWN_KEY,
            place,
            format!("unknown key \"{}\" in {whose}", name.escape_debug()),
            format!("known here: {}", names.join(", ")),
        );
        let near = value::did_you_mean(name, names);
        if near.is_some_and(|near| matches!(self.key(near).kind, Kind::Secret)) {
            fault.hide_excerpt();
        }
        let other = keys::belongs_to(name).filter(|_| self.has_kinds());
        self.findings.fault(match (near, other) {
            _ if !is_open(&name) => fault.hint("the device that uses the template says that"),
            (Some(near), _) => fault.hint(format!("did you mean \"{near}\"?")),
            (None, Some(kind)) => fault.hint(format!("remove it; {name} belongs to {kind}")),
            (None, None) => fault.hint("remove it; fieldgate config schema lists every key"),
        });
    }

    /// Whether this is a table whose keys depend on how it is reached.
    fn has_kinds(&self) -> bool {
        self.path.table.starts_with("device.") || self.path.table.starts_with("source.")
    }

    fn key(&self, name: &str) -> &'static Key {
        // A reader that asks for a key outside its list is a slip of ours that every test of that
        // table would meet; the first key stands in, so that nobody's gateway falls over it.
        debug_assert!(keys::find(self.keys, name).is_some(), "{name} is in no key list");
        keys::find(self.keys, name).unwrap_or(&self.keys[0])
    }

    /// Returns a value as the parser left it.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<Raw<'a>> {
        self.layers().find_map(|layer| {
            let value = layer.table.get(name)?;
            Some(Raw { value: value.get_ref(), place: Place::new(layer.text, value.span()) })
        })
    }

    /// Returns the layers of a sub-table, the written one first.
    #[must_use]
    pub fn raw_layers(&self, name: &str) -> Vec<(Place<'a>, Raw<'a>)> {
        self.layers()
            .filter_map(|layer| {
                let (key, value) = layer.table.get_key_value(name)?;
                let raw =
                    Raw { value: value.get_ref(), place: Place::new(layer.text, value.span()) };
                Some((Place::new(layer.text, key.span()), raw))
            })
            .collect()
    }

    /// Notes that a value is of the wrong kind.
    pub fn wrong_type(&self, name: &str, raw: Raw<'a>) {
        let (takes, example) = self.key(name).kind.takes();
        let example = match self.key(name).kind {
            Kind::Choice(words) => {
                words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or ")
            }
            _ => example.to_owned(),
        };
        self.findings.fault(
            Fault::at(
                &codes::WRONG_TYPE,
                raw.place,
                format!("{name} in {} is {}", self.title(), what_it_is(raw.value)),
                format!("{name} takes {takes}"),
            )
            .hint(format!("{name} = {example}")),
        );
    }

    /// Notes that a value does not do.
    pub fn bad(&self, place: Place<'a>, found: impl Into<String>, hint: impl Into<String>) {
        self.findings.fault(Fault::at(&codes::BAD_VALUE, place, found, "").hint(hint));
    }

    /// Notes that a key must be there.
    pub fn missing(&self, name: &str) {
        let key = self.key(name);
        self.findings.fault(
            Fault::at(
                &codes::MISSING_KEY,
                self.top.place,
                format!("{} has no {name}", self.title()),
                key.help,
            )
            .hint(format!("{name} = {}", example_of(key))),
        );
    }

    /// Notes a value in force; `place` is `None` for a default.
    pub fn put(&self, name: &str, plain: Plain<'_>, place: Option<Place<'a>>) {
        self.findings.set(&self.path, name, plain, place);
    }

    /// Reads text, or its default.
    pub fn text(&self, name: &str) -> Option<At<'a, &'a str>> {
        let at = match self.raw(name) {
            Some(raw) => match raw.value.as_str() {
                Some(value) => At { value, place: raw.place, spelled: value },
                None => {
                    self.wrong_type(name, raw);
                    return None;
                }
            },
            None => At { value: self.key(name).default?, place: self.top.place, spelled: "" },
        };
        let written = self.raw(name).map(|raw| raw.place);
        self.put(name, Plain::Text(at.value), written);
        Some(at)
    }

    /// Reads text that must be there and not be empty.
    pub fn text_needed(&self, name: &str) -> Option<At<'a, &'a str>> {
        if self.raw(name).is_none() {
            self.missing(name);
            return None;
        }
        let at = self.text(name)?;
        if at.value.trim().is_empty() {
            self.bad(at.place, format!("{name} in {} is empty", self.title()), self.key(name).help);
            return None;
        }
        Some(at)
    }

    /// Reads text, parses it, and notes what the parser says.
    fn parsed<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<(T, Option<Place<'a>>)> {
        let Some(raw) = self.raw(name) else {
            let default = self.key(name).default?;
            return parse(default).ok().map(|value| (value, None));
        };
        let Some(text) = raw.value.as_str() else {
            self.wrong_type(name, raw);
            return None;
        };
        match parse(text) {
            Ok(value) => Some((value, Some(raw.place))),
            Err(why) => {
                let found = format!("{name} = {} does not do", Plain::Text(text));
                let key = self.key(name);
                let example = match (key.default, key.kind) {
                    (Some(usual), _) => format!("\"{usual}\""),
                    // The usual example is far beyond what some sizes may be.
                    (None, Kind::Size(_, max)) => format!("\"{}\"", value::show_size(max)),
                    (None, kind) => kind.takes().1.to_owned(),
                };
                self.findings.fault(
                    Fault::at(&codes::BAD_VALUE, raw.place, found, why)
                        .hint(format!("{name} = {example}")),
                );
                None
            }
        }
    }

    /// Reads a duration that may be absent.
    pub fn duration_if_any(&self, name: &str) -> Option<Duration> {
        let Kind::Duration(min, max) = self.key(name).kind else { return None };
        let (duration, place) = self.parsed(name, |text| {
            let duration = value::duration(text)?;
            if (min..=max).contains(&duration) {
                return Ok(duration);
            }
            Err(format!(
                "{name} is from {} to {}",
                value::show_duration(min),
                value::show_duration(max)
            ))
        })?;
        self.put(name, Plain::Duration(duration), place);
        Some(duration)
    }

    /// Reads a duration that has a default.
    pub fn duration(&self, name: &str) -> Duration {
        self.duration_if_any(name).unwrap_or(Duration::from_secs(1))
    }

    /// Reads a size that has a default.
    pub fn size(&self, name: &str) -> u64 {
        let Kind::Size(min, max) = self.key(name).kind else { return 0 };
        let found = self.parsed(name, |text| {
            let size = value::size(text)?;
            if (min..=max).contains(&size) {
                return Ok(size);
            }
            Err(format!("{name} is from {} to {}", value::show_size(min), value::show_size(max)))
        });
        let Some((size, place)) = found else { return min };
        self.put(name, Plain::Size(size), place);
        size
    }

    /// Reads a size in a time, in bytes.
    pub fn rate_if_any(&self, name: &str) -> Option<u64> {
        let Kind::Rate(per, min, max) = self.key(name).kind else { return None };
        let (bytes, place) = self.parsed(name, |text| {
            let size = text.strip_suffix(per).and_then(|text| text.strip_suffix('/'));
            let Some(size) = size else { return Err(format!("{name} is a size in /{per}")) };
            let bytes = value::size(size.trim_end())?;
            if (min..=max).contains(&bytes) {
                return Ok(bytes);
            }
            let (min, max) = (value::show_size(min), value::show_size(max));
            Err(format!("{name} is from {min}/{per} to {max}/{per}"))
        })?;
        let text = self.raw(name)?.value.as_str()?;
        self.put(name, Plain::Text(text), place);
        Some(bytes)
    }

    /// Reads `true` or `false`.
    pub fn flag(&self, name: &str) -> bool {
        let default = self.key(name).default == Some("true");
        let (flag, place) = match self.raw(name) {
            None => (default, None),
            Some(raw) => match raw.value.as_bool() {
                Some(flag) => (flag, Some(raw.place)),
                None => {
                    self.wrong_type(name, raw);
                    return default;
                }
            },
        };
        self.put(name, Plain::Flag(flag), place);
        flag
    }

    /// Reads one of the words of its kind.
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        let Kind::Choice(words) = self.key(name).kind else { return None };
        let (word, place) = match self.raw(name) {
            None => {
                (words.iter().find(|word| self.key(name).default == Some(**word)).copied()?, None)
            }
            Some(raw) => {
                let Some(text) = raw.value.as_str() else {
                    self.wrong_type(name, raw);
                    return None;
                };
                let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(text)) else {
                    self.refuse_choice(name, text, words, raw.place);
                    return None;
                };
                (*word, Some(raw.place))
            }
        };
        self.put(name, Plain::Text(word), place);
        Some(word)
    }

    fn refuse_choice(&self, name: &str, text: &str, words: &[&str], place: Place<'a>) {
        let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let later = match (name, text) {
            ("ack", "receiver") | ("full", "thin") => true,
            ("preset", preset) => preset == "sparkplug",
            _ => false,
        };
        let fault = if later {
            let found = format!("{name} = \"{text}\" is not in this version");
            Fault::at(&codes::LATER, place, found, format!("this version does {known}"))
                .hint(format!("{name} = \"{}\", or remove the key", words[0]))
        } else {
            let fault = Fault::at(
                &codes::BAD_VALUE,
                place,
                format!("{name} = {} is not known", Plain::Text(text)),
                format!("{name} is one of {known}"),
            );
            match value::did_you_mean(text, words.iter().copied()) {
                Some(near) => fault.hint(format!("did you mean \"{near}\"?")),
                None => fault.hint(format!("{name} = \"{}\"", words[0])),
            }
        };
        self.findings.fault(fault);
    }

    /// Reads a whole number that may be absent, within the bounds of its kind.
    pub fn integer<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        let Kind::Integer(min, max) = self.key(name).kind else { return None };
        let (n, place) = match self.raw(name) {
            None => (self.key(name).default?.parse().ok()?, None),
            Some(raw) => {
                let DeValue::Integer(written) = raw.value else {
                    self.wrong_type(name, raw);
                    return None;
                };
                match integer(written).filter(|n| (min..=max).contains(n)) {
                    Some(n) => (n, Some(raw.place)),
                    None => {
                        let found = format!("{name} = {written} is out of bounds");
                        self.bad(raw.place, found, format!("{name} is from {min} to {max}"));
                        return None;
                    }
                }
            }
        };
        self.put(name, Plain::Integer(n), place);
        T::try_from(n).ok()
    }

    /// Reads a finite number that may be absent.
    pub fn number(&self, name: &str) -> Option<At<'a, f64>> {
        let Some(raw) = self.raw(name) else {
            let value = self.key(name).default?.parse().ok()?;
            self.put(name, Plain::Number(value), None);
            return Some(At { value, place: self.top.place, spelled: "" });
        };
        let spelled = match raw.value {
            DeValue::Integer(n) => n.as_str(),
            DeValue::Float(n) => n.as_str(),
            _ => "",
        };
        let Some(value) = raw.number() else {
            self.wrong_type(name, raw);
            return None;
        };
        if !value.is_finite() {
            let found = format!("{name} = {spelled} is no number to calculate with");
            self.bad(
                raw.place,
                found,
                format!("{name} = {}", self.key(name).default.unwrap_or("0.1")),
            );
            return None;
        }
        self.put(name, Plain::Number(value), Some(raw.place));
        Some(At { value, place: raw.place, spelled })
    }

    /// Reads a path that may be absent; a relative one begins at the folder of its file.
    pub fn file(&self, name: &str) -> Option<At<'a, PathBuf>> {
        let (path, at, written) = match self.raw(name) {
            None => (PathBuf::from(self.key(name).default?), self.top.place, None),
            Some(raw) => match raw.value.as_str() {
                Some("") => {
                    self.bad(raw.place, format!("{name} is empty"), self.key(name).help);
                    return None;
                }
                Some(path) => (raw.place.text.folder.join(path), raw.place, Some(raw.place)),
                None => {
                    self.wrong_type(name, raw);
                    return None;
                }
            },
        };
        self.put(name, Plain::Path(&path), written);
        Some(At { value: path, place: at, spelled: "" })
    }

    /// Returns the path of a sub-table.
    #[must_use]
    pub fn path_to(&self, name: &str) -> Where {
        let name = key_as_written(name);
        let within = match self.path.within.as_str() {
            "" => name,
            within => format!("{within}.{name}"),
        };
        Where { table: self.path.table.clone(), within }
    }

    /// Begins to read a sub-table that may be absent.
    pub fn table(&self, name: &str) -> Option<Self> {
        let Kind::Table(keys) = self.key(name).kind else { return None };
        let raw = self.raw(name)?;
        let Some(layer) = raw.layer(raw.place) else {
            self.wrong_type(name, raw);
            return None;
        };
        Some(Self::new(self.findings, self.path_to(name), keys, layer, None))
    }
}

/// Shows what could be written for a key that is missing.
fn example_of(key: &Key) -> &'static str {
    match key.name {
        "at" => "\"holding 8\"",
        "via" => "\"modbus tcp HOST id 1\"",
        "url" => "\"mqtt://HOST\"",
        "path" => "\"/dev/serial/by-id/..\"",
        "match" => "'(?<weight>\\d+)', or format = \"json\"",
        "bits" => "{ 0 = \"low_pressure\" }",
        _ => key.kind.takes().1,
    }
}
