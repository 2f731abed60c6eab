//! What `bridge/devices` says about devices: zigbee2mqtt's documentation, pages "MQTT Topics and
//! Messages" and "Exposes".

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::units;
use crate::limits::{NAME_BYTES_MAX, ZIGBEE_FEATURES_MAX};
use crate::reading::{NoData, Value};
use crate::sources::number::json_number;

/// One entry of `bridge/devices`; what is not read here is skipped without being kept.
#[derive(Debug, Deserialize)]
pub struct Entry {
    /// The device's address, which never changes: `0x00158d00018255df`.
    pub ieee_address: Option<String>,
    /// What its owner calls it; part of its topics.
    pub friendly_name: Option<String>,
    /// `Coordinator` for the stick itself, which measures nothing.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Absent for devices that zigbee2mqtt does not support.
    pub definition: Option<Definition>,
}

/// What a model of device can do.
#[derive(Debug, Deserialize)]
pub struct Definition {
    /// Its properties, some of them in nests.
    #[serde(default)]
    pub exposes: Option<Vec<Expose>>,
}

/// One property, or a nest of them.
#[derive(Debug, Deserialize)]
pub struct Expose {
    /// `numeric`, `binary`, `enum`, `text`, `composite`, `list`, or a specific one (`light`).
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    /// The key in the payload; specific ones have none of their own.
    property: Option<String>,
    unit: Option<String>,
    /// Bit 0: found in the published state.
    access: Option<u64>,
    value_on: Option<Json>,
    value_off: Option<Json>,
    features: Option<Vec<Self>>,
}

/// A property that a device publishes, and so a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The way to it in the payload: `["color", "x"]`.
    pub path: Vec<String>,
    /// The same with points between: the point's name.
    pub name: Arc<str>,
    /// SenML or UCUM name.
    pub unit: Arc<str>,
    /// What its values are.
    pub kind: Kind,
}

/// What the values of a property are.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A number.
    Numeric,
    /// Yes when it equals the first, no when it equals the second.
    Binary(Json, Json),
    /// One of several words, or free text.
    Text,
    /// Not described: whatever JSON says it is.
    Any,
}

/// Lists the properties that a definition describes and that appear in the device's state.
#[must_use]
pub fn features(exposes: &[Expose]) -> Vec<Feature> {
    let mut all = Vec::new();
    collect(exposes, &mut Vec::new(), &mut all);
    all
}

fn collect(exposes: &[Expose], path: &mut Vec<String>, all: &mut Vec<Feature>) {
    for expose in exposes {
        // A generic property is found under `property`; only old lists leave it to `name`.
        let key = expose.property.as_ref().or(expose.name.as_ref());
        if let Some(nested) = &expose.features {
            // A composite nests in the payload as well; a specific one (`light`) only groups.
            let nests = expose.kind.as_deref() == Some("composite") && key.is_some();
            path.extend(key.filter(|_| nests).cloned());
            collect(nested, path, all);
            if nests {
                path.pop();
            }
            continue;
        }
        let (Some(key), Some(kind)) = (key, expose.values()) else { continue };
        if expose.access.is_some_and(|access| access & 1 == 0) {
            continue;
        }
        path.push(key.clone());
        let feature = Feature::new(path.clone(), kind, expose.unit.as_deref().unwrap_or(""));
        path.pop();
        let known = all.iter().any(|other| other.path == feature.path);
        let fits = all.len() < ZIGBEE_FEATURES_MAX && feature.name.len() <= NAME_BYTES_MAX;
        if !known && fits {
            all.push(feature);
        }
    }
}

impl Expose {
    /// Returns what its values are; `None` for lists, which are no single value.
    fn values(&self) -> Option<Kind> {
        match self.kind.as_deref()? {
            "numeric" => Some(Kind::Numeric),
            "binary" => Some(Kind::Binary(
                self.value_on.clone().unwrap_or(Json::Bool(true)),
                self.value_off.clone().unwrap_or(Json::Bool(false)),
            )),
            "enum" | "text" => Some(Kind::Text),
            _ => None,
        }
    }
}

impl Feature {
    /// Describes a property by its way in the payload and the unit zigbee2mqtt gives it.
    #[must_use]
    pub fn new(path: Vec<String>, kind: Kind, unit: &str) -> Self {
        let name: Arc<str> = path.join(".").into();
        let unit = if kind == Kind::Numeric { units::unit(&name, unit) } else { String::new() };
        Self { path, name, unit: unit.into(), kind }
    }

    /// Finds the property in a state and reads it. `None` when it is not there or `null`, which is
    /// how zigbee2mqtt says "not known yet", and for the empty word it sends after an `action`.
    #[must_use]
    pub fn read(&self, state: &Json) -> Option<Result<Value, NoData>> {
        let found = self.path.iter().try_fold(state, |at, step| at.get(step))?;
        match (found, &self.kind) {
            (Json::Null, _) => None,
            (Json::String(word), Kind::Text) if word.is_empty() => None,
            // A contact sensor's "on" is `false`, that is open; true and false stay as they are sent.
            (Json::Bool(flag), Kind::Binary(..)) => Some(Ok(Value::Bool(*flag))),
            (_, Kind::Binary(on, _)) if found == on => Some(Ok(Value::Bool(true))),
            (_, Kind::Binary(_, off)) if found == off => Some(Ok(Value::Bool(false))),
            (_, Kind::Binary(..)) => Some(Err(NoData::Malformed)),
            (Json::Number(number), Kind::Numeric | Kind::Any) => Some(json_number(number)),
            (Json::String(text), Kind::Text | Kind::Any) => Some(Ok(Value::from_text(text))),
            (Json::Bool(flag), Kind::Any) => Some(Ok(Value::Bool(*flag))),
            (Json::Number(_) | Json::Bool(_), Kind::Text) => {
                Some(Ok(Value::from_text(&found.to_string())))
            }
            (_, Kind::Any) => None,
            _ => Some(Err(NoData::Malformed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reading::Decimal;

    fn learnt(exposes: Json) -> Vec<Feature> {
        features(&serde_json::from_value::<Vec<Expose>>(exposes).unwrap())
    }

    fn names(features: &[Feature]) -> Vec<String> {
        features.iter().map(|feature| format!("{} {}", feature.name, feature.unit)).collect()
    }

    #[test]
    fn nests_are_flattened_by_the_keys_of_the_payload() {
        let light = learnt(json!([{"type": "light", "features": [
            {"type": "binary", "name": "state", "property": "state", "value_on": "ON",
             "value_off": "OFF", "value_toggle": "TOGGLE", "access": 7},
            {"type": "numeric", "name": "brightness", "property": "brightness", "value_min": 0,
             "value_max": 254, "access": 7},
            {"type": "composite", "name": "color_xy", "property": "color", "features": [
                {"type": "numeric", "name": "x", "property": "x", "access": 7},
                {"type": "numeric", "name": "y", "property": "y", "access": 7}]},
            {"type": "composite", "name": "color_hs", "property": "color", "features": [
                {"type": "numeric", "name": "hue", "property": "hue", "access": 7},
                {"type": "numeric", "name": "saturation", "access": 7}]}]},
            {"type": "enum", "name": "effect", "property": "effect", "access": 2,
             "values": ["blink"]},
            {"type": "list", "name": "schedule", "property": "schedule", "access": 3,
             "item_type": {"access": 3, "name": "temperature", "type": "numeric"}},
            {"type": "numeric", "name": "linkquality", "property": "linkquality", "unit": "lqi",
             "access": 1}]));
        assert_eq!(
            names(&light),
            [
                "state ",
                "brightness ",
                "color.x ",
                "color.y ",
                "color.hue ",
                "color.saturation ",
                "linkquality {lqi}"
            ],
        );
        let state = json!({"state": "OFF", "brightness": 215, "color": {"x": 0.123, "y": null}});
        let values: Vec<_> = light.iter().map(|feature| feature.read(&state)).collect();
        assert_eq!(values[0], Some(Ok(Value::Bool(false))));
        assert_eq!(values[2], Some(Ok(Value::Decimal(Decimal { digits: 123, places: 3 }))));
        assert_eq!(values[3..], [None, None, None, None]);
    }

    #[test]
    fn properties_are_read_as_their_definition_says() {
        let contact = Kind::Binary(json!(false), json!(true));
        let table = [
            (
                Kind::Numeric,
                json!(21.5),
                Some(Ok(Value::Decimal(Decimal { digits: 215, places: 1 }))),
            ),
            (Kind::Numeric, json!("21.5"), Some(Err(NoData::Malformed))),
            (Kind::Numeric, json!({"a": 1}), Some(Err(NoData::Malformed))),
            (Kind::Numeric, json!(null), None),
            (contact.clone(), json!(true), Some(Ok(Value::Bool(true)))),
            (contact.clone(), json!(false), Some(Ok(Value::Bool(false)))),
            (contact, json!("open"), Some(Err(NoData::Malformed))),
            (Kind::Text, json!("single"), Some(Ok(Value::from_text("single")))),
            (Kind::Text, json!(""), None),
            (Kind::Text, json!(3), Some(Ok(Value::from_text("3")))),
            (Kind::Text, json!([]), Some(Err(NoData::Malformed))),
            (Kind::Any, json!(true), Some(Ok(Value::Bool(true)))),
            (Kind::Any, json!({"state": "idle"}), None),
        ];
        for (kind, value, expected) in table {
            let feature = Feature::new(vec!["p".into()], kind.clone(), "");
            assert_eq!(feature.read(&json!({ "p": value })), expected, "{kind:?} of {value}");
        }
    }
}
