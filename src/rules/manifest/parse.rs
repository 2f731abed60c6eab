//! A manifest from its JSON, walked by hand: serde's errors name types of ours, and an author needs
//! the place and what belongs there.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    Asked, BadManifest, CAPABILITIES, CONTRACT, Kind, Manifest, Output, Parameter, Version,
};
use crate::limits;
use crate::reading::Stream;
use crate::rules::wit::Param;

/// Whole numbers up to here are exact in binary64: 2^53.
pub(super) const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

type Found<T> = Result<T, BadManifest>;

/// An object and where it stands: `parameters[2]`, empty for the whole.
struct Object<'a> {
    at: String,
    map: &'a Map<String, Value>,
}

pub(super) fn manifest(json: &[u8]) -> Found<Manifest> {
    if json.len() > limits::MANIFEST_BYTES_MAX {
        return Err(super::section::too_large(json.len()));
    }
    let value: Value = serde_json::from_slice(json).map_err(|e| {
        BadManifest::new(format!("is no JSON (line {}, column {})", e.line(), e.column()))
    })?;
    let top = Object::of(&value, "")?;
    top.only(&[
        "name",
        "version",
        "licence",
        "author",
        "contract",
        "parameters",
        "outputs",
        "state_version",
        "capabilities",
        "limits",
        "tests",
    ])?;
    let name = top.needed("name")?;
    if !is_name(name, false) {
        return Err(top.bad("name", format!("\"{}\" is no name; {}", clip(name), NAME_RULE)));
    }
    let version = top.needed("version")?;
    let version = Some(version)
        .filter(|version| version.len() <= limits::MANIFEST_NAME_BYTES_MAX)
        .and_then(|version| Version::parse(version).ok())
        .ok_or_else(|| {
            let found = format!("\"{}\" is no semantic version, such as \"1.2.0\"", clip(version));
            top.bad("version", found)
        })?;
    let parameters = parameters(&top)?;
    Ok(Manifest {
        name: name.to_owned(),
        version,
        licence: top.words("licence")?,
        author: top.words("author")?,
        contract: contract(&top)?,
        outputs: outputs(&top, &parameters)?,
        parameters,
        state_version: match top.whole("state_version")? {
            None => 0,
            Some(n) => u32::try_from(n)
                .map_err(|_| top.bad("state_version", "is beyond 32 bits".to_owned()))?,
        },
        capabilities: capabilities(&top)?,
        limits: asked(&top)?,
        tests: tests_digest(&top)?,
    })
}

fn contract(top: &Object<'_>) -> Found<String> {
    let contract = top.needed("contract")?;
    let version = contract
        .strip_prefix("fieldgate:rule@")
        .filter(|_| contract.len() <= limits::MANIFEST_NAME_BYTES_MAX)
        .and_then(|version| Version::parse(version).ok());
    // The constant is ours and a test parses it.
    let ours = CONTRACT.strip_prefix("fieldgate:rule@").and_then(|v| Version::parse(v).ok());
    let (Some(version), Some(ours)) = (version, ours) else {
        let found = format!("\"{}\" is no contract of fieldgate's; \"{CONTRACT}\"", clip(contract));
        return Err(top.bad("contract", found));
    };
    if version.major != ours.major || (version.minor, version.patch) > (ours.minor, ours.patch) {
        let found =
            format!("the rule is built for {}, and this gateway speaks {CONTRACT}", clip(contract));
        return Err(top.bad("contract", found));
    }
    Ok(contract.to_owned())
}

fn parameters(top: &Object<'_>) -> Found<Vec<Parameter>> {
    let list = top.objects("parameters", limits::MANIFEST_PARAMETERS_MAX)?;
    let parameters = list.iter().map(parameter).collect::<Found<Vec<_>>>()?;
    let mut seen = HashSet::new();
    for (n, parameter) in parameters.iter().enumerate() {
        if !seen.insert(&parameter.name) {
            return Err(BadManifest::new(format!(
                "has two parameters of the name \"{}\" (the second is parameters[{n}])",
                parameter.name
            )));
        }
    }
    Ok(parameters)
}

fn parameter(object: &Object<'_>) -> Found<Parameter> {
    object
        .only(&["name", "kind", "unit", "min", "max", "default", "optional", "choices", "help"])?;
    let name = object.needed("name")?;
    if !is_name(name, true) {
        let found = format!("\"{}\" is no name; {NAME_RULE}, also underscores", clip(name));
        return Err(object.bad("name", found));
    }
    let word = object.needed("kind")?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::word).join(", ");
        object.bad("kind", format!("\"{}\" is not one of {known}", clip(word)))
    })?;
    let choices = object.texts("choices", limits::MANIFEST_CHOICES_MAX)?.unwrap_or_default();
    if !choices.is_empty() && !matches!(kind, Kind::Text | Kind::Texts) {
        return Err(object.bad("choices", "only text has choices".to_owned()));
    }
    let (min, max) = (bound(object, "min", kind)?, bound(object, "max", kind)?);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(object.bad("min", "it is larger than max".to_owned()));
    }
    let mut parameter = Parameter {
        name: name.to_owned(),
        kind,
        unit: object.short("unit", limits::UNIT_BYTES_MAX)?,
        min,
        max,
        default: None,
        optional: object.flag("optional")?,
        choices,
        help: object.short("help", limits::MANIFEST_HELP_BYTES_MAX)?.unwrap_or_default(),
    };
    if let Some(value) = object.map.get("default") {
        let default = default(value, kind).ok_or_else(|| {
            let (takes, example) = kind.takes();
            object.bad("default", format!("{} takes {takes}, such as {example}", kind.word()))
        })?;
        if let Err(why) = parameter.admits(&default) {
            return Err(object.bad("default", why));
        }
        parameter.default = Some(default);
    }
    Ok(parameter)
}

fn bound(object: &Object<'_>, key: &str, kind: Kind) -> Found<Option<f64>> {
    let Some(value) = object.map.get(key) else { return Ok(None) };
    let bound = match kind {
        Kind::Duration => value.as_str().and_then(micros).map(exact),
        Kind::Number | Kind::Numbers => value.as_f64().filter(|n| n.is_finite()),
        Kind::Integer => value.as_i64().and_then(|_| value.as_f64()),
        _ => return Err(object.bad(key, format!("{} has no bounds", kind.word()))),
    };
    match bound.filter(|bound| bound.abs() <= EXACT_MAX || kind != Kind::Integer) {
        Some(bound) => Ok(Some(bound)),
        None => {
            let (takes, example) = kind.takes();
            Err(object
                .bad(key, format!("a bound of {} is {takes}, such as {example}", kind.word())))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is not exact is refused or far off any clock")]
fn exact(n: u64) -> f64 {
    n as f64
}

/// Reads `"10s"` into microseconds.
pub(super) fn micros(text: &str) -> Option<u64> {
    let duration: Duration = humantime::parse_duration(text.trim()).ok()?;
    u64::try_from(duration.as_micros()).ok().filter(|us| exact(*us) <= EXACT_MAX)
}

fn default(value: &Value, kind: Kind) -> Option<Param> {
    Some(match kind {
        Kind::Number => Param::Number(value.as_f64()?),
        Kind::Integer => Param::Integer(value.as_i64()?),
        Kind::Boolean => Param::Boolean(value.as_bool()?),
        Kind::Text => Param::Text(value.as_str()?.to_owned()),
        Kind::Duration => Param::DurationUs(micros(value.as_str()?)?),
        Kind::Texts => {
            let texts = value.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned()));
            Param::Texts(texts.collect::<Option<_>>()?)
        }
        Kind::Numbers => {
            Param::Numbers(value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?)
        }
    })
}

fn outputs(top: &Object<'_>, parameters: &[Parameter]) -> Found<Vec<Output>> {
    let list = top.objects("outputs", limits::MANIFEST_OUTPUTS_MAX)?;
    list.iter().map(|object| output(object, parameters)).collect()
}

fn output(object: &Object<'_>, parameters: &[Parameter]) -> Found<Output> {
    object.only(&["stream", "device", "point", "unit"])?;
    let stream = match object.needed("stream")? {
        "data" => Stream::Data,
        "event" => Stream::Event,
        other => {
            let found = format!("\"{}\" is neither \"data\" nor \"event\"", clip(other));
            return Err(object.bad("stream", found));
        }
    };
    let pattern = |key: &str| -> Found<String> {
        let pattern = object.needed(key)?;
        if pattern.len() > limits::NAME_BYTES_MAX || pattern.contains(|c: char| c.is_control()) {
            return Err(object.bad(key, "that is no name of a series".to_owned()));
        }
        for hole in pattern.split('{').skip(1) {
            let name = hole
                .split_once('}')
                .map(|(name, _)| name)
                .ok_or_else(|| object.bad(key, "a brace is not closed".to_owned()))?;
            let known = ["device", "point"].contains(&name)
                || parameters.iter().any(|parameter| parameter.name == name);
            if !known {
                let found = format!("{{{}}} is neither device, point nor a parameter", clip(name));
                return Err(object.bad(key, found));
            }
        }
        Ok(pattern.to_owned())
    };
    Ok(Output {
        stream,
        device: pattern("device")?,
        point: pattern("point")?,
        unit: object.short("unit", limits::UNIT_BYTES_MAX)?,
    })
}

fn capabilities(top: &Object<'_>) -> Found<Vec<String>> {
    let asked = top.texts("capabilities", limits::MANIFEST_CAPABILITIES_MAX)?.unwrap_or_default();
    match asked.iter().find(|asked| !CAPABILITIES.contains(&asked.as_str())) {
        None => Ok(asked),
        Some(unknown) => Err(top.bad(
            "capabilities",
            format!(
                "it asks for \"{}\", which this gateway cannot grant; there are {}",
                clip(unknown),
                CAPABILITIES.join(", ")
            ),
        )),
    }
}

fn asked(top: &Object<'_>) -> Found<Asked> {
    let Some(value) = top.map.get("limits") else { return Ok(Asked::default()) };
    let object = Object::of(value, "limits")?;
    let names = Asked::default().numbers().map(|(name, _)| name);
    object.only(&[names.as_slice(), &["deadline"]].concat())?;
    let positive = |key: &str| match object.whole(key)? {
        Some(0) => Err(object.bad(key, "with 0 the rule could do nothing".to_owned())),
        other => Ok(other),
    };
    Ok(Asked {
        fuel: positive("fuel")?,
        memory: positive("memory")?,
        deadline: match object.text("deadline")? {
            None => None,
            Some(text) => match micros(text).filter(|us| *us > 0) {
                Some(us) => Some(Duration::from_micros(us)),
                None => {
                    let why = "it is a duration with its unit, such as \"50ms\"";
                    return Err(object.bad("deadline", why.to_owned()));
                }
            },
        },
        emitted: positive("emitted")?,
        output: positive("output")?,
        state: positive("state")?,
        keys: positive("keys")?,
        timers: positive("timers")?,
        log: positive("log")?,
    })
}

fn tests_digest(top: &Object<'_>) -> Found<Option<String>> {
    let Some(digest) = top.short("tests", limits::MANIFEST_NAME_BYTES_MAX)? else {
        return Ok(None);
    };
    if digest.len() != 64 || !digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(top.bad("tests", "it is the SHA-256 of the cases in lower-case hex".to_owned()));
    }
    Ok(Some(digest))
}

const NAME_RULE: &str =
    "a name is of lower-case letters, digits and dashes, begins with a letter, and has at most 64";

fn is_name(name: &str, underscores: bool) -> bool {
    name.len() <= limits::MANIFEST_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-') || (underscores && b == b'_'))
}

/// A stranger's text for a sentence of ours: short, and without what a terminal would act on.
fn clip(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().count() > 40 { format!("{short}..") } else { short }
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, at: &str) -> Found<Self> {
        let map = value.as_object().ok_or_else(|| {
            let at = if at.is_empty() { "the whole" } else { at };
            BadManifest::new(format!(
                "is not as it should be: {at} is {}, not a table",
                what(value)
            ))
        })?;
        Ok(Self { at: at.to_owned(), map })
    }

    fn bad(&self, key: &str, why: String) -> BadManifest {
        let dot = if self.at.is_empty() || key.is_empty() { "" } else { "." };
        BadManifest::new(format!("is not as it should be: {}{dot}{key}: {why}", self.at))
    }

    /// Refuses unknown keys; those that begin with `x-` only tell something.
    fn only(&self, known: &[&str]) -> Found<()> {
        let strange = |key: &&String| !known.contains(&key.as_str()) && !key.starts_with("x-");
        match self.map.keys().find(strange) {
            None => Ok(()),
            Some(key) => Err(self.bad(
                &clip(key),
                format!(
                    "this key is not known here; known are {}. A rule built by a later version may \
                     have it",
                    known.join(", ")
                ),
            )),
        }
    }

    fn text(&self, key: &str) -> Found<Option<&'a str>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(key, format!("this is {}, not text", what(other)))),
        }
    }

    fn needed(&self, key: &str) -> Found<&'a str> {
        match self.text(key)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.bad(key, "this is empty".to_owned())),
            None => Err(self.bad(key, "this is missing".to_owned())),
        }
    }

    fn short(&self, key: &str, bytes_max: usize) -> Found<Option<String>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if text.len() > bytes_max {
            let why = format!("this has {} bytes, at most {bytes_max} do", text.len());
            return Err(self.bad(key, why));
        }
        if text.contains(|c: char| c.is_control() && c != '\n') {
            return Err(self.bad(key, "this holds control characters".to_owned()));
        }
        Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    fn words(&self, key: &str) -> Found<String> {
        Ok(self.short(key, limits::MANIFEST_WORDS_BYTES_MAX)?.unwrap_or_default())
    }

    fn flag(&self, key: &str) -> Found<bool> {
        match self.map.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.bad(key, format!("this is {}, not true or false", what(other))))
            }
        }
    }

    fn whole(&self, key: &str) -> Found<Option<u64>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        match value.as_u64().filter(|n| exact(*n) <= EXACT_MAX) {
            Some(n) => Ok(Some(n)),
            None => Err(self.bad(key, "this is no whole number from 0".to_owned())),
        }
    }

    fn list(&self, key: &str, entries_max: usize) -> Found<Option<&'a [Value]>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) if list.len() <= entries_max => Ok(Some(list)),
            Some(Value::Array(list)) => {
                let why = format!("this has {} entries, at most {entries_max} do", list.len());
                Err(self.bad(key, why))
            }
            Some(other) => Err(self.bad(key, format!("this is {}, not a list", what(other)))),
        }
    }

    fn objects(&self, key: &str, entries_max: usize) -> Found<Vec<Self>> {
        let list = self.list(key, entries_max)?.unwrap_or_default();
        list.iter().enumerate().map(|(n, value)| Self::of(value, &format!("{key}[{n}]"))).collect()
    }

    fn texts(&self, key: &str, entries_max: usize) -> Found<Option<Vec<String>>> {
        let Some(list) = self.list(key, entries_max)? else { return Ok(None) };
        let text = |value: &Value| match value.as_str() {
            Some(text)
                if !text.is_empty()
                    && text.len() <= limits::MANIFEST_NAME_BYTES_MAX
                    && !text.contains(|c: char| c.is_control()) =>
            {
                Ok(text.to_owned())
            }
            _ => Err(self.bad(key, "every entry is a short text".to_owned())),
        };
        list.iter().map(text).collect::<Found<Vec<_>>>().map(Some)
    }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
