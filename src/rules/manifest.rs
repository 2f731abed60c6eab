//! What a rule says about itself: JSON in the custom section `fieldgate:rule` of its file.
//!
//! A file must explain itself and be signed as a whole, so the manifest travels in it. It is read
//! without compiling or running anything, from a file that may be hostile: everything has a bound,
//! and what is not understood is refused in words. What belongs to a site (which points, values of
//! parameters, limits) stands in the gateway's configuration; [`Manifest::params`] checks that side
//! against the author's.
//!
//! ```json
//! {"name":"deadband","version":"1.0.0","licence":"Apache-2.0","author":"..",
//!  "contract":"fieldgate:rule@1.0.0",
//!  "parameters":[{"name":"band","kind":"number","min":0,"default":0.1,"help":".."}],
//!  "outputs":[{"stream":"data","device":"{device}","point":"{point}"}],
//!  "state_version":1,"capabilities":["output","params","state"],"limits":{"fuel":400}}
//! ```
//! Unknown keys are refused, for they may ask for something, except those that begin with `x-`,
//! which only tell something. A section that lies deeper (in a core module, where an SDK puts it) is
//! overruled by one further out, which `rule build` writes.

mod params;
mod parse;
mod section;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::wit::Param;
use crate::reading::Stream;

pub use super::settings::Asked;
pub use params::ParamFault;
pub use section::{Sections, sections, without, write};

/// Name of the custom section.
pub const SECTION: &str = "fieldgate:rule";

/// The contract of this version, `rules/wit/rule.wit`.
pub const CONTRACT: &str = "fieldgate:rule@1.0.0";

/// What a rule may ask for: the interfaces of the contract.
pub const CAPABILITIES: [&str; 5] = ["params", "output", "state", "timers", "log"];

/// What a rule says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// `[a-z0-9-]`, begins with a letter.
    pub name: String,
    /// The rule's own version.
    pub version: Version,
    /// SPDX expression, as the author wrote it.
    pub licence: String,
    /// Who answers for it; may be empty.
    pub author: String,
    /// The contract it was built for: [`CONTRACT`], or an earlier minor of the same major.
    pub contract: String,
    /// What an operator can set, in the author's order.
    pub parameters: Vec<Parameter>,
    /// What it will emit, as far as that is known in advance.
    pub outputs: Vec<Output>,
    /// Version of the state it writes.
    pub state_version: u32,
    /// Which interfaces of the contract it uses, of [`CAPABILITIES`].
    pub capabilities: Vec<String>,
    /// Limits that its author suggests; an operator's go before.
    pub limits: Asked,
    /// Hex SHA-256 over the cases it was tested with, when there were any.
    pub tests: Option<String>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// `[a-z0-9_-]`, begins with a letter.
    pub name: String,
    /// What its value is.
    pub kind: Kind,
    /// Unit of a number, in which bounds and default are given.
    pub unit: Option<String>,
    /// Smallest value, included; microseconds for a duration, each entry of numbers.
    pub min: Option<f64>,
    /// Largest value, included; as `min`.
    pub max: Option<f64>,
    /// In force when the operator says nothing.
    pub default: Option<Param>,
    /// Without default it may be absent all the same.
    pub optional: bool,
    /// The words it can be; empty when any will do. For text and texts.
    pub choices: Vec<String>,
    /// What it does.
    pub help: String,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Finite number.
    Number,
    /// Whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text.
    Text,
    /// Text with a unit, `"10s"`.
    Duration,
    /// List of texts.
    Texts,
    /// List of finite numbers.
    Numbers,
}

/// A series that the rule will emit for each series it is given, as a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// [`Stream::Data`] or [`Stream::Event`].
    pub stream: Stream,
    /// Device: text in which `{device}`, `{point}` and `{PARAMETER}` stand for the input's names and
    /// for a parameter's value (of a list, each of its entries in turn), and `*` for anything.
    pub device: String,
    /// Point, as `device`.
    pub point: String,
    /// Unit, when it is always the same.
    pub unit: Option<String>,
}

/// A semantic version; compares by semver's precedence, build metadata last.
pub use semver::Version;

/// Why a manifest is refused; completes "the manifest ..".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadManifest {
    /// What is wrong and where in it.
    pub why: String,
}

impl Manifest {
    /// Reads the manifest of a rule's file, a component or a core module. `None` when the file has
    /// none.
    ///
    /// # Errors
    /// When the file is no WebAssembly as far as that can be seen in passing, or the manifest breaks
    /// a bound or a rule of its form.
    pub fn read(file: &[u8]) -> Result<Option<Self>, BadManifest> {
        match sections(file)?.outermost {
            Some(json) => Self::parse(json).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a manifest from its JSON.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(json: &[u8]) -> Result<Self, BadManifest> {
        parse::manifest(json)
    }

    /// Returns the parameter of this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Returns it as it stands in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("name".into(), self.name.as_str().into());
        all.insert("version".into(), self.version.to_string().into());
        all.insert("licence".into(), self.licence.as_str().into());
        all.insert("author".into(), self.author.as_str().into());
        all.insert("contract".into(), self.contract.as_str().into());
        all.insert("parameters".into(), self.parameters.iter().map(Parameter::to_json).collect());
        all.insert("outputs".into(), self.outputs.iter().map(Output::to_json).collect());
        all.insert("state_version".into(), self.state_version.into());
        all.insert("capabilities".into(), self.capabilities.clone().into());
        let asked = self.limits.numbers().into_iter();
        let limits = asked.filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())));
        let deadline = self.limits.deadline;
        let deadline = deadline.map(|deadline| humantime::format_duration(deadline).to_string());
        let limits = limits.chain(deadline.map(|text| ("deadline".to_owned(), text.into())));
        all.insert("limits".into(), Value::Object(limits.collect()));
        if let Some(tests) = &self.tests {
            all.insert("tests".into(), tests.as_str().into());
        }
        Value::Object(all)
    }
}

impl Parameter {
    fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("name".into(), self.name.as_str().into());
        all.insert("kind".into(), self.kind.word().into());
        if let Some(unit) = &self.unit {
            all.insert("unit".into(), unit.as_str().into());
        }
        for (name, bound) in [("min", self.min), ("max", self.max)] {
            if let Some(bound) = bound {
                all.insert(name.into(), self.kind.bound_to_json(bound));
            }
        }
        if let Some(default) = &self.default {
            all.insert("default".into(), param_to_json(default));
        }
        if self.optional {
            all.insert("optional".into(), true.into());
        }
        if !self.choices.is_empty() {
            all.insert("choices".into(), self.choices.clone().into());
        }
        all.insert("help".into(), self.help.as_str().into());
        Value::Object(all)
    }
}

impl Output {
    fn to_json(&self) -> Value {
        let stream = if self.stream == Stream::Event { "event" } else { "data" };
        let mut all = json!({ "stream": stream, "device": self.device, "point": self.point });
        if let Some(unit) = &self.unit {
            all["unit"] = unit.as_str().into();
        }
        all
    }

    /// Returns the devices and points that this output means for an input of the name
    /// `device/point`, with `params` as they are in force. `*` stays.
    #[must_use]
    pub fn names(
        &self,
        device: &str,
        point: &str,
        params: &[(String, Param)],
    ) -> Vec<(String, String)> {
        // Device and point go together: both take the same entry of a list.
        let mut all = vec![(self.device.clone(), self.point.clone())];
        let fill = |all: Vec<(String, String)>, name: &str, values: &[String]| {
            let hole = format!("{{{name}}}");
            let mut filled = Vec::with_capacity(all.len());
            for (device, point) in all {
                if !device.contains(&hole) && !point.contains(&hole) {
                    filled.push((device, point));
                    continue;
                }
                let with =
                    |value: &String| (device.replace(&hole, value), point.replace(&hole, value));
                filled.extend(values.iter().map(with));
            }
            filled.truncate(crate::limits::PARAM_ENTRIES_MAX);
            filled
        };
        for (name, param) in params {
            all = fill(all, name, &param_words(param));
        }
        all = fill(all, "device", &[device.to_owned()]);
        fill(all, "point", &[point.to_owned()])
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Text,
        Self::Duration,
        Self::Texts,
        Self::Numbers,
    ];

    /// Returns its word in a manifest.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Duration => "duration",
            Self::Texts => "texts",
            Self::Numbers => "numbers",
        }
    }

    /// Says what a value of this kind is, and shows one.
    #[must_use]
    pub fn takes(self) -> (&'static str, &'static str) {
        match self {
            Self::Number => ("a number", "0.5"),
            Self::Integer => ("a whole number", "3"),
            Self::Boolean => ("true or false", "true"),
            Self::Text => ("text", "\"..\""),
            Self::Duration => ("a duration with its unit", "\"10s\""),
            Self::Texts => ("a list of texts", "[\"..\", \"..\"]"),
            Self::Numbers => ("a list of numbers", "[1.0, 2.5]"),
        }
    }

    fn bound_to_json(self, bound: f64) -> Value {
        match (self, whole(bound)) {
            (Self::Duration, Some(us)) => show_duration(us.unsigned_abs()).into(),
            (_, Some(n)) => n.into(),
            (_, None) => bound.into(),
        }
    }
}

/// Returns a parameter's value as JSON, durations as people write them.
#[must_use]
pub fn param_to_json(param: &Param) -> Value {
    match param {
        Param::Text(text) => text.as_str().into(),
        Param::Number(n) => (*n).into(),
        Param::Integer(n) => (*n).into(),
        Param::Boolean(flag) => (*flag).into(),
        Param::DurationUs(us) => show_duration(*us).into(),
        Param::Texts(texts) => texts.clone().into(),
        Param::Numbers(numbers) => numbers.clone().into(),
    }
}

/// A parameter's values as words in the name of an output.
fn param_words(param: &Param) -> Vec<String> {
    match param {
        Param::Text(text) => vec![text.clone()],
        Param::Number(n) => vec![n.to_string()],
        Param::Integer(n) => vec![n.to_string()],
        Param::Boolean(flag) => vec![flag.to_string()],
        Param::DurationUs(us) => vec![show_duration(*us)],
        Param::Texts(texts) => texts.clone(),
        Param::Numbers(numbers) => numbers.iter().map(f64::to_string).collect(),
    }
}

/// Returns microseconds as people write a duration.
fn show_duration(us: u64) -> String {
    humantime::format_duration(Duration::from_micros(us)).to_string()
}

/// Returns a whole number that binary64 holds exactly.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    (number.fract() == 0.0 && number.abs() <= parse::EXACT_MAX).then_some(number as i64)
}

impl BadManifest {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

impl fmt::Display for BadManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for BadManifest {}
