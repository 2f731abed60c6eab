//! What a rule says about itself: what its SDK put into the module, with `rule.toml` over it, what
//! the module itself shows, and a digest of its cases.

use std::path::Path;

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::component::Made;
use crate::events::Notice;
use crate::events::author as told;
use crate::limits;
use crate::rules::Manifest;
use crate::rules::manifest::CONTRACT;

/// Puts the manifest together.
pub(super) fn describe(folder: &Path, made: &Made) -> Result<Manifest, Notice> {
    let mut all = match &made.inner {
        None => Map::new(),
        Some(json) => match serde_json::from_slice(json) {
            Ok(Value::Object(map)) => map,
            _ => return Err(told::bad_manifest("the SDK's part of it", "is no JSON object")),
        },
    };
    let path = folder.join("rule.toml");
    let mut from = "what the SDK wrote into the module".to_owned();
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() <= limits::MANIFEST_BYTES_MAX => {
            from = path.display().to_string();
            overlay(&mut all, &text).map_err(|why| told::bad_manifest(&from, &why))?;
        }
        Ok(text) => {
            let why =
                format!("has {} bytes, at most {} do", text.len(), limits::MANIFEST_BYTES_MAX);
            return Err(told::bad_manifest(&path.display().to_string(), &why));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if made.inner.is_none() {
                return Err(told::no_rule_toml(folder));
            }
        }
        Err(e) => return Err(told::cannot_read(&path, e.kind())),
    }
    all.entry("contract").or_insert_with(|| CONTRACT.into());
    all.insert("capabilities".into(), made.capabilities.clone().into());
    if let Some(digest) = digest_of_cases(folder) {
        all.insert("tests".into(), digest.into());
    }
    let json = Value::Object(all).to_string();
    Manifest::parse(json.as_bytes()).map_err(|bad| told::bad_manifest(&from, &bad.why))
}

/// Lays a `rule.toml` over what there is; parameters by their names.
fn overlay(all: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("is no TOML at line {line}: {}", error.message())
    })?;
    for (key, value) in entries(table.get_ref()) {
        let value = match (key, value) {
            ("parameters", DeValue::Table(parameters)) => parameters_over(all.get(key), parameters),
            ("outputs", DeValue::Array(outputs)) => {
                outputs.iter().map(|output| output_of(output.get_ref())).collect()
            }
            (_, value) => to_json(value),
        };
        all.insert(key.to_owned(), value);
    }
    Ok(())
}

fn parameters_over(before: Option<&Value>, table: &DeTable<'_>) -> Value {
    let mut list = before.and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, parameter) in entries(table) {
        let mut said = match to_json(parameter) {
            Value::Object(map) => map,
            other => Map::from_iter([("kind".to_owned(), other)]),
        };
        said.insert("name".into(), name.into());
        match list.iter_mut().find(|known| known["name"] == name) {
            Some(Value::Object(known)) => known.extend(said),
            _ => list.push(Value::Object(said)),
        }
    }
    list.into()
}

/// `"event {device}/freeze"` is short for a table.
fn output_of(value: &DeValue<'_>) -> Value {
    let Some(text) = value.as_str() else { return to_json(value) };
    let (stream, name) = match text.strip_prefix("event ") {
        Some(name) => ("event", name.trim()),
        None => ("data", text),
    };
    let (device, point) = name.split_once('/').unwrap_or(("{device}", name));
    json!({ "stream": stream, "device": device, "point": point })
}

/// Entries in the order of the file.
fn entries<'t>(table: &'t DeTable<'_>) -> Vec<(&'t str, &'t DeValue<'t>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all.into_iter().map(|(key, value)| (key.get_ref().as_ref(), value.get_ref())).collect()
}

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().into(),
        DeValue::Float(n) => n.as_str().parse::<f64>().ok().into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(list) => list.iter().map(|entry| to_json(entry.get_ref())).collect(),
        DeValue::Table(table) => {
            let all = entries(table).into_iter();
            Value::Object(all.map(|(key, value)| (key.to_owned(), to_json(value))).collect())
        }
    }
}

/// SHA-256 over the files in `tests`, by name; `None` without any.
fn digest_of_cases(folder: &Path) -> Option<String> {
    let files = super::cases::files(folder);
    if files.is_empty() {
        return None;
    }
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for file in files {
        digest.update(file.file_name()?.as_encoded_bytes());
        digest.update(&std::fs::read(file).ok()?);
    }
    Some(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(before: Value, text: &str) -> Value {
        let Value::Object(mut all) = before else { unreachable!() };
        overlay(&mut all, text).unwrap();
        Value::Object(all)
    }

    #[test]
    fn a_rule_toml_describes_a_whole_rule() {
        let text = include_str!("templates/rule.toml").replace("{{name}}", "mine");
        let mut all = over(json!({}), &text);
        all["contract"] = CONTRACT.into();
        let manifest = Manifest::parse(all.to_string().as_bytes()).unwrap();
        let names: Vec<_> = manifest.parameters.iter().map(|p| p.name.as_str()).collect();
        assert_eq!((manifest.name.as_str(), names), ("mine", vec!["band", "heartbeat"]));
        assert_eq!(manifest.outputs[0].point, "{point}");
    }

    #[test]
    fn what_rule_toml_says_goes_before_the_sdk_and_the_rest_stays() {
        let before =
            json!({ "name": "a", "parameters": [{ "name": "band", "kind": "number", "min": 0 }] });
        let text = "author = \"me\"\noutputs = [\"event {device}/freeze\"]\n\
                    [parameters.band]\ndefault = 2.5\n[parameters.more]\nkind = \"text\"";
        let expected = json!({
            "name": "a", "author": "me",
            "outputs": [{ "stream": "event", "device": "{device}", "point": "freeze" }],
            "parameters": [
                { "name": "band", "kind": "number", "min": 0, "default": 2.5 },
                { "name": "more", "kind": "text" },
            ],
        });
        assert_eq!(over(before, text), expected);
    }

    #[test]
    fn a_slip_in_rule_toml_is_told_with_its_line() {
        let why = overlay(&mut Map::new(), "name = \"a\"\nversion = 1.0.0\n").unwrap_err();
        assert!(why.contains("line 2"), "{why}");
    }
}
