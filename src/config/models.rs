//! What templates say about how to recognise their models: a few registers with what always stands
//! in them. `scan` reads them to name what answered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use crate::sources::modbus::settings::{Form, Point, WordOrder};

use super::{address, keys, template};

/// A template of a Modbus device that can be recognised.
#[derive(Debug, Clone)]
pub struct Model {
    /// As `template = ".."` names it.
    pub template: String,
    /// What it is for, one line.
    pub about: String,
    /// Registers to look at, at least one.
    pub probes: Vec<Probe>,
}

/// One register, or a few, and what stands there.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Where it stands and how it is read.
    pub point: Point,
    /// What tells the model.
    pub expected: Expected,
}

/// What a probe expects.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// A value from the first to the last, both included.
    Between(f64, f64),
    /// This text.
    Text(String),
    /// The id that the device answers to.
    OwnId,
}

/// Returns the models that the templates known to the configuration at `main` can tell, and one
/// sentence for each template whose probe is not understood.
#[must_use]
pub fn models(main: &Path) -> (Vec<Model>, Vec<String>) {
    let (mut models, mut troubles) = (Vec::new(), Vec::new());
    for (name, content) in template::all(main) {
        let Ok(table) = content.parse::<Table>() else {
            troubles.push(format!("template {name} is no TOML"));
            continue;
        };
        match model(&name, &table) {
            Ok(found) => models.extend(found),
            Err(why) => troubles.push(format!("template {name}: {why}")),
        }
    }
    (models, troubles)
}

/// Returns the names of all templates of Modbus devices that the configuration at `main` can use.
#[must_use]
pub fn names(main: &Path) -> Vec<String> {
    let is_modbus = |content: &str| {
        let table = content.parse::<Table>().unwrap_or_default();
        table.get("protocol").and_then(Value::as_str) == Some("modbus")
    };
    let all = template::all(main).into_iter();
    all.filter(|(_, content)| is_modbus(content)).map(|(name, _)| name).collect()
}

fn model(name: &str, table: &Table) -> Result<Option<Model>, String> {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let Some(written) = table.get("probe") else { return Ok(None) };
    if text("protocol") != Some("modbus") {
        return Err("probe is for protocol = \"modbus\"".to_owned());
    }
    let written = written.as_table().ok_or("probe is not a table of registers")?;
    let probes = written
        .iter()
        .map(|(key, value)| {
            let value = value.as_table().ok_or_else(|| format!("probe.{key} is not a table"))?;
            probe(key, value, text("word_order")).map_err(|why| format!("probe.{key}: {why}"))
        })
        .collect::<Result<Vec<_>, String>>()?;
    if probes.is_empty() {
        return Err("probe names no register".to_owned());
    }
    let about = text("about").unwrap_or_default().to_owned();
    Ok(Some(Model { template: name.to_owned(), about, probes }))
}

fn probe(name: &str, table: &Table, order: Option<&str>) -> Result<Probe, String> {
    if let Some(unknown) = table.keys().find(|key| keys::find(keys::PROBE, key).is_none()) {
        return Err(format!("unknown key \"{unknown}\""));
    }
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let (kind, address) = address::parse(text("at").ok_or("at is missing")?)?;
    let form = address::form(text("as").unwrap_or("u16"))?;
    let number = |key: &str| table.get(key).map(|value| as_number(value, key)).transpose();
    let expected = match (text("is"), number("min")?, number("max")?) {
        (Some("id"), None, None) if !matches!(form, Form::Text(_)) => Expected::OwnId,
        (Some(is), None, None) if matches!(form, Form::Text(_)) => Expected::Text(is.to_owned()),
        (None, Some(min), Some(max)) if min <= max => Expected::Between(min, max),
        _ => return Err("takes min and max, or is".to_owned()),
    };
    let point = Point {
        name: name.into(),
        table: kind,
        address,
        form,
        order: word_order(text("word_order").or(order)),
        scale: number("scale")?.unwrap_or(1.0),
        offset: 0.0,
        decimals: None,
        unit: Arc::from(""),
        every: Duration::from_secs(1),
    };
    Ok(Probe { point, expected })
}

fn as_number(value: &Value, key: &str) -> Result<f64, String> {
    #[expect(clippy::cast_precision_loss, reason = "bounds of plausible values are small")]
    let whole = value.as_integer().map(|whole| whole as f64);
    whole.or(value.as_float()).ok_or_else(|| format!("{key} is no number"))
}

/// Reads a word order as it is written; anything else is the usual one.
#[must_use]
pub fn word_order(written: Option<&str>) -> WordOrder {
    match written {
        Some("CDAB") => WordOrder::Cdab,
        Some("BADC") => WordOrder::Badc,
        Some("DCBA") => WordOrder::Dcba,
        _ => WordOrder::Abcd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_modbus_template_can_be_recognised() {
        let (models, troubles) = models(Path::new("/nonexistent/fieldgate.toml"));
        assert!(troubles.is_empty(), "{troubles:?}");
        let names: Vec<_> = models.iter().map(|model| &*model.template).collect();
        assert_eq!(names, ["eastron-sdm630", "simex-trs-02a", "sunspec-inverter"]);
        assert!(models.iter().all(|model| model.probes.len() >= 2 && !model.about.is_empty()));
    }

    #[test]
    fn a_template_without_a_probe_can_be_named_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join("templates").join(name), text).unwrap();
        };
        put("pump.toml", "protocol = \"modbus\"\n[points]\na = { at = \"holding 1\" }\n");
        put("scale.toml", "protocol = \"serial\"\n");
        put("two words.toml", "protocol = \"modbus\"\n");
        let names = names(&folder.path().join("fieldgate.toml"));
        assert_eq!(names, ["eastron-sdm630", "pump", "simex-trs-02a", "sunspec-inverter"]);
    }

    #[test]
    fn a_probe_that_says_nothing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("fieldgate.toml");
        std::fs::create_dir(folder.path().join("templates")).unwrap();
        let template = |probe: &str| {
            let text = format!("protocol = \"modbus\"\n[probe]\n{probe}\n");
            std::fs::write(folder.path().join("templates/mine.toml"), text).unwrap();
            models(&main).1.join("\n")
        };
        assert_eq!(template("a = { at = \"holding 1\", min = 1, max = 2 }"), "");
        for (probe, why) in [
            ("a = { at = \"holding 1\" }", "min and max"),
            ("a = { at = \"hold 1\", min = 1, max = 2 }", "hold"),
            ("a = { at = \"holding 1\", min = 3, max = 2 }", "min and max"),
            ("a = { at = \"holding 1\", mn = 3 }", "\"mn\""),
            ("a = { at = \"holding 1\", as = \"text(4)\", is = 3 }", "min and max"),
            ("a = 1", "not a table"),
            ("", "names no register"),
        ] {
            let told = template(probe);
            assert!(told.contains("mine") && told.contains(why), "{probe}: {told}");
        }
    }
}
